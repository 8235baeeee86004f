//! The contracts of nodes: their rows, what they read of the keys, and how they hear of each other.
//!
//! Never: a row that goes while its number moves; a change of keys that a node which asks for it would not see.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use truckradar::{
    db::{Heard, NodeCard, NodeRow},
    ids::NodeId,
};

use super::*;

contracts! {
    a_row_is_there_from_the_first_cycle_and_its_number_never_goes_back: contract_note_cycle;
    an_epoch_is_acknowledged_by_who_has_a_row_and_never_taken_back: contract_acknowledge;
    a_row_is_swept_only_if_its_number_stands_still: contract_sweep;
    what_has_changed_since_an_epoch_is_read_at_one_moment: contract_key_changes;
    one_key_is_judged_by_the_database_itself: contract_key_record;
    the_present_epoch_is_that_of_the_last_change: contract_present_epoch;
    a_hint_is_heard_by_who_listens: contract_hints;
}

fn card(name: &str) -> NodeCard {
    NodeCard {
        id: NodeId::new(),
        name: name.to_owned(),
        version: "1.2.3".to_owned(),
        started: after(5),
    }
}

async fn rows(db: &Db) -> Vec<NodeRow> {
    db.nodes().await.expect("answers")
}

async fn contract_note_cycle(db: &Db) {
    db.migrate().await.expect("migrates");
    assert_eq!(rows(db).await, []);
    let (b, a) = (card("b"), card("a"));
    assert_eq!(db.note_cycle(&b, 1).await.expect("inserts"), -1);
    db.note_cycle(&a, 7).await.expect("inserts");
    let found = rows(db).await;
    let told: Vec<_> = found
        .iter()
        .map(|row| (row.id, &*row.name, row.cycles))
        .collect();
    assert_eq!(told, [(a.id, "a", 7), (b.id, "b", 1)], "by name");
    assert_eq!((&*found[0].version, found[0].applied), ("1.2.3", -1));
    assert_eq!(found[0].started_us, after(5));
    for (cycle, kept) in [(8, 8), (6, 8), (9, 9)] {
        db.note_cycle(&a, cycle).await.expect("updates");
        assert_eq!(rows(db).await[0].cycles, kept);
    }
    // On the database's own clock, and in microseconds.
    let age = rows(db).await[0].age_us;
    assert!((0..60_000_000).contains(&age), "{age}");
}

async fn contract_acknowledge(db: &Db) {
    db.migrate().await.expect("migrates");
    let (node, other) = (card("a"), card("b"));
    assert!(!db.acknowledge(node.id, 1).await.expect("answers"));
    assert_eq!(rows(db).await, [], "it makes no row");
    for card in [&node, &other] {
        db.note_cycle(card, 1).await.expect("inserts");
    }
    for (epoch, kept) in [(0, 0), (5, 5), (4, 5), (6, 6)] {
        assert!(db.acknowledge(node.id, epoch).await.expect("answers"));
        let applied: Vec<_> = rows(db).await.iter().map(|row| row.applied).collect();
        assert_eq!(applied, [kept, -1]);
    }
    assert_eq!(db.note_cycle(&node, 2).await.expect("updates"), 6);
    assert_eq!(
        rows(db).await[0].applied,
        6,
        "a new cycle takes nothing back"
    );
}

async fn contract_sweep(db: &Db) {
    db.migrate().await.expect("migrates");
    let (node, other) = (card("a"), card("b"));
    for card in [&node, &other] {
        db.note_cycle(card, 3).await.expect("inserts");
    }
    for moved in [2, 4] {
        assert!(!db.sweep_node(node.id, moved).await.expect("answers"));
    }
    assert_eq!(rows(db).await.len(), 2);
    assert!(db.sweep_node(node.id, 3).await.expect("answers"));
    assert!(!db.sweep_node(node.id, 3).await.expect("answers"));
    assert_eq!(rows(db).await.len(), 1);
    // Whoever comes back has said nothing yet.
    db.note_cycle(&node, 4).await.expect("inserts");
    assert_eq!(rows(db).await[0].applied, -1);
    for _ in 0..2 {
        db.give_row_back(node.id).await.expect("deletes");
    }
    let left: Vec<_> = rows(db).await.iter().map(|row| row.id).collect();
    assert_eq!(left, [other.id]);
}

