//! People: Users, what they are members of, the links that let them in, and failures to sign in.
//!
//! Never: a token or a password in a parameter; only digests and hashes come this far.

use std::time::Duration;

use sqlx::FromRow;

use super::{Db, DbError, ScopedTx, Tx, WriteTx, on_db, on_tx, postgres::answered};
use crate::{
    accounts::{AccountKind, AccountStatus, Email, Role, tokens::TokenDigest},
    clock::Time,
    ids::{SellerId, UserId},
    keys::scope::SellerScope,
};

/// A person who signs in.
#[derive(Clone, Debug, FromRow)]
pub struct UserRow {
    /// Its id.
    pub id: UserId,
    /// Its address.
    pub email: String,
    /// Argon2id in PHC form.
    pub password_hash: String,
}

/// A member of a Seller, as the Seller sees it.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct MemberRow {
    /// Who.
    pub user_id: UserId,
    /// Its address.
    pub email: String,
    /// How far it may act.
    pub role: Role,
    /// Since when.
    pub created_us: Time,
    /// 1 if it has a second factor, else 0.
    pub has_factor: i64,
}

/// What a User is a member of, as the User sees it.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct MembershipRow {
    /// The Seller.
    pub seller_id: SellerId,
    /// Its short name.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Whether it is a dealer's account or a Platform's.
    pub kind: AccountKind,
    /// What the marketplace lets it do.
    pub status: AccountStatus,
    /// How far the User may act for it.
    pub role: Role,
    /// 1 if the Seller demands a second factor of whoever acts for it, else 0.
    pub factor_required: i64,
    /// 1 if the User has one, else 0.
    pub has_factor: i64,
}

/// Whether a User has a second factor, as a column; `$user` is where the User's id stands.
macro_rules! has_factor {
    ($user:literal) => {
        concat!(
            "(SELECT COUNT(*) FROM second_factors f WHERE f.user_id = ",
            $user,
            " AND f.confirmed_us IS NOT NULL) AS has_factor"
        )
    };
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// To become a member of a Seller.
    Invitation,
    /// To set a new password.
    Reset,
}

impl LinkKind {
    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invitation => "invitation",
            Self::Reset => "reset",
        }
    }

    /// The kind of this name.
    fn of_name(name: &str) -> Option<Self> {
        [Self::Invitation, Self::Reset]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// A link that was handed to one person.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct LinkRow {
    /// Whose it is.
    pub email: String,
    /// What an invitation is to.
    pub seller_id: Option<SellerId>,
    /// As what.
    pub role: Option<Role>,
    /// Who made it.
    pub made_by: String,
    /// When it was made.
    pub created_us: Time,
    /// When it stops working.
    pub expires_us: Time,
}

