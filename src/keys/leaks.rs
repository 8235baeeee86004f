//! What becomes of a key that was found where it should not be, by whoever found it.
//!
//! Whoever says so has shown the whole key, which is all the authority there is: to have that very key killed, or its owners
//! told. A key that was replaced in the meantime is dead already, and its successor is let be.
//!
//! Never: another key touched than the one that was shown; looking one up counted as use; a second mail about a key that lives
//! within a day; a mail about one that is dead.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::{
    Keys,
    format::KeyDigest,
    found::{Finder, Outcome, Place, Works},
    lifecycle::{KeyActError, hint_of},
    scope::SellerScope,
};
use crate::{
    accounts::AccountStatus,
    act::run_to_end,
    audit::Act,
    clock::Time,
    db::{Addressees, AuditEntry, DbError, IdentifiedKey, ScopedTx, StagedBecomes},
    ids::LeakId,
    mail::{
        found::{FoundKey, about_found_key, about_found_key_for_contact},
        words::KeyNews,
    },
};

/// Nobody is mailed again about a key that lives for this long.
const TOLD_FOR: Duration = Duration::from_secs(86_400);
/// Bytes of the reason that the Seller reads.
const REASON_BYTES_MAX: usize = 500;

/// That a key was found, and what is to be done about it.
#[derive(Clone, Debug)]
pub struct Find {
    /// Who says so.
    pub finder: Finder,
    /// Where; without one nobody said where.
    pub places: Vec<Place>,
    /// Whether a key that lives is to be killed; else its owners are told.
    pub kills: bool,
    /// The marketplace's security contact, who is mailed beside the owners.
    pub contact: String,
}

/// How a key stands that was found, under the lock of its Seller.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Live,
    Staged,
    Dead,
}

impl Keys {
    /// Deals with a key that was found, by the digest of the whole of it; `None` if it is no Seller's.
    ///
    /// If it is to be killed, it is dead everywhere when this returns, under the zero-window rule, whoever killed it.
    pub async fn found(
        self: &Arc<Self>,
        digest: KeyDigest,
        find: Find,
    ) -> Result<Option<Outcome>, KeyActError> {
        let keys = Arc::clone(self);
        run_to_end(async move { keys.found_now(digest, find).await }).await
    }

    async fn found_now(
        &self,
        digest: KeyDigest,
        mut find: Find,
    ) -> Result<Option<Outcome>, KeyActError> {
        let Some(known) = self.db.identify_key(digest).await? else {
            return Ok(None);
        };
        if find.places.is_empty() {
            find.places.push(Place::default());
        }
        let scope = SellerScope::by_find(known.seller_id, known.key.id, find.finder);
        if find.kills {
            return self.kill_found(scope, &known, &find).await.map(Some);
        }
        let mut tx = self.db.begin_change(scope).await?;
        let works = match standing(&mut tx, &known).await? {
            Standing::Dead => None,
            Standing::Staged => Some(Works::NotYet),
            Standing::Live => match tx.account().await?.map(|account| account.status) {
                Some(AccountStatus::Active) | None => Some(Works::Now),
                Some(AccountStatus::Suspended | AccountStatus::Closed) => Some(Works::Suspended),
            },
        };
        let outcome = match works {
            None => {
                self.note(&mut tx, &known, &find, Outcome::Dead).await?;
                Outcome::Dead
            }
            Some(works) => {
                self.tell(&mut tx, &known, &find, works).await?;
                Outcome::Told
            }
        };
        tx.commit().await?;
        self.mails_due.notify_one();
        tracing::info!(seller = %known.seller_id, key = %known.key.id, outcome = outcome.as_str(), "a key was reported as found");
        Ok(Some(outcome))
    }

    async fn kill_found(
        &self,
        scope: SellerScope,
        known: &IdentifiedKey,
        find: &Find,
    ) -> Result<Outcome, KeyActError> {
        let turn = self.turn().await;
        let mut tx = self.begin_change(scope).await?;
        let (now, key) = (self.clock.now(), known.key.id);
        let standing = standing(&mut tx, known).await?;
        let (outcome, act) = match standing {
            Standing::Live => (Outcome::Expired, Act::KeyExpired),
            Standing::Staged => (Outcome::Discarded, Act::KeyDiscarded),
            Standing::Dead => {
                self.note(&mut tx, known, find, Outcome::Dead).await?;
                tx.commit().await?;
                // Whoever killed it may not have returned yet: what is said of it holds everywhere all the same.
                let tx = self.begin_change(scope).await?;
                self.nothing_to_do(&turn, tx).await?;
                return Ok(Outcome::Dead);
            }
        };
        let reason = reason(find);
        let staged = tx.end_staging(StagedBecomes::Discarded, now).await?;
        let mut discarded = None;
        if standing == Standing::Live {
            tx.end_live_key("expired", Some(&reason), now).await?;
            discarded = staged.map(|(staged, _)| staged);
        }
        let noted = self.note(&mut tx, known, find, outcome).await?;
        let found = FoundKey {
            key: known.key.hint.clone(),
            finder: find.finder,
            places: find.places.clone(),
            outcome,
            works: Works::Now,
            discarded: hint_of(&mut tx, discarded).await?,
        };
        if let Some(to) = tx.addressees().await? {
            self.mail_contact(&mut tx, &to, &found, find, now).await?;
        }
        tx.leak_is_told(noted, now).await?;
        let act = AuditEntry::of(scope, now, act).on_key(Some(key));
        let act = act.with(json!({ "reason": reason, "discarded": discarded }));
        let news = KeyNews::Found(found);
        let receipt = self.conclude_key_act(turn, tx, &act, news).await?;
        self.file(&act, &receipt).await;
        tracing::warn!(seller = %known.seller_id, key = %key, finder = find.finder.as_str(), "a key was found in public and killed");
        Ok(outcome)
    }

