//! The zero-window rule: when a change of keys returns, no request that starts later is accepted with the old key, and
//! no write that the old key authorised lands any more.
//!
//! *On SQLite* one process owns the database file (see [`crate::control`]), so the rule is kept by order alone: the
//! change commits, the table in memory is changed, and only then does the change return. Writes are fenced apart from
//! this, inside their own transactions ([`crate::db::Db::begin_write`]).
//!
//! Never: an answer between commit and publication; two changes published in another order than they were committed; a
//! table believed after a commit whose outcome is unknown.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{Mutex, MutexGuard, Notify};

use super::table::{KeyTable, Snapshot, TableChange, Trust};
use crate::{
    clock::{BootTime, Clock},
    db::{Db, DbError, ScopedTx},
    ids::NodeId,
};

/// What a change of keys can say for itself: which epoch it made, and which nodes obey it.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct Receipt {
    /// The revocation epoch that the change made, or found where it had nothing to do.
    pub epoch: i64,
    /// From the start of the act to the moment it was obeyed everywhere, in milliseconds.
    pub elapsed_ms: f64,
    /// Every node that was serving.
    pub nodes: Vec<NodeReceipt>,
}

/// How one node came to obey a change.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct NodeReceipt {
    /// The node.
    pub node: NodeId,
    /// Whether it said so, or its trust in older knowledge ran out.
    pub outcome: NodeOutcome,
}

/// See [`NodeReceipt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeOutcome {
    /// It confirmed that it judges by the new keys.
    Confirmed,
    /// It did not answer, and by now can trust nothing older than the change.
    TrustRanOut,
}

/// The one place through which what keys are good changes in this process.
pub struct Revocation {
    table: KeyTable,
    /// Held from before a change's transaction until its publication.
    turn: Mutex<()>,
    /// This process, if it serves requests; a command that runs alone does not.
    node: Option<NodeId>,
    /// Rung when the table must be read anew.
    stale: Notify,
}

/// The right to change keys, one holder at a time.
pub struct Turn<'a> {
    _held: MutexGuard<'a, ()>,
    began: BootTime,
}

impl Revocation {
    /// Reads every key. `serving` says whether requests will be judged by this table.
    pub async fn load(db: &Db, serving: bool) -> Result<Self, DbError> {
        let (keys, epoch) = db.all_keys().await?;
        Ok(Self {
            table: KeyTable::new(Snapshot::build(keys, Trust::WhileOwner, epoch)),
            turn: Mutex::new(()),
            node: serving.then(NodeId::new),
            stale: Notify::new(),
        })
    }

    /// The current table and its trust, as one pair. Wait-free.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.table.load()
    }

    /// Waits for the right to change keys.
    pub async fn turn(&self, clock: &Clock) -> Turn<'_> {
        let held = self.turn.lock().await;
        Turn {
            _held: held,
            began: clock.boot(),
        }
    }

    /// Commits a change and publishes it; when this returns, the rule holds.
    ///
    /// After an error, or if this future is dropped, the outcome of the commit is unknown: the table is believed no
    /// longer, requests get 503, and [`Revocation::keep_fresh`] reads it anew.
    pub async fn settle(
        &self,
        turn: Turn<'_>,
        tx: ScopedTx,
        change: &TableChange,
        epoch: i64,
        clock: &Clock,
    ) -> Result<Receipt, DbError> {
        let doubt = Doubt(self);
        tx.commit().await?;
        self.table.apply(change, epoch);
        std::mem::forget(doubt);
        Ok(self.receipt(&turn, epoch, clock))
    }

    /// The receipt of a change that found nothing to do: the present epoch is obeyed already.
    pub fn nothing_to_do(&self, turn: &Turn<'_>, clock: &Clock) -> Receipt {
        let epoch = self.snapshot().epoch;
        self.receipt(turn, epoch, clock)
    }

    fn receipt(&self, turn: &Turn<'_>, epoch: i64, clock: &Clock) -> Receipt {
        let confirmed = |node| NodeReceipt {
            node,
            outcome: NodeOutcome::Confirmed,
        };
        Receipt {
            epoch,
            elapsed_ms: clock.boot().since(turn.began).as_micros() as f64 / 1000.0,
            nodes: self.node.map(confirmed).into_iter().collect(),
        }
    }

    /// Reads the table anew whenever it has become doubtful. Runs for as long as the process serves.
    pub async fn keep_fresh(&self, db: &Db) {
        loop {
            self.stale.notified().await;
            while let Err(error) = self.read_anew(db).await {
                tracing::error!(%error, "the key table is in doubt and cannot be read anew; answering 503");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            tracing::warn!("the key table was in doubt and has been read anew");
        }
    }

    async fn read_anew(&self, db: &Db) -> Result<(), DbError> {
        let _held = self.turn.lock().await;
        // Behind whatever is still being committed: a commit whose caller is gone may yet take effect, and a table read
        // before that would be believed after it.
        let _writer = db.begin().await?;
        let (keys, epoch) = db.all_keys().await?;
        self.table
            .replace(Snapshot::build(keys, Trust::WhileOwner, epoch));
        Ok(())
    }
}

