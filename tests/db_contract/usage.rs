//! The contracts of what is counted, and of what is written in bulk.
//!
//! Never: a use that is counted twice or lost in a batch.

use super::*;

contracts! {
    usage_adds_up: contract_usage;
    the_same_count_twice_in_one_batch_adds_up: contract_usage_repeated;
    use_is_told_apart_by_kind_and_slot: contract_usage_by_slot;
    old_usage_is_forgotten: contract_forget_usage;
    more_than_a_portion_of_old_usage_is_forgotten: contract_forget_much_usage;
    a_load_test_is_filled_in_bulk: contract_bulk;
}

async fn contract_usage(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (old, new) = (KeyId::new(), KeyId::new());
    let since = async |minute, limit| {
        let clients = db
            .clients_since(scope, OfKeys::All, T.minute() + minute, limit)
            .await;
        let clients = clients.expect("answers").into_iter();
        let shown = clients.map(|c| {
            (
                c.key_id,
                c.user_agent,
                c.accepted,
                c.unauthorized,
                c.last_us,
            )
        });
        shown.collect::<Vec<_>>()
    };
    db.add_usage(&[]).await.expect("nothing to do");
    assert_eq!(since(0, 10).await, []);

    // The ids of clients are hashes: any 64 bits.
    const BUSY: i64 = i64::MIN;
    const LATE: i64 = i64::MAX;
    let many = |row: UsageRow, requests| UsageRow { requests, ..row };
    db.add_usage(&[
        many(used(scope, old, 0, BUSY, "2xx"), 10),
        many(used(scope, old, 0, BUSY, "401"), 3),
        many(used(scope, old, 0, BUSY, "5xx"), 1),
        many(used(scope, new, 1, BUSY, "2xx"), 7),
        many(used(scope, old, 2, LATE, "401"), 2),
        many(used(other, old, 2, LATE, "2xx"), 1_000),
    ])
    .await
    .expect("adds");
    // The same again in another batch, with an earlier time that must not win, and a new class.
    let earlier = UsageRow {
        last_us: T.0 - 1,
        ..many(used(scope, old, 0, BUSY, "2xx"), 5)
    };
    let limited = many(used(scope, old, 1, BUSY, "429"), 4);
    db.add_usage(&[earlier, limited]).await.expect("adds");

    let shown = |key: KeyId, client: i64, accepted, unauthorized, last: i64| {
        let row = used(scope, key, 0, client, "");
        let last = T.0 + last;
        (key.to_text(), row.user_agent, accepted, unauthorized, last)
    };
    // Whatever is not 401 was let in: 10 + 5 + 1 + 4.
    let busy_old = shown(old, BUSY, 20, 3, 1);
    let busy_new = shown(new, BUSY, 7, 0, 1);
    let late = shown(old, LATE, 0, 2, 2);
    let everything = [busy_old.clone(), busy_new.clone(), late.clone()];
    assert_eq!(since(0, 10).await, everything, "the busiest first");
    assert_eq!(since(0, 2).await, everything[..2]);
    assert_eq!(
        since(1, 10).await,
        [busy_new, shown(old, BUSY, 4, 0, 1), late.clone()]
    );
    assert_eq!(since(2, 10).await, [late]);
    assert_eq!(since(3, 10).await, []);
    // However busy the others are, one key's clients are found.
    let of = async |keys, limit| {
        let clients = db.clients_since(scope, keys, T.minute(), limit).await;
        let clients = clients.expect("answers").into_iter();
        clients.map(|c| c.key_id).collect::<Vec<_>>()
    };
    assert_eq!(of(OfKeys::Only(new), 1).await, [new.to_text()]);
    assert_eq!(
        of(OfKeys::Only(old), 10).await,
        [old.to_text(), old.to_text()]
    );
    assert_eq!(of(OfKeys::But(old), 10).await, [new.to_text()]);
    assert_eq!(of(OfKeys::But(new), 1).await, [old.to_text()]);
    assert_eq!(of(OfKeys::Only(KeyId::new()), 10).await, [""; 0]);
    // A dead key's 401s are no use that was let in, and another Seller's use is not one's own.
    let last = async |scope, key| db.last_accepted(scope, key).await.expect("answers");
    assert_eq!(last(scope, old).await, Some(Time(T.0 + 1)));
    assert_eq!(last(scope, new).await, Some(Time(T.0 + 1)));
    assert_eq!(last(other, old).await, Some(Time(T.0 + 2)));
    assert_eq!(last(other, new).await, None);
    let theirs = db.clients_since(other, OfKeys::All, T.minute(), 10).await;
    let theirs = theirs.expect("answers");
    assert_eq!(theirs.len(), 1);
    assert_eq!(theirs[0].accepted, 1_000);
    assert_eq!(theirs[0].address, used(other, old, 0, LATE, "").address);
}

