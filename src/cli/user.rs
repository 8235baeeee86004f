//! `truckradar user …`.
//!
//! Never: a password taken or printed; people choose theirs behind a link.

use clap::Subcommand;
use serde_json::Value;

use super::{Common, IfMissing, perform, print};
use crate::{
    accounts::{Email, Role, Slug},
    operator::Command,
};

/// What can be done to the people who sign in.
#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Invite somebody to a Seller by a link that works once, for 7 days: it is mailed, or printed where no mail is sent.
    Invite {
        /// Of which Seller.
        #[arg(long, value_name = "SLUG")]
        seller: Slug,
        /// Whom.
        #[arg(long, value_name = "EMAIL")]
        email: Email,
        /// As what: owner, admin or viewer.
        #[arg(long, value_name = "ROLE")]
        role: Role,
    },
    /// Change how far a member of a Seller may act.
    Role {
        /// Of which Seller.
        #[arg(long, value_name = "SLUG")]
        seller: Slug,
        /// Whose role.
        #[arg(long, value_name = "EMAIL")]
        email: Email,
        /// To what: owner, admin or viewer.
        #[arg(long, value_name = "ROLE")]
        role: Role,
    },
    /// End somebody's membership of a Seller.
    Remove {
        /// Of which Seller.
        #[arg(long, value_name = "SLUG")]
        seller: Slug,
        /// Whose.
        #[arg(long, value_name = "EMAIL")]
        email: Email,
    },
    /// Make a link by which a user sets a new password; it works once, for an hour. It is mailed, or printed where no mail is
    /// sent. Make sure first who asks.
    ResetPassword {
        /// Whose.
        #[arg(long, value_name = "EMAIL")]
        email: Email,
    },
    /// Erase a person: they are no user any more, and what names them names a pseudonym. This cannot be undone.
    #[command(
        after_help = "Their sessions, memberships, links and waiting mails go; what they did stays in the audit log as the acts of         an erased user.\nA Seller that they alone own keeps them until somebody else is its owner.\n        Backups, downloads of the audit log and mails that were sent are out of reach."
    )]
    Erase {
        /// Whom.
        #[arg(long, value_name = "EMAIL")]
        email: Email,
    },
    /// Take a user's second factor away, with its recovery codes, and end their sessions: the password alone then lets them
    /// in. Make sure first who asks.
    ResetSecondFactor {
        /// Whose.
        #[arg(long, value_name = "EMAIL")]
        email: Email,
    },
}

impl UserCommand {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        match self {
            Self::Invite {
                seller,
                email,
                role,
            } => {
                let command = Command::UserInvite {
                    seller: seller.clone(),
                    email: email.clone(),
                    role,
                };
                let answer = perform(common, command, IfMissing::Refuse).await?;
                if common.json {
                    return print::json(&answer);
                }
                let whom = format!("{email}, as {} of {seller}", role.as_str());
                print::facts(&[
                    ("invited", whom),
                    link_or_mail(&answer),
                    works(&answer, "once, for 7 days"),
                ])
            }
            Self::Role {
                seller,
                email,
                role,
            } => {
                let said = format!("{email} is now {} of {seller}.", role.as_str());
                let command = Command::UserRole {
                    seller,
                    email,
                    role,
                };
                answer_or(common, command, &said).await
            }
            Self::Remove { seller, email } => {
                let said = format!("{email} is no longer a member of {seller}.");
                answer_or(common, Command::UserRemove { seller, email }, &said).await
            }
            Self::ResetPassword { email } => {
                let command = Command::UserResetPassword {
                    email: email.clone(),
                };
                let answer = perform(common, command, IfMissing::Refuse).await?;
                if common.json {
                    return print::json(&answer);
                }
                print::facts(&[
                    ("user", email.to_string()),
                    link_or_mail(&answer),
                    works(&answer, "once, for an hour"),
                ])
            }
            Self::ResetSecondFactor { email } => {
                let command = Command::UserResetSecondFactor {
                    email: email.clone(),
                };
                let answer = perform(common, command, IfMissing::Refuse).await?;
                if common.json {
                    return print::json(&answer);
                }
                print::facts(&[
                    ("user", email.to_string()),
                    (
                        "taken away",
                        "the second factor and its recovery codes".to_owned(),
                    ),
                    ("sessions ended", answer["sessions_ended"].to_string()),
                ])
            }
            Self::Erase { email } => {
                let answer =
                    perform(common, Command::UserErase { email }, IfMissing::Refuse).await?;
                if common.json {
                    return print::json(&answer);
                }
                let erased = &answer["erased"];
                print::facts(&[
                    ("erased", print::plain(&erased["pseudonym"])),
                    ("was a member of", listed(&erased["left"])),
                    ("sessions ended", print::plain(&erased["sessions"])),
                    ("links taken back", print::plain(&erased["links"])),
                    ("mails not sent", print::plain(&erased["mails"])),
                    ("audit entries", print::plain(&erased["audit_entries"])),
                    ("still shown by", listed(&answer["shown_by"])),
                ])
            }
        }
    }
}

/// The short names of Sellers, in a line.
fn listed(slugs: &serde_json::Value) -> String {
    let slugs = slugs.as_array().into_iter().flatten();
    let slugs: Vec<&str> = slugs.filter_map(serde_json::Value::as_str).collect();
    if slugs.is_empty() {
        "no Seller".to_owned()
    } else {
        slugs.join(", ")
    }
}

/// Where the link is that an answer is about.
fn link_or_mail(answer: &Value) -> (&'static str, String) {
    match answer["mailed"].as_bool() {
        Some(true) => ("link", "goes to that address by mail".to_owned()),
        _ => ("link", print::plain(&answer["link"])),
    }
}

/// How often and how long it works.
fn works(answer: &Value, how: &str) -> (&'static str, String) {
    match answer["mailed"].as_bool() {
        Some(true) => ("works", format!("{how} from when it is sent")),
        _ => ("works", format!("{how}; send it to nobody else")),
    }
}

async fn answer_or(common: &Common, command: Command, said: &str) -> anyhow::Result<()> {
    let answer = perform(common, command, IfMissing::Refuse).await?;
    if common.json {
        print::json(&answer)
    } else {
        print::text(said)
    }
}
