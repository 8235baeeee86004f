//! The five stages that every record goes through, readable in one screen: validate, normalize, deduplicate, enrich,
//! index. The same for one record and for a batch, and for whatever form the records came in.
//!
//! A batch is one transaction: when [`ingest`] returns, every accepted record is durable, in order, and can be read.
//!
//! Never: one refused record that stops another; a VIN taken from a Seller who lists it.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    issues::{self, Issue, IssueCode},
    listing::{Fields, Listing, ListingStatus, ListingType},
    validate::{self, Normalized, Rules},
    vin::Vin,
};
use crate::{
    audit::Act,
    clock::{Clock, Time},
    db::{AuditEntry, Db, DbError},
    ids::ListingId,
    keys::{format::redact, scope::SellerScope},
};

/// The stages, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Is it acceptable?
    Validate,
    /// One way to write each thing down.
    Normalize,
    /// Whose VIN is it, and does it come twice?
    Deduplicate,
    /// What can be told that was not said?
    Enrich,
    /// Stored, and found from then on.
    Index,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Stage; 5] = [
        Stage::Validate,
        Stage::Normalize,
        Stage::Deduplicate,
        Stage::Enrich,
        Stage::Index,
    ];
}

/// What became of a record.
#[derive(Clone, Debug)]
pub struct RecordResult {
    /// The VIN as it was sent, if it was text.
    pub vin: Option<String>,
    /// Stored how, or refused why.
    pub outcome: Result<Stored, Rejected>,
}

/// A record that was accepted.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its listing.
    pub id: ListingId,
    /// Whether that was made, changed or left as it was.
    pub change: Change,
    /// What is odd about it.
    pub warnings: Vec<Issue>,
}

/// What accepting a record did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A new listing.
    Created,
    /// A changed one.
    Updated,
    /// The listing says this already.
    Unchanged,
}

/// A record that was refused.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Where in the pipeline.
    pub stage: Stage,
    /// Why; at least one.
    pub issues: Vec<Issue>,
}

impl Rejected {
    /// Whether the one reason is that another dealer lists the VIN.
    pub fn is_other_dealers(&self) -> bool {
        self.issues
            .iter()
            .any(|issue| issue.code == IssueCode::OtherDealer)
    }
}

/// Stages one and two, which need no database and so happen before the transaction.
pub fn prepare(records: &[Value], rules: Rules, now: Time) -> Vec<Prepared> {
    let year = i64::from(now.year());
    let nothing = Map::new();
    records
        .iter()
        .map(|record| {
            let checked = match record.as_object() {
                Some(record) => validate::validate(record, rules, year),
                None => Err(vec![issues::issue(
                    "",
                    IssueCode::WrongType,
                    "a record must be an object",
                    record,
                )]),
            };
            let vin = record.as_object().unwrap_or(&nothing).get("vin");
            Prepared {
                sent_vin: vin
                    .and_then(Value::as_str)
                    .map(|vin| redact(vin).chars().take(64).collect()),
                record: checked.map(validate::normalize).map_err(|issues| Rejected {
                    stage: Stage::Validate,
                    issues,
                }),
            }
        })
        .collect()
}

/// A record after stages one and two.
pub struct Prepared {
    sent_vin: Option<String>,
    record: Result<Normalized, Rejected>,
}

/// The VINs of the records that have got this far.
pub fn vins(prepared: &[Prepared]) -> Vec<Vin> {
    prepared
        .iter()
        .filter_map(|p| p.record.as_ref().ok().map(|record| record.vin))
        .collect()
}

