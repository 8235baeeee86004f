//! Generating, staging, cutting over and force-expiring: how a Seller's one live key comes and goes.
//!
//! Beside the live key there may be a staged one, which is not accepted: it is prepared, deployed everywhere, and then cut
//! over, which makes it live and kills the one before in one act. Generating and expiring discard it.
//!
//! Each act is one transaction under the Seller's exclusive lock; it writes its own audit entry and the mails to the Seller's
//! owners, counts the Seller's key version, bumps the revocation epoch, and returns only when the zero-window rule holds.
//!
//! Never: an act that a caller's hang-up could stop between its commit and its publication (see [`crate::act`]); a key
//! returned that was not committed.

use std::sync::Arc;

use serde_json::json;

use super::{
    Keys,
    format::{KeyDigest, SecretKey},
    revocation::{Receipt, Turn},
    scope::SellerScope,
    table::TableChange,
};
use crate::{
    accounts::AccountStatus,
    act::{ActDied, run_to_end},
    audit::Act,
    clock::Time,
    db::{Addressees, AuditEntry, DbError, NewMail, ScopedTx, StagedBecomes},
    ids::{AuditId, KeyId},
    mail::words::{KeyNews, about_keys},
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

/// A staged key that became the live one.
#[derive(Debug)]
pub struct CutOver {
    /// The key that is live now.
    pub key: KeyId,
    /// The key that died for it, if there was one.
    pub replaced: Option<KeyId>,
    /// Proof that the one is live and the other dead.
    pub receipt: Receipt,
}

/// What discarding found.
#[derive(Debug)]
pub struct Discarded {
    /// The staged key that is dead now; `None` if there was none.
    pub key: Option<KeyId>,
    /// Proof that it is.
    pub receipt: Receipt,
}

/// What forcing expiry found.
#[derive(Debug)]
pub struct Expired {
    /// The key that died; `None` if there was no live one.
    pub key: Option<KeyId>,
    /// The prepared key that died; `None` if there was none.
    pub discarded: Option<KeyId>,
    /// Proof that they are dead.
    pub receipt: Receipt,
}

/// Why an act on keys was refused. Nothing changed, but for [`KeyActError::NotShown`].
#[derive(Debug, thiserror::Error)]
pub enum KeyActError {
    /// Somebody else changed the key since the caller looked; the audit log says who.
    #[error("the key was changed by somebody else since you looked; nothing was done")]
    Conflict,
    /// The Seller is gone.
    #[error("there is no such Seller")]
    NoSuchSeller,
    /// The marketplace has suspended or closed the account: a key made now would be refused.
    #[error("the account is suspended or closed, so a key of it would be refused")]
    Inactive,
    /// There is no live key to go on with while another one is prepared.
    #[error("there is no live key beside which another one could be prepared: generate one")]
    NothingLive,
    /// There is no staged key.
    #[error("no key is prepared: there is nothing to cut over")]
    NothingStaged,
    /// The staged key was never shown, so nobody can have deployed it.
    #[error("the prepared key was never shown to anybody: prepare another one")]
    StagedUnseen,
    /// The old key is dead and the new one live, but nobody has seen it.
    #[error("the key was replaced, but the new one could not be shown: generate again ({0})")]
    NotShown(DbError),
    /// The very key that was to be killed is dead.
    #[error("the key is dead already; nothing was done")]
    DeadAlready,
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
        let secret = SecretKey::generate().map_err(|_| KeyActError::NoRandomness)?;
        let key = KeyId::new();
        let turn = self.turn().await;

        let mut tx = self.begin_change(scope).await?;
        let now = self.clock.now();
        if !is_at(&mut tx, seen_version).await? {
            return self.refused(&turn, tx, KeyActError::Conflict).await;
        }
        must_be_active(&mut tx).await?;
        let staged = tx.end_staging(StagedBecomes::Discarded, now).await?;
        let replaced = tx.end_live_key("replaced", None, now).await?;
        tx.insert_live_key(key, secret.digest(), secret.hint(), &scope.actor(), now)
            .await?;
        let replaced = replaced.map(|(old, _)| old);
        let discarded = staged.map(|(old, _)| old);
        let hint = secret.hint().to_string();
        let detail = json!({ "hint": hint, "replaced": replaced, "discarded": discarded });
        let act = AuditEntry::of(scope, now, Act::KeyGenerated).on_key(Some(key));
        let act = act.with(detail);
        let news = KeyNews::Generated {
            key: hint,
            replaced: hint_of(&mut tx, replaced).await?,
            discarded: hint_of(&mut tx, discarded).await?,
        };
        let receipt = self.conclude_key_act(turn, tx, &act, news).await?;

        self.complete(act.id, &receipt, Some(key))
            .await
            .map_err(KeyActError::NotShown)?;
        Ok(Generated {
            secret,
            key,
            replaced,
            receipt,
        })
    }

    /// Makes a key that is not accepted yet, beside the live one. A staged key that was there before is discarded.
    ///
    /// When this returns, every node knows the new key, and the new one counts as shown.
    pub async fn prepare(
        self: &Arc<Self>,
        scope: SellerScope,
        seen_version: i64,
    ) -> Result<Generated, KeyActError> {
        let keys = Arc::clone(self);
        run_to_end(async move { keys.prepare_now(scope, seen_version).await }).await
    }

    async fn prepare_now(
        &self,
        scope: SellerScope,
        seen_version: i64,
    ) -> Result<Generated, KeyActError> {
        let secret = SecretKey::generate().map_err(|_| KeyActError::NoRandomness)?;
        let key = KeyId::new();
        let turn = self.turn().await;

        let mut tx = self.begin_change(scope).await?;
        let now = self.clock.now();
        if !is_at(&mut tx, seen_version).await? {
            return self.refused(&turn, tx, KeyActError::Conflict).await;
        }
        must_be_active(&mut tx).await?;
        if tx.live_key().await?.is_none() {
            return self.refused(&turn, tx, KeyActError::NothingLive).await;
        }
        let before = tx.end_staging(StagedBecomes::Discarded, now).await?;
        tx.insert_staged_key(key, secret.digest(), secret.hint(), &scope.actor(), now)
            .await?;
        let replaced = before.map(|(old, _)| old);
        let hint = secret.hint().to_string();
        let detail = json!({ "hint": hint, "discarded": replaced });
        let act = AuditEntry::of(scope, now, Act::KeyPrepared).on_key(Some(key));
        let act = act.with(detail);
        let news = KeyNews::Prepared {
            key: hint,
            discarded: hint_of(&mut tx, replaced).await?,
        };
        let receipt = self.conclude_key_act(turn, tx, &act, news).await?;

        self.complete(act.id, &receipt, Some(key))
            .await
            .map_err(KeyActError::NotShown)?;
        Ok(Generated {
            secret,
            key,
            replaced,
            receipt,
        })
    }

    /// Makes the staged key the live one and kills the one before, in one act under the zero-window rule.
    pub async fn cut_over(
        self: &Arc<Self>,
        scope: SellerScope,
        seen_version: i64,
    ) -> Result<CutOver, KeyActError> {
        let keys = Arc::clone(self);
        run_to_end(async move { keys.cut_over_now(scope, seen_version).await }).await
    }

    async fn cut_over_now(
        &self,
        scope: SellerScope,
        seen_version: i64,
    ) -> Result<CutOver, KeyActError> {
        let turn = self.turn().await;
        let mut tx = self.begin_change(scope).await?;
        let now = self.clock.now();
        if !is_at(&mut tx, seen_version).await? {
            return self.refused(&turn, tx, KeyActError::Conflict).await;
        }
        let Some(staged) = tx.staged_key().await? else {
            return self.refused(&turn, tx, KeyActError::NothingStaged).await;
        };
        if staged.shown_us.is_none() {
            return self.refused(&turn, tx, KeyActError::StagedUnseen).await;
        }
        // The old one first: the database itself admits one live key.
        let replaced = tx.end_live_key("replaced", None, now).await?;
        let live = tx.end_staging(StagedBecomes::Live, now).await?;
        let (key, _) = live.ok_or(KeyActError::NothingStaged)?;
        let replaced = replaced.map(|(old, _)| old);
        let detail = json!({ "hint": staged.hint, "replaced": replaced });
        let act = AuditEntry::of(scope, now, Act::KeyCutOver).on_key(Some(key));
        let act = act.with(detail);
        let news = KeyNews::CutOver {
            key: staged.hint,
            replaced: hint_of(&mut tx, replaced).await?,
        };
        let receipt = self.conclude_key_act(turn, tx, &act, news).await?;
        self.file(&act, &receipt).await;
        Ok(CutOver {
            key,
            replaced,
            receipt,
        })
    }

    /// Kills the staged key. Doing it twice is no error: the second act finds nothing to do.
    pub async fn discard(
        self: &Arc<Self>,
        scope: SellerScope,
        seen_version: i64,
    ) -> Result<Discarded, KeyActError> {
        let keys = Arc::clone(self);
        run_to_end(async move { keys.discard_now(scope, seen_version).await }).await
    }

    async fn discard_now(
        &self,
        scope: SellerScope,
        seen_version: i64,
    ) -> Result<Discarded, KeyActError> {
        let turn = self.turn().await;
        let mut tx = self.begin_change(scope).await?;
        let now = self.clock.now();
        if !is_at(&mut tx, seen_version).await? {
            return self.refused(&turn, tx, KeyActError::Conflict).await;
        }
        let Some((key, _)) = tx.end_staging(StagedBecomes::Discarded, now).await? else {
            return Ok(Discarded {
                key: None,
                receipt: self.nothing_to_do(&turn, tx).await?,
            });
        };
        let act = AuditEntry::of(scope, now, Act::KeyDiscarded).on_key(Some(key));
        let news = KeyNews::Discarded {
            key: hint_of(&mut tx, Some(key)).await?.unwrap_or_default(),
            reason: None,
        };
        let receipt = self.conclude_key_act(turn, tx, &act, news).await?;
        self.file(&act, &receipt).await;
        Ok(Discarded {
            key: Some(key),
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
        run_to_end(async move { keys.expire_now(scope, reason, None).await }).await
    }

    /// Kills this very key of the Seller's: with the live one also the one that is prepared, as [`Self::expire`] does; of a
    /// prepared one the live one is let be. [`KeyActError::DeadAlready`] if it is neither, whichever key is live by now.
    pub async fn expire_this(
        self: &Arc<Self>,
        scope: SellerScope,
        key: KeyId,
        reason: &str,
    ) -> Result<Expired, KeyActError> {
        let (keys, reason) = (Arc::clone(self), reason.to_owned());
        run_to_end(async move { keys.expire_now(scope, reason, Some(key)).await }).await
    }

    async fn expire_now(
        &self,
        scope: SellerScope,
        reason: String,
        only: Option<KeyId>,
    ) -> Result<Expired, KeyActError> {
        let turn = self.turn().await;
        let mut tx = self.begin_change(scope).await?;
        let now = self.clock.now();
        tx.key_version().await?.ok_or(KeyActError::NoSuchSeller)?;
        let mut kills_live = true;
        if let Some(only) = only {
            let is_only = |key: Option<KeyId>| key == Some(only);
            kills_live = is_only(tx.live_key().await?.map(|live| live.id));
            if !kills_live && !is_only(tx.staged_key().await?.map(|staged| staged.id)) {
                return self.refused(&turn, tx, KeyActError::DeadAlready).await;
            }
        }
        let staged = tx.end_staging(StagedBecomes::Discarded, now).await?;
        let live = match kills_live {
            true => tx.end_live_key("expired", Some(&reason), now).await?,
            false => None,
        };
        if staged.is_none() && live.is_none() {
            return Ok(Expired {
                key: None,
                discarded: None,
                receipt: self.nothing_to_do(&turn, tx).await?,
            });
        }
        let key = live.map(|(key, _)| key);
        let discarded = staged.map(|(key, _)| key);
        let act = match kills_live {
            true => Act::KeyExpired,
            false => Act::KeyDiscarded,
        };
        let act = AuditEntry::of(scope, now, act).on_key(key.or(discarded));
        let act = act.with(json!({ "reason": reason, "discarded": discarded }));
        let died = hint_of(&mut tx, discarded).await?;
        let news = match kills_live {
            true => KeyNews::Expired {
                key: hint_of(&mut tx, key).await?,
                discarded: died,
                reason,
            },
            false => KeyNews::Discarded {
                key: died.unwrap_or_default(),
                reason: Some(reason),
            },
        };
        let receipt = self.conclude_key_act(turn, tx, &act, news).await?;
        self.file(&act, &receipt).await;
        Ok(Expired {
            key,
            discarded,
            receipt,
        })
    }

    /// The receipt of an act that found nothing to do.
    pub(super) async fn nothing_to_do(
        &self,
        turn: &Turn<'_>,
        tx: ScopedTx,
    ) -> Result<Receipt, DbError> {
        let (db, clock) = (&self.db, &self.clock);
        self.revocation.nothing_to_do(turn, tx, db, clock).await
    }

    /// The refusal of an act that somebody else's came before, or that was done already. Whoever is told that things are
    /// otherwise may take the key before for dead: so it is, everywhere, when they are told.
    async fn refused<T>(
        &self,
        turn: &Turn<'_>,
        tx: ScopedTx,
        why: KeyActError,
    ) -> Result<T, KeyActError> {
        self.nothing_to_do(turn, tx).await?;
        Err(why)
    }

    /// Waits until whatever has changed about the scope's keys by now is obeyed everywhere, as an act that is refused does:
    /// for whoever tells a person that a key is another one by now.
    pub async fn obeyed(&self, scope: SellerScope) -> Result<(), DbError> {
        let turn = self.turn().await;
        let tx = self.begin_change(scope).await?;
        self.nothing_to_do(&turn, tx).await?;
        Ok(())
    }

    pub(super) async fn begin_change(&self, scope: SellerScope) -> Result<ScopedTx, DbError> {
        let (db, clock) = (&self.db, &self.clock);
        self.revocation.begin_change(db, clock, scope).await
    }

    /// The end of every act on a key: what is too old is forgotten, and whoever looked before is told that it is another one.
    pub(super) async fn conclude_key_act(
        &self,
        turn: Turn<'_>,
        mut tx: ScopedTx,
        act: &AuditEntry,
        news: KeyNews,
    ) -> Result<Receipt, DbError> {
        tx.count_key_version().await?;
        let mail = |to: &Addressees, actor: Option<&str>, at| about_keys(to, &news, actor, at);
        self.conclude(turn, tx, act, mail).await
    }

    /// The end of every act: it is written down, told to the owners, counted and committed, and the table in memory follows.
    /// When this returns, the zero-window rule holds.
    pub(super) async fn conclude(
        &self,
        turn: Turn<'_>,
        mut tx: ScopedTx,
        act: &AuditEntry,
        mail: impl FnOnce(&Addressees, Option<&str>, Time) -> NewMail,
    ) -> Result<Receipt, DbError> {
        let forgotten = tx.forget_old_keys().await?;
        tx.append_audit(act).await?;
        tell_owners(&mut tx, mail, act.at).await?;
        let settled = self.settle(turn, tx, forgotten).await;
        self.mails_due.notify_one();
        settled
    }

    /// Seals a change, commits it and waits until it is obeyed everywhere.
    pub(super) async fn settle(
        &self,
        turn: Turn<'_>,
        mut tx: ScopedTx,
        forgotten: Vec<KeyDigest>,
    ) -> Result<Receipt, DbError> {
        let epoch = tx.seal().await?;
        let change = TableChange {
            forget: forgotten,
            ..tx.sealed_changes(epoch).await?
        };
        let (db, clock) = (&self.db, &self.clock);
        self.revocation
            .settle(turn, tx, &change, epoch, db, clock)
            .await
    }

    /// The right to change keys.
    pub(super) async fn turn(&self) -> Turn<'_> {
        self.revocation.turn(&self.clock).await
    }

    /// Files the receipt of an act that shows no key. The act is done whatever becomes of this.
    pub(super) async fn file(&self, act: &AuditEntry, receipt: &Receipt) {
        if let Err(error) = self.complete(act.id, receipt, None).await {
            tracing::error!(%error, act = %act.id, "the receipt of an act could not be filed");
        }
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

/// Refuses to make a key that would be refused.
async fn must_be_active(tx: &mut ScopedTx) -> Result<(), KeyActError> {
    match tx.account().await?.map(|account| account.status) {
        Some(AccountStatus::Active) => Ok(()),
        Some(_) => Err(KeyActError::Inactive),
        None => Err(KeyActError::NoSuchSeller),
    }
}

/// Whether the Seller's key is as the caller saw it.
async fn is_at(tx: &mut ScopedTx, seen_version: i64) -> Result<bool, KeyActError> {
    let version = tx.key_version().await?.ok_or(KeyActError::NoSuchSeller)?;
    Ok(version == seen_version)
}

/// Puts a mail to each owner into the outbox, in the act's own transaction: no act without its mails, no mail without its
/// act.
async fn tell_owners(
    tx: &mut ScopedTx,
    mail: impl FnOnce(&Addressees, Option<&str>, Time) -> NewMail,
    at: Time,
) -> Result<(), DbError> {
    let Some(to) = tx.addressees().await? else {
        return Ok(());
    };
    let actor = tx.actors_address().await?;
    let mail = mail(&to, actor.as_deref(), at);
    tx.insert_mails(&to.owners, &mail, at).await
}

/// The last characters of a key that died, for people to recognise it by.
pub(super) async fn hint_of(
    tx: &mut ScopedTx,
    key: Option<KeyId>,
) -> Result<Option<String>, DbError> {
    match key {
        Some(key) => tx.hint_of(key).await,
        None => Ok(None),
    }
}
