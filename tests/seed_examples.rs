//! The published examples of a call, by curl and by fetch, run as a reader would run them: only host and key are changed.

use std::process::{Command, Output};

use crate::support::{
    binary::{Place, Served},
    client::Client,
    fixtures::{OTHER_VINS, VIN, whole_record},
};

const CURL: &str = r#"curl https://truckradar.ai/api/v1/inventory/3ALHCYFE3LDLM8435 \
-H "Authorization: Bearer tr_live_XXXXXXXXXXXXXXXX" \
-H "Accept: application/json""#;

const FETCH: &str = r#"const res = await fetch("https://truckradar.ai/api/v1/inventory/3ALHCYFE3LDLM8435", {
headers: {
Authorization: `Bearer ${process.env.TRUCKRADAR_API_KEY}`,
Accept: "application/json",
},
});
const { data, error } = await res.json();
if (!res.ok) throw new Error(error?.message ?? res.statusText);"#;

/// Three keys: of the dealer that lists the example's VIN, of another, and a dead one.
async fn served() -> (Place, Served, [String; 3]) {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    place.create_seller("great-lakes");
    let dead = place.generate("lone-star");
    let own = place.generate("lone-star");
    let other = place.generate("great-lakes");
    let client = Client::new(served.api, Some(&own));
    assert_eq!(
        client
            .post("/api/v1/inventory", &whole_record(VIN))
            .await
            .status,
        200
    );
    let client = client.with_key(&other);
    assert_eq!(
        client
            .post("/api/v1/inventory", &whole_record(OTHER_VINS[0]))
            .await
            .status,
        200
    );
    (place, served, [own, other, dead])
}

fn at(served: &Served, example: &str) -> String {
    example.replace("https://truckradar.ai", &format!("http://{}", served.api))
}

#[tokio::test]
async fn the_published_curl_works() {
    let (_place, served, [own, other, dead]) = served().await;
    let run = |key: &str| {
        let line = at(&served, CURL).replace("tr_live_XXXXXXXXXXXXXXXX", key);
        let line = format!("{line} -sS -w '\\n%{{http_code}}'");
        let output = Command::new("sh")
            .args(["-c", &line])
            .output()
            .expect("sh runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).expect("text");
        let (body, status) = text.rsplit_once('\n').expect("a status");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        (status.to_owned(), body)
    };
    let (status, body) = run(&own);
    assert_eq!(
        (status.as_str(), &body["data"]["vin"]),
        ("200", &VIN.into())
    );
    let (status, body) = run(&other);
    assert_eq!(
        (status.as_str(), &body["error"]["code"]),
        ("403", &"FORBIDDEN".into())
    );
    let (status, body) = run(&dead);
    assert_eq!(
        (status.as_str(), &body["error"]["code"]),
        ("401", &"UNAUTHORIZED".into())
    );
    let (status, _) = run("tr_live_XXXXXXXXXXXXXXXX");
    assert_eq!(status, "401");
}

#[tokio::test]
async fn the_published_fetch_works() {
    let (place, served, [own, other, dead]) = served().await;
    let version = Command::new("node").arg("--version").output();
    let version = String::from_utf8(version.expect("node is there").stdout).expect("text");
    let major: u32 = version
        .trim_start_matches('v')
        .split('.')
        .next()
        .unwrap_or_default()
        .parse()
        .unwrap_or(0);
    assert!(
        major >= 18,
        "fetch is part of Node from 18 on; this is {version}"
    );

    let script = place.path().join("example.mjs");
    let shown = "\nconsole.log(JSON.stringify({ status: res.status, data }));";
    std::fs::write(&script, at(&served, FETCH) + shown).expect("writes");
    let run = |key: &str| -> Output {
        let mut node = Command::new("node");
        node.arg(&script).env("TRUCKRADAR_API_KEY", key);
        node.output().expect("node runs")
    };
    let good = run(&own);
    assert!(
        good.status.success(),
        "{}",
        String::from_utf8_lossy(&good.stderr)
    );
    let answer: serde_json::Value = serde_json::from_slice(&good.stdout).expect("JSON");
    assert_eq!(
        (&answer["status"], &answer["data"]["vin"]),
        (&200.into(), &VIN.into())
    );
    for (key, words) in [
        (other.as_str(), "Another dealer lists this VIN"),
        (dead.as_str(), "was replaced or expired"),
        ("", "does not hold exactly one well-formed key"),
    ] {
        let refused = run(key);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success());
        assert!(
            error.contains(words),
            "the example throws our message: {error}"
        );
    }
}
