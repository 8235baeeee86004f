//! The operator's acts, as values: a command line turns into a [`Command`], which this process performs itself or sends to
//! the server that owns the database. Either way it is the same code.
//!
//! Never: a command that does something else with a server than without one.

mod accounts;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::accounts::AccountCommand;
use self::accounts::find as find_account;
use crate::{
    accounts::{
        AccountKind, Email, Role, Slug, links,
        passwords::Password,
        people::PersonError,
        sellers::{self, CreateSellerError},
    },
    db::{DbError, KeyRow, LeakRow, OfKeys, SellerRow},
    inventory::{service::InventoryError, vin::Vin},
    keys::{
        format::{SecretKey, keys_in, redact},
        lifecycle::KeyActError,
        scope::{OperatorAuthority, SellerScope},
    },
    services::Services,
};

/// Sellers in one answer of `seller list`.
const SELLERS_PER_PAGE: i64 = 1_000;
/// Clients in one answer of `key show`.
const CLIENTS_SHOWN: i64 = 50;
/// Keys in one answer of `key show`.
const KEYS_SHOWN: i64 = 10;
/// Signs of leaks that `key identify` looks through, the newest of the Seller's.
const LEAKS_READ: i64 = 500;
/// How far back `key show` looks for clients.
const A_DAY: Duration = Duration::from_secs(86_400);
/// Characters of a reason at most.
const REASON_CHARS_MAX: usize = 500;

/// What is said of a well-formed key that is in no table.
const NOBODYS_KEY: &str = "a well-formed key, but no Seller's: never made here, or one of those so old that they are forgotten";

/// Of several keys in one text so many are named at most, by how they end.
const KEYS_NAMED_MAX: usize = 10;

/// What is said of a text in which no key stands.
const NO_WHOLE_KEY: &str = "no whole key stands in this text. In a mail it may be encoded or broken over lines: give the key itself";

/// One act. It travels over the server's socket as JSON.
#[derive(Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Creates a Seller with its owner.
    SellerCreate {
        /// Its name.
        name: String,
        /// Its short name.
        slug: Slug,
        /// Its owner's address.
        owner_email: Email,
        /// Its owner's password.
        owner_password: String,
    },
    /// One page of Sellers.
    SellerList {
        /// After this slug; empty for the first page.
        after: String,
    },
    /// One Seller.
    SellerShow {
        /// Which.
        seller: Slug,
    },
    /// Makes an invitation.
    UserInvite {
        /// To which Seller.
        seller: Slug,
        /// Whom.
        email: Email,
        /// As what.
        role: Role,
    },
    /// Changes a member's role.
    UserRole {
        /// Of which Seller.
        seller: Slug,
        /// Whose.
        email: Email,
        /// To what.
        role: Role,
    },
    /// Ends a membership.
    UserRemove {
        /// Of which Seller.
        seller: Slug,
        /// Whose.
        email: Email,
    },
    /// Makes a link to set a new password.
    UserResetPassword {
        /// Whose.
        email: Email,
    },
    /// Erases a person.
    UserErase {
        /// Whom.
        email: Email,
    },
    /// Takes a User's second factor away.
    UserResetSecondFactor {
        /// Whose.
        email: Email,
    },
    /// Makes a key, replacing the one before.
    KeyGenerate {
        /// Whose.
        seller: Slug,
    },
    /// Makes a key that waits for its cut-over.
    KeyPrepare {
        /// Whose.
        seller: Slug,
    },
    /// Makes the prepared key the live one.
    KeyCutOver {
        /// Whose.
        seller: Slug,
    },
    /// Kills the prepared key.
    KeyDiscard {
        /// Whose.
        seller: Slug,
    },
    /// Kills the live key.
    KeyExpire {
        /// Whose.
        seller: Slug,
        /// Why; the Seller sees it.
        reason: String,
    },
    /// Kills the key that this string is.
    KeyExpireThis {
        /// The string.
        text: String,
        /// Why; the Seller sees it.
        reason: String,
    },
    /// What is known of a Seller's key, but for the key.
    KeyShow {
        /// Whose.
        seller: Slug,
    },
    /// Whose key a string is.
    KeyIdentify {
        /// The string.
        text: String,
    },
    /// Ends the active listing of a VIN.
    ListingRelease {
        /// Which.
        vin: String,
    },
    /// The nodes on the database.
    Nodes,
    /// An act on accounts.
    Account(AccountCommand),
}

/// Why a command was refused.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refused {
    /// What was wrong and what to do.
    pub message: String,
}

/// What a command answers: the object that `--json` prints.
pub type Answer = Result<Value, Refused>;

impl Refused {
    fn new(message: impl ToString) -> Self {
        Self {
            message: message.to_string(),
        }
    }
}

