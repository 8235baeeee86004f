//! The browsers in which people are signed in.
//!
//! Never: a token in a parameter; only its digest comes this far.

use sqlx::FromRow;

use super::{Db, DbError, WriteTx, on_db, on_tx};
use crate::{
    accounts::tokens::TokenDigest,
    clock::Time,
    ids::{SessionId, UserId},
};

/// One browser that is signed in.
#[derive(Clone, Debug, FromRow)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// That User's address.
    pub email: String,
    /// When it began.
    pub created_us: Time,
    /// Its last request, to the minute.
    pub seen_us: Time,
    /// When the password was last given in it.
    pub confirmed_us: Time,
    /// Where it was last used.
    pub address: String,
    /// By what.
    pub user_agent: String,
}

impl Db {
    /// The session with this token; whether it is still good, its times tell.
    pub async fn session(&self, digest: TokenDigest) -> Result<Option<SessionRow>, DbError> {
        const SQL: &str = "SELECT s.id, s.user_id, u.email, s.created_us, s.seen_us, s.confirmed_us, s.address, \
             s.user_agent FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.digest = $1";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(digest.0.to_vec())
            .fetch_optional(pool)
            .await)?)
    }

    /// A User's sessions, the one used last first.
    pub async fn sessions_of(&self, user: UserId) -> Result<Vec<SessionRow>, DbError> {
        const SQL: &str = "SELECT s.id, s.user_id, u.email, s.created_us, s.seen_us, s.confirmed_us, s.address, \
             s.user_agent FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.user_id = $1 \
             ORDER BY s.seen_us DESC, s.id DESC";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(user)
            .fetch_all(pool)
            .await)?)
    }
}

impl WriteTx {
    /// Adds a session; of the row, everything but the User's address is stored.
    pub async fn insert_session(
        &mut self,
        session: &SessionRow,
        digest: TokenDigest,
    ) -> Result<(), DbError> {
        const SQL: &str = "INSERT INTO sessions \
             (id, user_id, digest, created_us, seen_us, confirmed_us, address, user_agent) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        on_tx!(self, |conn| sqlx::query(SQL)
            .bind(session.id)
            .bind(session.user_id)
            .bind(digest.0.to_vec())
            .bind(session.created_us)
            .bind(session.seen_us)
            .bind(session.confirmed_us)
            .bind(&session.address)
            .bind(&session.user_agent)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Notes a session's use.
    pub async fn touch_session(
        &mut self,
        session: SessionId,
        at: Time,
        address: &str,
        user_agent: &str,
    ) -> Result<(), DbError> {
        const SQL: &str =
            "UPDATE sessions SET seen_us = $2, address = $3, user_agent = $4 WHERE id = $1";
        on_tx!(self, |conn| sqlx::query(SQL)
            .bind(session)
            .bind(at)
            .bind(address)
            .bind(user_agent)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Notes that the password was given again, and gives the session another token; whether there is such a session.
    pub async fn confirm_session(
        &mut self,
        session: SessionId,
        digest: TokenDigest,
        at: Time,
    ) -> Result<bool, DbError> {
        const SQL: &str = "UPDATE sessions SET digest = $2, confirmed_us = $3 WHERE id = $1";
        let done = on_tx!(self, |conn| sqlx::query(SQL)
            .bind(session)
            .bind(digest.0.to_vec())
            .bind(at)
            .execute(conn)
            .await
            .map(|done| done.rows_affected()))?;
        Ok(done > 0)
    }

    /// Ends one of a User's sessions; whether there was such a one.
    pub async fn end_session(&mut self, user: UserId, session: SessionId) -> Result<bool, DbError> {
        const SQL: &str = "DELETE FROM sessions WHERE id = $1 AND user_id = $2";
        let done = on_tx!(self, |conn| sqlx::query(SQL)
            .bind(session)
            .bind(user)
            .execute(conn)
            .await
            .map(|done| done.rows_affected()))?;
        Ok(done > 0)
    }

    /// Ends a User's sessions, all or all but one; which.
    pub async fn end_sessions_of(
        &mut self,
        user: UserId,
        but: Option<SessionId>,
    ) -> Result<Vec<SessionId>, DbError> {
        const SQL: &str = "DELETE FROM sessions WHERE user_id = $1 AND ($2 IS NULL OR id <> $2) \
             RETURNING id";
        Ok(on_tx!(self, |conn| sqlx::query_scalar(SQL)
            .bind(user)
            .bind(but)
            .fetch_all(conn)
            .await)?)
    }

    /// Ends all of a User's sessions but the so many that were used last; which.
    pub async fn keep_sessions(
        &mut self,
        user: UserId,
        most: i64,
    ) -> Result<Vec<SessionId>, DbError> {
        const SQL: &str = "DELETE FROM sessions WHERE user_id = $1 AND id NOT IN \
             (SELECT id FROM sessions WHERE user_id = $1 ORDER BY seen_us DESC, id DESC LIMIT $2) \
             RETURNING id";
        Ok(on_tx!(self, |conn| sqlx::query_scalar(SQL)
            .bind(user)
            .bind(most)
            .fetch_all(conn)
            .await)?)
    }
}
