//! What the operator can watch of the rule: how long changes take, and whether trust is renewed.
//!
//! Never: anything that a decision depends on.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus::{Histogram, HistogramOpts};
use tokio::sync::watch;

use crate::{
    clock::{BootTime, Time},
    keys::table::Trust,
};

/// How a cycle ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CycleOutcome {
    /// The table is trusted for a lease more.
    Renewed,
    /// The node had been swept and starts over.
    RowGone,
    /// The database did not answer, or not in time.
    Failed,
}

/// For how long a node that is no longer listed is remembered.
const GONE_KEPT: Duration = Duration::from_secs(15 * 60);
/// And how many at most.
const GONE_MAX: usize = 20;

/// A node that was listed and is no more, as this one saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneNode {
    /// What people call it.
    pub name: String,
    /// When it was found to be gone.
    pub at: Time,
    /// Whether it was seen to say nothing before; otherwise it has ended, or a change of keys took it off.
    pub was_silent: bool,
}

/// See the module.
pub struct Figures {
    /// Seconds from the start of a change of keys until it was obeyed everywhere.
    pub change_seconds: Option<Histogram>,
    renewed: AtomicU64,
    rows_gone: AtomicU64,
    failed: watch::Sender<u64>,
    lapsed_us: AtomicU64,
    answered: AtomicU64,
    unanswered: AtomicU64,
    epoch_seen: AtomicI64,
    nodes: AtomicU64,
    gone: Mutex<VecDeque<GoneNode>>,
}

impl Default for Figures {
    fn default() -> Self {
        let options = HistogramOpts::new(
            "truckradar_key_change_seconds",
            "Time from the start of a change of keys until every node obeyed it",
        );
        let options = options.buckets(vec![
            0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 3.5,
        ]);
        Self {
            change_seconds: Histogram::with_opts(options).ok(),
            renewed: AtomicU64::default(),
            rows_gone: AtomicU64::default(),
            failed: watch::Sender::new(0),
            lapsed_us: AtomicU64::default(),
            answered: AtomicU64::default(),
            unanswered: AtomicU64::default(),
            epoch_seen: AtomicI64::default(),
            nodes: AtomicU64::default(),
            gone: Mutex::default(),
        }
    }
}

impl Figures {
    pub(super) fn changed(&self, elapsed: Duration) {
        if let Some(seconds) = &self.change_seconds {
            seconds.observe(elapsed.as_secs_f64());
        }
    }

    pub(super) fn cycled(&self, outcome: CycleOutcome) {
        match outcome {
            CycleOutcome::Renewed => self.renewed.fetch_add(1, Ordering::Relaxed),
            CycleOutcome::RowGone => self.rows_gone.fetch_add(1, Ordering::Relaxed),
            CycleOutcome::Failed => {
                self.failed.send_modify(|failed| *failed += 1);
                0
            }
        };
    }

    /// Changes with each cycle that fails.
    pub(super) fn failures(&self) -> watch::Receiver<u64> {
        self.failed.subscribe()
    }

    /// Counts the time for which there was no trust until now, when it is renewed.
    pub(super) fn renewed(&self, before: Trust, now: BootTime) {
        let lapsed = lapsed_for(before, now).as_micros() as u64;
        self.lapsed_us.fetch_add(lapsed, Ordering::Relaxed);
    }

    pub(super) fn asked_primary(&self, answered: bool) {
        let count = if answered {
            &self.answered
        } else {
            &self.unanswered
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// The furthest that any node has come, as the database tells it; it may go back.
    pub(super) fn saw_epoch(&self, epoch: i64) {
        self.epoch_seen.store(epoch, Ordering::Relaxed);
    }

    pub(super) fn saw_nodes(&self, nodes: usize) {
        self.nodes.store(nodes as u64, Ordering::Relaxed);
    }

    pub(super) fn saw_gone(&self, node: GoneNode) {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.retain(|other| other.at > node.at.before(GONE_KEPT));
        gone.truncate(GONE_MAX - 1);
        gone.push_front(node);
    }

    /// Nodes that went of late, the last one first.
    pub fn gone(&self, now: Time) -> Vec<GoneNode> {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let of_late = gone.iter().filter(|node| node.at > now.before(GONE_KEPT));
        of_late.cloned().collect()
    }

    /// Cycles so far that ended so.
    pub fn cycles(&self, outcome: CycleOutcome) -> u64 {
        match outcome {
            CycleOutcome::Renewed => self.renewed.load(Ordering::Relaxed),
            CycleOutcome::RowGone => self.rows_gone.load(Ordering::Relaxed),
            CycleOutcome::Failed => *self.failed.borrow(),
        }
    }

    /// For how long there was no trust, all together; `trust` is the present one.
    pub fn lapsed(&self, trust: Trust, now: BootTime) -> Duration {
        Duration::from_micros(self.lapsed_us.load(Ordering::Relaxed)) + lapsed_for(trust, now)
    }

    /// Keys that were judged by the database itself, and those that it gave no answer about.
    pub fn asked(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.answered), of(&self.unanswered))
    }

    /// How many epochs the table is behind the node that was seen to have come furthest, a few seconds ago at most.
    pub fn epochs_behind(&self, epoch: i64) -> i64 {
        (self.epoch_seen.load(Ordering::Relaxed) - epoch).max(0)
    }

    /// Nodes in the database when they were last looked at.
    pub fn nodes(&self) -> u64 {
        self.nodes.load(Ordering::Relaxed)
    }
}

/// For how long a trust has been over. One that never was has no length.
fn lapsed_for(trust: Trust, now: BootTime) -> Duration {
    match trust {
        Trust::Until(end) => now.since(end),
        Trust::WhileOwner | Trust::Lapsed => Duration::ZERO,
    }
}
