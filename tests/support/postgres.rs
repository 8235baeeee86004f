//! A PostgreSQL database of a test's own, on the server that `cargo xtask test` starts.
//!
//! Never: a test passed over because there is no server; a database left behind, whatever became of the test.

use std::{
    process::{self, Command},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Names the server: `postgres://USER@HOST:PORT/postgres`.
const VARIABLE: &str = "TRUCKRADAR_TEST_POSTGRES";
/// Names the engine of the stories; SQLite unless it says `postgres`.
const ENGINE: &str = "TRUCKRADAR_TEST_ENGINE";
/// Most servers out there sort by some language's rules; what must be sorted by bytes has to say so itself.
const EMPTY: &str = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'";
/// A pool that a failed test left open must not keep its database alive.
const DROP: &str = "WITH (FORCE)";

/// Exists as long as this value does.
pub struct Database {
    server: String,
    name: String,
    /// What it was copied from, which is there as long as a copy of it is.
    template: Option<Arc<Self>>,
}

/// Whether the stories are told on PostgreSQL this time: `cargo xtask test` tells them on each engine.
pub fn is_told_on() -> bool {
    std::env::var_os(ENGINE).is_some_and(|engine| engine == "postgres")
}

impl Database {
    /// One in which the schema stands already, as a copy of one in which it was made once: that is quicker than to make it for
    /// every story. Not for what tells of the making itself.
    pub fn with_schema() -> Self {
        let template = Self::template();
        let mut copy = apart(Self::made(&format!("TEMPLATE {}", template.name)));
        copy.template = Some(template);
        copy
    }

    /// The one that the others are copied from. Made anew when none of its copies is left.
    fn template() -> Arc<Self> {
        static KEPT: Mutex<Weak<Database>> = Mutex::new(Weak::new());
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(template) = kept.upgrade() {
            return template;
        }
        let template = Arc::new(apart(Self::create()));
        let made = Command::new(env!("CARGO_BIN_EXE_truckradar"))
            .args(["migrate", "--database", &template.url()])
            .output()
            .expect("runs");
        assert!(made.status.success(), "{made:?}");
        *kept = Arc::downgrade(&template);
        template
    }

    /// An empty one.
    pub async fn create() -> Self {
        Self::made(EMPTY).await
    }

    async fn made(from: &str) -> Self {
        let server = std::env::var(VARIABLE).unwrap_or_else(|_| {
            panic!(
                "this test needs a PostgreSQL server and {VARIABLE} names none. Run `cargo xtask test`, which starts \
                 one (`cargo xtask test --only {}` for few tests), or name one whose databases may come and go",
                std::thread::current().name().unwrap_or("NAME")
            )
        });
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("truckradar_test_{}_{number}", process::id());
        let database = Self {
            server,
            name,
            template: None,
        };
        // An earlier process of the same number may have been killed before it could clean up.
        database.tell_server("DROP DATABASE IF EXISTS", DROP).await;
        database.tell_server("CREATE DATABASE", from).await;
        database
    }

    pub fn url(&self) -> String {
        let (host, _) = self
            .server
            .rsplit_once('/')
            .expect("an address with a database in it");
        format!("{host}/{}", self.name)
    }

    /// Ends every session and lets nobody in, as a network that is cut between a node and its database.
    pub async fn turn_away(&self) {
        self.let_in_if(false).await;
        self.end_sessions("%").await;
    }

    /// Lets everybody in again.
    pub async fn let_in(&self) {
        self.let_in_if(true).await;
    }

    async fn let_in_if(&self, may: bool) {
        let mut connection = PgConnection::connect(&self.server).await.expect("connects");
        let sql = format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {may}", self.name);
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection);
        done.await.expect("is done");
        connection.close().await.expect("closes");
    }

    /// Ends the sessions whose last statement looks so.
    pub async fn end_sessions(&self, last_statement: &str) {
        const SQL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = $1 AND query LIKE $2 AND pid <> pg_backend_pid()";
        let mut connection = PgConnection::connect(&self.server).await.expect("connects");
        let ended = sqlx::query(SQL).bind(&self.name).bind(last_statement);
        let ended = ended.fetch_all(&mut connection).await.expect("are ended");
        assert!(!ended.is_empty(), "there is such a session");
        connection.close().await.expect("closes");
    }

    async fn tell_server(&self, what: &str, how: &str) {
        let mut connection = PgConnection::connect(&self.server)
            .await
            .unwrap_or_else(|error| panic!("{VARIABLE} names {}: {error}", self.server));
        let sql = AssertSqlSafe(format!("{what} {} {how}", self.name));
        let done = sqlx::raw_sql(sql).execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{what} {}: {error}", self.name));
        connection.close().await.expect("closes");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            apart(self.tell_server("DROP DATABASE", DROP));
        }));
        // On the way out of a failed test the failure is what matters.
        assert!(
            dropped.is_ok() || std::thread::panicking(),
            "{} is left behind",
            self.name
        );
    }
}

/// Does the work on a thread and runtime of its own, and waits for it.
fn apart<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(work)
    };
    let done = std::thread::scope(|scope| scope.spawn(run).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
