//! Which Platforms may act for a Seller: granting, withdrawing, and the Sellers that a Platform brings into being.
//!
//! A grant is given and withdrawn by an owner of the Seller and by nobody else; the operator may withdraw one. Withdrawing obeys
//! the zero-window rule as the death of a key does: when it returns, no request that starts later is let act for the Seller,
//! and no write of the Platform's lands any more.
//!
//! Never: a grant that the Seller's owner did not give, but for a Seller that did not exist before.

use std::sync::Arc;

use serde_json::json;

use super::{
    Keys,
    revocation::{Receipt, Turn},
    scope::{Authority, SellerScope},
};
use crate::{
    accounts::{AccountKind, AccountStatus, Plan, Role, Slug},
    act::{ActDied, run_to_end},
    audit::Act,
    db::{AuditEntry, DbError, NewDealer, NewSeller, ScopedTx},
    ids::SellerId,
    mail::account_words::{AccountNews, about_account},
};

/// Sellers that a Platform has brought into being and that nobody of theirs has opened yet, at most: a key in the wrong hands
/// shall not take every short name.
pub const UNCLAIMED_MAX: i64 = 500;

/// A grant that was given or withdrawn.
#[derive(Debug)]
pub struct Granted {
    /// Whether anything changed: it may have been so before.
    pub changed: bool,
    /// Proof that every node obeys it.
    pub receipt: Receipt,
}

/// A Seller that a Platform brought into being.
#[derive(Debug)]
pub struct Founded {
    /// The Platform's right to the Seller.
    pub scope: SellerScope,
    /// Proof that every node lets the Platform act for it.
    pub receipt: Receipt,
}

/// Why an act on grants was refused. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// There is none with this id.
    #[error("there is no such platform")]
    NoSuchPlatform,
    /// Its plan has no platform access, or the marketplace has suspended it.
    #[error(
        "{0} cannot be granted access at present: it is suspended, or not on the Enterprise plan"
    )]
    NotOpen(String),
    /// A Platform has nothing to give access to.
    #[error("only a dealer account gives platform access")]
    OnlyDealers,
    /// Grants are the owners' matter.
    #[error("only an owner of the dealer account gives and withdraws platform access")]
    NotOwner,
    /// The slug of the Seller that was to be brought into being is another account's.
    #[error("the slug {0} is taken")]
    SlugTaken(Slug),
    /// It is that of a Seller that has granted the Platform access.
    #[error("{0} exists and has granted access")]
    NameIt(Slug),
    /// The Platform has brought in as many as it may that nobody of theirs has opened yet.
    #[error("{UNCLAIMED_MAX} dealers that the platform brought in are unclaimed")]
    TooManyUnclaimed,
    /// The database could not do it, or the fence fell.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The act's task died.
    #[error(transparent)]
    Died(#[from] ActDied),
}

impl Keys {
    /// Lets a Platform act for the scope's Seller. When this returns, every node does.
    pub async fn grant(
        self: &Arc<Self>,
        scope: SellerScope,
        platform: SellerId,
    ) -> Result<Granted, GrantError> {
        let keys = Arc::clone(self);
        run_to_end(async move { keys.grant_now(scope, platform).await }).await
    }

    async fn grant_now(
        &self,
        scope: SellerScope,
        platform: SellerId,
    ) -> Result<Granted, GrantError> {
        let turn = self.turn().await;
        let mut tx = self.begin_change(scope).await?;
        must_own(&mut tx).await?;
        if scope.authority() == Authority::Operator {
            return Err(GrantError::NotOwner);
        }
        match tx.account().await? {
            Some(account) if account.kind == AccountKind::Seller => {}
            _ => return Err(GrantError::OnlyDealers),
        }
        let grantee = tx.grantee(platform).await?;
        let grantee = grantee.ok_or(GrantError::NoSuchPlatform)?;
        if grantee.state.as_deref() == Some("live") {
            return Ok(Granted {
                changed: false,
                receipt: self.nothing_to_do(&turn, tx).await?,
            });
        }
        if grantee.status != AccountStatus::Active || grantee.plan != Plan::Enterprise {
            return Err(GrantError::NotOpen(grantee.name));
        }
        let now = self.clock.now();
        tx.put_grant(platform, &scope.actor(), now).await?;
        let act = AuditEntry::of(scope, now, Act::PlatformGranted);
        let act = act.with(json!({ "platform": platform, "name": grantee.name }));
        let act = act.also_for(platform);
        let news = AccountNews::Granted {
            platform: grantee.name,
        };
        self.conclude_grant(turn, tx, &act, news).await
    }

    /// Takes a Platform's access to the scope's Seller away. Doing it twice is no error: the second act finds nothing to do.
    pub async fn withdraw(
        self: &Arc<Self>,
        scope: SellerScope,
        platform: SellerId,
    ) -> Result<Granted, GrantError> {
        let keys = Arc::clone(self);
        run_to_end(async move { keys.withdraw_now(scope, platform).await }).await
    }

