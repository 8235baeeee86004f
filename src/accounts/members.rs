//! Who may act for a Seller: inviting, accepting, changing roles, removing.
//!
//! An owner manages everybody, an admin everybody but owners, and a Seller always keeps an owner. Links work once, for a
//! short time, and are stored as digests only (OWASP ASVS 5.0, 6.4 and 6.5).
//!
//! Never: a role given that reaches further than the role of whoever gives it.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::{
    Email, Role,
    links::INVITATION_WORKS_FOR,
    passwords::Password,
    people::{People, PersonError, Visitor},
    sessions::{Admitted, Session, actor, must_be_theirs},
    sign_in::Lane,
    tokens::Token,
};
use crate::{
    audit::Act,
    clock::Time,
    db::{AuditEntry, DbError, LinkKind, LinkRow, MemberRow, ScopedTx, UserRow},
    ids::{SellerId, UserId},
    keys::scope::{Authority, SellerScope},
    mail::{
        people_words::invitation,
        words::{MemberNews, about_member},
    },
};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Invitations to one Seller within a day, of which any is mailed.
const INVITED_A_DAY: usize = 50;
/// Those among them to one address within an hour.
const INVITED_AN_HOUR: usize = 3;

/// What an invitation offers, and to whom.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// Whom it was sent to.
    pub email: Email,
    /// The Seller.
    pub seller: SellerId,
    /// Its short name.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// As what.
    pub role: Role,
    /// The names of the Platforms that act for the Seller already, if it is an owner who is invited: theirs to end.
    pub platforms: Vec<String>,
    /// Whether there is a User with this address already, who signs in to accept.
    pub is_user: bool,
}

impl People {
    /// Makes the link by which an address becomes a member of the scope's Seller; an earlier one to it works no more.
    pub async fn invite(
        &self,
        scope: SellerScope,
        email: &Email,
        role: Role,
    ) -> Result<Token, PersonError> {
        let (tx, token) = self.make_invitation(scope, email, role).await?;
        tx.commit().await?;
        Ok(token)
    }

    /// The same, mailed to the address instead of handed to whoever invites; so many only, as anybody's address can be typed.
    pub async fn invite_by_mail(
        &self,
        scope: SellerScope,
        email: &Email,
        role: Role,
    ) -> Result<(), PersonError> {
        let platforms = self.platforms_told(scope.seller(), role).await?;
        let (mut tx, token) = self.make_invitation(scope, email, role).await?;
        must_not_be_too_many(&mut tx, email, self.clock.now()).await?;
        let name = tx.addressees().await?.map_or(String::new(), |to| to.name);
        let (actor, now) = (tx.actors_address().await?, self.clock.now());
        let mail = invitation(&name, role, &platforms, actor.as_deref(), now);
        // Nobody ever sees this token: the mail gets another one when it is sent.
        tx.insert_mail_with_link(email.as_str(), &mail, token.digest(), now)
            .await?;
        Ok(tx.commit().await?)
    }

    /// An invitation that is not committed yet.
    async fn make_invitation(
        &self,
        scope: SellerScope,
        email: &Email,
        role: Role,
    ) -> Result<(ScopedTx, Token), PersonError> {
        let token = Token::generate()?;
        let user = self.db.user_by_email(email).await?;
        let mut tx = self.db.begin_change(scope).await?;
        must_reach(&mut tx, role).await?;
        must_reach_invited(&mut tx, email).await?;
        if let Some(user) = user
            && tx.role_of(user.id).await?.is_some()
        {
            return Err(PersonError::IsMember(email.to_string()));
        }
        let now = self.clock.now();
        let link = LinkRow {
            email: email.to_string(),
            seller_id: Some(scope.seller()),
            role: Some(role),
            made_by: scope.actor(),
            created_us: now,
            expires_us: now.after(INVITATION_WORKS_FOR),
        };
        tx.insert_invitation(token.digest(), &link).await?;
        let entry = AuditEntry::of(scope, now, Act::MemberInvited);
        tx.append_audit(&entry.with(json!({ "email": email, "role": role })))
            .await?;
        Ok((tx, token))
    }

