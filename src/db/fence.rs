//! The fence: transactions that are opened on somebody's authority, which is asked for again inside them.
//!
//! A write takes a shared lock on every account whose state it relies on, in the order of the locks' numbers; a change of keys,
//! grants or members takes its own account's exclusively. So a change waits for writes in flight, and none that was authorised
//! by what it ended commits after it.
//!
//! Never: the question asked in the statement that waits for the lock. Under READ COMMITTED only a statement that began after
//! the lock was granted sees what was committed meanwhile.

use std::net::IpAddr;

use sqlx::FromRow;

use super::{
    Db, DbError, Fenced, ScopedTx, Tx, WritePlace, WriteTx, on_tx, place_in,
    postgres::{For, LOCK_PATIENCE, PgDb, answered},
};
use crate::{
    accounts::{AccountKind, AccountStatus, Plan, Role},
    ids::{KeyId, SellerId, UserId},
    keys::{
        networks::Networks,
        scope::{Authority, SellerScope},
    },
};

impl Db {
    /// Opens a transaction for a write to a Seller's rows on behalf of a scope, after checking inside it that the scope still
    /// holds: the key that gave it is live and may act, with the grant that it needs, or the User is still a member who may.
    ///
    /// [`DbError::Fenced`] if not.
    pub async fn begin_write(&self, scope: SellerScope) -> Result<ScopedTx, DbError> {
        let place = self.place_to_write().await?;
        self.begin_fenced(place, scope, AccountKind::Seller).await
    }

    /// The same for a write to a Platform's own rows, such as the Sellers that it brings into being, by its key, from a
    /// place that was waited for before.
    pub async fn begin_platform_write(
        &self,
        place: WritePlace,
        scope: SellerScope,
    ) -> Result<ScopedTx, DbError> {
        self.begin_fenced(place, scope, AccountKind::Platform).await
    }

    async fn begin_fenced(
        &self,
        place: WritePlace,
        scope: SellerScope,
        on: AccountKind,
    ) -> Result<ScopedTx, DbError> {
        let mut tx = self.begin_at(place).await?;
        let mut owners = vec![scope.seller()];
        if let Authority::Platform { platform, .. } = scope.authority() {
            owners.push(platform);
        }
        // Whoever takes more than one takes them in this order, so that no two wait for each other.
        owners.sort_by_key(|owner| lock_number(*owner));
        for owner in owners {
            tx.lock_owner(owner, Lock::Shared).await?;
        }
        tx.check_authority(scope, Some(on)).await?;
        Ok(ScopedTx { tx, scope })
    }

    /// Opens a transaction that changes what keys or grants of an account are good, or who may act for it; it waits until
    /// every write in flight has ended. [`DbError::Fenced`] as for a write.
    pub async fn begin_change(&self, scope: SellerScope) -> Result<ScopedTx, DbError> {
        let place = match self {
            Self::Sqlite(_) => None,
            Self::Postgres(db) => Some(place_in(&db.changes).await?),
        };
        let mut tx = WriteTx {
            _place: place,
            ..self.begin_for(For::Change).await?
        };
        let locked = tx.lock_owner(scope.seller(), Lock::Exclusive);
        match self {
            Self::Sqlite(_) => locked.await?,
            // Its place in the queue is kept while whoever holds the lock for too long is ended.
            Self::Postgres(db) => tokio::select! {
                locked = locked => locked?,
                () = end_holders(db, scope.seller()) => {}
            },
        }
        tx.check_authority(scope, None).await?;
        Ok(ScopedTx { tx, scope })
    }
}

/// Ends, again and again, whoever has held an account's lock for longer than a change is to wait. A node that froze inside a
/// write is ended by the server itself; this is for one that froze where the server's limits do not reach.
pub(super) async fn end_holders(db: &PgDb, owner: SellerId) {
    loop {
        tokio::time::sleep(LOCK_PATIENCE).await;
        if let Err(error) = db.end_holders(lock_number(owner)).await {
            tracing::warn!(%error, "whoever holds the lock on an account cannot be ended");
        }
    }
}

/// The number of an account's lock. Two accounts of one number would only wait for each other.
pub(super) fn lock_number(owner: SellerId) -> i64 {
    owner.spread().cast_signed()
}

#[derive(Clone, Copy)]
pub(super) enum Lock {
    Shared,
    Exclusive,
}

/// What is found of a key and its account.
#[derive(FromRow)]
struct KeyHolds {
    state: String,
    kind: AccountKind,
    plan: Plan,
    status: AccountStatus,
    key_networks: Option<String>,
}

impl KeyHolds {
    fn check(&self, address: Option<IpAddr>) -> Result<(), Fenced> {
        if self.state != "live" {
            return Err(Fenced::Key);
        }
        if self.status != AccountStatus::Active {
            return Err(Fenced::Inactive);
        }
        if let Some(networks) = &self.key_networks
            && !let_in(networks, address)
        {
            return Err(Fenced::Elsewhere);
        }
        // Whether it acts for a Seller or founds one.
        match self.kind {
            AccountKind::Platform if self.plan != Plan::Enterprise => Err(Fenced::Plan),
            _ => Ok(()),
        }
    }
}

