//! The contracts of a person's key ring: for every Seller of theirs what the methods for one Seller say, and for no other.
//!
//! Never: an answer of the ring's that is not held against that of the Seller itself.

use truckradar::{
    accounts::{AccountStatus, Role},
    db::{RefusedClient, RingRow},
    ids::UserId,
};

use super::*;

contracts! {
    a_key_ring_holds_ones_own_sellers_by_name_and_how_their_keys_stand: contract_key_ring;
    the_clients_of_a_key_ring_are_those_of_each_seller: contract_key_ring_refused;
}

/// A User who is a member of these.
async fn member_of(db: &Db, address: &str, sellers: &[(SellerScope, Role)]) -> UserId {
    let id = UserId::new();
    let email = address.parse().expect("an address");
    let mut tx = db.begin().await.expect("begins");
    let made = tx.insert_user(id, &email, "a hash", T).await;
    made.expect("is new");
    for (scope, role) in sellers {
        let joined = tx.insert_membership(id, scope.seller(), *role, T);
        joined.await.expect("is new");
    }
    tx.commit().await.expect("commits");
    id
}

async fn stage(db: &Db, scope: SellerScope, at: Time) -> Key {
    let key = Key::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    let (digest, hint) = (key.digest(), key.secret.hint());
    let staged = tx.insert_staged_key(key.id, digest, hint, "operator", at);
    staged.await.expect("is the only one");
    seal(&mut tx).await;
    tx.commit().await.expect("commits");
    key
}

fn at(row: UsageRow, seconds: i64) -> UsageRow {
    let at = after(seconds);
    UsageRow {
        minute: at.minute(),
        last_us: at.0,
        ..row
    }
}

async fn contract_key_ring(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let without = seller(db, "without").await;
    let roles = [(scope, Role::Admin), (without, Role::Viewer)];
    let ann = member_of(db, "ann@dms.example", &roles).await;
    let bob = member_of(db, "bob@dms.example", &[(other, Role::Owner)]).await;
    let nobody = member_of(db, "nobody@dms.example", &[]).await;
    let ring = async |user, since| db.key_ring(user, after(since)).await.expect("answers");
    let row = |scope: SellerScope, name: &str, role| RingRow {
        seller_id: scope.seller(),
        slug: name.to_owned(),
        name: format!("{name}, Inc."),
        status: AccountStatus::Active,
        role,
        key_version: 0,
        hint: None,
        created_us: None,
        live_us: None,
        shown_us: None,
        used_us: None,
        staged_hint: None,
        staged_us: None,
        staged_shown_us: None,
        died_us: None,
        expired_us: None,
        live_reported: 0,
        staged_reported: 0,
        accepted: 0,
        refused: 0,
    };
    let own = row(scope, "lone-star", Role::Admin);
    let empty = row(without, "without", Role::Viewer);
    assert_eq!(ring(ann, 0).await, [own.clone(), empty.clone()]);
    assert_eq!(ring(nobody, 0).await, []);

    let (old, _) = rotate(db, scope, after(10)).await;
    let (live, _) = rotate(db, scope, after(60)).await;
    let (theirs, _) = rotate(db, other, after(20)).await;
    let staged = stage(db, scope, after(70)).await;
    let many = |row: UsageRow, requests| UsageRow { requests, ..row };
    let use_of = |scope, key: &Key, client, class, seconds| {
        at(used(scope, key.id, 0, client, class), seconds)
    };
    db.add_usage(&[
        many(use_of(scope, &old, 1, "2xx", 30), 5),
        many(use_of(scope, &old, 1, "401", 130), 2),
        many(use_of(scope, &live, 2, "2xx", 140), 7),
        many(use_of(scope, &live, 2, "403", 150), 1),
        many(use_of(scope, &live, 2, "401", 160), 4),
        many(use_of(scope, &staged, 2, "staged", 170), 3),
        many(use_of(scope, &live, 2, "barred", 180), 6),
        many(use_of(other, &theirs, 1, "2xx", 140), 1_000),
    ])
    .await
    .expect("adds");
    let stands = RingRow {
        key_version: 3,
        hint: Some(live.secret.hint().to_string()),
        created_us: Some(after(60)),
        live_us: Some(after(60)),
        used_us: Some(after(150)),
        staged_hint: Some(staged.secret.hint().to_string()),
        staged_us: Some(after(70)),
        died_us: Some(after(60)),
        accepted: 13,
        refused: 9,
        ..own
    };
    assert_eq!(ring(ann, 0).await, [stands.clone(), empty.clone()]);
    let used = db.last_accepted(scope, live.id).await.expect("answers");
    assert_eq!(used, stands.used_us, "as the Seller's own page has it");
    let died = db.last_death(scope).await.expect("answers");
    assert_eq!(died, stands.died_us);
    let later = ring(ann, 120).await.remove(0);
    assert_eq!((later.accepted, later.refused), (8, 9), "to the minute");
    let theirs = ring(bob, 0).await;
    assert_eq!(theirs.len(), 1);
    assert_eq!((&*theirs[0].slug, theirs[0].accepted), ("other", 1_000));

    // What was shown, expired and discarded.
    let act = AuditEntry::of(scope, T, Act::KeyPrepared);
    for key in [live.id, staged.id] {
        let shown = db.complete_key_act(act.id, "{}", Some(key), after(80));
        shown.await.expect("is noted");
    }
    let shown = ring(ann, 0).await.remove(0);
    assert_eq!(shown.shown_us, Some(after(80)));
    assert_eq!(shown.staged_shown_us, Some(after(80)));
    let mut tx = db.begin_change(scope).await.expect("begins");
    let ended = tx.end_staging(StagedBecomes::Discarded, after(90)).await;
    assert!(ended.expect("ends").is_some());
    tx.commit().await.expect("commits");
    expire(db, scope, after(85)).await;
    let expired = ring(ann, 0).await.remove(0);
    assert_eq!((expired.hint, expired.staged_hint), (None, None));
    // What was discarded never lived, and so it did not die.
    let dead = (expired.died_us, expired.expired_us);
    assert_eq!(dead, (Some(after(85)), Some(after(85))));
}

