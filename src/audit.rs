//! The acts that the audit log knows: each with its name in the log, its words for people, and what it is about.
//!
//! Never: an act renamed or taken off the table while entries with its name may be kept; an act written that is not in it.

use std::{convert::Infallible, fmt, str::FromStr};

use self::ActKind::{Keys, Members, Platforms, Sessions};

/// What an act is about, by which people choose what they look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActKind {
    /// API keys.
    Keys,
    /// Who may act for a Seller.
    Members,
    /// Sessions, passwords and second factors.
    Sessions,
    /// Platforms, and which may act for a Seller.
    Platforms,
}

impl ActKind {
    /// Every kind, in the order in which people are offered them.
    pub const ALL: [Self; 4] = [Self::Keys, Self::Members, Self::Sessions, Self::Platforms];

    /// Its name in addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Members => "members",
            Self::Sessions => "sessions",
            Self::Platforms => "platforms",
        }
    }

    /// What the names of its acts begin with, as patterns of SQL's LIKE.
    pub fn patterns(self) -> [&'static str; 3] {
        match self {
            Self::Keys => ["key.%"; 3],
            Self::Members => ["member.%"; 3],
            Self::Sessions => ["session%", "password.%", "factor.%"],
            Self::Platforms => ["platform.%"; 3],
        }
    }
}

impl FromStr for ActKind {
    type Err = UnknownAct;

    fn from_str(name: &str) -> Result<Self, UnknownAct> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == name);
        found.ok_or(UnknownAct)
    }
}

/// The name is no act's.
#[derive(Debug, thiserror::Error)]
#[error("the audit log knows no such act")]
pub struct UnknownAct;

macro_rules! acts {
    ($($act:ident $name:literal => $kind:expr, $words:literal;)+) => {
        /// One kind of act.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Act {
            $(#[doc = $words] $act,)+
        }

        impl Act {
            /// Every act there is.
            pub const ALL: &[Self] = &[$(Self::$act),+];

            /// Its name in the log and in exports, which never changes.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$act => $name,)+
                }
            }

            /// What it is about; `None` if it is about the Seller itself, its record or its listings.
            pub fn kind(self) -> Option<ActKind> {
                match self {
                    $(Self::$act => $kind,)+
                }
            }

            /// What was done, for people.
            pub fn words(self) -> &'static str {
                match self {
                    $(Self::$act => $words,)+
                }
            }
        }

        impl FromStr for Act {
            type Err = UnknownAct;

            fn from_str(name: &str) -> Result<Self, UnknownAct> {
                match name {
                    $($name => Ok(Self::$act),)+
                    _ => Err(UnknownAct),
                }
            }
        }
    };
}

