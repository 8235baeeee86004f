//! The acts on inventory: take in records, change a listing's status, read one, page through them, release a VIN.
//!
//! One listing is read far more often than it changes, so answers are cached. A write removes what it changed from the
//! cache after its commit and before it returns; an answer that was read before that removal is not put in after it. Where
//! other nodes write to the same database, nothing is cached: their writes would not be seen.
//!
//! Never: a cached answer for another Seller's key: the cache is asked by Seller and VIN together.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quick_cache::{
    Weighter,
    sync::{Cache, GuardResult},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    listing::{Listing, ListingStatus},
    pipeline::{self, RecordResult},
    validate::Rules,
    vin::Vin,
};
use crate::{
    act::{ActDied, run_to_end},
    audit::Act,
    clock::Clock,
    db::{AuditEntry, Db, DbError, ListingFilter},
    ids::SellerId,
    keys::scope::{OperatorAuthority, SellerScope},
};

/// Bytes of answers kept.
const CACHE_BYTES_MAX: u64 = 64 << 20;
/// What an answer weighs besides its body: its key, its validator, the cache's own bookkeeping.
const ANSWER_OVERHEAD_BYTES: u64 = 200;
/// About how many answers that is, for sizing the cache's table.
const CACHED_ANSWERS_EXPECTED: usize = 65_536;

/// A listing's answer, ready to be sent.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `{"data":{…}}`.
    pub body: Bytes,
    /// The strong validator of that body, in quotes.
    pub etag: Bytes,
}

/// What a VIN is to a Seller.
#[derive(Clone, Debug)]
pub enum Found {
    /// Its own listing.
    Own(Answer),
    /// Another Seller's active listing.
    OtherDealers,
    /// Nobody's.
    Nothing,
}

/// Why an act on inventory was not done. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// Another Seller lists the VIN.
    #[error("another dealer lists this VIN")]
    OtherDealers,
    /// Nobody lists it.
    #[error("this VIN is not listed")]
    NotListed,
    /// The database could not do it, or the fence fell.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The act's task died.
    #[error(transparent)]
    Died(#[from] ActDied),
}

/// Weighs an answer by the memory it takes.
#[derive(Clone)]
struct ByBytes;

impl Weighter<(SellerId, Vin), Answer> for ByBytes {
    fn weight(&self, _: &(SellerId, Vin), answer: &Answer) -> u64 {
        answer.body.len() as u64 + ANSWER_OVERHEAD_BYTES
    }
}

/// Answers that a write makes untrue: they leave the cache when this is dropped, after the commit and before the write
/// returns, whether the commit succeeded, failed with an unknown outcome or panicked.
struct Stale<'a> {
    cache: &'a Cache<(SellerId, Vin), Answer, ByBytes>,
    seller: SellerId,
    vins: &'a [Vin],
}

impl Drop for Stale<'_> {
    fn drop(&mut self) {
        for vin in self.vins {
            self.cache.remove(&(self.seller, *vin));
        }
    }
}

/// Inventory, for as long as the process lives.
pub struct Inventory {
    db: Db,
    clock: Clock,
    rules: Rules,
    cache: Cache<(SellerId, Vin), Answer, ByBytes>,
}

impl Inventory {
    /// Inventory in this database, under these rules.
    pub fn new(db: Db, clock: Clock, rules: Rules) -> Self {
        Self {
            db,
            clock,
            rules,
            cache: Cache::with_weighter(CACHED_ANSWERS_EXPECTED, CACHE_BYTES_MAX, ByBytes),
        }
    }

    /// Takes in records: one transaction, results in their order.
    pub async fn ingest(
        self: &Arc<Self>,
        scope: SellerScope,
        records: Vec<Value>,
    ) -> Result<Vec<RecordResult>, InventoryError> {
        let own = Arc::clone(self);
        run_to_end(async move {
            let now = own.clock.now();
            let rules = own.rules;
            let seller = scope.seller();
            // Checking 16 MiB of records takes long enough to hold up other requests of this thread.
            let prepared =
                tokio::task::spawn_blocking(move || pipeline::prepare(&records, rules, now))
                    .await
                    .map_err(|_| ActDied)?;
            let vins = pipeline::vins(&prepared);
            let _stale = Stale {
                cache: &own.cache,
                seller,
                vins: &vins,
            };
            Ok(pipeline::ingest(&own.db, scope, &own.clock, prepared, &vins).await?)
        })
        .await
    }

