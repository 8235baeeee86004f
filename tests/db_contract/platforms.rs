//! The contracts of accounts and grants: what nodes are told of them, and what the fence finds.
//!
//! Never: a grant that one engine's fence lets through and the other's does not.

use std::{net::IpAddr, sync::Arc};

use truckradar::{
    accounts::{AccountStatus, Role},
    audit::ActKind,
    clock::Clock,
    db::{Fenced, NewDealer},
    keys::networks::Networks,
    operator::{self, Command},
    services::{Services, Settings},
};

use super::{people::user, *};

contracts! {
    accounts_of_both_kinds_share_their_slugs: contract_accounts;
    a_grant_is_given_withdrawn_and_given_again: contract_grants;
    nodes_are_told_of_grants_and_of_what_becomes_of_accounts: contract_told;
    the_fence_finds_why_a_platform_may_not_write: contract_platform_fence;
    an_account_that_may_not_act_is_fenced: contract_account_fence;
    a_founded_seller_is_granted_to_its_platform: contract_found;
    the_listings_of_a_closed_seller_are_ended: contract_expire_listings;
    an_entry_is_seen_by_who_it_is_shown_to: contract_show_audit;
}

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

async fn platform(db: &Db, name: &str) -> SellerScope {
    let platform = NewSeller {
        kind: AccountKind::Platform,
        plan: Plan::Enterprise,
        ..new_seller(name)
    };
    let mut tx = db.begin().await.expect("begins");
    tx.insert_seller(&platform, T).await.expect("is new");
    tx.commit().await.expect("commits");
    OperatorAuthority::assume().scope(platform.id)
}

/// Does something to a Seller and commits it as a change of keys; its epoch and what it does to a table.
async fn changed(
    db: &Db,
    scope: SellerScope,
    act: impl AsyncFnOnce(&mut ScopedTx) -> Result<(), DbError>,
) -> (i64, TableChange) {
    let mut tx = db.begin_change(scope).await.expect("begins");
    act(&mut tx).await.expect("is done");
    let epoch = tx.seal().await.expect("seals");
    let told = tx.sealed_changes(epoch).await.expect("answers");
    tx.commit().await.expect("commits");
    (epoch, told)
}

async fn give(db: &Db, seller: SellerScope, platform: SellerScope) -> i64 {
    let to = platform.seller();
    changed(db, seller, async |tx| tx.put_grant(to, "user:x", T).await)
        .await
        .0
}

async fn take(db: &Db, seller: SellerScope, platform: Option<SellerScope>) -> u64 {
    let from = platform.map(|platform| platform.seller());
    let mut tx = db.begin_change(seller).await.expect("begins");
    let taken = tx.withdraw_grants(from, after(9)).await.expect("is done");
    tx.seal().await.expect("seals");
    tx.commit().await.expect("commits");
    taken
}

async fn contract_accounts(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let hub = platform(db, "feedhub").await;
    let found = async |name: &str| db.account_by_slug(&slug(name)).await.expect("answers");
    let row = found("feedhub").await.expect("is there");
    assert_eq!(
        (row.id, row.kind, row.status, row.plan),
        (
            hub.seller(),
            AccountKind::Platform,
            AccountStatus::Active,
            Plan::Enterprise
        )
    );
    assert_eq!(
        (row.status_reason, row.key_networks, row.created_by),
        (None, None, None)
    );
    let row = found("lone-star").await.expect("is there");
    assert_eq!((row.id, row.kind), (scope.seller(), AccountKind::Seller));
    assert!(found("nobody").await.is_none());
    // As a Seller nobody finds a Platform.
    let seller = db.seller_by_slug(&slug("feedhub")).await.expect("answers");
    assert!(seller.is_none());
    let taken = NewSeller {
        slug: slug("feedhub"),
        ..new_seller("other-name")
    };
    let mut tx = db.begin().await.expect("begins");
    let twice = tx.insert_seller(&taken, T).await;
    assert!(matches!(twice, Err(DbError::Unique)), "{twice:?}");
    drop(tx);
    let listed = async |kind, after: &str, limit| {
        let rows = db.accounts_after(kind, after, limit).await;
        let rows = rows.expect("answers").into_iter();
        rows.map(|row| row.slug).collect::<Vec<_>>()
    };
    assert_eq!(listed(AccountKind::Platform, "", 9).await, ["feedhub"]);
    assert_eq!(
        listed(AccountKind::Seller, "", 9).await,
        ["lone-star", "other"]
    );
    assert_eq!(listed(AccountKind::Seller, "lone-star", 9).await, ["other"]);
    assert_eq!(listed(AccountKind::Seller, "", 1).await, ["lone-star"]);
}

