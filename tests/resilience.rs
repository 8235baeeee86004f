//! Slow clients, silent clients, a full disk, a locked database: what is our fault is 503, what was acknowledged stays, and
//! the server goes on.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use truckradar::{
    accounts::{passwords::Password, sellers::create_seller},
    clock::Clock,
    config::Limits,
    db::{Db, DbUrl},
    http::{Certificate, Metrics, Server},
    keys::scope::OperatorAuthority,
    services::{Services, Settings},
};

use crate::support::{
    binary::{PASSWORD, Place},
    client::Client,
    fixtures::{VIN, record, vin},
};

/// The same server inside this process, with limits short enough to wait for.
async fn with_limits(limits: Limits) -> (tempfile::TempDir, SocketAddr, String, impl FnOnce()) {
    inside(limits, None).await
}

/// The same with a certificate, or without.
pub async fn inside(
    limits: Limits,
    certificate: Option<&Certificate>,
) -> (tempfile::TempDir, SocketAddr, String, impl FnOnce()) {
    let folder = tempfile::Builder::new()
        .prefix("tr-")
        .tempdir()
        .expect("a folder");
    let db = Db::open(&DbUrl::Sqlite(folder.path().join("t.db")))
        .await
        .expect("opens");
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    let services = Services::start(db, Clock::system(), settings, Some("here".to_owned()))
        .await
        .expect("starts");
    let services = Arc::new(services);
    let (db, clock) = (&services.db, &services.clock);
    let (slug, email) = (
        "lone-star".parse().expect("a slug"),
        "o@t.example".parse().expect("an address"),
    );
    let password = Password::new(PASSWORD, &[]).expect("long enough");
    let made = create_seller(db, clock, slug, "Lone Star", email, password)
        .await
        .expect("created");
    let scope = OperatorAuthority::assume().scope(made.seller);
    let key = services.keys.generate(scope, 0).await.expect("generated");
    let any = "127.0.0.1:0".parse().expect("an address");
    let mut server = Server::bind(any, any, limits).expect("binds");
    if let Some(certificate) = certificate {
        server = server.with_tls(certificate);
    }
    let api = server.api_address().expect("an address");
    let stop = server.stopper();
    let metrics = Arc::new(Metrics::new().expect("instruments"));
    tokio::spawn(server.run(services, metrics));
    (folder, api, key.secret.expose().to_owned(), stop)
}

fn short() -> Limits {
    Limits {
        header_timeout: Duration::from_millis(300),
        body_pause: Duration::from_millis(300),
        body_timeout: Duration::from_millis(900),
        connections_max: 20,
        ..Limits::default()
    }
}

