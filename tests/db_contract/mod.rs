//! What `truckradar::db` promises, told once and held by both engines: each contract runs on a SQLite file and on a
//! PostgreSQL database of its own.
//!
//! Never: an answer that depends on the engine; a public method without a contract; a contract passed over because there
//! is no PostgreSQL.

use std::{collections::BTreeSet, fs, future::Future, path::Path, time::Duration};

use serde_json::json;
use tokio::task::JoinHandle;
use truckradar::{
    accounts::{AccountKind, Plan, Slug, tokens::TokenDigest},
    audit::Act,
    clock::{BootTime, Time},
    db::{
        AuditEntry, Db, DbError, DbUrl, DealerChange, LinkKind, ListingFilter, LocationRow,
        NewSeller, OfKeys, ScopedTx, StagedBecomes, UsageRow, WriteTx,
    },
    ids::{AuditId, GrantId, KeyId, ListingId, LocationId, SellerId},
    inventory::{
        listing::{Listing, ListingStatus},
        vin::Vin,
    },
    keys::{
        format::{KeyDigest, SecretKey},
        grant::{GrantName, GrantRecord, Named},
        scope::{OperatorAuthority, SellerScope},
        table::{self, KeyRecord, Snapshot, Standing, TableChange, Trust},
        verify::{Presented, Request, verify},
    },
};

use crate::support::{fixtures, postgres};

/// Contracts, as sentences; each becomes a test of each engine.
macro_rules! contracts {
    ($($sentence:ident: $contract:ident;)+) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $sentence() {
                super::on_sqlite(super::$contract).await;
            })+
        }
        mod postgresql {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $sentence() {
                super::on_postgres(super::$contract).await;
            })+
        }
    };
}

mod audit;
mod erasing;
mod leaks;
mod mail;
mod nodes;
mod people;
mod platforms;
mod ring;
mod second_factor;

contracts! {
    a_schema_is_made_once_and_then_left_alone: contract_migrate;
    a_closed_database_is_unavailable: contract_close;
    a_checkpoint_loses_nothing: contract_checkpoint;

    a_seller_is_found_by_slug_and_by_scope_and_its_slug_is_taken_once: contract_sellers;
    sellers_are_paged_in_the_order_of_their_slugs: contract_sellers_after;
    what_a_dealer_does_not_say_is_left_alone_and_what_it_clears_is_gone: contract_update_dealer;
    locations_are_replaced_as_a_whole_and_keep_their_order: contract_locations;

    a_key_lives_until_it_is_ended_and_every_change_is_counted: contract_key_life;
    a_seller_has_one_live_key_at_most_and_a_digest_one_owner: contract_one_live_key;
    a_change_that_is_not_committed_never_was: contract_dropped_change;
    a_key_is_identified_whatever_became_of_it: contract_identify_key;
    all_but_the_last_hundred_dead_keys_are_forgotten: contract_forget_old_keys;
    a_key_is_shown_once_and_a_receipt_is_filed_once: contract_complete_key_act;
    every_key_is_read_at_one_moment_with_its_epoch: contract_all_keys_of_one_moment;

    a_staged_key_waits_until_it_is_cut_over_or_discarded: contract_staged_key;

    a_write_under_a_dead_key_is_fenced: contract_fence;
    a_change_waits_for_the_write_that_the_old_key_authorised: contract_change_waits_for_write;
    a_write_that_waited_for_a_change_finds_its_key_dead: contract_write_finds_key_dead;
    changes_of_one_seller_come_one_after_another: contract_change_waits_for_change;

    a_listing_is_made_once_and_then_changed: contract_upsert_listings;
    two_who_write_listings_of_one_seller_take_turns: contract_lock_listings;
    what_is_known_of_some_vins_is_ones_own_and_what_others_offer: contract_listings_of;
    the_text_of_a_listing_comes_back_byte_for_byte: contract_listing_text;
    a_vin_is_offered_by_one_seller_at_a_time: contract_one_active_listing;
    a_released_vin_is_free_for_the_next_seller: contract_release_listing;
    each_filter_admits_what_it_names: contract_listing_filters;
    pages_of_listings_follow_one_another: contract_listing_pages;

    usage_adds_up: contract_usage;
    the_same_count_twice_in_one_batch_adds_up: contract_usage_repeated;
    use_is_told_apart_by_kind_and_slot: contract_usage_by_slot;
    old_usage_is_forgotten: contract_forget_usage;
    more_than_a_portion_of_old_usage_is_forgotten: contract_forget_much_usage;
    a_load_test_is_filled_in_bulk: contract_bulk;
}

async fn on_sqlite(contract: impl AsyncFnOnce(&Db)) {
    let folder = tempfile::Builder::new()
        .prefix("tr-")
        .tempdir()
        .expect("a temporary folder");
    let url = DbUrl::Sqlite(folder.path().join("t.db"));
    let db = Db::open(&url).await.expect("opens");
    contract(&db).await;
    db.close().await;
}

async fn on_postgres(contract: impl AsyncFnOnce(&Db)) {
    let database = postgres::Database::create().await;
    let db = Db::open(&DbUrl::Postgres(database.url()))
        .await
        .expect("opens");
    contract(&db).await;
    db.close().await;
}

// ---------------------------------------------------------------------------------------------------------------------
// How contracts begin, and what they say often.

/// When everything here happens: times are handed in, so any will do.
const T: Time = Time(1_764_000_000_000_000);

