//! Erasing a person: they can sign in no more, are a member of nothing, and every place that named them names a pseudonym.
//!
//! What they did stays told, since it is the Sellers' record as well: each act of theirs is an erased user's from then on,
//! the same one throughout.
//!
//! Never: a Seller left without an owner; a name kept to find the pseudonym by.

use std::time::Duration;

use serde_json::json;

use super::{
    Email,
    erased::Pseudonym,
    people::{People, PersonError},
};
use crate::{
    audit::Act,
    db::{AuditEntry, ErasedRows, Person},
    mail::words::unlinked,
};

/// Entries that were written while the log was being read are looked for once more: those that are not older than this when
/// the reading began. Transactions last for seconds, and the clocks of two nodes differ by minutes at most.
const READ_AGAIN: Duration = Duration::from_secs(3_600);

/// What was erased.
#[derive(Clone, Debug)]
pub struct Erasure {
    /// What stands for the person from now on.
    pub pseudonym: Pseudonym,
    /// The short names of the Sellers that they were a member of.
    pub left: Vec<String>,
    /// What was found besides.
    pub rows: ErasedRows,
    /// The short names of the Sellers whose own public record shows the address, which stays as it is.
    pub shown_by: Vec<String>,
}

impl People {
    /// Erases the person with this address, be they a User or somebody who was only invited. For the operator, who has made
    /// sure of the person. [`PersonError::LastOwnerOf`] as long as a Seller has no other owner,
    /// [`PersonError::NoSuchUser`] if nothing here knows the address.
    pub async fn erase(&self, email: &Email) -> Result<Erasure, PersonError> {
        let user = self.db.user_by_email(email).await?;
        let person = Person {
            user: user.map(|user| user.id),
            email: email.clone(),
            in_mails: unlinked(email.as_str()),
            pseudonym: Pseudonym::new(),
        };
        let nobody = || PersonError::NoSuchUser(email.to_string());
        let now = self.clock.now();
        let naming = self.db.audit_naming(&person).await?;
        let mut tx = self.db.begin_erasure(&person).await?;
        if person.user.is_some() && !tx.is_there().await? {
            return Err(nobody());
        }
        let belongs = tx.belongs_to().await?;
        let alone = belongs
            .iter()
            .filter(|seller| seller.role == super::Role::Owner && seller.other_owners == 0);
        let alone: Vec<&str> = alone.map(|seller| seller.slug.as_str()).collect();
        if !alone.is_empty() {
            return Err(PersonError::LastOwnerOf(alone.join(", ")));
        }
        let entry = |act| {
            let entry = AuditEntry::of_operator(now, act);
            match person.user {
                Some(user) => entry.about(user),
                None => entry,
            }
        };
        // While they are members yet, so that each of those Sellers sees it.
        tx.append_audit(&entry(Act::MemberErased)).await?;
        for seller in &belongs {
            let uninvited = tx.leave(seller.seller_id).await?;
            let detail = json!({ "role": seller.role, "uninvited": uninvited });
            let left = entry(Act::MemberRemoved).on_seller(seller.seller_id);
            tx.append_audit(&left.with(detail)).await?;
        }
        let rows = tx.erase(&naming, now.before(READ_AGAIN)).await?;
        let is_known = person.user.is_some() || rows != ErasedRows::default();
        if !is_known {
            return Err(nobody());
        }
        tx.commit().await?;
        Ok(Erasure {
            pseudonym: person.pseudonym,
            left: belongs.into_iter().map(|seller| seller.slug).collect(),
            rows,
            shown_by: self.db.sellers_showing(email).await?,
        })
    }
}
