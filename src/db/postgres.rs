//! What a database server needs that a file does not: pools that a dead connection cannot clog, settings that a session
//! must have, and an end for whoever sits on a lock.
//!
//! Never: an answer waited for without end; a standby taken for the primary; a session whose commits may be lost after
//! they were acknowledged.

use std::{net::IpAddr, str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions, Connection, Executor, PgConnection, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgSslMode},
};
use tokio::sync::Semaphore;

use super::{ACQUIRE_TIMEOUT, DbError};

/// Connections for ordinary work, unless the operator says otherwise.
pub const CONNECTIONS: u32 = 16;
/// Connections for changes of keys, checks of single keys, and ending whoever sits on a lock. Floods of ordinary work do not
/// touch them.
const VITAL_CONNECTIONS: u32 = 8;
/// Of those, how many may check single keys: changes must find one at any time.
const CHECKS_AT_ONCE: usize = 3;
/// Of those, how many changes may have, as each may wait for a lock: who ends the holder of that lock must find one, and who
/// lists the nodes.
const CHANGES_AT_ONCE: usize = 3;
/// Connections for cycles, which nothing else may hold up; the second is for when the first no longer answers. The listener
/// has one of its own besides.
const LEASE_CONNECTIONS: u32 = 2;
/// How long any statement is waited for, whatever the server does: longer than the server's own limits, which answer first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// A connection that was idle for longer is tried before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// How long that, or taking a connection back, may take.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// For how long a connection on which nothing is heard is taken to be alive. A firewall may have forgotten it.
const LISTENER_QUIET: Duration = Duration::from_secs(60);
/// How long the rule on keys waits for one of its connections.
const VITAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a change of keys waits for its owner's lock before it ends whoever holds it for as long.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// What nodes tell each other through the server.
const CHANNEL: &str = "truckradar_keys";

/// What every session has. Statements outside of transactions may take five seconds; whoever does nothing inside a
/// transaction for a second has died or is frozen.
const SESSION: &str = "SET default_transaction_isolation = 'read committed'; \
     SET statement_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '1s'; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
/// A node that freezes inside a write must not hold its locks for ever.
const BEGIN_WRITE: &str = "BEGIN; SET LOCAL statement_timeout = '1s'";
/// How long a change waits for writes in flight, and then for those who were to end but did not; `BEGIN_CHANGE` says it to
/// the server.
pub const CHANGE_LOCK_TIMEOUT: Duration = Duration::from_secs(4);
const BEGIN_CHANGE: &str = "BEGIN; SET LOCAL statement_timeout = '4s'";
/// One snapshot of the primary for all that is read.
pub(super) const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A database server, and this process's connections to it.
#[derive(Clone)]
pub struct PgDb {
    /// For everything but what the rule on keys needs.
    pub(super) pool: PgPool,
    /// For that.
    pub(super) vital: PgPool,
    /// For this node's own cycles.
    pub(super) lease: PgPool,
    /// Of the ordinary connections, those that dealers' writes may take: a flood of batches leaves some to everybody else.
    pub(super) ordinary_writes: Arc<Semaphore>,
    /// Of the vital ones, those that may check single keys.
    pub(super) checks: Arc<Semaphore>,
    /// And those that changes may have.
    pub(super) changes: Arc<Semaphore>,
}

/// What a transaction is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// Ordinary writes.
    Write,
    /// A change of what keys are good, or of who may act.
    Change,
    /// The end of such a change.
    Completion,
}

