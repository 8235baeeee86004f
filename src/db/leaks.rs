//! Signs that a key is where it should not be: kept, counted, shown, and forgotten in time.
//!
//! Never: a key, or who reported it; rows that grow with the number of places that somebody names.

use sqlx::FromRow;

use super::{Db, DbError, ScopedTx, WriteTx, on_db, on_tx};
use crate::{
    accounts::AccountStatus,
    clock::Time,
    ids::{KeyId, LeakId, SellerId},
    keys::{
        found::{Finder, Outcome, Place},
        scope::SellerScope,
    },
};

/// Places of one key that one finder is told apart at. All further ones are counted together, as a place without a name.
pub const LEAK_PLACES: i64 = 10;

/// One sign, with whose key it is about and how that key stands.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct LeakRow {
    /// Its id.
    pub id: LeakId,
    /// Whose key.
    pub seller_id: SellerId,
    /// That Seller's short name.
    pub slug: String,
    /// That Seller's name.
    pub name: String,
    /// Whether its keys are accepted.
    pub status: AccountStatus,
    /// Which key.
    pub key_id: KeyId,
    /// Its last four characters.
    pub key_hint: String,
    /// `live`, `staged`, `replaced`, `expired` or `forgotten`.
    pub key_state: String,
    /// Who says so.
    pub finder: Finder,
    /// Where it was found, or the origin of the page whose browser sent it; empty if nobody said, or if there were too many.
    pub place: String,
    /// What kind of place that is; empty if nobody said.
    pub source: String,
    /// What was done about it.
    pub outcome: Outcome,
    /// How often it was said.
    pub times: i64,
    /// When it was first said.
    pub first_us: Time,
    /// When it was last said.
    pub last_us: Time,
    /// When its mails were written.
    pub told_us: Option<Time>,
    /// When an owner or admin dismissed it.
    pub dismissed_us: Option<Time>,
}

/// What became of a sign that was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct NotedLeak {
    /// Its id.
    pub id: LeakId,
    /// How often it was said by now.
    pub times: i64,
}

/// What was dismissed.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct DismissedLeak {
    /// About which key.
    pub key_id: KeyId,
    /// Who said it.
    pub finder: Finder,
    /// Where.
    pub place: String,
    /// What kind of place.
    pub source: String,
}

/// Requests with one key whose browser was on a page of one origin, to be added to what is stored.
#[derive(Clone, Debug)]
pub struct BrowserRow {
    /// Whose key.
    pub seller: SellerId,
    /// Which key.
    pub key: KeyId,
    /// The page's origin; empty for all that were not told apart.
    pub origin: Box<str>,
    /// How many.
    pub requests: i64,
    /// When the first of them came.
    pub first: Time,
    /// When the last of them came.
    pub last: Time,
}

/// One saying of a sign.
#[derive(Clone, Copy)]
struct Said<'a> {
    seller: SellerId,
    key: KeyId,
    finder: Finder,
    place: &'a str,
    source: &'a str,
    outcome: Outcome,
    times: i64,
    first: Time,
    last: Time,
}

/// What is read of a sign, from the tables that `leaks!` joins.
macro_rules! leaks {
    ($where:literal) => {
        concat!(
            "SELECT l.id, l.seller_id, s.slug, s.name, s.status, l.key_id, COALESCE(k.hint, g.hint, '') AS key_hint, ",
            "COALESCE(k.state, CASE WHEN g.id IS NULL THEN 'forgotten' ELSE 'staged' END) AS key_state, ",
            "l.finder, l.place, l.source, l.outcome, l.times, l.first_us, l.last_us, l.told_us, l.dismissed_us ",
            "FROM leaks l JOIN sellers s ON s.id = l.seller_id LEFT JOIN api_keys k ON k.id = l.key_id ",
            "LEFT JOIN staged_keys g ON g.id = l.key_id ",
            $where,
            " ORDER BY l.last_us DESC, l.id DESC LIMIT "
        )
    };
}

