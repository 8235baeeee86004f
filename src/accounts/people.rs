//! What lives as long as the process for the people who sign in; their acts are in [`super::sign_in`],
//! [`super::sessions`], [`super::second_factor`], [`super::guesses`], [`super::recovery`] and [`super::members`].
//!
//! Never: anything that a restart may not lose.

use std::{net::IpAddr, time::Duration};

use super::{
    guesses::WRONG_CODES_COUNT_FOR,
    passwords::PasswordError,
    sessions::{AGE_MAX, IDLE_MAX},
    sign_in::{FAILURES_COUNT_FOR, Gate},
    tokens::NoRandomness,
};
use crate::{
    clock::Clock,
    db::{Db, DbError},
};

/// See the module.
pub struct People {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) gate: Gate,
}

/// The browser that a request came from.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Its address.
    pub address: IpAddr,
    /// Its User-Agent, cut and without a key that strayed into it.
    pub user_agent: String,
}

/// Why an act of a person's was refused. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum PersonError {
    /// The address or the password is wrong; which of them is not said, and not told by the time it takes either.
    #[error("the e-mail address or the password is not right")]
    WrongPassword,
    /// The code of the second factor, or the password that was asked for with it, is wrong or was used.
    #[error("the code is not right, or was used already")]
    WrongCode,
    /// The sign-in that waited for a code was used, ended or is too old.
    #[error("this sign-in works no more: begin anew")]
    SignInOver,
    /// There is no second factor where one is needed.
    #[error("there is no second factor: set one up first")]
    NoFactor,
    /// A User has none that could be taken away.
    #[error("{0} has no second factor")]
    HasNoFactor(String),
    /// There is one already, or none that was begun.
    #[error("a second factor is in force already, or none was begun in the last 15 minutes")]
    NotBegun,
    /// More attempts from one address than can be dealt with.
    #[error("too many attempts to sign in at once; wait a moment, then try again")]
    TooMany,
    /// So many codes were wrong of late that the next one is looked at only after this long.
    #[error("too many codes were not right: the next code of an app is looked at later")]
    CodesPaused(Duration),
    /// The session was ended meanwhile.
    #[error("you are signed out")]
    SignedOut,
    /// The link was used, taken back, or is too old.
    #[error("this link works no more: it was used, taken back, or is too old")]
    DeadLink,
    /// The password that was to be set is not acceptable.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The role of the person who asks does not reach that far.
    #[error("your role does not allow this")]
    NotAllowed,
    /// Every Seller keeps an owner.
    #[error("a dealer account needs an owner: make somebody else owner first")]
    LastOwner,
    /// The same of whoever is to be erased; of which, by their short names.
    #[error(
        "nobody but them owns {0}: make somebody else owner first (`truckradar user invite --role owner`, or `user role`)"
    )]
    LastOwnerOf(String),
    /// The person is one already.
    #[error("{0} is a member already")]
    IsMember(String),
    /// So many were invited to the Seller that no further invitation is mailed for now.
    #[error(
        "50 invitations to this dealer account were made within a day, and no more are mailed: wait until tomorrow, or ask the marketplace"
    )]
    InvitedTooMany,
    /// The same of one address.
    #[error(
        "that address was invited three times within an hour: {0} is mailed no more for now. Wait an hour, and see that the address is right"
    )]
    InvitedTooOften(String),
    /// The person is not a member.
    #[error("there is no such member")]
    NoSuchMember,
    /// Nobody has this address.
    #[error("no user has the address {0}")]
    NoSuchUser(String),
    /// The operating system gave no randomness.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The database could not do it.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl People {
    /// With nobody signed in that the database does not know of.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self {
            db,
            clock,
            gate: Gate::default(),
        }
    }

    /// Forgets sessions, sign-ins, links and failures that count no more.
    pub async fn forget_past(&self) -> Result<(), DbError> {
        let now = self.clock.now();
        let half = self.db.forget_half_sign_ins(now).await;
        let codes = now.before(WRONG_CODES_COUNT_FOR);
        let codes = self.db.forget_wrong_codes(codes).await;
        let past = self.db.forget_past_sign_ins(
            now.before(AGE_MAX),
            now.before(IDLE_MAX),
            now,
            now.before(FAILURES_COUNT_FOR),
        );
        // Each is tried, whatever becomes of the others.
        past.await.and(half).and(codes)
    }
}
