//! Platforms and what Sellers grant them; what the marketplace makes of an account.
//!
//! Never: a grant written but under its Seller's lock; a grant's row deleted, which no node could see.

use sqlx::FromRow;

use super::{
    Db, DbError, Fenced, NewSeller, ScopedTx, SellerRow, on_db, on_tx, sellers::account_where,
};
use crate::{
    accounts::{AccountKind, AccountStatus, Plan, Slug},
    clock::Time,
    ids::{GrantId, SellerId},
    keys::{networks::Networks, scope::SellerScope},
};

/// A Platform as a Seller sees it.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct PlatformRow {
    /// Its id.
    pub id: SellerId,
    /// Its short name.
    pub slug: String,
    /// Its name.
    pub name: String,
}

/// A grant as its Seller sees it.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct GrantRow {
    /// Its id.
    pub id: GrantId,
    /// The Platform.
    pub platform_id: SellerId,
    /// The Platform's short name.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its plan: without Enterprise its key is refused, whatever is granted.
    pub plan: Plan,
    /// Whether the marketplace lets it act.
    pub status: AccountStatus,
    /// Who gave it.
    pub made_by: String,
    /// When.
    pub created_us: Time,
}

/// A grant as its Platform sees it.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct GrantedRow {
    /// The Seller.
    pub seller_id: SellerId,
    /// Its short name.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Whether the marketplace lets it act.
    pub status: AccountStatus,
    /// Since when it is granted.
    pub created_us: Time,
    /// How many owners it has: a Seller that a Platform brought into being has none before somebody accepts.
    pub owners: i64,
}

/// A Platform under its grantor's lock.
#[derive(Clone, Debug, FromRow)]
pub struct GranteeRow {
    /// Its short name.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its plan.
    pub plan: Plan,
    /// Whether the marketplace lets it act.
    pub status: AccountStatus,
    /// `live`, `withdrawn`, or nothing if there never was a grant.
    pub state: Option<String>,
}

impl Db {
    /// Platforms to which access could be granted: those that the marketplace lets act, on the plan for it. By name.
    pub async fn open_platforms(&self, limit: i64) -> Result<Vec<PlatformRow>, DbError> {
        const SQL: &str = "SELECT id, slug, name FROM sellers \
             WHERE kind = 'platform' AND status = 'active' AND plan = 'enterprise' ORDER BY name, slug LIMIT $1";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }

    /// The grants of the scope's Seller that hold, by the Platforms' names.
    pub async fn grants_given(&self, scope: SellerScope) -> Result<Vec<GrantRow>, DbError> {
        const SQL: &str = "SELECT g.id, g.platform_id, p.slug, p.name, p.plan, p.status, g.made_by, g.created_us \
             FROM grants g JOIN sellers p ON p.id = g.platform_id \
             WHERE g.seller_id = $1 AND g.state = 'live' ORDER BY p.name, p.slug";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .fetch_all(pool)
            .await)?)
    }

    /// The names of the Platforms that may act for a Seller, for whoever is invited to own it and has no right there yet.
    pub async fn names_of_platforms(&self, seller: SellerId) -> Result<Vec<String>, DbError> {
        const SQL: &str = "SELECT p.name FROM grants g JOIN sellers p ON p.id = g.platform_id \
             WHERE g.seller_id = $1 AND g.state = 'live' ORDER BY p.name, p.slug";
        Ok(on_db!(self, |pool| sqlx::query_scalar(SQL)
            .bind(seller)
            .fetch_all(pool)
            .await)?)
    }

    /// The Sellers that have granted the scope's Platform access, after this slug, in the order of their slugs.
    pub async fn grants_held(
        &self,
        scope: SellerScope,
        after: &str,
        limit: i64,
    ) -> Result<Vec<GrantedRow>, DbError> {
        const SQL: &str = "SELECT g.seller_id, s.slug, s.name, s.status, g.created_us, \
             (SELECT COUNT(*) FROM memberships m WHERE m.seller_id = s.id AND m.role = 'owner') AS owners \
             FROM grants g JOIN sellers s ON s.id = g.seller_id \
             WHERE g.platform_id = $1 AND g.state = 'live' AND s.slug > $2 ORDER BY s.slug LIMIT $3";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .bind(after)
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }

    /// How many Sellers have granted the scope's Platform access.
    pub async fn count_grants_held(&self, scope: SellerScope) -> Result<i64, DbError> {
        const SQL: &str = "SELECT COUNT(*) FROM grants WHERE platform_id = $1 AND state = 'live'";
        Ok(on_db!(self, |pool| sqlx::query_scalar(SQL)
            .bind(scope.seller())
            .fetch_one(pool)
            .await)?)
    }
}

