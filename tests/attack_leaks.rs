//! Attacks on what takes reports of found keys: as an oracle that tells whether a key is one, as a weapon against a dealer or the
//! server, by forged signatures, and on what browsers are said to send.
//!
//! Never: an attack that was not seen to succeed once, on code that was broken for it.

mod reports;
mod scanning;

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
