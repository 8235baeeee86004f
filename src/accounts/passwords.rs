//! Passwords: argon2id, on a bounded number of threads, since one hash takes 19 MB and tens of milliseconds.
//!
//! Never: a password kept, logged or compared in any other way; more hashes at once than there is memory for.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier},
};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Characters a password has at least (OWASP ASVS 5.0, 6.2.1 with the recommended length of 6.2.9's family).
pub const PASSWORD_CHARS_MIN: usize = 12;
/// Bytes a password has at most; more is refused rather than cut.
pub const PASSWORD_BYTES_MAX: usize = 256;

/// Hashes at once.
static HASHES: Semaphore = Semaphore::const_new(2);

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
    /// The hash could not be made or read.
    #[error("the password could not be hashed")]
    Hash,
}

impl Password {
    /// A password that may be set.
    pub fn new(text: &str) -> Result<Self, PasswordError> {
        if text.chars().count() < PASSWORD_CHARS_MIN || text.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::Length);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Its argon2id hash in PHC form, with a salt of its own.
    pub async fn hash(self) -> Result<String, PasswordError> {
        on_hashing_thread(move || {
            Argon2::default()
                .hash_password(self.0.as_bytes())
                .map(|hash| hash.to_string())
                .map_err(|_| PasswordError::Hash)
        })
        .await
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
    let permit = HASHES.acquire().await.map_err(|_| PasswordError::Hash)?;
    let done = tokio::task::spawn_blocking(work).await;
    drop(permit);
    done.unwrap_or(Err(PasswordError::Hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let password = Password::new("correct horse battery").expect("long enough");
        let hash = password.clone().hash().await.expect("hashes");
        assert!(hash.starts_with("$argon2id$"));
        assert!(password.verify(hash.clone()).await.expect("verifies"));
        let other = Password::new("correct horse batterz").expect("long enough");
        assert!(!other.verify(hash).await.expect("verifies"));
    }

    #[test]
    fn short_and_huge_passwords_are_refused_and_none_is_printed() {
        assert!(Password::new("elevenchars").is_err());
        assert!(Password::new(&"a".repeat(257)).is_err());
        let password = Password::new("correct horse battery").expect("long enough");
        assert_eq!(format!("{password:?}"), "Password(redacted)");
    }
}
