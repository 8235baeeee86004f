//! A dealer's system keeps its inventory in step: one record, batches, sold units, reading back.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    binary::{Place, Served},
    client::{Client, raw},
    fixtures::{OTHER_VINS, VIN, record, vin, whole_record},
};

fn served() -> (Place, Served, Client) {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    let client = Client::new(served.api, Some(&key));
    (place, served, client)
}

#[tokio::test]
async fn one_record_is_taken_in_and_read_back() {
    let (_place, _served, client) = served();
    let answer = client.post("/api/v1/inventory", &whole_record(VIN)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let data = &answer.json()["data"];
    assert_eq!(data["success"], true);
    for stage in ["validate", "normalize", "deduplicate", "enrich", "index"] {
        assert_eq!(data["stages"][stage], "ok");
    }
    assert!(data["durationMs"].is_u64());
    assert_eq!(data["status"], "created");
    assert_eq!(data.get("warnings"), None);

    let shown = client.get(&format!("/api/v1/inventory/{VIN}")).await.json();
    for (field, value) in whole_record(VIN).as_object().expect("an object") {
        assert_eq!(&shown["data"][field], value, "{field}");
    }
    assert_eq!(shown["data"]["status"], "active");
    assert_eq!(shown["data"]["id"], data["id"]);
    for time in ["created_at", "updated_at"] {
        assert!(shown["data"][time].as_str().expect("a time").ends_with('Z'));
    }
    // The path takes small letters too.
    assert_eq!(
        client
            .get(&format!("/api/v1/inventory/{}", VIN.to_lowercase()))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn the_same_record_again_changes_nothing_and_another_does() {
    let (_place, _served, client) = served();
    let path = format!("/api/v1/inventory/{VIN}");
    client.post("/api/v1/inventory", &record(VIN)).await;
    let first = client.get(&path).await;
    let etag = first.header("etag").to_owned();
    assert!(
        etag.starts_with('"') && etag.ends_with('"'),
        "a strong validator: {etag}"
    );
    let again = client.post("/api/v1/inventory", &record(VIN)).await;
    assert_eq!(again.json()["data"]["status"], "unchanged");
    let ask = |tag: String| {
        client
            .request(Method::GET, &path)
            .header("if-none-match", tag)
    };
    for tag in [
        etag.clone(),
        format!("W/{etag}"),
        format!("\"x\", {etag}"),
        "*".to_owned(),
    ] {
        let answer = client.send(ask(tag.clone())).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str()),
            (304, ""),
            "{tag}"
        );
        assert_eq!(answer.header("etag"), etag);
    }
    let mut changed = record(VIN);
    changed["price"] = json!(88000);
    let answer = client.post("/api/v1/inventory", &changed).await;
    assert_eq!(answer.json()["data"]["status"], "updated");
    let answer = client.send(ask(etag.clone())).await;
    assert_eq!(answer.status, 200, "what was changed is sent anew at once");
    assert_eq!(answer.json()["data"]["price"], 88000);
    assert_ne!(answer.header("etag"), etag);
}

#[tokio::test]
async fn a_unit_is_sold_expired_and_listed_again() {
    let (_place, _served, client) = served();
    let path = format!("/api/v1/inventory/{VIN}");
    client.post("/api/v1/inventory", &record(VIN)).await;
    for status in ["sold", "sold", "expired"] {
        let answer = client
            .patch("/api/v1/inventory", &json!({"vin": VIN, "status": status}))
            .await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["data"]["status"], status);
        assert_eq!(client.get(&path).await.json()["data"]["status"], status);
    }
    let answer = client.post("/api/v1/inventory", &record(VIN)).await;
    assert_eq!(answer.json()["data"]["status"], "updated");
    assert_eq!(client.get(&path).await.json()["data"]["status"], "active");
    for (body, status, code) in [
        (json!({"status": "sold"}), 400, "INVALID_PAYLOAD"),
        (
            json!({"vin": null, "status": "sold"}),
            400,
            "INVALID_PAYLOAD",
        ),
        (json!({"vin": VIN}), 400, "INVALID_STATUS"),
        (
            json!({"vin": VIN, "status": "active"}),
            400,
            "INVALID_STATUS",
        ),
        (json!({"vin": VIN, "status": 7}), 400, "INVALID_STATUS"),
        (
            json!({"vin": "short", "status": "sold"}),
            400,
            "INVALID_VIN",
        ),
        (
            json!({"vin": OTHER_VINS[0], "status": "sold"}),
            404,
            "NOT_FOUND",
        ),
    ] {
        let answer = client.patch("/api/v1/inventory", &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{body}"
        );
    }
    assert_eq!(
        client.get("/api/v1/inventory/SHORT").await.code(),
        "INVALID_VIN"
    );
    assert_eq!(
        client.get("/api/v1/inventory/%FF").await.code(),
        "INVALID_VIN"
    );
    assert_eq!(client.get("/api/v1/dealers/%FF").await.code(), "NOT_FOUND");
    assert_eq!(
        client
            .get("/api/v1/inventory/3ALHCYFE3LDLM843O")
            .await
            .code(),
        "INVALID_VIN"
    );
}