impl PgDb {
    /// Connects. Nothing is asked of the server but that it is a primary.
    pub(super) async fn connect(address: &str, connections: u32) -> Result<Self, DbError> {
        let options = options(address)?;
        let pool = |max, patience| {
            PgPoolOptions::new()
                .max_connections(max)
                .acquire_timeout(patience)
                .test_before_acquire(false)
                .after_connect(|connection, _| Box::pin(prepare(connection)))
                .before_acquire(|connection, meta| {
                    Box::pin(async move {
                        Ok(meta.idle_for < TRUSTED_IDLE || ping(connection).await.is_ok())
                    })
                })
                // The library's own look at a connection that comes back has no end if nobody answers.
                .after_release(|connection, _| {
                    Box::pin(async move { ping(connection).await.map(|()| true) })
                })
        };
        let vital = pool(VITAL_CONNECTIONS, VITAL_TIMEOUT).connect_lazy_with(options.clone());
        let lease = pool(LEASE_CONNECTIONS, VITAL_TIMEOUT).connect_lazy_with(options.clone());
        let pool = pool(connections, ACQUIRE_TIMEOUT).connect_lazy_with(options);
        let writers = connections as usize * 3 / 4;
        let db = Self {
            pool,
            vital,
            lease,
            ordinary_writes: Arc::new(Semaphore::new(writers.max(1))),
            checks: Arc::new(Semaphore::new(CHECKS_AT_ONCE)),
            changes: Arc::new(Semaphore::new(CHANGES_AT_ONCE)),
        };
        // A pool would try again and again where a wrong address is to be told at once.
        let first = async { db.unlimited().await?.close().await.map_err(DbError::from) };
        match tokio::time::timeout(ACQUIRE_TIMEOUT, first).await {
            Ok(first) => first?,
            Err(_) => return Err(sqlx::Error::PoolTimedOut.into()),
        }
        // A change of keys is not to wait for its connections to be made: one that it is on, one that tells of it.
        let (one, other) = tokio::join!(db.vital.acquire(), db.vital.acquire());
        drop((one?, other?));
        Ok(db)
    }

    pub(super) async fn begin(&self, what: For) -> Result<Transaction<'static, Postgres>, DbError> {
        let begun = match what {
            For::Write => answered(self.pool.begin_with(BEGIN_WRITE)).await?,
            For::Change => answered(self.vital.begin_with(BEGIN_CHANGE)).await?,
            For::Completion => answered(self.vital.begin_with(BEGIN_WRITE)).await?,
        };
        Ok(begun)
    }

    /// A connection to itself without any limit of time, for what may take long and is asked for once.
    pub(super) async fn unlimited(&self) -> Result<PgConnection, DbError> {
        let mut connection = self.pool.connect_options().connect().await?;
        must_be_primary(&mut connection).await?;
        Ok(connection)
    }

    /// The same, in a transaction that sees one snapshot.
    pub(super) async fn begin_read(
        connection: &mut PgConnection,
    ) -> Result<Transaction<'_, Postgres>, DbError> {
        Ok(connection.begin_with(BEGIN_READ).await?)
    }

    /// Tells every node that keys have changed. A hint: nothing depends on its arrival.
    pub(super) async fn notify(&self) -> Result<(), DbError> {
        let told = sqlx::query("SELECT pg_notify($1, '')").bind(CHANNEL);
        answered(told.execute(&self.vital)).await?;
        Ok(())
    }

    /// Ends every session that holds this lock and has done nothing for as long as a change is to wait: neither begun a
    /// statement nor ended one. Left alone is whoever waited for the lock itself and has just got it, so that its statement is
    /// old; and whoever waits, for another lock or for a standby to take its commit: the server's own limits end that.
    pub(super) async fn end_holders(&self, lock: i64) -> Result<(), DbError> {
        // The age is the server's own business, on its own clock.
        const SQL: &str = "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND l.classid::bigint = (($1::bigint >> 32) & 4294967295) AND l.objid::bigint = ($1::bigint & 4294967295) \
             AND NOT (a.state = 'active' AND (a.query LIKE 'SELECT pg_advisory_xact_lock%' \
             OR a.wait_event_type = 'Lock' OR a.wait_event = 'SyncRep')) \
             AND greatest(a.query_start, a.state_change) < clock_timestamp() - make_interval(secs => $2)";
        let ended = sqlx::query(SQL)
            .bind(lock)
            .bind(LOCK_PATIENCE.as_secs_f64() * 0.9);
        let ended = answered(ended.fetch_all(&self.vital)).await?.len();
        if ended > 0 {
            tracing::warn!(
                ended,
                "a change of keys waited for a writer that had stopped; its session was ended"
            );
        }
        Ok(())
    }

    pub(super) async fn close(&self) {
        // A server that does not answer is not waited for.
        let close =
            async { tokio::join!(self.pool.close(), self.vital.close(), self.lease.close()) };
        let _ = tokio::time::timeout(PING_TIMEOUT, close).await;
    }
}

