//! What a second factor is made of: the secret that a person's authenticator app has as well, the codes that follow from it
//! and the time (RFC 6238), and the recovery codes for whoever has lost the app.
//!
//! A code has six digits and belongs to one step of 30 seconds; one step before and after the present one are let pass, for
//! clocks that differ and people who type slowly (RFC 6238, section 5.2). That a step's code is accepted once only, the
//! database sees to.
//!
//! Never: a secret or a code printed by accident; a code compared in a time that depends on how much of it is right.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::{TryRng, rngs::SysRng};
use sha2::{Digest, Sha256};
use totp_rs::{Builder, Secret, Totp};
use zeroize::Zeroizing;

use super::{
    Email,
    tokens::{NoRandomness, TokenDigest},
};
use crate::clock::Time;

/// Bytes of a secret: as many as its hash has (RFC 4226, section 4).
pub const SECRET_BYTES: usize = 20;
/// Recovery codes of a person.
pub const RECOVERY_CODES: usize = 10;

/// Digits of a code.
const CODE_DIGITS: usize = 6;
/// Random bytes of a recovery code: 120 bits, so that a fast hash of it may be stored (OWASP ASVS 5.0, 6.5.2: 112).
const RECOVERY_BYTES: usize = 15;
/// Its characters, of five bits each.
const RECOVERY_CHARS: usize = 24;
/// Characters between two hyphens of a recovery code as people read it.
const GROUP: usize = 4;
/// What a recovery code is written in: digits and letters without `i`, `l`, `o` and `u`, which are taken for others.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of what somebody types that are looked at.
const TYPED_MAX: usize = 100;
/// What an authenticator app calls the place that a code is for.
const ISSUER: &str = "TruckRadar";

/// The secret of a second factor, wiped when dropped.
#[derive(Clone)]
pub struct FactorSecret(Zeroizing<[u8; SECRET_BYTES]>);

/// A secret on its way to the page that shows it.
pub struct RevealedSecret {
    /// For an app that it is typed into: base 32, without padding.
    pub typed: Zeroizing<String>,
    /// For an app that reads it from a drawing: an `otpauth` address, which says whose account it is, too.
    pub address: Zeroizing<String>,
}

impl FactorSecret {
    /// A new one.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        SysRng
            .try_fill_bytes(bytes.as_mut())
            .map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// The one with these bytes, as they are stored; `None` if they cannot be one.
    pub fn from_stored(bytes: &[u8]) -> Option<Self> {
        let bytes = <[u8; SECRET_BYTES]>::try_from(bytes).ok()?;
        Some(Self(Zeroizing::new(bytes)))
    }

    /// The bytes, for the database.
    pub fn stored(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// The secret for the app of the person with this address. For the one page that shows it.
    pub fn reveal(&self, email: &Email) -> RevealedSecret {
        let typed = Zeroizing::new(Secret::new_stack(*self.0).to_base32());
        let account = utf8_percent_encode(email.as_str(), NON_ALPHANUMERIC);
        let address = format!(
            "otpauth://totp/{ISSUER}:{account}?secret={}&issuer={ISSUER}&algorithm=SHA1&digits={CODE_DIGITS}&period=30",
            typed.as_str()
        );
        RevealedSecret {
            typed,
            address: Zeroizing::new(address),
        }
    }

    /// The step whose code this is, if it is that of a step which may be given at this time.
    pub fn step_of(&self, code: &Code, now: Time) -> Option<i64> {
        let seconds = u64::try_from(now.0 / 1_000_000).ok()?;
        let step = self.totp().check(&code.0, seconds)?;
        i64::try_from(step).ok()
    }

    /// SHA-1, six digits, 30 seconds, one step more on either side: what every app can do. Nothing is checked in building it:
    /// all of it stands fast.
    fn totp(&self) -> Totp {
        Builder::new()
            .with_secret(Secret::new_stack(*self.0))
            .build_noncompliant()
    }
}

impl fmt::Debug for FactorSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FactorSecret(redacted)")
    }
}

