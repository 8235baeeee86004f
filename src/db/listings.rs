//! Listings: found by VIN, written a batch at a time, paged through.
//!
//! Never: a row of another Seller changed; every write is bound to its transaction's scope.

use sqlx::FromRow;

use super::{
    Db, DbError, ScopedTx, Tx, WriteTx, fence::lock_number, on_db, on_tx, postgres::answered,
};
use crate::{
    clock::Time,
    ids::{ListingId, SellerId},
    inventory::{
        listing::{Listing, ListingStatus},
        vin::Vin,
    },
    keys::scope::SellerScope,
};

/// Tells the lock on a Seller's listings from the one on its keys.
const LISTINGS: i64 = 0x6c69_7374_696e_6773;

#[derive(FromRow)]
struct ListingRow {
    id: ListingId,
    seller_id: SellerId,
    vin: Vin,
    status: ListingStatus,
    fields: String,
    created_us: Time,
    updated_us: Time,
}

impl From<ListingRow> for Listing {
    fn from(row: ListingRow) -> Self {
        Self {
            id: row.id,
            seller: row.seller_id,
            vin: row.vin,
            status: row.status,
            fields: row.fields,
            created: row.created_us,
            updated: row.updated_us,
        }
    }
}

/// How many listings there are in each state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct ListingCounts {
    /// For sale.
    pub active: i64,
    /// Sold.
    pub sold: i64,
    /// No longer offered.
    pub expired: i64,
}

/// Which of a Seller's listings to page through; an absent condition admits all.
#[derive(Clone, Debug, Default)]
pub struct ListingFilter {
    /// Only in this state.
    pub status: Option<ListingStatus>,
    /// Only of this maker, whatever the letter case.
    pub make: Option<String>,
    /// Only of this model, whatever the letter case.
    pub model: Option<String>,
    /// Only of this category, whatever the letter case.
    pub category: Option<String>,
    /// Only `truck` or `trailer`.
    pub listing_type: Option<String>,
    /// Only `new`, `used` or `certified_preowned`.
    pub new_or_used: Option<String>,
    /// Only where it stands in this state.
    pub location_state: Option<String>,
    /// Model years from and to, both included.
    pub year_min: Option<i64>,
    /// See `year_min`.
    pub year_max: Option<i64>,
    /// Prices from and to, both included; a unit without a price is in neither.
    pub price_min: Option<i64>,
    /// See `price_min`.
    pub price_max: Option<i64>,
    /// Only what changed at this time or later.
    pub updated_since: Option<Time>,
    /// Only what comes after this listing in the order of ids.
    pub after: Option<ListingId>,
}