/// Reads until the server closes; what it said, and how long that took.
fn until_closed(stream: &mut TcpStream) -> (String, Duration) {
    let began = Instant::now();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    let mut said = Vec::new();
    let read = stream.read_to_end(&mut said);
    let closed =
        read.is_ok() || read.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset);
    assert!(
        closed,
        "the server did not close a connection that did nothing"
    );
    (String::from_utf8_lossy(&said).into_owned(), began.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slow_and_silent_connections_are_cut() {
    let (_folder, api, key, stop) = with_limits(short()).await;
    tokio::task::block_in_place(|| {
        // Says nothing at all.
        let mut silent = TcpStream::connect(api).expect("connects");
        until_closed(&mut silent);
        // Begins a request and never ends its headers.
        let mut half = TcpStream::connect(api).expect("connects");
        half.write_all(b"GET /api/v1/key HTTP/1.1\r\nHost: t\r\n")
            .expect("writes");
        until_closed(&mut half);
        // Makes one request, then keeps the connection for nothing.
        let mut idle = TcpStream::connect(api).expect("connects");
        idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
            .expect("writes");
        let (said, _) = until_closed(&mut idle);
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        let head = format!(
            "POST /api/v1/inventory HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
        );
        // Announces a body and sends none of it.
        let mut waiting = TcpStream::connect(api).expect("connects");
        waiting.write_all(head.as_bytes()).expect("writes");
        let (said, _) = until_closed(&mut waiting);
        assert!(
            said.starts_with("HTTP/1.1 408") && said.contains("REQUEST_TIMEOUT"),
            "{said}"
        );
        // Sends a byte now and then, each in time, and the whole never.
        let mut trickle = TcpStream::connect(api).expect("connects");
        trickle.write_all(head.as_bytes()).expect("writes");
        let mut feeder = trickle.try_clone().expect("clones");
        let feeding = std::thread::spawn(move || {
            while feeder.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let (said, took) = until_closed(&mut trickle);
        assert!(said.starts_with("HTTP/1.1 408"), "{said}");
        assert!(took < Duration::from_secs(10), "{took:?}");
        drop(trickle);
        feeding
            .join()
            .expect("the feeder ends when the connection does");
    });
    assert_eq!(
        Client::new(api, Some(&key)).get("/api/v1/key").await.status,
        200
    );
    stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn more_connections_than_there_is_room_for_are_turned_away_and_the_rest_served() {
    let limits = Limits {
        header_timeout: Duration::from_secs(20),
        ..short()
    };
    let (_folder, api, key, stop) = with_limits(limits).await;
    let mut held: Vec<TcpStream> = Vec::new();
    let mut turned_away = 0;
    tokio::task::block_in_place(|| {
        for _ in 0..60 {
            let mut stream = TcpStream::connect(api).expect("connects");
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .expect("a timeout");
            let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n");
            let mut said = [0; 12];
            match asked.and_then(|()| stream.read_exact(&mut said)) {
                Ok(()) => held.push(stream),
                Err(_) => turned_away += 1,
            }
        }
    });
    assert_eq!((held.len(), turned_away), (20, 40));
    drop(held);
    // The places are free again as soon as the server has seen the connections close.
    let client = Client::new(api, Some(&key));
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match client
            .try_send(client.request(reqwest::Method::GET, "/api/v1/key"))
            .await
        {
            Ok(answer) => break assert_eq!(answer.status, 200),
            Err(_) => assert!(Instant::now() < end, "no place became free"),
        }
    }
    stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_is_503_and_reads_go_on() {
    let place = Place::on_file();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    let client = Client::new(served.api, Some(&key));
    client.post("/api/v1/inventory", &record(VIN)).await;

    // Somebody opens the file with another program and begins to write.
    let options = SqliteConnectOptions::new().filename(place.database_file());
    let mut other = SqliteConnection::connect_with(&options)
        .await
        .expect("opens");
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .expect("locks");
    let refused = client.post("/api/v1/inventory", &record(&vin(1))).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (503, "UNAVAILABLE")
    );
    assert_eq!(refused.header("retry-after"), "1");
    assert!(
        !refused.text.contains("lock"),
        "no inner detail: {}",
        refused.text
    );
    let output = place.run(&["key", "generate", "--seller", "lone-star"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stdout.is_empty(),
        "a key that was not made is not printed"
    );
    // The old key lives, reads go on.
    assert_eq!(
        client.get(&format!("/api/v1/inventory/{VIN}")).await.status,
        200
    );
    assert_eq!(client.get("/api/v1/inventory").await.status, 200);

    sqlx::query("ROLLBACK")
        .execute(&mut other)
        .await
        .expect("unlocks");
    assert_eq!(
        client
            .post("/api/v1/inventory", &record(&vin(1)))
            .await
            .status,
        200
    );
    let new = place.generate("lone-star");
    assert_eq!(client.get("/api/v1/key").await.reason(), "revoked");
    assert_eq!(client.with_key(&new).get("/api/v1/key").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_503_loses_nothing_acknowledged_and_heals() {
    let place = Place::on_file();
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    // A limit on the size of files stands for the end of the disk: writes beyond it fail, in the middle of a page if need
    // be. It is a soft limit, so it can be lifted while the server runs, as a disk can be cleared.
    let line = format!(
        "trap '' XFSZ; ulimit -S -f 700; exec {} serve --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --database {}",
        crate::support::binary::program(),
        place.database()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &line]).stdin(Stdio::null());
    let served = place.serve_by(command);
    let client = Client::new(served.api, Some(&key));
    let mut acknowledged = Vec::new();
    let mut number = 0;
    let refused = loop {
        let records: Vec<_> = (number..number + 50)
            .map(|n| {
                let mut record = record(&vin(n));
                record["description"] = json!("x".repeat(200));
                record
            })
            .collect();
        let answer = client
            .post("/api/v1/inventory", &json!({"records": records}))
            .await;
        if answer.status != 200 {
            break answer;
        }
        acknowledged.extend(number..number + 50);
        number += 50;
        assert!(number < 50_000, "the disk is never full");
    };
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (503, "UNAVAILABLE"),
        "{}",
        refused.text
    );
    let output = place.run(&["key", "generate", "--seller", "lone-star"], "");
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // The table was in doubt for as long as it took to read it anew; the old key is good.
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = client.get("/api/v1/key").await;
        if answer.status == 200 {
            break;
        }
        assert_eq!(
            answer.status, 503,
            "never 401 for a fault of ours: {}",
            answer.text
        );
        assert!(Instant::now() < end, "the table stays in doubt");
    }
    for n in acknowledged.iter().step_by(37) {
        assert_eq!(
            client
                .get(&format!("/api/v1/inventory/{}", vin(*n)))
                .await
                .status,
            200
        );
    }

    let lifted = Command::new("prlimit")
        .args(["--pid", &served.pid().to_string(), "--fsize=unlimited:"])
        .status();
    assert!(lifted.expect("prlimit runs").success());
    let answer = client
        .post("/api/v1/inventory", &record(&vin(number)))
        .await;
    assert_eq!(
        answer.status,
        200,
        "it heals: {}\n{}",
        answer.text,
        served.kill()
    );
    let new = place.generate("lone-star");
    assert_eq!(client.get("/api/v1/key").await.reason(), "revoked");
    assert_eq!(client.with_key(&new).get("/api/v1/key").await.status, 200);

    // And after a crash everything acknowledged is there.
    served.kill();
    let served = place.serve(&[]);
    let client = Client::new(served.api, Some(&new));
    for n in acknowledged.iter().chain([&number]) {
        assert_eq!(
            client
                .get(&format!("/api/v1/inventory/{}", vin(*n)))
                .await
                .status,
            200
        );
    }
}

/// A caller that hangs up in the middle of its own write or rotation leaves memory and database in step.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hanging_up_leaves_nothing_half_done() {
    let place = Place::on_file();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    let client = Client::new(served.api, Some(&key));
    client.post("/api/v1/inventory", &record(VIN)).await;
    for price in 1..=100u64 {
        let mut changed = record(VIN);
        changed["price"] = json!(price);
        let body = changed.to_string();
        let request = format!(
            "POST /api/v1/inventory HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        // Warm the cache with what stands now, then send a write and hang up at once, or a little later.
        client.get(&format!("/api/v1/inventory/{VIN}")).await;
        let mut stream = TcpStream::connect(served.api).expect("connects");
        stream.write_all(request.as_bytes()).expect("writes");
        if price % 2 == 0 {
            tokio::time::sleep(Duration::from_micros(price * 40)).await;
        }
        drop(stream);
    }
    // A last write waits behind all of those, as there is one writer.
    assert_eq!(
        client
            .post("/api/v1/inventory", &record(&vin(1)))
            .await
            .status,
        200
    );
    let shown = client.get(&format!("/api/v1/inventory/{VIN}")).await.json();
    let mut database = place.look_inside().await;
    let stored: i64 = sqlx::query_scalar(
        "SELECT CAST(fields ->> 'price' AS INTEGER) FROM listings WHERE vin = $1",
    )
    .bind(VIN)
    .fetch_one(&mut database)
    .await
    .expect("reads");
    assert_eq!(
        shown["data"]["price"], stored,
        "memory shows what the database holds"
    );
    assert!(
        stored >= 1 && stored != 89_500,
        "some of the writes were done: {stored}"
    );
}

/// One dealer's flood of batches must not keep the operator from killing a key, that dealer's own above all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_is_killed_in_the_middle_of_a_flood_of_its_own_batches() {
    let place = Place::on_file();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    let client = Client::new(served.api, Some(&key));
    let mut flood = tokio::task::JoinSet::new();
    for n in 0..60u64 {
        let client = client.clone();
        flood.spawn(async move {
            let records: Vec<_> = (n * 500..n * 500 + 500).map(|n| record(&vin(n))).collect();
            let answer = client
                .post("/api/v1/inventory", &json!({"records": records}))
                .await;
            answer.status.as_u16()
        });
    }
    // The flood is under way when the first batch of it has been answered.
    let first = flood
        .join_next()
        .await
        .expect("a batch")
        .expect("an answer");
    assert_eq!(first, 200);
    let expired = tokio::task::block_in_place(|| {
        place.json(
            &[
                "key",
                "expire",
                "--seller",
                "lone-star",
                "--reason",
                "a flood",
            ],
            "",
        )
    });
    assert!(expired["expired"]["key_id"].is_string());
    assert_eq!(client.get("/api/v1/key").await.reason(), "revoked");
    let mut refused = 0;
    while let Some(status) = flood.join_next().await {
        match status.expect("an answer") {
            200 | 503 => {}
            401 => refused += 1,
            other => panic!("unexpected status {other}"),
        }
    }
    assert!(refused > 0, "the key died before its flood was done");
    assert_eq!(served.terminate().0, Some(0));
}

/// A body of very many tiny values is refused before it is taken apart: as values it would take a hundred times its size.
#[tokio::test]
async fn a_body_of_very_many_values_is_refused_and_costs_little_memory() {
    let place = Place::on_file();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let client = Client::new(served.api, Some(&place.generate("lone-star")));
    let junk = format!("{{\"records\":[{}{{}}]}}", "{\"a\":0},".repeat(1_500_000));
    for _ in 0..3 {
        let request = client.request(reqwest::Method::POST, "/api/v1/inventory");
        let request = request
            .header("content-type", "application/json")
            .body(junk.clone());
        let answer = client.send(request).await;
        assert_eq!(answer.code(), "VALIDATION_ERROR", "{}", answer.text);
    }
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", served.pid())).expect("is there");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak");
    let peak: u64 = peak
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    assert!(peak < 300 << 10, "{peak} KiB");
}

/// Whoever holds a dead key cannot fill the disk by calling under ever new names.
#[tokio::test]
async fn a_flood_of_names_under_a_dead_key_leaves_few_rows() {
    let place = Place::on_file();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let dead = place.generate("lone-star");
    place.generate("lone-star");
    let client = Client::new(served.api, Some(&dead));
    for n in 0..500 {
        let request = client
            .request(reqwest::Method::GET, "/api/v1/key")
            .header("user-agent", format!("agent {n}"));
        assert_eq!(client.send(request).await.status, 401);
    }
    assert_eq!(served.terminate().0, Some(0));
    let options = SqliteConnectOptions::new().filename(place.database_file());
    let mut database = SqliteConnection::connect_with(&options)
        .await
        .expect("opens");
    let (rows, requests): (i64, i64) =
        sqlx::query_as("SELECT COUNT(DISTINCT client_id), SUM(requests) FROM key_usage")
            .fetch_one(&mut database)
            .await
            .expect("reads");
    // At the turn of an hour there may be twice as many.
    assert!((65..=130).contains(&rows), "{rows}");
    assert_eq!(requests, 500, "all are counted all the same");
    database.close().await.expect("closes");
}
