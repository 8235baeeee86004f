//! What the mails say about a key that was found where it should not be: to the owners of its Seller, and to the
//! marketplace's security contact.
//!
//! Never: a key; an address that a finder wrote in a form of which a mail program makes a link; the finder's address, which
//! nobody keeps.

use std::fmt::Write;

use super::words::{WAITED, line, page, shown, unlinked, without_links};
use crate::{
    accounts::AccountKind,
    clock::Time,
    db::{Addressees, NewMail},
    keys::found::{Finder, Outcome, Place, Works},
};

/// Places that one mail names.
const PLACES_NAMED: usize = 10;

/// A key that was found.
#[derive(Clone, Debug)]
pub struct FoundKey {
    /// Its last four characters.
    pub key: String,
    /// Who says so.
    pub finder: Finder,
    /// Where it was found; at least one, which may be unknown.
    pub places: Vec<Place>,
    /// What was done: expired or discarded; or it still lives, and this is told.
    pub outcome: Outcome,
    /// If it lives on, whether it works.
    pub works: Works,
    /// The next key that waited beside a key that was expired, and died unused.
    pub discarded: Option<String>,
}

impl FoundKey {
    /// Who found it, as the beginning of a sentence.
    fn who(&self) -> &'static str {
        match self.finder {
            Finder::GitHub => "GitHub secret scanning found",
            Finder::Report | Finder::Browser => "Somebody reported that they found",
        }
    }

    /// What became of it, in a subject.
    fn became(&self) -> &'static str {
        match self.outcome {
            Outcome::Expired => "was found in public, and is expired",
            Outcome::Discarded => "was found in public, and is discarded",
            Outcome::Told | Outcome::Dead | Outcome::Seen => match self.works {
                Works::Now => "was reported as found, and still works",
                Works::NotYet => "was reported as found, and is not live yet",
                Works::Suspended => "was reported as found; the account is suspended",
            },
        }
    }

    fn what(&self) -> &'static str {
        match (self.outcome, self.works) {
            (Outcome::Discarded, _) | (Outcome::Told, Works::NotYet) => "next API key",
            _ => "API key",
        }
    }

    /// What it means that it lives on, and what the owners do first.
    fn lives_on(&self) -> (String, &'static str) {
        let key = shown(&self.key);
        match self.works {
            Works::Now => (
                format!(
                    "They had the whole key. It still works, for them too.\n\nReported key: {key}\n"
                ),
                "Regenerate the key in Settings, API Key, unless you know that it was only you or a colleague who reported it. The \
                 old key is dead in the same moment.",
            ),
            Works::NotYet => (
                format!(
                    "They had the whole key. It is prepared and not live, so nobody can do anything with it before it is cut over. \
                     The live key is not affected and goes on working.\n\nReported next key: {key}\n"
                ),
                "Discard it in Settings, API Key, and do not cut over to it: it would work for them too. Then prepare another one, \
                 and look for the place that it came from, as the live key may stand there too.",
            ),
            Works::Suspended => (
                format!(
                    "They had the whole key. It is refused at present, as the account is suspended. Once the account is resumed it \
                     works again, for them too.\n\nReported key: {key}\n"
                ),
                "Ask the security contact below to expire the key, by its last four characters, before the account is resumed. You \
                 can generate another one then.",
            ),
        }
    }

    /// Where it was found, a line each.
    fn list(&self) -> String {
        let mut list = String::new();
        for place in self.places.iter().take(PLACES_NAMED) {
            // Writing to a text cannot fail.
            let _ = writeln!(list, "- {}", unlinked(&place.in_words()));
        }
        if self.places.len() > PLACES_NAMED {
            let _ = writeln!(list, "- and {} more", self.places.len() - PLACES_NAMED);
        }
        list
    }
}

