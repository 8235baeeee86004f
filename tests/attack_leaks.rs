//! Attacks on what takes reports of found keys: as an oracle that tells whether a key is one, as a weapon against a dealer or the
//! server, by forged signatures, and on what browsers are said to send.
//!
//! Never: an attack that was not seen to succeed once, on code that was broken for it.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use truckradar::keys::format::SecretKey;

use crate::support::{
    binary::{Place, Served},
    client::{Answer, Client, raw},
    github::{GitHub, IDENTIFIER, Mood, PATH, SIGNATURE, Signer, alert, signed},
    person::Person,
};

/// How long what must happen may take, on a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(40);

struct World {
    // Before the place: it must be gone when its folder is removed.
    served: Served,
    github: GitHub,
    place: Place,
}

impl World {
    fn with(options: &[&str]) -> Self {
        let (github, place) = (GitHub::start(), Place::new());
        let url = github.url();
        let served = place.serve(&[&["--github-keys-url", &url], options].concat());
        place.create_seller("lone-star");
        Self {
            served,
            github,
            place,
        }
    }

    fn client(&self) -> Client {
        Client::new(self.served.api, None)
    }

    async fn status(&self, key: &str) -> u16 {
        let client = Client::new(self.served.api, Some(key));
        client.get("/api/v1/key").await.status.as_u16()
    }

    /// A count of the server's metrics.
    async fn counted(&self, labels: &str) -> u64 {
        let metrics = Client::new(self.served.admin, None).get("/metrics").await;
        let name = format!("{labels} ");
        let line = metrics
            .text
            .lines()
            .find_map(|line| line.strip_prefix(&*name));
        let count = line.unwrap_or_else(|| panic!("no {labels} in {}", metrics.text));
        count.parse().expect("a number")
    }

    async fn until_counted(&self, labels: &str, count: u64) {
        let end = Instant::now() + PATIENCE;
        while self.counted(labels).await < count {
            assert!(Instant::now() < end, "{labels} does not come to {count}");
            tokio::task::yield_now().await;
        }
    }
}

fn reports(finder: &str, outcome: &str) -> String {
    format!("truckradar_leak_reports_total{{finder=\"{finder}\",outcome=\"{outcome}\"}}")
}

fn unknown_key() -> String {
    let key = SecretKey::generate().expect("randomness");
    key.expose().to_owned()
}

/// What an answer says, but for what is new in every answer.
fn said(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let of_its_own = ["x-request-id", "date"];
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| !of_its_own.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), format!("{value:?}")))
        .collect();
    headers.sort();
    (answer.status.as_u16(), headers, without_ids(answer))
}

fn without_ids(answer: &Answer) -> String {
    answer.text.replace(answer.header("x-request-id"), "")
}

// ---------------------------------------------------------------------------------------------------------------------
// The report as an oracle.

/// Slips of every kind: about a live key, a dead one, a prepared one, an unknown one, and none.
fn slips(client: &Client, keys: &[String]) -> Vec<RequestBuilder> {
    let mut slips = Vec::new();
    let post = |media: &str| {
        client
            .request(Method::POST, "/keys/report")
            .header("content-type", media)
    };
    for key in keys {
        slips.push(post("application/json").body(json!({"key": key}).to_string()));
        slips.push(post("application/x-www-form-urlencoded").body(format!("key={key}")));
        slips.push(post("text/plain").body(key.clone()));
    }
    for body in [
        "",
        "{",
        "{}",
        "[]",
        "null",
        "key",
        "\u{0}",
        "{\"key\":1}",
        "{\"key\":\"\"}",
    ] {
        slips.push(post("application/json").body(body));
        slips.push(post("application/x-www-form-urlencoded").body(body));
    }
    slips.push(client.request(Method::POST, "/keys/report"));
    slips.push(post("multipart/form-data").body(vec![0xff; 100]));
    slips
}

