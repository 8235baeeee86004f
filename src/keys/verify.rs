//! Whether a request may act, decided from memory: a pure function of what it presented, one snapshot and the time.
//!
//! Never: a database call, a lock, or a 401 for something that is not the caller's fault. A dealer who sees 401 throws a
//! good key away.

use super::{
    format::{self, KeyDigest},
    scope::SellerScope,
    table::{KeyRecord, Snapshot, Standing},
};
use crate::clock::BootTime;

/// What a request brought as its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// No Authorization header.
    Missing,
    /// Anything that is not exactly one well-formed key.
    Malformed,
    /// The digest of a well-formed key.
    Key(KeyDigest),
}

/// Who is calling, proven. Only [`verify`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    record: KeyRecord,
}

impl Caller {
    /// What the node knows of the key.
    pub fn record(&self) -> KeyRecord {
        self.record
    }

    /// The right to act on the key's Seller, and on no other.
    pub fn scope(&self) -> SellerScope {
        SellerScope::by_key(self.record.seller, self.record.key)
    }
}

/// Why a request may not act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 401: no Authorization header.
    Missing,
    /// 401: not exactly one well-formed key.
    Malformed,
    /// 401: a well-formed key that this marketplace does not know.
    Unknown,
    /// 401: a key that was replaced or expired; whose it was, so that the attempt can be counted.
    Revoked(KeyRecord),
    /// 401: a key that waits for its cut-over; whose it is, so that whoever sends it too early can be named.
    Staged(KeyRecord),
    /// 503: this node cannot know at present whether the key is good.
    CannotKnow,
}

/// Reads the values of a request's Authorization headers (RFC 6750 section 2.1): exactly one, the scheme in any letter
/// case (RFC 9110 section 11.1), one or more spaces, a key, nothing else.
pub fn read_authorization<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Presented {
    let Some(value) = values.next() else {
        return Presented::Missing;
    };
    if values.next().is_some() {
        return Presented::Malformed;
    }
    const SCHEME: &[u8] = b"Bearer";
    let Some((scheme, rest)) = value.split_at_checked(SCHEME.len()) else {
        return Presented::Malformed;
    };
    if !scheme.eq_ignore_ascii_case(SCHEME) || rest.first() != Some(&b' ') {
        return Presented::Malformed;
    }
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    match format::digest_presented(&rest[spaces..]) {
        Ok(digest) => Presented::Key(digest),
        Err(_) => Presented::Malformed,
    }
}

/// Decides. The clock is read by the caller after the snapshot was loaded, and judged by that snapshot's own trust.
pub fn verify(presented: Presented, snapshot: &Snapshot, now: BootTime) -> Result<Caller, Refusal> {
    let digest = match presented {
        Presented::Missing => return Err(Refusal::Missing),
        Presented::Malformed => return Err(Refusal::Malformed),
        Presented::Key(digest) => digest,
    };
    let found = snapshot.get(&digest);
    if !snapshot.trust.holds(now) {
        return Err(Refusal::CannotKnow);
    }
    judge(found)
}

/// Decides by a record that may be believed, whoever found it.
pub fn judge(found: Option<&KeyRecord>) -> Result<Caller, Refusal> {
    match found {
        None => Err(Refusal::Unknown),
        Some(record) => match record.standing {
            Standing::Live => Ok(Caller { record: *record }),
            Standing::Staged => Err(Refusal::Staged(*record)),
            Standing::Dead => Err(Refusal::Revoked(*record)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{KeyId, SellerId},
        keys::{format::SecretKey, table::Trust},
    };

    const KEY: &str = "tr_live_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p61m7ev9";

    fn read(values: &[&str]) -> Presented {
        read_authorization(values.iter().map(|value| value.as_bytes()))
    }

    fn key() -> Presented {
        Presented::Key(SecretKey::parse(KEY.as_bytes()).expect("a key").digest())
    }

    #[test]
    fn one_bearer_key_in_any_case_after_any_spaces() {
        for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
            assert_eq!(read(&[&format!("{scheme} {KEY}")]), key());
            assert_eq!(read(&[&format!("{scheme}    {KEY}")]), key());
        }
    }

    #[test]
    fn everything_else_is_malformed() {
        assert_eq!(read(&[]), Presented::Missing);
        let good = format!("Bearer {KEY}");
        for bad in [
            String::new(),
            "Bearer".into(),
            "Bearer ".into(),
            format!("Bearer{KEY}"),
            format!("Bearer\t{KEY}"),
            format!("Bearer \t{KEY}"),
            format!(" Bearer {KEY}"),
            format!("{good} "),
            format!("{good}\t"),
            format!("{good},{good}"),
            format!("{good} {KEY}"),
            format!("Bearer \"{KEY}\""),
            format!("Basic {KEY}"),
            format!("Token {KEY}"),
            KEY.into(),
            format!("Bearer {}", KEY.to_uppercase()),
            format!("Bearer {}", KEY.replace("live", "test")),
            format!("Bearer {}", &KEY[..45]),
            format!("Bearer {KEY}0"),
            format!("Bearer {}8", &KEY[..45]),
            format!("Bearer {}é", &KEY[..44]),
            format!("Bearer {}", "a".repeat(65_536)),
        ] {
            assert_eq!(read(&[&bad]), Presented::Malformed, "{bad:.80}");
        }
        assert_eq!(read(&[&good, &good]), Presented::Malformed);
        assert_eq!(read(&["", &good]), Presented::Malformed);
    }

    #[test]
    fn a_lapsed_table_decides_nothing_about_a_key() {
        let Presented::Key(digest) = key() else {
            unreachable!("the constant is a key")
        };
        let record = KeyRecord {
            key: KeyId::new(),
            seller: SellerId::new(),
            standing: Standing::Live,
        };
        let other = SecretKey::generate().expect("randomness").digest();
        let end = BootTime(1_000);
        let snapshot = Snapshot::build([(digest, record)], Trust::Until(end), 1);
        let judge = |presented, at| verify(presented, &snapshot, BootTime(at)).map(|c| c.record());
        assert_eq!(judge(key(), 999), Ok(record));
        assert_eq!(judge(Presented::Key(other), 999), Err(Refusal::Unknown));
        assert_eq!(judge(key(), 1_000), Err(Refusal::CannotKnow));
        // A key made since the trust ran out would be missing too: that must not read as "unknown".
        assert_eq!(
            judge(Presented::Key(other), 1_000),
            Err(Refusal::CannotKnow)
        );
        // What needs no table is still answered.
        assert_eq!(judge(Presented::Missing, 1_000), Err(Refusal::Missing));
        assert_eq!(judge(Presented::Malformed, 1_000), Err(Refusal::Malformed));
    }
}