/// The mail to the owners.
pub fn about_found_key(to: &Addressees, found: &FoundKey, at: Time) -> NewMail {
    let name = without_links(&to.name);
    let (what, at) = (found.what(), at.utc());
    let (means, first) = match found.outcome {
        Outcome::Expired => (
            format!(
                "It was expired at once: it is dead since {at}, and whoever sends it gets 401. There is no live key now.\n\n\
                 Expired key: {}\n{}",
                shown(&found.key),
                line(WAITED, found.discarded.as_ref())
            ),
            "Generate a new key in Settings, API Key, and put it into every system that syncs for you. Nothing syncs until then.",
        ),
        Outcome::Discarded => (
            format!(
                "It was discarded at once and will never be live. The present key goes on working.\n\nDiscarded key: {}\n",
                shown(&found.key)
            ),
            "Prepare another next key when you need one, and look for the place that the discarded one came from: the present \
             key may stand there too.",
        ),
        Outcome::Told | Outcome::Dead | Outcome::Seen => found.lives_on(),
    };
    NewMail {
        subject: format!("The {what} of {name} {}", found.became()),
        body: format!(
            "{} the {what} of {name} ({}) where others may read it, at {at}. {means}\n\
             Where it was found, as it was told us. Addresses have blanks in them so that no mail program makes a link:\n\n{}\n\
             What to do:\n\n\
             1. {first}\n\
             2. Look in Settings, API Key at which clients used it in the last 24 hours, and at your listings.\n\
             3. Take it out of the place where it was found. That alone does not help: whoever saw it has it.\n\n\
             You get one mail about a key that lives on within a day, however often it is reported.\n",
            found.who(),
            to.slug,
            found.list(),
        ),
        page: page(to),
    }
}