/// What is found of a grant and its Seller.
#[derive(FromRow)]
struct GrantHolds {
    state: String,
    status: AccountStatus,
}

/// What is found of a member and their account.
#[derive(FromRow)]
struct MemberHolds {
    role: Role,
    kind: AccountKind,
    status: AccountStatus,
    /// 1 if an owner demands a second factor of whoever acts, else 0.
    factor_required: i64,
    /// 1 if the User has one, else 0.
    has_factor: i64,
}

/// An address that is not known is in no network, and a list that cannot be read contains none.
fn let_in(networks: &str, address: Option<IpAddr>) -> bool {
    match (networks.parse::<Networks>(), address) {
        (Ok(networks), Some(address)) => networks.contain(address),
        _ => false,
    }
}

impl WriteTx {
    /// Takes the lock on which an account's writes and the changes of its key exclude each other, until the transaction
    /// ends. Advisory, because its queue is fair: shared row locks can overtake a waiting update for ever. On SQLite the
    /// single writer is the lock.
    pub(super) async fn lock_owner(&mut self, owner: SellerId, lock: Lock) -> Result<(), DbError> {
        if let Tx::Postgres(tx) = &mut self.inner {
            let sql = match lock {
                Lock::Shared => "SELECT pg_advisory_xact_lock_shared($1)",
                Lock::Exclusive => "SELECT pg_advisory_xact_lock($1)",
            };
            let locked = sqlx::query(sql).bind(lock_number(owner));
            answered(locked.execute(&mut **tx)).await?;
        }
        Ok(())
    }

    /// Whether the scope still holds, and whether its account is of the kind that is to be written to.
    async fn check_authority(
        &mut self,
        scope: SellerScope,
        on: Option<AccountKind>,
    ) -> Result<(), DbError> {
        let kind = match scope.authority() {
            Authority::Key(key) => {
                let found = self.key_holds(key, scope.seller()).await?;
                found.check(scope.address())?;
                found.kind
            }
            Authority::Platform { key, platform } => {
                let found = self.key_holds(key, platform).await?;
                found.check(scope.address())?;
                self.check_grant(platform, scope.seller()).await?;
                // Only Sellers grant.
                AccountKind::Seller
            }
            Authority::Member(user) => self.check_member(user, scope.seller()).await?,
            Authority::Operator => return Ok(()),
            Authority::Finder(key, _) => match self.is_key_of(scope.seller(), key).await? {
                true => return Ok(()),
                false => return Err(Fenced::Key.into()),
            },
        };
        match on {
            Some(on) if on != kind => Err(Fenced::Kind.into()),
            _ => Ok(()),
        }
    }

    async fn key_holds(&mut self, key: KeyId, owner: SellerId) -> Result<KeyHolds, DbError> {
        const SQL: &str = "SELECT k.state, s.kind, s.plan, s.status, s.key_networks \
             FROM api_keys k JOIN sellers s ON s.id = k.seller_id WHERE k.id = $1 AND k.seller_id = $2";
        let found: Option<KeyHolds> = on_tx!(self, |conn| sqlx::query_as(SQL)
            .bind(key)
            .bind(owner)
            .fetch_optional(conn)
            .await)?;
        Ok(found.ok_or(Fenced::Key)?)
    }

    async fn check_grant(&mut self, platform: SellerId, seller: SellerId) -> Result<(), DbError> {
        const SQL: &str = "SELECT g.state, s.status FROM grants g JOIN sellers s ON s.id = g.seller_id \
             WHERE g.platform_id = $1 AND g.seller_id = $2";
        let found: Option<GrantHolds> = on_tx!(self, |conn| sqlx::query_as(SQL)
            .bind(platform)
            .bind(seller)
            .fetch_optional(conn)
            .await)?;
        match found {
            Some(found) if found.state != "live" => Err(Fenced::Grant.into()),
            Some(found) if found.status != AccountStatus::Active => {
                Err(Fenced::SellerInactive.into())
            }
            Some(_) => Ok(()),
            None => Err(Fenced::Grant.into()),
        }
    }

    async fn check_member(
        &mut self,
        user: UserId,
        account: SellerId,
    ) -> Result<AccountKind, DbError> {
        const SQL: &str = "SELECT m.role, s.kind, s.status, s.second_factor_required AS factor_required, \
             (SELECT COUNT(*) FROM second_factors f WHERE f.user_id = m.user_id AND f.confirmed_us IS NOT NULL) AS has_factor \
             FROM memberships m JOIN sellers s ON s.id = m.seller_id WHERE m.user_id = $1 AND m.seller_id = $2";
        let found: Option<MemberHolds> = on_tx!(self, |conn| sqlx::query_as(SQL)
            .bind(user)
            .bind(account)
            .fetch_optional(conn)
            .await)?;
        match found {
            Some(found) if !found.role.may_act() => Err(Fenced::Member.into()),
            Some(found) if found.factor_required != 0 && found.has_factor == 0 => {
                Err(Fenced::Member.into())
            }
            Some(found) if found.status != AccountStatus::Active => Err(Fenced::Inactive.into()),
            Some(found) => Ok(found.kind),
            None => Err(Fenced::Member.into()),
        }
    }
}
