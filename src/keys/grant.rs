//! What lets a Platform act for a Seller, as it is kept in memory: found by the Platform and the name that a request gives the
//! Seller, without asking the database.
//!
//! Never: a grant found by the Seller's name alone.

use sha2::{Digest, Sha256};

use crate::ids::{GrantId, SellerId};

/// Characters of a Seller's name in a request at most: the longest slug. An id is shorter.
const NAME_CHARS_MAX: usize = 64;

/// How a request names the Seller that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// Not at all.
    Nobody,
    /// By its id.
    Id(SellerId),
    /// By its slug, or by what may be one.
    Slug(&'a str),
    /// By what is neither, or twice.
    Unreadable,
}

/// Reads the values of a request's `TruckRadar-Seller` headers: one slug or id.
pub fn read_named<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Named<'a> {
    let Some(value) = values.next() else {
        return Named::Nobody;
    };
    if values.next().is_some() {
        return Named::Unreadable;
    }
    match std::str::from_utf8(value).map(str::trim) {
        Ok(name) if (1..=NAME_CHARS_MAX).contains(&name.len()) => match name.parse() {
            Ok(id) => Named::Id(id),
            Err(_) => Named::Slug(name),
        },
        _ => Named::Unreadable,
    }
}

/// A Platform and one of the two names of a Seller, as one value of even spread, like a key's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GrantName([u8; 32]);

impl GrantName {
    /// By the Seller's id.
    pub fn by_id(platform: SellerId, seller: SellerId) -> Self {
        Self::of(platform, b"id", seller.bytes().as_slice())
    }

    /// By its slug.
    pub fn by_slug(platform: SellerId, slug: &str) -> Self {
        Self::of(platform, b"slug", slug.as_bytes())
    }

    fn of(platform: SellerId, kind: &[u8], name: &[u8]) -> Self {
        // The id has a fixed length and no kind begins with another, so no two pairs are spelt alike.
        let digest = Sha256::new()
            .chain_update(platform.bytes())
            .chain_update(kind)
            .chain_update(name);
        Self(digest.finalize().into())
    }
}

impl AsRef<[u8; 32]> for GrantName {
    fn as_ref(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What the node knows of one grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantRecord {
    /// The grant's id.
    pub grant: GrantId,
    /// The Seller that gave it.
    pub seller: SellerId,
    /// Whether it holds; withdrawn ones stay known.
    pub live: bool,
    /// Whether the marketplace has suspended or closed the Seller's account.
    pub seller_inactive: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seller_is_named_once_by_id_or_slug() {
        let read = |values: &[&'static str]| read_named(values.iter().map(|v| v.as_bytes()));
        assert_eq!(read(&[]), Named::Nobody);
        assert_eq!(read(&[" lone-star "]), Named::Slug("lone-star"));
        let id = SellerId::new();
        let text = id.to_text();
        assert_eq!(read_named([text.as_bytes()].into_iter()), Named::Id(id));
        let long = "a".repeat(65);
        for bad in ["", "  ", long.as_str()] {
            assert_eq!(
                read_named([bad.as_bytes()].into_iter()),
                Named::Unreadable,
                "{bad}"
            );
        }
        assert_eq!(read(&["lone-star", "lone-star"]), Named::Unreadable);
        assert_eq!(
            read_named([&b"\xff\xff"[..]].into_iter()),
            Named::Unreadable
        );
    }

    #[test]
    fn two_platforms_have_two_names_for_one_seller() {
        let (one, other, seller) = (SellerId::new(), SellerId::new(), SellerId::new());
        assert!(GrantName::by_id(one, seller) != GrantName::by_id(other, seller));
        assert!(GrantName::by_slug(one, "ab") != GrantName::by_slug(other, "ab"));
        assert!(GrantName::by_slug(one, &seller.to_text()) != GrantName::by_id(one, seller));
    }
}