/// The mail to the security contact, who cannot open the Seller's pages.
pub fn about_found_key_for_contact(to: &Addressees, found: &FoundKey, at: Time) -> NewMail {
    let name = without_links(&to.name);
    let (what, slug) = (found.what(), &to.slug);
    let owners = match to.owners.len() {
        0 => "It has no owner, so nobody else was mailed.".to_owned(),
        1 => "Its owner was mailed.".to_owned(),
        n => format!("Its {n} owners were mailed."),
    };
    let next = match found.outcome {
        Outcome::Expired | Outcome::Discarded => match to.owners.is_empty() {
            true => "There is nothing left to do about the key.",
            false => "There is nothing left to do about the key. See that its owners get the mail.",
        }
        .to_owned(),
        Outcome::Told | Outcome::Dead | Outcome::Seen => {
            let now = match found.works {
                Works::Now if to.owners.is_empty() => "The key still works. Kill it:",
                Works::Now => "The key still works. If the owners do not answer, kill it:",
                Works::NotYet if to.owners.is_empty() => {
                    "The key is prepared and not live, and the live one is not affected. Discard it:"
                }
                Works::NotYet => {
                    "The key is prepared and not live, and the live one is not affected. If the owners do not discard it:"
                }
                Works::Suspended => {
                    "The key is refused at present, as the account is suspended, and works again once it is resumed. Kill it \
                     before that:"
                }
            };
            let command = match found.works {
                Works::NotYet => format!("truckradar key discard --seller {slug}"),
                Works::Now | Works::Suspended => {
                    format!("truckradar key expire --seller {slug} --reason 'reported as found'")
                }
            };
            format!("{now}\n\n{command}\n\nWith --kill-reported-keys a server does so by itself.")
        }
    };
    NewMail {
        subject: format!("The {what} of {name} {}", found.became()),
        body: format!(
            "{} the {what} {} of the {} {name} ({slug}), at {}. {owners}\n\nWhere it was found, as it was told us:\n\n\
             {}\n{next}\n",
            found.who(),
            shown(&found.key),
            match to.kind {
                AccountKind::Seller => "dealer account",
                AccountKind::Platform => "platform",
            },
            at.utc(),
            found.list(),
        ),
        page: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to() -> Addressees {
        Addressees {
            slug: "lone-star".to_owned(),
            name: "Lone Star\r\nhttp://evil.example".to_owned(),
            kind: AccountKind::Seller,
            owners: vec!["a@lone.example".to_owned()],
        }
    }

    fn found(outcome: Outcome) -> FoundKey {
        FoundKey {
            key: "a9f3".to_owned(),
            finder: Finder::GitHub,
            places: vec![Place::new("https://evil.example/x\r\nSubject: y", "commit")],
            outcome,
            works: Works::Now,
            discarded: Some("b0c1".to_owned()),
        }
    }

    #[test]
    fn what_a_finder_wrote_neither_ends_a_line_nor_becomes_a_link() {
        for outcome in [Outcome::Expired, Outcome::Discarded, Outcome::Told] {
            let found = found(outcome);
            let mails = [
                about_found_key(&to(), &found, Time(0)),
                about_found_key_for_contact(&to(), &found, Time(0)),
            ];
            for mail in mails {
                let told = "- commit: https: //evil. example/x\u{fffd}\u{fffd}Subject: y\n";
                assert!(mail.body.contains(told), "{}", mail.body);
                assert!(mail.body.contains("tr_live_••••a9f3"), "{}", mail.body);
                assert!(!mail.subject.contains(['\r', '\n']), "{}", mail.subject);
            }
        }
    }

    #[test]
    fn the_contact_is_told_whose_key_it_is_and_waits_for_no_owner_that_there_is_not() {
        let told = found(Outcome::Told);
        let mail = about_found_key_for_contact(&to(), &told, Time(0));
        assert!(
            mail.body.contains("of the dealer account Lone Star"),
            "{}",
            mail.body
        );
        assert!(
            mail.body.contains("If the owners do not answer"),
            "{}",
            mail.body
        );
        let platform = Addressees {
            kind: AccountKind::Platform,
            owners: Vec::new(),
            ..to()
        };
        for works in [Works::Now, Works::NotYet] {
            let told = FoundKey {
                works,
                ..found(Outcome::Told)
            };
            let mail = about_found_key_for_contact(&platform, &told, Time(0));
            assert!(
                mail.body.contains("of the platform Lone Star"),
                "{}",
                mail.body
            );
            assert!(
                mail.body.contains("so nobody else was mailed"),
                "{}",
                mail.body
            );
            assert!(!mail.body.contains("If the owners"), "{}", mail.body);
        }
    }

    #[test]
    fn each_outcome_says_what_became_of_the_key_and_ten_places_are_named() {
        let mut found = found(Outcome::Expired);
        found.places = (0..12)
            .map(|n| Place::new(&format!("place {n}"), ""))
            .collect();
        let mail = about_found_key(&to(), &found, Time(0));
        assert!(
            mail.subject
                .ends_with("was found in public, and is expired")
        );
        assert!(
            mail.body.contains("- place 9\n- and 2 more\n"),
            "{}",
            mail.body
        );
        assert!(
            mail.body.contains("never live: tr_live_••••b0c1\n"),
            "{}",
            mail.body
        );
        found.outcome = Outcome::Told;
        let mail = about_found_key(&to(), &found, Time(0));
        assert!(
            mail.subject.ends_with("and still works"),
            "{}",
            mail.subject
        );
        let mail = about_found_key_for_contact(&to(), &found, Time(0));
        assert!(
            mail.body.contains("key expire --seller lone-star"),
            "{}",
            mail.body
        );
        assert_eq!(mail.page, "");
    }

    #[test]
    fn a_key_that_cannot_be_used_is_not_said_to_work() {
        for (works, subject, owners, contact) in [
            (
                Works::NotYet,
                "and is not live yet",
                "The live key is not affected and goes on working.",
                "key discard --seller lone-star",
            ),
            (
                Works::Suspended,
                "the account is suspended",
                "It is refused at present, as the account is suspended.",
                "key expire --seller lone-star",
            ),
        ] {
            let mut found = found(Outcome::Told);
            found.works = works;
            let to_owners = about_found_key(&to(), &found, Time(0));
            let to_contact = about_found_key_for_contact(&to(), &found, Time(0));
            assert!(
                to_owners.subject.ends_with(subject),
                "{}",
                to_owners.subject
            );
            assert_eq!(to_owners.subject, to_contact.subject);
            assert!(to_owners.body.contains(owners), "{}", to_owners.body);
            assert!(to_contact.body.contains(contact), "{}", to_contact.body);
            for mail in [to_owners, to_contact] {
                assert!(!mail.body.contains("still works"), "{}", mail.body);
            }
        }
    }
}
