//! The zero-window rule: when a change of keys returns, no request that starts later is accepted with the old key, and
//! no write that the old key authorised lands any more.
//!
//! *On SQLite* one process owns the database file (see [`crate::control`]), so the rule is kept by order alone: the
//! change commits, the table in memory is changed, and only then does the change return.
//!
//! *On PostgreSQL* any number of nodes share the database. Each keeps the whole key table in memory and believes it under a
//! lease. Every [`CYCLE_EVERY`], and at once when it hears of a change, it runs one **cycle** (`cycle.rs`): it notes the time;
//! commits its row in `nodes`, with its own count; reads, after that commit, in one snapshot, every change since the epoch
//! that it knows; lets all its threads see them; commits the epoch that it judges by; and then trusts the table until
//! [`TRUST`] after the time that it noted. A **change** (`wait.rs`) commits, lists the nodes, and waits until every one of them
//! has committed this epoch or a later one, or until [`WAIT`] has passed since its commit: any trust that does not know of
//! the change began before the commit and has run out by then. That is all; a hint (`NOTIFY`) only makes it quick.
//!
//! Writes are fenced apart from this, inside their own transactions ([`crate::db::Db::begin_write`]).
//!
//! **Promise.** Zero acceptances of a dead key by requests that start after the change's answer was given; no write that it
//! authorised commits after that either. A node that cannot renew its trust asks the primary for each request, and where
//! that gives no answer says 503: never 401, never 200.
//!
//! **Assumes.** Clocks whose rates differ by no more than a tenth over two seconds; no pause that `CLOCK_BOOTTIME` does not
//! count, such as that of a hypervisor which stops a guest and hides it; one primary whose commits are durable when they
//! return; and that an old primary is cut off before a standby, which has every commit, takes its place.
//!
//! **Costs.** Two commits and a read per node and [`CYCLE_EVERY`]. While a node is dead and its row not yet swept, a change
//! takes [`WAIT`]; where it died inside a write, a second more at most. No request waits for any of it.
//!
//! The protocol is also a model whose every state is searched, with mutants that must break it (`model/`).
//!
//! Never: an answer between commit and publication; a table that goes back; a table believed after a commit whose outcome is
//! unknown, or beyond its own lease; a wall clock in any of this.

mod cycle;
mod figures;
mod receipt;
mod roster;
mod wait;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex, MutexGuard, Notify, watch};

pub use self::{
    figures::{CycleOutcome, Figures, GoneNode},
    receipt::{NodeOutcome, NodeReceipt, Receipt},
    roster::{ListedNode, ListedTrust, Roster},
    wait::{Waiting, Whom},
};
use super::{
    format::KeyDigest,
    grant::{GrantName, GrantRecord},
    table::{KeyTable, Snapshot, TableChange, Trust},
    verify::{self, Caller, Known, Refusal, Request},
};
use crate::{
    clock::{BootTime, Clock},
    db::{AskedKey, Db, DbError, NodeCard, ScopedTx},
    ids::SellerId,
};

/// The lease, L.
const LEASE: Duration = Duration::from_millis(2_000);
/// How long a node trusts a table after the beginning of the cycle that brought it: L(1−ε), with ε a tenth for clocks that
/// run at different rates.
pub const TRUST: Duration = Duration::from_millis(1_800);
/// How long a change waits at most for nodes that say nothing, and how long a row stands still before it is swept: L(1+2ε).
pub const WAIT: Duration = Duration::from_millis(2_400);
/// How often a node renews its trust when it hears of no change.
pub const CYCLE_EVERY: Duration = Duration::from_millis(500);
/// How long a request waits for the primary where the node's own table may not be believed.
const PRIMARY_TIMEOUT: Duration = Duration::from_secs(1);

/// Which database the rule is kept on, and so how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// One process owns it: by order.
    Order,
    /// Nodes share it: by leases.
    Leases,
}

/// The one place through which what keys are good changes in this process.
pub struct Revocation {
    table: KeyTable,
    rule: Rule,
    /// Held from before a change's transaction until its publication, where order keeps the rule.
    turn: Mutex<()>,
    /// This process, if it serves requests; a command that runs alone does not.
    node: Option<NodeCard>,
    /// Rung when the table must be read anew: it is in doubt, or keys have changed.
    stale: Notify,
    /// Changes of this process that wait.
    waiting: watch::Sender<Vec<Waiting>>,
    /// How often one of them has waited.
    waits: AtomicU64,
    /// Whether the database was seen to be behind this table: then the table is of a history that is no more.
    history_lost: AtomicBool,
    /// The latest epoch of which the database has let an answer show something. The table says nothing before it knows that
    /// too: a client that was told of a cut-over is not told afterwards, by this node, that it has yet to come.
    shown: AtomicI64,
    /// What the operator can watch.
    pub figures: Figures,
}

