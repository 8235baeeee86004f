//! The names under which the server answers: pages under those that the operator named, the API under any.
//!
//! Never: a name taken for ours because a request says it.

use std::net::SocketAddr;

use crate::support::{
    binary::{Place, Served},
    client::{raw, raw_request},
};

const HSTS: &str = "strict-transport-security: max-age=31536000\r\n";

/// A GET under a name; status and answer.
fn under(served: &Served, path: &str, host: &str) -> (u16, String) {
    at_under(served.api, path, host)
}

fn at_under(at: SocketAddr, path: &str, host: &str) -> (u16, String) {
    let said = raw(
        at,
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    let status = said.get(9..12).and_then(|status| status.parse().ok());
    (status.unwrap_or(0), said)
}

#[test]
fn with_public_addresses_pages_are_answered_under_those_names_only() {
    let place = Place::new();
    let served = place.serve(&[
        "--public-url",
        "https://TruckRadar.example",
        "--public-url",
        "https://trailerradar.example:8443/",
    ]);
    let port = served.api.port();
    for host in [
        "truckradar.example".to_owned(),
        "TRUCKRADAR.example:443".to_owned(),
        "trailerradar.example:8443".to_owned(),
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
    ] {
        let (status, said) = under(&served, "/login", &host);
        assert_eq!(status, 200, "{host}: {said}");
        assert!(said.contains(HSTS), "{said}");
    }
    for host in ["elsewhere.example", "trailerradar.example", ""] {
        let (status, said) = under(&served, "/login", host);
        assert_eq!(status, 421, "{host}: {said}");
        assert!(said.contains("\"MISDIRECTED_REQUEST\""), "{said}");
        assert!(
            said.contains(HSTS) && said.contains("x-request-id: "),
            "{said}"
        );
    }
    // The address in the request's first line goes before the header.
    let (status, said) = raw_request(served.api, "GET", "http://elsewhere.example/login", "");
    assert_eq!(status, 421, "{said}");
    for (path, status) in [
        ("/api/v1/key", 401),
        ("/%61pi/v1/key", 401),
        ("/api/v2", 404),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 404),
    ] {
        assert_eq!(
            under(&served, path, "elsewhere.example").0,
            status,
            "{path}"
        );
    }
    let (status, said) = at_under(served.admin, "/login", "127.0.0.1");
    assert_eq!(status, 404);
    assert!(!said.contains("strict-transport-security"), "{said}");
}

/// A browser on the operator's machine reaches the admin address, too; a page whose name leads there is of that name.
#[test]
fn the_operators_pages_are_asked_for_by_address_and_under_no_name() {
    let place = Place::new();
    for options in [&[][..], &["--public-url", "https://truckradar.example"]] {
        let served = place.serve(options);
        let (admin, port) = (served.admin, served.admin.port());
        for path in ["/nodes", "/leaks"] {
            for host in [
                format!("127.0.0.1:{port}"),
                format!("[::1]:{port}"),
                format!("10.0.0.7:{port}"),
                format!("localhost:{port}"),
                "localhost".to_owned(),
            ] {
                let (status, said) = at_under(admin, path, &host);
                assert_eq!(status, 200, "{host}{path}: {said}");
            }
            for host in [
                format!("rebound.evil.example:{port}"),
                "truckradar.example".to_owned(),
                "localhost.evil.example".to_owned(),
                String::new(),
            ] {
                let (status, said) = at_under(admin, path, &host);
                assert_eq!(status, 421, "{host}{path}: {said}");
                assert!(said.contains("\"MISDIRECTED_REQUEST\""), "{said}");
            }
        }
        // Those that ask for these come by names: of a service, of a machine.
        for path in ["/healthz", "/readyz", "/metrics"] {
            let (status, said) = at_under(admin, path, "node-1.internal:9090");
            assert_eq!(status, 200, "{path}: {said}");
        }
        assert_eq!(served.terminate().0, Some(0));
    }
}

#[test]
fn without_public_addresses_every_name_is_answered_and_nothing_is_said_of_tls() {
    let place = Place::new();
    let served = place.serve(&[]);
    for path in ["/login", "/api/v1/key", "/healthz"] {
        let (status, said) = under(&served, path, "elsewhere.example");
        assert!([404, 401, 200].contains(&status), "{said}");
        assert!(!said.contains("strict-transport-security"), "{said}");
    }
}
