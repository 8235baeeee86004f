//! The database: SQLite in one file, or PostgreSQL, behind one set of methods.
//!
//! Each method's SQL runs on both engines; where one has a much better way, both texts stand side by side. Reads go
//! through [`Db`], writes through a transaction that only [`Db::begin_write`] and its siblings open.
//!
//! Never: sqlx named outside this folder; a time taken from SQL; a Seller's row reached without a
//! [`SellerScope`]; a unique violation told apart by its constraint's name.

mod audit;
mod erasing;
mod error;
mod fence;
mod forget;
mod incidents;
mod key_table;
mod keys;
mod leaks;
mod listings;
mod mail;
mod nodes;
mod people;
mod platforms;
mod postgres;
mod ring;
mod schema;
mod second_factor;
mod sellers;
mod sessions;
mod types;
mod usage;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sqlx::{
    Connection, Postgres, Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use self::postgres::{For, PgDb, answered};
pub use self::{
    audit::{AuditEntry, AuditRow},
    erasing::{Belongs, ErasedRows, ErasureTx, Person},
    error::{DbError, Fenced},
    incidents::Death,
    key_table::{AskedKey, KeyChanges},
    keys::{IdentifiedKey, KeyRow, StagedBecomes, StagedRow},
    leaks::{BrowserRow, DismissedLeak, LeakRow, NotedLeak},
    listings::{ListingCounts, ListingFilter},
    mail::{Addressees, MailRow, NewMail},
    nodes::{NodeCard, NodeRow},
    people::{LinkKind, LinkRow, MemberRow, MembershipRow, UserRow},
    platforms::{GrantRow, GrantedRow, GranteeRow, PlatformRow},
    postgres::{CHANGE_LOCK_TIMEOUT, CONNECTIONS as POSTGRES_CONNECTIONS, Heard, Listener},
    ring::{RingRefused, RingRow},
    second_factor::{FactorRow, HalfSignInRow, StoredSecret},
    sellers::{DealerChange, LocationRow, NewDealer, NewSeller, SellerRow},
    sessions::SessionRow,
    usage::{ClientUse, FormerClient, OfKeys, RefusedClient, SlotUse, UsageRow},
};
use crate::keys::scope::SellerScope;

/// How long a statement or a transaction waits for another process that holds the SQLite file.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a write waits for its turn, and a read for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that read SQLite at the same time; each is a thread.
const SQLITE_READERS: u32 = 4;
/// Of those, how many may read pages of listings.
const PAGES_AT_ONCE: usize = 2;
/// Rows that SQLite's thread may hand over before they are taken.
const SQLITE_ROWS_AT_ONCE: usize = 512;
/// Size of the write-ahead log at which a checkpoint is worth its cost.
const CHECKPOINT_WAL_BYTES: u64 = 8 << 20;
/// Size at which writers are made to wait for one.
const CHECKPOINT_WAL_BYTES_MAX: u64 = 256 << 20;

/// Where the database is, as `--database` names it.
#[derive(Clone, PartialEq, Eq)]
pub enum DbUrl {
    /// One file.
    Sqlite(PathBuf),
    /// A server; the whole address, which may hold a password and so is never printed.
    Postgres(String),
}

impl fmt::Debug for DbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DbUrl {
    /// As it may be shown: without a password, which may stand before the host and in the query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(address) => {
                let rest = address.split_once("://").map_or("", |(_, rest)| rest);
                let (before, place) = rest.rsplit_once('@').unwrap_or(("", rest));
                let host = place.split(['/', '?', '#']).next().unwrap_or_default();
                let port = host.rsplit_once(':').map_or("", |(_, port)| port);
                // Where the password ends cannot be told if it holds what ends an address; and where no host is named, it
                // stands in that one's place.
                if before.contains(['/', '?', '#'])
                    || !(host.starts_with('[') || port.bytes().all(|c| c.is_ascii_digit()))
                {
                    return f.write_str("postgres://...");
                }
                let user = before.split(':').next().unwrap_or_default();
                let at = if user.is_empty() { "" } else { "@" };
                let place = place.split(['?', '#']).next().unwrap_or_default();
                write!(f, "postgres://{user}{at}{place}")
            }
        }
    }
}

/// The address names no database that this program knows.
#[derive(Debug, thiserror::Error)]
#[error("not a database address: give sqlite:PATH or postgres://USER@HOST/NAME")]
pub struct BadDbUrl;

