//! The contracts of what a member's act meets: the fence inside its transaction, failures that count, and turns.
//!
//! Never: an act of somebody who may act no more that lands.

use truckradar::{accounts::Role, db::SessionRow, ids::UserId};

use super::{people::*, *};

contracts! {
    of_too_many_sessions_those_used_last_are_kept: contract_keep_sessions;
    a_password_that_is_locked_is_changed_by_nobody_else_meanwhile: contract_locked_password;
    failures_are_counted_since_a_time: contract_sign_in_failures;
    what_is_past_is_forgotten_and_nothing_else: contract_forget_past_sign_ins;
    a_write_of_a_member_who_may_not_act_is_fenced: contract_member_fence;
    a_change_of_members_waits_for_the_write_in_flight: contract_change_of_members_waits;
    a_write_that_waited_for_a_change_finds_its_member_gone: contract_write_finds_member_gone;
    what_comes_in_turn_is_a_transaction_like_any_other: contract_begin_in_turn;
}

// ---------------------------------------------------------------------------------------------------------------------
// Failures, and what is forgotten.

async fn contract_sign_in_failures(db: &Db) {
    two_sellers(db).await;
    let (account, client) = ("email:aa".to_owned(), "address:bb".to_owned());
    for (seconds, subjects) in [
        (0, &[account.clone(), client.clone()][..]),
        (0, std::slice::from_ref(&account)),
        (10, &[account.clone(), client.clone()]),
    ] {
        let mut tx = db.begin_in_turn().await.expect("begins");
        tx.insert_sign_in_failure(subjects, after(seconds))
            .await
            .expect("notes");
        tx.commit().await.expect("commits");
    }
    let mut dropped = db.begin_in_turn().await.expect("begins");
    let done = dropped.insert_sign_in_failure(std::slice::from_ref(&account), after(10));
    done.await.expect("notes");
    drop(dropped);
    for (subject, since, count) in [
        (&*account, -1, 3),
        (&account, 0, 3),
        (&account, 1, 1),
        (&account, 10, 1),
        (&account, 11, 0),
        (&client, 0, 2),
        (&client, 1, 1),
        ("email:", 0, 0),
        ("email:bb", 0, 0),
    ] {
        let found = db.sign_in_failures(subject, after(since)).await;
        assert_eq!(found.expect("counts"), count, "{subject} since {since}");
    }
}

async fn contract_forget_past_sign_ins(db: &Db) {
    use LinkKind::{Invitation, Reset};
    let (scope, _) = two_sellers(db).await;
    let ann = user(db, "ann@lone.example").await;
    // Begun, and seen last.
    let sessions = [(0, 900), (100, 500), (100, 501), (101, 501)].map(|(began, seen)| SessionRow {
        seen_us: after(seen),
        ..session(ann, began)
    });
    for (n, row) in (1..).zip(&sessions) {
        begin_session(db, row, digest(n)).await;
    }
    // Each works for 100 seconds.
    let links = [
        (Invitation, 11, invitation("a@lone.example", scope, 0)),
        (Reset, 12, reset("a@lone.example", 1)),
        (Invitation, 13, invitation("b@lone.example", scope, 2)),
        (Reset, 14, reset("b@lone.example", 2)),
    ];
    let rows: Vec<_> = links.iter().map(|(k, n, l)| (*k, digest(*n), l)).collect();
    insert_links(db, &rows).await;
    let all_links: Vec<_> = links.iter().map(|(kind, n, _)| (*kind, *n)).collect();
    let subject = ["email:aa".to_owned()];
    let mut tx = db.begin_in_turn().await.expect("begins");
    for seconds in [700, 701, 702] {
        tx.insert_sign_in_failure(&subject, after(seconds))
            .await
            .expect("notes");
    }
    tx.commit().await.expect("commits");

    let left = async || {
        let mut sessions_left = Vec::new();
        for n in 1..=4 {
            sessions_left.extend(found(db, digest(n)).await.map(|_| n));
        }
        let failures = db.sign_in_failures(&subject[0], after(0)).await;
        (
            sessions_left,
            links_left(db, &all_links).await,
            failures.expect("counts"),
        )
    };
    let forget = async |begun, seen, now, failed| {
        db.forget_past_sign_ins(after(begun), after(seen), after(now), after(failed))
            .await
            .expect("forgets");
    };
    let all = (vec![1, 2, 3, 4], vec![11, 12, 13, 14], 3);
    forget(0, 500, 99, 700).await;
    assert_eq!(left().await, all, "nothing is past");
    // A session is past when either of its times is; a link at its time; a failure before its.
    forget(1, 501, 101, 701).await;
    assert_eq!(left().await, (vec![3, 4], vec![13, 14], 2));
    forget(101, 0, 0, 0).await;
    assert_eq!(left().await, (vec![4], vec![13, 14], 2));
    forget(0, 0, 102, 0).await;
    assert_eq!(left().await, (vec![4], vec![], 2));
    forget(0, 0, 0, 703).await;
    assert_eq!(left().await, (vec![4], vec![], 0));
}

