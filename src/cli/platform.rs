//! `truckradar platform …`, and what `seller` and `platform` have in common: plans, suspending, closing.
//!
//! Never: access granted to a Platform. Only a Seller's owner gives it, in the dashboard.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{Common, IfMissing, database_option, key, perform, print, program};
use crate::{
    accounts::{AccountKind, Plan, Slug},
    operator::{AccountCommand, Command},
};

/// What can be done to Platforms.
#[derive(Subcommand)]
pub(super) enum PlatformCommand {
    /// Create a Platform: an aggregator whose one key acts for every Seller that grants it access.
    #[command(
        after_help = "Its people sign in like a dealer's: invite them with\n  \
        truckradar user invite --seller PLATFORM-SLUG --email EMAIL --role owner"
    )]
    Create {
        /// The Platform's name as people write it.
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Its short name: 2 to 64 of a-z, 0-9 and -; it never changes. Sellers and Platforms share them.
        #[arg(long, value_name = "SLUG")]
        slug: Slug,
        /// What it pays for. With another plan than enterprise its key is refused.
        #[arg(long, value_name = "PLAN", default_value = "enterprise")]
        plan: Plan,
    },
    /// List every Platform.
    List,
    /// Show one Platform with its members and the Sellers that have granted it access.
    Show {
        /// Which Platform.
        #[arg(long, value_name = "SLUG")]
        platform: Slug,
    },
    /// Make a Platform's key and print it, once, as `key generate` does for a Seller.
    Key {
        /// Which Platform.
        #[arg(long, value_name = "SLUG")]
        platform: Slug,
    },
    /// Change what a Platform pays for. Without enterprise its key is refused with 403 everywhere when this returns.
    Plan {
        /// Which Platform.
        #[arg(long, value_name = "SLUG")]
        platform: Slug,
        /// starter, pro or enterprise.
        #[arg(long, value_name = "PLAN")]
        plan: Plan,
    },
    /// Accept nothing from a Platform until it is resumed. Its key is refused with 403 everywhere when this returns.
    Suspend {
        /// Which Platform.
        #[arg(long, value_name = "SLUG")]
        platform: Slug,
        #[command(flatten)]
        why: Why,
    },
    /// Let a suspended Platform go on.
    Resume {
        /// Which Platform.
        #[arg(long, value_name = "SLUG")]
        platform: Slug,
    },
    /// End a Platform for good. Its key is dead everywhere when this returns.
    Close {
        /// Which Platform.
        #[arg(long, value_name = "SLUG")]
        platform: Slug,
        #[command(flatten)]
        why: Why,
    },
}

/// Why something is done that its people will want to know the reason of.
#[derive(Args)]
pub(super) struct Why {
    /// Why, in words that its people will read.
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: String,
}

impl PlatformCommand {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        const KIND: AccountKind = AccountKind::Platform;
        match self {
            Self::Create { name, slug, plan } => {
                let act = AccountCommand::PlatformCreate {
                    name,
                    slug: slug.clone(),
                    plan,
                };
                let answer = perform(common, Command::Account(act), IfMissing::Create).await?;
                if common.json {
                    return print::json(&answer);
                }
                let option = database_option(&common.database.database);
                print::facts(&[
                    ("platform", slug.to_string()),
                    ("id", print::plain(&answer["platform"]["id"])),
                    ("plan", print::plain(&answer["platform"]["plan"])),
                    (
                        "next",
                        format!("{} platform key --platform {slug}{option}", program()),
                    ),
                ])
            }
            Self::List => list(common).await,
            Self::Show { platform } => {
                let act = AccountCommand::PlatformShow { platform };
                let answer = perform(common, Command::Account(act), IfMissing::Refuse).await?;
                if common.json {
                    return print::json(&answer);
                }
                let platform = &answer["platform"];
                let mut facts = facts_of(platform);
                for member in platform["members"].as_array().into_iter().flatten() {
                    let (email, role) = (
                        print::plain(&member["email"]),
                        print::plain(&member["role"]),
                    );
                    facts.push(("member", format!("{email} ({role})")));
                }
                for grant in platform["grants"].as_array().into_iter().flatten() {
                    let mut seller = print::plain(&grant["seller"]);
                    if grant["claimed"] == false {
                        seller += " (unclaimed)";
                    }
                    facts.push(("may act for", seller));
                }
                print::facts(&facts)
            }
            Self::Key { platform } => {
                // Refused if it is a Seller's slug: whoever types `platform` means one.
                let show = AccountCommand::PlatformShow {
                    platform: platform.clone(),
                };
                perform(common, Command::Account(show), IfMissing::Refuse).await?;
                key::generate(common, platform).await
            }
            Self::Plan { platform, plan } => set_plan(common, KIND, platform, plan).await,
            Self::Suspend { platform, why } => suspend(common, KIND, platform, why).await,
            Self::Resume { platform } => resume(common, KIND, platform).await,
            Self::Close { platform, why } => close(common, KIND, platform, why).await,
        }
    }
}

