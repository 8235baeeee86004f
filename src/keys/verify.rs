//! Whether a request may act, decided from memory: a pure function of what it presented, one snapshot and the time.
//!
//! Never: a database call, a lock, or a 401 for something that is not the caller's fault. A dealer who sees 401 throws a
//! good key away.

use std::net::IpAddr;

use super::{
    format::{self, KeyDigest},
    grant::{GrantName, GrantRecord, Named},
    scope::SellerScope,
    table::{Holder, KeyRecord, Snapshot, Standing},
};
use crate::{clock::BootTime, ids::SellerId};

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

/// Everything about a request that decides whether it may act.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its credentials.
    pub presented: Presented,
    /// The Seller that it says it is about, which a Platform's key needs.
    pub named: Named<'a>,
    /// Where it came from.
    pub from: IpAddr,
}

impl Request<'_> {
    /// One that names no Seller, from this machine.
    pub fn of(presented: Presented) -> Self {
        Self {
            presented,
            named: Named::Nobody,
            from: IpAddr::from([127, 0, 0, 1]),
        }
    }
}

/// Who is calling, proven. Only [`verify`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    record: KeyRecord,
    /// The Seller that may be acted on: the key's own, or one that granted the key's Platform access. `None` for a Platform
    /// that named nobody.
    seller: Option<SellerId>,
}

impl Caller {
    /// What the node knows of the key.
    pub fn record(&self) -> KeyRecord {
        self.record
    }

    /// The right to act on that Seller, and on no other; `None` for a Platform that named nobody.
    pub fn scope(&self) -> Option<SellerScope> {
        let seller = self.seller?;
        Some(match self.record.holder {
            Holder::Seller => SellerScope::by_key(seller, self.record.key),
            Holder::Platform { .. } => {
                SellerScope::by_grant(seller, self.record.seller, self.record.key)
            }
        })
    }

    /// The right to read what is the key's own account's, a Seller's or a Platform's, and to bring Sellers into being.
    pub fn own_scope(&self) -> SellerScope {
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
    /// 403: a good key that may not do this.
    Forbidden(KeyRecord, Forbidden),
    /// 503: this node cannot know at present whether the key is good.
    CannotKnow,
}

/// Why a good key may not act. Never a 401: whoever sees one throws the key away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// The marketplace has suspended the key's account.
    Suspended,
    /// The account's people have said from where the key may be used, and this is elsewhere.
    Elsewhere,
    /// A Platform whose plan has no platform access.
    Plan,
    /// A Platform without the grant of the Seller that it names, which may not even exist.
    NotGranted,
    /// A Platform with the grant of a Seller whose account the marketplace has suspended.
    SellerSuspended,
}

impl Forbidden {
    /// Whether it is the key itself that is not let in, whatever was asked for and of whom.
    pub fn is_of_the_key(self) -> bool {
        match self {
            Self::Suspended | Self::Elsewhere | Self::Plan => true,
            Self::NotGranted | Self::SellerSuspended => false,
        }
    }
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
pub fn verify(
    request: &Request<'_>,
    snapshot: &Snapshot,
    now: BootTime,
) -> Result<Caller, Refusal> {
    let digest = match request.presented {
        Presented::Key(digest) => digest,
        Presented::Missing | Presented::Malformed => return unknowable(request),
    };
    let found = snapshot.get(&digest);
    if !snapshot.trust.holds(now) {
        return unknowable(request);
    }
    judge(found, request, snapshot)
}

/// What is said of a request by who may believe no table: what needs none is still answered.
pub fn unknowable(request: &Request<'_>) -> Result<Caller, Refusal> {
    Err(match request.presented {
        Presented::Missing => Refusal::Missing,
        Presented::Malformed => Refusal::Malformed,
        Presented::Key(_) => Refusal::CannotKnow,
    })
}

/// What else a decision about a key may need to know; a snapshot knows it, and so does the database.
pub trait Known {
    /// The grant by one of its names.
    fn grant(&self, name: &GrantName) -> Option<GrantRecord>;
    /// Whether an account's networks contain an address. An account without networks has none to be outside of.
    fn lets_in(&self, account: SellerId, from: IpAddr) -> bool;
}

impl Known for Snapshot {
    fn grant(&self, name: &GrantName) -> Option<GrantRecord> {
        Snapshot::grant(self, name).copied()
    }

