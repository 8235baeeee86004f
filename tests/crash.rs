//! What was acknowledged survives `kill -9` at any moment; what was not is whole or absent.
//!
//! Never: a server told that it is about to be killed.

mod steps;

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

use crate::support::{
    binary::Place,
    client::Client,
    fixtures::{record, vin},
    full,
    key_act::KeyAct::{self, CutOver, Discard, Expire, Generate, Prepare},
};

/// What was acknowledged so far, over all lives of the server.
struct Acknowledged {
    /// VIN and price of each write.
    writes: Mutex<Vec<(String, i64)>>,
    keys: Mutex<Keys>,
    next: AtomicU64,
}

/// The ids of the Seller's keys at one moment.
#[derive(Clone, Debug, PartialEq)]
struct Standing {
    live: String,
    staged: Option<String>,
}

/// In a [`Standing`], the id of a key that nobody was told of.
const UNSEEN: &str = "unseen";

impl Standing {
    /// What an act makes of it, where `made` is the id of the key that it makes, if it makes one.
    fn after(&self, act: KeyAct, made: &str) -> Self {
        let live = match act {
            Generate => made.to_owned(),
            CutOver => self.staged.clone().expect("was prepared"),
            Prepare | Discard => self.live.clone(),
            Expire => unreachable!("a Seller keeps a live key here"),
        };
        let staged = (act == Prepare).then(|| made.to_owned());
        Self { live, staged }
    }
}

/// What was acknowledged of the keys.
struct Keys {
    /// Every key that was handed out, and its id.
    told: Vec<(String, String)>,
    /// The ids of keys that were found after a kill, and that nobody was told of.
    found: Vec<String>,
    standing: Standing,
    /// What was asked for and not answered yet.
    under_way: Option<KeyAct>,
    /// Acts that gave the Seller another live key.
    replacements: usize,
}

impl Keys {
    fn acknowledge(&mut self, act: KeyAct, done: &Value) {
        let text = |name: &str| done[name].as_str().unwrap_or_default().to_owned();
        let id = text("key_id");
        self.standing = self.standing.after(act, &id);
        self.replacements += usize::from(act.replaces());
        self.under_way = None;
        if act.makes() {
            self.told.push((text("key"), id));
        }
    }

    fn secret_of(&self, id: &str) -> String {
        let told = self.told.iter().find(|(_, told)| told == id);
        told.expect("was handed out").0.clone()
    }
}

impl Acknowledged {
    fn new(first: &Value) -> Self {
        let mut keys = Keys {
            told: Vec::new(),
            found: Vec::new(),
            standing: Standing {
                live: String::new(),
                staged: None,
            },
            under_way: None,
            replacements: 0,
        };
        keys.acknowledge(Generate, first);
        Self {
            writes: Mutex::default(),
            keys: Mutex::new(keys),
            next: AtomicU64::new(0),
        }
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.keys.lock().expect("not poisoned")
    }

    fn has(&self, replacements: usize, writes: usize) -> bool {
        self.keys().replacements > replacements
            && self.writes.lock().expect("not poisoned").len() >= writes
    }
}

