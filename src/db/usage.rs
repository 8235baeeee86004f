//! Counts of who used which key, written in batches and read for the key's page.
//!
//! Never: a statement per request.

use std::collections::HashMap;

use sqlx::FromRow;

use super::{Db, DbError, Tx, on_db, postgres::answered};
use crate::{
    clock::Time,
    ids::{KeyId, SellerId},
    keys::scope::SellerScope,
};

/// What is written of a count. Short names: each is looked for once a row and column.
#[derive(serde::Serialize)]
struct CountJson {
    s: SellerId,
    k: KeyId,
    m: i64,
    c: i64,
    t: &'static str,
    n: i64,
    l: i64,
}

/// The same of a client.
#[derive(serde::Serialize)]
struct ClientJson<'a> {
    c: i64,
    a: &'a str,
    u: &'a str,
    l: i64,
}

impl CountJson {
    fn of(row: &UsageRow) -> Self {
        Self {
            s: row.seller,
            k: row.key,
            m: row.minute,
            c: row.client,
            t: row.status_class,
            n: row.requests,
            l: row.last_us,
        }
    }
}

impl<'a> ClientJson<'a> {
    fn of(row: &'a UsageRow) -> Self {
        Self {
            c: row.client,
            a: &row.address,
            u: &row.user_agent,
            l: row.last_us,
        }
    }
}

/// One count, to be added to what is stored.
#[derive(Clone, Debug)]
pub struct UsageRow {
    /// Whose key.
    pub seller: SellerId,
    /// Which key.
    pub key: KeyId,
    /// Whole minutes since 1970 UTC.
    pub minute: i64,
    /// The client's id: a hash of the two below.
    pub client: i64,
    /// The client's address.
    pub address: String,
    /// The client's User-Agent, redacted and cut.
    pub user_agent: String,
    /// How the requests were answered.
    pub status_class: &'static str,
    /// How many.
    pub requests: i64,
    /// When the last of them came, in microseconds.
    pub last_us: i64,
}

/// Which of a Seller's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfKeys {
    /// Whichever.
    All,
    /// This one.
    Only(KeyId),
    /// All the others.
    But(KeyId),
}

/// What one client did with one key.
#[derive(Clone, Debug, FromRow, serde::Serialize, serde::Deserialize)]
pub struct ClientUse {
    /// Which key.
    pub key_id: String,
    /// Its address.
    pub address: String,
    /// Its User-Agent.
    pub user_agent: String,
    /// Requests that were let in.
    pub accepted: i64,
    /// Requests refused with 401 because the key was dead.
    pub unauthorized: i64,
    /// Requests refused with 403 because the key was good and not let in: from elsewhere, or while its account had no access.
    pub barred: i64,
    /// When it last called, in microseconds.
    pub last_us: i64,
}

/// A client that was refused with keys that were dead.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct RefusedClient {
    /// Its address.
    pub address: String,
    /// Its User-Agent.
    pub user_agent: String,
    /// Its calls that were refused.
    pub refused: i64,
    /// When the last of them came.
    pub refused_us: Time,
    /// When the live key first let it in, to the minute; `None` if it never did.
    pub first_let_in_us: Option<Time>,
    /// When the live key last let it in.
    pub let_in_us: Option<Time>,
}

/// A client that a key let in before it died.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct FormerClient {
    /// Its address.
    pub address: String,
    /// Its User-Agent.
    pub user_agent: String,
    /// Its calls that were let in.
    pub let_in: i64,
    /// When the last of them came.
    pub let_in_us: Time,
    /// When it last called at all, with whichever key.
    pub seen_us: Time,
}

/// What was done with one key in a few minutes that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct SlotUse {
    /// Which key.
    pub key_id: KeyId,
    /// Which slot, counted from 0 at the minute that was asked for.
    pub slot: i64,
    /// Requests answered with 200 or the like, 304 among them.
    pub succeeded: i64,
    /// Requests refused with 401, whether the key was dead or not live yet.
    pub refused: i64,
    /// All others.
    pub others: i64,
}

