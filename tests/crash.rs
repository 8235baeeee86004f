//! What was acknowledged survives `kill -9` at any moment; what was not is whole or absent.
//!
//! Never: a server told that it is about to be killed.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use truckradar::{control, operator::Command};

use crate::support::{
    binary::Place,
    client::Client,
    fixtures::{record, vin},
    full,
};

/// What was acknowledged so far, over all lives of the server.
#[derive(Default)]
struct Acknowledged {
    /// VIN and price of each write.
    writes: Mutex<Vec<(String, i64)>>,
    /// Each key and its id, in order.
    keys: Mutex<Vec<(String, String)>>,
    next: AtomicU64,
}

impl Acknowledged {
    fn has(&self, rotations: usize, writes: usize) -> bool {
        self.keys.lock().expect("not poisoned").len() > rotations
            && self.writes.lock().expect("not poisoned").len() >= writes
    }
}

async fn write_until(over: Arc<AtomicBool>, client: Client, done: Arc<Acknowledged>) {
    while !over.load(Ordering::Acquire) {
        let key = done
            .keys
            .lock()
            .expect("not poisoned")
            .last()
            .expect("a key")
            .0
            .clone();
        // Batches of three: all of a batch is there, or nothing.
        let first = done.next.fetch_add(3, Ordering::Relaxed);
        let records: Vec<Value> = (first..first + 3)
            .map(|n| {
                let mut record = record(&vin(n));
                record["price"] = json!(n);
                record
            })
            .collect();
        let client = client.with_key(&key);
        let request = client
            .request(Method::POST, "/api/v1/inventory")
            .json(&json!({"records": records}));
        match client.try_send(request).await {
            Ok(answer) if answer.status == 200 => {
                assert_eq!(answer.json()["data"]["succeeded"], 3, "{}", answer.text);
                let mut writes = done.writes.lock().expect("not poisoned");
                writes.extend((first..first + 3).map(|n| (vin(n), n as i64)));
            }
            // The key was replaced meanwhile.
            Ok(answer) => assert_eq!(answer.status, 401, "{}", answer.text),
            // Killed.
            Err(_) => return,
        }
    }
}

async fn rotate_until(over: Arc<AtomicBool>, place: Arc<Place>, done: Arc<Acknowledged>) {
    while !over.load(Ordering::Acquire) {
        let command = Command::KeyGenerate {
            seller: "lone-star".parse().expect("a slug"),
        };
        match control::ask(&place.database_file(), &command).await {
            Ok(Some(Ok(made))) => {
                let text = |name: &str| made[name].as_str().expect("text").to_owned();
                done.keys
                    .lock()
                    .expect("not poisoned")
                    .push((text("key"), text("key_id")));
            }
            Ok(Some(Err(refused))) => panic!("refused: {}", refused.message),
            // Killed before it answered, or gone.
            Ok(None) | Err(_) => return,
        }
    }
}

