//! What a key must look like, where it may stand, and what every other request is told.

use crate::support::{
    binary::{Place, Served},
    client::{Client, raw, raw_get, raw_request},
    fixtures::{OTHER_VINS, VIN, record, whole_record},
};

const UNKNOWN: &str = "tr_live_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p61m7ev9";

/// A server with one Seller and its key.
fn served() -> (Place, Served, String) {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    (place, served, key)
}

fn reason_of(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    json["error"]["details"]["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_key_is_accepted_in_one_place_and_form_only() {
    let (_place, served, key) = served();
    let ask = |lines: &str| {
        let (status, answer) = raw_get(served.api, "/api/v1/key", lines);
        (status, reason_of(&answer))
    };
    let good = (200, String::new());
    for lines in [
        format!("Authorization: Bearer {key}\r\n"),
        format!("authorization: bearer {key}\r\n"),
        format!("AUTHORIZATION: BEARER {key}\r\n"),
        format!("Authorization: Bearer  {key}\r\n"),
        format!("Authorization: Bearer      {key}\r\n"),
        // White space around a header's value is no part of it (RFC 9110 section 5.5).
        format!("Authorization: Bearer {key} \r\n"),
        format!("Authorization:\tBearer {key}\t\r\n"),
        format!("Authorization:Bearer {key}\r\n"),
        format!("Authorization: Bearer {key}\r\nAccept: text/html\r\n"),
        format!("Authorization: Bearer {key}\r\nAccept: nonsense\r\n"),
    ] {
        assert_eq!(ask(&lines), good, "{lines:?}");
    }
    let missing = (401, "missing".to_owned());
    for lines in [
        String::new(),
        format!("X-API-Key: {key}\r\n"),
        format!("Cookie: key={key}; authorization=Bearer {key}\r\n"),
        format!("Proxy-Authorization: Bearer {key}\r\n"),
        format!("X-Authorization: Bearer {key}\r\n"),
    ] {
        assert_eq!(ask(&lines), missing, "{lines:?}");
    }
    let malformed = (401, "malformed".to_owned());
    let wrong_sum = format!(
        "{}{}",
        &key[..45],
        if key.ends_with('0') { '1' } else { '0' }
    );
    for lines in [
        "Authorization: \r\n".to_owned(),
        "Authorization: Bearer\r\n".to_owned(),
        "Authorization: Bearer \r\n".to_owned(),
        format!("Authorization: {key}\r\n"),
        format!("Authorization: Basic {key}\r\n"),
        "Authorization: Basic dXNlcjpwYXNz\r\n".to_owned(),
        format!("Authorization: Digest username=\"{key}\"\r\n"),
        format!("Authorization: Bearer\t{key}\r\n"),
        format!("Authorization: Bearer \t{key}\r\n"),
        format!("Authorization: Bearer{key}\r\n"),
        format!("Authorization: Bearer \"{key}\"\r\n"),
        format!("Authorization: Bearer '{key}'\r\n"),
        format!("Authorization: Bearer <{key}>\r\n"),
        format!("Authorization: Bearer {key} {key}\r\n"),
        format!("Authorization: Bearer {key}, Bearer {key}\r\n"),
        format!("Authorization: Bearer {key}\r\nAuthorization: Bearer {key}\r\n"),
        format!("Authorization: Bearer {key}\r\nAuthorization: Basic x\r\n"),
        format!("Authorization: \r\nAuthorization: Bearer {key}\r\n"),
        format!("Authorization: Bearer {wrong_sum}\r\n"),
        format!(
            "Authorization: Bearer {}\r\n",
            key.to_lowercase().replace("tr_live_", "TR_LIVE_")
        ),
        format!("Authorization: Bearer TR_LIVE_{}\r\n", &key[8..]),
        format!("Authorization: Bearer {}\r\n", key.replace("live", "test")),
        format!("Authorization: Bearer {}\r\n", &key[..45]),
        format!("Authorization: Bearer {key}0\r\n"),
        format!("Authorization: Bearer {}é\r\n", &key[..44]),
        format!("Authorization: Bearer {}\u{200b}\r\n", key),
        format!("Authorization: Bearer {}\r\n", "a".repeat(16 << 10)),
        format!(
            "Authorization: Bearer {key}{}\r\n",
            "a".repeat((16 << 10) - 46)
        ),
    ] {
        assert_eq!(ask(&lines), malformed, "{:.100?}", lines);
    }
    assert_eq!(
        ask(&format!("Authorization: Bearer {UNKNOWN}\r\n")),
        (401, "unknown".to_owned())
    );
}

#[test]
fn a_key_in_the_address_or_the_body_is_no_key() {
    let (_place, served, key) = served();
    for path in [
        format!("/api/v1/key?access_token={key}"),
        format!("/api/v1/key?api_key={key}&key={key}&token={key}"),
        format!("/api/v1/{key}"),
    ] {
        let (status, answer) = raw_get(served.api, &path, "");
        assert_eq!(
            (status, reason_of(&answer).as_str()),
            (401, "missing"),
            "{path}"
        );
        assert!(!answer.contains(&key));
    }
    let body = format!("access_token={key}");
    let lines = format!(
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
        body.len()
    );
    let request = format!(
        "POST /api/v1/inventory HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{lines}\r\n{body}"
    );
    let answer = raw(served.api, request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[test]
fn a_header_of_64_kib_is_too_large_and_the_server_goes_on() {
    let (_place, served, key) = served();
    for bytes in [(64 << 10), 100 << 10] {
        let (status, answer) = raw_get(
            served.api,
            "/api/v1/key",
            &format!("Authorization: Bearer {}\r\n", "a".repeat(bytes)),
        );
        assert_eq!(status, 431, "{answer:.300}");
        assert!(answer.contains("HEADERS_TOO_LARGE"));
    }
    // Beyond what is read at all there is a status, and no more.
    let (status, _) = raw_get(
        served.api,
        "/api/v1/key",
        &format!("Authorization: Bearer {}\r\n", "a".repeat(1 << 20)),
    );
    assert!(status == 431 || status == 0, "{status}");
    let many: String = (0..90)
        .map(|n| format!("X-{n}: {}\r\n", "a".repeat(1000)))
        .collect();
    assert_eq!(raw_get(served.api, "/api/v1/key", &many).0, 431);
    assert_eq!(
        raw_get(
            served.api,
            "/api/v1/key",
            &format!("Authorization: Bearer {key}\r\n")
        )
        .0,
        200
    );
}

#[test]
fn each_401_carries_its_challenge_and_says_what_to_do() {
    let (place, served, old) = served();
    let new = place.generate("lone-star");
    let ask = |value: Option<&str>| {
        let lines = value
            .map(|value| format!("Authorization: {value}\r\n"))
            .unwrap_or_default();
        raw_get(served.api, "/api/v1/inventory", &lines)
    };
    for (value, reason) in [
        (None, "missing"),
        (Some("Basic x".to_owned()), "malformed"),
        (Some(format!("Bearer {UNKNOWN}")), "unknown"),
        (Some(format!("Bearer {old}")), "revoked"),
    ] {
        let (status, answer) = ask(value.as_deref());
        assert_eq!(status, 401);
        assert_eq!(reason_of(&answer), reason);
        let challenge = answer
            .lines()
            .find_map(|line| line.strip_prefix("www-authenticate: "))
            .expect("401 carries a challenge (RFC 9110 section 15.5.2)");
        assert!(
            challenge.starts_with(r#"Bearer realm="truckradar""#),
            "{challenge}"
        );
        if reason == "missing" {
            assert!(
                !challenge.contains("error"),
                "RFC 6750 section 3.1: no code without credentials"
            );
        } else {
            assert!(
                challenge.contains(r#"error="invalid_token", error_description=""#),
                "{challenge}"
            );
        }
        assert!(
            challenge
                .bytes()
                .all(|c| (0x20..0x7f).contains(&c) && c != b'\\')
        );
        assert!(answer.contains("\"code\":\"UNAUTHORIZED\""));
        assert!(answer.contains("x-request-id: "));
        assert!(!answer.contains(&old) && !answer.contains(UNKNOWN));
    }
    assert_eq!(ask(Some(&format!("Bearer {new}"))).0, 200);
}

#[test]
fn the_key_is_checked_before_path_method_type_and_size() {
    let (_place, served, key) = served();
    let big = format!(
        "Content-Type: text/plain\r\nContent-Length: {}\r\n",
        17 << 20
    );
    let without =
        |method: &str, path: &str, lines: &str| raw_request(served.api, method, path, lines).0;
    let with = |method: &str, path: &str, lines: &str| {
        raw_request(
            served.api,
            method,
            path,
            &format!("Authorization: Bearer {key}\r\n{lines}"),
        )
    };
    for (method, path, lines, status) in [
        ("GET", "/api/v1/nothing", "", 404),
        ("GET", "/api/v1/", "", 404),
        ("GET", "/api/v1", "", 404),
        ("POST", "/api/v1/nothing/at/all", "", 404),
        ("DELETE", "/api/v1/inventory", "", 405),
        ("OPTIONS", "/api/v1/inventory", "", 405),
        ("BREW", "/api/v1/inventory", "", 405),
        ("PUT", "/api/v1/key", "", 405),
        (
            "POST",
            "/api/v1/inventory",
            "Content-Type: text/plain\r\nContent-Length: 2\r\n",
            415,
        ),
        ("POST", "/api/v1/inventory", "Content-Length: 0\r\n", 415),
        ("POST", "/api/v1/inventory", big.as_str(), 415),
        (
            "POST",
            "/api/v1/inventory",
            "Content-Type: application/json\r\nContent-Length: 17000000\r\n",
            413,
        ),
        ("GET", "/api/v1/inventory/short", "", 400),
        ("HEAD", "/api/v1/key", "", 200),
        ("HEAD", "/api/v1/nothing", "", 404),
    ] {
        assert_eq!(
            without(method, path, lines),
            401,
            "{method} {path} without a key"
        );
        let (found, answer) = with(method, path, lines);
        assert_eq!(found, status, "{method} {path} with a key: {answer}");
        if status == 405 {
            let allow = answer
                .lines()
                .find_map(|line| line.strip_prefix("allow: "))
                .expect("405 carries Allow");
            assert!(allow.contains("GET"), "{allow}");
        }
        if method == "HEAD" {
            assert!(answer.ends_with("\r\n\r\n"), "HEAD has no body: {answer}");
        }
    }
}

#[test]
fn no_spelling_of_a_path_gets_around_the_key() {
    let (_place, served, key) = served();
    for path in [
        "/api/v1/../v1/key",
        "/api/v1/./key",
        "/./api/v1/key",
        "/healthz/../api/v1/key",
        "//api/v1/key",
        "/api//v1/key",
        "/api/v1//key",
        "/api/v1/key/",
        "/%61pi/v1/key",
        "/api/%761/key",
        "/api%2Fv1%2Fkey",
        "/api/v1%2Fkey",
        "/api/v1/%6bey",
        "/%2e/api/v1/key",
        "/x/%2e%2e/api/v1/key",
        "/%2561pi/v1/key",
        "/api;p=1/v1/key",
        "/api/v1;p/key",
        "/api\\v1\\key",
        "http://t/api/v1/key",
        "/api/v1/key?x=/healthz",
        "/api/v1/key#/healthz",
    ] {
        let (status, answer) = raw_get(served.api, path, "");
        assert!(status == 401 || status == 400, "{path}: {status} {answer}");
        assert!(!answer.contains("\"data\""), "{path}");
        // With the key only the plain spelling is found.
        let (status, answer) = raw_get(
            served.api,
            path,
            &format!("Authorization: Bearer {key}\r\n"),
        );
        // A query, a fragment and a host are not part of the path.
        let plain = path.contains("/key?") || path.contains("/key#") || path.starts_with("http://");
        if plain {
            assert_eq!(status, 200, "{path}: {answer}");
        } else {
            assert!(matches!(status, 400 | 404), "{path}: {status} {answer}");
        }
    }
}

#[tokio::test]
async fn another_dealers_unit_is_403_and_nobodys_is_404() {
    let (place, served, key) = served();
    place.create_seller("great-lakes");
    let own = Client::new(served.api, Some(&key));
    let other = own.with_key(&place.generate("great-lakes"));
    assert_eq!(
        own.post("/api/v1/inventory", &whole_record(VIN))
            .await
            .status,
        200
    );

    let path = format!("/api/v1/inventory/{VIN}");
    assert_eq!(own.get(&path).await.json()["data"]["vin"], VIN);
    let refused = other.get(&path).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (403, "FORBIDDEN")
    );
    let contact = &refused.json()["error"]["details"]["contact"];
    assert_eq!(contact, "sales@truckradar.ai", "the 403 says whom to ask");
    assert!(
        !refused.text.contains("lone-star"),
        "and not who the other dealer is"
    );
    let sold = serde_json::json!({"vin": VIN, "status": "sold"});
    assert_eq!(other.patch("/api/v1/inventory", &sold).await.status, 403);
    assert_eq!(
        other.post("/api/v1/inventory", &record(VIN)).await.status,
        403
    );
    assert_eq!(
        other
            .get(&format!("/api/v1/inventory/{}", OTHER_VINS[0]))
            .await
            .status,
        404
    );
    assert!(!other.get("/api/v1/inventory").await.text.contains(VIN));

    // What the first dealer has sold, the second may list; each then sees its own.
    assert_eq!(own.patch("/api/v1/inventory", &sold).await.status, 200);
    assert_eq!(other.get(&path).await.status, 404);
    assert_eq!(
        other.post("/api/v1/inventory", &record(VIN)).await.status,
        200
    );
    assert_eq!(own.get(&path).await.json()["data"]["status"], "sold");
    assert_eq!(other.get(&path).await.json()["data"]["status"], "active");
    let again = own.post("/api/v1/inventory", &record(VIN)).await;
    assert_eq!(
        (again.status.as_u16(), again.code().as_str()),
        (403, "FORBIDDEN")
    );

    // Until the operator frees it.
    place.json(&["listing", "release", "--vin", VIN], "");
    assert_eq!(other.get(&path).await.json()["data"]["status"], "expired");
    assert_eq!(
        own.post("/api/v1/inventory", &record(VIN)).await.status,
        200
    );
    assert_eq!(own.get(&path).await.json()["data"]["status"], "active");
}

#[tokio::test]
async fn the_key_tells_whose_it_is_and_never_itself() {
    let (place, served, first) = served();
    let shown = Client::new(served.api, Some(&first))
        .get("/api/v1/key")
        .await;
    let data = &shown.json()["data"];
    assert_eq!(data["seller"]["slug"], "lone-star");
    assert_eq!(data["hint"], first[42..]);
    assert_eq!(data["last_rotated_at"], serde_json::Value::Null);
    assert!(!shown.text.contains(&first));
    let second = place.generate("lone-star");
    let shown = Client::new(served.api, Some(&second))
        .get("/api/v1/key")
        .await;
    assert_eq!(
        shown.json()["data"]["last_rotated_at"],
        shown.json()["data"]["created_at"]
    );
}

#[tokio::test]
async fn responses_follow_the_conventions() {
    let (_place, served, key) = served();
    let client = Client::new(served.api, Some(&key));
    let answer = client.get("/api/v1/key").await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("ratelimit-policy"), "\"default\";q=60;w=60");
    assert_eq!(answer.header("ratelimit"), "\"default\";r=59;t=1");
    assert_eq!(answer.header("cache-control"), "private, no-cache");
    assert_eq!(answer.header("x-request-id").len(), 36);
    let own = client
        .request(reqwest::Method::GET, "/api/v1/key")
        .header("x-request-id", "my-id.1");
    assert_eq!(client.send(own).await.header("x-request-id"), "my-id.1");
    let stray = client
        .request(reqwest::Method::GET, "/api/v1/key")
        .header("x-request-id", UNKNOWN);
    assert_ne!(client.send(stray).await.header("x-request-id"), UNKNOWN);
    let batch = client
        .post(
            "/api/v1/inventory",
            &serde_json::json!({"records": [record(VIN)]}),
        )
        .await;
    assert_eq!(batch.header("ratelimit-policy"), "\"batches\";q=10;w=60");
    assert_eq!(batch.header("ratelimit"), "\"batches\";r=9;t=6");
}

#[tokio::test]
async fn fair_use_is_shown_by_default_and_enforced_when_asked() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    let client = Client::new(served.api, Some(&key));
    for n in 0..12 {
        let answer = client
            .post(
                "/api/v1/inventory",
                &serde_json::json!({"records": [record(VIN)]}),
            )
            .await;
        assert_eq!(
            answer.status, 200,
            "monitoring refuses nothing, not even number {n}"
        );
    }
    drop(served);
    let served = place.serve(&["--rate-limits", "enforce"]);
    let client = Client::new(served.api, Some(&key));
    let mut last = None;
    for _ in 0..12 {
        last = Some(
            client
                .post(
                    "/api/v1/inventory",
                    &serde_json::json!({"records": [record(VIN)]}),
                )
                .await,
        );
    }
    let refused = last.expect("twelve answers");
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (429, "RATE_LIMITED")
    );
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=6).contains(&wait), "{wait}");
    assert_eq!(refused.header("ratelimit").split(';').nth(1), Some("r=0"));
    // Another policy is not used up by it.
    assert_eq!(client.get("/api/v1/key").await.status, 200);
}
