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
mod fence;
mod keys;
mod leaks;
mod links;
mod listings;
mod mail;
mod member_fence;
mod nodes;
mod people;
mod platforms;
mod ring;
mod schema;
mod second_factor;
mod sellers;
mod sessions;
mod usage;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("tr-").tempdir();
    folder.expect("a temporary folder")
}

async fn on_sqlite(contract: impl AsyncFnOnce(&Db)) {
    let folder = folder();
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

/// Begins a change beside a write of somebody's that lists a unit, and lets the write land: the change waits for it. What became
/// of the change.
async fn after_the_write_of<T, F>(db: &Db, by: SellerScope, change: impl FnOnce(Db) -> F) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut write = db.begin_write(by).await.expect("may act");
    let mut change = beside(db, change);
    still_waits(&mut change, &mut write).await;
    let listed = write.upsert_listings(&[listing(by, vin(1), "{}")]).await;
    listed.expect("the write is in order");
    write.commit().await.expect("lands");
    ended(change).await
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
        include_str!("fence.rs"),
        include_str!("keys.rs"),
        include_str!("leaks.rs"),
        include_str!("links.rs"),
        include_str!("listings.rs"),
        include_str!("mail.rs"),
        include_str!("member_fence.rs"),
        include_str!("nodes.rs"),
        include_str!("people.rs"),
        include_str!("platforms.rs"),
        include_str!("ring.rs"),
        include_str!("schema.rs"),
        include_str!("second_factor.rs"),
        include_str!("sellers.rs"),
        include_str!("sessions.rs"),
        include_str!("usage.rs"),
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