/// Six digits that somebody typed; wiped when dropped.
#[derive(Clone)]
pub struct Code(Zeroizing<String>);

/// A recovery code, wiped when dropped.
#[derive(Clone)]
pub struct RecoveryCode(Zeroizing<String>);

impl RecoveryCode {
    /// A new one.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; RECOVERY_BYTES]);
        SysRng
            .try_fill_bytes(bytes.as_mut())
            .map_err(|_| NoRandomness)?;
        let mut text = Zeroizing::new(String::with_capacity(RECOVERY_CHARS));
        let (mut bits, mut held) = (0u32, 0);
        for byte in bytes.iter() {
            bits = bits << 8 | u32::from(*byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                text.push(char::from(ALPHABET[(bits >> held & 31) as usize]));
            }
        }
        Ok(Self(text))
    }

    /// The code as people read it, in groups. For the one page that shows it.
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut shown = Zeroizing::new(String::with_capacity(
            RECOVERY_CHARS + RECOVERY_CHARS / GROUP,
        ));
        for (at, c) in self.0.chars().enumerate() {
            if at > 0 && at % GROUP == 0 {
                shown.push('-');
            }
            shown.push(c);
        }
        shown
    }

    /// What is stored in its place.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest(Sha256::digest(self.0.as_bytes()).into())
    }
}

/// What somebody typed where a code is asked for.
#[derive(Clone)]
pub enum Given {
    /// Six digits.
    Code(Code),
    /// What has the form of a recovery code.
    Recovery(RecoveryCode),
    /// Neither, and so as wrong as any other.
    Nothing,
}

impl Given {
    /// Reads what was typed; spaces and hyphens are left out, letters may be capitals, and `o`, `i` and `l` are taken for the
    /// digits that they look like.
    pub fn read(typed: &str) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(TYPED_MAX));
        let mut chars = typed.chars();
        for c in chars.by_ref().take(TYPED_MAX) {
            match c.to_ascii_lowercase() {
                c if c.is_whitespace() || c == '-' => {}
                'o' => text.push('0'),
                'i' | 'l' => text.push('1'),
                c => text.push(c),
            }
        }
        let whole = chars.next().is_none();
        let is_code = text.len() == CODE_DIGITS && text.bytes().all(|c| c.is_ascii_digit());
        let is_recovery =
            text.len() == RECOVERY_CHARS && text.bytes().all(|c| ALPHABET.contains(&c));
        match whole {
            true if is_code => Self::Code(Code(text)),
            true if is_recovery => Self::Recovery(RecoveryCode(text)),
            _ => Self::Nothing,
        }
    }

    /// Whether trying often enough would find one.
    pub fn is_guessable(&self) -> bool {
        !matches!(self, Self::Recovery(_))
    }
}

macro_rules! redacted {
    ($($name:ident),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    )+};
}

