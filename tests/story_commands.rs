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
    binary::{PASSWORD, Place, Served, program},
    client::{raw_get, raw_request},
    fixtures::{VIN, record},
    person::{Person, words_of},
};

/// How long anything may take on a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

// ---------------------------------------------------------------------------------------------------------------------
// How it is told.

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
    let mut child = Command::new("sh")
        .args(["-c", text])
        .current_dir(folder)
        .env_remove("TRUCKRADAR_DATABASE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh runs");
    let mut pipe = child.stdin.take().expect("piped");
    // It may want no input, and be gone by now.
    let _ = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    Ran::of(child.wait_with_output().expect("ends"))
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

// ---------------------------------------------------------------------------------------------------------------------
// People.

#[test]
fn people_are_let_in_raised_and_shown_out() {
    with_and_without_a_server(|place, _| {
        run(
            place,
            &create_args("lone-star", "owner@lone.example"),
            PASSWORD,
        )
        .assert_done();
        let user = |act: &'static str, email: &'static str, role: Option<&'static str>| {
            let mut args = vec!["user", act, "--seller", "lone-star", "--email", email];
            args.extend(role.into_iter().flat_map(|role| ["--role", role]));
            args
        };
        let invited = json_of(
            place,
            &user("invite", "Ann@lone.example", Some("viewer")),
            "",
        );
        assert_eq!(names(&invited), ["email", "link", "role"]);
        assert_eq!(invited["email"], "ann@lone.example");
        let link = invited["link"].as_str().expect("a link");
        assert!(link.starts_with("http://127.0.0.1:") && link.contains("/invitation?token="));
        let told = run(
            place,
            &user("invite", "ann@lone.example", Some("admin")),
            "",
        )
        .assert_done();
        assert!(told.out.contains("/invitation?token=") && !told.out.contains(link));
        assert!(told.out.contains("once, for 7 days"), "{told:?}");
        run(
            place,
            &user("invite", "owner@lone.example", Some("viewer")),
            "",
        )
        .assert_refused("owner@lone.example is a member already");

        // Not a member yet: an invitation is an offer.
        run(place, &user("role", "ann@lone.example", Some("admin")), "")
            .assert_refused("there is no such member");
        run(place, &user("remove", "ann@lone.example", None), "")
            .assert_refused("there is no such member");
        for act in [
            user("role", "owner@lone.example", Some("viewer")),
            user("remove", "owner@lone.example", None),
        ] {
            run(place, &act, "").assert_refused("a dealer account needs an owner");
        }
        let kept = json_of(
            place,
            &user("role", "owner@lone.example", Some("owner")),
            "",
        );
        assert_eq!(kept["role"], "owner");

        let reset = ["user", "reset-password", "--email", "owner@lone.example"];
        let link = json_of(place, &reset, "")["link"].clone();
        assert!(
            link.as_str()
                .is_some_and(|link| link.contains("/reset-password?token="))
        );
        run(
            place,
            &["user", "reset-password", "--email", "a@b.example"],
            "",
        )
        .assert_refused("no user has the address a@b.example");
        for wrong in [
            user("invite", "nobody", Some("viewer")),
            user("invite", "ann@lone.example", Some("king")),
            user("invite", "ann@lone.example", None),
        ] {
            run(place, &wrong, "").assert_wrong_usage();
        }
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// Sellers.

#[test]
fn a_seller_is_created_with_a_password_from_standard_input() {
    with_and_without_a_server(|place, _| {
        let args = create_args("lone-star", "Owner@Lone.example");
        let made = json_of(place, &args, PASSWORD);
        assert_eq!(names(&made), ["owner", "seller"]);
        assert_eq!(names(&made["seller"]), ["id", "slug"]);
        assert_eq!(names(&made["owner"]), ["email", "id"]);
        assert_eq!(made["seller"]["slug"], "lone-star");
        assert_eq!(made["owner"]["email"], "owner@lone.example");

        run(place, &args, PASSWORD).assert_refused("the slug lone-star is taken");
        let short = run(place, &create_args("short", "a@b.example"), "elevenchars");
        short.assert_refused("a password has 12 characters or more");
        let empty = run(place, &create_args("empty", "a@b.example"), "");
        empty.assert_refused("password is expected on standard input");
        // Somebody else's address is not taken over; its owner's password makes the owner of a second Seller.
        let second = create_args("second", "owner@lone.example");
        run(place, &second, "another password").assert_refused("exists with another password");
        let typed = format!("{PASSWORD}\r\n");
        let done = run(place, &second, &typed).assert_done();
        assert!(done.out.contains("second"), "{done:?}");
        // The next thing to type works as it stands.
        let (_, next) = done.out.split_once("next ").expect("a next command");
        assert!(next.contains(" key generate --seller second"), "{done:?}");
        paste(next, "", Path::new("/")).assert_done();
        assert!(!done.out.contains(PASSWORD) && !done.err.contains(PASSWORD));

        // What cannot be a Seller is wrong usage, before anything is read or asked.
        let ok = create_args("third", "a@b.example");
        for (at, wrong) in [
            (5, "Third"),
            (5, "x"),
            (7, "nobody"),
            (8, "--owner-password=hunter2hunter2"),
            (8, "--json"),
        ] {
            let mut args = ok;
            args[at] = wrong;
            run(place, &args, PASSWORD).assert_wrong_usage();
        }
        run(place, &["seller", "create"], PASSWORD).assert_wrong_usage();
        let mut nameless = ok;
        nameless[3] = " ";
        run(place, &nameless, PASSWORD).assert_refused("a name has 1 to 120 characters");

        // Of all that was refused nothing is left.
        let list = json_of(place, &["seller", "list"], "");
        let slugs = list["sellers"].as_array().expect("a list").iter();
        let slugs: Vec<&Value> = slugs.map(|seller| &seller["slug"]).collect();
        assert_eq!(slugs, ["lone-star", "second"]);
    });
}

#[test]
fn sellers_are_listed_and_shown() {
    with_and_without_a_server(|place, served| {
        if served.is_some() {
            let none = run(place, &["seller", "list"], "").assert_done();
            assert!(none.out.contains("No Seller yet"), "{none:?}");
            assert_eq!(
                json_of(place, &["seller", "list"], ""),
                json!({"sellers": []})
            );
        }
        let made = place.create_seller("lone-star");
        place.create_seller("a-first");
        let key = place.generate("lone-star");
        let hint = &key[42..];

        let list = json_of(place, &["seller", "list"], "");
        assert_eq!(names(&list), ["sellers"]);
        let sellers = list["sellers"].as_array().expect("a list");
        assert_eq!(sellers.len(), 2);
        assert_eq!(sellers[0]["slug"], "a-first");
        assert_eq!(sellers[0]["key"], Value::Null);
        let seller = &sellers[1];
        let of_a_list = [
            "active_listings",
            "created_at",
            "id",
            "key",
            "key_networks",
            "name",
            "plan",
            "slug",
            "status",
            "status_reason",
        ];
        assert_eq!(names(seller), of_a_list);
        assert_eq!(seller["id"], made["seller"]["id"]);
        assert_eq!(seller["plan"], "starter");
        assert_eq!(seller["active_listings"], 0);
        assert_eq!(seller["key"]["hint"], hint);
        assert_eq!(seller["key"]["state"], "live");

        let show = ["seller", "show", "--seller", "lone-star"];
        let shown = json_of(place, &show, "");
        assert_eq!(names(&shown), ["seller"]);
        let mut expected = seller.clone();
        expected["members"] = json!([{"email": "owner@lone-star.example", "role": "owner"}]);
        expected["locations"] = json!([]);
        assert_eq!(shown["seller"], expected);

        let text = run(place, &["seller", "list"], "").assert_done().out;
        let heading = text.lines().next().expect("a heading");
        assert!(
            heading.contains("SLUG") && heading.contains("KEY"),
            "{text}"
        );
        assert!(text.contains("lone-star") && text.contains(hint), "{text}");
        let text = run(place, &show, "").assert_done().out;
        assert!(text.contains("owner@lone-star.example (owner)"), "{text}");
        assert!(!text.contains(&key), "{text}");

        let nobody = run(place, &["seller", "show", "--seller", "nobody"], "");
        nobody.assert_refused("no Seller has the slug nobody");
        run(place, &["seller", "show"], "").assert_wrong_usage();
        run(place, &["seller", "show", "lone-star"], "").assert_wrong_usage();
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// Keys.

#[test]
fn a_key_is_generated_and_replaces_the_one_before() {
    with_and_without_a_server(|place, served| {
        place.create_seller("lone-star");
        let generate = ["key", "generate", "--seller", "lone-star"];
        let made = json_of(place, &generate, "");
        assert_eq!(names(&made), ["key", "key_id", "receipt", "replaced"]);
        assert_eq!(made["replaced"], Value::Null);
        assert_receipt(&made["receipt"], served);
        let first = made["key"].as_str().expect("a key");
        assert!(SecretKey::parse(first.as_bytes()).is_ok());
        assert_key(served, first, 200);

        // For people: the key alone on standard output, so that it can be piped into a secret manager.
        let said = run(place, &generate, "").assert_done();
        let second = said.out.trim_end();
        assert!(SecretKey::parse(second.as_bytes()).is_ok(), "{said:?}");
        assert_eq!(said.out, format!("{second}\n"));
        assert!(
            said.err.contains("the only time the key is shown"),
            "{said:?}"
        );
        assert!(!said.err.contains(second), "{said:?}");
        assert!(said.err.contains("is dead"), "{said:?}");
        assert_key(served, first, 401);
        assert_key(served, second, 200);

        let third = json_of(place, &generate, "");
        assert!(third["replaced"].is_string());
        let epoch = |made: &Value| made["receipt"]["epoch"].as_i64().expect("a number");
        assert_eq!(epoch(&third), epoch(&made) + 2);
        assert_key(served, second, 401);

        let nobody = run(place, &["key", "generate", "--seller", "nobody"], "");
        nobody.assert_refused("no Seller has the slug nobody");
        run(place, &["key", "generate"], "").assert_wrong_usage();
        run(place, &["key", "generate", "lone-star"], "").assert_wrong_usage();
    });
}

#[test]
fn a_key_is_expired_with_a_reason_that_the_seller_reads() {
    with_and_without_a_server(|place, served| {
        place.create_seller("lone-star");
        let expire = |reason: &str| {
            let args = ["key", "expire", "--seller", "lone-star", "--reason", reason];
            json_of(place, &args, "")
        };
        let key = place.generate("lone-star");
        let args = ["key", "expire", "--seller", "lone-star"];
        run(place, &args, "").assert_wrong_usage();
        let wordless = run(place, &[&args[..], &["--reason", " "]].concat(), "");
        wordless.assert_refused("a reason has 1 to 500 characters");
        assert_key(served, &key, 200);

        let expired = expire("found on a forum");
        assert_eq!(names(&expired), ["expired", "receipt"]);
        assert_eq!(names(&expired["expired"]), ["key_id"]);
        assert!(expired["expired"]["key_id"].is_string());
        assert_receipt(&expired["receipt"], served);
        assert_key(served, &key, 401);

        // Again finds nothing to do, and is no error.
        let again = expire("found on a forum");
        assert_eq!(again["expired"]["key_id"], Value::Null);
        assert_eq!(again["receipt"]["epoch"], expired["receipt"]["epoch"]);
        let text = run(place, &[&args[..], &["--reason", "x"]].concat(), "").assert_done();
        assert!(text.out.contains("had no live key"), "{text:?}");
        place.generate("lone-star");
        let text = run(place, &[&args[..], &["--reason", "x"]].concat(), "").assert_done();
        assert!(text.out.contains("is dead"), "{text:?}");

        let shown = run(place, &["key", "show", "--seller", "lone-star"], "").assert_done();
        assert!(shown.out.contains("has no live key"), "{shown:?}");
        let nobody = ["key", "expire", "--seller", "nobody", "--reason", "x"];
        run(place, &nobody, "").assert_refused("no Seller has the slug nobody");
    });
}

#[test]
fn a_key_is_shown_without_the_key_and_with_its_clients() {
    with_and_without_a_server(|place, served| {
        place.create_seller("lone-star");
        let show = ["key", "show", "--seller", "lone-star"];
        let text = run(place, &show, "").assert_done();
        assert!(text.out.contains("has no key yet"), "{text:?}");
        assert!(
            text.out
                .contains("truckradar key generate --seller lone-star")
        );

        let old = place.generate("lone-star");
        let new = place.generate("lone-star");
        let agent = "User-Agent: dms/1.0\r\n";
        for key in [&old, &new, &new] {
            if let Some(served) = served {
                let headers = format!("Authorization: Bearer {key}\r\n{agent}");
                raw_get(served.api, "/api/v1/key", &headers);
            }
        }
        // On a file the server counts what it has in memory before it answers; beside one on PostgreSQL a command sees
        // what that has written.
        let has_all = |shown: &Value| {
            let clients = shown["clients_24h"].as_array().expect("a list");
            served.is_none() || !place.is_on_postgres() || clients.len() == 2
        };
        let end = Instant::now() + PATIENCE;
        let shown = loop {
            let shown = json_of(place, &show, "");
            if has_all(&shown) {
                break shown;
            }
            assert!(Instant::now() < end, "{shown}");
        };
        assert_eq!(
            names(&shown),
            ["clients_24h", "earlier", "key", "seller", "staged"]
        );
        assert_eq!(names(&shown["seller"]), ["id", "slug"]);
        let of_a_key = [
            "created_at",
            "end_reason",
            "ended_at",
            "hint",
            "id",
            "live_at",
            "made_by",
            "shown",
            "state",
        ];
        assert_eq!(names(&shown["key"]), of_a_key);
        assert_eq!(shown["key"]["hint"], new[42..]);
        assert_eq!(shown["key"]["shown"], true);
        assert_eq!(shown["earlier"].as_array().map(Vec::len), Some(1));
        assert_eq!(names(&shown["earlier"][0]), of_a_key);
        assert_eq!(shown["earlier"][0]["hint"], old[42..]);
        assert_eq!(shown["earlier"][0]["state"], "replaced");
        let clients = shown["clients_24h"].as_array().expect("a list");
        let told: BTreeSet<_> = clients
            .iter()
            .map(|client| {
                let of_a_client = [
                    "accepted",
                    "address",
                    "key_id",
                    "last_at",
                    "unauthorized",
                    "user_agent",
                ];
                assert_eq!(names(client), of_a_client);
                assert_eq!(client["address"], "127.0.0.1");
                assert_eq!(client["user_agent"], "dms/1.0");
                let number = |name: &str| client[name].as_i64().expect("a number");
                (
                    client["key_id"] == shown["key"]["id"],
                    number("accepted"),
                    number("unauthorized"),
                )
            })
            .collect();
        // Counted a moment ago, and not written by itself yet.
        let expected = [(false, 0, 1), (true, 2, 0)];
        let expected = &expected[..if served.is_some() { 2 } else { 0 }];
        assert_eq!(told, BTreeSet::from_iter(expected.iter().copied()));

        let text = run(place, &show, "").assert_done().out;
        assert!(text.contains(&format!("tr_live_…{}", &new[42..])), "{text}");
        match served {
            Some(_) => assert!(text.contains("dms/1.0"), "{text}"),
            None => assert!(text.contains("No client used a key"), "{text}"),
        }
        for key in [&old, &new] {
            assert!(!text.contains(key.as_str()) && !shown.to_string().contains(key.as_str()));
        }
        let nobody = run(place, &["key", "show", "--seller", "nobody"], "");
        nobody.assert_refused("no Seller has the slug nobody");
        run(place, &["key", "show"], "").assert_wrong_usage();
    });
}

#[test]
fn a_key_is_identified_from_standard_input() {
    with_and_without_a_server(|place, _| {
        let made = place.create_seller("lone-star");
        let identify = ["key", "identify"];
        let old = place.generate("lone-star");
        let expired = place.generate("lone-star");
        let expire = [
            "key",
            "expire",
            "--seller",
            "lone-star",
            "--reason",
            "leaked",
        ];
        run(place, &expire, "").assert_done();
        let live = place.generate("lone-star");
        for (key, state) in [(&live, "live"), (&old, "replaced"), (&expired, "expired")] {
            // However it was pasted.
            for typed in [
                key.clone(),
                format!("{key}\n"),
                format!("{key}\r\n"),
                format!("  {key} \n\n"),
            ] {
                let found = json_of(place, &identify, &typed);
                assert_eq!(names(&found), ["identified"]);
                let found = &found["identified"];
                assert_eq!(names(found), ["key", "leaks", "live", "seller"]);
                assert_eq!(names(&found["seller"]), ["id", "name", "slug"]);
                assert_eq!(found["seller"]["id"], made["seller"]["id"]);
                assert_eq!(found["live"], state == "live");
                assert_eq!(found["key"]["state"], state);
                assert_eq!(found["key"]["hint"], key[42..]);
            }
            let text = run(place, &identify, key).assert_done();
            assert!(text.out.contains("lone-star") && text.out.contains(state));
            assert!(!text.out.contains(key.as_str()) && !text.err.contains(key.as_str()));
        }

        let stranger = SecretKey::generate().expect("randomness");
        let mistyped = format!(
            "{}{}",
            &live[..45],
            if live.ends_with('x') { 'y' } else { 'x' }
        );
        for (typed, reason) in [
            (stranger.expose(), "unknown"),
            (&*mistyped, "malformed"),
            (&live[..45], "malformed"),
            ("hunter2", "malformed"),
            (&format!("{live} {old}"), "malformed"),
        ] {
            // That it is nobody's is an answer, not a refusal.
            let found = json_of(place, &identify, typed);
            assert_eq!(names(&found), ["identified", "message", "reason"]);
            assert_eq!(found["identified"], Value::Null);
            assert_eq!(found["reason"], reason, "{found}");
            assert!(!found.to_string().contains(typed));
            let text = run(place, &identify, typed).assert_done();
            assert!(text.out.starts_with("Nobody's key: "), "{text:?}");
        }
        run(place, &identify, "").assert_refused("a key is expected on standard input");
        run(place, &identify, "\n").assert_refused("a key is expected on standard input");
    });
}

#[test]
fn a_key_cannot_be_given_on_the_command_line() {
    let place = Place::new();
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    let assert_refused = |args: &[&str]| {
        let ran = run(&place, &[&["key", "identify"], args].concat(), "");
        ran.assert_wrong_usage();
        // What was typed by mistake is not written down once more.
        assert!(!ran.err.contains(&key), "{ran:?}");
    };
    // Whatever is typed there can be read by every user of the machine, and stays in the shell's history.
    assert_refused(&[&key]);
    for option in ["--key", "--api-key", "--secret", "--text", "--password"] {
        assert_refused(&[option, &key]);
        assert_refused(&[&format!("{option}={key}")]);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The rest of the commands.

#[test]
fn a_listing_is_released_for_the_next_dealer() {
    let place = Place::new();
    let served = place.serve(&[]);
    let made = place.create_seller("lone-star");
    place.create_seller("great-lakes");
    let (first, second) = (place.generate("lone-star"), place.generate("great-lakes"));
    let send = |served: &Served, key: &str, vin: &str| {
        let body = record(vin).to_string();
        let lines = format!(
            "Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        raw_request(served.api, "POST", "/api/v1/inventory", &lines).0
    };
    let released = json!({"released": {"vin": VIN, "seller_id": made["seller"]["id"]}});
    let release = ["listing", "release", "--vin", VIN];
    let nobody = "no dealer has an active listing of this VIN";

    run(&place, &release, "").assert_refused(nobody);
    assert_eq!(send(&served, &first, VIN), 200);
    assert_eq!(send(&served, &second, VIN), 403);
    let answer = json_of(&place, &release, "");
    assert_eq!(answer, released);
    assert_eq!(send(&served, &second, VIN), 200);
    assert_eq!(send(&served, &first, VIN), 403);
    let text = run(&place, &release, "").assert_done();
    assert!(text.out.contains(&format!("{VIN} is free")), "{text:?}");
    run(&place, &release, "").assert_refused(nobody);
    assert_eq!(send(&served, &first, VIN), 200);

    // The same without a server, and what it did is seen by the next one.
    assert_eq!(served.terminate().0, Some(0));
    let lower_case = VIN.to_lowercase();
    let typed = ["listing", "release", "--vin", &lower_case];
    assert_eq!(json_of(&place, &typed, ""), released);
    run(&place, &release, "").assert_refused(nobody);
    run(&place, &["listing", "release", "--vin", "SHORT"], "")
        .assert_refused("must be exactly 17 characters");
    run(&place, &["listing", "release"], "").assert_wrong_usage();
    run(&place, &["listing", "release", VIN], "").assert_wrong_usage();
    let served = place.serve(&[]);
    assert_eq!(send(&served, &second, VIN), 200);
}

#[test]
fn the_one_server_on_a_file_is_listed_while_it_runs() {
    let place = Place::on_file();
    run(&place, &["nodes"], "").assert_refused("there is no database");
    place.create_seller("lone-star");
    place.generate("lone-star");
    let none = json!({"epoch": 1, "nodes": []});
    assert_eq!(json_of(&place, &["nodes"], ""), none);
    let text = run(&place, &["nodes"], "").assert_done();
    assert_eq!(
        text.out,
        "No server is running. The database is at epoch 1.\n"
    );

    let served = place.serve(&["--node-name", "yard"]);
    place.generate("lone-star");
    let answer = json_of(&place, &["nodes"], "");
    assert_eq!(answer["epoch"], 2);
    assert_eq!(answer["nodes"].as_array().expect("a list").len(), 1);
    let node = &answer["nodes"][0];
    let told = ["name", "trust", "epoch", "behind", "silent_ms", "version"];
    assert_eq!(
        told.map(|name| node[name].clone()),
        [
            json!("yard"),
            json!("trusted"),
            json!(2),
            json!(0),
            json!(null),
            json!(env!("CARGO_PKG_VERSION")),
        ]
    );
    let text = run(&place, &["nodes"], "").assert_done();
    let (first, rest) = text.out.split_once('\n').expect("lines");
    assert_eq!(first, "The database is at epoch 2.");
    let row = rest.lines().nth(1).expect("headings and a row");
    let words: Vec<&str> = row.split_whitespace().take(5).collect();
    assert_eq!(words, ["yard", "trusted", "2", "0", "-"]);

    assert_eq!(served.terminate().0, Some(0));
    assert_eq!(json_of(&place, &["nodes"], "")["nodes"], json!([]));
}

#[test]
fn migrate_makes_a_database_and_leaves_a_finished_one_alone() {
    let place = Place::on_file();
    let text = run(&place, &["migrate"], "").assert_done();
    assert!(text.out.contains("is at schema version"), "{text:?}");
    assert!(place.database_file().exists());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let files = fs::read_dir(folder).expect("is there").count();
    let answer = json_of(&place, &["migrate"], "");
    assert_eq!(answer, json!({"schema_version": files}));
    place.create_seller("lone-star");
    assert_eq!(json_of(&place, &["migrate"], ""), answer);
    let list = json_of(&place, &["seller", "list"], "");
    assert_eq!(list["sellers"][0]["slug"], "lone-star");

    // A server has migrated its database when it answers, so there is nothing left to do.
    let served = place.serve(&[]);
    assert_eq!(json_of(&place, &["migrate"], ""), answer);
    assert_eq!(served.terminate().0, Some(0));

    let nowhere = place.path().join("no/such/folder/t.db");
    let database = format!("sqlite:{}", nowhere.display());
    finish(&mut truckradar(&["migrate", "--database", &database])).assert_refused("no/such/folder");
}

#[test]
fn check_says_what_is_wrong_and_changes_nothing() {
    let place = Place::on_file();
    let check = |args: &[&str]| {
        let ran = run(&place, &[&["check", "--json"], args].concat(), "");
        let answer = ran.json();
        assert_eq!(names(&answer), ["facts", "problems"]);
        let problems = answer["problems"].as_array().expect("a list").len();
        assert_eq!(ran.code, Some(i32::from(problems > 0)), "{ran:?}");
        (problems, answer.to_string())
    };
    let (problems, said) = check(&[]);
    assert_eq!(problems, 0, "{said}");
    assert!(said.contains("there is no database"), "{said}");
    assert!(!place.database_file().exists());

    run(&place, &["migrate"], "").assert_done();
    place.create_seller("lone-star");
    let bytes = || fs::read(place.database_file()).expect("is there");
    let before = bytes();
    let (problems, said) = check(&[]);
    assert_eq!(problems, 0, "{said}");
    assert!(said.contains("no server is running"), "{said}");
    let text = run(&place, &["check"], "").assert_done();
    assert!(text.out.ends_with("Nothing is wrong.\n"), "{text:?}");
    assert!(bytes() == before, "the database was changed");

    // Options are judged together, whether or not a server runs on others.
    let exposed = ["--listen", "0.0.0.0:8080", "--admin-listen", "0.0.0.0:8080"];
    let (problems, said) = check(&exposed);
    assert_eq!(problems, 3, "{said}");
    let text = run(&place, &[&["check"], &exposed[..]].concat(), "");
    assert_eq!(text.code, Some(1), "{text:?}");
    assert_eq!(text.out.matches("PROBLEM: ").count(), 3, "{text:?}");
    assert!(text.err.contains("3 problems found"), "{text:?}");
    run(&place, &["check", "--listen", "nonsense"], "").assert_wrong_usage();

    let served = place.serve(&[]);
    let (problems, said) = check(&[]);
    assert_eq!(problems, 0, "{said}");
    assert!(said.contains("a server is running on the database and answers"));
    let (problems, said) = check(&exposed);
    assert_eq!(problems, 3, "{said}");
    assert_eq!(served.terminate().0, Some(0));

    // A file that is no database, or one that was damaged.
    let good = bytes();
    let mut damaged = good.clone();
    for byte in &mut damaged[4096 * 3..4096 * 6] {
        *byte = 0x5a;
    }
    for bad in [b"not a database ".repeat(1000), damaged] {
        fs::write(place.database_file(), &bad).expect("writes");
        let (problems, said) = check(&[]);
        assert!(problems > 0, "{said}");
        assert!(bytes() == bad, "the database was changed");
    }
    fs::write(place.database_file(), good).expect("writes");
    assert_eq!(check(&[]).0, 0);
}

#[test]
fn check_leaves_an_empty_file_empty() {
    let place = Place::on_file();
    fs::write(place.database_file(), b"").expect("writes");
    let ran = run(&place, &["check"], "");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("`truckradar migrate`"), "{ran:?}");
    let size = fs::metadata(place.database_file())
        .expect("is there")
        .size();
    assert_eq!(size, 0, "its help says that it changes nothing");
}

#[test]
fn check_reads_what_a_killed_server_left_and_leaves_it_so() {
    let place = Place::on_file();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    served.kill();
    // What was committed last is in the log beside the file; to fold it in is for whoever owns the database next.
    let log = place.path().join("t.db-wal");
    let bytes = || (fs::read(place.database_file()), fs::read(&log));
    let (Ok(file), Ok(logged)) = bytes() else {
        panic!("a killed server leaves its log");
    };
    assert!(!logged.is_empty());
    let ran = run(&place, &["check"], "").assert_done();
    assert!(ran.out.ends_with("Nothing is wrong.\n"), "{ran:?}");
    assert!(matches!(bytes(), (Ok(f), Ok(l)) if f == file && l == logged));
    let list = json_of(&place, &["seller", "list"], "");
    assert_eq!(list["sellers"][0]["slug"], "lone-star");
}

#[test]
fn nothing_is_made_by_a_command_that_only_looks() {
    let place = Place::on_file();
    for args in [
        &["seller", "list"][..],
        &["seller", "show", "--seller", "lone-star"],
        &["key", "show", "--seller", "lone-star"],
        &["key", "generate", "--seller", "lone-star"],
        &["key", "expire", "--seller", "lone-star", "--reason", "x"],
        &["key", "identify"],
        &["listing", "release", "--vin", VIN],
    ] {
        run(&place, args, "x").assert_refused("there is no database");
    }
    let left: Vec<_> = fs::read_dir(place.path()).expect("is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn commands_that_come_at_once_wait_for_one_another() {
    let place = Place::new();
    run(&place, &["migrate"], "").assert_done();
    let slugs: Vec<String> = (0..4).map(|n| format!("seller-{n}")).collect();
    std::thread::scope(|scope| {
        for slug in &slugs {
            let place = &place;
            scope.spawn(move || {
                place.create_seller(slug);
                place.generate(slug);
            });
        }
    });
    let list = json_of(&place, &["seller", "list"], "");
    let sellers = list["sellers"].as_array().expect("a list");
    let told: Vec<_> = sellers
        .iter()
        .map(|seller| (seller["slug"].as_str(), &seller["key"]["state"]))
        .collect();
    let live = json!("live");
    let expected: Vec<_> = slugs.iter().map(|slug| (Some(&**slug), &live)).collect();
    assert_eq!(told, expected);
}

// ---------------------------------------------------------------------------------------------------------------------
// What holds for every command.

/// Every command, as words, from the program's own help.
fn every_command() -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut at = 0;
    while at < all.len() {
        let words: Vec<String> = all[at].clone();
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        let help = finish(&mut truckradar(&[&args[..], &["--help"]].concat())).assert_done();
        let listed = help.out.split("Commands:\n").nth(1).unwrap_or_default();
        for line in listed.lines().take_while(|line| !line.is_empty()) {
            let name = line
                .strip_prefix("  ")
                .filter(|rest| !rest.starts_with(' '));
            let name = name.and_then(|rest| rest.split_whitespace().next());
            if let Some(name) = name.filter(|name| *name != "help") {
                all.push([&words[..], &[name.to_owned()]].concat());
            }
        }
        at += 1;
    }
    all
}

#[test]
fn every_command_explains_itself() {
    let all = every_command();
    let names: BTreeSet<String> = all.iter().map(|words| words.join(" ")).collect();
    let expected = [
        "",
        "check",
        "demo",
        "key",
        "key cut-over",
        "key discard",
        "key expire",
        "key generate",
        "key identify",
        "key networks",
        "key prepare",
        "key show",
        "listing",
        "listing release",
        "migrate",
        "nodes",
        "platform",
        "platform close",
        "platform create",
        "platform key",
        "platform list",
        "platform plan",
        "platform resume",
        "platform show",
        "platform suspend",
        "seller",
        "seller close",
        "seller create",
        "seller list",
        "seller plan",
        "seller resume",
        "seller show",
        "seller suspend",
        "serve",
        "user",
        "user erase",
        "user invite",
        "user remove",
        "user reset-password",
        "user reset-second-factor",
        "user role",
    ];
    assert_eq!(names, expected.map(str::to_owned).into());
    for words in &all {
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        for option in ["--help", "-h"] {
            let help = finish(&mut truckradar(&[&args[..], &[option]].concat())).assert_done();
            assert!(help.out.contains("Usage: truckradar"), "{help:?}");
            assert!(help.out.contains("--database"), "{help:?}");
            assert!(help.out.contains("--json"), "{help:?}");
            assert_eq!(help.err, "");
        }
        // The environment may hold a password, and help is pasted into tickets.
        let help = finish(
            truckradar(&[&args[..], &["--help"]].concat())
                .env("TRUCKRADAR_DATABASE", "postgres://u:s3cret@h/d"),
        );
        assert!(!help.out.contains("s3cret"), "{help:?}");
        finish(&mut truckradar(
            &[&args[..], &["--no-such-option"]].concat(),
        ))
        .assert_wrong_usage();
        finish(&mut truckradar(&[&args[..], &["no-such-word"]].concat())).assert_wrong_usage();
    }
    for group in [&[][..], &["seller"], &["key"], &["listing"]] {
        finish(&mut truckradar(group)).assert_wrong_usage();
    }
    let version = finish(&mut truckradar(&["--version"])).assert_done();
    let expected = format!("truckradar {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(version.out, expected);
}

#[test]
fn the_database_is_named_before_or_after_a_command_or_by_the_environment() {
    let place = Place::on_file();
    let made = place.create_seller("lone-star");
    let database = place.database();
    let list = |args: &[&str]| {
        let mut command = truckradar(args);
        command.current_dir(place.path());
        command
    };
    let found = |command: &mut Command| {
        let list = finish(command).assert_done().json();
        assert_eq!(list["sellers"][0]["id"], made["seller"]["id"]);
    };
    found(&mut list(&[
        "--database",
        &database,
        "--json",
        "seller",
        "list",
    ]));
    found(&mut list(&[
        "seller",
        "--json",
        "--database",
        &database,
        "list",
    ]));
    found(&mut list(&[
        "seller",
        "list",
        "--database",
        &database,
        "--json",
    ]));
    let assigned = format!("--database={database}");
    found(&mut list(&["seller", "list", &assigned, "--json"]));
    found(&mut list(&[
        "seller",
        "list",
        "--database",
        "sqlite:t.db",
        "--json",
    ]));
    found(list(&["seller", "list", "--json"]).env("TRUCKRADAR_DATABASE", &database));
    // The nearer word wins.
    found(
        list(&["seller", "list", "--json", "--database", &database])
            .env("TRUCKRADAR_DATABASE", "sqlite:elsewhere.db"),
    );
    finish(&mut list(&["seller", "list"])).assert_refused("there is no database truckradar.db");
    fs::copy(place.database_file(), place.path().join("truckradar.db")).expect("copies");
    found(&mut list(&["seller", "list", "--json"]));
    for nonsense in ["t.db", "sqlite:", "sqlite::memory:", "mysql://h/d", ""] {
        finish(&mut list(&["seller", "list", "--database", nonsense])).assert_wrong_usage();
    }
}

/// Commands that do something, each with what it wants on standard input.
fn acting_commands(folder: &Path) -> Vec<(Vec<String>, &'static str)> {
    let keys = folder.join("keys.txt").display().to_string();
    let mut all = vec![(create_args("new", "a@b.example").to_vec(), PASSWORD)];
    all.extend([
        (
            vec![
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ],
            "",
        ),
        (vec!["demo", "--sellers", "1", "--keys-out", &keys], ""),
        (vec!["seller", "list"], ""),
        (vec!["seller", "show", "--seller", "new"], ""),
        (
            vec![
                "user",
                "invite",
                "--seller",
                "new",
                "--email",
                "c@d.example",
                "--role",
                "viewer",
            ],
            "",
        ),
        (
            vec![
                "user",
                "role",
                "--seller",
                "new",
                "--email",
                "owner@new.example",
                "--role",
                "owner",
            ],
            "",
        ),
        (
            vec![
                "user",
                "remove",
                "--seller",
                "new",
                "--email",
                "owner@new.example",
            ],
            "",
        ),
        (
            vec!["user", "reset-password", "--email", "owner@new.example"],
            "",
        ),
        (vec!["user", "erase", "--email", "c@d.example"], ""),
        (
            vec![
                "user",
                "reset-second-factor",
                "--email",
                "owner@new.example",
            ],
            "",
        ),
        (vec!["key", "generate", "--seller", "new"], ""),
        (vec!["key", "prepare", "--seller", "new"], ""),
        (vec!["key", "cut-over", "--seller", "new"], ""),
        (vec!["key", "discard", "--seller", "new"], ""),
        (
            vec!["key", "expire", "--seller", "new", "--reason", "x"],
            "",
        ),
        (vec!["key", "identify"], "x"),
        (vec!["key", "show", "--seller", "new"], ""),
        (vec!["key", "networks", "--seller", "new", "--anywhere"], ""),
        (
            vec!["seller", "plan", "--seller", "new", "--plan", "pro"],
            "",
        ),
        (vec!["seller", "resume", "--seller", "new"], ""),
        (
            vec!["platform", "create", "--name", "H", "--slug", "hub"],
            "",
        ),
        (vec!["platform", "list"], ""),
        (vec!["platform", "show", "--platform", "hub"], ""),
        (vec!["platform", "key", "--platform", "hub"], ""),
        (
            vec!["platform", "plan", "--platform", "hub", "--plan", "pro"],
            "",
        ),
        (vec!["platform", "resume", "--platform", "hub"], ""),
        (
            vec!["platform", "suspend", "--platform", "hub", "--reason", "x"],
            "",
        ),
        (
            vec!["platform", "close", "--platform", "hub", "--reason", "x"],
            "",
        ),
        (
            vec!["seller", "suspend", "--seller", "new", "--reason", "x"],
            "",
        ),
        (
            vec!["seller", "close", "--seller", "new", "--reason", "x"],
            "",
        ),
        (vec!["listing", "release", "--vin", VIN], ""),
        (vec!["migrate"], ""),
        (vec!["nodes"], ""),
        (vec!["check"], ""),
    ]);
    let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
    let all: Vec<(Vec<String>, &str)> = all
        .into_iter()
        .map(|(words, stdin)| (owned(words), stdin))
        .collect();
    // A group has no act of its own, and a bare demo takes no database.
    let named: BTreeSet<String> = all
        .iter()
        .map(|(words, _)| {
            words
                .join(" ")
                .split(" --")
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    let groups = ["", "seller", "key", "listing", "platform", "user"];
    let known = every_command().into_iter().map(|words| words.join(" "));
    let known: BTreeSet<String> = known.filter(|name| !groups.contains(&&**name)).collect();
    assert_eq!(named, known, "a command is missing here");
    all
}

#[test]
fn a_postgresql_that_does_not_answer_is_told_without_a_word_about_its_password() {
    let place = Place::new();
    let address = "postgres://truckradar:s3cret@127.0.0.1:1/d?sslpassword=s3cret2";
    for (words, stdin) in acting_commands(place.path()) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let by_option = [&words[..], &["--database", address]].concat();
        let mut by_option = truckradar(&by_option);
        let mut by_environment = truckradar(&words);
        by_environment.env("TRUCKRADAR_DATABASE", address);
        for command in [&mut by_option, &mut by_environment] {
            let mut child = command
                .current_dir(place.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the program starts");
            let mut pipe = child.stdin.take().expect("piped");
            let _ = pipe.write_all(stdin.as_bytes());
            drop(pipe);
            let ran = Ran::of(child.wait_with_output().expect("ends"));
            assert_eq!(ran.code, Some(1), "{ran:?}");
            let said = format!("{}{}", ran.out, ran.err);
            assert!(
                said.contains("postgres://truckradar@127.0.0.1:1/d"),
                "{ran:?}"
            );
            // `check` prints its findings, which others have no use for. Others say which parameter means nothing.
            if words != ["check"] {
                assert_eq!(ran.out, "", "{ran:?}");
                assert!(ran.err.contains("sslpassword"), "{ran:?}");
            }
            assert!(!said.contains("s3cret"), "{ran:?}");
        }
    }
    let left: Vec<_> = fs::read_dir(place.path()).expect("is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn every_command_works_on_postgresql_and_none_says_a_word_about_its_password() {
    let (place, empty) = (Place::on_postgres().await, Place::on_postgres().await);
    let with_password = |place: &Place| {
        let address = place.database().replace('@', ":s3cret@");
        format!("{address}?sslpassword=s3cret2")
    };
    let commands = acting_commands(place.path());
    let is = |words: &[String], command: &str| words.join(" ").starts_with(command);
    let mut said = String::new();
    // The first is the server, which then runs.
    let (serve, _) = commands
        .iter()
        .find(|(words, _)| is(words, "serve"))
        .expect("one");
    let serve: Vec<&str> = serve.iter().map(String::as_str).collect();
    let mut serve = truckradar(&[&serve[..], &["--log", "trace"]].concat());
    serve
        .env("TRUCKRADAR_DATABASE", with_password(&place))
        .current_dir(place.path());
    let served = place.serve_by(serve);
    for (number, (words, stdin)) in commands.iter().enumerate() {
        if is(words, "serve") {
            continue;
        }
        let place = if is(words, "demo") { &empty } else { &place };
        // The owner is the one that the other commands name.
        let words = words.iter().map(|word| match word.as_str() {
            "a@b.example" => "owner@new.example",
            word => word,
        });
        let words: Vec<&str> = words.collect();
        let address = with_password(place);
        let mut command = Command::new("sh");
        command
            .args(["-c", "printf %s \"$STDIN\" | \"$0\" \"$@\"", program()])
            .args(&words)
            .env("STDIN", stdin)
            .env_remove("TRUCKRADAR_DATABASE")
            .current_dir(place.path());
        let ran = match number % 2 {
            0 => finish(command.args(["--database", &address])),
            _ => finish(command.env("TRUCKRADAR_DATABASE", &address)),
        };
        let refusal = match words[0] {
            "listing" => "no dealer has an active listing",
            "user" if words[1] == "remove" => "a dealer account needs an owner",
            "user" if words[1] == "reset-second-factor" => "owner@new.example has no second factor",
            _ => "",
        };
        let code = i32::from(!refusal.is_empty());
        assert_eq!(ran.code, Some(code), "{words:?}: {ran:?}");
        assert!(ran.err.contains(refusal), "{words:?}: {ran:?}");
        said += &(ran.out + &ran.err);
    }
    // The commands closed the account that they act on.
    place.create_seller("last");
    let made = place.json(&["key", "generate", "--seller", "last"], "");
    assert_receipt(&made["receipt"], Some(&served));
    let (code, log) = served.terminate();
    assert_eq!(code, Some(0), "{log}");
    said += &log;
    assert!(said.contains("postgres://truckradar@127.0.0.1"), "{said}");
    assert!(said.contains("sslpassword"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn a_mistyped_database_address_is_not_repeated() {
    let place = Place::new();
    for address in [
        "postgress://truckradar:s3cret@127.0.0.1/d",
        "postgresql:/truckradar:s3cret@127.0.0.1/d",
        "truckradar:s3cret@127.0.0.1/d",
    ] {
        let by_option = finish(&mut truckradar(&["seller", "list", "--database", address]));
        let by_environment = finish(
            truckradar(&["seller", "list"])
                .current_dir(place.path())
                .env("TRUCKRADAR_DATABASE", address),
        );
        // A service manager keeps what a server says when it does not start.
        for ran in [by_option, by_environment] {
            ran.assert_wrong_usage();
            assert!(!ran.err.contains("s3cret"), "{ran:?}");
        }
    }
}

#[test]
fn no_command_waits_for_somebody_to_type() {
    let place = Place::new();
    place.create_seller("new");
    let endless = ["serve", "demo"];
    for (words, _) in acting_commands(place.path()) {
        if endless.contains(&words[0].as_str()) {
            continue;
        }
        // With standard input closed, as under a service manager; `timeout` answers 124 for what does not end.
        let ran = Command::new("timeout")
            .args(["30", "sh", "-c", "exec \"$0\" \"$@\" <&-"])
            .arg(program())
            .args(&words)
            .args(["--database", &place.database()])
            .output();
        let ran = Ran::of(ran.expect("timeout runs"));
        let wants_input = ["seller create", "key identify"]
            .iter()
            .any(|command| words.join(" ").starts_with(command));
        if wants_input {
            ran.assert_refused("is expected on standard input");
        } else if words[0] == "listing" {
            ran.assert_refused("no dealer has an active listing");
        } else if words.join(" ").starts_with("user remove") {
            ran.assert_refused("a dealer account needs an owner");
        } else if words.join(" ").starts_with("user reset-second-factor") {
            ran.assert_refused("has no second factor");
        } else {
            ran.assert_done();
        }
    }
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let place = Place::new();
    place.create_seller("lone-star");
    let script = "\"$0\" \"$@\" | true || exit 9; exec \"$0\" \"$@\" > /dev/full";
    let ran = Command::new("bash")
        .args(["-o", "pipefail", "-c", script, program(), "seller", "list"])
        .args(["--database", &place.database()])
        .output();
    let ran = Ran::of(ran.expect("sh runs"));
    // A full disk is one: whoever redirects the output would take nothing for everything.
    ran.assert_refused("standard output cannot be written");
    assert!(!ran.err.contains("panic"), "{ran:?}");
}

#[test]
fn a_key_that_could_not_be_printed_is_said_to_be_lost() {
    let place = Place::new();
    place.create_seller("lone-star");
    for json in [&[][..], &["--json"]] {
        let ran = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" > /dev/full", program()])
            .args(["key", "generate", "--seller", "lone-star"])
            .args(["--database", &place.database()])
            .args(json)
            .output();
        Ran::of(ran.expect("sh runs")).assert_refused("Generate again");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The server's process.

fn socket_of(place: &Place) -> PathBuf {
    place.path().join("t.db.sock")
}

/// Commands that came through the server's socket have its node in the receipt.
fn assert_reaches_a_server(place: &Place, seller: &str) {
    let made = json_of(place, &["key", "generate", "--seller", seller], "");
    assert_eq!(made["receipt"]["nodes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn the_second_server_on_a_database_is_refused() {
    let place = Place::on_file();
    let first = place.serve(&[]);
    place.create_seller("lone-star");
    let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let second = run(&place, &[&["serve"], &listen[..]].concat(), "");
    second.assert_refused("another process owns the database");
    // By another name it is the same database.
    let link = place.path().join("link.db");
    std::os::unix::fs::symlink(place.database_file(), &link).expect("links");
    let database = format!("sqlite:{}", link.display());
    let args = [&["serve"], &listen[..], &["--database", &database]].concat();
    finish(&mut truckradar(&args)).assert_refused("another process owns the database");
    // The first one has noticed nothing.
    assert_reaches_a_server(&place, "lone-star");
    let by_link = ["seller", "list", "--database", &database, "--json"];
    let list = finish(&mut truckradar(&by_link)).assert_done().json();
    assert_eq!(list["sellers"][0]["slug"], "lone-star");
    assert_eq!(first.terminate().0, Some(0));
}

#[test]
fn an_address_that_is_taken_is_named() {
    let place = Place::new();
    let holder = TcpListener::bind("127.0.0.1:0").expect("binds");
    let taken = holder.local_addr().expect("is bound").to_string();
    let free = "127.0.0.1:0";
    for (listen, admin) in [(&*taken, free), (free, &*taken)] {
        let args = ["serve", "--listen", listen, "--admin-listen", admin];
        run(&place, &args, "").assert_refused(&taken);
    }
    // It gave the database back.
    place.create_seller("lone-star");
}

#[test]
fn the_socket_is_the_owners_alone_and_goes_with_the_server() {
    let place = Place::on_file();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let socket = fs::metadata(socket_of(&place)).expect("is there");
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    assert_eq!(served.terminate().0, Some(0));
    assert!(!socket_of(&place).exists());
    place.generate("lone-star");
}

#[test]
fn what_a_killed_server_left_is_replaced() {
    let place = Place::on_file();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    served.kill();
    let left = fs::metadata(socket_of(&place)).expect("is left").ino();
    // A command alone is not led astray by it.
    let found = json_of(&place, &["key", "identify"], &key);
    assert_eq!(found["identified"]["live"], true);
    let again = json_of(&place, &["key", "generate", "--seller", "lone-star"], "");
    assert_eq!(again["receipt"]["nodes"], json!([]));

    // Another file of that name must not fool the next server into keeping it: hold the number of the old one.
    let holder = place.path().join("holder.sock");
    fs::rename(socket_of(&place), &holder).expect("renames");
    drop(UnixListener::bind(socket_of(&place)).expect("binds"));
    let served = place.serve(&[]);
    let socket = fs::metadata(socket_of(&place)).expect("is there");
    assert_ne!(socket.ino(), left);
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    assert_reaches_a_server(&place, "lone-star");
    assert_eq!(served.terminate().0, Some(0));
    assert!(!socket_of(&place).exists());
}

#[test]
fn a_database_deep_down_in_the_file_system_is_served_and_commanded() {
    let place = Place::on_file();
    let folder = place.path().join("d".repeat(100)).join("é".repeat(60));
    fs::create_dir_all(&folder).expect("makes");
    let short_name = folder.join("t.db");
    // Its socket's name would be too long by itself.
    let long_name = folder.join(format!("{}.db", "n".repeat(120)));
    for file in [short_name, long_name] {
        let database = format!("sqlite:{}", file.display());
        assert!(database.len() > 107);
        let command = |args: &[&str]| truckradar(&[args, &["--database", &database]].concat());
        let served = place.serve_by(command(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ]));
        let create = create_args("lone-star", "a@b.example");
        let line: Vec<String> = create.iter().map(|word| format!("'{word}'")).collect();
        let text = format!("'{}' {} --database '{database}'", program(), line.join(" "));
        paste(&text, PASSWORD, place.path()).assert_done();
        let generate = ["key", "generate", "--seller", "lone-star", "--json"];
        let made = finish(&mut command(&generate)).assert_done().json();
        assert_receipt(&made["receipt"], Some(&served));
        let sockets = || {
            let files = fs::read_dir(&folder).expect("is there");
            let sockets = files.map(|file| file.expect("is there"));
            sockets
                .filter(|file| file.file_type().expect("has one").is_socket())
                .map(|file| file.metadata().expect("is there").permissions().mode() & 0o777)
                .collect::<Vec<_>>()
        };
        assert_eq!(sockets(), [0o600]);
        assert_eq!(served.terminate().0, Some(0));
        assert_eq!(sockets(), [0; 0]);
        let made = finish(&mut command(&generate)).assert_done().json();
        assert_receipt(&made["receipt"], None);
    }
}

#[test]
fn a_running_request_is_finished_before_the_server_ends() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    let body = record(VIN).to_string();
    let mut stream = TcpStream::connect(served.api).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head = format!(
        "POST /api/v1/inventory HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("writes");
    // The server says this when the handler begins to read: the request runs.
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut said = vec![0; go_on.len()];
    stream.read_exact(&mut said).expect("reads");
    assert_eq!(said, go_on);

    served.signal("TERM");
    // It has taken note once nobody new is let in.
    let end = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(served.api) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => break,
            _ => assert!(Instant::now() < end, "it goes on accepting"),
        }
        std::thread::yield_now();
    }
    stream.write_all(body.as_bytes()).expect("writes");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("reads to the end");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("\"created\""), "{answer}");
    let (code, log) = served.terminate();
    assert_eq!(code, Some(0), "{log}");
    // What was acknowledged is stored, and what was counted is written.
    let shown = json_of(&place, &["seller", "show", "--seller", "lone-star"], "");
    assert_eq!(shown["seller"]["active_listings"], 1);
    let shown = json_of(&place, &["key", "show", "--seller", "lone-star"], "");
    assert_eq!(shown["clients_24h"][0]["accepted"], 1);
}

#[test]
fn an_idle_server_ends_at_once_whatever_signal_asks_it_to() {
    for signal in ["TERM", "INT"] {
        let place = Place::new();
        let served = place.serve(&[]);
        // Connections that are kept open for a next request do not hold it up, nor does one that never says anything.
        let mut kept = TcpStream::connect(served.api).expect("connects");
        kept.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
            .expect("writes");
        let mut first = [0; 12];
        kept.read_exact(&mut first).expect("reads");
        assert_eq!(&first, b"HTTP/1.1 200");
        let _silent = TcpStream::connect(served.admin).expect("connects");
        let began = Instant::now();
        served.signal(signal);
        let (code, log) = served.terminate();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("stopped"), "{log}");
        // The drain's own limit is 20 seconds.
        assert!(began.elapsed() < Duration::from_secs(15), "{signal}");
    }
}

#[test]
fn plain_http_on_the_network_is_refused_unless_it_is_meant() {
    let place = Place::new();
    let free = "127.0.0.1:0";
    for args in [
        ["serve", "--listen", "0.0.0.0:0", "--admin-listen", free],
        ["serve", "--listen", "[::]:0", "--admin-listen", free],
        ["demo", "--listen", "0.0.0.0:0", "--admin-listen", free],
    ] {
        let ran = run(&place, &args, "");
        ran.assert_refused("plain HTTP");
        assert!(ran.err.contains("--trusted-proxies") && ran.err.contains("--insecure-http"));
    }
    let args = ["serve", "--listen", free, "--admin-listen", "0.0.0.0:0"];
    run(&place, &args, "").assert_refused("--admin-listen 0.0.0.0:0");
    assert!(!place.database_file().exists(), "refused before anything");

    let port = ["serve", "--listen", "0.0.0.0:0", "--admin-listen", free];
    for meant in [
        &["--trusted-proxies", "10.0.0.0/8"][..],
        &["--insecure-http"],
    ] {
        let served = place.serve_by(place.command(&[&port[..], meant].concat()));
        assert_eq!(served.terminate().0, Some(0));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// First steps: what the program prints is typed as it stands.

/// Starts a server, types the two commands that it prints, and uses the key that comes of them.
fn follow_the_hints(database: Option<&str>, folder: &Path) {
    let mut command = truckradar(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    command.current_dir(folder);
    if let Some(database) = database {
        command.args(["--database", database]);
    }
    let server = Running::start(&mut command);
    let said = server.read_until("key generate");
    let (_, address) = said.split_once("API on http://").expect("its address");
    let (address, _) = address.split_once(',').expect("its address");
    paste(
        &command_in(&said, "seller create"),
        &format!("{PASSWORD}\n"),
        folder,
    )
    .assert_done();
    let made = paste(&command_in(&said, "key generate"), "", folder).assert_done();
    let headers = format!("Authorization: Bearer {}\r\n", made.out.trim());
    let address = address.parse().expect("an address");
    assert_eq!(raw_get(address, "/api/v1/key", &headers).0, 200);
    assert_eq!(server.terminate().0, Some(0));

    // Once there is a Seller, there is nothing to say.
    let server = Running::start(&mut command);
    server.read_until("API on http://");
    let (code, said) = server.terminate();
    assert_eq!(code, Some(0));
    assert!(!said.contains("no Seller"), "{said}");
}

#[test]
fn an_empty_server_prints_the_next_command_and_it_works() {
    let place = Place::new();
    follow_the_hints(Some(&place.database()), place.path());
    let place = Place::on_file();
    follow_the_hints(None, place.path());
    assert!(place.path().join("truckradar.db").exists(), "the default");
}

#[test]
fn the_commands_it_prints_work_where_names_have_spaces_and_quotes() {
    let place = Place::on_file();
    let folder = place.path().join("Lone Star's data $HOME");
    fs::create_dir(&folder).expect("makes");
    let database = format!("sqlite:{}", folder.join("t.db").display());
    follow_the_hints(Some(&database), place.path());
}

#[tokio::test]
async fn a_demo_prints_what_to_paste_and_leaves_nothing_behind() {
    let place = Place::new();
    // A demo beside something that has the port is still a demo.
    let holder = TcpListener::bind("127.0.0.1:0").expect("binds");
    let taken = holder.local_addr().expect("is bound").to_string();
    let mut command = truckradar(&["demo", "--listen", &taken, "--admin-listen", "127.0.0.1:0"]);
    command.env("TMPDIR", place.path());
    let demo = Running::start(&mut command);
    let said = demo.read_until("are mailed to its owner");
    assert!(said.contains("demo.db.mails"), "{said}");
    drop(holder);
    assert!(
        said.contains("TruckRadar runs on http://127.0.0.1:"),
        "{said}"
    );
    assert!(!said.contains(&format!("http://{taken}")), "{said}");
    let folders = || fs::read_dir(place.path()).expect("is there").count();
    assert_eq!(folders(), 1);

    let curl = command_in(&said, "curl");
    let answer = paste(&curl, "", place.path()).assert_done();
    assert!(answer.out.starts_with("HTTP/1.1 200 OK"), "{answer:?}");
    assert!(answer.out.contains(VIN), "{answer:?}");

    // What it says to type rotates the key, and who was forgotten is on the page within ten seconds.
    let (_, rest) = said
        .split_once("TruckRadar runs on http://")
        .expect("an address");
    let (address, _) = rest.split_once(' ').expect("words");
    let address = address.parse().expect("an address");
    let (_, rest) = said.split_once("password  ").expect("a password");
    let password = rest.lines().next().expect("a line");
    let email = "owner@lone-star-trucks.example";
    let owner = Person::signed_in(address, email, password).await;
    let mut watched = owner.watch("/dashboard/settings/api-key/live").await;
    let mut wait_for = async |is_told: &dyn Fn(&str) -> bool| {
        let mut last = String::new();
        let wait = async {
            while !is_told(&last) {
                let html = watched.next().await.expect("the stream holds");
                last = words_of(&html.expect("and goes on"));
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), wait).await;
        assert!(waited.is_ok(), "not told within 10 seconds, but: {last}");
        last
    };
    let before = wait_for(&|told| told.contains("yard-kiosk/0.7")).await;
    assert!(!before.contains("dead"), "{before}");
    paste(&command_in(&said, "key prepare"), "", place.path()).assert_done();
    let file = fs::read_dir(place.path()).expect("is there").next();
    let file = file
        .expect("one")
        .expect("is there")
        .path()
        .join("next-key");
    let mode = fs::metadata(file).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    paste(&command_in(&said, "key cut-over"), "", place.path()).assert_done();
    wait_for(&|told| {
        let Some((_, refused)) = told.split_once("Refused with a dead key") else {
            return false;
        };
        let (refused, using) = refused.split_once("Clients that used").unwrap_or_default();
        let changed_over = ["dms-sync/4.2", "price-feed/1.9"];
        told.contains("1 client still sends a dead key")
            && refused.contains("yard-kiosk/0.7")
            && changed_over.iter().all(|client| using.contains(client))
            && !changed_over.iter().any(|client| refused.contains(client))
    })
    .await;
    let answer = paste(&curl, "", place.path()).assert_done();
    assert!(answer.out.starts_with("HTTP/1.1 401"), "{answer:?}");
    assert!(answer.out.contains("\"revoked\""), "{answer:?}");

    assert_eq!(demo.terminate().0, Some(0));
    assert_eq!(folders(), 0);
}

#[test]
fn a_demo_fills_an_empty_database_for_a_load_test() {
    let place = Place::on_file();
    let keys_file = place.path().join("keys.txt");
    let file = keys_file.display().to_string();
    let fill = [
        "demo",
        "--sellers",
        "50",
        "--listings",
        "3",
        "--keys-out",
        &file,
    ];
    let answer = json_of(&place, &fill, "");
    assert_eq!(answer, json!({"sellers": 50, "listings": 150}));
    let mode = fs::metadata(&keys_file).expect("is there").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let text = fs::read_to_string(&keys_file).expect("is text");
    assert!(text.ends_with('\n'));
    let keys: BTreeSet<&str> = text.lines().collect();
    assert_eq!(keys.len(), 50);

    let served = place.serve(&[]);
    let mut sellers = BTreeSet::new();
    for key in &keys {
        let headers = format!("Authorization: Bearer {key}\r\n");
        let get = |path: &str| {
            let (status, answer) = raw_get(served.api, path, &headers);
            assert_eq!(status, 200, "{answer}");
            let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
            serde_json::from_str::<Value>(body).expect("JSON")
        };
        let own = get("/api/v1/key");
        sellers.insert(own["data"]["seller"]["slug"].to_string());
        let list = get("/api/v1/inventory?status=active");
        assert_eq!(list["data"]["items"].as_array().map(Vec::len), Some(3));
    }
    assert_eq!(sellers.len(), 50);
    let (_, metrics) = raw_get(served.admin, "/metrics", "");
    assert!(!metrics.contains("tr_live_"));

    // Not under a running server, not over a file that is there, not into a database with Sellers.
    let other = place.path().join("other.txt").display().to_string();
    let again = ["demo", "--sellers", "1", "--keys-out", &other];
    run(&place, &again, "").assert_refused("another process owns the database");
    assert_eq!(served.terminate().0, Some(0));
    let over = ["demo", "--sellers", "1", "--keys-out", &file];
    run(&place, &over, "").assert_refused("holds something already");
    run(&place, &again, "").assert_refused("the database has Sellers already");
    assert!(fs::read_to_string(&keys_file).expect("is text") == text);
    let list = json_of(&place, &["seller", "list"], "");
    assert_eq!(list["sellers"].as_array().map(Vec::len), Some(50));

    run(&place, &["demo", "--sellers", "1"], "").assert_wrong_usage();
    run(&place, &["demo", "--listings", "1"], "").assert_wrong_usage();
    run(&place, &["demo", "--keys-out", &other], "").assert_wrong_usage();
    run(
        &place,
        &["demo", "--sellers", "-1", "--keys-out", &other],
        "",
    )
    .assert_wrong_usage();
}

#[test]
fn a_load_test_that_is_refused_leaves_no_file_of_keys() {
    let place = Place::new();
    place.create_seller("lone-star");
    let keys_file = place.path().join("keys.txt");
    let file = keys_file.display().to_string();
    let fill = ["demo", "--sellers", "1", "--keys-out", &file];
    run(&place, &fill, "").assert_refused("the database has Sellers already");
    // It would stand in the way of the next try.
    assert!(!keys_file.exists());
}
