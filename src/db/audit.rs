//! The audit log: who did what, when, from where, to whom.
//!
//! Never: an entry changed, but for the receipt that an act gets once it is complete, the address that it loses in time, and
//! the name of a person who is erased ([`super::erasing`]); nor removed before its time.

use std::net::IpAddr;

use serde_json::Value;
use sqlx::FromRow;

use super::{Db, DbError, ScopedTx, WriteTx, on_db, on_tx};
use crate::{
    audit::{Act, ActKind, RecordedAct},
    clock::Time,
    ids::{AuditId, KeyId, SellerId, UserId},
    keys::scope::{Authority, SellerScope},
};

/// One act. Its entry is written in the act's own transaction: no act without an entry, no entry without an act.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// The entry's id.
    pub id: AuditId,
    /// When.
    pub at: Time,
    /// Who: `operator`, `user:` and an id, or `key:` and an id.
    pub actor: String,
    /// From where; `None` on the server.
    pub address: Option<IpAddr>,
    /// To which Seller. Without one it is a person's own affair ([`AuditEntry::user`]), and each Seller that the person is a
    /// member of at that moment sees it.
    pub seller: Option<SellerId>,
    /// What.
    pub act: Act,
    /// To which key.
    pub key: Option<KeyId>,
    /// To whom.
    pub user: Option<UserId>,
    /// Which other account sees it. It is not told who of the Seller's people acted, nor from where.
    pub also: Option<SellerId>,
    /// What else is worth knowing, a JSON object; never a key.
    pub detail: Value,
}

impl AuditEntry {
    /// An act on a scope's Seller by whoever the scope was given to.
    pub fn of(scope: SellerScope, at: Time, act: Act) -> Self {
        Self {
            actor: scope.actor(),
            address: scope.address(),
            seller: Some(scope.seller()),
            ..Self::of_operator(at, act)
        }
    }

    /// A person's act on what is their own.
    pub fn of_person(user: UserId, address: IpAddr, at: Time, act: Act) -> Self {
        Self {
            actor: format!("user:{user}"),
            address: Some(address),
            user: Some(user),
            ..Self::of_operator(at, act)
        }
    }

    /// An act of the operator's, on the server.
    pub fn of_operator(at: Time, act: Act) -> Self {
        Self {
            id: AuditId::new(),
            at,
            actor: "operator".to_owned(),
            address: None,
            seller: None,
            act,
            key: None,
            user: None,
            also: None,
            detail: Value::Object(serde_json::Map::new()),
        }
    }

    /// On which Seller.
    pub fn on_seller(self, seller: SellerId) -> Self {
        Self {
            seller: Some(seller),
            ..self
        }
    }

    /// On which key.
    pub fn on_key(self, key: Option<KeyId>) -> Self {
        Self { key, ..self }
    }

    /// About whom.
    pub fn about(self, user: UserId) -> Self {
        Self {
            user: Some(user),
            ..self
        }
    }

    /// Seen by another account as well.
    pub fn also_for(self, account: SellerId) -> Self {
        Self {
            also: Some(account),
            ..self
        }
    }

    /// With what else is worth knowing.
    pub fn with(self, detail: Value) -> Self {
        Self { detail, ..self }
    }
}

/// An entry as it is read, with the names of whom it is about, as far as they are still known.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct AuditRow {
    /// The entry's id, by which pages follow one another.
    pub id: AuditId,
    /// When.
    pub at_us: Time,
    /// Who: `operator`, `user:` and an id, or `key:` and an id; `seller:` and an id for somebody of another account.
    pub actor: String,
    /// The address of the User who acted.
    pub actor_email: Option<String>,
    /// The last four characters of the key that acted.
    pub actor_hint: Option<String>,
    /// The name of the Platform whose key that is, if it is one's.
    pub actor_platform: Option<String>,
    /// From where; `None` on the server, and once it is kept no longer.
    pub address: Option<String>,
    /// What.
    pub act: RecordedAct,
    /// To which key.
    pub key_id: Option<KeyId>,
    /// That key's last four characters.
    pub key_hint: Option<String>,
    /// To whom: a User's id, or what stands for somebody who was erased ([`crate::accounts::erased`]).
    pub user_id: Option<String>,
    /// That User's address.
    pub user_email: Option<String>,
    /// To which account; `None` of a person's own affair.
    pub seller_id: Option<SellerId>,
    /// That account's short name.
    pub seller_slug: Option<String>,
    /// Its name.
    pub seller_name: Option<String>,
    /// What else is worth knowing, a JSON object.
    pub detail: String,
    /// The receipt of an act on keys, as JSON.
    pub receipt: Option<String>,
}