// ---------------------------------------------------------------------------------------------------------------------
// The fence, as a member meets it.

/// Ends a membership on the operator's behalf.
async fn remove(db: &Db, scope: SellerScope, user: UserId) {
    let mut tx = db.begin_change(scope).await.expect("begins");
    tx.delete_membership(user).await.expect("ends");
    tx.commit().await.expect("commits");
}

async fn contract_member_fence(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (_, owner) = member(db, scope, "own@lone.example", Role::Owner).await;
    let (adam, admin) = member(db, scope, "adm@lone.example", Role::Admin).await;
    let (_, viewer) = member(db, scope, "see@lone.example", Role::Viewer).await;
    let (_, theirs) = member(db, other, "own@other.example", Role::Owner).await;
    let stranger = user(db, "no@lone.example").await;
    let one = [listing(scope, vin(1), "{}")];
    let fenced = async |by: SellerScope| {
        assert_fenced(db.begin_write(by).await);
        assert_fenced(db.begin_change(by).await);
    };
    let free = async |by: SellerScope| {
        upsert(db, by, &one).await.expect("may act");
        drop(db.begin_change(by).await.expect("may act"));
    };
    free(owner).await;
    free(admin).await;
    fenced(viewer).await;
    // Members of nothing, of another Seller, and nobody.
    fenced(SellerScope::by_membership(scope.seller(), stranger)).await;
    fenced(SellerScope::by_membership(other.seller(), adam)).await;
    fenced(SellerScope::by_membership(scope.seller(), UserId::new())).await;
    fenced(SellerScope::by_membership(SellerId::new(), adam)).await;
    drop(db.begin_write(theirs).await.expect("may act there"));

    // Made a viewer, and back; removed.
    for (role, may_act) in [(Role::Viewer, false), (Role::Admin, true)] {
        let mut tx = db.begin_change(scope).await.expect("begins");
        tx.set_role(adam, role).await.expect("sets");
        tx.commit().await.expect("commits");
        if may_act {
            free(admin).await;
        } else {
            fenced(admin).await;
        }
    }
    remove(db, scope, adam).await;
    fenced(admin).await;
    // A fence that fell leaves no lock behind, and a key that dies takes no member with it.
    let (key, _) = rotate(db, scope, T).await;
    expire(db, scope, T).await;
    assert_fenced(db.begin_change(key.scope(scope.seller())).await);
    free(owner).await;
}

async fn contract_change_of_members_waits(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (adam, by_adam) = member(db, scope, "adm@lone.example", Role::Admin).await;
    let seen = after_the_write_of(db, by_adam, async move |db| {
        let mut tx = db.begin_change(scope).await?;
        tx.delete_membership(adam).await?;
        let seen = tx.listings_of(&[vin(1)]).await?.len();
        tx.commit().await?;
        Ok::<_, DbError>(seen)
    });
    // It comes after the write, and sees it.
    assert_eq!(seen.await.expect("its turn"), 1);
    assert_fenced(db.begin_write(by_adam).await);
}

async fn contract_write_finds_member_gone(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (adam, by_adam) = member(db, scope, "adm@lone.example", Role::Admin).await;
    // A change that is given up removes nobody.
    let mut change = db.begin_change(scope).await.expect("begins");
    change.delete_membership(adam).await.expect("ends");
    let mut write = beside(db, async move |db| db.begin_write(by_adam).await);
    still_waits(&mut write, &mut change).await;
    drop(change);
    drop(ended(write).await.expect("may act"));

    let mut change = db.begin_change(scope).await.expect("begins");
    change.set_role(adam, Role::Viewer).await.expect("sets");
    let mut write = beside(db, async move |db| db.begin_write(by_adam).await);
    let mut other_change = beside(db, async move |db| db.begin_change(by_adam).await);
    still_waits(&mut write, &mut change).await;
    still_waits(&mut other_change, &mut change).await;
    change.commit().await.expect("commits");
    assert_fenced(ended(write).await);
    assert_fenced(ended(other_change).await);
}

