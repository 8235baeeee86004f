//! Settings → API Key: how a Seller's key stands, the form that makes one, and the one showing.
//!
//! The form carries the Seller's id and the version of the key that it was rendered with. The act is on that Seller,
//! whichever other page is open; if the key has changed since, it is refused with 409 and shows nothing. So a page that is
//! reloaded, gone back to, or posted again makes no key.
//!
//! Never: a key on any page but the answer to the act that made it.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    super::{State, caller::SignedIn, form::Form, problem::Problem},
    Page, Shell, grouped,
    shell::Section,
    step_up::{Act, with_recent_password},
    when::When,
};
use crate::{
    accounts::sessions::Member,
    act::{ActDied, run_to_end},
    clock::Time,
    db::{ClientUse, DbError, KeyRow, ListingFilter, OfKeys},
    inventory::listing::ListingStatus,
    keys::{
        format::SecretKey,
        lifecycle::{Generated, KeyActError},
        revocation::{NodeOutcome, Receipt},
    },
};

/// Where the form is posted to.
pub const PATH: &str = "/dashboard/settings/api-key";
/// The field that says that the page with the clients was shown.
const CONFIRMED: &str = "confirmed";
/// What the operator is called on pages.
const MARKETPLACE: &str = "the marketplace";
/// How far back clients are looked for.
const A_DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Clients on one page.
const CLIENTS_SHOWN: usize = 50;
/// Clients looked at for it.
const CLIENTS_READ: i64 = 500;

/// How a Seller's key stands.
pub struct KeyView {
    /// The Seller's id, for the form.
    pub seller: String,
    /// The version of the key that the page shows, for the form.
    pub version: i64,
    /// Which of the states it is in.
    pub state: KeyState,
    /// The key, unless there is none.
    pub key: Option<KeyFacts>,
    /// The key that the operator expired, if that is why there is none.
    pub expired: Option<ExpiredFacts>,
    /// Clients that used the live key in the last 24 hours.
    pub clients: Vec<ClientRow>,
    /// Whether there are more of them than are shown.
    pub more_clients: bool,
    /// Clients that sent a dead key in the last 24 hours and have not been seen with the live one since.
    pub stragglers: Vec<ClientRow>,
    /// Whether there are more of them than are shown.
    pub more_stragglers: bool,
    /// For how many days use is remembered.
    pub usage_days: u32,
}

/// The states of a Seller's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// There never was one.
    None,
    /// Live, and used.
    Live,
    /// Live, and not used yet.
    Waiting,
    /// Live, but nobody has seen it.
    NeverShown,
    /// The marketplace expired it.
    Expired,
}

/// What is known of the live key.
pub struct KeyFacts {
    /// Its last four characters.
    pub hint: String,
    /// When it was made.
    pub created: When,
    /// By whom.
    pub made_by: String,
    /// Whether it replaced another.
    pub is_replacement: bool,
    /// When it was last let in.
    pub used: Option<When>,
}

/// What is known of a key that the marketplace expired.
pub struct ExpiredFacts {
    /// Its last four characters.
    pub hint: String,
    /// When.
    pub at: When,
    /// Why.
    pub reason: String,
}

/// One client.
pub struct ClientRow {
    /// Where it is.
    pub address: String,
    /// What it is.
    pub user_agent: String,
    /// Its calls.
    pub calls: String,
    /// Its last call.
    pub last: When,
}

impl KeyState {
    /// In a word or two.
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "No key yet",
            Self::Live => "Live",
            Self::Waiting => "Live, waiting for your first call",
            Self::NeverShown => "Replaced, but never shown",
            Self::Expired => "Expired by the marketplace",
        }
    }

    /// The class of its mark.
    pub fn mark(self) -> &'static str {
        match self {
            Self::None => "quiet",
            Self::Live => "good",
            Self::Waiting => "wait",
            Self::NeverShown | Self::Expired => "bad",
        }
    }
}

