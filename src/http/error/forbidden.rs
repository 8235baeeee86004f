//! What a key is answered that may not act, or may not act any more.
//!
//! Never: 401 for a key that is good. Whoever sees one throws the key away.

use serde_json::json;

use super::{ApiError, Code, Reason};
use crate::{
    db::Fenced,
    keys::{
        grants::{GrantError, UNCLAIMED_MAX},
        verify::{Forbidden, Refusal},
    },
};

impl ApiError {
    /// A Platform's key on a request that is about a Seller and does not say which.
    pub fn seller_required() -> Self {
        Self::new(
            Code::SellerRequired,
            "A platform's key acts for one dealer at a time: name it in the header TruckRadar-Seller, by slug or id.",
        )
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Missing => Self::unauthorized(Reason::Missing),
            Refusal::Malformed => Self::unauthorized(Reason::Malformed),
            Refusal::Unknown => Self::unauthorized(Reason::Unknown),
            Refusal::Revoked(_) => Self::unauthorized(Reason::Revoked),
            Refusal::Staged(_) => Self::unauthorized(Reason::Staged),
            Refusal::Forbidden(_, why) => why.into(),
            Refusal::CannotKnow => Self::unavailable(),
        }
    }
}

impl From<Forbidden> for ApiError {
    fn from(why: Forbidden) -> Self {
        let (code, reason, message) = match why {
            Forbidden::Suspended => (
                Code::Forbidden,
                "suspended",
                "The marketplace has suspended this account. The key is good and works again when the account is resumed: do not \
                 replace it. Whoever manages the account finds the reason in Settings.",
            ),
            Forbidden::Elsewhere => (
                Code::Forbidden,
                "address",
                "This key is not accepted from your address. Whoever manages the account chooses the networks in Settings, Where the key \
                 may be used.",
            ),
            Forbidden::Plan => (
                Code::TierRestricted,
                "plan",
                "Platform access belongs to the Enterprise plan, and this platform is on another one. Ask the marketplace.",
            ),
            Forbidden::NotGranted => (
                Code::Forbidden,
                "not_granted",
                "Your key may not act for the dealer that TruckRadar-Seller names: the name may be misspelt, or the dealer has not \
                 granted access, or has withdrawn it. An owner grants it in Settings, Platform access. With a dealer's own \
                 key, and to open an account for a new dealer, leave the header out.",
            ),
            Forbidden::SellerSuspended => (
                Code::Forbidden,
                "seller_suspended",
                "The marketplace has suspended the account of the dealer that TruckRadar-Seller names. Your key and your \
                 access are good: go on with other dealers, and ask this one. The call works again when the account is resumed.",
            ),
        };
        Self {
            bars_key: why.is_of_the_key(),
            ..Self::new(code, message).with_details(json!({ "reason": reason }))
        }
    }
}

impl From<Fenced> for ApiError {
    fn from(fenced: Fenced) -> Self {
        match fenced {
            Fenced::Key => Self::revoked(),
            Fenced::Inactive => Forbidden::Suspended.into(),
            Fenced::Elsewhere => Forbidden::Elsewhere.into(),
            Fenced::Plan => Forbidden::Plan.into(),
            Fenced::Grant => Forbidden::NotGranted.into(),
            Fenced::SellerInactive => Forbidden::SellerSuspended.into(),
            // Not what a key's write can meet.
            Fenced::Member | Fenced::Kind => {
                tracing::error!(%fenced, "a key's write was fenced as nobody's");
                Self::internal()
            }
        }
    }
}

impl From<GrantError> for ApiError {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::SlugTaken(_) => Self::new(
                Code::Forbidden,
                "An account has this slug and has not granted your platform access. If it is that dealer's, ask an owner to grant it \
                 in Settings, Platform access; else choose another slug.",
            ),
            GrantError::NameIt(slug) => Self::new(
                Code::SellerRequired,
                "This dealer exists and has granted your platform access: name it in the header TruckRadar-Seller to change it.",
            )
            .with_details(json!({ "seller": slug })),
            GrantError::TooManyUnclaimed => Self::new(
                Code::Forbidden,
                format!(
                    "{UNCLAIMED_MAX} dealers that your platform brought in are unclaimed. Ask the marketplace to invite their owners; \
                     once one has opened the account, another may be brought in."
                ),
            )
            .with_details(json!({ "reason": "unclaimed", "limit": UNCLAIMED_MAX })),
            GrantError::Db(error) => error.into(),
            GrantError::NoSuchPlatform
            | GrantError::NotOpen(_)
            | GrantError::NotOwner
            | GrantError::OnlyDealers
            | GrantError::Died(_) => {
                tracing::error!(%error, "a platform's act failed");
                Self::internal()
            }
        }
    }
}
