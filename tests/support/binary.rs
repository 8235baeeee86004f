//! The real binary: as a server, and as a command.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Condvar, Mutex, mpsc},
    time::{Duration, Instant},
};

use serde_json::Value;
use sqlx::{
    AnyConnection, AssertSqlSafe, Connection, PgConnection, SqlSafeStr, SqliteConnection,
    sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use truckradar::{
    clock::Clock,
    db::Db,
    services::{Services, Settings},
};

use super::{postgres, smtp::Smtp};

/// The address by which the world reaches a server that mails links.
pub const PUBLIC_URL: &str = "https://truckradar.example";

/// The password of every owner made here.
pub const PASSWORD: &str = "correct horse battery";
/// How long a server may take to be ready, on a machine busy with other tests.
const READY: Duration = Duration::from_secs(30);

/// How long what the database is to hold may take, on such a machine.
const UNTIL: Duration = Duration::from_secs(40);

/// The program under test.
pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_truckradar")
}

/// Runs a command to its end, with this on its standard input.
pub fn fed(command: &mut Command, stdin: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut pipe = child.stdin.take().expect("piped");
    // A command that wants no input may be gone before it could be written.
    let _ = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    child.wait_with_output().expect("the program ends")
}

/// A table, one of its columns, and the SQL for what that holds as text.
pub type Column = (String, String, String);

/// A folder with a database in it, and whatever is started on that.
pub struct Place {
    /// There as long as this or a server in it is, whichever goes first: a server writes as long as it runs.
    folder: Arc<TempDir>,
    /// Where the database is, if it is not a file in the folder.
    server: Option<String>,
    /// That database, if it is this place's own.
    own: Option<postgres::Database>,
    /// What [`Place::rows`] found in the database at first: its schema does not change under a story, and PostgreSQL takes
    /// long to tell of it.
    columns: OnceCell<Vec<Column>>,
    /// What a command would be done by, kept for many of them.
    services: OnceCell<Services>,
}

impl Place {
    /// On the engine that the stories are told on this time.
    pub fn new() -> Self {
        match postgres::is_told_on() {
            true => Self::on_own(postgres::Database::with_schema()),
            false => Self::on_file(),
        }
    }

