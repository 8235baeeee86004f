//! Changing keys while somebody watches: who has changed over, who was forgotten, and when all is clear.
//!
//! Never: a number on the page that was not called.

use std::time::Duration;

use reqwest::Method;

use crate::support::{
    binary::{Place, Served},
    client::{Client, Events},
    full,
    person::{Person, words_of},
};

const LIVE: &str = "/dashboard/settings/api-key/live?seller=lone-star";
const PAGE: &str = "/dashboard/settings?seller=lone-star";

fn world(extra: &[&str]) -> (Place, Served, String) {
    let place = Place::new();
    let served = place.serve(extra);
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    (place, served, key)
}

/// One call of a program of this name; its status.
async fn call(served: &Served, program: &str, key: &str) -> u16 {
    let client = Client::new(served.api, Some(key));
    let request = client
        .request(Method::GET, "/api/v1/key")
        .header("user-agent", program);
    client.send(request).await.status.as_u16()
}

/// Reads events until one says this; what it says, without the tags.
async fn until(events: &mut Events, words: &str) -> String {
    let mut last = String::new();
    let found = async {
        while let Some(html) = events.next().await.expect("the stream holds") {
            last = words_of(&html);
            if last.contains(words) {
                return true;
            }
        }
        false
    };
    let found = tokio::time::timeout(Duration::from_secs(30), found).await;
    assert_eq!(
        found,
        Ok(true),
        "no event said {words:?}, the last one: {last}"
    );
    last
}

async fn assert_ends(events: &mut Events, why: &str) {
    let end = async { while let Ok(Some(_)) = events.next().await {} };
    let ended = tokio::time::timeout(Duration::from_secs(30), end).await;
    assert!(ended.is_ok(), "{why}, and it is still watched");
}

/// The part of a text between two others.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text
        .split_once(from)
        .unwrap_or_else(|| panic!("no {from:?} in {text}"));
    rest.split_once(to).map_or(rest, |(part, _)| part)
}

const REFUSED: &str = "Refused with a dead key, and not changed over";
const USING: &str = "Clients that used this key in the last 24 hours";

/// As time that passes would.
async fn eleven_minutes_later(place: &Place) {
    place
        .change("UPDATE key_usage SET minute = minute - 11, last_us = last_us - 660000000")
        .await;
    place
        .change(
            "UPDATE api_keys SET ended_us = ended_us - 660000000, live_us = live_us - 660000000",
        )
        .await;
}

#[tokio::test]
async fn whoever_watches_sees_who_was_forgotten_and_then_that_all_is_clear() {
    let (place, served, old) = world(&[]);
    let mut owner = Person::owner_of(served.api, "lone-star").await;
    let mut watched = owner.watch(LIVE).await;
    until(&mut watched, "Waiting for your first call.").await;
    for program in ["sync/1", "feed/2", "kiosk/3"] {
        assert_eq!(call(&served, program, &old).await, 200);
    }
    let before = until(&mut watched, "kiosk/3").await;
    assert!(
        between(&before, USING, "As of").contains("sync/1 1 "),
        "{before}"
    );
    assert!(!before.contains("dead"), "{before}");

    let made = place.json(&["key", "prepare", "--seller", "lone-star"], "");
    let new = made["key"].as_str().expect("a key").to_owned();
    assert_eq!(call(&served, "sync/1", &new).await, 401);
    let staged = until(&mut watched, "Next key").await;
    assert!(
        staged.contains("has changed since you opened this page"),
        "{staged}"
    );
    assert!(
        !staged.contains("dead"),
        "a key that waits is none that died: {staged}"
    );
    place.json(&["key", "cut-over", "--seller", "lone-star"], "");
    until(&mut watched, "Nobody has sent the dead key yet.").await;

    for program in ["sync/1", "feed/2"] {
        assert_eq!(call(&served, program, &old).await, 401);
        assert_eq!(call(&served, program, &new).await, 200);
    }
    for _ in 0..3 {
        assert_eq!(call(&served, "kiosk/3", &old).await, 401);
    }
    // When everything is counted, one client is left.
    let during = until(&mut watched, "kiosk/3 3 ").await;
    assert!(
        during.contains("1 client still sends a dead key."),
        "{during}"
    );
    assert!(
        !between(&during, REFUSED, USING).contains("sync/1"),
        "{during}"
    );
    // By minute: the new key 2 × 200, the old one 3 × 200 and 5 × 401; a chart has both.
    assert!(during.contains("Present key ••••"), "{during}");
    assert!(
        between(&during, "Old key ••••", "24 hours").contains("200: 3 401: 5"),
        "{during}"
    );
    // The page itself says the same to whoever runs no script.
    let page = owner.get(PAGE).await.words();
    assert!(page.contains("1 client still sends a dead key."), "{page}");
    assert!(
        between(&page, REFUSED, "Clients").contains("kiosk/3 3"),
        "{page}"
    );

    // The forgotten one gets the new key.
    assert_eq!(call(&served, "kiosk/3", &new).await, 200);
    let quiet = until(&mut watched, "Nobody is left on a dead key").await;
    assert!(
        quiet.contains("All is clear once no dead key has been sent for 10 minutes."),
        "{quiet}"
    );
    assert!(!quiet.contains(REFUSED), "{quiet}");
    eleven_minutes_later(&place).await;
    until(&mut watched, "All clear. Nobody uses the old key any more").await;
}

