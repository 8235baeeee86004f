//! Sellers and their locations.
//!
//! Never: a Seller changed through its slug. A slug finds a Seller; only a scope may change it.

use sqlx::FromRow;

use super::{Db, DbError, ScopedTx, Tx, WriteTx, on_db, on_tx, postgres::answered};
use crate::{
    accounts::{AccountKind, AccountStatus, Plan, Slug},
    clock::Time,
    ids::{LocationId, SellerId},
    keys::scope::SellerScope,
};

/// An account: a dealer's, or a Platform's.
#[derive(Clone, Debug, FromRow)]
pub struct SellerRow {
    /// Its id.
    pub id: SellerId,
    /// Its short name.
    pub slug: String,
    /// Its name as people write it.
    pub name: String,
    /// What it pays for.
    pub plan: Plan,
    /// How to reach it, and what it says of itself.
    pub phone: Option<String>,
    /// See `phone`.
    pub email: Option<String>,
    /// See `phone`.
    pub website: Option<String>,
    /// See `phone`.
    pub description: Option<String>,
    /// Counts changes of its key.
    pub key_version: i64,
    /// When it was created.
    pub created_us: Time,
    /// When anything above last changed.
    pub updated_us: Time,
    /// Whether it is a dealer's account or a Platform's.
    pub kind: AccountKind,
    /// What the marketplace lets it do.
    pub status: AccountStatus,
    /// What the marketplace said when it suspended or closed it.
    pub status_reason: Option<String>,
    /// From which networks its key is accepted; `None` is from anywhere.
    pub key_networks: Option<String>,
    /// The Platform that brought it into being.
    pub created_by: Option<SellerId>,
}

/// Accounts, whole.
macro_rules! account_where {
    ($condition:literal) => {
        concat!(
            "SELECT id, slug, name, plan, phone, email, website, description, key_version, created_us, updated_us, ",
            "kind, status, status_reason, key_networks, created_by FROM sellers WHERE ",
            $condition
        )
    };
}

pub(super) use account_where;

/// One place where a Seller's units stand.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct LocationRow {
    /// Its id.
    pub id: LocationId,
    /// Its name.
    pub name: String,
    /// Its address.
    pub street: Option<String>,
    /// See `street`.
    pub city: Option<String>,
    /// See `street`.
    pub state: Option<String>,
    /// See `street`.
    pub postal_code: Option<String>,
    /// How to reach it.
    pub phone: Option<String>,
}

/// What a new Seller starts from.
#[derive(Clone, Debug)]
pub struct NewSeller {
    /// Its id.
    pub id: SellerId,
    /// Its short name.
    pub slug: Slug,
    /// Its name.
    pub name: String,
    /// What it pays for.
    pub plan: Plan,
    /// Whether it is a dealer's account or a Platform's.
    pub kind: AccountKind,
}

/// A change of what a dealer says of itself: the outer `None` leaves a field alone, `Some(None)` clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DealerChange {
    /// New name.
    pub name: Option<String>,
    /// New phone number.
    pub phone: Option<Option<String>>,
    /// New e-mail address.
    pub email: Option<Option<String>>,
    /// New website.
    pub website: Option<Option<String>>,
    /// New description.
    pub description: Option<Option<String>>,
}

/// A Seller that is to be brought into being.
#[derive(Clone, Debug)]
pub struct NewDealer {
    /// Its short name.
    pub slug: Slug,
    /// Its name.
    pub name: String,
    /// What it says of itself besides.
    pub change: DealerChange,
    /// Where its units stand.
    pub locations: Vec<LocationRow>,
}

impl Db {
    /// The Seller with this slug. For commands, and to tell "another dealer's" from "nobody's".
    pub async fn seller_by_slug(&self, slug: &Slug) -> Result<Option<SellerRow>, DbError> {
        const SQL: &str = account_where!("kind = 'seller' AND slug = $1");
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(slug.as_str())
            .fetch_optional(pool)
            .await)?)
    }

    /// A Seller's short name and name, which an invited person may know before accepting.
    pub async fn seller_names(
        &self,
        seller: SellerId,
    ) -> Result<Option<(String, String)>, DbError> {
        const SQL: &str = "SELECT slug, name FROM sellers WHERE id = $1";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(seller)
            .fetch_optional(pool)
            .await)?)
    }

    /// The scope's own Seller.
    pub async fn seller(&self, scope: SellerScope) -> Result<Option<SellerRow>, DbError> {
        const SQL: &str = account_where!("id = $1");
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .fetch_optional(pool)
            .await)?)
    }

    /// Whether there is any Seller.
    pub async fn has_sellers(&self) -> Result<bool, DbError> {
        const SQL: &str = "SELECT 1 FROM sellers LIMIT 1";
        Ok(on_db!(self, |pool| sqlx::query(SQL)
            .fetch_optional(pool)
            .await
            .map(|row| row.is_some()))?)
    }

    /// The scope's locations, in the Seller's order.
    pub async fn locations(&self, scope: SellerScope) -> Result<Vec<LocationRow>, DbError> {
        const SQL: &str = "SELECT id, name, street, city, state, postal_code, phone \
             FROM seller_locations WHERE seller_id = $1 ORDER BY position";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .fetch_all(pool)
            .await)?)
    }
}

