//! How the keys of all the Sellers stand that one User is a member of: two queries, however many those are.
//!
//! Never: a row of a Seller that the User is no member of; each statement begins with their memberships.

use sqlx::FromRow;

use super::{Db, DbError, RefusedClient, answered, keys::DISCARDED, place_in};
use crate::{
    accounts::{AccountStatus, Role},
    clock::Time,
    ids::{SellerId, UserId},
};

/// How one Seller's key stands.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct RingRow {
    /// The Seller.
    pub seller_id: SellerId,
    /// Its short name.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// What the marketplace lets it do.
    pub status: AccountStatus,
    /// How far the User may act for it.
    pub role: Role,
    /// The version of its key, for a form.
    pub key_version: i64,
    /// The live key's last four characters; `None` if there is none.
    pub hint: Option<String>,
    /// When that was made.
    pub created_us: Option<Time>,
    /// When it began to be accepted, if that is known to be another moment.
    pub live_us: Option<Time>,
    /// When it was handed out.
    pub shown_us: Option<Time>,
    /// When it was last let in; `None` if it never was, or not for as long as counts are kept.
    pub used_us: Option<Time>,
    /// The last four characters of the key that waits for its cut-over, if there is one.
    pub staged_hint: Option<String>,
    /// When that was made.
    pub staged_us: Option<Time>,
    /// When that was handed out.
    pub staged_shown_us: Option<Time>,
    /// When a live key last died.
    pub died_us: Option<Time>,
    /// When the operator last expired one.
    pub expired_us: Option<Time>,
    /// Places where its live key was reported as found, and that nobody has dismissed.
    pub live_reported: i64,
    /// The same of the key that waits for its cut-over.
    pub staged_reported: i64,
    /// Calls that any of its keys let in since the time asked for, to the minute.
    pub accepted: i64,
    /// Calls with any of its keys that got 401.
    pub refused: i64,
}

/// A client of one of the Sellers that was refused with dead keys.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct RingRefused {
    /// The Seller.
    pub seller_id: SellerId,
    /// The client.
    #[sqlx(flatten)]
    pub client: RefusedClient,
}

impl Db {
    /// How the key of each Seller stands that a User is a member of, by the Sellers' names; calls are counted since a time.
    pub async fn key_ring(&self, user: UserId, since: Time) -> Result<Vec<RingRow>, DbError> {
        const SQL: &str = "SELECT m.seller_id, s.slug, s.name, s.status, m.role, s.key_version, \
             k.hint, k.created_us, k.live_us, k.shown_us, \
             (SELECT u.last_us FROM key_usage u WHERE u.seller_id = m.seller_id AND u.key_id = k.id \
             AND u.status_class NOT IN ('401', 'staged', 'barred') ORDER BY u.minute DESC, u.last_us DESC LIMIT 1) AS used_us, \
             g.hint AS staged_hint, g.created_us AS staged_us, g.shown_us AS staged_shown_us, \
             (SELECT MAX(d.ended_us) FROM api_keys d WHERE d.seller_id = m.seller_id \
             AND d.state IN ('replaced', 'expired') AND COALESCE(d.end_reason, '') <> $3) AS died_us, \
             (SELECT MAX(d.ended_us) FROM api_keys d WHERE d.seller_id = m.seller_id AND d.state = 'expired') AS expired_us, \
             (SELECT COUNT(*) FROM leaks l WHERE l.seller_id = m.seller_id AND l.key_id = k.id \
             AND l.outcome = 'told' AND l.dismissed_us IS NULL) AS live_reported, \
             (SELECT COUNT(*) FROM leaks l WHERE l.seller_id = m.seller_id AND l.key_id = g.id \
             AND l.outcome = 'told' AND l.dismissed_us IS NULL) AS staged_reported, \
             COALESCE(n.accepted, 0) AS accepted, COALESCE(n.refused, 0) AS refused \
             FROM memberships m JOIN sellers s ON s.id = m.seller_id \
             LEFT JOIN api_keys k ON k.seller_id = m.seller_id AND k.state = 'live' \
             LEFT JOIN staged_keys g ON g.seller_id = m.seller_id \
             LEFT JOIN (SELECT c.seller_id, \
             CAST(SUM(CASE WHEN c.status_class IN ('401', 'staged', 'barred') THEN 0 ELSE c.requests END) AS BIGINT) AS accepted, \
             CAST(SUM(CASE WHEN c.status_class IN ('401', 'staged') THEN c.requests ELSE 0 END) AS BIGINT) AS refused \
             FROM memberships o JOIN key_usage c ON c.seller_id = o.seller_id \
             WHERE o.user_id = $1 AND c.minute >= $2 GROUP BY c.seller_id) n ON n.seller_id = m.seller_id \
             WHERE m.user_id = $1 ORDER BY s.name, s.slug";
        macro_rules! read {
            ($pool:expr) => {
                sqlx::query_as(SQL)
                    .bind(user)
                    .bind(since.minute())
                    .bind(DISCARDED)
                    .fetch_all($pool)
                    .await
            };
        }
        Ok(match self {
            Self::Sqlite(db) => {
                let _place = place_in(&db.pages).await?;
                read!(&db.reader)?
            }
            Self::Postgres(db) => answered(async { read!(&db.pool) }).await?,
        })
    }