    /// On SQLite whatever else is told: for what a file has and a server has not.
    pub fn on_file() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("tr-")
            .tempdir()
            .expect("a temporary folder");
        Self {
            folder: Arc::new(folder),
            server: None,
            own: None,
            columns: OnceCell::new(),
            services: OnceCell::new(),
        }
    }

    /// The same with a database on the PostgreSQL server, which any number of servers may share.
    pub async fn on_postgres() -> Self {
        Self::on_own(postgres::Database::create().await)
    }

    fn on_own(database: postgres::Database) -> Self {
        Self {
            server: Some(database.url()),
            own: Some(database),
            ..Self::on_file()
        }
    }

    /// The same with a database that the test itself keeps, by its address.
    pub fn on_database(url: String) -> Self {
        Self {
            server: Some(url),
            ..Self::on_file()
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the database is on the PostgreSQL server: for what the engines do not have in common.
    pub fn is_on_postgres(&self) -> bool {
        self.server.is_some()
    }

    pub fn database_file(&self) -> PathBuf {
        self.path().join("t.db")
    }

    pub fn database(&self) -> String {
        match &self.server {
            Some(server) => server.clone(),
            None => format!("sqlite:{}", self.database_file().display()),
        }
    }

    /// The database on the PostgreSQL server.
    pub fn on_server(&self) -> &postgres::Database {
        self.own.as_ref().expect("has a database of its own")
    }

    /// By which commands are done on a database on the PostgreSQL server, in this process: many of them in the time that one
    /// takes to start and to connect.
    pub async fn services(&self) -> &Services {
        let start = async || {
            let database = self.database().parse().expect("an address");
            let db = Db::open_with(&database, 2).await.expect("opens");
            let services = Services::start(db, Clock::system(), Settings::default(), None);
            services.await.expect("starts")
        };
        self.services.get_or_init(start).await
    }

    /// A command on this place's database, not yet run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(args)
            .args(["--database", &self.database()])
            .stdin(Stdio::null());
        if self.server.is_some() {
            // What a server on a file would put beside it.
            command.current_dir(self.path());
        }
        command
    }

    /// Reads the database past the server, to see what it really holds.
    pub async fn look_inside(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        let read_only = match &self.server {
            Some(server) => format!("{server}?options=-c%20default_transaction_read_only%3Don"),
            None => self.database() + "?mode=ro",
        };
        AnyConnection::connect(&read_only).await.expect("opens")
    }

    /// Waits until this finds a row; `told` is what did not come about if it never does.
    pub async fn until(&self, told: &str, sql: impl Into<String>) {
        let mut inside = self.look_inside().await;
        let sql = sql.into();
        let end = Instant::now() + UNTIL;
        loop {
            let found = sqlx::query(AssertSqlSafe(sql.clone()))
                .fetch_optional(&mut inside)
                .await;
            if found.expect("answers").is_some() {
                return;
            }
            assert!(Instant::now() < end, "{told}: not within {UNTIL:?}");
            tokio::task::yield_now().await;
        }
    }

    /// Lists the columns in the engine's own words.
    fn columns_sql(&self) -> &'static str {
        match self.server {
            Some(_) => {
                "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), CASE data_type WHEN 'bigint' \
                 THEN 'COALESCE(CAST(' || column_name || ' AS TEXT), ''NULL'')' ELSE 'quote_nullable(' || column_name || ')' END \
                 FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
            }
            None => {
                "SELECT t.name, c.name, 'quote(' || c.name || ')' FROM sqlite_master t JOIN pragma_table_info(t.name) c \
                 WHERE t.type = 'table' ORDER BY t.name, c.cid"
            }
        }
    }

    /// Every table of the database with its columns, except those in which a library keeps its own accounts.
    pub async fn columns(&self) -> Vec<Column> {
        let mut inside = self.look_inside().await;
        let found = sqlx::query_as(self.columns_sql()).fetch_all(&mut inside);
        let mut columns: Vec<Column> = found.await.expect("answers");
        columns.retain(|(table, ..)| !table.starts_with("sqlite") && !table.starts_with('_'));
        columns
    }

    /// Every row of the database as text, to see whether anything changed. What merely counts or notes use is left out, and
    /// so is what the server empties by itself: mails that wait; and the nodes, which say that they live.
    pub async fn everything(&self) -> Vec<String> {
        self.rows(|table, column| {
            !table.contains("usage")
                && !["incidents", "outbox", "nodes"].contains(&table)
                && column != "seen_us"
        })
        .await
    }

    /// What an intruder would find who reads all that is stored: the bytes of every file of the place, and every row of a
    /// database that is none of them.
    pub async fn stored(&self) -> Vec<(String, Vec<u8>)> {
        let paths = fs::read_dir(self.path()).expect("a folder");
        let mut stored: Vec<(String, Vec<u8>)> = paths
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_file())
            .map(|path| (path.display().to_string(), fs::read(&path).expect("a file")))
            .collect();
        let has_database = match &self.server {
            Some(_) => {
                let rows = self.rows(|_, _| true).await;
                stored.push(("the database".to_owned(), rows.join("\n").into_bytes()));
                rows.iter().any(|row| row.starts_with("sellers: "))
            }
            None => stored.iter().any(|(name, _)| name.ends_with("t.db")),
        };
        assert!(has_database, "there is a database to search");
        stored
    }

    async fn rows(&self, is_told: impl Fn(&str, &str) -> bool) -> Vec<String> {
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let columns = self.columns.get_or_init(|| self.columns());
        for (table, column, text) in columns.await {
            if is_told(table, column) {
                let quoted = format!("'{column}=' || {text}");
                tables.entry(table.clone()).or_default().push(quoted);
            }
        }
        let mut inside = self.look_inside().await;
        let mut rows = Vec::new();
        for (table, columns) in tables {
            let sql = format!(
                "SELECT '{table}: ' || {} FROM {table} ORDER BY 1",
                columns.join(" || ', ' || ")
            );
            let found = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql));
            rows.extend(found.fetch_all(&mut inside).await.expect("answers"));
        }
        rows
    }

    /// Fails with the rows that were changed since [`Place::everything`] was asked for them.
    pub async fn assert_unchanged(&self, before: &[String], told: impl std::fmt::Display) {
        assert_same_rows(before, &self.everything().await, told);
    }

    /// Changes the database beside the server, as the passing of time would; one statement or several.
    pub async fn change(&self, sql: impl SqlSafeStr) {
        let sql = sqlx::raw_sql(sql);
        let changed = match &self.server {
            Some(server) => {
                let connection = PgConnection::connect(server).await;
                sql.execute(&mut connection.expect("opens")).await.map(drop)
            }
            None => {
                let options = SqliteConnectOptions::new().filename(self.database_file());
                let connection = SqliteConnection::connect_with(&options).await;
                sql.execute(&mut connection.expect("opens")).await.map(drop)
            }
        };
        changed.expect("runs");
    }

    /// What links begin with that commands print beside a server which has no other address than this: on a file the
    /// server makes them.
    pub fn base_of_links(&self, api: SocketAddr) -> String {
        match self.server {
            Some(_) => "http://127.0.0.1:8080".to_owned(),
            None => format!("http://{api}"),
        }
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str], stdin: &str) -> Output {
        fed(&mut self.command(args), stdin)
    }

    /// Runs a command that must succeed; what it answers with `--json`.
    pub fn json(&self, args: &[&str], stdin: &str) -> Value {
        let output = self.run(&[args, &["--json"]].concat(), stdin);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("one line of JSON")
    }

    pub fn create_seller(&self, slug: &str) -> Value {
        let owner = format!("owner@{slug}.example");
        self.json(
            &[
                "seller",
                "create",
                "--name",
                slug,
                "--slug",
                slug,
                "--owner-email",
                &owner,
                "--owner-password-stdin",
            ],
            PASSWORD,
        )
    }

    /// Makes a key by the command line.
    pub fn generate(&self, slug: &str) -> String {
        let made = self.json(&["key", "generate", "--seller", slug], "");
        made["key"].as_str().expect("a key").to_owned()
    }

    /// Starts the server and waits until it is ready.
    pub fn serve(&self, extra: &[&str]) -> Served {
        let args = [
            &[
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ],
            extra,
        ]
        .concat();
        Served::start(self.command(&args), Arc::clone(&self.folder))
    }

    /// The same with mails that go to this server, and with the address of [`PUBLIC_URL`], so that links are mailed.
    pub fn serve_with_mails(&self, smtp: &Smtp) -> Served {
        self.serve(&[
            "--smtp-url",
            &smtp.url(),
            "--mail-from",
            "keys@market.example",
            "--public-url",
            PUBLIC_URL,
        ])
    }

    /// The same by a command of one's own, which must end in `serve` on this place's database.
    pub fn serve_by(&self, command: Command) -> Served {
        Served::start(command, Arc::clone(&self.folder))
    }
}