impl WriteTx {
    /// Adds a Seller; [`DbError::Unique`] if the slug is taken.
    pub async fn insert_seller(&mut self, seller: &NewSeller, at: Time) -> Result<(), DbError> {
        const SQL: &str = "INSERT INTO sellers (id, slug, name, plan, kind, key_version, created_us, updated_us) \
             VALUES ($1, $2, $3, $4, $6, 0, $5, $5)";
        on_tx!(self, |conn| sqlx::query(SQL)
            .bind(seller.id)
            .bind(seller.slug.as_str())
            .bind(&seller.name)
            .bind(seller.plan)
            .bind(at)
            .bind(seller.kind)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Adds many Sellers in one statement, for filling an empty database with a load test's worth.
    pub async fn insert_sellers_in_bulk(
        &mut self,
        sellers: &[NewSeller],
        at: Time,
    ) -> Result<(), DbError> {
        let rows: Vec<_> = sellers
            .iter()
            .map(
                |s| serde_json::json!({"id": s.id, "slug": s.slug, "name": s.name, "plan": s.plan}),
            )
            .collect();
        let json = serde_json::Value::from(rows).to_string();
        const SQLITE: &str = "INSERT INTO sellers (id, slug, name, plan, key_version, created_us, updated_us) \
             SELECT value ->> 'id', value ->> 'slug', value ->> 'name', value ->> 'plan', 1, $2, $2 FROM json_each($1)";
        const POSTGRES: &str = "INSERT INTO sellers (id, slug, name, plan, key_version, created_us, updated_us) \
             SELECT id, slug, name, plan, 1, $2, $2 \
             FROM json_to_recordset($1::json) AS r(id text, slug text, name text, plan text)";
        match &mut self.inner {
            Tx::Sqlite(tx) => {
                sqlx::query(SQLITE)
                    .bind(json)
                    .bind(at)
                    .execute(&mut **tx)
                    .await?;
            }
            Tx::Postgres(tx) => {
                let work = sqlx::query(POSTGRES).bind(json).bind(at).execute(&mut **tx);
                answered(work).await?;
            }
        }
        Ok(())
    }
}

impl ScopedTx {
    /// Changes what the scope's dealer says of itself.
    pub async fn update_dealer(&mut self, change: &DealerChange, at: Time) -> Result<(), DbError> {
        // Each field has a flag beside it: "leave alone" and "clear" are both NULL otherwise.
        const SQL: &str = "UPDATE sellers SET name = COALESCE($2, name), \
             phone = CASE WHEN $3 = 1 THEN $4 ELSE phone END, \
             email = CASE WHEN $5 = 1 THEN $6 ELSE email END, \
             website = CASE WHEN $7 = 1 THEN $8 ELSE website END, \
             description = CASE WHEN $9 = 1 THEN $10 ELSE description END, \
             updated_us = $11 WHERE id = $1";
        let flag = |field: &Option<Option<String>>| i64::from(field.is_some());
        on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(self.scope.seller())
            .bind(&change.name)
            .bind(flag(&change.phone))
            .bind(change.phone.clone().flatten())
            .bind(flag(&change.email))
            .bind(change.email.clone().flatten())
            .bind(flag(&change.website))
            .bind(change.website.clone().flatten())
            .bind(flag(&change.description))
            .bind(change.description.clone().flatten())
            .bind(at)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// The scope's locations, as they are under this transaction's lock.
    pub async fn locations(&mut self) -> Result<Vec<LocationRow>, DbError> {
        const SQL: &str = "SELECT id, name, street, city, state, postal_code, phone \
             FROM seller_locations WHERE seller_id = $1 ORDER BY position";
        Ok(on_tx!(self.tx, |conn| sqlx::query_as(SQL)
            .bind(self.scope.seller())
            .fetch_all(conn)
            .await)?)
    }

    /// Replaces the scope's locations by these, in this order.
    pub async fn replace_locations(&mut self, locations: &[LocationRow]) -> Result<(), DbError> {
        const CLEAR: &str = "DELETE FROM seller_locations WHERE seller_id = $1";
        const ADD: &str = "INSERT INTO seller_locations \
             (id, seller_id, position, name, street, city, state, postal_code, phone) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let seller = self.scope.seller();
        on_tx!(self.tx, |conn| sqlx::query(CLEAR)
            .bind(seller)
            .execute(conn)
            .await
            .map(drop))?;
        for (position, location) in locations.iter().enumerate() {
            on_tx!(self.tx, |conn| sqlx::query(ADD)
                .bind(location.id)
                .bind(seller)
                .bind(position as i64)
                .bind(&location.name)
                .bind(&location.street)
                .bind(&location.city)
                .bind(&location.state)
                .bind(&location.postal_code)
                .bind(&location.phone)
                .execute(conn)
                .await
                .map(drop))?;
        }
        Ok(())
    }
}
