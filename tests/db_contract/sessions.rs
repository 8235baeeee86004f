//! The contracts of sessions.
//!
//! Never: a session found by anything but its token.

use truckradar::{
    db::SessionRow,
    ids::{SessionId, UserId},
};

use super::{people::*, *};

contracts! {
    a_session_is_found_by_its_digest_only: contract_session;
    a_sessions_last_use_is_noted_and_the_list_begins_with_the_latest: contract_touch_session;
    a_confirmed_session_answers_to_its_new_digest_alone: contract_confirm_session;
    a_session_ended_is_gone_and_its_user_alone_ends_it: contract_end_session;
    all_sessions_of_a_user_end_but_the_one_excepted: contract_end_sessions_of;
}

async fn contract_session(db: &Db) {
    two_sellers(db).await;
    let ann = user(db, "ann@lone.example").await;
    let zoe = user(db, "zoe@lone.example").await;
    let (mine, theirs) = (session(ann, 0), session(zoe, 7));
    let mut dropped = db.begin_in_turn().await.expect("begins");
    let done = dropped.insert_session(&mine, digest(1)).await;
    done.expect("is new");
    drop(dropped);
    assert!(found(db, digest(1)).await.is_none(), "not committed");
    begin_session(db, &mine, digest(1)).await;
    begin_session(db, &theirs, digest(2)).await;

    for (n, row, address) in [
        (1, &mine, "ann@lone.example"),
        (2, &theirs, "zoe@lone.example"),
    ] {
        let row = SessionRow {
            email: address.into(),
            ..row.clone()
        };
        let found = found(db, digest(n)).await.expect("is there");
        assert_eq!(whole_session(&found), whole_session(&row));
    }
    // Nearly is not at all, whichever the bit.
    for (byte, bit) in [(0, 0x80), (15, 0x20), (31, 1)] {
        let mut nearly = digest(1);
        nearly.0[byte] ^= bit;
        assert!(found(db, nearly).await.is_none(), "byte {byte}");
    }
    // A token is one session's, and a session has a User.
    let mut tx = db.begin_in_turn().await.expect("begins");
    assert_unique(tx.insert_session(&session(zoe, 0), digest(1)).await);
    drop(tx);
    let mut tx = db.begin_in_turn().await.expect("begins");
    let nobodys = session(UserId::new(), 0);
    let nobodys = tx.insert_session(&nobodys, digest(3)).await.err();
    assert!(matches!(nobodys, Some(DbError::Internal(_))), "{nobodys:?}");
}

async fn contract_touch_session(db: &Db) {
    two_sellers(db).await;
    let ann = user(db, "ann@lone.example").await;
    let zoe = user(db, "zoe@lone.example").await;
    let (first, second, theirs) = (session(ann, 0), session(ann, 1), session(zoe, 2));
    for (n, row) in [(1, &first), (2, &second), (3, &theirs)] {
        begin_session(db, row, digest(n)).await;
    }
    assert_eq!(ids_of(db, ann).await, [second.id, first.id]);
    assert_eq!(ids_of(db, zoe).await, [theirs.id]);
    assert_eq!(ids_of(db, UserId::new()).await, []);

    let mut tx = db.begin_in_turn().await.expect("begins");
    tx.touch_session(first.id, after(900), "192.0.2.9", "another „agent“")
        .await
        .expect("notes");
    tx.touch_session(SessionId::new(), after(901), "", "")
        .await
        .expect("an ended one is noted nowhere");
    tx.commit().await.expect("commits");
    assert_eq!(ids_of(db, ann).await, [first.id, second.id]);
    let touched = SessionRow {
        email: "ann@lone.example".into(),
        seen_us: after(900),
        address: "192.0.2.9".into(),
        user_agent: "another „agent“".into(),
        ..first
    };
    let rows = db.sessions_of(ann).await.expect("answers");
    assert_eq!(whole_session(&rows[0]), whole_session(&touched));
    let untouched = found(db, digest(2)).await.expect("is there");
    assert_eq!(untouched.seen_us, second.seen_us);
}

