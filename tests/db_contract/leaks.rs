//! The contracts of signs that a key is where it should not be: kept once per place, counted, dismissed, forgotten.
//!
//! Never: a Seller's sign told to another; more rows than places that are told apart.

use truckradar::{
    db::{BrowserRow, DismissedLeak, LeakRow},
    ids::LeakId,
    keys::found::{Finder, Outcome, Place},
};

use super::*;

contracts! {
    a_sign_is_kept_once_per_place_and_counted: contract_note_leak;
    so_many_places_of_a_key_are_told_apart_for_each_finder: contract_leak_places;
    when_mails_were_written_about_a_key_is_known: contract_leak_told;
    a_sign_is_dismissed_by_its_own_seller_and_shown_again_when_a_finder_says_it_anew: contract_dismiss_leak;
    what_browsers_send_adds_up: contract_browser_leaks;
    two_that_write_what_browsers_send_never_wait_in_a_circle: contract_browser_leaks_at_once;
    a_sign_says_how_its_key_stands: contract_leak_key_state;
    old_signs_are_forgotten_each_in_its_time: contract_forget_leaks;
}

async fn note(
    db: &Db,
    scope: SellerScope,
    key: KeyId,
    (finder, place, outcome): (Finder, &Place, Outcome),
    at: Time,
) -> LeakId {
    let mut tx = db.begin_change(scope).await.expect("begins");
    let noted = tx.note_leak(key, finder, place, outcome, at).await;
    tx.commit().await.expect("commits");
    noted.expect("notes").id
}

async fn of(db: &Db, scope: SellerScope) -> Vec<LeakRow> {
    db.leaks_of(scope, 100).await.expect("answers")
}

/// Place, outcome, times, first and last.
fn told(rows: &[LeakRow]) -> Vec<(&str, Outcome, i64, i64, i64)> {
    let since = |at: Time| (at.0 - T.0) / 1_000_000;
    rows.iter()
        .map(|row| {
            let (first, last) = (since(row.first_us), since(row.last_us));
            (row.place.as_str(), row.outcome, row.times, first, last)
        })
        .collect()
}

async fn contract_note_leak(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let place = Place::new("https://a.example", "commit");
    let github = |outcome| (Finder::GitHub, &place, outcome);
    let first = note(db, scope, key.id, github(Outcome::Expired), after(1)).await;
    // Later it is dead already, which says nothing of what was done.
    let again = note(db, scope, key.id, github(Outcome::Dead), after(5)).await;
    assert_eq!(first, again);
    let rows = of(db, scope).await;
    assert_eq!(
        told(&rows),
        [("https://a.example", Outcome::Expired, 2, 1, 5)]
    );
    assert_eq!(
        (rows[0].source.as_str(), rows[0].finder),
        ("commit", Finder::GitHub)
    );
    assert_eq!(
        (rows[0].slug.as_str(), rows[0].key_id),
        ("lone-star", key.id)
    );
    assert_eq!(rows[0].key_hint, key.secret.hint().to_string());
    // Another kind of place, another finder: each its own.
    let elsewhere = Place::new("https://a.example", "gist");
    note(
        db,
        scope,
        key.id,
        (Finder::GitHub, &elsewhere, Outcome::Dead),
        after(2),
    )
    .await;
    note(
        db,
        scope,
        key.id,
        (Finder::Report, &Place::default(), Outcome::Told),
        after(6),
    )
    .await;
    note(
        db,
        scope,
        key.id,
        (Finder::Report, &Place::default(), Outcome::Expired),
        after(7),
    )
    .await;
    let rows = of(db, scope).await;
    assert_eq!(
        told(&rows),
        [
            ("", Outcome::Expired, 2, 6, 7),
            ("https://a.example", Outcome::Expired, 2, 1, 5),
            ("https://a.example", Outcome::Dead, 1, 2, 2),
        ],
        "the last said first"
    );
    assert_eq!(of(db, other).await, []);
    let all = db.newest_leaks(2).await.expect("answers");
    assert_eq!(all, rows[..2]);
    assert_eq!(db.leaks_of(scope, 1).await.expect("answers"), rows[..1]);
    // What was not committed never was.
    let mut tx = db.begin_change(scope).await.expect("begins");
    let noted = tx.note_leak(key.id, Finder::Report, &place, Outcome::Told, after(9));
    assert_eq!(noted.await.expect("notes").times, 1);
    drop(tx);
    assert_eq!(of(db, scope).await, rows);
}

