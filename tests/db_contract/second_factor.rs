//! The contracts of second factors: a step and a recovery code count once, a sign-in that waits ends once, and the fence asks for
//! a factor where an owner demands one. And of mails that bring a link.
//!
//! Never: something used up by two.

use std::time::Duration;

use truckradar::{
    accounts::{Role, codes::FactorSecret},
    db::{HalfSignInRow, LinkRow, MailRow, NewMail},
    ids::UserId,
};

use super::*;
use crate::db_contract::people::{member, user};

contracts! {
    a_factor_is_in_force_once_it_is_confirmed: contract_factor_life;
    a_step_is_used_once_and_no_earlier_one_after_it: contract_use_step;
    of_two_who_use_a_step_or_a_recovery_code_at_once_one_does: contract_used_by_two;
    a_recovery_code_works_once_and_for_its_user_only: contract_recovery_codes;
    a_sign_in_that_waits_is_taken_once: contract_half_sign_ins;
    wrong_codes_are_counted_taken_back_and_kept_for_longer_than_failures: contract_wrong_codes;
    somebody_is_warned_and_asks_for_a_link_once_in_a_while: contract_once_in_a_while;
    where_a_factor_is_demanded_a_write_without_one_is_fenced: contract_factor_fence;
    a_demand_waits_for_the_write_in_flight: contract_demand_waits;
    a_mail_that_brings_a_link_follows_its_row: contract_renew_link_of;
}

fn digest(n: u8) -> TokenDigest {
    TokenDigest([n; 32])
}

fn secret() -> FactorSecret {
    FactorSecret::generate().expect("randomness")
}

/// Begins a second factor and puts it into force by this step.
async fn turn_on(db: &Db, user: UserId, step: i64) {
    let mut tx = db.begin_in_turn().await.expect("begins");
    let begun = tx.begin_second_factor(user, &secret(), T).await;
    assert!(begun.expect("begins"));
    let on = tx.confirm_second_factor(user, step, T).await;
    assert!(on.expect("confirms"));
    tx.commit().await.expect("commits");
}

async fn contract_factor_life(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (ann, _) = member(db, scope, "ann@lone.example", Role::Owner).await;
    let bob = user(db, "bob@lone.example").await;
    assert_eq!(db.second_factor(ann).await.expect("answers"), None);
    let (first, second) = (secret(), secret());
    let mut tx = db.begin_in_turn().await.expect("begins");
    assert!(tx.factor_secret(ann).await.expect("answers").is_none());
    let confirmed = tx.confirm_second_factor(ann, 1, T).await;
    assert!(!confirmed.expect("answers"), "none was begun");
    for (secret, at) in [(&first, T), (&second, after(5))] {
        let begun = tx.begin_second_factor(ann, secret, at).await;
        assert!(begun.expect("begins anew"));
        let stored = tx.factor_secret(ann).await.expect("answers").expect("one");
        assert_eq!(stored.secret.stored(), secret.stored());
        assert_eq!((stored.is_confirmed, stored.created), (false, at));
    }
    assert!(!tx.has_second_factor(ann).await.expect("answers"));
    assert!(!tx.use_step(ann, 7).await.expect("answers"));
    let recovery = tx.replace_recovery_codes(ann, &[digest(1)], T).await;
    recovery.expect("replaces");
    let used = tx.use_recovery_code(ann, digest(1)).await;
    assert!(!used.expect("answers"), "not in force");
    assert!(!tx.confirm_second_factor(bob, 7, T).await.expect("answers"));
    assert!(
        tx.confirm_second_factor(ann, 7, after(9))
            .await
            .expect("confirms")
    );
    let again = tx.confirm_second_factor(ann, 8, after(9)).await;
    assert!(!again.expect("answers"), "once");
    let begun = tx.begin_second_factor(ann, &first, after(10)).await;
    assert!(!begun.expect("answers"), "one is in force");
    tx.commit().await.expect("commits");

    let row = db.second_factor(ann).await.expect("answers").expect("one");
    assert_eq!(row.created_us, after(5));
    assert_eq!(row.confirmed_us, Some(after(9)));
    assert_eq!(row.codes_left, 1);
    assert_eq!(db.second_factor(bob).await.expect("answers"), None);
    let members = db.members(scope).await.expect("answers");
    assert_eq!(members[0].has_factor, 1);
    let memberships = db.memberships_of(ann).await.expect("answers");
    assert_eq!(
        (memberships[0].has_factor, memberships[0].factor_required),
        (1, 0)
    );

    turn_on(db, bob, 1).await;
    let mut tx = db.begin_in_turn().await.expect("begins");
    let half = tx.insert_half_sign_in(digest(9), ann, after(100)).await;
    half.expect("is new");
    assert!(tx.remove_second_factor(ann).await.expect("removes"));
    assert!(!tx.remove_second_factor(ann).await.expect("answers"));
    assert!(!tx.has_second_factor(ann).await.expect("answers"));
    assert!(tx.has_second_factor(bob).await.expect("answers"));
    assert_eq!(tx.count_recovery_codes(ann).await.expect("answers"), 0);
    tx.commit().await.expect("commits");
    assert_eq!(db.second_factor(ann).await.expect("answers"), None);
    let half = db.half_sign_in(digest(9)).await.expect("answers");
    assert_eq!(half, None, "what waited for a code of it is over");
}

