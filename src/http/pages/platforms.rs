//! Settings → Platform access, which a Seller's owners give and withdraw; for a Platform, the Sellers that gave it. And from which
//! networks the account's key may be used.
//!
//! Never: access given by anybody but an owner of the Seller.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use axum::{extract::State as Shared, http::StatusCode, response::Response};

use super::{
    super::{
        State,
        caller::SignedIn,
        form::{Fields, Form},
        problem::{Problem, capital},
    },
    settings::{self, Typed, Wrong},
    step_up::{Act, with_recent_password},
    when::When,
    while_waiting::{OUTCOME_FOLLOWS, Outcome, answer},
};
use crate::{
    accounts::{AccountKind, AccountStatus, Plan, Role, sessions::Member},
    db::{DbError, OfKeys, PlatformRow, SellerRow},
    ids::SellerId,
    keys::{
        clients::is_lump,
        grants::GrantError,
        networks::Networks,
        standing::{Standing, StandingError},
    },
};

/// The sections of the page.
const SECTION: &str = "platforms";
const NETWORKS: &str = "networks";
/// Where the way leads from a page that waited.
const SEE_ACCESS: &str = "See which platforms have access";
const SEE_NETWORKS: &str = "See where it may be used";
/// Platforms that are offered at most.
const PLATFORMS_OFFERED: i64 = 500;
/// Sellers that a Platform's page names.
const HELD_SHOWN: i64 = 200;
/// Clients that are looked at before the networks are changed.
const CLIENTS_LOOKED_AT: i64 = 1_000;
/// Addresses that are named at most.
const ADDRESSES_NAMED: usize = 10;
/// How far back clients are looked for.
const A_DAY: Duration = Duration::from_secs(86_400);

/// What the section shows.
pub struct AccessView {
    /// Whether the account is a Platform's.
    pub is_platform: bool,
    /// Whether whoever looks may give and withdraw.
    pub may_change: bool,
    /// The Platforms that have access.
    pub given: Vec<GivenView>,
    /// Those that could be given it.
    pub open: Vec<PlatformRow>,
    /// The Sellers that have given it.
    pub held: Vec<HeldView>,
    /// How many those are in all.
    pub held_total: i64,
    /// Whether there are more than are named.
    pub more_held: bool,
    /// A Seller's name as a request would give it.
    pub example: String,
}

/// A Platform that has access.
pub struct GivenView {
    /// Its id.
    pub id: SellerId,
    /// Its short name.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Since when.
    pub since: When,
    /// Whether its calls are refused all the same.
    pub is_shut: bool,
}

/// A Seller that has given access.
pub struct HeldView {
    /// Its short name.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Since when.
    pub since: When,
    /// Whether the marketplace has suspended or closed its account.
    pub is_inactive: bool,
    /// Whether somebody of theirs has opened the account.
    pub is_claimed: bool,
}

/// From where the key may be used.
pub struct NetworksView {
    /// The list as it is; `None` is anywhere.
    pub list: Option<String>,
    /// The same, one on each line.
    pub lines: String,
    /// What was typed and could not be accepted.
    pub typed: String,
    /// From where it was used of late.
    pub seen: String,
    /// Whether that was this very machine, as it looks where a proxy in front is not known to the server.
    pub seen_here: bool,
}

impl AccessView {
    /// Reads what is there.
    pub async fn read(
        state: &State,
        member: &Member,
        account: &SellerRow,
    ) -> Result<Self, DbError> {
        let (db, scope) = (&state.services.db, member.scope());
        let now = state.services.clock.now();
        let mut view = Self {
            is_platform: account.kind == AccountKind::Platform,
            may_change: member.role() == Role::Owner
                && member.may_act()
                && account.status == AccountStatus::Active,
            given: Vec::new(),
            open: Vec::new(),
            held: Vec::new(),
            held_total: 0,
            more_held: false,
            example: "lone-star-trucks".to_owned(),
        };
        if view.is_platform {
            view.held_total = db.count_grants_held(scope).await?;
            let held = db.grants_held(scope, "", HELD_SHOWN).await?;
            view.more_held = (held.len() as i64) < view.held_total;
            if let Some(first) = held.first() {
                view.example = first.slug.clone();
            }
            let held = held.into_iter().map(|row| HeldView {
                slug: row.slug,
                name: row.name,
                since: When::date(row.created_us, now),
                is_inactive: row.status != AccountStatus::Active,
                is_claimed: row.owners > 0,
            });
            view.held = held.collect();
            return Ok(view);
        }
        let given = db.grants_given(scope).await?;
        if view.may_change {
            let open = db.open_platforms(PLATFORMS_OFFERED).await?.into_iter();
            let has_it = |row: &PlatformRow| given.iter().any(|own| own.platform_id == row.id);
            view.open = open.filter(|row| !has_it(row)).collect();
        }
        let given = given.into_iter().map(|row| GivenView {
            id: row.platform_id,
            slug: row.slug,
            name: row.name,
            since: When::date(row.created_us, now),
            is_shut: row.status != AccountStatus::Active || row.plan != Plan::Enterprise,
        });
        view.given = given.collect();
        Ok(view)
    }
}