fn after(seconds: i64) -> Time {
    Time(T.0 + seconds * 1_000_000)
}

fn slug(text: &str) -> Slug {
    text.parse().expect("a slug")
}

fn new_seller(name: &str) -> NewSeller {
    NewSeller {
        id: SellerId::new(),
        slug: slug(name),
        name: format!("{name}, Inc."),
        plan: Plan::Starter,
        kind: AccountKind::Seller,
    }
}

/// A Seller, and the operator's right to act on it.
async fn seller(db: &Db, name: &str) -> SellerScope {
    let seller = new_seller(name);
    let mut tx = db.begin().await.expect("begins");
    tx.insert_seller(&seller, T).await.expect("is new");
    tx.commit().await.expect("commits");
    OperatorAuthority::assume().scope(seller.id)
}

/// Two Sellers in a fresh database. What is done to the first must not be seen at the second.
async fn two_sellers(db: &Db) -> (SellerScope, SellerScope) {
    db.migrate().await.expect("migrates");
    (seller(db, "lone-star").await, seller(db, "other").await)
}

/// A key as a test holds it.
struct Key {
    id: KeyId,
    secret: SecretKey,
}

impl Key {
    fn new() -> Self {
        Self {
            id: KeyId::new(),
            secret: SecretKey::generate().expect("randomness"),
        }
    }

    fn digest(&self) -> KeyDigest {
        self.secret.digest()
    }

    async fn insert(&self, tx: &mut ScopedTx, at: Time) -> Result<(), DbError> {
        let (digest, hint) = (self.secret.digest(), self.secret.hint());
        tx.insert_live_key(self.id, digest, hint, "operator", at)
            .await
    }

    /// What a request with this key is given, if it was live when it was verified.
    fn scope(&self, seller: SellerId) -> SellerScope {
        let record = KeyRecord::of_seller(self.id, seller, Standing::Live);
        let snapshot = Snapshot::build([(self.digest(), record)], Trust::WhileOwner, 0);
        verify(
            &Request::of(Presented::Key(self.digest())),
            &snapshot,
            BootTime(0),
        )
        .expect("a live key")
        .own_scope()
    }

    /// What a request with this key, a Platform's, is given for a Seller that had granted it access.
    fn platform_scope(&self, platform: SellerId, seller: SellerId) -> SellerScope {
        let grant = GrantRecord {
            grant: GrantId::new(),
            seller,
            live: true,
            seller_inactive: false,
        };
        let record = KeyRecord {
            holder: table::Holder::Platform { enterprise: true },
            ..KeyRecord::of_seller(self.id, platform, Standing::Live)
        };
        let all = TableChange {
            put: vec![(self.digest(), record)],
            grants: vec![(GrantName::by_id(platform, seller), grant)],
            ..TableChange::default()
        };
        let request = Request {
            named: Named::Id(seller),
            ..Request::of(Presented::Key(self.digest()))
        };
        let snapshot = Snapshot::of_all(all, Trust::WhileOwner, 0);
        let caller = verify(&request, &snapshot, BootTime(0)).expect("a live key");
        caller.scope().expect("a Seller is named")
    }
}

/// The end of a change of keys, as the product's are.
async fn seal(tx: &mut ScopedTx) -> i64 {
    tx.count_key_version().await.expect("counts");
    tx.seal().await.expect("seals")
}

/// What decides about keys, the keys of it; and the epoch up to which it is complete.
async fn all_keys(db: &Db) -> (Vec<(KeyDigest, KeyRecord)>, i64) {
    let (all, epoch) = db.key_table().await.expect("reads");
    (all.put, epoch)
}

/// Replaces the Seller's key as the product does; answers the new one and the change's epoch.
async fn rotate(db: &Db, scope: SellerScope, at: Time) -> (Key, i64) {
    let key = Key::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    tx.end_live_key("replaced", None, at).await.expect("ends");
    key.insert(&mut tx, at).await.expect("is the only live one");
    let epoch = seal(&mut tx).await;
    tx.commit().await.expect("commits");
    (key, epoch)
}

/// Kills the Seller's key, and leaves it without one.
async fn expire(db: &Db, scope: SellerScope, at: Time) -> i64 {
    let mut tx = db.begin_change(scope).await.expect("begins");
    let ended = tx.end_live_key("expired", Some("leaked"), at).await;
    assert!(ended.expect("ends").is_some(), "there was a live key");
    let epoch = seal(&mut tx).await;
    tx.commit().await.expect("commits");
    epoch
}

fn vin(n: u64) -> Vin {
    fixtures::vin(n).parse().expect("a VIN")
}

fn listing(scope: SellerScope, vin: Vin, fields: &str) -> Listing {
    Listing {
        id: ListingId::new(),
        seller: scope.seller(),
        vin,
        status: ListingStatus::Active,
        fields: fields.to_owned(),
        created: T,
        updated: T,
    }
}

async fn upsert(db: &Db, scope: SellerScope, listings: &[Listing]) -> Result<(), DbError> {
    let mut tx = db.begin_write(scope).await?;
    tx.upsert_listings(listings).await?;
    tx.commit().await
}

/// Everything that a listing is, to be compared whole.
fn whole(listing: &Listing) -> (ListingId, SellerId, Vin, ListingStatus, String, Time, Time) {
    let Listing {
        id,
        seller,
        vin,
        status,
        fields,
        created,
        updated,
    } = listing.clone();
    (id, seller, vin, status, fields, created, updated)
}

