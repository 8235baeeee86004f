//! Incidents: a Seller's clients go on sending dead keys. Who they are, and whether one is open.
//!
//! Never: two open incidents of one Seller.

use sqlx::FromRow;

use super::{Db, DbError, WriteTx, keys::DISCARDED, on_db, on_tx};
use crate::{
    clock::Time,
    ids::{IncidentId, SellerId},
    keys::scope::SellerScope,
};

/// A death of a live key that nobody was told of yet that clients go on sending it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct Death {
    /// When it died.
    pub died_us: Time,
    /// How many live keys the Seller has now: one or none.
    pub live_keys: i64,
}

impl Db {
    /// The last death of a live key of a Seller; `None` if there was none, or if an incident about it is open or was opened
    /// since this time. For the server's own watch over all Sellers, so without a scope.
    pub async fn untold_death(
        &self,
        seller: SellerId,
        told_since: Time,
    ) -> Result<Option<Death>, DbError> {
        const SQL: &str = "SELECT d.died_us, \
             (SELECT COUNT(*) FROM api_keys WHERE seller_id = $1 AND state = 'live') AS live_keys \
             FROM (SELECT MAX(ended_us) AS died_us FROM api_keys WHERE seller_id = $1 \
             AND state IN ('replaced', 'expired') AND COALESCE(end_reason, '') <> $2) d \
             WHERE d.died_us IS NOT NULL AND NOT EXISTS (SELECT 1 FROM incidents i WHERE i.seller_id = $1 \
             AND i.died_us = d.died_us AND (i.closed_us IS NULL OR i.opened_us > $3))";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(seller)
            .bind(DISCARDED)
            .bind(told_since)
            .fetch_optional(pool)
            .await)?)
    }

    /// When the open incident about this death of a key of the scope's Seller was noticed, if there is one.
    pub async fn open_incident(
        &self,
        scope: SellerScope,
        died: Time,
    ) -> Result<Option<Time>, DbError> {
        const SQL: &str = "SELECT opened_us FROM incidents WHERE seller_id = $1 AND closed_us IS NULL AND died_us = $2";
        Ok(on_db!(self, |pool| sqlx::query_scalar(SQL)
            .bind(scope.seller())
            .bind(died)
            .fetch_optional(pool)
            .await)?)
    }

    /// Closes the open incidents of Sellers whose dead keys nobody has sent since this time; answers how many.
    pub async fn close_quiet_incidents(&self, since: Time, at: Time) -> Result<u64, DbError> {
        const QUIET: &str = "SELECT i.id FROM incidents i WHERE i.closed_us IS NULL \
             AND NOT EXISTS (SELECT 1 FROM key_usage u JOIN api_keys k ON k.id = u.key_id \
             WHERE u.seller_id = i.seller_id AND u.minute >= $1 AND u.last_us > $2 AND u.status_class = '401' \
             AND k.state IN ('replaced', 'expired') AND u.last_us > k.ended_us) LIMIT 1000";
        const CLOSE: &str =
            "UPDATE incidents SET closed_us = $2 WHERE id = $1 AND closed_us IS NULL";
        // Looked for outside of the transaction: mostly there is none, and the writer is everybody's.
        let quiet: Vec<IncidentId> = on_db!(self, |pool| sqlx::query_scalar(QUIET)
            .bind(since.minute())
            .bind(since)
            .fetch_all(pool)
            .await)?;
        if quiet.is_empty() {
            return Ok(0);
        }
        let mut tx = self.begin().await?;
        let mut closed = 0;
        for incident in quiet {
            closed += on_tx!(tx, |conn| sqlx::query(CLOSE)
                .bind(incident)
                .bind(at)
                .execute(conn)
                .await
                .map(|done| done.rows_affected()))?;
        }
        tx.commit().await?;
        Ok(closed)
    }

    /// Forgets incidents that were closed before this time.
    pub async fn forget_incidents_before(&self, at: Time) -> Result<(), DbError> {
        const SQL: &str = "DELETE FROM incidents WHERE id IN \
             (SELECT id FROM incidents WHERE closed_us < $1 LIMIT $2)";
        self.forget(SQL, at.0).await
    }
}

impl WriteTx {
    /// Opens an incident about the death of a key, and closes one about an earlier death; `false` if one about it is open
    /// already.
    pub async fn open_incident(
        &mut self,
        incident: IncidentId,
        seller: SellerId,
        died: Time,
        at: Time,
    ) -> Result<bool, DbError> {
        const CLOSE: &str = "UPDATE incidents SET closed_us = $3 WHERE seller_id = $1 AND closed_us IS NULL AND died_us < $2";
        const OPEN: &str = "INSERT INTO incidents (id, seller_id, died_us, opened_us) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (seller_id) WHERE closed_us IS NULL DO NOTHING";
        on_tx!(self, |conn| sqlx::query(CLOSE)
            .bind(seller)
            .bind(died)
            .bind(at)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(on_tx!(self, |conn| sqlx::query(OPEN)
            .bind(incident)
            .bind(seller)
            .bind(died)
            .bind(at)
            .execute(conn)
            .await
            .map(|done| done.rows_affected() == 1))?)
    }
}
