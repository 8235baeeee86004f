//! The contracts of mails and of what sets them off: the outbox, whom a mail is for, clients that go on sending dead keys.
//!
//! Never: a mail of an act that was not committed; a Seller's clients or keys told to another.

use truckradar::{
    accounts::Role,
    db::{Death, MailRow, NewMail},
    ids::{IncidentId, MailId},
};

use super::*;
use crate::db_contract::people::member;

contracts! {
    a_mail_waits_for_each_recipient_until_it_is_taken_out: contract_outbox;
    a_try_is_begun_by_one_of_two_and_moves_the_next_one_on: contract_begin_mail_try;
    a_mail_of_an_act_that_was_not_committed_never_was: contract_dropped_mail;
    a_mail_is_for_the_owners_of_this_seller: contract_addressees;
    an_act_knows_its_actors_address_and_its_own_keys_by_their_ends: contract_actors_and_hints;

    clients_that_send_dead_keys_are_known_and_whether_the_live_one_lets_them_in: contract_refused_clients;
    clients_that_a_dead_key_let_in_are_known: contract_former_clients;
    an_incident_is_open_once_until_its_dead_keys_are_quiet: contract_incidents;
    closed_incidents_are_forgotten: contract_forget_incidents;
}

fn mail(subject: &str) -> NewMail {
    NewMail {
        subject: subject.to_owned(),
        body: "One line.\nAnd ••••, é🚛.\n".to_owned(),
        page: "/dashboard/settings?seller=lone-star#api-key".to_owned(),
    }
}

async fn put(db: &Db, recipients: &[&str], subject: &str, at: Time) {
    let recipients: Vec<_> = recipients.iter().map(|to| (*to).to_owned()).collect();
    let mut tx = db.begin().await.expect("begins");
    tx.insert_mails(&recipients, &mail(subject), at)
        .await
        .expect("inserts");
    tx.commit().await.expect("commits");
}

async fn due(db: &Db, at: Time) -> Vec<MailRow> {
    db.mails_due(at, 10).await.expect("answers")
}

fn recipients(mails: &[MailRow]) -> Vec<&str> {
    mails.iter().map(|mail| mail.recipient.as_str()).collect()
}

async fn contract_outbox(db: &Db) {
    db.migrate().await.expect("migrates");
    assert_eq!(due(db, after(1_000)).await, []);
    put(db, &["b@x.example"], "later", after(2)).await;
    put(db, &["a@x.example", "c@x.example"], "first", after(1)).await;
    put(db, &[], "for nobody", T).await;
    assert_eq!(due(db, T).await, []);
    let mails = due(db, after(1)).await;
    assert_eq!(recipients(&mails), ["a@x.example", "c@x.example"]);
    assert_ne!(mails[0].id, mails[1].id);
    let whole = MailRow {
        id: mails[0].id,
        created_us: after(1),
        recipient: "a@x.example".to_owned(),
        subject: "first".to_owned(),
        body: mail("").body,
        page: mail("").page,
        attempts: 0,
        link: None,
    };
    assert_eq!(mails[0], whole);
    let all = due(db, after(2)).await;
    assert_eq!(
        recipients(&all),
        ["a@x.example", "c@x.example", "b@x.example"],
        "the longest due first"
    );
    let one = db.mails_due(after(2), 1).await.expect("answers");
    assert_eq!(recipients(&one), ["a@x.example"]);
    db.remove_mail(mails[0].id).await.expect("removes");
    db.remove_mail(MailId::new()).await.expect("nothing to do");
    let left = due(db, after(2)).await;
    assert_eq!(recipients(&left), ["c@x.example", "b@x.example"]);
}

async fn contract_begin_mail_try(db: &Db) {
    db.migrate().await.expect("migrates");
    put(db, &["a@x.example", "b@x.example"], "one", T).await;
    let mails = due(db, T).await;
    let begin = async |mail: &MailRow, next| db.begin_mail_try(mail, next).await.expect("answers");
    let (one, other) = tokio::join!(begin(&mails[0], after(60)), begin(&mails[0], after(60)));
    assert!(one != other, "one of two begins");
    assert_eq!(recipients(&due(db, after(59)).await), ["b@x.example"]);
    let again = due(db, after(60)).await;
    assert_eq!(recipients(&again), ["b@x.example", "a@x.example"]);
    assert_eq!(again[1].attempts, 1);
    assert!(!begin(&mails[0], after(90)).await, "as it was before");
    assert!(begin(&again[1], after(180)).await);
    db.remove_mail(mails[1].id).await.expect("removes");
    assert!(!begin(&mails[1], after(60)).await, "it is gone");
    let last = due(db, after(180)).await;
    assert_eq!((last.len(), last[0].attempts), (1, 2));
}

