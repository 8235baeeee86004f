//! A key is shown once, and is nowhere else: every place where one could have come to rest is searched for every key.
//!
//! Never: a place left out because a key "cannot" be there.

use crate::support::{
    binary::{PASSWORD, Place, Served},
    client::{Client, raw_get},
    fixtures::{VIN, record},
};

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|part| part == needle)
}

/// Where any of the secrets is found.
pub fn found_in(places: &[(String, Vec<u8>)], secrets: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, bytes) in places {
        for secret in secrets {
            // The random part alone would be as bad.
            let part = secret
                .strip_prefix("tr_live_")
                .map_or(secret.as_str(), |rest| &rest[..32]);
            if holds(bytes, part.as_bytes()) {
                found.push(format!("{name} holds {part:.6}…"));
            }
        }
    }
    found
}

/// Sends a key to every place where a confused client might put it.
async fn scatter(served: &Served, key: &str) {
    for path in [
        format!("/api/v1/key?key={key}"),
        format!("/api/v1/inventory/{key}"),
        format!("/api/v1/dealers/{key}"),
        format!("/{key}"),
        format!("/%74r_live_{}", &key[8..]),
        format!("/api/v1/%74r%5Flive_{}", &key[8..]),
    ] {
        for lines in [String::new(), format!("Authorization: Bearer {key}\r\n")] {
            let more = format!(
                "{lines}Cookie: k={key}\r\nReferer: http://t/{key}\r\nX-Request-Id: {key}\r\nX-API-Key: {key}\r\n"
            );
            raw_get(
                served.api,
                &path,
                &format!("{more}User-Agent: agent {key}\r\n"),
            );
        }
    }
    let client = Client::new(served.api, Some(key));
    client.get(&format!("/api/v1/inventory?cursor={key}")).await;
    client
        .post(
            "/api/v1/inventory",
            &serde_json::json!({"vin": key, "status": key}),
        )
        .await;
    client
        .post("/api/v1/inventory", &serde_json::json!({"records": key}))
        .await;
    client
        .patch(
            "/api/v1/inventory",
            &serde_json::json!({"vin": VIN, "status": key}),
        )
        .await;
    client
        .post(
            "/api/v1/dealers",
            &serde_json::json!({"slug": key, "name": "x"}),
        )
        .await;
    let method = reqwest::Method::from_bytes(key.as_bytes()).expect("a method");
    client.send(client.request(method, "/api/v1/key")).await;
    let broken = client
        .request(reqwest::Method::POST, "/api/v1/inventory")
        .header("content-type", "application/json");
    client.send(broken.body(format!("{{\"{key}\" {key}"))).await;
}

#[tokio::test]
async fn no_key_and_no_password_is_found_in_files_logs_or_metrics() {
    let place = Place::new();
    let served = place.serve(&["--log", "trace"]);
    place.create_seller("lone-star");
    place.create_seller("great-lakes");
    let mut secrets = vec![PASSWORD.to_owned()];
    let mut searched = Vec::new();
    for round in 0..3 {
        let key = place.generate("lone-star");
        secrets.push(key.clone());
        secrets.push(place.generate("great-lakes"));
        let client = Client::new(served.api, Some(&key));
        assert_eq!(
            client.post("/api/v1/inventory", &record(VIN)).await.status,
            200
        );
        scatter(&served, &key).await;
        let identified = place.json(&["key", "identify"], &key);
        assert_eq!(identified["identified"]["live"], true);
        // As text too, and a made-up key, and one that is cut.
        place.run(&["key", "identify"], &format!("{key}\n"));
        place.run(&["key", "identify"], &key[..40]);
        if round == 1 {
            place.json(
                &[
                    "key",
                    "expire",
                    "--seller",
                    "lone-star",
                    "--reason",
                    &format!("found: {key}"),
                ],
                "",
            );
            scatter(&served, &key).await;
        }
        let shown = place.run(&["key", "show", "--seller", "lone-star"], "");
        searched.push(("key show".to_owned(), shown.stdout));
    }
    let list = place.run(&["seller", "list", "--json"], "");
    searched.push(("seller list".to_owned(), list.stdout));
    let (_, metrics) = raw_get(served.admin, "/metrics", "");
    assert!(metrics.contains("truckradar_requests_total"));
    searched.push(("metrics".to_owned(), metrics.into_bytes()));
    // The write-ahead log as it is while the server runs, and what a crash leaves.
    searched.extend(place.stored().await);
    let has_log = |(name, bytes): &(String, Vec<u8>)| name.ends_with("-wal") && !bytes.is_empty();
    assert!(place.is_on_postgres() || searched.iter().any(has_log));
    let log = served.kill();
    assert!(log.contains("request"), "the log is a log: {log:.200}");
    searched.push(("log".to_owned(), log.clone().into_bytes()));
    searched.extend(place.stored().await);
    // And what an orderly stop leaves.
    let served = place.serve(&["--log", "trace"]);
    let (code, second_log) = served.terminate();
    assert_eq!(code, Some(0));
    searched.push(("second log".to_owned(), second_log.into_bytes()));
    searched.extend(place.stored().await);

    assert_eq!(found_in(&searched, &secrets), Vec::<String>::new());
    // Nor what is stored in a key's place, in the log: it could be matched against a stolen table.
    for secret in secrets
        .iter()
        .filter(|secret| secret.starts_with("tr_live_"))
    {
        use sha2::{Digest, Sha256};
        let digest: String = Sha256::digest(secret)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert!(!log.contains(&digest) && !log.contains(&digest.to_uppercase()));
    }
}

#[test]
fn the_search_finds_what_is_there() {
    let key = "tr_live_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p61m7ev9".to_owned();
    let place = |text: &str| vec![("log".to_owned(), text.as_bytes().to_vec())];
    assert_eq!(
        found_in(&place(&format!("x{key}y")), std::slice::from_ref(&key)).len(),
        1
    );
    assert_eq!(
        found_in(&place(&key[8..40]), std::slice::from_ref(&key)).len(),
        1
    );
    assert_eq!(found_in(&place(&key[8..39]), &[key]).len(), 0);
}

#[test]
fn a_key_is_on_no_command_line() {
    // The one command that takes a key reads it from standard input; an argument is refused.
    let place = Place::new();
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    let output = place.run(&["key", "identify", &key], "");
    assert_eq!(output.status.code(), Some(2));
}