fn vins<'a>(listings: impl IntoIterator<Item = &'a Listing>) -> BTreeSet<Vin> {
    listings.into_iter().map(|listing| listing.vin).collect()
}

#[track_caller]
fn assert_unique<T>(result: Result<T, DbError>) {
    let refusal = result.err();
    assert!(matches!(refusal, Some(DbError::Unique)), "{refusal:?}");
}

#[track_caller]
fn assert_fenced<T>(result: Result<T, DbError>) {
    let refusal = result.err();
    assert!(matches!(refusal, Some(DbError::Fenced(_))), "{refusal:?}");
}

/// The one question that no event answers: is it still waiting? A wait that is none ends in a few milliseconds.
///
/// The transaction that is waited for is kept busy meanwhile: PostgreSQL ends one that is idle for a second, which a
/// loaded machine can make of 200 ms.
async fn still_waits<T>(waiting: &mut JoinHandle<T>, holder: &mut impl Holder) {
    let end = tokio::time::Instant::now() + Duration::from_millis(200);
    while tokio::time::Instant::now() < end {
        let ended = tokio::time::timeout(Duration::from_millis(20), &mut *waiting).await;
        assert!(ended.is_err(), "it did not wait");
        holder.ask().await.expect("the holder lives");
    }
}

/// A transaction that others wait for.
trait Holder {
    /// Asks the database anything.
    async fn ask(&mut self) -> Result<(), DbError>;
}

impl Holder for ScopedTx {
    async fn ask(&mut self) -> Result<(), DbError> {
        self.key_version().await.map(drop)
    }
}

impl Holder for WriteTx {
    async fn ask(&mut self) -> Result<(), DbError> {
        let nobodys = TokenDigest([0; 32]);
        self.take_link(LinkKind::Reset, nobodys).await.map(drop)
    }
}

async fn ended<T>(waiting: JoinHandle<T>) -> T {
    waiting.await.expect("does not panic")
}

/// Starts something beside the test, with a handle on the database of its own.
fn beside<T, F>(db: &Db, act: impl FnOnce(Db) -> F) -> JoinHandle<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    tokio::spawn(act(db.clone()))
}

// ---------------------------------------------------------------------------------------------------------------------
// The database itself.