async fn contract_dropped_mail(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let mut tx = db.begin_change(scope).await.expect("begins");
    tx.insert_mails(&["a@x.example".to_owned()], &mail("lost"), T)
        .await
        .expect("inserts");
    drop(tx);
    assert_eq!(due(db, T).await, []);
    let mut tx = db.begin_change(scope).await.expect("begins");
    tx.insert_mails(&["a@x.example".to_owned()], &mail("kept"), T)
        .await
        .expect("inserts");
    tx.commit().await.expect("commits");
    assert_eq!(due(db, T).await.len(), 1);
}

async fn contract_addressees(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    for (name, role) in [
        ("z-owner", Role::Owner),
        ("owner", Role::Owner),
        ("admin", Role::Admin),
        ("viewer", Role::Viewer),
    ] {
        member(db, scope, &format!("{name}@lone.example"), role).await;
    }
    member(db, other, "owner@other.example", Role::Owner).await;
    let mut tx = db.begin_change(scope).await.expect("begins");
    let to = tx.addressees().await.expect("answers").expect("a Seller");
    assert_eq!(
        (to.slug.as_str(), to.name.as_str()),
        ("lone-star", "lone-star, Inc.")
    );
    assert_eq!(to.owners, ["owner@lone.example", "z-owner@lone.example"]);
    drop(tx);
    let mut tx = db.begin().await.expect("begins");
    let same = tx.addressees(scope.seller()).await.expect("answers");
    assert_eq!(same, Some(to));
    let nobody = tx.addressees(SellerId::new()).await.expect("answers");
    assert_eq!(nobody, None);
}

async fn contract_actors_and_hints(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (_, as_member) = member(db, scope, "owner@lone.example", Role::Owner).await;
    let (old, _) = rotate(db, scope, T).await;
    let (new, _) = rotate(db, scope, after(1)).await;
    let mut tx = db.begin_change(as_member).await.expect("begins");
    let address = tx.actors_address().await.expect("answers");
    assert_eq!(address.as_deref(), Some("owner@lone.example"));
    for key in [&old, &new] {
        let hint = tx.hint_of(key.id).await.expect("answers");
        assert_eq!(hint, Some(key.secret.hint().to_string()));
    }
    assert_eq!(tx.hint_of(KeyId::new()).await.expect("answers"), None);
    drop(tx);
    let mut tx = db.begin_change(other).await.expect("begins");
    assert_eq!(tx.actors_address().await.expect("answers"), None);
    assert_eq!(tx.hint_of(new.id).await.expect("answers"), None);
}

/// Calls of a client in the minute of `at` seconds, the last of them then.
fn calls(
    scope: SellerScope,
    key: KeyId,
    client: i64,
    class: &'static str,
    at: i64,
    n: i64,
) -> UsageRow {
    UsageRow {
        seller: scope.seller(),
        key,
        minute: after(at).minute(),
        client,
        address: format!("10.0.0.{client}"),
        user_agent: format!("agent-{client}"),
        status_class: class,
        requests: n,
        last_us: after(at).0,
    }
}

/// The clients that were refused since then, each with its calls, and when the live key first and last let it in.
async fn refused(
    db: &Db,
    scope: SellerScope,
    since: i64,
) -> Vec<(i64, i64, i64, Option<(i64, i64)>)> {
    let clients = db.refused_clients(scope, after(since), 10).await;
    let clients = clients.expect("answers");
    let of_watch = db
        .refused_clients_of(scope.seller(), after(since), 10)
        .await;
    assert_eq!(of_watch.expect("answers"), clients);
    let seconds = |at: Time| (at.0 - T.0) / 1_000_000;
    let shown = clients.into_iter().map(|c| {
        let name = c.user_agent.strip_prefix("agent-").expect("a number");
        let let_in = c.first_let_in_us.zip(c.let_in_us);
        let let_in = let_in.map(|(first, last)| (seconds(first), seconds(last)));
        (
            name.parse().expect("a number"),
            c.refused,
            seconds(c.refused_us),
            let_in,
        )
    });
    shown.collect()
}