async fn contract_use_step(db: &Db) {
    db.migrate().await.expect("migrates");
    let (ann, bob) = (
        user(db, "ann@x.example").await,
        user(db, "bob@x.example").await,
    );
    turn_on(db, ann, 100).await;
    turn_on(db, bob, 5).await;
    let mut tx = db.begin_in_turn().await.expect("begins");
    for (step, works) in [
        (100, false),
        (99, false),
        (101, true),
        (101, false),
        (100, false),
        (103, true),
        (102, false),
    ] {
        let used = tx.use_step(ann, step).await.expect("answers");
        assert_eq!(used, works, "{step}");
    }
    // Each has steps of their own.
    assert!(tx.use_step(bob, 6).await.expect("answers"));
    assert!(!tx.use_step(UserId::new(), 6).await.expect("answers"));
    drop(tx);
    let mut tx = db.begin_in_turn().await.expect("begins");
    let used = tx.use_step(ann, 101).await.expect("answers");
    assert!(used, "what was not committed used nothing up");
}

async fn contract_used_by_two(db: &Db) {
    db.migrate().await.expect("migrates");
    let ann = user(db, "ann@x.example").await;
    turn_on(db, ann, 1).await;
    let mut tx = db.begin_in_turn().await.expect("begins");
    let made = tx.replace_recovery_codes(ann, &[digest(1)], T).await;
    made.expect("replaces");
    tx.commit().await.expect("commits");
    for round in 2..12 {
        let use_it = || {
            beside(db, async move |db| {
                let mut tx = db.begin_in_turn().await?;
                let step = tx.use_step(ann, round).await?;
                let code = tx.use_recovery_code(ann, digest(1)).await?;
                tx.commit().await?;
                Ok::<_, DbError>((step, code))
            })
        };
        let (one, two) = (use_it(), use_it());
        let (one, two) = (ended(one).await, ended(two).await);
        let (one, two) = (one.expect("answers"), two.expect("answers"));
        assert_ne!(one.0, two.0, "the step {round}");
        assert_eq!(
            one.1 != two.1,
            round == 2,
            "the code is gone after the first"
        );
    }
}

async fn contract_recovery_codes(db: &Db) {
    db.migrate().await.expect("migrates");
    let (ann, bob) = (
        user(db, "ann@x.example").await,
        user(db, "bob@x.example").await,
    );
    turn_on(db, ann, 1).await;
    turn_on(db, bob, 1).await;
    let mut tx = db.begin_in_turn().await.expect("begins");
    let (anns, bobs) = ([digest(1), digest(2)], [digest(3)]);
    let made = tx.replace_recovery_codes(ann, &anns, T).await;
    made.expect("replaces");
    let made = tx.replace_recovery_codes(bob, &bobs, T).await;
    made.expect("replaces");
    for (user, code, works) in [
        (ann, 3, false),
        (bob, 1, false),
        (ann, 4, false),
        (ann, 1, true),
        (ann, 1, false),
        (bob, 3, true),
    ] {
        let used = tx.use_recovery_code(user, digest(code)).await;
        assert_eq!(used.expect("answers"), works, "{code}");
    }
    assert_eq!(tx.count_recovery_codes(ann).await.expect("answers"), 1);
    let made = tx.replace_recovery_codes(ann, &[digest(5)], T).await;
    made.expect("replaces");
    let earlier = tx.use_recovery_code(ann, digest(2)).await;
    assert!(!earlier.expect("answers"), "an earlier one");
    let newer = tx.use_recovery_code(ann, digest(5)).await;
    assert!(newer.expect("answers"));
    assert_eq!(tx.count_recovery_codes(ann).await.expect("answers"), 0);
}

