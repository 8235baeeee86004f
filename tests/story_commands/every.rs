//! What holds for every command: its help, its streams, its exit codes, the database it names.
//!
//! Never: a command left out of these stories: they are read from the program's own help.

use super::*;

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
            let ran = Ran::of(fed(command.current_dir(place.path()), stdin));
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
