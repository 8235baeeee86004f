//! Creating Sellers with their first owner: the operator's act.
//!
//! Never: a password of an existing User changed by it.

use super::{
    AccountKind, Email, Plan, Role, Slug,
    passwords::{Password, PasswordError},
};
use crate::{
    audit::Act,
    clock::Clock,
    db::{AuditEntry, Db, DbError, NewSeller},
    ids::{SellerId, UserId},
};

/// Characters of a Seller's name at most.
pub const NAME_CHARS_MAX: usize = 120;

/// What came into being.
#[derive(Clone, Copy, Debug)]
pub struct CreatedSeller {
    /// The Seller.
    pub seller: SellerId,
    /// Its owner.
    pub owner: UserId,
}

/// Why a Seller was not created. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum CreateSellerError {
    /// Slugs are unique.
    #[error("the slug {0} is taken; choose another")]
    SlugTaken(Slug),
    /// A User with this address exists, and the password is another.
    #[error(
        "a user {0} exists with another password; give that user's password to make them owner of this Seller too"
    )]
    UserExists(Email),
    /// Not a name.
    #[error("a name has 1 to {NAME_CHARS_MAX} characters, none of them a control character")]
    Name,
    /// Not an acceptable password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The database could not do it.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Creates a Seller and its owner, or makes an existing User its owner if the password is theirs.
pub async fn create_seller(
    db: &Db,
    clock: &Clock,
    slug: Slug,
    name: &str,
    owner: Email,
    password: Password,
) -> Result<CreatedSeller, CreateSellerError> {
    let name = checked_name(name)?;
    let existing = db.user_by_email(&owner).await?;
    let hash = match &existing {
        Some(user) if password.clone().verify(user.password_hash.clone()).await? => None,
        Some(_) => return Err(CreateSellerError::UserExists(owner)),
        None => Some(password.hash().await?),
    };
    let now = clock.now();
    let seller = NewSeller {
        id: SellerId::new(),
        slug: slug.clone(),
        name: name.to_owned(),
        plan: Plan::Starter,
        kind: AccountKind::Seller,
    };
    let user = existing.map_or_else(UserId::new, |user| user.id);

    let mut tx = db.begin().await?;
    match tx.insert_seller(&seller, now).await {
        Err(DbError::Unique) => return Err(CreateSellerError::SlugTaken(slug)),
        other => other?,
    }
    if let Some(hash) = hash {
        match tx.insert_user(user, &owner, &hash, now).await {
            // Somebody created the same User since we looked.
            Err(DbError::Unique) => return Err(CreateSellerError::UserExists(owner)),
            other => other?,
        }
    }
    tx.insert_membership(user, seller.id, Role::Owner, now)
        .await?;
    let entry = AuditEntry::of_operator(now, Act::SellerCreated).on_seller(seller.id);
    let entry = entry.about(user).with(serde_json::json!({"slug": slug}));
    tx.append_audit(&entry).await?;
    tx.commit().await?;
    Ok(CreatedSeller {
        seller: seller.id,
        owner: user,
    })
}

/// Creates a Platform, which nobody is a member of yet. Sellers and Platforms share their slugs.
pub async fn create_platform(
    db: &Db,
    clock: &Clock,
    slug: Slug,
    name: &str,
    plan: Plan,
) -> Result<SellerId, CreateSellerError> {
    let platform = NewSeller {
        id: SellerId::new(),
        slug: slug.clone(),
        name: checked_name(name)?.to_owned(),
        plan,
        kind: AccountKind::Platform,
    };
    let now = clock.now();
    let mut tx = db.begin().await?;
    match tx.insert_seller(&platform, now).await {
        Err(DbError::Unique) => return Err(CreateSellerError::SlugTaken(slug)),
        other => other?,
    }
    let entry = AuditEntry::of_operator(now, Act::PlatformCreated).on_seller(platform.id);
    tx.append_audit(&entry.with(serde_json::json!({"slug": slug})))
        .await?;
    tx.commit().await?;
    Ok(platform.id)
}

fn checked_name(name: &str) -> Result<&str, CreateSellerError> {
    let name = name.trim();
    let fits = (1..=NAME_CHARS_MAX).contains(&name.chars().count());
    if fits && !name.chars().any(char::is_control) {
        Ok(name)
    } else {
        Err(CreateSellerError::Name)
    }
}
