//! The contracts of erasing a person: what names them, who waits for it, and that the audit log's own trigger lets this change
//! pass and no other.
//!
//! Never: a name looked for in a list of places alone; every table and column is read.

use std::net::{IpAddr, Ipv6Addr};

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use truckradar::{
    accounts::{Email, Role, erased::Pseudonym},
    db::{Belongs, ErasedRows, LinkRow, NewMail, Person},
    ids::UserId,
    mail::words::unlinked,
};

use super::*;

contracts! {
    whatever_names_a_person_is_found_and_nobody_else: contract_audit_naming;
    an_erased_person_is_named_nowhere_and_others_as_before: contract_erase;
    an_erasure_that_is_not_committed_never_was: contract_dropped_erasure;
    an_erasure_waits_for_the_write_in_flight: contract_erasure_waits;
}

const HERE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn email(text: &str) -> Email {
    text.parse().expect("an address")
}

async fn member_of(db: &Db, address: &str, sellers: &[(SellerScope, Role)]) -> UserId {
    let id = UserId::new();
    let mut tx = db.begin().await.expect("begins");
    let made = tx.insert_user(id, &email(address), "a hash", T).await;
    made.expect("is new");
    for (scope, role) in sellers {
        let joined = tx.insert_membership(id, scope.seller(), *role, T);
        joined.await.expect("is new");
    }
    tx.commit().await.expect("commits");
    id
}

fn person(user: Option<UserId>, address: &str) -> Person {
    Person {
        user,
        email: email(address),
        in_mails: unlinked(address),
        pseudonym: Pseudonym::new(),
    }
}

async fn append(db: &Db, entries: &[AuditEntry]) {
    let mut tx = db.begin().await.expect("begins");
    for entry in entries {
        tx.append_audit(entry).await.expect("appends");
    }
    tx.commit().await.expect("commits");
}

fn link(to: &str, seller: SellerScope, made_by: String) -> LinkRow {
    LinkRow {
        email: to.to_owned(),
        seller_id: Some(seller.seller()),
        role: Some(Role::Viewer),
        made_by,
        created_us: T,
        expires_us: after(1_000),
    }
}

/// Entries that name Ann in every way there is, and some that look as if they did.
fn entries(scope: SellerScope, ann: UserId, zoe: UserId) -> (Vec<AuditEntry>, Vec<AuditEntry>) {
    let by_ann = SellerScope::by_membership(scope.seller(), ann).from_address(HERE);
    let of = |act, detail| AuditEntry::of(scope, T, act).with(detail);
    let naming = vec![
        AuditEntry::of(by_ann, T, Act::DealerChanged),
        AuditEntry::of_person(ann, HERE, T, Act::SessionBegan).with(json!({"session": "s"})),
        AuditEntry::of(scope, T, Act::MemberRole).about(ann),
        of(
            Act::MemberInvited,
            json!({"email": "ann@x.example", "role": "viewer"}),
        ),
        of(
            Act::MemberRemoved,
            json!({"uninvited": ["joann@x.example", "ann@x.example"]}),
        ),
        of(
            Act::MemberJoined,
            json!({"invited_by": format!("user:{ann}")}),
        ),
        of(
            Act::KeyExpired,
            json!({"reason": "asked for by ann@x.example."}),
        ),
    ];
    let others = vec![
        AuditEntry::of_person(zoe, HERE, T, Act::SessionBegan),
        of(Act::MemberInvited, json!({"email": "joann@x.example"})),
        of(
            Act::KeyExpired,
            json!({"reason": "see ann@x.example.org \"é🚛\""}),
        ),
    ];
    (naming, others)
}

