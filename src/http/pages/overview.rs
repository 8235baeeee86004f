//! `/dashboard`: how a Seller stands, and what to do next.
//!
//! Never: the key.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State as Shared,
    response::{IntoResponse, Response},
};

use super::{
    super::{State, caller::SignedIn, form::Query, problem::Problem},
    Page, Shell, grouped,
    key_leaks::{LeakKind, LeakView},
    key_view::{KeyState, KeyView},
    shell::Section,
};
use crate::{
    accounts::AccountStatus,
    keys::found::{Finder, Works},
};

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage<'a> {
    shell: Shell,
    slug: String,
    name: String,
    plan: &'static str,
    may_act: bool,
    status: AccountStatus,
    status_reason: String,
    security_contact: &'a str,
    key: KeyView,
    /// Where keys were found that should not be there.
    leaks: Vec<LeakView>,
    active: String,
    sold: String,
    expired: String,
    has_listings: bool,
    /// For a Platform: how many Sellers it may act for.
    dealers: Option<i64>,
}

/// The page.
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Query(query): Query,
) -> Result<Response, Problem> {
    let member = caller.member_of_page(&query)?;
    let db = &state.services.db;
    let scope = member.scope();
    let seller = db.seller(scope).await?.ok_or_else(Problem::other_dealers)?;
    let counts = db.count_listings(scope).await?;
    let key = KeyView::read(&state, &member).await?;
    let leaks = LeakView::read(db, scope, state.services.clock.now()).await?;
    let dealers = match member.is_of_platform() {
        true => Some(db.count_grants_held(scope).await?),
        false => None,
    };
    Ok(Page(OverviewPage {
        shell: Shell::inside("Overview", Section::Overview, &caller.session, &member),
        slug: seller.slug,
        name: seller.name,
        plan: seller.plan.as_str(),
        may_act: member.may_act(),
        status: seller.status,
        status_reason: seller.status_reason.unwrap_or_default(),
        security_contact: &state.services.settings.security_contact,
        key,
        leaks,
        active: grouped(counts.active),
        sold: grouped(counts.sold),
        expired: grouped(counts.expired),
        has_listings: counts.active + counts.sold + counts.expired > 0,
        dealers,
    })
    .into_response())
}