async fn contract_migrate(db: &Db) {
    let unready = db.ping().await.err();
    // A schema that is not there is no passing trouble: nobody should wait for it.
    assert!(matches!(unready, Some(DbError::Internal(_))), "{unready:?}");
    let problem = db.schema_problem().await;
    assert!(problem.is_some_and(|problem| problem.contains("missing")));
    assert!(!db.schema_is_there().await.expect("answers"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let files = fs::read_dir(folder).expect("is there").count();
    assert_eq!(db.migrate().await.expect("migrates"), files);
    assert_eq!(db.schema_problem().await, None);
    assert!(db.schema_is_there().await.expect("answers"));
    seller(db, "lone-star").await;
    assert_eq!(db.migrate().await.expect("migrates again"), files);
    db.ping().await.expect("answers");
    assert!(db.has_sellers().await.expect("answers"));
    let problems = db.integrity_problems().await.expect("answers");
    assert_eq!(problems, [""; 0]);
}

async fn contract_close(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    db.close().await;
    let read = db.ping().await.err();
    assert!(matches!(read, Some(DbError::Unavailable(_))), "{read:?}");
    let write = db.begin_write(scope).await.err();
    assert!(matches!(write, Some(DbError::Unavailable(_))), "{write:?}");
}

/// More than the 8 MiB at which a checkpoint is worth its cost.
async fn write_nine_mebibytes(db: &Db, scope: SellerScope) {
    let fields = json!({"description": "x".repeat(9 << 10)}).to_string();
    let listings: Vec<_> = (0..1024).map(|n| listing(scope, vin(n), &fields)).collect();
    // A little at a time: while an unoptimised program writes it all out, PostgreSQL sees a transaction that idles.
    for some in listings.chunks(16) {
        upsert(db, scope, some).await.expect("stored");
    }
}

async fn contract_checkpoint(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    db.checkpoint().await.expect("there is nothing to do");
    write_nine_mebibytes(db, scope).await;
    db.checkpoint().await.expect("there is something to do");
    assert_eq!(db.count_listings(scope).await.expect("counts").active, 1024);
    upsert(db, scope, &[listing(scope, vin(2000), "{}")])
        .await
        .expect("writes go on");
    let problems = db.integrity_problems().await.expect("answers");
    assert_eq!(problems, [""; 0]);
}

#[tokio::test]
async fn a_checkpoint_moves_the_write_ahead_log_into_the_sqlite_file() {
    let folder = tempfile::Builder::new()
        .prefix("tr-")
        .tempdir()
        .expect("a temporary folder");
    let file = folder.path().join("t.db");
    let db = Db::open(&DbUrl::Sqlite(file.clone())).await.expect("opens");
    let (scope, _) = two_sellers(&db).await;
    let size = || fs::metadata(&file).expect("is there").len();
    write_nine_mebibytes(&db, scope).await;
    assert!(size() < 1 << 20, "it is in the log so far");
    db.checkpoint().await.expect("checkpoints");
    assert!(size() > 9 << 20, "{}", size());
    db.close().await;
    let log = folder.path().join("t.db-wal");
    assert!(!log.exists(), "closing folds the log into the file");
}

// ---------------------------------------------------------------------------------------------------------------------
// Sellers and places.

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

// ---------------------------------------------------------------------------------------------------------------------
// Keys.

async fn contract_key_life(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    assert!(
        db.keys_of_seller(scope, 10)
            .await
            .expect("reads")
            .is_empty()
    );
    let (all, epoch) = all_keys(db).await;
    assert_eq!((all.len(), epoch), (0, 0));

    // A Seller without a key has nothing to end; one that does not exist has no version.
    let mut tx = db.begin_change(scope).await.expect("begins");
    assert_eq!(tx.scope().seller(), scope.seller());
    assert_eq!(tx.key_version().await.expect("reads"), Some(0));
    assert!(tx.live_key().await.expect("reads").is_none());
    let ended = tx.end_live_key("expired", Some("why"), T).await;
    assert!(ended.expect("ends").is_none());
    drop(tx);
    let stranger = OperatorAuthority::assume().scope(SellerId::new());
    let mut tx = db.begin_change(stranger).await.expect("begins");
    assert_eq!(tx.key_version().await.expect("reads"), None);
    drop(tx);

    let first = Key::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    first.insert(&mut tx, after(1)).await.expect("is new");
    let live = tx.live_key().await.expect("reads").expect("is live");
    assert_eq!(live.id, first.id);
    assert_eq!(seal(&mut tx).await, 1);
    assert_eq!(tx.key_version().await.expect("reads"), Some(1));
    tx.commit().await.expect("commits");
    let keys = db.keys_of_seller(scope, 10).await.expect("reads");
    let [row] = &keys[..] else { panic!("{keys:?}") };
    assert_eq!(row.id, first.id);
    assert_eq!(row.hint, first.secret.hint().to_string());
    assert_eq!((&*row.state, &*row.made_by), ("live", "operator"));
    assert_eq!(row.created_us, after(1));
    assert_eq!((row.shown_us, row.ended_us), (None, None));
    assert_eq!(row.end_reason, None);

    // Replaced in one transaction, as every generation does it.
    let second = Key::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    let ended = tx.end_live_key("replaced", None, after(2)).await;
    let ended = ended.expect("ends").expect("was live");
    assert_eq!(ended, (first.id, first.digest()));
    assert!(tx.live_key().await.expect("reads").is_none());
    second.insert(&mut tx, after(2)).await.expect("is new");
    assert_eq!(seal(&mut tx).await, 2);
    tx.commit().await.expect("commits");

    // The epoch is one for all Sellers, the version each one's own.
    let (theirs, epoch) = rotate(db, other, after(3)).await;
    assert_eq!(epoch, 3);
    assert_eq!(expire(db, scope, after(4)).await, 4);
    let (third, epoch) = rotate(db, scope, after(5)).await;
    assert_eq!(epoch, 5);
    let version = async |scope| {
        let row = db.seller(scope).await.expect("reads");
        row.expect("is there").key_version
    };
    assert_eq!(version(scope).await, 4);
    assert_eq!(version(other).await, 1);

    let keys = db.keys_of_seller(scope, 10).await.expect("reads");
    let told: Vec<_> = keys
        .iter()
        .map(|key| (key.id, &*key.state, key.ended_us, key.end_reason.as_deref()))
        .collect();
    let expected = [
        (third.id, "live", None, None),
        (second.id, "expired", Some(after(4)), Some("leaked")),
        (first.id, "replaced", Some(after(2)), None),
    ];
    assert_eq!(told, expected);
    let newest = db.keys_of_seller(scope, 1).await.expect("reads");
    assert_eq!(newest.len(), 1);
    assert_eq!(newest[0].id, third.id);

    let (mut all, epoch) = all_keys(db).await;
    assert_eq!(epoch, 5);
    let record = |key: &Key, scope: SellerScope, standing| {
        let record = KeyRecord::of_seller(key.id, scope.seller(), standing);
        (key.digest(), record)
    };
    let mut expected = vec![
        record(&first, scope, Standing::Dead),
        record(&second, scope, Standing::Dead),
        record(&third, scope, Standing::Live),
        record(&theirs, other, Standing::Live),
    ];
    all.sort_by_key(|entry| entry.0);
    expected.sort_by_key(|entry| entry.0);
    assert_eq!(all, expected);
}

async fn contract_staged_key(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (live, _) = rotate(db, scope, T).await;
    let stage = async |scope: SellerScope, key: &Key, at| {
        let mut tx = db.begin_change(scope).await.expect("begins");
        let (digest, hint) = (key.digest(), key.secret.hint());
        let staged = tx
            .insert_staged_key(key.id, digest, hint, "user:x", at)
            .await;
        if staged.is_ok() {
            seal(&mut tx).await;
            tx.commit().await.expect("commits");
        }
        staged
    };
    let standing = async |key: &Key| {
        let (all, _) = all_keys(db).await;
        let found = all.iter().find(|(digest, _)| *digest == key.digest());
        found.map(|(_, record)| record.standing)
    };
    assert!(db.staged_key(scope).await.expect("reads").is_none());
    let first = Key::new();
    stage(scope, &first, after(1)).await.expect("there is none");
    assert_unique(stage(scope, &Key::new(), after(2)).await);
    let theirs = Key::new();
    stage(other, &theirs, after(2))
        .await
        .expect("another Seller's");
    assert_eq!(standing(&first).await, Some(Standing::Staged));
    assert_eq!(standing(&live).await, Some(Standing::Live));
    let row = db
        .staged_key(scope)
        .await
        .expect("reads")
        .expect("is there");
    assert_eq!(
        (row.id, row.made_by.as_str(), row.created_us),
        (first.id, "user:x", after(1))
    );
    assert_eq!(
        (row.hint, row.shown_us),
        (first.secret.hint().to_string(), None)
    );
    let found = db
        .identify_key(first.digest())
        .await
        .expect("reads")
        .expect("is known");
    assert_eq!(
        (found.key.state.as_str(), found.seller_id),
        ("staged", scope.seller())
    );
    let rows = db.keys_of_seller(scope, 10).await.expect("reads");
    assert_eq!(rows.len(), 1, "it is none of the keys that were ever live");

    // Shown once, as any key is.
    let act = AuditId::new();
    db.complete_key_act(act, "{}", Some(first.id), after(3))
        .await
        .expect("files");
    db.complete_key_act(act, "{}", Some(first.id), after(4))
        .await
        .expect("files");
    let row = db
        .staged_key(scope)
        .await
        .expect("reads")
        .expect("is there");
    assert_eq!(row.shown_us, Some(after(3)));

    // Cut over: beside a live key it cannot become one.
    let mut tx = db.begin_change(scope).await.expect("begins");
    assert_unique(
        tx.end_staging(StagedBecomes::Live, after(5))
            .await
            .map(drop),
    );
    drop(tx);
    let mut tx = db.begin_change(scope).await.expect("begins");
    assert_eq!(
        tx.staged_key().await.expect("reads").map(|key| key.id),
        Some(first.id)
    );
    tx.end_live_key("replaced", None, after(5))
        .await
        .expect("ends");
    let moved = tx
        .end_staging(StagedBecomes::Live, after(5))
        .await
        .expect("moves");
    assert!(moved == Some((first.id, first.digest())));
    let epoch = seal(&mut tx).await;
    tx.commit().await.expect("commits");
    assert_eq!(all_keys(db).await.1, epoch);
    assert_eq!(standing(&first).await, Some(Standing::Live));
    assert_eq!(standing(&live).await, Some(Standing::Dead));
    let rows = db.keys_of_seller(scope, 10).await.expect("reads");
    assert_eq!((rows[0].id, rows[0].state.as_str()), (first.id, "live"));
    assert_eq!(
        (rows[0].created_us, rows[0].live_us),
        (after(1), Some(after(5)))
    );
    assert_eq!(rows[0].shown_us, Some(after(3)));
    db.begin_write(first.scope(scope.seller()))
        .await
        .expect("is live");

    // Discarded: dead, and never live.
    let second = Key::new();
    stage(scope, &second, after(6))
        .await
        .expect("there is none");
    let fenced = db.begin_write(second.scope(scope.seller())).await.err();
    assert!(matches!(fenced, Some(DbError::Fenced(_))), "{fenced:?}");
    let mut tx = db.begin_change(scope).await.expect("begins");
    let moved = tx
        .end_staging(StagedBecomes::Discarded, after(7))
        .await
        .expect("moves");
    assert!(moved == Some((second.id, second.digest())));
    let none = tx.end_staging(StagedBecomes::Discarded, after(7)).await;
    assert!(none.expect("has nothing to do").is_none());
    seal(&mut tx).await;
    tx.commit().await.expect("commits");
    assert_eq!(standing(&second).await, Some(Standing::Dead));
    let died = db.last_death(scope).await.expect("reads");
    assert_eq!(died, Some(after(5)), "of the one that was live");
    assert_eq!(
        standing(&theirs).await,
        Some(Standing::Staged),
        "left alone"
    );
    let rows = db.keys_of_seller(scope, 10).await.expect("reads");
    let row = rows
        .iter()
        .find(|row| row.id == second.id)
        .expect("is there");
    assert_eq!((row.live_us, row.ended_us), (None, Some(after(7))));
    assert_eq!(
        row.end_reason.as_deref(),
        Some("discarded before it was ever live")
    );
}

async fn contract_one_live_key(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    // In a transaction of its own, and in the one that made the other.
    let mut tx = db.begin_change(scope).await.expect("begins");
    assert_unique(Key::new().insert(&mut tx, T).await);
    drop(tx);
    let mut tx = db.begin_change(other).await.expect("begins");
    Key::new().insert(&mut tx, T).await.expect("is the first");
    assert_unique(Key::new().insert(&mut tx, T).await);
    drop(tx);
    // Not even by the door that passes the use cases by.
    let mut tx = db.begin().await.expect("begins");
    let intruder = Key::new();
    let row = (
        scope.seller(),
        intruder.id,
        intruder.digest(),
        intruder.secret.hint(),
    );
    assert_unique(Db::insert_live_keys_in_bulk(&mut tx, &[row], "operator", T).await);
    drop(tx);
    // The same secret twice is nobody's, even when its first life is over.
    expire(db, scope, T).await;
    let mut tx = db.begin_change(other).await.expect("begins");
    let same = Key {
        id: KeyId::new(),
        secret: SecretKey::parse(key.secret.expose().as_bytes()).expect("a key"),
    };
    assert_unique(same.insert(&mut tx, T).await);
}

async fn contract_dropped_change(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (key, epoch) = rotate(db, scope, T).await;
    let mut tx = db.begin_change(scope).await.expect("begins");
    tx.end_live_key("replaced", None, T).await.expect("ends");
    Key::new().insert(&mut tx, T).await.expect("is new");
    assert_eq!(seal(&mut tx).await, epoch + 1);
    drop(tx);

    let (all, now) = all_keys(db).await;
    assert_eq!(now, epoch);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].0, key.digest());
    assert_eq!(all[0].1.standing, Standing::Live);
    // What was dropped holds nobody up, and is not counted.
    let (_, next) = rotate(db, scope, T).await;
    assert_eq!(next, epoch + 1);
}

