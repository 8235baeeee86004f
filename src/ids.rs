//! Identifiers: UUIDs (version 7, so that they sort by creation), one type for each kind of thing.
//!
//! Never: an id of one kind used where another is wanted, or an id that carries a meaning beyond its identity.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id_types {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, later in order than every id made before it in this process.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id as the database stores it: 36 characters of text.
            pub fn to_text(self) -> String {
                self.0.to_string()
            }

            /// Its sixteen bytes.
            pub fn bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// The last eight bytes, which are random in every version-7 id: good enough to spread by.
            pub fn spread(self) -> u64 {
                self.0.as_u64_pair().1
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self)
            }
        }
    )+};
}

id_types! {
    /// One account: a dealer's, which is the tenant, or a Platform's.
    SellerId,
    /// A person who signs in.
    UserId,
    /// One API key; safe to log and to show, unlike the key itself.
    KeyId,
    /// One listing: a VIN as one Seller lists it.
    ListingId,
    /// One of a Seller's locations.
    LocationId,
    /// One browser that is signed in; safe to show, unlike its token.
    SessionId,
    /// One entry of the audit log.
    AuditId,
    /// One mail to one recipient.
    MailId,
    /// One time that a Seller's clients went on sending dead keys.
    IncidentId,
    /// What lets one Platform act for one Seller.
    GrantId,
    /// One sign that a key is where it should not be.
    LeakId,
    /// One running process; new at every start.
    NodeId,
}
