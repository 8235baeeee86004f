//! Somebody knows a person's password, or has their session, and guesses at the codes of the second factor: in one sign-in, in
//! many, in many at once, and for days.
//!
//! Never: a guess that the person is not told of in the end.

use std::time::{Duration, Instant};

use super::{
    second_factor::{NOBODYS_CODE, OWNER, giving, is_in, recovery_codes},
    until_failures,
};
use crate::support::{
    binary::{PASSWORD, Place},
    client::Answer,
    dealership::{Dealership, OWN},
    factor::{self, Factor, SECRET, code, code_in, wrong_code},
    person::{Form, Person},
    smtp::Smtp,
};

const HAS_PASSWORD: &str = "Somebody has your password";
const IN_SESSION: &str = "Wrong codes were given where you are signed in";

/// With mails, and with proxies that say where somebody comes from.
async fn with_mails() -> (Smtp, Dealership) {
    let smtp = Smtp::start();
    let url = smtp.url();
    let dealership = Dealership::with(&[
        "--smtp-url",
        &url,
        "--mail-from",
        "keys@market.example",
        "--trusted-proxies",
        "127.0.0.0/8",
    ])
    .await;
    (smtp, dealership)
}

/// How many mails with this subject the owner has.
fn told(smtp: &Smtp, subject: &str) -> usize {
    let mails = smtp.mails();
    let of_owner = mails.iter().filter(|mail| mail.to == OWNER);
    of_owner
        .filter(|mail| mail.header("Subject") == subject)
        .count()
}

async fn until_told(smtp: &Smtp, subject: &str) {
    let end = Instant::now() + Duration::from_secs(40);
    while told(smtp, subject) < 1 {
        assert!(Instant::now() < end, "no mail came: {:#?}", smtp.mails());
        tokio::task::yield_now().await;
    }
}

/// What the audit log says of wrong codes, the earliest first.
async fn entries(place: &Place) -> Vec<serde_json::Value> {
    let mut inside = place.look_inside().await;
    let sql = "SELECT detail FROM audit_log WHERE act = 'session.codes-refused' ORDER BY id";
    let details: Vec<String> = sqlx::query_scalar(sql)
        .fetch_all(&mut inside)
        .await
        .expect("answers");
    let details = details.iter();
    details
        .map(|detail| serde_json::from_str(detail).expect("JSON"))
        .collect()
}

async fn signed_in_half(dealership: &Dealership) -> Person {
    let mut person = Person::at(dealership.served.api);
    let answer = person.sign_in(OWNER, PASSWORD).await;
    assert_eq!(answer.status, 303, "{}", answer.text);
    person
}

/// As if the delays of failed sign-ins were over.
async fn forget_delays(place: &Place) {
    place
        .change("DELETE FROM sign_in_failures WHERE subject NOT LIKE 'codes%'")
        .await;
}

/// As if the one wrong code that was given had been given so often, a second apart.
async fn as_if_given(place: &Place, times: usize) {
    for _ in 1..times {
        place
            .change(
                "INSERT INTO sign_in_failures SELECT subject, MIN(at_us) - 1000000 FROM sign_in_failures \
                 WHERE subject LIKE 'codes-user:%' GROUP BY subject",
            )
            .await;
    }
}

async fn count_of_person(place: &Place) -> i64 {
    let mut inside = place.look_inside().await;
    let sql = "SELECT COUNT(*) FROM sign_in_failures WHERE subject LIKE 'codes-user:%'";
    let count = sqlx::query_scalar(sql).fetch_one(&mut inside).await;
    count.expect("answers")
}

// ---------------------------------------------------------------------------------------------------------------------
// After the password.

