//! The contracts of the audit log: what is written once, who sees it, and what becomes of it in time.
//!
//! Never: an entry changed by anybody; one that a Seller sees and should not.

use std::{net::IpAddr, str::FromStr};

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use truckradar::{
    accounts::{Email, Role},
    audit::ActKind,
    db::AuditRow,
    ids::UserId,
};

use super::*;

contracts! {
    acts_are_read_back_whole_and_in_their_order: contract_audit;
    pages_of_acts_follow_one_another_both_ways: contract_audit_pages;
    acts_are_found_by_their_kind: contract_audit_kinds;
    an_act_of_a_persons_own_is_seen_by_the_sellers_they_belong_to_then: contract_audit_also;
    invitations_made_are_those_to_the_seller_since_a_time: contract_invitations_made;
    old_acts_are_forgotten: contract_forget_audit;
    old_addresses_are_forgotten_before_their_acts: contract_forget_audit_addresses;
}

const HERE: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

async fn append(db: &Db, entries: &[&AuditEntry]) {
    let mut tx = db.begin().await.expect("begins");
    for entry in entries {
        tx.append_audit(entry).await.expect("appends");
    }
    tx.commit().await.expect("commits");
}

async fn contract_invitations_made(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let invited = |scope, seconds: i64, email: &str| {
        AuditEntry::of(scope, after(seconds), Act::MemberInvited)
            .with(serde_json::json!({ "email": email }))
    };
    let (early, first) = (
        invited(scope, 1, "a@x.example"),
        invited(scope, 2, "b@x.example"),
    );
    let (second, theirs) = (
        invited(scope, 3, "c@x.example"),
        invited(other, 3, "d@x.example"),
    );
    let taken_back = AuditEntry::of(scope, after(3), Act::MemberUninvited);
    append(db, &[&early, &first, &second, &theirs, &taken_back]).await;
    let mut tx = db.begin_change(scope).await.expect("begins");
    let mut made = tx.invitations_made(after(2)).await.expect("answers");
    made.sort_by_key(|(at, _)| *at);
    let made: Vec<_> = made
        .iter()
        .map(|(at, detail)| (*at, detail["email"].as_str().expect("text")))
        .collect();
    assert_eq!(made, [(after(2), "b@x.example"), (after(3), "c@x.example")]);
}

async fn oldest(db: &Db, scope: SellerScope) -> Vec<AuditRow> {
    db.oldest_audit(scope, None, 100).await.expect("answers")
}

/// A User with this address, who is a member of these.
async fn member_of(db: &Db, address: &str, sellers: &[SellerScope]) -> UserId {
    let id = UserId::new();
    let email: Email = address.parse().expect("an address");
    let mut tx = db.begin().await.expect("begins");
    let made = tx.insert_user(id, &email, "a hash", T).await;
    made.expect("is new");
    for scope in sellers {
        let joined = tx.insert_membership(id, scope.seller(), Role::Viewer, T);
        joined.await.expect("is new");
    }
    tx.commit().await.expect("commits");
    id
}