#[tokio::test]
async fn the_answer_to_a_report_is_the_same_whatever_was_handed_in() {
    for accept in ["application/json", "text/html"] {
        // Each slip from another address, so that none is one too many.
        let world = World::with(&["--trusted-proxies", "127.0.0.1/32"]);
        let dead = world.place.generate("lone-star");
        let live = world.place.generate("lone-star");
        let prepare = ["key", "prepare", "--seller", "lone-star"];
        let staged = world.place.json(&prepare, "")["key"].take();
        let staged = staged.as_str().expect("a key").to_owned();
        let keys = [
            live.clone(),
            dead,
            staged,
            unknown_key(),
            live[..45].to_owned(),
            format!("{live}0"),
        ];
        let mut all: BTreeSet<String> = BTreeSet::new();
        for (n, slip) in slips(&world.client(), &keys).into_iter().enumerate() {
            let slip = slip
                .header("accept", accept)
                .header("x-forwarded-for", format!("192.0.2.{n}"));
            let answer = world.client().send(slip).await;
            assert_eq!(answer.status, 202, "{}", answer.text);
            all.insert(format!("{:?}", said(&answer)));
        }
        assert_eq!(all.len(), 1, "{all:#?}");
        assert_eq!(world.status(&live).await, 200);
    }
}

/// A database in which nobody can write anything about keys, nor on PostgreSQL look one up, until this ends.
enum Locked {
    File(SqliteConnection),
    Server(PgConnection),
}

impl Locked {
    async fn of(place: &Place) -> Self {
        if place.is_on_postgres() {
            let mut own = PgConnection::connect(&place.database())
                .await
                .expect("opens");
            own.execute("BEGIN").await.expect("begins");
            let lock = "LOCK TABLE api_keys, staged_keys, leaks IN ACCESS EXCLUSIVE MODE";
            own.execute(lock).await.expect("locks");
            return Self::Server(own);
        }
        let on_file = SqliteConnectOptions::new().filename(place.database_file());
        let mut own = SqliteConnection::connect_with(&on_file)
            .await
            .expect("opens");
        own.execute("BEGIN IMMEDIATE").await.expect("locks");
        Self::File(own)
    }

    async fn end(self) {
        match self {
            Self::File(mut own) => own.execute("ROLLBACK").await.map(drop),
            Self::Server(mut own) => own.execute("ROLLBACK").await.map(drop),
        }
        .expect("ends");
    }
}

#[tokio::test]
async fn a_report_is_answered_before_anybody_looks_whether_there_is_such_a_key() {
    let world = World::with(&[]);
    let live = world.place.generate("lone-star");
    let locked = Locked::of(&world.place).await;
    for key in [&live, &unknown_key(), "no key"] {
        let answer = world
            .client()
            .post("/keys/report", &json!({"key": key}))
            .await;
        assert_eq!(answer.status, 202, "{}", answer.text);
    }
    assert_eq!(
        world.counted(&reports("report", "told")).await,
        0,
        "nothing was done yet"
    );
    locked.end().await;
    // What was answered is done all the same.
    world.until_counted(&reports("report", "told"), 1).await;
    world.until_counted(&reports("report", "unknown"), 1).await;
    world.until_counted(&reports("report", "no_key"), 1).await;
}

// ---------------------------------------------------------------------------------------------------------------------
// The report that is lost: whoever was thanked believes that the owners are told.

#[tokio::test]
async fn a_report_that_was_taken_outlasts_a_database_that_is_away() {
    let world = World::with(&[]);
    let key = world.place.generate("lone-star");
    let on_postgres = world.place.is_on_postgres();
    let locked = match on_postgres {
        true => {
            world.place.on_server().turn_away().await;
            None
        }
        false => Some(Locked::of(&world.place).await),
    };
    let slip = json!({"key": key, "found_at": "https://a.example"});
    let answer = world.client().post("/keys/report", &slip).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    // More often than what fails for a defect of the program is tried.
    world.served.wait_until_it_says("tried=4");
    assert_eq!(world.counted(&reports("report", "failed")).await, 1);
    match locked {
        Some(locked) => locked.end().await,
        None => world.place.on_server().let_in().await,
    }
    world.until_counted(&reports("report", "told"), 1).await;
    assert_eq!(world.counted(&reports("report", "failed")).await, 1);
    let mut inside = world.place.look_inside().await;
    let place: String = sqlx::query_scalar("SELECT place FROM leaks")
        .fetch_one(&mut inside)
        .await
        .expect("answers");
    assert_eq!(place, "https://a.example");
}

