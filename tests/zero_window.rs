//! The promise, checked on a recorded history: clients hammer a server with old, new and staged keys while keys are
//! generated, prepared, cut over and discarded and others write, and afterwards every call is held against the rule.
//!
//! Never: a rule judged while the history is still being made, or by another clock than the one host's.

pub mod judge;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use reqwest::Method;
use serde_json::json;
use sqlx::AnyConnection;

use self::judge::{Call, Landed, Life, Span, judge};
use crate::support::{
    binary::{Place, Served},
    client::Client,
    fixtures::{VIN, record, vin},
    full,
    github::{GitHub, alert},
    key_act::KeyAct::{self, CutOver, Discard, Expire, Generate, Prepare},
};

/// Writes that are awaited after each act, so that the clients get some calls in before the next one.
const WRITES_AFTER_EACH_ACT: u64 = 5;

/// The order of acts, over and over: keys replaced in one step and in two, a next key discarded, overtaken by a generated
/// one, and by another that is prepared.
const PLAN: [KeyAct; 12] = [
    Generate, Prepare, CutOver, Generate, Prepare, Discard, Generate, Prepare, Generate, Prepare,
    Prepare, CutOver,
];

/// The Seller's keys as the clients are told of them.
struct Keys {
    /// Every key so far.
    made: Vec<String>,
    /// Which of them is live, when no act is under way.
    live: usize,
}

/// What the clients share.
struct Stage {
    keys: RwLock<Keys>,
    calls: Mutex<Vec<Call>>,
    over: AtomicBool,
    next_vin: AtomicU64,
}

impl Stage {
    fn new(first: String) -> Self {
        Self {
            keys: RwLock::new(Keys {
                made: vec![first],
                live: 0,
            }),
            calls: Mutex::default(),
            over: AtomicBool::new(false),
            next_vin: AtomicU64::new(1),
        }
    }

    /// Awaits some writes. The clients' calls are awaited by their number, not by a time.
    async fn some_writes(&self) {
        let before = self.next_vin.load(Ordering::Relaxed);
        while self.next_vin.load(Ordering::Relaxed) < before + WRITES_AFTER_EACH_ACT {
            tokio::task::yield_now().await;
        }
    }

    /// Ends the clients.
    async fn close(&self, mut clients: tokio::task::JoinSet<()>) {
        self.over.store(true, Ordering::Release);
        while let Some(client) = clients.join_next().await {
            client.expect("no client failed");
        }
    }

    /// The live key half of the time, else the newest, which is staged or was a moment ago, or one of longer ago.
    fn pick(&self, turn: usize) -> (usize, String) {
        let keys = self.keys.read().expect("not poisoned");
        let back = |n| keys.live.saturating_sub(n);
        let newest = keys.made.len() - 1;
        let key = match turn % 8 {
            1 if newest != keys.live => newest,
            1 | 3 => back(1),
            5 => back(5),
            7 => back(2),
            _ => keys.live,
        };
        (key, keys.made[key].clone())
    }
}

/// One call, as it is recorded.
async fn call(client: &Client, key: usize, write: bool, request: reqwest::RequestBuilder) -> Call {
    let began = Instant::now();
    let answer = client.send(request).await;
    Call {
        key,
        began,
        ended: Instant::now(),
        status: answer.status.as_u16(),
        staged: answer.status == 401 && answer.reason() == "staged",
        write,
    }
}

async fn hammer(stage: Arc<Stage>, client: Client, number: usize, writes: bool) {
    let mut own = Vec::new();
    let mut turn = number;
    while !stage.over.load(Ordering::Acquire) {
        turn += 1;
        let (key, secret) = stage.pick(turn);
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
        own.push(call(&client, key, write, request).await);
    }
    stage.calls.lock().expect("not poisoned").extend(own);
}

