//! What the mails say: plain text, for people who sell trucks and may never have seen the dashboard.
//!
//! Never: a key, of which the last four characters must do; a line's end in a subject.

use crate::{
    clock::Time,
    db::{Addressees, NewMail},
};

/// What an act did to a Seller's keys. Each key is its last four characters.
#[derive(Clone, Debug)]
pub enum KeyNews {
    /// A key was made, and is live.
    Generated {
        /// It.
        key: String,
        /// The one that died for it.
        replaced: Option<String>,
        /// The next key that waited, and died unused.
        discarded: Option<String>,
    },
    /// A next key was made, which waits for its cut-over.
    Prepared {
        /// It.
        key: String,
        /// The next key that waited before, and died unused.
        discarded: Option<String>,
    },
    /// The next key was made the live one.
    CutOver {
        /// It.
        key: String,
        /// The one that died for it.
        replaced: Option<String>,
    },
    /// The next key was killed before it was ever live.
    Discarded {
        /// It.
        key: String,
    },
    /// The marketplace killed the Seller's keys.
    Expired {
        /// The live one; `None` if only a next key was there to kill.
        key: Option<String>,
        /// Why.
        reason: String,
    },
}

/// The mail about an act on keys. `actor` is the address of who did it; nobody is the marketplace's operator.
pub fn about_keys(to: &Addressees, news: &KeyNews, actor: Option<&str>, at: Time) -> NewMail {
    let name = one_line(&to.name);
    let (who, at) = (actor.unwrap_or("the marketplace"), at.utc());
    let (key, what, means, warning) = match news {
        KeyNews::Generated {
            key,
            replaced: Some(old),
            discarded,
        } => (
            "API key",
            "was replaced",
            format!(
                "New key: {}\nOld key: {}\n{}\nThe old key is dead since {at}: whoever sends it gets 401. Put the new key into \
                 every system that syncs for you. It was shown once, to whoever made it, and is in no mail.",
                shown(key),
                shown(old),
                line(WAITED, discarded.as_ref()),
            ),
            NOT_YOU,
        ),
        KeyNews::Generated {
            key,
            replaced: None,
            discarded,
        } => (
            "API key",
            "was generated",
            format!(
                "Key: {}\n{}\nIt works since {at}. It was shown once, to whoever made it, and is in no mail.",
                shown(key),
                line(WAITED, discarded.as_ref()),
            ),
            NOT_YOU,
        ),
        KeyNews::Prepared { key, discarded } => (
            "next API key",
            "was prepared",
            format!(
                "Next key: {}\n{}\nThe present key goes on working. The next one is refused with 401 until somebody cuts over to \
                 it; from then on the present key is dead. It was shown once, to whoever made it, and is in no mail.",
                shown(key),
                line(WAITED, discarded.as_ref()),
            ),
            NOT_YOU,
        ),
        KeyNews::CutOver { key, replaced } => (
            "API key",
            "was cut over to the next one",
            format!(
                "Live key: {}\n{}\nThe old key is dead since {at}: whoever sends it gets 401. Settings shows which clients still \
                 do.",
                shown(key),
                line("Old key", replaced.as_ref()),
            ),
            NOT_YOU,
        ),
        KeyNews::Discarded { key } => (
            "next API key",
            "was discarded",
            format!(
                "Discarded key: {}\n\nThe discarded key was never live and will never be. The present key goes on working.",
                shown(key)
            ),
            NOT_YOU,
        ),
        KeyNews::Expired { key, reason } => (
            "API key",
            "was expired",
            format!(
                "{}Reason: {}\n\nThere is no live key since {at}, and no key that waits: whoever sends an earlier one gets 401. \
                 Generate a new key in Settings, API Key, and put it into every system that syncs for you.",
                line("Expired key", key.as_ref()),
                one_line(reason)
            ),
            "If you did not expect this, ask the security contact below.",
        ),
    };
    NewMail {
        subject: format!("The {key} of {name} {what}"),
        body: format!(
            "The {key} of {name} ({}) {what}, by {who}, at {at}.\n\n{means}\n\n{warning}\n",
            to.slug
        ),
        page: page(to),
    }
}

/// How a key is listed that waited for its cut-over and never came to it.
const WAITED: &str = "Discarded key, which was prepared and never live";

const NOT_YOU: &str = "If this was neither you nor a colleague, somebody else can act for you. Sign in, change your password and \
     end the other sessions, look through the members, regenerate the key, and write to the security contact below.";

fn shown(hint: &str) -> String {
    format!("tr_live_••••{hint}")
}

/// A line of a list of keys; none without a key.
fn line(what: &str, hint: Option<&String>) -> String {
    hint.map_or_else(String::new, |hint| format!("{what}: {}\n", shown(hint)))
}

fn page(to: &Addressees) -> String {
    format!("/dashboard/settings?seller={}#api-key", to.slug)
}

/// A text as a part of one line: nothing in it ends the line or acts on a terminal.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_does_not_end_the_subject() {
        let to = Addressees {
            slug: "lone-star".to_owned(),
            name: "Lone Star\r\nBcc: x".to_owned(),
            owners: Vec::new(),
        };
        let news = KeyNews::Discarded {
            key: "a9f3".to_owned(),
        };
        let mail = about_keys(&to, &news, None, Time(0));
        assert!(!mail.subject.contains(['\r', '\n']), "{}", mail.subject);
    }
}
