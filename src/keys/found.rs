//! That a key was found where it should not be: who says so, where, and what was done about it.
//!
//! Never: a key, whole or cut, in a place that is kept; a word of a stranger's that acts on whoever reads it.

use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::format::{PREFIX, acts_on_reader, redact};

/// Bytes of a place at most.
const PLACE_BYTES_MAX: usize = 500;
/// Bytes of a kind of place at most.
const SOURCE_BYTES_MAX: usize = 40;

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finder {
    /// GitHub's secret scanning, by its signature.
    GitHub,
    /// Somebody who had the whole key.
    Report,
    /// The Origin header of requests with the key, which browsers write.
    Browser,
}

/// What was done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The key was live, and is expired.
    Expired,
    /// The key was a prepared one, and is discarded.
    Discarded,
    /// The key is live or prepared, and its owners know.
    Told,
    /// The key was dead already.
    Dead,
    /// Noted for the owners to see.
    Seen,
}

/// Whether somebody who has a key that was found, and that lives on, can do anything with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Works {
    /// Everything.
    Now,
    /// Nothing before its cut-over: it is a prepared one.
    NotYet,
    /// Nothing until its account is resumed, which is suspended.
    Suspended,
}

/// The name is none of these.
#[derive(Debug, thiserror::Error)]
#[error("nobody of this name finds keys, and nothing of this name is done about it")]
pub struct Unknown;

impl Finder {
    /// Its name in the database and in answers of commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::Report => "report",
            Self::Browser => "browser",
        }
    }

    /// Its name where the audit log names actors.
    pub fn actor(self) -> &'static str {
        match self {
            Self::GitHub => "finder:github",
            Self::Report => "finder:report",
            Self::Browser => "finder:browser",
        }
    }

    /// What people call it.
    pub fn words(self) -> &'static str {
        match self {
            Self::GitHub => "GitHub secret scanning",
            Self::Report => "a report",
            Self::Browser => "a browser",
        }
    }

    /// What people call an actor of the audit log, if it is one of these.
    pub fn words_of_actor(actor: &str) -> Option<&'static str> {
        let all = [Self::GitHub, Self::Report, Self::Browser];
        let found = all.into_iter().find(|finder| finder.actor() == actor);
        found.map(Self::words)
    }
}

impl FromStr for Finder {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Self, Unknown> {
        let all = [Self::GitHub, Self::Report, Self::Browser];
        let found = all.into_iter().find(|finder| finder.as_str() == name);
        found.ok_or(Unknown)
    }
}

impl Outcome {
    const ALL: [Self; 5] = [
        Self::Expired,
        Self::Discarded,
        Self::Told,
        Self::Dead,
        Self::Seen,
    ];

    /// Its name in the database and in answers of commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Discarded => "discarded",
            Self::Told => "told",
            Self::Dead => "dead",
            Self::Seen => "seen",
        }
    }
}

impl FromStr for Outcome {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Self, Unknown> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == name);
        found.ok_or(Unknown)
    }
}

/// Where a key was found, as it is kept and shown: the beginning of what was said, without a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    text: String,
    source: String,
}

impl Place {
    /// Of an address or a few words, and the kind of place, such as `commit`; either may be empty.
    pub fn new(text: &str, source: &str) -> Self {
        Self {
            text: kept(text, PLACE_BYTES_MAX),
            source: kept(source, SOURCE_BYTES_MAX),
        }
    }

    /// The address or the words; empty if nobody said.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The kind of place; empty if nobody said.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Both on one line; "nobody said where" if neither was said.
    pub fn in_words(&self) -> String {
        in_words(&self.text, &self.source)
    }
}

/// A place as it stands in the database, on one line.
pub fn in_words(text: &str, source: &str) -> String {
    match (text.is_empty(), source.is_empty()) {
        (true, true) => "nobody said where".to_owned(),
        (true, false) => source.to_owned(),
        (false, true) => text.to_owned(),
        (false, false) => format!("{source}: {text}"),
    }
}

fn kept(text: &str, bytes_max: usize) -> String {
    let text = text.trim();
    let decoded = percent_decode_str(text).decode_utf8_lossy();
    // A key that is spelt with percent signs is one.
    let clean = if decoded.contains(PREFIX) {
        redact(&decoded)
    } else {
        text.into()
    };
    // So that an address of a person's in it can be found by whoever erases them.
    let clean = clean.replace("%40", "@");
    let mut clean = clean.replace(acts_on_reader, "\u{fffd}");
    clean.truncate(clean.floor_char_boundary(bytes_max));
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "tr_live_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p61m7ev9";

    #[test]
    fn names_are_read_back() {
        for finder in [Finder::GitHub, Finder::Report, Finder::Browser] {
            assert_eq!(finder.as_str().parse::<Finder>().ok(), Some(finder));
            let words = Finder::words_of_actor(finder.actor());
            assert_eq!(words, Some(finder.words()));
        }
        for outcome in Outcome::ALL {
            assert_eq!(outcome.as_str().parse::<Outcome>().ok(), Some(outcome));
        }
        assert!("GitHub".parse::<Finder>().is_err() && "".parse::<Outcome>().is_err());
        assert_eq!(Finder::words_of_actor("operator"), None);
    }

    #[test]
    fn a_place_holds_no_key_however_it_is_spelt() {
        for (said, kept) in [
            (" https://a.example/b ", "https://a.example/b"),
            (
                &*format!("https://a.example/?k={KEY}&x=1"),
                "https://a.example/?k=tr_live_(redacted)&x=1",
            ),
            (
                &*format!("https://a.example/%74r%5Flive_{}", &KEY[8..]),
                "https://a.example/tr_live_(redacted)",
            ),
            ("https://a.example/a%20b", "https://a.example/a%20b"),
            (
                "https://a.example/?by=ann%40x.example",
                "https://a.example/?by=ann@x.example",
            ),
            (
                "a\r\nb\u{202e}c\u{1b}[31m",
                "a\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}[31m",
            ),
        ] {
            assert_eq!(Place::new(said, "").text(), kept);
        }
        let place = Place::new("", "commit");
        assert_eq!(place.in_words(), "commit");
        assert_eq!(Place::default().in_words(), "nobody said where");
        assert_eq!(Place::new("a", "gist").in_words(), "gist: a");
    }

    proptest! {
        #[test]
        fn a_place_is_short_one_line_and_without_a_key(before in ".{0,600}", after in ".{0,40}") {
            let place = Place::new(&format!("{before}{KEY}{after}"), &before);
            prop_assert!(place.text().len() <= PLACE_BYTES_MAX && place.source().len() <= SOURCE_BYTES_MAX);
            prop_assert!(!place.text().contains(&KEY[8..40]));
            prop_assert!(!place.in_words().contains(acts_on_reader));
        }
    }
}
