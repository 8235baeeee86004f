//! `truckradar seller …`.
//!
//! Never: a password printed, or taken from an argument.

use clap::Subcommand;
use serde_json::Value;

use super::{
    Common, IfMissing, database_option, perform,
    platform::{self, Why},
    print, program, read_secret,
};
use crate::{
    accounts::{AccountKind, Email, Plan, Slug},
    operator::Command,
};

/// What can be done to Sellers.
#[derive(Subcommand)]
pub(super) enum SellerCommand {
    /// Create a Seller and its owner; an existing user becomes its owner if the password is theirs.
    Create {
        /// The Seller's name as people write it.
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Its short name: 2 to 64 of a-z, 0-9 and -; it never changes.
        #[arg(long, value_name = "SLUG")]
        slug: Slug,
        /// The owner's e-mail address.
        #[arg(long, value_name = "EMAIL")]
        owner_email: Email,
        /// Read the owner's password (12 characters or more) from standard input, one line.
        #[arg(long, required = true)]
        owner_password_stdin: bool,
    },
    /// List every Seller with its key and its number of active listings.
    List,
    /// Show one Seller with its members and locations.
    Show {
        /// Which Seller.
        #[arg(long, value_name = "SLUG")]
        seller: Slug,
    },
    /// Change what a Seller pays for.
    Plan {
        /// Which Seller.
        #[arg(long, value_name = "SLUG")]
        seller: Slug,
        /// starter, pro or enterprise.
        #[arg(long, value_name = "PLAN")]
        plan: Plan,
    },
    /// Accept nothing from a Seller until it is resumed. Its key is refused with 403 everywhere when this returns.
    Suspend {
        /// Which Seller.
        #[arg(long, value_name = "SLUG")]
        seller: Slug,
        #[command(flatten)]
        why: Why,
    },
    /// Let a suspended Seller go on. Its key works again.
    Resume {
        /// Which Seller.
        #[arg(long, value_name = "SLUG")]
        seller: Slug,
    },
    /// End a Seller for good: its key is dead everywhere when this returns, its listings are ended, its grants withdrawn.
    Close {
        /// Which Seller.
        #[arg(long, value_name = "SLUG")]
        seller: Slug,
        #[command(flatten)]
        why: Why,
    },
}

impl SellerCommand {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        const KIND: AccountKind = AccountKind::Seller;
        match self {
            Self::Plan { seller, plan } => platform::set_plan(common, KIND, seller, plan).await,
            Self::Suspend { seller, why } => platform::suspend(common, KIND, seller, why).await,
            Self::Resume { seller } => platform::resume(common, KIND, seller).await,
            Self::Close { seller, why } => platform::close(common, KIND, seller, why).await,
            Self::Create {
                name,
                slug,
                owner_email,
                owner_password_stdin: _,
            } => {
                let password = read_secret("the owner's password")?;
                anyhow::ensure!(
                    !password.contains('\n'),
                    "the owner's password is one line of standard input, and there are more"
                );
                let command = Command::SellerCreate {
                    name,
                    slug: slug.clone(),
                    owner_email,
                    owner_password: password.to_string(),
                };
                let answer = perform(common, command, IfMissing::Create).await?;
                if common.json {
                    return print::json(&answer);
                }
                let option = database_option(&common.database.database);
                print::facts(&[
                    ("seller", slug.to_string()),
                    ("id", print::plain(&answer["seller"]["id"])),
                    ("owner", print::plain(&answer["owner"]["email"])),
                    (
                        "next",
                        format!("{} key generate --seller {slug}{option}", program()),
                    ),
                ])
            }
            Self::List => list(common).await,
            Self::Show { seller } => {
                let answer =
                    perform(common, Command::SellerShow { seller }, IfMissing::Refuse).await?;
                if common.json {
                    return print::json(&answer);
                }
                let seller = &answer["seller"];
                let mut facts = vec![
                    ("slug", print::plain(&seller["slug"])),
                    ("name", print::plain(&seller["name"])),
                    ("id", print::plain(&seller["id"])),
                    ("plan", print::plain(&seller["plan"])),
                    ("status", print::plain(&seller["status"])),
                    ("created", print::plain(&seller["created_at"])),
                    ("listings", print::plain(&seller["active_listings"])),
                    ("key", key_in_short(&seller["key"])),
                ];
                if let Some(platform) = seller["created_by"].as_str() {
                    let mut members = seller["members"].as_array().into_iter().flatten();
                    let is_claimed = members.any(|member| member["role"] == "owner");
                    let unclaimed = if is_claimed { "" } else { ", unclaimed" };
                    facts.push(("brought in by", format!("{platform}{unclaimed}")));
                }
                for member in seller["members"].as_array().into_iter().flatten() {
                    let (email, role) = (
                        print::plain(&member["email"]),
                        print::plain(&member["role"]),
                    );
                    facts.push(("member", format!("{email} ({role})")));
                }
                for location in seller["locations"].as_array().into_iter().flatten() {
                    facts.push(("location", print::plain(&location["name"])));
                }
                print::facts(&facts)
            }
        }
    }
}

async fn list(common: &Common) -> anyhow::Result<()> {
    let mut sellers: Vec<Value> = Vec::new();
    let mut after = String::new();
    loop {
        let command = Command::SellerList { after };
        let mut page = perform(common, command, IfMissing::Refuse).await?;
        if let Some(rows) = page["sellers"].as_array_mut() {
            sellers.append(rows);
        }
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    if common.json {
        return print::json(&serde_json::json!({ "sellers": sellers }));
    }
    if sellers.is_empty() {
        return print::text("No Seller yet. Create one with: truckradar seller create --help");
    }
    let rows = sellers
        .iter()
        .map(|seller| {
            vec![
                print::plain(&seller["slug"]),
                print::plain(&seller["name"]),
                print::plain(&seller["plan"]),
                print::plain(&seller["active_listings"]),
                key_in_short(&seller["key"]),
            ]
        })
        .collect();
    print::table(&["SLUG", "NAME", "PLAN", "LISTINGS", "KEY"], rows)
}

fn key_in_short(key: &Value) -> String {
    match key["hint"].as_str() {
        Some(hint) => format!("…{hint}"),
        None => "none".to_owned(),
    }
}