impl KeyView {
    /// Reads how the member's Seller's key stands.
    pub async fn read(state: &State, member: &Member) -> Result<Self, Problem> {
        let services = &state.services;
        let (db, scope) = (&services.db, member.scope());
        // What was counted but not written yet belongs on the page; without it the page is still true, only older.
        write_counts(state).await;
        let now = services.clock.now();
        let seller = db.seller(scope).await?.ok_or_else(Problem::other_dealers)?;
        let keys = db.keys_of_seller(scope, 2).await?;
        let since = now.before(A_DAY).minute();
        let live = keys.first().filter(|key| key.state == "live");
        let expired = keys.first().filter(|key| key.state == "expired");
        // Asked for apart: however many clients still send a dead key, they hide none of the live one's.
        let clients = async |keys| {
            let limit = CLIENTS_READ;
            db.clients_since(scope, keys, since, limit).await
        };
        let (on_live, on_dead) = match live {
            Some(key) => (
                clients(OfKeys::Only(key.id)).await?,
                clients(OfKeys::But(key.id)).await?,
            ),
            None => (Vec::new(), clients(OfKeys::All).await?),
        };
        let stragglers = still_on_a_dead_key(&on_dead, &on_live);
        let mut view = Self {
            seller: seller.id.to_text(),
            version: seller.key_version,
            state: match expired {
                Some(_) => KeyState::Expired,
                None => KeyState::None,
            },
            key: None,
            expired: expired.map(|key| ExpiredFacts {
                hint: key.hint.clone(),
                at: When::ago(key.ended_us.unwrap_or(key.created_us), now),
                reason: key.end_reason.clone().unwrap_or_default(),
            }),
            clients: rows(&on_live, now, |client| {
                client.accepted + client.unauthorized
            }),
            more_clients: on_live.len() > CLIENTS_SHOWN,
            stragglers: rows(&stragglers, now, |client| client.unauthorized),
            more_stragglers: stragglers.len() > CLIENTS_SHOWN,
            usage_days: services.settings.usage_days,
        };
        if let Some(key) = live {
            let used = db.last_accepted(scope, key.id).await?;
            // Of a key that is older than what is counted, nobody knows whether it was ever used.
            let counted = A_DAY * services.settings.usage_days;
            let is_new = key.created_us > now.before(counted);
            view.state = match (key.shown_us, used) {
                (None, _) => KeyState::NeverShown,
                (Some(_), None) if is_new => KeyState::Waiting,
                (Some(_), _) => KeyState::Live,
            };
            view.key = Some(KeyFacts {
                hint: key.hint.clone(),
                created: When::date(key.created_us, now),
                made_by: name_of(state, &key.made_by).await?,
                is_replacement: keys.len() > 1,
                used: used.map(|at| When::ago(at, now)),
            });
        }
        Ok(view)
    }

    /// Whether there is a key to replace.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }
}

/// Writes what was counted but not written yet, on a task of its own: counts that were taken out of memory must reach the
/// database, whether or not the browser waits for the page.
async fn write_counts(state: &State) {
    let (keys, db) = (Arc::clone(&state.services.keys), state.services.db.clone());
    let written = run_to_end(async move {
        let written = keys.usage.flush(&db).await;
        written.map_err(Unwritten::Db)
    });
    if let Err(error) = written.await {
        tracing::warn!(%error, "counts of usage cannot be written for a page");
    }
}

#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error(transparent)]
    Db(DbError),
    #[error(transparent)]
    Died(#[from] ActDied),
}

/// Of the clients that sent a dead key, those that were refused and have not been let in with the live key since.
fn still_on_a_dead_key(dead: &[ClientUse], live: &[ClientUse]) -> Vec<ClientUse> {
    let switched = |client: &ClientUse| {
        live.iter().any(|other| {
            (&other.address, &other.user_agent) == (&client.address, &client.user_agent)
                && other.last_us > client.last_us
        })
    };
    let refused = dead.iter().filter(|client| client.unauthorized > 0);
    refused
        .filter(|client| !switched(client))
        .cloned()
        .collect()
}

fn rows(clients: &[ClientUse], now: Time, calls: impl Fn(&ClientUse) -> i64) -> Vec<ClientRow> {
    let rows = clients.iter().take(CLIENTS_SHOWN);
    rows.map(|client| ClientRow {
        address: client.address.clone(),
        user_agent: client.user_agent.clone(),
        calls: grouped(calls(client)),
        last: When::ago(Time(client.last_us), now),
    })
    .collect()
}

/// Whoever the database names as `operator` or `user:ID`, as a person would.
pub async fn name_of(state: &State, actor: &str) -> Result<String, DbError> {
    let Some(user) = actor.strip_prefix("user:") else {
        return Ok(MARKETPLACE.to_owned());
    };
    let row = match user.parse() {
        Ok(user) => state.services.db.user(user).await?,
        Err(_) => None,
    };
    Ok(row.map_or_else(|| "a former user".to_owned(), |row| row.email))
}

#[derive(Template)]
#[template(path = "regenerate.html")]
struct RegeneratePage {
    shell: Shell,
    slug: String,
    name: String,
    key: KeyView,
}

#[derive(Template)]
#[template(path = "generated.html")]
struct GeneratedPage<'a> {
    shell: Shell,
    slug: String,
    name: String,
    key: &'a str,
    replaced: bool,
    receipt: String,
    base_url: &'a str,
    /// What the examples ask for: one of the Seller's own listings, or the key's own page.
    example: String,
    security_contact: &'a str,
}

#[derive(Template)]
#[template(path = "key_conflict.html")]
struct ConflictPage {
    shell: Shell,
    slug: String,
    name: String,
    by: String,
    by_oneself: bool,
    at: Option<When>,
    /// The marketplace expired the key.
    expired: bool,
    /// The key was replaced and could not be shown.
    lost: bool,
}