/// What a [`Listener`] has heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// That keys have changed.
    Change,
    /// Nothing for so long that the connection may be dead without anybody having closed it: make another one.
    Nothing,
}

/// Hears of changes of keys, on a connection of its own.
pub struct Listener(PgListener);

impl Listener {
    pub(super) async fn connect(db: &PgDb) -> Result<Self, DbError> {
        let alone = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(PgConnectOptions::clone(&db.vital.connect_options()));
        let listen = async {
            let mut listener = PgListener::connect_with(&alone).await?;
            // Whoever waits is to know of a connection that was lost, to look for what it missed.
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok(listener)
        };
        Ok(Self(answered(listen).await?))
    }

    /// Waits until keys have changed, or until nothing was heard for some time. An error: the connection is lost, and with it
    /// perhaps a hint.
    pub async fn heard(&mut self) -> Result<Heard, DbError> {
        match tokio::time::timeout(LISTENER_QUIET, self.0.try_recv()).await {
            Ok(Ok(Some(_))) => Ok(Heard::Change),
            Ok(Ok(None)) => Err(DbError::Unavailable(sqlx::Error::WorkerCrashed)),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Ok(Heard::Nothing),
        }
    }
}

/// Waits for an answer, but not for ever.
pub(super) async fn answered<T>(
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(ANSWER_TIMEOUT, work).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

/// What an address may say after its `?`, besides `options[NAME]`.
const PARAMETERS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Says which parameters of an address mean nothing here. The library's own warning, which is kept out of the log, repeats
/// their values, and one may be a password.
fn warn_of_unknown_parameters(address: &str) {
    let query = address.split_once('?').map_or("", |(_, query)| query);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = parameter.split('=').next().unwrap_or_default();
        if !PARAMETERS.contains(&name) && !name.starts_with("options[") {
            tracing::warn!(
                name,
                "the database's address has a parameter that means nothing here"
            );
        }
    }
}

fn options(address: &str) -> Result<PgConnectOptions, DbError> {
    warn_of_unknown_parameters(address);
    let options = PgConnectOptions::from_str(address)?.application_name("truckradar");
    let host = options.get_host();
    let address_of_host = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_local = host == "localhost"
        || host.starts_with('/')
        || options.get_socket().is_some()
        || address_of_host.is_ok_and(|address| address.is_loopback());
    // Digests and people's addresses do not cross a network in the clear unless somebody says so.
    let says_mode = ["sslmode=", "ssl-mode="]
        .iter()
        .any(|name| address.contains(name))
        || std::env::var_os("PGSSLMODE").is_some();
    Ok(if is_local || says_mode {
        options
    } else {
        options.ssl_mode(PgSslMode::Require)
    })
}

async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(SESSION)).await?;
    must_be_primary(connection).await
}

async fn must_be_primary(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let is_standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()")
        .fetch_one(connection)
        .await?;
    if is_standby {
        return Err(sqlx::Error::Io(std::io::Error::other(
            "this server is a standby; keys are checked and changed on the primary only",
        )));
    }
    Ok(())
}

async fn ping(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    match tokio::time::timeout(PING_TIMEOUT, connection.ping()).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_crosses_a_network_in_the_clear_unless_somebody_says_so() {
        let mode = |address: &str| options(address).expect(address).get_ssl_mode();
        for local in [
            "postgres://u@localhost/d",
            "postgres://u:p@127.0.0.1:5433/d",
            "postgres://u@[::1]/d",
            "postgres:///d?host=/run/postgresql",
        ] {
            assert!(matches!(mode(local), PgSslMode::Prefer), "{local}");
        }
        for far in ["postgres://u@db.example/d", "postgres://u@192.0.2.1/d"] {
            assert!(matches!(mode(far), PgSslMode::Require), "{far}");
            let clear = format!("{far}?sslmode=disable");
            assert!(matches!(mode(&clear), PgSslMode::Disable), "{far}");
            let full = format!("{far}?sslmode=verify-full");
            assert!(matches!(mode(&full), PgSslMode::VerifyFull), "{far}");
        }
        assert!(options("postgres://u@h:port/d").is_err());
    }
}