async fn contract_audit(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let ann = member_of(db, "ann@lone.example", &[scope]).await;
    let (key, _) = rotate(db, scope, T).await;
    let next = Key::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    let (digest, hint) = (next.secret.digest(), next.secret.hint());
    let staged = tx.insert_staged_key(next.id, digest, hint, "operator", T);
    staged.await.expect("is the only one");
    tx.commit().await.expect("commits");
    let detail = json!({"reason": "„leaked“ \"é🚛\\ '", "n": 9_007_199_254_740_993_i64});
    // Ids rise with time, and so entries are made in the order in which they are to be read.
    let first = AuditEntry::of(scope, T, Act::SellerCreated);
    let nobodys = AuditEntry::of_operator(T, Act::SellerCreated);
    let theirs = AuditEntry::of(other, T, Act::SellerCreated);
    let by_key = AuditEntry::of(
        key.scope(scope.seller()).from_address(HERE),
        after(1),
        Act::DealerChanged,
    );
    let by_ann = SellerScope::by_membership(scope.seller(), ann).from_address(HERE);
    let to_ann = AuditEntry::of(by_ann, after(2), Act::MemberRole).about(ann);
    let to_key = AuditEntry::of(by_ann, after(3), Act::KeyPrepared).on_key(Some(next.id));
    let gone = AuditEntry::of(scope, after(4), Act::KeyExpired)
        .on_key(Some(KeyId::new()))
        .about(UserId::new())
        .with(detail.clone());
    append(db, &[&first, &nobodys, &theirs]).await;
    let mut tx = db.begin_write(scope).await.expect("begins");
    for entry in [&by_key, &to_ann, &to_key, &gone] {
        tx.append_audit(entry).await.expect("appends");
    }
    tx.commit().await.expect("commits");
    let mut dropped = db.begin_write(scope).await.expect("begins");
    let undone = AuditEntry::of(scope, T, Act::KeyGenerated);
    dropped.append_audit(&undone).await.expect("appends");
    drop(dropped);

    let short = |own: SellerId| match own == scope.seller() {
        true => "lone-star",
        false => "other",
    };
    let row = |entry: &AuditEntry| AuditRow {
        id: entry.id,
        at_us: entry.at,
        actor: entry.actor.clone(),
        actor_email: None,
        actor_hint: None,
        actor_platform: None,
        address: entry.address.map(|address| address.to_string()),
        act: entry.act.into(),
        key_id: entry.key,
        key_hint: None,
        user_id: entry.user.map(UserId::to_text),
        user_email: None,
        seller_id: entry.seller,
        seller_slug: entry.seller.map(|own| short(own).to_owned()),
        seller_name: entry.seller.map(|own| format!("{}, Inc.", short(own))),
        detail: entry.detail.to_string(),
        receipt: None,
    };
    let anns = Some("ann@lone.example".to_owned());
    let expected = [
        row(&first),
        AuditRow {
            actor_hint: Some(key.secret.hint().to_string()),
            ..row(&by_key)
        },
        AuditRow {
            actor_email: anns.clone(),
            user_email: anns.clone(),
            ..row(&to_ann)
        },
        AuditRow {
            actor_email: anns,
            key_hint: Some(hint.to_string()),
            ..row(&to_key)
        },
        row(&gone),
    ];
    assert_eq!(expected[1].address.as_deref(), Some("::1"));
    assert_eq!(oldest(db, scope).await, expected);
    assert_eq!(oldest(db, other).await, [row(&theirs)]);
    // A key that was cut over has its hint still.
    let mut tx = db.begin_change(scope).await.expect("begins");
    let ended = tx.end_live_key("replaced", None, T).await;
    assert!(ended.expect("ends").is_some());
    let live = tx.end_staging(StagedBecomes::Live, T).await;
    assert!(live.expect("cuts over").is_some());
    tx.commit().await.expect("commits");
    assert_eq!(oldest(db, scope).await, expected);
    // An entry is written once.
    let mut tx = db.begin().await.expect("begins");
    assert_unique(tx.append_audit(&first).await);
}

async fn contract_audit_pages(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let ann = member_of(db, "ann@lone.example", &[scope]).await;
    // The Seller's own and those of its people, as they come.
    let mut all = Vec::new();
    for n in 0..7 {
        let at = after(n);
        let entry = match n % 3 {
            0 => AuditEntry::of(scope, at, Act::DealerChanged),
            1 => AuditEntry::of_person(ann, HERE, at, Act::SessionBegan),
            _ => AuditEntry::of(scope, at, Act::MemberInvited),
        };
        let theirs = AuditEntry::of(other, at, Act::DealerChanged);
        append(db, &[&entry, &theirs]).await;
        all.push(entry.id);
    }
    let ids = |rows: Vec<AuditRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
    let (mut seen, mut at) = (Vec::new(), None);
    for expected in [3, 3, 1, 0] {
        let page = db.oldest_audit(scope, at, 3).await.expect("answers");
        let page = ids(page);
        assert_eq!(page.len(), expected);
        at = page.last().copied().or(at);
        seen.extend(page);
    }
    assert_eq!(seen, all);
    let (mut seen, mut at) = (Vec::new(), None);
    for expected in [3, 3, 1, 0] {
        let page = db.newest_audit(scope, None, at, 3).await.expect("answers");
        let page = ids(page);
        assert_eq!(page.len(), expected);
        at = page.last().copied().or(at);
        seen.extend(page);
    }
    seen.reverse();
    assert_eq!(seen, all);
}

