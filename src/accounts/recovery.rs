//! A forgotten password: the link by which a new one is set, asked for by the operator or by whoever says that it is theirs, and
//! used.
//!
//! Whoever asks is answered the same after the same work, whatever they typed: what is done for an address that has an account
//! is done apart. Requests are slowed as failures to sign in are, and one account is mailed once in five minutes at most.
//!
//! Never: an answer, or the time that it takes, which tells whether an account exists; a session begun, or a second factor
//! passed, by a link.

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde_json::json;

use super::{
    Email,
    links::RESET_WORKS_FOR,
    passwords::Password,
    people::{People, PersonError, Visitor},
    sessions::tell_person,
    sign_in::{Lane, subjects},
    tokens::Token,
};
use crate::{
    act::run_to_end,
    audit::Act,
    clock::Time,
    db::{AuditEntry, LinkKind, LinkRow, UserRow},
    mail::people_words::{self, AccountNews},
};

/// How often at most one account is mailed a link that somebody asked for.
const MAIL_EVERY: Duration = Duration::from_secs(5 * 60);

/// How the link for a new password gets to its User.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The operator hands it over.
    ByHand,
    /// It is mailed.
    ByMail,
}

impl People {
    /// Mails a link for a new password to the User with this address, if there is one. Sessions go on: anybody may ask.
    pub async fn ask_reset(
        self: &Arc<Self>,
        typed: &str,
        visitor: &Visitor,
    ) -> Result<(), PersonError> {
        let subjects = subjects(typed, visitor);
        let turn = self.gate.turn(Lane::of_client(visitor)).await?;
        let (people, from) = (Arc::clone(self), visitor.address);
        let email = typed.parse::<Email>().ok();
        run_to_end(async move {
            let (_, delay) = people.note_failure(&subjects).await?;
            if let Some(email) = email {
                tokio::spawn(async move {
                    if let Err(error) = people.mail_asked_link(&email, from).await {
                        tracing::warn!(%error, "a link for a new password cannot be mailed");
                    }
                });
            }
            tokio::time::sleep(delay).await;
            drop(turn);
            Ok(())
        })
        .await
    }

    async fn mail_asked_link(&self, email: &Email, from: IpAddr) -> Result<(), PersonError> {
        let Some(user) = self.db.user_by_email(email).await? else {
            return Ok(());
        };
        let token = Token::generate()?;
        let now = self.clock.now();
        let mut tx = self.db.begin_in_turn().await?;
        let before = now.before(MAIL_EVERY);
        if !tx.note_reset_asked(user.id, now, before).await? {
            return Ok(());
        }
        tx.take_links_back(LinkKind::Reset, email.as_str(), None)
            .await?;
        // Nobody ever sees this token: the mail gets another one when it is sent.
        let link = link_of(&user, "visitor", now);
        tx.insert_link(LinkKind::Reset, token.digest(), &link)
            .await?;
        let mail = people_words::reset_link(&user.email, Some(from), now);
        tx.insert_mail_with_link(&user.email, &mail, token.digest(), now)
            .await?;
        let entry = AuditEntry {
            actor: "visitor".to_owned(),
            ..AuditEntry::of_person(user.id, from, now, Act::ResetAsked)
        };
        tx.append_audit(&entry).await?;
        Ok(tx.commit().await?)
    }

    /// Makes the link by which a User sets a new password; an earlier one works no more, and every session of theirs ends,
    /// since whoever asks for this may have lost the account to somebody. For the operator, who has made sure of the person.
    pub async fn reset_link(&self, email: &Email) -> Result<Token, PersonError> {
        self.make_reset_link(email, Way::ByHand).await
    }

    /// The same, mailed to the User instead of handed to the operator.
    pub async fn mail_reset_link(&self, email: &Email) -> Result<(), PersonError> {
        self.make_reset_link(email, Way::ByMail).await.map(drop)
    }

    async fn make_reset_link(&self, email: &Email, way: Way) -> Result<Token, PersonError> {
        let Some(user) = self.db.user_by_email(email).await? else {
            return Err(PersonError::NoSuchUser(email.to_string()));
        };
        let token = Token::generate()?;
        let now = self.clock.now();
        let mut tx = self.db.begin_in_turn().await?;
        // First, so that of two who do this at once the later one takes the earlier one's link back.
        tx.locked_password(user.id).await?;
        tx.take_links_back(LinkKind::Reset, email.as_str(), None)
            .await?;
        let ended = tx.end_sessions_of(user.id, None).await?;
        tx.end_half_sign_ins(user.id).await?;
        let link = link_of(&user, "operator", now);
        tx.insert_link(LinkKind::Reset, token.digest(), &link)
            .await?;
        let entry = AuditEntry::of_operator(now, Act::PasswordResetLink).about(user.id);
        tx.append_audit(&entry.with(json!({ "ended": ended })))
            .await?;
        match way {
            Way::ByHand => {
                let news = AccountNews::ResetLinkMade;
                tell_person(&mut tx, &user.email, news, None, now).await?;
            }
            Way::ByMail => {
                let mail = people_words::reset_link(&user.email, None, now);
                tx.insert_mail_with_link(&user.email, &mail, token.digest(), now)
                    .await?;
            }
        }
        tx.commit().await?;
        Ok(token)
    }

    /// Whose password a link sets, without using it up.
    pub async fn reset(&self, token: &Token) -> Result<Email, PersonError> {
        let link = self.db.link(LinkKind::Reset, token.digest()).await?;
        let link = self.still_good(link)?;
        link.email.parse().map_err(|_| PersonError::DeadLink)
    }

    /// Uses a reset up: sets the password and ends every session of the User. They sign in with the new one.
    pub async fn reset_password(
        &self,
        token: &Token,
        password: &str,
        visitor: &Visitor,
    ) -> Result<(), PersonError> {
        let email = self.reset(token).await?;
        let hash = Password::new(password, &[email.as_str()])?.hash().await?;
        let user = self.db.user_by_email(&email).await?;
        let user = user.ok_or(PersonError::DeadLink)?;
        let mut tx = self.db.begin_in_turn().await?;
        let old = tx.locked_password(user.id).await?;
        let old = old.ok_or(PersonError::DeadLink)?;
        let link = tx.take_link(LinkKind::Reset, token.digest()).await?;
        self.still_good(link)?;
        tx.replace_password(user.id, &old, &hash).await?;
        let ended = tx.end_sessions_of(user.id, None).await?;
        tx.end_half_sign_ins(user.id).await?;
        let now = self.clock.now();
        let entry = AuditEntry::of_person(user.id, visitor.address, now, Act::PasswordReset);
        tx.append_audit(&entry.with(json!({ "ended": ended })))
            .await?;
        let (news, from) = (AccountNews::PasswordReset, Some(visitor.address));
        tell_person(&mut tx, &user.email, news, from, now).await?;
        Ok(tx.commit().await?)
    }

    /// Refuses a link that is not there, or too old.
    pub(super) fn still_good(&self, link: Option<LinkRow>) -> Result<LinkRow, PersonError> {
        let now = self.clock.now();
        link.filter(|link| link.expires_us > now)
            .ok_or(PersonError::DeadLink)
    }
}

fn link_of(user: &UserRow, made_by: &str, now: Time) -> LinkRow {
    LinkRow {
        email: user.email.clone(),
        seller_id: None,
        role: None,
        made_by: made_by.to_owned(),
        created_us: now,
        expires_us: now.after(RESET_WORKS_FOR),
    }
}