async fn write_until(over: Arc<AtomicBool>, client: Client, done: Arc<Acknowledged>) {
    while !over.load(Ordering::Acquire) {
        let key = {
            let keys = done.keys();
            keys.secret_of(&keys.standing.live)
        };
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

async fn act_until(over: Arc<AtomicBool>, place: Arc<Place>, done: Arc<Acknowledged>) {
    while !over.load(Ordering::Acquire) {
        let act = {
            let mut keys = done.keys();
            let possible: &[KeyAct] = match keys.standing.staged {
                None => &[Generate, Prepare],
                Some(_) => &[CutOver, CutOver, Generate, Discard, Prepare],
            };
            let act = possible[rand::random_range(..possible.len())];
            keys.under_way = Some(act);
            act
        };
        match act.try_by_socket(&place).await {
            Ok(Some(Ok(answer))) => done.keys().acknowledge(act, &answer),
            Ok(Some(Err(refused))) => panic!("{act:?} was refused: {}", refused.message),
            // Killed before it answered, or gone.
            Ok(None) | Err(_) => return,
        }
    }
}

/// What must hold after each restart: the keys are as before the act that was under way, or as after it, and whatever else
/// was acknowledged is there.
async fn inspect(place: &Place, api: std::net::SocketAddr, done: &Acknowledged) -> Standing {
    let mut database = place.look_inside().await;
    let ids = async |database: &mut _, sql| -> Vec<String> {
        let ids = sqlx::query_scalar::<_, String>(sql).fetch_all(database);
        ids.await.expect("reads")
    };
    let live = ids(
        &mut database,
        "SELECT id FROM api_keys WHERE state = 'live'",
    )
    .await;
    let staged = ids(&mut database, "SELECT id FROM staged_keys").await;
    let [live] = <[String; 1]>::try_from(live).expect("one live key, as there was one before");
    let staged = staged.into_iter().next();

    let wrongly_shown: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM (SELECT id, shown_us FROM api_keys UNION ALL SELECT id, shown_us FROM staged_keys) k \
         JOIN audit_log a ON a.key_id = k.id AND a.act IN ('key.generated', 'key.prepared') \
         WHERE a.receipt IS NULL AND k.shown_us IS NOT NULL",
    )
    .fetch_one(&mut database)
    .await
    .expect("reads");
    assert_eq!(
        wrongly_shown, 0,
        "a key whose act was never completed passes for one that was shown"
    );

    let (told, standing) = {
        let mut keys = done.keys();
        let known =
            |id: &String| keys.told.iter().any(|(_, told)| told == id) || keys.found.contains(id);
        let seen = |id: &String| {
            if known(id) {
                id.clone()
            } else {
                UNSEEN.to_owned()
            }
        };
        let found = Standing {
            live: seen(&live),
            staged: staged.as_ref().map(seen),
        };
        let acknowledged = keys.standing.clone();
        let act = keys.under_way.take();
        let possible = act.map(|act| acknowledged.after(act, UNSEEN));
        assert!(
            found == acknowledged || Some(&found) == possible.as_ref(),
            "neither before {act:?} nor after it: {found:?}, and was {acknowledged:?}"
        );
        keys.found.extend([live].into_iter().chain(staged));
        keys.standing = found.clone();
        (keys.told.clone(), found)
    };
    for (key, id) in told.iter().rev().take(8) {
        let answer = Client::new(api, Some(key)).get("/api/v1/key").await;
        let expected = match answer.status.as_u16() {
            200 => *id == standing.live,
            401 if answer.reason() == "staged" => Some(id) == standing.staged.as_ref(),
            401 if answer.reason() == "revoked" => {
                *id != standing.live && Some(id) != standing.staged.as_ref()
            }
            _ => false,
        };
        assert!(
            expected,
            "key {id} is answered {}, and {standing:?}",
            answer.text
        );
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
    standing
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_at_random_moments_it_keeps_what_it_acknowledged() {
    let (kills_wanted, rotations, writes) = if full() {
        (60, 100, 2_000)
    } else {
        (8, 15, 150)
    };
    let place = Arc::new(Place::on_file());
    place.create_seller("lone-star");
    let done = Arc::new(Acknowledged::new(&Generate.by_program(&place)));
    let again = |act: KeyAct| done.keys().acknowledge(act, &act.by_program(&place));

    let (mut kills, mut unseen, mut unseen_staged) = (0, 0, 0);
    while kills < kills_wanted || !done.has(rotations, writes) {
        let served = place.serve(&[]);
        let standing = inspect(&place, served.api, &done).await;
        if standing.staged.as_deref() == Some(UNSEEN) {
            unseen_staged += 1;
            // Nobody has that key. Unless the answer was on its way already, the server knows it, and does not cut over.
            let shown = place.json(&["key", "show", "--seller", "lone-star"], "");
            if shown["staged"]["shown"] == false {
                let out = place.run(&["key", "cut-over", "--seller", "lone-star"], "");
                assert_eq!(out.status.code(), Some(1));
            }
            again(Discard);
        }
        if standing.live == UNSEEN {
            unseen += 1;
            // Nor that one; the page tells the Seller so, who makes another.
            let shown = place.json(&["key", "show", "--seller", "lone-star"], "");
            assert!(shown["key"]["id"].is_string());
            again(Generate);
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
        busy.spawn(act_until(
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
        "{kills} kills, {} acknowledged replacements, {} acknowledged writes, {unseen} times a live key that nobody had \
         seen and {unseen_staged} times a staged one",
        done.keys().replacements,
        done.writes.lock().expect("not poisoned").len()
    );
}

/// A crash loses at most five seconds of counts.
#[tokio::test]
async fn counts_are_in_the_database_within_five_seconds() {
    let place = Place::on_file();
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
    let place = Place::on_file();
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