#[tokio::test]
async fn one_bad_record_does_not_stop_the_batch() {
    let (place, served, client) = served();
    place.create_seller("great-lakes");
    let other = Client::new(served.api, Some(&place.generate("great-lakes")));
    other
        .post("/api/v1/inventory", &record(OTHER_VINS[0]))
        .await;
    client
        .post("/api/v1/inventory", &record(OTHER_VINS[1]))
        .await;

    let mut cheaper = record(VIN);
    cheaper["price"] = json!(1000);
    let mut odd = record("3ALHCYFE4LDLM8435");
    odd["milage"] = json!(5);
    let answer = client
        .post(
            "/api/v1/inventory",
            &json!({"source_provider_id": "dms-9", "records": [
                record(VIN),
                {"vin": "SHORT", "year": 1980},
                record(OTHER_VINS[0]),
                record(OTHER_VINS[1]),
                "not a record",
                cheaper,
                odd,
            ]}),
        )
        .await;
    assert_eq!(answer.status, 200);
    let data = &answer.json()["data"];
    assert_eq!(
        (&data["total"], &data["succeeded"], &data["failed"]),
        (&json!(7), &json!(4), &json!(3))
    );
    let results = data["results"].as_array().expect("results");
    let statuses: Vec<_> = results
        .iter()
        .map(|r| r["status"].as_str().expect("a status"))
        .collect();
    // Number 3 was there already, but without the provider that the envelope names.
    assert_eq!(
        statuses,
        [
            "created", "rejected", "rejected", "updated", "rejected", "updated", "created"
        ]
    );
    for (index, result) in results.iter().enumerate() {
        assert_eq!(result["index"], index);
    }
    assert_eq!(results[0]["vin"], VIN);
    let error = &results[1]["error"];
    assert_eq!(error["code"], "PIPELINE_REJECTED");
    assert_eq!(error["details"]["stage"], "validate");
    let issues = error["details"]["issues"].as_array().expect("issues");
    let fields: Vec<_> = issues
        .iter()
        .map(|i| i["field"].as_str().expect("a field"))
        .collect();
    assert_eq!(fields, ["vin", "year", "make"]);
    assert_eq!(issues[1]["code"], "OUT_OF_RANGE");
    assert_eq!(issues[1]["value"], 1980);
    assert_eq!(results[2]["error"]["code"], "FORBIDDEN");
    assert_eq!(results[5]["warnings"][0]["code"], "REPEATED_VIN");
    let odd: Vec<_> = results[6]["warnings"]
        .as_array()
        .expect("warnings")
        .iter()
        .map(|w| w["code"].as_str())
        .collect();
    assert_eq!(odd, [Some("VIN_CHECK_DIGIT"), Some("UNKNOWN_FIELD")]);

    let shown = client.get(&format!("/api/v1/inventory/{VIN}")).await.json();
    assert_eq!(shown["data"]["price"], 1000, "the later record counts");
    assert_eq!(shown["data"]["source_provider_id"], "dms-9");
    assert_eq!(
        other
            .get(&format!("/api/v1/inventory/{}", OTHER_VINS[0]))
            .await
            .json()["data"]["price"],
        89500
    );
}

#[tokio::test]
async fn envelopes_that_cannot_be_understood_are_refused_whole() {
    let (_place, _served, client) = served();
    for (body, status, code) in [
        (json!({"records": []}), 400, "VALIDATION_ERROR"),
        (json!({"records": {}}), 400, "VALIDATION_ERROR"),
        (json!({"records": null}), 400, "VALIDATION_ERROR"),
        (json!({"records": "x"}), 400, "VALIDATION_ERROR"),
        (
            json!({"records": [record(VIN)], "vin": VIN}),
            400,
            "VALIDATION_ERROR",
        ),
        (json!([record(VIN)]), 400, "VALIDATION_ERROR"),
        (json!("x"), 400, "VALIDATION_ERROR"),
        (
            json!({"records": vec![record(VIN); 501]}),
            400,
            "BATCH_TOO_LARGE",
        ),
        (json!({}), 400, "INVALID_PAYLOAD"),
        (json!({"vin": null}), 400, "INVALID_PAYLOAD"),
        (json!({"vin": VIN}), 422, "PIPELINE_REJECTED"),
        (
            json!({"vin": "SHORT", "year": 2020, "make": "Mack"}),
            422,
            "PIPELINE_REJECTED",
        ),
    ] {
        let answer = client.post("/api/v1/inventory", &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{:.80}",
            body.to_string()
        );
    }
    assert_eq!(
        client.get("/api/v1/inventory").await.json()["data"]["items"],
        json!([])
    );
}

