//! The form of an API key: the only place that knows its prefix, length, alphabet and checksum.
//!
//! A key is `tr_live_`, 32 random characters and 6 characters of checksum, all base 62. The checksum lets a mistyped or
//! made-up key be refused before any look-up, and lets a secret scanner tell a key from a look-alike.
//!
//! Never: a key printed, logged, serialised or compared in any other way than by its digest. [`SecretKey::expose`] is
//! the one door out, so a search for it finds every place where a key leaves.

use std::{borrow::Cow, fmt};

use rand::{TryRng, rngs::SysRng};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// What every key begins with.
pub const PREFIX: &str = "tr_live_";
/// Characters of randomness; 62^32 is 190 bits.
pub const RANDOM_CHARS: usize = 32;
/// Characters of checksum; 62^6 exceeds 2^32, so a CRC-32 always fits.
pub const CHECKSUM_CHARS: usize = 6;
/// Length of a whole key, in characters, which are also bytes.
pub const KEY_CHARS: usize = PREFIX.len() + RANDOM_CHARS + CHECKSUM_CHARS;

/// Base 62 in the order of its digits.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A whole API key. It is wiped from memory when dropped, cannot be printed and cannot be serialised.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; KEY_CHARS]);

/// SHA-256 of a whole key: what is stored and looked up. A plain fast hash is enough because a key has 190 random bits
/// (OWASP ASVS 5.0, 6.5.2 asks 112); there is nothing for a dictionary to try.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest(pub [u8; 32]);

