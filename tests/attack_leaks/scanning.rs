//! The address for GitHub's secret scanning: what it did not sign, and who would keep it from being heard.
//!
//! Never: an attack that was not seen to succeed once, on code that was broken for it.

use super::*;

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
