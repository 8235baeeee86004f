//! The contracts of the database itself: its schema, its log, its end.
//!
//! Never: a change by a look.

use super::*;

contracts! {
    a_schema_is_made_once_and_then_left_alone: contract_migrate;
    a_closed_database_is_unavailable: contract_close;
    a_checkpoint_loses_nothing: contract_checkpoint;
}

async fn contract_migrate(db: &Db) {
    let unready = db.ping().await.err();
    // A schema that is not there is no passing trouble: nobody should wait for it.
    assert!(matches!(unready, Some(DbError::Internal(_))), "{unready:?}");
    let problem = db.schema_problem().await;
    assert!(problem.is_some_and(|problem| problem.contains("missing")));
    assert!(!db.schema_is_there().await.expect("answers"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let files = fs::read_dir(folder).expect("is there").count();
    assert_eq!(db.migrate().await.expect("migrates"), files);
    assert_eq!(db.schema_problem().await, None);
    assert!(db.schema_is_there().await.expect("answers"));
    seller(db, "lone-star").await;
    assert_eq!(db.migrate().await.expect("migrates again"), files);
    db.ping().await.expect("answers");
    assert!(db.has_sellers().await.expect("answers"));
    let problems = db.integrity_problems().await.expect("answers");
    assert_eq!(problems, [""; 0]);
}

async fn contract_close(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    db.close().await;
    let read = db.ping().await.err();
    assert!(matches!(read, Some(DbError::Unavailable(_))), "{read:?}");
    let write = db.begin_write(scope).await.err();
    assert!(matches!(write, Some(DbError::Unavailable(_))), "{write:?}");
}

/// More than the 8 MiB at which a checkpoint is worth its cost.
async fn write_nine_mebibytes(db: &Db, scope: SellerScope) {
    let fields = json!({"description": "x".repeat(9 << 10)}).to_string();
    let listings: Vec<_> = (0..1024).map(|n| listing(scope, vin(n), &fields)).collect();
    // A little at a time: while an unoptimised program writes it all out, PostgreSQL sees a transaction that idles.
    for some in listings.chunks(16) {
        upsert(db, scope, some).await.expect("stored");
    }
}

async fn contract_checkpoint(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    db.checkpoint().await.expect("there is nothing to do");
    write_nine_mebibytes(db, scope).await;
    db.checkpoint().await.expect("there is something to do");
    assert_eq!(db.count_listings(scope).await.expect("counts").active, 1024);
    upsert(db, scope, &[listing(scope, vin(2000), "{}")])
        .await
        .expect("writes go on");
    let problems = db.integrity_problems().await.expect("answers");
    assert_eq!(problems, [""; 0]);
}

#[tokio::test]
async fn a_checkpoint_moves_the_write_ahead_log_into_the_sqlite_file() {
    let folder = folder();
    let file = folder.path().join("t.db");
    let db = Db::open(&DbUrl::Sqlite(file.clone())).await.expect("opens");
    let (scope, _) = two_sellers(&db).await;
    let size = || fs::metadata(&file).expect("is there").len();
    write_nine_mebibytes(&db, scope).await;
    assert!(size() < 1 << 20, "it is in the log so far");
    db.checkpoint().await.expect("checkpoints");
    assert!(size() > 9 << 20, "{}", size());
    db.close().await;
    let log = folder.path().join("t.db-wal");
    assert!(!log.exists(), "closing folds the log into the file");
}

#[tokio::test]
async fn looking_at_a_file_changes_nothing_and_makes_none() {
    let folder = folder();
    let file = folder.path().join("t.db");
    assert!(Db::inspect(&file).await.is_err());
    assert!(!file.exists());
    fs::write(&file, b"").expect("writes");
    let db = Db::inspect(&file).await.expect("opens");
    assert!(db.schema_problem().await.is_some());
    assert!(db.migrate().await.is_err(), "it is for looking only");
    db.close().await;
    assert_eq!(fs::read(&file).expect("reads"), b"");
    let db = Db::open(&DbUrl::Sqlite(file)).await.expect("opens");
    assert_eq!(db.migrate().await.expect("migrates"), Db::schema_version());
}
