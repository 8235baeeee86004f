//! What the marketplace makes of an account, and from where its people let its key be used. Each of these decides about keys, and
//! so obeys the zero-window rule.
//!
//! *Suspending* refuses the account's key with 403 and leaves it alive: the key is good, and comes back with the account.
//! *Closing* is for good: the key is expired, grants are withdrawn, listings end. *The plan* decides whether a Platform's key is
//! accepted at all. *The networks* decide from where.
//!
//! Never: a reason that holds a key; a suspended account whose people can undo it.

use std::sync::Arc;

use serde_json::json;

use super::{Keys, networks::Networks, revocation::Receipt, scope::SellerScope};
use crate::{
    accounts::{AccountStatus, Plan},
    act::{ActDied, run_to_end},
    audit::Act,
    db::{AuditEntry, DbError, SellerRow, StagedBecomes},
    mail::account_words::{AccountNews, about_account},
};

/// What was done to an account.
#[derive(Debug)]
pub struct Stands {
    /// Whether anything changed: it may have been so before.
    pub changed: bool,
    /// Proof that every node obeys it.
    pub receipt: Receipt,
}

/// What is to be done to an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It pays for this from now on.
    Plan(Plan),
    /// Nothing is accepted from it until it is resumed; why.
    Suspend(String),
    /// It goes on as before.
    Resume,
    /// It ends for good; why.
    Close(String),
    /// Its key is accepted from these networks only; `None` is from anywhere.
    Networks(Option<Networks>),
}

/// Why it was not done. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum StandingError {
    /// There is no such account.
    #[error("there is no such account")]
    NoSuchAccount,
    /// What is closed stays closed.
    #[error("the account is closed for good; make another one")]
    Closed,
    /// The database could not do it, or the fence fell.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The act's task died.
    #[error(transparent)]
    Died(#[from] ActDied),
}

impl Keys {
    /// Changes what an account may do. Doing it twice is no error: the second act finds nothing to do. The networks are its
    /// people's own matter; all else is the operator's, whose scope this must be.
    pub async fn stand(
        self: &Arc<Self>,
        scope: SellerScope,
        standing: Standing,
    ) -> Result<Stands, StandingError> {
        let keys = Arc::clone(self);
        run_to_end(async move { keys.stand_now(scope, standing).await }).await
    }

    async fn stand_now(
        &self,
        scope: SellerScope,
        standing: Standing,
    ) -> Result<Stands, StandingError> {
        let turn = self.turn().await;
        let mut tx = self.begin_change(scope).await?;
        let account = tx.account().await?.ok_or(StandingError::NoSuchAccount)?;
        if is_so(&account, &standing) {
            return Ok(Stands {
                changed: false,
                receipt: self.nothing_to_do(&turn, tx).await?,
            });
        }
        if account.status == AccountStatus::Closed {
            return Err(StandingError::Closed);
        }
        let now = self.clock.now();
        let entry = |act, detail| AuditEntry::of(scope, now, act).with(detail);
        let (act, news) = match standing {
            Standing::Plan(plan) => {
                tx.set_plan(plan).await?;
                let detail = json!({ "from": account.plan, "to": plan });
                (entry(Act::AccountPlan, detail), AccountNews::Plan { plan })
            }
            Standing::Suspend(reason) => {
                tx.set_status(AccountStatus::Suspended, Some(&reason))
                    .await?;
                let act = entry(Act::AccountSuspended, json!({ "reason": reason }));
                (act, AccountNews::Suspended { reason })
            }
            Standing::Resume => {
                tx.set_status(AccountStatus::Active, None).await?;
                (entry(Act::AccountResumed, json!({})), AccountNews::Resumed)
            }
            Standing::Close(reason) => {
                tx.end_staging(StagedBecomes::Discarded, now).await?;
                let key = tx.end_live_key("expired", Some(&reason), now).await?;
                // An entry for each, without the reason: why the account is closed is no matter of the Platform's.
                for granted in tx.platforms_granted().await? {
                    let detail = json!({ "platform": granted.id, "name": granted.name });
                    let told = entry(Act::PlatformWithdrawn, detail).also_for(granted.id);
                    tx.append_audit(&told).await?;
                }
                let withdrawn = tx.withdraw_grants(None, now).await?;
                let expired = tx.expire_listings(now).await?;
                tx.set_status(AccountStatus::Closed, Some(&reason)).await?;
                tx.count_key_version().await?;
                let detail =
                    json!({ "reason": reason, "withdrawn": withdrawn, "listings": expired });
                let act = entry(Act::AccountClosed, detail).on_key(key.map(|(key, _)| key));
                (act, AccountNews::Closed { reason })
            }
            Standing::Networks(networks) => {
                tx.set_networks(networks.as_ref()).await?;
                let networks = networks.map(|networks| networks.to_string());
                let detail = json!({ "before": account.key_networks, "networks": networks });
                let act = entry(Act::KeyNetworks, detail);
                (act, AccountNews::Networks { networks })
            }
        };
        let receipt = self.conclude(turn, tx, &act, about_account(news)).await?;
        self.file(&act, &receipt).await;
        Ok(Stands {
            changed: true,
            receipt,
        })
    }
}

/// Whether the account is as it is to be.
fn is_so(account: &SellerRow, standing: &Standing) -> bool {
    match standing {
        Standing::Plan(plan) => account.plan == *plan,
        Standing::Suspend(_) => account.status == AccountStatus::Suspended,
        Standing::Resume => account.status == AccountStatus::Active,
        Standing::Close(_) => account.status == AccountStatus::Closed,
        Standing::Networks(networks) => {
            account.key_networks == networks.as_ref().map(ToString::to_string)
        }
    }
}
