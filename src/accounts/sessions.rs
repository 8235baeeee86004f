//! Sessions: a browser that is signed in, and for which Sellers its User may act.
//!
//! A session ends 12 hours after its last request and 30 days after it began, whatever happens in between. Its token is
//! in the browser's cookie, its digest in the database, and a new token is given whenever the password is given
//! (OWASP ASVS 5.0, 7.2.4). Acts on keys, members and passwords want the password, or a code of the second factor, to have been
//! given in the last quarter of an hour (7.5.3).
//!
//! Never: a Seller remembered as "the current one" of a session: every page and every form names its own.

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde_json::json;

use super::{
    AccountKind, AccountStatus, Role,
    passwords::Password,
    people::{People, PersonError, Visitor},
    second_factor::CodeKind,
    sign_in::Lane,
    tokens::Token,
};
use crate::{
    audit::Act,
    clock::Time,
    db::{AuditEntry, DbError, LinkKind, MembershipRow, SessionRow, UserRow, WriteTx},
    ids::{SellerId, SessionId, UserId},
    keys::scope::SellerScope,
    mail::people_words::{AccountNews, about_account},
};

/// Without a request for this long, a session ends.
pub const IDLE_MAX: Duration = Duration::from_secs(12 * 3_600);
/// A session ends this long after it began.
pub const AGE_MAX: Duration = Duration::from_secs(30 * 86_400);
/// For how long a password given counts as given just now.
pub const RECENT: Duration = Duration::from_secs(15 * 60);
/// Sessions of one User at most; the one used longest ago makes room.
const SESSIONS_MAX: i64 = 200;
/// A session's last request is noted this often at most.
const SEEN_GRAIN: Duration = Duration::from_secs(60);

/// Whether a request counts as use of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A person asked.
    Counts,
    /// A page asked by itself.
    DoesNotCount,
}

/// How far somebody came whose password was right.
#[derive(Debug)]
pub enum Admitted {
    /// In: the token for the session's cookie.
    In(Token),
    /// To where a code is asked for: the token by which that sign-in is known.
    HalfWay(Token),
}

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub struct Session {
    row: SessionRow,
    memberships: Vec<MembershipRow>,
    /// Where the request came from that it was found for.
    address: IpAddr,
}

/// A User as a member of one Seller: the proof by which a page comes to name that Seller.
#[derive(Clone, Debug)]
pub struct Member {
    membership: MembershipRow,
    user: UserId,
    address: IpAddr,
}

impl Session {
    /// Its id.
    pub fn id(&self) -> SessionId {
        self.row.id
    }

    /// Whose it is.
    pub fn user(&self) -> UserId {
        self.row.user_id
    }

    /// That User's address.
    pub fn email(&self) -> &str {
        &self.row.email
    }

    /// What the User is a member of, by name.
    pub fn memberships(&self) -> &[MembershipRow] {
        &self.memberships
    }

    /// Whether the password was given recently enough for acts that matter.
    pub fn is_recent(&self, now: Time) -> bool {
        self.row.confirmed_us > now.before(RECENT)
    }

    /// The User as a member of the Seller with this slug, or of their only one if none is named; `None` if they are not, and of
    /// several none is the one that was meant.
    pub fn member_by_slug(&self, slug: Option<&str>) -> Option<Member> {
        let found = match (slug, &*self.memberships) {
            (Some(slug), all) => all.iter().find(|m| m.slug == slug),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        found.map(|membership| self.member(membership))
    }

    /// The same by the Seller's id, which is what forms carry.
    pub fn member_by_id(&self, seller: SellerId) -> Option<Member> {
        let found = self.memberships.iter().find(|m| m.seller_id == seller);
        found.map(|membership| self.member(membership))
    }

    fn member(&self, membership: &MembershipRow) -> Member {
        Member {
            membership: membership.clone(),
            user: self.row.user_id,
            address: self.address,
        }
    }

    /// An act of the session's User on what is their own.
    pub(super) fn entry(&self, at: Time, act: Act) -> AuditEntry {
        AuditEntry::of_person(self.user(), self.address, at, act)
    }
}

impl Member {
    /// The right to look at the Seller's rows, and to change them if [`Member::may_act`]; the database fences every write of
    /// somebody who may not.
    pub fn scope(&self) -> SellerScope {
        SellerScope::by_membership(self.membership.seller_id, self.user).from_address(self.address)
    }

