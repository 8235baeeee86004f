//! The contracts of mails: the outbox, and whom a mail is for.
//!
//! Never: a mail of an act that was not committed; a Seller's keys told to another.

use truckradar::{
    accounts::Role,
    db::{MailRow, NewMail},
    ids::MailId,
};

use super::*;
use crate::db_contract::people::member;

contracts! {
    a_mail_waits_for_each_recipient_until_it_is_taken_out: contract_outbox;
    a_try_is_begun_by_one_of_two_and_moves_the_next_one_on: contract_begin_mail_try;
    a_mail_of_an_act_that_was_not_committed_never_was: contract_dropped_mail;
    a_mail_is_for_the_owners_of_this_seller: contract_addressees;
    an_act_knows_its_actors_address_and_its_own_keys_by_their_ends: contract_actors_and_hints;
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