async fn contract_audit_naming(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let ann = member_of(db, "ann@x.example", &[]).await;
    let zoe = member_of(db, "zoe@x.example", &[]).await;
    let (naming, others) = entries(scope, ann, zoe);
    append(db, &naming).await;
    append(db, &others).await;
    let found = |person: Person| async move {
        let mut found = db.audit_naming(&person).await.expect("answers");
        found.sort();
        found
    };
    let mut all: Vec<AuditId> = naming.iter().map(|entry| entry.id).collect();
    all.sort();
    assert_eq!(found(person(Some(ann), "ann@x.example")).await, all);
    // Somebody who was invited only is named by their address.
    let mut by_address: Vec<AuditId> = [3, 4, 6].map(|at| naming[at].id).into();
    by_address.sort();
    assert_eq!(found(person(None, "ann@x.example")).await, by_address);
    assert_eq!(found(person(None, "nobody@x.example")).await, []);
    let zoes = found(person(Some(zoe), "zoe@x.example")).await;
    assert_eq!(zoes, [others[0].id]);
    // Ids rise with time; a long log is read to its end.
    let many: Vec<_> = (0..5_003)
        .map(|_| AuditEntry::of(scope, T, Act::DealerChanged))
        .collect();
    for some in many.chunks(500) {
        append(db, some).await;
    }
    let last = AuditEntry::of(scope, T, Act::MemberRole).about(zoe);
    append(db, std::slice::from_ref(&last)).await;
    let zoes = found(person(Some(zoe), "zoe@x.example")).await;
    assert_eq!(zoes, [others[0].id, last.id]);
}

/// Ann with all that a person can have, and Zoe with the same.
async fn furnish(db: &Db, scope: SellerScope, other: SellerScope) -> (UserId, UserId) {
    let roles = [(scope, Role::Owner), (other, Role::Viewer)];
    let ann = member_of(db, "ann@x.example", &roles).await;
    let zoe = member_of(db, "zoe@x.example", &roles[..1]).await;
    let mut digests = 0;
    for (user, address) in [(ann, "ann@x.example"), (zoe, "zoe@x.example")] {
        let session = truckradar::db::SessionRow {
            id: truckradar::ids::SessionId::new(),
            user_id: user,
            email: String::new(),
            created_us: T,
            seen_us: T,
            confirmed_us: T,
            address: "192.0.2.1".into(),
            user_agent: "a browser".into(),
        };
        let mut digest = || {
            digests += 1;
            TokenDigest([digests; 32])
        };
        let mut tx = db.begin().await.expect("begins");
        let begun = tx.insert_session(&session, digest()).await;
        begun.expect("is new");
        for link in [
            link(address, other, "operator".into()),
            link("guest@x.example", other, format!("user:{user}")),
        ] {
            let made = tx.insert_link(LinkKind::Invitation, digest(), &link);
            made.await.expect("is new");
        }
        let mail = NewMail {
            subject: format!("By {address}"),
            body: format!(
                "It was {address}.\nNot jo{address}.\nSaid: {}, Jo{0}.",
                unlinked(address)
            ),
            page: String::new(),
        };
        let to = [address.to_owned(), "boss@x.example".to_owned()];
        tx.insert_mails(&to, &mail, T).await.expect("are put there");
        tx.commit().await.expect("commits");
    }
    for maker in [ann, zoe] {
        let by = SellerScope::by_membership(scope.seller(), maker);
        let (key, next) = (Key::new(), Key::new());
        let mut tx = db.begin_change(by).await.expect("begins");
        let reason = Some("for ann@x.example");
        tx.end_live_key("expired", reason, T).await.expect("ends");
        let (digest, hint) = (key.digest(), key.secret.hint());
        let actor = by.actor();
        let made = tx.insert_live_key(key.id, digest, hint, &actor, T);
        made.await.expect("is the only one");
        if maker == ann {
            let (digest, hint) = (next.digest(), next.secret.hint());
            let made = tx.insert_staged_key(next.id, digest, hint, &actor, T);
            made.await.expect("is the only one");
        }
        seal(&mut tx).await;
        tx.commit().await.expect("commits");
    }
    let (naming, others) = entries(scope, ann, zoe);
    append(db, &naming).await;
    append(db, &others).await;
    (ann, zoe)
}