impl ScopedTx {
    /// A Platform, and how the scope's Seller stands to it, as it is under this transaction's lock; `None` if there is no
    /// such Platform.
    pub async fn grantee(&mut self, platform: SellerId) -> Result<Option<GranteeRow>, DbError> {
        const SQL: &str = "SELECT p.slug, p.name, p.plan, p.status, g.state FROM sellers p \
             LEFT JOIN grants g ON g.platform_id = p.id AND g.seller_id = $2 \
             WHERE p.id = $1 AND p.kind = 'platform'";
        let seller = self.scope.seller();
        Ok(on_tx!(self.tx, |conn| sqlx::query_as(SQL)
            .bind(platform)
            .bind(seller)
            .fetch_optional(conn)
            .await)?)
    }

    /// Grants a Platform access to the scope's Seller.
    pub async fn put_grant(
        &mut self,
        platform: SellerId,
        made_by: &str,
        at: Time,
    ) -> Result<(), DbError> {
        const SQL: &str = "INSERT INTO grants (id, seller_id, platform_id, state, made_by, created_us, changed_epoch) \
             VALUES ($1, $2, $3, 'live', $4, $5, -1) ON CONFLICT (seller_id, platform_id) DO UPDATE \
             SET state = 'live', made_by = excluded.made_by, created_us = excluded.created_us, ended_us = NULL, \
             changed_epoch = -1";
        let seller = self.scope.seller();
        on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(GrantId::new())
            .bind(seller)
            .bind(platform)
            .bind(made_by)
            .bind(at)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// The Platforms that the scope's Seller grants access.
    pub async fn platforms_granted(&mut self) -> Result<Vec<PlatformRow>, DbError> {
        const SQL: &str = "SELECT p.id, p.slug, p.name FROM grants g JOIN sellers p ON p.id = g.platform_id \
             WHERE g.seller_id = $1 AND g.state = 'live' ORDER BY p.slug";
        let seller = self.scope.seller();
        Ok(on_tx!(self.tx, |conn| sqlx::query_as(SQL)
            .bind(seller)
            .fetch_all(conn)
            .await)?)
    }

    /// Withdraws the grants of the scope's Seller: one Platform's, or all. How many held until now.
    pub async fn withdraw_grants(
        &mut self,
        platform: Option<SellerId>,
        at: Time,
    ) -> Result<u64, DbError> {
        const SQL: &str = "UPDATE grants SET state = 'withdrawn', ended_us = $3, changed_epoch = -1 \
             WHERE seller_id = $1 AND ($2 IS NULL OR platform_id = $2) AND state = 'live'";
        let seller = self.scope.seller();
        Ok(on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(seller)
            .bind(platform)
            .bind(at)
            .execute(conn)
            .await
            .map(|done| done.rows_affected()))?)
    }

    /// Adds a Seller that the scope's Platform brings into being, with the grant to it. [`DbError::Unique`] if the slug is
    /// taken. From then on the transaction is on that Seller's rows, on the grounds of that grant.
    pub async fn found_seller(&mut self, seller: &NewSeller, at: Time) -> Result<(), DbError> {
        const FOUNDER: &str = "UPDATE sellers SET created_by = $2 WHERE id = $1";
        self.tx.insert_seller(seller, at).await?;
        let platform = self.scope.seller();
        let founded = self.scope.of_founded(seller.id).ok_or(Fenced::Kind)?;
        on_tx!(self.tx, |conn| sqlx::query(FOUNDER)
            .bind(seller.id)
            .bind(platform)
            .execute(conn)
            .await
            .map(drop))?;
        let made_by = self.scope.actor();
        self.scope = founded;
        self.put_grant(platform, &made_by, at).await
    }

    /// How many Sellers the scope's Platform has brought into being, and may act for, that nobody of theirs has opened yet.
    pub async fn count_unclaimed(&mut self) -> Result<i64, DbError> {
        const SQL: &str = "SELECT COUNT(*) FROM grants g JOIN sellers s ON s.id = g.seller_id \
             WHERE g.platform_id = $1 AND g.state = 'live' AND s.created_by = $1 \
             AND NOT EXISTS (SELECT 1 FROM memberships m WHERE m.seller_id = s.id AND m.role = 'owner')";
        let platform = self.scope.seller();
        Ok(on_tx!(self.tx, |conn| sqlx::query_scalar(SQL)
            .bind(platform)
            .fetch_one(conn)
            .await)?)
    }

