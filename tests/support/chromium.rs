//! A chromedriver of a test's own, with the chromium that it starts: in one process group, writing into one folder.
//!
//! Never: a process or a file left behind, whatever became of the test; a signal to a chromium that is somebody else's;
//! a way out to the network.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal},
};
use tempfile::TempDir;

/// How long a chromedriver may take to be ready, on a machine busy with other tests.
const READY: Duration = Duration::from_secs(30);
/// How often one is started that finds no port.
const STARTS: usize = 5;
/// How long chromium may take to close in good order, and what outlives it to notice that it has gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running chromedriver. It and its chromium end when this is dropped.
pub struct Chromedriver {
    child: Child,
    address: SocketAddr,
    household: Household,
    /// Taken when it is removed.
    folder: Option<TempDir>,
    session: Option<String>,
    /// Ends when the last process that holds the pipe does.
    log: Option<JoinHandle<()>>,
}

impl Chromedriver {
    pub fn start() -> Self {
        let mut tries = (0..STARTS).map(|_| Self::start_once());
        let started = tries.find_map(|driver| driver);
        started.expect("chromedriver names a port")
    }

    /// None if it ended before it named a port, which was seen once while browsers of other tests started. What it said then is
    /// in the test's output.
    fn start_once() -> Option<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tr-")
            .tempdir()
            .expect("a temporary folder");
        let mut command = Command::new("chromedriver");
        command
            .arg("--port=0")
            .process_group(0)
            // Whatever it does not keep in its profile it must not keep in the home of whoever runs the tests.
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "DISPLAY"] {
            command.env_remove(name);
        }
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!(
                "chromedriver does not start ({error}). Run `cargo xtask test`, which installs it"
            )
        });
        let household = Household {
            group: Pid::from_child(&child),
            folder: folder.path().to_owned(),
        };
        let stdout = child.stdout.take().expect("piped");
        let (tell, told) = mpsc::channel();
        let log = std::thread::spawn(move || {
            let mut is_told = false;
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(port) = port_in(&line) {
                    is_told = true;
                    let _ = tell.send(port);
                } else if !is_told {
                    eprintln!("chromedriver: {line}");
                }
            }
        });
        let mut driver = Self {
            child,
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            household,
            folder: Some(folder),
            session: None,
            log: Some(log),
        };
        match told.recv_timeout(READY) {
            Ok(port) => driver.address.set_port(port),
            Err(RecvTimeoutError::Disconnected) => return None,
            // It ends here as well.
            Err(RecvTimeoutError::Timeout) => panic!("chromedriver names no port"),
        }
        Some(driver)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What belongs on chromium's command line for it to stay on this machine and in this folder.
    pub fn arguments(&self) -> Vec<String> {
        let profile = self.household.folder.join("profile");
        let mut arguments = vec![
            "--headless=new".to_owned(),
            format!("--user-data-dir={}", profile.display()),
            "--no-first-run".to_owned(),
            "--hide-scrollbars".to_owned(),
            // /dev/shm is small in many containers.
            "--disable-dev-shm-usage".to_owned(),
            "--disable-background-networking".to_owned(),
            "--no-proxy-server".to_owned(),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
                .to_owned(),
        ];
        if rustix::process::geteuid().is_root() {
            // As root chromium refuses to run in its sandbox.
            arguments.push("--no-sandbox".to_owned());
        }
        arguments
    }

    /// The session to be closed at the end, which makes chromium write and close its files in good order.
    pub fn keep_session(&mut self, id: &str) {
        self.session = Some(id.to_owned());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn household(&self) -> &Household {
        &self.household
    }

    fn close_session(&self, id: &str) -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "DELETE /session/{id} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        )?;
        // It answers when chromium has gone. The end of its answer would not come: it keeps connections open.
        stream.read_exact(&mut [0])
    }
}

impl Drop for Chromedriver {
    fn drop(&mut self) {
        if let Some(id) = self.session.take() {
            // A driver that does not answer any more is ended by force, as is what it leaves.
            let _ = self.close_session(&id);
        }
        // The group's number stays taken until the child has been waited for.
        let _ = kill_process_group(self.household.group, Signal::KILL);
        let _ = self.child.wait();
        let left = self.household.end();
        if let Some(log) = self.log.take().filter(|_| left.is_empty()) {
            let _ = log.join();
        }
        let removed = self.folder.take().map_or(Ok(()), TempDir::close);
        // On the way out of a failed test the failure is what matters.
        if !std::thread::panicking() {
            assert!(left.is_empty(), "still there: {}", left.join(", "));
            removed.expect("the browser's folder can be removed");
        }
    }
}

/// What runs because of one chromedriver. Chromium's crash handlers leave its process group and their parent, but their
/// command line names the folder.
#[derive(Clone)]
pub struct Household {
    group: Pid,
    folder: PathBuf,
}

impl Household {
    /// The folder of all its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The processes that run, by name and number.
    pub fn living(&self) -> Vec<String> {
        let pids = self.pids().into_iter();
        pids.map(|pid| {
            let name = fs::read_to_string(proc_file(pid, "comm")).unwrap_or_default();
            format!("{} ({})", name.trim_end(), pid.as_raw_nonzero())
        })
        .collect()
    }

    /// Waits until nothing runs any more, the stubborn killed, and answers with what even that left alive.
    fn end(&self) -> Vec<String> {
        for force in [false, true] {
            let deadline = Instant::now() + PATIENCE;
            // The list is read again: what was about to start another process may have done so.
            while Instant::now() < deadline {
                let pids = self.pids();
                if pids.is_empty() {
                    return Vec::new();
                }
                for pid in pids {
                    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
                        continue;
                    };
                    // The number may have gone to a stranger since the list was read; the descriptor cannot.
                    if force && self.has(pid) {
                        let _ = pidfd_send_signal(&process, Signal::KILL);
                    }
                    wait_for_end(&process, deadline);
                }
            }
        }
        self.living()
    }

    fn pids(&self) -> Vec<Pid> {
        let entries = fs::read_dir("/proc").expect("/proc can be listed");
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Pid::from_raw)
            .filter(|pid| self.has(*pid))
            .collect()
    }

    /// Whether this process is one of them, and has not ended yet.
    fn has(&self, pid: Pid) -> bool {
        let Ok(stat) = fs::read(proc_file(pid, "stat")) else {
            return false;
        };
        let stat = String::from_utf8_lossy(&stat);
        let Some((state, group)) = state_and_group(&stat) else {
            return false;
        };
        let line = || fs::read(proc_file(pid, "cmdline")).unwrap_or_default();
        let folder = self.folder.as_os_str().as_encoded_bytes();
        !matches!(state, "Z" | "X")
            && (group == self.group.as_raw_nonzero().get()
                || line().windows(folder.len()).any(|part| part == folder))
    }
}

fn wait_for_end(process: &OwnedFd, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).expect("some seconds");
    // A signal that interrupts it only makes the caller look again.
    let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left));
}

fn proc_file(pid: Pid, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{name}", pid.as_raw_nonzero()))
}

/// From a line of `/proc/PID/stat`, whose second field is a name that may hold anything.
fn state_and_group(stat: &str) -> Option<(&str, i32)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let (state, _parent) = (fields.next()?, fields.next()?);
    Some((state, fields.next()?.parse().ok()?))
}

fn port_in(line: &str) -> Option<u16> {
    let (_, port) = line.split_once("started successfully on port ")?;
    port.trim_end_matches('.').parse().ok()
}
