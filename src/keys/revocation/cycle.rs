//! A node's cycles: how its table keeps up with the database, and until when it is believed.
//!
//! The order of the steps is the rule. A change that commits after the read finds this node's row and waits for it; one that
//! commits before the read is in what was read. All of a cycle's waiting is inside the time that its trust is counted from.
//!
//! Never: two cycles at a time; trust from a cycle that was given up; a row missed and trust kept.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use super::{CYCLE_EVERY, CycleOutcome, GoneNode, LEASE, Revocation, TRUST, WAIT};
use crate::{
    clock::{BootTime, Clock},
    db::{Db, DbError, Heard, Listener, NodeCard, NodeRow},
    ids::NodeId,
    keys::table::{Snapshot, Trust},
};

/// How soon a cycle that failed is followed by another one.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How long reading the whole table may take; a million keys take some seconds.
const READ_ANEW_MAX: Duration = Duration::from_secs(120);

fn warn_of_the_sweep() {
    tracing::warn!(
        "this node had been taken off the list, as it said nothing for {WAIT:?} or longer: it was frozen, or cut off from the \
         database. It trusts nothing from before"
    );
}

impl Revocation {
    /// Runs cycle after cycle, hears hints, and sweeps, all for as long as the process serves.
    pub(super) async fn run_cycles(&self, card: &NodeCard, db: &Db, clock: &Clock) {
        tokio::join!(
            self.renew(card, db, clock),
            self.hear(db),
            self.sweep_the_dead(card.id, db, clock),
        );
    }

