//! Second factors of people: their secrets, which time steps were used, recovery codes, and sign-ins that wait for a code.
//!
//! Never: a step or a recovery code accepted twice, whoever asks at the same moment; a recovery code or a token in a
//! parameter: only digests come this far. The secret does, as codes follow from it.

use sqlx::FromRow;

use super::{Db, DbError, ScopedTx, WriteTx, on_db, on_tx};
use crate::{
    accounts::{codes::FactorSecret, tokens::TokenDigest},
    clock::Time,
    ids::UserId,
};

/// A person's second factor as they see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct FactorRow {
    /// When the secret was made.
    pub created_us: Time,
    /// Since when it is in force; `None` while it is being set up.
    pub confirmed_us: Option<Time>,
    /// Recovery codes that were not used yet.
    pub codes_left: i64,
}

/// A secret as it is stored, with what was used of it.
#[derive(Debug)]
pub struct StoredSecret {
    /// It.
    pub secret: FactorSecret,
    /// Whether it is in force.
    pub is_confirmed: bool,
    /// When it was made.
    pub created: Time,
}

/// A sign-in that waits for its code.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct HalfSignInRow {
    /// Whose.
    pub user_id: UserId,
    /// That User's address.
    pub email: String,
    /// Until when the code may come.
    pub expires_us: Time,
}

impl Db {
    /// A User's second factor, in force or not.
    pub async fn second_factor(&self, user: UserId) -> Result<Option<FactorRow>, DbError> {
        const SQL: &str = "SELECT f.created_us, f.confirmed_us, \
             (SELECT COUNT(*) FROM recovery_codes c WHERE c.user_id = f.user_id) AS codes_left \
             FROM second_factors f WHERE f.user_id = $1";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(user)
            .fetch_optional(pool)
            .await)?)
    }

    /// The sign-in with this token that waits for its code; whether it is still good, its time tells.
    pub async fn half_sign_in(
        &self,
        digest: TokenDigest,
    ) -> Result<Option<HalfSignInRow>, DbError> {
        const SQL: &str = "SELECT h.user_id, u.email, h.expires_us FROM half_sign_ins h \
             JOIN users u ON u.id = h.user_id WHERE h.digest = $1";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(digest.0.to_vec())
            .fetch_optional(pool)
            .await)?)
    }

    /// Forgets sign-ins whose code did not come in time.
    pub async fn forget_half_sign_ins(&self, now: Time) -> Result<(), DbError> {
        const SQL: &str = "DELETE FROM half_sign_ins WHERE digest IN \
             (SELECT digest FROM half_sign_ins WHERE expires_us <= $1 LIMIT $2)";
        self.forget(SQL, now.0).await
    }

    /// Forgets wrong codes before a time. They stand among the failures to sign in, under subjects that begin with `codes`.
    pub async fn forget_wrong_codes(&self, before: Time) -> Result<(), DbError> {
        const SQL: &str = "DELETE FROM sign_in_failures WHERE (subject, at_us) IN \
             (SELECT subject, at_us FROM sign_in_failures WHERE at_us < $1 AND subject LIKE 'codes%' LIMIT $2)";
        self.forget(SQL, before.0).await
    }
}

impl WriteTx {
    /// Whether a User has a second factor that is in force.
    pub async fn has_second_factor(&mut self, user: UserId) -> Result<bool, DbError> {
        const SQL: &str =
            "SELECT 1 FROM second_factors WHERE user_id = $1 AND confirmed_us IS NOT NULL";
        Ok(on_tx!(self, |conn| sqlx::query(SQL)
            .bind(user)
            .fetch_optional(conn)
            .await
            .map(|row| row.is_some()))?)
    }

    /// A User's secret.
    pub async fn factor_secret(&mut self, user: UserId) -> Result<Option<StoredSecret>, DbError> {
        const SQL: &str =
            "SELECT secret, confirmed_us, created_us FROM second_factors WHERE user_id = $1";
        let found: Option<(Vec<u8>, Option<Time>, Time)> =
            on_tx!(self, |conn| sqlx::query_as(SQL)
                .bind(user)
                .fetch_optional(conn)
                .await)?;
        let Some((bytes, confirmed, created)) = found else {
            return Ok(None);
        };
        let bytes = zeroize::Zeroizing::new(bytes);
        let secret = FactorSecret::from_stored(&bytes);
        let secret = secret.ok_or_else(|| DbError::Damaged("a second factor's secret".into()))?;
        Ok(Some(StoredSecret {
            secret,
            is_confirmed: confirmed.is_some(),
            created,
        }))
    }