impl AsRef<[u8; 32]> for KeyDigest {
    fn as_ref(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The last four characters of a key, by which a person recognises it. They are checksum characters, so they give away
/// nothing that the checksum does not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHint([u8; 4]);

/// Why a string is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Too short, too long, wrong prefix, or a character outside base 62.
    #[error("not of the form tr_live_ and 38 characters of 0-9, A-Z and a-z")]
    Form,
    /// The right form, but the last six characters do not belong to the forty before them.
    #[error("the checksum does not match: a character was lost or changed")]
    Checksum,
}

impl SecretKey {
    /// A new key from the operating system's generator.
    ///
    /// Fails only when that generator does; no weaker source stands in for it.
    pub fn generate() -> Result<Self, rand::rngs::SysError> {
        let mut key = [0u8; KEY_CHARS];
        key[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        let mut filled = PREFIX.len();
        let mut pool = [0u8; 64];
        while filled < PREFIX.len() + RANDOM_CHARS {
            SysRng.try_fill_bytes(&mut pool)?;
            for &byte in &pool {
                // 248 is the largest multiple of 62 below 256: taking the remainder of anything above it would make
                // the first eight digits likelier than the others.
                if byte < 248 && filled < PREFIX.len() + RANDOM_CHARS {
                    key[filled] = ALPHABET[usize::from(byte % 62)];
                    filled += 1;
                }
            }
        }
        pool.zeroize();
        let sum = checksum(&key[..PREFIX.len() + RANDOM_CHARS]);
        key[PREFIX.len() + RANDOM_CHARS..].copy_from_slice(&sum);
        Ok(Self(key))
    }

    /// Reads a key that a person handed over, such as on the standard input of `key identify`.
    pub fn parse(text: &[u8]) -> Result<Self, FormError> {
        check_form(text).map(Self)
    }

    /// The key itself, for the one response that shows it. Every other use is a leak.
    pub fn expose(&self) -> &str {
        // The constructors admit ASCII only.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// What is stored in the key's place.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest(Sha256::digest(self.0).into())
    }

    /// The text without this key, and without its random part, which is as good as the whole.
    pub fn strike(&self, text: &str) -> String {
        let random = &self.0[PREFIX.len()..PREFIX.len() + RANDOM_CHARS];
        let random = std::str::from_utf8(random).unwrap_or_default();
        redact(text).replace(random, "(redacted)")
    }

    /// What a person recognises the key by.
    pub fn hint(&self) -> KeyHint {
        let mut hint = [0u8; 4];
        hint.copy_from_slice(&self.0[KEY_CHARS - 4..]);
        KeyHint(hint)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

impl fmt::Debug for KeyDigest {
    /// A digest equals what the database stores, so a log that held it could be matched against a stolen table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(redacted)")
    }
}

impl fmt::Display for KeyHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for KeyHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The digest of a presented key, or why it is not one; used on every request and makes no copy that outlives it.
pub fn digest_presented(text: &[u8]) -> Result<KeyDigest, FormError> {
    let key = check_form(text)?;
    Ok(KeyDigest(Sha256::digest(key).into()))
}

/// The keys that stand in a text among other things, each once, in their order, at most so many. What is longer than a key is
/// none. Those in which a mail broke the line (quoted-printable, RFC 2045 section 6.7) are found after the others.
pub fn keys_in(text: &str, most: usize) -> Vec<SecretKey> {
    let mut found = Vec::new();
    find_keys(text, most, &mut found);
    if text.contains("=\n") || text.contains("=\r\n") {
        // Of the full length at once, so that it is not moved and a part of it left behind.
        let mut joined = Zeroizing::new(String::with_capacity(text.len()));
        for line in text.split_inclusive('\n') {
            let broken = line.strip_suffix("=\n");
            let broken = broken.or_else(|| line.strip_suffix("=\r\n"));
            joined.push_str(broken.unwrap_or(line));
        }
        find_keys(&joined, most, &mut found);
    }
    found
}

fn find_keys(text: &str, most: usize, found: &mut Vec<SecretKey>) {
    for (at, _) in text.match_indices(PREFIX) {
        if found.len() == most {
            break;
        }
        let rest = &text.as_bytes()[at..];
        let word = rest[PREFIX.len()..].iter();
        let chars = PREFIX.len() + word.take_while(|c| c.is_ascii_alphanumeric()).count();
        if let Ok(key) = SecretKey::parse(&rest[..chars])
            && found.iter().all(|other| other.0 != key.0)
        {
            found.push(key);
        }
    }
}

fn check_form(text: &[u8]) -> Result<[u8; KEY_CHARS], FormError> {
    let key: [u8; KEY_CHARS] = text.try_into().map_err(|_| FormError::Form)?;
    let (prefix, rest) = key.split_at(PREFIX.len());
    if prefix != PREFIX.as_bytes() || !rest.iter().all(u8::is_ascii_alphanumeric) {
        return Err(FormError::Form);
    }
    let (summed, sum) = key.split_at(PREFIX.len() + RANDOM_CHARS);
    if checksum(summed) != sum {
        return Err(FormError::Checksum);
    }
    Ok(key)
}

/// CRC-32 (IEEE) in base 62, left-padded with `0`.
fn checksum(summed: &[u8]) -> [u8; CHECKSUM_CHARS] {
    let mut left = crc32fast::hash(summed);
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(left % 62) as usize];
        left /= 62;
    }
    digits
}

/// The text with everything that looks like a key, whole or cut short, replaced. For whatever a caller may have put a
/// key into by mistake and we keep: a User-Agent, a path, a panic message.
pub fn redact(text: &str) -> Cow<'_, str> {
    if !text.contains(PREFIX) {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split(PREFIX);
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clean.push_str(PREFIX);
        clean.push_str("(redacted)");
        clean.push_str(part.trim_start_matches(|c: char| c.is_ascii_alphanumeric()));
    }
    Cow::Owned(clean)
}