/// A Seller with a replaced key and a live one, since ten seconds.
async fn replaced_key(db: &Db, scope: SellerScope) -> (KeyId, KeyId) {
    let (old, _) = rotate(db, scope, T).await;
    let (live, _) = rotate(db, scope, after(10)).await;
    (old.id, live.id)
}

async fn contract_refused_clients(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (old, live) = replaced_key(db, scope).await;
    let (others_old, _) = replaced_key(db, other).await;
    let staged = Key::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    tx.insert_staged_key(
        staged.id,
        staged.digest(),
        staged.secret.hint(),
        "operator",
        after(10),
    )
    .await
    .expect("is new");
    seal(&mut tx).await;
    tx.commit().await.expect("commits");
    db.add_usage(&[
        // One that was let in before the key died, and is refused since.
        calls(scope, old, 1, "2xx", 5, 50),
        calls(scope, old, 1, "401", 70, 3),
        calls(scope, old, 1, "401", 130, 4),
        // One that changed over.
        calls(scope, old, 2, "401", 70, 90),
        calls(scope, live, 2, "2xx", 71, 1),
        calls(scope, live, 2, "404", 131, 1),
        // One that tries the next key too early, and one whose write met the fence.
        calls(scope, staged.id, 4, "staged", 70, 99),
        calls(scope, staged.id, 4, "401", 71, 99),
        calls(scope, live, 5, "401", 70, 99),
        // One with a key that is no row of anybody's.
        calls(scope, KeyId::new(), 6, "401", 70, 99),
        // Another Seller's.
        calls(other, others_old, 1, "401", 70, 77),
    ])
    .await
    .expect("adds");
    assert_eq!(
        refused(db, scope, 0).await,
        [(1, 7, 130, None), (2, 90, 70, Some((71, 131)))],
        "the one refused last first"
    );
    assert_eq!(refused(db, other, 0).await, [(1, 77, 70, None)]);
    let one = db.refused_clients(scope, T, 1).await.expect("answers");
    assert_eq!((one.len(), one[0].address.as_str()), (1, "10.0.0.1"));
    assert_eq!(refused(db, scope, 72).await, [(1, 4, 130, None)]);
    assert_eq!(refused(db, scope, 130).await, []);

    // Discarded, the staged key is dead; what was refused before that does not count.
    let mut tx = db.begin_change(scope).await.expect("begins");
    tx.end_staging(StagedBecomes::Discarded, after(80))
        .await
        .expect("ends");
    seal(&mut tx).await;
    tx.commit().await.expect("commits");
    assert_eq!(refused(db, scope, 72).await, [(1, 4, 130, None)]);
    let late = calls(scope, staged.id, 4, "401", 140, 5);
    db.add_usage(&[late]).await.expect("adds");
    assert_eq!(
        refused(db, scope, 72).await,
        [(4, 5, 140, None), (1, 4, 130, None)]
    );
    // Without a live key nobody can have been let in by it.
    expire(db, scope, after(141)).await;
    assert_eq!(
        refused(db, scope, 0).await,
        [(4, 5, 140, None), (1, 7, 130, None), (2, 90, 70, None)]
    );
}

