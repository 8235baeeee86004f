//! The contracts of Sellers and their places.
//!
//! Never: a change of one Seller seen at another.

use super::*;

contracts! {
    a_seller_is_found_by_slug_and_by_scope_and_its_slug_is_taken_once: contract_sellers;
    sellers_are_paged_in_the_order_of_their_slugs: contract_sellers_after;
    what_a_dealer_does_not_say_is_left_alone_and_what_it_clears_is_gone: contract_update_dealer;
    locations_are_replaced_as_a_whole_and_keep_their_order: contract_locations;
}

async fn contract_sellers(db: &Db) {
    db.migrate().await.expect("migrates");
    assert!(!db.has_sellers().await.expect("answers"));
    let new = NewSeller {
        plan: Plan::Enterprise,
        name: "Müller & Söhne „Lkw“ 🚛 O'Neil".into(),
        ..new_seller("lone-star")
    };
    let none = db.seller_by_slug(&new.slug).await.expect("answers");
    assert!(none.is_none());

    let mut dropped = db.begin().await.expect("begins");
    dropped.insert_seller(&new, T).await.expect("is new");
    drop(dropped);
    assert!(!db.has_sellers().await.expect("answers"), "not committed");

    let mut tx = db.begin().await.expect("begins");
    tx.insert_seller(&new, after(1)).await.expect("is new");
    tx.commit().await.expect("commits");
    assert!(db.has_sellers().await.expect("answers"));
    let scope = OperatorAuthority::assume().scope(new.id);
    let by_slug = db.seller_by_slug(&new.slug).await.expect("answers");
    let by_scope = db.seller(scope).await.expect("answers");
    for row in [by_slug, by_scope] {
        let row = row.expect("is there");
        assert_eq!(row.id, new.id);
        assert_eq!(row.slug, "lone-star");
        assert_eq!(row.name, new.name);
        assert_eq!(row.plan, Plan::Enterprise);
        assert_eq!(row.key_version, 0);
        assert_eq!((row.created_us, row.updated_us), (after(1), after(1)));
        let said = [row.phone, row.email, row.website, row.description];
        assert_eq!(said, [const { None }; 4]);
    }

    let stranger = OperatorAuthority::assume().scope(SellerId::new());
    assert!(db.seller(stranger).await.expect("answers").is_none());
    let names = db.seller_names(new.id).await.expect("answers");
    assert_eq!(names, Some(("lone-star".to_owned(), new.name.clone())));
    let names = db.seller_names(stranger.seller()).await.expect("answers");
    assert_eq!(names, None);

    let same_slug = new_seller("lone-star");
    let same_id = NewSeller {
        id: new.id,
        ..new_seller("another")
    };
    for taken in [same_slug, same_id] {
        let mut tx = db.begin().await.expect("begins");
        assert_unique(tx.insert_seller(&taken, T).await);
    }
}

async fn contract_sellers_after(db: &Db) {
    db.migrate().await.expect("migrates");
    let nobody = db
        .accounts_after(AccountKind::Seller, "", 10)
        .await
        .expect("answers");
    assert!(nobody.is_empty());
    for name in ["b2", "a1", "ab", "a-c", "1a", "b-1"] {
        seller(db, name).await;
    }
    let page = async |after: &str, limit| {
        let rows = db
            .accounts_after(AccountKind::Seller, after, limit)
            .await
            .expect("answers");
        rows.into_iter().map(|row| row.slug).collect::<Vec<_>>()
    };
    assert_eq!(page("", 10).await, ["1a", "a-c", "a1", "ab", "b-1", "b2"]);
    assert_eq!(page("", 4).await, ["1a", "a-c", "a1", "ab"]);
    assert_eq!(page("ab", 4).await, ["b-1", "b2"]);
    assert_eq!(page("a", 2).await, ["a-c", "a1"], "need not be a slug");
    assert_eq!(page("b2", 4).await, [""; 0]);
    assert_eq!(page("~", 4).await, [""; 0], "after every slug");
}