/// The names of these Platforms.
async fn names_of(db: &Db, platforms: &[SellerScope]) -> Vec<String> {
    let mut names = Vec::new();
    for platform in platforms {
        let found = db.seller_names(platform.seller()).await.expect("answers");
        names.push(found.expect("a Platform").1);
    }
    names
}

async fn contract_grants(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (hub, poor) = (platform(db, "feedhub").await, platform(db, "poor").await);
    changed(db, poor, async |tx| tx.set_plan(Plan::Pro).await).await;
    let open = db.open_platforms(9).await.expect("answers");
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].id, &*open[0].slug), (hub.seller(), "feedhub"));
    let given = async |scope| {
        let rows = db.grants_given(scope).await.expect("answers").into_iter();
        rows.map(|row| (row.platform_id, row.made_by))
            .collect::<Vec<_>>()
    };
    let state = async |to: SellerId| {
        let mut tx = db.begin_change(scope).await.expect("begins");
        let grantee = tx.grantee(to).await.expect("answers");
        grantee.map(|grantee| grantee.state)
    };
    assert_eq!(given(scope).await, []);
    assert_eq!(state(hub.seller()).await, Some(None));
    assert_eq!(state(other.seller()).await, None, "a Seller is no Platform");
    let first = give(db, scope, hub).await;
    assert!(give(db, scope, poor).await > first);
    give(db, other, hub).await;
    let by = |platform: SellerScope| (platform.seller(), "user:x".to_owned());
    assert_eq!(given(scope).await, [by(hub), by(poor)]);
    let mut tx = db.begin_change(scope).await.expect("begins");
    let granted = tx.platforms_granted().await.expect("answers");
    drop(tx);
    let granted: Vec<_> = granted.iter().map(|row| (row.id, &*row.slug)).collect();
    assert_eq!(
        granted,
        [(hub.seller(), "feedhub"), (poor.seller(), "poor")]
    );
    let names = async |seller| db.names_of_platforms(seller).await.expect("answers");
    assert_eq!(names(scope.seller()).await.len(), 2);
    assert_eq!(names(other.seller()).await, names_of(db, &[hub]).await);
    assert_eq!(state(hub.seller()).await, Some(Some("live".into())));
    let held = async |after: &str, limit| {
        let rows = db.grants_held(hub, after, limit).await.expect("answers");
        rows.into_iter()
            .map(|row| (row.slug, row.owners))
            .collect::<Vec<_>>()
    };
    let all = [("lone-star".to_owned(), 0), ("other".to_owned(), 0)];
    assert_eq!(held("", 9).await, all);
    assert_eq!(held("lone-star", 9).await, all[1..]);
    assert_eq!(held("", 1).await, all[..1]);
    assert_eq!(db.count_grants_held(hub).await.expect("answers"), 2);

    assert_eq!(take(db, scope, Some(hub)).await, 1);
    assert_eq!(take(db, scope, Some(hub)).await, 0, "only once");
    assert_eq!(state(hub.seller()).await, Some(Some("withdrawn".into())));
    assert_eq!(given(scope).await, [by(poor)]);
    assert_eq!(names(scope.seller()).await, names_of(db, &[poor]).await);
    assert_eq!(given(other).await, [by(hub)]);
    assert_eq!(held("", 9).await, all[1..]);
    give(db, scope, hub).await;
    assert_eq!(db.count_grants_held(hub).await.expect("answers"), 2);
    assert_eq!(take(db, scope, None).await, 2, "all of one Seller");
    assert_eq!(db.count_grants_held(hub).await.expect("answers"), 1);
}