impl Db {
    /// The User with this address.
    pub async fn user_by_email(&self, email: &Email) -> Result<Option<UserRow>, DbError> {
        const SQL: &str = "SELECT id, email, password_hash FROM users WHERE email = $1";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(email.as_str())
            .fetch_optional(pool)
            .await)?)
    }

    /// The User with this id.
    pub async fn user(&self, user: UserId) -> Result<Option<UserRow>, DbError> {
        const SQL: &str = "SELECT id, email, password_hash FROM users WHERE id = $1";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(user)
            .fetch_optional(pool)
            .await)?)
    }

    /// The scope's members, owners first.
    pub async fn members(&self, scope: SellerScope) -> Result<Vec<MemberRow>, DbError> {
        const SQL: &str = concat!(
            "SELECT m.user_id, u.email, m.role, m.created_us, ",
            has_factor!("u.id"),
            " FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.seller_id = $1 \
             ORDER BY CASE m.role WHEN 'owner' THEN 0 WHEN 'admin' THEN 1 ELSE 2 END, u.email"
        );
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .fetch_all(pool)
            .await)?)
    }

    /// What a User is a member of, by name.
    pub async fn memberships_of(&self, user: UserId) -> Result<Vec<MembershipRow>, DbError> {
        const SQL: &str = concat!(
            "SELECT m.seller_id, s.slug, s.name, s.kind, s.status, m.role, s.second_factor_required AS factor_required, ",
            has_factor!("m.user_id"),
            " FROM memberships m JOIN sellers s ON s.id = m.seller_id WHERE m.user_id = $1 ORDER BY s.name, s.slug"
        );
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(user)
            .fetch_all(pool)
            .await)?)
    }

    /// The link with this token, used up by no one yet; whether it is still good, its times tell.
    pub async fn link(
        &self,
        kind: LinkKind,
        digest: TokenDigest,
    ) -> Result<Option<LinkRow>, DbError> {
        const SQL: &str = "SELECT email, seller_id, role, made_by, created_us, expires_us FROM account_links \
             WHERE kind = $1 AND digest = $2";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(kind.as_str())
            .bind(digest.0.to_vec())
            .fetch_optional(pool)
            .await)?)
    }

    /// The scope's invitations that nobody has accepted and whose time has not run out, newest first.
    pub async fn invitations(
        &self,
        scope: SellerScope,
        now: Time,
    ) -> Result<Vec<LinkRow>, DbError> {
        const SQL: &str = "SELECT email, seller_id, role, made_by, created_us, expires_us FROM account_links \
             WHERE seller_id = $1 AND kind = 'invitation' AND expires_us > $2 ORDER BY created_us DESC, email";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .bind(now)
            .fetch_all(pool)
            .await)?)
    }

    /// Failures of a subject since a time.
    pub async fn sign_in_failures(&self, subject: &str, since: Time) -> Result<i64, DbError> {
        const SQL: &str =
            "SELECT COUNT(*) FROM sign_in_failures WHERE subject = $1 AND at_us >= $2";
        Ok(on_db!(self, |pool| sqlx::query_scalar(SQL)
            .bind(subject)
            .bind(since)
            .fetch_one(pool)
            .await)?)
    }

    /// Forgets sessions begun before one time or last used before another, links that stopped working before now, and
    /// failures to sign in that count no more; see [`Db::forget_wrong_codes`] for those that count longer.
    pub async fn forget_past_sign_ins(
        &self,
        begun: Time,
        seen: Time,
        now: Time,
        failed: Time,
    ) -> Result<(), DbError> {
        const BEGUN: &str = "DELETE FROM sessions WHERE id IN \
             (SELECT id FROM sessions WHERE created_us < $1 LIMIT $2)";
        const SEEN: &str = "DELETE FROM sessions WHERE id IN \
             (SELECT id FROM sessions WHERE seen_us < $1 LIMIT $2)";
        const LINKS: &str = "DELETE FROM account_links WHERE digest IN \
             (SELECT digest FROM account_links WHERE expires_us <= $1 LIMIT $2)";
        const FAILURES: &str = "DELETE FROM sign_in_failures WHERE (subject, at_us) IN \
             (SELECT subject, at_us FROM sign_in_failures WHERE at_us < $1 AND subject NOT LIKE 'codes%' LIMIT $2)";
        let done = [
            self.forget(BEGUN, begun.0).await,
            self.forget(SEEN, seen.0).await,
            self.forget(LINKS, now.0).await,
            self.forget(FAILURES, failed.0).await,
        ];
        // Each is tried, whatever becomes of the others.
        done.into_iter().collect()
    }
}

impl WriteTx {
    /// The hash of a User's password, which nobody else changes before this transaction has ended.
    pub async fn locked_password(&mut self, user: UserId) -> Result<Option<String>, DbError> {
        const SQLITE: &str = "SELECT password_hash FROM users WHERE id = $1";
        const POSTGRES: &str = "SELECT password_hash FROM users WHERE id = $1 FOR UPDATE";
        Ok(match &mut self.inner {
            Tx::Sqlite(tx) => {
                sqlx::query_scalar(SQLITE)
                    .bind(user)
                    .fetch_optional(&mut **tx)
                    .await?
            }
            Tx::Postgres(tx) => {
                let work = sqlx::query_scalar(POSTGRES)
                    .bind(user)
                    .fetch_optional(&mut **tx);
                answered(work).await?
            }
        })
    }