    /// How far the User may act.
    pub fn role(&self) -> Role {
        self.membership.role
    }

    /// Whether the account is a Platform's, which has no inventory and nothing that buyers see.
    pub fn is_of_platform(&self) -> bool {
        self.membership.kind == AccountKind::Platform
    }

    /// Whether the User may change what the Seller has: by their role, by a second factor where an owner demands one, and while
    /// the marketplace lets the account do anything.
    pub fn may_act(&self) -> bool {
        self.role().may_act() && !self.lacks_factor() && self.is_active()
    }

    /// Whether the marketplace has neither suspended nor closed the account.
    pub fn is_active(&self) -> bool {
        self.membership.status == AccountStatus::Active
    }

    /// Whether an owner demands a second factor that the User does not have.
    pub fn lacks_factor(&self) -> bool {
        self.membership.factor_required != 0 && self.membership.has_factor == 0
    }

    /// Whether an owner demands a second factor of whoever acts.
    pub fn factor_required(&self) -> bool {
        self.membership.factor_required != 0
    }

    /// The Seller's id.
    pub fn seller(&self) -> SellerId {
        self.membership.seller_id
    }

    /// The Seller's short name.
    pub fn slug(&self) -> &str {
        &self.membership.slug
    }

    /// The Seller's name.
    pub fn name(&self) -> &str {
        &self.membership.name
    }
}

impl People {
    /// The session that a cookie's token belongs to, if it is still good.
    pub async fn session(
        &self,
        token: &Token,
        visitor: &Visitor,
        how: Use,
    ) -> Result<Option<Session>, DbError> {
        let Some(row) = self.db.session(token.digest()).await? else {
            return Ok(None);
        };
        let now = self.clock.now();
        if row.created_us <= now.before(AGE_MAX) || row.seen_us <= now.before(IDLE_MAX) {
            return Ok(None);
        }
        if how == Use::Counts
            && row.seen_us <= now.before(SEEN_GRAIN)
            && let Err(error) = self.touch(row.id, now, visitor).await
        {
            // Whoever reads is not kept from it by a database that cannot be written.
            tracing::warn!(%error, "a session's use cannot be noted");
        }
        let memberships = self.db.memberships_of(row.user_id).await?;
        Ok(Some(Session {
            row,
            memberships,
            address: visitor.address,
        }))
    }

    async fn touch(&self, session: SessionId, now: Time, visitor: &Visitor) -> Result<(), DbError> {
        let mut tx = self.db.begin_in_turn().await?;
        let address = visitor.address.to_string();
        tx.touch_session(session, now, &address, &visitor.user_agent)
            .await?;
        tx.commit().await
    }

    /// Signs in, or half in where there is a second factor. `before` is the session that the browser had until now, which ends
    /// when another one begins: nobody can be made to go on in a session that somebody else began.
    pub async fn sign_in(
        self: &Arc<Self>,
        email: &str,
        password: &str,
        visitor: &Visitor,
        before: Option<&Session>,
    ) -> Result<Admitted, PersonError> {
        let lane = Lane::of_client(visitor);
        let user = self.recognise(email, password, lane, visitor).await?;
        self.admit(&user, visitor, before).await
    }

    /// Begins a session for a User whose password was found right, if it is theirs still: it may have been changed while it
    /// was being compared, and the sessions of the old one ended. Where there is a second factor, its code is awaited first.
    pub(super) async fn admit(
        &self,
        user: &UserRow,
        visitor: &Visitor,
        before: Option<&Session>,
    ) -> Result<Admitted, PersonError> {
        let token = Token::generate()?;
        let mut tx = self.db.begin_in_turn().await?;
        must_be_theirs(&mut tx, user).await?;
        let admitted = if tx.has_second_factor(user.id).await? {
            self.begin_half_sign_in(&mut tx, user.id, visitor, &token)
                .await?;
            Admitted::HalfWay(token)
        } else {
            let whom = (user.id, user.email.as_str());
            self.begin_session(&mut tx, whom, visitor, before, &token, None)
                .await?;
            Admitted::In(token)
        };
        tx.commit().await?;
        Ok(admitted)
    }