impl From<DbError> for Refused {
    fn from(error: DbError) -> Self {
        tracing::error!(%error, "a command failed in the database");
        Self::new(error)
    }
}

impl From<KeyActError> for Refused {
    fn from(error: KeyActError) -> Self {
        Self::new(error)
    }
}

impl From<PersonError> for Refused {
    fn from(error: PersonError) -> Self {
        Self::new(error)
    }
}

impl From<CreateSellerError> for Refused {
    fn from(error: CreateSellerError) -> Self {
        Self::new(error)
    }
}

impl From<InventoryError> for Refused {
    fn from(error: InventoryError) -> Self {
        match error {
            InventoryError::NotListed => Self::new("no dealer has an active listing of this VIN"),
            other => Self::new(other),
        }
    }
}

/// Performs an act.
pub async fn perform(services: &Services, command: Command) -> Answer {
    let authority = OperatorAuthority::assume();
    match command {
        Command::SellerCreate {
            name,
            slug,
            owner_email,
            owner_password,
        } => {
            let password = Password::new(&owner_password, &[owner_email.as_str(), &name])
                .map_err(Refused::new)?;
            let (db, clock) = (&services.db, &services.clock);
            let created = sellers::create_seller(
                db,
                clock,
                slug.clone(),
                &name,
                owner_email.clone(),
                password,
            )
            .await?;
            Ok(json!({
                "seller": {"id": created.seller, "slug": slug},
                "owner": {"id": created.owner, "email": owner_email},
            }))
        }
        Command::SellerList { after } => {
            let rows = services
                .db
                .accounts_after(AccountKind::Seller, &after, SELLERS_PER_PAGE);
            let rows = rows.await?;
            let next = (rows.len() as i64 == SELLERS_PER_PAGE)
                .then(|| rows.last().map(|row| row.slug.clone()))
                .flatten();
            let mut sellers = Vec::with_capacity(rows.len());
            for row in &rows {
                sellers.push(seller_summary(services, authority.scope(row.id), row).await?);
            }
            Ok(json!({"sellers": sellers, "next": next}))
        }
        Command::SellerShow { seller } => {
            let kind = Some(AccountKind::Seller);
            let (row, scope) = find_account(services, authority, &seller, kind).await?;
            let mut shown = seller_summary(services, scope, &row).await?;
            // The platform that brought it into being, if one did.
            shown["created_by"] = match row.created_by {
                Some(platform) => {
                    let found = services.db.seller(authority.scope(platform)).await?;
                    json!(found.map(|platform| platform.slug))
                }
                None => json!(null),
            };
            let members = services.db.members(scope).await?;
            let locations = services.db.locations(scope).await?;
            shown["members"] = members
                .into_iter()
                .map(|m| json!({"email": m.email, "role": m.role}))
                .collect();
            shown["locations"] = locations
                .into_iter()
                .map(|l| json!({"name": l.name, "city": l.city, "state": l.state}))
                .collect();
            Ok(json!({"seller": shown}))
        }
        Command::UserInvite {
            seller,
            email,
            role,
        } => {
            let (_, scope) = find(services, authority, &seller).await?;
            let people = &services.people;
            if services.settings.mails_links {
                people.invite_by_mail(scope, &email, role).await?;
                return Ok(json!({"email": email, "role": role, "mailed": true}));
            }
            let token = people.invite(scope, &email, role).await?;
            let link = links::invitation(&services.settings.base_url, &token);
            Ok(json!({"email": email, "role": role, "link": link}))
        }
        Command::UserRole {
            seller,
            email,
            role,
        } => {
            let (_, scope) = find(services, authority, &seller).await?;
            let member = services.people.member_by_email(scope, &email).await?;
            let people = &services.people;
            people.set_role(scope, member.user_id, role).await?;
            Ok(json!({"user": {"id": member.user_id, "email": email}, "role": role}))
        }
        Command::UserRemove { seller, email } => {
            let (_, scope) = find(services, authority, &seller).await?;
            let member = services.people.member_by_email(scope, &email).await?;
            services.people.remove_member(scope, member.user_id).await?;
            Ok(json!({"removed": {"id": member.user_id, "email": email}}))
        }
        Command::UserResetPassword { email } => {
            let people = &services.people;
            if services.settings.mails_links {
                people.mail_reset_link(&email).await?;
                return Ok(json!({"email": email, "mailed": true}));
            }
            let token = people.reset_link(&email).await?;
            let link = links::reset(&services.settings.base_url, &token);
            Ok(json!({"email": email, "link": link}))
        }
        Command::UserErase { email } => {
            let done = services.people.erase(&email).await?;
            Ok(json!({
                "erased": {
                    "pseudonym": done.pseudonym.as_str(),
                    "left": done.left,
                    "sessions": done.rows.sessions,
                    "links": done.rows.links,
                    "mails": done.rows.mails,
                    "audit_entries": done.rows.entries,
                },
                "shown_by": done.shown_by,
            }))
        }
        Command::UserResetSecondFactor { email } => {
            let ended = services.people.take_second_factor_away(&email).await?;
            Ok(json!({"email": email, "second_factor": null, "sessions_ended": ended}))
        }
        Command::KeyGenerate { seller } => {
            let (row, scope) = find(services, authority, &seller).await?;
            let made = services.keys.generate(scope, row.key_version).await?;
            Ok(json!({
                "key": made.secret.expose(),
                "key_id": made.key,
                "replaced": made.replaced,
                "receipt": made.receipt,
            }))
        }
        Command::KeyPrepare { seller } => {
            let (row, scope) = find(services, authority, &seller).await?;
            let made = services.keys.prepare(scope, row.key_version).await?;
            Ok(json!({
                "key": made.secret.expose(),
                "key_id": made.key,
                "discarded": made.replaced,
                "receipt": made.receipt,
            }))
        }
        Command::KeyCutOver { seller } => {
            let (row, scope) = find(services, authority, &seller).await?;
            let done = services.keys.cut_over(scope, row.key_version).await?;
            Ok(json!({
                "key_id": done.key, "replaced": done.replaced, "receipt": done.receipt,
            }))
        }
        Command::KeyDiscard { seller } => {
            let (row, scope) = find(services, authority, &seller).await?;
            let done = services.keys.discard(scope, row.key_version).await?;
            Ok(json!({"discarded": {"key_id": done.key}, "receipt": done.receipt}))
        }
        Command::KeyExpire { seller, reason } => {
            let reason = reason_for_people(&reason)?;
            let (_, scope) = find(services, authority, &seller).await?;
            let expired = services.keys.expire(scope, &reason).await?;
            Ok(json!({"expired": {"key_id": expired.key}, "receipt": expired.receipt}))
        }
        Command::KeyExpireThis { text, reason } => {
            let reason = reason_for_people(&reason)?;
            let found = match only_key_in(&text)? {
                Ok(secret) => services.db.identify_key(secret.digest()).await?,
                Err(why) => return Err(Refused::new(format!("nothing was done: {why}"))),
            };
            let Some(found) = found else {
                return Err(Refused::new(format!("nothing was done: {NOBODYS_KEY}")));
            };
            let scope = authority.scope(found.seller_id);
            let done = services.keys.expire_this(scope, found.key.id, &reason);
            let done = done.await.map_err(|error| match error {
                KeyActError::DeadAlready => Refused::new(format!(
                    "this key of {} is dead already; nothing was done",
                    found.slug
                )),
                other => other.into(),
            })?;
            Ok(json!({
                "seller": {"id": found.seller_id, "slug": found.slug},
                "expired": {"key_id": done.key},
                "discarded": {"key_id": done.discarded},
                "receipt": done.receipt,
            }))
        }
        Command::KeyShow { seller } => {
            let (row, scope) = find(services, authority, &seller).await?;
            // What was counted but not written yet belongs into the answer.
            services
                .keys
                .usage
                .flush(&services.db, services.clock.now())
                .await?;
            let keys = services.db.keys_of_seller(scope, KEYS_SHOWN).await?;
            let since = services.clock.now().before(A_DAY).minute();
            let clients = services
                .db
                .clients_since(scope, OfKeys::All, since, CLIENTS_SHOWN)
                .await?;
            let (live, dead): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.state == "live");
            Ok(json!({
                "seller": {"id": row.id, "slug": row.slug},
                "key": live.first().map(|key| key_summary(key)),
                "staged": services.db.staged_key(scope).await?.map(|key| json!({
                    "id": key.id, "hint": key.hint, "state": "staged", "made_by": key.made_by,
                    "created_at": key.created_us, "shown": key.shown_us.is_some(),
                })),
                "earlier": dead.into_iter().map(key_summary).collect::<Vec<_>>(),
                "clients_24h": clients.into_iter().map(|c| json!({
                    "key_id": c.key_id, "address": c.address, "user_agent": c.user_agent, "accepted": c.accepted,
                    "unauthorized": c.unauthorized, "barred": c.barred, "last_at": crate::clock::Time(c.last_us),
                })).collect::<Vec<_>>(),
            }))
        }
        Command::KeyIdentify { text } => {
            let secret = match only_key_in(&text)? {
                Ok(secret) => secret,
                Err(why) => {
                    return Ok(json!({"identified": null, "reason": "malformed", "message": why}));
                }
            };
            match services.db.identify_key(secret.digest()).await? {
                Some(found) => {
                    services.keys.origins.flush(&services.db).await?;
                    let scope = authority.scope(found.seller_id);
                    let mut leaks = services.db.leaks_of(scope, LEAKS_READ).await?;
                    leaks.retain(|leak| leak.key_id == found.key.id);
                    Ok(json!({"identified": {
                        "seller": {"id": found.seller_id, "slug": found.slug, "name": found.name, "kind": found.kind},
                        "key": key_summary(&found.key),
                        "live": found.key.state == "live",
                        "leaks": leaks.iter().map(leak_summary).collect::<Vec<_>>(),
                    }}))
                }
                None => Ok(json!({
                    "identified": null, "reason": "unknown",
                    "message": NOBODYS_KEY,
                })),
            }
        }
        Command::ListingRelease { vin } => {
            let vin: Vin = vin.trim().parse().map_err(Refused::new)?;
            let seller = services.inventory.release(authority, vin).await?;
            Ok(json!({"released": {"vin": vin, "seller_id": seller}}))
        }
        Command::Nodes => {
            let (db, clock) = (&services.db, &services.clock);
            let roster = services.keys.revocation.roster(db, clock).await?;
            Ok(json!(roster))
        }
        Command::Account(command) => accounts::perform(services, authority, command).await,
    }
}

