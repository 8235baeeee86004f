//! Several servers on one PostgreSQL, as an operator runs them: each the real binary.
//!
//! Never: a node that is told apart from another one by anything but its name.

mod encrypted;
mod history;
mod upgrade;

use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::support::{
    binary::{PASSWORD, Place, Served},
    browser::{Browser, Gallery, Options},
    client::Client,
    fixtures::{VIN, record},
    person::{Form, Person, words_of},
};

/// How long what must happen may take, on a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Seller with a key, and these nodes.
async fn cluster<const N: usize>(names: [&str; N]) -> ([Served; N], Place, String) {
    let place = Place::on_postgres().await;
    let nodes = names.map(|name| place.serve(&["--node-name", name]));
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    (nodes, place, key)
}

async fn status(node: &Served, key: &str) -> (u16, String) {
    let answer = Client::new(node.api, Some(key)).get("/api/v1/key").await;
    (answer.status.as_u16(), answer.reason())
}

/// Asks again and again until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        tokio::task::yield_now().await;
    }
}

/// The form by which an owner who is on the page before it replaces the key.
async fn form_to_regenerate(owner: &mut Person) -> Form {
    let page = owner.get("/dashboard/settings?seller=lone-star").await;
    let asked = owner.send(&page.form_with_id("generate-api-key")).await;
    asked.form_with_id("generate-api-key")
}

