//! What the mails say: plain text, for people who sell trucks and may never have seen the dashboard.
//!
//! Never: a key, of which the last four characters must do; anything that a client sent in a subject, or on a line of its
//! own in a body.

use std::fmt::Write;

use super::found::{FoundKey, about_found_key};
use crate::{
    accounts::Role,
    clock::Time,
    db::{Addressees, NewMail, RefusedClient},
    keys::{clients::is_lump, format::acts_on_reader},
};

/// Clients that one mail names.
const CLIENTS_NAMED: usize = 20;
/// Characters of what somebody else wrote.
const FOREIGN_CHARS: usize = 120;

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
        /// Why, if the marketplace killed it.
        reason: Option<String>,
    },
    /// The marketplace killed the Seller's keys.
    Expired {
        /// The live one; `None` if only a next key was there to kill.
        key: Option<String>,
        /// The next key that waited, and died unused.
        discarded: Option<String>,
        /// Why.
        reason: String,
    },
    /// A key was found where it should not be, and was killed.
    Found(FoundKey),
}

/// The mail about an act on keys. `actor` is the address of who did it; nobody is the marketplace's operator.
pub fn about_keys(to: &Addressees, news: &KeyNews, actor: Option<&str>, at: Time) -> NewMail {
    let name = without_links(&to.name);
    let (who, time, at) = (actor.unwrap_or("the marketplace"), at, at.utc());
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
        KeyNews::Discarded { key, reason } => (
            "next API key",
            "was discarded",
            format!(
                "Discarded key: {}\n{}\nThe discarded key was never live and will never be. The present key goes on working.",
                shown(key),
                reason.as_ref().map_or_else(String::new, |reason| format!(
                    "Reason: {}\n",
                    unlinked(reason)
                )),
            ),
            match reason {
                Some(_) => NOT_EXPECTED,
                None => NOT_YOU,
            },
        ),
        KeyNews::Expired {
            key,
            discarded,
            reason,
        } => (
            "API key",
            "was expired",
            format!(
                "{}{}Reason: {}\n\nThere is no live key since {at}, and no key that waits: whoever sends an earlier one gets 401. \
                 Generate a new key in Settings, API Key, and put it into every system that syncs for you.",
                line("Expired key", key.as_ref()),
                line(WAITED, discarded.as_ref()),
                unlinked(reason)
            ),
            NOT_EXPECTED,
        ),
        KeyNews::Found(found) => return about_found_key(to, found, time),
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
pub(super) const WAITED: &str = "Discarded key, which was prepared and never live";

const NOT_EXPECTED: &str = "If you did not expect this, ask the security contact below.";

const NOT_YOU: &str = "If this was neither you nor a colleague, somebody else can act for you. Sign in, change your password and \
     end the other sessions, look through the members, regenerate the key, and write to the security contact below.";

/// What an act did to a membership.
#[derive(Clone, Copy, Debug)]
pub enum MemberNews {
    /// The member may act further than before, or less far.
    Role {
        /// The role before.
        from: Role,
        /// The role now.
        to: Role,
    },
    /// The member is none any more.
    Removed {
        /// As what they were one.
        role: Role,
    },
    /// A second factor is demanded, and the member has none.
    FactorDemanded,
}

/// The mail to a member about their own membership. `actor` is the address of who did it; nobody is the marketplace's operator.
pub fn about_member(to: &Addressees, news: MemberNews, actor: Option<&str>, at: Time) -> NewMail {
    let name = without_links(&to.name);
    let (subject, what) = match news {
        MemberNews::Role { from, to } => (
            format!("Your role at {name} was changed"),
            format!("is {} now, and was {}", to.as_str(), from.as_str()),
        ),
        MemberNews::Removed { role } => (
            format!("You were removed from {name}"),
            format!("was {}, and is ended", role.as_str()),
        ),
        MemberNews::FactorDemanded => (
            format!("{name} demands a second factor"),
            "lets you act only with a second factor from now on, and you have none: set one up in Settings, Second factor"
                .to_owned(),
        ),
    };
    NewMail {
        subject,
        body: format!(
            "Your membership of {name} ({}) {what}. This was done by {}, at {}.\n\n\
             If you did not expect this, ask whoever did it, not by answering this mail. If they know nothing of it, somebody \
             else can act for them: write to the security contact below.\n",
            to.slug,
            actor.unwrap_or("the marketplace"),
            at.utc(),
        ),
        // Whoever was removed has no page.
        page: String::new(),
    }
}

/// The mail about clients that go on sending dead keys. `clients` are all of them, those most often refused first;
/// `has_live_key` says whether there is a key that they could be given.
pub fn about_stray_clients(
    to: &Addressees,
    clients: &[RefusedClient],
    has_live_key: bool,
    at: Time,
) -> NewMail {
    let name = without_links(&to.name);
    let refused: i64 = clients.iter().map(|client| client.refused).sum();
    let is_lump = |client: &RefusedClient| is_lump(&client.address, &client.user_agent);
    // All that could not be told apart are some more, not one.
    let lumped = clients.iter().any(is_lump);
    let at_least = if lumped { "At least " } else { "" };
    let (some, still) = match clients.len() - usize::from(lumped) {
        0 | 1 => (format!("{at_least}1 client of"), "is still sending"),
        n => (format!("{at_least}{n} clients of"), "are still sending"),
    };
    let mut list = String::new();
    for client in clients.iter().take(CLIENTS_NAMED) {
        let (calls, last) = (calls(client.refused), client.refused_us.utc());
        // Writing to a text cannot fail.
        let _ = if is_lump(client) {
            writeln!(
                list,
                "- more clients than are told apart  {calls} refused, the last at {last}"
            )
        } else {
            writeln!(
                list,
                "- {}  \"{}\"  {calls} refused, the last at {last}",
                one_line(&client.address),
                without_links(&client.user_agent),
            )
        };
    }
    if clients.len() > CLIENTS_NAMED {
        let _ = writeln!(list, "- and {} more", clients.len() - CLIENTS_NAMED);
    }
    let what_to_do = if has_live_key {
        "These machines still have an old key and sync nothing, or begin with it each time they start. Put the present key into \
         each of them that is yours; do not generate again for it, that would shut out all the others."
    } else {
        "There is no live key at present. Generate one in Settings, API Key, and put it into each of these machines that is yours \
         and into every other one that syncs for you."
    };
    NewMail {
        subject: format!("A dead API key of {name} is still being sent"),
        body: format!(
            "{some} {name} ({}) {still} a dead key: {} refused with 401 in the last 10 minutes, as of {}.\n\n{list}\n\
             What stands in quotes is what the client calls itself; anybody who has the dead key could have written it.\n\n\
             Look first whether you know them: somebody may have found a copy of the dead key, and is not to have one that works. \
             The dead one is of no use to them.\n\n{what_to_do}\n\n\
             You get one mail about this within a day, however long it goes on. Settings shows who is left.\n",
            to.slug,
            calls(refused),
            at.utc(),
        ),
        page: page(to),
    }
}

fn calls(count: i64) -> String {
    match count {
        1 => "1 call".to_owned(),
        n => format!("{n} calls"),
    }
}

pub(super) fn shown(hint: &str) -> String {
    format!("tr_live_••••{hint}")
}

/// A line of a list of keys; none without a key.
pub(super) fn line(what: &str, hint: Option<&String>) -> String {
    hint.map_or_else(String::new, |hint| format!("{what}: {}\n", shown(hint)))
}

pub(super) fn page(to: &Addressees) -> String {
    format!("/dashboard/settings?seller={}#api-key", to.slug)
}

/// A text as a part of one line: nothing in it ends the line or acts on a terminal.
fn one_line(text: &str) -> String {
    text.replace(acts_on_reader, "\u{fffd}")
}

/// What a client calls itself or a dealer has named itself, cut, as [`unlinked`].
pub(super) fn without_links(text: &str) -> String {
    let short: String = text.chars().take(FOREIGN_CHARS).collect();
    unlinked(&short).replace('"', "'")
}

/// What somebody chose who is not trusted with links, on one line, in a form that mail programs make no link of: it stands in
/// a mail that people trust. They make links of `evil.example/login` and `x@evil.example`, too, with or without `://`, and
/// browsers take some other characters for full stops.
pub fn unlinked(text: &str) -> String {
    const STOPS: [char; 4] = ['.', '\u{3002}', '\u{ff0e}', '\u{ff61}'];
    let text = one_line(text).replace("://", ": //");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let goes_on =
            |next: &char| next.is_alphanumeric() || !next.is_ascii() && !next.is_whitespace();
        match c {
            '@' | '\u{ff20}' => out.push_str(" (at) "),
            _ if STOPS.contains(&c) && rest.peek().is_some_and(goes_on) => out.extend([c, ' ']),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::AccountKind;

    fn to() -> Addressees {
        Addressees {
            slug: "lone-star".to_owned(),
            name: "Lone Star\r\nhttp://evil.example".to_owned(),
            kind: AccountKind::Seller,
            owners: Vec::new(),
        }
    }

    #[test]
    fn a_name_neither_ends_the_subject_nor_becomes_a_link() {
        let news = KeyNews::Discarded {
            key: "a9f3".to_owned(),
            reason: None,
        };
        let mail = about_keys(&to(), &news, None, Time(0));
        let name = "Lone Star\u{fffd}\u{fffd}http: //evil. example";
        assert_eq!(
            mail.subject,
            format!("The next API key of {name} was discarded")
        );
        assert!(mail.body.contains("change your password"), "{}", mail.body);
        // The marketplace says why, and nobody is led to suspect a thief of their password.
        let news = KeyNews::Discarded {
            key: "a9f3".to_owned(),
            reason: Some("found on a forum.example".to_owned()),
        };
        let mail = about_keys(&to(), &news, None, Time(0));
        let told = "\nReason: found on a forum. example\n";
        assert!(mail.body.contains(told), "{}", mail.body);
        assert!(!mail.body.contains("change your password"), "{}", mail.body);
    }

    #[test]
    fn of_what_others_chose_no_mail_program_makes_a_link() {
        for (chosen, told) in [
            ("evil.example/login", "evil. example/login"),
            ("WWW.evil.example", "WWW. evil. example"),
            ("x@evil.example", "x (at) evil. example"),
            ("HTTPS://evil", "HTTPS: //evil"),
            ("10.0.0.1:80", "10. 0. 0. 1:80"),
            ("evil。example", "evil。 example"),
            ("x＠evil．example", "x (at) evil． example"),
            ("evil.\u{200b}example", "evil. \u{fffd}example"),
            ("evil.\u{ad}example", "evil. \u{ad}example"),
            (
                "a\u{202e}b\u{2066}c\u{feff}d",
                "a\u{fffd}b\u{fffd}c\u{fffd}d",
            ),
            ("Trucks & Co., St. Louis...", "Trucks & Co., St. Louis..."),
        ] {
            assert_eq!(unlinked(chosen), told);
        }
    }

    #[test]
    fn a_reason_neither_ends_a_line_nor_becomes_a_link_and_an_actor_stays_as_he_is() {
        let news = KeyNews::Expired {
            key: None,
            discarded: None,
            reason: "see evil.example\nor x@evil.example".to_owned(),
        };
        let mail = about_keys(&to(), &news, Some("ann@lone.example"), Time(0));
        let told = "Reason: see evil. example\u{fffd}or x (at) evil. example\n";
        assert!(mail.body.contains(told), "{}", mail.body);
        assert!(
            mail.body.contains("by ann@lone.example, at"),
            "{}",
            mail.body
        );
    }

    fn client(user_agent: &str) -> RefusedClient {
        RefusedClient {
            address: "10.0.0.1".to_owned(),
            user_agent: user_agent.to_owned(),
            refused: 1,
            refused_us: Time(0),
            first_let_in_us: None,
            let_in_us: None,
        }
    }

    #[test]
    fn what_others_wrote_neither_ends_a_line_nor_becomes_a_link() {
        let sent = format!("a\r\nb\u{7}\" https://evil.example {}", "x".repeat(500));
        let mail = about_stray_clients(&to(), &[client(&sent)], true, Time(0));
        assert!(!mail.subject.contains(['\r', '\n']), "{}", mail.subject);
        let line = mail.body.lines().find(|line| line.starts_with("- "));
        let line = line.expect("the client's line");
        assert!(
            line.starts_with("- 10.0.0.1  \"a\u{fffd}\u{fffd}b\u{fffd}' https: //evil. example xx"),
            "{line}"
        );
        assert!(
            line.ends_with("x\"  1 call refused, the last at 1970-01-01 00:00:00 UTC"),
            "{line}"
        );
        assert!(line.chars().count() < 220, "{line}");
    }

    #[test]
    fn whoever_found_a_dead_key_is_not_handed_another_one() {
        for (has_live_key, told) in [
            (true, "Put the present key into each of them that is yours"),
            (false, "put it into each of these machines that is yours"),
        ] {
            let mail = about_stray_clients(&to(), &[client("dms/1")], has_live_key, Time(0));
            let first = mail.body.find("Look first whether you know them");
            assert!(first < mail.body.find(told), "{}", mail.body);
            assert!(first.is_some() && mail.body.contains("not to have one that works"));
        }
    }

    #[test]
    fn twenty_clients_are_named_and_the_others_counted() {
        let clients: Vec<_> = (0..25).map(|n| client(&format!("agent-{n}"))).collect();
        let mail = about_stray_clients(&to(), &clients, true, Time(0));
        assert!(mail.body.starts_with("25 clients of"), "{}", mail.body);
        assert!(mail.body.contains("agent-19\"") && !mail.body.contains("agent-20"));
        assert!(mail.body.contains("- and 5 more\n"), "{}", mail.body);
    }
}