acts! {
    KeyGenerated      "key.generated"       => Some(Keys),     "API key generated";
    KeyPrepared       "key.prepared"        => Some(Keys),     "Next API key prepared";
    KeyCutOver        "key.cut-over"        => Some(Keys),     "Cut over to the next API key";
    KeyDiscarded      "key.discarded"       => Some(Keys),     "Next API key discarded";
    KeyExpired        "key.expired"         => Some(Keys),     "API key expired";
    KeyNetworks       "key.networks"        => Some(Keys),     "Networks of the API key changed";
    KeyReported       "key.reported"        => Some(Keys),     "API key reported as found";
    LeakDismissed     "key.leak-dismissed"  => Some(Keys),     "Sign of a leak dismissed";
    MemberInvited     "member.invited"      => Some(Members),  "Invitation made";
    MemberUninvited   "member.uninvited"    => Some(Members),  "Invitation taken back";
    MemberJoined      "member.joined"       => Some(Members),  "Invitation accepted";
    MemberRole        "member.role"         => Some(Members),  "Role changed";
    MemberRemoved     "member.removed"      => Some(Members),  "Member removed";
    MemberErased      "member.erased"       => Some(Members),  "Person erased";
    SessionBegan      "session.began"       => Some(Sessions), "Signed in";
    SessionEnded      "session.ended"       => Some(Sessions), "Signed out";
    SessionsEnded     "sessions.ended"      => Some(Sessions), "Signed out elsewhere";
    PasswordConfirmed "password.confirmed"  => Some(Sessions), "Password given again";
    PasswordChanged   "password.changed"    => Some(Sessions), "Password changed";
    PasswordResetLink "password.reset-link" => Some(Sessions), "Link for a new password made";
    PasswordReset     "password.reset"      => Some(Sessions), "New password set by a link";
    PlatformCreated   "platform.created"    => Some(Platforms), "Platform created";
    PlatformGranted   "platform.granted"    => Some(Platforms), "Platform access given";
    PlatformWithdrawn "platform.withdrawn"  => Some(Platforms), "Platform access withdrawn";
    PlatformInventory "platform.inventory"  => Some(Platforms), "Units changed by a platform";
    AccountPlan       "account.plan"        => None,           "Plan changed";
    AccountSuspended  "account.suspended"   => None,           "Account suspended";
    AccountResumed    "account.resumed"     => None,           "Account resumed";
    AccountClosed     "account.closed"      => None,           "Account closed";
    CodeAsked         "session.code-asked"  => Some(Sessions), "Password right, code asked for";
    CodesRefused      "session.codes-refused" => Some(Sessions), "Several codes were not right";
    ResetAsked        "password.reset-asked" => Some(Sessions), "Link for a new password asked for";
    FactorBegun       "factor.begun"        => Some(Sessions), "Second factor begun, not in force yet";
    FactorOn          "factor.on"           => Some(Sessions), "Second factor turned on";
    FactorOff         "factor.off"          => Some(Sessions), "Second factor turned off";
    FactorTakenAway   "factor.taken-away"   => Some(Sessions), "Second factor taken away";
    FactorConfirmed   "factor.confirmed"    => Some(Sessions), "Code given again";
    RecoveryCodesMade "factor.codes-made"   => Some(Sessions), "Recovery codes made anew";
    RecoveryCodeUsed  "factor.code-used"    => Some(Sessions), "Recovery code used";
    FactorRequired    "member.factor-required" => Some(Members), "Second factor demanded of whoever acts";
    FactorOptional    "member.factor-optional" => Some(Members), "Second factor left to each member";
    SellerCreated     "seller.created"      => None,           "Dealer account created";
    DealerChanged     "dealer.changed"      => None,           "Profile or locations changed";
    ListingReleased   "listing.released"    => None,           "VIN freed for other dealers";
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An act as an entry of the log names it: entries outlive versions of this program, in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedAct {
    /// One of [`Act`].
    Known(Act),
    /// The name of one that a later version wrote.
    Later(String),
}

impl RecordedAct {
    /// Its name in the log and in exports.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(act) => act.as_str(),
            Self::Later(name) => name,
        }
    }

    /// What was done, for people: its name, if there are no words for it yet.
    pub fn words(&self) -> &str {
        match self {
            Self::Known(act) => act.words(),
            Self::Later(name) => name,
        }
    }
}

impl From<Act> for RecordedAct {
    fn from(act: Act) -> Self {
        Self::Known(act)
    }
}

impl FromStr for RecordedAct {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        let known = name.parse().map(Self::Known);
        Ok(known.unwrap_or_else(|UnknownAct| Self::Later(name.to_owned())))
    }
}

impl PartialEq<Act> for RecordedAct {
    fn eq(&self, act: &Act) -> bool {
        *self == Self::Known(*act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_is_found_by_its_name_and_by_the_pattern_of_its_kind() {
        for act in Act::ALL {
            let name = act.as_str();
            assert_eq!(name.parse::<Act>().ok(), Some(*act));
            for kind in ActKind::ALL {
                let fits = kind.patterns().iter().any(|pattern| {
                    let beginning = pattern.strip_suffix('%').expect("ends openly");
                    name.starts_with(beginning)
                });
                assert_eq!(fits, act.kind() == Some(kind), "{act}");
            }
        }
        assert!("key.Generated".parse::<Act>().is_err());
    }
}