async fn contract_leak_places(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    for n in 0..15 {
        let place = Place::new(&format!("https://{n}.example"), "commit");
        note(
            db,
            scope,
            key.id,
            (Finder::GitHub, &place, Outcome::Dead),
            after(n),
        )
        .await;
    }
    // Those without a name take no place from the others, whichever come first.
    let (other_key, _) = rotate(db, scope, T).await;
    for n in ["", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"] {
        let place = Place::new(n, "");
        note(
            db,
            scope,
            other_key.id,
            (Finder::GitHub, &place, Outcome::Dead),
            T,
        )
        .await;
    }
    let mut rows = of(db, scope).await;
    let (others, own): (Vec<_>, Vec<_>) = rows.drain(..).partition(|row| row.key_id != key.id);
    assert_eq!(others.len(), 11);
    let rows = own;
    assert_eq!(rows.len(), 11);
    let rest: Vec<_> = rows.iter().filter(|row| row.place.is_empty()).collect();
    assert_eq!(
        (rest.len(), rest[0].times, rest[0].source.as_str()),
        (1, 5, "")
    );
    // One that is known is still counted by its name, and another finder has places of its own.
    let known = Place::new("https://3.example", "commit");
    note(
        db,
        scope,
        key.id,
        (Finder::GitHub, &known, Outcome::Dead),
        after(99),
    )
    .await;
    note(
        db,
        scope,
        key.id,
        (Finder::Report, &known, Outcome::Dead),
        after(98),
    )
    .await;
    let mut rows = of(db, scope).await;
    rows.retain(|row| row.key_id == key.id);
    assert_eq!(rows.len(), 12);
    assert_eq!(
        (rows[0].place.as_str(), rows[0].times),
        ("https://3.example", 2)
    );
}

async fn contract_leak_told(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let place = Place::default();
    let leak = note(
        db,
        scope,
        key.id,
        (Finder::Report, &place, Outcome::Told),
        T,
    )
    .await;
    let last = async |scope| {
        let mut tx = db.begin_change(scope).await.expect("begins");
        tx.last_told_of(key.id).await.expect("answers")
    };
    let tell = async |scope, at| {
        let mut tx = db.begin_change(scope).await.expect("begins");
        tx.leak_is_told(leak, at).await.expect("notes");
        tx.commit().await.expect("commits");
    };
    assert_eq!(last(scope).await, None);
    tell(scope, after(3)).await;
    assert_eq!(last(scope).await, Some(after(3)));
    tell(other, after(9)).await;
    assert_eq!(last(scope).await, Some(after(3)), "it is another's");
    assert_eq!(last(other).await, None);
    assert_eq!(of(db, scope).await[0].told_us, Some(after(3)));
}

async fn contract_dismiss_leak(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let place = Place::new("https://a.example", "commit");
    let leak = note(
        db,
        scope,
        key.id,
        (Finder::Report, &place, Outcome::Told),
        T,
    )
    .await;
    let dismiss = async |scope, leak, at| {
        let mut tx = db.begin_write(scope).await.expect("begins");
        let gone = tx.dismiss_leak(leak, at).await.expect("answers");
        tx.commit().await.expect("commits");
        gone
    };
    assert_eq!(dismiss(other, leak, after(1)).await, None);
    assert_eq!(dismiss(scope, LeakId::new(), after(1)).await, None);
    assert_eq!(of(db, scope).await[0].dismissed_us, None);
    let gone = DismissedLeak {
        key_id: key.id,
        finder: Finder::Report,
        place: "https://a.example".to_owned(),
        source: "commit".to_owned(),
    };
    assert_eq!(dismiss(scope, leak, after(2)).await, Some(gone));
    assert_eq!(dismiss(scope, leak, after(3)).await, None, "it is already");
    assert_eq!(of(db, scope).await[0].dismissed_us, Some(after(2)));
    note(
        db,
        scope,
        key.id,
        (Finder::Report, &place, Outcome::Dead),
        after(4),
    )
    .await;
    assert_eq!(of(db, scope).await[0].dismissed_us, Some(after(2)));
    note(
        db,
        scope,
        key.id,
        (Finder::Report, &place, Outcome::Told),
        after(5),
    )
    .await;
    assert_eq!(of(db, scope).await[0].dismissed_us, None);
}

