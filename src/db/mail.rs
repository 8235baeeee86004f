//! The outbox: mails that wait to be sent, and whom they are for.
//!
//! A mail that brings a link names it by its present digest. The token is made by whoever sends the mail, at that moment.
//!
//! Never: a key, a password or a link's token in a row; a mail written apart from the act that it tells of.

use std::time::Duration;

use sqlx::FromRow;

use super::{Db, DbError, LinkKind, ScopedTx, WriteTx, on_db, on_tx};
use crate::{
    accounts::{AccountKind, tokens::TokenDigest},
    clock::Time,
    ids::{KeyId, MailId, SellerId, UserId},
    keys::scope::Authority,
};

/// A mail to put into the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMail {
    /// One line; may hold a Seller's name, and nothing that a client sent.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// The path of the page that it is about, such as `/dashboard/settings?seller=lone-star#api-key`; empty if it is about none.
    pub page: String,
}

/// A mail in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct MailRow {
    /// Its id.
    pub id: MailId,
    /// When the act was that it tells of.
    pub created_us: Time,
    /// To whom.
    pub recipient: String,
    /// What about.
    pub subject: String,
    /// What it says.
    pub body: String,
    /// The path of the page that it is about.
    pub page: String,
    /// Tries that were begun.
    pub attempts: i64,
    /// The present digest of the link that it brings.
    pub link: Option<Vec<u8>>,
}

/// Whom a mail about a Seller goes to, and what it calls the Seller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressees {
    /// The Seller's short name.
    pub slug: String,
    /// The Seller's name.
    pub name: String,
    /// Whether it is a dealer's account or a Platform's.
    pub kind: AccountKind,
    /// The addresses of its owners.
    pub owners: Vec<String>,
}

impl WriteTx {
    /// Whom a mail about a Seller goes to at this moment; `None` if there is no such Seller.
    pub async fn addressees(&mut self, seller: SellerId) -> Result<Option<Addressees>, DbError> {
        const SELLER: &str = "SELECT slug, name, kind FROM sellers WHERE id = $1";
        const OWNERS: &str = "SELECT u.email FROM memberships m JOIN users u ON u.id = m.user_id \
             WHERE m.seller_id = $1 AND m.role = 'owner' ORDER BY u.email";
        let found: Option<(String, String, AccountKind)> =
            on_tx!(self, |conn| sqlx::query_as(SELLER)
                .bind(seller)
                .fetch_optional(conn)
                .await)?;
        let Some((slug, name, kind)) = found else {
            return Ok(None);
        };
        let owners = on_tx!(self, |conn| sqlx::query_scalar(OWNERS)
            .bind(seller)
            .fetch_all(conn)
            .await)?;
        Ok(Some(Addressees {
            slug,
            name,
            kind,
            owners,
        }))
    }

