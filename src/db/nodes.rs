//! The nodes that share a database: who serves, how far each has come, and what a node reads of the keys to keep up.
//!
//! Each method is one step of the rule in [`crate::keys::revocation`], one transaction each; what may follow what is
//! decided there. On PostgreSQL they use connections of their own.
//!
//! Never: a row deleted by who has not seen its number stand still; a read of keys that is not one snapshot.

use sqlx::FromRow;

use super::{
    Db, DbError, ScopedTx,
    keys::table_entry,
    on_tx, place_in,
    postgres::{BEGIN_READ, Listener, answered},
};
use crate::{
    clock::Time,
    ids::{KeyId, NodeId},
    keys::{
        format::KeyDigest,
        table::{KeyRecord, TableChange},
    },
};

const EPOCH: &str = "SELECT epoch FROM key_epoch WHERE one = 1";

/// A node as it shows itself to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCard {
    /// New at every start.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// The version of its program.
    pub version: String,
    /// When it started.
    pub started: Time,
}

/// What the database holds of a node.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct NodeRow {
    /// Which.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// The version of its program.
    pub version: String,
    /// The number of its last cycle.
    pub cycles: i64,
    /// The epoch that it last said it judges by; -1 if it has not yet.
    pub applied: i64,
    /// When it started.
    pub started_us: Time,
    /// How long ago it last renewed, on the database's clock, in microseconds.
    pub age_us: i64,
}

/// What has changed among the keys.
#[derive(Clone, Debug)]
pub struct KeyChanges {
    /// The epoch up to which this is complete.
    pub epoch: i64,
    /// Keys that are new or have a new standing.
    pub put: Vec<(KeyDigest, KeyRecord)>,
    /// Keys whose digests are no longer kept.
    pub forgotten: Vec<KeyId>,
}

#[derive(FromRow)]
struct ChangedRow {
    id: KeyId,
    seller_id: crate::ids::SellerId,
    digest: Option<Vec<u8>>,
    state: String,
}

/// Runs one query on the connections that the rule on keys has for itself.
macro_rules! on_vital {
    ($db:expr, |$pool:ident| $query:expr) => {
        match $db {
            Db::Sqlite(db) => {
                let $pool = &db.reader;
                $query
            }
            Db::Postgres(db) => {
                let $pool = &db.vital;
                answered(async { $query }).await
            }
        }
    };
}

/// Runs one query that writes to the table of nodes, on the connections named.
macro_rules! on_writer {
    ($db:expr, $connections:ident, |$pool:ident| $query:expr) => {
        match $db {
            Db::Sqlite(db) => {
                let $pool = &db.writer;
                $query
            }
            Db::Postgres(db) => {
                let $pool = &db.$connections;
                answered(async { $query }).await
            }
        }
    };
}

impl Db {
    /// Whether other processes may use the database at the same time.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Commits that the node is there and in this cycle of its own. Its row is made if it is missing. Answers the epoch that the
    /// row says it judges by; -1 for a row that has not said so yet.
    pub async fn note_cycle(&self, node: &NodeCard, cycle: i64) -> Result<i64, DbError> {
        const SQLITE: &str = "INSERT INTO nodes (id, name, version, cycles, applied, started_us, renewed_us) \
             VALUES ($1, $2, $3, $4, -1, $5, CAST(unixepoch('subsec') * 1000000 AS INTEGER)) \
             ON CONFLICT (id) DO UPDATE SET cycles = max(cycles, excluded.cycles) RETURNING applied";
        const POSTGRES: &str = "INSERT INTO nodes AS n (id, name, version, cycles, applied, started_us, renewed_us) \
             VALUES ($1, $2, $3, $4, -1, $5, CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)) \
             ON CONFLICT (id) DO UPDATE SET cycles = greatest(n.cycles, excluded.cycles) RETURNING applied";
        let sql = self.of_engine(SQLITE, POSTGRES);
        Ok(on_writer!(self, lease, |pool| sqlx::query_scalar(sql)
            .bind(node.id)
            .bind(&node.name)
            .bind(&node.version)
            .bind(cycle)
            .bind(node.started)
            .fetch_one(pool)
            .await)?)
    }

    /// The revocation epoch at this moment.
    pub async fn key_epoch(&self) -> Result<i64, DbError> {
        Ok(on_vital!(self, |pool| sqlx::query_scalar(EPOCH)
            .fetch_one(pool)
            .await)?)
    }

    /// What has changed since an epoch, all of one snapshot.
    pub async fn key_changes(&self, since: i64) -> Result<KeyChanges, DbError> {
        const KEYS: &str = "SELECT id, seller_id, digest, state FROM api_keys WHERE changed_epoch > $1 \
             UNION ALL SELECT id, seller_id, digest, 'staged' FROM staged_keys WHERE changed_epoch > $1";
        macro_rules! read {
            ($tx:expr) => {{
                let mut tx = $tx;
                let epoch: i64 = sqlx::query_scalar(EPOCH).fetch_one(&mut *tx).await?;
                let rows: Vec<ChangedRow> = if epoch == since {
                    Vec::new()
                } else {
                    sqlx::query_as(KEYS).bind(since).fetch_all(&mut *tx).await?
                };
                tx.rollback().await?;
                Ok((epoch, rows))
            }};
        }
        let (epoch, rows) = match self {
            Self::Sqlite(db) => {
                let read: Result<_, sqlx::Error> = async { read!(db.reader.begin().await?) }.await;
                read?
            }
            Self::Postgres(db) => {
                answered(async { read!(db.lease.begin_with(BEGIN_READ).await?) }).await?
            }
        };
        let mut changes = KeyChanges {
            epoch,
            put: Vec::with_capacity(rows.len()),
            forgotten: Vec::new(),
        };
        for row in rows {
            match row.digest {
                Some(digest) => {
                    let entry = table_entry(row.id, row.seller_id, &digest, &row.state)?;
                    changes.put.push(entry);
                }
                None => changes.forgotten.push(row.id),
            }
        }
        Ok(changes)
    }

