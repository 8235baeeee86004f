//! What nodes do when the database is not what they knew, or not all of them know what it is.
//!
//! Never: a node's word taken for it; what is asked is whether it accepts a dead key.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

use super::{cluster, form_to_regenerate, status, until};
use crate::support::{binary::Served, person::Person};

async fn metrics(node: &Served) -> String {
    let answer = reqwest::get(format!("http://{}/metrics", node.admin)).await;
    answer.expect("answers").text().await.expect("text")
}

/// After a failover that lost commits the numbers of epochs are used again. A node that went on from what it knew would miss
/// the change that has the number which it has seen already.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_has_gone_back_is_read_anew_before_anything_is_trusted() {
    let (nodes, place, _) = cluster(["a", "b"]).await;
    let key = place.generate("lone-star");
    for node in &nodes {
        assert_eq!(status(node, &key).await.0, 200);
    }
    let mut database = PgConnection::connect(&place.database())
        .await
        .expect("connects");
    sqlx::raw_sql("UPDATE key_epoch SET epoch = epoch - 1")
        .execute(&mut database)
        .await
        .expect("goes back");
    for node in &nodes {
        let failed = "truckradar_cycles_total{outcome=\"failed\"} ";
        until("a node notices", async || {
            let metrics = metrics(node).await;
            let (_, count) = metrics.split_once(failed).expect("is counted");
            !count.starts_with("0\n") && metrics.contains("truckradar_trusted 1\n")
        })
        .await;
        assert_eq!(status(node, &key).await.0, 200);
    }
    // Its epoch is the number of the change that made the key.
    place.json(
        &[
            "key",
            "expire",
            "--seller",
            "lone-star",
            "--reason",
            "leaked",
        ],
        "",
    );
    for node in &nodes {
        assert_eq!(status(node, &key).await, (401, "revoked".to_owned()));
    }
    database.close().await.expect("closes");
}

/// The page that tells of it may be asked for before the change itself has returned.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_told_by_an_old_page_that_the_key_was_replaced_finds_it_dead_everywhere() {
    let (nodes, place, old) = cluster(["a", "b"]).await;
    let [stays, freezes] = nodes;
    let mut owner = Person::owner_of(stays.api, "lone-star").await;
    let form = form_to_regenerate(&mut owner).await;
    freezes.signal("STOP");
    let mut database = PgConnection::connect(&place.database())
        .await
        .expect("connects");
    let version = "SELECT key_version FROM sellers";
    let before: i64 = sqlx::query_scalar(version)
        .fetch_one(&mut database)
        .await
        .expect("reads");
    // The change is committed after this, and may wait for so long at least.
    let began = Instant::now();
    let mut faster = place
        .command(&["key", "generate", "--seller", "lone-star", "--json"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    until("the change is committed", async || {
        let now: i64 = sqlx::query_scalar(version)
            .fetch_one(&mut database)
            .await
            .expect("reads");
        now > before
    })
    .await;
    let answer = owner.post(&form).send().await.expect("an answer");
    assert_eq!(answer.status(), 409);
    let told = began.elapsed();
    freezes.signal("CONT");
    assert_eq!(status(&freezes, &old).await, (401, "revoked".to_owned()));
    // The trust of a node that says nothing lasts so long.
    assert!(told > Duration::from_millis(1_800), "after {told:?}");
    assert!(faster.wait().expect("ends").success());
    database.close().await.expect("closes");
}

/// Another node has come further than this one can.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_behind_another_one_says_by_how_much() {
    let (nodes, place, _) = cluster(["a"]).await;
    let mut database = PgConnection::connect(&place.database())
        .await
        .expect("connects");
    let ahead = "INSERT INTO nodes (id, name, version, cycles, applied, started_us, renewed_us) \
         SELECT '01a20ca3-a306-7244-a414-13638674f60e', 'ahead', '0', 1, epoch + 7, 0, 0 FROM key_epoch";
    sqlx::raw_sql(ahead)
        .execute(&mut database)
        .await
        .expect("inserts");
    until("it is seen to be behind", async || {
        metrics(&nodes[0])
            .await
            .contains("truckradar_epochs_behind 7\n")
    })
    .await;
    database.close().await.expect("closes");
}