async fn contract_half_sign_ins(db: &Db) {
    db.migrate().await.expect("migrates");
    let (ann, bob) = (
        user(db, "ann@x.example").await,
        user(db, "bob@x.example").await,
    );
    let insert = async |n: u8, user: UserId, until: i64| {
        let mut tx = db.begin_in_turn().await.expect("begins");
        let half = tx.insert_half_sign_in(digest(n), user, after(until)).await;
        half.expect("is new");
        tx.commit().await.expect("commits");
    };
    insert(1, ann, 10).await;
    insert(2, ann, 20).await;
    insert(3, bob, 30).await;
    let found = async |n: u8| db.half_sign_in(digest(n)).await.expect("answers");
    let anns = HalfSignInRow {
        user_id: ann,
        email: "ann@x.example".to_owned(),
        expires_us: after(10),
    };
    assert_eq!(found(1).await, Some(anns));
    assert_eq!(found(4).await, None);
    let take = |n: u8| {
        beside(db, async move |db| {
            let mut tx = db.begin_in_turn().await?;
            let until = tx.take_half_sign_in(digest(n)).await?;
            tx.commit().await?;
            Ok::<_, DbError>(until)
        })
    };
    let (one, two) = (take(1), take(1));
    let mut taken = [ended(one).await, ended(two).await].map(|t| t.expect("answers"));
    taken.sort();
    assert_eq!(taken, [None, Some(after(10))]);
    assert_eq!(found(1).await, None);
    db.forget_half_sign_ins(after(19)).await.expect("forgets");
    assert!(found(2).await.is_some());
    db.forget_half_sign_ins(after(20)).await.expect("forgets");
    assert!(found(2).await.is_none() && found(3).await.is_some());
    insert(5, ann, 50).await;
    let mut tx = db.begin_in_turn().await.expect("begins");
    tx.end_half_sign_ins(ann).await.expect("ends");
    tx.commit().await.expect("commits");
    assert!(found(5).await.is_none() && found(3).await.is_some());
}

async fn contract_wrong_codes(db: &Db) {
    db.migrate().await.expect("migrates");
    let subjects = ["codes-user:aa", "codes-user:bb", "email:aa"].map(str::to_owned);
    let mut tx = db.begin_in_turn().await.expect("begins");
    let none = tx.wrong_codes(&subjects[0], T).await;
    assert_eq!(none.expect("answers"), (0, None));
    for seconds in [5, 7, 6] {
        let noted = tx.insert_sign_in_failure(&subjects, after(seconds)).await;
        noted.expect("notes");
    }
    let count = tx.wrong_codes(&subjects[0], after(6)).await;
    assert_eq!(count.expect("answers"), (2, Some(after(7))));
    let taken = tx.take_sign_in_failure(&subjects[0], after(7)).await;
    taken.expect("takes back");
    let count = tx.wrong_codes(&subjects[0], T).await;
    assert_eq!(count.expect("answers"), (2, Some(after(6))));
    let others = tx.wrong_codes(&subjects[1], T).await;
    assert_eq!(others.expect("answers"), (3, Some(after(7))));
    tx.commit().await.expect("commits");
    let left = async || {
        let mut left = Vec::new();
        for subject in &subjects {
            left.push(db.sign_in_failures(subject, T).await.expect("counts"));
        }
        left
    };
    // What is past for a failure is none for a wrong code.
    db.forget_past_sign_ins(T, T, T, after(8))
        .await
        .expect("forgets");
    assert_eq!(left().await, [2, 3, 0]);
    db.forget_wrong_codes(after(6)).await.expect("forgets");
    assert_eq!(left().await, [1, 2, 0]);
}