impl FromStr for DbUrl {
    type Err = BadDbUrl;

    fn from_str(text: &str) -> Result<Self, BadDbUrl> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        let path = text.strip_prefix("sqlite:").ok_or(BadDbUrl)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains('?') || path.starts_with(':') {
            return Err(BadDbUrl);
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

/// An open database.
#[derive(Clone)]
pub enum Db {
    /// One file, owned by this process.
    Sqlite(SqliteDb),
    /// A server, shared with other nodes.
    Postgres(PgDb),
}

/// SQLite takes one writer at a time. Queueing for one connection is fair and never sees "busy"; readers never wait for it.
#[derive(Clone)]
pub struct SqliteDb {
    reader: SqlitePool,
    writer: SqlitePool,
    path: PathBuf,
    /// One place in the writer's queue for all dealers' writes, however many wait: a change of keys, which is not among
    /// them, waits for one write at most. A flood must not stop the revocation of the key it comes with.
    ordinary_writes: Arc<Semaphore>,
    /// The same for what people do who sign in: apart, so that a flood of batches under a leaked key does not keep its owner
    /// from signing in and replacing it.
    people_writes: Arc<Semaphore>,
    /// Pages of listings read at once: they may take long, and must leave connections to everything else.
    pages: Arc<Semaphore>,
    /// When the write-ahead log had last been written at the last checkpoint.
    checkpointed: Arc<Mutex<Option<SystemTime>>>,
}

/// An open transaction that may write. Dropped without [`WriteTx::commit`], it changes nothing.
pub struct WriteTx {
    inner: Tx,
    /// Its place in the queue that it waited in, if it did. Given back when the transaction has ended, so it stands last.
    _place: Option<OwnedSemaphorePermit>,
}

/// A place among those who may write at present, where there is a queue for them. Given back when it is dropped.
pub struct WritePlace(Option<OwnedSemaphorePermit>);

enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// A write transaction in which the scope was found to still hold; its Seller-owned writes go to that Seller only.
pub struct ScopedTx {
    tx: WriteTx,
    scope: SellerScope,
}

/// Runs one query on whichever engine a [`Db`] is: `on_db!(self, |pool| query.fetch_one(pool).await)`.
macro_rules! on_db {
    ($db:expr, |$pool:ident| $query:expr) => {
        match $db {
            $crate::db::Db::Sqlite(db) => {
                let $pool = &db.reader;
                $query
            }
            $crate::db::Db::Postgres(db) => {
                let $pool = &db.pool;
                $crate::db::postgres::answered(async { $query }).await
            }
        }
    };
}

/// The same inside a [`WriteTx`].
macro_rules! on_tx {
    ($tx:expr, |$conn:ident| $query:expr) => {
        match &mut $tx.inner {
            $crate::db::Tx::Sqlite(tx) => {
                let $conn = &mut **tx;
                $query
            }
            $crate::db::Tx::Postgres(tx) => {
                let $conn = &mut **tx;
                $crate::db::postgres::answered(async { $query }).await
            }
        }
    };
}

pub(crate) use {on_db, on_tx};

impl Db {
    /// Opens the database, creating the SQLite file if there is none. Call [`Db::migrate`] before anything else.
    ///
    /// For SQLite the caller must own the file ([`crate::control::Ownership`]).
    pub async fn open(url: &DbUrl) -> Result<Self, DbError> {
        Self::open_with(url, POSTGRES_CONNECTIONS).await
    }

    /// The same with so many connections for ordinary work, if it is a server's.
    pub async fn open_with(url: &DbUrl, connections: u32) -> Result<Self, DbError> {
        match url {
            DbUrl::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // FULL: a commit is on the disk when it returns, power cut or not.
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(SQLITE_BUSY_TIMEOUT)
                    .foreign_keys(true)
                    // A batch's rows at once: each further portion costs a change of threads.
                    .row_buffer_size(SQLITE_ROWS_AT_ONCE)
                    // In KiB, as the minus says; the default of 2 MiB has a large batch read its pages again and again.
                    .pragma("cache_size", "-32768")
                    // Checkpoints run beside the commits (see `checkpoint`), not inside every thousandth of them.
                    .pragma("wal_autocheckpoint", "0");
                let pool = |max| {
                    SqlitePoolOptions::new()
                        .max_connections(max)
                        .acquire_timeout(ACQUIRE_TIMEOUT)
                        .idle_timeout(None)
                        .max_lifetime(None)
                        .test_before_acquire(false)
                };
                let writer = pool(1)
                    .after_release(|connection, _| Box::pin(is_usable(connection)))
                    .connect_with(options.clone())
                    .await?;
                let reader = pool(SQLITE_READERS)
                    .connect_with(options.read_only(true).pragma("query_only", "1"))
                    .await?;
                Ok(Self::Sqlite(SqliteDb {
                    reader,
                    writer,
                    path: path.clone(),
                    ordinary_writes: Arc::new(Semaphore::new(1)),
                    people_writes: Arc::new(Semaphore::new(1)),
                    pages: Arc::new(Semaphore::new(PAGES_AT_ONCE)),
                    checkpointed: Arc::default(),
                }))
            }
            DbUrl::Postgres(address) => {
                Ok(Self::Postgres(PgDb::connect(address, connections).await?))
            }
        }
    }

    /// Opens a SQLite file that exists for looking only: nothing about it is changed, not even its journal's mode.
    pub async fn inspect(path: &Path) -> Result<Self, DbError> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await?;
        Ok(Self::Sqlite(SqliteDb {
            reader: pool.clone(),
            writer: pool,
            path: path.to_owned(),
            ordinary_writes: Arc::new(Semaphore::new(1)),
            people_writes: Arc::new(Semaphore::new(1)),
            pages: Arc::new(Semaphore::new(PAGES_AT_ONCE)),
            checkpointed: Arc::default(),
        }))
    }

