//! The contracts of the fence: what a write finds that comes under a key that has died.
//!
//! Never: a write under a dead key that lands, on either engine.

use super::*;

contracts! {
    a_write_under_a_dead_key_is_fenced: contract_fence;
    a_change_waits_for_the_write_that_the_old_key_authorised: contract_change_waits_for_write;
    a_write_that_waited_for_a_change_finds_its_key_dead: contract_write_finds_key_dead;
    changes_of_one_seller_come_one_after_another: contract_change_waits_for_change;
}

async fn contract_fence(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let by_key = key.scope(scope.seller());
    let one = [listing(scope, vin(1), "{}")];
    upsert(db, by_key, &one).await.expect("the key is live");

    // Live, but another Seller's.
    assert_fenced(db.begin_write(key.scope(other.seller())).await);
    // Nobody's.
    assert_fenced(db.begin_write(Key::new().scope(scope.seller())).await);
    // Replaced, and expired.
    let (next, _) = rotate(db, scope, T).await;
    assert_fenced(db.begin_write(by_key).await);
    upsert(db, next.scope(scope.seller()), &one)
        .await
        .expect("the new one is live");
    expire(db, scope, T).await;
    assert_fenced(db.begin_write(next.scope(scope.seller())).await);
    // The operator needs no key. A fence that fell leaves no lock behind either.
    upsert(db, scope, &one).await.expect("needs no key");
    rotate(db, scope, T).await;
}

async fn contract_change_waits_for_write(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let by_key = key.scope(scope.seller());
    let change = async move |db: Db| db.begin_change(scope).await;
    // It comes after the write, and sees it.
    let change = after_the_write_of(db, by_key, change).await;
    let mut change = change.expect("its turn");
    let seen = change.listings_of(&[vin(1)]).await.expect("reads");
    assert_eq!(seen.len(), 1);

    // A write that is given up holds nobody up.
    drop(change);
    let mut write = db.begin_write(by_key).await.expect("the key is live");
    let mut change = beside(db, async move |db| db.begin_change(scope).await);
    still_waits(&mut change, &mut write).await;
    drop(write);
    drop(ended(change).await.expect("its turn"));
}

async fn contract_write_finds_key_dead(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let by_key = key.scope(scope.seller());
    let mut change = db.begin_change(scope).await.expect("begins");
    change
        .end_live_key("replaced", None, T)
        .await
        .expect("ends");
    let new = Key::new();
    new.insert(&mut change, T).await.expect("is new");
    seal(&mut change).await;
    let mut write = beside(db, async move |db| db.begin_write(by_key).await);
    still_waits(&mut write, &mut change).await;
    change.commit().await.expect("commits");
    assert_fenced(ended(write).await);
    let by_new = new.scope(scope.seller());
    drop(db.begin_write(by_new).await.expect("the new key is live"));

    // A change that is given up kills nothing.
    let mut change = db.begin_change(scope).await.expect("begins");
    change.end_live_key("expired", None, T).await.expect("ends");
    let mut write = beside(db, async move |db| db.begin_write(by_new).await);
    still_waits(&mut write, &mut change).await;
    drop(change);
    drop(ended(write).await.expect("its key is live"));
}

async fn contract_change_waits_for_change(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let mut first = db.begin_change(scope).await.expect("begins");
    let mut second = beside(db, async move |db| {
        let mut tx = db.begin_change(scope).await?;
        tx.key_version().await
    });
    still_waits(&mut second, &mut first).await;
    Key::new().insert(&mut first, T).await.expect("is new");
    seal(&mut first).await;
    first.commit().await.expect("commits");
    // What the second one acts on is what the first one left.
    assert_eq!(ended(second).await.expect("its turn"), Some(1));
}

/// SQLite has one writer, so this is PostgreSQL's alone.
#[tokio::test]
async fn on_postgresql_writes_wait_for_nobody_but_a_change_of_their_own_seller() {
    on_postgres(async |db: &Db| {
        let (scope, other) = two_sellers(db).await;
        let (key, _) = rotate(db, scope, T).await;
        let (theirs, _) = rotate(db, other, T).await;
        let by_key = key.scope(scope.seller());
        let by_theirs = theirs.scope(other.seller());

        let one = db.begin_write(by_key).await.expect("begins");
        let two = db.begin_write(by_key).await.expect("writes share");
        upsert(db, by_theirs, &[listing(other, vin(2), "{}")])
            .await
            .expect("another Seller's write");
        let change = db.begin_change(other).await.expect("another Seller's key");
        drop(change);
        drop((one, two));

        let change = db.begin_change(scope).await.expect("begins");
        upsert(db, by_theirs, &[listing(other, vin(3), "{}")])
            .await
            .expect("another Seller's write");
        drop(db.begin_change(other).await.expect("another Seller's key"));
        drop(change);
    })
    .await;
}
