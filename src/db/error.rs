//! What can go wrong in the database, in the words that matter above it: is it our fault for now, the caller's, or a bug?
//!
//! Never: an engine's own message shown to a caller; it goes to the log.

/// A database call that did not do what was asked. Nothing it was part of has been acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Full, locked, gone or slow. Trying again later may well work.
    #[error("the database cannot do this at present: {0}")]
    Unavailable(sqlx::Error),
    /// Another row already has what must be unique.
    #[error("a row with this unique value exists")]
    Unique,
    /// What authorised this write holds no more.
    #[error("what authorised this write holds no more: {0}")]
    Fenced(#[from] Fenced),
    /// A row holds what this program cannot have written.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// The schema does not fit this program.
    #[error("the database's schema does not fit this version: {0}")]
    Schema(sqlx::migrate::MigrateError),
    /// The schema has left this program behind.
    #[error("{}", super::schema::TOO_OLD)]
    TooOld,
    /// Anything else, which is a defect of ours.
    #[error("unexpected database error: {0}")]
    Internal(sqlx::Error),
}

/// Why a write that was authorised when its request came is not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fenced {
    /// The key is dead.
    #[error("the key is dead")]
    Key,
    /// The User is no member any more, or one who may not act.
    #[error("the person is no member who may act")]
    Member,
    /// The marketplace has suspended or closed the account.
    #[error("the account is suspended or closed")]
    Inactive,
    /// The key's account has come to name networks, and the request is from elsewhere.
    #[error("the key is not to be used from there")]
    Elsewhere,
    /// The Platform's plan has no platform access any more.
    #[error("the platform's plan has no platform access")]
    Plan,
    /// The Seller has withdrawn its grant.
    #[error("the Seller has withdrawn its grant")]
    Grant,
    /// The marketplace has suspended or closed the account of the Seller that granted it.
    #[error("the Seller's account is suspended or closed")]
    SellerInactive,
    /// The account is a Platform's where a Seller's is needed, or the other way round.
    #[error("the account is of the other kind")]
    Kind,
}

impl From<sqlx::migrate::MigrateError> for DbError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Schema(error)
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Database(db) if db.is_unique_violation() => Self::Unique,
            E::Database(db) if db.code().is_some_and(|code| passes(&code)) => {
                Self::Unavailable(error)
            }
            E::PoolTimedOut | E::PoolClosed | E::Io(_) | E::WorkerCrashed | E::Tls(_) => {
                Self::Unavailable(error)
            }
            // What a server sends that is about to end, or a load balancer that has none behind it.
            E::Protocol(_) => Self::Unavailable(error),
            E::ColumnDecode { source, .. } => Self::Damaged(source.to_string()),
            _ => Self::Internal(error),
        }
    }
}

/// Whether an engine's code names a condition that passes.
///
/// SQLite gives a number whose low byte is the kind: busy, locked, read-only, I/O error, full, cannot open. PostgreSQL
/// gives five characters whose first two are the class: connection, rollback, resources, not in state, operator, system.
fn passes(code: &str) -> bool {
    if let (true, Ok(number)) = (code.len() != 5, code.parse::<u32>()) {
        return matches!(number & 0xff, 5 | 6 | 8 | 10 | 13 | 14);
    }
    matches!(
        code.get(..2),
        Some("08" | "25" | "40" | "53" | "55" | "57" | "58")
    )
}

#[cfg(test)]
mod tests {
    use super::{DbError, passes};

    /// A load balancer takes the connection and ends it where it has no server: that is read as a broken greeting.
    #[test]
    fn a_server_that_breaks_off_is_one_that_cannot_answer_at_present() {
        let error = sqlx::Error::Protocol("unexpected response from SSLRequest: 0x00".into());
        assert!(matches!(DbError::from(error), DbError::Unavailable(_)));
    }

    #[test]
    fn conditions_that_pass_are_told_from_defects() {
        for code in [
            "5", "261", "517", "6", "8", "10", "522", "13", "14", "53100", "57014", "40P01",
            "55P03",
        ] {
            assert!(passes(code), "{code}");
        }
        for code in ["1", "11", "19", "2067", "1555", "42P01", "23505", "22P02"] {
            assert!(!passes(code), "{code}");
        }
    }
}
