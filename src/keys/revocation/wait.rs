//! A change's waiting: for every node to say that it obeys, or for the time to pass in which it could not.
//!
//! Never: an answer before either; an error for a change that is committed: time alone makes it true.

use std::{sync::atomic::Ordering, time::Duration};

use super::{NodeOutcome, NodeReceipt, Revocation, WAIT};
use crate::{
    clock::{BootTime, Clock},
    db::{CHANGE_LOCK_TIMEOUT, Db, DbError, NodeRow, ScopedTx},
    ids::SellerId,
    keys::scope::SellerScope,
};

/// How soon the nodes are asked for the first time whether they obey; then half as often each time.
const FIRST_LOOK_AFTER: Duration = Duration::from_millis(1);
/// And how often at least.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// For how much longer than its own waiting a change waits to sweep.
const SWEEP_DELAY_MAX: Duration = Duration::from_millis(75);

/// A change that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// By which it is told from another one of the same key.
    id: u64,
    /// Whose key is changed.
    pub seller: SellerId,
    /// For whom.
    pub whom: Whom,
    /// Until when at most.
    pub until: BootTime,
}

/// For whom a change waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// It is not made yet: for writes that are under way, on the old grounds.
    Writes,
    /// It is committed: for the database to name the nodes.
    Roster,
    /// It is committed: for these nodes, by name.
    Nodes(Vec<String>),
}

#[cfg(test)]
impl Waiting {
    pub(super) fn of(whom: Whom, until: BootTime) -> Self {
        Self {
            id: 0,
            seller: SellerId::new(),
            whom,
            until,
        }
    }
}

impl Waiting {
    /// For whom it waits, and for how long at most: "Waiting for the node b, which does not answer, 2.2 s at most."
    pub fn in_words(&self, now: BootTime) -> String {
        // Rounded up: what is said is a limit.
        let left = self.until.since(now).as_millis().div_ceil(100) as f64 / 10.0;
        let whom = match &self.whom {
            Whom::Writes => "writes that are under way".to_owned(),
            Whom::Roster => "the database to name the nodes".to_owned(),
            Whom::Nodes(nodes) => match nodes.as_slice() {
                [node] => format!("the node {node}, which does not answer"),
                nodes => format!("the nodes {}, which do not answer", nodes.join(", ")),
            },
        };
        format!("Waiting for {whom}, {left:.1} s at most.")
    }
}

/// Says that a change waits, until it is dropped.
struct Told<'a> {
    revocation: &'a Revocation,
    id: u64,
    seller: SellerId,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        let others = |own: &Waiting| own.id != self.id;
        self.revocation
            .waiting
            .send_modify(|waiting| waiting.retain(others));
    }
}

impl<'a> Told<'a> {
    fn new(revocation: &'a Revocation, seller: SellerId) -> Self {
        let id = revocation.waits.fetch_add(1, Ordering::Relaxed);
        Self {
            revocation,
            id,
            seller,
        }
    }

    fn tell(&self, whom: Whom, until: BootTime) {
        let now = Waiting {
            id: self.id,
            seller: self.seller,
            whom,
            until,
        };
        self.revocation.waiting.send_modify(|waiting| {
            waiting.retain(|own| own.id != now.id);
            waiting.push(now);
        });
    }
}

impl Revocation {
    /// The changes of this process that wait at present, for whoever tells people; changes with them.
    pub fn waiting(&self) -> tokio::sync::watch::Receiver<Vec<Waiting>> {
        self.waiting.subscribe()
    }

    /// Opens the transaction of a change, and says meanwhile that it waits for writes which are under way.
    pub async fn begin_change(
        &self,
        db: &Db,
        clock: &Clock,
        scope: SellerScope,
    ) -> Result<ScopedTx, DbError> {
        let told = Told::new(self, scope.seller());
        told.tell(Whom::Writes, clock.boot().after(CHANGE_LOCK_TIMEOUT));
        db.begin_change(scope).await
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
        let told = Told::new(self, seller);
        told.tell(Whom::Roster, until);
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
            let names = behind.iter().map(|row| row.name.clone()).collect();
            told.tell(Whom::Nodes(names), until);
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
            self.sweep(&behind, listed_at, until, db, clock).await;
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
    /// moved since it was listed. What holds already is not held back for it: where the listing came late, the nodes that are
    /// well will do it.
    async fn sweep(
        &self,
        behind: &[NodeRow],
        listed_at: BootTime,
        until: BootTime,
        db: &Db,
        clock: &Clock,
    ) {
        let due = listed_at.after(WAIT);
        if due.since(until) > SWEEP_DELAY_MAX {
            return;
        }
        tokio::time::sleep(due.since(clock.boot())).await;
        let sweep = async {
            for row in behind {
                if let Ok(true) = db.sweep_node(row.id, row.cycles).await {
                    tracing::warn!(node = %row.id, name = row.name, "a node said nothing to a change and is swept");
                }
            }
        };
        // A sweep that is given up may have happened, which is as well.
        let _ = tokio::time::timeout(LOOK_EVERY, sweep).await;
    }
}

/// Does the work, but for no longer than until then.
async fn within<T>(until: BootTime, clock: &Clock, work: impl Future<Output = T>) -> Option<T> {
    let left = until.since(clock.boot());
    tokio::time::timeout(left, work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for_is_named_with_a_limit_that_is_rounded_up() {
        let told = |whom| Waiting::of(whom, BootTime(5_000_000)).in_words(BootTime(2_850_000));
        let words = |nodes: &[&str]| {
            let nodes = nodes.iter().map(|name| (*name).to_owned());
            told(Whom::Nodes(nodes.collect()))
        };
        assert_eq!(
            words(&["b"]),
            "Waiting for the node b, which does not answer, 2.2 s at most."
        );
        assert!(words(&["b", "c"]).contains("nodes b, c, which do not answer"));
        assert!(told(Whom::Roster).contains("the database to name the nodes, 2.2 s at most"));
        assert!(told(Whom::Writes).contains("for writes that are under way, 2.2 s"));
    }
}
