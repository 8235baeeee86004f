//! The secrets that let a person in without a password: a session's cookie, an invitation's link. 256 random bits.
//!
//! Never: a token printed by accident, stored, or compared: only its digest is looked up.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rand::{TryRng, rngs::SysRng};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// Characters of its text.
const TOKEN_CHARS: usize = 43;

/// A token, wiped when dropped.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

/// SHA-256 of a token's text: what is stored. A plain fast hash is enough for 256 random bits (OWASP ASVS 5.0, 6.5.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest(pub [u8; 32]);

/// The operating system gave no randomness.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system's random generator failed")]
pub struct NoRandomness;

impl Token {
    /// A new one.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        SysRng
            .try_fill_bytes(bytes.as_mut())
            .map_err(|_| NoRandomness)?;
        Ok(Self(Zeroizing::new(
            BASE64_URL_SAFE_NO_PAD.encode(bytes.as_ref()),
        )))
    }

    /// Reads what may be a token; `None` for what cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        (text.len() == TOKEN_CHARS && text.bytes().all(plain))
            .then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The token itself, for the one cookie or link that carries it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored in its place.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_nothing_else_does() {
        let token = Token::generate().expect("randomness");
        let read = Token::parse(token.reveal()).expect("a token");
        assert!(read.digest() == token.digest());
        assert!(Token::generate().expect("randomness").digest() != token.digest());
        assert_eq!(format!("{token:?}"), "Token(redacted)");
        let long = format!("{}A", token.reveal());
        for other in [
            "",
            &token.reveal()[1..],
            &long,
            &"é".repeat(22),
            &"=".repeat(43),
        ] {
            assert!(Token::parse(other).is_none(), "{other}");
        }
    }
}
