//! The API's address over TLS: the certificate is checked, exchanged while the server runs, and no limit of the plain address
//! is lost.
//!
//! Never: a client that trusts whatever it is shown.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use truckradar::{config::Limits, http::Certificate, tls::CertificateFiles};

use crate::{
    resilience,
    support::{
        binary::{Place, Served},
        client::{raw, raw_get},
        fixtures::{VIN, record},
        tls::{Authority, Issued, NAME, files_in},
    },
};

const HSTS: &str = "strict-transport-security: max-age=31536000\r\n";

/// A server that speaks TLS, with a Seller and a key.
struct World {
    authority: Authority,
    first: Issued,
    files: CertificateFiles,
    served: Served,
    key: String,
    place: Place,
}

fn options(files: &CertificateFiles) -> [&str; 4] {
    let cert = files.cert.to_str().expect("text");
    let key = files.key.to_str().expect("text");
    ["--tls-cert", cert, "--tls-key", key]
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        let authority = Authority::new();
        let files = files_in(place.path());
        let first = authority.issue();
        first.write(&files);
        let served = place.serve(&options(&files));
        place.create_seller("lone-star");
        let key = place.generate("lone-star");
        Self {
            authority,
            first,
            files,
            served,
            key,
            place,
        }
    }

    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.key)
    }

    /// curl on the server's public name, as a dealer would type it; its exit code and what it printed.
    fn curl(&self, path: &str, more: &[&str]) -> (Option<i32>, String) {
        let port = self.served.api.port();
        let output = Command::new("curl")
            .args(["-sS", "-i", "--noproxy", "*", "--resolve"])
            .arg(format!("{NAME}:{port}:127.0.0.1"))
            .arg("-H")
            .arg(format!("Authorization: Bearer {}", self.key))
            .args(more)
            .arg(format!("https://{NAME}:{port}{path}"))
            .output()
            .expect("curl runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said)
    }
}

#[test]
fn a_call_over_tls_is_answered_and_one_without_is_not() {
    let world = World::new();
    let root = world.place.path().join("root.pem");
    fs::write(&root, world.authority.pem()).expect("writes");
    let trusting = ["--cacert", root.to_str().expect("text")];

    let body = record(VIN).to_string();
    let posting = ["-H", "Content-Type: application/json", "-d", &body];
    let (code, said) = world.curl("/api/v1/inventory", &[&trusting[..], &posting].concat());
    assert_eq!(code, Some(0));
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    assert!(said.contains(HSTS), "{said}");
    // Who does not know the authority does not talk to the server at all.
    assert_eq!(world.curl("/api/v1/key", &[]).0, Some(60));

    // Refusals and what is not there have the header as well.
    let mut connection = world
        .authority
        .connect(world.served.api, &[])
        .expect("a connection");
    for (path, headers, status) in [
        ("/api/v1/key", world.bearer(), 200),
        ("/api/v1/key", String::new(), 401),
        ("/nothing", String::new(), 404),
        ("/readyz", String::new(), 200),
    ] {
        let said = connection.get(path, &headers);
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
        assert!(said.contains(HSTS), "{said}");
    }

    // Without TLS there is no answer on this address, and the operator's has none but that.
    let plain = raw(
        world.served.api,
        format!(
            "GET /api/v1/key HTTP/1.1\r\nHost: t\r\n{}\r\n",
            world.bearer()
        )
        .as_bytes(),
    );
    assert!(!plain.contains("HTTP/"), "{plain}");
    let (status, said) = raw_get(world.served.admin, "/readyz", "");
    assert_eq!(status, 200);
    assert!(!said.contains("strict-transport-security"), "{said}");

    // One protocol is served, and a client that wants another only is told so in the handshake.
    let offer = |protocols| world.authority.connect(world.served.api, protocols);
    assert!(offer(&["h2", "http/1.1"]).is_ok());
    assert!(offer(&["h2"]).is_err());
    assert_eq!(world.served.terminate().0, Some(0));
}

#[test]
fn a_pair_that_cannot_be_served_is_refused_with_words() {
    let place = Place::new();
    let authority = Authority::new();
    let files = files_in(place.path());
    authority.issue().write(&files);
    let other = files_in(place.path().join("other").as_path());
    fs::create_dir(place.path().join("other")).expect("makes");
    authority.issue().write(&other);
    let crossed = CertificateFiles {
        cert: files.cert.clone(),
        key: other.key.clone(),
    };
    let turned = CertificateFiles {
        cert: files.key.clone(),
        key: files.cert.clone(),
    };
    let gone = CertificateFiles {
        key: place.path().join("gone.pem"),
        ..files.clone()
    };
    for (options, words) in [
        (&options(&crossed)[..], "does not fit the key in"),
        (&options(&turned), "holds no certificate"),
        (&options(&gone), "gone.pem cannot be read"),
        (&options(&files)[..2], "belong together"),
        (&options(&files)[2..], "belong together"),
    ] {
        let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let refused = place.run(&[&["serve"], &listen[..], options].concat(), "");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{said}");
        assert!(!said.contains("API on"), "{said}");
        // `check` says the same before anything is started.
        let checked = place.run(&[&["check", "--json"], options].concat(), "");
        assert_eq!(checked.status.code(), Some(1));
        let told: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
        let problem = told["problems"][0].as_str().expect("a problem");
        assert!(problem.contains(words), "{problem}");
    }
    let everywhere = ["check", "--json", "--listen", "0.0.0.0:8443"];
    let checked = place.run(&[&everywhere[..], &options(&files)].concat(), "");
    let told: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    assert_eq!(told["problems"], json!([]));
}