/// The right to change keys; where order keeps the rule, one holder at a time.
pub struct Turn<'a> {
    _held: Option<MutexGuard<'a, ()>>,
    began: BootTime,
}

impl Revocation {
    /// Reads every key if this process serves, as `node`, or owns the database. On a shared database they may not be
    /// believed before the first cycle.
    pub async fn load(db: &Db, node: Option<NodeCard>) -> Result<Self, DbError> {
        let (rule, trust) = match db.is_shared() {
            false => (Rule::Order, Trust::WhileOwner),
            true => (Rule::Leases, Trust::Lapsed),
        };
        // A command beside the nodes judges no request.
        let (all, epoch) = match (rule, &node) {
            (Rule::Leases, None) => (TableChange::default(), 0),
            _ => db.key_table().await?,
        };
        Ok(Self {
            table: KeyTable::new(Snapshot::of_all(all, trust, epoch)),
            rule,
            turn: Mutex::new(()),
            node,
            stale: Notify::new(),
            waiting: watch::Sender::default(),
            waits: AtomicU64::default(),
            history_lost: AtomicBool::default(),
            shown: AtomicI64::default(),
            figures: Figures::default(),
        })
    }

    /// This process among the nodes, if it serves.
    pub fn node(&self) -> Option<&NodeCard> {
        self.node.as_ref()
    }