async fn contract_key_changes(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let none = db.key_changes(0).await.expect("answers");
    assert_eq!(
        (none.epoch, none.change.put.len(), none.forgotten.len()),
        (0, 0, 0)
    );
    let (first, _) = rotate(db, scope, T).await;
    let (others, _) = rotate(db, other, T).await;
    let (second, epoch) = rotate(db, scope, after(1)).await;
    let standing = |put: &[(KeyDigest, KeyRecord)], key: &Key| {
        let entry = put.iter().find(|(digest, _)| *digest == key.digest());
        entry.map(|(_, record)| (record.key == key.id, record.standing))
    };
    let all = db.key_changes(0).await.expect("answers");
    assert_eq!((all.epoch, all.change.put.len()), (epoch, 3));
    assert_eq!(
        standing(&all.change.put, &first),
        Some((true, Standing::Dead))
    );
    assert_eq!(
        standing(&all.change.put, &second),
        Some((true, Standing::Live))
    );
    let last = db.key_changes(epoch - 1).await.expect("answers");
    assert_eq!(
        (last.epoch, last.change.put.len()),
        (epoch, 2),
        "and nothing of {}",
        others.id
    );
    assert_eq!(
        standing(&last.change.put, &first),
        Some((true, Standing::Dead))
    );

    // A staged key, and what becomes of it.
    let staged = Key::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    let (digest, hint) = (staged.digest(), staged.secret.hint());
    let staging = tx.insert_staged_key(staged.id, digest, hint, "operator", T);
    staging.await.expect("is the only one");
    let epoch = seal(&mut tx).await;
    tx.commit().await.expect("commits");
    let changes = db.key_changes(epoch - 1).await.expect("answers");
    assert_eq!(
        standing(&changes.change.put, &staged),
        Some((true, Standing::Staged))
    );
    let mut tx = db.begin_change(scope).await.expect("begins");
    let ended = tx.end_staging(StagedBecomes::Discarded, after(2)).await;
    assert!(ended.expect("ends").is_some());
    let epoch = seal(&mut tx).await;
    tx.commit().await.expect("commits");
    let changes = db.key_changes(epoch - 1).await.expect("answers");
    assert_eq!(
        standing(&changes.change.put, &staged),
        Some((true, Standing::Dead))
    );

    // The keys that are forgotten are named, so that a table can let go of them.
    let mut forgotten = Vec::new();
    for n in 0..110 {
        rotate(db, scope, after(10 + n)).await;
        let mut tx = db.begin_change(scope).await.expect("begins");
        forgotten = tx.forget_old_keys().await.expect("forgets");
        if forgotten.is_empty() {
            continue;
        }
        seal(&mut tx).await;
        tx.commit().await.expect("commits");
        break;
    }
    assert!(!forgotten.is_empty(), "more than a hundred have died");
    let changes = db.key_changes(all.epoch).await.expect("answers");
    assert_eq!(changes.forgotten, [first.id]);
    let TableChange { put, forget, .. } = changes.for_table(|ids| {
        assert_eq!(ids, [first.id]);
        vec![first.digest()]
    });
    assert_eq!(forget, forgotten);
    assert_eq!(standing(&put, &first), None);
}

async fn contract_key_record(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let judged = async |key: &Key| {
        let asked = db.ask_about_key(key.digest(), Named::Nobody).await;
        let record = asked.expect("answers").record;
        record.map(|record| (record.key, record.seller, record.standing))
    };
    let (first, _) = rotate(db, scope, T).await;
    let live = |key: &Key, standing| Some((key.id, scope.seller(), standing));
    assert_eq!(judged(&first).await, live(&first, Standing::Live));
    assert_eq!(judged(&Key::new()).await, None);
    let staged = Key::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    let (digest, hint) = (staged.digest(), staged.secret.hint());
    let staging = tx.insert_staged_key(staged.id, digest, hint, "operator", T);
    staging.await.expect("is the only one");
    seal(&mut tx).await;
    tx.commit().await.expect("commits");
    assert_eq!(judged(&staged).await, live(&staged, Standing::Staged));
    expire(db, scope, after(1)).await;
    assert_eq!(judged(&first).await, live(&first, Standing::Dead));
}

