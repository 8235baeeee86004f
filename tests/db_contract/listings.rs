//! The contracts of listings.
//!
//! Never: a truck offered by two Sellers at once, or a text that comes back changed.

use super::*;

contracts! {
    a_listing_is_made_once_and_then_changed: contract_upsert_listings;
    two_who_write_listings_of_one_seller_take_turns: contract_lock_listings;
    what_is_known_of_some_vins_is_ones_own_and_what_others_offer: contract_listings_of;
    the_text_of_a_listing_comes_back_byte_for_byte: contract_listing_text;
    a_vin_is_offered_by_one_seller_at_a_time: contract_one_active_listing;
    a_released_vin_is_free_for_the_next_seller: contract_release_listing;
    each_filter_admits_what_it_names: contract_listing_filters;
    pages_of_listings_follow_one_another: contract_listing_pages;
}

/// Each reads what is there and writes it back with its own change: neither undoes the other's.
async fn contract_lock_listings(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let first = listing(scope, vin(1), r#"{"price":1}"#);
    upsert(db, scope, &[first]).await.expect("stored");
    let mut one = db.begin_write(scope).await.expect("begins");
    one.lock_listings().await.expect("its turn");
    if db.is_shared() {
        // Of another Seller's nobody waits.
        let mut tx = db.begin_write(other).await.expect("begins");
        tx.lock_listings().await.expect("its turn");
    }
    let mut second = beside(db, async move |db| {
        let mut tx = db.begin_write(scope).await?;
        tx.lock_listings().await?;
        let mut found = tx.listings_of(&[vin(1)]).await?.remove(0);
        found.status = ListingStatus::Sold;
        tx.upsert_listings(&[found]).await?;
        tx.commit().await
    });
    still_waits(&mut second, &mut one).await;
    let mut found = one.listings_of(&[vin(1)]).await.expect("reads").remove(0);
    found.fields = r#"{"price":2}"#.to_owned();
    one.upsert_listings(&[found]).await.expect("stored");
    one.commit().await.expect("commits");
    ended(second).await.expect("its turn");
    let now = db.listing(scope, vin(1)).await.expect("reads");
    let now = now.expect("is there");
    assert_eq!(
        (now.status, now.fields.as_str()),
        (ListingStatus::Sold, r#"{"price":2}"#)
    );
}

async fn contract_upsert_listings(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let nothing = db.listing(scope, vin(1)).await.expect("answers");
    assert!(nothing.is_none());
    upsert(db, scope, &[]).await.expect("nothing to do");

    let mut new = listing(scope, vin(1), r#"{"year":2020}"#);
    // The transaction's scope says whose it is, whatever the value says.
    new.seller = other.seller();
    let beside = listing(scope, vin(2), "{}");
    upsert(db, scope, &[new.clone(), beside.clone()])
        .await
        .expect("stored");
    let read = async |n| {
        let found = db.listing(scope, vin(n)).await.expect("answers");
        whole(&found.expect("is there"))
    };
    new.seller = scope.seller();
    assert_eq!(read(1).await, whole(&new));

    // Its id and its birthday stay, whatever a later record says.
    let mut changed = listing(scope, vin(1), r#"{"year":2021}"#);
    changed.status = ListingStatus::Sold;
    (changed.created, changed.updated) = (after(9), after(10));
    let third = listing(scope, vin(3), "{}");
    upsert(db, scope, &[third.clone(), changed.clone()])
        .await
        .expect("stored");
    (changed.id, changed.created) = (new.id, new.created);
    assert_eq!(read(1).await, whole(&changed));
    assert_eq!(read(2).await, whole(&beside), "left alone");
    assert_eq!(read(3).await, whole(&third));

    let count = async |scope, status| {
        let counts = db.count_listings(scope).await.expect("counts");
        match status {
            ListingStatus::Active => counts.active,
            ListingStatus::Sold => counts.sold,
            ListingStatus::Expired => counts.expired,
        }
    };
    for (status, mine) in [
        (ListingStatus::Active, 2),
        (ListingStatus::Sold, 1),
        (ListingStatus::Expired, 0),
    ] {
        assert_eq!(count(scope, status).await, mine, "{status:?}");
        assert_eq!(count(other, status).await, 0, "{status:?}");
    }

    // One's own comes first, then what another offers; what another sold is nobody's business.
    let seen = async |n| {
        let found = db.listing(other, vin(n)).await.expect("answers");
        found.map(|listing| listing.seller)
    };
    assert_eq!(seen(1).await, None);
    assert_eq!(seen(2).await, Some(scope.seller()));
    let mut own = listing(other, vin(2), "{}");
    own.status = ListingStatus::Expired;
    upsert(db, other, &[own]).await.expect("stored");
    assert_eq!(seen(2).await, Some(other.seller()));

    let mut dropped = db.begin_write(scope).await.expect("begins");
    dropped
        .upsert_listings(&[listing(scope, vin(4), "{}")])
        .await
        .expect("stored");
    drop(dropped);
    assert!(db.listing(scope, vin(4)).await.expect("answers").is_none());
}

async fn contract_listings_of(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let with = |owner, n, status| Listing {
        status,
        ..listing(owner, vin(n), &format!(r#"{{"n":{n}}}"#))
    };
    use ListingStatus::{Active, Expired, Sold};
    let own = [
        with(scope, 1, Active),
        with(scope, 2, Sold),
        with(scope, 3, Expired),
    ];
    let theirs = [
        with(other, 4, Active),
        with(other, 5, Sold),
        with(other, 2, Active),
    ];
    upsert(db, scope, &own).await.expect("stored");
    upsert(db, other, &theirs).await.expect("stored");

    let mut tx = db.begin_write(scope).await.expect("begins");
    let nothing = tx.listings_of(&[]).await.expect("answers");
    assert!(nothing.is_empty());
    let asked: Vec<Vin> = (1..=6).map(vin).collect();
    let found = tx.listings_of(&asked).await.expect("answers");
    let mut found: Vec<_> = found.iter().map(whole).collect();
    let expected = [&own[0], &own[1], &own[2], &theirs[0], &theirs[2]];
    let mut expected: Vec<_> = expected.into_iter().map(whole).collect();
    found.sort_by_key(|listing| listing.0);
    expected.sort_by_key(|listing| listing.0);
    assert_eq!(found, expected);
    let one = tx.listings_of(&[vin(4)]).await.expect("answers");
    assert_eq!(vins(&one), BTreeSet::from([vin(4)]));
}

/// Texts that an engine, a JSON function or a driver could be tempted to tidy up.
fn awkward_texts() -> Vec<String> {
    let mut texts = vec![
        String::new(),
        "{}".to_owned(),
        " { \"b\" : 1 ,\t\"a\":\r\n2, \"a\": 3 } ".to_owned(),
        r#"{"quote":"\"","backslash":"\\","slash":"\/","line":"a\nb","path":"C:\\Trucks\\1"}"#.to_owned(),
        r#"{"escapes":"\u00e9\u0001\ud83d\ude9b\u2028","null":"\u0000","half":"\ud83d"}"#.to_owned(),
        "{\"raw\":\"é ü ß Ж 東京 🚛 👨‍👩‍👧 e\u{301} \u{2028}\u{2029}\u{feff}\u{200b}\u{202e}\u{fffd}\u{10ffff}\u{7f}\u{85}\"}"
            .to_owned(),
        "raw controls \u{1}\u{8}\u{b}\u{1f}\t\r\n, quotes '' \"\" `` and $1 ? :x %s %".to_owned(),
        r#"{"big":18446744073709551615,"bigger":123456789012345678901234567890,"odd":9007199254740993,"small":-9223372036854775808}"#
            .to_owned(),
        r#"{"numbers":[1.0,1.10,1e400,-0,0.1e-7,100000000000000000000.0],"null":null,"true":true}"#.to_owned(),
        "null".to_owned(),
        "\"a string\"".to_owned(),
        "[1,2]".to_owned(),
        "17".to_owned(),
        "'); DROP TABLE listings; --".to_owned(),
    ];
    // As long as a record can be: its description and a hundred addresses of photos.
    texts.push(json!({"description": "long é🚛\\\" ".repeat(15_000)}).to_string());
    texts
}

async fn contract_listing_text(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let texts = awkward_texts();
    let listings: Vec<_> = (0..)
        .zip(&texts)
        .map(|(n, text)| listing(scope, vin(n), text))
        .collect();
    upsert(db, scope, &listings).await.expect("stored");
    let mut bulk: Vec<_> = (1000..)
        .zip(&texts)
        .map(|(n, text)| listing(other, vin(n), text))
        .collect();
    let mut tx = db.begin().await.expect("begins");
    tx.insert_listings_in_bulk(&bulk).await.expect("stored");
    tx.commit().await.expect("commits");

    let mut all = listings;
    all.append(&mut bulk);
    for stored in &all {
        let scope = OperatorAuthority::assume().scope(stored.seller);
        let found = db.listing(scope, stored.vin).await.expect("answers");
        let found = found.expect("is there");
        assert!(found.fields == stored.fields, "{:.200}", stored.fields);
    }
    // The other ways to read it, and the way to write over it.
    let filter = ListingFilter::default();
    let read = db.listings(scope, &filter, 100).await.expect("answers");
    let read: Vec<&String> = read.iter().map(|listing| &listing.fields).collect();
    assert!(read.iter().copied().eq(&texts));
    let mut tx = db.begin_write(scope).await.expect("begins");
    let asked: Vec<Vin> = all.iter().map(|listing| listing.vin).collect();
    let known = tx.listings_of(&asked).await.expect("answers");
    for known in &known {
        let stored = all.iter().find(|stored| stored.vin == known.vin);
        assert!(known.fields == stored.expect("was asked for").fields);
    }
    assert_eq!(known.len(), all.len());
    drop(tx);
    for (stored, text) in all[..texts.len()].iter().rev().zip(&texts) {
        let over = listing(scope, stored.vin, text);
        upsert(db, scope, &[over]).await.expect("stored");
        let found = db.listing(scope, stored.vin).await.expect("answers");
        assert!(found.expect("is there").fields == *text, "{text:.200}");
    }
}

async fn contract_one_active_listing(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let mine = listing(scope, vin(1), "{}");
    let mut theirs = listing(other, vin(1), "{}");
    upsert(db, scope, std::slice::from_ref(&mine))
        .await
        .expect("stored");
    let batch = [listing(other, vin(2), "{}"), theirs.clone()];
    assert_unique(upsert(db, other, &batch).await);
    let none = db.listing(other, vin(2)).await.expect("answers");
    assert!(none.is_none(), "a batch is all or nothing");
    let mut tx = db.begin().await.expect("begins");
    assert_unique(tx.insert_listings_in_bulk(&batch).await);
    drop(tx);

    // One that is not offered stands in nobody's way, in either order.
    theirs.status = ListingStatus::Sold;
    upsert(db, other, std::slice::from_ref(&theirs))
        .await
        .expect("stored");
    for status in [ListingStatus::Sold, ListingStatus::Expired] {
        let mine = Listing {
            status,
            ..mine.clone()
        };
        upsert(db, scope, &[mine]).await.expect("stored");
        theirs.status = ListingStatus::Active;
        upsert(db, other, std::slice::from_ref(&theirs))
            .await
            .expect("the VIN is free");
        let mine = listing(scope, vin(1), "{}");
        assert_unique(upsert(db, scope, &[mine]).await);
        theirs.status = ListingStatus::Expired;
        upsert(db, other, std::slice::from_ref(&theirs))
            .await
            .expect("stored");
    }
    let mine = listing(scope, vin(1), "{}");
    upsert(db, scope, &[mine]).await.expect("free once more");
}

async fn contract_release_listing(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let release = async |n, at| {
        let mut tx = db.begin().await.expect("begins");
        let released = tx.release_listing(vin(n), at).await.expect("answers");
        tx.commit().await.expect("commits");
        released
    };
    assert_eq!(release(1, T).await, None, "nobody lists it");
    let mine = listing(scope, vin(1), r#"{"year":2020}"#);
    let beside = listing(scope, vin(2), "{}");
    let mut sold = listing(other, vin(1), "{}");
    sold.status = ListingStatus::Sold;
    upsert(db, scope, &[mine.clone(), beside.clone()])
        .await
        .expect("stored");
    upsert(db, other, std::slice::from_ref(&sold))
        .await
        .expect("stored");

    let released = release(1, after(5)).await;
    assert_eq!(released, Some((mine.id, scope.seller())));
    let expired = Listing {
        status: ListingStatus::Expired,
        updated: after(5),
        ..mine
    };
    let read = async |scope, n| {
        let found = db.listing(scope, vin(n)).await.expect("answers");
        whole(&found.expect("is there"))
    };
    assert_eq!(read(scope, 1).await, whole(&expired));
    assert_eq!(read(scope, 2).await, whole(&beside));
    assert_eq!(read(other, 1).await, whole(&sold), "was not offered");
    assert_eq!(release(1, after(6)).await, None, "it is done once");
    let theirs = listing(other, vin(1), "{}");
    upsert(db, other, &[theirs]).await.expect("the VIN is free");
}

async fn contract_listing_filters(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let stored = [
        json!({"year": 2016, "make": "Freightliner", "model": "Cascadia", "listing_type": "truck", "price": 89_500,
            "category": "Day Cab", "new_or_used": "used", "location_state": "TX"}),
        json!({"year": 2018, "make": "FREIGHTLINER", "model": "M2 106", "listing_type": "truck", "price": 0,
            "category": "Box Truck", "new_or_used": "new", "location_state": "CA"}),
        json!({"year": 2020, "make": "O'Neil \"%_\\", "model": "cascadia", "listing_type": "trailer",
            "category": "day cab", "new_or_used": "certified_preowned"}),
        json!({"year": 2022, "make": "Volvo", "model": "Unknown", "listing_type": "trailer", "price": 10_000_000}),
    ];
    let mut listings: Vec<Listing> = (0..)
        .zip(&stored)
        .map(|(n, fields)| listing(scope, vin(n), &fields.to_string()))
        .collect();
    listings[1].status = ListingStatus::Sold;
    listings[2].status = ListingStatus::Expired;
    listings[3].updated = after(60);
    upsert(db, scope, &listings).await.expect("stored");
    let theirs: Vec<_> = (100..)
        .zip(&stored)
        .map(|(n, fields)| listing(other, vin(n), &fields.to_string()))
        .collect();
    upsert(db, other, &theirs).await.expect("stored");

    let all = ListingFilter::default;
    let word = |word: &str| Some(word.to_owned());
    macro_rules! admits {
        ($($field:ident: $value:expr),* => $expected:expr) => {{
            let filter = ListingFilter { $($field: $value,)* ..all() };
            let found = db.listings(scope, &filter, 100).await.expect("answers");
            let found: Vec<Vin> = found.iter().map(|listing| listing.vin).collect();
            let expected: Vec<Vin> = $expected.into_iter().map(vin).collect();
            assert_eq!(found, expected, "{filter:?}");
        }};
    }
    admits!(=> [0, 1, 2, 3]);
    admits!(status: Some(ListingStatus::Active) => [0, 3]);
    admits!(status: Some(ListingStatus::Sold) => [1]);
    admits!(status: Some(ListingStatus::Expired) => [2]);
    admits!(make: word("freightLINER") => [0, 1]);
    admits!(make: word("o'neil \"%_\\") => [2]);
    admits!(make: word("%") => []);
    admits!(make: word("") => []);
    admits!(model: word("CASCADIA") => [0, 2]);
    admits!(model: word("Casc") => []);
    admits!(category: word("Day CAB") => [0, 2]);
    admits!(category: word("Sleeper") => []);
    admits!(listing_type: word("truck") => [0, 1]);
    admits!(listing_type: word("trailer") => [2, 3]);
    admits!(new_or_used: word("new") => [1]);
    admits!(new_or_used: word("used") => [0]);
    admits!(new_or_used: word("certified_preowned") => [2]);
    admits!(location_state: word("TX") => [0]);
    admits!(location_state: word("CA") => [1]);
    admits!(year_min: Some(2018) => [1, 2, 3]);
    admits!(year_max: Some(2018) => [0, 1]);
    admits!(year_min: Some(2018), year_max: Some(2020) => [1, 2]);
    admits!(year_min: Some(2021), year_max: Some(2020) => []);
    admits!(year_min: Some(i64::MIN), year_max: Some(i64::MAX) => [0, 1, 2, 3]);
    admits!(price_min: Some(0) => [0, 1, 3]);
    admits!(price_min: Some(1) => [0, 3]);
    admits!(price_min: Some(i64::MIN) => [0, 1, 3]);
    admits!(price_max: Some(0) => [1]);
    admits!(price_max: Some(89_500) => [0, 1]);
    admits!(price_max: Some(i64::MAX) => [0, 1, 3]);
    admits!(price_min: Some(89_500), price_max: Some(89_500) => [0]);
    admits!(updated_since: Some(T) => [0, 1, 2, 3]);
    admits!(updated_since: Some(Time(T.0 + 1)) => [3]);
    admits!(updated_since: Some(after(60)) => [3]);
    admits!(updated_since: Some(Time(after(60).0 + 1)) => []);
    admits!(after: Some(listings[1].id) => [2, 3]);
    admits!(after: Some(listings[3].id) => []);
    // Together they narrow one another.
    admits!(make: word("freightliner"), status: Some(ListingStatus::Active) => [0]);
    admits!(
        make: word("freightliner"), model: word("cascadia"), category: word("day cab"), listing_type: word("truck"),
        new_or_used: word("used"), location_state: word("TX"), year_min: Some(2016), year_max: Some(2016),
        price_min: Some(89_500), price_max: Some(89_500), updated_since: Some(T), status: Some(ListingStatus::Active)
        => [0]
    );
    admits!(listing_type: word("trailer"), after: Some(listings[2].id) => [3]);
}

async fn contract_listing_pages(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let listings: Vec<_> = (0..25).map(|n| listing(scope, vin(n), "{}")).collect();
    // Stored in another order than that of their ids.
    let mut turned = listings.clone();
    turned.reverse();
    upsert(db, scope, &turned).await.expect("stored");
    let theirs: Vec<_> = (50..60).map(|n| listing(other, vin(n), "{}")).collect();
    upsert(db, other, &theirs).await.expect("stored");

    let mut filter = ListingFilter::default();
    let mut read = Vec::new();
    let mut sizes = Vec::new();
    loop {
        let page = db.listings(scope, &filter, 10).await.expect("answers");
        sizes.push(page.len());
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id);
        read.extend(page.iter().map(whole));
    }
    assert_eq!(sizes, [10, 10, 5, 0]);
    let expected: Vec<_> = listings.iter().map(whole).collect();
    assert_eq!(read, expected);
}