impl Db {
    /// Adds counts to what is stored, all in one transaction.
    pub async fn add_usage(&self, rows: &[UsageRow]) -> Result<(), DbError> {
        const CLIENTS_SQLITE: &str = "INSERT INTO usage_clients (id, address, user_agent, seen_us) \
             SELECT value ->> 'c', value ->> 'a', value ->> 'u', value ->> 'l' FROM json_each($1) WHERE true \
             ON CONFLICT (id) DO UPDATE SET seen_us = max(seen_us, excluded.seen_us)";
        const CLIENTS_POSTGRES: &str = "INSERT INTO usage_clients AS c (id, address, user_agent, seen_us) \
             SELECT r.c, r.a, r.u, r.l FROM json_to_recordset($1::json) AS r(c bigint, a text, u text, l bigint) \
             ON CONFLICT (id) DO UPDATE SET seen_us = greatest(c.seen_us, excluded.seen_us)";
        // SQLite takes rows of one statement one after the other; PostgreSQL wants each count once, and all nodes the same
        // order, so that none waits for one that waits for it.
        const COUNTS_SQLITE: &str = "INSERT INTO key_usage (seller_id, key_id, minute, client_id, status_class, requests, last_us) \
             SELECT value ->> 's', value ->> 'k', value ->> 'm', value ->> 'c', value ->> 't', value ->> 'n', value ->> 'l' \
             FROM json_each($1) WHERE true \
             ON CONFLICT (seller_id, minute, key_id, client_id, status_class) \
             DO UPDATE SET requests = requests + excluded.requests, last_us = max(last_us, excluded.last_us)";
        const COUNTS_POSTGRES: &str = "INSERT INTO key_usage AS u (seller_id, key_id, minute, client_id, status_class, requests, last_us) \
             SELECT r.s, r.k, r.m, r.c, r.t, CAST(SUM(r.n) AS BIGINT), MAX(r.l) \
             FROM json_to_recordset($1::json) AS r(s text, k text, m bigint, c bigint, t text, n bigint, l bigint) \
             GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5 \
             ON CONFLICT (seller_id, minute, key_id, client_id, status_class) \
             DO UPDATE SET requests = u.requests + excluded.requests, last_us = greatest(u.last_us, excluded.last_us)";
        if rows.is_empty() {
            return Ok(());
        }
        // Of each client the row that was seen last: mostly a few clients use many keys, or one many times.
        let mut clients: HashMap<i64, &UsageRow> = HashMap::new();
        for row in rows {
            let client = clients.entry(row.client).or_insert(row);
            if client.last_us < row.last_us {
                *client = row;
            }
        }
        let mut clients: Vec<&UsageRow> = clients.into_values().collect();
        clients.sort_unstable_by_key(|row| row.client);
        let clients: Vec<ClientJson<'_>> = clients.into_iter().map(ClientJson::of).collect();
        let counts: Vec<CountJson> = rows.iter().map(CountJson::of).collect();
        let unwritable = |error| DbError::Damaged(format!("counts: {error}"));
        let clients = serde_json::to_string(&clients).map_err(unwritable)?;
        let json = serde_json::to_string(&counts).map_err(unwritable)?;
        let mut tx = self.begin().await?;
        match &mut tx.inner {
            Tx::Sqlite(tx) => {
                sqlx::query(CLIENTS_SQLITE)
                    .bind(&clients)
                    .execute(&mut **tx)
                    .await?;
                sqlx::query(COUNTS_SQLITE)
                    .bind(&json)
                    .execute(&mut **tx)
                    .await?;
            }
            Tx::Postgres(tx) => {
                let work = sqlx::query(CLIENTS_POSTGRES)
                    .bind(&clients)
                    .execute(&mut **tx);
                answered(work).await?;
                let work = sqlx::query(COUNTS_POSTGRES).bind(&json).execute(&mut **tx);
                answered(work).await?;
            }
        }
        tx.commit().await
    }