    /// Begins a session for a User, by id and address, in a transaction that has made sure of them. `code` is the kind of code
    /// that was given after the password.
    pub(super) async fn begin_session(
        &self,
        tx: &mut WriteTx,
        (user, email): (UserId, &str),
        visitor: &Visitor,
        before: Option<&Session>,
        token: &Token,
        code: Option<CodeKind>,
    ) -> Result<(), DbError> {
        let now = self.clock.now();
        let row = SessionRow {
            id: SessionId::new(),
            user_id: user,
            email: email.to_owned(),
            created_us: now,
            seen_us: now,
            confirmed_us: now,
            address: visitor.address.to_string(),
            user_agent: visitor.user_agent.clone(),
        };
        if let Some(before) = before
            && tx.end_session(before.user(), before.id()).await?
        {
            // As an act of whoever's it was, whose Sellers read of it: nothing in it tells them of another User who signed
            // in, or from where, as that may be somebody of a competitor's.
            let is_theirs = before.user() == user;
            let entry = AuditEntry {
                address: is_theirs.then_some(visitor.address),
                ..before.entry(now, Act::SessionEnded)
            };
            let detail = json!({ "session": before.id(), "by_sign_in": true });
            tx.append_audit(&entry.with(detail)).await?;
        }
        tx.insert_session(&row, token.digest()).await?;
        let ended = tx.keep_sessions(user, SESSIONS_MAX).await?;
        let entry = AuditEntry::of_person(user, visitor.address, now, Act::SessionBegan);
        let detail = json!({ "session": row.id, "ended": ended, "code": code });
        tx.append_audit(&entry.with(detail)).await
    }

    /// Notes that the session's User gave the password again; answers with the session's new token.
    pub async fn confirm(
        self: &Arc<Self>,
        session: &Session,
        password: &str,
        visitor: &Visitor,
    ) -> Result<Token, PersonError> {
        let user = self.recognise_again(session, password, visitor).await?;
        let token = Token::generate()?;
        let mut tx = self.db.begin_in_turn().await?;
        must_be_theirs(&mut tx, &user).await?;
        let now = self.clock.now();
        if !tx
            .confirm_session(session.id(), token.digest(), now)
            .await?
        {
            return Err(PersonError::SignedOut);
        }
        let entry = session.entry(now, Act::PasswordConfirmed);
        tx.append_audit(&entry.with(json!({ "session": session.id() })))
            .await?;
        tx.commit().await?;
        Ok(token)
    }

    /// The session's User, if this is their password. They take turns of their own: whoever guesses from the same address
    /// does not keep somebody waiting who is signed in.
    pub(super) async fn recognise_again(
        self: &Arc<Self>,
        session: &Session,
        password: &str,
        visitor: &Visitor,
    ) -> Result<UserRow, PersonError> {
        let lane = Lane::Person(session.user());
        let email = session.email();
        let user = self.recognise(email, password, lane, visitor).await?;
        if user.id == session.user() {
            Ok(user)
        } else {
            Err(PersonError::WrongPassword)
        }
    }

    /// A User's sessions that are still good, the one used last first.
    pub async fn sessions_of(&self, user: UserId) -> Result<Vec<SessionRow>, DbError> {
        let now = self.clock.now();
        let mut rows = self.db.sessions_of(user).await?;
        rows.retain(|row| {
            row.created_us > now.before(AGE_MAX) && row.seen_us > now.before(IDLE_MAX)
        });
        Ok(rows)
    }

    /// The session as it is now, if it has not ended; for what watches on its behalf, which is no use of it.
    pub async fn still_there(&self, session: &Session) -> Result<Option<Session>, DbError> {
        let rows = self.sessions_of(session.user()).await?;
        let Some(row) = rows.into_iter().find(|row| row.id == session.id()) else {
            return Ok(None);
        };
        let memberships = self.db.memberships_of(row.user_id).await?;
        Ok(Some(Session {
            row,
            memberships,
            address: session.address,
        }))
    }