    /// Puts a mail that brings a link into the outbox, due at once; `link` is the digest that the link's row has.
    pub async fn insert_mail_with_link(
        &mut self,
        recipient: &str,
        mail: &NewMail,
        link: TokenDigest,
        at: Time,
    ) -> Result<(), DbError> {
        const SQL: &str = "INSERT INTO outbox \
             (id, created_us, recipient, subject, body, page, next_try_us, attempts, link) \
             VALUES ($1, $2, $3, $4, $5, $6, $2, 0, $7)";
        on_tx!(self, |conn| sqlx::query(SQL)
            .bind(MailId::new())
            .bind(at)
            .bind(recipient)
            .bind(&mail.subject)
            .bind(&mail.body)
            .bind(&mail.page)
            .bind(link.0.to_vec())
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Puts a mail into the outbox once for each of these addresses, due at once.
    pub async fn insert_mails(
        &mut self,
        recipients: &[String],
        mail: &NewMail,
        at: Time,
    ) -> Result<(), DbError> {
        const SQL: &str = "INSERT INTO outbox (id, created_us, recipient, subject, body, page, next_try_us, attempts) \
             VALUES ($1, $2, $3, $4, $5, $6, $2, 0)";
        for recipient in recipients {
            on_tx!(self, |conn| sqlx::query(SQL)
                .bind(MailId::new())
                .bind(at)
                .bind(recipient)
                .bind(&mail.subject)
                .bind(&mail.body)
                .bind(&mail.page)
                .execute(conn)
                .await
                .map(drop))?;
        }
        Ok(())
    }
}

impl ScopedTx {
    /// See [`WriteTx::addressees`]; `None` if the Seller is gone.
    pub async fn addressees(&mut self) -> Result<Option<Addressees>, DbError> {
        self.tx.addressees(self.scope.seller()).await
    }

    /// See [`WriteTx::insert_mail_with_link`].
    pub async fn insert_mail_with_link(
        &mut self,
        recipient: &str,
        mail: &NewMail,
        link: TokenDigest,
        at: Time,
    ) -> Result<(), DbError> {
        self.tx
            .insert_mail_with_link(recipient, mail, link, at)
            .await
    }

    /// See [`WriteTx::insert_mails`].
    pub async fn insert_mails(
        &mut self,
        recipients: &[String],
        mail: &NewMail,
        at: Time,
    ) -> Result<(), DbError> {
        self.tx.insert_mails(recipients, mail, at).await
    }

    /// The address of the User who acts in this transaction; `None` if it is the operator or a key.
    pub async fn actors_address(&mut self) -> Result<Option<String>, DbError> {
        const SQL: &str = "SELECT email FROM users WHERE id = $1";
        let user: UserId = match self.scope.authority() {
            Authority::Member(user) => user,
            Authority::Key(_)
            | Authority::Platform { .. }
            | Authority::Operator
            | Authority::Finder(..) => {
                return Ok(None);
            }
        };
        Ok(on_tx!(self.tx, |conn| sqlx::query_scalar(SQL)
            .bind(user)
            .fetch_optional(conn)
            .await)?)
    }

    /// The last four characters of one of the Seller's keys that is or was live, or was staged and discarded.
    pub async fn hint_of(&mut self, key: KeyId) -> Result<Option<String>, DbError> {
        const SQL: &str = "SELECT hint FROM api_keys WHERE seller_id = $1 AND id = $2";
        Ok(on_tx!(self.tx, |conn| sqlx::query_scalar(SQL)
            .bind(self.scope.seller())
            .bind(key)
            .fetch_optional(conn)
            .await)?)
    }
}

impl Db {
    /// The mails that are due at this time, the longest due first.
    pub async fn mails_due(&self, at: Time, limit: i64) -> Result<Vec<MailRow>, DbError> {
        const SQL: &str = "SELECT id, created_us, recipient, subject, body, page, attempts, link FROM outbox \
             WHERE next_try_us <= $1 ORDER BY next_try_us, id LIMIT $2";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(at)
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }

    /// Counts a try that begins now, and says when the next one may. `false` if somebody else began it, or the mail is gone.
    pub async fn begin_mail_try(&self, mail: &MailRow, next_try: Time) -> Result<bool, DbError> {
        const SQL: &str = "UPDATE outbox SET attempts = attempts + 1, next_try_us = $3 WHERE id = $1 AND attempts = $2";
        let mut tx = self.begin().await?;
        let begun = on_tx!(tx, |conn| sqlx::query(SQL)
            .bind(mail.id)
            .bind(mail.attempts)
            .bind(next_try)
            .execute(conn)
            .await
            .map(|done| done.rows_affected() == 1))?;
        tx.commit().await?;
        Ok(begun)
    }

    /// Gives the link that a mail brings a new token, which this mail alone will hold; what kind of link it is, or `None` if it
    /// was used, taken back or replaced since, or is too old.
    pub async fn renew_link_of(
        &self,
        mail: &MailRow,
        new: TokenDigest,
        now: Time,
        works_for: impl Fn(LinkKind) -> Duration,
    ) -> Result<Option<LinkKind>, DbError> {
        const SQL: &str = "UPDATE outbox SET link = $2 WHERE id = $1";
        let present = mail.link.as_deref().map(<[u8; 32]>::try_from);
        let Some(Ok(present)) = present else {
            return Ok(None);
        };
        let mut tx = self.begin().await?;
        let kind = tx
            .renew_link(TokenDigest(present), new, now, works_for)
            .await?;
        if kind.is_some() {
            on_tx!(tx, |conn| sqlx::query(SQL)
                .bind(mail.id)
                .bind(new.0.to_vec())
                .execute(conn)
                .await
                .map(drop))?;
        }
        tx.commit().await?;
        Ok(kind)
    }

    /// Takes a mail out of the outbox: it was handed over, or is given up.
    pub async fn remove_mail(&self, mail: MailId) -> Result<(), DbError> {
        const SQL: &str = "DELETE FROM outbox WHERE id = $1";
        let mut tx = self.begin().await?;
        on_tx!(tx, |conn| sqlx::query(SQL)
            .bind(mail)
            .execute(conn)
            .await
            .map(drop))?;
        tx.commit().await
    }
}