impl Db {
    /// The listing of a VIN that concerns this Seller: its own, else another Seller's active one.
    pub async fn listing(&self, scope: SellerScope, vin: Vin) -> Result<Option<Listing>, DbError> {
        const SQL: &str = "SELECT id, seller_id, vin, status, fields, created_us, updated_us FROM listings \
             WHERE vin = $1 AND (seller_id = $2 OR status = 'active') \
             ORDER BY CASE WHEN seller_id = $2 THEN 0 ELSE 1 END LIMIT 1";
        let row: Option<ListingRow> = on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(vin)
            .bind(scope.seller())
            .fetch_optional(pool)
            .await)?;
        Ok(row.map(Listing::from))
    }

    /// One page of the scope's listings in the order of ids, which is the order in which they were first listed.
    pub async fn listings(
        &self,
        scope: SellerScope,
        filter: &ListingFilter,
        limit: i64,
    ) -> Result<Vec<Listing>, DbError> {
        macro_rules! sql {
            ($text:literal, $number:literal) => {
                concat!(
                    "SELECT id, seller_id, vin, status, fields, created_us, updated_us FROM listings ",
                    "WHERE seller_id = $1 AND ($2 IS NULL OR id > $2) AND ($3 IS NULL OR status = $3) ",
                    "AND ($4 IS NULL OR lower(", $text, "'make') = lower($4)) ",
                    "AND ($5 IS NULL OR lower(", $text, "'model') = lower($5)) ",
                    "AND ($6 IS NULL OR lower(", $text, "'category') = lower($6)) ",
                    "AND ($7 IS NULL OR ", $text, "'listing_type' = $7) ",
                    "AND ($8 IS NULL OR ", $text, "'new_or_used' = $8) ",
                    "AND ($9 IS NULL OR ", $text, "'location_state' = $9) ",
                    "AND ($10 IS NULL OR CAST(", $text, "'year' AS ", $number, ") >= $10) ",
                    "AND ($11 IS NULL OR CAST(", $text, "'year' AS ", $number, ") <= $11) ",
                    "AND ($12 IS NULL OR CAST(", $text, "'price' AS ", $number, ") >= $12) ",
                    "AND ($13 IS NULL OR CAST(", $text, "'price' AS ", $number, ") <= $13) ",
                    "AND ($14 IS NULL OR updated_us >= $14) ORDER BY id LIMIT $15"
                )
            };
        }
        macro_rules! run {
            ($sql:expr, $pool:expr) => {
                sqlx::query_as($sql)
                    .bind(scope.seller())
                    .bind(filter.after)
                    .bind(filter.status)
                    .bind(&filter.make)
                    .bind(&filter.model)
                    .bind(&filter.category)
                    .bind(&filter.listing_type)
                    .bind(&filter.new_or_used)
                    .bind(&filter.location_state)
                    .bind(filter.year_min)
                    .bind(filter.year_max)
                    .bind(filter.price_min)
                    .bind(filter.price_max)
                    .bind(filter.updated_since)
                    .bind(limit)
                    .fetch_all($pool)
                    .await
            };
        }
        let rows: Vec<ListingRow> = match self {
            Self::Sqlite(db) => {
                let _place = super::place_in(&db.pages).await?;
                run!(sql!("fields ->> ", "INTEGER"), &db.reader)?
            }
            Self::Postgres(db) => {
                answered(async { run!(sql!("fields::json ->> ", "bigint"), &db.pool) }).await?
            }
        };
        Ok(rows.into_iter().map(Listing::from).collect())
    }

    /// How many listings a Seller has in each state.
    pub async fn count_listings(&self, scope: SellerScope) -> Result<ListingCounts, DbError> {
        const SQL: &str = "SELECT \
             CAST(COALESCE(SUM(CASE status WHEN 'active' THEN 1 ELSE 0 END), 0) AS BIGINT) AS active, \
             CAST(COALESCE(SUM(CASE status WHEN 'sold' THEN 1 ELSE 0 END), 0) AS BIGINT) AS sold, \
             CAST(COALESCE(SUM(CASE status WHEN 'expired' THEN 1 ELSE 0 END), 0) AS BIGINT) AS expired \
             FROM listings WHERE seller_id = $1";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .fetch_one(pool)
            .await)?)
    }
}

impl ScopedTx {
    /// What is known of these VINs: the scope's own listings, and other Sellers' active ones.
    pub async fn listings_of(&mut self, vins: &[Vin]) -> Result<Vec<Listing>, DbError> {
        // Two halves, so that each uses an index of its own: with OR, SQLite reads every active listing there is.
        macro_rules! sql {
            ($vins:literal) => {
                concat!(
                    "SELECT id, seller_id, vin, status, fields, created_us, updated_us FROM listings ",
                    "WHERE seller_id = $2 AND vin IN (SELECT ", $vins, ") UNION ALL ",
                    "SELECT id, seller_id, vin, status, fields, created_us, updated_us FROM listings ",
                    "WHERE status = 'active' AND vin IN (SELECT ", $vins, ") AND seller_id <> $2"
                )
            };
        }
        const SQLITE: &str = sql!("value FROM json_each($1)");
        const POSTGRES: &str = sql!("json_array_elements_text($1::json)");
        let json = serde_json::json!(vins).to_string();
        let seller = self.scope.seller();
        let rows: Vec<ListingRow> = match &mut self.tx.inner {
            Tx::Sqlite(tx) => {
                sqlx::query_as(SQLITE)
                    .bind(json)
                    .bind(seller)
                    .fetch_all(&mut **tx)
                    .await?
            }
            Tx::Postgres(tx) => {
                let work = sqlx::query_as(POSTGRES)
                    .bind(json)
                    .bind(seller)
                    .fetch_all(&mut **tx);
                answered(work).await?
            }
        };
        Ok(rows.into_iter().map(Listing::from).collect())
    }

    /// Waits until no other transaction writes the Seller's listings, and keeps others from it until this one ends. They are
    /// read, compared and written back as a whole: two at once would each undo what the other did. On SQLite the single writer
    /// is this lock.
    pub async fn lock_listings(&mut self) -> Result<(), DbError> {
        let seller = self.scope.seller();
        match &mut self.tx.inner {
            Tx::Sqlite(_) => Ok(()),
            Tx::Postgres(tx) => {
                let locked = sqlx::query("SELECT pg_advisory_xact_lock($1)");
                let locked = locked.bind(lock_number(seller) ^ LISTINGS);
                answered(locked.execute(&mut **tx)).await?;
                Ok(())
            }
        }
    }