#[tokio::test]
async fn guesses_at_codes_are_slowed_one_after_another_and_the_person_is_told() {
    let (smtp, dealership) = with_mails().await;
    let place = &dealership.place;
    let codes = recovery_codes(&dealership).await;
    let wrong = giving(&wrong_code(SECRET));
    let mut thief = Person::at(dealership.served.api);
    thief.sign_in(OWNER, PASSWORD).await;
    for n in 1..=5 {
        let answer = thief.send(&wrong).await;
        // The fifth ends the sign-in: the password must be given again.
        let expected = if n < 5 { 422 } else { 303 };
        assert_eq!(answer.status, expected, "{n}: {}", answer.text);
    }
    assert_eq!(
        thief.get("/login/code").await.header("location"),
        "/login?done=over"
    );
    until_told(&smtp, HAS_PASSWORD).await;
    assert_eq!(entries(place).await.len(), 1);
    // Another sign-in, from another address each time, changes nothing about the account's count: the tenth waits a second.
    thief.sign_in(OWNER, PASSWORD).await;
    let guess = async |person: &mut Person, n: u8| {
        let request = person
            .post(&wrong)
            .header("x-forwarded-for", format!("192.0.2.{n}"));
        let began = Instant::now();
        let answer = person.ask(request).await;
        (answer.status.as_u16(), began.elapsed())
    };
    for n in 6..=9 {
        assert_eq!(guess(&mut thief, n).await.0, 422);
    }
    let mut second = Person::at(dealership.served.api);
    second.sign_in(OWNER, PASSWORD).await;
    let (status, took) = guess(&mut second, 10).await;
    assert_eq!(status, 422);
    assert!(took >= Duration::from_secs(1), "{took:?}");
    // Two at once, from two addresses: the second one waits for the first one's delay as well.
    let double = "INSERT INTO sign_in_failures SELECT subject, at_us FROM sign_in_failures WHERE subject LIKE 'email:%'";
    place.change(double).await;
    let (mut one, mut two) = (second.clone(), second.clone());
    let began = Instant::now();
    let first = tokio::spawn({
        let request = one.post(&wrong).header("x-forwarded-for", "192.0.2.11");
        async move { one.ask(request).await.status.as_u16() }
    });
    until_failures(place, 21).await;
    // Meanwhile the person comes in, in a sign-in of their own, by a recovery code and by one of the app.
    for code in [codes[0].clone(), code_in(SECRET, 1)] {
        let mut owner = Person::at(dealership.served.api);
        owner.sign_in(OWNER, PASSWORD).await;
        assert!(is_in(&owner.send(&giving(&code)).await));
        assert!(!first.is_finished(), "it waited for the guess");
    }
    let (_, _) = guess(&mut two, 12).await;
    assert_eq!(first.await.expect("ends"), 422);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(16), "{took:?}");
    // However often it goes on, there is one mail within an hour.
    assert_eq!(told(&smtp, HAS_PASSWORD), 1);
}

#[tokio::test]
async fn whoever_begins_anew_before_the_fifth_wrong_code_is_told_of_all_the_same() {
    let (smtp, dealership) = with_mails().await;
    let place = &dealership.place;
    factor::put(place, OWNER, Factor::On).await;
    let wrong = giving(&wrong_code(SECRET));
    for round in 0..3 {
        let mut thief = signed_in_half(&dealership).await;
        for n in 1..=4 {
            let answer = thief.send(&wrong).await;
            assert_eq!(answer.status, 422, "{round}, {n}: {}", answer.text);
            if round == 0 {
                assert_eq!(entries(place).await.len(), 0, "{n}");
            }
        }
        forget_delays(place).await;
    }
    until_told(&smtp, HAS_PASSWORD).await;
    let told_of = entries(place).await;
    assert_eq!(told_of.len(), 1, "once: {told_of:?}");
    assert_eq!(told_of[0]["ended"], false);
    assert_eq!(told(&smtp, HAS_PASSWORD), 1);
    // Codes that nobody could guess count as well.
    place
        .change("DELETE FROM sign_in_failures; UPDATE second_factors SET warned_us = 0")
        .await;
    for _ in 0..5 {
        let mut thief = signed_in_half(&dealership).await;
        assert_eq!(thief.send(&giving(NOBODYS_CODE)).await.status, 422);
        forget_delays(place).await;
    }
    assert_eq!(entries(place).await.len(), 2);
    // Four in each quarter of an hour are few.
    place
        .change("DELETE FROM sign_in_failures; UPDATE second_factors SET warned_us = 0")
        .await;
    for _ in 0..2 {
        let mut thief = signed_in_half(&dealership).await;
        for _ in 1..=4 {
            assert_eq!(thief.send(&wrong).await.status, 422);
        }
        place
            .change("UPDATE sign_in_failures SET at_us = at_us - 901000000")
            .await;
    }
    assert_eq!(entries(place).await.len(), 2);
}

