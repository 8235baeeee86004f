//! Made-up Sellers with real-looking inventory: for the demo, and in bulk for load tests.
//!
//! Never: in a database that has Sellers already.

pub mod clients;

use serde_json::{Value, json};

use crate::{
    accounts::{
        AccountKind, Email, Plan, Role, Slug, passwords::Password, sellers::create_seller,
        tokens::Token,
    },
    audit::Act,
    clock::Time,
    db::{AuditEntry, Db, DbError, NewSeller},
    ids::{KeyId, ListingId, SellerId, UserId},
    inventory::{
        listing::{Listing, ListingStatus},
        validate::{self, Rules},
        vin::Vin,
    },
    keys::{format::SecretKey, scope::OperatorAuthority},
    services::Services,
};

/// The demo's Sellers: slug, name, city, state, units.
const SELLERS: [(&str, &str, &str, &str, usize); 2] = [
    ("lone-star-trucks", "Lone Star Trucks", "Dallas", "TX", 24),
    (
        "great-lakes-trailers",
        "Great Lakes Trailers",
        "Gary",
        "IN",
        16,
    ),
];
/// Somebody of a vendor of dealer-management systems, who looks after the keys of them all.
const VENDOR: &str = "keys@dealer-systems.example";
/// The unit that the documentation's examples ask for; the first Seller lists it.
pub const EXAMPLE_VIN: &str = "3ALHCYFE3LDLM8435";
/// Characters of the owners' password: short enough to type, and still random.
const PASSWORD_CHARS: usize = 16;
/// Rows of one statement when filling in bulk.
const ROWS_PER_STATEMENT: usize = 2_000;
/// Sellers of one transaction when filling in bulk.
const SELLERS_PER_TRANSACTION: usize = 2_000;

struct Model {
    wmi: &'static str,
    make: &'static str,
    model: &'static str,
    category: &'static str,
    engine: Option<(&'static str, &'static str, i64)>,
    axle: &'static str,
    price: i64,
}

const TRUCKS: [Model; 6] = [
    Model {
        wmi: "3AKJHHDR",
        make: "Freightliner",
        model: "Cascadia 126",
        category: "Sleeper Truck",
        engine: Some(("Detroit", "DD15", 455)),
        axle: "6x4",
        price: 89_500,
    },
    Model {
        wmi: "1XPBD49X",
        make: "Peterbilt",
        model: "579",
        category: "Sleeper Truck",
        engine: Some(("Paccar", "MX-13", 455)),
        axle: "6x4",
        price: 112_900,
    },
    Model {
        wmi: "1XKYDP9X",
        make: "Kenworth",
        model: "T680",
        category: "Day Cab",
        engine: Some(("Paccar", "MX-13", 405)),
        axle: "6x4",
        price: 98_750,
    },
    Model {
        wmi: "4V4NC9EH",
        make: "Volvo",
        model: "VNL 760",
        category: "Sleeper Truck",
        engine: Some(("Volvo", "D13", 425)),
        axle: "6x4",
        price: 94_300,
    },
    Model {
        wmi: "1HTMMMML",
        make: "International",
        model: "MV607",
        category: "Box Truck",
        engine: Some(("Cummins", "B6.7", 240)),
        axle: "4x2",
        price: 61_200,
    },
    Model {
        wmi: "3ALACWFC",
        make: "Freightliner",
        model: "M2 106",
        category: "Reefer Truck",
        engine: Some(("Cummins", "L9", 300)),
        axle: "4x2",
        price: 72_800,
    },
];

const TRAILERS: [Model; 4] = [
    Model {
        wmi: "1JJV532D",
        make: "Wabash",
        model: "DuraPlate",
        category: "Dry Van",
        engine: None,
        axle: "",
        price: 31_400,
    },
    Model {
        wmi: "1GRAA062",
        make: "Great Dane",
        model: "Everest",
        category: "Reefer Trailer",
        engine: None,
        axle: "",
        price: 58_900,
    },
    Model {
        wmi: "1UYVS253",
        make: "Utility",
        model: "3000R",
        category: "Reefer Trailer",
        engine: None,
        axle: "",
        price: 54_600,
    },
    Model {
        wmi: "3H3V532C",
        make: "Hyundai Translead",
        model: "HT Composite",
        category: "Dry Van",
        engine: None,
        axle: "",
        price: 29_900,
    },
];

/// A VIN with a check digit that holds. `serial` tells units of one model and year apart.
pub fn vin(descriptor: &str, year: i64, serial: u64) -> Option<Vin> {
    const YEARS: &[u8] = b"ABCDEFGHJKLMNPRSTVWXY";
    let letter = char::from(*YEARS.get(usize::try_from(year - 2010).ok()?)?);
    (0..11).find_map(|digit| {
        let digit = char::from_digit(digit, 10).unwrap_or('X');
        let plant = char::from(b"ABCDEFGHJK"[(serial / 1_000_000 % 10) as usize]);
        let text = format!(
            "{descriptor}{digit}{letter}{plant}{:06}",
            serial % 1_000_000
        );
        text.parse::<Vin>().ok().filter(Vin::check_digit_holds)
    })
}

