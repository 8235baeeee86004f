//! The nodes, for operators: this one as it knows itself, the others as the database knows them, and what waits for whom.
//!
//! On the admin address, where there is no cookie and no sign-in. It renews itself by a header, not by a script, and can be
//! told not to.
//!
//! Never: anything about a Seller; no page because the database does not answer.

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::{
    extract::State as Shared,
    http::{HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};

use super::{
    super::{State, form::Query},
    Page, assets, grouped,
    when::When,
};
use crate::{
    clock::{BootTime, Time},
    db::NodeCard,
    keys::{
        revocation::{CycleOutcome, ListedNode, ListedTrust, Revocation, Roster},
        table::Trust,
    },
    services::Services,
};

/// How often the page renews itself, in seconds.
const REFRESH_S: u8 = 2;
/// How long the database may take to list the others.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Template)]
#[template(path = "nodes.html")]
struct NodesPage {
    refreshes: Option<u8>,
    own: OwnView,
    waiting: Vec<String>,
    others: Others,
    gone: Vec<GoneView>,
}

/// A node that was listed until a short time ago.
struct GoneView {
    name: String,
    at: When,
    was_silent: bool,
}

impl NodesPage {
    fn style(&self) -> &'static str {
        assets::STYLE.path()
    }

    fn icon(&self) -> &'static str {
        assets::ICON.path()
    }
}

/// What this node knows of itself.
struct OwnView {
    name: String,
    version: String,
    started: When,
    trusted: bool,
    trust: String,
    epoch: i64,
    /// How many epochs the database is ahead; nothing if it does not say.
    behind: Option<i64>,
    keys: String,
    /// What only a node has that shares its database.
    lease: Option<LeaseView>,
    changes: String,
    change_ms: Option<String>,
}

struct LeaseView {
    renewed: String,
    failed: String,
    swept: String,
    lapsed: String,
    asked: String,
    unanswered: String,
}

/// What the database knows of the others.
enum Others {
    /// There can be none.
    OwnFile,
    /// It does not answer.
    Unknown,
    /// Those that it lists, and whether this one is among them.
    Listed(Vec<NodeView>, bool),
}

struct NodeView {
    name: String,
    version: String,
    started: When,
    mark: &'static str,
    trust: String,
    epoch: String,
    behind: String,
    renewed: String,
}

/// The page.
pub async fn show(Shared(state): Shared<Arc<State>>, Query(query): Query) -> Response {
    let services = &state.services;
    let revocation = &services.keys.revocation;
    let Some(card) = revocation.node() else {
        // Whoever answers requests is a node.
        tracing::error!("a server that is no node was asked for the nodes");
        return axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let roster = revocation.roster(&services.db, &services.clock);
    let roster = match tokio::time::timeout(DATABASE_TIMEOUT, roster).await {
        Ok(Ok(roster)) => Some(roster),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the nodes cannot be listed for a page");
            None
        }
        Err(_) => None,
    };
    let now = services.clock.boot();
    let waiting = revocation.waiting();
    let refreshes = query.get("refresh").is_none().then_some(REFRESH_S);
    let page = NodesPage {
        refreshes,
        own: own(services, revocation, card, roster.as_ref(), now),
        waiting: waiting
            .borrow()
            .iter()
            .map(|change| change.in_words(now))
            .collect(),
        others: others(services, card, roster),
        gone: gone(services, revocation),
    };
    let mut response = Page(page).into_response();
    if let Some(every) = refreshes {
        let name = HeaderName::from_static("refresh");
        response
            .headers_mut()
            .insert(name, HeaderValue::from(u16::from(every)));
    }
    response
}

fn own(
    services: &Services,
    revocation: &Revocation,
    card: &NodeCard,
    roster: Option<&Roster>,
    now: BootTime,
) -> OwnView {
    let snapshot = revocation.snapshot();
    let (trust, figures) = (snapshot.trust, &revocation.figures);
    let count = |count: u64| grouped(count as i64);
    let cycles = |outcome| count(figures.cycles(outcome));
    let (answered, unanswered) = figures.asked();
    let made = figures.change_seconds.as_ref();
    let (changes, total) = made.map_or((0, 0.0), |seconds| {
        (seconds.get_sample_count(), seconds.get_sample_sum())
    });
    OwnView {
        name: card.name.clone(),
        version: card.version.clone(),
        started: When::ago(card.started, services.clock.now()),
        trusted: trust.holds(now),
        trust: match trust {
            Trust::WhileOwner => "for as long as this server owns the database file".to_owned(),
            Trust::Until(end) if trust.holds(now) => {
                format!("for another {}", seconds(end.since(now)))
            }
            Trust::Until(end) => format!("lapsed {} ago", seconds(now.since(end))),
            Trust::Lapsed => "not yet".to_owned(),
        },
        epoch: snapshot.epoch,
        behind: roster.map(|roster| (roster.epoch - snapshot.epoch).max(0)),
        keys: grouped(snapshot.len() as i64),
        lease: services.db.is_shared().then(|| LeaseView {
            renewed: cycles(CycleOutcome::Renewed),
            failed: cycles(CycleOutcome::Failed),
            swept: cycles(CycleOutcome::RowGone),
            lapsed: seconds(figures.lapsed(trust, now)),
            asked: count(answered),
            unanswered: count(unanswered),
        }),
        changes: count(changes),
        change_ms: (changes > 0).then(|| format!("{:.0} ms", total / changes as f64 * 1000.0)),
    }
}

fn gone(services: &Services, revocation: &Revocation) -> Vec<GoneView> {
    let now = services.clock.now();
    let gone = revocation.figures.gone(now).into_iter();
    gone.map(|node| GoneView {
        name: node.name,
        at: When::ago(node.at, now),
        was_silent: node.was_silent,
    })
    .collect()
}

fn others(services: &Services, card: &NodeCard, roster: Option<Roster>) -> Others {
    if !services.db.is_shared() {
        return Others::OwnFile;
    }
    let Some(roster) = roster else {
        return Others::Unknown;
    };
    let now = services.clock.now();
    let (own, others): (Vec<_>, Vec<_>) = roster
        .nodes
        .into_iter()
        .partition(|node| node.id == card.id);
    let others = others.into_iter().map(|node| view(node, now));
    Others::Listed(others.collect(), !own.is_empty())
}

fn view(node: ListedNode, now: Time) -> NodeView {
    let silent = Duration::from_millis(node.silent_ms.unwrap_or_default().unsigned_abs());
    let number = |number: Option<i64>| number.map_or_else(|| "–".to_owned(), |n| n.to_string());
    let (mark, trust) = match node.trust {
        ListedTrust::Trusted => ("good", "Trusted".to_owned()),
        ListedTrust::Starting => ("wait", "Not yet".to_owned()),
        ListedTrust::Lapsed => ("bad", format!("Silent for {}", seconds(silent))),
    };
    NodeView {
        mark,
        trust,
        epoch: number(node.epoch),
        behind: number(node.behind),
        renewed: format!("{} ago", seconds(silent)),
        started: When::ago(node.started_at, now),
        name: node.name,
        version: node.version,
    }
}

/// A length of time that is short.
fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