async fn contract_told(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let hub = platform(db, "feedhub").await;
    let (key, _) = rotate(db, hub, T).await;
    let (own, _) = rotate(db, scope, T).await;
    let names = [
        GrantName::by_id(hub.seller(), scope.seller()),
        GrantName::by_slug(hub.seller(), "lone-star"),
    ];
    let record = |change: &TableChange, key: &Key| {
        let found = change
            .put
            .iter()
            .find(|(digest, _)| *digest == key.digest());
        found.map(|(_, record)| *record)
    };
    let grants = |change: &TableChange| {
        let mut told = Vec::new();
        for name in &names {
            let found = change.grants.iter().filter(|(own, _)| own == name);
            told.extend(found.map(|(_, grant)| (grant.live, grant.seller_inactive)));
        }
        assert_eq!(told.len(), change.grants.len());
        told
    };
    // What a change does to a table, what a node reads that has missed it, and what one reads that begins.
    let told = async |(epoch, sealed): (i64, TableChange)| {
        let delta = db.key_changes(epoch - 1).await.expect("answers");
        assert_eq!(delta.epoch, epoch);
        if !db.is_shared() {
            assert_eq!(sealed.put, delta.change.put);
            assert_eq!(sealed.grants, delta.change.grants);
            assert_eq!(sealed.networks, delta.change.networks);
        }
        delta.change
    };
    let to = hub.seller();
    let change =
        told(changed(db, scope, async |tx| tx.put_grant(to, "user:x", T).await).await).await;
    assert_eq!(grants(&change), [(true, false); 2]);
    assert!(change.put.is_empty());
    let (all, _) = db.key_table().await.expect("answers");
    assert_eq!(grants(&all), [(true, false); 2]);
    let platform = record(&all, &key).expect("is there");
    assert_eq!(
        platform.holder,
        table::Holder::Platform { enterprise: true }
    );
    assert_eq!(
        record(&all, &own).expect("is there").holder,
        table::Holder::Seller
    );

    let asleep = AccountStatus::Suspended;
    let suspend = changed(db, scope, async |tx| {
        tx.set_status(asleep, Some("unpaid")).await
    });
    let change = told(suspend.await).await;
    assert_eq!(grants(&change), [(true, true); 2]);
    let of_seller = record(&change, &own).expect("its key is told of");
    assert!(of_seller.inactive && of_seller.standing == Standing::Live);
    let row = db.seller(scope).await.expect("answers").expect("is there");
    assert_eq!(
        (row.status, row.status_reason.as_deref()),
        (asleep, Some("unpaid"))
    );
    let wake = changed(db, scope, async |tx| {
        tx.set_status(AccountStatus::Active, None).await
    });
    let change = told(wake.await).await;
    assert!(!record(&change, &own).expect("is told of").inactive);
    assert_eq!(grants(&change), [(true, false); 2]);

    let poorer = changed(db, hub, async |tx| tx.set_plan(Plan::Pro).await);
    let change = told(poorer.await).await;
    let platform = record(&change, &key).expect("is told of");
    assert_eq!(
        platform.holder,
        table::Holder::Platform { enterprise: false }
    );

    let list: Networks = "192.0.2.0/24 2001:db8::/48".parse().expect("a list");
    let fence = changed(db, scope, async |tx| tx.set_networks(Some(&list)).await);
    let change = told(fence.await).await;
    assert!(record(&change, &own).expect("is told of").fenced_in);
    assert_eq!(change.networks, [(scope.seller(), list.clone())]);
    let (all, _) = db.key_table().await.expect("answers");
    assert_eq!(all.networks, [(scope.seller(), list.clone())]);
    let asked = db
        .ask_about_key(own.digest(), Named::Nobody)
        .await
        .expect("answers");
    assert_eq!(asked.networks, Some(list));
    let open = changed(db, scope, async |tx| tx.set_networks(None).await);
    let change = told(open.await).await;
    assert!(!record(&change, &own).expect("is told of").fenced_in);
    assert!(change.networks.is_empty());

    // One request, judged by the database.
    let ask = async |named: Named<'_>| {
        let asked = db
            .ask_about_key(key.digest(), named)
            .await
            .expect("answers");
        assert_eq!(asked.record.map(|record| record.key), Some(key.id));
        assert_eq!(asked.epoch, db.key_epoch().await.expect("answers"));
        asked.grant.map(|grant| (grant.seller, grant.live))
    };
    let granted = Some((scope.seller(), true));
    assert_eq!(ask(Named::Slug("lone-star")).await, granted);
    assert_eq!(ask(Named::Id(scope.seller())).await, granted);
    assert_eq!(ask(Named::Slug("other")).await, None);
    assert_eq!(ask(Named::Id(other.seller())).await, None);
    assert_eq!(ask(Named::Nobody).await, None);
    assert_eq!(ask(Named::Unreadable).await, None);
    take(db, scope, Some(hub)).await;
    assert_eq!(
        ask(Named::Slug("lone-star")).await,
        Some((scope.seller(), false))
    );
    let epoch = db.key_epoch().await.expect("answers");
    let delta = db.key_changes(epoch - 1).await.expect("answers");
    assert_eq!(grants(&delta.change), [(false, false); 2]);
    let (all, _) = db.key_table().await.expect("answers");
    assert!(
        all.grants.is_empty(),
        "what is withdrawn is as what never was"
    );
}

