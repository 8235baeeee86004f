//! A change's waiting: for every node to say that it obeys, or for the time to pass in which it could not.
//!
//! Never: an answer before either; an error for a change that is committed: time alone makes it true.

use std::time::Duration;

use super::{NodeOutcome, NodeReceipt, Revocation, WAIT};
use crate::{
    clock::{BootTime, Clock},
    db::{Db, NodeRow},
    ids::SellerId,
};

/// How soon the nodes are asked for the first time whether they obey; then half as often each time.
const FIRST_LOOK_AFTER: Duration = Duration::from_millis(1);
/// And how often at least.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// A change that is committed and waits for nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Whose key was changed.
    pub seller: SellerId,
    /// The epoch that is waited for.
    pub epoch: i64,
    /// For whom: the nodes' names. Empty while nobody knows.
    pub nodes: Vec<String>,
    /// Until when at most.
    pub until: BootTime,
}

impl Waiting {
    /// For whom it waits, and for how long at most: "Waiting for the node b, which does not answer, 2.2 s at most."
    pub fn in_words(&self, now: BootTime) -> String {
        // Rounded up: what is said is a limit.
        let left = self.until.since(now).as_millis().div_ceil(100) as f64 / 10.0;
        let whom = match self.nodes.as_slice() {
            [] => "the database to name the nodes".to_owned(),
            [node] => format!("the node {node}, which does not answer"),
            nodes => format!("the nodes {}, which do not answer", nodes.join(", ")),
        };
        format!("Waiting for {whom}, {left:.1} s at most.")
    }
}

/// Takes a change out of those that wait, whatever ends its waiting.
struct Told<'a> {
    revocation: &'a Revocation,
    seller: SellerId,
    epoch: i64,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        let (seller, epoch) = (self.seller, self.epoch);
        let others = |own: &Waiting| own.seller != seller || own.epoch != epoch;
        self.revocation
            .waiting
            .send_modify(|waiting| waiting.retain(others));
    }
}

impl Told<'_> {
    fn tell(&self, nodes: Vec<String>, until: BootTime) {
        let now = Waiting {
            seller: self.seller,
            epoch: self.epoch,
            nodes,
            until,
        };
        self.revocation.waiting.send_modify(|waiting| {
            waiting.retain(|own| own.seller != now.seller || own.epoch != now.epoch);
            waiting.push(now);
        });
    }
}

impl Revocation {
    /// The changes of this process that wait at present, for whoever tells people; changes with them.
    pub fn waiting(&self) -> tokio::sync::watch::Receiver<Vec<Waiting>> {
        self.waiting.subscribe()
    }

    /// Waits until every node obeys this epoch; nothing if they could not be listed. `committed` was noted after the commit.
    pub(super) async fn wait(
        &self,
        db: &Db,
        clock: &Clock,
        seller: SellerId,
        epoch: i64,
        committed: BootTime,
    ) -> Option<Vec<NodeReceipt>> {
        let until = committed.after(WAIT);
        let told = Told {
            revocation: self,
            seller,
            epoch,
        };
        told.tell(Vec::new(), until);
        // This node needs no hint by way of the database.
        self.stale.notify_one();
        if let Some(Err(error)) = within(until, clock, db.hint_at_change()).await {
            tracing::debug!(%error, "the nodes cannot be told of a change; they will see it in their next cycle");
        }
        let listed = self.list(db, clock, until).await?;
        // Not before the listing itself.
        let listed_at = clock.boot();
        let mut behind = listed.clone();
        behind.retain(|row| row.applied < epoch);
        let mut gone = Vec::new();
        let mut pause = FIRST_LOOK_AFTER;
        while !behind.is_empty() && clock.boot() < until {
            told.tell(behind.iter().map(|row| row.name.clone()).collect(), until);
            tokio::time::sleep(pause.min(until.since(clock.boot()))).await;
            pause = (pause * 2).min(LOOK_EVERY);
            // Who cannot be asked is waited for.
            if let Some(Ok(rows)) = within(until, clock, db.nodes()).await {
                behind.retain(|own| match rows.iter().find(|row| row.id == own.id) {
                    Some(row) => row.applied < epoch,
                    // It has ended, or was swept: either way it trusts nothing from before.
                    None => {
                        gone.push(own.id);
                        false
                    }
                });
            }
        }
        if !behind.is_empty() {
            self.sweep(&behind, listed_at, db, clock).await;
        }
        let receipt = |row: NodeRow| NodeReceipt {
            outcome: match behind.contains(&row) || gone.contains(&row.id) {
                true => NodeOutcome::TrustRanOut,
                false => NodeOutcome::Confirmed,
            },
            node: row.id,
            name: row.name,
        };
        Some(listed.into_iter().map(receipt).collect())
    }

    /// Every node, by a reading that began after the commit; nothing if the database does not answer for as long as trust
    /// that is older than the change could last. Then nobody can be named, and the rule holds all the same.
    async fn list(&self, db: &Db, clock: &Clock, until: BootTime) -> Option<Vec<NodeRow>> {
        loop {
            match within(until, clock, db.nodes()).await? {
                Ok(rows) => return Some(rows),
                Err(error) => {
                    tracing::warn!(%error, "the nodes cannot be listed; a change waits");
                    let left = until.since(clock.boot());
                    tokio::time::sleep(LOOK_EVERY.min(left)).await;
                }
            }
        }
    }

    /// Removes those who said nothing for so long, so that the next change does not wait for them. Each only if it has not
    /// moved since it was listed.
    async fn sweep(&self, behind: &[NodeRow], listed_at: BootTime, db: &Db, clock: &Clock) {
        let due = listed_at.after(WAIT);
        tokio::time::sleep(due.since(clock.boot())).await;
        for row in behind {
            let swept = tokio::time::timeout(LOOK_EVERY, db.sweep_node(row.id, row.cycles)).await;
            if let Ok(Ok(true)) = swept {
                tracing::warn!(node = %row.id, name = row.name, "a node said nothing to a change and is swept");
            }
        }
    }
}

/// Does the work, but for no longer than until then.
async fn within<T>(until: BootTime, clock: &Clock, work: impl Future<Output = T>) -> Option<T> {
    let left = until.since(clock.boot());
    tokio::time::timeout(left, work).await.ok()
}
