//! Forgetting: what is past its time goes in portions, so that no other write waits for long, and no statement, however much
//! there is after a long stop, takes longer than one may.
//!
//! Never: all that is past its time in one statement.

use super::{Db, DbError, on_tx};

/// Rows forgotten in one statement and transaction.
const PORTION: i64 = 5_000;
/// Portions of one run; the rest is left to the next one.
const PORTIONS_MAX: usize = 100;

impl Db {
    /// Runs a statement again and again that forgets what is before `$1`, `$2` rows at once, until it finds fewer.
    pub(super) async fn forget(&self, sql: &'static str, before: i64) -> Result<(), DbError> {
        for _ in 0..PORTIONS_MAX {
            // In turn: a change of keys waits for one portion at most.
            let mut tx = self.begin_in_turn().await?;
            let forgotten = on_tx!(tx, |conn| sqlx::query(sql)
                .bind(before)
                .bind(PORTION)
                .execute(conn)
                .await
                .map(|done| done.rows_affected()))?;
            tx.commit().await?;
            if forgotten < PORTION.unsigned_abs() {
                break;
            }
        }
        Ok(())
    }
}