/// Why a write by this scope is fenced; `None` if it is not.
async fn fence(db: &Db, scope: SellerScope) -> Option<Fenced> {
    why_not(db.begin_write(scope).await)
}

/// The same for a write to a Platform's own rows.
async fn fence_own(db: &Db, scope: SellerScope) -> Option<Fenced> {
    why_not(begin_own(db, scope).await)
}

async fn begin_own(db: &Db, scope: SellerScope) -> Result<ScopedTx, DbError> {
    let place = db.place_to_write().await.expect("there is a place");
    db.begin_platform_write(place, scope).await
}

fn why_not(begun: Result<ScopedTx, DbError>) -> Option<Fenced> {
    match begun {
        Ok(_) => None,
        Err(DbError::Fenced(why)) => Some(why),
        Err(other) => panic!("{other}"),
    }
}

async fn contract_platform_fence(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let hub = platform(db, "feedhub").await;
    let (key, _) = rotate(db, hub, T).await;
    give(db, scope, hub).await;
    let by = key.platform_scope(hub.seller(), scope.seller());
    let by_other = key.platform_scope(hub.seller(), other.seller());
    assert_eq!(fence(db, by).await, None);
    assert_eq!(
        fence(db, by_other).await,
        Some(Fenced::Grant),
        "never given"
    );
    // A Platform's own rows are none of a Seller's.
    let own = key.scope(hub.seller());
    assert_eq!(fence(db, own).await, Some(Fenced::Kind));
    assert_eq!(fence_own(db, own).await, None);

    changed(db, hub, async |tx| tx.set_plan(Plan::Starter).await).await;
    assert_eq!(fence(db, by).await, Some(Fenced::Plan));
    assert_eq!(fence_own(db, own).await, Some(Fenced::Plan));
    changed(db, hub, async |tx| tx.set_plan(Plan::Enterprise).await).await;
    let asleep = AccountStatus::Suspended;
    changed(db, scope, async |tx| tx.set_status(asleep, None).await).await;
    assert_eq!(fence(db, by).await, Some(Fenced::SellerInactive));
    changed(db, scope, async |tx| {
        tx.set_status(AccountStatus::Active, None).await
    })
    .await;
    changed(db, hub, async |tx| tx.set_status(asleep, None).await).await;
    assert_eq!(fence(db, by).await, Some(Fenced::Inactive));
    assert_eq!(fence_own(db, own).await, Some(Fenced::Inactive));
    changed(db, hub, async |tx| {
        tx.set_status(AccountStatus::Active, None).await
    })
    .await;
    assert_eq!(fence(db, by).await, None);
    take(db, scope, Some(hub)).await;
    assert_eq!(fence(db, by).await, Some(Fenced::Grant));
    give(db, scope, hub).await;
    rotate(db, hub, after(1)).await;
    assert_eq!(fence(db, by).await, Some(Fenced::Key));
}