async fn contract_identify_key(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let identify = async |key: &Key| db.identify_key(key.digest()).await.expect("answers");
    assert!(identify(&Key::new()).await.is_none());
    let (first, _) = rotate(db, scope, after(1)).await;
    let (second, _) = rotate(db, scope, after(2)).await;
    let (theirs, _) = rotate(db, other, after(3)).await;
    expire(db, other, after(4)).await;
    for (key, owner, state, reason) in [
        (&first, ("lone-star", scope), "replaced", None),
        (&second, ("lone-star", scope), "live", None),
        (&theirs, ("other", other), "expired", Some("leaked")),
    ] {
        let found = identify(key).await.expect("is known");
        assert_eq!(found.key.id, key.id);
        assert_eq!(found.key.hint, key.secret.hint().to_string());
        assert_eq!(found.key.state, state);
        assert_eq!(found.key.end_reason.as_deref(), reason);
        assert_eq!((&*found.slug, found.seller_id), (owner.0, owner.1.seller()));
        assert_eq!(found.name, format!("{}, Inc.", owner.0));
    }
}

async fn contract_forget_old_keys(db: &Db) {
    const KEPT: usize = 100;
    let (scope, other) = two_sellers(db).await;
    let (theirs, _) = rotate(db, other, T).await;
    expire(db, other, T).await;

    let mut keys: Vec<Key> = Vec::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    for n in 0..=KEPT {
        let state = if n % 2 == 0 { "replaced" } else { "expired" };
        // Several die in the same microsecond: the younger one is kept then.
        let at = after(n as i64 / 3);
        tx.end_live_key(state, None, at).await.expect("ends");
        let forgotten = tx.forget_old_keys().await.expect("answers");
        assert_eq!(forgotten, [], "{n} are dead");
        let key = Key::new();
        key.insert(&mut tx, at).await.expect("is new");
        keys.push(key);
    }
    // Live keys do not count: a hundred are dead by now. One more, and the first is forgotten.
    tx.end_live_key("replaced", None, after(1000))
        .await
        .expect("ends");
    let forgotten = tx.forget_old_keys().await.expect("answers");
    assert_eq!(forgotten, [keys[0].digest()]);
    let again = tx.forget_old_keys().await.expect("answers");
    assert_eq!(again, [], "it is forgotten once");
    let epoch = seal(&mut tx).await;
    tx.commit().await.expect("commits");

    let (all, now) = all_keys(db).await;
    assert_eq!(now, epoch);
    let known: BTreeSet<KeyDigest> = all.iter().map(|(digest, _)| *digest).collect();
    assert_eq!(known.len(), KEPT + 1, "theirs is another Seller's");
    assert!(!known.contains(&keys[0].digest()));
    assert!(known.contains(&keys[1].digest()) && known.contains(&theirs.digest()));
    let oldest = db.identify_key(keys[0].digest()).await.expect("answers");
    assert!(oldest.is_none());
    // Its row stays, for the audit log's sake.
    let rows = db.keys_of_seller(scope, 200).await.expect("reads");
    assert_eq!(rows.len(), KEPT + 1);
    let oldest = rows.iter().find(|row| row.id == keys[0].id);
    assert_eq!(oldest.expect("is there").state, "forgotten");
}