#[tokio::test]
async fn the_end_of_the_server_does_not_wait_for_reports_that_cannot_be_dealt_with() {
    let world = World::with(&["--trusted-proxies", "127.0.0.1/32"]);
    let key = world.place.generate("lone-star");
    let locked = Locked::of(&world.place).await;
    for n in 0..30 {
        let slip = world
            .client()
            .request(Method::POST, "/keys/report")
            .header("x-forwarded-for", format!("192.0.2.{n}"))
            .json(&json!({"key": key}));
        assert_eq!(world.client().send(slip).await.status, 202);
    }
    let began = Instant::now();
    let World { served, .. } = world;
    let (code, log) = served.terminate();
    assert_eq!(code, Some(0), "{log}");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert!(log.contains("they are lost"), "{log}");
    locked.end().await;
}

// ---------------------------------------------------------------------------------------------------------------------
// The report as a weapon.

#[tokio::test]
async fn whoever_floods_the_report_page_is_refused_and_others_are_not() {
    // Nobody listens there: mails wait, to be counted.
    let world = World::with(&[
        "--trusted-proxies",
        "127.0.0.1/32",
        "--smtp-url",
        "smtp://127.0.0.1:9",
        "--mail-from",
        "keys@market.example",
        "--security-contact",
        "security@market.example",
    ]);
    let key = world.place.generate("lone-star");
    let client = world.client();
    let hand_in = async |from: &str| {
        let slip = client
            .request(Method::POST, "/keys/report")
            .header("x-forwarded-for", from)
            .json(&json!({"key": key}));
        client.send(slip).await
    };
    let mut taken = 0;
    for _ in 0..40 {
        let answer = hand_in("192.0.2.1").await;
        match answer.status.as_u16() {
            202 => taken += 1,
            429 => {
                assert_eq!(answer.code(), "RATE_LIMITED");
                let wait: u64 = answer.header("retry-after").parse().expect("seconds");
                assert!((1..=60).contains(&wait), "{wait}");
            }
            status => panic!("{status}: {}", answer.text),
        }
    }
    assert_eq!(taken, 10);
    // A neighbour in the same IPv6 network is the same client; somebody else is not.
    for n in 0..10 {
        assert_eq!(hand_in(&format!("2001:db8:1:2::{n}")).await.status, 202);
    }
    assert_eq!(hand_in("2001:db8:1:2:ffff::1").await.status, 429);
    assert_eq!(hand_in("2001:db8:1:3::1").await.status, 202);
    assert_eq!(hand_in("192.0.2.2").await.status, 202);
    world.until_counted(&reports("report", "told"), 22).await;
    // Nobody is mailed more than once for all of it, and the key works.
    let mut inside = world.place.look_inside().await;
    let sql = "SELECT COUNT(*) FROM audit_log WHERE act = 'key.reported'";
    let entries: i64 = sqlx::query_scalar(sql)
        .fetch_one(&mut inside)
        .await
        .expect("answers");
    assert_eq!(entries, 1);
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM leaks")
        .fetch_one(&mut inside)
        .await
        .expect("answers");
    assert_eq!(rows, 1);
    assert_eq!(world.status(&key).await, 200);
    assert_eq!(
        mailed(&world).await,
        ["owner@lone-star.example", "security@market.example"]
    );
    // Another key is another matter, and a day later it is one mail more.
    let key = world.place.generate("lone-star");
    for (n, told) in (30..36).zip(23..) {
        let slip = client
            .request(Method::POST, "/keys/report")
            .header("x-forwarded-for", format!("192.0.2.{n}"))
            .json(&json!({"key": key}));
        assert_eq!(client.send(slip).await.status, 202);
        world.until_counted(&reports("report", "told"), told).await;
        if n == 32 {
            assert_eq!(mailed(&world).await.len(), 4);
            let day = "UPDATE leaks SET told_us = told_us - 86400000000";
            world.place.change(day).await;
        }
    }
    assert_eq!(mailed(&world).await.len(), 6);
}

