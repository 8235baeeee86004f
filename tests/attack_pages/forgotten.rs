//! Somebody asks for links in other people's names.
//!
//! Never: an account told from none, by words or by time.

use std::time::{Duration, Instant};

use super::second_factor::OWNER;
use crate::support::{
    binary::{PASSWORD, Place},
    dealership::OWN,
    person::{Form, Person},
    smtp::Smtp,
};

#[tokio::test]
async fn the_answer_to_a_forgotten_password_and_its_time_do_not_tell_whether_an_account_exists() {
    const ROUNDS: usize = 30;
    let smtp = Smtp::start();
    let url = smtp.url();
    let place = Place::new();
    let served = place.serve(&[
        "--smtp-url",
        &url,
        "--mail-from",
        "keys@market.example",
        "--public-url",
        "https://truckradar.example",
        "--trusted-proxies",
        "127.0.0.0/8",
    ]);
    place.create_seller(OWN);
    let kinds = [OWNER, "nobody@lone-star.example", "no address at all"];
    let mut times: [Vec<Duration>; 3] = Default::default();
    let mut said = Vec::new();
    for round in 0..=ROUNDS {
        // As if every mail were a new one.
        place
            .change("UPDATE users SET reset_asked_us = 0; DELETE FROM sign_in_failures")
            .await;
        for turn in 0..kinds.len() {
            let kind = (turn + round) % kinds.len();
            let form = Form::made_up("/forgot-password", [("email", kinds[kind])]);
            let mut person = Person::at(served.api);
            let address = format!("192.0.2.{round}");
            let request = person.post(&form).header("x-forwarded-for", address);
            let began = Instant::now();
            let answer = person.ask(request).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            if round > 0 {
                times[kind].push(began.elapsed());
            }
            said.push(answer.text.replace(answer.header("x-request-id"), ""));
        }
    }
    said.dedup();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(!smtp.wait_for(1).is_empty());
    let [known, unknown, odd] = times;
    for other in [unknown, odd] {
        let longer: usize = known
            .iter()
            .map(|one| other.iter().filter(|other| one > *other).count())
            .sum();
        let share = longer as f64 / (known.len() * other.len()) as f64;
        let (mut one, mut two) = (known.clone(), other);
        one.sort_unstable();
        two.sort_unstable();
        let (one, two) = (one[ROUNDS / 2], two[ROUNDS / 2]);
        assert!(
            one < two * 2 && two < one * 2 || (0.2..=0.8).contains(&share),
            "known {one:?}, other {two:?}, {share}"
        );
    }
}

#[tokio::test]
async fn asking_for_links_is_slowed_fills_no_mailbox_and_signs_nobody_out() {
    let smtp = Smtp::start();
    let place = Place::new();
    let served = place.serve_with_mails(&smtp);
    place.create_seller(OWN);
    let mut owner = Person::owner_of(served.api, OWN).await;
    let mut stranger = Person::at(served.api);
    let form = Form::made_up("/forgot-password", [("email", OWNER)]);
    for _ in 0..9 {
        assert_eq!(stranger.send(&form).await.status, 200);
    }
    let began = Instant::now();
    assert_eq!(stranger.send(&form).await.status, 200);
    assert!(began.elapsed() >= Duration::from_secs(1), "the tenth waits");
    let subject = |mail: &crate::support::smtp::Mail| mail.header("Subject");
    let end = Instant::now() + Duration::from_secs(40);
    let count = || {
        let mails = smtp.mails();
        let links = mails
            .iter()
            .filter(|mail| subject(mail) == "Set a new password");
        links.filter(|mail| mail.to == OWNER).count()
    };
    while count() < 1 {
        assert!(Instant::now() < end, "no mail came");
        tokio::task::yield_now().await;
    }
    assert_eq!(count(), 1);
    assert_eq!(owner.get("/dashboard").await.status, 200, "signed in still");
    // The account is not locked either.
    let mut again = Person::at(served.api);
    assert_eq!(again.sign_in(OWNER, PASSWORD).await.status, 303);
}