async fn contract_complete_key_act(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let act = AuditId::new();
    let mut tx = db.begin_change(scope).await.expect("begins");
    let entry = AuditEntry::of(scope, T, Act::KeyGenerated);
    tx.append_audit(&AuditEntry { id: act, ..entry })
        .await
        .expect("appends");
    tx.commit().await.expect("commits");
    let state = async || {
        let keys = db.keys_of_seller(scope, 1).await.expect("reads");
        let acts = db.oldest_audit(scope, None, 9).await.expect("reads");
        (keys[0].shown_us, acts[0].receipt.clone())
    };
    assert_eq!(state().await, (None, None));
    db.complete_key_act(act, "{\"receipt\":1}", Some(key.id), after(1))
        .await
        .expect("completes");
    let completed = (Some(after(1)), Some("{\"receipt\":1}".to_owned()));
    assert_eq!(state().await, completed);
    // The first time is the one that counts.
    db.complete_key_act(act, "{\"receipt\":2}", Some(key.id), after(2))
        .await
        .expect("changes nothing");
    assert_eq!(state().await, completed);

    // An expiry shows no key.
    rotate(db, scope, after(3)).await;
    let expiry = AuditEntry::of(scope, T, Act::KeyExpired);
    let mut tx = db.begin_change(scope).await.expect("begins");
    tx.append_audit(&expiry).await.expect("appends");
    tx.commit().await.expect("commits");
    db.complete_key_act(expiry.id, "{}", None, after(4))
        .await
        .expect("completes");
    let keys = db.keys_of_seller(scope, 1).await.expect("reads");
    assert_eq!(keys[0].shown_us, None);
    let acts = db.oldest_audit(scope, None, 9).await.expect("reads");
    assert_eq!(acts[1].receipt.as_deref(), Some("{}"));
}

