//! The words by which accounts are named and ranked, parsed once at the edge: slug, e-mail address, plan, role.
//!
//! Never: a slug or an address that has not been through here.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::SellerId;

/// A Seller's short name in addresses and commands: 2 to 64 of `a-z`, `0-9` and `-`, beginning and ending with a letter
/// or digit; nothing that reads as an id, as a request names a Seller by either.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slug(String);

/// An e-mail address, in lower case. Only its outline is checked: whether it exists, only a mail can tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Email(String);

/// Why a word was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a slug.
    #[error(
        "a slug is 2 to 64 characters of a-z, 0-9 and -, and begins and ends with a letter or digit"
    )]
    Slug,
    /// A slug that reads as an id.
    #[error("a slug must not read as an id, which 32 digits of 0-9 and a-f do")]
    SlugIsId,
    /// Not an address.
    #[error(
        "not an e-mail address: it must read name@host, at most 254 characters, without spaces"
    )]
    Email,
    /// Not a plan.
    #[error("a plan is starter, pro or enterprise")]
    Plan,
    /// Not a role.
    #[error("a role is owner, admin or viewer")]
    Role,
    /// Not a kind of account.
    #[error("an account is a seller or a platform")]
    AccountKind,
    /// Not a status.
    #[error("an account is active, suspended or closed")]
    AccountStatus,
}

impl FromStr for Slug {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let good = (2..=64).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        match good {
            true if text.parse::<SellerId>().is_ok() => Err(NameError::SlugIsId),
            true => Ok(Self(text.to_owned())),
            false => Err(NameError::Slug),
        }
    }
}

impl FromStr for Email {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        let whole = text.split_once('@').is_some_and(|(name, host)| {
            !name.is_empty() && !host.is_empty() && !host.contains('@')
        });
        let plain = text.chars().all(|c| !c.is_whitespace() && !c.is_control());
        if whole && plain && text.len() <= 254 {
            Ok(Self(text.to_lowercase()))
        } else {
            Err(NameError::Email)
        }
    }
}

macro_rules! text_newtype {
    ($($name:ident),+) => {$(
        impl $name {
            /// The word itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    )+};
}

text_newtype!(Slug, Email);

macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $error:expr, $($(#[$vdoc:meta])* $variant:ident = $text:literal),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$vdoc])* $variant),+
        }

        impl $name {
            /// The name in commands, in the API and in the database.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err($error),
                }
            }
        }
    };
}

named! {
    /// What a Seller pays for.
    Plan, NameError::Plan,
    /// The plan of a new Seller.
    Starter = "starter",
    /// The middle one.
    Pro = "pro",
    /// The one that opens platform access.
    Enterprise = "enterprise"
}

named! {
    /// What an account is for.
    AccountKind, NameError::AccountKind,
    /// A dealer's: it has inventory.
    Seller = "seller",
    /// An aggregator's: it acts for the Sellers that grant it access, and has no inventory of its own.
    Platform = "platform"
}

named! {
    /// What the marketplace lets an account do.
    AccountStatus, NameError::AccountStatus,
    /// Everything.
    Active = "active",
    /// Nothing, until the marketplace says otherwise. Its key is refused and not dead.
    Suspended = "suspended",
    /// Nothing, for good. It has no key.
    Closed = "closed"
}

named! {
    /// How far a User may act for a Seller.
    Role, NameError::Role,
    /// May do everything, and is told of every act on keys.
    Owner = "owner",
    /// May do everything but manage owners.
    Admin = "admin",
    /// May look.
    Viewer = "viewer"
}

impl Role {
    /// Whether somebody of this role may change what the Seller has: its key, its listings, what it says of itself.
    pub fn may_act(self) -> bool {
        matches!(self, Self::Owner | Self::Admin)
    }

    /// Whether somebody of this role may make, change or remove a member of the other role.
    pub fn may_manage(self, other: Role) -> bool {
        match self {
            Self::Owner => true,
            Self::Admin => other != Self::Owner,
            Self::Viewer => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_and_addresses_are_checked() {
        for good in ["ab", "lone-star-trucks", "4x4", &"a".repeat(64)] {
            assert!(good.parse::<Slug>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "-ab",
            "ab-",
            "Lone",
            "a b",
            "é1",
            "a/b",
            "a.b",
            &"a".repeat(65),
        ] {
            assert!(bad.parse::<Slug>().is_err(), "{bad}");
        }
        // A request would find the Seller of that id instead, or nobody.
        let id = SellerId::new().to_text();
        for id in [id.replace('-', ""), id] {
            assert_eq!(id.parse::<Slug>(), Err(NameError::SlugIsId), "{id}");
        }
        assert!("a".repeat(32).parse::<Slug>().is_err());
        assert!("a".repeat(31).parse::<Slug>().is_ok());
        assert_eq!(
            " Ann@Lone.Example ".parse::<Email>().map(String::from),
            Ok("ann@lone.example".into())
        );
        for bad in ["", "ann", "@x", "ann@", "a@b@c", "a b@c", "a\n@c"] {
            assert!(bad.parse::<Email>().is_err(), "{bad}");
        }
    }
}