/// Changes what an account pays for.
pub(super) async fn set_plan(
    common: &Common,
    kind: AccountKind,
    slug: Slug,
    plan: Plan,
) -> anyhow::Result<()> {
    perform_on(common, AccountCommand::Plan { kind, slug, plan }).await
}

/// Suspends an account.
pub(super) async fn suspend(
    common: &Common,
    kind: AccountKind,
    slug: Slug,
    why: Why,
) -> anyhow::Result<()> {
    let reason = why.reason;
    perform_on(common, AccountCommand::Suspend { kind, slug, reason }).await
}

/// Lets an account go on.
pub(super) async fn resume(common: &Common, kind: AccountKind, slug: Slug) -> anyhow::Result<()> {
    perform_on(common, AccountCommand::Resume { kind, slug }).await
}

/// Ends an account for good.
pub(super) async fn close(
    common: &Common,
    kind: AccountKind,
    slug: Slug,
    why: Why,
) -> anyhow::Result<()> {
    let reason = why.reason;
    perform_on(common, AccountCommand::Close { kind, slug, reason }).await
}

/// Performs an act on an account and prints how the account stands then.
pub(super) async fn perform_on(common: &Common, act: AccountCommand) -> anyhow::Result<()> {
    let answer = perform(common, Command::Account(act), IfMissing::Refuse).await?;
    if common.json {
        return print::json(&answer);
    }
    if answer["changed"] == false {
        eprintln!("It was so already; every server knows.");
    }
    print::facts(&facts_of(&answer["account"]))
}

fn facts_of(account: &Value) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("slug", print::plain(&account["slug"])),
        ("name", print::plain(&account["name"])),
        ("id", print::plain(&account["id"])),
        ("plan", print::plain(&account["plan"])),
        ("status", print::plain(&account["status"])),
    ];
    if account["status_reason"].is_string() {
        facts.push(("reason", print::plain(&account["status_reason"])));
    }
    if account["key_networks"].is_string() {
        facts.push(("key accepted from", print::plain(&account["key_networks"])));
    }
    if account["key"]["hint"].is_string() {
        facts.push(("key", format!("…{}", print::plain(&account["key"]["hint"]))));
    }
    facts
}

async fn list(common: &Common) -> anyhow::Result<()> {
    let mut platforms: Vec<Value> = Vec::new();
    let mut after = String::new();
    loop {
        let act = AccountCommand::PlatformList { after };
        let mut page = perform(common, Command::Account(act), IfMissing::Refuse).await?;
        if let Some(rows) = page["platforms"].as_array_mut() {
            platforms.append(rows);
        }
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    if common.json {
        return print::json(&serde_json::json!({ "platforms": platforms }));
    }
    if platforms.is_empty() {
        return print::text("No Platform yet. Create one with: truckradar platform create --help");
    }
    let rows = platforms
        .iter()
        .map(|platform| {
            let columns = ["slug", "name", "plan", "status", "grants_held"];
            columns
                .map(|column| print::plain(&platform[column]))
                .to_vec()
        })
        .collect();
    print::table(&["SLUG", "NAME", "PLAN", "STATUS", "GRANTS"], rows)
}
