//! First steps: what the program prints is typed as it stands.
//!
//! Never: a printed command that does not work when it is pasted.

use super::*;

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
    // Who works for both dealers finds the key of each on one page.
    let (_, rest) = said.split_once("Sign in as keys@").expect("a vendor");
    let (vendor, _) = rest.split_once(' ').expect("words");
    let vendor = format!("keys@{vendor}");
    let mut vendor = Person::signed_in(address, &vendor, password).await;
    let keys = vendor.get("/dashboard/keys").await.words();
    for dealer in ["Lone Star Trucks", "Great Lakes Trailers"] {
        assert!(keys.contains(dealer), "{keys}");
    }

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
