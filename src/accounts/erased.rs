//! What stands for a person who was erased: a made-up name, the same in every place that named them.
//!
//! Never: a pseudonym from which anything about the person could be computed.

use std::fmt;

use crate::ids::UserId;

/// What every pseudonym begins with; no id and no address does.
const PREFIX: &str = "erased-";
/// Hexadecimal digits behind it.
const DIGITS: usize = 16;
/// Of those, how many people are shown: enough to tell two erased persons of one log apart.
const DIGITS_SHOWN: usize = 6;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pseudonym(String);

impl Pseudonym {
    /// A new one, of random digits: whoever has the person's id or address cannot find it by them.
    pub fn new() -> Self {
        Self(format!("{PREFIX}{:016x}", UserId::new().spread()))
    }

    /// The pseudonym that this text is, if it is one.
    pub fn read(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let is_one = digits.len() == DIGITS && digits.bytes().all(|c| c.is_ascii_hexdigit());
        is_one.then(|| Self(text.to_owned()))
    }

    /// The pseudonym itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For people: that it is an erased person, and which of several.
    pub fn words(&self) -> String {
        let from = PREFIX.len();
        format!("an erased user ({})", &self.0[from..from + DIGITS_SHOWN])
    }
}

impl Default for Pseudonym {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text of one's own or somebody else's in which this address stands for itself, and not as the end or the beginning of a
/// longer one: `ann@x.example` is not in `joann@x.example`, nor in `ann@x.example.org`.
pub fn names(text: &str, email: &str) -> bool {
    places(text, email).next().is_some()
}

/// The text with that address replaced wherever it stands for itself.
pub fn without(text: &str, email: &str, by: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut from = 0;
    for at in places(text, email) {
        clean.push_str(&text[from..at]);
        clean.push_str(by);
        from = at + email.len();
    }
    clean.push_str(&text[from..]);
    clean
}

fn places<'a>(text: &'a str, email: &'a str) -> impl Iterator<Item = usize> + 'a {
    let found = text.match_indices(email).map(|(at, _)| at);
    found.filter(move |at| {
        let before = text[..*at].chars().next_back();
        let mut after = text[at + email.len()..].chars();
        let (next, then) = (after.next(), after.next());
        let in_name = |c: char| c.is_alphanumeric() || "._%+-".contains(c);
        let in_host = |c: char| c.is_alphanumeric() || c == '-';
        // A dot behind it ends the sentence, unless the host goes on.
        let goes_on = next.is_some_and(in_host) || next == Some('.') && then.is_some_and(in_host);
        !email.is_empty() && !before.is_some_and(in_name) && !goes_on
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pseudonym_is_told_from_everything_else() {
        let made = Pseudonym::new();
        assert_eq!(Pseudonym::read(made.as_str()), Some(made.clone()));
        assert_ne!(made, Pseudonym::new());
        assert!(made.words().starts_with("an erased user ("), "{made}");
        let id = UserId::new().to_text();
        for other in [
            "",
            "erased-",
            "erased-12",
            "erased-000000000000000g",
            "erased@yard.example",
            "user:erased-0000000000000000",
            &id,
        ] {
            assert_eq!(Pseudonym::read(other), None, "{other}");
        }
    }

    #[test]
    fn an_address_is_found_where_it_stands_for_itself() {
        const ANN: &str = "ann@x.example";
        for (text, clean) in [
            ("ann@x.example", "E"),
            ("by ann@x.example.", "by E."),
            ("<ann@x.example>, twice: ann@x.example", "<E>, twice: E"),
            (
                "[\"ann@x.example\",\"joann@x.example\"]",
                "[\"E\",\"joann@x.example\"]",
            ),
            ("joann@x.example", "joann@x.example"),
            ("j.ann@x.example", "j.ann@x.example"),
            ("ann@x.example.org", "ann@x.example.org"),
            ("ann@x.examples", "ann@x.examples"),
            ("nothing", "nothing"),
            ("é ann@x.example é", "é E é"),
        ] {
            assert_eq!(without(text, ANN, "E"), clean);
            assert_eq!(names(text, ANN), clean != text, "{text}");
        }
        assert!(!names("anything", ""), "nobody has no address");
    }

    proptest! {
        /// Whatever surrounds it: what is replaced is named no more, and nothing else is touched.
        #[test]
        fn nothing_is_left_and_nothing_else_is_gone(
            parts in prop::collection::vec("[ -~é\n]{0,12}", 1..6),
            name in "[a-z]{1,6}",
        ) {
            let email = format!("{name}@x.example");
            let text = parts.join(&email);
            let clean = without(&text, &email, "\u{0}");
            prop_assert!(!names(&clean, &email), "{clean:?}");
            prop_assert_eq!(clean.replace('\u{0}', &email), text);
        }
    }
}