/// An account of either kind: keys and people are alike for both.
async fn find(
    services: &Services,
    authority: OperatorAuthority,
    slug: &Slug,
) -> Result<(SellerRow, SellerScope), Refused> {
    find_account(services, authority, slug, None).await
}

/// The key that was handed in: alone, or in the midst of the mail or the line of code that it was found in.
/// Why there is none, if there is none; refused if there are several, of which nobody has said which is meant.
fn only_key_in(text: &str) -> Result<Result<SecretKey, String>, Refused> {
    let mut found = keys_in(text, KEYS_NAMED_MAX + 1);
    match found.pop() {
        Some(last) if !found.is_empty() => {
            found.push(last);
            let named = found.iter().take(KEYS_NAMED_MAX);
            let mut endings: Vec<String> = named.map(|key| format!("…{}", key.hint())).collect();
            if found.len() > endings.len() {
                endings.push("and more".to_owned());
            }
            Err(Refused::new(format!(
                "more than one key stands in this text: {}. Give one at a time; nothing was done",
                endings.join(", ")
            )))
        }
        Some(key) => Ok(Ok(key)),
        None if text.trim().contains(char::is_whitespace) => Ok(Err(NO_WHOLE_KEY.to_owned())),
        None => Ok(SecretKey::parse(text.trim().as_bytes()).map_err(|error| error.to_string())),
    }
}

