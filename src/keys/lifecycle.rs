//! Generating and force-expiring: how a Seller's one live key comes and goes.
//!
//! Each act is one transaction under the Seller's exclusive lock; it writes its own audit entry, counts the Seller's key
//! version, bumps the revocation epoch, and returns only when the zero-window rule holds.
//!
//! Never: an act that a caller's hang-up could stop between its commit and its publication (see [`crate::act`]); a key
//! returned that was not committed.

use std::sync::Arc;

use super::{
    Keys,
    format::SecretKey,
    revocation::Receipt,
    scope::SellerScope,
    table::{KeyRecord, Standing, TableChange},
};
use crate::{
    act::{ActDied, run_to_end},
    clock::Time,
    db::{AuditEntry, DbError},
    ids::{AuditId, KeyId},
};

/// A key that was just made, on its way to the one place that shows it.
#[derive(Debug)]
pub struct Generated {
    /// The key itself.
    pub secret: SecretKey,
    /// Its id.
    pub key: KeyId,
    /// The key it replaced, if there was one.
    pub replaced: Option<KeyId>,
    /// Proof that the replaced key is dead.
    pub receipt: Receipt,
}

/// What forcing expiry found.
#[derive(Debug)]
pub struct Expired {
    /// The key that died; `None` if there was no live one.
    pub key: Option<KeyId>,
    /// Proof that it is dead.
    pub receipt: Receipt,
}

/// Why an act on keys was refused. Nothing changed, but for [`KeyActError::NotShown`].
#[derive(Debug, thiserror::Error)]
pub enum KeyActError {
    /// Somebody else changed the key since the caller looked: who, and when.
    #[error("the key was changed by {by} since you looked; no key was made")]
    Conflict {
        /// Who was faster.
        by: String,
        /// When.
        at: Option<Time>,
    },
    /// The Seller is gone.
    #[error("there is no such Seller")]
    NoSuchSeller,
    /// The old key is dead and the new one live, but nobody has seen it.
    #[error("the key was replaced, but the new one could not be shown: generate again ({0})")]
    NotShown(DbError),
    /// The operating system gave no randomness.
    #[error("the system's random generator failed")]
    NoRandomness,
    /// The database could not do it.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The act's task died.
    #[error(transparent)]
    Died(#[from] ActDied),
}

impl Keys {
    /// Makes the Seller's key and kills the one before it. `seen_version` is the key version of the Seller as the caller
    /// knew it.
    ///
    /// When this returns, the old key is dead and the new one is good everywhere, and the new one counts as shown.
    pub async fn generate(
        self: &Arc<Self>,
        scope: SellerScope,
        seen_version: i64,
    ) -> Result<Generated, KeyActError> {
        let keys = Arc::clone(self);
        run_to_end(async move { keys.generate_now(scope, seen_version).await }).await
    }

    async fn generate_now(
        &self,
        scope: SellerScope,
        seen_version: i64,
    ) -> Result<Generated, KeyActError> {
        let actor = scope.actor();
        let secret = SecretKey::generate().map_err(|_| KeyActError::NoRandomness)?;
        let key = KeyId::new();
        let turn = self.revocation.turn(&self.clock).await;

        let mut tx = self.db.begin_change(scope).await?;
        let now = self.clock.now();
        let version = tx.key_version().await?.ok_or(KeyActError::NoSuchSeller)?;
        if version != seen_version {
            let live = tx.live_key().await?;
            return Err(KeyActError::Conflict {
                by: live
                    .as_ref()
                    .map_or("the operator".into(), |k| k.made_by.clone()),
                at: live.map(|k| k.created_us),
            });
        }
        let replaced = tx.end_live_key("replaced", None, now).await?;
        tx.insert_live_key(key, secret.digest(), secret.hint(), &actor, now)
            .await?;
        let mut change = TableChange::default();
        let record = |key, standing| KeyRecord {
            key,
            seller: scope.seller(),
            standing,
        };
        if let Some((old, digest)) = replaced {
            change.put.push((digest, record(old, Standing::Dead)));
        }
        change
            .put
            .push((secret.digest(), record(key, Standing::Live)));
        change.forget = tx.forget_old_keys().await?;
        let audit = AuditEntry {
            id: AuditId::new(),
            at: now,
            actor,
            seller: Some(scope.seller()),
            act: "key.generated",
            key: Some(key),
            detail: serde_json::json!({
                "hint": secret.hint().to_string(),
                "replaced": replaced.map(|(old, _)| old),
            }),
        };
        tx.append_audit(&audit).await?;
        let epoch = tx.seal_key_change().await?;
        let receipt = self
            .revocation
            .settle(turn, tx, &change, epoch, &self.clock)
            .await?;

        self.complete(audit.id, &receipt, Some(key))
            .await
            .map_err(KeyActError::NotShown)?;
        Ok(Generated {
            secret,
            key,
            replaced: replaced.map(|(old, _)| old),
            receipt,
        })
    }

    /// Kills the Seller's live key out of band. Doing it twice is no error: the second act finds nothing to do.
    pub async fn expire(
        self: &Arc<Self>,
        scope: SellerScope,
        reason: &str,
    ) -> Result<Expired, KeyActError> {
        let (keys, reason) = (Arc::clone(self), reason.to_owned());
        run_to_end(async move { keys.expire_now(scope, reason).await }).await
    }

    async fn expire_now(&self, scope: SellerScope, reason: String) -> Result<Expired, KeyActError> {
        let turn = self.revocation.turn(&self.clock).await;
        let mut tx = self.db.begin_change(scope).await?;
        let now = self.clock.now();
        tx.key_version().await?.ok_or(KeyActError::NoSuchSeller)?;
        let Some((key, digest)) = tx.end_live_key("expired", Some(&reason), now).await? else {
            return Ok(Expired {
                key: None,
                receipt: self.revocation.nothing_to_do(&turn, &self.clock),
            });
        };
        let dead = KeyRecord {
            key,
            seller: scope.seller(),
            standing: Standing::Dead,
        };
        let change = TableChange {
            put: vec![(digest, dead)],
            forget: tx.forget_old_keys().await?,
        };
        let audit = AuditEntry {
            id: AuditId::new(),
            at: now,
            actor: scope.actor(),
            seller: Some(scope.seller()),
            act: "key.expired",
            key: Some(key),
            detail: serde_json::json!({ "reason": reason }),
        };
        tx.append_audit(&audit).await?;
        let epoch = tx.seal_key_change().await?;
        let receipt = self
            .revocation
            .settle(turn, tx, &change, epoch, &self.clock)
            .await?;
        // The key is dead whatever becomes of the record's completion.
        if let Err(error) = self.complete(audit.id, &receipt, None).await {
            tracing::error!(%error, key = %key, "an expiry's receipt could not be filed");
        }
        Ok(Expired {
            key: Some(key),
            receipt,
        })
    }

    /// Files the receipt and, for a new key, that it is about to be shown. If that fails for a new key, it must not be
    /// shown: a key whose showing is not on record would later be taken for one that nobody has.
    async fn complete(
        &self,
        act: AuditId,
        receipt: &Receipt,
        shown: Option<KeyId>,
    ) -> Result<(), DbError> {
        let receipt = serde_json::json!(receipt).to_string();
        let at = self.clock.now();
        self.db.complete_key_act(act, &receipt, shown, at).await
    }
}
