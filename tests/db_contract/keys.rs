//! The contracts of keys: how they live, wait, end, and are read whole.
//!
//! Never: two live keys of one Seller, or a change that is not counted.

use super::*;

contracts! {
    a_key_lives_until_it_is_ended_and_every_change_is_counted: contract_key_life;
    a_seller_has_one_live_key_at_most_and_a_digest_one_owner: contract_one_live_key;
    a_change_that_is_not_committed_never_was: contract_dropped_change;
    a_key_is_identified_whatever_became_of_it: contract_identify_key;
    all_but_the_last_hundred_dead_keys_are_forgotten: contract_forget_old_keys;
    a_key_is_shown_once_and_a_receipt_is_filed_once: contract_complete_key_act;
    every_key_is_read_at_one_moment_with_its_epoch: contract_all_keys_of_one_moment;
    a_staged_key_waits_until_it_is_cut_over_or_discarded: contract_staged_key;
}

async fn contract_key_life(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    assert!(
        db.keys_of_seller(scope, 10)
            .await
            .expect("reads")
            .is_empty()
    );
    let (all, epoch) = all_keys(db).await;
    assert_eq!((all.len(), epoch), (0, 0));

    // A Seller without a key has nothing to end; one that does not exist has no version.
    let mut tx = db.begin_change(scope).await.expect("begins");
    assert_eq!(tx.scope().seller(), scope.seller());
    assert_eq!(tx.key_version().await.expect("reads"), Some(0));
    assert!(tx.live_key().await.expect("reads").is_none());
    let ended = tx.end_live_key("expired", Some("why"), T).await;
    assert!(ended.expect("ends").is_none());
    drop(tx);
    let stranger = OperatorAuthority::assume().scope(SellerId::new());
    let mut tx = db.begin_change(stranger).await.expect("begins");
    assert_eq!(tx.key_version().await.expect("reads"), None);
    drop(tx);

    let first = Key::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    first.insert(&mut tx, after(1)).await.expect("is new");
    let live = tx.live_key().await.expect("reads").expect("is live");
    assert_eq!(live.id, first.id);
    assert_eq!(seal(&mut tx).await, 1);
    assert_eq!(tx.key_version().await.expect("reads"), Some(1));
    tx.commit().await.expect("commits");
    let keys = db.keys_of_seller(scope, 10).await.expect("reads");
    let [row] = &keys[..] else { panic!("{keys:?}") };
    assert_eq!(row.id, first.id);
    assert_eq!(row.hint, first.secret.hint().to_string());
    assert_eq!((&*row.state, &*row.made_by), ("live", "operator"));
    assert_eq!(row.created_us, after(1));
    assert_eq!((row.shown_us, row.ended_us), (None, None));
    assert_eq!(row.end_reason, None);

    // Replaced in one transaction, as every generation does it.
    let second = Key::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    let ended = tx.end_live_key("replaced", None, after(2)).await;
    let ended = ended.expect("ends").expect("was live");
    assert_eq!(ended, (first.id, first.digest()));
    assert!(tx.live_key().await.expect("reads").is_none());
    second.insert(&mut tx, after(2)).await.expect("is new");
    assert_eq!(seal(&mut tx).await, 2);
    tx.commit().await.expect("commits");

    // The epoch is one for all Sellers, the version each one's own.
    let (theirs, epoch) = rotate(db, other, after(3)).await;
    assert_eq!(epoch, 3);
    assert_eq!(expire(db, scope, after(4)).await, 4);
    let (third, epoch) = rotate(db, scope, after(5)).await;
    assert_eq!(epoch, 5);
    let version = async |scope| {
        let row = db.seller(scope).await.expect("reads");
        row.expect("is there").key_version
    };
    assert_eq!(version(scope).await, 4);
    assert_eq!(version(other).await, 1);

    let keys = db.keys_of_seller(scope, 10).await.expect("reads");
    let told: Vec<_> = keys
        .iter()
        .map(|key| (key.id, &*key.state, key.ended_us, key.end_reason.as_deref()))
        .collect();
    let expected = [
        (third.id, "live", None, None),
        (second.id, "expired", Some(after(4)), Some("leaked")),
        (first.id, "replaced", Some(after(2)), None),
    ];
    assert_eq!(told, expected);
    let newest = db.keys_of_seller(scope, 1).await.expect("reads");
    assert_eq!(newest.len(), 1);
    assert_eq!(newest[0].id, third.id);

    let (mut all, epoch) = all_keys(db).await;
    assert_eq!(epoch, 5);
    let record = |key: &Key, scope: SellerScope, standing| {
        let record = KeyRecord::of_seller(key.id, scope.seller(), standing);
        (key.digest(), record)
    };
    let mut expected = vec![
        record(&first, scope, Standing::Dead),
        record(&second, scope, Standing::Dead),
        record(&third, scope, Standing::Live),
        record(&theirs, other, Standing::Live),
    ];
    all.sort_by_key(|entry| entry.0);
    expected.sort_by_key(|entry| entry.0);
    assert_eq!(all, expected);
}

