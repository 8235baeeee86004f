//! What is known of leaks, for operators: which Seller's key was found where, by whom, and what was done.
//!
//! On the admin address, where there is no cookie and no sign-in.
//!
//! Never: a key, or who reported one; a place as a link, since a stranger may have written it.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State as Shared,
    response::{IntoResponse, Response},
};

use super::{
    super::{State, error::ApiError},
    Page, assets, grouped,
    when::When,
};
use crate::{
    accounts::AccountStatus,
    clock::Time,
    db::LeakRow,
    keys::found::{self, Finder, Outcome},
};

/// Signs on the page, the newest.
const SHOWN: i64 = 200;

#[derive(Template)]
#[template(path = "leaks.html")]
struct LeaksPage {
    rows: Vec<Row>,
    is_cut: bool,
    kills_reported: bool,
    audit_days: u32,
    usage_days: u32,
}

impl LeaksPage {
    fn style(&self) -> &'static str {
        assets::STYLE.path()
    }

    fn icon(&self) -> &'static str {
        assets::ICON.path()
    }
}

struct Row {
    name: String,
    slug: String,
    hint: String,
    state: String,
    /// Whether the key still works although somebody has it.
    is_open: bool,
    by: &'static str,
    place: String,
    done: &'static str,
    times: String,
    first: When,
    last: When,
    dismissed: Option<When>,
}

impl Row {
    fn of(row: LeakRow, now: Time) -> Self {
        Self {
            is_open: row.outcome == Outcome::Told
                && row.key_state == "live"
                && row.status == AccountStatus::Active,
            by: match row.finder {
                Finder::GitHub => "GitHub secret scanning",
                Finder::Report => "A report",
                Finder::Browser => "A browser sends it",
            },
            done: match row.outcome {
                Outcome::Expired => "Expired at once",
                Outcome::Discarded => "Discarded at once",
                Outcome::Told => "Mailed",
                Outcome::Dead => "Nothing: it was dead",
                Outcome::Seen => "Shown to the owners",
            },
            place: found::in_words(&row.place, &row.source),
            name: row.name,
            slug: row.slug,
            hint: row.key_hint,
            state: match (row.key_state.as_str(), row.status) {
                ("live", AccountStatus::Suspended) => {
                    "refused, as the account is suspended,".into()
                }
                _ => row.key_state,
            },
            times: grouped(row.times),
            first: When::ago(row.first_us, now),
            last: When::ago(row.last_us, now),
            dismissed: row.dismissed_us.map(|at| When::ago(at, now)),
        }
    }
}

/// The page.
pub async fn show(Shared(state): Shared<Arc<State>>) -> Result<Response, ApiError> {
    let services = &state.services;
    let found = services.db.newest_leaks(SHOWN).await?;
    let now = services.clock.now();
    let settings = &services.settings;
    let page = LeaksPage {
        is_cut: found.len() as i64 == SHOWN,
        rows: found.into_iter().map(|row| Row::of(row, now)).collect(),
        kills_reported: settings.kill_reported_keys,
        audit_days: settings.audit_days,
        usage_days: settings.usage_days,
    };
    Ok(Page(page).into_response())
}