    /// Whichever of two texts is this engine's.
    fn of_engine(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), DbError> {
        const SQL: &str = "SELECT epoch FROM key_epoch WHERE one = 1";
        on_db!(self, |pool| sqlx::query(SQL)
            .fetch_one(pool)
            .await
            .map(drop))?;
        Ok(())
    }

    /// What the engine itself finds wrong with the stored data; empty is well.
    pub async fn integrity_problems(&self) -> Result<Vec<String>, DbError> {
        let Self::Sqlite(db) = self else {
            return Ok(Vec::new());
        };
        let mut problems: Vec<String> = sqlx::query_scalar("PRAGMA quick_check")
            .fetch_all(&db.reader)
            .await?;
        problems.retain(|line| line != "ok");
        Ok(problems)
    }

    /// Opens a transaction as [`Db::begin`] does, but one that waits for its turn among the others of this kind: for what
    /// people and strangers can cause in any number.
    pub async fn begin_in_turn(&self) -> Result<WriteTx, DbError> {
        let place = match self {
            Self::Sqlite(db) => Some(place_in(&db.people_writes).await?),
            Self::Postgres(_) => None,
        };
        self.begin_at(WritePlace(place)).await
    }

    /// Waits for a place among dealers' writes. Whoever must wait for something else too before the transaction begins waits
    /// for this first: what many wait for at once is then waited for here, where no change of a key stands behind them.
    pub async fn place_to_write(&self) -> Result<WritePlace, DbError> {
        let queue = match self {
            Self::Sqlite(db) => &db.ordinary_writes,
            Self::Postgres(db) => &db.ordinary_writes,
        };
        Ok(WritePlace(Some(place_in(queue).await?)))
    }

    /// Opens a transaction that keeps its place until it has ended.
    async fn begin_at(&self, place: WritePlace) -> Result<WriteTx, DbError> {
        let tx = self.begin().await?;
        Ok(WriteTx {
            _place: place.0,
            ..tx
        })
    }

    /// Opens a transaction on rows that belong to no Seller: new Sellers, usage counts, an act's receipt.
    pub async fn begin(&self) -> Result<WriteTx, DbError> {
        self.begin_for(For::Write).await
    }

