//! The promise, checked on a recorded history: clients hammer a server with old and new keys while keys are replaced and
//! others write, and afterwards every call is held against the rule.
//!
//! Never: a rule judged while the history is still being made, or by another clock than the one host's.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use reqwest::Method;
use serde_json::json;
use sqlx::SqliteConnection;
use truckradar::{control, operator::Command};

use crate::support::{
    binary::Place,
    client::Client,
    fixtures::{VIN, record, vin},
    full,
};

/// One call of a client.
#[derive(Clone, Debug)]
struct Call {
    /// Which of the Seller's keys, counted from 0.
    key: usize,
    began: Instant,
    ended: Instant,
    status: u16,
    write: bool,
}

/// One replacement: after it the key of this number is the Seller's.
#[derive(Clone, Copy, Debug)]
struct Rotation {
    key: usize,
    invoked: Instant,
    returned: Instant,
}

/// How many rows each key had written when its replacement returned, and when all was over.
#[derive(Clone, Copy, Debug)]
struct Landed {
    at_return: i64,
    at_end: i64,
}

/// Everything that breaks the rule, in words.
fn judge(calls: &[Call], rotations: &[Rotation], landed: &HashMap<usize, Landed>) -> Vec<String> {
    let by_key: HashMap<usize, Rotation> = rotations.iter().map(|r| (r.key, *r)).collect();
    let mut broken = Vec::new();
    for call in calls {
        let success = (200..300).contains(&call.status);
        if let Some(end) = by_key.get(&(call.key + 1))
            && call.began > end.returned
            && call.status != 401
        {
            broken.push(format!(
                "a dead key was answered {}: {call:?}, dead since {:?}",
                call.status, end.returned
            ));
        }
        let alive_since = by_key.get(&call.key).map(|start| start.returned);
        let alive_until = by_key.get(&(call.key + 1)).map(|end| end.invoked);
        let whole_call_alive = alive_since.is_none_or(|since| call.began > since)
            && alive_until.is_none_or(|until| call.ended < until);
        if whole_call_alive && !success {
            broken.push(format!("a live key was answered {}: {call:?}", call.status));
        }
        let born = by_key.get(&call.key).map(|start| start.invoked);
        if success && born.is_some_and(|born| call.ended < born) {
            broken.push(format!("a key was good before it was asked for: {call:?}"));
        }
        if !success && call.status != 401 {
            broken.push(format!("neither success nor 401: {call:?}"));
        }
    }
    for (key, landed) in landed {
        if landed.at_return != landed.at_end {
            broken.push(format!(
                "writes of key {key} landed after it was dead: {landed:?}"
            ));
        }
    }
    broken
}

#[test]
fn the_judge_finds_what_breaks_the_rule() {
    let start = Instant::now();
    let at = |ms: u64| start + std::time::Duration::from_millis(ms);
    let rotations = [Rotation {
        key: 1,
        invoked: at(100),
        returned: at(110),
    }];
    let call = |key, began, ended, status| Call {
        key,
        began: at(began),
        ended: at(ended),
        status,
        write: false,
    };
    let count = |call: Call| judge(&[call], &rotations, &HashMap::new()).len();
    for fine in [
        call(0, 50, 60, 200),
        call(0, 109, 115, 200), // began before the return: may be either
        call(0, 109, 115, 401),
        call(0, 111, 112, 401),
        call(1, 111, 112, 200),
        call(1, 105, 112, 401), // began before the return
    ] {
        assert_eq!(count(fine.clone()), 0, "{fine:?}");
    }
    for broken in [
        call(0, 111, 112, 200),
        call(0, 111, 112, 304),
        call(0, 111, 112, 503),
        call(0, 50, 60, 401),
        call(1, 111, 112, 401),
        call(1, 50, 60, 200),
        call(1, 111, 112, 500),
    ] {
        assert!(count(broken.clone()) > 0, "{broken:?}");
    }
    let landed = HashMap::from([(
        0,
        Landed {
            at_return: 3,
            at_end: 4,
        },
    )]);
    assert_eq!(judge(&[], &rotations, &landed).len(), 1);
}

/// What the clients share.
struct Stage {
    /// Every key so far; the last one is the newest that was handed out.
    keys: RwLock<Vec<String>>,
    calls: Mutex<Vec<Call>>,
    over: AtomicBool,
    next_vin: AtomicU64,
}

impl Stage {
    fn pick(&self, back: usize) -> (usize, String) {
        let keys = self.keys.read().expect("not poisoned");
        let at = keys.len().saturating_sub(1 + back);
        (at, keys[at].clone())
    }
}

