//! The second factor of a person: setting it up, giving a code after the password, turning it off; and an owner's decision
//! that whoever acts for a Seller must have one.
//!
//! A sign-in whose password was right is half done where there is a second factor: it waits for ten minutes under a token of its
//! own, which is no session and opens nothing. What becomes of wrong codes is told in [`super::guesses`].
//!
//! Never: a session begun on a password alone where a second factor is in force; a step's code or a recovery code that counts
//! twice.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::json;

use super::{
    Email, Role,
    codes::{FactorSecret, Given, RECOVERY_CODES, RecoveryCode},
    guesses::{Giver, Place},
    members::tell_members,
    people::{People, PersonError, Visitor},
    sessions::{Session, must_be_theirs, tell_person},
    tokens::{NoRandomness, Token, TokenDigest},
};
use crate::{
    audit::Act,
    db::{AuditEntry, DbError, HalfSignInRow, LinkKind, WriteTx},
    ids::UserId,
    keys::scope::{Authority, SellerScope},
    mail::{people_words::AccountNews, words::MemberNews},
};

/// How long a sign-in waits for its code.
pub const CODE_AWAITED_FOR: Duration = Duration::from_secs(10 * 60);
/// How long a second factor that was begun waits for its first code.
const BEGUN_WORKS_FOR: Duration = Duration::from_secs(15 * 60);

/// The kind of a code that was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeKind {
    /// One of the authenticator app's.
    App,
    /// A recovery code.
    Recovery,
}

impl People {
    /// Notes, in the transaction that found the password right, that a code is awaited now.
    pub(super) async fn begin_half_sign_in(
        &self,
        tx: &mut WriteTx,
        user: UserId,
        visitor: &Visitor,
        token: &Token,
    ) -> Result<(), DbError> {
        let now = self.clock.now();
        tx.insert_half_sign_in(token.digest(), user, now.after(CODE_AWAITED_FOR))
            .await?;
        let entry = AuditEntry::of_person(user, visitor.address, now, Act::CodeAsked);
        tx.append_audit(&entry).await
    }

    /// The sign-in with this token that waits for its code.
    pub async fn half_sign_in(&self, token: &Token) -> Result<HalfSignInRow, PersonError> {
        let row = self.db.half_sign_in(token.digest()).await?;
        let now = self.clock.now();
        row.filter(|row| row.expires_us > now)
            .ok_or(PersonError::SignInOver)
    }

    /// Ends a sign-in that waited for its code by beginning the session; answers with the token for its cookie. `before` is as
    /// for [`People::sign_in`].
    pub async fn complete_sign_in(
        self: &Arc<Self>,
        token: &Token,
        typed: &str,
        visitor: &Visitor,
        before: Option<&Session>,
    ) -> Result<Token, PersonError> {
        let row = self.half_sign_in(token).await?;
        let giver = Giver {
            user: row.user_id,
            email: row.email,
            visitor: visitor.clone(),
            place: Place::SignIn(token.digest()),
        };
        let given = Given::read(typed);
        let (people, own, code) = (Arc::clone(self), giver.clone(), given.clone());
        let (half, before) = (token.digest(), before.cloned());
        let act = async move {
            let session = Token::generate()?;
            let mut tx = people.db.begin_in_turn().await?;
            // First, so that of two who come at once the second sees what the first one used up.
            tx.locked_password(own.user).await?;
            let until = tx.take_half_sign_in(half).await?;
            if until.is_none_or(|until| until <= people.clock.now()) {
                return Err(PersonError::SignInOver);
            }
            let kind = people.use_code(&mut tx, &own, &code).await?;
            let whom = (own.user, own.email.as_str());
            let (visitor, before) = (&own.visitor, before.as_ref());
            people
                .begin_session(&mut tx, whom, visitor, before, &session, Some(kind))
                .await?;
            tx.commit().await?;
            Ok(session)
        };
        self.attempt(giver, &given, act).await
    }

    /// Notes that the session's User gave a code, as [`People::confirm`] notes that they gave the password; answers with the
    /// session's new token.
    pub async fn confirm_by_code(
        self: &Arc<Self>,
        session: &Session,
        typed: &str,
        visitor: &Visitor,
    ) -> Result<Token, PersonError> {
        let (giver, given) = (Giver::of(session, visitor), Given::read(typed));
        let (people, own, code) = (Arc::clone(self), giver.clone(), given.clone());
        let session = session.clone();
        let act = async move {
            let token = Token::generate()?;
            let mut tx = people.db.begin_in_turn().await?;
            tx.locked_password(own.user).await?;
            let kind = people.use_code(&mut tx, &own, &code).await?;
            let detail = json!({ "session": session.id(), "code": kind });
            people
                .renew(&mut tx, &session, &token, Act::FactorConfirmed, detail)
                .await?;
            tx.commit().await?;
            Ok(token)
        };
        self.attempt(giver, &given, act).await
    }

