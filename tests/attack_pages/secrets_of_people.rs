//! Somebody reads the database, the log, the metrics, or another page, looking for what would let them in.
//!
//! Never: a secret left out of the search because it is short-lived.

use crate::{
    secrets::found_in,
    support::{
        binary::{PASSWORD, Place},
        client::{Client, raw_get},
        dealership::token_in,
        fixtures::{VIN, record},
        person::{Form, Person},
    },
};

const SECOND: &str = "a truck, a lake, a lamp";
const THIRD: &str = "one yard, two trailers";
const TYPED: &str = "typed, and never right";
/// In a query string.
const SEARCHED: &str = "zebra-coloured-trailers";

fn token_of(person: &Person) -> String {
    person.session_token().expect("a session").to_owned()
}

#[tokio::test]
async fn no_token_and_no_password_of_a_person_is_found_in_files_logs_metrics_or_later_pages() {
    let place = Place::new();
    let served = place.serve(&["--log", "trace"]);
    let at = served.api;
    place.create_seller("lone-star");
    let mut secrets = [PASSWORD, SECOND, THIRD, TYPED, SEARCHED]
        .map(str::to_owned)
        .to_vec();
    let key = place.generate("lone-star");
    let client = Client::new(at, Some(&key));
    client.post("/api/v1/inventory", &record(VIN)).await;

    // An owner signs in, wrongly and rightly, and confirms once more.
    let mut owner = Person::at(at);
    owner.sign_in("owner@lone-star.example", TYPED).await;
    owner.sign_in("owner@lone-star.example", PASSWORD).await;
    secrets.push(token_of(&owner));
    place
        .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
        .await;
    let page = owner.get("/dashboard/settings").await;
    let form = page.form("/dashboard/settings/members/invite");
    let form = form.with("email", "bob@yard.example");
    let asked = owner.send(&form).await;
    let asked = owner
        .send(&asked.form(&form.action).with("current_password", TYPED))
        .await;
    let invited = owner
        .send(&asked.form(&form.action).with("current_password", PASSWORD))
        .await;
    secrets.push(token_of(&owner));
    let (_, link) = invited
        .text
        .split_once("/invitation?token=")
        .expect("a link");
    let token = link[..43].to_owned();
    secrets.push(token.clone());
    // What a page shows once is on it; afterwards it is on none.
    let made = owner.generate("lone-star").await;
    secrets.push(made.shown_key().expect("a key"));

    // The invited person looks, chooses badly, and joins; a link's token in every place where a browser may put one.
    let path = format!("/invitation?token={token}");
    let mut bob = Person::at(at);
    for form in [
        bob.get(&path)
            .await
            .form("/invitation")
            .with("password", "x"),
        bob.get(&path)
            .await
            .form("/invitation")
            .with("password", SECOND),
    ] {
        let request = bob
            .post(&form)
            .header("referer", format!("http://{at}{path}"));
        bob.ask(request).await;
    }
    secrets.push(token_of(&bob));
    // A password is changed, wrongly and rightly, and forgotten.
    let page = bob.get("/dashboard/settings").await;
    let change = page.form("/dashboard/settings/password");
    for (old, new) in [(TYPED, THIRD), (SECOND, TYPED), (TYPED, SECOND)] {
        let form = change.clone().with("old_password", old);
        bob.send(&form.with("new_password", new)).await;
        secrets.push(token_of(&bob));
    }
    let args = ["user", "reset-password", "--email", "bob@yard.example"];
    let link = place.json(&args, "")["link"].take();
    let token = token_in(link.as_str().expect("a link"));
    secrets.push(token.clone());
    let page = bob.get(&format!("/reset-password?token={token}")).await;
    let form = page.form("/reset-password").with("password", THIRD);
    assert_eq!(bob.send(&form).await.status, 303);
    assert_eq!(bob.sign_in("bob@yard.example", THIRD).await.status, 303);
    secrets.push(token_of(&bob));

    // Whatever somebody confused sends where it does not belong.
    for secret in secrets.clone() {
        let quoted: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        for path in [
            format!("/dashboard/inventory?q={SEARCHED}&{quoted}={quoted}"),
            format!("/login?next=/dashboard?{quoted}"),
            format!("/nothing?{quoted}"),
        ] {
            let lines = format!(
                "Cookie: truckradar_session={secret}; other={secret}\r\nReferer: http://{at}/?{quoted}\r\n\
                 Origin: http://{quoted}\r\nAccept: text/html\r\n"
            );
            raw_get(at, &path, &lines);
        }
        let form = Form::made_up("/nothing", [(secret.as_str(), secret.as_str())]);
        bob.send(&form).await;
        let form = Form::made_up(
            "/invitation",
            [("token", secret.as_str()), ("password", &secret)],
        );
        bob.send(&form).await;
    }

    let mut searched = Vec::new();
    for person in [&mut owner, &mut bob] {
        for path in [
            "/dashboard",
            "/dashboard/inventory",
            "/dashboard/settings",
            "/dashboard/settings?done=password",
            "/login",
            "/nothing",
            "/invitation",
        ] {
            let page = person.get(path).await;
            searched.push((path.to_owned(), page.text.into_bytes()));
        }
    }
    let (_, metrics) = raw_get(served.admin, "/metrics", "");
    assert!(metrics.contains("truckradar_requests_total"));
    searched.push(("metrics".to_owned(), metrics.into_bytes()));
    searched.extend(place.stored().await);
    let has_log = |(name, bytes): &(String, Vec<u8>)| name.ends_with("-wal") && !bytes.is_empty();
    assert!(
        place.is_on_postgres() || searched.iter().any(has_log),
        "the write-ahead log"
    );
    let log = served.kill();
    assert!(log.contains("/dashboard/inventory"), "{log:.500}");
    for word in [
        "token=",
        "seller=lone",
        "q=zebra",
        "cookie",
        "truckradar_session",
    ] {
        assert!(!log.to_lowercase().contains(word), "the log has {word}");
    }
    searched.push(("log".to_owned(), log.clone().into_bytes()));
    searched.extend(place.stored().await);
    let (code, second_log) = place.serve(&["--log", "trace"]).terminate();
    assert_eq!(code, Some(0));
    searched.push(("second log".to_owned(), second_log.into_bytes()));
    searched.extend(place.stored().await);

    assert!(secrets.len() > 12 && secrets.iter().all(|secret| secret.len() > 15));
    assert_eq!(found_in(&searched, &secrets), Vec::<String>::new());
    // Nor what is stored in a token's place, in the log: whoever reads it could find the row.
    for secret in secrets {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(&secret);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!log.to_lowercase().contains(&digest));
    }
}
