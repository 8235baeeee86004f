//! A PostgreSQL server that lives as long as one run of the tests.
//!
//! It must never touch another PostgreSQL on the machine, nor outlive this process: it is a direct
//! child in the foreground, stopped when dropped, and the kernel stops it should this process be killed.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::processes::{Stop, pid_of};
use crate::say;
use crate::scratch::Scratch;

/// The database's superuser, who needs no password.
const USER: &str = "truckradar";
/// Whom the server runs as when we are root, which PostgreSQL refuses to be.
const UNPRIVILEGED: &str = "postgres";
const STARTUP: Duration = Duration::from_secs(60);
const SHUTDOWN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// How often another free port is tried when somebody took the one we found.
const PORTS: u32 = 5;
const LOG_LINES: usize = 40;

pub struct Server {
    child: Child,
    port: u16,
    log: PathBuf,
    stopped: bool,
}

impl Server {
    /// Makes a database cluster in the scratch folder and serves it.
    pub fn start(programs: &Path, scratch: &Scratch, stop: &Stop) -> Result<Self> {
        let folder = scratch.postgres();
        let log = scratch.path().join("log");
        let root = rustix::process::geteuid().is_root();
        if root {
            give_away(&folder)?;
        }

        let data = folder.join("data");
        let mut initdb = command(&programs.join("initdb"), root, scratch, &log)?;
        initdb
            .arg("-D")
            .arg(&data)
            .args(["--auth=trust", "--no-sync"])
            .args(["--encoding=UTF8", "--locale=C"])
            .args(["-U", USER]);
        let mut initdb = initdb.spawn().context("could not run initdb")?;
        let status = wait(&mut initdb, stop)?;
        if !status.success() {
            bail!("initdb failed ({status}):\n{}", tail(&log));
        }

        for _ in 0..PORTS {
            let port = free_port()?;
            let child = command(&programs.join("postgres"), root, scratch, &log)?
                .arg("-D")
                .arg(&data)
                .arg("-k")
                .arg(&folder)
                .args(["-h", "127.0.0.1"])
                .args(["-p", &port.to_string()])
                // Nobody needs this data after a crash.
                .args(["-c", "fsync=off"])
                // Each server under test has two dozen at most, and there are a few for each core.
                .args(["-c", "max_connections=500"])
                // In the folder, not in /dev/shm, where it would stay if the server had to be killed.
                .args(["-c", "dynamic_shared_memory_type=mmap"])
                .spawn()
                .context("could not run postgres")?;
            let mut server = Self {
                child,
                port,
                log: log.clone(),
                stopped: false,
            };
            if server.ready(&folder, stop)? {
                return Ok(server);
            }
        }
        bail!("PostgreSQL did not start:\n{}", tail(&log))
    }

    /// What the tests connect to.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    pub fn pid(&self) -> Option<Pid> {
        pid_of(&self.child)
    }

    /// Fails, with the end of its log, if the server is no longer there.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self
            .child
            .try_wait()
            .context("could not watch PostgreSQL")?
        {
            self.stopped = true;
            bail!(
                "PostgreSQL ended by itself ({status}):\n{}",
                tail(&self.log)
            );
        }
        Ok(())
    }

    /// Ends the server: in good order, or by force if that takes too long.
    pub fn stop(&mut self) -> Result<()> {
        if self.stopped {
            return Ok(());
        }
        if let Some(pid) = self.pid() {
            // A refusal is seen below, as a server that does not end.
            let _ = kill_process(pid, Signal::INT);
        }
        let deadline = Instant::now() + SHUTDOWN;
        while Instant::now() < deadline {
            if self.ended()? {
                return Ok(());
            }
            sleep(POLL);
        }
        say(&format!(
            "PostgreSQL did not stop within {} s, so it is killed",
            SHUTDOWN.as_secs()
        ));
        self.child.kill().context("could not kill PostgreSQL")?;
        self.child.wait().context("could not wait for PostgreSQL")?;
        self.stopped = true;
        Ok(())
    }

    /// Waits until the server answers. False if it ended instead: perhaps its port was taken.
    fn ready(&mut self, folder: &Path, stop: &Stop) -> Result<bool> {
        let socket = folder.join(format!(".s.PGSQL.{}", self.port));
        let deadline = Instant::now() + STARTUP;
        loop {
            stop.check()?;
            if self.ended()? {
                return Ok(false);
            }
            if answers(&socket) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                bail!(
                    "PostgreSQL was not ready after {} s:\n{}",
                    STARTUP.as_secs(),
                    tail(&self.log)
                );
            }
            sleep(POLL);
        }
    }

    fn ended(&mut self) -> Result<bool> {
        self.stopped = self
            .child
            .try_wait()
            .context("could not watch PostgreSQL")?
            .is_some();
        Ok(self.stopped)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Reached with work to do only on the way out of an error or a panic, which is reported already.
        let _ = self.stop();
    }
}

/// Waits for a child of ours, or until we are told to stop.
pub fn wait(child: &mut Child, stop: &Stop) -> Result<ExitStatus> {
    loop {
        stop.check()?;
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        sleep(POLL);
    }
}

/// A command that runs as the right user, writes to the log, and is interrupted when this process dies.
fn command(program: &Path, root: bool, scratch: &Scratch, log: &Path) -> Result<Command> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("could not open {}", log.display()))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT"]);
    if root {
        command
            .args(["--reuid", UNPRIVILEGED, "--regid", UNPRIVILEGED])
            .arg("--init-groups");
    }
    command
        .arg("--")
        .arg(program)
        // The caller's folder may be closed to the other user.
        .current_dir(scratch.path())
        // A terminal's Ctrl-C goes to a whole group; the server is to stop after the tests, not with them.
        .process_group(0)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("could not share the log")?)
        .stderr(log);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
    Ok(command)
}

fn give_away(folder: &Path) -> Result<()> {
    let output = Command::new("chown")
        .arg(format!("{UNPRIVILEGED}:{UNPRIVILEGED}"))
        .arg(folder)
        .output()
        .context("could not run chown")?;
    if !output.status.success() {
        bail!(
            "as root, PostgreSQL has to run as the user {UNPRIVILEGED}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("could not find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// Whether the server lets us in. The socket alone proves nothing: it is there before the server is ready.
fn answers(socket: &Path) -> bool {
    let ask = || -> std::io::Result<u8> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(&hello())?;
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        // A polite goodbye: a connection that is merely cut is a complaint in the log.
        stream.write_all(b"X\0\0\0\x04")?;
        Ok(kind[0])
    };
    // `R` is the answer to a user who may enter; `E` would be "the database system is starting up".
    ask().is_ok_and(|kind| kind == b'R')
}

/// The first message of PostgreSQL's protocol, version 3.0: its own length, the version, who and where.
fn hello() -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, 0, 3, 0, 0];
    for word in ["user", USER, "database", "postgres", ""] {
        message.extend(word.as_bytes());
        message.push(0);
    }
    // It is well below 256 bytes, which a test holds.
    message[3] = message.len() as u8;
    message
}

fn tail(log: &Path) -> String {
    match std::fs::read(log) {
        Ok(text) => last_lines(&String::from_utf8_lossy(&text), LOG_LINES),
        Err(error) => format!("(its log cannot be read: {error})"),
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_states_its_own_length() {
        let message = hello();
        assert!(message.len() < 256);
        assert_eq!(message[..4], [0, 0, 0, message.len() as u8]);
        assert!(message.ends_with(b"database\0postgres\0\0"));
    }

    #[test]
    fn a_log_is_cut_from_the_front() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a\n", 2), "a");
        assert_eq!(last_lines("", 2), "");
    }
}