    fn lets_in(&self, account: SellerId, from: IpAddr) -> bool {
        self.networks(account)
            .is_some_and(|networks| networks.contain(from))
    }
}

/// Decides by a record that may be believed, whoever found it.
pub fn judge(
    found: Option<&KeyRecord>,
    request: &Request<'_>,
    known: &impl Known,
) -> Result<Caller, Refusal> {
    let record = *found.ok_or(Refusal::Unknown)?;
    match record.standing {
        Standing::Live => {}
        Standing::Staged => return Err(Refusal::Staged(record)),
        Standing::Dead => return Err(Refusal::Revoked(record)),
    }
    let forbidden = |why| Err(Refusal::Forbidden(record, why));
    if record.inactive {
        return forbidden(Forbidden::Suspended);
    }
    if record.fenced_in && !known.lets_in(record.seller, request.from) {
        return forbidden(Forbidden::Elsewhere);
    }
    let platform = match record.holder {
        Holder::Seller => {
            let seller = Some(record.seller);
            return Ok(Caller { record, seller });
        }
        Holder::Platform { enterprise: false } => return forbidden(Forbidden::Plan),
        Holder::Platform { enterprise: true } => record.seller,
    };
    let Some(name) = grant_name(platform, request.named) else {
        return match request.named {
            Named::Nobody => Ok(Caller {
                record,
                seller: None,
            }),
            _ => forbidden(Forbidden::NotGranted),
        };
    };
    match known.grant(&name) {
        Some(grant) if grant.live && grant.seller_inactive => forbidden(Forbidden::SellerSuspended),
        Some(grant) if grant.live => Ok(Caller {
            record,
            seller: Some(grant.seller),
        }),
        _ => forbidden(Forbidden::NotGranted),
    }
}

/// The name by which the grant of the Seller that a request names is found.
pub fn grant_name(platform: SellerId, named: Named<'_>) -> Option<GrantName> {
    match named {
        Named::Id(seller) => Some(GrantName::by_id(platform, seller)),
        Named::Slug(slug) => Some(GrantName::by_slug(platform, slug)),
        Named::Nobody | Named::Unreadable => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{GrantId, KeyId},
        keys::{
            format::SecretKey,
            table::{TableChange, Trust},
        },
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
        let record = KeyRecord::of_seller(KeyId::new(), SellerId::new(), Standing::Live);
        let other = SecretKey::generate().expect("randomness").digest();
        let end = BootTime(1_000);
        let snapshot = Snapshot::build([(digest, record)], Trust::Until(end), 1);
        let judge = |presented, at| {
            let request = Request::of(presented);
            verify(&request, &snapshot, BootTime(at)).map(|caller| caller.record())
        };
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

    /// Every combination of what a key's account is, what a request names and what was granted.
    #[test]
    fn a_good_key_acts_for_the_one_seller_that_it_may_act_for() {
        let Presented::Key(digest) = key() else {
            unreachable!("the constant is a key")
        };
        let (platform, seller, gone, asleep) = (
            SellerId::new(),
            SellerId::new(),
            SellerId::new(),
            SellerId::new(),
        );
        let names = |seller, slug: &str, live, seller_inactive| {
            let record = GrantRecord {
                grant: GrantId::new(),
                seller,
                live,
                seller_inactive,
            };
            [
                (GrantName::by_id(platform, seller), record),
                (GrantName::by_slug(platform, slug), record),
            ]
        };
        let judge = |change: fn(&mut KeyRecord), named: Named<'_>, from: [u8; 4]| {
            let mut record = KeyRecord {
                holder: Holder::Platform { enterprise: true },
                ..KeyRecord::of_seller(KeyId::new(), platform, Standing::Live)
            };
            change(&mut record);
            let all = TableChange {
                put: vec![(digest, record)],
                grants: [
                    names(seller, "granted", true, false),
                    names(gone, "withdrawn", false, false),
                    names(asleep, "asleep", true, true),
                ]
                .concat(),
                networks: vec![(platform, "192.0.2.0/24".parse().expect("a network"))],
                ..TableChange::default()
            };
            let snapshot = Snapshot::of_all(all, Trust::WhileOwner, 1);
            let request = Request {
                presented: key(),
                named,
                from: from.into(),
            };
            match verify(&request, &snapshot, BootTime(0)) {
                Ok(caller) => Ok(caller.scope().map(|scope| scope.seller())),
                Err(Refusal::Forbidden(_, why)) => Err(why),
                Err(other) => panic!("{other:?}"),
            }
        };
        const HERE: [u8; 4] = [192, 0, 2, 9];
        const ELSEWHERE: [u8; 4] = [198, 51, 100, 9];
        let plain = |_: &mut KeyRecord| {};
        for named in [Named::Id(seller), Named::Slug("granted")] {
            assert_eq!(judge(plain, named, ELSEWHERE), Ok(Some(seller)));
        }
        assert_eq!(judge(plain, Named::Nobody, HERE), Ok(None));
        for named in [
            Named::Id(gone),
            Named::Slug("withdrawn"),
            Named::Id(SellerId::new()),
            Named::Id(platform),
            Named::Slug("nobody"),
            Named::Unreadable,
        ] {
            assert_eq!(judge(plain, named, HERE), Err(Forbidden::NotGranted));
        }
        assert_eq!(
            judge(plain, Named::Slug("asleep"), HERE),
            Err(Forbidden::SellerSuspended)
        );
        let granted = Named::Slug("granted");
        assert_eq!(
            judge(|key| key.inactive = true, granted, HERE),
            Err(Forbidden::Suspended)
        );
        let poorer = |key: &mut KeyRecord| key.holder = Holder::Platform { enterprise: false };
        for named in [granted, Named::Nobody, Named::Slug("nobody")] {
            assert_eq!(judge(poorer, named, HERE), Err(Forbidden::Plan));
        }
        let fenced_in = |key: &mut KeyRecord| key.fenced_in = true;
        assert_eq!(judge(fenced_in, granted, HERE), Ok(Some(seller)));
        assert_eq!(
            judge(fenced_in, granted, ELSEWHERE),
            Err(Forbidden::Elsewhere)
        );
        // A Seller's own key acts for its Seller, whatever is granted to whom.
        let own = |key: &mut KeyRecord| key.holder = Holder::Seller;
        assert_eq!(judge(own, granted, HERE), Ok(Some(platform)));
    }
}