/// Rows that a key's writes have left in the database, read past the server.
async fn rows_of(database: &mut AnyConnection, key: usize) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM listings WHERE fields LIKE $1")
        .bind(format!("%\"source_provider_id\":\"key-{key}\"%"))
        .fetch_one(database)
        .await
        .expect("the database can be read beside the server")
}

/// What became of the keys, written down as it happens.
struct History {
    lives: Vec<Life>,
    landed: Vec<Landed>,
    live: usize,
    staged: Option<usize>,
}

impl History {
    /// Begins with one live key.
    fn new(generated: Span) -> Self {
        let life = Life {
            live: Some(generated),
            ..Life::default()
        };
        Self {
            lives: vec![life],
            landed: vec![Landed::default()],
            live: 0,
            staged: None,
        }
    }

    /// What is wrong with the calls, when all is over, and what became of the keys.
    async fn verdict(
        self,
        calls: &[Call],
        database: &mut AnyConnection,
    ) -> (Vec<Life>, Vec<String>) {
        let Self {
            lives, mut landed, ..
        } = self;
        for (key, landed) in landed.iter_mut().enumerate() {
            landed.at_end = rows_of(database, key).await;
            if lives[key].dead.is_none() {
                landed.at_return = landed.at_end;
            }
        }
        let broken = judge(calls, &lives, &landed);
        (lives, broken)
    }

    /// The keys that an act kills.
    fn dying(&self, act: KeyAct) -> impl Iterator<Item = usize> + use<> {
        // One that died without another in its place dies once.
        let is_alive = self.lives[self.live].dead.is_none();
        let live = (is_alive && (act.replaces() || act == Expire)).then_some(self.live);
        let staged = self.staged.filter(|_| act != CutOver);
        live.into_iter().chain(staged)
    }