async fn contract_staged_key(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (live, _) = rotate(db, scope, T).await;
    let stage = async |scope: SellerScope, key: &Key, at| {
        let mut tx = db.begin_change(scope).await.expect("begins");
        let (digest, hint) = (key.digest(), key.secret.hint());
        let staged = tx
            .insert_staged_key(key.id, digest, hint, "user:x", at)
            .await;
        if staged.is_ok() {
            seal(&mut tx).await;
            tx.commit().await.expect("commits");
        }
        staged
    };
    let standing = async |key: &Key| {
        let (all, _) = all_keys(db).await;
        let found = all.iter().find(|(digest, _)| *digest == key.digest());
        found.map(|(_, record)| record.standing)
    };
    assert!(db.staged_key(scope).await.expect("reads").is_none());
    let first = Key::new();
    stage(scope, &first, after(1)).await.expect("there is none");
    assert_unique(stage(scope, &Key::new(), after(2)).await);
    let theirs = Key::new();
    stage(other, &theirs, after(2))
        .await
        .expect("another Seller's");
    assert_eq!(standing(&first).await, Some(Standing::Staged));
    assert_eq!(standing(&live).await, Some(Standing::Live));
    let row = db
        .staged_key(scope)
        .await
        .expect("reads")
        .expect("is there");
    assert_eq!(
        (row.id, row.made_by.as_str(), row.created_us),
        (first.id, "user:x", after(1))
    );
    assert_eq!(
        (row.hint, row.shown_us),
        (first.secret.hint().to_string(), None)
    );
    let found = db
        .identify_key(first.digest())
        .await
        .expect("reads")
        .expect("is known");
    assert_eq!(
        (found.key.state.as_str(), found.seller_id),
        ("staged", scope.seller())
    );
    let rows = db.keys_of_seller(scope, 10).await.expect("reads");
    assert_eq!(rows.len(), 1, "it is none of the keys that were ever live");

    // Shown once, as any key is.
    let act = AuditId::new();
    db.complete_key_act(act, "{}", Some(first.id), after(3))
        .await
        .expect("files");
    db.complete_key_act(act, "{}", Some(first.id), after(4))
        .await
        .expect("files");
    let row = db
        .staged_key(scope)
        .await
        .expect("reads")
        .expect("is there");
    assert_eq!(row.shown_us, Some(after(3)));

    // Cut over: beside a live key it cannot become one.
    let mut tx = db.begin_change(scope).await.expect("begins");
    assert_unique(
        tx.end_staging(StagedBecomes::Live, after(5))
            .await
            .map(drop),
    );
    drop(tx);
    let mut tx = db.begin_change(scope).await.expect("begins");
    assert_eq!(
        tx.staged_key().await.expect("reads").map(|key| key.id),
        Some(first.id)
    );
    tx.end_live_key("replaced", None, after(5))
        .await
        .expect("ends");
    let moved = tx
        .end_staging(StagedBecomes::Live, after(5))
        .await
        .expect("moves");
    assert!(moved == Some((first.id, first.digest())));
    let epoch = seal(&mut tx).await;
    tx.commit().await.expect("commits");
    assert_eq!(all_keys(db).await.1, epoch);
    assert_eq!(standing(&first).await, Some(Standing::Live));
    assert_eq!(standing(&live).await, Some(Standing::Dead));
    let rows = db.keys_of_seller(scope, 10).await.expect("reads");
    assert_eq!((rows[0].id, rows[0].state.as_str()), (first.id, "live"));
    assert_eq!(
        (rows[0].created_us, rows[0].live_us),
        (after(1), Some(after(5)))
    );
    assert_eq!(rows[0].shown_us, Some(after(3)));
    db.begin_write(first.scope(scope.seller()))
        .await
        .expect("is live");

    // Discarded: dead, and never live.
    let second = Key::new();
    stage(scope, &second, after(6))
        .await
        .expect("there is none");
    let fenced = db.begin_write(second.scope(scope.seller())).await.err();
    assert!(matches!(fenced, Some(DbError::Fenced(_))), "{fenced:?}");
    let mut tx = db.begin_change(scope).await.expect("begins");
    let moved = tx
        .end_staging(StagedBecomes::Discarded, after(7))
        .await
        .expect("moves");
    assert!(moved == Some((second.id, second.digest())));
    let none = tx.end_staging(StagedBecomes::Discarded, after(7)).await;
    assert!(none.expect("has nothing to do").is_none());
    seal(&mut tx).await;
    tx.commit().await.expect("commits");
    assert_eq!(standing(&second).await, Some(Standing::Dead));
    let died = db.last_death(scope).await.expect("reads");
    assert_eq!(died, Some(after(5)), "of the one that was live");
    assert_eq!(
        standing(&theirs).await,
        Some(Standing::Staged),
        "left alone"
    );
    let rows = db.keys_of_seller(scope, 10).await.expect("reads");
    let row = rows
        .iter()
        .find(|row| row.id == second.id)
        .expect("is there");
    assert_eq!((row.live_us, row.ended_us), (None, Some(after(7))));
    assert_eq!(
        row.end_reason.as_deref(),
        Some("discarded before it was ever live")
    );
}

