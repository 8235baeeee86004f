//! Erasing a person: what named them names a pseudonym from then on, or is gone.
//!
//! Where a person can be named: `users`, `memberships`, `sessions`, `account_links`, `outbox`, the makers of keys, free text
//! (the reasons that operators give, the places that finders of keys name), and the audit log, whose trigger lets exactly this
//! change pass while a row of `erasing` says who is meant.
//!
//! Never: an entry of the audit log removed for it; a name left in the database once this has been committed.

use sqlx::FromRow;

use super::{
    Db, DbError, Tx, WriteTx,
    fence::{Lock, end_holders, lock_number},
    on_db, on_tx,
    postgres::For,
};
use crate::{
    accounts::{
        Email, Role,
        erased::{Pseudonym, names, without},
    },
    clock::Time,
    ids::{AuditId, SellerId, UserId},
};

/// Entries of the audit log that are read at once.
const PORTION: i64 = 5_000;

/// Where free text may name a person: how such rows are found, how one is written anew, and whether it is a mail's.
const TEXTS: [(&str, &str, bool); 5] = {
    macro_rules! text {
        ($table:literal . $column:literal, $is_mail:literal) => {
            (
                concat!(
                    "SELECT id, ",
                    $column,
                    " FROM ",
                    $table,
                    " WHERE replace(replace(",
                    $column,
                    ", $1, ''), $2, '') <> ",
                    $column
                ),
                concat!("UPDATE ", $table, " SET ", $column, " = $2 WHERE id = $1"),
                $is_mail,
            )
        };
    }
    [
        text!("outbox"."subject", true),
        text!("outbox"."body", true),
        text!("api_keys"."end_reason", false),
        text!("sellers"."status_reason", false),
        text!("leaks"."place", false),
    ]
};

/// Whoever is to be erased, and what will stand for them.
#[derive(Clone, Debug)]
pub struct Person {
    /// Their id; `None` for somebody who was invited and never came.
    pub user: Option<UserId>,
    /// Their address.
    pub email: Email,
    /// The address as mails spell it that make no link of it.
    pub in_mails: String,
    /// What stands for them.
    pub pseudonym: Pseudonym,
}

/// A Seller that whoever is to be erased is a member of.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Belongs {
    /// The Seller.
    pub seller_id: SellerId,
    /// Its short name.
    pub slug: String,
    /// As what they are a member.
    pub role: Role,
    /// How many owners it has besides them.
    pub other_owners: i64,
}

/// What an erasure found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErasedRows {
    /// Sessions that were ended.
    pub sessions: u64,
    /// Links taken back that they held or had made, but for invitations that went with their memberships.
    pub links: u64,
    /// Mails to them that are not sent any more.
    pub mails: u64,
    /// Entries of the audit log that name the pseudonym now.
    pub entries: u64,
}

/// A transaction in which nobody else changes what the person has.
pub struct ErasureTx {
    tx: WriteTx,
    person: Person,
}

#[derive(FromRow)]
struct Named {
    id: AuditId,
    actor: String,
    user_id: Option<String>,
    detail: String,
}

impl Person {
    /// The id as text; empty without one, which no column holds.
    fn id(&self) -> String {
        self.user.map(UserId::to_text).unwrap_or_default()
    }

    /// As the audit log and the makers of keys name them.
    fn actor(&self) -> String {
        format!("user:{}", self.id())
    }

    /// What stands in its place.
    fn erased_actor(&self) -> String {
        format!("user:{}", self.pseudonym)
    }

    /// The address as a whole value in JSON.
    fn email_json(&self) -> String {
        serde_json::Value::from(self.email.as_str()).to_string()
    }

    /// A text in which something else stands wherever the address stood, however it was spelt.
    ///
    /// Of an address that mails spell with blanks the beginning cannot be told from a word before it: `j. ann (at) x. example`
    /// is taken for hers. Better a word too many than her name.
    fn out_of(&self, text: &str, by: &str) -> String {
        let clean = without(text, self.email.as_str(), by);
        without(&clean, &self.in_mails, by)
    }