/// A record as a dealer's system would send it. `n` decides everything about it.
fn record(models: &[Model], n: u64, city: &str, state: &str) -> Option<Value> {
    let model = &models[n as usize % models.len()];
    let year = 2016 + (n / 3 % 9) as i64;
    let age = 2026 - year;
    let mut record = json!({
        "source_provider_id": "demo-dms",
        "vin": vin(model.wmi, year, n + 1)?.as_str(),
        "year": year,
        "make": model.make,
        "model": model.model,
        "category": model.category,
        "new_or_used": if age <= 2 { "certified_preowned" } else { "used" },
        "price": model.price * (100 - age * 7) / 100 + (n % 7) as i64 * 450,
        "location_city": city,
        "location_state": state,
        "description": format!("{} {} {}, one owner, full service history, ready for work.", year, model.make, model.model),
        "photos": [format!("https://photos.example/{}/{n}/front.jpg", model.wmi), format!("https://photos.example/{}/{n}/cab.jpg", model.wmi)],
    });
    if let Some((make, engine, horsepower)) = model.engine {
        record["engine_make"] = make.into();
        record["engine_model"] = engine.into();
        record["horsepower"] = horsepower.into();
        record["fuel_type"] = "diesel".into();
        record["transmission_type"] = "automatic".into();
        record["axle_config"] = model.axle.into();
        record["odometer_miles"] = (age * 61_000 + (n % 11) as i64 * 2_750).into();
    }
    Some(record)
}

/// The unit of the documentation's examples.
fn example_record() -> Value {
    json!({
        "source_provider_id": "demo-dms", "vin": EXAMPLE_VIN, "year": 2020, "make": "Freightliner", "model": "M2 112",
        "category": "Reefer Truck", "listing_type": "truck", "new_or_used": "used", "price": 89_500,
        "odometer_miles": 212_400, "engine_make": "Detroit", "engine_model": "DD13", "horsepower": 450,
        "fuel_type": "diesel", "transmission_type": "automatic", "axle_config": "6x4", "location_city": "Dallas",
        "location_state": "TX", "description": "Refrigerated box, one owner, full service history.",
        "photos": ["https://photos.example/3ALHCYFE3LDLM8435/front.jpg"],
    })
}

fn owner_of(slug: &str) -> String {
    format!("owner@{slug}.example")
}

/// What a newcomer to the demo is given.
pub struct Welcome {
    /// The live key of the first Seller.
    pub key: SecretKey,
    /// The address of that Seller's owner.
    pub email: String,
    /// The address of who works for all the Sellers.
    pub vendor: &'static str,
    /// The password of everybody here, made for this run.
    pub password: String,
}

/// Fills an empty database with the demo's Sellers.
pub async fn fill(services: &Services) -> anyhow::Result<Welcome> {
    let authority = OperatorAuthority::assume();
    let password: String = Token::generate()?
        .reveal()
        .chars()
        .take(PASSWORD_CHARS)
        .collect();
    let mut first = None;
    let mut sellers = Vec::new();
    for (at, (slug, name, city, state, units)) in SELLERS.into_iter().enumerate() {
        let owner: Email = owner_of(slug).parse()?;
        let slug: Slug = slug.parse()?;
        let (db, clock) = (&services.db, &services.clock);
        let created =
            create_seller(db, clock, slug, name, owner, Password::new(&password, &[])?).await?;
        sellers.push(created.seller);
        let scope = authority.scope(created.seller);
        let models = if at == 0 { &TRUCKS[..] } else { &TRAILERS[..] };
        let mut records: Vec<Value> = (0..units as u64)
            .filter_map(|n| record(models, n, city, state))
            .collect();
        if at == 0 {
            records.push(example_record());
        }
        let results = services.inventory.ingest(scope, records).await?;
        anyhow::ensure!(
            results.iter().all(|result| result.outcome.is_ok()),
            "the demo's own inventory was refused"
        );
        let made = services.keys.generate(scope, 0).await?;
        first.get_or_insert(made.secret);
    }
    let key = first.ok_or_else(|| anyhow::anyhow!("the demo has no Seller"))?;
    add_vendor(services, &sellers, Password::new(&password, &[])?).await?;
    Ok(Welcome {
        key,
        email: owner_of(SELLERS[0].0),
        vendor: VENDOR,
        password,
    })
}