async fn contract_all_keys_of_one_moment(db: &Db) {
    const CHANGES: usize = 60;
    let (scope, _) = two_sellers(db).await;
    // Each change adds one key and one to the epoch, so the two are equal at every moment, and the last is live.
    let mut changing = beside(db, async move |db| {
        for n in 0..CHANGES {
            rotate(&db, scope, after(n as i64)).await;
        }
    });
    loop {
        let (keys, epoch) = all_keys(db).await;
        assert_eq!(keys.len() as i64, epoch);
        let live = keys.iter().filter(|(_, r)| r.standing == Standing::Live);
        assert_eq!(live.count() as i64, epoch.min(1));
        if changing.is_finished() {
            break;
        }
    }
    (&mut changing).await.expect("every change was made");
    let (keys, _) = all_keys(db).await;
    assert_eq!(keys.len(), CHANGES);
}

// ---------------------------------------------------------------------------------------------------------------------
// The fence.

async fn contract_fence(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let by_key = key.scope(scope.seller());
    let one = [listing(scope, vin(1), "{}")];
    upsert(db, by_key, &one).await.expect("the key is live");

    // Live, but another Seller's.
    assert_fenced(db.begin_write(key.scope(other.seller())).await);
    // Nobody's.
    assert_fenced(db.begin_write(Key::new().scope(scope.seller())).await);
    // Replaced, and expired.
    let (next, _) = rotate(db, scope, T).await;
    assert_fenced(db.begin_write(by_key).await);
    upsert(db, next.scope(scope.seller()), &one)
        .await
        .expect("the new one is live");
    expire(db, scope, T).await;
    assert_fenced(db.begin_write(next.scope(scope.seller())).await);
    // The operator needs no key. A fence that fell leaves no lock behind either.
    upsert(db, scope, &one).await.expect("needs no key");
    rotate(db, scope, T).await;
}

async fn contract_change_waits_for_write(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let by_key = key.scope(scope.seller());
    let mut write = db.begin_write(by_key).await.expect("the key is live");
    let mut change = beside(db, async move |db| db.begin_change(scope).await);
    still_waits(&mut change, &mut write).await;
    write
        .upsert_listings(&[listing(scope, vin(1), "{}")])
        .await
        .expect("the write is in order");
    write.commit().await.expect("lands");
    // It comes after the write, and sees it.
    let mut change = ended(change).await.expect("its turn");
    let seen = change.listings_of(&[vin(1)]).await.expect("reads");
    assert_eq!(seen.len(), 1);

    // A write that is given up holds nobody up.
    drop(change);
    let mut write = db.begin_write(by_key).await.expect("the key is live");
    let mut change = beside(db, async move |db| db.begin_change(scope).await);
    still_waits(&mut change, &mut write).await;
    drop(write);
    drop(ended(change).await.expect("its turn"));
}

async fn contract_write_finds_key_dead(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (key, _) = rotate(db, scope, T).await;
    let by_key = key.scope(scope.seller());
    let mut change = db.begin_change(scope).await.expect("begins");
    change
        .end_live_key("replaced", None, T)
        .await
        .expect("ends");
    let new = Key::new();
    new.insert(&mut change, T).await.expect("is new");
    seal(&mut change).await;
    let mut write = beside(db, async move |db| db.begin_write(by_key).await);
    still_waits(&mut write, &mut change).await;
    change.commit().await.expect("commits");
    assert_fenced(ended(write).await);
    let by_new = new.scope(scope.seller());
    drop(db.begin_write(by_new).await.expect("the new key is live"));

    // A change that is given up kills nothing.
    let mut change = db.begin_change(scope).await.expect("begins");
    change.end_live_key("expired", None, T).await.expect("ends");
    let mut write = beside(db, async move |db| db.begin_write(by_new).await);
    still_waits(&mut write, &mut change).await;
    drop(change);
    drop(ended(write).await.expect("its key is live"));
}

async fn contract_change_waits_for_change(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let mut first = db.begin_change(scope).await.expect("begins");
    let mut second = beside(db, async move |db| {
        let mut tx = db.begin_change(scope).await?;
        tx.key_version().await
    });
    still_waits(&mut second, &mut first).await;
    Key::new().insert(&mut first, T).await.expect("is new");
    seal(&mut first).await;
    first.commit().await.expect("commits");
    // What the second one acts on is what the first one left.
    assert_eq!(ended(second).await.expect("its turn"), Some(1));
}

/// SQLite has one writer, so this is PostgreSQL's alone.
#[tokio::test]
async fn on_postgresql_writes_wait_for_nobody_but_a_change_of_their_own_seller() {
    on_postgres(async |db: &Db| {
        let (scope, other) = two_sellers(db).await;
        let (key, _) = rotate(db, scope, T).await;
        let (theirs, _) = rotate(db, other, T).await;
        let by_key = key.scope(scope.seller());
        let by_theirs = theirs.scope(other.seller());

        let one = db.begin_write(by_key).await.expect("begins");
        let two = db.begin_write(by_key).await.expect("writes share");
        upsert(db, by_theirs, &[listing(other, vin(2), "{}")])
            .await
            .expect("another Seller's write");
        let change = db.begin_change(other).await.expect("another Seller's key");
        drop(change);
        drop((one, two));

        let change = db.begin_change(scope).await.expect("begins");
        upsert(db, by_theirs, &[listing(other, vin(3), "{}")])
            .await
            .expect("another Seller's write");
        drop(db.begin_change(other).await.expect("another Seller's key"));
        drop(change);
    })
    .await;
}