    /// Ends one of the sessions of whoever this one belongs to; it may be this one.
    pub async fn end_session(&self, by: &Session, session: SessionId) -> Result<(), DbError> {
        let mut tx = self.db.begin_in_turn().await?;
        if tx.end_session(by.user(), session).await? {
            let entry = by.entry(self.clock.now(), Act::SessionEnded);
            let detail = json!({ "session": session, "by_session": by.id() });
            tx.append_audit(&entry.with(detail)).await?;
        }
        tx.commit().await
    }

    /// Ends all the sessions of whoever this one belongs to, or all but one; how many those were.
    pub async fn end_other_sessions(
        &self,
        by: &Session,
        but: Option<SessionId>,
    ) -> Result<usize, DbError> {
        let mut tx = self.db.begin_in_turn().await?;
        let ended = tx.end_sessions_of(by.user(), but).await?;
        if !ended.is_empty() {
            let entry = by.entry(self.clock.now(), Act::SessionsEnded);
            let detail = json!({ "ended": ended, "by_session": by.id() });
            tx.append_audit(&entry.with(detail)).await?;
        }
        tx.commit().await?;
        Ok(ended.len())
    }

    /// Gives the session's User another password; every other session of theirs ends, and no link sets a password any more that
    /// was made before. The old password is asked for
    /// whatever the session's age. Answers with the session's new token.
    pub async fn change_password(
        self: &Arc<Self>,
        session: &Session,
        old: &str,
        new: &str,
        visitor: &Visitor,
    ) -> Result<Token, PersonError> {
        let mut about = vec![session.email()];
        about.extend(session.memberships().iter().map(|m| m.name.as_str()));
        let new = Password::new(new, &about)?;
        let token = Token::generate()?;
        let user = self.recognise_again(session, old, visitor).await?;
        let hash = new.hash().await?;
        let mut tx = self.db.begin_in_turn().await?;
        // Changed by somebody else since it was compared: then the old one is no longer theirs.
        if !tx
            .replace_password(user.id, &user.password_hash, &hash)
            .await?
        {
            return Err(PersonError::WrongPassword);
        }
        let ended = tx.end_sessions_of(user.id, Some(session.id())).await?;
        // Whoever gave the old one and is asked for a code goes no further.
        tx.end_half_sign_ins(user.id).await?;
        // A link that somebody else asked for, and may have come by, would set yet another password.
        tx.take_links_back(LinkKind::Reset, &user.email, None)
            .await?;
        let now = self.clock.now();
        if !tx
            .confirm_session(session.id(), token.digest(), now)
            .await?
        {
            return Err(PersonError::SignedOut);
        }
        let entry = session.entry(now, Act::PasswordChanged);
        let detail = json!({ "session": session.id(), "ended": ended });
        tx.append_audit(&entry.with(detail)).await?;
        let (news, from) = (AccountNews::PasswordChanged, Some(visitor.address));
        tell_person(&mut tx, &user.email, news, from, now).await?;
        tx.commit().await?;
        Ok(token)
    }
}

/// Puts the mail about a change of what a person signs in with into the outbox, in the act's own transaction: whoever takes an
/// account over cannot do it unnoticed.
pub(super) async fn tell_person(
    tx: &mut WriteTx,
    email: &str,
    news: AccountNews,
    from: Option<IpAddr>,
    at: Time,
) -> Result<(), DbError> {
    let mail = about_account(email, news, from, at);
    tx.insert_mails(&[email.to_owned()], &mail, at).await
}

/// Refuses to go on if the User's password is another by now than the one that was compared.
pub(super) async fn must_be_theirs(tx: &mut WriteTx, user: &UserRow) -> Result<(), PersonError> {
    match tx.locked_password(user.id).await? {
        Some(hash) if hash == user.password_hash => Ok(()),
        _ => Err(PersonError::WrongPassword),
    }
}

/// A User, as the audit log names them.
pub(super) fn actor(user: UserId) -> String {
    format!("user:{user}")
}