async fn contract_usage_repeated(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let key = KeyId::new();
    let mut later = used(scope, key, 0, 1, "2xx");
    later.last_us += 5;
    let one = used(scope, key, 0, 1, "2xx");
    db.add_usage(&[one.clone(), later.clone(), one])
        .await
        .expect("adds");
    let clients = db.clients_since(scope, OfKeys::All, T.minute(), 10).await;
    let clients = clients.expect("answers");
    assert_eq!(clients.len(), 1);
    assert_eq!(clients[0].accepted, 3);
    assert_eq!(clients[0].last_us, later.last_us);
}

async fn contract_usage_by_slot(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (old, new) = (KeyId::new(), KeyId::new());
    let many = |row: UsageRow, requests| UsageRow { requests, ..row };
    db.add_usage(&[
        many(used(scope, old, 0, 1, "2xx"), 10),
        many(used(scope, old, 1, 2, "3xx"), 1),
        many(used(scope, old, 1, 1, "401"), 3),
        many(used(scope, old, 4, 1, "401"), 2),
        many(used(scope, new, 2, 1, "staged"), 4),
        many(used(scope, new, 5, 1, "2xx"), 7),
        many(used(scope, new, 5, 1, "403"), 1),
        many(used(scope, new, 5, 2, "5xx"), 1),
        many(used(scope, new, 5, 1, "barred"), 3),
        many(used(other, old, 0, 1, "2xx"), 1_000),
    ])
    .await
    .expect("adds");
    let slots = async |scope, minute: i64, length| {
        let slots = db.use_by_slot(scope, T.minute() + minute, length).await;
        let slots = slots.expect("answers").into_iter();
        let shown = slots.map(|s| (s.slot, s.key_id, [s.succeeded, s.refused, s.others]));
        let mut shown: Vec<_> = shown.collect();
        shown.sort();
        shown
    };
    assert_eq!(
        slots(scope, 0, 1).await,
        [
            (0, old, [10, 0, 0]),
            (1, old, [1, 3, 0]),
            (2, new, [0, 4, 0]),
            (4, old, [0, 2, 0]),
            (5, new, [7, 0, 5]),
        ]
    );
    let mut by_three = [
        (0, old, [11, 3, 0]),
        (0, new, [0, 4, 0]),
        (1, old, [0, 2, 0]),
        (1, new, [7, 0, 5]),
    ];
    by_three.sort();
    assert_eq!(slots(scope, 0, 3).await, by_three);
    assert_eq!(
        slots(scope, 4, 1).await,
        [(0, old, [0, 2, 0]), (1, new, [7, 0, 5])]
    );
    assert_eq!(slots(other, 0, 15).await, [(0, old, [1_000, 0, 0])]);
    assert_eq!(slots(scope, 6, 1).await, []);

    // A refusal of a key that waits, or of one that is not let in, is neither a call that was let in nor one of a dead key.
    let clients = db
        .clients_since(scope, OfKeys::Only(new), T.minute(), 10)
        .await;
    let clients: Vec<_> = clients.expect("answers");
    let first = clients
        .iter()
        .find(|c| c.address == used(scope, new, 0, 1, "").address);
    let first = first.expect("the client");
    let counts = [first.accepted, first.unauthorized, first.barred];
    assert_eq!(counts, [8, 0, 3]);
    let clients = db
        .clients_since(scope, OfKeys::Only(old), T.minute(), 10)
        .await;
    let first = clients.expect("answers").remove(0);
    assert_eq!((first.accepted, first.unauthorized), (10, 5));
    for refused in ["staged", "barred"] {
        let waiting = KeyId::new();
        db.add_usage(&[used(scope, waiting, 0, 1, refused)])
            .await
            .expect("adds");
        assert_eq!(
            db.last_accepted(scope, waiting).await.expect("answers"),
            None,
            "{refused}"
        );
    }
}

async fn contract_forget_usage(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let key = KeyId::new();
    // Times in whole minutes here, as they are in the world.
    let at = |minute: i64, client| {
        let mut row = used(scope, key, minute, client, "2xx");
        row.last_us = (T.minute() + minute) * 60_000_000;
        row
    };
    db.add_usage(&[at(0, 1), at(0, 2), at(1, 2), at(2, 3)])
        .await
        .expect("adds");
    let left = async || {
        let clients = db
            .clients_since(scope, OfKeys::All, 0, 10)
            .await
            .expect("answers");
        let left = clients.into_iter().map(|c| (c.address, c.accepted));
        left.collect::<BTreeSet<_>>()
    };
    let address = |client| at(0, client).address;
    let forget = async |minute: i64| {
        let minute = T.minute() + minute;
        db.forget_usage_before(minute, Time(minute * 60_000_000))
            .await
            .expect("forgets");
    };
    forget(0).await;
    let everything = BTreeSet::from([(address(1), 1), (address(2), 2), (address(3), 1)]);
    assert_eq!(left().await, everything, "nothing is older");
    forget(1).await;
    let newer = BTreeSet::from([(address(2), 1), (address(3), 1)]);
    assert_eq!(left().await, newer);
    // The address is gone with the counts: it is what the privacy promise is about. A count that came to light
    // without one would show it.
    let mut again = at(2, 1);
    again.address = "203.0.113.7".into();
    db.add_usage(&[again]).await.expect("adds");
    let again = ("203.0.113.7".to_owned(), 1);
    assert!(left().await.contains(&again), "the old address was kept");
    forget(3).await;
    assert_eq!(left().await, BTreeSet::new());
}