    /// Begins a second factor for the session's User: makes its secret, which an app shall have. It is not in force before a
    /// code has shown that the app has it.
    pub async fn begin_second_factor(
        &self,
        session: &Session,
    ) -> Result<FactorSecret, PersonError> {
        let secret = FactorSecret::generate()?;
        let now = self.clock.now();
        let mut tx = self.db.begin_in_turn().await?;
        if !tx.begin_second_factor(session.user(), &secret, now).await? {
            return Err(PersonError::NotBegun);
        }
        tx.append_audit(&session.entry(now, Act::FactorBegun))
            .await?;
        tx.commit().await?;
        Ok(secret)
    }

    /// Puts the second factor that was begun into force, by its first code. Every other session of the User ends, and no link
    /// sets a password any more that was made before. Answers with the session's new token and with the recovery codes.
    pub async fn confirm_second_factor(
        self: &Arc<Self>,
        session: &Session,
        typed: &str,
        visitor: &Visitor,
    ) -> Result<(Token, Vec<RecoveryCode>), PersonError> {
        let (giver, given) = (Giver::setting_up(session, visitor), Given::read(typed));
        let (people, own, code) = (Arc::clone(self), giver.clone(), given.clone());
        let session = session.clone();
        let act = async move {
            let (token, codes) = (Token::generate()?, recovery_codes()?);
            let now = people.clock.now();
            let mut tx = people.db.begin_in_turn().await?;
            tx.locked_password(own.user).await?;
            let stored = tx.factor_secret(own.user).await?;
            let stored = stored
                .filter(|s| !s.is_confirmed && s.created > now.before(BEGUN_WORKS_FOR))
                .ok_or(PersonError::NotBegun)?;
            let Given::Code(code) = &code else {
                return Err(PersonError::WrongCode);
            };
            let step = stored.secret.step_of(code, now);
            let step = step.ok_or(PersonError::WrongCode)?;
            if !tx.confirm_second_factor(own.user, step, now).await? {
                return Err(PersonError::NotBegun);
            }
            tx.replace_recovery_codes(own.user, &digests(&codes), now)
                .await?;
            let ended = tx.end_sessions_of(own.user, Some(session.id())).await?;
            tx.take_links_back(LinkKind::Reset, &own.email, None)
                .await?;
            let detail = json!({ "session": session.id(), "ended": ended });
            people
                .renew(&mut tx, &session, &token, Act::FactorOn, detail)
                .await?;
            let (news, from) = (AccountNews::FactorOn, Some(own.visitor.address));
            tell_person(&mut tx, &own.email, news, from, now).await?;
            tx.commit().await?;
            Ok((token, codes))
        };
        self.attempt(giver, &given, act).await
    }

    /// Turns the session's User's second factor off, if both the password and a code are right; which of them is not, is not
    /// said. Answers with the session's new token.
    pub async fn turn_second_factor_off(
        self: &Arc<Self>,
        session: &Session,
        password: &str,
        typed: &str,
        visitor: &Visitor,
    ) -> Result<Token, PersonError> {
        let user = self.recognise_again(session, password, visitor).await;
        let user = user.map_err(|error| match error {
            PersonError::WrongPassword => PersonError::WrongCode,
            other => other,
        })?;
        let (giver, given) = (Giver::of(session, visitor), Given::read(typed));
        let (people, own, code) = (Arc::clone(self), giver.clone(), given.clone());
        let session = session.clone();
        let act = async move {
            let token = Token::generate()?;
            let mut tx = people.db.begin_in_turn().await?;
            must_be_theirs(&mut tx, &user).await?;
            people.use_code(&mut tx, &own, &code).await?;
            tx.remove_second_factor(own.user).await?;
            let detail = json!({ "session": session.id() });
            people
                .renew(&mut tx, &session, &token, Act::FactorOff, detail)
                .await?;
            let (news, from) = (AccountNews::FactorOff, Some(own.visitor.address));
            tell_person(&mut tx, &own.email, news, from, people.clock.now()).await?;
            tx.commit().await?;
            Ok(token)
        };
        self.attempt(giver, &given, act).await
    }

    /// Gives the session's User new recovery codes, if this code is right; the earlier ones work no more. The password alone
    /// would not do: new recovery codes and the password together turn the second factor off.
    pub async fn make_recovery_codes(
        self: &Arc<Self>,
        session: &Session,
        typed: &str,
        visitor: &Visitor,
    ) -> Result<Vec<RecoveryCode>, PersonError> {
        let (giver, given) = (Giver::of(session, visitor), Given::read(typed));
        let (people, own, code) = (Arc::clone(self), giver.clone(), given.clone());
        let session = session.clone();
        let act = async move {
            let codes = recovery_codes()?;
            let now = people.clock.now();
            let mut tx = people.db.begin_in_turn().await?;
            tx.locked_password(own.user).await?;
            if !tx.has_second_factor(own.user).await? {
                return Err(PersonError::NoFactor);
            }
            people.use_code(&mut tx, &own, &code).await?;
            tx.replace_recovery_codes(own.user, &digests(&codes), now)
                .await?;
            tx.append_audit(&session.entry(now, Act::RecoveryCodesMade))
                .await?;
            let (news, from) = (AccountNews::RecoveryCodesMade, Some(own.visitor.address));
            tell_person(&mut tx, &own.email, news, from, now).await?;
            tx.commit().await?;
            Ok(codes)
        };
        self.attempt(giver, &given, act).await
    }