async fn contract_account_fence(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let by_key = key.scope(scope.seller());
    assert_eq!(fence(db, by_key).await, None);
    let list: Networks = "192.0.2.0/24".parse().expect("a list");
    changed(db, scope, async |tx| tx.set_networks(Some(&list)).await).await;
    assert_eq!(
        fence(db, by_key).await,
        Some(Fenced::Elsewhere),
        "from nowhere"
    );
    assert_eq!(fence(db, by_key.from_address(HERE)).await, None);
    let elsewhere = IpAddr::from([198, 51, 100, 1]);
    let from = by_key.from_address(elsewhere);
    assert_eq!(fence(db, from).await, Some(Fenced::Elsewhere));
    let asleep = AccountStatus::Suspended;
    changed(db, scope, async |tx| tx.set_status(asleep, None).await).await;
    let from = by_key.from_address(HERE);
    assert_eq!(fence(db, from).await, Some(Fenced::Inactive));
    // The operator may act on it, or nobody could resume it.
    assert_eq!(fence(db, scope).await, None);
    let mut tx = db.begin_change(scope).await.expect("begins");
    let account = tx.account().await.expect("answers").expect("is there");
    assert_eq!(account.status, asleep);
}

async fn contract_found(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let hub = platform(db, "feedhub").await;
    let (key, _) = rotate(db, hub, T).await;
    let own = key.scope(hub.seller());
    let dealer = NewDealer {
        slug: slug("founded"),
        name: "Founded".into(),
        change: DealerChange::default(),
        locations: Vec::new(),
    };
    let new = NewSeller {
        slug: dealer.slug.clone(),
        name: dealer.name.clone(),
        ..new_seller("founded")
    };
    let mut tx = begin_own(db, own).await.expect("begins");
    assert!(!tx.is_granted_by(&slug("founded")).await.expect("answers"));
    tx.found_seller(&new, T).await.expect("is new");
    let founded = tx.scope();
    assert_eq!(founded.seller(), new.id);
    tx.update_dealer(&dealer.change, T).await.expect("changes");
    tx.seal().await.expect("seals");
    tx.commit().await.expect("commits");
    let row = db
        .seller(founded)
        .await
        .expect("answers")
        .expect("is there");
    assert_eq!(row.created_by, Some(hub.seller()));
    assert_eq!(fence(db, founded).await, None, "it may act for it");
    // Unclaimed until somebody of theirs owns it; whom it was granted by others does not count.
    give(db, scope, hub).await;
    let unclaimed = async || {
        let mut tx = begin_own(db, own).await.expect("begins");
        tx.count_unclaimed().await.expect("counts")
    };
    assert_eq!(unclaimed().await, 1);
    for (address, role, left) in [
        ("ann@founded.example", Role::Admin, 1),
        ("bo@founded.example", Role::Owner, 0),
    ] {
        let person = user(db, address).await;
        let mut tx = db.begin().await.expect("begins");
        tx.insert_membership(person, founded.seller(), role, T)
            .await
            .expect("is new");
        tx.commit().await.expect("commits");
        assert_eq!(unclaimed().await, left, "{address}");
    }
    let mut tx = begin_own(db, own).await.expect("begins");
    assert!(tx.is_granted_by(&slug("founded")).await.expect("answers"));
    let again = NewSeller {
        id: SellerId::new(),
        ..new
    };
    let twice = tx.found_seller(&again, T).await;
    assert!(matches!(twice, Err(DbError::Unique)), "{twice:?}");
    drop(tx);
    // Only a Platform's own key founds.
    let mut tx = db.begin_write(scope).await.expect("begins");
    let by_operator = tx.found_seller(&new_seller("third"), T).await;
    assert!(matches!(by_operator, Err(DbError::Fenced(Fenced::Kind))));
}

async fn contract_expire_listings(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let mut sold = listing(scope, vin(2), "{}");
    sold.status = ListingStatus::Sold;
    upsert(db, scope, &[listing(scope, vin(1), "{}"), sold])
        .await
        .expect("stored");
    upsert(db, other, &[listing(other, vin(3), "{}")])
        .await
        .expect("stored");
    let mut tx = db.begin_change(scope).await.expect("begins");
    assert_eq!(tx.expire_listings(after(5)).await.expect("ends"), 1);
    tx.commit().await.expect("commits");
    let counts = db.count_listings(scope).await.expect("answers");
    assert_eq!((counts.active, counts.sold, counts.expired), (0, 1, 1));
    assert_eq!(db.count_listings(other).await.expect("answers").active, 1);
}

