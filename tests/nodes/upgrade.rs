//! A rolling upgrade: the first node of the next version has brought the schema up while nodes of this one still serve, stop
//! and start.
//!
//! Never: a program of this version on a schema that has left it behind.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{cluster, status};
use crate::support::binary::Place;

/// What a node of the next version does to the database when it starts.
async fn bring_up_to_the_next_version(place: &Place, and: &str) {
    let newest = truckradar::db::Db::schema_version();
    let sql = format!(
        "ALTER TABLE sellers ADD COLUMN later TEXT; \
         INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES ({}, 'later', true, '', 1); {and}",
        newest + 1
    );
    let mut database = PgConnection::connect(&place.database())
        .await
        .expect("connects");
    let done = sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut database)
        .await;
    done.expect("runs");
    database.close().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_this_version_serve_and_start_on_a_schema_to_which_the_next_one_has_added() {
    let (nodes, place, key) = cluster(["a"]).await;
    let [a] = nodes;
    bring_up_to_the_next_version(&place, "").await;
    let b = place.serve(&["--node-name", "b"]);
    let next = place.generate("lone-star");
    for node in [&a, &b] {
        assert_eq!(status(node, &key).await, (401, "revoked".to_owned()));
        assert_eq!(status(node, &next).await.0, 200);
    }
    place.create_seller("great-lakes");
    let checked = place.run(&["check"], "");
    assert!(checked.status.success(), "{checked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_the_schema_has_left_behind_starts_no_more_and_those_that_run_go_on() {
    let (nodes, place, key) = cluster(["a"]).await;
    let floor = truckradar::db::Db::schema_version() + 1;
    let raise = format!("UPDATE schema_floor SET oldest = {floor}");
    bring_up_to_the_next_version(&place, &raise).await;
    for words in [
        &["serve"][..],
        &["key", "show", "--seller", "lone-star"],
        &["migrate"],
    ] {
        let refused = place.run(words, "");
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{told}");
        assert!(told.contains("upgrade the program"), "{told}");
    }
    let checked = place.run(&["check"], "");
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("upgrade the program"));
    assert_eq!(status(&nodes[0], &key).await.0, 200);
}