    /// Whether the Seller with this slug has granted the scope's Platform access.
    pub async fn is_granted_by(&mut self, slug: &Slug) -> Result<bool, DbError> {
        const SQL: &str = "SELECT 1 FROM grants g JOIN sellers s ON s.id = g.seller_id \
             WHERE g.platform_id = $1 AND s.slug = $2 AND g.state = 'live'";
        let platform = self.scope.seller();
        Ok(on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(platform)
            .bind(slug.as_str())
            .fetch_optional(conn)
            .await
            .map(|row| row.is_some()))?)
    }

    /// Changes what the marketplace lets the scope's account do.
    pub async fn set_status(
        &mut self,
        status: AccountStatus,
        reason: Option<&str>,
    ) -> Result<(), DbError> {
        const SQL: &str = "UPDATE sellers SET status = $2, status_reason = $3 WHERE id = $1";
        let account = self.scope.seller();
        on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(account)
            .bind(status)
            .bind(reason)
            .execute(conn)
            .await
            .map(drop))?;
        self.touch_keys_and_grants().await
    }

    /// Changes what the scope's account pays for.
    pub async fn set_plan(&mut self, plan: Plan) -> Result<(), DbError> {
        const SQL: &str = "UPDATE sellers SET plan = $2 WHERE id = $1";
        let account = self.scope.seller();
        on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(account)
            .bind(plan)
            .execute(conn)
            .await
            .map(drop))?;
        self.touch_keys_and_grants().await
    }

    /// Changes from which networks the keys of the scope's account are accepted; `None` is from anywhere.
    pub async fn set_networks(&mut self, networks: Option<&Networks>) -> Result<(), DbError> {
        const SQL: &str = "UPDATE sellers SET key_networks = $2 WHERE id = $1";
        let account = self.scope.seller();
        let networks = networks.map(ToString::to_string);
        on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(account)
            .bind(networks)
            .execute(conn)
            .await
            .map(drop))?;
        self.touch_keys_and_grants().await
    }

    /// Marks what nodes know of the account beside its row as changed: its keys that are not dead, and its grants.
    async fn touch_keys_and_grants(&mut self) -> Result<(), DbError> {
        const TOUCH: [&str; 3] = [
            "UPDATE api_keys SET changed_epoch = -1 WHERE seller_id = $1 AND state = 'live'",
            "UPDATE staged_keys SET changed_epoch = -1 WHERE seller_id = $1",
            "UPDATE grants SET changed_epoch = -1 WHERE seller_id = $1 AND state = 'live'",
        ];
        let account = self.scope.seller();
        for sql in TOUCH {
            on_tx!(self.tx, |conn| sqlx::query(sql)
                .bind(account)
                .execute(conn)
                .await
                .map(drop))?;
        }
        Ok(())
    }

    /// Ends every active listing of the scope's Seller, so that other Sellers may list the VINs; how many those were.
    pub async fn expire_listings(&mut self, at: Time) -> Result<u64, DbError> {
        const SQL: &str = "UPDATE listings SET status = 'expired', updated_us = $2 \
             WHERE seller_id = $1 AND status = 'active'";
        let seller = self.scope.seller();
        Ok(on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(seller)
            .bind(at)
            .execute(conn)
            .await
            .map(|done| done.rows_affected()))?)
    }

    /// The scope's account as it is under this transaction's lock.
    pub async fn account(&mut self) -> Result<Option<SellerRow>, DbError> {
        const SQL: &str = account_where!("id = $1");
        let account = self.scope.seller();
        Ok(on_tx!(self.tx, |conn| sqlx::query_as(SQL)
            .bind(account)
            .fetch_optional(conn)
            .await)?)
    }
}

impl Db {
    /// The account of either kind with this slug. For commands, which name people's and keys' accounts alike.
    pub async fn account_by_slug(&self, slug: &Slug) -> Result<Option<SellerRow>, DbError> {
        const SQL: &str = account_where!("slug = $1");
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(slug.as_str())
            .fetch_optional(pool)
            .await)?)
    }

    /// Accounts of a kind in the order of their slugs, after this one. For the operator.
    pub async fn accounts_after(
        &self,
        kind: AccountKind,
        slug: &str,
        limit: i64,
    ) -> Result<Vec<SellerRow>, DbError> {
        const SQL: &str = account_where!("kind = $1 AND slug > $2 ORDER BY slug LIMIT $3");
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(kind)
            .bind(slug)
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }
}
