//! API keys and the epoch that orders their changes.
//!
//! Never: a key's row deleted, or a key itself in a parameter: only its digest comes this far.

use sqlx::FromRow;

use super::{
    Db, DbError, ScopedTx, Tx,
    key_table::digest_of,
    on_db, on_tx,
    postgres::{For, answered},
};
use crate::{
    accounts::AccountKind,
    clock::Time,
    ids::{AuditId, KeyId, SellerId},
    keys::{
        format::{KeyDigest, KeyHint},
        scope::SellerScope,
    },
};

/// How many of a Seller's dead keys are remembered, so that a client that still sends one can be named.
pub const DEAD_KEYS_KEPT: i64 = 100;

/// What is written of a staged key that was never cut over.
pub(super) const DISCARDED: &str = "discarded before it was ever live";

/// What becomes of a staged key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StagedBecomes {
    /// It was cut over.
    Live,
    /// It was discarded, by itself or because another act made it pointless.
    Discarded,
}

/// One key as people see it.
#[derive(Clone, Debug, FromRow)]
pub struct KeyRow {
    /// Its id.
    pub id: KeyId,
    /// Its last four characters.
    pub hint: String,
    /// `live`, `staged`, `replaced`, `expired` or `forgotten`.
    pub state: String,
    /// Who made it.
    pub made_by: String,
    /// When.
    pub created_us: Time,
    /// When it began to be accepted, if that is known to be another moment than when it was made.
    pub live_us: Option<Time>,
    /// When it was handed out; a live key without this was never seen by anybody.
    pub shown_us: Option<Time>,
    /// When it died.
    pub ended_us: Option<Time>,
    /// Why, where the operator forced it.
    pub end_reason: Option<String>,
}

/// A key found by its digest, and whose it is.
#[derive(Clone, Debug, FromRow)]
pub struct IdentifiedKey {
    /// The key.
    #[sqlx(flatten)]
    pub key: KeyRow,
    /// Whose it is.
    pub seller_id: SellerId,
    /// That Seller's slug.
    pub slug: String,
    /// That Seller's name.
    pub name: String,
    /// Whether it is a dealer's account or a Platform's.
    pub kind: AccountKind,
}

/// A key that waits for its cut-over, as people see it.
#[derive(Clone, Debug, FromRow)]
pub struct StagedRow {
    /// Its id.
    pub id: KeyId,
    /// Its last four characters.
    pub hint: String,
    /// Who prepared it.
    pub made_by: String,
    /// When.
    pub created_us: Time,
    /// When it was handed out; without this nobody has it, and it cannot be cut over.
    pub shown_us: Option<Time>,
}

impl Db {
    /// A Seller's newest keys: the live one first if there is one, then those that died last.
    pub async fn keys_of_seller(
        &self,
        scope: SellerScope,
        limit: i64,
    ) -> Result<Vec<KeyRow>, DbError> {
        const SQL: &str = "SELECT id, hint, state, made_by, created_us, live_us, shown_us, ended_us, end_reason \
             FROM api_keys WHERE seller_id = $1 \
             ORDER BY CASE state WHEN 'live' THEN 0 ELSE 1 END, COALESCE(ended_us, created_us) DESC, created_us DESC, id DESC LIMIT $2";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }

    /// When a live key of the scope's Seller last died; a staged one that was discarded never was live.
    pub async fn last_death(&self, scope: SellerScope) -> Result<Option<Time>, DbError> {
        const SQL: &str = "SELECT MAX(ended_us) FROM api_keys \
             WHERE seller_id = $1 AND state IN ('replaced', 'expired') AND COALESCE(end_reason, '') <> $2";
        Ok(on_db!(self, |pool| sqlx::query_scalar(SQL)
            .bind(scope.seller())
            .bind(DISCARDED)
            .fetch_one(pool)
            .await)?)
    }