    /// The clients that sent dead keys of these Sellers since a time, by Seller, those refused last first; of each Seller so
    /// many at most. What [`Db::refused_clients`] is for one.
    pub async fn key_ring_refused(
        &self,
        user: UserId,
        since: Time,
        limit: i64,
    ) -> Result<Vec<RingRefused>, DbError> {
        const SQL: &str = "WITH dead AS (SELECT u.seller_id, u.client_id, CAST(SUM(u.requests) AS BIGINT) AS refused, \
             MAX(u.last_us) AS refused_us, \
             ROW_NUMBER() OVER (PARTITION BY u.seller_id ORDER BY MAX(u.last_us) DESC, u.client_id) AS nth \
             FROM memberships m JOIN key_usage u ON u.seller_id = m.seller_id JOIN api_keys k ON k.id = u.key_id \
             WHERE m.user_id = $1 AND u.minute >= $2 AND u.last_us > $3 AND u.status_class = '401' \
             AND k.state IN ('replaced', 'expired') AND u.last_us > k.ended_us \
             GROUP BY u.seller_id, u.client_id), \
             live AS (SELECT u.seller_id, u.client_id, MIN(u.last_us) AS first_let_in_us, MAX(u.last_us) AS let_in_us \
             FROM (SELECT DISTINCT seller_id FROM dead) d JOIN key_usage u ON u.seller_id = d.seller_id \
             JOIN api_keys k ON k.id = u.key_id \
             WHERE u.minute >= $2 AND u.status_class NOT IN ('401', 'staged', 'barred') AND k.state = 'live' \
             GROUP BY u.seller_id, u.client_id) \
             SELECT d.seller_id, c.address, c.user_agent, d.refused, d.refused_us, l.first_let_in_us, l.let_in_us \
             FROM dead d JOIN usage_clients c ON c.id = d.client_id \
             LEFT JOIN live l ON l.seller_id = d.seller_id AND l.client_id = d.client_id \
             WHERE d.nth <= $4 ORDER BY d.seller_id, d.refused_us DESC, c.address, c.user_agent";
        macro_rules! read {
            ($pool:expr) => {
                sqlx::query_as(SQL)
                    .bind(user)
                    .bind(since.minute())
                    .bind(since)
                    .bind(limit)
                    .fetch_all($pool)
                    .await
            };
        }
        Ok(match self {
            Self::Sqlite(db) => {
                let _place = place_in(&db.pages).await?;
                read!(&db.reader)?
            }
            Self::Postgres(db) => answered(async { read!(&db.pool) }).await?,
        })
    }
}