    /// The clients that sent some of the Seller's keys since a minute, the busiest first.
    pub async fn clients_since(
        &self,
        scope: SellerScope,
        keys: OfKeys,
        minute: i64,
        limit: i64,
    ) -> Result<Vec<ClientUse>, DbError> {
        let (only, but) = match keys {
            OfKeys::All => (None, None),
            OfKeys::Only(key) => (Some(key), None),
            OfKeys::But(key) => (None, Some(key)),
        };
        const SQL: &str = "SELECT u.key_id, c.address, c.user_agent, \
             CAST(SUM(CASE WHEN u.status_class IN ('401', 'staged', 'barred') THEN 0 ELSE u.requests END) AS BIGINT) AS accepted, \
             CAST(SUM(CASE WHEN u.status_class = '401' THEN u.requests ELSE 0 END) AS BIGINT) AS unauthorized, \
             CAST(SUM(CASE WHEN u.status_class = 'barred' THEN u.requests ELSE 0 END) AS BIGINT) AS barred, \
             MAX(u.last_us) AS last_us \
             FROM key_usage u JOIN usage_clients c ON c.id = u.client_id \
             WHERE u.seller_id = $1 AND u.minute >= $2 \
             AND ($4 IS NULL OR u.key_id = $4) AND ($5 IS NULL OR u.key_id <> $5) \
             GROUP BY u.key_id, c.address, c.user_agent ORDER BY SUM(u.requests) DESC, c.address LIMIT $3";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .bind(minute)
            .bind(limit)
            .bind(only)
            .bind(but)
            .fetch_all(pool)
            .await)?)
    }

    /// The clients that sent dead keys of the Seller since a time, those refused last first. What was refused while a key
    /// was only staged does not count.
    pub async fn refused_clients(
        &self,
        scope: SellerScope,
        since: Time,
        limit: i64,
    ) -> Result<Vec<RefusedClient>, DbError> {
        self.refused_clients_of(scope.seller(), since, limit).await
    }

    /// The same for the server's own watch over all Sellers, so without a scope.
    pub async fn refused_clients_of(
        &self,
        seller: SellerId,
        since: Time,
        limit: i64,
    ) -> Result<Vec<RefusedClient>, DbError> {
        const SQL: &str = "WITH dead AS (SELECT u.client_id, CAST(SUM(u.requests) AS BIGINT) AS refused, \
             MAX(u.last_us) AS refused_us FROM key_usage u JOIN api_keys k ON k.id = u.key_id \
             WHERE u.seller_id = $1 AND u.minute >= $2 AND u.last_us > $3 AND u.status_class = '401' \
             AND k.state IN ('replaced', 'expired') AND u.last_us > k.ended_us \
             GROUP BY u.client_id ORDER BY MAX(u.last_us) DESC LIMIT $4), \
             live AS (SELECT u.client_id, MIN(u.last_us) AS first_let_in_us, MAX(u.last_us) AS let_in_us \
             FROM key_usage u JOIN api_keys k ON k.id = u.key_id \
             WHERE u.seller_id = $1 AND u.minute >= $2 AND u.status_class NOT IN ('401', 'staged', 'barred') AND k.state = 'live' \
             GROUP BY u.client_id) \
             SELECT c.address, c.user_agent, d.refused, d.refused_us, l.first_let_in_us, l.let_in_us \
             FROM dead d JOIN usage_clients c ON c.id = d.client_id LEFT JOIN live l ON l.client_id = d.client_id \
             ORDER BY d.refused_us DESC, c.address, c.user_agent";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(seller)
            .bind(since.minute())
            .bind(since)
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }

    /// The clients that keys of the Seller let in since a minute, before those keys died; the busiest first.
    pub async fn former_clients(
        &self,
        scope: SellerScope,
        minute: i64,
        limit: i64,
    ) -> Result<Vec<FormerClient>, DbError> {
        const SQL: &str = "WITH used AS (SELECT u.client_id, u.requests, u.last_us, \
             CASE WHEN k.state IN ('replaced', 'expired', 'forgotten') AND u.status_class NOT IN ('401', 'staged', 'barred') \
             THEN 1 ELSE 0 END AS former \
             FROM key_usage u LEFT JOIN api_keys k ON k.id = u.key_id WHERE u.seller_id = $1 AND u.minute >= $2), \
             by_client AS (SELECT client_id, CAST(SUM(former * requests) AS BIGINT) AS let_in, \
             MAX(CASE WHEN former = 1 THEN last_us END) AS let_in_us, MAX(last_us) AS seen_us \
             FROM used GROUP BY client_id HAVING MAX(former) = 1) \
             SELECT c.address, c.user_agent, b.let_in, b.let_in_us, b.seen_us \
             FROM by_client b JOIN usage_clients c ON c.id = b.client_id \
             ORDER BY b.let_in DESC, c.address, c.user_agent LIMIT $3";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .bind(minute)
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }

    /// What was done with each of the Seller's keys since a minute, in slots of so many minutes.
    pub async fn use_by_slot(
        &self,
        scope: SellerScope,
        minute: i64,
        slot_minutes: i64,
    ) -> Result<Vec<SlotUse>, DbError> {
        const SQL: &str = "SELECT key_id, (minute - $2) / $3 AS slot, \
             CAST(SUM(CASE WHEN status_class IN ('2xx', '3xx') THEN requests ELSE 0 END) AS BIGINT) AS succeeded, \
             CAST(SUM(CASE WHEN status_class IN ('401', 'staged') THEN requests ELSE 0 END) AS BIGINT) AS refused, \
             CAST(SUM(CASE WHEN status_class IN ('2xx', '3xx', '401', 'staged') THEN 0 ELSE requests END) AS BIGINT) AS others \
             FROM key_usage WHERE seller_id = $1 AND minute >= $2 GROUP BY key_id, slot ORDER BY slot, key_id";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .bind(minute)
            .bind(slot_minutes)
            .fetch_all(pool)
            .await)?)
    }

    /// When a key was last let in; `None` if it never was, or not for as long as counts are kept.
    pub async fn last_accepted(
        &self,
        scope: SellerScope,
        key: KeyId,
    ) -> Result<Option<Time>, DbError> {
        // From the newest minute backwards along the primary key: a key in use is found in its first row.
        const SQL: &str = "SELECT last_us FROM key_usage \
             WHERE seller_id = $1 AND key_id = $2 AND status_class NOT IN ('401', 'staged', 'barred') \
             ORDER BY minute DESC, last_us DESC LIMIT 1";
        Ok(on_db!(self, |pool| sqlx::query_scalar(SQL)
            .bind(scope.seller())
            .bind(key)
            .fetch_optional(pool)
            .await)?)
    }

    /// Forgets counts of minutes before this one, and clients not seen since this time.
    pub async fn forget_usage_before(&self, minute: i64, seen: Time) -> Result<(), DbError> {
        const COUNTS: &str = "DELETE FROM key_usage WHERE (seller_id, minute, key_id, client_id, status_class) IN \
             (SELECT seller_id, minute, key_id, client_id, status_class FROM key_usage WHERE minute < $1 LIMIT $2)";
        const CLIENTS: &str = "DELETE FROM usage_clients WHERE id IN \
             (SELECT id FROM usage_clients WHERE seen_us < $1 LIMIT $2)";
        let counts = self.forget(COUNTS, minute).await;
        let clients = self.forget(CLIENTS, seen.0).await;
        counts.and(clients)
    }
}