/// Fails with the rows that are in one of the two only.
pub fn assert_same_rows(before: &[String], after: &[String], told: impl std::fmt::Display) {
    let only_in = |some: &[String], others: &[String]| {
        let only = some.iter().filter(|row| !others.contains(row));
        only.cloned().collect::<Vec<_>>().join("\n  ")
    };
    let (gone, new) = (only_in(before, after), only_in(after, before));
    assert!(
        before == after,
        "{told} changed the database. Gone:\n  {gone}\nNew:\n  {new}"
    );
}

/// A running server. Killed when dropped.
pub struct Served {
    child: Child,
    pub api: SocketAddr,
    pub admin: SocketAddr,
    speaks_tls: bool,
    said: Arc<Said>,
    log: Option<std::thread::JoinHandle<()>>,
    /// Kept until the process has ended.
    _folder: Arc<TempDir>,
}

/// What a server logged so far.
#[derive(Default)]
struct Said {
    text: Mutex<String>,
    more: Condvar,
}

impl Said {
    fn push(&self, line: &str) {
        let mut text = self.text.lock().expect("unharmed");
        text.push_str(line);
        text.push('\n');
        self.more.notify_all();
    }

    fn so_far(&self) -> String {
        self.text.lock().expect("unharmed").clone()
    }
}