    /// Takes a User's second factor away and ends every session of theirs; how many those were. For the operator, who has made
    /// sure of the person.
    pub async fn take_second_factor_away(&self, email: &Email) -> Result<usize, PersonError> {
        let Some(user) = self.db.user_by_email(email).await? else {
            return Err(PersonError::NoSuchUser(email.to_string()));
        };
        let now = self.clock.now();
        let mut tx = self.db.begin_in_turn().await?;
        tx.locked_password(user.id).await?;
        if !tx.remove_second_factor(user.id).await? {
            return Err(PersonError::HasNoFactor(user.email));
        }
        let ended = tx.end_sessions_of(user.id, None).await?;
        let entry = AuditEntry::of_operator(now, Act::FactorTakenAway).about(user.id);
        tx.append_audit(&entry.with(json!({ "ended": ended })))
            .await?;
        tell_person(
            &mut tx,
            &user.email,
            AccountNews::FactorTakenAway,
            None,
            now,
        )
        .await?;
        tx.commit().await?;
        Ok(ended.len())
    }

    /// Demands a second factor of whoever acts for the scope's Seller, or leaves it to them: an owner's decision, and theirs to
    /// demand only if they have one. Members who have none are mailed that they can only look from now on.
    pub async fn require_second_factor(
        &self,
        scope: SellerScope,
        required: bool,
    ) -> Result<(), PersonError> {
        let Authority::Member(user) = scope.authority() else {
            return Err(PersonError::NotAllowed);
        };
        // A change like one of members: it waits for the writes of those whom it shuts out.
        let mut tx = self.db.begin_change(scope).await?;
        if tx.role_of(user).await? != Some(Role::Owner) {
            return Err(PersonError::NotAllowed);
        }
        if required && !tx.has_second_factor(user).await? {
            return Err(PersonError::NoFactor);
        }
        if tx.require_second_factor(required).await? {
            let act = match required {
                true => Act::FactorRequired,
                false => Act::FactorOptional,
            };
            let now = self.clock.now();
            tx.append_audit(&AuditEntry::of(scope, now, act)).await?;
            if required {
                let shut_out = tx.members_without_factor().await?;
                tell_members(&mut tx, &shut_out, MemberNews::FactorDemanded, now).await?;
            }
        }
        Ok(tx.commit().await?)
    }

    /// Gives a session a new token in the transaction that does the act which this entry tells of.
    async fn renew(
        &self,
        tx: &mut WriteTx,
        session: &Session,
        token: &Token,
        act: Act,
        detail: serde_json::Value,
    ) -> Result<(), PersonError> {
        let now = self.clock.now();
        if !tx
            .confirm_session(session.id(), token.digest(), now)
            .await?
        {
            return Err(PersonError::SignedOut);
        }
        tx.append_audit(&session.entry(now, act).with(detail))
            .await?;
        Ok(())
    }

    /// Uses a code up, in the transaction that does what it was given for.
    async fn use_code(
        &self,
        tx: &mut WriteTx,
        giver: &Giver,
        given: &Given,
    ) -> Result<CodeKind, PersonError> {
        let (user, now) = (giver.user, self.clock.now());
        match given {
            Given::Code(code) => {
                let stored = tx.factor_secret(user).await?;
                let stored = stored.filter(|stored| stored.is_confirmed);
                let step = stored.and_then(|stored| stored.secret.step_of(code, now));
                let step = step.ok_or(PersonError::WrongCode)?;
                if tx.use_step(user, step).await? {
                    Ok(CodeKind::App)
                } else {
                    Err(PersonError::WrongCode)
                }
            }
            Given::Recovery(code) => {
                if !tx.use_recovery_code(user, code.digest()).await? {
                    return Err(PersonError::WrongCode);
                }
                let left = tx.count_recovery_codes(user).await?;
                let from = giver.visitor.address;
                let entry = AuditEntry::of_person(user, from, now, Act::RecoveryCodeUsed);
                tx.append_audit(&entry.with(json!({ "left": left })))
                    .await?;
                let news = AccountNews::RecoveryCodeUsed(left);
                tell_person(tx, &giver.email, news, Some(from), now).await?;
                Ok(CodeKind::Recovery)
            }
            Given::Nothing => Err(PersonError::WrongCode),
        }
    }
}

fn recovery_codes() -> Result<Vec<RecoveryCode>, NoRandomness> {
    (0..RECOVERY_CODES)
        .map(|_| RecoveryCode::generate())
        .collect()
}

fn digests(codes: &[RecoveryCode]) -> Vec<TokenDigest> {
    codes.iter().map(RecoveryCode::digest).collect()
}
