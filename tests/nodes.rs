//! Several servers on one PostgreSQL, as an operator runs them: each the real binary.
//!
//! Never: a node that is told apart from another one by anything but its name.

mod upgrade;

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use crate::support::{
    binary::{PASSWORD, Place, Served},
    client::Client,
    fixtures::{VIN, record},
    person::Person,
};

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