    /// Marks the Seller's listing of a VIN; answers what it is now.
    pub async fn set_status(
        self: &Arc<Self>,
        scope: SellerScope,
        vin: Vin,
        status: ListingStatus,
    ) -> Result<Answer, InventoryError> {
        let own = Arc::clone(self);
        run_to_end(async move {
            let mut tx = own.db.begin_write(scope).await?;
            tx.lock_listings().await?;
            let known = tx.listings_of(&[vin]).await?;
            let others = known.iter().any(|listing| listing.seller != scope.seller());
            let mine = known
                .into_iter()
                .find(|listing| listing.seller == scope.seller());
            let Some(mut listing) = mine else {
                return Err(if others {
                    InventoryError::OtherDealers
                } else {
                    InventoryError::NotListed
                });
            };
            if listing.status != status {
                listing.status = status;
                listing.updated = own.clock.now();
                tx.upsert_listings(std::slice::from_ref(&listing)).await?;
                if scope.is_of_platform() {
                    let entry = AuditEntry::of(scope, listing.updated, Act::PlatformInventory);
                    let detail = serde_json::json!({ "vin": vin, "status": status });
                    tx.append_audit(&entry.with(detail)).await?;
                }
                let _stale = Stale {
                    cache: &own.cache,
                    seller: scope.seller(),
                    vins: &[vin],
                };
                tx.commit().await?;
            }
            Ok(answer(&listing))
        })
        .await
    }

    /// The answer to "what is this VIN?", from the cache if it is there.
    pub async fn find(&self, scope: SellerScope, vin: Vin) -> Result<Found, InventoryError> {
        if self.db.is_shared() {
            return Ok(found(scope, self.db.listing(scope, vin).await?).0);
        }
        let key = (scope.seller(), vin);
        // The guard is a placeholder: a write that removes it while we read makes our late insertion fail. Whoever finds
        // somebody else's does not wait for it, but reads for itself and leaves the cache alone.
        let guard = match self.cache.get_value_or_guard(&key, Some(Duration::ZERO)) {
            GuardResult::Value(answer) => return Ok(Found::Own(answer)),
            GuardResult::Guard(guard) => Some(guard),
            GuardResult::Timeout => None,
        };
        let (found, answer) = found(scope, self.db.listing(scope, vin).await?);
        if let (Some(guard), Some(answer)) = (guard, answer) {
            // Not in the cache if a write was faster; the answer was true when this request began.
            let _ = guard.insert(answer);
        }
        Ok(found)
    }

    /// One page of the Seller's listings.
    pub async fn list(
        &self,
        scope: SellerScope,
        filter: &ListingFilter,
        limit: i64,
    ) -> Result<Vec<Listing>, InventoryError> {
        Ok(self.db.listings(scope, filter, limit).await?)
    }

    /// Ends whichever Seller's active listing of a VIN, so that another may list it; answers whose it was.
    pub async fn release(
        self: &Arc<Self>,
        _by: OperatorAuthority,
        vin: Vin,
    ) -> Result<SellerId, InventoryError> {
        let own = Arc::clone(self);
        run_to_end(async move {
            let mut tx = own.db.begin().await?;
            let now = own.clock.now();
            let Some((listing, seller)) = tx.release_listing(vin, now).await? else {
                return Err(InventoryError::NotListed);
            };
            let entry = AuditEntry::of_operator(now, Act::ListingReleased).on_seller(seller);
            let detail = serde_json::json!({"vin": vin, "listing": listing});
            tx.append_audit(&entry.with(detail)).await?;
            let _stale = Stale {
                cache: &own.cache,
                seller,
                vins: &[vin],
            };
            tx.commit().await?;
            Ok(seller)
        })
        .await
    }
}

/// What a row is to a scope; and its answer, if it is the scope's own.
fn found(scope: SellerScope, row: Option<Listing>) -> (Found, Option<Answer>) {
    match row {
        Some(listing) if listing.seller == scope.seller() => {
            let answer = answer(&listing);
            (Found::Own(answer.clone()), Some(answer))
        }
        Some(_) => (Found::OtherDealers, None),
        None => (Found::Nothing, None),
    }
}

fn answer(listing: &Listing) -> Answer {
    let body = format!(r#"{{"data":{}}}"#, listing.to_json());
    let digest = Sha256::digest(body.as_bytes());
    let tag: String = digest[..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Answer {
        body: body.into(),
        etag: format!("\"{tag}\"").into(),
    }
}