    /// The scope's key that waits for its cut-over, if there is one.
    pub async fn staged_key(&self, scope: SellerScope) -> Result<Option<StagedRow>, DbError> {
        const SQL: &str =
            "SELECT id, hint, made_by, created_us, shown_us FROM staged_keys WHERE seller_id = $1";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .fetch_optional(pool)
            .await)?)
    }

    /// Whose key this is; `None` for a key that is unknown or long forgotten. For the operator, so without a scope.
    pub async fn identify_key(&self, digest: KeyDigest) -> Result<Option<IdentifiedKey>, DbError> {
        const SQL: &str = "SELECT k.id, k.hint, k.state, k.made_by, k.created_us, k.live_us, k.shown_us, k.ended_us, \
             k.end_reason, k.seller_id, s.slug, s.name, s.kind \
             FROM api_keys k JOIN sellers s ON s.id = k.seller_id WHERE k.digest = $1 \
             UNION ALL SELECT g.id, g.hint, 'staged', g.made_by, g.created_us, NULL, g.shown_us, NULL, NULL, g.seller_id, \
             s.slug, s.name, s.kind FROM staged_keys g JOIN sellers s ON s.id = g.seller_id WHERE g.digest = $1";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(digest.0.to_vec())
            .fetch_optional(pool)
            .await)?)
    }

    /// Completes the record of an act on keys once every node obeys it: files the receipt, and marks the new key, if there
    /// is one, as handed out.
    pub async fn complete_key_act(
        &self,
        act: AuditId,
        receipt: &str,
        shown: Option<KeyId>,
        at: Time,
    ) -> Result<(), DbError> {
        const SHOWN: [&str; 2] = [
            "UPDATE api_keys SET shown_us = $2 WHERE id = $1 AND shown_us IS NULL",
            "UPDATE staged_keys SET shown_us = $2 WHERE id = $1 AND shown_us IS NULL",
        ];
        let mut tx = self.begin_for(For::Completion).await?;
        if let Some(key) = shown {
            for sql in SHOWN {
                on_tx!(tx, |conn| sqlx::query(sql)
                    .bind(key)
                    .bind(at)
                    .execute(conn)
                    .await
                    .map(drop))?;
            }
        }
        tx.file_receipt(act, receipt).await?;
        tx.commit().await
    }
}

impl ScopedTx {
    /// The version of the Seller's key, as it is under this transaction's lock; `None` if there is no such Seller.
    pub async fn key_version(&mut self) -> Result<Option<i64>, DbError> {
        const SQL: &str = "SELECT key_version FROM sellers WHERE id = $1";
        Ok(on_tx!(self.tx, |conn| sqlx::query_scalar(SQL)
            .bind(self.scope.seller())
            .fetch_optional(conn)
            .await)?)
    }

    /// The live key, if there is one.
    pub async fn live_key(&mut self) -> Result<Option<KeyRow>, DbError> {
        const SQL: &str = "SELECT id, hint, state, made_by, created_us, live_us, shown_us, ended_us, end_reason \
             FROM api_keys WHERE seller_id = $1 AND state = 'live'";
        Ok(on_tx!(self.tx, |conn| sqlx::query_as(SQL)
            .bind(self.scope.seller())
            .fetch_optional(conn)
            .await)?)
    }

    /// Kills the live key. `state` is `replaced` or `expired`.
    pub async fn end_live_key(
        &mut self,
        state: &'static str,
        reason: Option<&str>,
        at: Time,
    ) -> Result<Option<(KeyId, KeyDigest)>, DbError> {
        const SQL: &str = "UPDATE api_keys SET state = $2, end_reason = $3, ended_us = $4, changed_epoch = -1 \
             WHERE seller_id = $1 AND state = 'live' RETURNING id, digest";
        let row: Option<(KeyId, Vec<u8>)> = on_tx!(self.tx, |conn| sqlx::query_as(SQL)
            .bind(self.scope.seller())
            .bind(state)
            .bind(reason)
            .bind(at)
            .fetch_optional(conn)
            .await)?;
        row.map(|(id, digest)| Ok((id, digest_of(&digest)?)))
            .transpose()
    }