/// To whom mails wait that tell of a key which was found.
async fn mailed(world: &World) -> Vec<String> {
    let mut inside = world.place.look_inside().await;
    let sql = "SELECT recipient FROM outbox WHERE subject LIKE '%was reported as found%' ORDER BY recipient";
    let mailed = sqlx::query_scalar(sql).fetch_all(&mut inside).await;
    mailed.expect("answers")
}

#[tokio::test]
async fn a_report_does_nothing_to_a_key_that_was_not_handed_in_whole() {
    let world = World::with(&["--kill-reported-keys", "--trusted-proxies", "127.0.0.1/32"]);
    let key = world.place.generate("lone-star");
    let hint = key[42..].to_owned();
    let identified = world.place.json(&["key", "identify"], &key);
    let id = identified["identified"]["key"]["id"]
        .as_str()
        .expect("an id");
    let seller = identified["identified"]["seller"]["id"]
        .as_str()
        .expect("an id");
    let before = world.place.everything().await;
    let guesses = [
        hint.clone(),
        format!("tr_live_••••{hint}"),
        id.to_owned(),
        seller.to_owned(),
        "lone-star".to_owned(),
        key[..45].to_owned(),
        key[1..].to_owned(),
        format!("{key}a"),
        key.to_uppercase(),
        key.replace("tr_live_", "tr_test_"),
        format!("{} {}", &key[..20], &key[20..]),
    ];
    for (n, guess) in guesses.iter().enumerate() {
        let slip = world
            .client()
            .request(Method::POST, "/keys/report")
            .header("x-forwarded-for", format!("192.0.2.{n}"))
            .json(&json!({"key": guess, "seller": seller, "key_id": id}));
        assert_eq!(world.client().send(slip).await.status, 202, "{guess}");
    }
    let done = reports("report", "no_key");
    world.until_counted(&done, guesses.len() as u64).await;
    world.place.assert_unchanged(&before, "guesses").await;
    assert_eq!(world.status(&key).await, 200);
}

