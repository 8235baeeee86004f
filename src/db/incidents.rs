//! Incidents: a Seller's clients go on sending dead keys. Who they are, and whether one is open.
//!
//! Never: two open incidents of one Seller.

use std::time::Duration;

use sqlx::FromRow;

use super::{Db, DbError, WriteTx, on_db, on_tx};
use crate::{
    clock::Time,
    ids::{IncidentId, SellerId},
    keys::scope::SellerScope,
};

/// A client that was refused with dead keys and has not been let in with the live one since.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct StrayClient {
    /// Its address.
    pub address: String,
    /// Its User-Agent, redacted and cut.
    pub user_agent: String,
    /// Its calls that were refused.
    pub refused: i64,
    /// When the last of them came.
    pub last_us: Time,
}

impl Db {
    /// The clients of a Seller that sent a dead key since this time and have not changed over, those most often refused
    /// first: not let in with the live key since, or refused so long after the key died that they still have it somewhere.
    /// What was refused while a key was only staged does not count. Nobody, if the Seller has an open incident: they are
    /// known. For the server's own watch over all Sellers, so without a scope.
    pub async fn new_stray_clients(
        &self,
        seller: SellerId,
        since: Time,
        change_over: Duration,
        limit: i64,
    ) -> Result<Vec<StrayClient>, DbError> {
        const SQL: &str = "WITH dead AS (SELECT u.client_id, CAST(SUM(u.requests) AS BIGINT) AS refused, \
             MAX(u.last_us) AS last_us, MAX(k.ended_us) AS ended_us \
             FROM key_usage u JOIN api_keys k ON k.id = u.key_id \
             WHERE u.seller_id = $1 AND u.minute >= $2 AND u.last_us > $3 AND u.status_class = '401' \
             AND k.state IN ('replaced', 'expired') AND u.last_us > k.ended_us GROUP BY u.client_id), \
             live AS (SELECT u.client_id, MAX(u.last_us) AS last_us FROM key_usage u JOIN api_keys k ON k.id = u.key_id \
             WHERE u.seller_id = $1 AND u.minute >= $2 AND u.status_class NOT IN ('401', 'staged') AND k.state = 'live' \
             GROUP BY u.client_id) \
             SELECT c.address, c.user_agent, d.refused, d.last_us FROM dead d JOIN usage_clients c ON c.id = d.client_id \
             LEFT JOIN live l ON l.client_id = d.client_id \
             WHERE (l.last_us IS NULL OR l.last_us <= d.last_us OR d.last_us > d.ended_us + $4) \
             AND NOT EXISTS (SELECT 1 FROM incidents i WHERE i.seller_id = $1 AND i.closed_us IS NULL) \
             ORDER BY d.refused DESC, c.address, c.user_agent LIMIT $5";
        let change_over_us = i64::try_from(change_over.as_micros()).unwrap_or(i64::MAX);
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(seller)
            .bind(since.minute())
            .bind(since)
            .bind(change_over_us)
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }

    /// When the open incident of the scope's Seller was noticed, if there is one.
    pub async fn open_incident(&self, scope: SellerScope) -> Result<Option<Time>, DbError> {
        const SQL: &str =
            "SELECT opened_us FROM incidents WHERE seller_id = $1 AND closed_us IS NULL";
        Ok(on_db!(self, |pool| sqlx::query_scalar(SQL)
            .bind(scope.seller())
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
        const SQL: &str = "DELETE FROM incidents WHERE closed_us < $1";
        let mut tx = self.begin().await?;
        on_tx!(tx, |conn| sqlx::query(SQL)
            .bind(at)
            .execute(conn)
            .await
            .map(drop))?;
        tx.commit().await
    }
}

impl WriteTx {
    /// Opens an incident; `false` if the Seller has an open one already.
    pub async fn open_incident(
        &mut self,
        incident: IncidentId,
        seller: SellerId,
        at: Time,
    ) -> Result<bool, DbError> {
        const SQL: &str = "INSERT INTO incidents (id, seller_id, opened_us) VALUES ($1, $2, $3) \
             ON CONFLICT (seller_id) WHERE closed_us IS NULL DO NOTHING";
        Ok(on_tx!(self, |conn| sqlx::query(SQL)
            .bind(incident)
            .bind(seller)
            .bind(at)
            .execute(conn)
            .await
            .map(|done| done.rows_affected() == 1))?)
    }
}
