//! The server's process from its first start to its last signal.
//!
//! Never: a request that was being answered cut short, or a file of a killed server in the way of the next.

use super::*;

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