/// Reads an answer until this is in it; what was read.
async fn read_until(answer: &mut reqwest::Response, part: &str) -> String {
    let mut text = String::new();
    while !text.contains(part) {
        let chunk = answer.chunk().await.expect("comes");
        let chunk = chunk.unwrap_or_else(|| panic!("ended without {part:?}: {text}"));
        text += &String::from_utf8_lossy(&chunk);
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_replaced_is_dead_on_every_node_when_the_command_returns() {
    let (nodes, place, first) = cluster(["a", "b"]).await;
    for node in &nodes {
        assert_eq!(status(node, &first).await.0, 200);
    }
    let made = place.json(&["key", "generate", "--seller", "lone-star"], "");
    let second = made["key"].as_str().expect("a key");
    for node in &nodes {
        assert_eq!(status(node, &first).await, (401, "revoked".to_owned()));
        assert_eq!(status(node, second).await.0, 200);
    }
    let told = made["receipt"]["nodes"].as_array().expect("a list");
    let told: Vec<_> = told
        .iter()
        .map(|node| (node["name"].as_str(), node["outcome"].as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (Some("a"), Some("confirmed")),
            (Some("b"), Some("confirmed"))
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_to_stop_is_waited_for_no_longer() {
    let (nodes, place, _) = cluster(["a", "b"]).await;
    let [stays, leaves] = nodes;
    let (code, log) = leaves.terminate();
    assert_eq!(code, Some(0), "{log}");
    let made = place.json(&["key", "generate", "--seller", "lone-star"], "");
    assert_eq!(
        made["receipt"]["nodes"].as_array().expect("a list").len(),
        1
    );
    assert_eq!(made["receipt"]["nodes"][0]["name"], "a");
    drop(stays);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_waited_for_until_its_trust_has_run_out_and_then_swept() {
    let (nodes, place, _) = cluster(["a", "b"]).await;
    let [stays, dies] = nodes;
    dies.kill();
    let made = place.json(&["key", "generate", "--seller", "lone-star"], "");
    let waited = made["receipt"]["elapsed_ms"].as_f64().expect("a number");
    assert!((2_400.0..3_400.0).contains(&waited), "{made}");
    assert_eq!(made["receipt"]["nodes"][1]["outcome"], "trust_ran_out");
    // By the change itself, or, where the database was slow to list the nodes, by the one that is well.
    until("it is swept", async || {
        row(&place.json(&["nodes"], ""), "b").is_none()
    })
    .await;
    let made = place.json(&["key", "generate", "--seller", "lone-star"], "");
    assert_eq!(
        made["receipt"]["nodes"].as_array().expect("a list").len(),
        1,
        "{made}"
    );
    drop(stays);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_finds_nothing_to_do_waits_all_the_same() {
    let (nodes, place, _) = cluster(["a", "b"]).await;
    let [stays, freezes] = nodes;
    let expire = [
        "key",
        "expire",
        "--seller",
        "lone-star",
        "--reason",
        "leaked",
    ];
    freezes.signal("STOP");
    // Two at once: one does it, the other finds it done and not yet obeyed.
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| place.json(&expire, ""));
        let other = scope.spawn(|| place.json(&expire, ""));
        (one.join().expect("ends"), other.join().expect("ends"))
    });
    let keys = [&one["expired"]["key_id"], &other["expired"]["key_id"]];
    assert!(keys.iter().any(|key| key.is_null()) && keys.iter().any(|key| key.is_string()));
    for answer in [&one, &other] {
        let nodes = answer["receipt"]["nodes"].as_array().expect("a list");
        assert_eq!(nodes.len(), 2, "{answer}");
        assert_eq!(nodes[1]["outcome"], "trust_ran_out", "{answer}");
    }
    freezes.signal("CONT");
    drop(stays);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_good_on_every_node_and_failures_to_sign_in_count_on_all() {
    let (nodes, place, _) = cluster(["a", "b"]).await;
    let email = "owner@lone-star.example";
    let fail = async |node: &Served| {
        let client = Client::new(node.api, None);
        let form = [("email", email), ("password", "wrong horse battery")];
        let began = std::time::Instant::now();
        let answer = client
            .send(client.request(reqwest::Method::POST, "/login").form(&form))
            .await;
        assert_ne!(answer.status, 303);
        began.elapsed()
    };
    for n in 0..9 {
        fail(&nodes[n % 2]).await;
    }
    // Five by one node, four by the other: the tenth is slowed, whichever node it comes to.
    assert!(fail(&nodes[1]).await >= std::time::Duration::from_secs(1));

    let client = Client::new(nodes[0].api, None);
    let form = [("email", email), ("password", PASSWORD)];
    let signed = client
        .send(client.request(reqwest::Method::POST, "/login").form(&form))
        .await;
    assert_eq!(signed.status, 303, "{}", signed.text);
    let cookie = signed
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned();
    let client = Client::new(nodes[1].api, None);
    let page = client
        .request(reqwest::Method::GET, "/dashboard")
        .header("cookie", cookie);
    assert_eq!(client.send(page).await.status, 200);
    drop(place);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_on_an_empty_database_bring_it_up_together() {
    let place = Place::on_postgres().await;
    let nodes: Vec<Served> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| place.serve(&[]))).collect();
        starts
            .into_iter()
            .map(|start| start.join().expect("serves"))
            .collect()
    });
    place.create_seller("lone-star");
    let made = place.json(&["key", "generate", "--seller", "lone-star"], "");
    assert_eq!(
        made["receipt"]["nodes"].as_array().expect("a list").len(),
        nodes.len()
    );
}

/// Whoever watches a key on one node sees who still sends the dead one to another.
#[tokio::test(flavor = "multi_thread")]
async fn the_cutover_view_of_one_node_shows_the_clients_of_the_others() {
    let (nodes, _place, first) = cluster(["a", "b"]).await;
    let mut owner = Person::owner_of(nodes[1].api, "lone-star").await;
    let second = owner.generate("lone-star").await;
    assert!(second.shown_key().is_some(), "{}", second.text);
    let client = Client::new(nodes[0].api, Some(&first));
    let call = client.request(reqwest::Method::GET, "/api/v1/key");
    let call = call.header("user-agent", "forgotten-at-node-a/1.0");
    assert_eq!(client.send(call).await.reason(), "revoked");
    let mut events = owner
        .watch("/dashboard/settings/api-key/live?seller=lone-star")
        .await;
    let seen = async {
        loop {
            let event = events.next().await.expect("a stream");
            if event
                .expect("has no end")
                .contains("forgotten-at-node-a/1.0")
            {
                return;
            }
        }
    };
    let seen = tokio::time::timeout(std::time::Duration::from_secs(20), seen).await;
    seen.expect("within a few writings of what was counted");
}

/// What one node has stored, another one tells at once: there is no cache between them.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_one_node_took_is_what_the_other_one_shows() {
    let (nodes, _place, key) = cluster(["a", "b"]).await;
    let clients = [0, 1].map(|n| Client::new(nodes[n].api, Some(&key)));
    for n in 0..20 {
        let mut record = record(VIN);
        record["price"] = (50_000 + n).into();
        let (by, other) = (&clients[n % 2], &clients[(n + 1) % 2]);
        let stored = by.post("/api/v1/inventory", &record).await;
        assert_eq!(stored.status, 200, "{}", stored.text);
        let shown = other.get(&format!("/api/v1/inventory/{VIN}")).await.json();
        assert_eq!(shown["data"]["price"], 50_000 + n, "{shown}");
    }
}

/// Nobody can renew, but keys can be read: each request is judged by the database, and the rule holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_past_its_trust_asks_the_database_for_each_request() {
    let (nodes, place, first) = cluster(["a", "b"]).await;
    let mut database = PgConnection::connect(&place.database())
        .await
        .expect("connects");
    // Reads of the list go on; nobody can write to it.
    let lock = sqlx::raw_sql("BEGIN; LOCK TABLE nodes IN EXCLUSIVE MODE");
    lock.execute(&mut database).await.expect("is granted");
    let ready =
        async |node: &Served| Client::new(node.api, None).get("/readyz").await.status == 200;
    let until = async |node: &Served, wanted: bool| {
        let waited = async {
            while ready(node).await != wanted {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waited).await;
        waited.unwrap_or_else(|_| panic!("never ready: {wanted}"));
    };
    for node in &nodes {
        until(node, false).await;
        assert_eq!(status(node, &first).await.0, 200);
    }
    let made = place.json(&["key", "generate", "--seller", "lone-star"], "");
    let second = made["key"].as_str().expect("a key");
    let outcomes = made["receipt"]["nodes"].as_array().expect("a list").iter();
    let outcomes: Vec<_> = outcomes.map(|node| node["outcome"].as_str()).collect();
    assert_eq!(outcomes, [Some("trust_ran_out"); 2], "{made}");
    for node in &nodes {
        assert!(!ready(node).await);
        assert_eq!(status(node, &first).await, (401, "revoked".to_owned()));
        assert_eq!(status(node, second).await.0, 200);
        let metrics = reqwest::get(format!("http://{}/metrics", node.admin)).await;
        let metrics = metrics.expect("answers").text().await.expect("text");
        let asked = "truckradar_primary_checks_total{outcome=\"answered\"} 3";
        assert!(metrics.contains(asked), "{metrics}");
        assert!(metrics.contains("truckradar_trusted 0"), "{metrics}");
    }
    sqlx::raw_sql("ROLLBACK")
        .execute(&mut database)
        .await
        .expect("is let go");
    for node in &nodes {
        until(node, true).await;
    }
    database.close().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_node_says_nothing_the_page_names_it_and_then_shows_the_key() {
    let (nodes, place, old) = cluster(["a", "b"]).await;
    let [stays, freezes] = nodes;
    let mut owner = Person::owner_of(stays.api, "lone-star").await;
    let form = form_to_regenerate(&mut owner).await;
    freezes.signal("STOP");
    let asked = Instant::now();
    let mut answer = owner.post(&form).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let begun = read_until(&mut answer, "s at most.").await;
    let named = asked.elapsed();
    let words = words_of(&begun);
    assert!(
        words.contains("Waiting for the node b, which does not answer, "),
        "{words}"
    );
    assert!(words.contains("Leave this page open"), "{words}");
    assert!(!begun.contains("tr_live_"), "{begun}");
    assert!(named < Duration::from_secs(2), "only after {named:?}");
    let whole = begun + &read_until(&mut answer, "</html>").await;
    assert!(answer.chunk().await.expect("ends").is_none());

    let (_, key) = whole
        .split_once("data-testid=\"api-key-value\">")
        .expect("a key");
    let key = &key[..46];
    let words = words_of(&whole);
    assert!(words.contains("The old key is dead on 2 of 2 nodes after"));
    assert!(
        words.contains("1 confirmed it, the trust of b ran out."),
        "{words}"
    );
    assert_eq!(status(&stays, key).await.0, 200);
    assert_eq!(status(&stays, &old).await, (401, "revoked".to_owned()));
    freezes.signal("CONT");
    assert_eq!(status(&freezes, &old).await, (401, "revoked".to_owned()));
    assert_eq!(status(&freezes, key).await.0, 200);
    let words = owner.get("/dashboard/settings/audit").await.words();
    assert!(
        words.contains("Old key dead on 2 of 2 nodes after"),
        "{words}"
    );
    assert!(words.contains("the trust of b ran out"), "{words}");
    drop(place);
}

/// Access and networks are changes of keys like any other: whoever waits is told for whom.
#[tokio::test(flavor = "multi_thread")]
async fn while_a_node_says_nothing_giving_withdrawing_and_networks_name_it_too() {
    let (nodes, place, _) = cluster(["a", "b"]).await;
    let [stays, freezes] = nodes;
    let hub = ["--name", "Feed Hub", "--slug", "feedhub"];
    let made = place.json(&[&["platform", "create"], &hub[..]].concat(), "");
    let hub = made["platform"]["id"].as_str().expect("an id").to_owned();
    let mut owner = Person::owner_of(stays.api, "lone-star").await;
    for (action, field, value, done) in [
        (
            "platforms/grant",
            "platform",
            &*hub,
            "The platform has access",
        ),
        (
            "platforms/withdraw",
            "platform",
            &*hub,
            "The access is withdrawn",
        ),
        (
            "networks",
            "networks",
            "203.0.113.0/24",
            "Where the key may be used is changed",
        ),
    ] {
        let page = owner.get("/dashboard/settings").await;
        let form = page.form(&format!("/dashboard/settings/{action}"));
        let form = form.with(field, value).with("refuse", "yes");
        freezes.signal("STOP");
        let mut answer = owner.post(&form).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{action}");
        let begun = read_until(&mut answer, "s at most.").await;
        let words = words_of(&begun);
        let named = "Waiting for the node b, which does not answer, ";
        assert!(words.contains(named), "{action}: {words}");
        assert!(!words.contains(done), "{action}: {words}");
        let whole = begun + &read_until(&mut answer, "</html>").await;
        let words = words_of(&whole);
        assert!(words.contains(done), "{action}: {words}");
        assert!(words.contains("the trust of b ran out"), "{words}");
        freezes.signal("CONT");
    }
    drop(place);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_wait_at_once_one_is_shown_a_key_and_the_other_told_on_the_same_page() {
    let (nodes, place, _) = cluster(["a", "b"]).await;
    let [stays, freezes] = nodes;
    let mut owner = Person::owner_of(stays.api, "lone-star").await;
    let form = form_to_regenerate(&mut owner).await;
    freezes.signal("STOP");
    let (one, other) = tokio::join!(owner.post(&form).send(), owner.post(&form).send());
    let (one, other) = (one.expect("an answer"), other.expect("an answer"));
    assert_eq!((one.status().as_u16(), other.status().as_u16()), (200, 200));
    let (one, other) = tokio::join!(one.text(), other.text());
    let (one, other) = (one.expect("ends"), other.expect("ends"));
    let shows = |text: &str| text.contains("data-testid=\"api-key-value\"");
    assert!(shows(&one) ^ shows(&other), "{one}\n{other}");
    let loser = if shows(&one) { &other } else { &one };
    let words = words_of(loser);
    assert!(words.contains("Waiting for the node b"), "{words}");
    assert!(words.contains("No key was made for you"), "{words}");
    assert!(!loser.contains("tr_live_"), "{loser}");
    assert!(loser.trim_end().ends_with("</html>"));
    freezes.signal("CONT");
    drop((stays, place));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_waited_is_in_the_end_as_one_that_did_not() {
    let (nodes, place, _) = cluster(["a", "b"]).await;
    let [stays, freezes] = nodes;
    let mut browser = Browser::start(Options::at(stays.api)).await;
    browser.goto("/login").await;
    browser.fill("email", "owner@lone-star.example").await;
    browser.fill("password", PASSWORD).await;
    browser.press("Sign in").await;
    browser.press("Settings").await;
    browser.press("Regenerate API Key for lone-star…").await;
    freezes.signal("STOP");
    browser.press("Regenerate API Key for lone-star").await;
    let key = browser.find("[data-testid=api-key-value]").await;
    assert_eq!(key.text().await.len(), 46);
    let source = browser.source().await;
    assert!(source.contains("Waiting for the node b"), "{source}");
    let text = browser.text().await;
    assert!(!text.contains("Waiting for"), "{text}");
    assert!(text.contains("the trust of b ran out"), "{text}");
    browser.assert_accessible("a page that waited").await;
    Gallery::from_environment()
        .take_all(&mut browser, "waited")
        .await;
    browser.press("I have stored the key").await;
    assert!(browser.text().await.contains("The new key is in place."));
    browser.assert_no_console_errors("a page that waited").await;
    freezes.signal("CONT");
    drop((stays, place));
}

/// The row of a node in what `truckradar nodes` answers.
fn row<'a>(answer: &'a Value, name: &str) -> Option<&'a Value> {
    let mut nodes = answer["nodes"].as_array().expect("a list").iter();
    nodes.find(|node| node["name"] == name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_told_of_by_the_command_and_the_page() {
    let (nodes, place, _) = cluster(["a", "b"]).await;
    let [stays, freezes] = nodes;
    let admin = Client::new(stays.admin, None);
    let page = async || admin.get("/nodes").await;
    let list = || place.json(&["nodes"], "");
    let listed = list();
    for name in ["a", "b"] {
        let node = row(&listed, name).expect("is listed");
        assert_eq!(node["trust"], "trusted", "{listed}");
        assert_eq!(
            (&node["epoch"], &node["behind"]),
            (&listed["epoch"], &0.into())
        );
        assert!(node["silent_ms"].as_i64().expect("a number") < 1_800);
    }
    let first = page().await;
    assert_eq!((first.status.as_u16(), first.header("refresh")), (200, "2"));
    let words = first.words();
    assert!(words.contains("This node: a Trusted"), "{words}");
    let (_, others) = words.split_once("Other nodes").expect("others");
    assert!(others.contains("b Trusted"), "{others}");
    assert!(words.contains("No change of keys that was made on this node waits."));
    assert!(!words.contains("lone-star"), "{words}");
    assert_eq!(admin.get("/nodes?refresh=no").await.header("refresh"), "");

    freezes.signal("STOP");
    until("the page says that it is silent", async || {
        page().await.words().contains("b Silent for")
    })
    .await;
    let listed = list();
    let silent = row(&listed, "b").expect("is listed yet");
    assert_eq!(silent["trust"], "lapsed", "{listed}");
    let text = place.run(&["nodes"], "");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("b     silent for "), "{text}");
    let mut browser = Browser::start(Options::at(stays.admin)).await;
    browser.goto("/nodes?refresh=no").await;
    Gallery::from_environment()
        .take_all(&mut browser, "nodes-silent")
        .await;
    browser.assert_accessible("the nodes").await;
    browser.assert_no_console_errors("the nodes").await;
    until("it is off the list", async || row(&list(), "b").is_none()).await;
    until("the page remembers it", async || {
        let words = page().await.words();
        words.contains("b : gone") && words.contains("It said nothing before")
    })
    .await;
    freezes.signal("CONT");
    until("it is back", async || {
        row(&list(), "b").is_some_and(|node| node["trust"] == "trusted")
    })
    .await;
    // It knows that it had been taken off, and says so to whoever watches metrics and logs.
    let metrics = reqwest::get(format!("http://{}/metrics", freezes.admin)).await;
    let metrics = metrics.expect("answers").text().await.expect("text");
    let count = "truckradar_cycles_total{outcome=\"row_gone\"} 1\n";
    assert!(metrics.contains(count), "{metrics}");
    let (_, log) = freezes.terminate();
    assert!(
        log.contains("this node had been taken off the list"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_waits_is_on_the_page_of_the_node_that_made_it() {
    let (nodes, place, _) = cluster(["a", "b"]).await;
    let [stays, freezes] = nodes;
    let mut owner = Person::owner_of(stays.api, "lone-star").await;
    let form = form_to_regenerate(&mut owner).await;
    freezes.signal("STOP");
    let admin = Client::new(stays.admin, None);
    let said = async {
        until("the page says who is waited for", async || {
            let words = admin.get("/nodes").await.words();
            words.contains("Waiting for the node b, which does not answer")
        })
        .await;
    };
    let (answer, ()) = tokio::join!(owner.send(&form), said);
    assert!(answer.shown_key().is_some());
    let words = admin.get("/nodes").await.words();
    assert!(words.contains("No change of keys that was made on this node waits."));
    freezes.signal("CONT");
    drop(place);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_is_not_ready_and_says_so_until_it_is_back() {
    let ([node], place, key) = cluster(["a"]).await;
    let (api, admin) = (Client::new(node.api, None), Client::new(node.admin, None));
    let ready = async |is: u16| {
        until("readiness", async || api.get("/readyz").await.status == is).await;
    };
    ready(200).await;
    place.on_server().turn_away().await;
    ready(503).await;
    let refused = Client::new(node.api, Some(&key)).get("/api/v1/key").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.code(), "UNAVAILABLE");
    assert_eq!(api.get("/healthz").await.status, 200);
    // Not before the trust from before has run out.
    until("the page says so", async || {
        let page = admin.get("/nodes").await;
        assert_eq!(page.status, 200);
        page.words().contains("This node: a Not trusted")
    })
    .await;
    let words = admin.get("/nodes").await.words();
    assert!(words.contains("The database does not answer."), "{words}");
    assert!(words.contains("lapsed "), "{words}");
    place.on_server().let_in().await;
    ready(200).await;
    assert_eq!(status(&node, &key).await.0, 200);
    let words = admin.get("/nodes").await.words();
    assert!(words.contains("This node: a Trusted"), "{words}");
}