async fn contract_former_clients(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (old, live) = replaced_key(db, scope).await;
    let (others_old, _) = replaced_key(db, other).await;
    db.add_usage(&[
        calls(scope, old, 1, "2xx", 5, 50),
        calls(scope, old, 1, "404", 6, 2),
        calls(scope, old, 2, "2xx", 5, 10),
        calls(scope, old, 2, "401", 130, 4),
        calls(scope, old, 3, "2xx", 5, 20),
        calls(scope, live, 3, "2xx", 140, 1),
        // Nobody that a dead key let in.
        calls(scope, old, 4, "401", 70, 9),
        calls(scope, live, 5, "2xx", 70, 9),
        calls(other, others_old, 1, "2xx", 5, 77),
    ])
    .await
    .expect("adds");
    let former = async |limit| {
        let found = db.former_clients(scope, T.minute(), limit).await;
        let found = found.expect("answers").into_iter();
        let shown = found.map(|c| (c.user_agent, c.let_in, c.let_in_us, c.seen_us));
        shown.collect::<Vec<_>>()
    };
    let client = |n: i64, let_in, let_in_at, seen_at| {
        (
            format!("agent-{n}"),
            let_in,
            after(let_in_at),
            after(seen_at),
        )
    };
    let all = [
        client(1, 52, 6, 6),
        client(3, 20, 5, 140),
        client(2, 10, 5, 130),
    ];
    assert_eq!(former(10).await, all, "the busiest first");
    assert_eq!(former(1).await, all[..1]);
    let later = db.former_clients(scope, T.minute() + 1, 10).await;
    assert_eq!(later.expect("answers"), []);
}

async fn open(db: &Db, scope: SellerScope, died: i64, at: i64) -> bool {
    let mut tx = db.begin().await.expect("begins");
    let opened = tx
        .open_incident(IncidentId::new(), scope.seller(), after(died), after(at))
        .await
        .expect("answers");
    tx.commit().await.expect("commits");
    opened
}

async fn contract_incidents(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let untold = async |scope: SellerScope, told_since| {
        let found = db.untold_death(scope.seller(), after(told_since)).await;
        found.expect("answers")
    };
    assert_eq!(untold(scope, 0).await, None, "no key ever died");
    let (old, live) = replaced_key(db, scope).await;
    replaced_key(db, other).await;
    let since = async |scope, died| {
        let found = db.open_incident(scope, after(died)).await;
        found.expect("answers")
    };
    let close = async |quiet: i64, at: i64| {
        let closed = db.close_quiet_incidents(after(quiet), after(at)).await;
        closed.expect("answers")
    };
    db.add_usage(&[
        calls(scope, old, 1, "401", 210, 12),
        calls(scope, live, 1, "401", 230, 1),
    ])
    .await
    .expect("adds");
    let death = Death {
        died_us: after(10),
        live_keys: 1,
    };
    assert_eq!(untold(scope, 0).await, Some(death));
    assert_eq!(since(scope, 10).await, None);
    assert!(open(db, scope, 10, 211).await);
    assert!(!open(db, scope, 10, 212).await, "one is open");
    assert!(open(db, other, 10, 213).await);
    assert_eq!(since(scope, 10).await, Some(after(211)));
    assert_eq!(since(scope, 9).await, None, "about another death");
    assert_eq!(untold(scope, 300).await, None, "it is open");
    // Only the dead key's calls keep it open; of the other Seller nobody sends one.
    assert_eq!(close(209, 300).await, 1);
    assert_eq!(since(scope, 10).await, Some(after(211)));
    assert_eq!(since(other, 10).await, None);
    assert_eq!(close(210, 301).await, 1);
    assert_eq!(close(210, 302).await, 0);
    assert_eq!(since(scope, 10).await, None);
    // Closed, it was told of for as long as is asked for.
    assert_eq!(untold(scope, 210).await, None);
    assert_eq!(untold(scope, 211).await, Some(death));
    assert!(open(db, scope, 10, 303).await, "a later one");

    // A key that dies later is another matter, which ends the one before; a discarded one is none.
    expire(db, scope, after(304)).await;
    let death = Death {
        died_us: after(304),
        live_keys: 0,
    };
    assert_eq!(untold(scope, 0).await, Some(death));
    assert!(open(db, scope, 304, 305).await);
    assert_eq!(since(scope, 10).await, None);
    assert_eq!(since(scope, 304).await, Some(after(305)));
}

async fn contract_forget_incidents(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    assert!(open(db, scope, 0, 0).await);
    let closed = db.close_quiet_incidents(after(1), after(1)).await;
    assert_eq!(closed.expect("answers"), 1);
    assert!(open(db, other, 0, 0).await);
    db.forget_incidents_before(after(1)).await.expect("forgets");
    db.forget_incidents_before(after(2)).await.expect("forgets");
    let still = db.open_incident(other, T).await.expect("answers");
    assert!(still.is_some(), "an open one is never forgotten");
}