    /// Begins a second factor, or begins it anew with another secret; `false` if one is in force.
    pub async fn begin_second_factor(
        &mut self,
        user: UserId,
        secret: &FactorSecret,
        at: Time,
    ) -> Result<bool, DbError> {
        const SQL: &str = "INSERT INTO second_factors \
             (user_id, secret, created_us, confirmed_us, last_step, warned_us) VALUES ($1, $2, $3, NULL, 0, 0) \
             ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, created_us = excluded.created_us \
             WHERE second_factors.confirmed_us IS NULL";
        Ok(on_tx!(self, |conn| sqlx::query(SQL)
            .bind(user)
            .bind(secret.stored().to_vec())
            .bind(at)
            .execute(conn)
            .await
            .map(|done| done.rows_affected() == 1))?)
    }

    /// Puts a second factor that was begun into force, and uses up the step whose code showed it; `false` if there is none, it
    /// is in force already, or the step was used.
    pub async fn confirm_second_factor(
        &mut self,
        user: UserId,
        step: i64,
        at: Time,
    ) -> Result<bool, DbError> {
        const SQL: &str = "UPDATE second_factors SET confirmed_us = $3, last_step = $2 \
             WHERE user_id = $1 AND confirmed_us IS NULL AND last_step < $2";
        Ok(on_tx!(self, |conn| sqlx::query(SQL)
            .bind(user)
            .bind(step)
            .bind(at)
            .execute(conn)
            .await
            .map(|done| done.rows_affected() == 1))?)
    }

    /// Uses up a step of a second factor that is in force; `false` if it, or a later one, was used already.
    pub async fn use_step(&mut self, user: UserId, step: i64) -> Result<bool, DbError> {
        const SQL: &str = "UPDATE second_factors SET last_step = $2 \
             WHERE user_id = $1 AND confirmed_us IS NOT NULL AND last_step < $2";
        Ok(on_tx!(self, |conn| sqlx::query(SQL)
            .bind(user)
            .bind(step)
            .execute(conn)
            .await
            .map(|done| done.rows_affected() == 1))?)
    }

    /// Takes a User's second factor away, with its recovery codes and whatever sign-in waits for a code of it; whether there
    /// was one.
    pub async fn remove_second_factor(&mut self, user: UserId) -> Result<bool, DbError> {
        const CODES: &str = "DELETE FROM recovery_codes WHERE user_id = $1";
        const FACTOR: &str = "DELETE FROM second_factors WHERE user_id = $1";
        on_tx!(self, |conn| sqlx::query(CODES)
            .bind(user)
            .execute(conn)
            .await
            .map(drop))?;
        self.end_half_sign_ins(user).await?;
        Ok(on_tx!(self, |conn| sqlx::query(FACTOR)
            .bind(user)
            .execute(conn)
            .await
            .map(|done| done.rows_affected() == 1))?)
    }

    /// Gives a User these recovery codes; earlier ones work no more.
    pub async fn replace_recovery_codes(
        &mut self,
        user: UserId,
        codes: &[TokenDigest],
        at: Time,
    ) -> Result<(), DbError> {
        const OLD: &str = "DELETE FROM recovery_codes WHERE user_id = $1";
        const NEW: &str =
            "INSERT INTO recovery_codes (digest, user_id, created_us) VALUES ($1, $2, $3)";
        on_tx!(self, |conn| sqlx::query(OLD)
            .bind(user)
            .execute(conn)
            .await
            .map(drop))?;
        for code in codes {
            on_tx!(self, |conn| sqlx::query(NEW)
                .bind(code.0.to_vec())
                .bind(user)
                .bind(at)
                .execute(conn)
                .await
                .map(drop))?;
        }
        Ok(())
    }

    /// Uses up a recovery code of a User whose second factor is in force; whether it was one. Of two who use it at once one
    /// does.
    pub async fn use_recovery_code(
        &mut self,
        user: UserId,
        code: TokenDigest,
    ) -> Result<bool, DbError> {
        const SQL: &str = "DELETE FROM recovery_codes WHERE digest = $1 AND user_id = $2 AND EXISTS \
             (SELECT 1 FROM second_factors f WHERE f.user_id = $2 AND f.confirmed_us IS NOT NULL)";
        Ok(on_tx!(self, |conn| sqlx::query(SQL)
            .bind(code.0.to_vec())
            .bind(user)
            .execute(conn)
            .await
            .map(|done| done.rows_affected() == 1))?)
    }