async fn contract_one_live_key(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    // In a transaction of its own, and in the one that made the other.
    let mut tx = db.begin_change(scope).await.expect("begins");
    assert_unique(Key::new().insert(&mut tx, T).await);
    drop(tx);
    let mut tx = db.begin_change(other).await.expect("begins");
    Key::new().insert(&mut tx, T).await.expect("is the first");
    assert_unique(Key::new().insert(&mut tx, T).await);
    drop(tx);
    // Not even by the door that passes the use cases by.
    let mut tx = db.begin().await.expect("begins");
    let intruder = Key::new();
    let row = (
        scope.seller(),
        intruder.id,
        intruder.digest(),
        intruder.secret.hint(),
    );
    assert_unique(Db::insert_live_keys_in_bulk(&mut tx, &[row], "operator", T).await);
    drop(tx);
    // The same secret twice is nobody's, even when its first life is over.
    expire(db, scope, T).await;
    let mut tx = db.begin_change(other).await.expect("begins");
    let same = Key {
        id: KeyId::new(),
        secret: SecretKey::parse(key.secret.expose().as_bytes()).expect("a key"),
    };
    assert_unique(same.insert(&mut tx, T).await);
}

async fn contract_dropped_change(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (key, epoch) = rotate(db, scope, T).await;
    let mut tx = db.begin_change(scope).await.expect("begins");
    tx.end_live_key("replaced", None, T).await.expect("ends");
    Key::new().insert(&mut tx, T).await.expect("is new");
    assert_eq!(seal(&mut tx).await, epoch + 1);
    drop(tx);

    let (all, now) = all_keys(db).await;
    assert_eq!(now, epoch);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].0, key.digest());
    assert_eq!(all[0].1.standing, Standing::Live);
    // What was dropped holds nobody up, and is not counted.
    let (_, next) = rotate(db, scope, T).await;
    assert_eq!(next, epoch + 1);
}

async fn contract_identify_key(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let identify = async |key: &Key| db.identify_key(key.digest()).await.expect("answers");
    assert!(identify(&Key::new()).await.is_none());
    let (first, _) = rotate(db, scope, after(1)).await;
    let (second, _) = rotate(db, scope, after(2)).await;
    let (theirs, _) = rotate(db, other, after(3)).await;
    expire(db, other, after(4)).await;
    for (key, owner, state, reason) in [
        (&first, ("lone-star", scope), "replaced", None),
        (&second, ("lone-star", scope), "live", None),
        (&theirs, ("other", other), "expired", Some("leaked")),
    ] {
        let found = identify(key).await.expect("is known");
        assert_eq!(found.key.id, key.id);
        assert_eq!(found.key.hint, key.secret.hint().to_string());
        assert_eq!(found.key.state, state);
        assert_eq!(found.key.end_reason.as_deref(), reason);
        assert_eq!((&*found.slug, found.seller_id), (owner.0, owner.1.seller()));
        assert_eq!(found.name, format!("{}, Inc.", owner.0));
    }
}