/// A client that calls seldom, and one whose name two programs share: neither the hour nor the name decides, but what was
/// refused and let in, in which order.
#[tokio::test]
async fn a_client_that_calls_seldom_is_not_taken_for_a_forgotten_one() {
    let (place, served, old) = world(&[]);
    let mut owner = Person::owner_of(served.api, "lone-star").await;
    let new = place.generate("lone-star");
    eleven_minutes_later(&place).await;
    // First refused, then let in, as the rule for clients with two keys has it; long after the old key died.
    assert_eq!(call(&served, "hourly/1", &old).await, 401);
    assert_eq!(call(&served, "hourly/1", &new).await, 200);
    let page = owner.get(PAGE).await.words();
    assert!(page.contains("Nobody is left on a dead key"), "{page}");
    assert!(!page.contains(REFUSED), "{page}");
    // Refused minutes after it was first let in: somebody of that name still has the old key.
    place
        .change("UPDATE key_usage SET minute = minute - 3, last_us = last_us - 180000000")
        .await;
    assert_eq!(call(&served, "hourly/1", &old).await, 401);
    assert_eq!(call(&served, "hourly/1", &new).await, 200);
    let page = owner.get(PAGE).await.words();
    assert!(page.contains("1 client still sends a dead key."), "{page}");
    let refused = between(&page, REFUSED, USING);
    assert!(
        refused.contains("also let in with the present key"),
        "{page}"
    );
}

/// A client that gave up, or runs by the clock, has not changed over, however quiet it is.
#[tokio::test]
async fn quiet_is_not_all_clear_while_somebody_is_left() {
    let (place, served, old) = world(&[]);
    let mut owner = Person::owner_of(served.api, "lone-star").await;
    place.generate("lone-star");
    assert_eq!(call(&served, "nightly/1", &old).await, 401);
    // It has to be written before it can be long ago.
    owner.get(PAGE).await;
    eleven_minutes_later(&place).await;
    let page = owner.get(PAGE).await.words();
    assert!(page.contains("Quiet for now."), "{page}");
    assert!(!page.contains("All clear."), "{page}");
    assert!(
        between(&page, REFUSED, "As of").contains("nightly/1 1"),
        "{page}"
    );
}

#[tokio::test]
async fn a_client_that_has_not_called_since_the_key_died_is_named_too() {
    let (place, served, old) = world(&[]);
    let mut owner = Person::owner_of(served.api, "lone-star").await;
    call(&served, "nightly/1", &old).await;
    call(&served, "hourly/1", &old).await;
    let new = place.generate("lone-star");
    call(&served, "hourly/1", &new).await;
    let page = owner.get(PAGE).await.words();
    let unseen = between(
        &page,
        "Used a key before it died, and not seen since",
        "Nobody knows yet",
    );
    assert!(unseen.contains("nightly/1 1"), "{page}");
    assert!(!unseen.contains("hourly/1"), "{page}");
}

#[tokio::test]
async fn nobody_watches_longer_than_they_may() {
    let (place, served, _) = world(&[]);
    let mut owner = Person::owner_of(served.api, "lone-star").await;
    let viewer = Person::invited(
        &place,
        served.api,
        "lone-star",
        "viewer@lone-star.example",
        "viewer",
    )
    .await;

    let mut by_viewer = viewer.watch(LIVE).await;
    until(&mut by_viewer, "Waiting").await;
    let removed = [
        "user",
        "remove",
        "--seller",
        "lone-star",
        "--email",
        "viewer@lone-star.example",
    ];
    place.json(&removed, "");
    assert_ends(&mut by_viewer, "the viewer was removed").await;

    let mut idle = owner.watch(LIVE).await;
    until(&mut idle, "Waiting").await;
    place
        .change("UPDATE sessions SET seen_us = seen_us - 46800000000")
        .await;
    assert_ends(&mut idle, "for 12 hours there was nothing but watching").await;

    let mut owner_again = Person::owner_of(served.api, "lone-star").await;
    let mut signed_out = owner_again.watch(LIVE).await;
    until(&mut signed_out, "Waiting").await;
    let page = owner_again.get("/dashboard").await;
    assert_eq!(owner_again.send(&page.form("/logout")).await.status, 303);
    assert_ends(&mut signed_out, "the session was ended").await;
    assert_eq!(owner.get(LIVE).await.status, 303, "it ran out");
}

