//! A person's account as they meet it on the pages: a second factor set up, used, lost and turned off; an owner who demands one;
//! a forgotten password, invitations and what is mailed about all of it.
//!
//! Never: a mail, a link or a code taken from anywhere but where its reader finds it.

mod mailed;
mod second_factor;

use crate::support::{
    binary::{PASSWORD, PUBLIC_URL, Place, Served},
    client::Answer,
    dealership::token_in,
    factor::{self, Factor, SECRET, code, code_in, wrong_code},
    person::{Form, Person, path_in},
    smtp::{Mail, Mood, Smtp},
};

const SELLER: &str = "lone-star";
const OWNER: &str = "owner@lone-star.example";
const SETTINGS: &str = "/dashboard/settings?seller=lone-star";
const NEW: &str = "a truck, a lake, a lamp";
const LATER: &str = "one yard, two trailers";

async fn world() -> (Place, Served, Person) {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller(SELLER);
    let owner = Person::owner_of(served.api, SELLER).await;
    (place, served, owner)
}

/// The same with mails that are sent, and links that are mailed.
async fn world_with_mails(smtp: &Smtp) -> (Place, Served) {
    let place = Place::new();
    let served = place.serve_with_mails(smtp);
    place.create_seller(SELLER);
    (place, served)
}

/// Sets a second factor up on the pages; answers with its secret and the recovery codes.
async fn set_up(person: &mut Person) -> (String, Vec<String>) {
    let page = person.get(SETTINGS).await;
    let begin = page.form("/dashboard/settings/second-factor/begin");
    let shown = person.send(&begin).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    let secret = shown.shown_secret();
    let confirm = shown.form("/dashboard/settings/second-factor/confirm");
    let done = person.send(&confirm.with("code", &code(&secret))).await;
    assert_eq!(done.status, 200, "{}", done.text);
    (secret, done.shown_codes())
}

async fn half_way(at: std::net::SocketAddr, email: &str) -> Person {
    let mut person = Person::at(at);
    let answer = person.sign_in(email, PASSWORD).await;
    assert_eq!(answer.status, 303, "{}", answer.text);
    assert!(answer.header("location").starts_with("/login/code?next="));
    person
}

fn assert_in(answer: &Answer, to: &str) {
    assert_eq!(answer.status, 303, "{}", answer.text);
    assert_eq!(answer.header("location"), to);
}

/// The newest acts of the audit log, as their names.
async fn acts(place: &Place, count: i64) -> Vec<String> {
    let mut inside = place.look_inside().await;
    let mut acts: Vec<String> =
        sqlx::query_scalar("SELECT act FROM audit_log ORDER BY id DESC LIMIT $1")
            .bind(count)
            .fetch_all(&mut inside)
            .await
            .expect("answers");
    acts.reverse();
    acts
}