async fn contract_forget_much_usage(db: &Db) {
    const PORTION: i64 = 5_000;
    let (scope, _) = two_sellers(db).await;
    let key = KeyId::new();
    // Each minute another client, all of them in two portions and a bit.
    for minutes in [
        0..PORTION,
        PORTION..2 * PORTION,
        2 * PORTION..2 * PORTION + 2,
    ] {
        let row = |minute| used(scope, key, minute, minute, "2xx");
        let rows: Vec<_> = minutes.map(row).collect();
        db.add_usage(&rows).await.expect("adds");
    }
    let last = 2 * PORTION + 1;
    let seen = Time(used(scope, key, last, last, "2xx").last_us);
    let minute = used(scope, key, last, last, "2xx").minute;
    db.forget_usage_before(minute, seen).await.expect("forgets");
    let left = db.clients_since(scope, OfKeys::All, 0, 10).await;
    let left: Vec<_> = left
        .expect("answers")
        .into_iter()
        .map(|c| c.address)
        .collect();
    assert_eq!(left, [used(scope, key, last, last, "2xx").address]);
}

async fn contract_bulk(db: &Db) {
    const SELLERS: usize = 300;
    const EACH: usize = 5;
    db.migrate().await.expect("migrates");
    let sellers: Vec<_> = (0..SELLERS)
        .map(|n| NewSeller {
            plan: Plan::Pro,
            name: format!("Trucks \"{n}\" é🚛\\"),
            ..new_seller(&format!("load-{n:04}"))
        })
        .collect();
    let keys: Vec<_> = sellers
        .iter()
        .map(|seller| (seller.id, Key::new()))
        .collect();
    let rows: Vec<_> = keys
        .iter()
        .map(|(seller, key)| (*seller, key.id, key.digest(), key.secret.hint()))
        .collect();
    let listings: Vec<_> = (0..SELLERS * EACH)
        .map(|n| {
            let scope = OperatorAuthority::assume().scope(sellers[n / EACH].id);
            listing(scope, vin(n as u64), r#"{"year":2020}"#)
        })
        .collect();
    let mut tx = db.begin().await.expect("begins");
    tx.insert_sellers_in_bulk(&sellers, after(1))
        .await
        .expect("are new");
    Db::insert_live_keys_in_bulk(&mut tx, &rows, "operator", after(2))
        .await
        .expect("are new");
    tx.insert_listings_in_bulk(&listings)
        .await
        .expect("are new");
    tx.insert_listings_in_bulk(&[]).await.expect("nothing");
    tx.commit().await.expect("commits");

    let found = db
        .accounts_after(AccountKind::Seller, "", 1_000)
        .await
        .expect("answers");
    assert_eq!(found.len(), SELLERS);
    let last = &found[SELLERS - 1];
    assert_eq!((last.id, &last.name), (sellers[299].id, &sellers[299].name));
    assert_eq!((last.plan, last.key_version), (Plan::Pro, 1));
    assert_eq!((last.created_us, last.updated_us), (after(1), after(1)));
    let (all, epoch) = all_keys(db).await;
    assert_eq!(epoch, 1, "nodes that serve see that there are new ones");
    let all: BTreeSet<_> = all
        .iter()
        .map(|(digest, record)| (*digest, record.key, record.seller))
        .collect();
    let expected = rows.iter().map(|row| (row.2, row.1, row.0));
    assert_eq!(all, expected.collect());
    let scope = OperatorAuthority::assume().scope(sellers[7].id);
    let key = &db.keys_of_seller(scope, 9).await.expect("answers")[0];
    assert_eq!((&*key.state, &*key.made_by), ("live", "operator"));
    assert_eq!((key.created_us, key.shown_us), (after(2), Some(after(2))));
    assert_eq!(key.hint, keys[7].1.secret.hint().to_string());
    let filter = ListingFilter::default();
    let own = db.listings(scope, &filter, 100).await.expect("answers");
    let own: Vec<_> = own.iter().map(whole).collect();
    let expected = listings[7 * EACH..8 * EACH].iter().map(whole);
    assert_eq!(own, expected.collect::<Vec<_>>());
    // Such a Seller is like any other from here on.
    upsert(
        db,
        keys[7].1.scope(scope.seller()),
        &listings[7 * EACH..8 * EACH],
    )
    .await
    .expect("its key is live");
    let (_, epoch) = rotate(db, scope, after(3)).await;
    assert_eq!(epoch, 2);

    let mut tx = db.begin().await.expect("begins");
    assert_unique(tx.insert_sellers_in_bulk(&sellers[..1], T).await);
}