// ---------------------------------------------------------------------------------------------------------------------
// Listings.

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

// ---------------------------------------------------------------------------------------------------------------------
// Usage, bulk.

/// `minute` is counted from the first one of all.
fn used(scope: SellerScope, key: KeyId, minute: i64, client: i64, class: &'static str) -> UsageRow {
    UsageRow {
        seller: scope.seller(),
        key,
        minute: T.minute() + minute,
        client,
        address: format!("198.51.100.{}", client.unsigned_abs() % 100),
        user_agent: format!("agent \"{client}\" \\ é🚛'"),
        status_class: class,
        requests: 1,
        last_us: T.0 + minute,
    }
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
            (5, new, [7, 0, 2]),
        ]
    );
    let mut by_three = [
        (0, old, [11, 3, 0]),
        (0, new, [0, 4, 0]),
        (1, old, [0, 2, 0]),
        (1, new, [7, 0, 2]),
    ];
    by_three.sort();
    assert_eq!(slots(scope, 0, 3).await, by_three);
    assert_eq!(
        slots(scope, 4, 1).await,
        [(0, old, [0, 2, 0]), (1, new, [7, 0, 2])]
    );
    assert_eq!(slots(other, 0, 15).await, [(0, old, [1_000, 0, 0])]);
    assert_eq!(slots(scope, 6, 1).await, []);

    // A refusal of a key that waits is neither a call that was let in nor one of a dead key.
    let clients = db
        .clients_since(scope, OfKeys::Only(new), T.minute(), 10)
        .await;
    let clients: Vec<_> = clients.expect("answers");
    let first = clients
        .iter()
        .find(|c| c.address == used(scope, new, 0, 1, "").address);
    let first = first.expect("the client");
    assert_eq!((first.accepted, first.unauthorized), (8, 0));
    let clients = db
        .clients_since(scope, OfKeys::Only(old), T.minute(), 10)
        .await;
    let first = clients.expect("answers").remove(0);
    assert_eq!((first.accepted, first.unauthorized), (10, 5));
    let waiting = KeyId::new();
    db.add_usage(&[used(scope, waiting, 0, 1, "staged")])
        .await
        .expect("adds");
    assert_eq!(
        db.last_accepted(scope, waiting).await.expect("answers"),
        None
    );
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

#[tokio::test]
async fn looking_at_a_file_changes_nothing_and_makes_none() {
    let folder = tempfile::Builder::new()
        .prefix("tr-")
        .tempdir()
        .expect("a folder");
    let file = folder.path().join("t.db");
    assert!(Db::inspect(&file).await.is_err());
    assert!(!file.exists());
    fs::write(&file, b"").expect("writes");
    let db = Db::inspect(&file).await.expect("opens");
    assert!(db.schema_problem().await.is_some());
    assert!(db.migrate().await.is_err(), "it is for looking only");
    db.close().await;
    assert_eq!(fs::read(&file).expect("reads"), b"");
    let db = Db::open(&DbUrl::Sqlite(file)).await.expect("opens");
    assert_eq!(db.migrate().await.expect("migrates"), Db::schema_version());
}

// ---------------------------------------------------------------------------------------------------------------------
// Nothing without a contract.

/// The names of the public methods in a source of `src/db`.
fn methods(source: &str) -> impl Iterator<Item = &str> {
    ["pub async fn ", "pub fn "]
        .into_iter()
        .flat_map(|opening| source.split(opening).skip(1))
        .map(|rest| rest.split(['(', '<']).next().unwrap_or_default())
}

#[test]
fn every_public_method_of_the_database_has_a_contract() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/db");
    let contracts = [
        include_str!("mod.rs"),
        include_str!("audit.rs"),
        include_str!("erasing.rs"),
        include_str!("leaks.rs"),
        include_str!("mail.rs"),
        include_str!("nodes.rs"),
        include_str!("people.rs"),
        include_str!("platforms.rs"),
        include_str!("ring.rs"),
        include_str!("second_factor.rs"),
    ];
    let mut seen = 0;
    for file in fs::read_dir(folder).expect("is there") {
        let source = fs::read_to_string(file.expect("is there").path()).expect("is text");
        for method in methods(&source) {
            seen += 1;
            assert!(
                contracts.iter().any(|source| is_called(method, source)),
                "tests/db_contract holds nothing about `{method}` of src/db: give it a contract"
            );
        }
    }
    assert!(seen > 65, "only {seen} methods were found");
}

/// Whether a source calls a method, in code and not in a comment.
fn is_called(method: &str, source: &str) -> bool {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .any(|line| {
            [".", "::"]
                .iter()
                .any(|before| line.contains(&format!("{before}{method}(")))
        })
}

#[test]
fn a_method_without_a_contract_would_be_noticed() {
    let source = "impl Db {\n    pub async fn old(&self) {}\n    pub async fn new<T>(&self) {}\n}";
    let found: Vec<_> = methods(source).collect();
    assert_eq!(found, ["old", "new"]);
    assert!(is_called("old", "db.old().await"));
    assert!(!is_called("new", "// db.new()\ndb.renew();\nnew();"));
}
