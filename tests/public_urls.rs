//! The names under which the server answers: pages under those that the operator named, the API under any.
//!
//! Never: a name taken for ours because a request says it.

use crate::support::{
    binary::{Place, Served},
    client::{raw, raw_get, raw_request},
};

const HSTS: &str = "strict-transport-security: max-age=31536000\r\n";

/// A GET under a name; status and answer.
fn under(served: &Served, path: &str, host: &str) -> (u16, String) {
    let said = raw(
        served.api,
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
    let (status, said) = raw_get(served.admin, "/login", "");
    assert_eq!(status, 404);
    assert!(!said.contains("strict-transport-security"), "{said}");
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
