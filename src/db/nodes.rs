//! The nodes that share a database: who serves, and how far each has come.
//!
//! Each method is one step of the rule in [`crate::keys::revocation`], one transaction each; what may follow what is
//! decided there. On PostgreSQL they use connections of their own.
//!
//! Never: a row deleted by who has not seen its number stand still.

use sqlx::FromRow;

use super::{
    Db, DbError, ScopedTx,
    key_table::EPOCH,
    on_tx,
    postgres::{Listener, answered},
};
use crate::{clock::Time, ids::NodeId};

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

pub(super) use on_vital;

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
}

impl ScopedTx {
    /// The epoch as it is now. Under the owner's lock it is not before any change of the owner's keys.
    pub async fn present_epoch(&mut self) -> Result<i64, DbError> {
        Ok(on_tx!(self.tx, |conn| sqlx::query_scalar(EPOCH)
            .fetch_one(conn)
            .await)?)
    }
}