async fn contract_erase(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (ann, zoe) = furnish(db, scope, other).await;
    let person = person(Some(ann), "ann@x.example");
    let known = db.audit_naming(&person).await.expect("answers");
    // One that comes while the log is read is found all the same.
    let late = AuditEntry::of_person(ann, HERE, after(5), Act::SessionEnded);
    append(db, std::slice::from_ref(&late)).await;

    let mut tx = db.begin_erasure(&person).await.expect("begins");
    assert!(tx.is_there().await.expect("answers"));
    let belongs = |scope: SellerScope, slug: &str, role, other_owners| Belongs {
        seller_id: scope.seller(),
        slug: slug.into(),
        role,
        other_owners,
    };
    assert_eq!(
        tx.belongs_to().await.expect("answers"),
        [
            belongs(scope, "lone-star", Role::Owner, 1),
            belongs(other, "other", Role::Viewer, 0)
        ]
    );
    let entry = AuditEntry::of_operator(after(9), Act::MemberErased).about(ann);
    tx.append_audit(&entry).await.expect("appends");
    assert_eq!(tx.leave(scope.seller()).await.expect("leaves"), [""; 0]);
    let uninvited = tx.leave(other.seller()).await.expect("leaves");
    assert_eq!(uninvited, ["guest@x.example"]);
    let rows = tx.erase(&known, after(5)).await.expect("erases");
    assert_eq!(
        rows,
        ErasedRows {
            sessions: 1,
            links: 1,
            mails: 1,
            entries: 9
        }
    );
    tx.commit().await.expect("commits");

    assert!(db.user(ann).await.expect("answers").is_none());
    assert!(db.user(zoe).await.expect("answers").is_some());
    assert_eq!(db.memberships_of(ann).await.expect("answers"), []);
    assert_eq!(db.memberships_of(zoe).await.expect("answers").len(), 1);
    assert!(db.sessions_of(ann).await.expect("answers").is_empty());
    assert_eq!(db.sessions_of(zoe).await.expect("answers").len(), 1);
    let left = db.invitations(other, T).await.expect("answers");
    let left: BTreeSet<_> = left.into_iter().map(|link| link.email).collect();
    let expected = ["guest@x.example", "zoe@x.example"].map(str::to_owned);
    assert_eq!(left, expected.into());
    let mails = db.mails_due(after(100), 10).await.expect("answers");
    let to: Vec<_> = mails.iter().map(|mail| mail.recipient.as_str()).collect();
    assert_eq!(mails.len(), 3, "{to:?}");
    let words = person.pseudonym.words();
    let told = mails
        .iter()
        .find(|mail| mail.body.contains("joann@x.example"))
        .expect("the mail to somebody else is sent");
    assert_eq!(told.recipient, "boss@x.example");
    assert_eq!(told.subject, format!("By {words}"));
    assert_eq!(
        told.body,
        format!("It was {words}.\nNot joann@x.example.\nSaid: {words}, Joann (at) x. example."),
        "another's address is theirs"
    );
    let keys = db.keys_of_seller(scope, 10).await.expect("answers");
    let by = |user: &dyn std::fmt::Display| format!("user:{user}");
    let makers: Vec<_> = keys.iter().map(|key| key.made_by.clone()).collect();
    assert_eq!(makers, [by(&zoe), by(&person.pseudonym)]);
    let reason = keys[1].end_reason.as_deref();
    assert_eq!(reason, Some(&*format!("for {}", person.pseudonym)));
    let staged = db.staged_key(scope).await.expect("answers");
    assert_eq!(staged.expect("is there").made_by, by(&person.pseudonym));

    // The log: every entry, with the same pseudonym wherever she was, and the others word for word.
    let log = db.oldest_audit(scope, None, 100).await.expect("answers");
    let (_, others) = entries(scope, ann, zoe);
    for entry in &log {
        let said = format!("{entry:?}");
        assert!(!said.contains(&ann.to_text()), "{said}");
        let others = ["joann@x.example", "ann@x.example.org"];
        let mine = others
            .iter()
            .fold(said.clone(), |said, other| said.replace(other, ""));
        assert!(!mine.contains("ann@x"), "{said}");
    }
    let pseudonym = person.pseudonym.as_str();
    let named = log
        .iter()
        .filter(|entry| format!("{entry:?}").contains(pseudonym));
    assert_eq!(named.count(), 9);
    for entry in log.iter().filter(|entry| entry.actor == by(&pseudonym)) {
        assert_eq!(entry.address, None, "from where she acted is gone");
    }
    let details: BTreeSet<_> = log.iter().map(|entry| entry.detail.clone()).collect();
    for other in &others {
        assert!(details.contains(&other.detail.to_string()), "{details:#?}");
    }
    let uninvited = json!({"uninvited": ["joann@x.example", pseudonym]});
    assert!(details.contains(&uninvited.to_string()), "{details:#?}");
    let reason = json!({"reason": format!("asked for by {pseudonym}.")});
    assert!(details.contains(&reason.to_string()), "{details:#?}");

    // Again: there is nobody.
    let mut tx = db.begin_erasure(&person).await.expect("begins");
    assert!(!tx.is_there().await.expect("answers"));
    assert_eq!(tx.belongs_to().await.expect("answers"), []);
    let nothing = tx.erase(&[], after(5)).await.expect("erases");
    assert_eq!(nothing, ErasedRows::default());
    // What a dealer says of itself stays and is told.
    let shown = db.sellers_showing(&person.email).await.expect("answers");
    assert_eq!(shown, [""; 0]);
    drop(tx);
    let mut tx = db.begin_write(scope).await.expect("begins");
    let change = DealerChange {
        email: Some(Some("Ann@X.example".into())),
        ..DealerChange::default()
    };
    tx.update_dealer(&change, T).await.expect("changes");
    tx.commit().await.expect("commits");
    let shown = db.sellers_showing(&person.email).await.expect("answers");
    assert_eq!(shown, ["lone-star"]);
}