    fn is_named_by(&self, entry: &Named) -> bool {
        let id = self.id();
        let by_id = !id.is_empty()
            && (entry.actor == self.actor()
                || entry.user_id.as_ref() == Some(&id)
                || entry.detail.contains(&id));
        by_id || names(&entry.detail, self.email.as_str())
    }
}

impl Db {
    /// The entries of the audit log that name this person, read in portions and under no lock: a log of a year is long.
    pub async fn audit_naming(&self, person: &Person) -> Result<Vec<AuditId>, DbError> {
        const SQL: &str =
            "SELECT id, actor, user_id, detail FROM audit_log WHERE id > $1 ORDER BY id LIMIT $2";
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let rows: Vec<Named> = on_db!(self, |pool| sqlx::query_as(SQL)
                .bind(&after)
                .bind(PORTION)
                .fetch_all(pool)
                .await)?;
            let Some(last) = rows.last() else {
                return Ok(found);
            };
            after = last.id.to_text();
            let naming = rows.iter().filter(|entry| person.is_named_by(entry));
            found.extend(naming.map(|entry| entry.id));
        }
    }

    /// Opens the transaction of an erasure once every write and change under way for a Seller of the person's has ended, and
    /// every act of theirs that locks their own row; none of them lands behind it.
    pub async fn begin_erasure(&self, person: &Person) -> Result<ErasureTx, DbError> {
        const SELLERS: &str = "SELECT seller_id FROM memberships WHERE user_id = $1";
        let mut tx = self.begin_for(For::Change).await?;
        if let Some(user) = person.user {
            // First their own row: from here on they join no other Seller. Whoever holds a Seller's lock never waits for it.
            tx.locked_password(user).await?;
            let mut sellers: Vec<SellerId> = on_tx!(tx, |conn| sqlx::query_scalar(SELLERS)
                .bind(user)
                .fetch_all(conn)
                .await)?;
            // In one order, so that two erasures never wait for each other.
            sellers.sort_unstable_by_key(|seller| lock_number(*seller));
            for seller in sellers {
                let locked = tx.lock_owner(seller, Lock::Exclusive);
                match self {
                    Self::Sqlite(_) => locked.await?,
                    Self::Postgres(db) => tokio::select! {
                        locked = locked => locked?,
                        () = end_holders(db, seller) => {}
                    },
                }
            }
        }
        Ok(ErasureTx {
            tx,
            person: person.clone(),
        })
    }

    /// The Sellers that show this address in their own public record, by their short names: what a dealer says of itself is
    /// no part of a person's account.
    pub async fn sellers_showing(&self, email: &Email) -> Result<Vec<String>, DbError> {
        const SQL: &str = "SELECT slug FROM sellers WHERE lower(email) = $1 ORDER BY slug";
        Ok(on_db!(self, |pool| sqlx::query_scalar(SQL)
            .bind(email.as_str())
            .fetch_all(pool)
            .await)?)
    }
}

impl ErasureTx {
    /// Whether the person is a User still.
    pub async fn is_there(&mut self) -> Result<bool, DbError> {
        match self.person.user {
            Some(user) => Ok(self.tx.locked_password(user).await?.is_some()),
            None => Ok(false),
        }
    }

    /// What the person is a member of, by the Sellers' short names.
    pub async fn belongs_to(&mut self) -> Result<Vec<Belongs>, DbError> {
        const SQL: &str = "SELECT m.seller_id, s.slug, m.role, \
             (SELECT COUNT(*) FROM memberships o WHERE o.seller_id = m.seller_id AND o.role = 'owner' \
             AND o.user_id <> m.user_id) AS other_owners \
             FROM memberships m JOIN sellers s ON s.id = m.seller_id WHERE m.user_id = $1 ORDER BY s.slug";
        Ok(on_tx!(self.tx, |conn| sqlx::query_as(SQL)
            .bind(self.person.id())
            .fetch_all(conn)
            .await)?)
    }

    /// Adds an entry.
    pub async fn append_audit(&mut self, entry: &super::AuditEntry) -> Result<(), DbError> {
        self.tx.append_audit(entry).await
    }