#[tokio::test]
async fn malformed_json_says_where_and_other_media_types_are_refused() {
    let (_place, _served, client) = served();
    let send = |media: &'static str, body: Vec<u8>| {
        client.send(
            client
                .request(Method::POST, "/api/v1/inventory")
                .header("content-type", media)
                .body(body),
        )
    };
    let answer = send(
        "application/json",
        b"{\"vin\": \"3ALHCYFE3LDLM8435\",\n \"year\": 20x0}".to_vec(),
    )
    .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (400, "VALIDATION_ERROR")
    );
    let details = &answer.json()["error"]["details"];
    assert_eq!(
        (&details["line"], &details["column"]),
        (&json!(2), &json!(12))
    );
    assert!(
        answer.json()["error"]["message"]
            .as_str()
            .expect("text")
            .contains("line 2, column 12")
    );
    for body in [
        &b""[..],
        b"{",
        b"{\"vin\": \"\xff\xfe\"}",
        b"{\"a\":1}{",
        b"NaN",
        b"\xef\xbb\xbf{}",
        &[b'['; 100_000],
    ] {
        assert_eq!(
            send("application/json", body.to_vec()).await.code(),
            "VALIDATION_ERROR",
            "{:.20?}",
            body
        );
    }
    let good = record(VIN).to_string();
    for media in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
        "application/json; charset=utf-16",
        "json",
    ] {
        assert_eq!(
            send(media, good.clone().into_bytes()).await.status,
            415,
            "{media}"
        );
    }
    let packed = client
        .request(Method::POST, "/api/v1/inventory")
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(good.clone());
    assert_eq!(client.send(packed).await.status, 415);
    for media in [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/json;charset=\"utf-8\"",
    ] {
        assert_eq!(
            send(media, good.clone().into_bytes()).await.status,
            200,
            "{media}"
        );
    }
}