    /// Takes back the invitations that an address holds to the scope's Seller.
    pub async fn take_invitation_back(
        &self,
        scope: SellerScope,
        email: &Email,
    ) -> Result<(), PersonError> {
        let mut tx = self.db.begin_change(scope).await?;
        must_reach(&mut tx, Role::Viewer).await?;
        must_reach_invited(&mut tx, email).await?;
        if tx.take_invitations_back(email.as_str()).await? > 0 {
            let entry = AuditEntry::of(scope, self.clock.now(), Act::MemberUninvited);
            tx.append_audit(&entry.with(json!({ "email": email })))
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Of which Platforms somebody is told who is invited: an owner of all, as one may have brought the Seller into being and
    /// have acted for it ever since; others decide nothing about it.
    async fn platforms_told(&self, seller: SellerId, role: Role) -> Result<Vec<String>, DbError> {
        match role {
            Role::Owner => self.db.names_of_platforms(seller).await,
            Role::Admin | Role::Viewer => Ok(Vec::new()),
        }
    }

    /// What a link offers, without using it up.
    pub async fn invitation(&self, token: &Token) -> Result<Invitation, PersonError> {
        let link = self.db.link(LinkKind::Invitation, token.digest()).await?;
        let link = self.still_good(link)?;
        let (Some(seller), Some(role)) = (link.seller_id, link.role) else {
            return Err(PersonError::DeadLink);
        };
        let email: Email = link.email.parse().map_err(|_| PersonError::DeadLink)?;
        let is_user = self.db.user_by_email(&email).await?.is_some();
        let names = self.db.seller_names(seller).await?;
        let (slug, name) = names.ok_or(PersonError::DeadLink)?;
        Ok(Invitation {
            email,
            seller,
            slug,
            name,
            role,
            platforms: self.platforms_told(seller, role).await?,
            is_user,
        })
    }

    /// Uses an invitation up: a User gives their password, anybody else chooses one. Answers with how far that lets them in
    /// (joining takes the password, a session the code of a second factor as well) and the short name of the Seller that was
    /// joined.
    pub async fn accept(
        self: &Arc<Self>,
        token: &Token,
        password: &str,
        visitor: &Visitor,
        before: Option<&Session>,
    ) -> Result<(Admitted, String), PersonError> {
        let invitation = self.invitation(token).await?;
        let email = &invitation.email;
        let (user, is_new) = if invitation.is_user {
            let lane = Lane::of_client(visitor);
            let found = self
                .recognise(email.as_str(), password, lane, visitor)
                .await;
            if let Err(PersonError::WrongPassword) = found {
                // They may have become a User by this very link a moment ago: then that is what is wrong.
                self.invitation(token).await?;
            }
            let user = found?;
            (user, false)
        } else {
            let user = UserRow {
                id: UserId::new(),
                email: email.to_string(),
                password_hash: Password::new(password, &[email.as_str(), &invitation.name])?
                    .hash()
                    .await?,
            };
            (user, true)
        };
        let now = self.clock.now();
        let mut tx = self.db.begin_in_turn().await?;
        if !is_new {
            must_be_theirs(&mut tx, &user).await?;
        }
        let link = tx.take_link(LinkKind::Invitation, token.digest()).await?;
        let link = self.still_good(link)?;
        let (Some(seller), Some(role)) = (link.seller_id, link.role) else {
            return Err(PersonError::DeadLink);
        };
        if is_new {
            let hash = &user.password_hash;
            match tx.insert_user(user.id, email, hash, now).await {
                // They became a User since we looked, by an invitation to another Seller: now it takes their password.
                Err(DbError::Unique) => {
                    drop(tx);
                    return Box::pin(self.accept(token, password, visitor, before)).await;
                }
                other => other?,
            }
        }
        match tx.insert_membership(user.id, seller, role, now).await {
            Err(DbError::Unique) => return Err(PersonError::IsMember(email.to_string())),
            other => other?,
        }
        let entry = AuditEntry::of_person(user.id, visitor.address, now, Act::MemberJoined);
        let detail = json!({ "role": role, "invited_by": link.made_by, "new_user": is_new });
        tx.append_audit(&entry.on_seller(seller).with(detail))
            .await?;
        tx.commit().await?;
        let admitted = self.admit(&user, visitor, before).await?;
        Ok((admitted, invitation.slug))
    }

    /// Changes how far a member of the scope's Seller may act. If that is less far than before, the invitations that they
    /// made work no more.
    pub async fn set_role(
        &self,
        scope: SellerScope,
        user: UserId,
        role: Role,
    ) -> Result<(), PersonError> {
        let row = self.db.user(user).await?.ok_or(PersonError::NoSuchMember)?;
        let mut tx = self.db.begin_change(scope).await?;
        let old = tx.role_of(user).await?.ok_or(PersonError::NoSuchMember)?;
        must_reach(&mut tx, old).await?;
        must_reach(&mut tx, role).await?;
        if old == Role::Owner && role != Role::Owner && tx.count_owners().await? <= 1 {
            return Err(PersonError::LastOwner);
        }
        if role == old {
            return Ok(());
        }
        tx.set_role(user, role).await?;
        let uninvited = if role.may_manage(old) {
            Vec::new()
        } else {
            tx.take_back_invitations_by(&actor(user)).await?
        };
        let now = self.clock.now();
        let entry = AuditEntry::of(scope, now, Act::MemberRole).about(user);
        let detail = json!({ "from": old, "to": role, "uninvited": uninvited });
        tx.append_audit(&entry.with(detail)).await?;
        let news = MemberNews::Role {
            from: old,
            to: role,
        };
        tell_members(&mut tx, &[row.email], news, now).await?;
        Ok(tx.commit().await?)
    }

    /// Ends a membership of the scope's Seller. The invitations that the member made or holds work no more: nobody comes
    /// back through a door that they left open.
    pub async fn remove_member(&self, scope: SellerScope, user: UserId) -> Result<(), PersonError> {
        let row = self.db.user(user).await?.ok_or(PersonError::NoSuchMember)?;
        let mut tx = self.db.begin_change(scope).await?;
        let old = tx.role_of(user).await?.ok_or(PersonError::NoSuchMember)?;
        must_reach(&mut tx, old).await?;
        if old == Role::Owner && tx.count_owners().await? <= 1 {
            return Err(PersonError::LastOwner);
        }
        tx.delete_membership(user).await?;
        tx.take_invitations_back(&row.email).await?;
        let uninvited = tx.take_back_invitations_by(&actor(user)).await?;
        let now = self.clock.now();
        let entry = AuditEntry::of(scope, now, Act::MemberRemoved).about(user);
        tx.append_audit(&entry.with(json!({ "role": old, "uninvited": uninvited })))
            .await?;
        let news = MemberNews::Removed { role: old };
        tell_members(&mut tx, &[row.email], news, now).await?;
        Ok(tx.commit().await?)
    }

    /// The member of the scope's Seller with this address.
    pub async fn member_by_email(
        &self,
        scope: SellerScope,
        email: &Email,
    ) -> Result<MemberRow, PersonError> {
        let members = self.db.members(scope).await?;
        let found = members.into_iter().find(|m| m.email == email.as_str());
        found.ok_or(PersonError::NoSuchMember)
    }
}

/// Puts the mail to those to whom it happened into the outbox, in the act's own transaction: a stranger in an owner's account cannot
/// get the other owners out of the way of the mails about keys without their noticing.
pub(super) async fn tell_members(
    tx: &mut ScopedTx,
    emails: &[String],
    news: MemberNews,
    at: Time,
) -> Result<(), DbError> {
    let Some(to) = tx.addressees().await? else {
        return Ok(());
    };
    let actor = tx.actors_address().await?;
    let mail = about_member(&to, news, actor.as_deref(), at);
    tx.insert_mails(emails, &mail, at).await
}

/// Whether whoever acts may manage people of this role, as things stand under the transaction's lock.
async fn must_reach(tx: &mut ScopedTx, role: Role) -> Result<(), PersonError> {
    let own = match tx.scope().authority() {
        Authority::Operator => return Ok(()),
        Authority::Member(user) => tx.role_of(user).await?,
        Authority::Key(_) | Authority::Platform { .. } | Authority::Finder(..) => None,
    };
    match own {
        Some(own) if own.may_manage(role) => Ok(()),
        _ => Err(PersonError::NotAllowed),
    }
}

/// Refuses an invitation, whose entry is written already, if it is one too many: it would go to somebody who may not know the
/// Seller, in the marketplace's name. The operator knows what they do.
async fn must_not_be_too_many(
    tx: &mut ScopedTx,
    email: &Email,
    now: Time,
) -> Result<(), PersonError> {
    if tx.scope().authority() == Authority::Operator {
        return Ok(());
    }
    let made = tx.invitations_made(now.before(DAY)).await?;
    if made.len() > INVITED_A_DAY {
        return Err(PersonError::InvitedTooMany);
    }
    let of_late = now.before(HOUR);
    let to_them = made
        .iter()
        .filter(|(at, detail)| *at >= of_late && detail["email"] == email.as_str());
    if to_them.count() > INVITED_AN_HOUR {
        return Err(PersonError::InvitedTooOften(email.to_string()));
    }
    Ok(())
}

/// The same for the role that an address is invited to already: who may not give a role may not take it back either.
async fn must_reach_invited(tx: &mut ScopedTx, email: &Email) -> Result<(), PersonError> {
    for role in tx.invited_roles(email.as_str()).await? {
        must_reach(tx, role).await?;
    }
    Ok(())
}