/// A column of an entry; of one that an account sees of another, what stands for whoever of the other's people did it.
macro_rules! hidden {
    ($instead:literal, $column:literal) => {
        concat!(
            "CASE WHEN e.seller_id <> $1 AND e.actor LIKE 'user:%' THEN ",
            $instead,
            " ELSE ",
            $column,
            " END"
        )
    };
}

/// What a Seller sees: its own entries and, from the other table, those of people who were its members when they acted.
/// Two halves, each in the order of an index of its own.
macro_rules! entries {
    ($range:literal, $filter:literal, $order:literal, $limit:literal) => {
        concat!(
            "SELECT e.id, e.at_us, ", hidden!("'seller:' || e.seller_id", "e.actor"), " AS actor, ",
            hidden!("NULL", "au.email"), " AS actor_email, ak.hint AS actor_hint, ap.name AS actor_platform, ",
            hidden!("NULL", "e.address"), " AS address, e.act, e.key_id, COALESCE(k.hint, sk.hint) AS key_hint, ",
            hidden!("NULL", "e.user_id"), " AS user_id, ", hidden!("NULL", "u.email"), " AS user_email, ",
            "e.seller_id, es.slug AS seller_slug, es.name AS seller_name, e.detail, e.receipt FROM (",
            "SELECT * FROM (SELECT a.* FROM audit_log a WHERE a.seller_id = $1 AND a.id ", $range, " $2", $filter,
            " ORDER BY a.id ", $order, " LIMIT ", $limit, ") own UNION ALL ",
            "SELECT * FROM (SELECT a.* FROM audit_also s JOIN audit_log a ON a.id = s.entry_id ",
            "WHERE s.seller_id = $1 AND s.entry_id ", $range, " $2", $filter,
            " ORDER BY s.entry_id ", $order, " LIMIT ", $limit, ") also) e ",
            "LEFT JOIN users au ON e.actor LIKE 'user:%' AND au.id = substr(e.actor, 6) ",
            "LEFT JOIN api_keys ak ON e.actor LIKE 'key:%' AND ak.id = substr(e.actor, 5) ",
            "LEFT JOIN sellers ap ON ap.id = ak.seller_id AND ap.kind = 'platform' ",
            "LEFT JOIN sellers es ON es.id = e.seller_id ",
            "LEFT JOIN api_keys k ON k.id = e.key_id LEFT JOIN staged_keys sk ON sk.id = e.key_id ",
            "LEFT JOIN users u ON u.id = e.user_id ORDER BY e.id ", $order, " LIMIT ", $limit
        )
    };
}

/// Before every entry's id, and behind it.
const FIRST_ID: &str = "";
const LAST_ID: &str = "~";

impl WriteTx {
    /// Adds an entry, and with one that has no Seller, which Sellers see it.
    pub async fn append_audit(&mut self, entry: &AuditEntry) -> Result<(), DbError> {
        const SQL: &str = "INSERT INTO audit_log \
             (id, at_us, actor, address, seller_id, act, key_id, user_id, detail) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        const ALSO: &str = "INSERT INTO audit_also (seller_id, entry_id) \
             SELECT seller_id, $2 FROM memberships WHERE user_id = $1";
        on_tx!(self, |conn| sqlx::query(SQL)
            .bind(entry.id)
            .bind(entry.at)
            .bind(&entry.actor)
            .bind(entry.address.map(|address| address.to_string()))
            .bind(entry.seller)
            .bind(entry.act)
            .bind(entry.key)
            .bind(entry.user)
            .bind(entry.detail.to_string())
            .execute(conn)
            .await
            .map(drop))?;
        if let (None, Some(user)) = (entry.seller, entry.user) {
            on_tx!(self, |conn| sqlx::query(ALSO)
                .bind(user)
                .bind(entry.id)
                .execute(conn)
                .await
                .map(drop))?;
        }
        Ok(())
    }