#[tokio::test]
async fn a_body_over_16_mib_is_refused_even_if_it_does_not_say_so() {
    let (_place, served, client) = served();
    let large = format!(
        "{{\"vin\":\"{VIN}\",\"description\":\"{}\"}}",
        "x".repeat(16 << 20)
    );
    let request = client
        .request(Method::POST, "/api/v1/inventory")
        .header("content-type", "application/json");
    if let Ok(answer) = client.try_send(request.body(large.clone())).await {
        assert_eq!(answer.code(), "PAYLOAD_TOO_LARGE");
    }
    let authorization = client.request(Method::GET, "/").build().expect("a request");
    let key = authorization.headers()["authorization"]
        .to_str()
        .expect("text")
        .to_owned();
    let head = format!(
        "POST /api/v1/inventory HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: {key}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    for chunk in large.as_bytes().chunks(1 << 20) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    let answer = raw(served.api, &bytes);
    assert!(
        answer.is_empty() || answer.contains("PAYLOAD_TOO_LARGE"),
        "{answer}"
    );
    // Just under the limit is read, and refused for what it says.
    let fits = format!(
        "{{\"vin\":\"{VIN}\",\"description\":\"{}\"}}",
        "x".repeat((16 << 20) - 60)
    );
    let request = client
        .request(Method::POST, "/api/v1/inventory")
        .header("content-type", "application/json");
    assert_eq!(
        client.send(request.body(fits)).await.code(),
        "PIPELINE_REJECTED"
    );
}

#[tokio::test]
async fn a_dealer_pages_through_its_listings() {
    let (_place, _served, client) = served();
    let mut records: Vec<Value> = (0..230).map(|n| record(&vin(n))).collect();
    records[7]["make"] = json!("Mack");
    records[7]["price"] = json!(5000);
    records[7]["location_state"] = json!("TX");
    let answer = client
        .post("/api/v1/inventory", &json!({"records": records}))
        .await;
    assert_eq!(answer.json()["data"]["succeeded"], 230);

    let mut seen = Vec::new();
    let mut path = "/api/v1/inventory?limit=100".to_owned();
    let mut pages = 0;
    loop {
        let page = client.get(&path).await.json();
        seen.extend(
            page["data"]["items"]
                .as_array()
                .expect("items")
                .iter()
                .map(|i| i["vin"].as_str().expect("a VIN").to_owned()),
        );
        pages += 1;
        match page["data"]["next_cursor"].as_str() {
            Some(next) => path = format!("/api/v1/inventory?limit=100&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(pages, 3);
    let sent: std::collections::HashSet<_> = (0..230).map(vin).collect();
    assert_eq!(seen.len(), 230);
    assert_eq!(
        seen.into_iter().collect::<std::collections::HashSet<_>>(),
        sent
    );

    client
        .patch(
            "/api/v1/inventory",
            &json!({"vin": vin(3), "status": "sold"}),
        )
        .await;
    let count = async |query: &str| {
        let page = client
            .get(&format!("/api/v1/inventory?limit=200&{query}"))
            .await;
        page.json()["data"]["items"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(count("status=sold").await, 1);
    assert_eq!(count("make=mack").await, 1);
    assert_eq!(count("price_max=6000").await, 1);
    assert_eq!(count("price_min=89501").await, 0);
    assert_eq!(count("year_min=2021").await, 0);
    assert_eq!(count("year_min=2020&year_max=2020&make=mack").await, 1);
    assert_eq!(count("location_state=tx").await, 1);
    assert_eq!(count("listing_type=trailer").await, 0);
    assert_eq!(count("updated_since=2999-01-01T00:00:00Z").await, 0);
    for query in [
        "limit=0",
        "limit=201",
        "limit=x",
        "status=gone",
        "cursor=zzz",
        "updated_since=yesterday",
        "q=truck",
        "listing_type=boat",
    ] {
        assert_eq!(
            client
                .get(&format!("/api/v1/inventory?{query}"))
                .await
                .code(),
            "INVALID_PARAMS",
            "{query}"
        );
    }
}

#[tokio::test]
async fn listing_type_is_told_by_the_vin_and_strictness_is_the_operators_choice() {
    let (place, served, client) = served();
    let trailer = json!({"vin": "1JJV532D9KL000001", "year": 2019, "make": "Wabash"});
    client.post("/api/v1/inventory", &trailer).await;
    let shown = client
        .get("/api/v1/inventory/1JJV532D9KL000001")
        .await
        .json();
    assert_eq!(shown["data"]["listing_type"], "trailer");
    assert_eq!(shown["data"]["model"], "Unknown");
    assert_eq!(shown["data"].get("price"), None);
    let odd = record("3ALHCYFE4LDLM8435");
    let answer = client.post("/api/v1/inventory", &odd).await;
    assert_eq!(
        answer.json()["data"]["warnings"][0]["code"],
        "VIN_CHECK_DIGIT"
    );
    drop(served);
    let served = place.serve(&["--strict-vin"]);
    let key = place.generate("lone-star");
    let strict = Client::new(served.api, Some(&key));
    let answer = strict.post("/api/v1/inventory", &odd).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (422, "PIPELINE_REJECTED")
    );
    assert_eq!(
        answer.json()["error"]["details"]["issues"][0]["code"],
        "VIN_CHECK_DIGIT"
    );
}

/// A reader that was slow to fill the cache must not bring back what a write has replaced: readers and a writer go at one
/// VIN together, and no reader may see a price older than the last one acknowledged before it asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_never_shows_what_an_acknowledged_write_replaced() {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    };
    let (_place, _served, client) = served();
    let acknowledged = Arc::new(AtomicI64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    client.post("/api/v1/inventory", &with_price(0)).await;
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (client, acknowledged, done) =
                (client.clone(), Arc::clone(&acknowledged), Arc::clone(&done));
            tokio::spawn(async move {
                let mut reads = 0;
                while !done.load(Ordering::Acquire) {
                    let least = acknowledged.load(Ordering::Acquire);
                    let shown = client.get(&format!("/api/v1/inventory/{VIN}")).await.json();
                    let price = shown["data"]["price"].as_i64().expect("a price");
                    assert!(
                        price >= least,
                        "read {price} after {least} was acknowledged"
                    );
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    for price in 1..=300 {
        let answer = client.post("/api/v1/inventory", &with_price(price)).await;
        assert_eq!(answer.status, 200);
        acknowledged.store(price, Ordering::Release);
    }
    done.store(true, Ordering::Release);
    let mut reads = 0;
    for reader in readers {
        reads += reader.await.expect("no stale read");
    }
    assert!(reads > 300, "the readers did read: {reads}");
}

fn with_price(price: i64) -> Value {
    let mut record = record(VIN);
    record["price"] = json!(price);
    record
}
