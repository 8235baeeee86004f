//! Somebody tries addresses to learn who has an account, and passwords to get into one.
//!
//! Never: an upper bound on a time, other than by comparison with what happened beside it.

use std::time::{Duration, Instant};

use reqwest::Method;

use super::until_failures;
use crate::support::{
    binary::{PASSWORD, Place, Served},
    client::Answer,
    dealership::{Dealership, OWN},
    person::{Form, Person},
};

/// Behind this, clients are told apart by `X-Forwarded-For`.
const BEHIND_A_PROXY: [&str; 2] = ["--trusted-proxies", "127.0.0.0/8"];

fn attempt(email: &str, password: &str) -> Form {
    Form::made_up("/login", [("email", email), ("password", password)])
}

/// An attempt to sign in from this address, as a proxy tells it.
fn from(person: &Person, form: &Form, address: &str) -> reqwest::RequestBuilder {
    person.post(form).header("x-forwarded-for", address)
}

async fn try_from(served: &Served, form: &Form, address: &str) -> Answer {
    let mut person = Person::at(served.api);
    let request = from(&person, form, address);
    person.ask(request).await
}

/// An answer without what must differ: the request's id, the date, and what was typed.
fn alike(answer: &Answer, typed: &str) -> (u16, Vec<String>, String) {
    let id = answer.header("x-request-id");
    let headers = answer.headers.iter();
    let mut headers: Vec<String> = headers
        .filter(|(name, _)| !["date", "x-request-id", "content-length"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value:?}"))
        .collect();
    headers.sort();
    let text = answer.text.replace(id, "ID").replace(typed, "TYPED");
    (answer.status.as_u16(), headers, text)
}

#[tokio::test]
async fn an_answer_does_not_tell_whether_an_account_exists() {
    let dealership = Dealership::with(&BEHIND_A_PROXY).await;
    let wrong = "not the password";
    let long = "x".repeat(257);
    let known = "owner@lone-star.example";
    let expected = {
        let answer = try_from(&dealership.served, &attempt(known, wrong), "192.0.2.1").await;
        assert_eq!(answer.status, 422);
        assert_eq!(
            answer.header("content-length"),
            answer.text.len().to_string()
        );
        alike(&answer, known)
    };
    assert!(expected.2.contains("TYPED"), "{}", expected.2);
    let mut client = 1;
    for (email, password) in [
        (known, wrong),
        (known, long.as_str()),
        ("viewer@lone-star.example", wrong),
        // Invited, and no User yet.
        ("invited@lone-star.example", wrong),
        ("nobody@lone-star.example", wrong),
        ("nobody@lone-star.example", PASSWORD),
        ("nobody@lone-star.example", long.as_str()),
        ("no address at all", PASSWORD),
        ("OWNER@lone-star.example", wrong),
    ] {
        client += 1;
        let form = attempt(email, password);
        let address = format!("192.0.2.{client}");
        let answer = try_from(&dealership.served, &form, &address).await;
        let told = format!("{email} with {password}");
        assert_eq!(alike(&answer, email), expected, "{told}");
    }
    // Nothing typed at all is as wrong.
    for form in [attempt("", ""), attempt(known, ""), attempt("", PASSWORD)] {
        let answer = try_from(&dealership.served, &form, "192.0.2.99").await;
        assert_eq!(answer.status, 422);
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// How often one of the first is longer than one of the second: about 0.5 if nothing tells them apart.
fn share_of_longer(first: &[Duration], second: &[Duration]) -> f64 {
    let longer: usize = first
        .iter()
        .map(|one| second.iter().filter(|other| one > *other).count())
        .sum();
    longer as f64 / (first.len() * second.len()) as f64
}

#[tokio::test]
async fn the_time_of_an_answer_does_not_tell_whether_an_account_exists() {
    const ROUNDS: usize = 40;
    let place = Place::new();
    let served = place.serve(&BEHIND_A_PROXY);
    place.create_seller(OWN);
    let kinds = [
        "owner@lone-star.example",
        "nobody@lone-star.example",
        "no address at all",
    ];
    let mut times: [Vec<Duration>; 3] = Default::default();
    for round in 0..=ROUNDS {
        // Each kind comes first as often as last.
        for turn in 0..kinds.len() {
            let kind = (turn + round) % kinds.len();
            let form = attempt(kinds[kind], "not the password");
            let mut person = Person::at(served.api);
            let address = format!("192.0.2.{}", round % 200);
            let request = from(&person, &form, &address);
            let began = Instant::now();
            assert_eq!(person.ask(request).await.status, 422);
            // The first round makes what is made once.
            if round > 0 {
                times[kind].push(began.elapsed());
            }
        }
        place.change("DELETE FROM sign_in_failures").await;
    }
    let [known, unknown, odd] = times;
    for other in [unknown, odd] {
        let share = share_of_longer(&known, &other);
        let (one, two) = (median(known.clone()), median(other));
        // Without a hash to compare with, an unknown address is answered in a fraction of the time, nearly always.
        assert!(
            one < two * 2 && two < one * 2 || (0.2..=0.8).contains(&share),
            "known {one:?}, unknown {two:?}, {share}"
        );
    }
}

#[tokio::test]
async fn from_the_tenth_failure_on_guesses_wait_whatever_the_client_says_of_itself() {
    let place = Place::new();
    let served = place.serve(&BEHIND_A_PROXY);
    place.create_seller(OWN);
    for n in 0..9 {
        // Another account each time, and another address that is only claimed.
        let form = attempt(&format!("guess{n}@lone-star.example"), "not the password");
        let claimed = format!("198.51.100.{n}, 192.0.2.1");
        assert_eq!(try_from(&served, &form, &claimed).await.status, 422);
    }
    for (n, seconds) in [(9, 1), (10, 2)] {
        let form = attempt(&format!("guess{n}@lone-star.example"), "not the password");
        let began = Instant::now();
        let answer = try_from(&served, &form, "198.51.100.77, 192.0.2.1").await;
        assert_eq!(answer.status, 422);
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(seconds), "{n}: {took:?}");
    }
    // As after as many more, the next waits for eight seconds. Meanwhile the right password comes in from the same address,
    // and other addresses are free to be wrong.
    place
        .change("INSERT INTO sign_in_failures SELECT subject, at_us FROM sign_in_failures")
        .await;
    let api = served.api;
    let guess = tokio::spawn(async move {
        let form = attempt("guess11@lone-star.example", "not the password");
        let mut person = Person::at(api);
        let request = from(&person, &form, "192.0.2.1");
        person.ask(request).await.status
    });
    until_failures(&place, 23).await;
    let right = attempt("owner@lone-star.example", PASSWORD);
    let answer = try_from(&served, &right, "192.0.2.1").await;
    assert_eq!(answer.status, 303, "{}", answer.text);
    let wrong = attempt("owner@lone-star.example", "not the password");
    assert_eq!(try_from(&served, &wrong, "192.0.2.2").await.status, 422);
    assert!(!guess.is_finished(), "neither waited for the guess");
    assert_eq!(guess.await.expect("ends"), 422);
}

#[tokio::test]
async fn hanging_up_neither_frees_the_turn_nor_takes_the_failure_back() {
    let place = Place::new();
    let served = place.serve(&BEHIND_A_PROXY);
    place.create_seller(OWN);
    let wrong = attempt("guess@lone-star.example", "not the password");
    assert_eq!(try_from(&served, &wrong, "192.0.2.1").await.status, 422);
    // As after many more: from here on each failure holds its turn for eight seconds.
    for _ in 0..4 {
        place
            .change("INSERT INTO sign_in_failures SELECT subject, at_us FROM sign_in_failures")
            .await;
    }
    let began = Instant::now();
    for n in 0..4 {
        let person = Person::at(served.api);
        let request = from(&person, &wrong, "192.0.2.1");
        let guess = tokio::spawn(request.send());
        until_failures(&place, 16 + n + 1).await;
        guess.abort();
        assert!(guess.await.is_err_and(|error| error.is_cancelled()));
    }
    // All four turns are taken: whoever comes from there now waits for one, and from elsewhere does not.
    let api = served.api;
    let fifth = tokio::spawn(async move {
        let mut person = Person::at(api);
        let right = attempt("owner@lone-star.example", PASSWORD);
        let request = from(&person, &right, "192.0.2.1");
        person.ask(request).await.status
    });
    let right = attempt("owner@lone-star.example", PASSWORD);
    assert_eq!(try_from(&served, &right, "192.0.2.2").await.status, 303);
    assert!(!fifth.is_finished(), "a turn was free");
    assert_eq!(fifth.await.expect("ends"), 303);
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(8), "{waited:?}");
}

#[tokio::test]
async fn without_trusted_proxies_nobody_is_believed_about_their_address() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller(OWN);
    for n in 0..9 {
        let form = attempt(&format!("guess{n}@lone-star.example"), "not the password");
        let answer = try_from(&served, &form, &format!("192.0.2.{n}")).await;
        assert_eq!(answer.status, 422);
    }
    let mut person = Person::at(served.api);
    let form = attempt("guess@lone-star.example", "not the password");
    let request = person
        .request(Method::POST, "/login")
        .form(&form.fields)
        .header("x-forwarded-for", "192.0.2.99")
        .header("forwarded", "for=192.0.2.99")
        .header("x-real-ip", "192.0.2.99")
        .header("true-client-ip", "192.0.2.99");
    let began = Instant::now();
    assert_eq!(person.ask(request).await.status, 422);
    assert!(began.elapsed() >= Duration::from_secs(1));
}
