//! How long a batch of 500 records takes, from the records as JSON values to their being durable, beside the bare
//! transaction that writes the same rows; and how long replacing a key takes. On SQLite, on a real disk.
//!
//! Run it with `cargo bench --bench batch`; `-- --json` prints one object for `bench/http` to read. Batches through the
//! pipeline and bare ones take turns on one file, which is new in every round.
//!
//! Never: a pass or a fail (it prints figures); a file outside the target folder.

use std::{
    error::Error,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use truckradar::{
    clock::{Clock, Time},
    db::{Db, DbUrl},
    demo,
    ids::ListingId,
    inventory::{
        listing::{Listing, ListingStatus, ListingType},
        pipeline::Change,
        service::Inventory,
        validate::{self, Rules},
    },
    keys::{
        Keys,
        format::SecretKey,
        scope::SellerScope,
        verify::{self, Request},
    },
    services::{Services, Settings},
};

type Anything<T> = Result<T, Box<dyn Error>>;

/// How much is measured.
#[derive(Clone, Copy)]
struct Plan {
    rounds: usize,
    batches: usize,
    records: usize,
    rotations: usize,
}

const MEASURING: Plan = Plan {
    rounds: 5,
    batches: 20,
    records: 500,
    rotations: 20,
};

/// Only to see whether everything runs, as under `cargo test`.
const TRYING: Plan = Plan {
    rounds: 1,
    batches: 2,
    records: 10,
    rotations: 2,
};

/// What was measured, a list for each thing.
#[derive(Default)]
struct Times {
    created: Vec<Duration>,
    created_bare: Vec<Duration>,
    unchanged: Vec<Duration>,
    updated: Vec<Duration>,
    updated_bare: Vec<Duration>,
    rotation: Vec<Duration>,
}

fn main() -> Anything<()> {
    let asked = |option: &str| std::env::args().any(|arg| arg == option);
    let plan = if asked("--bench") { MEASURING } else { TRYING };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let rounds = (0..plan.rounds)
        .map(|_| runtime.block_on(round(plan)))
        .collect::<Anything<Vec<_>>>()?;

    let all = |of: fn(&Times) -> &Vec<Duration>| {
        let times = rounds.iter().flat_map(of).map(|time| ms(*time));
        median(times.collect())
    };
    // A ratio is taken within a round, so that a slow minute of the machine falls on both of its sides.
    let ratio = |of: fn(&Times) -> &Vec<Duration>, to: fn(&Times) -> &Vec<Duration>| {
        let median_ms =
            |times: &Vec<Duration>| median(times.iter().map(|time| ms(*time)).collect());
        let ratios = rounds
            .iter()
            .map(|round| median_ms(of(round)) / median_ms(to(round)));
        median(ratios.collect())
    };
    let created_ratio = ratio(|t| &t.created, |t| &t.created_bare);
    let updated_ratio = ratio(|t| &t.updated, |t| &t.updated_bare);
    let figures = json!({
        "records": plan.records,
        "samples": plan.rounds * plan.batches,
        "created_ms": all(|t| &t.created),
        "created_bare_ms": all(|t| &t.created_bare),
        "created_ratio": created_ratio,
        "unchanged_ms": all(|t| &t.unchanged),
        "updated_ms": all(|t| &t.updated),
        "updated_bare_ms": all(|t| &t.updated_bare),
        "updated_ratio": updated_ratio,
        "rotation_ms": all(|t| &t.rotation),
    });
    if asked("--json") {
        println!("{figures}");
        return Ok(());
    }
    let Plan {
        records,
        rounds,
        batches,
        ..
    } = plan;
    println!("{records} records in one batch, medians of {rounds} rounds of {batches} batches:");
    let line = |name: &str, key: &str, note: String| {
        println!(
            "  {name:<36} {:8.2} ms{note}",
            figures[key].as_f64().unwrap_or(f64::NAN)
        );
    };
    let beside = |ratio: f64| format!("   {ratio:.2} of the bare transaction");
    line("all new", "created_ms", beside(created_ratio));
    line(
        "the bare transaction of such rows",
        "created_bare_ms",
        String::new(),
    );
    line("all changed", "updated_ms", beside(updated_ratio));
    line(
        "the bare transaction of such rows",
        "updated_bare_ms",
        String::new(),
    );
    line("all as they are", "unchanged_ms", String::new());
    println!("One key replaced, from the call to the receipt:");
    line("rotation", "rotation_ms", String::new());
    Ok(())
}

/// One round on a file of its own.
async fn round(plan: Plan) -> Anything<Times> {
    let folder = tempfile::Builder::new()
        .prefix("bench-batch-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let clock = Clock::system();
    let db = Db::open(&DbUrl::Sqlite(folder.path().join("batch.db"))).await?;
    db.migrate().await?;
    let keys = demo::fill_in_bulk(&db, clock.now(), 3, 0).await?;
    let services = Services::start(db, clock, settings(), Some("here".to_owned())).await?;
    let [pipeline, bare, rotating] = &keys[..] else {
        return Err("three keys were asked for".into());
    };

    let mut times = Times::default();
    let pipeline = scope(&services, pipeline)?;
    let bare = scope(&services, bare)?;
    for batch in 0..plan.batches {
        let one = Batch::new(plan, batch);
        let mut rows = one.listings(bare, services.clock.now())?;
        // Whoever comes second finds the file longer, so they take turns at that too.
        if batch % 2 == 0 {
            times
                .created
                .push(ingest(&services.inventory, pipeline, &one, Change::Created).await?);
            times
                .created_bare
                .push(write(&services.db, bare, &rows).await?);
        } else {
            times
                .created_bare
                .push(write(&services.db, bare, &rows).await?);
            times
                .created
                .push(ingest(&services.inventory, pipeline, &one, Change::Created).await?);
        }
        services.db.checkpoint().await?;

        times
            .unchanged
            .push(ingest(&services.inventory, pipeline, &one, Change::Unchanged).await?);

        let other = one.with_other_prices();
        for (row, changed) in rows
            .iter_mut()
            .zip(other.listings(bare, services.clock.now())?)
        {
            row.fields = changed.fields;
            row.updated = changed.updated;
        }
        if batch % 2 == 0 {
            times
                .updated_bare
                .push(write(&services.db, bare, &rows).await?);
            times
                .updated
                .push(ingest(&services.inventory, pipeline, &other, Change::Updated).await?);
        } else {
            times
                .updated
                .push(ingest(&services.inventory, pipeline, &other, Change::Updated).await?);
            times
                .updated_bare
                .push(write(&services.db, bare, &rows).await?);
        }
        services.db.checkpoint().await?;
    }
    let rotating = scope(&services, rotating)?;
    for _ in 0..plan.rotations {
        times
            .rotation
            .push(rotate(&services.db, &services.keys, rotating).await?);
    }
    services.db.close().await;
    Ok(times)
}

/// The scope of a key, got as a request gets it.
fn scope(services: &Services, key: &SecretKey) -> Anything<SellerScope> {
    let presented = verify::Presented::Key(key.digest());
    let snapshot = services.keys.revocation.snapshot();
    let caller = verify::verify(&Request::of(presented), &snapshot, services.clock.boot())
        .map_err(|refusal| format!("a new key was refused: {refusal:?}"))?;
    Ok(caller.own_scope())
}

/// The batch through the pipeline, as a request's handler sends it there.
async fn ingest(
    inventory: &Arc<Inventory>,
    scope: SellerScope,
    batch: &Batch,
    expected: Change,
) -> Anything<Duration> {
    let records = batch.records.clone();
    let began = Instant::now();
    let results = inventory.ingest(scope, records).await?;
    let took = began.elapsed();
    for result in results {
        let stored = result.outcome.map_err(|rejected| format!("{rejected:?}"))?;
        if stored.change != expected || !stored.warnings.is_empty() {
            return Err(format!("expected {expected:?} without a warning: {stored:?}").into());
        }
    }
    Ok(took)
}

/// The rows alone: the fence, one statement, the commit.
async fn write(db: &Db, scope: SellerScope, rows: &[Listing]) -> Anything<Duration> {
    let began = Instant::now();
    let mut tx = db.begin_write(scope).await?;
    tx.upsert_listings(rows).await?;
    tx.commit().await?;
    Ok(began.elapsed())
}

async fn rotate(db: &Db, keys: &Arc<Keys>, scope: SellerScope) -> Anything<Duration> {
    let seller = db.seller(scope).await?.ok_or("the Seller is there")?;
    let version = seller.key_version;
    let began = Instant::now();
    keys.generate(scope, version).await?;
    Ok(began.elapsed())
}

/// Records that are told apart by their VINs.
struct Batch {
    records: Vec<Value>,
    serials: Range<usize>,
}

impl Batch {
    fn new(plan: Plan, number: usize) -> Self {
        let serials = number * plan.records..(number + 1) * plan.records;
        let records = serials.clone().map(|serial| record("1FUJGLDR", serial));
        Self {
            records: records.collect(),
            serials,
        }
    }

    fn with_other_prices(&self) -> Self {
        let mut records = self.records.clone();
        for record in &mut records {
            record["price"] = json!(record["price"].as_i64().unwrap_or_default() + 500);
        }
        Self {
            records,
            serials: self.serials.clone(),
        }
    }

    /// The rows that such records become, under VINs of their own.
    fn listings(&self, scope: SellerScope, now: Time) -> Anything<Vec<Listing>> {
        let rows = self
            .serials
            .clone()
            .zip(&self.records)
            .map(|(serial, sent)| {
                let mut record = record("3AKJHHDR", serial);
                record["price"] = sent["price"].clone();
                let record = record.as_object().ok_or("not an object")?;
                let checked = validate::validate(record, Rules::default(), i64::from(now.year()))
                    .map_err(|issues| format!("{issues:?}"))?;
                let mut checked = validate::normalize(checked);
                checked.fields.listing_type = ListingType::Truck;
                Ok(Listing {
                    id: ListingId::new(),
                    seller: scope.seller(),
                    vin: checked.vin,
                    status: ListingStatus::Active,
                    fields: serde_json::to_string(&checked.fields)?,
                    created: now,
                    updated: now,
                })
            });
        rows.collect()
    }
}

/// A record of the usual size, some 800 bytes as JSON.
fn record(descriptor: &str, serial: usize) -> Value {
    const YEAR: i64 = 2022;
    let vin = demo::vin(descriptor, YEAR, serial as u64);
    json!({
        "source_provider_id": "bench-dms",
        "vin": vin.as_ref().map(|vin| vin.as_str()),
        "year": YEAR,
        "make": "Freightliner",
        "model": "Cascadia 126",
        "category": "Sleeper Truck",
        "new_or_used": "used",
        "price": 89_500 + serial % 1_000,
        "odometer_miles": 212_400 + serial,
        "engine_make": "Detroit",
        "engine_model": "DD15",
        "horsepower": 455,
        "fuel_type": "diesel",
        "transmission_type": "automatic",
        "axle_config": "6x4",
        "location_city": "Dallas",
        "location_state": "TX",
        "description": format!("Unit {serial}: one owner, full service history, new steer tires, ready for work."),
        "photos": [
            format!("https://photos.example/{serial}/front.jpg"),
            format!("https://photos.example/{serial}/cab.jpg"),
        ],
    })
}

fn settings() -> Settings {
    Settings::default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}