impl Served {
    fn start(mut command: Command, folder: Arc<TempDir>) -> Self {
        let child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut child = child.expect("the program starts");
        let stderr = child.stderr.take().expect("piped");
        let (tell, told) = mpsc::channel();
        let said = Arc::new(Said::default());
        let heard = Arc::clone(&said);
        let log = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                heard.push(&line);
                if let Some(addresses) = addresses_in(&line) {
                    let _ = tell.send(addresses);
                }
            }
        });
        let Ok((speaks_tls, api, admin)) = told.recv_timeout(READY) else {
            let _ = child.kill();
            let _ = child.wait();
            let _ = log.join();
            panic!("the server did not come up: {}", said.so_far());
        };
        // It listens before it says so; the accept loop follows at once.
        let served = Self {
            child,
            api,
            admin,
            speaks_tls,
            said,
            log: Some(log),
            _folder: folder,
        };
        let end = Instant::now() + READY;
        while !served.is_ready() {
            assert!(Instant::now() < end, "the server is not ready");
            std::thread::yield_now();
        }
        served
    }

    fn is_ready(&self) -> bool {
        // Both addresses tell; over TLS only somebody who trusts the certificate can ask.
        let address = if self.speaks_tls {
            self.admin
        } else {
            self.api
        };
        let Ok(mut stream) = TcpStream::connect(address) else {
            return false;
        };
        let request = b"GET /readyz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        let mut answer = String::new();
        stream.write_all(request).is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the log has a line of which this is part.
    pub fn wait_until_it_says(&self, part: &str) {
        let text = self.said.text.lock().expect("unharmed");
        let (text, _) = self
            .said
            .more
            .wait_timeout_while(text, READY, |text| !text.contains(part))
            .expect("unharmed");
        // Not under the lock, which whoever cleans up after a failure needs.
        let said = text.clone();
        drop(text);
        assert!(said.contains(part), "it did not say {part:?}, but: {said}");
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// Ends it at once, as a power cut would end the process.
    pub fn kill(mut self) -> String {
        self.child.kill().expect("can be killed");
        self.child.wait().expect("is gone");
        self.take_log()
    }

    /// Ends it as a service manager does; its exit code and log.
    pub fn terminate(mut self) -> (Option<i32>, String) {
        self.signal("TERM");
        let status = self.child.wait().expect("ends");
        (status.code(), self.take_log())
    }

    fn take_log(&mut self) -> String {
        if let Some(log) = self.log.take() {
            let _ = log.join();
        }
        self.said.so_far()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.take_log();
    }
}

/// Whether the API speaks TLS, its address, and the operator's.
fn addresses_in(line: &str) -> Option<(bool, SocketAddr, SocketAddr)> {
    let (_, rest) = line.split_once("API on http")?;
    let (api, admin) = rest.split_once(", metrics and health on http://")?;
    let (speaks_tls, api) = match api.strip_prefix("s://") {
        Some(api) => (true, api),
        None => (false, api.strip_prefix("://")?),
    };
    Some((speaks_tls, api.parse().ok()?, admin.trim().parse().ok()?))
}