    /// Files the receipt of a completed act on keys.
    pub(super) async fn file_receipt(
        &mut self,
        act: AuditId,
        receipt: &str,
    ) -> Result<(), DbError> {
        const SQL: &str = "UPDATE audit_log SET receipt = $2 WHERE id = $1 AND receipt IS NULL";
        on_tx!(self, |conn| sqlx::query(SQL)
            .bind(act)
            .bind(receipt)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }
}

impl ScopedTx {
    /// The invitations to the scope's Seller since a time: when, and what their entries say besides. Taken back or not.
    pub async fn invitations_made(&mut self, since: Time) -> Result<Vec<(Time, Value)>, DbError> {
        const SQL: &str =
            "SELECT at_us, detail FROM audit_log WHERE seller_id = $1 AND act = $2 AND at_us >= $3";
        let rows: Vec<(Time, String)> = on_tx!(self.tx, |conn| sqlx::query_as(SQL)
            .bind(self.scope.seller())
            .bind(Act::MemberInvited.as_str())
            .bind(since)
            .fetch_all(conn)
            .await)?;
        let read = |text: &str| serde_json::from_str(text);
        rows.into_iter()
            .map(|(at, detail)| {
                Ok((
                    at,
                    read(&detail).map_err(|_| DbError::Damaged("an entry's detail".into()))?,
                ))
            })
            .collect()
    }

    /// Adds an entry. What a Platform does to a Seller, both see.
    pub async fn append_audit(&mut self, entry: &AuditEntry) -> Result<(), DbError> {
        self.tx.append_audit(entry).await?;
        let also = match self.scope.authority() {
            Authority::Platform { platform, .. } => Some(platform),
            _ => entry.also,
        };
        match also {
            Some(account) => self.show_audit_to(entry.id, account).await,
            None => Ok(()),
        }
    }

    /// Lets an account see an entry that is another's.
    pub async fn show_audit_to(
        &mut self,
        entry: AuditId,
        account: SellerId,
    ) -> Result<(), DbError> {
        const SQL: &str = "INSERT INTO audit_also (seller_id, entry_id) VALUES ($1, $2)";
        on_tx!(self.tx, |conn| sqlx::query(SQL)
            .bind(account)
            .bind(entry)
            .execute(conn)
            .await
            .map(drop))?;
        Ok(())
    }
}

impl Db {
    /// Forgets what was done before this time.
    pub async fn forget_audit_before(&self, at: Time) -> Result<(), DbError> {
        const SQL: &str = "DELETE FROM audit_log WHERE id IN \
             (SELECT id FROM audit_log WHERE at_us < $1 LIMIT $2)";
        self.forget(SQL, at.0).await
    }

    /// Forgets from where things were done before this time; that they were done stays.
    pub async fn forget_audit_addresses_before(&self, at: Time) -> Result<(), DbError> {
        const SQL: &str = "UPDATE audit_log SET address = NULL WHERE id IN \
             (SELECT id FROM audit_log WHERE at_us < $1 AND address IS NOT NULL LIMIT $2)";
        self.forget(SQL, at.0).await
    }

    /// The newest entries that the scope's Seller sees, the last one first: of every kind or of one, before an entry if one
    /// is given.
    pub async fn newest_audit(
        &self,
        scope: SellerScope,
        kind: Option<ActKind>,
        before: Option<AuditId>,
        limit: i64,
    ) -> Result<Vec<AuditRow>, DbError> {
        const SQL: &str = entries!(
            "<",
            " AND (a.act LIKE $3 OR a.act LIKE $4 OR a.act LIKE $5)",
            "DESC",
            "$6"
        );
        let [one, two, three] = kind.map_or(["%"; 3], ActKind::patterns);
        let before = before.map_or_else(|| LAST_ID.to_owned(), AuditId::to_text);
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .bind(before)
            .bind(one)
            .bind(two)
            .bind(three)
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }

    /// The oldest entries that the scope's Seller sees, the first one first, behind an entry if one is given.
    pub async fn oldest_audit(
        &self,
        scope: SellerScope,
        after: Option<AuditId>,
        limit: i64,
    ) -> Result<Vec<AuditRow>, DbError> {
        const SQL: &str = entries!(">", "", "ASC", "$3");
        let after = after.map_or_else(|| FIRST_ID.to_owned(), AuditId::to_text);
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .bind(after)
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }
}