    async fn withdraw_now(
        &self,
        scope: SellerScope,
        platform: SellerId,
    ) -> Result<Granted, GrantError> {
        let turn = self.turn().await;
        let mut tx = self.begin_change(scope).await?;
        must_own(&mut tx).await?;
        let grantee = tx.grantee(platform).await?;
        let grantee = grantee.ok_or(GrantError::NoSuchPlatform)?;
        let now = self.clock.now();
        if tx.withdraw_grants(Some(platform), now).await? == 0 {
            return Ok(Granted {
                changed: false,
                receipt: self.nothing_to_do(&turn, tx).await?,
            });
        }
        let act = AuditEntry::of(scope, now, Act::PlatformWithdrawn);
        let act = act.with(json!({ "platform": platform, "name": grantee.name }));
        let act = act.also_for(platform);
        let news = AccountNews::Withdrawn {
            platform: grantee.name,
        };
        self.conclude_grant(turn, tx, &act, news).await
    }

    /// The end of both: every node obeys it, the owners are told, and the receipt is filed.
    async fn conclude_grant(
        &self,
        turn: Turn<'_>,
        tx: ScopedTx,
        act: &AuditEntry,
        news: AccountNews,
    ) -> Result<Granted, GrantError> {
        let receipt = self.conclude(turn, tx, act, about_account(news)).await?;
        self.file(act, &receipt).await;
        Ok(Granted {
            changed: true,
            receipt,
        })
    }

    /// Brings a Seller into being for the Platform whose own scope this is, with the grant to act for it. Nobody is a member of
    /// it yet: it is unclaimed until an owner whom the operator invites accepts.
    pub async fn found_seller(
        self: &Arc<Self>,
        scope: SellerScope,
        dealer: NewDealer,
    ) -> Result<Founded, GrantError> {
        let keys = Arc::clone(self);
        run_to_end(async move { keys.found_seller_now(scope, dealer).await }).await
    }

    async fn found_seller_now(
        &self,
        scope: SellerScope,
        dealer: NewDealer,
    ) -> Result<Founded, GrantError> {
        // The place comes first: whoever founds Sellers by the hundred waits there, and not before every change of a key.
        let place = self.db.place_to_write().await?;
        let turn = self.turn().await;
        let mut tx = self.db.begin_platform_write(place, scope).await?;
        if tx.count_unclaimed().await? >= UNCLAIMED_MAX {
            return Err(match tx.is_granted_by(&dealer.slug).await? {
                true => GrantError::NameIt(dealer.slug),
                false => GrantError::TooManyUnclaimed,
            });
        }
        let now = self.clock.now();
        let seller = NewSeller {
            id: SellerId::new(),
            slug: dealer.slug.clone(),
            name: dealer.name,
            plan: Plan::Starter,
            kind: AccountKind::Seller,
        };
        match tx.found_seller(&seller, now).await {
            Err(DbError::Unique) => {
                drop((tx, turn));
                return Err(self.why_taken(scope, dealer.slug).await?);
            }
            other => other?,
        }
        tx.update_dealer(&dealer.change, now).await?;
        tx.replace_locations(&dealer.locations).await?;
        let founded = tx.scope();
        let act = AuditEntry::of(founded, now, Act::SellerCreated);
        let act = act.with(json!({ "slug": dealer.slug, "by_platform": scope.seller() }));
        tx.append_audit(&act).await?;
        let receipt = self.settle(turn, tx, Vec::new()).await?;
        self.file(&act, &receipt).await;
        Ok(Founded {
            scope: founded,
            receipt,
        })
    }

    /// Why a slug could not be had. Asked in a transaction of its own: the same Platform may have founded it this moment, and
    /// one that ran meanwhile does not see that.
    async fn why_taken(&self, scope: SellerScope, slug: Slug) -> Result<GrantError, GrantError> {
        let place = self.db.place_to_write().await?;
        let mut tx = self.db.begin_platform_write(place, scope).await?;
        Ok(match tx.is_granted_by(&slug).await? {
            true => GrantError::NameIt(slug),
            false => GrantError::SlugTaken(slug),
        })
    }
}

/// Whether whoever acts is an owner, as things stand under the transaction's lock; the operator has the right of one.
pub(super) async fn must_own(tx: &mut ScopedTx) -> Result<(), GrantError> {
    let own = match tx.scope().authority() {
        Authority::Operator => return Ok(()),
        Authority::Member(user) => tx.role_of(user).await?,
        Authority::Key(_) | Authority::Platform { .. } | Authority::Finder(..) => None,
    };
    match own {
        Some(Role::Owner) => Ok(()),
        _ => Err(GrantError::NotOwner),
    }
}
