//! The audit log: who did what, when, to whom.
//!
//! Never: an entry changed, but for the receipt that an act gets once it is complete; nor removed before its time.

use super::{Db, DbError, ScopedTx, WriteTx, on_db, on_tx};
use crate::{
    clock::Time,
    ids::{AuditId, KeyId, SellerId},
    keys::scope::SellerScope,
};

/// One act. Its entry is written in the act's own transaction: no act without an entry, no entry without an act.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// The entry's id.
    pub id: AuditId,
    /// When.
    pub at: Time,
    /// Who: `operator`, or `key:` and an id.
    pub actor: String,
    /// To which Seller.
    pub seller: Option<SellerId>,
    /// What, such as `key.generated`.
    pub act: &'static str,
    /// To which key.
    pub key: Option<KeyId>,
    /// What else is worth knowing; never a key.
    pub detail: serde_json::Value,
}

impl WriteTx {
    /// Adds an entry.
    pub async fn append_audit(&mut self, entry: &AuditEntry) -> Result<(), DbError> {
        const SQL: &str = "INSERT INTO audit_log (id, at_us, actor, seller_id, act, key_id, detail) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)";
        on_tx!(self, |conn| sqlx::query(SQL)
            .bind(entry.id)
            .bind(entry.at)
            .bind(&entry.actor)
            .bind(entry.seller)
            .bind(entry.act)
            .bind(entry.key)
            .bind(entry.detail.to_string())
            .execute(conn)
            .await
            .map(drop))?;
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
    /// Adds an entry.
    pub async fn append_audit(&mut self, entry: &AuditEntry) -> Result<(), DbError> {
        self.tx.append_audit(entry).await
    }
}

impl Db {
    /// Forgets what was done before this time.
    pub async fn forget_audit_before(&self, at: Time) -> Result<(), DbError> {
        const SQL: &str = "DELETE FROM audit_log WHERE at_us < $1";
        let mut tx = self.begin().await?;
        on_tx!(tx, |conn| sqlx::query(SQL)
            .bind(at)
            .execute(conn)
            .await
            .map(drop))?;
        tx.commit().await
    }

    /// A Seller's acts, oldest first: `(act, actor, detail, receipt)`.
    pub async fn audit_of_seller(
        &self,
        scope: SellerScope,
        limit: i64,
    ) -> Result<Vec<(String, String, String, Option<String>)>, DbError> {
        const SQL: &str = "SELECT act, actor, detail, receipt FROM audit_log WHERE seller_id = $1 ORDER BY id LIMIT $2";
        Ok(on_db!(self, |pool| sqlx::query_as(SQL)
            .bind(scope.seller())
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }
}