async fn hammer(stage: Arc<Stage>, client: Client, number: usize, writes: bool) {
    let mut own = Vec::new();
    let mut turn = number;
    while !stage.over.load(Ordering::Acquire) {
        turn += 1;
        // The newest key half of the time, else the one before or one of longer ago.
        let (key, secret) = stage.pick([0, 1, 0, 1, 0, 5, 0, 2][turn % 8]);
        let client = client.with_key(&secret);
        let write = writes && turn % 8 < 6;
        let request = if write {
            let mut record = record(&vin(stage.next_vin.fetch_add(1, Ordering::Relaxed)));
            record["source_provider_id"] = json!(format!("key-{key}"));
            client
                .request(Method::POST, "/api/v1/inventory")
                .json(&record)
        } else if turn % 16 == 3 {
            client.request(Method::GET, "/api/v1/key")
        } else {
            client.request(Method::GET, &format!("/api/v1/inventory/{VIN}"))
        };
        let began = Instant::now();
        let answer = client.send(request).await;
        own.push(Call {
            key,
            began,
            ended: Instant::now(),
            status: answer.status.as_u16(),
            write,
        });
    }
    stage.calls.lock().expect("not poisoned").extend(own);
}

/// Rows that a key's writes have left in the database, read past the server.
async fn rows_of(database: &mut SqliteConnection, key: usize) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM listings WHERE fields ->> 'source_provider_id' = $1")
        .bind(format!("key-{key}"))
        .fetch_one(database)
        .await
        .expect("the database can be read beside the server")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_dead_key_is_accepted_and_no_write_of_one_lands_through_200_rotations() {
    let rotations_wanted = if full() { 2_000 } else { 200 };
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    place.create_seller("bystander");
    let first = place.generate("lone-star");
    let bystander = Client::new(served.api, Some(&place.generate("bystander")));
    let client = Client::new(served.api, Some(&first));
    assert_eq!(
        client.post("/api/v1/inventory", &record(VIN)).await.status,
        200
    );

    let stage = Arc::new(Stage {
        keys: RwLock::new(vec![first]),
        calls: Mutex::default(),
        over: AtomicBool::new(false),
        next_vin: AtomicU64::new(1),
    });
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..8 {
        clients.spawn(hammer(Arc::clone(&stage), client.clone(), number, false));
    }
    for number in 0..3 {
        clients.spawn(hammer(Arc::clone(&stage), client.clone(), number, true));
    }
    let watching = Arc::clone(&stage);
    clients.spawn(async move {
        while !watching.over.load(Ordering::Acquire) {
            assert_eq!(
                bystander.get("/api/v1/key").await.status,
                200,
                "another Seller's key is never touched"
            );
        }
    });

    let mut database = place.look_inside().await;
    let mut rotations = Vec::with_capacity(rotations_wanted);
    let mut at_return = HashMap::new();
    for number in 1..=rotations_wanted {
        // Some by the program itself, most over its socket, which is quicker; some first kill the key out of band.
        let invoked = Instant::now();
        let key = if number % 25 == 0 {
            let place = &place;
            tokio::task::block_in_place(|| place.generate("lone-star"))
        } else {
            let seller = "lone-star".parse().expect("a slug");
            let command = Command::KeyGenerate { seller };
            let answer = control::ask(&place.database_file(), &command)
                .await
                .expect("can be asked");
            let made = answer.expect("a server answers").expect("is not refused");
            made["key"].as_str().expect("a key").to_owned()
        };
        let returned = Instant::now();
        at_return.insert(number - 1, rows_of(&mut database, number - 1).await);
        rotations.push(Rotation {
            key: number,
            invoked,
            returned,
        });
        stage.keys.write().expect("not poisoned").push(key);
        // Let the clients get some calls in under each key; they are awaited by their number, not by a time.
        let before = stage.next_vin.load(Ordering::Relaxed);
        while stage.next_vin.load(Ordering::Relaxed) < before + 10 {
            tokio::task::yield_now().await;
        }
    }
    stage.over.store(true, Ordering::Release);
    while let Some(client) = clients.join_next().await {
        client.expect("no client failed");
    }

    let mut landed = HashMap::new();
    for (key, at_return) in at_return {
        let at_end = rows_of(&mut database, key).await;
        landed.insert(key, Landed { at_return, at_end });
    }
    let calls = std::mem::take(&mut *stage.calls.lock().expect("not poisoned"));
    let broken = judge(&calls, &rotations, &landed);
    assert!(
        broken.is_empty(),
        "{} of {} calls, such as:\n{}",
        broken.len(),
        calls.len(),
        broken[..broken.len().min(5)].join("\n")
    );

    // The history is worth judging only if it holds what could have gone wrong.
    let successes = calls.iter().filter(|c| c.status == 200 && !c.write).count();
    let writes = calls.iter().filter(|c| c.status == 200 && c.write).count();
    let refusals = calls.iter().filter(|c| c.status == 401).count();
    let refused_writes = calls.iter().filter(|c| c.status == 401 && c.write).count();
    let across = rotations
        .iter()
        .filter(|r| {
            calls
                .iter()
                .any(|c| c.key + 1 == r.key && c.began < r.returned && c.ended > r.invoked)
        })
        .count();
    let used: HashSet<_> = calls
        .iter()
        .filter(|c| c.status == 200)
        .map(|c| c.key)
        .collect();
    println!(
        "{} rotations, {} calls: {successes} reads, {writes} writes, {refusals} refusals of which {refused_writes} of \
         writes; calls under way across {across} rotations",
        rotations.len(),
        calls.len(),
    );
    let enough = successes > 1000 && writes > 400 && refusals > 1000 && refused_writes > 50;
    assert!(
        enough,
        "{successes} reads, {writes} writes, {refusals} refusals, {refused_writes} refused writes"
    );
    assert!(
        across > rotations_wanted / 2,
        "calls were under way while keys changed: {across}"
    );
    assert!(
        used.len() > rotations_wanted * 9 / 10,
        "nearly every key was used: {}",
        used.len()
    );
    assert_eq!(served.terminate().0, Some(0));
}