async fn contract_key_ring_refused(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let third = seller(db, "third").await;
    let roles = [(scope, Role::Viewer), (third, Role::Owner)];
    let ann = member_of(db, "ann@dms.example", &roles).await;
    let mut rows = Vec::new();
    let mut olds = Vec::new();
    for (scope, clients) in [(scope, 1..=4), (other, 1..=3), (third, 2..=3)] {
        let (old, _) = rotate(db, scope, after(0)).await;
        let (live, _) = rotate(db, scope, after(60)).await;
        for client in clients {
            rows.push(at(used(scope, old.id, 0, client, "2xx"), 30));
            rows.push(at(used(scope, old.id, 0, client, "401"), 120 + client));
            if client == 2 {
                rows.push(at(used(scope, live.id, 0, client, "2xx"), 180));
                rows.push(at(used(scope, live.id, 0, client, "2xx"), 240));
            }
        }
        olds.push(old);
    }
    // Refused before it died: by the fence, and no dead key's.
    rows.push(at(used(scope, olds[0].id, 0, 9, "401"), 50));
    db.add_usage(&rows).await.expect("adds");
    for (since, limit) in [(0, 10), (0, 2), (122, 10), (124, 10), (500, 10)] {
        let mut expected: Vec<(SellerId, RefusedClient)> = Vec::new();
        for scope in [scope, third] {
            let clients = db.refused_clients(scope, after(since), limit).await;
            let clients = clients.expect("answers").into_iter();
            expected.extend(clients.map(|client| (scope.seller(), client)));
        }
        expected.sort_by_key(|(seller, _)| seller.to_text());
        let found = db.key_ring_refused(ann, after(since), limit).await;
        let found: Vec<_> = found
            .expect("answers")
            .into_iter()
            .map(|one| (one.seller_id, one.client))
            .collect();
        assert_eq!(found, expected, "since {since}, {limit} at most");
        let is_some = since < 124;
        assert_eq!(!found.is_empty(), is_some, "since {since}");
    }
}