    async fn begin_for(&self, what: For) -> Result<WriteTx, DbError> {
        let inner = match self {
            // IMMEDIATE takes the write lock at once: a transaction that reads first and then wants to write could fail.
            Self::Sqlite(db) => Tx::Sqlite(db.writer.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(db) => Tx::Postgres(db.begin(what).await?),
        };
        Ok(WriteTx {
            inner,
            _place: None,
        })
    }

    /// Moves what the write-ahead log holds into the SQLite file, when there is enough of it. Does nothing on PostgreSQL.
    pub async fn checkpoint(&self) -> Result<(), DbError> {
        let Self::Sqlite(db) = self else {
            return Ok(());
        };
        let mut wal = db.path.clone().into_os_string();
        wal.push("-wal");
        let Ok(wal) = std::fs::metadata(wal) else {
            return Ok(());
        };
        let (bytes, written) = (wal.len(), wal.modified().ok());
        // The log keeps its size after a checkpoint; only what was written since is worth another.
        let mut checkpointed = db.checkpointed.lock().await;
        if *checkpointed == written {
            return Ok(());
        }
        if bytes > CHECKPOINT_WAL_BYTES_MAX {
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                .execute(&db.writer)
                .await?;
        } else if bytes > CHECKPOINT_WAL_BYTES {
            // A connection of its own, as the readers' may not write: passive, so no commit waits for it.
            let options = SqliteConnectOptions::new().filename(&db.path);
            let mut own = SqliteConnection::connect_with(&options).await?;
            sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
                .execute(&mut own)
                .await?;
            // Awaited, so that the writer's is the last connection to close and takes the log with it.
            own.close().await?;
        } else {
            return Ok(());
        }
        *checkpointed = written;
        Ok(())
    }

    /// Closes every connection; SQLite folds its write-ahead log into the file.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(db) => {
                db.reader.close().await;
                db.writer.close().await;
            }
            Self::Postgres(db) => db.close().await,
        }
    }
}

/// Waits for a place, for as long as for a connection.
async fn place_in(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, DbError> {
    match tokio::time::timeout(ACQUIRE_TIMEOUT, Arc::clone(places).acquire_owned()).await {
        Ok(Ok(place)) => Ok(place),
        _ => Err(sqlx::Error::PoolTimedOut.into()),
    }
}

/// Whether a writer's connection may be used again, or must be closed.
///
/// When the disk is full, SQLite ends the transaction by itself. The library's own ROLLBACK then fails, it goes on to
/// believe in a transaction, and the connection would refuse to begin another one for ever.
async fn is_usable(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // A dropped transaction's ROLLBACK may still be queued; this waits behind it.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

impl WriteTx {
    /// Makes the transaction durable and visible. After an error the outcome is unknown: it may have been committed.
    pub async fn commit(self) -> Result<(), DbError> {
        // The place is held until the transaction has ended.
        let Self { inner, _place } = self;
        match inner {
            Tx::Sqlite(tx) => tx.commit().await?,
            Tx::Postgres(tx) => answered(tx.commit()).await?,
        }
        Ok(())
    }
}

impl ScopedTx {
    /// The Seller whose rows this transaction may write.
    pub fn scope(&self) -> SellerScope {
        self.scope
    }

    /// See [`WriteTx::commit`].
    pub async fn commit(self) -> Result<(), DbError> {
        self.tx.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_once_at_the_edge() {
        let sqlite = |path: &str| DbUrl::Sqlite(path.into());
        assert_eq!("sqlite:a.db".parse::<DbUrl>().ok(), Some(sqlite("a.db")));
        assert_eq!(
            "sqlite:///v/a.db".parse::<DbUrl>().ok(),
            Some(sqlite("/v/a.db"))
        );
        assert_eq!(
            "sqlite:/v/a.db".parse::<DbUrl>().ok(),
            Some(sqlite("/v/a.db"))
        );
        for bad in [
            "",
            "a.db",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:a.db?mode=ro",
            "mysql://x",
        ] {
            assert!(bad.parse::<DbUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_is_shown_with_its_user_and_without_its_password() {
        for (address, shown) in [
            ("postgres://h/d", "postgres://h/d"),
            ("postgres://u@h:1/d", "postgres://u@h:1/d"),
            ("postgresql://u:pw@h/d?sslmode=require", "postgres://u@h/d"),
            ("postgres://u:p@w@h/d", "postgres://u@h/d"),
            ("postgres://u:p/w@h/d", "postgres://..."),
            ("postgres://:pw@h/d", "postgres://h/d"),
            ("postgres://h/d?user=u&password=pw", "postgres://h/d"),
            ("postgres://h/d?password=p@pw", "postgres://..."),
            ("postgres://u:pw/d", "postgres://..."),
            ("postgres://u@[::1]:5433/d", "postgres://u@[::1]:5433/d"),
        ] {
            let read: DbUrl = address.parse().expect(address);
            assert_eq!(read.to_string(), shown);
        }
    }
}