async fn contract_dropped_erasure(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (ann, _) = furnish(db, scope, other).await;
    let person = person(Some(ann), "ann@x.example");
    let known = db.audit_naming(&person).await.expect("answers");
    let before = db.oldest_audit(scope, None, 100).await.expect("answers");
    let mut tx = db.begin_erasure(&person).await.expect("begins");
    for scope in [scope, other] {
        tx.leave(scope.seller()).await.expect("leaves");
    }
    tx.erase(&known, T).await.expect("erases");
    drop(tx);
    assert!(db.user(ann).await.expect("answers").is_some());
    let after = db.oldest_audit(scope, None, 100).await.expect("answers");
    assert_eq!(after, before);
}

async fn contract_erasure_waits(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let ann = member_of(db, "ann@x.example", &[(scope, Role::Owner)]).await;
    let by_ann = SellerScope::by_membership(scope.seller(), ann);
    let person = person(Some(ann), "ann@x.example");
    // A write of hers that has passed its fence: what it writes down is found, as it is there by then.
    let mut write = db.begin_write(by_ann).await.expect("begins");
    let mut erasing = beside(db, |db| async move {
        let mut tx = db.begin_erasure(&person).await?;
        tx.leave(scope.seller()).await?;
        let rows = tx.erase(&[], T).await?;
        tx.commit().await?;
        Ok::<_, DbError>(rows)
    });
    still_waits(&mut erasing, &mut write).await;
    let entry = AuditEntry::of(by_ann, T, Act::DealerChanged);
    write.append_audit(&entry).await.expect("appends");
    write.commit().await.expect("commits");
    let rows = ended(erasing).await.expect("erases");
    assert_eq!(rows.entries, 1);
    assert_fenced(db.begin_write(by_ann).await.map(drop));
}

// ---------------------------------------------------------------------------------------------------------------------
// What the database itself refuses while somebody is being erased: the statements go past the product.

/// While Ann is being erased: what else may not be written in her place, and who else may not be.
const REFUSED: [&str; 14] = [
    "UPDATE audit_log SET actor = 'user:ZOE' WHERE actor = 'user:ANN'",
    "UPDATE audit_log SET actor = 'user:erased-ffffffffffffffff' WHERE actor = 'user:ANN'",
    "UPDATE audit_log SET actor = 'operator' WHERE actor = 'user:ANN'",
    "UPDATE audit_log SET actor = 'user:erased-0123456789abcdef' WHERE actor = 'user:ZOE'",
    "UPDATE audit_log SET user_id = 'ZOE' WHERE user_id = 'ANN'",
    "UPDATE audit_log SET user_id = NULL WHERE user_id = 'ANN'",
    "UPDATE audit_log SET user_id = 'erased-0123456789abcdef' WHERE user_id = 'ZOE'",
    "UPDATE audit_log SET detail = '{}' WHERE actor = 'user:ANN'",
    "UPDATE audit_log SET detail = replace(detail, 'zoe@x.example', 'erased-0123456789abcdef')",
    "UPDATE audit_log SET actor = 'user:erased-0123456789abcdef', act = 'key.expired' WHERE actor = 'user:ANN'",
    "UPDATE audit_log SET actor = 'user:erased-0123456789abcdef', at_us = at_us - 1 WHERE actor = 'user:ANN'",
    "UPDATE audit_log SET actor = 'user:erased-0123456789abcdef', seller_id = 'x' WHERE actor = 'user:ANN'",
    "UPDATE audit_log SET actor = 'user:erased-0123456789abcdef', detail = '{}' WHERE actor = 'user:ANN'",
    "UPDATE audit_log SET actor = 'user:erased-0123456789abcdef', address = '192.0.2.9' WHERE actor = 'user:ANN'",
];
const ALLOWED: [&str; 3] = [
    "UPDATE audit_log SET actor = 'user:erased-0123456789abcdef', address = NULL WHERE actor = 'user:ANN'",
    "UPDATE audit_log SET user_id = 'erased-0123456789abcdef' WHERE user_id = 'ANN'",
    "UPDATE audit_log SET detail = replace(detail, 'ann@x.example', 'erased-0123456789abcdef') \
     WHERE replace(detail, 'ann@x.example', '') <> detail",
];
const BEGIN: &str = "INSERT INTO erasing (pseudonym, user_id, email, email_json) \
     VALUES ('erased-0123456789abcdef', 'ANN', 'ann@x.example', '\"ann@x.example\"')";