async fn contract_forget_old_keys(db: &Db) {
    const KEPT: usize = 100;
    let (scope, other) = two_sellers(db).await;
    let (theirs, _) = rotate(db, other, T).await;
    expire(db, other, T).await;

    let mut keys: Vec<Key> = Vec::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    for n in 0..=KEPT {
        let state = if n % 2 == 0 { "replaced" } else { "expired" };
        // Several die in the same microsecond: the younger one is kept then.
        let at = after(n as i64 / 3);
        tx.end_live_key(state, None, at).await.expect("ends");
        let forgotten = tx.forget_old_keys().await.expect("answers");
        assert_eq!(forgotten, [], "{n} are dead");
        let key = Key::new();
        key.insert(&mut tx, at).await.expect("is new");
        keys.push(key);
    }
    // Live keys do not count: a hundred are dead by now. One more, and the first is forgotten.
    tx.end_live_key("replaced", None, after(1000))
        .await
        .expect("ends");
    let forgotten = tx.forget_old_keys().await.expect("answers");
    assert_eq!(forgotten, [keys[0].digest()]);
    let again = tx.forget_old_keys().await.expect("answers");
    assert_eq!(again, [], "it is forgotten once");
    let epoch = seal(&mut tx).await;
    tx.commit().await.expect("commits");

    let (all, now) = all_keys(db).await;
    assert_eq!(now, epoch);
    let known: BTreeSet<KeyDigest> = all.iter().map(|(digest, _)| *digest).collect();
    assert_eq!(known.len(), KEPT + 1, "theirs is another Seller's");
    assert!(!known.contains(&keys[0].digest()));
    assert!(known.contains(&keys[1].digest()) && known.contains(&theirs.digest()));
    let oldest = db.identify_key(keys[0].digest()).await.expect("answers");
    assert!(oldest.is_none());
    // Its row stays, for the audit log's sake.
    let rows = db.keys_of_seller(scope, 200).await.expect("reads");
    assert_eq!(rows.len(), KEPT + 1);
    let oldest = rows.iter().find(|row| row.id == keys[0].id);
    assert_eq!(oldest.expect("is there").state, "forgotten");
}

async fn contract_complete_key_act(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let act = AuditId::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    let entry = AuditEntry::of(scope, T, Act::KeyGenerated);
    tx.append_audit(&AuditEntry { id: act, ..entry })
        .await
        .expect("appends");
    tx.commit().await.expect("commits");
    let state = async || {
        let keys = db.keys_of_seller(scope, 1).await.expect("reads");
        let acts = db.oldest_audit(scope, None, 9).await.expect("reads");
        (keys[0].shown_us, acts[0].receipt.clone())
    };
    assert_eq!(state().await, (None, None));
    db.complete_key_act(act, "{\"receipt\":1}", Some(key.id), after(1))
        .await
        .expect("completes");
    let completed = (Some(after(1)), Some("{\"receipt\":1}".to_owned()));
    assert_eq!(state().await, completed);
    // The first time is the one that counts.
    db.complete_key_act(act, "{\"receipt\":2}", Some(key.id), after(2))
        .await
        .expect("changes nothing");
    assert_eq!(state().await, completed);

    // An expiry shows no key.
    rotate(db, scope, after(3)).await;
    let expiry = AuditEntry::of(scope, T, Act::KeyExpired);
    let mut tx = db.begin_change(scope).await.expect("begins");
    tx.append_audit(&expiry).await.expect("appends");
    tx.commit().await.expect("commits");
    db.complete_key_act(expiry.id, "{}", None, after(4))
        .await
        .expect("completes");
    let keys = db.keys_of_seller(scope, 1).await.expect("reads");
    assert_eq!(keys[0].shown_us, None);
    let acts = db.oldest_audit(scope, None, 9).await.expect("reads");
    assert_eq!(acts[1].receipt.as_deref(), Some("{}"));
}

async fn contract_all_keys_of_one_moment(db: &Db) {
    const CHANGES: usize = 60;
    let (scope, _) = two_sellers(db).await;
    // Each change adds one key and one to the epoch, so the two are equal at every moment, and the last is live.
    let mut changing = beside(db, async move |db| {
        for n in 0..CHANGES {
            rotate(&db, scope, after(n as i64)).await;
        }
    });
    loop {
        let (keys, epoch) = all_keys(db).await;
        assert_eq!(keys.len() as i64, epoch);
        let live = keys.iter().filter(|(_, r)| r.standing == Standing::Live);
        assert_eq!(live.count() as i64, epoch.min(1));
        if changing.is_finished() {
            break;
        }
    }
    (&mut changing).await.expect("every change was made");
    let (keys, _) = all_keys(db).await;
    assert_eq!(keys.len(), CHANGES);
}
