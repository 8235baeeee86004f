//! What the mails to owners say about their account: platform access, what the marketplace decided, from where the key is used.
//!
//! Never: anything that a stranger chose in a form that mail programs make a link of.

use super::words::{page, unlinked, without_links};
use crate::{
    accounts::Plan,
    clock::Time,
    db::{Addressees, NewMail},
};

/// What happened to an account.
#[derive(Clone, Debug)]
pub enum AccountNews {
    /// A Platform may act for it.
    Granted {
        /// The Platform's name.
        platform: String,
    },
    /// A Platform may not any more.
    Withdrawn {
        /// The Platform's name.
        platform: String,
    },
    /// It pays for something else.
    Plan {
        /// The plan now.
        plan: Plan,
    },
    /// The marketplace accepts nothing from it for the time being.
    Suspended {
        /// Why.
        reason: String,
    },
    /// The marketplace accepts it again.
    Resumed,
    /// The marketplace has ended it.
    Closed {
        /// Why.
        reason: String,
    },
    /// From where its key is accepted has changed.
    Networks {
        /// From where; `None` is from anywhere.
        networks: Option<String>,
    },
}

const ASK: &str = "If you did not expect this, ask the security contact below.";
const NOT_YOU: &str = "If this was neither you nor a colleague, somebody else can act for you. Sign in, change your password and \
     end the other sessions, look through the members, undo this in Settings, and write to the security contact below.";

/// Writes the mail about some news, once it is known to whom it goes, who did it and when; nobody is the marketplace's operator.
pub fn about_account(
    news: AccountNews,
) -> impl FnOnce(&Addressees, Option<&str>, Time) -> NewMail + Send {
    move |to, actor, at| {
        let name = without_links(&to.name);
        let (who, at) = (actor.unwrap_or("the marketplace"), at.utc());
        let (subject, what, means, warning) = match news {
            AccountNews::Granted { platform } => {
                let platform = without_links(&platform);
                (
                    format!("{platform} may act for {name}"),
                    format!("The platform {platform} was given access to {name}"),
                    "With its own key it may do whatever your key may: list, change and end your units, and change your profile. \
                     You can withdraw this at any time in Settings, Platform access.".to_owned(),
                    NOT_YOU,
                )
            }
            AccountNews::Withdrawn { platform } => {
                let platform = without_links(&platform);
                (
                    format!("{platform} may no longer act for {name}"),
                    format!("The access of the platform {platform} to {name} was withdrawn"),
                    "Its calls for you are refused with 403 from then on. Your own key goes on working.".to_owned(),
                    NOT_YOU,
                )
            }
            AccountNews::Plan { plan } => (
                format!("The plan of {name} was changed"),
                format!("{name} is on the plan {} now", plan.as_str()),
                "Your key goes on working.".to_owned(),
                ASK,
            ),
            AccountNews::Suspended { reason } => (
                format!("{name} was suspended"),
                format!("The account {name} was suspended"),
                format!(
                    "Reason: {}\n\nCalls with its key are refused with 403, and nothing can be changed. The key is not dead: it \
                     works again when the marketplace resumes the account. Do not replace it.",
                    unlinked(&reason)
                ),
                ASK,
            ),
            AccountNews::Resumed => (
                format!("{name} is active again"),
                format!("The account {name} was resumed"),
                "Its key works again.".to_owned(),
                ASK,
            ),
            AccountNews::Closed { reason } => (
                format!("{name} was closed"),
                format!("The account {name} was closed for good"),
                format!(
                    "Reason: {}\n\nIts key is dead, its listings are ended, and no platform may act for it any more.",
                    unlinked(&reason)
                ),
                ASK,
            ),
            AccountNews::Networks {
                networks: Some(networks),
            } => (
                format!("The API key of {name} is accepted from some networks only"),
                format!("From where the API key of {name} may be used was changed"),
                format!("It is accepted from {networks}, and refused with 403 from anywhere else."),
                NOT_YOU,
            ),
            AccountNews::Networks { networks: None } => (
                format!("The API key of {name} is accepted from anywhere"),
                format!("From where the API key of {name} may be used was changed"),
                "It is accepted from any address.".to_owned(),
                NOT_YOU,
            ),
        };
        NewMail {
            subject,
            body: format!(
                "{what}, by {who}, at {at} ({}).\n\n{means}\n\n{warning}\n",
                to.slug
            ),
            page: page(to),
        }
    }
}