impl WriteTx {
    /// Whether this is a key of that Seller, whatever became of it: all that a finder's authority stands on.
    pub(super) async fn is_key_of(
        &mut self,
        seller: SellerId,
        key: KeyId,
    ) -> Result<bool, DbError> {
        const SQL: &str = "SELECT 1 FROM api_keys WHERE id = $1 AND seller_id = $2 \
             UNION ALL SELECT 1 FROM staged_keys WHERE id = $1 AND seller_id = $2";
        Ok(on_tx!(self, |conn| sqlx::query(SQL)
            .bind(key)
            .bind(seller)
            .fetch_optional(conn)
            .await
            .map(|row| row.is_some()))?)
    }

    /// Adds a sign or counts it once more, up to [`LEAK_PLACES`] of one key and finder; what is beyond is counted together.
    async fn say(&mut self, said: &Said<'_>) -> Result<NotedLeak, DbError> {
        if let Some(noted) = self.say_apart(said).await? {
            return Ok(noted);
        }
        let lump = Said {
            place: "",
            source: "",
            ..*said
        };
        let noted = self.say_apart(&lump).await?;
        noted.ok_or_else(|| DbError::Damaged("a sign could not be noted".into()))
    }

    /// The same of a sign that is told apart; `None` if it is one too many.
    async fn say_apart(&mut self, said: &Said<'_>) -> Result<Option<NotedLeak>, DbError> {
        // What was done is kept over "dead already", which every later saying would write. A finder's word about a key that lives
        // is shown again, even if it was dismissed; a browser's is not.
        const SQL: &str = "INSERT INTO leaks (id, seller_id, key_id, finder, place, source, outcome, times, first_us, last_us) \
             SELECT $1, $2, $3, $4, $5, $6, $7, CAST($8 AS BIGINT), CAST($9 AS BIGINT), CAST($10 AS BIGINT) \
             WHERE ($5 = '' AND $6 = '') OR $11 > (SELECT COUNT(*) FROM leaks WHERE key_id = $3 AND finder = $4 \
             AND (place <> '' OR source <> '')) \
             OR EXISTS (SELECT 1 FROM leaks WHERE key_id = $3 AND finder = $4 AND place = $5 AND source = $6) \
             ON CONFLICT (key_id, finder, place, source) DO UPDATE SET times = leaks.times + excluded.times, \
             last_us = CASE WHEN excluded.last_us > leaks.last_us THEN excluded.last_us ELSE leaks.last_us END, \
             outcome = CASE WHEN excluded.outcome = 'dead' THEN leaks.outcome ELSE excluded.outcome END, \
             dismissed_us = CASE WHEN excluded.outcome = 'told' THEN NULL ELSE leaks.dismissed_us END \
             RETURNING id, times";
        Ok(on_tx!(self, |conn| sqlx::query_as(SQL)
            .bind(LeakId::new())
            .bind(said.seller)
            .bind(said.key)
            .bind(said.finder)
            .bind(said.place)
            .bind(said.source)
            .bind(said.outcome)
            .bind(said.times)
            .bind(said.first)
            .bind(said.last)
            .bind(LEAK_PLACES)
            .fetch_optional(conn)
            .await)?)
    }
}

impl ScopedTx {
    /// Notes that a key of the scope's Seller was found: a new sign, or the same once more.
    pub async fn note_leak(
        &mut self,
        key: KeyId,
        finder: Finder,
        place: &Place,
        outcome: Outcome,
        at: Time,
    ) -> Result<NotedLeak, DbError> {
        let said = Said {
            seller: self.scope.seller(),
            key,
            finder,
            place: place.text(),
            source: place.source(),
            outcome,
            times: 1,
            first: at,
            last: at,
        };
        self.tx.say(&said).await
    }