    async fn renew(&self, card: &NodeCard, db: &Db, clock: &Clock) {
        // Never the same number twice under this id, whatever becomes of the row.
        let mut number = 0;
        let mut failing = false;
        let mut is_listed = false;
        loop {
            number += 1;
            if self.history_lost.load(Ordering::Relaxed)
                && let Err(error) = self.begin_anew(card, db).await
            {
                tracing::warn!(%error, "the key table cannot be read anew; trying on");
            }
            let began = clock.boot();
            let cycle = self.cycle(card, number, &mut is_listed, db, clock);
            // A longer one brings no trust any more. What is still on its way is thrown away, or arrives and does no harm.
            let outcome = match tokio::time::timeout(LEASE, cycle).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(error)) => {
                    if !failing {
                        tracing::warn!(%error, "trust in the key table cannot be renewed; trying on");
                    }
                    CycleOutcome::Failed
                }
                Err(_) => {
                    if !failing {
                        tracing::warn!(
                            "trust in the key table cannot be renewed: no answer; trying on"
                        );
                    }
                    CycleOutcome::Failed
                }
            };
            self.figures.cycled(outcome);
            if failing && outcome == CycleOutcome::Renewed {
                tracing::info!("trust in the key table is renewed again");
            }
            failing = outcome == CycleOutcome::Failed;
            let pause = match outcome {
                CycleOutcome::Renewed => CYCLE_EVERY.saturating_sub(clock.boot().since(began)),
                CycleOutcome::RowGone => continue,
                CycleOutcome::Failed => RETRY_AFTER,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stale.notified() => {}
            }
        }
    }

    /// One cycle. Dropped or failed at any step, it leaves nothing that later steps of others could be misled by.
    async fn cycle(
        &self,
        card: &NodeCard,
        number: i64,
        is_listed: &mut bool,
        db: &Db,
        clock: &Clock,
    ) -> Result<CycleOutcome, DbError> {
        if self.history_lost.load(Ordering::Relaxed) {
            return Ok(CycleOutcome::Failed);
        }
        let began = clock.boot();
        let said = db.note_cycle(card, number).await?;
        if said < 0 && std::mem::take(is_listed) {
            self.figures.cycled(CycleOutcome::RowGone);
            warn_of_the_sweep();
        }
        let known = self.snapshot().epoch;
        let changes = db.key_changes(known).await?;
        let epoch = changes.epoch;
        if epoch < known {
            // It lost commits, or is another one. What it does from here on may use the same numbers again, so nothing that
            // this node knows may be added to.
            self.table.distrust();
            self.history_lost.store(true, Ordering::Relaxed);
            return Err(DbError::Damaged(format!(
                "the database is at epoch {epoch}, and was at {known} before; the key table is read anew"
            )));
        }
        if epoch > known {
            let change = changes.for_table(|ids| self.snapshot().digests_of(ids));
            // Seen by all threads before it is acknowledged; believed for no longer than the table before it was.
            self.table.apply(&change, epoch);
        }
        if !db.acknowledge(card.id, epoch).await? {
            // Swept, as it was silent for too long: what it read may be older than a change that did not wait for it.
            *is_listed = false;
            warn_of_the_sweep();
            return Ok(CycleOutcome::RowGone);
        }
        *is_listed = true;
        let now = clock.boot();
        self.figures.renewed(self.snapshot().trust, now);
        self.table.trust(Trust::Until(began.after(TRUST)));
        Ok(CycleOutcome::Renewed)
    }

    /// Reads the whole table anew, believing nothing meanwhile. What the node said of itself goes first: it was about the
    /// other history.
    async fn begin_anew(&self, card: &NodeCard, db: &Db) -> Result<(), DbError> {
        self.table.distrust();
        db.give_row_back(card.id).await?;
        let (all, epoch) = match tokio::time::timeout(READ_ANEW_MAX, db.key_table()).await {
            Ok(read) => read?,
            Err(_) => {
                let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(DbError::Unavailable(late.into()));
            }
        };
        self.table
            .replace(Snapshot::of_all(all, Trust::Lapsed, epoch));
        // What the other history has shown is nothing of this one's.
        self.shown.store(0, Ordering::Release);
        self.history_lost.store(false, Ordering::Relaxed);
        tracing::warn!(
            epoch,
            "the key table was read anew, as the database had gone back"
        );
        Ok(())
    }

    /// Has a cycle run at once whenever there is a hint that keys have changed, or whenever one may have been missed.
    async fn hear(&self, db: &Db) {
        loop {
            if let Err(error) = self.hear_until_lost(db).await {
                tracing::debug!(%error, "hints at changes of keys are not heard; listening again");
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn hear_until_lost(&self, db: &Db) -> Result<(), DbError> {
        let Some(mut listener) = db.listen_for_changes().await? else {
            return Ok(());
        };
        // Whatever was said before is not heard.
        self.stale.notify_one();
        // A connection that has been quiet for long is made anew.
        while self.heard(&mut listener).await? == Heard::Change {
            self.stale.notify_one();
        }
        Ok(())
    }

    /// Waits for a hint. A connection on which nobody would be heard any more, and which nobody closes, is given up when
    /// cycles fail.
    async fn heard(&self, listener: &mut Listener) -> Result<Heard, DbError> {
        let mut failed = self.figures.failures();
        tokio::select! {
            heard = listener.heard() => heard,
            _ = failed.changed() => Err(DbError::Unavailable(std::io::Error::other("cycles fail").into())),
        }
    }

    /// Removes the rows of nodes that have stopped renewing, so that no change has to wait for them.
    async fn sweep_the_dead(&self, own: NodeId, db: &Db, clock: &Clock) {
        // Which number a row had, and when it was first seen to have it.
        let mut standing: HashMap<NodeId, (i64, BootTime)> = HashMap::new();
        let mut listed_before: Vec<NodeRow> = Vec::new();
        loop {
            tokio::time::sleep(LEASE).await;
            let Ok(rows) = db.nodes().await else {
                continue;
            };
            let listed = clock.boot();
            self.figures.saw_nodes(rows.len());
            // Of what the others have come to; what this one knows itself, it is not behind of.
            let furthest = rows.iter().map(|row| row.applied).max();
            self.figures.saw_epoch(furthest.unwrap_or_default());
            for gone in &listed_before {
                if gone.id != own && rows.iter().all(|row| row.id != gone.id) {
                    self.figures.saw_gone(GoneNode {
                        name: gone.name.clone(),
                        at: clock.now(),
                        was_silent: gone.age_us >= TRUST.as_micros() as i64,
                    });
                }
            }
            listed_before = rows.clone();
            let before = std::mem::take(&mut standing);
            for row in rows.into_iter().filter(|row| row.id != own) {
                let since = match before.get(&row.id) {
                    Some((number, since)) if *number == row.cycles => *since,
                    _ => listed,
                };
                if listed.since(since) >= WAIT {
                    match db.sweep_node(row.id, row.cycles).await {
                        Ok(true) => {
                            tracing::warn!(node = %row.id, name = row.name, "a node that was silent is swept")
                        }
                        Ok(false) => {}
                        Err(error) => tracing::debug!(%error, "a silent node cannot be swept"),
                    }
                }
                standing.insert(row.id, (row.cycles, since));
            }
        }
    }
}