/// Lets the vendor in, as if each owner's invitation had been accepted.
async fn add_vendor(
    services: &Services,
    sellers: &[SellerId],
    password: Password,
) -> anyhow::Result<()> {
    let (vendor, now) = (UserId::new(), services.clock.now());
    let hash = password.hash().await?;
    let mut tx = services.db.begin().await?;
    tx.insert_user(vendor, &VENDOR.parse()?, &hash, now).await?;
    for seller in sellers {
        tx.insert_membership(vendor, *seller, Role::Admin, now)
            .await?;
        let entry = AuditEntry::of_operator(now, Act::MemberJoined).on_seller(*seller);
        let entry = entry.about(vendor).with(json!({ "role": Role::Admin }));
        tx.append_audit(&entry).await?;
    }
    Ok(tx.commit().await?)
}

/// Fills an empty database with `sellers` Sellers, each with a live key and `listings` listings; answers the keys.
///
/// For load tests: rows are written past the use cases, many in one statement, and without audit entries. The records
/// themselves went through the pipeline's first two stages.
pub async fn fill_in_bulk(
    db: &Db,
    now: Time,
    sellers: usize,
    listings: usize,
) -> anyhow::Result<Vec<SecretKey>> {
    anyhow::ensure!(
        !db.has_sellers().await?,
        "the database has Sellers already; a load test's data goes into an empty one"
    );
    let mut keys = Vec::with_capacity(sellers);
    let mut done = 0;
    while done < sellers {
        let count = SELLERS_PER_TRANSACTION.min(sellers - done);
        fill_some(db, now, done, count, listings, &mut keys).await?;
        done += count;
    }
    db.checkpoint().await?;
    Ok(keys)
}

async fn fill_some(
    db: &Db,
    now: Time,
    first: usize,
    count: usize,
    listings: usize,
    keys: &mut Vec<SecretKey>,
) -> anyhow::Result<()> {
    let sellers = (first..first + count)
        .map(|n| {
            Ok(NewSeller {
                id: SellerId::new(),
                slug: format!("load-{n:07}").parse()?,
                name: format!("Load Test Trucks {n}"),
                plan: Plan::Starter,
                kind: AccountKind::Seller,
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let made = sellers
        .iter()
        .map(|seller| Ok((seller.id, KeyId::new(), SecretKey::generate()?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let rows: Vec<_> = made
        .iter()
        .map(|(seller, id, key)| (*seller, *id, key.digest(), key.hint()))
        .collect();
    let mut tx = db.begin().await?;
    tx.insert_sellers_in_bulk(&sellers, now).await?;
    Db::insert_live_keys_in_bulk(&mut tx, &rows, "operator", now).await?;
    let mut batch = Vec::with_capacity(ROWS_PER_STATEMENT);
    for (offset, seller) in sellers.iter().enumerate() {
        for unit in 0..listings {
            let n = ((first + offset) * listings + unit) as u64;
            batch.push(listing(seller.id, n, now)?);
            if batch.len() == ROWS_PER_STATEMENT {
                tx.insert_listings_in_bulk(&batch).await?;
                batch.clear();
            }
        }
    }
    tx.insert_listings_in_bulk(&batch).await?;
    tx.commit().await?;
    keys.extend(made.into_iter().map(|(_, _, key)| key));
    Ok(())
}

fn listing(seller: SellerId, n: u64, now: Time) -> anyhow::Result<Listing> {
    let record = record(&TRUCKS, n, "Dallas", "TX");
    let record = record.as_ref().and_then(Value::as_object);
    let checked = record
        .and_then(|record| validate::validate(record, Rules::default(), i64::from(now.year())).ok())
        .map(validate::normalize)
        .ok_or_else(|| DbError::Damaged("a made-up record was refused".into()))?;
    Ok(Listing {
        id: ListingId::new(),
        seller,
        vin: checked.vin,
        status: ListingStatus::Active,
        fields: serde_json::to_string(&checked.fields)?,
        created: now,
        updated: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_made_up_record_is_accepted_without_a_warning() {
        for models in [&TRUCKS[..], &TRAILERS[..]] {
            for n in 0..500 {
                let record = record(models, n, "Dallas", "TX").expect("a VIN can be found");
                let record = record.as_object().expect("an object");
                let good =
                    validate::validate(record, Rules { strict_vin: true }, 2026).expect("accepted");
                assert_eq!(good.warnings, [], "{record:?}");
            }
        }
        let example = example_record();
        let good = validate::validate(
            example.as_object().expect("an object"),
            Rules { strict_vin: true },
            2026,
        );
        assert_eq!(good.expect("accepted").warnings, []);
    }

    #[test]
    fn made_up_vins_differ() {
        let vins: std::collections::HashSet<_> = (0..20_000)
            .filter_map(|n| vin("3AKJHHDR", 2020, n))
            .collect();
        assert_eq!(vins.len(), 20_000);
    }
}