    /// Adds a User; [`DbError::Unique`] if the address is taken.
    pub async fn insert_user(
        &mut self,
        id: UserId,
        email: &Email,
        password_hash: &str,
        at: Time,
    ) -> Result<(), DbError> {
        const SQL: &str =
            "INSERT INTO users (id, email, password_hash, created_us) VALUES ($1, $2, $3, $4)";
        on_tx!(self, |conn| sqlx::query(SQL)
            .bind(id)
            .bind(email.as_str())
            .bind(password_hash)
            .bind(at)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Gives a User another password, if theirs is still the one of this hash; whether it was.
    pub async fn replace_password(
        &mut self,
        user: UserId,
        old_hash: &str,
        new_hash: &str,
    ) -> Result<bool, DbError> {
        const SQL: &str =
            "UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2";
        let done = on_tx!(self, |conn| sqlx::query(SQL)
            .bind(user)
            .bind(old_hash)
            .bind(new_hash)
            .execute(conn)
            .await
            .map(|done| done.rows_affected()))?;
        Ok(done > 0)
    }

    /// Makes a User a member of a Seller; [`DbError::Unique`] if it is one already.
    pub async fn insert_membership(
        &mut self,
        user: UserId,
        seller: SellerId,
        role: Role,
        at: Time,
    ) -> Result<(), DbError> {
        const SQL: &str = "INSERT INTO memberships (user_id, seller_id, role, created_us) VALUES ($1, $2, $3, $4)";
        on_tx!(self, |conn| sqlx::query(SQL)
            .bind(user)
            .bind(seller)
            .bind(role)
            .bind(at)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Adds a link.
    pub async fn insert_link(
        &mut self,
        kind: LinkKind,
        digest: TokenDigest,
        link: &LinkRow,
    ) -> Result<(), DbError> {
        const SQL: &str = "INSERT INTO account_links \
             (digest, kind, email, seller_id, role, made_by, created_us, expires_us) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        on_tx!(self, |conn| sqlx::query(SQL)
            .bind(digest.0.to_vec())
            .bind(kind.as_str())
            .bind(&link.email)
            .bind(link.seller_id)
            .bind(link.role)
            .bind(&link.made_by)
            .bind(link.created_us)
            .bind(link.expires_us)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Uses a link up; `None` if it is used up already, or never was.
    pub async fn take_link(
        &mut self,
        kind: LinkKind,
        digest: TokenDigest,
    ) -> Result<Option<LinkRow>, DbError> {
        const SQL: &str = "DELETE FROM account_links WHERE kind = $1 AND digest = $2 \
             RETURNING email, seller_id, role, made_by, created_us, expires_us";
        Ok(on_tx!(self, |conn| sqlx::query_as(SQL)
            .bind(kind.as_str())
            .bind(digest.0.to_vec())
            .fetch_optional(conn)
            .await)?)
    }

    /// Takes back every link of a kind that an address holds: to one Seller, or wherever it leads. How many.
    pub async fn take_links_back(
        &mut self,
        kind: LinkKind,
        email: &str,
        seller: Option<SellerId>,
    ) -> Result<u64, DbError> {
        const SQL: &str = "DELETE FROM account_links WHERE kind = $1 AND email = $2 \
             AND ($3 IS NULL OR seller_id = $3)";
        Ok(on_tx!(self, |conn| sqlx::query(SQL)
            .bind(kind.as_str())
            .bind(email)
            .bind(seller)
            .execute(conn)
            .await
            .map(|done| done.rows_affected()))?)
    }

    /// Notes that a link for a new password was asked for, by whoever said that they were this User; `false` if one was since
    /// this time.
    pub async fn note_reset_asked(
        &mut self,
        user: UserId,
        at: Time,
        since: Time,
    ) -> Result<bool, DbError> {
        const SQL: &str =
            "UPDATE users SET reset_asked_us = $2 WHERE id = $1 AND reset_asked_us <= $3";
        Ok(on_tx!(self, |conn| sqlx::query(SQL)
            .bind(user)
            .bind(at)
            .bind(since)
            .execute(conn)
            .await
            .map(|done| done.rows_affected() == 1))?)
    }

    /// Gives a link another token, and more time from now on; what kind of link it is, or `None` if it was used, taken back,
    /// or is too old.
    pub(super) async fn renew_link(
        &mut self,
        present: TokenDigest,
        new: TokenDigest,
        now: Time,
        works_for: impl Fn(LinkKind) -> Duration,
    ) -> Result<Option<LinkKind>, DbError> {
        const KIND: &str = "SELECT kind FROM account_links WHERE digest = $1 AND expires_us > $2";
        const RENEW: &str =
            "UPDATE account_links SET digest = $2, expires_us = $3 WHERE digest = $1";
        let kind: Option<String> = on_tx!(self, |conn| sqlx::query_scalar(KIND)
            .bind(present.0.to_vec())
            .bind(now)
            .fetch_optional(conn)
            .await)?;
        let Some(kind) = kind.and_then(|kind| LinkKind::of_name(&kind)) else {
            return Ok(None);
        };
        let renewed = on_tx!(self, |conn| sqlx::query(RENEW)
            .bind(present.0.to_vec())
            .bind(new.0.to_vec())
            .bind(now.after(works_for(kind)))
            .execute(conn)
            .await
            .map(|done| done.rows_affected() == 1))?;
        Ok(renewed.then_some(kind))
    }

    /// Notes a failure to sign in, once under each of its subjects.
    pub async fn insert_sign_in_failure(
        &mut self,
        subjects: &[String],
        at: Time,
    ) -> Result<(), DbError> {
        const SQL: &str = "INSERT INTO sign_in_failures (subject, at_us) VALUES ($1, $2)";
        for subject in subjects {
            on_tx!(self, |conn| sqlx::query(SQL)
                .bind(subject)
                .bind(at)
                .execute(conn)
                .await
                .map(drop))?;
        }
        Ok(())
    }
}

impl ScopedTx {
    /// A User's role with the scope's Seller, as it is under this transaction's lock.
    pub async fn role_of(&mut self, user: UserId) -> Result<Option<Role>, DbError> {
        const SQL: &str = "SELECT role FROM memberships WHERE user_id = $1 AND seller_id = $2";
        Ok(on_tx!(self.tx, |conn| sqlx::query_scalar(SQL)
            .bind(user)
            .bind(self.scope.seller())
            .fetch_optional(conn)
            .await)?)
    }

    /// How many owners the scope's Seller has.
    pub async fn count_owners(&mut self) -> Result<i64, DbError> {
        const SQL: &str =
            "SELECT COUNT(*) FROM memberships WHERE seller_id = $1 AND role = 'owner'";
        Ok(on_tx!(self.tx, |conn| sqlx::query_scalar(SQL)
            .bind(self.scope.seller())
            .fetch_one(conn)
            .await)?)
    }

    /// Changes how far a member of the scope's Seller may act.
    pub async fn set_role(&mut self, user: UserId, role: Role) -> Result<(), DbError> {
        const SQL: &str = "UPDATE memberships SET role = $3 WHERE user_id = $1 AND seller_id = $2";
        on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(user)
            .bind(self.scope.seller())
            .bind(role)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Ends a membership of the scope's Seller.
    pub async fn delete_membership(&mut self, user: UserId) -> Result<(), DbError> {
        const SQL: &str = "DELETE FROM memberships WHERE user_id = $1 AND seller_id = $2";
        on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(user)
            .bind(self.scope.seller())
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Adds an invitation to the scope's Seller; the same address's earlier ones stop working.
    pub async fn insert_invitation(
        &mut self,
        digest: TokenDigest,
        link: &LinkRow,
    ) -> Result<(), DbError> {
        let link = LinkRow {
            seller_id: Some(self.scope.seller()),
            ..link.clone()
        };
        self.tx
            .take_links_back(LinkKind::Invitation, &link.email, link.seller_id)
            .await?;
        self.tx
            .insert_link(LinkKind::Invitation, digest, &link)
            .await
    }

    /// Takes back the invitations to the scope's Seller that somebody made, named as the audit log names them. To whom they
    /// were.
    pub async fn take_back_invitations_by(&mut self, maker: &str) -> Result<Vec<String>, DbError> {
        const SQL: &str = "DELETE FROM account_links \
             WHERE kind = 'invitation' AND seller_id = $1 AND made_by = $2 RETURNING email";
        Ok(on_tx!(self.tx, |conn| sqlx::query_scalar(SQL)
            .bind(self.scope.seller())
            .bind(maker)
            .fetch_all(conn)
            .await)?)
    }

    /// The roles in which an address is invited to the scope's Seller.
    pub async fn invited_roles(&mut self, email: &str) -> Result<Vec<Role>, DbError> {
        const SQL: &str = "SELECT role FROM account_links \
             WHERE kind = 'invitation' AND email = $1 AND seller_id = $2 AND role IS NOT NULL";
        Ok(on_tx!(self.tx, |conn| sqlx::query_scalar(SQL)
            .bind(email)
            .bind(self.scope.seller())
            .fetch_all(conn)
            .await)?)
    }

    /// Takes back the invitations to the scope's Seller that an address holds; how many.
    pub async fn take_invitations_back(&mut self, email: &str) -> Result<u64, DbError> {
        let seller = self.scope.seller();
        self.tx
            .take_links_back(LinkKind::Invitation, email, Some(seller))
            .await
    }
}
