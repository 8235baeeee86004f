//! The command line as an operator uses it: every command with a server and without, for people and for scripts, and the
//! life of the server's process from its first start to its last signal.
//!
//! Never: a command called past the shell's surface: arguments, environment, standard streams, exit code.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use truckradar::keys::format::SecretKey;

use crate::support::{
    binary::{PASSWORD, Place, Served, fed, program},
    client::{raw_get, raw_request},
    fixtures::{VIN, record},
    person::{Person, words_of},
};

mod accounts;
mod database;
mod every;
mod first_steps;
mod keys;
mod process;

/// How long anything may take on a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a command left behind.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Refused: nothing on standard output, and the reason on the other.
    #[track_caller]
    fn assert_refused(&self, because: &str) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        assert!(self.err.starts_with("truckradar: "), "{self:?}");
        assert!(self.err.contains(because), "{because}: {self:?}");
    }

    #[track_caller]
    fn assert_wrong_usage(&self) {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        assert!(!self.err.is_empty(), "{self:?}");
    }

    #[track_caller]
    fn assert_done(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// One line of JSON, and nothing else.
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.out.trim_end().lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn run(place: &Place, args: &[&str], stdin: &str) -> Ran {
    Ran::of(place.run(args, stdin))
}

/// The same with `--json`, and done.
#[track_caller]
fn json_of(place: &Place, args: &[&str], stdin: &str) -> Value {
    run(place, &[args, &["--json"]].concat(), stdin)
        .assert_done()
        .json()
}

/// A command that knows of no database but what it is told.
fn truckradar(args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args(args)
        .env_remove("TRUCKRADAR_DATABASE")
        .stdin(Stdio::null());
    command
}

fn finish(command: &mut Command) -> Ran {
    Ran::of(command.output().expect("the program starts"))
}

/// The names in an object, in alphabetical order.
fn names(value: &Value) -> Vec<&str> {
    let object = value.as_object();
    object
        .unwrap_or_else(|| panic!("not an object: {value}"))
        .keys()
        .map(String::as_str)
        .collect()
}

/// Tells a story twice: on a database that nobody serves, and on one that a server owns.
fn with_and_without_a_server(story: impl Fn(&Place, Option<&Served>)) {
    story(&Place::new(), None);
    let place = Place::new();
    let served = place.serve(&[]);
    story(&place, Some(&served));
    let (code, log) = served.terminate();
    assert_eq!(code, Some(0), "{log}");
}

/// Whether a key opens the API, where there is one.
fn assert_key(served: Option<&Served>, key: &str, status: u16) {
    if let Some(served) = served {
        let header = format!("Authorization: Bearer {key}\r\n");
        let (answered, answer) = raw_get(served.api, "/api/v1/key", &header);
        assert_eq!(answered, status, "{answer}");
    }
}

fn create_args<'a>(slug: &'a str, owner: &'a str) -> [&'a str; 9] {
    [
        "seller",
        "create",
        "--name",
        "Lone Star Trucks",
        "--slug",
        slug,
        "--owner-email",
        owner,
        "--owner-password-stdin",
    ]
}

/// A receipt is from the one server there is, or from nobody where there is none.
fn assert_receipt(receipt: &Value, served: Option<&Served>) {
    assert_eq!(names(receipt), ["elapsed_ms", "epoch", "nodes"]);
    assert!(receipt["epoch"].is_i64() && receipt["elapsed_ms"].is_number());
    let nodes = receipt["nodes"].as_array().expect("a list");
    assert_eq!(nodes.len(), usize::from(served.is_some()), "{receipt}");
    for node in nodes {
        assert_eq!(names(node), ["name", "node", "outcome"]);
        assert_eq!(node["outcome"], "confirmed");
    }
}

/// A process that runs on while its output is read, line by line as it comes. Killed when dropped.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (tell, lines) = mpsc::channel();
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for stream in streams {
            let tell = tell.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = tell.send(line);
                }
            });
        }
        Self { child, lines }
    }

    /// What it says up to a line of which this is part.
    fn read_until(&self, part: &str) -> String {
        let mut said = String::new();
        while !said.contains(part) {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => said += &(line + "\n"),
                Err(_) => panic!("it did not say {part:?}, but: {said}"),
            }
        }
        said
    }

    /// Ends it as a service manager does; its exit code, and what it said since it was last read.
    fn terminate(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("kill runs").success());
        let code = self.child.wait().expect("ends").code();
        // Both streams are closed now, so this ends.
        let said = self.lines.iter().map(|line| line + "\n").collect();
        (code, said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a shell makes of a text, as if it had been pasted.
fn paste(text: &str, stdin: &str, folder: &Path) -> Ran {
    let mut sh = Command::new("sh");
    sh.args(["-c", text])
        .current_dir(folder)
        .env_remove("TRUCKRADAR_DATABASE");
    Ran::of(fed(&mut sh, stdin))
}

/// The command in a text for people that begins with this word: from its indented line to the next blank one.
fn command_in(said: &str, word: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    let first = lines
        .iter()
        .position(|line| line.starts_with("  ") && line.contains(word))
        .unwrap_or_else(|| panic!("no command with {word:?} in: {said}"));
    let rest = lines[first..].iter();
    let command: Vec<&str> = rest.take_while(|line| !line.is_empty()).copied().collect();
    command.join("\n")
}