async fn contract_update_dealer(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let update = async |change: &DealerChange, at| {
        let mut tx = db.begin_write(scope).await.expect("begins");
        tx.update_dealer(change, at).await.expect("updates");
        tx.commit().await.expect("commits");
        let row = db.seller(scope).await.expect("answers").expect("is there");
        assert_eq!((row.created_us, row.updated_us), (T, at));
        let said = [row.phone, row.email, row.website, row.description];
        (row.name, said)
    };
    let text = |text: &str| Some(text.to_owned());
    let all = DealerChange {
        name: text("Lone Star „Trucks“ 🚛"),
        phone: Some(text("+1 555 0100")),
        email: Some(text("sales@lone.example")),
        website: Some(text("https://lone.example/?a=1&b='2'")),
        description: Some(text("Line one.\nLine \"two\".\t\\")),
    };
    let set = [
        text("+1 555 0100"),
        text("sales@lone.example"),
        text("https://lone.example/?a=1&b='2'"),
        text("Line one.\nLine \"two\".\t\\"),
    ];
    let name = "Lone Star „Trucks“ 🚛".to_owned();
    assert_eq!(update(&all, after(1)).await, (name.clone(), set.clone()));
    let nothing = DealerChange::default();
    assert_eq!(
        update(&nothing, after(2)).await,
        (name.clone(), set.clone())
    );

    // One field after another, so that no field's flag stands for its neighbour's.
    let [phone, email, website, description] = set;
    let clear = Some(None);
    let change = DealerChange {
        phone: clear.clone(),
        ..DealerChange::default()
    };
    let left = [None, email, website.clone(), description.clone()];
    assert_eq!(update(&change, after(3)).await, (name.clone(), left));
    let change = DealerChange {
        email: clear.clone(),
        phone: Some(phone.clone()),
        ..DealerChange::default()
    };
    let left = [phone.clone(), None, website, description.clone()];
    assert_eq!(update(&change, after(4)).await, (name.clone(), left));
    let change = DealerChange {
        website: clear.clone(),
        ..DealerChange::default()
    };
    let left = [phone.clone(), None, None, description];
    assert_eq!(update(&change, after(5)).await, (name, left));
    let change = DealerChange {
        name: text("Plain"),
        description: clear,
        ..DealerChange::default()
    };
    let left = [phone, None, None, None];
    assert_eq!(update(&change, after(6)).await, ("Plain".to_owned(), left));

    let other = db.seller(other).await.expect("answers").expect("is there");
    assert_eq!((other.name.as_str(), other.updated_us), ("other, Inc.", T));
    assert_eq!(other.phone, None);
}

async fn contract_locations(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let place = |name: &str| LocationRow {
        id: LocationId::new(),
        name: name.to_owned(),
        street: None,
        city: None,
        state: None,
        postal_code: None,
        phone: None,
    };
    let replace = async |scope, locations: &[LocationRow]| {
        let mut tx = db.begin_write(scope).await.expect("begins");
        tx.replace_locations(locations).await?;
        tx.commit().await
    };
    let full = LocationRow {
        street: Some("1 Main St \"rear\"".into()),
        city: Some("Québec".into()),
        state: Some("TX".into()),
        postal_code: Some("007 08".into()),
        phone: Some("".into()),
        ..place("Dallas")
    };
    let theirs = [place("Theirs")];
    replace(other, &theirs).await.expect("replaces");
    let three = [place("Zulu"), full, place("Alpha")];
    replace(scope, &three).await.expect("replaces");
    let read = async |scope| db.locations(scope).await.expect("answers");
    assert_eq!(read(scope).await, three);

    // The same rows in another order, which a position that is unique must not stand in the way of.
    let [zulu, full, alpha] = three;
    let turned = [alpha, zulu, full];
    replace(scope, &turned).await.expect("replaces");
    assert_eq!(read(scope).await, turned);

    let twice = place("Twice");
    assert_unique(replace(scope, &[twice.clone(), twice]).await);
    assert_unique(replace(scope, &theirs).await);
    assert_eq!(read(scope).await, turned, "all or nothing");
    replace(scope, &[]).await.expect("replaces");
    assert_eq!(read(scope).await, []);
    assert_eq!(read(other).await, theirs);
}