async fn contract_confirm_session(db: &Db) {
    two_sellers(db).await;
    let ann = user(db, "ann@lone.example").await;
    let (mine, other) = (session(ann, 0), session(ann, 1));
    begin_session(db, &mine, digest(1)).await;
    begin_session(db, &other, digest(2)).await;
    let mut tx = db.begin_in_turn().await.expect("begins");
    let confirmed = tx.confirm_session(mine.id, digest(3), after(500)).await;
    assert!(confirmed.expect("answers"));
    let nobodys = tx
        .confirm_session(SessionId::new(), digest(4), after(500))
        .await;
    assert!(!nobodys.expect("answers"));
    tx.commit().await.expect("commits");

    assert!(found(db, digest(1)).await.is_none(), "the old token works");
    assert!(found(db, digest(4)).await.is_none());
    let row = found(db, digest(3)).await.expect("is there");
    let expected = SessionRow {
        email: "ann@lone.example".into(),
        confirmed_us: after(500),
        ..mine.clone()
    };
    assert_eq!(whole_session(&row), whole_session(&expected));
    let untouched = found(db, digest(2)).await.expect("is there");
    assert_eq!(untouched.confirmed_us, other.confirmed_us);
    // Another session's token cannot become this one's.
    let mut tx = db.begin_in_turn().await.expect("begins");
    assert_unique(tx.confirm_session(mine.id, digest(2), T).await);
}

async fn contract_end_session(db: &Db) {
    two_sellers(db).await;
    let ann = user(db, "ann@lone.example").await;
    let zoe = user(db, "zoe@lone.example").await;
    let (mine, kept) = (session(ann, 0), session(ann, 1));
    begin_session(db, &mine, digest(1)).await;
    begin_session(db, &kept, digest(2)).await;
    let end = async |user, session| {
        let mut tx = db.begin_in_turn().await.expect("begins");
        let ended = tx.end_session(user, session).await.expect("answers");
        tx.commit().await.expect("commits");
        ended
    };
    assert!(!end(zoe, mine.id).await, "it is not hers");
    assert!(found(db, digest(1)).await.is_some());
    assert!(end(ann, mine.id).await);
    assert!(found(db, digest(1)).await.is_none());
    assert_eq!(ids_of(db, ann).await, [kept.id]);
    assert!(!end(ann, mine.id).await, "it ends once");
}

async fn contract_end_sessions_of(db: &Db) {
    two_sellers(db).await;
    let ann = user(db, "ann@lone.example").await;
    let zoe = user(db, "zoe@lone.example").await;
    let theirs = session(zoe, 0);
    begin_session(db, &theirs, digest(9)).await;
    let mine = [0, 1, 2].map(|began| session(ann, began));
    for (n, row) in (1..).zip(&mine) {
        begin_session(db, row, digest(n)).await;
    }
    let end = async |but| {
        let mut tx = db.begin_in_turn().await.expect("begins");
        let ended = tx.end_sessions_of(ann, but).await.expect("ends");
        tx.commit().await.expect("commits");
        ended
    };
    let ended = end(Some(mine[1].id)).await;
    let ended: BTreeSet<_> = ended.into_iter().collect();
    assert_eq!(ended, BTreeSet::from([mine[0].id, mine[2].id]));
    assert_eq!(ids_of(db, ann).await, [mine[1].id]);
    assert!(found(db, digest(2)).await.is_some());
    assert_eq!(end(Some(mine[1].id)).await, []);
    // Excepting another User's is excepting none.
    assert_eq!(end(Some(theirs.id)).await, [mine[1].id]);
    begin_session(db, &mine[0], digest(1)).await;
    begin_session(db, &mine[1], digest(2)).await;
    assert_eq!(end(None).await.len(), 2);
    assert_eq!(ids_of(db, ann).await, []);
    assert_eq!(ids_of(db, zoe).await, [theirs.id]);
}