    /// Adds a live key.
    pub async fn insert_live_key(
        &mut self,
        id: KeyId,
        digest: KeyDigest,
        hint: KeyHint,
        made_by: &str,
        at: Time,
    ) -> Result<(), DbError> {
        const SQL: &str = "INSERT INTO api_keys (id, seller_id, digest, hint, state, made_by, created_us, live_us, changed_epoch) \
             VALUES ($1, $2, $3, $4, 'live', $5, $6, $6, -1)";
        on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(id)
            .bind(self.scope.seller())
            .bind(digest.0.to_vec())
            .bind(hint.to_string())
            .bind(made_by)
            .bind(at)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// The key that waits for its cut-over, if there is one.
    pub async fn staged_key(&mut self) -> Result<Option<StagedRow>, DbError> {
        const SQL: &str =
            "SELECT id, hint, made_by, created_us, shown_us FROM staged_keys WHERE seller_id = $1";
        Ok(on_tx!(self.tx, |conn| sqlx::query_as(SQL)
            .bind(self.scope.seller())
            .fetch_optional(conn)
            .await)?)
    }

    /// Adds a key that waits for its cut-over; there must be none.
    pub async fn insert_staged_key(
        &mut self,
        id: KeyId,
        digest: KeyDigest,
        hint: KeyHint,
        made_by: &str,
        at: Time,
    ) -> Result<(), DbError> {
        const SQL: &str = "INSERT INTO staged_keys (seller_id, id, digest, hint, made_by, created_us, changed_epoch) \
             VALUES ($1, $2, $3, $4, $5, $6, -1)";
        on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(self.scope.seller())
            .bind(id)
            .bind(digest.0.to_vec())
            .bind(hint.to_string())
            .bind(made_by)
            .bind(at)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Moves the staged key among the others: live, or dead without ever having been live. There must be no live key if it
    /// becomes that.
    pub async fn end_staging(
        &mut self,
        becomes: StagedBecomes,
        at: Time,
    ) -> Result<Option<(KeyId, KeyDigest)>, DbError> {
        const MOVE: &str = "INSERT INTO api_keys \
             (id, seller_id, digest, hint, state, made_by, created_us, live_us, shown_us, ended_us, end_reason, \
             changed_epoch) \
             SELECT id, seller_id, digest, hint, $2, made_by, created_us, $3, shown_us, $4, $5, -1 \
             FROM staged_keys WHERE seller_id = $1";
        const DROP: &str = "DELETE FROM staged_keys WHERE seller_id = $1 RETURNING id, digest";
        let (state, live, ended, reason) = match becomes {
            StagedBecomes::Live => ("live", Some(at), None, None),
            StagedBecomes::Discarded => ("replaced", None, Some(at), Some(DISCARDED)),
        };
        let seller = self.scope.seller();
        on_tx!(self.tx, |conn| sqlx::query(MOVE)
            .bind(seller)
            .bind(state)
            .bind(live)
            .bind(ended)
            .bind(reason)
            .execute(conn)
            .await
            .map(drop))?;
        let row: Option<(KeyId, Vec<u8>)> = on_tx!(self.tx, |conn| sqlx::query_as(DROP)
            .bind(seller)
            .fetch_optional(conn)
            .await)?;
        row.map(|(id, digest)| Ok((id, digest_of(&digest)?)))
            .transpose()
    }

    /// Forgets the digests of all but the last hundred dead keys; answers which.
    pub async fn forget_old_keys(&mut self) -> Result<Vec<KeyDigest>, DbError> {
        // An act adds one dead key, so there is one to forget at most; the limit is there because SQLite wants one.
        const FIND: &str = "SELECT id, digest FROM api_keys \
             WHERE seller_id = $1 AND state IN ('replaced', 'expired') \
             ORDER BY ended_us DESC, id DESC LIMIT 1000 OFFSET $2";
        const FORGET: &str = "UPDATE api_keys SET state = 'forgotten', digest = NULL, changed_epoch = -1 WHERE id = $1";
        let old: Vec<(KeyId, Vec<u8>)> = on_tx!(self.tx, |conn| sqlx::query_as(FIND)
            .bind(self.scope.seller())
            .bind(DEAD_KEYS_KEPT)
            .fetch_all(conn)
            .await)?;
        let mut forgotten = Vec::with_capacity(old.len());
        for (id, digest) in old {
            on_tx!(self.tx, |conn| sqlx::query(FORGET)
                .bind(id)
                .execute(conn)
                .await
                .map(drop))?;
            forgotten.push(digest_of(&digest)?);
        }
        Ok(forgotten)
    }

    /// Counts a change of the account's keys by one, so that whoever looked before it is told.
    pub async fn count_key_version(&mut self) -> Result<(), DbError> {
        const SQL: &str = "UPDATE sellers SET key_version = key_version + 1 WHERE id = $1";
        on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(self.scope.seller())
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Counts the epoch by one and stamps with it what the transaction changed of the account's keys and grants. The last
    /// thing before the commit, so that the epoch's row is locked for the shortest time.
    pub async fn seal(&mut self) -> Result<i64, DbError> {
        const EPOCH: &str = "UPDATE key_epoch SET epoch = epoch + 1 WHERE one = 1 RETURNING epoch";
        const STAMP: [&str; 3] = [
            "UPDATE api_keys SET changed_epoch = $2 WHERE seller_id = $1 AND changed_epoch = -1",
            "UPDATE staged_keys SET changed_epoch = $2 WHERE seller_id = $1 AND changed_epoch = -1",
            "UPDATE grants SET changed_epoch = $2 WHERE seller_id = $1 AND changed_epoch = -1",
        ];
        let account = self.scope.seller();
        let epoch: i64 = on_tx!(self.tx, |conn| sqlx::query_scalar(EPOCH)
            .fetch_one(conn)
            .await)?;
        for sql in STAMP {
            on_tx!(self.tx, |conn| sqlx::query(sql)
                .bind(account)
                .bind(epoch)
                .execute(conn)
                .await
                .map(drop))?;
        }
        Ok(epoch)
    }
}

impl Db {
    /// Adds live keys of new Sellers in one go, for filling an empty database with a load test's worth; a change of keys like
    /// any other to the nodes that serve it.
    pub async fn insert_live_keys_in_bulk(
        tx: &mut super::WriteTx,
        keys: &[(SellerId, KeyId, KeyDigest, KeyHint)],
        made_by: &str,
        at: Time,
    ) -> Result<(), DbError> {
        // Digests travel as hexadecimal: JSON has no bytes.
        let rows: Vec<_> = keys
            .iter()
            .map(|(seller, key, digest, hint)| {
                serde_json::json!({
                    "seller": seller, "id": key, "hint": hint.to_string(),
                    "digest": digest.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
                })
            })
            .collect();
        let json = serde_json::Value::from(rows).to_string();
        const SQLITE: &str = "INSERT INTO api_keys (id, seller_id, digest, hint, state, made_by, created_us, shown_us, changed_epoch) \
             SELECT value ->> 'id', value ->> 'seller', unhex(value ->> 'digest'), value ->> 'hint', 'live', $2, $3, $3, $4 \
             FROM json_each($1)";
        const POSTGRES: &str = "INSERT INTO api_keys (id, seller_id, digest, hint, state, made_by, created_us, shown_us, changed_epoch) \
             SELECT id, seller, decode(digest, 'hex'), hint, 'live', $2, $3, $3, $4 \
             FROM json_to_recordset($1::json) AS r(id text, seller text, digest text, hint text)";
        const EPOCH: &str = "UPDATE key_epoch SET epoch = epoch + 1 WHERE one = 1 RETURNING epoch";
        let epoch: i64 = on_tx!(tx, |conn| sqlx::query_scalar(EPOCH).fetch_one(conn).await)?;
        match &mut tx.inner {
            Tx::Sqlite(tx) => {
                sqlx::query(SQLITE)
                    .bind(json)
                    .bind(made_by)
                    .bind(at)
                    .bind(epoch)
                    .execute(&mut **tx)
                    .await?;
            }
            Tx::Postgres(tx) => {
                let work = sqlx::query(POSTGRES)
                    .bind(json)
                    .bind(made_by)
                    .bind(at)
                    .bind(epoch)
                    .execute(&mut **tx);
                answered(work).await?;
            }
        }
        Ok(())
    }
}