// ---------------------------------------------------------------------------------------------------------------------
// In turn.

async fn contract_begin_in_turn(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let mut dropped = db.begin_in_turn().await.expect("begins");
    let new = new_seller("in-turn");
    dropped.insert_seller(&new, T).await.expect("is new");
    drop(dropped);
    let none = db.seller_by_slug(&new.slug).await.expect("answers");
    assert!(none.is_none(), "not committed");
    let mut tx = db.begin_in_turn().await.expect("its turn");
    tx.insert_seller(&new, T).await.expect("is new");
    tx.commit().await.expect("commits");
    let row = db.seller_by_slug(&new.slug).await.expect("answers");
    assert_eq!(row.expect("is there").id, new.id);
    // Either way its place is free again.
    upsert(db, scope, &[listing(scope, vin(1), "{}")])
        .await
        .expect("its turn");
}

/// PostgreSQL has no such queue: there they do not wait for one another.
#[tokio::test]
async fn on_sqlite_a_change_overtakes_whatever_waits_for_its_turn() {
    on_sqlite(async |db: &Db| {
        let (scope, _) = two_sellers(db).await;
        let mut first = db.begin_in_turn().await.expect("begins");
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                beside(db, async |db| {
                    // Whoever's turn it is keeps it for good: a change that stood behind them would never come.
                    let _turn = db.begin_in_turn().await;
                    std::future::pending::<()>().await;
                })
            })
            .collect();
        let mut change = beside(db, async move |db| db.begin_change(scope).await);
        still_waits(&mut change, &mut first).await;
        first.commit().await.expect("commits");
        let change = ended(change).await;
        drop(change.expect("stands behind one of them at most"));
        for waiting in waiting {
            waiting.abort();
            assert!(waiting.await.is_err_and(|end| end.is_cancelled()));
        }
    })
    .await;
}

async fn contract_keep_sessions(db: &Db) {
    db.migrate().await.expect("migrates");
    let (ann, zoe) = (
        user(db, "ann@lone.example").await,
        user(db, "zoe@lone.example").await,
    );
    let mut tx = db.begin().await.expect("begins");
    for n in 1..=5 {
        tx.insert_session(&session(ann, n), digest(n as u8))
            .await
            .expect("is new");
    }
    tx.insert_session(&session(zoe, 9), digest(9))
        .await
        .expect("is new");
    let ended = tx.keep_sessions(ann, 3).await.expect("ends the others");
    assert_eq!(ended.len(), 2);
    let ended = tx.keep_sessions(ann, 3).await.expect("ends none");
    assert_eq!(ended, []);
    tx.commit().await.expect("commits");
    let seen: Vec<_> = db
        .sessions_of(ann)
        .await
        .expect("answers")
        .iter()
        .map(|s| s.seen_us)
        .collect();
    let all: Vec<_> = (3..=5).rev().map(|n| session(ann, n).seen_us).collect();
    assert_eq!(seen, all, "the latest first");
    assert_eq!(db.sessions_of(zoe).await.expect("answers").len(), 1);
}

async fn contract_locked_password(db: &Db) {
    db.migrate().await.expect("migrates");
    let ann = user(db, "ann@lone.example").await;
    let mut holder = db.begin().await.expect("begins");
    let hash = holder.locked_password(ann).await.expect("answers");
    assert_eq!(hash.as_deref(), Some("hash of ann@lone.example"));
    let nobody = holder
        .locked_password(UserId::new())
        .await
        .expect("answers");
    assert_eq!(nobody, None);
    let other = db.clone();
    let changing = tokio::spawn(async move {
        let mut tx = other.begin().await?;
        let done = tx
            .replace_password(ann, "hash of ann@lone.example", "another")
            .await?;
        tx.commit().await.map(|()| done)
    });
    // The other one waits for the lock, so what was read holds until the end.
    for _ in 0..20 {
        let again = holder.locked_password(ann).await.expect("answers");
        assert_eq!(again, hash);
        tokio::task::yield_now().await;
    }
    assert!(!changing.is_finished());
    holder.commit().await.expect("commits");
    assert!(ended(changing).await.expect("changes"));
}
