//! A PostgreSQL of the test's own, whose commits reach the disk, and which is stopped and started under its clients.
//!
//! Never: another PostgreSQL of the machine touched; a server that outlives the test.

use std::{
    fs::{self, File, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::tls::Issued;

/// Whom the server runs as when the tests run as root, which PostgreSQL refuses to be.
const UNPRIVILEGED: &str = "postgres";
const DEBIAN: &str = "/usr/lib/postgresql";
/// Where nobody's outgoing connections begin: the port must still be free when the server comes back.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
/// How long the server may take to be there, on a machine busy with other tests.
const READY: Duration = Duration::from_secs(60);

/// How the server is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Transactions are rolled back, and the server ends in good order.
    Fast,
    /// As in a power cut: whatever was not committed is gone, and the log is played back at the next start.
    Immediate,
}

/// See the module. Started by a thread that lasts as long as the test: the kernel stops the server when that thread ends.
pub struct OwnPostgres {
    child: Option<Child>,
    programs: PathBuf,
    port: u16,
    // Last, so that the server is gone when its folder is removed.
    folder: TempDir,
}

impl OwnPostgres {
    /// A new server without any database of TruckRadar's.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("pg-")
            // The other user must get through to the data.
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .expect("a temporary folder");
        let mut server = Self {
            child: None,
            programs: programs(),
            port: free_port(),
            folder,
        };
        fs::create_dir(server.data()).expect("a folder for the data");
        if is_root() {
            server.give_away(&server.data());
        }
        let made = server
            .command("initdb")
            .arg("-D")
            .arg(server.data())
            .args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"])
            .args(["-U", "truckradar"])
            .status();
        assert!(made.expect("initdb runs").success(), "{}", server.log());
        server.go().await;
        let mut connection = server.connect_to("postgres").await.expect("connects");
        sqlx::raw_sql("CREATE DATABASE live")
            .execute(&mut connection)
            .await
            .expect("a database");
        server
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The database by another port, such as that of a link to the server.
    pub fn url_by(port: u16) -> String {
        format!("postgres://truckradar@127.0.0.1:{port}/live")
    }

    /// A connection past every link; an error while the server is not there.
    pub async fn connect(&self) -> sqlx::Result<PgConnection> {
        self.connect_to("live").await
    }

    async fn connect_to(&self, database: &str) -> sqlx::Result<PgConnection> {
        let url = format!("postgres://truckradar@127.0.0.1:{}/{database}", self.port);
        PgConnection::connect(&url).await
    }

    /// Has it speak TLS with this certificate, and to nobody who does not.
    pub async fn speak_tls_only(&mut self, issued: &Issued) {
        self.halt(Halt::Fast);
        let file = |name: &str| self.data().join(name);
        for (name, text) in [
            ("server.crt", issued.cert.as_str()),
            ("server.key", issued.key.as_str()),
            ("pg_hba.conf", "hostssl all all 127.0.0.1/32 trust\n"),
            ("postgresql.auto.conf", "ssl = on\n"),
        ] {
            fs::write(file(name), text).expect("writes");
            fs::set_permissions(file(name), Permissions::from_mode(0o600)).expect("closes");
            if is_root() {
                self.give_away(&file(name));
            }
        }
        self.go().await;
    }

    /// Stops the server; it is gone when this returns.
    pub fn halt(&mut self, how: Halt) {
        let signal = match how {
            Halt::Fast => "-INT",
            Halt::Immediate => "-QUIT",
        };
        let mut child = self.child.take().expect("runs");
        let told = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(told.expect("kill runs").success());
        child.wait().expect("ends");
    }

    /// Starts the server, and waits until it lets somebody in.
    pub async fn go(&mut self) {
        let mut command = self.command("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.data())
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-c", "max_connections=200"])
            // In the folder, not in /dev/shm, where it would stay if the server had to be killed.
            .args(["-c", "dynamic_shared_memory_type=mmap"]);
        self.child = Some(command.spawn().expect("postgres runs"));
        let end = Instant::now() + READY;
        while self.connect_to("postgres").await.is_err() {
            assert!(Instant::now() < end, "not ready: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn give_away(&self, path: &Path) {
        let given = Command::new("chown")
            .arg(format!("{UNPRIVILEGED}:{UNPRIVILEGED}"))
            .arg(path)
            .status();
        assert!(
            given.expect("chown runs").success(),
            "there is a user {UNPRIVILEGED}"
        );
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// One of PostgreSQL's programs, as the right user, and told to stop when this thread ends.
    fn command(&self, program: &str) -> Command {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("a log");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "INT"]);
        if is_root() {
            command
                .args(["--reuid", UNPRIVILEGED, "--regid", UNPRIVILEGED])
                .arg("--init-groups");
        }
        command
            .arg("--")
            .arg(self.programs.join(program))
            .current_dir(self.folder.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        command
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.halt(Halt::Fast);
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where the newest `initdb` and `postgres` are.
fn programs() -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = versions.into_iter().map(|(_, folder)| folder);
    folders
        .chain(std::env::split_paths(&path))
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
        .expect("PostgreSQL's own programs; `cargo xtask test` says how to get them")
}

fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(PORTS))
        .take(1_000)
        .find(free)
        .expect("a free port")
}