    /// Recovery codes of a User that were not used yet.
    pub async fn count_recovery_codes(&mut self, user: UserId) -> Result<i64, DbError> {
        const SQL: &str = "SELECT COUNT(*) FROM recovery_codes WHERE user_id = $1";
        Ok(on_tx!(self, |conn| sqlx::query_scalar(SQL)
            .bind(user)
            .fetch_one(conn)
            .await)?)
    }

    /// Adds a sign-in that waits for its code.
    pub async fn insert_half_sign_in(
        &mut self,
        digest: TokenDigest,
        user: UserId,
        expires: Time,
    ) -> Result<(), DbError> {
        const SQL: &str =
            "INSERT INTO half_sign_ins (digest, user_id, expires_us) VALUES ($1, $2, $3)";
        on_tx!(self, |conn| sqlx::query(SQL)
            .bind(digest.0.to_vec())
            .bind(user)
            .bind(expires)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Uses up a sign-in that waits for its code; until when that might have come, or `None` if it is used up already.
    pub async fn take_half_sign_in(
        &mut self,
        digest: TokenDigest,
    ) -> Result<Option<Time>, DbError> {
        const SQL: &str = "DELETE FROM half_sign_ins WHERE digest = $1 RETURNING expires_us";
        Ok(on_tx!(self, |conn| sqlx::query_scalar(SQL)
            .bind(digest.0.to_vec())
            .fetch_optional(conn)
            .await)?)
    }

    /// Ends every sign-in of a User that waits for its code: its password, or its second factor, is another by now.
    pub async fn end_half_sign_ins(&mut self, user: UserId) -> Result<(), DbError> {
        const SQL: &str = "DELETE FROM half_sign_ins WHERE user_id = $1";
        on_tx!(self, |conn| sqlx::query(SQL)
            .bind(user)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// How many wrong codes a subject had since a time, and when the last one was.
    pub async fn wrong_codes(
        &mut self,
        subject: &str,
        since: Time,
    ) -> Result<(i64, Option<Time>), DbError> {
        const SQL: &str =
            "SELECT COUNT(*), MAX(at_us) FROM sign_in_failures WHERE subject = $1 AND at_us >= $2";
        Ok(on_tx!(self, |conn| sqlx::query_as(SQL)
            .bind(subject)
            .bind(since)
            .fetch_one(conn)
            .await)?)
    }

    /// Takes a failure of a subject back: it was none.
    pub async fn take_sign_in_failure(&mut self, subject: &str, at: Time) -> Result<(), DbError> {
        const SQL: &str = "DELETE FROM sign_in_failures WHERE subject = $1 AND at_us = $2";
        on_tx!(self, |conn| sqlx::query(SQL)
            .bind(subject)
            .bind(at)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Notes that a User is warned that somebody guesses at their codes; `false` if they were since this time.
    pub async fn note_warned(
        &mut self,
        user: UserId,
        at: Time,
        since: Time,
    ) -> Result<bool, DbError> {
        const SQL: &str =
            "UPDATE second_factors SET warned_us = $2 WHERE user_id = $1 AND warned_us <= $3";
        Ok(on_tx!(self, |conn| sqlx::query(SQL)
            .bind(user)
            .bind(at)
            .bind(since)
            .execute(conn)
            .await
            .map(|done| done.rows_affected() == 1))?)
    }
}

impl ScopedTx {
    /// Whether a User has a second factor that is in force, as it is under this transaction's lock.
    pub async fn has_second_factor(&mut self, user: UserId) -> Result<bool, DbError> {
        self.tx.has_second_factor(user).await
    }

    /// The addresses of the members of the scope's Seller who have no second factor in force.
    pub async fn members_without_factor(&mut self) -> Result<Vec<String>, DbError> {
        const SQL: &str = "SELECT u.email FROM memberships m JOIN users u ON u.id = m.user_id \
             WHERE m.seller_id = $1 AND NOT EXISTS (SELECT 1 FROM second_factors f \
             WHERE f.user_id = m.user_id AND f.confirmed_us IS NOT NULL) ORDER BY u.email";
        Ok(on_tx!(self.tx, |conn| sqlx::query_scalar(SQL)
            .bind(self.scope.seller())
            .fetch_all(conn)
            .await)?)
    }

    /// Demands a second factor of whoever acts for the scope's Seller, or leaves it to them; `false` if it was so already.
    pub async fn require_second_factor(&mut self, required: bool) -> Result<bool, DbError> {
        const SQL: &str = "UPDATE sellers SET second_factor_required = $2 \
             WHERE id = $1 AND second_factor_required <> $2";
        Ok(on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(self.scope.seller())
            .bind(i64::from(required))
            .execute(conn)
            .await
            .map(|done| done.rows_affected() == 1))?)
    }
}
