//! The commands about a database as a whole: its schema, its file, its nodes, what a listing belongs to.
//!
//! Never: a change by a command that only looks.

use super::*;

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