#[tokio::test]
async fn after_twenty_wrong_codes_in_a_day_codes_of_the_app_wait_and_recovery_codes_do_not() {
    let dealership = Dealership::new().await;
    let place = &dealership.place;
    let codes = recovery_codes(&dealership).await;
    let wrong = giving(&wrong_code(SECRET));
    let mut thief = signed_in_half(&dealership).await;
    assert_eq!(thief.send(&wrong).await.status, 422);
    as_if_given(place, 19).await;
    // A right one counts for nothing.
    let mut owner = signed_in_half(&dealership).await;
    assert!(is_in(&owner.send(&giving(&code_in(SECRET, 1))).await));
    factor::forget_used_steps(place).await;
    assert_eq!(count_of_person(place).await, 19);
    assert_eq!(thief.send(&wrong).await.status, 422);
    forget_delays(place).await;
    // In whichever sign-in, and right or wrong: it is not looked at.
    for guess in [wrong.clone(), giving(&code(SECRET))] {
        for mut person in [thief.clone(), signed_in_half(&dealership).await] {
            let answer = person.send(&guess).await;
            assert_eq!(answer.status, 429, "{}", answer.text);
            let words = answer.words();
            assert!(words.contains("is looked at in a minute"), "{words}");
            assert!(words.contains("a recovery code works at once"), "{words}");
            assert!(answer.text.contains("action=\"/login/code\""));
            assert_eq!(person.session_token(), None);
        }
    }
    // Nor before an act that matters, for whoever is in.
    place
        .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
        .await;
    let invite = owner.get("/dashboard/settings").await;
    let invite = invite.form("/dashboard/settings/members/invite");
    let invite = invite.with("email", "ann@yard.example");
    let asks = owner.send(&invite).await.form(&invite.action);
    let asks = asks.with("current_code", &code(SECRET));
    let answer = owner.send(&asks).await;
    assert_eq!(answer.status, 429, "{}", answer.text);
    assert_eq!(count_of_person(place).await, 20, "what waits counts not");
    // A recovery code lets its person in.
    let mut again = signed_in_half(&dealership).await;
    assert!(is_in(&again.send(&giving(&codes[0])).await));
    // After the pause the next code is looked at, and a wrong one makes the pause longer.
    let half_a_minute_later = "UPDATE sign_in_failures SET at_us = at_us - 31000000";
    place.change(half_a_minute_later).await;
    assert_eq!(thief.send(&wrong).await.status, 422);
    place.change(half_a_minute_later).await;
    let mut owner = signed_in_half(&dealership).await;
    assert_eq!(owner.send(&giving(&code(SECRET))).await.status, 429);
    place.change(half_a_minute_later).await;
    assert!(is_in(&owner.send(&giving(&code(SECRET))).await));
    factor::forget_used_steps(place).await;
    // A day later it is forgotten.
    as_if_given(place, 80).await;
    place
        .change("UPDATE sign_in_failures SET at_us = at_us - 86400000000")
        .await;
    let mut owner = signed_in_half(&dealership).await;
    assert_eq!(owner.send(&wrong).await.status, 422);
    assert!(is_in(&owner.send(&giving(&code(SECRET))).await));
}