    /// Commits that the node judges by this epoch; `false` if its row is gone.
    pub async fn acknowledge(&self, node: NodeId, epoch: i64) -> Result<bool, DbError> {
        // A late one never takes back a later one.
        const SQLITE: &str = "UPDATE nodes SET applied = CASE WHEN applied > $2 THEN applied ELSE $2 END, \
             renewed_us = CAST(unixepoch('subsec') * 1000000 AS INTEGER) WHERE id = $1";
        const POSTGRES: &str = "UPDATE nodes SET applied = CASE WHEN applied > $2 THEN applied ELSE $2 END, \
             renewed_us = CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) WHERE id = $1";
        let sql = self.of_engine(SQLITE, POSTGRES);
        Ok(on_writer!(self, lease, |pool| sqlx::query(sql)
            .bind(node)
            .bind(epoch)
            .execute(pool)
            .await
            .map(|done| done.rows_affected() == 1))?)
    }

    /// Every node, as the database knows it at this moment.
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, DbError> {
        const SQLITE: &str = "SELECT id, name, version, cycles, applied, started_us, \
             CAST(unixepoch('subsec') * 1000000 AS INTEGER) - renewed_us AS age_us FROM nodes ORDER BY name, id";
        const POSTGRES: &str = "SELECT id, name, version, cycles, applied, started_us, \
             CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) - renewed_us AS age_us FROM nodes ORDER BY name, id";
        let sql = self.of_engine(SQLITE, POSTGRES);
        Ok(on_vital!(self, |pool| sqlx::query_as(sql)
            .fetch_all(pool)
            .await)?)
    }

    /// Deletes the row of a node whose cycle is still this one; `false` if it has moved or is gone.
    pub async fn sweep_node(&self, node: NodeId, cycle: i64) -> Result<bool, DbError> {
        const SQL: &str = "DELETE FROM nodes WHERE id = $1 AND cycles = $2";
        Ok(on_writer!(self, vital, |pool| sqlx::query(SQL)
            .bind(node)
            .bind(cycle)
            .execute(pool)
            .await
            .map(|done| done.rows_affected() == 1))?)
    }

    /// Deletes the row of a node that trusts nothing any more.
    pub async fn give_row_back(&self, node: NodeId) -> Result<(), DbError> {
        const SQL: &str = "DELETE FROM nodes WHERE id = $1";
        on_writer!(self, vital, |pool| sqlx::query(SQL)
            .bind(node)
            .execute(pool)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Hints to every node that keys have changed. Does nothing where there is one process only.
    pub async fn hint_at_change(&self) -> Result<(), DbError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(db) => db.notify().await,
        }
    }

    /// Hears those hints; `None` where there are none.
    pub async fn listen_for_changes(&self) -> Result<Option<Listener>, DbError> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Postgres(db) => Listener::connect(db).await.map(Some),
        }
    }

    /// What the database itself says of one key, at this moment; `None` if no key has this digest.
    pub async fn key_record(&self, digest: KeyDigest) -> Result<Option<KeyRecord>, DbError> {
        const SQL: &str = "SELECT id, seller_id, digest, state FROM api_keys WHERE digest = $1 \
             UNION ALL SELECT id, seller_id, digest, 'staged' FROM staged_keys WHERE digest = $1";
        let _place = match self {
            Self::Sqlite(_) => None,
            Self::Postgres(db) => Some(place_in(&db.checks).await?),
        };
        let row: Option<ChangedRow> = on_vital!(self, |pool| sqlx::query_as(SQL)
            .bind(digest.0.to_vec())
            .fetch_optional(pool)
            .await)?;
        row.map(|row| {
            let digest = row.digest.unwrap_or_default();
            table_entry(row.id, row.seller_id, &digest, &row.state).map(|(_, record)| record)
        })
        .transpose()
    }
}

impl ScopedTx {
    /// The epoch as it is now. Under the owner's lock it is not before any change of the owner's keys.
    pub async fn present_epoch(&mut self) -> Result<i64, DbError> {
        Ok(on_tx!(self.tx, |conn| sqlx::query_scalar(EPOCH)
            .fetch_one(conn)
            .await)?)
    }
}

impl KeyChanges {
    /// What is to be done to a table; `digests` finds those of keys in it.
    pub fn for_table(self, digests: impl FnOnce(&[KeyId]) -> Vec<KeyDigest>) -> TableChange {
        let forget = match self.forgotten.is_empty() {
            true => Vec::new(),
            false => digests(&self.forgotten),
        };
        TableChange {
            put: self.put,
            forget,
        }
    }
}