/// Exists while a commit's outcome is unknown. Dropped without being forgotten, it stops the table from being believed.
struct Doubt<'a>(&'a Revocation);

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        self.0.table.distrust();
        self.0.stale.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
        time::Duration,
    };

    use super::*;
    use crate::{
        accounts::Plan,
        db::{DbUrl, NewSeller},
        ids::{KeyId, SellerId},
        keys::{
            format::SecretKey,
            scope::OperatorAuthority,
            table::{KeyRecord, Standing},
            verify::{Presented, Refusal, verify},
        },
    };

    /// A change is dropped in the middle of its commit: nobody knows whether it took place. The table must not be believed
    /// until it has been read anew, and then it must say what the database says.
    #[tokio::test]
    async fn a_commit_of_unknown_outcome_takes_trust_away_until_the_table_is_read_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let db = Db::open(&DbUrl::Sqlite(folder.path().join("t.db")))
            .await
            .expect("opens");
        db.migrate().await.expect("migrates");
        let clock = Clock::system();
        let seller = NewSeller {
            id: SellerId::new(),
            slug: "lone-star".parse().expect("a slug"),
            name: "Lone Star".into(),
            plan: Plan::Starter,
        };
        let mut tx = db.begin().await.expect("begins");
        tx.insert_seller(&seller, clock.now())
            .await
            .expect("inserts");
        tx.commit().await.expect("commits");
        let revocation = Revocation::load(&db, true).await.expect("loads");

        let secret = SecretKey::generate().expect("randomness");
        let key = KeyId::new();
        let judge = || {
            verify(
                Presented::Key(secret.digest()),
                &revocation.snapshot(),
                clock.boot(),
            )
        };
        let turn = revocation.turn(&clock).await;
        let scope = OperatorAuthority::assume().scope(seller.id);
        let mut tx = db.begin_change(scope).await.expect("begins");
        tx.insert_live_key(key, secret.digest(), secret.hint(), "test", clock.now())
            .await
            .expect("inserts");
        let epoch = tx.seal_key_change().await.expect("seals");
        let record = KeyRecord {
            key,
            seller: seller.id,
            standing: Standing::Live,
        };
        let change = TableChange {
            put: vec![(secret.digest(), record)],
            forget: Vec::new(),
        };
        assert_eq!(judge().err(), Some(Refusal::Unknown));
        {
            let mut settling = pin!(revocation.settle(turn, tx, &change, epoch, &clock));
            let polled = settling
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending(), "the commit is on its way");
        }
        assert_eq!(
            judge().err(),
            Some(Refusal::CannotKnow),
            "503, and never 401"
        );

        let trusted = async {
            while revocation.snapshot().trust == Trust::Lapsed {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = revocation.keep_fresh(&db) => unreachable!("it goes on for ever"),
            done = tokio::time::timeout(Duration::from_secs(10), trusted) => done.expect("is read anew"),
        }
        let (keys, epoch) = db.all_keys().await.expect("reads");
        assert_eq!(judge().is_ok(), keys.len() == 1);
        assert_eq!(revocation.snapshot().epoch, epoch);
    }
}