async fn contract_present_epoch(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let present = async |scope| {
        let mut tx = db.begin_change(scope).await.expect("begins");
        tx.present_epoch().await.expect("answers")
    };
    let read = async || db.key_epoch().await.expect("answers");
    assert_eq!((present(scope).await, read().await), (0, 0));
    let (_, epoch) = rotate(db, scope, T).await;
    assert_eq!(read().await, 1);
    assert_eq!(
        (epoch, present(scope).await, present(other).await),
        (1, 1, 1)
    );
}

async fn contract_hints(db: &Db) {
    let listener = db.listen_for_changes().await.expect("answers");
    assert_eq!(
        listener.is_some(),
        db.is_shared(),
        "where there is one process nobody listens"
    );
    db.hint_at_change().await.expect("is sent");
    if let Some(mut listener) = listener {
        let heard = tokio::time::timeout(Duration::from_secs(10), listener.heard()).await;
        let heard = heard.expect("in time").expect("heard");
        assert_eq!(heard, Heard::Change);
    }
}

/// Who lost the connection may have missed a hint, and is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_whose_connection_is_cut_knows() {
    let database = postgres::Database::create().await;
    let url = DbUrl::Postgres(database.url());
    let db = Db::open_with(&url, 2).await.expect("opens");
    let listener = db.listen_for_changes().await.expect("connects");
    let mut listener = listener.expect("there are hints here");
    database.end_sessions("LISTEN%").await;
    let heard = tokio::time::timeout(Duration::from_secs(10), listener.heard()).await;
    assert!(heard.expect("in time").is_err());
    db.close().await;
}

/// A session that holds a Seller's lock as a writer does, without the limits that ours have, and does nothing more.
async fn frozen_writer(database: &postgres::Database, scope: SellerScope) -> PgConnection {
    let mut frozen = PgConnection::connect(&database.url())
        .await
        .expect("connects");
    let lock = format!(
        "BEGIN; SELECT pg_advisory_xact_lock_shared({})",
        scope.seller().spread().cast_signed()
    );
    let locked = sqlx::raw_sql(AssertSqlSafe(lock))
        .execute(&mut frozen)
        .await;
    locked.expect("is granted");
    frozen
}

/// A writer that has stopped inside its transaction, where the server's own limit does not end it, must not hold up a change
/// of the key that authorised it.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_ends_who_sits_on_the_lock() {
    let database = postgres::Database::create().await;
    let db = Db::open(&DbUrl::Postgres(database.url()))
        .await
        .expect("opens");
    let (scope, other) = two_sellers(&db).await;
    rotate(&db, scope, T).await;
    let mut frozen = frozen_writer(&database, scope).await;
    let innocent = db.begin_write(other).await.expect("begins");
    let began = Instant::now();
    let changed = tokio::time::timeout(Duration::from_secs(10), rotate(&db, scope, T)).await;
    changed.expect("the change is not held up");
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "a writer is given its time"
    );
    let ended = sqlx::raw_sql("COMMIT").execute(&mut frozen).await;
    assert!(ended.is_err(), "what it wrote never lands");
    drop(innocent);
    db.close().await;
}

/// Changes that wait for each other, one after another for longer than one of them would wait for a writer, end nobody who
/// goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_waited_for_long_is_not_ended_by_the_next_one() {
    let database = postgres::Database::create().await;
    let db = Db::open(&DbUrl::Postgres(database.url()))
        .await
        .expect("opens");
    let (scope, _) = two_sellers(&db).await;
    rotate(&db, scope, T).await;
    let _frozen = frozen_writer(&database, scope).await;
    let change = |db: Db| async move {
        let mut tx = db.begin_change(scope).await?;
        // It holds the lock for longer than its waiting would allow, and does something all the while.
        let until = Instant::now() + Duration::from_millis(1_500);
        while Instant::now() < until {
            tx.present_epoch().await?;
        }
        tx.commit().await
    };
    let changes = [beside(&db, change), beside(&db, change)];
    for change in changes {
        change.await.expect("no panic").expect("goes on to its end");
    }
    db.close().await;
}
