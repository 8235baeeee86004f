//! Reports of found keys: as an oracle that tells whether a key is one, lost, and as a weapon against a dealer or the server.
//!
//! Never: an attack that was not seen to succeed once, on code that was broken for it.

use super::*;

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