/// Makes the Seller's key. With a live key there, first shows whom that hits.
pub async fn generate(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.actor_of_form(&form)?;
    let view = KeyView::read(&state, &member).await?;
    let Ok(seen_version) = form.text("version").parse::<i64>() else {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "This form is not complete",
            "Nothing was changed. Open Settings and use the form there.",
        )
        .with_way_on("/dashboard/settings", "Go to Settings"));
    };
    if view.version != seen_version {
        return conflict(&state, &caller, &member, false).await;
    }
    let has_key = view.has_key();
    if has_key && form.get(CONFIRMED).is_none() {
        return Ok(Page(RegeneratePage {
            shell: Shell::inside(
                "Regenerate API Key",
                Section::Settings,
                &caller.session,
                &member,
            ),
            slug: member.slug().to_owned(),
            name: member.name().to_owned(),
            key: view,
        })
        .into_response());
    }
    let verb = if has_key { "Regenerate" } else { "Generate" };
    let act = Act {
        path: PATH,
        button: &format!("{verb} API Key for {}", member.name()),
        danger: has_key,
    };
    let work = make(&state, &caller, &member, seen_version);
    with_recent_password(&state, &caller, &member, &form, act, work).await
}

async fn make(
    state: &State,
    caller: &SignedIn,
    member: &Member,
    seen_version: i64,
) -> Result<Response, Problem> {
    let keys = &state.services.keys;
    match keys.generate(member.scope(), seen_version).await {
        Ok(made) => Ok(show_once(state, caller, member, &made).await),
        Err(KeyActError::Conflict { .. }) => conflict(state, caller, member, false).await,
        Err(KeyActError::NotShown(error)) => {
            tracing::error!(%error, "a key was replaced and could not be shown");
            conflict(state, caller, member, true).await
        }
        Err(KeyActError::Db(error)) => Err(error.into()),
        Err(error) => {
            tracing::error!(%error, "a key could not be made");
            Err(Problem::internal())
        }
    }
}

async fn show_once(
    state: &State,
    caller: &SignedIn,
    member: &Member,
    made: &Generated,
) -> Response {
    let settings = &state.services.settings;
    let page = GeneratedPage {
        shell: Shell::inside(
            "Your new API key",
            Section::Settings,
            &caller.session,
            member,
        ),
        slug: member.slug().to_owned(),
        name: member.name().to_owned(),
        key: exposed(&made.secret),
        replaced: made.replaced.is_some(),
        receipt: receipt(&made.receipt),
        base_url: &settings.base_url,
        example: example(state, member).await,
        security_contact: &settings.security_contact,
    };
    Page::with_status(StatusCode::OK, &page)
}

/// The one place from which a page gets a key.
fn exposed(secret: &SecretKey) -> &str {
    secret.expose()
}

/// What a first call can ask for. The key is made by now and must be shown, so nothing here may fail.
async fn example(state: &State, member: &Member) -> String {
    let filter = ListingFilter {
        status: Some(ListingStatus::Active),
        ..ListingFilter::default()
    };
    let found = state.services.db.listings(member.scope(), &filter, 1).await;
    match found.as_deref() {
        Ok([listing, ..]) => format!("/api/v1/inventory/{}", listing.vin),
        _ => "/api/v1/key".to_owned(),
    }
}

/// "on 1 of 1 node after 3 ms".
fn receipt(receipt: &Receipt) -> String {
    let nodes = receipt.nodes.len();
    let confirmed = receipt
        .nodes
        .iter()
        .filter(|node| node.outcome == NodeOutcome::Confirmed)
        .count();
    let plural = if nodes == 1 { "" } else { "s" };
    format!(
        "on {confirmed} of {nodes} node{plural} after {:.0} ms",
        receipt.elapsed_ms.ceil()
    )
}

/// Tells whoever was slower, or posts a form again, that no key was made for them.
async fn conflict(
    state: &State,
    caller: &SignedIn,
    member: &Member,
    lost: bool,
) -> Result<Response, Problem> {
    let services = &state.services;
    let now = services.clock.now();
    let newest: Vec<KeyRow> = services.db.keys_of_seller(member.scope(), 1).await?;
    let newest = newest.first();
    let live = newest.filter(|key| key.state == "live");
    let own = format!("user:{}", caller.session.user());
    let page = ConflictPage {
        shell: Shell::inside(
            if lost {
                "The new key was not shown"
            } else {
                "No key was made"
            },
            Section::Settings,
            &caller.session,
            member,
        ),
        slug: member.slug().to_owned(),
        name: member.name().to_owned(),
        by: match live {
            Some(key) => name_of(state, &key.made_by).await?,
            None => MARKETPLACE.to_owned(),
        },
        by_oneself: live.is_some_and(|key| key.made_by == own),
        at: newest.map(|key| When::ago(key.ended_us.unwrap_or(key.created_us), now)),
        expired: live.is_none(),
        lost,
    };
    let status = if lost {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::CONFLICT
    };
    Ok(Page::with_status(status, &page))
}
