//! The promise on several nodes, checked on a recorded history of real processes: three nodes and a PostgreSQL of the test's
//! own. Clients call every node with old keys and new ones while keys are replaced and expired, by the command line and by
//! the nodes' dashboards, and while nodes are frozen, killed, stopped and cut off from the database, and the database itself
//! goes away and comes back.
//!
//! What can be concluded:
//!
//! - A call began when its client noted the time before sending it, and a change returned when whoever made it noted the time
//!   after its answer; both on the one clock of this process. What a call saw took place between its two times.
//! - A change that failed has an unknown outcome ([`changes`]). From when it was asked for until the next change of the same
//!   Seller has returned, the old key may be dead or live.
//! - A call that was answered 503, or not at all, says nothing of the key; whether it should have been answered is judged
//!   apart.
//! - Every write makes a listing of its own, which names the key. The rows of a dying key are counted after the change has
//!   returned, and again when all is over: one more then was committed after the return. Those that came between the return
//!   and the first count are not seen. But an accepted write that began after the return is found as any other call is.
//!
//! Never: a rule judged while the history is still being made, or by another clock than the one host's.

mod changes;
mod clients;
mod faults;
mod link;
mod verdict;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use rand::{SeedableRng, rngs::StdRng};
use tokio::{sync::watch, task::JoinSet};

use self::{
    changes::Changer,
    clients::{Stage, hammer},
    faults::{Fault, Log, Node, Trouble, Troublemaker},
    verdict::{Case, judge_live},
};
use crate::support::{binary::Place, full, own_postgres::OwnPostgres};

const SLUGS: [&str; 2] = ["lone-star", "great-lakes"];
const NODES: usize = 3;
/// Gives the faults of an earlier run again.
const SEED: &str = "TRUCKRADAR_TEST_SEED";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_dead_key_is_accepted_on_any_node_whatever_becomes_of_nodes_and_database() {
    let deaths_wanted = if full() { 300 } else { 10 };
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => rand::random::<u64>(),
    };
    println!("{SEED}={seed}");
    let server = OwnPostgres::start().await;
    let database = OwnPostgres::url_by(server.port());
    let place = Arc::new(Place::on_database(database.clone()));
    let mut nodes = Vec::new();
    for number in 0..NODES {
        nodes.push(Node::start(number, &server, Arc::clone(&place)).await);
    }
    let addresses: Vec<_> = nodes.iter().map(Node::address).collect();

    let next_vin = Arc::new(AtomicU64::new(1));
    let ended = Arc::new(watch::Sender::new(0));
    let (mut stages, mut changers, mut clients) = (Vec::new(), Vec::new(), JoinSet::new());
    for (number, slug) in SLUGS.into_iter().enumerate() {
        place.create_seller(slug);
        let stage = Arc::new(Stage::new(slug, Arc::clone(&next_vin)));
        let changer = Changer {
            stage: Arc::clone(&stage),
            place: Arc::clone(&place),
            database: database.clone(),
            nodes: addresses.clone(),
            ended: Arc::clone(&ended),
        };
        changers.push(tokio::spawn(changer.change_keys(seed ^ number as u64)));
        stage.first_key().await;
        for (node, address) in addresses.iter().enumerate() {
            for writes in [false, true] {
                let stage = Arc::clone(&stage);
                clients.spawn(hammer(stage, node, address.clone(), writes));
            }
        }
        stages.push(stage);
    }

    let mut trouble = Troublemaker {
        nodes,
        server,
        ended: ended.subscribe(),
        changers: SLUGS.len(),
        random: StdRng::seed_from_u64(seed),
        log: Log::default(),
    };
    let began = Instant::now();
    let deaths = || {
        stages
            .iter()
            .map(|stage| stage.deaths.load(Ordering::Relaxed))
    };
    loop {
        for next in faults::round(&mut trouble.random) {
            trouble.make(next, false).await;
        }
        if deaths().sum::<usize>() >= deaths_wanted {
            break;
        }
    }
    if full() {
        for fault in [Fault::Freeze, Fault::SilenceThenLate, Fault::SilenceThenCut] {
            trouble.make(Trouble::OneNode(fault), true).await;
        }
    }
    for stage in &stages {
        stage.enough.store(true, Ordering::Release);
    }
    let mut histories = Vec::new();
    for changer in changers {
        histories.push(changer.await.expect("no changer failed"));
    }
    for stage in &stages {
        stage.over.store(true, Ordering::Release);
    }
    while let Some(client) = clients.join_next().await {
        client.expect("no client failed");
    }

    let mut inside = trouble.server.connect().await.expect("connects");
    let mut broken = Vec::new();
    let mut told = format!("{:?} of trouble", began.elapsed());
    for (stage, history) in stages.iter().zip(&histories) {
        let mut calls = std::mem::take(&mut *stage.calls.lock().expect("not poisoned"));
        // Dead is dead for ever, on every node: each key once more, after all is over.
        calls.extend(stage.each_key_once_more(&addresses).await);
        let case = Case {
            calls: &calls,
            history,
            log: &trouble.log,
            rows: &stage.rows(&mut inside).await,
        };
        broken.extend(judge_live(&case));
        told += &case.told();
    }
    told += &trouble.log.told();
    println!("{told}");
    let Troublemaker {
        nodes, server, log, ..
    } = trouble;
    for node in nodes {
        tokio::task::block_in_place(|| node.end());
    }
    drop(server);
    assert!(broken.is_empty(), "{SEED}={seed}: {}", summary(&broken));
    let kinds: HashSet<_> = log.troubles.iter().collect();
    assert!(kinds.len() >= faults::NODE_FAULTS.len() + 2, "{kinds:?}");
}

/// How often each rule was broken, and an example of each.
fn summary(broken: &[String]) -> String {
    let mut rules: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for complaint in broken {
        let (rule, _) = complaint.split_once(':').unwrap_or((complaint, ""));
        rules.entry(rule).or_default().push(complaint);
    }
    let rules = rules.values();
    let lines = rules.map(|all| format!("\n{} times, such as: {}", all.len(), all[0]));
    lines.collect()
}