async fn contract_show_audit(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let hub = platform(db, "feedhub").await;
    let (key, _) = rotate(db, hub, T).await;
    give(db, scope, hub).await;
    let by = key.platform_scope(hub.seller(), scope.seller());
    let entry = AuditEntry::of(by, T, Act::DealerChanged);
    let mut tx = db.begin_write(by).await.expect("begins");
    tx.append_audit(&entry).await.expect("is written");
    tx.commit().await.expect("commits");
    let shown = AuditEntry::of(scope, after(1), Act::DealerChanged);
    let mut tx = db.begin_write(scope).await.expect("begins");
    tx.append_audit(&shown).await.expect("is written");
    tx.show_audit_to(shown.id, other.seller())
        .await
        .expect("is shown");
    tx.commit().await.expect("commits");
    let seen = async |scope| {
        let rows = db.newest_audit(scope, None::<ActKind>, None, 9).await;
        let rows = rows.expect("answers").into_iter();
        rows.map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(seen(scope).await, [shown.id, entry.id]);
    assert_eq!(seen(other).await, [shown.id]);
    assert_eq!(seen(hub).await, [entry.id]);

    // Of what somebody of the Seller did, the other account is told that, and neither who nor from where.
    let ann = user(db, "ann@lone.example").await;
    let given = AuditEntry::of_person(ann, HERE, after(2), Act::PlatformGranted);
    let given = given.on_seller(scope.seller()).also_for(hub.seller());
    let mut tx = db.begin_write(scope).await.expect("begins");
    tx.append_audit(&given).await.expect("is written");
    tx.commit().await.expect("commits");
    let newest = async |scope| {
        let rows = db.newest_audit(scope, None::<ActKind>, None, 1).await;
        let row = rows.expect("answers").pop().expect("an entry");
        assert_eq!(row.id, given.id);
        assert_eq!(row.seller_slug.as_deref(), Some("lone-star"));
        (
            row.actor,
            row.actor_email,
            row.address,
            row.user_id,
            row.user_email,
        )
    };
    let (id, email) = (Some(ann.to_string()), Some("ann@lone.example".to_owned()));
    let (by, from) = (format!("user:{ann}"), Some(HERE.to_string()));
    assert_eq!(newest(scope).await, (by, email.clone(), from, id, email));
    let by = format!("seller:{}", scope.seller());
    assert_eq!(newest(hub).await, (by, None, None, None, None));
}

/// On one file changes of keys come one after another. What a Platform founds waits among the writes, before its turn comes, and
/// not in it: a leaked key that founds Sellers by the hundred does not keep anybody from killing it.
#[tokio::test(flavor = "multi_thread")]
async fn a_founding_that_waits_for_its_place_holds_up_no_change_of_a_key() {
    on_sqlite(async |db| {
        let (scope, _) = two_sellers(db).await;
        let hub = platform(db, "feedhub").await;
        rotate(db, scope, T).await;
        let (key, _) = rotate(db, hub, T).await;
        let own = key.scope(hub.seller());
        let (clock, settings) = (Clock::system(), Settings::default());
        let services = Services::start(db.clone(), clock, settings, None);
        let services = services.await.expect("starts");

        let place = db.place_to_write().await.expect("there is a place");
        let dealer = NewDealer {
            slug: slug("founded"),
            name: "Founded".into(),
            change: DealerChange::default(),
            locations: Vec::new(),
        };
        let keys = Arc::clone(&services.keys);
        let founding = beside(db, async move |_| keys.found_seller(own, dealer).await);
        let mut founding = std::pin::pin!(founding);
        let waits = tokio::time::timeout(Duration::from_millis(200), &mut founding);
        assert!(waits.await.is_err(), "there is one place, and it is taken");
        let expire = Command::KeyExpire {
            seller: slug("lone-star"),
            reason: "leaked".into(),
        };
        let expired = operator::perform(&services, expire).await;
        assert!(expired.is_ok(), "{expired:?}");
        assert!(!founding.is_finished(), "it waits still");
        drop(place);
        let founded = founding.await.expect("does not panic");
        assert!(founded.is_ok(), "{:?}", founded.err());
    })
    .await;
}