/// What must hold after each restart.
async fn inspect(place: &Place, api: std::net::SocketAddr, done: &Acknowledged) -> bool {
    let mut database = place.look_inside().await;
    let live: Vec<(String, i64)> =
        sqlx::query_as("SELECT id, created_us FROM api_keys WHERE state = 'live'")
            .fetch_all(&mut database)
            .await
            .expect("reads");
    assert!(live.len() <= 1, "two live keys: {live:?}");

    let wrongly_shown: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM api_keys k JOIN audit_log a ON a.key_id = k.id AND a.act = 'key.generated' \
         WHERE a.receipt IS NULL AND k.shown_us IS NOT NULL",
    )
    .fetch_one(&mut database)
    .await
    .expect("reads");
    assert_eq!(
        wrongly_shown, 0,
        "a key whose act was never completed passes for one that was shown"
    );

    let keys = done.keys.lock().expect("not poisoned").clone();
    let (last, last_id) = keys.last().expect("a key").clone();
    let live_id = &live
        .first()
        .expect("the Seller had a key, so one is live")
        .0;
    let unseen = *live_id != last_id;
    if unseen {
        assert!(
            keys.iter().all(|(_, id)| id != live_id),
            "an older key came back to life"
        );
        let made: i64 = sqlx::query_scalar("SELECT created_us FROM api_keys WHERE id = $1")
            .bind(&last_id)
            .fetch_one(&mut database)
            .await
            .expect("reads");
        assert!(
            live[0].1 >= made,
            "the live key is older than the last acknowledged one"
        );
    }
    for (key, _) in keys.iter().rev().take(5) {
        let answer = Client::new(api, Some(key)).get("/api/v1/key").await;
        if *key == last && !unseen {
            assert_eq!(answer.status, 200, "the last acknowledged key is live");
        } else {
            assert_eq!(
                (answer.status.as_u16(), answer.reason().as_str()),
                (401, "revoked")
            );
        }
    }

    let stored: HashSet<(String, i64)> =
        sqlx::query_as("SELECT vin, CAST(fields ->> 'price' AS INTEGER) FROM listings")
            .fetch_all(&mut database)
            .await
            .expect("reads")
            .into_iter()
            .collect();
    for write in done.writes.lock().expect("not poisoned").iter() {
        assert!(
            stored.contains(write),
            "an acknowledged write is gone: {write:?}"
        );
    }
    let prices: HashSet<i64> = stored.iter().map(|(_, price)| *price).collect();
    for price in &prices {
        let first = price / 3 * 3;
        assert!(
            (first..first + 3).all(|n| prices.contains(&n)),
            "a batch is there in part: {price}"
        );
    }
    unseen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_at_random_moments_it_keeps_what_it_acknowledged() {
    let (kills_wanted, rotations, writes) = if full() {
        (60, 100, 2_000)
    } else {
        (8, 15, 150)
    };
    let place = Arc::new(Place::new());
    place.create_seller("lone-star");
    let made = place.json(&["key", "generate", "--seller", "lone-star"], "");
    let done = Arc::new(Acknowledged::default());
    let text = |name: &str| made[name].as_str().expect("text").to_owned();
    done.keys
        .lock()
        .expect("not poisoned")
        .push((text("key"), text("key_id")));

    let (mut kills, mut unseen) = (0, 0);
    while kills < kills_wanted || !done.has(rotations, writes) {
        let served = place.serve(&[]);
        if inspect(&place, served.api, &done).await {
            unseen += 1;
            // Nobody has that key; the page tells the Seller so, who makes another.
            let shown = place.json(&["key", "show", "--seller", "lone-star"], "");
            assert!(shown["key"]["id"].is_string());
            let made = place.json(&["key", "generate", "--seller", "lone-star"], "");
            let text = |name: &str| made[name].as_str().expect("text").to_owned();
            done.keys
                .lock()
                .expect("not poisoned")
                .push((text("key"), text("key_id")));
        }
        let over = Arc::new(AtomicBool::new(false));
        let client = Client::new(served.api, None);
        let mut busy = tokio::task::JoinSet::new();
        busy.spawn(write_until(
            Arc::clone(&over),
            client.clone(),
            Arc::clone(&done),
        ));
        busy.spawn(write_until(Arc::clone(&over), client, Arc::clone(&done)));
        busy.spawn(rotate_until(
            Arc::clone(&over),
            Arc::clone(&place),
            Arc::clone(&done),
        ));
        // The moment is random on purpose: no event is awaited here.
        tokio::time::sleep(Duration::from_micros(rand::random_range(5_000..250_000))).await;
        tokio::task::block_in_place(|| served.kill());
        over.store(true, Ordering::Release);
        while let Some(ended) = busy.join_next().await {
            ended.expect("no surprise");
        }
        kills += 1;
    }
    let served = place.serve(&[]);
    inspect(&place, served.api, &done).await;
    println!(
        "{kills} kills, {} acknowledged rotations, {} acknowledged writes, {unseen} times a key that nobody had seen",
        done.keys.lock().expect("not poisoned").len() - 1,
        done.writes.lock().expect("not poisoned").len()
    );
}

/// A crash loses at most five seconds of counts.
#[tokio::test]
async fn counts_are_in_the_database_within_five_seconds() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    let client = Client::new(served.api, Some(&key));
    for _ in 0..40 {
        assert_eq!(client.get("/api/v1/key").await.status, 200);
    }
    let counted = Instant::now();
    let mut database = place.look_inside().await;
    loop {
        let stored: i64 = sqlx::query_scalar(
            "SELECT COALESCE(SUM(requests), 0) FROM key_usage WHERE status_class = '2xx'",
        )
        .fetch_one(&mut database)
        .await
        .expect("reads");
        if stored == 40 {
            break;
        }
        assert!(
            counted.elapsed() < Duration::from_secs(5),
            "only {stored} of 40 are stored"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    served.kill();
    let served = place.serve(&[]);
    let shown = place.json(&["key", "show", "--seller", "lone-star"], "");
    assert_eq!(shown["clients_24h"][0]["accepted"], 40);
    assert_eq!(shown["clients_24h"][0]["address"], "127.0.0.1");
    drop(served);
}

/// SIGTERM loses no count at all.
#[tokio::test]
async fn a_stop_writes_every_count() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let old = place.generate("lone-star");
    let new = place.generate("lone-star");
    for _ in 0..7 {
        Client::new(served.api, Some(&new)).get("/api/v1/key").await;
        Client::new(served.api, Some(&old)).get("/api/v1/key").await;
    }
    assert_eq!(served.terminate().0, Some(0));
    let shown = place.json(&["key", "show", "--seller", "lone-star"], "");
    let clients = shown["clients_24h"].as_array().expect("clients");
    assert_eq!(clients.len(), 2);
    for client in clients {
        let live = client["key_id"] == shown["key"]["id"];
        assert_eq!(client["accepted"], if live { 7 } else { 0 });
        assert_eq!(client["unauthorized"], if live { 0 } else { 7 });
    }
}