    /// Writes listings of the scope's Seller, new or changed, in one statement; no VIN may occur twice.
    /// [`DbError::Unique`] if another Seller has come to list one of them.
    pub async fn upsert_listings(&mut self, listings: &[Listing]) -> Result<(), DbError> {
        // One JSON parameter instead of a statement per row: a statement is a hop to SQLite's thread, or to a server.
        const SQLITE: &str = "INSERT INTO listings (id, seller_id, vin, status, fields, created_us, updated_us) \
             SELECT value ->> 0, $2, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 \
             FROM json_each($1) WHERE true \
             ON CONFLICT (seller_id, vin) DO UPDATE SET status = excluded.status, fields = excluded.fields, \
             updated_us = excluded.updated_us";
        const POSTGRES: &str = "INSERT INTO listings (id, seller_id, vin, status, fields, created_us, updated_us) \
             SELECT r ->> 0, $2, r ->> 1, r ->> 2, r ->> 3, (r ->> 4)::bigint, (r ->> 5)::bigint \
             FROM json_array_elements($1::json) AS r \
             ON CONFLICT (seller_id, vin) DO UPDATE SET status = excluded.status, fields = excluded.fields, \
             updated_us = excluded.updated_us";
        let rows: Vec<_> = listings
            .iter()
            .map(|l| (l.id, l.vin, l.status, &l.fields, l.created.0, l.updated.0))
            .collect();
        let json = serde_json::to_string(&rows)
            .map_err(|error| DbError::Damaged(format!("a batch: {error}")))?;
        let seller = self.scope.seller();
        match &mut self.tx.inner {
            Tx::Sqlite(tx) => {
                sqlx::query(SQLITE)
                    .bind(json)
                    .bind(seller)
                    .execute(&mut **tx)
                    .await?;
            }
            Tx::Postgres(tx) => {
                let work = sqlx::query(POSTGRES)
                    .bind(json)
                    .bind(seller)
                    .execute(&mut **tx);
                answered(work).await?;
            }
        }
        Ok(())
    }
}

impl WriteTx {
    /// Ends whichever Seller's active listing of this VIN, so that another may list it. For the operator.
    pub async fn release_listing(
        &mut self,
        vin: Vin,
        at: Time,
    ) -> Result<Option<(ListingId, SellerId)>, DbError> {
        const SQL: &str = "UPDATE listings SET status = 'expired', updated_us = $2 \
             WHERE vin = $1 AND status = 'active' RETURNING id, seller_id";
        Ok(on_tx!(self, |conn| sqlx::query_as(SQL)
            .bind(vin)
            .bind(at)
            .fetch_optional(conn)
            .await)?)
    }

    /// Writes new listings of many Sellers in one statement, for filling an empty database with a load test's worth.
    pub async fn insert_listings_in_bulk(&mut self, listings: &[Listing]) -> Result<(), DbError> {
        const SQLITE: &str = "INSERT INTO listings (id, seller_id, vin, status, fields, created_us, updated_us) \
             SELECT value ->> 0, value ->> 1, value ->> 2, 'active', value ->> 3, value ->> 4, value ->> 4 FROM json_each($1)";
        const POSTGRES: &str = "INSERT INTO listings (id, seller_id, vin, status, fields, created_us, updated_us) \
             SELECT r ->> 0, r ->> 1, r ->> 2, 'active', r ->> 3, (r ->> 4)::bigint, (r ->> 4)::bigint \
             FROM json_array_elements($1::json) AS r";
        let rows: Vec<_> = listings
            .iter()
            .map(|l| (l.id, l.seller, l.vin, &l.fields, l.created.0))
            .collect();
        let json = serde_json::to_string(&rows)
            .map_err(|error| DbError::Damaged(format!("a batch: {error}")))?;
        match &mut self.inner {
            Tx::Sqlite(tx) => {
                sqlx::query(SQLITE).bind(json).execute(&mut **tx).await?;
            }
            Tx::Postgres(tx) => {
                sqlx::query(POSTGRES).bind(json).execute(&mut **tx).await?;
            }
        }
        Ok(())
    }
}