#[tokio::test]
async fn a_slip_that_is_too_large_is_refused_for_its_size_alone() {
    let world = World::with(&["--trusted-proxies", "127.0.0.1/32"]);
    let key = world.place.generate("lone-star");
    let mut all = BTreeSet::new();
    for (n, body) in [
        format!("{key}{}", " ".repeat(16 << 10)),
        " ".repeat((16 << 10) + 46),
    ]
    .into_iter()
    .enumerate()
    {
        let slip = world
            .client()
            .request(Method::POST, "/keys/report")
            .header("x-forwarded-for", format!("192.0.2.{n}"))
            .body(body);
        let answer = world.client().send(slip).await;
        assert_eq!(answer.status, 413);
        all.insert(format!("{:?}", said(&answer)));
    }
    assert_eq!(all.len(), 1, "{all:#?}");
    // Without a length, too: it is cut off where the limit is.
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    let endless = format!(
        "POST /keys/report HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        chunk.repeat(4)
    );
    let answer = raw(world.served.api, endless.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn so_many_places_that_they_would_fill_the_disk_are_counted_together() {
    let world = World::with(&[]);
    let key = world.place.generate("lone-star");
    let alerts: Vec<Value> = (0..500)
        .map(|n| alert(&key, &format!("https://{n}.example")))
        .collect();
    let body = json!(alerts).to_string();
    let client = world.client();
    for _ in 0..3 {
        let answer = client
            .send(world.github.signer.request(&client, &body))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    for n in 0..10 {
        let slip = json!({"key": key, "found_at": format!("https://more-{n}.example/{}", "x".repeat(5_000))});
        assert_eq!(client.post("/keys/report", &slip).await.status, 202);
    }
    world.until_counted(&reports("report", "dead"), 10).await;
    let mut inside = world.place.look_inside().await;
    let rows: Vec<(String, i64)> = sqlx::query_as("SELECT place, times FROM leaks")
        .fetch_all(&mut inside)
        .await
        .expect("answers");
    assert!(rows.len() <= 22, "{rows:?}");
    assert!(rows.iter().all(|(place, _)| place.len() <= 500));
}

// ---------------------------------------------------------------------------------------------------------------------
// GitHub's signature.

#[tokio::test]
async fn what_github_did_not_sign_is_refused_alike_and_nothing_is_looked_up() {
    let world = World::with(&[]);
    let key = world.place.generate("lone-star");
    let client = world.client();
    let github = &world.github.signer;
    let (mallory, old) = (Signer::new(&github.identifier), Signer::new("an-old-key"));
    let keys = vec![github.published(true), old.published(false)];
    world.github.be(Mood::Publishes(keys));
    let body = json!([alert(&key, "https://a.example")]).to_string();
    let good = github.sign(&body);
    let other = json!([alert(&unknown_key(), "https://a.example")]).to_string();
    let post = || {
        client
            .request(Method::POST, PATH)
            .header("content-type", "application/json")
            .body(body.clone())
    };
    let forged = [
        ("no signature", post()),
        ("no identifier", post().header(SIGNATURE, &good)),
        (
            "no signature by a name",
            post().header(IDENTIFIER, &github.identifier),
        ),
        (
            "another pair under GitHub's name",
            mallory.request(&client, &body),
        ),
        ("another name", signed(&client, "nobody", &good, &body)),
        ("a key that is not current", old.request(&client, &body)),
        (
            "a signature of something else",
            signed(&client, &github.identifier, &github.sign(&other), &body),
        ),
        (
            "a changed body",
            signed(
                &client,
                &github.identifier,
                &good,
                &body.replace("a.example", "b.example"),
            ),
        ),
        (
            "one byte more",
            signed(&client, &github.identifier, &good, &format!("{body}\n")),
        ),
        ("no body", signed(&client, &github.identifier, &good, "")),
        (
            "no base 64",
            signed(&client, &github.identifier, "====", &body),
        ),
        (
            "an empty signature",
            signed(&client, &github.identifier, "", &body),
        ),
        ("no DER", signed(&client, &github.identifier, "AAAA", &body)),
        (
            "the name in capitals",
            signed(&client, &github.identifier.to_uppercase(), &good, &body),
        ),
        (
            "two names",
            post()
                .header(IDENTIFIER, "x")
                .header(IDENTIFIER, &github.identifier)
                .header(SIGNATURE, &good),
        ),
        (
            "two signatures",
            signed(&client, &github.identifier, &good, &body).header(SIGNATURE, &good),
        ),
        (
            "a key instead",
            post().header("authorization", format!("Bearer {key}")),
        ),
    ];
    let tried = forged.len() as u64;
    let mut all = BTreeSet::new();
    for (told, request) in forged {
        let answer = client.send(request).await;
        assert_eq!(answer.status, 403, "{told}: {}", answer.text);
        all.insert(format!("{:?}", said(&answer)));
    }
    assert_eq!(all.len(), 1, "one says more than another: {all:#?}");
    assert_eq!(world.counted(&reports("github", "refused")).await, tried);
    assert_eq!(world.status(&key).await, 200);
    let mut inside = world.place.look_inside().await;
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM leaks")
        .fetch_one(&mut inside)
        .await
        .expect("answers");
    assert_eq!(rows, 0);

    // And what it did sign works, once and again: a key does not come back to life, so there is nothing to gain by a replay.
    let mut answers = Vec::new();
    for _ in 0..2 {
        answers.push(client.send(github.request(&client, &body)).await.json());
        assert_eq!(world.status(&key).await, 401);
    }
    assert_eq!(answers[0], answers[1]);
    let next = world.place.generate("lone-star");
    let replayed = client
        .send(signed(&client, &github.identifier, &good, &body))
        .await;
    assert_eq!(replayed.status, 200);
    assert_eq!(
        world.status(&next).await,
        200,
        "a replay killed another key"
    );
}

#[tokio::test]
async fn a_flood_of_unknown_names_has_githubs_keys_fetched_once() {
    let world = World::with(&[]);
    let client = world.client();
    let good = json!([]).to_string();
    let answer = client
        .send(world.github.signer.request(&client, &good))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(world.github.asked(), 1);
    let mut work = tokio::task::JoinSet::new();
    for n in 0..200 {
        let client = world.client();
        let request = signed(&client, &format!("name-{n}"), "AAAA", "[]");
        work.spawn(async move { client.send(request).await.status.as_u16() });
    }
    let statuses = work.join_all().await;
    assert!(statuses.iter().all(|status| *status == 403), "{statuses:?}");
    assert_eq!(world.github.asked(), 1, "the last fetch is too young");
    // Not signed in form: nothing is fetched at all.
    let world = World::with(&[]);
    for headers in [
        HeaderMap::new(),
        [(
            IDENTIFIER.parse().expect("a name"),
            "x".parse().expect("a value"),
        )]
        .into_iter()
        .collect(),
    ] {
        let request = world
            .client()
            .request(Method::POST, PATH)
            .headers(headers)
            .body("[]");
        assert_eq!(world.client().send(request).await.status, 403);
    }
    assert_eq!(world.github.asked(), 0);
}

/// What GitHub would send about this, as bytes for a connection that can be closed at a moment of the test's choice.
fn on_the_wire(signer: &Signer, body: &str) -> String {
    format!(
        "POST {PATH} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n{IDENTIFIER}: {}\r\n{SIGNATURE}: {}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        signer.identifier,
        signer.sign(body),
        body.len()
    )
}

/// Sends this and keeps the connection.
fn begun(at: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(at).expect("connects");
    stream.write_all(request.as_bytes()).expect("is sent");
    stream
}

/// For how long what somebody's hanging up must not do is given the time to happen.
const HUNG_UP: Duration = Duration::from_secs(1);

#[tokio::test]
async fn whoever_hangs_up_does_not_end_the_fetch_of_githubs_keys_for_the_others() {
    let world = World::with(&[]);
    let key = world.place.generate("lone-star");
    world.github.be(Mood::Ponders);
    // Anybody can send this: it is looked at no further than its form before the keys are known.
    let stranger = Signer::new("a-made-up-name");
    let stream = begun(world.served.api, &on_the_wire(&stranger, "[]"));
    let end = Instant::now() + PATIENCE;
    while world.github.asked() == 0 {
        assert!(Instant::now() < end, "nothing is fetched");
        tokio::task::yield_now().await;
    }
    drop(stream);
    tokio::time::sleep(HUNG_UP).await;
    let keys = vec![world.github.signer.published(true)];
    world.github.be(Mood::Publishes(keys));
    let fetches =
        |outcome: &str| format!("truckradar_github_keys_fetches_total{{outcome=\"{outcome}\"}}");
    let client = world.client();
    let body = json!([alert(&key, "")]).to_string();
    let answer = client
        .send(world.github.signer.request(&client, &body))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(world.status(&key).await, 401);
    assert_eq!(world.github.asked(), 1, "the one fetch was enough");
    assert_eq!(world.counted(&fetches("done")).await, 1);
    assert_eq!(world.counted(&fetches("failed")).await, 0);
}

#[tokio::test]
async fn a_list_of_githubs_is_done_to_its_end_even_if_github_hangs_up() {
    let world = World::with(&[]);
    // More than are dealt with at the same time.
    let keys: Vec<String> = (0..9)
        .map(|n| {
            let slug = format!("dealer-{n}");
            world.place.create_seller(&slug);
            world.place.generate(&slug)
        })
        .collect();
    // So that GitHub's keys are there, and so that it shows when the list has been read: this one is no key.
    let mut alerts = vec![alert("tr_live_nonsense", "")];
    let client = world.client();
    let body = json!(alerts).to_string();
    let answer = client
        .send(world.github.signer.request(&client, &body))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    alerts.extend(keys.iter().map(|key| alert(key, "")));
    let body = json!(alerts).to_string();
    let locked = Locked::of(&world.place).await;
    let stream = begun(world.served.api, &on_the_wire(&world.github.signer, &body));
    world.until_counted(&reports("github", "no_key"), 2).await;
    drop(stream);
    tokio::time::sleep(HUNG_UP).await;
    locked.end().await;
    let end = Instant::now() + PATIENCE;
    for key in &keys {
        while world.status(key).await != 401 {
            assert!(Instant::now() < end, "a key of the list lives on");
        }
    }
}

/// Begins a request with a body that never comes, under the name of a key that is published, as from this address.
fn slow(world: &World, from: &str) -> TcpStream {
    let name = &world.github.signer.identifier;
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: {from}\r\n{IDENTIFIER}: {name}\r\n{SIGNATURE}: AAAA\r\n\
         Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n"
    );
    begun(world.served.api, &head)
}

/// Waits until the server begins to read the body.
fn assert_is_read(stream: &mut TcpStream) {
    const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("takes a limit");
    let mut said = [0; GO_ON.len()];
    stream.read_exact(&mut said).expect("an answer");
    assert_eq!(said, GO_ON, "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn whoever_sends_slowly_does_not_shut_github_out() {
    let world = World::with(&["--trusted-proxies", "127.0.0.1/32"]);
    let key = world.place.generate("lone-star");
    let client = world.client();
    let send = |body: String| {
        let request = world.github.signer.request(&client, &body);
        client.send(request.header("x-forwarded-for", "198.51.100.1"))
    };
    assert_eq!(send(json!([]).to_string()).await.status, 200);
    // One client, with as many connections as it likes: two are read, the others wait.
    let of_one = |n: usize| slow(&world, &format!("2001:db8::{n:x}"));
    let mut first: Vec<_> = (0..2).map(of_one).collect();
    first.iter_mut().for_each(assert_is_read);
    let mut others: Vec<_> = (2..80).map(of_one).collect();
    let answer = send(json!([alert(&key, "")]).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(world.status(&key).await, 401);
    for stream in &mut others {
        stream.set_nonblocking(true).expect("takes it");
        let read = stream.read(&mut [0; 1]).map_err(|error| error.kind());
        assert_eq!(read, Err(ErrorKind::WouldBlock), "it is read, too");
    }
    drop((first, others));

    // So many clients that they take all places: GitHub waits for one instead of being sent away.
    let mut all: Vec<_> = (0..64)
        .map(|n| slow(&world, &format!("192.0.2.{n}")))
        .collect();
    all.iter_mut().for_each(assert_is_read);
    let key = world.place.generate("lone-star");
    let waits = async {
        tokio::time::sleep(HUNG_UP).await;
        assert_eq!(
            world.status(&key).await,
            200,
            "it was read beyond the places"
        );
        all.pop();
    };
    let (answer, ()) = tokio::join!(send(json!([alert(&key, "")]).to_string()), waits);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(world.status(&key).await, 401);
}

#[tokio::test]
async fn while_githubs_keys_are_not_known_nobody_is_believed_and_it_is_told_to_come_again() {
    let huge = format!("{{\"public_keys\":[],\"x\":\"{}\"}}", "x".repeat(300 << 10));
    let elsewhere = GitHub::start();
    let moved = format!("HTTP/1.1 302 Found\r\nLocation: {}", elsewhere.url());
    let moved: &'static str = moved.leak();
    for mood in [
        Mood::Says("HTTP/1.1 500 Internal Server Error", String::new()),
        Mood::Says("HTTP/1.1 200 OK", "[]".to_owned()),
        Mood::Says("HTTP/1.1 200 OK", huge),
        Mood::Says(moved, String::new()),
        Mood::Hangs,
    ] {
        let world = World::with(&[]);
        let key = world.place.generate("lone-star");
        let told = format!("{mood:.60?}");
        world.github.be(mood);
        let client = world.client();
        let body = json!([alert(&key, "")]).to_string();
        // Whoever is in GitHub's place, or where it leads, is not asked again for a while.
        for signer in [&world.github.signer, &elsewhere.signer] {
            let answer = client.send(signer.request(&client, &body)).await;
            assert_eq!(answer.status, 503, "{told}: {}", answer.text);
            assert!(!answer.header("retry-after").is_empty());
        }
        assert_eq!(world.github.asked(), 1, "{told}");
        assert_eq!(world.status(&key).await, 200, "{told}");
        let failed = "truckradar_github_keys_fetches_total{outcome=\"failed\"}";
        assert_eq!(world.counted(failed).await, 1, "{told}");
    }
    assert_eq!(elsewhere.asked(), 0, "a redirect was followed");
}

#[tokio::test]
async fn a_huge_body_is_refused_and_a_signed_one_that_is_no_list_changes_nothing() {
    let world = World::with(&[]);
    let key = world.place.generate("lone-star");
    let client = world.client();
    let github = &world.github.signer;
    // It is refused for its length, before any of it is sent.
    let (identifier, signature) = (&github.identifier, github.sign(""));
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{IDENTIFIER}: {identifier}\r\n{SIGNATURE}: {signature}\r\n"
    );
    let announced = format!("{head}Content-Length: {}\r\n\r\n", (1 << 20) + 1);
    let answer = raw(world.served.api, announced.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let endless = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n{}",
        chunk.repeat(17)
    );
    let answer = raw(world.served.api, endless.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let one = alert(&key, "");
    let many: Vec<&Value> = std::iter::repeat_n(&one, 1_001).collect();
    for body in [
        String::new(),
        "{".to_owned(),
        "{}".to_owned(),
        one.to_string(),
        json!([{"token": key}]).to_string(),
        json!([[key]]).to_string(),
        json!(many).to_string(),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
    ] {
        let answer = client.send(github.request(&client, &body)).await;
        assert_eq!(answer.status, 400, "{body:.80}: {}", answer.text);
        assert!(!answer.text.contains(&key[8..40]), "{}", answer.text);
    }
    assert_eq!(world.status(&key).await, 200);
}

// ---------------------------------------------------------------------------------------------------------------------
// What browsers are said to send.

#[tokio::test]
async fn nobody_has_a_key_said_to_be_in_a_browser_without_the_key() {
    let world = World::with(&[]);
    let dead = world.place.generate("lone-star");
    let live = world.place.generate("lone-star");
    let made = world
        .place
        .json(&["key", "prepare", "--seller", "lone-star"], "");
    let staged = made["key"].as_str().expect("a key");
    let unknown = unknown_key();
    for key in [
        None,
        Some(&*dead),
        Some(staged),
        Some(&*unknown),
        Some("nonsense"),
    ] {
        let client = Client::new(world.served.api, key);
        let request = client
            .request(Method::GET, "/api/v1/key")
            .header("origin", "https://evil.example");
        assert_eq!(client.send(request).await.status, 401);
    }
    // Whoever has it can name a thousand pages, and fills neither the disk nor the page.
    let client = Client::new(world.served.api, Some(&live));
    for n in 0..100 {
        let request = client
            .request(Method::GET, "/api/v1/key")
            .header("origin", format!("https://{n}.evil.example"));
        assert_eq!(client.send(request).await.status, 200);
    }
    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    let page = owner.get("/dashboard/settings?seller=lone-star").await;
    assert_eq!(page.text.matches("A web browser sends").count(), 1);
    assert!(
        page.words().contains("other pages · 90 requests"),
        "{}",
        page.words()
    );
    assert!(!page.words().contains("https://evil.example"));
    let mut inside = world.place.look_inside().await;
    let (rows, times): (i64, i64) =
        sqlx::query_as("SELECT COUNT(*), CAST(SUM(times) AS BIGINT) FROM leaks")
            .fetch_one(&mut inside)
            .await
            .expect("answers");
    assert_eq!((rows, times), (11, 100));
}