    /// Notes every place; answers the first one's sign.
    async fn note(
        &self,
        tx: &mut ScopedTx,
        known: &IdentifiedKey,
        find: &Find,
        outcome: Outcome,
    ) -> Result<LeakId, DbError> {
        let now = self.clock.now();
        let mut first = None;
        for place in &find.places {
            let noted = tx.note_leak(known.key.id, find.finder, place, outcome, now);
            let noted = noted.await?;
            first.get_or_insert(noted.id);
        }
        first.ok_or_else(|| DbError::Damaged("a key was found nowhere".into()))
    }

    /// Tells the owners and the security contact of a key that lives on, unless they were told of it within a day.
    async fn tell(
        &self,
        tx: &mut ScopedTx,
        known: &IdentifiedKey,
        find: &Find,
        works: Works,
    ) -> Result<(), DbError> {
        let (now, key) = (self.clock.now(), known.key.id);
        let told = tx.last_told_of(key).await?;
        let noted = self.note(tx, known, find, Outcome::Told).await?;
        if told.is_some_and(|told| told > now.before(TOLD_FOR)) {
            return Ok(());
        }
        let found = FoundKey {
            key: known.key.hint.clone(),
            finder: find.finder,
            places: find.places.clone(),
            outcome: Outcome::Told,
            works,
            discarded: None,
        };
        if let Some(to) = tx.addressees().await? {
            let mail = about_found_key(&to, &found, now);
            tx.insert_mails(&to.owners, &mail, now).await?;
            self.mail_contact(tx, &to, &found, find, now).await?;
        }
        tx.leak_is_told(noted, now).await?;
        let places: Vec<String> = find.places.iter().map(Place::in_words).collect();
        let entry = AuditEntry::of(tx.scope(), now, Act::KeyReported).on_key(Some(key));
        tx.append_audit(&entry.with(json!({ "places": places })))
            .await
    }

    async fn mail_contact(
        &self,
        tx: &mut ScopedTx,
        to: &Addressees,
        found: &FoundKey,
        find: &Find,
        at: Time,
    ) -> Result<(), DbError> {
        if find.contact.is_empty() {
            return Ok(());
        }
        let mail = about_found_key_for_contact(to, found, at);
        let contact = std::slice::from_ref(&find.contact);
        tx.insert_mails(contact, &mail, at).await
    }

    /// Dismisses a sign about a key of the scope's Seller: it is known and shown no more. `false` if there is none of this id,
    /// or if it was dismissed already.
    pub async fn dismiss_leak(&self, scope: SellerScope, leak: LeakId) -> Result<bool, DbError> {
        let mut tx = self.db.begin_write(scope).await?;
        let now = self.clock.now();
        let Some(gone) = tx.dismiss_leak(leak, now).await? else {
            return Ok(false);
        };
        let place = super::found::in_words(&gone.place, &gone.source);
        let entry = AuditEntry::of(scope, now, Act::LeakDismissed).on_key(Some(gone.key_id));
        let detail = json!({ "finder": gone.finder.as_str(), "places": [place] });
        tx.append_audit(&entry.with(detail)).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// How the key stands, as seen under the lock.
async fn standing(tx: &mut ScopedTx, known: &IdentifiedKey) -> Result<Standing, DbError> {
    let key = known.key.id;
    if tx.live_key().await?.is_some_and(|live| live.id == key) {
        return Ok(Standing::Live);
    }
    match tx.staged_key().await? {
        Some(staged) if staged.id == key => Ok(Standing::Staged),
        _ => Ok(Standing::Dead),
    }
}

/// Why the key was killed, as the Seller reads it.
fn reason(find: &Find) -> String {
    let who = match find.finder {
        Finder::GitHub => "GitHub secret scanning found it in public",
        Finder::Report | Finder::Browser => "somebody who had found it reported it",
    };
    let mut text = match find.places.as_slice() {
        [] => who.to_owned(),
        [place] => format!("{who}: {}", place.in_words()),
        [place, more @ ..] => format!("{who}: {}, and at {} more", place.in_words(), more.len()),
    };
    text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
    text
}