    /// When mails were last written about signs of this key of the scope's Seller; `None` if never.
    pub async fn last_told_of(&mut self, key: KeyId) -> Result<Option<Time>, DbError> {
        const SQL: &str = "SELECT MAX(told_us) FROM leaks WHERE key_id = $1 AND seller_id = $2";
        Ok(on_tx!(self.tx, |conn| sqlx::query_scalar(SQL)
            .bind(key)
            .bind(self.scope.seller())
            .fetch_one(conn)
            .await)?)
    }

    /// Notes that mails are written about a sign.
    pub async fn leak_is_told(&mut self, leak: LeakId, at: Time) -> Result<(), DbError> {
        const SQL: &str = "UPDATE leaks SET told_us = $3 WHERE id = $1 AND seller_id = $2";
        on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(leak)
            .bind(self.scope.seller())
            .bind(at)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Dismisses a sign of the scope's Seller; `None` if there is none of this id, or if it was dismissed already.
    pub async fn dismiss_leak(
        &mut self,
        leak: LeakId,
        at: Time,
    ) -> Result<Option<DismissedLeak>, DbError> {
        const SQL: &str = "UPDATE leaks SET dismissed_us = $3 \
             WHERE id = $1 AND seller_id = $2 AND dismissed_us IS NULL RETURNING key_id, finder, place, source";
        Ok(on_tx!(self.tx, |conn| sqlx::query_as(SQL)
            .bind(leak)
            .bind(self.scope.seller())
            .bind(at)
            .fetch_optional(conn)
            .await)?)
    }
}

impl Db {
    /// Adds requests with an Origin header to what is stored, all or none.
    ///
    /// Every node writes in one order, so that two which write about the same keys wait for each other and never in a circle:
    /// first what has an origin, by key and origin, then what is counted together, by key. Which of them are, a node learns
    /// only as it writes.
    pub async fn add_browser_leaks(&self, rows: &[BrowserRow]) -> Result<(), DbError> {
        fn said<'a>(row: &'a BrowserRow, place: &'a str) -> Said<'a> {
            Said {
                seller: row.seller,
                key: row.key,
                finder: Finder::Browser,
                place,
                source: "",
                outcome: Outcome::Seen,
                times: row.requests,
                first: row.first,
                last: row.last,
            }
        }
        let mut rows: Vec<&BrowserRow> = rows.iter().collect();
        rows.sort_by(|one, other| (one.key, &one.origin).cmp(&(other.key, &other.origin)));
        let mut tx = self.begin_in_turn().await?;
        let mut together = Vec::new();
        for row in rows {
            let is_apart = !row.origin.is_empty();
            if !is_apart || tx.say_apart(&said(row, &row.origin)).await?.is_none() {
                together.push(row);
            }
        }
        for row in together {
            tx.say(&said(row, "")).await?;
        }
        tx.commit().await
    }

    /// The newest signs about keys of the scope's Seller, the last said first.
    pub async fn leaks_of(&self, scope: SellerScope, limit: i64) -> Result<Vec<LeakRow>, DbError> {
        const SQL: &str = concat!(leaks!("WHERE l.seller_id = $1"), "$2");
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }

    /// The newest signs about whosever keys, the last said first. For the operator, so without a scope.
    pub async fn newest_leaks(&self, limit: i64) -> Result<Vec<LeakRow>, DbError> {
        const SQL: &str = concat!(leaks!(""), "$1");
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }

    /// Forgets what finders last said before the one time, and what browsers last did before the other.
    pub async fn forget_leaks_before(&self, found: Time, seen: Time) -> Result<(), DbError> {
        const FOUND: &str = "DELETE FROM leaks WHERE id IN \
             (SELECT id FROM leaks WHERE last_us < $1 AND finder <> 'browser' LIMIT $2)";
        const SEEN: &str = "DELETE FROM leaks WHERE id IN \
             (SELECT id FROM leaks WHERE last_us < $1 AND finder = 'browser' LIMIT $2)";
        let found = self.forget(FOUND, found.0).await;
        let seen = self.forget(SEEN, seen.0).await;
        found.and(seen)
    }
}
