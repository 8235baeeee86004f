//! Passwords: argon2id, on a bounded number of threads, since one hash takes 19 MB and tens of milliseconds.
//!
//! What may be set follows OWASP ASVS 5.0: 12 characters and more (6.2.1, 6.2.9), no rule about kinds of characters, and
//! nothing that stands high on the lists which guessers work through (6.2.4), alone or hardly altered.
//!
//! Never: a password kept, logged or compared in any other way; more hashes at once than there is memory for.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier},
};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::tokens::Token;

/// Characters a password has at least.
pub const PASSWORD_CHARS_MIN: usize = 12;
/// Bytes a password has at most; more is refused rather than cut.
pub const PASSWORD_BYTES_MAX: usize = 256;

/// What is known of a person counts as the beginning of a password from this length on.
const KNOWN_CHARS_MIN: usize = 6;

/// Hashes at once.
static HASHES: Semaphore = Semaphore::const_new(2);
/// Hashes that may wait for their turn; more are refused, or a flood would make everybody wait for minutes.
const HASHES_WAITING_MAX: usize = 100;
static HASHES_WAITING: AtomicUsize = AtomicUsize::new(0);

/// A password on its way to being hashed; wiped when dropped, cannot be printed.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// Why a password was refused or could not be hashed.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too short or too long.
    #[error(
        "a password has {PASSWORD_CHARS_MIN} characters or more, and {PASSWORD_BYTES_MAX} bytes at most"
    )]
    Length,
    /// Among the first that would be guessed.
    #[error(
        "this password is among the first that would be guessed: it is a common one, or made of your address or of the account's name. Take a few words that do not belong together"
    )]
    Common,
    /// More passwords are being checked than can be.
    #[error("too many passwords are being checked at present")]
    Busy,
    /// The hash could not be made or read.
    #[error("the password could not be hashed")]
    Hash,
}

impl Password {
    /// A password that somebody may set; `about` is what is known of them, such as their address and their dealer's name.
    pub fn new(text: &str, about: &[&str]) -> Result<Self, PasswordError> {
        if text.chars().count() < PASSWORD_CHARS_MIN || text.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::Length);
        }
        // Its lists of common passwords are compiled in. A score of 2 and more is out of reach of guessing online.
        let mut words = vec!["truckradar"];
        for known in about {
            words.push(known);
            words.extend(known.split(['@', '.', ' ', '-']));
        }
        let score = zxcvbn::zxcvbn(text, &words).score();
        let bare = letters_and_digits(text);
        let is_known = about.iter().any(|known| {
            let known = letters_and_digits(known);
            known.contains(&bare) || (known.len() >= KNOWN_CHARS_MIN && bare.starts_with(&known))
        });
        if is_known {
            return Err(PasswordError::Common);
        }
        if score < zxcvbn::Score::Two {
            return Err(PasswordError::Common);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// A password that somebody typed to be recognised by. What could never have been set is as wrong as any other.
    pub fn typed(text: &str) -> Self {
        let fits = text.len() <= PASSWORD_BYTES_MAX;
        Self(Zeroizing::new(if fits { text } else { "" }.to_owned()))
    }

    /// A password that nobody will ever type; `None` if the system gave no randomness.
    pub fn unguessable() -> Option<Self> {
        let token = Token::generate().ok()?;
        Some(Self(Zeroizing::new(token.reveal().to_owned())))
    }

    /// Its argon2id hash in PHC form, with a salt of its own.
    pub async fn hash(self) -> Result<String, PasswordError> {
        on_hashing_thread(move || self.hash_here()).await
    }

    /// The same on this thread, which must be one that may block.
    pub(super) fn hash_here(&self) -> Result<String, PasswordError> {
        Argon2::default()
            .hash_password(self.0.as_bytes())
            .map(|hash| hash.to_string())
            .map_err(|_| PasswordError::Hash)
    }

    /// Whether this is the password of a hash.
    pub async fn verify(self, hash: String) -> Result<bool, PasswordError> {
        on_hashing_thread(move || {
            Ok(Argon2::default()
                .verify_password(self.0.as_bytes(), hash.as_str())
                .is_ok())
        })
        .await
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(redacted)")
    }
}

async fn on_hashing_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
) -> Result<T, PasswordError> {
    let _waiting = Waiting::begin()?;
    let permit = HASHES.acquire().await.map_err(|_| PasswordError::Hash)?;
    let done = tokio::task::spawn_blocking(work).await;
    drop(permit);
    done.unwrap_or(Err(PasswordError::Hash))
}

/// A text as a guesser varies it first: no spaces or signs, no capitals.
fn letters_and_digits(text: &str) -> String {
    let kept = text.chars().filter(|c| c.is_alphanumeric());
    kept.flat_map(char::to_lowercase).collect()
}

/// A place among those who wait for a hash, given back however the waiting ends.
struct Waiting;

impl Waiting {
    fn begin() -> Result<Self, PasswordError> {
        let place = Self;
        if HASHES_WAITING.fetch_add(1, Ordering::Relaxed) >= HASHES_WAITING_MAX {
            return Err(PasswordError::Busy);
        }
        Ok(place)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        HASHES_WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: &str = "ann.freighter@lonestar.example";
    const ABOUT: &[&str] = &[OWNER, "Lone Star Trucks"];

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let password = Password::new("correct horse battery", ABOUT).expect("long enough");
        let hash = password.clone().hash().await.expect("hashes");
        assert!(hash.starts_with("$argon2id$"));
        assert!(password.verify(hash.clone()).await.expect("verifies"));
        let other = Password::new("correct horse batterz", ABOUT).expect("long enough");
        assert!(!other.verify(hash).await.expect("verifies"));
    }

    #[test]
    fn short_and_huge_passwords_are_refused_and_none_is_printed() {
        assert!(Password::new("elevenchars", ABOUT).is_err());
        assert!(Password::new(&"a".repeat(257), ABOUT).is_err());
        for common in [
            "password1234",
            "aaaaaaaaaaaa",
            "qwertyuiop123",
            "123456789012",
            "truckradar123",
            OWNER,
            "ann.freighter",
            "Lone Star Trucks",
            "lone star trucks 1",
            "LoneStarTrucks",
        ] {
            let refused = Password::new(common, ABOUT);
            assert!(matches!(refused, Err(PasswordError::Common)), "{common}");
        }
        for good in [
            "correct horse battery",
            "no-composition-rules",
            "\u{1f69b} \u{1f69b} depot north",
        ] {
            assert!(Password::new(good, ABOUT).is_ok(), "{good}");
        }
        let password = Password::new("correct horse battery", ABOUT).expect("long enough");
        assert_eq!(format!("{password:?}"), "Password(redacted)");
    }
}