/// Whether a character acts on whatever shows it or is not seen there: for what a stranger wrote and people will read.
pub fn acts_on_reader(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VECTORS: [&str; 3] = [
        "tr_live_000000000000000000000000000000000Q5GMF",
        "tr_live_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p61m7ev9",
        "tr_live_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz1BSNIP",
    ];

    #[test]
    fn the_published_vectors_are_keys() {
        for vector in VECTORS {
            let key = SecretKey::parse(vector.as_bytes()).expect("a published vector is a key");
            assert_eq!(key.expose(), vector);
            assert_eq!(key.hint().to_string(), vector[42..]);
        }
    }

    #[test]
    fn a_generated_key_is_a_key_and_no_two_are_alike() {
        let keys: Vec<_> = (0..1000)
            .map(|_| SecretKey::generate().expect("the system has randomness"))
            .collect();
        let distinct: std::collections::HashSet<_> =
            keys.iter().map(|key| key.expose().to_owned()).collect();
        assert_eq!(distinct.len(), keys.len());
        for key in &keys {
            assert_eq!(digest_presented(key.expose().as_bytes()), Ok(key.digest()));
        }
    }

    /// With 62 digits and 64,000 draws each is expected 1,032 times; the chi-squared statistic with 61 degrees of
    /// freedom exceeds 120 about once in 200,000 runs, and a plain `byte % 62` gives over 700.
    #[test]
    fn the_random_part_is_uniform() {
        let mut counts = [0f64; 62];
        for _ in 0..2000 {
            let key = SecretKey::generate().expect("the system has randomness");
            for c in &key.0[PREFIX.len()..PREFIX.len() + RANDOM_CHARS] {
                let digit = ALPHABET.iter().position(|a| a == c).expect("base 62");
                counts[digit] += 1.0;
            }
        }
        let expected = 64_000.0 / 62.0;
        let chi_squared: f64 = counts
            .iter()
            .map(|n| (n - expected).powi(2) / expected)
            .sum();
        assert!(chi_squared < 120.0, "chi-squared {chi_squared}");
    }

    #[test]
    fn nothing_prints_a_key() {
        let key = SecretKey::parse(VECTORS[1].as_bytes()).expect("a published vector is a key");
        assert_eq!(format!("{key:?}"), "SecretKey(redacted)");
        assert_eq!(format!("{:?}", key.digest()), "KeyDigest(redacted)");
    }

    #[test]
    fn text_that_holds_a_key_is_redacted() {
        let [a, b, _] = VECTORS;
        assert_eq!(redact("plain text"), "plain text");
        assert_eq!(
            redact(&format!("x {a}, {b}!{}", &a[..20])),
            "x tr_live_(redacted), tr_live_(redacted)!tr_live_(redacted)"
        );
    }

    #[test]
    fn keys_are_found_among_other_text_each_once() {
        let [a, b, c] = VECTORS;
        let found = |text: &str, most| -> Vec<String> {
            let keys = keys_in(text, most).into_iter();
            keys.map(|key| key.expose().to_owned()).collect()
        };
        let text = format!("KEY={a}\n\"{b}\",{a} x{c}");
        assert_eq!(found(&text, 10), VECTORS);
        assert_eq!(found(&text, 2), [a, b]);
        // A line that a mail broke, and one that only looks so.
        let (one, other) = a.split_at(20);
        for text in [
            format!("{b}=\n{c} {one}=\r\n{other}"),
            format!("{b}=\r\n{c} {one}=\n{other}"),
        ] {
            assert_eq!(found(&text, 10), [b, c, a], "{text}");
        }
        for none in [
            "",
            "tr_live_",
            "tr_live_tr_live_",
            &format!("{a}0"),
            &a[..45],
        ] {
            assert_eq!(found(none, 10), [""; 0], "{none}");
        }
        let key = SecretKey::parse(b.as_bytes()).expect("a published vector is a key");
        let said = format!("at {b} or {} or {}", &b[8..40], &b[8..39]);
        let left = format!("at tr_live_(redacted) or (redacted) or {}", &b[8..39]);
        assert_eq!(key.strike(&said), left);
    }

    proptest! {
        #[test]
        fn a_key_is_found_wherever_it_stands(before in "(?s).{0,40}", after in "(?s)[^0-9A-Za-z].{0,40}", which in 0usize..3) {
            let text = format!("{before}{}{after}", VECTORS[which]);
            let found = keys_in(&text, 3);
            prop_assert!(found.iter().any(|key| key.expose() == VECTORS[which]));
        }

        #[test]
        fn one_changed_character_is_caught(which in 0usize..3, at in 0usize..KEY_CHARS, to in any::<u8>()) {
            let mut text = VECTORS[which].as_bytes().to_vec();
            prop_assume!(text[at] != to);
            text[at] = to;
            prop_assert!(digest_presented(&text).is_err());
        }

        #[test]
        fn no_bytes_panic(text in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = digest_presented(&text);
        }

        #[test]
        fn redacted_text_holds_no_key(before in ".{0,20}", after in ".{0,20}", which in 0usize..3) {
            let text = format!("{before}{}{after}", VECTORS[which]);
            prop_assert!(!redact(&text).contains(VECTORS[which]));
        }
    }
}