    /// Ends a membership, and takes back the invitations to that Seller which the person made. To whom they were.
    pub async fn leave(&mut self, seller: SellerId) -> Result<Vec<String>, DbError> {
        const LEAVE: &str = "DELETE FROM memberships WHERE user_id = $1 AND seller_id = $2";
        const UNINVITE: &str = "DELETE FROM account_links \
             WHERE kind = 'invitation' AND seller_id = $1 AND made_by = $2 RETURNING email";
        on_tx!(self.tx, |conn| sqlx::query(LEAVE)
            .bind(self.person.id())
            .bind(seller)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(on_tx!(self.tx, |conn| sqlx::query_scalar(UNINVITE)
            .bind(seller)
            .bind(self.person.actor())
            .fetch_all(conn)
            .await)?)
    }

    /// Takes the person out of every table; memberships must have been ended. `entries` are those of the audit log that name
    /// them as far as is known; those made since a time are looked through once more.
    pub async fn erase(&mut self, entries: &[AuditId], since: Time) -> Result<ErasedRows, DbError> {
        const SESSIONS: &str = "DELETE FROM sessions WHERE user_id = $1";
        const LINKS: &str = "DELETE FROM account_links WHERE email = $1 OR made_by = $2";
        const MAILS: &str = "DELETE FROM outbox WHERE recipient = $1";
        const MADE: [&str; 3] = [
            "UPDATE grants SET made_by = $2 WHERE made_by = $1",
            "UPDATE api_keys SET made_by = $2 WHERE made_by = $1",
            "UPDATE staged_keys SET made_by = $2 WHERE made_by = $1",
        ];
        const USER: &str = "DELETE FROM users WHERE id = $1";
        let person = self.person.clone();
        let (id, email) = (person.id(), person.email.as_str());
        // Sessions before the log is read: an act that ends one of them at this moment has its entry by then, or never.
        let sessions = on_tx!(self.tx, |conn| sqlx::query(SESSIONS)
            .bind(&id)
            .execute(conn)
            .await
            .map(|done| done.rows_affected()))?;
        if let Some(user) = person.user {
            self.tx.remove_second_factor(user).await?;
        }
        let links = on_tx!(self.tx, |conn| sqlx::query(LINKS)
            .bind(email)
            .bind(person.actor())
            .execute(conn)
            .await
            .map(|done| done.rows_affected()))?;
        let mails = on_tx!(self.tx, |conn| sqlx::query(MAILS)
            .bind(email)
            .execute(conn)
            .await
            .map(|done| done.rows_affected()))?;
        for sql in MADE {
            on_tx!(self.tx, |conn| sqlx::query(sql)
                .bind(person.actor())
                .bind(person.erased_actor())
                .execute(conn)
                .await
                .map(drop))?;
        }
        self.rewrite_texts().await?;
        let entries = self.rewrite_audit(entries, since).await?;
        on_tx!(self.tx, |conn| sqlx::query(USER)
            .bind(&id)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(ErasedRows {
            sessions,
            links,
            mails,
            entries,
        })
    }

    /// Texts that somebody wrote, and mails to others that wait to be sent and tell of an act of the person's.
    async fn rewrite_texts(&mut self) -> Result<(), DbError> {
        let (pseudonym, words) = (
            self.person.pseudonym.to_string(),
            self.person.pseudonym.words(),
        );
        for (find, write, is_mail) in TEXTS {
            let found: Vec<(String, String)> = on_tx!(self.tx, |conn| sqlx::query_as(find)
                .bind(self.person.email.as_str())
                .bind(&self.person.in_mails)
                .fetch_all(conn)
                .await)?;
            // Mails are read by people, and the others shown beside what the log says.
            let by = if is_mail { &words } else { &pseudonym };
            for (id, text) in found {
                let clean = self.person.out_of(&text, by);
                on_tx!(self.tx, |conn| sqlx::query(write)
                    .bind(id)
                    .bind(clean)
                    .execute(conn)
                    .await
                    .map(drop))?;
            }
        }
        Ok(())
    }

    async fn rewrite_audit(&mut self, known: &[AuditId], since: Time) -> Result<u64, DbError> {
        const BEGIN: &str =
            "INSERT INTO erasing (pseudonym, user_id, email, email_json) VALUES ($1, $2, $3, $4)";
        const NEWER: &str = "SELECT id, actor, user_id, detail FROM audit_log WHERE at_us >= $1";
        const END: &str = "DELETE FROM erasing";
        let person = self.person.clone();
        let newer: Vec<Named> = on_tx!(self.tx, |conn| sqlx::query_as(NEWER)
            .bind(since)
            .fetch_all(conn)
            .await)?;
        let newer = newer.iter().filter(|entry| person.is_named_by(entry));
        let mut all = known.to_vec();
        all.extend(newer.map(|entry| entry.id));
        all.sort_unstable();
        all.dedup();
        on_tx!(self.tx, |conn| sqlx::query(BEGIN)
            .bind(person.pseudonym.as_str())
            .bind(person.id())
            .bind(person.email.as_str())
            .bind(person.email_json())
            .execute(conn)
            .await
            .map(drop))?;
        let mut changed = 0;
        for portion in all.chunks(PORTION.unsigned_abs() as usize) {
            changed += self.rewrite_entries(portion).await?;
        }
        on_tx!(self.tx, |conn| sqlx::query(END)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(changed)
    }

    /// The statements say what the trigger allows, word for word.
    async fn rewrite_entries(&mut self, entries: &[AuditId]) -> Result<u64, DbError> {
        macro_rules! of_entries {
            ($sql:literal) => {
                [
                    concat!($sql, " WHERE id IN (SELECT value FROM json_each($1))"),
                    concat!(
                        $sql,
                        " WHERE id IN (SELECT json_array_elements_text($1::json))"
                    ),
                ]
            };
        }
        let names_and_values = of_entries!(
            "UPDATE audit_log SET actor = CASE WHEN actor = $2 THEN $3 ELSE actor END, \
             address = CASE WHEN actor = $2 OR actor = 'visitor' AND user_id = $4 THEN NULL ELSE address END, \
             user_id = CASE WHEN user_id = $4 THEN $5 ELSE user_id END, \
             detail = replace(replace(detail, $4, $5), $6, '\"' || $5 || '\"')"
        );
        let details = of_entries!("SELECT id, detail FROM audit_log");
        let within_texts = of_entries!("UPDATE audit_log SET detail = replace(detail, $2, $3)");
        let engine = match self.tx.inner {
            Tx::Sqlite(_) => 0,
            Tx::Postgres(_) => 1,
        };
        let person = &self.person;
        let ids = json_of(entries)?;
        let changed = on_tx!(self.tx, |conn| sqlx::query(names_and_values[engine])
            .bind(&ids)
            .bind(person.actor())
            .bind(person.erased_actor())
            .bind(person.id())
            .bind(person.pseudonym.as_str())
            .bind(person.email_json())
            .execute(conn)
            .await
            .map(|done| done.rows_affected()))?;
        // Where somebody wrote the address into a longer text, such as a reason.
        let left: Vec<(AuditId, String)> = on_tx!(self.tx, |conn| sqlx::query_as(details[engine])
            .bind(&ids)
            .fetch_all(conn)
            .await)?;
        let left = left.into_iter();
        let left = left.filter(|(_, detail)| names(detail, person.email.as_str()));
        let left: Vec<AuditId> = left.map(|(id, _)| id).collect();
        let left = json_of(&left)?;
        on_tx!(self.tx, |conn| sqlx::query(within_texts[engine])
            .bind(&left)
            .bind(person.email.as_str())
            .bind(person.pseudonym.as_str())
            .execute(conn)
            .await
            .map(drop))?;
        Ok(changed)
    }

    /// See [`WriteTx::commit`].
    pub async fn commit(self) -> Result<(), DbError> {
        self.tx.commit().await
    }
}

fn json_of(entries: &[AuditId]) -> Result<String, DbError> {
    serde_json::to_string(entries).map_err(|error| DbError::Damaged(format!("entries: {error}")))
}