    /// The current table and its trust, as one pair. Wait-free.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.table.load()
    }

    /// Judges a request by this node's table: one snapshot for the lookup and the judgement. [`Refusal::CannotKnow`] where the
    /// table may not be believed, or knows less than the database has been heard to say. Wait-free.
    pub fn judge(&self, request: &Request<'_>, clock: &Clock) -> Result<Caller, Refusal> {
        let snapshot = self.table.load();
        // The clock is read after the snapshot: a pause between the two must not lengthen its trust.
        let verdict = verify::verify(request, &snapshot, clock.boot());
        // After the snapshot was taken, so that what was shown before this request began counts.
        match snapshot.epoch < self.shown.load(Ordering::Acquire) {
            true => verify::unknowable(request),
            false => verdict,
        }
    }

    /// Judges a request by the database itself, which found the table of this node past its trust. Each request asks for
    /// itself, after it began: an answer is never shared or kept.
    pub async fn ask_primary(
        &self,
        db: &Db,
        digest: KeyDigest,
        request: &Request<'_>,
    ) -> Result<Caller, Refusal> {
        if self.rule == Rule::Order {
            // The table is in doubt because a commit is: the same database knows no better yet.
            return Err(Refusal::CannotKnow);
        }
        let asked = db.ask_about_key(digest, request.named);
        let asked = tokio::time::timeout(PRIMARY_TIMEOUT, asked).await;
        let answered = matches!(asked, Ok(Ok(_)));
        self.figures.asked_primary(answered);
        match asked {
            Ok(Ok(asked)) => {
                self.shown.fetch_max(asked.epoch, Ordering::AcqRel);
                verify::judge(asked.record.as_ref(), request, &Asked(&asked))
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "a key could not be judged by the database");
                Err(Refusal::CannotKnow)
            }
            Err(_) => Err(Refusal::CannotKnow),
        }
    }

    /// Waits for the right to change keys.
    pub async fn turn(&self, clock: &Clock) -> Turn<'_> {
        let held = match self.rule {
            Rule::Order => Some(self.turn.lock().await),
            // Each change may wait for a node, and must not wait for the waiting of another.
            Rule::Leases => None,
        };
        Turn {
            _held: held,
            began: clock.boot(),
        }
    }

    /// Commits a change and waits until it is obeyed everywhere; when this returns, the rule holds.
    ///
    /// After an error, or if this future is dropped, the outcome of the commit is unknown. Where order keeps the rule, the
    /// table is then believed no longer, requests get 503, and [`Revocation::keep_trusted`] reads it anew.
    pub async fn settle(
        &self,
        turn: Turn<'_>,
        tx: ScopedTx,
        change: &TableChange,
        epoch: i64,
        db: &Db,
        clock: &Clock,
    ) -> Result<Receipt, DbError> {
        let seller = tx.scope().seller();
        match self.rule {
            Rule::Order => {
                let doubt = Doubt(self);
                tx.commit().await?;
                self.table.apply(change, epoch);
                std::mem::forget(doubt);
                Ok(self.receipt(&turn, epoch, Some(self.alone()), clock))
            }
            Rule::Leases => {
                tx.commit().await?;
                Ok(self.obeyed(&turn, seller, epoch, db, clock).await)
            }
        }
    }

    /// The receipt of a change that found nothing to do, because another one was faster: the present epoch is waited for
    /// all the same, as that other change may not have returned yet.
    pub async fn nothing_to_do(
        &self,
        turn: &Turn<'_>,
        mut tx: ScopedTx,
        db: &Db,
        clock: &Clock,
    ) -> Result<Receipt, DbError> {
        match self.rule {
            Rule::Order => {
                let epoch = self.snapshot().epoch;
                Ok(self.receipt(turn, epoch, Some(self.alone()), clock))
            }
            Rule::Leases => {
                let seller = tx.scope().seller();
                let epoch = tx.present_epoch().await?;
                // The owner's lock is not held while others are waited for.
                drop(tx);
                Ok(self.obeyed(turn, seller, epoch, db, clock).await)
            }
        }
    }

    async fn obeyed(
        &self,
        turn: &Turn<'_>,
        seller: SellerId,
        epoch: i64,
        db: &Db,
        clock: &Clock,
    ) -> Receipt {
        let committed = clock.boot();
        let nodes = self.wait(db, clock, seller, epoch, committed).await;
        self.receipt(turn, epoch, nodes, clock)
    }

    /// The receipts of the one process that owns the database.
    fn alone(&self) -> Vec<NodeReceipt> {
        let confirmed = |card: &NodeCard| NodeReceipt {
            node: card.id,
            name: card.name.clone(),
            outcome: NodeOutcome::Confirmed,
        };
        self.node.iter().map(confirmed).collect()
    }

    /// `nodes` is nothing if they could not be listed.
    fn receipt(
        &self,
        turn: &Turn<'_>,
        epoch: i64,
        nodes: Option<Vec<NodeReceipt>>,
        clock: &Clock,
    ) -> Receipt {
        let elapsed = clock.boot().since(turn.began);
        self.figures.changed(elapsed);
        Receipt {
            epoch,
            elapsed_ms: elapsed.as_micros() as f64 / 1000.0,
            unlisted: nodes.is_none(),
            nodes: nodes.unwrap_or_default(),
        }
    }

    /// Keeps the table fit to judge by, for as long as the process serves.
    pub async fn keep_trusted(&self, db: &Db, clock: &Clock) {
        match (self.rule, &self.node) {
            (Rule::Order, _) => self.read_when_in_doubt(db).await,
            (Rule::Leases, Some(card)) => self.run_cycles(card, db, clock).await,
            (Rule::Leases, None) => {}
        }
    }

    /// Trusts nothing any more, and says so to the other nodes, so that no change waits for this one. For when the last
    /// request has been answered.
    pub async fn leave(&self, db: &Db) {
        let (Rule::Leases, Some(card)) = (self.rule, &self.node) else {
            return;
        };
        self.table.distrust();
        match tokio::time::timeout(PRIMARY_TIMEOUT, db.give_row_back(card.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the row among the nodes is not given back"),
            Err(_) => tracing::warn!("the row among the nodes is not given back: no answer"),
        }
    }

    /// Reads the table anew whenever it has become doubtful.
    async fn read_when_in_doubt(&self, db: &Db) {
        loop {
            self.stale.notified().await;
            while let Err(error) = self.read_anew(db).await {
                tracing::error!(%error, "the key table is in doubt and cannot be read anew; answering 503");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            tracing::warn!("the key table was in doubt and has been read anew");
        }
    }

    async fn read_anew(&self, db: &Db) -> Result<(), DbError> {
        let _held = self.turn.lock().await;
        // Behind whatever is still being committed: a commit whose caller is gone may yet take effect, and a table read
        // before that would be believed after it.
        let _writer = db.begin().await?;
        let (all, epoch) = db.key_table().await?;
        self.table
            .replace(Snapshot::of_all(all, Trust::WhileOwner, epoch));
        Ok(())
    }
}

/// What the database said about one request.
struct Asked<'a>(&'a AskedKey);