/// A reason as the people whom it concerns will read it.
fn reason_for_people(reason: &str) -> Result<String, Refused> {
    let reason = reason.trim();
    if reason.is_empty()
        || reason.chars().count() > REASON_CHARS_MAX
        || reason.chars().any(char::is_control)
    {
        return Err(Refused::new(format!(
            "a reason has 1 to {REASON_CHARS_MAX} characters; the people of the account will read it"
        )));
    }
    // A key in the reason would be kept in the clear, and shown.
    Ok(redact(reason).into_owned())
}

async fn seller_summary(
    services: &Services,
    scope: SellerScope,
    row: &SellerRow,
) -> Result<Value, Refused> {
    let key = services.db.keys_of_seller(scope, 1).await?;
    let live = key.first().filter(|key| key.state == "live");
    Ok(json!({
        "id": row.id,
        "slug": row.slug,
        "name": row.name,
        "plan": row.plan,
        "status": row.status,
        "status_reason": row.status_reason,
        "key_networks": row.key_networks,
        "created_at": row.created_us,
        "active_listings": services.db.count_listings(scope).await?.active,
        "key": live.map(key_summary),
    }))
}

fn leak_summary(leak: &LeakRow) -> Value {
    json!({
        "finder": leak.finder.as_str(),
        "place": leak.place,
        "source": leak.source,
        "outcome": leak.outcome.as_str(),
        "times": leak.times,
        "first_at": leak.first_us,
        "last_at": leak.last_us,
        "dismissed_at": leak.dismissed_us,
    })
}

fn key_summary(key: &KeyRow) -> Value {
    json!({
        "id": key.id,
        "hint": key.hint,
        "state": key.state,
        "made_by": key.made_by,
        "created_at": key.created_us,
        "live_at": key.live_us,
        "shown": key.shown_us.is_some(),
        "ended_at": key.ended_us,
        "end_reason": key.end_reason,
    })
}