impl NetworksView {
    /// Reads what is there.
    pub async fn read(
        state: &State,
        member: &Member,
        account: &SellerRow,
        typed: String,
    ) -> Result<Self, DbError> {
        let seen = match member.role().may_act() {
            true => addresses(state, member).await?,
            false => BTreeSet::new(),
        };
        let seen_here = seen.iter().any(IpAddr::is_loopback);
        let seen: Vec<String> = seen.iter().map(ToString::to_string).collect();
        let list = account.key_networks.clone();
        Ok(Self {
            lines: list.as_deref().unwrap_or_default().replace(' ', "\n"),
            list: list.map(|list| list.replace(' ', ", ")),
            typed,
            seen: named(&seen),
            seen_here,
        })
    }
}

/// From where the account's live key was let in during the last day. Not where one that is dead was: that may have been who
/// stole it, and nobody of theirs is shut out.
async fn addresses(state: &State, member: &Member) -> Result<BTreeSet<IpAddr>, DbError> {
    let since = state.services.clock.now().before(A_DAY).minute();
    let (db, scope) = (&state.services.db, member.scope());
    let newest = db.keys_of_seller(scope, 1).await?;
    let Some(live) = newest.first().filter(|key| key.state == "live") else {
        return Ok(BTreeSet::new());
    };
    let of = OfKeys::Only(live.id);
    let clients = db
        .clients_since(scope, of, since, CLIENTS_LOOKED_AT)
        .await?;
    let let_in = clients
        .into_iter()
        .filter(|client| client.accepted > 0 && !is_lump(&client.address, &client.user_agent));
    Ok(let_in
        .filter_map(|client| client.address.parse().ok())
        .collect())
}