#[tokio::test]
async fn of_many_guesses_at_once_no_more_than_the_free_ones_are_looked_at() {
    let dealership = Dealership::new().await;
    let place = &dealership.place;
    factor::put(place, OWNER, Factor::On).await;
    let wrong = giving(&wrong_code(SECRET));
    let mut thief = signed_in_half(&dealership).await;
    assert_eq!(thief.send(&wrong).await.status, 422);
    as_if_given(place, 18).await;
    let mut thieves = Vec::new();
    for _ in 0..8 {
        thieves.push(signed_in_half(&dealership).await);
    }
    forget_delays(place).await;
    let guesses = thieves.into_iter().map(|mut thief| {
        let wrong = wrong.clone();
        tokio::spawn(async move { thief.send(&wrong).await.status.as_u16() })
    });
    let guesses: Vec<_> = guesses.collect();
    let mut statuses = Vec::new();
    for guess in guesses {
        statuses.push(guess.await.expect("ends"));
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [422, 422, 429, 429, 429, 429, 429, 429]);
    assert_eq!(count_of_person(place).await, 20);
}

#[tokio::test]
async fn hanging_up_does_not_take_a_wrong_code_back() {
    let dealership = Dealership::new().await;
    let thief = dealership.half_way("owner", OWN).await;
    let guess = tokio::spawn(thief.post(&giving(&wrong_code(SECRET))).send());
    until_failures(&dealership.place, 1).await;
    guess.abort();
    let _ = guess.await;
    let mut inside = dealership.place.look_inside().await;
    let kinds: Vec<String> = sqlx::query_scalar("SELECT subject FROM sign_in_failures")
        .fetch_all(&mut inside)
        .await
        .expect("answers");
    assert_eq!(
        kinds.len(),
        4,
        "account, client, sign-in, person: {kinds:?}"
    );
}

// ---------------------------------------------------------------------------------------------------------------------
// In somebody's session.

#[tokio::test]
async fn five_wrong_codes_in_a_session_end_it_and_the_person_is_told() {
    let (smtp, dealership) = with_mails().await;
    let place = &dealership.place;
    let owner = dealership.person("owner", OWN).await;
    let mut elsewhere = Person::owner_of(dealership.served.api, OWN).await;
    factor::put(place, OWNER, Factor::On).await;
    place
        .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
        .await;
    let mut thief = owner;
    let page = thief.get("/dashboard/settings").await;
    let invite = page.form("/dashboard/settings/members/invite");
    let invite = invite.with("email", "mallory@elsewhere.example");
    let guess = invite.with("current_code", &wrong_code(SECRET));
    for n in 1..=4 {
        let answer = thief.send(&guess).await;
        assert_eq!(answer.status, 422, "{n}: {}", answer.text);
    }
    // Not at once, either.
    place
        .change("UPDATE sign_in_failures SET at_us = at_us - 72000000000")
        .await;
    assert_eq!(entries(place).await.len(), 0);
    let answer = thief.send(&guess).await;
    assert!(leads_to_sign_in(&answer), "{}", answer.text);
    assert!(leads_to_sign_in(&thief.get("/dashboard").await));
    // Not even a right one does anything now.
    let right = guess.with("current_code", &code(SECRET));
    assert!(leads_to_sign_in(&thief.send(&right).await));
    let told_of = entries(place).await;
    assert_eq!(told_of.len(), 1, "{told_of:?}");
    assert_eq!(told_of[0]["ended"], true);
    assert!(told_of[0]["session"].is_string(), "{told_of:?}");
    until_told(&smtp, IN_SESSION).await;
    // Other sessions go on.
    assert_eq!(elsewhere.get("/dashboard").await.status, 200);
    // The form that turns the factor off is no way to guess either.
    let page = elsewhere.get("/dashboard/settings").await;
    let off = page.form("/dashboard/settings/second-factor/off");
    let off: Form = off.with("old_password", PASSWORD);
    let off = off.with("code", &wrong_code(SECRET));
    for n in 1..=4 {
        let answer = elsewhere.send(&off).await;
        assert_eq!(answer.status, 422, "{n}: {}", answer.text);
    }
    assert!(leads_to_sign_in(&elsewhere.send(&off).await));
    assert!(leads_to_sign_in(&elsewhere.get("/dashboard").await));
}

fn leads_to_sign_in(answer: &Answer) -> bool {
    answer.status == 303 && answer.header("location").starts_with("/login")
}