/// Stages three to five, in one transaction fenced by the scope's key. `vins` are those of the records.
pub async fn ingest(
    db: &Db,
    scope: SellerScope,
    clock: &Clock,
    prepared: Vec<Prepared>,
    vins: &[Vin],
) -> Result<Vec<RecordResult>, DbError> {
    let mut tx = db.begin_write(scope).await?;
    tx.lock_listings().await?;
    // Read under the lock, so that a Seller's times follow the order of commits: whoever asks for what changed since the newest
    // time it has seen misses nothing, as far as the clocks of the machines agree that serve it.
    let now = clock.now();
    let mut known: HashMap<Vin, Known> = HashMap::with_capacity(vins.len());
    for listing in tx.listings_of(vins).await? {
        known.entry(listing.vin).or_default().add(listing, scope);
    }

    let mut results = Vec::with_capacity(prepared.len());
    for Prepared { sent_vin, record } in prepared {
        let outcome = record.and_then(|record| {
            let vin = record.vin;
            let known = known.entry(vin).or_default();
            let record = deduplicate(record, known)?;
            let (fields, warnings) = enrich(record);
            Ok(index(vin, fields, warnings, known, scope, now))
        });
        results.push(RecordResult {
            vin: sent_vin,
            outcome,
        });
    }
    let mut changed: Vec<Listing> = known
        .into_values()
        .filter(|known| known.changed)
        .filter_map(|known| known.own)
        .collect();
    // Of two Sellers who begin to list the same VINs one finds them taken, instead of each waiting for the other.
    changed.sort_unstable_by_key(|listing| listing.vin);
    tx.upsert_listings(&changed).await?;
    if !changed.is_empty() && scope.is_of_platform() {
        let refused = results.iter().filter(|result| result.outcome.is_err());
        let detail = json!({
            "records": results.len(), "changed": changed.len(), "refused": refused.count(),
        });
        let entry = AuditEntry::of(scope, now, Act::PlatformInventory);
        tx.append_audit(&entry.with(detail)).await?;
    }
    tx.commit().await?;
    Ok(results)
}

/// What is known of one VIN while a batch is under way.
#[derive(Default)]
struct Known {
    /// This Seller's listing, as the batch has left it so far.
    own: Option<Listing>,
    /// Whether another Seller lists it.
    others: bool,
    /// Whether an earlier record of the batch was for it.
    seen: bool,
    /// Whether the batch changed it.
    changed: bool,
}

impl Known {
    fn add(&mut self, listing: Listing, scope: SellerScope) {
        if listing.seller == scope.seller() {
            self.own = Some(listing);
        } else {
            self.others = true;
        }
    }
}

/// Stage three: a VIN that another Seller lists is theirs; one that came before in the batch is odd, and the later record
/// counts.
fn deduplicate(mut record: Normalized, known: &mut Known) -> Result<Normalized, Rejected> {
    let value = Value::from(record.vin.as_str());
    if known.others {
        let message =
            "another dealer lists this VIN; ask the marketplace to release it if it is yours";
        return Err(Rejected {
            stage: Stage::Deduplicate,
            issues: vec![issues::issue(
                "vin",
                IssueCode::OtherDealer,
                message,
                &value,
            )],
        });
    }
    if std::mem::replace(&mut known.seen, true) {
        let message = "stands in this batch more than once; the last record counts";
        record.warnings.push(issues::issue(
            "vin",
            IssueCode::RepeatedVin,
            message,
            &value,
        ));
    }
    Ok(record)
}

/// Stage four: what the VIN tells that the record did not say.
fn enrich(record: Normalized) -> (Fields, Vec<Issue>) {
    let mut fields = record.fields;
    if record.listing_type.is_none() {
        fields.listing_type = if record.vin.is_trailer_maker() {
            ListingType::Trailer
        } else {
            ListingType::Truck
        };
    }
    (fields, record.warnings)
}

/// Stage five: the listing as it is to be stored. A record that says what is stored already changes nothing, so its ETag
/// and its times stay.
fn index(
    vin: Vin,
    fields: Fields,
    warnings: Vec<Issue>,
    known: &mut Known,
    scope: SellerScope,
    now: Time,
) -> Stored {
    // Fields hold nothing but text, integers and lists of text, which JSON can always hold.
    let fields = serde_json::to_string(&fields).unwrap_or_default();
    let (id, change) = match &mut known.own {
        Some(own) if own.fields == fields && own.status == ListingStatus::Active => {
            (own.id, Change::Unchanged)
        }
        Some(own) => {
            own.fields = fields;
            own.status = ListingStatus::Active;
            own.updated = now;
            (own.id, Change::Updated)
        }
        none => {
            let listing = Listing {
                id: ListingId::new(),
                seller: scope.seller(),
                vin,
                status: ListingStatus::Active,
                fields,
                created: now,
                updated: now,
            };
            (none.insert(listing).id, Change::Created)
        }
    };
    known.changed |= change != Change::Unchanged;
    Stored {
        id,
        change,
        warnings,
    }
}