#[test]
fn a_replaced_certificate_is_used_without_a_restart_and_a_broken_one_never() {
    let world = World::new();
    let api = world.served.api;
    let connect = || world.authority.connect(api, &[]).expect("a connection");
    let mut before = connect();
    assert_eq!(before.shown(), world.first.der);

    // A key that fits nothing: told of, and the old pair stays.
    let second = world.authority.issue();
    fs::write(&world.files.key, &second.key).expect("writes");
    world
        .served
        .wait_until_it_says("the new certificate cannot be used");
    assert_eq!(connect().shown(), world.first.der);

    second.write(&world.files);
    world
        .served
        .wait_until_it_says("the certificate was replaced");
    assert_eq!(connect().shown(), second.der);
    // A connection from before goes on.
    assert!(
        before
            .get("/api/v1/key", &world.bearer())
            .starts_with("HTTP/1.1 200 ")
    );

    let (code, log) = world.served.terminate();
    assert_eq!(code, Some(0));
    assert!(log.contains("does not fit the key"), "{log}");
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}

/// Reads until the server closes.
fn until_closed(stream: &mut TcpStream) {
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout");
    let mut said = Vec::new();
    if let Err(error) = stream.read_to_end(&mut said) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_handshake_that_never_ends_is_cut_while_others_are_served() {
    let world = World::new();
    let began = Instant::now();
    let mut silent = TcpStream::connect(world.served.api).expect("connects");
    // The beginning of a greeting that announces more.
    let mut half = TcpStream::connect(world.served.api).expect("connects");
    half.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
        .expect("writes");
    let mut other = world
        .authority
        .connect(world.served.api, &[])
        .expect("a connection");
    let said = other.get("/api/v1/key", &world.bearer());
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    until_closed(&mut silent);
    until_closed(&mut half);
    let took = began.elapsed();
    assert!(took >= Limits::default().handshake_timeout, "{took:?}");
    assert!(took < 3 * Limits::default().handshake_timeout, "{took:?}");
    let said = other.get("/api/v1/key", &world.bearer());
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn silent_clients_take_places_until_they_are_cut() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    let files = files_in(folder.path());
    authority.issue().write(&files);
    let certificate = Certificate::read(files).expect("fits");
    let limits = Limits {
        handshake_timeout: Duration::from_secs(3),
        header_timeout: Duration::from_millis(300),
        connections_max: 3,
        ..Limits::default()
    };
    let (_folder, api, key, stop) = resilience::inside(limits, Some(&certificate)).await;
    tokio::task::block_in_place(|| {
        let began = Instant::now();
        let silent: Vec<_> = (0..4)
            .map(|_| TcpStream::connect(api).expect("connects"))
            .map(|mut stream| {
                std::thread::spawn(move || {
                    until_closed(&mut stream);
                    began.elapsed()
                })
            })
            .collect();
        // One of them found no place; the others had theirs until their time was up.
        let took = silent.into_iter().map(|one| one.join().expect("ends"));
        let turned_away = took.filter(|took| *took < limits.handshake_timeout);
        assert_eq!(turned_away.count(), 1);
        // The places are free again as soon as the server has let go of them.
        let end = Instant::now() + Duration::from_secs(10);
        let mut connection = loop {
            match authority.connect(api, &[]) {
                Ok(connection) => break connection,
                Err(_) => assert!(Instant::now() < end, "no place became free"),
            }
        };
        let said = connection.get("/api/v1/key", &format!("Authorization: Bearer {key}\r\n"));
        assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
        // The limit on a request's head holds behind the handshake, too.
        let mut slow = authority.connect(api, &[]).expect("a connection");
        slow.send("GET /healthz HTTP/1.1\r\nHost: t\r\n");
        assert!(!slow.read_until("\r\n\r\n").contains(" 200 "));
    });
    stop();
}

#[test]
fn sigterm_lets_a_request_over_tls_finish() {
    let world = World::new();
    let body = record(VIN).to_string();
    let mut running = world
        .authority
        .connect(world.served.api, &[])
        .expect("a connection");
    running.send(&format!(
        "POST /api/v1/inventory HTTP/1.1\r\nHost: {NAME}\r\n{}Content-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        world.bearer(),
        body.len()
    ));
    // The server has begun when it asks for the body.
    let said = running.read_until("\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 100 "), "{said}");
    world.served.signal("TERM");
    world.served.wait_until_it_says("stopping");
    running.send(&body);
    let said = running.read_until("\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    assert_eq!(world.served.terminate().0, Some(0));
}