async fn contract_audit_kinds(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let ann = member_of(db, "ann@lone.example", &[scope]).await;
    for act in Act::ALL {
        let entry = match act.kind() {
            Some(ActKind::Sessions) => AuditEntry::of_person(ann, HERE, T, *act),
            _ => AuditEntry::of(scope, T, *act),
        };
        append(db, &[&entry]).await;
    }
    let mut count = 0;
    for kind in ActKind::ALL {
        let found = db.newest_audit(scope, Some(kind), None, 100).await;
        let found = found.expect("answers");
        let known = |row: &AuditRow| Act::from_str(row.act.as_str()).expect("is known");
        let found: Vec<Act> = found.iter().map(known).collect();
        assert!(
            found.iter().all(|act| act.kind() == Some(kind)),
            "{found:?}"
        );
        count += found.len();
        let last = db.newest_audit(scope, Some(kind), None, 1).await;
        assert_eq!(last.expect("answers")[0].act, found[0]);
    }
    let of_a_kind = Act::ALL.iter().filter(|act| act.kind().is_some());
    assert_eq!(count, of_a_kind.count());
    let all = db.newest_audit(scope, None, None, 100).await;
    assert_eq!(all.expect("answers").len(), Act::ALL.len());
}

async fn contract_audit_also(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let ann = member_of(db, "ann@lone.example", &[scope, other]).await;
    let zoe = member_of(db, "zoe@lone.example", &[other]).await;
    let nobody = member_of(db, "nobody@lone.example", &[]).await;
    let begins = |user| AuditEntry::of_person(user, HERE, T, Act::SessionBegan);
    let (anns, zoes, nobodys) = (begins(ann), begins(zoe), begins(nobody));
    // What a person does to a Seller is that Seller's alone.
    let joined = AuditEntry::of_person(ann, HERE, T, Act::MemberJoined).on_seller(scope.seller());
    // What the operator does to a person is seen where the person is a member.
    let reset = AuditEntry::of_operator(T, Act::PasswordResetLink).about(ann);
    append(db, &[&anns, &zoes, &nobodys, &joined, &reset]).await;
    let ids = async |scope| {
        let rows = oldest(db, scope).await;
        rows.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(scope).await, [anns.id, joined.id, reset.id]);
    assert_eq!(ids(other).await, [anns.id, zoes.id, reset.id]);
    // Somebody who leaves: what was seen stays, what comes is not seen.
    let mut tx = db.begin_change(scope).await.expect("begins");
    tx.delete_membership(ann).await.expect("leaves");
    tx.commit().await.expect("commits");
    let later = begins(ann);
    append(db, &[&later]).await;
    assert_eq!(ids(scope).await, [anns.id, joined.id, reset.id]);
    assert_eq!(ids(other).await, [anns.id, zoes.id, reset.id, later.id]);
}

async fn contract_forget_audit(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let ann = member_of(db, "ann@lone.example", &[scope, other]).await;
    let entries = [
        AuditEntry::of(scope, after(0), Act::SellerCreated),
        AuditEntry::of(other, after(5), Act::SellerCreated),
        AuditEntry::of_person(ann, HERE, after(10), Act::SessionBegan),
        AuditEntry::of(scope, after(20), Act::KeyExpired),
    ];
    append(db, &entries.each_ref()).await;
    let left = async |scope| {
        let rows = oldest(db, scope).await;
        rows.into_iter().map(|row| row.act).collect::<Vec<_>>()
    };
    let all = [Act::SellerCreated, Act::SessionBegan, Act::KeyExpired];
    for (before, kept, others) in [
        (0, &all[..], &all[..2]),
        (10, &all[1..], &all[1..2]),
        (11, &all[2..], &[]),
        (21, &[], &[]),
    ] {
        db.forget_audit_before(after(before))
            .await
            .expect("forgets");
        assert_eq!(left(scope).await, kept);
        assert_eq!(left(other).await, others);
    }
}