async fn contract_browser_leaks(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let row = |origin: &str, requests, first, last| BrowserRow {
        seller: scope.seller(),
        key: key.id,
        origin: origin.into(),
        requests,
        first: after(first),
        last: after(last),
    };
    db.add_browser_leaks(&[]).await.expect("nothing to do");
    let rows = [row("https://a.example", 3, 1, 4), row("", 7, 2, 3)];
    db.add_browser_leaks(&rows).await.expect("adds");
    // Written later, and counted before what is there.
    let rows = [
        row("https://a.example", 2, 0, 2),
        row("https://b.example", 1, 9, 9),
    ];
    db.add_browser_leaks(&rows).await.expect("adds");
    let rows = of(db, scope).await;
    assert_eq!(
        told(&rows),
        [
            ("https://b.example", Outcome::Seen, 1, 9, 9),
            ("https://a.example", Outcome::Seen, 5, 1, 4),
            ("", Outcome::Seen, 7, 2, 3),
        ]
    );
    assert!(rows.iter().all(|row| row.finder == Finder::Browser));
    // What was dismissed stays so, however often it is seen.
    let mut tx = db.begin_write(scope).await.expect("begins");
    let gone = tx.dismiss_leak(rows[0].id, after(10)).await;
    assert!(gone.expect("answers").is_some());
    tx.commit().await.expect("commits");
    db.add_browser_leaks(&[row("https://b.example", 1, 11, 11)])
        .await
        .expect("adds");
    assert_eq!(of(db, scope).await[0].dismissed_us, Some(after(10)));
    assert_eq!(of(db, other).await, []);
    // All or none.
    let nobodys = BrowserRow {
        seller: SellerId::new(),
        ..row("https://c.example", 1, 12, 12)
    };
    let failed = db
        .add_browser_leaks(&[row("https://d.example", 1, 12, 12), nobodys])
        .await;
    assert!(failed.is_err());
    assert_eq!(of(db, scope).await.len(), 3);
}

async fn contract_browser_leaks_at_once(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let row = |origin: String| BrowserRow {
        seller: scope.seller(),
        key: key.id,
        origin: origin.into(),
        requests: 1,
        first: T,
        last: T,
    };
    let known = (0..10).map(|n| row(format!("https://{n}.example")));
    let known: Vec<_> = known.collect();
    db.add_browser_leaks(&known).await.expect("adds");
    // Both write what is known and one origin too many: which comes before all others for the one, and last for the other.
    let first = [&[row("https://-.example".into())], &known[..]].concat();
    let last = [&known[..], &[row("https://z.example".into())]].concat();
    const ROUNDS: i64 = 100;
    let writes = async |rows: &[BrowserRow]| {
        for _ in 0..ROUNDS {
            db.add_browser_leaks(rows).await.expect("adds");
        }
    };
    tokio::join!(writes(&first), writes(&last));
    let rows = of(db, scope).await;
    let all: i64 = rows.iter().map(|row| row.times).sum();
    assert_eq!((rows.len(), all), (11, 10 + 2 * 11 * ROUNDS));
}

async fn contract_leak_key_state(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let staged = Key::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    let (digest, hint) = (staged.digest(), staged.secret.hint());
    tx.insert_staged_key(staged.id, digest, hint, "operator", T)
        .await
        .expect("stages");
    seal(&mut tx).await;
    tx.commit().await.expect("commits");
    let place = Place::default();
    for key in [key.id, staged.id] {
        note(db, scope, key, (Finder::Report, &place, Outcome::Told), T).await;
    }
    let states = async || {
        let rows = of(db, scope).await;
        let state = |key| {
            let row = rows.iter().find(|row| row.key_id == key).expect("is there");
            (row.key_state.clone(), row.key_hint.clone())
        };
        (state(key.id), state(staged.id))
    };
    let own = key.secret.hint().to_string();
    let next = hint.to_string();
    let expected = (
        ("live".to_owned(), own.clone()),
        ("staged".to_owned(), next.clone()),
    );
    assert_eq!(states().await, expected);
    let mut tx = db.begin_change(scope).await.expect("begins");
    tx.end_staging(StagedBecomes::Discarded, after(1))
        .await
        .expect("discards");
    tx.end_live_key("expired", Some("found"), after(1))
        .await
        .expect("ends");
    seal(&mut tx).await;
    tx.commit().await.expect("commits");
    let expected = (("expired".to_owned(), own), ("replaced".to_owned(), next));
    assert_eq!(states().await, expected);
}

async fn contract_forget_leaks(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let browser = |origin: &str, at| BrowserRow {
        seller: scope.seller(),
        key: key.id,
        origin: origin.into(),
        requests: 1,
        first: after(at),
        last: after(at),
    };
    let rows = [
        browser("https://1.example", 1),
        browser("https://5.example", 5),
    ];
    db.add_browser_leaks(&rows).await.expect("adds");
    for at in [1, 5] {
        let place = Place::new(&format!("at {at}"), "");
        note(
            db,
            scope,
            key.id,
            (Finder::Report, &place, Outcome::Told),
            after(at),
        )
        .await;
    }
    let places = async || {
        let rows = of(db, scope).await;
        let places: BTreeSet<String> = rows.into_iter().map(|row| row.place).collect();
        places.into_iter().collect::<Vec<_>>()
    };
    db.forget_leaks_before(after(1), after(5))
        .await
        .expect("forgets");
    assert_eq!(places().await, ["at 1", "at 5", "https://5.example"]);
    db.forget_leaks_before(after(5), after(5))
        .await
        .expect("forgets");
    assert_eq!(places().await, ["at 5", "https://5.example"]);
}
