//! Clients of one Seller that call every node with its keys, old and new, and write down what they saw.
//!
//! Never: a call left out of the history, whatever came of it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::sync::watch;

use crate::{
    support::{
        client::Client,
        fixtures::{record, vin},
    },
    zero_window::judge::Call,
};

/// A status of calls that were not answered, since the node died.
pub const NO_ANSWER: u16 = 0;
/// Whoever waits for longer has been forgotten: a node may be frozen for as long as [`super::faults::LONGEST`].
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// One call, and where it went.
#[derive(Clone, Debug)]
pub struct LiveCall {
    pub call: Call,
    pub node: usize,
    /// The number of the VIN that it writes, if it writes.
    pub vin: Option<u64>,
}

/// Where a node is at present; `None` while it has no process.
pub type Address = watch::Receiver<Option<SocketAddr>>;

/// What the clients of one Seller share with whoever changes its keys.
pub struct Stage {
    pub slug: &'static str,
    pub keys: RwLock<Keys>,
    pub calls: Mutex<Vec<LiveCall>>,
    /// Whoever changes keys makes no more of them, but for one that returns well.
    pub enough: AtomicBool,
    /// And then nobody calls any more.
    pub over: AtomicBool,
    /// One for all Sellers: a VIN is one Seller's.
    pub next_vin: Arc<AtomicU64>,
    /// Calls that were begun.
    begun: watch::Sender<u64>,
    /// Keys that clients had and that were killed.
    pub deaths: AtomicUsize,
    /// How many keys were handed out.
    pub handed_out: watch::Sender<usize>,
}

/// The Seller's keys as its clients are told of them.
#[derive(Default)]
pub struct Keys {
    /// Every key that was handed out.
    pub made: Vec<String>,
    /// Which of them is live, as far as anybody was told.
    pub live: Option<usize>,
}

impl Stage {
    pub fn new(slug: &'static str, next_vin: Arc<AtomicU64>) -> Self {
        Self {
            slug,
            keys: RwLock::default(),
            calls: Mutex::default(),
            enough: AtomicBool::new(false),
            over: AtomicBool::new(false),
            next_vin,
            begun: watch::Sender::new(0),
            deaths: AtomicUsize::new(0),
            handed_out: watch::Sender::new(0),
        }
    }

    /// Waits until there is a key to call with.
    pub async fn first_key(&self) {
        let mut handed_out = self.handed_out.subscribe();
        let _ = handed_out.wait_for(|count| *count > 0).await;
    }

    /// The newest key half of the time, else the one before, or one of longer ago.
    fn pick(&self, turn: usize) -> (usize, String) {
        let keys = self.keys.read().expect("not poisoned");
        let newest = keys.made.len() - 1;
        let back = match turn % 8 {
            1 | 3 => 1,
            5 => 5,
            7 => 2,
            _ => 0,
        };
        let key = newest.saturating_sub(back);
        (key, keys.made[key].clone())
    }

    /// Reads by every key at every node.
    pub async fn each_key_once_more(&self, nodes: &[Address]) -> Vec<LiveCall> {
        let made = self.keys.read().expect("not poisoned").made.clone();
        let mut calls = Vec::new();
        for (node, address) in nodes.iter().enumerate() {
            let at = address.borrow().expect("has a process");
            let client = Client::new(at, None);
            for (key, secret) in made.iter().enumerate() {
                let client = client.with_key(secret);
                let request = client.request(Method::GET, "/api/v1/key");
                calls.push(call(&client, node, key, request, None).await);
            }
        }
        calls
    }

    /// Every listing of the Seller, read past the nodes: by its VIN, which key wrote it.
    pub async fn rows(&self, database: &mut PgConnection) -> HashMap<String, usize> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT l.vin, l.fields FROM listings l JOIN sellers s ON s.id = l.seller_id WHERE s.slug = $1",
        )
        .bind(self.slug)
        .fetch_all(database)
        .await
        .expect("reads");
        let key_of = |fields: &str| {
            let fields: Value = serde_json::from_str(fields).expect("JSON");
            let key = fields["source_provider_id"]
                .as_str()?
                .strip_prefix("key-")?;
            key.parse().ok()
        };
        let rows = rows.into_iter();
        rows.map(|(vin, fields)| (vin, key_of(&fields).expect("names its key")))
            .collect()
    }

    /// Waits until so many more calls have begun.
    pub async fn more_calls(&self, count: u64) {
        let mut begun = self.begun.subscribe();
        let until = *begun.borrow_and_update() + count;
        let _ = begun.wait_for(|begun| *begun >= until).await;
    }
}

/// One call, as it is recorded.
async fn call(
    client: &Client,
    node: usize,
    key: usize,
    request: reqwest::RequestBuilder,
    vin: Option<u64>,
) -> LiveCall {
    let began = Instant::now();
    let answer = tokio::time::timeout(FORGOTTEN_AFTER, client.try_send(request)).await;
    let status = match answer {
        Ok(Ok(answer)) => answer.status.as_u16(),
        Ok(Err(_)) | Err(_) => NO_ANSWER,
    };
    LiveCall {
        call: Call {
            key,
            began,
            ended: Instant::now(),
            status,
            staged: false,
            write: vin.is_some(),
        },
        node,
        vin,
    }
}

/// Calls one node, one call after another, until all is over.
pub async fn hammer(stage: Arc<Stage>, node: usize, mut address: Address, writes: bool) {
    let mut own = Vec::new();
    let mut turn = node;
    let mut client: Option<(SocketAddr, Client)> = None;
    while !stage.over.load(Ordering::Acquire) {
        let Ok(at) = address.wait_for(Option::is_some).await.map(|at| *at) else {
            break;
        };
        let at = at.expect("waited for");
        let client = match &client {
            Some((same, client)) if *same == at => client,
            _ => &client.insert((at, Client::new(at, None))).1,
        };
        turn += 1;
        let (key, secret) = stage.pick(turn);
        let client = client.with_key(&secret);
        let vin_number = writes.then(|| stage.next_vin.fetch_add(1, Ordering::Relaxed));
        let request = match vin_number {
            Some(number) => {
                let mut record = record(&vin(number));
                record["source_provider_id"] = json!(format!("key-{key}"));
                client
                    .request(Method::POST, "/api/v1/inventory")
                    .json(&record)
            }
            None => client.request(Method::GET, "/api/v1/key"),
        };
        stage.begun.send_modify(|begun| *begun += 1);
        let call = call(&client, node, key, request, vin_number).await;
        let answered = call.call.status != NO_ANSWER;
        own.push(call);
        if !answered {
            // It is about to be known that the node is gone.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    stage.calls.lock().expect("not poisoned").extend(own);
}