async fn contract_forget_audit_addresses(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let ann = member_of(db, "ann@lone.example", &[scope]).await;
    let begins = |seconds| AuditEntry::of_person(ann, HERE, after(seconds), Act::SessionBegan);
    let entries = [begins(0), begins(10)];
    append(db, &entries.each_ref()).await;
    let addresses = async || {
        let rows = oldest(db, scope).await;
        rows.into_iter().map(|row| row.address).collect::<Vec<_>>()
    };
    let here = Some(HERE.to_string());
    for (before, left) in [
        (0, [here.clone(), here.clone()]),
        (10, [None, here]),
        (11, [None, None]),
    ] {
        let done = db.forget_audit_addresses_before(after(before)).await;
        done.expect("forgets");
        assert_eq!(addresses().await, left);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What the database itself refuses, whoever asks: the statements go past the product.

/// What may not be done to the log, and what may.
const REFUSED: [&str; 10] = [
    "UPDATE audit_log SET id = 'x'",
    "UPDATE audit_log SET at_us = at_us - 1",
    "UPDATE audit_log SET actor = 'operator'",
    "UPDATE audit_log SET seller_id = 'x'",
    "UPDATE audit_log SET act = 'key.expired'",
    "UPDATE audit_log SET key_id = 'x'",
    "UPDATE audit_log SET user_id = NULL",
    "UPDATE audit_log SET detail = '{}'",
    "UPDATE audit_log SET address = '192.0.2.1'",
    "UPDATE audit_also SET seller_id = 'x'",
];
const ALLOWED: [&str; 3] = [
    "UPDATE audit_log SET actor = actor",
    "UPDATE audit_log SET receipt = '{}'",
    "UPDATE audit_log SET address = NULL",
];
const ONCE: [&str; 2] = [
    "UPDATE audit_log SET receipt = NULL",
    "UPDATE audit_log SET receipt = '{\"epoch\":1}'",
];

async fn one_entry(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let ann = member_of(db, "ann@lone.example", &[scope]).await;
    let entry = AuditEntry::of_person(ann, HERE, T, Act::SessionBegan);
    append(db, &[&entry.with(json!({"session": "s"}))]).await;
}

macro_rules! assert_append_only {
    ($own:expr) => {
        for (sql, may) in REFUSED
            .map(|sql| (sql, false))
            .into_iter()
            .chain(ALLOWED.map(|sql| (sql, true)))
            .chain(ONCE.map(|sql| (sql, false)))
        {
            let done = sqlx::query(AssertSqlSafe(sql)).execute($own).await;
            match done {
                Ok(done) => assert!(may && done.rows_affected() == 1, "{sql} was done"),
                Err(error) => {
                    let said = error.to_string();
                    assert!(!may && said.contains("append-only"), "{sql}: {said}");
                }
            }
        }
    };
}

#[tokio::test]
async fn sqlite_itself_refuses_to_change_the_log() {
    let folder = folder();
    let file = folder.path().join("t.db");
    let db = Db::open(&DbUrl::Sqlite(file.clone())).await.expect("opens");
    one_entry(&db).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
    let own = SqliteConnection::connect_with(&options).await;
    let mut own = own.expect("opens");
    assert_append_only!(&mut own);
    // What is forgotten leaves nothing behind.
    db.forget_audit_before(after(1)).await.expect("forgets");
    let left = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM audit_also");
    assert_eq!(left.fetch_one(&mut own).await.expect("counts"), 0);
    own.close().await.expect("closes");
    db.close().await;
}

#[tokio::test]
async fn postgresql_itself_refuses_to_change_the_log() {
    let database = postgres::Database::create().await;
    let db = Db::open(&DbUrl::Postgres(database.url()))
        .await
        .expect("opens");
    one_entry(&db).await;
    let mut own = PgConnection::connect(&database.url()).await.expect("opens");
    assert_append_only!(&mut own);
    // What is forgotten leaves nothing behind.
    db.forget_audit_before(after(1)).await.expect("forgets");
    let left = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM audit_also");
    assert_eq!(left.fetch_one(&mut own).await.expect("counts"), 0);
    own.close().await.expect("closes");
    db.close().await;
}