impl Known for Asked<'_> {
    fn grant(&self, _: &GrantName) -> Option<GrantRecord> {
        self.0.grant
    }

    fn lets_in(&self, _: SellerId, from: IpAddr) -> bool {
        let networks = self.0.networks.as_ref();
        networks.is_some_and(|networks| networks.contain(from))
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
        accounts::{AccountKind, Plan},
        db::{DbUrl, NewSeller},
        ids::{KeyId, NodeId, SellerId},
        keys::{
            format::SecretKey,
            scope::OperatorAuthority,
            verify::{Presented, Refusal, Request},
        },
    };

    fn card() -> NodeCard {
        NodeCard {
            id: NodeId::new(),
            name: "here".into(),
            version: "0".into(),
            started: Clock::system().now(),
        }
    }

    fn new_seller() -> NewSeller {
        NewSeller {
            id: SellerId::new(),
            slug: "lone-star".parse().expect("a slug"),
            name: "Lone Star".into(),
            plan: Plan::Starter,
            kind: AccountKind::Seller,
        }
    }

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
        let seller = new_seller();
        let mut tx = db.begin().await.expect("begins");
        tx.insert_seller(&seller, clock.now())
            .await
            .expect("inserts");
        tx.commit().await.expect("commits");
        let revocation = Revocation::load(&db, Some(card())).await.expect("loads");

        let secret = SecretKey::generate().expect("randomness");
        let key = KeyId::new();
        let judge = || {
            let request = Request::of(Presented::Key(secret.digest()));
            revocation.judge(&request, &clock)
        };
        let turn = revocation.turn(&clock).await;
        let scope = OperatorAuthority::assume().scope(seller.id);
        let mut tx = db.begin_change(scope).await.expect("begins");
        tx.insert_live_key(key, secret.digest(), secret.hint(), "test", clock.now())
            .await
            .expect("inserts");
        let epoch = tx.seal().await.expect("seals");
        let change = tx.sealed_changes(epoch).await.expect("answers");
        assert_eq!(judge().err(), Some(Refusal::Unknown));
        {
            let mut settling = pin!(revocation.settle(turn, tx, &change, epoch, &db, &clock));
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
            () = revocation.keep_trusted(&db, &clock) => unreachable!("it goes on for ever"),
            done = tokio::time::timeout(Duration::from_secs(10), trusted) => done.expect("is read anew"),
        }
        let (all, epoch) = db.key_table().await.expect("reads");
        assert_eq!(judge().is_ok(), all.put.len() == 1);
        assert_eq!(revocation.snapshot().epoch, epoch);
    }

    /// The database is heard to say what the table has not come to yet. From then on the table says nothing, or a client that
    /// was told of a cut-over would be told that it has yet to come.
    #[tokio::test]
    async fn what_the_database_was_heard_to_say_is_not_unsaid_by_an_older_table() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = DbUrl::Sqlite(folder.path().join("t.db"));
        let db = Db::open(&url).await.expect("opens");
        db.migrate().await.expect("migrates");
        let clock = Clock::system();
        let seller = new_seller();
        let mut tx = db.begin().await.expect("begins");
        let inserted = tx.insert_seller(&seller, clock.now()).await;
        inserted.expect("inserts");
        tx.commit().await.expect("commits");
        let scope = OperatorAuthority::assume().scope(seller.id);
        let secret = SecretKey::generate().expect("randomness");
        let mut tx = db.begin_change(scope).await.expect("begins");
        tx.insert_live_key(
            KeyId::new(),
            secret.digest(),
            secret.hint(),
            "test",
            clock.now(),
        )
        .await
        .expect("inserts");
        tx.seal().await.expect("seals");
        tx.commit().await.expect("commits");

        let loaded = Revocation::load(&db, Some(card())).await.expect("loads");
        let revocation = Revocation {
            rule: Rule::Leases,
            ..loaded
        };
        let request = Request::of(Presented::Key(secret.digest()));
        assert!(revocation.judge(&request, &clock).is_ok());
        let mut tx = db.begin_change(scope).await.expect("begins");
        let ended = tx.end_live_key("expired", None, clock.now()).await;
        ended.expect("ends");
        let epoch = tx.seal().await.expect("seals");
        tx.commit().await.expect("commits");
        // Nobody was told yet: the change has not returned.
        assert!(revocation.judge(&request, &clock).is_ok());
        let asked = revocation.ask_primary(&db, secret.digest(), &request).await;
        assert!(matches!(asked, Err(Refusal::Revoked(_))), "{asked:?}");
        let from_memory = revocation.judge(&request, &clock);
        assert_eq!(from_memory.err(), Some(Refusal::CannotKnow));
        let malformed = Request::of(Presented::Malformed);
        let refused = revocation.judge(&malformed, &clock);
        assert_eq!(refused.err(), Some(Refusal::Malformed));
        // Once the table has come to it, it is believed again.
        let changes = db.key_changes(epoch - 1).await.expect("answers");
        let change = changes.for_table(|_| Vec::new());
        revocation.table.apply(&change, epoch);
        let from_memory = revocation.judge(&request, &clock);
        assert!(
            matches!(from_memory, Err(Refusal::Revoked(_))),
            "{from_memory:?}"
        );
    }
}