#[tokio::test]
async fn the_password_given_again_does_not_end_what_is_watched() {
    let (place, served, _) = world(&[]);
    let mut owner = Person::owner_of(served.api, "lone-star").await;
    let mut watched = owner.watch(LIVE).await;
    until(&mut watched, "Waiting").await;
    place.change("UPDATE sessions SET confirmed_us = 0").await;
    let page = owner.get(PAGE).await;
    let asks = owner
        .send(&page.form("/dashboard/settings/api-key/prepare"))
        .await;
    let form = asks.form("/dashboard/settings/api-key/prepare");
    let made = owner
        .send(&form.with("password", crate::support::binary::PASSWORD))
        .await;
    assert_eq!(made.status, 200, "{}", made.text);
    until(&mut watched, "has changed since you opened this page").await;
}

#[tokio::test]
async fn a_server_that_stops_waits_for_nobody_who_watches() {
    let (_place, served, _) = world(&[]);
    let owner = Person::owner_of(served.api, "lone-star").await;
    let mut watched = owner.watch(LIVE).await;
    until(&mut watched, "Waiting").await;
    let began = std::time::Instant::now();
    let stopping = tokio::task::spawn_blocking(move || served.terminate());
    assert_ends(&mut watched, "the server stops").await;
    let (code, log) = stopping.await.expect("ends");
    assert_eq!(code, Some(0), "{log}");
    // Requests have 30 seconds to end; a stream takes none of them.
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}: {log}",
        began.elapsed()
    );
}

#[tokio::test]
async fn one_person_watches_in_so_many_tabs_and_no_more() {
    let (_place, served, _) = world(&[]);
    let mut owner = Person::owner_of(served.api, "lone-star").await;
    let mut tabs = Vec::new();
    for _ in 0..6 {
        let mut tab = owner.watch(LIVE).await;
        until(&mut tab, "Waiting").await;
        tabs.push(tab);
    }
    let one_more = owner.get(LIVE).await;
    assert_eq!(one_more.status, 503, "{}", one_more.text);
    assert!(one_more.words().contains("Too many live views"));
    assert_eq!(
        owner.get(PAGE).await.status,
        200,
        "the page itself is there"
    );
    // A closed tab makes room, as soon as the server finds it closed.
    tabs.clear();
    let again = async {
        while owner.get(LIVE).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(30), again).await;
    assert!(again.is_ok(), "a closed tab keeps its place");
}

/// Whoever holds a dead key can call under ever new addresses; they fill neither memory nor disk, and the page says what it
/// does not tell apart.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_addresses_on_a_dead_key_is_bounded_and_told() {
    const TOLD_APART: usize = 64;
    let addresses = if full() { 100_000 } else { 4_000 };
    let (place, served, old) = world(&["--trusted-proxies", "127.0.0.1/32"]);
    let new = place.generate("lone-star");
    let mut owner = Person::owner_of(served.api, "lone-star").await;
    assert_eq!(call(&served, "honest/1", &new).await, 200);
    let memory_before = memory_kib(served.pid());
    let mut callers = tokio::task::JoinSet::new();
    const CALLERS: usize = 16;
    for caller in 0..CALLERS {
        let client = Client::new(served.api, Some(&old));
        callers.spawn(async move {
            for n in (caller..addresses).step_by(CALLERS) {
                let address = std::net::Ipv4Addr::from(0x0a00_0000 + n as u32);
                let request = client
                    .request(Method::GET, "/api/v1/key")
                    .header("user-agent", "flood/1")
                    .header("x-forwarded-for", address.to_string());
                assert_eq!(client.send(request).await.status, 401);
            }
        });
    }
    callers.join_all().await;
    let grown = memory_kib(served.pid()).saturating_sub(memory_before);
    println!("{addresses} addresses on one dead key: the server grew by {grown} KiB");
    assert!(grown < 64 << 10, "the server grew by {grown} KiB");

    let page = owner.get(PAGE).await.words();
    let refused = between(&page, REFUSED, USING);
    // The hour may have changed while they called: then there were twice as many.
    let others: usize = between(refused, "many All other clients ", " ")
        .replace(',', "")
        .parse()
        .expect("a number");
    let told_apart = addresses - others;
    assert!(
        [TOLD_APART, 2 * TOLD_APART].contains(&told_apart),
        "{told_apart}: {refused}"
    );
    assert!(
        page.contains("There are more; these were refused last."),
        "{page}"
    );
    let told = format!("At least {told_apart} clients still send");
    assert!(page.contains(&told), "{page}");
    assert!(
        page.contains("64 clients are told apart in an hour"),
        "{page}"
    );
    let shown = refused.matches("flood/1").count();
    assert!((1..50).contains(&shown), "{shown}");
    assert!(
        between(&page, USING, "As of").contains("honest/1 1"),
        "{page}"
    );
    let mut inside = place.look_inside().await;
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM usage_clients")
        .fetch_one(&mut inside)
        .await
        .expect("reads");
    assert!(
        rows <= 2 * TOLD_APART as i64 + 2,
        "{rows} clients are stored"
    );
}

/// What a process holds of the machine's memory.
fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse().ok())
        .expect("a number")
}