async fn contract_once_in_a_while(db: &Db) {
    db.migrate().await.expect("migrates");
    let (ann, bob) = (
        user(db, "ann@x.example").await,
        user(db, "bob@x.example").await,
    );
    turn_on(db, ann, 1).await;
    turn_on(db, bob, 1).await;
    let mut tx = db.begin_in_turn().await.expect("begins");
    for (user, at, since, noted) in [
        (ann, 100, 50, true),
        (ann, 120, 99, false),
        (bob, 120, 99, true),
        (ann, 200, 100, true),
        (UserId::new(), 200, 100, false),
    ] {
        let warned = tx.note_warned(user, after(at), after(since)).await;
        assert_eq!(warned.expect("answers"), noted, "warned at {at}");
        let asked = tx.note_reset_asked(user, after(at), after(since)).await;
        assert_eq!(asked.expect("answers"), noted, "asked at {at}");
    }
}

/// Whether an owner demands a second factor from now on.
async fn demand(db: &Db, scope: SellerScope, required: bool) -> bool {
    let mut tx = db.begin_change(scope).await.expect("may act");
    let changed = tx.require_second_factor(required).await.expect("demands");
    tx.commit().await.expect("commits");
    changed
}

async fn contract_factor_fence(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (ann, owner) = member(db, scope, "own@lone.example", Role::Owner).await;
    let (adam, admin) = member(db, scope, "adm@lone.example", Role::Admin).await;
    let (vic, viewer) = member(db, scope, "see@lone.example", Role::Viewer).await;
    let (_, theirs) = member(db, other, "own@other.example", Role::Owner).await;
    turn_on(db, ann, 1).await;
    let mut tx = db.begin_change(owner).await.expect("may act");
    assert!(tx.has_second_factor(ann).await.expect("answers"));
    assert!(!tx.has_second_factor(adam).await.expect("answers"));
    let without = tx.members_without_factor().await.expect("answers");
    assert_eq!(without, ["adm@lone.example", "see@lone.example"]);
    drop(tx);
    let may_act = async |by: SellerScope| {
        // One after the other: the first one may be the only one that there can be.
        let may_write = db.begin_write(by).await.is_ok();
        assert_eq!(db.begin_change(by).await.is_ok(), may_write);
        may_write
    };
    assert!(may_act(admin).await);
    assert!(demand(db, owner, true).await);
    assert!(!demand(db, owner, true).await, "it is so already");
    assert!(may_act(owner).await);
    assert_fenced(db.begin_write(admin).await);
    assert_fenced(db.begin_change(admin).await);
    // Who it does not concern: another Seller's people, the operator, and a key.
    assert!(may_act(theirs).await);
    assert!(may_act(scope).await);
    let (key, _) = rotate(db, scope, T).await;
    assert!(may_act(key.scope(scope.seller())).await);
    let row = &db.memberships_of(adam).await.expect("answers")[0];
    assert_eq!((row.factor_required, row.has_factor), (1, 0));

    // One that is only begun is none.
    let mut tx = db.begin_in_turn().await.expect("begins");
    let begun = tx.begin_second_factor(adam, &secret(), T).await;
    assert!(begun.expect("begins"));
    tx.commit().await.expect("commits");
    assert!(!may_act(admin).await);
    let mut tx = db.begin_in_turn().await.expect("begins");
    let on = tx.confirm_second_factor(adam, 1, T).await;
    assert!(on.expect("confirms"));
    tx.commit().await.expect("commits");
    assert!(may_act(admin).await);
    // It makes nobody more than they are.
    turn_on(db, vic, 1).await;
    assert!(!may_act(viewer).await);
    let mut tx = db.begin_in_turn().await.expect("begins");
    assert!(tx.remove_second_factor(adam).await.expect("removes"));
    tx.commit().await.expect("commits");
    assert!(!may_act(admin).await);
    assert!(demand(db, owner, false).await);
    assert!(may_act(admin).await);
}