fn named(addresses: &[String]) -> String {
    let more = addresses.len().saturating_sub(ADDRESSES_NAMED);
    let mut text = addresses[..addresses.len() - more].join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

/// Gives a Platform access.
pub async fn grant(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    change_access(&state, &caller, &form, true).await
}

/// Takes a Platform's access away.
pub async fn withdraw(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    change_access(&state, &caller, &form, false).await
}

async fn change_access(
    state: &Arc<State>,
    caller: &SignedIn,
    form: &Fields,
    give: bool,
) -> Result<Response, Problem> {
    let member = caller.actor_of_form(form)?;
    if member.is_of_platform() {
        return Err(only_for_dealers());
    }
    if member.role() != Role::Owner {
        return Err(Problem::role_forbids().about(&member));
    }
    let Ok(platform) = form.text("platform").parse::<SellerId>() else {
        let wrong = Wrong::new(SECTION, "Choose a platform.");
        return settings::show_wrong(state, caller, &member, wrong, Typed::Nothing).await;
    };
    let (path, button, danger, what) = match give {
        true => (
            "/dashboard/settings/platforms/grant",
            format!("Give access to {}", member.name()),
            false,
            "granted",
        ),
        false => (
            "/dashboard/settings/platforms/withdraw",
            format!("Withdraw access to {}", member.name()),
            true,
            "withdrawn",
        ),
    };
    let act = Act {
        path,
        button: &button,
        danger,
        is_ones_own: false,
    };
    let own = (Arc::clone(state), caller.clone(), member.clone());
    let work = answer(state, caller, &member, OUTCOME_FOLLOWS, async move {
        let (state, caller, member) = own;
        let keys = &state.services.keys;
        let done = match give {
            true => keys.grant(member.scope(), platform).await,
            false => keys.withdraw(member.scope(), platform).await,
        };
        let path = settings::done_path(&member, what, SECTION);
        match done {
            Ok(done) => Ok(Outcome::SeeOther {
                path,
                title: match give {
                    true => "The platform has access",
                    false => "The access is withdrawn",
                },
                text: format!("Obeyed {}.", done.receipt.in_words()),
                label: SEE_ACCESS,
            }),
            Err(GrantError::NotOwner) => Err(Problem::role_forbids()),
            Err(GrantError::OnlyDealers) => Err(only_for_dealers()),
            Err(GrantError::Db(error)) => Err(error.into()),
            Err(error @ (GrantError::NoSuchPlatform | GrantError::NotOpen(_))) => {
                let text = format!("{}.", capital(&error.to_string()));
                let wrong = Wrong::new(SECTION, text.clone());
                let nothing = Typed::Nothing;
                let page = settings::show_wrong(&state, &caller, &member, wrong, nothing).await?;
                Ok(Outcome::Wrong { page, path, text })
            }
            Err(error) => {
                tracing::error!(%error, "platform access could not be changed");
                Err(Problem::internal())
            }
        }
    });
    with_recent_password(state, caller, &member, form, act, work).await
}

/// Changes from where the key may be used.
pub async fn set_networks(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.actor_of_form(&form)?;
    let text = form.text("networks");
    let networks = match text.trim() {
        "" => None,
        text => match text.parse::<Networks>() {
            Ok(networks) => Some(networks),
            Err(error) => {
                let message = format!("{}.", capital(&error.to_string()));
                return wrong_networks(&state, &caller, &member, message, text).await;
            }
        },
    };
    if let (Some(networks), true) = (&networks, form.text("refuse") != "yes") {
        let seen = addresses(&state, &member).await?;
        let outside = seen.iter().filter(|address| !networks.contain(**address));
        let outside: Vec<String> = outside.map(ToString::to_string).collect();
        if !outside.is_empty() {
            let message = format!(
                "This would shut out clients that used the key in the last 24 hours: {}. Add them, or tick the box to go on.",
                named(&outside)
            );
            return wrong_networks(&state, &caller, &member, message, text).await;
        }
    }
    let act = Act {
        path: "/dashboard/settings/networks",
        button: &format!("Save where the key of {} may be used", member.name()),
        danger: networks.is_some(),
        is_ones_own: false,
    };
    let own = (Arc::clone(&state), member.clone());
    let work = answer(&state, &caller, &member, OUTCOME_FOLLOWS, async move {
        let (state, member) = own;
        let what = match &networks {
            Some(_) => "networks",
            None => "anywhere",
        };
        let standing = Standing::Networks(networks);
        match state.services.keys.stand(member.scope(), standing).await {
            Ok(done) => Ok(Outcome::SeeOther {
                path: settings::done_path(&member, what, NETWORKS),
                title: "Where the key may be used is changed",
                text: format!("Obeyed {}.", done.receipt.in_words()),
                label: SEE_NETWORKS,
            }),
            Err(StandingError::Db(error)) => Err(error.into()),
            Err(StandingError::NoSuchAccount | StandingError::Closed) => Err(Problem::inactive()),
            Err(StandingError::Died(error)) => {
                tracing::error!(%error, "networks could not be changed");
                Err(Problem::internal())
            }
        }
    });
    with_recent_password(&state, &caller, &member, &form, act, work).await
}

async fn wrong_networks(
    state: &Arc<State>,
    caller: &SignedIn,
    member: &Member,
    message: String,
    typed: &str,
) -> Result<Response, Problem> {
    let typed = Typed::Networks(typed.to_owned());
    settings::show_wrong(state, caller, member, Wrong::new(NETWORKS, message), typed).await
}

/// What is said to a Platform's people where a page or a form is about what only dealers have.
pub fn only_for_dealers() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "A platform has no inventory and no profile of its own",
        "It lists units for the dealers that have granted it access. Settings names them.",
    )
    .with_way_on("/dashboard", "Go to the dashboard")
}
