//! The operator's acts on accounts: Platforms, plans, suspending and closing, and from where keys are accepted.
//!
//! Never: access granted to a Platform. Only a Seller's owner gives it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Refused, key_summary, reason_for_people};
use crate::{
    accounts::{AccountKind, Plan, Slug, sellers},
    db::SellerRow,
    keys::{
        networks::Networks,
        scope::{OperatorAuthority, SellerScope},
        standing::{Standing, StandingError},
    },
    services::Services,
};

/// Accounts in one answer of a list.
const ACCOUNTS_PER_PAGE: i64 = 1_000;
/// Grants in one answer of `platform show`.
const GRANTS_SHOWN: i64 = 1_000;

/// One act on accounts. It travels over the server's socket as JSON.
#[derive(Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum AccountCommand {
    /// Creates a Platform.
    PlatformCreate {
        /// Its name.
        name: String,
        /// Its short name.
        slug: Slug,
        /// What it pays for.
        plan: Plan,
    },
    /// One page of Platforms.
    PlatformList {
        /// After this slug; empty for the first page.
        after: String,
    },
    /// One Platform.
    PlatformShow {
        /// Which.
        platform: Slug,
    },
    /// Changes what an account pays for.
    Plan {
        /// Of which kind it must be.
        kind: AccountKind,
        /// Which.
        slug: Slug,
        /// What it pays for from now on.
        plan: Plan,
    },
    /// Accepts nothing from an account until it is resumed.
    Suspend {
        /// Of which kind it must be.
        kind: AccountKind,
        /// Which.
        slug: Slug,
        /// Why; its people see it.
        reason: String,
    },
    /// Lets an account go on.
    Resume {
        /// Of which kind it must be.
        kind: AccountKind,
        /// Which.
        slug: Slug,
    },
    /// Ends an account for good.
    Close {
        /// Of which kind it must be.
        kind: AccountKind,
        /// Which.
        slug: Slug,
        /// Why; its people see it.
        reason: String,
    },
    /// Says from where an account's key is accepted.
    Networks {
        /// Which account, of either kind.
        slug: Slug,
        /// The networks; `None` is from anywhere.
        networks: Option<String>,
    },
}

impl From<StandingError> for Refused {
    fn from(error: StandingError) -> Self {
        Self::new(error)
    }
}

/// Performs an act.
pub(super) async fn perform(
    services: &Services,
    authority: OperatorAuthority,
    command: AccountCommand,
) -> Answer {
    let find =
        async |slug: &Slug, kind: Option<AccountKind>| find(services, authority, slug, kind).await;
    let stand = async |(row, scope): (SellerRow, SellerScope), standing| {
        let done = services.keys.stand(scope, standing).await?;
        let now = services.db.seller(scope).await?.unwrap_or(row);
        Ok(json!({
            "account": account_summary(&now), "changed": done.changed, "receipt": done.receipt,
        }))
    };
    match command {
        AccountCommand::PlatformCreate { name, slug, plan } => {
            let (db, clock) = (&services.db, &services.clock);
            let platform = sellers::create_platform(db, clock, slug.clone(), &name, plan).await?;
            Ok(json!({"platform": {"id": platform, "slug": slug, "plan": plan}}))
        }
        AccountCommand::PlatformList { after } => {
            let rows = services
                .db
                .accounts_after(AccountKind::Platform, &after, ACCOUNTS_PER_PAGE);
            let rows = rows.await?;
            let next = (rows.len() as i64 == ACCOUNTS_PER_PAGE)
                .then(|| rows.last().map(|row| row.slug.clone()))
                .flatten();
            let mut platforms = Vec::with_capacity(rows.len());
            for row in &rows {
                platforms.push(platform_summary(services, authority.scope(row.id), row).await?);
            }
            Ok(json!({"platforms": platforms, "next": next}))
        }
        AccountCommand::PlatformShow { platform } => {
            let (row, scope) = find(&platform, Some(AccountKind::Platform)).await?;
            let mut shown = platform_summary(services, scope, &row).await?;
            let members = services.db.members(scope).await?;
            let grants = services.db.grants_held(scope, "", GRANTS_SHOWN).await?;
            shown["members"] = members
                .into_iter()
                .map(|m| json!({"email": m.email, "role": m.role}))
                .collect();
            shown["grants"] = grants
                .into_iter()
                .map(|g| {
                    json!({"seller": g.slug, "name": g.name, "status": g.status, "since": g.created_us, "claimed": g.owners > 0})
                })
                .collect();
            Ok(json!({"platform": shown}))
        }
        AccountCommand::Plan { kind, slug, plan } => {
            stand(find(&slug, Some(kind)).await?, Standing::Plan(plan)).await
        }
        AccountCommand::Suspend { kind, slug, reason } => {
            let reason = reason_for_people(&reason)?;
            stand(find(&slug, Some(kind)).await?, Standing::Suspend(reason)).await
        }
        AccountCommand::Resume { kind, slug } => {
            stand(find(&slug, Some(kind)).await?, Standing::Resume).await
        }
        AccountCommand::Close { kind, slug, reason } => {
            let reason = reason_for_people(&reason)?;
            stand(find(&slug, Some(kind)).await?, Standing::Close(reason)).await
        }
        AccountCommand::Networks { slug, networks } => {
            let networks = match networks {
                Some(text) => Some(text.parse::<Networks>().map_err(Refused::new)?),
                None => None,
            };
            stand(find(&slug, None).await?, Standing::Networks(networks)).await
        }
    }
}

/// An account by its slug, and the operator's right to it.
pub(super) async fn find(
    services: &Services,
    authority: OperatorAuthority,
    slug: &Slug,
    kind: Option<AccountKind>,
) -> Result<(SellerRow, SellerScope), Refused> {
    let found = services.db.account_by_slug(slug).await?;
    match found.filter(|row| kind.is_none_or(|kind| row.kind == kind)) {
        Some(row) => {
            let scope = authority.scope(row.id);
            Ok((row, scope))
        }
        None => {
            let (whose, lists) = match kind {
                Some(AccountKind::Seller) => ("no Seller has the slug", "seller list`"),
                Some(AccountKind::Platform) => ("no Platform has the slug", "platform list`"),
                None => (
                    "no Seller has the slug",
                    "seller list` and `truckradar platform list`",
                ),
            };
            Err(Refused::new(format!(
                "{whose} {slug}; `truckradar {lists} shows those there are"
            )))
        }
    }
}

fn account_summary(row: &SellerRow) -> Value {
    json!({
        "id": row.id,
        "slug": row.slug,
        "name": row.name,
        "kind": row.kind,
        "plan": row.plan,
        "status": row.status,
        "status_reason": row.status_reason,
        "key_networks": row.key_networks,
    })
}

async fn platform_summary(
    services: &Services,
    scope: SellerScope,
    row: &SellerRow,
) -> Result<Value, Refused> {
    let key = services.db.keys_of_seller(scope, 1).await?;
    let live = key.first().filter(|key| key.state == "live");
    let mut shown = account_summary(row);
    shown["created_at"] = json!(row.created_us);
    shown["grants_held"] = services.db.count_grants_held(scope).await?.into();
    shown["key"] = live.map(key_summary).into();
    Ok(shown)
}