    /// Writes down an act that has returned.
    fn add(&mut self, act: KeyAct, span: Span) {
        for key in self.dying(act) {
            self.lives[key].dead = Some(span);
        }
        let staged = self.staged.take();
        if act.makes() {
            self.lives.push(Life::default());
            self.landed.push(Landed::default());
        }
        let newest = self.lives.len() - 1;
        match act {
            Generate => self.live = newest,
            CutOver => self.live = staged.expect("was prepared"),
            Prepare => self.staged = Some(newest),
            Discard | Expire => {}
        }
        if act.replaces() {
            self.lives[self.live].live = Some(span);
        }
        if act == Prepare {
            self.lives[newest].prepared = Some(span);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_dead_or_staged_key_is_accepted_and_no_write_of_one_lands_through_200_replacements() {
    let replacements_wanted = if full() { 2_000 } else { 200 };
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    place.create_seller("bystander");
    let invoked = Instant::now();
    let first = place.generate("lone-star");
    let mut history = History::new(Span {
        invoked,
        returned: Instant::now(),
    });
    let bystander = Client::new(served.api, Some(&place.generate("bystander")));
    let client = Client::new(served.api, Some(&first));
    assert_eq!(
        client.post("/api/v1/inventory", &record(VIN)).await.status,
        200
    );

    let stage = Arc::new(Stage::new(first));
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
    let mut replacements = 0;
    for (number, act) in PLAN.into_iter().cycle().enumerate() {
        if replacements == replacements_wanted {
            break;
        }
        replacements += usize::from(act.replaces());
        if let Some(staged) = history.staged {
            history.landed[staged].while_staged = rows_of(&mut database, staged).await;
        }
        let dying = history.dying(act);
        let invoked = Instant::now();
        let done = if number % 25 == 0 {
            tokio::task::block_in_place(|| act.by_program(&place))
        } else {
            act.quickly(&place).await
        };
        let returned = Instant::now();
        for key in dying {
            history.landed[key].at_return = rows_of(&mut database, key).await;
        }
        history.add(act, Span { invoked, returned });
        {
            let mut keys = stage.keys.write().expect("not poisoned");
            keys.made.extend(done["key"].as_str().map(str::to_owned));
            keys.live = history.live;
            assert_eq!(keys.made.len(), history.lives.len());
        }
        stage.some_writes().await;
    }
    stage.close(clients).await;

    // Dead is dead for ever: each key once more, after all is over.
    let mut calls = std::mem::take(&mut *stage.calls.lock().expect("not poisoned"));
    let keys = stage.keys.read().expect("not poisoned").made.clone();
    for (key, secret) in keys.iter().enumerate() {
        let client = client.with_key(secret);
        let request = client.request(Method::GET, "/api/v1/key");
        calls.push(call(&client, key, false, request).await);
    }
    let (lives, broken) = history.verdict(&calls, &mut database).await;
    assert!(
        broken.is_empty(),
        "{} of {} calls, such as:\n{}",
        broken.len(),
        calls.len(),
        broken[..broken.len().min(5)].join("\n")
    );
    assert_worth_judging(&calls, &lives);
    assert_eq!(served.terminate().0, Some(0));
}

/// A history is worth judging only if it holds what could have gone wrong.
fn assert_worth_judging(calls: &[Call], lives: &[Life]) {
    let count = |of: fn(&&Call) -> bool| calls.iter().filter(of).count();
    let reads = count(|c| c.accepted() && !c.write);
    let writes = count(|c| c.accepted() && c.write);
    let refusals = count(|c| c.status == 401);
    let refused_writes = count(|c| c.status == 401 && c.write);
    let staged = count(|c| c.staged);
    let staged_writes = count(|c| c.staged && c.write);
    // Keys with which a call was under way while an act made them live, or killed them.
    let across = |act: fn(&Life) -> Option<Span>| {
        let across = |c: &&Call| {
            act(&lives[c.key]).is_some_and(|act| c.began < act.returned && c.ended > act.invoked)
        };
        let keys: HashSet<_> = calls.iter().filter(across).map(|c| c.key).collect();
        keys.len()
    };
    let dying = across(|life| life.live.and(life.dead));
    let cut_over = across(|life| life.prepared.and(life.live));
    let discarded = across(|life| life.dead.filter(|_| life.live.is_none()));
    let used: HashSet<_> = calls
        .iter()
        .filter(|c| c.accepted())
        .map(|c| c.key)
        .collect();
    let told = format!(
        "{} keys, {} of them used, {} calls: {reads} reads, {writes} writes, {refusals} refusals of which \
         {refused_writes} of writes; {staged} with a staged key of which {staged_writes} writes; calls under way while \
         {dying} keys were replaced, {cut_over} cut over, {discarded} discarded",
        lives.len(),
        used.len(),
        calls.len(),
    );
    println!("{told}");
    let once_live = lives.iter().filter(|life| life.live.is_some()).count();
    let of_two_steps = |live: bool| {
        let of_them = |life: &&Life| life.prepared.is_some() && life.live.is_some() == live;
        lives.iter().filter(of_them).count()
    };
    assert!(
        reads > 1000 && writes > 400 && refusals > 1000 && refused_writes > 50,
        "too few calls: {told}"
    );
    assert!(
        staged > 200 && staged_writes > 50,
        "too few calls with a staged key: {told}"
    );
    assert!(
        dying > once_live / 2,
        "too few calls while keys were replaced: {told}"
    );
    assert!(
        cut_over > of_two_steps(true) / 3 && discarded > of_two_steps(false) / 3,
        "too few calls with a staged key while it was cut over or discarded: {told}"
    );
    assert!(
        used.len() > once_live * 9 / 10,
        "nearly every key was used: {told}"
    );
}

/// A key that GitHub found: from the moment that GitHub is answered it is dead on every node, the next key with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_key_that_github_found_is_accepted_once_github_is_answered() {
    let rounds = if full() { 200 } else { 20 };
    let (github, place) = (GitHub::start(), Place::new());
    let keys_url = github.url();
    // On a server that they share there are two nodes; a file has one.
    let count = if place.is_on_postgres() { 2 } else { 1 };
    let nodes: Vec<Served> = (0..count)
        .map(|_| place.serve(&["--github-keys-url", &keys_url]))
        .collect();
    place.create_seller("lone-star");
    let make = async |act: KeyAct| {
        let invoked = Instant::now();
        let made = act.quickly(&place).await;
        let key = made["key"].as_str().expect("a key").to_owned();
        let returned = Instant::now();
        (key, Span { invoked, returned })
    };
    let (first, generated) = make(Generate).await;
    let mut history = History::new(generated);
    let client = Client::new(nodes[0].api, Some(&first));
    assert_eq!(
        client.post("/api/v1/inventory", &record(VIN)).await.status,
        200
    );
    let stage = Arc::new(Stage::new(first));
    let mut clients = tokio::task::JoinSet::new();
    for (number, node) in (0..6).zip(nodes.iter().cycle()) {
        let client = Client::new(node.api, None);
        clients.spawn(hammer(Arc::clone(&stage), client, number, number >= 3));
    }
    let mut database = place.look_inside().await;
    for (round, node) in (0..rounds).zip(nodes.iter().cycle()) {
        // Every other time there is a next key, which dies with the live one.
        if round % 2 == 1 {
            let (key, span) = make(Prepare).await;
            history.add(Prepare, span);
            stage.keys.write().expect("not poisoned").made.push(key);
            stage.some_writes().await;
        }
        if let Some(staged) = history.staged {
            history.landed[staged].while_staged = rows_of(&mut database, staged).await;
        }
        let dying: Vec<usize> = history.dying(Expire).collect();
        let found = stage.keys.read().expect("not poisoned").made[history.live].clone();
        let body = json!([alert(&found, "https://github.com/octocat/hello")]).to_string();
        let invoked = Instant::now();
        let told = Client::new(node.api, None);
        let answer = told.send(github.signer.request(&told, &body)).await;
        let returned = Instant::now();
        assert_eq!(answer.status, 200, "{}", answer.text);
        for key in dying {
            history.landed[key].at_return = rows_of(&mut database, key).await;
        }
        history.add(Expire, Span { invoked, returned });
        stage.some_writes().await;
        let (key, span) = make(Generate).await;
        history.add(Generate, span);
        {
            let mut keys = stage.keys.write().expect("not poisoned");
            keys.made.push(key);
            keys.live = history.live;
        }
        stage.some_writes().await;
    }
    stage.close(clients).await;
    let calls = std::mem::take(&mut *stage.calls.lock().expect("not poisoned"));
    let (_, broken) = history.verdict(&calls, &mut database).await;
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let used: HashSet<_> = calls
        .iter()
        .filter(|call| call.accepted() && call.write)
        .map(|call| call.key)
        .collect();
    let refused = calls.iter().filter(|call| call.status == 401).count();
    println!(
        "{} calls, {refused} refused, {} keys wrote",
        calls.len(),
        used.len()
    );
    assert!(
        used.len() > rounds * 9 / 10 && refused > rounds * 5,
        "too few calls: {} keys wrote, {refused} calls refused",
        used.len()
    );
}

/// Two who replace a key at once: one wins, the other is told so, and there is one live key.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_who_replace_a_key_at_once_one_is_told_that_the_other_was_faster() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let (mut winners, mut losers) = (Vec::new(), 0);
    for _ in 0..50 {
        let ask = || Generate.try_quickly(&place);
        let asks = tokio::join!(ask(), ask(), ask(), ask());
        let mut newest = Vec::new();
        for answer in <[_; 4]>::from(asks) {
            match answer {
                Ok(made) => newest.push((
                    made["receipt"]["epoch"].as_i64().expect("an epoch"),
                    made["key"].as_str().expect("a key").to_owned(),
                )),
                Err(refused) => {
                    assert!(
                        refused.message.contains("changed by somebody else"),
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
    let mut keys = Vec::new();
    for _ in 0..104 {
        let made = Generate.quickly(&place).await;
        keys.push(made["key"].as_str().expect("a key").to_owned());
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
