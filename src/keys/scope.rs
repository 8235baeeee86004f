//! The right to touch one Seller's rows, as a value that cannot be made up.
//!
//! Every database method that reaches Seller-owned rows takes a [`SellerScope`]. A handler gets one only from a verified
//! key or a found membership, a command only by assuming the operator's authority.
//!
//! Never: a scope made from a Seller's id or slug that a request named.

use std::net::IpAddr;

use super::found::Finder;
use crate::ids::{KeyId, SellerId, UserId};

/// Proof that the holder may act on exactly one Seller, and on what grounds.
#[derive(Clone, Copy, Debug)]
pub struct SellerScope {
    seller: SellerId,
    authority: Authority,
    /// Where the request came from.
    address: Option<IpAddr>,
}

/// On what grounds a scope was given; a write checks it again inside its own transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// A key that was live when it was verified; whether it still is, the write's transaction asks.
    Key(KeyId),
    /// A Platform's key that was live when it was verified, for a Seller that had granted it access; whether all of that
    /// still holds, the write's transaction asks.
    Platform {
        /// The key.
        key: KeyId,
        /// Whose it is.
        platform: SellerId,
    },
    /// A person who was an owner or admin of the Seller when the request came; whether they still are, the write's
    /// transaction asks.
    Member(UserId),
    /// The marketplace's staff, on the server's own command line.
    Operator,
    /// Somebody who presented this key whole and says that it was found: about this key of the Seller, and nothing else of
    /// it.
    Finder(KeyId, Finder),
}

/// The marketplace's staff. Only the command line and the demo assume it; the test `tidy` holds them to that.
#[derive(Clone, Copy, Debug)]
pub struct OperatorAuthority(());

impl OperatorAuthority {
    /// For code that runs because somebody with access to the server's files typed a command.
    pub fn assume() -> Self {
        Self(())
    }

    /// The operator may act on any Seller.
    pub fn scope(self, seller: SellerId) -> SellerScope {
        SellerScope {
            seller,
            authority: Authority::Operator,
            address: None,
        }
    }
}

impl SellerScope {
    /// For the verifier only, which has seen the key live.
    pub(super) fn by_key(seller: SellerId, key: KeyId) -> Self {
        Self {
            seller,
            authority: Authority::Key(key),
            address: None,
        }
    }

    /// For the verifier only, which has seen the Platform's key live and the Seller's grant with it.
    pub(super) fn by_grant(seller: SellerId, platform: SellerId, key: KeyId) -> Self {
        Self {
            seller,
            authority: Authority::Platform { key, platform },
            address: None,
        }
    }

    /// For a membership that was found in the database; the test `tidy` holds `accounts::sessions` to that. A viewer's
    /// scope reads, and every write under it is fenced.
    pub fn by_membership(seller: SellerId, user: UserId) -> Self {
        Self {
            seller,
            authority: Authority::Member(user),
            address: None,
        }
    }

    /// Whether a Platform acts, for a Seller that has granted it access. What it does has an entry in the audit log where the
    /// Seller's own clients, who do it all day, have none.
    pub fn is_of_platform(self) -> bool {
        matches!(self.authority, Authority::Platform { .. })
    }

    /// For the Seller that the Platform of this scope has just brought into being, inside the transaction that does it; `None`
    /// if this is no key's own scope.
    pub fn of_founded(self, seller: SellerId) -> Option<Self> {
        match self.authority {
            Authority::Key(key) => Some(Self {
                seller,
                authority: Authority::Platform {
                    key,
                    platform: self.seller,
                },
                ..self
            }),
            Authority::Platform { .. }
            | Authority::Member(_)
            | Authority::Operator
            | Authority::Finder(..) => None,
        }
    }

    /// For a key that was presented whole and found in the database by its digest; the test `tidy` holds `keys::leaks` to
    /// that. Only `keys` can make one, and what it does under it is about that very key.
    pub(super) fn by_find(seller: SellerId, key: KeyId, finder: Finder) -> Self {
        Self {
            seller,
            authority: Authority::Finder(key, finder),
            address: None,
        }
    }

    /// The same, for a request that came from this address: what is done under it is written down with it.
    pub fn from_address(self, address: IpAddr) -> Self {
        Self {
            address: Some(address),
            ..self
        }
    }

    /// The Seller that may be acted on.
    pub fn seller(&self) -> SellerId {
        self.seller
    }

    /// On what grounds.
    pub fn authority(&self) -> Authority {
        self.authority
    }

    /// Where whoever acts is; `None` for the operator, who is on the server, and for whoever found a key, who is not kept.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Who acts, as the audit log names them.
    pub fn actor(&self) -> String {
        match self.authority {
            Authority::Key(key) | Authority::Platform { key, .. } => format!("key:{key}"),
            Authority::Member(user) => format!("user:{user}"),
            Authority::Operator => "operator".to_owned(),
            Authority::Finder(_, finder) => finder.actor().to_owned(),
        }
    }
}