/// Two who replace a key at once: one wins, the other is told so, and there is one live key.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_who_replace_a_key_at_once_one_is_told_that_the_other_was_faster() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let (mut winners, mut losers) = (Vec::new(), 0);
    for _ in 0..50 {
        let file = place.database_file();
        let asks: Vec<_> = (0..4)
            .map(|_| {
                let file = file.clone();
                tokio::spawn(async move {
                    let command = Command::KeyGenerate {
                        seller: "lone-star".parse().expect("a slug"),
                    };
                    control::ask(&file, &command)
                        .await
                        .expect("can be asked")
                        .expect("a server answers")
                })
            })
            .collect();
        let mut newest = Vec::new();
        for ask in asks {
            match ask.await.expect("no panic") {
                Ok(made) => newest.push((
                    made["receipt"]["epoch"].as_i64().expect("an epoch"),
                    made["key"].as_str().expect("a key").to_owned(),
                )),
                Err(refused) => {
                    assert!(
                        refused.message.contains("changed by operator"),
                        "{}",
                        refused.message
                    );
                    losers += 1;
                }
            }
        }
        newest.sort();
        winners.extend(newest);
        let live = &winners.last().expect("somebody won").1;
        for (_, key) in winners.iter().rev().take(6) {
            let status = Client::new(served.api, Some(key))
                .get("/api/v1/key")
                .await
                .status;
            assert_eq!(status == 200, key == live, "exactly one key is live");
        }
    }
    assert!(losers > 0, "nobody ever lost: the race was not run");
}

/// A key that the operator killed is dead when the command returns, and killing it again is no error.
#[tokio::test]
async fn an_expired_key_is_dead_when_the_command_returns() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    for round in 0..5 {
        let key = place.generate("lone-star");
        let client = Client::new(served.api, Some(&key));
        assert_eq!(client.get("/api/v1/key").await.status, 200);
        let expired = place.json(
            &[
                "key",
                "expire",
                "--seller",
                "lone-star",
                "--reason",
                "seen on a forum",
            ],
            "",
        );
        assert!(expired["expired"]["key_id"].is_string());
        assert_eq!(
            expired["receipt"]["nodes"].as_array().map(Vec::len),
            Some(1)
        );
        let refused = client.get("/api/v1/key").await;
        assert_eq!(
            (refused.status.as_u16(), refused.reason().as_str()),
            (401, "revoked"),
            "round {round}"
        );
        let again = place.json(
            &[
                "key",
                "expire",
                "--seller",
                "lone-star",
                "--reason",
                "once more",
            ],
            "",
        );
        assert_eq!(again["expired"]["key_id"], json!(null));
        assert_eq!(again["receipt"]["epoch"], expired["receipt"]["epoch"]);
        let shown = place.json(&["key", "show", "--seller", "lone-star"], "");
        assert_eq!(shown["key"], json!(null));
        assert_eq!(shown["earlier"][0]["end_reason"], "seen on a forum");
    }
}

/// The last hundred dead keys are known as dead; older ones are not known at all.
#[tokio::test]
async fn a_seller_is_told_of_its_last_hundred_dead_keys() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let command = || Command::KeyGenerate {
        seller: "lone-star".parse().expect("a slug"),
    };
    let mut keys = Vec::new();
    for _ in 0..104 {
        let made = control::ask(&place.database_file(), &command())
            .await
            .expect("can be asked");
        keys.push(
            made.expect("a server answers").expect("not refused")["key"]
                .as_str()
                .expect("a key")
                .to_owned(),
        );
    }
    let reasons = async |api| {
        let mut reasons = Vec::new();
        for key in &keys {
            let answer = Client::new(api, Some(key)).get("/api/v1/key").await;
            reasons.push(if answer.status == 200 {
                "live".to_owned()
            } else {
                answer.reason()
            });
        }
        reasons
    };
    let expected: Vec<String> = (0..104)
        .map(|n| match n {
            0..3 => "unknown",
            103 => "live",
            _ => "revoked",
        })
        .map(str::to_owned)
        .collect();
    assert_eq!(reasons(served.api).await, expected);
    // And after a restart it is the same.
    drop(served);
    assert_eq!(reasons(place.serve(&[]).api).await, expected);
}