const END: &str = "DELETE FROM erasing";

macro_rules! assert_narrow {
    ($own:expr, $ann:expr, $zoe:expr) => {
        let says = |sql: &str| sql.replace("ANN", &$ann.to_text()).replace("ZOE", &$zoe.to_text());
        macro_rules! run {
            ($sql:expr) => {
                sqlx::query(AssertSqlSafe(says($sql))).execute($own).await
            };
        }
        macro_rules! refuses {
            ($sql:expr, $when:expr) => {
                match run!($sql) {
                    Ok(done) => panic!("{} was done {}: {}", $sql, $when, done.rows_affected()),
                    Err(error) => assert!(error.to_string().contains("append-only"), "{}: {error}", $sql),
                }
            };
        }
        for sql in REFUSED.iter().chain(&ALLOWED) {
            refuses!(sql, "without an erasure");
        }
        run!(BEGIN).expect("begins");
        for sql in REFUSED {
            refuses!(sql, "beside an erasure");
        }
        for sql in ALLOWED {
            let done = run!(sql).expect("is what an erasure does");
            assert!(done.rows_affected() > 0, "{sql}");
        }
        // Back again is none of it.
        refuses!(
            "UPDATE audit_log SET actor = 'user:ANN' WHERE actor LIKE 'user:erased-%'",
            "during an erasure"
        );
        run!(END).expect("ends");
        refuses!(
            "UPDATE audit_log SET actor = 'user:ANN' WHERE actor LIKE 'user:erased-%'",
            "after it"
        );
        // Anything but a pseudonym is none.
        let bad = "INSERT INTO erasing (pseudonym, user_id, email, email_json) VALUES ('operator', 'ANN', 'a', '\"a\"')";
        assert!(run!(bad).is_err());
    };
}

async fn some_entries(db: &Db) -> (UserId, UserId) {
    let (scope, _) = two_sellers(db).await;
    let ann = member_of(db, "ann@x.example", &[]).await;
    let zoe = member_of(db, "zoe@x.example", &[]).await;
    let (naming, others) = entries(scope, ann, zoe);
    append(db, &naming).await;
    append(db, &others).await;
    let invited = AuditEntry::of(scope, T, Act::MemberInvited);
    append(db, &[invited.with(json!({"email": "zoe@x.example"}))]).await;
    (ann, zoe)
}

#[tokio::test]
async fn sqlite_itself_lets_an_erasure_pass_and_nothing_else() {
    let folder = folder();
    let file = folder.path().join("t.db");
    let db = Db::open(&DbUrl::Sqlite(file.clone())).await.expect("opens");
    let (ann, zoe) = some_entries(&db).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
    let own = SqliteConnection::connect_with(&options).await;
    let mut own = own.expect("opens");
    assert_narrow!(&mut own, ann, zoe);
    own.close().await.expect("closes");
    db.close().await;
}

#[tokio::test]
async fn postgresql_itself_lets_an_erasure_pass_and_nothing_else() {
    let database = postgres::Database::create().await;
    let db = Db::open(&DbUrl::Postgres(database.url()))
        .await
        .expect("opens");
    let (ann, zoe) = some_entries(&db).await;
    let mut own = PgConnection::connect(&database.url()).await.expect("opens");
    assert_narrow!(&mut own, ann, zoe);
    own.close().await.expect("closes");
    db.close().await;
}