async fn contract_demand_waits(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (_, admin) = member(db, scope, "adm@lone.example", Role::Admin).await;
    let change = after_the_write_of(db, admin, async move |db| {
        let mut tx = db.begin_change(scope).await?;
        tx.require_second_factor(true).await?;
        tx.commit().await
    });
    change.await.expect("its turn");
    assert_fenced(db.begin_write(admin).await);
}

async fn due(db: &Db) -> Vec<MailRow> {
    db.mails_due(after(1_000), 10).await.expect("answers")
}

async fn contract_renew_link_of(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let mail = NewMail {
        subject: "Set a new password".to_owned(),
        body: "Here.\n".to_owned(),
        page: String::new(),
    };
    let link = |email: &str| LinkRow {
        email: email.to_owned(),
        seller_id: None,
        role: None,
        made_by: "visitor".into(),
        created_us: T,
        expires_us: after(100),
    };
    let mut tx = db.begin_in_turn().await.expect("begins");
    for (n, email) in [(1, "a@x.example"), (2, "b@x.example"), (3, "c@x.example")] {
        let inserted = tx
            .insert_link(LinkKind::Reset, digest(n), &link(email))
            .await;
        inserted.expect("is new");
        let put = tx.insert_mail_with_link(email, &mail, digest(n), after(i64::from(n)));
        put.await.expect("inserts");
    }
    tx.commit().await.expect("commits");
    // And an invitation, by a transaction of the Seller's.
    let mut tx = db.begin_change(scope).await.expect("begins");
    let invited = LinkRow {
        seller_id: Some(scope.seller()),
        role: Some(Role::Viewer),
        ..link("d@x.example")
    };
    tx.insert_invitation(digest(4), &invited)
        .await
        .expect("is new");
    let put = tx.insert_mail_with_link("d@x.example", &mail, digest(4), after(4));
    put.await.expect("inserts");
    tx.commit().await.expect("commits");

    let mails = due(db).await;
    assert_eq!(mails.len(), 4);
    assert_eq!(mails[0].link.as_deref(), Some(&[1; 32][..]));
    let works_for = |kind| match kind {
        LinkKind::Reset => Duration::from_secs(60),
        LinkKind::Invitation => Duration::from_secs(600),
    };
    let renew = async |mail: &MailRow, n: u8, at: i64| {
        let renewed = db
            .renew_link_of(mail, digest(n), after(at), works_for)
            .await;
        renewed.expect("answers")
    };
    let there = async |kind: LinkKind, n: u8| {
        let found = db.link(kind, digest(n)).await.expect("answers");
        found.map(|link| link.expires_us)
    };
    assert_eq!(renew(&mails[0], 11, 50).await, Some(LinkKind::Reset));
    assert_eq!(there(LinkKind::Reset, 1).await, None);
    assert_eq!(there(LinkKind::Reset, 11).await, Some(after(110)));
    // The mail knows the new one, by which the next try finds the row.
    let again = &due(db).await[0];
    assert_eq!(again.link.as_deref(), Some(&[11; 32][..]));
    assert_eq!(renew(&mails[0], 12, 60).await, None, "as it was before");
    assert_eq!(renew(again, 12, 60).await, Some(LinkKind::Reset));
    assert_eq!(there(LinkKind::Reset, 12).await, Some(after(120)));
    assert_eq!(renew(&mails[3], 14, 50).await, Some(LinkKind::Invitation));
    assert_eq!(there(LinkKind::Invitation, 14).await, Some(after(650)));

    // Taken back, too old, and a mail that brings none.
    let mut tx = db.begin_in_turn().await.expect("begins");
    let taken = tx
        .take_links_back(LinkKind::Reset, "b@x.example", None)
        .await;
    assert_eq!(taken.expect("takes back"), 1);
    tx.insert_mails(&["e@x.example".to_owned()], &mail, after(5))
        .await
        .expect("inserts");
    tx.commit().await.expect("commits");
    assert_eq!(renew(&mails[1], 22, 50).await, None);
    assert_eq!(renew(&mails[2], 23, 100).await, None);
    let plain = due(db).await.pop().expect("the last");
    assert_eq!(plain.link, None);
    assert_eq!(renew(&plain, 24, 50).await, None);
    for n in [22, 23, 24] {
        assert_eq!(there(LinkKind::Reset, n).await, None);
    }
}