redacted!(Code, RecoveryCode, Given);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret() -> FactorSecret {
        FactorSecret::from_stored(b"12345678901234567890").expect("20 bytes")
    }

    fn step_of(code: &str, seconds: i64) -> Option<i64> {
        match Given::read(code) {
            Given::Code(code) => secret().step_of(&code, Time(seconds * 1_000_000)),
            other => panic!("{code} is {other:?}"),
        }
    }

    /// RFC 6238, appendix B, of whose eight digits these are the last six.
    #[test]
    fn codes_are_those_of_the_standard() {
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(step_of(code, seconds), Some(seconds / 30), "{code}");
        }
    }

    #[test]
    fn a_code_is_good_for_one_step_before_and_after_its_own() {
        let step = 1_234_567_890 / 30;
        for (seconds, found) in [
            (step * 30 - 31, None),
            (step * 30 - 30, Some(step)),
            (step * 30, Some(step)),
            (step * 30 + 59, Some(step)),
            (step * 30 + 60, None),
        ] {
            assert_eq!(step_of("005924", seconds), found, "{seconds}");
        }
        assert_eq!(step_of("005925", 1_234_567_890), None);
        assert_eq!(step_of("005924", -1), None);
    }

    #[test]
    fn a_secret_is_told_to_the_app_and_to_nobody_else() {
        let secret = secret();
        let email = "a:b&c@lone.example".parse().expect("an address");
        let shown = secret.reveal(&email);
        assert_eq!(shown.typed.as_str(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(
            shown.address.as_str(),
            "otpauth://totp/TruckRadar:a%3Ab%26c%40lone%2Eexample?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=TruckRadar&algorithm=SHA1&digits=6&period=30"
        );
        assert_eq!(format!("{secret:?}"), "FactorSecret(redacted)");
        assert_eq!(format!("{:?}", Given::read("123456")), "Given(redacted)");
        assert!(FactorSecret::from_stored(&[0; 19]).is_none());
        let (one, two) = (FactorSecret::generate(), FactorSecret::generate());
        assert_ne!(one.expect("random").stored(), two.expect("random").stored());
    }

    #[test]
    fn a_recovery_code_reads_back_as_people_type_it() {
        let code = RecoveryCode::generate().expect("random");
        let shown = code.reveal();
        assert_eq!(shown.len(), 29, "six groups of four");
        for typed in [
            shown.to_string(),
            shown.replace('-', ""),
            shown.replace('-', " ").to_uppercase(),
            format!("  {}\t", shown.as_str()),
            shown.replace('0', "O").replace('1', "l"),
        ] {
            match Given::read(&typed) {
                Given::Recovery(read) => assert!(read.digest() == code.digest(), "{typed}"),
                other => panic!("{typed} is {other:?}"),
            }
        }
        let other = RecoveryCode::generate().expect("random");
        assert!(other.digest() != code.digest());
    }

    #[test]
    fn what_is_no_code_is_nothing() {
        for typed in [
            "",
            "12345",
            "1234567",
            "12345a",
            "１２３４５６",
            "+12345",
            "abcd-efgh-jkmn-pqrs-tvw",
            "abcd-efgh-jkmn-pqrs-tvwx-u",
            "abcd-efgh-jkmn-pqrs-tvwu-yzab",
            &"-".repeat(1_000),
        ] {
            assert!(matches!(Given::read(typed), Given::Nothing), "{typed}");
        }
        assert!(matches!(Given::read("123 456"), Given::Code(_)));
        // What stands behind the end of what is looked at is not overlooked.
        let long = format!("{}123456", "-".repeat(TYPED_MAX - 6));
        assert!(matches!(Given::read(&long), Given::Code(_)));
        assert!(matches!(Given::read(&format!("{long}x")), Given::Nothing));
    }

    proptest! {
        #[test]
        fn whatever_is_typed_is_read_without_harm(typed in ".{0,200}") {
            match Given::read(&typed) {
                Given::Code(code) => {
                    prop_assert!(code.0.len() == CODE_DIGITS);
                    prop_assert!(code.0.bytes().all(|c| c.is_ascii_digit()));
                }
                Given::Recovery(code) => {
                    let again = Given::read(&code.reveal());
                    prop_assert!(matches!(again, Given::Recovery(same) if same.digest() == code.digest()));
                }
                Given::Nothing => {}
            }
        }

        #[test]
        fn a_recovery_code_is_read_whatever_is_between_its_characters(gaps in proptest::collection::vec(" {0,2}-?", 24)) {
            let code = RecoveryCode::generate().expect("random");
            let typed: String = code.0.chars().zip(&gaps).map(|(c, gap)| format!("{gap}{c}")).collect();
            prop_assert!(matches!(Given::read(&typed), Given::Recovery(read) if read.digest() == code.digest()));
        }
    }
}
