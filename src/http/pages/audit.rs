//! Settings → Audit log: what was done to a Seller's keys and by its people, in words.
//!
//! Never: an entry of another Seller's; the log shown to somebody who may not act.

use std::{str::FromStr, sync::Arc};

use askama::Template;
use axum::{
    extract::State as Shared,
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::{
    super::{State, caller::SignedIn, form::Query, problem::Problem},
    Page, Shell,
    key_view::{MARKETPLACE, name_of},
    shell::Section,
    when::When,
};
use crate::{
    accounts::{erased::Pseudonym, sessions::Member},
    audit::{Act, ActKind, RecordedAct},
    clock::Time,
    db::{AuditRow, DbError},
    ids::AuditId,
    keys::{found::Finder, revocation::Receipt},
};

/// Entries of one page.
const PER_PAGE: usize = 50;

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    shell: Shell,
    slug: String,
    audit_days: u32,
    usage_days: u32,
    tabs: Vec<Tab>,
    rows: Vec<Row>,
    is_first: bool,
    first: String,
    older: Option<String>,
}

struct Tab {
    label: &'static str,
    path: String,
    is_here: bool,
}

struct Row {
    what: String,
    /// What else the entry tells, a line each.
    more: Vec<String>,
    who: String,
    when: When,
    from: From,
    key: Option<String>,
}

/// Where somebody acted.
enum From {
    /// On the server's command line.
    Server,
    /// At this address.
    Address(String),
    /// The address is kept no longer, or never was.
    NotKept,
    /// It is somebody's of another account.
    NotShown,
}

/// The page.
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Query(query): Query,
) -> Result<Response, Problem> {
    let member = caller.actor_of_page(&query)?;
    let services = &state.services;
    let now = services.clock.now();
    let kind = ActKind::from_str(query.text("kind")).ok();
    let before = query
        .get("before")
        .and_then(|id| id.parse::<AuditId>().ok());
    // One more than is shown tells whether there is an older page.
    let limit = PER_PAGE as i64 + 1;
    let found = services
        .db
        .newest_audit(member.scope(), kind, before, limit);
    let mut found = found.await?;
    let more = found.len() > PER_PAGE;
    found.truncate(PER_PAGE);

    let path = |kind: Option<ActKind>, before: Option<AuditId>| {
        let mut path = format!("/dashboard/settings/audit?seller={}", member.slug());
        if let Some(kind) = kind {
            path += &format!("&kind={}", kind.as_str());
        }
        if let Some(before) = before {
            path += &format!("&before={before}");
        }
        path
    };
    let older = found.last().filter(|_| more);
    let older = older.map(|last| path(kind, Some(last.id)));
    let tab = |label, of| Tab {
        label,
        path: path(of, None),
        is_here: kind == of,
    };
    let mut rows = Vec::with_capacity(found.len());
    for entry in found {
        rows.push(row(&state, &member, entry, now).await?);
    }
    Ok(Page(AuditPage {
        shell: Shell::inside("Audit log", Section::Settings, &caller.session, &member),
        slug: member.slug().to_owned(),
        audit_days: services.settings.audit_days,
        usage_days: services.settings.usage_days,
        tabs: vec![
            tab("All", None),
            tab("Keys", Some(ActKind::Keys)),
            tab("Members", Some(ActKind::Members)),
            tab("Sessions", Some(ActKind::Sessions)),
            tab("Platforms", Some(ActKind::Platforms)),
        ],
        rows,
        is_first: before.is_none(),
        first: path(kind, None),
        older,
    })
    .into_response())
}

async fn row(state: &State, member: &Member, entry: AuditRow, now: Time) -> Result<Row, DbError> {
    let detail = Detail::of(&entry);
    let mut more = detail.lines(&entry);
    // What a Platform is told of one of its dealers.
    if let (Some(name), Some(slug)) = (&entry.seller_name, &entry.seller_slug)
        && entry.seller_id != Some(member.seller())
    {
        more.insert(0, format!("For {name} ({slug})"));
    }
    if let Some(inviter) = detail.text("invited_by") {
        more.push(format!("Invited by {}", name_of(state, inviter).await?));
    }
    more.extend(obeyed(&entry, &detail));
    let from = match entry.address.clone() {
        Some(address) => From::Address(address),
        None if is_operator(&entry) => From::Server,
        None if is_by_seller(&entry) => From::NotShown,
        None => From::NotKept,
    };
    Ok(Row {
        what: what(&entry).to_owned(),
        more,
        who: who(&entry),
        when: When::ago(entry.at_us, now),
        from,
        key: entry.key_hint,
    })
}

/// Whether a dealer did it, as a Platform is told.
fn is_by_seller(entry: &AuditRow) -> bool {
    entry.actor.starts_with("seller:")
}

fn is_operator(entry: &AuditRow) -> bool {
    entry.actor == "operator"
}

fn who(entry: &AuditRow) -> String {
    match (&entry.actor_email, &entry.actor_hint) {
        (Some(email), _) => email.clone(),
        (None, Some(hint)) => match &entry.actor_platform {
            Some(platform) => format!("{platform}, by its API key ••••{hint}"),
            None => format!("API key ••••{hint}"),
        },
        (None, _) if is_by_seller(entry) => {
            let name = entry.seller_name.as_deref();
            format!("somebody of {}", name.unwrap_or("a dealer"))
        }
        (None, None) if is_operator(entry) => MARKETPLACE.to_owned(),
        (None, None) if let Some(finder) = Finder::words_of_actor(&entry.actor) => {
            finder.to_owned()
        }
        (None, None) if entry.actor == "visitor" => "somebody who was not signed in".to_owned(),
        (None, None) => match entry.actor.strip_prefix("user:") {
            Some(user) => former(user),
            None => former(&entry.actor),
        },
    }
}

/// Somebody who is no User any more, by what stands where their id stood.
pub fn former(user: &str) -> String {
    let erased = Pseudonym::read(user);
    erased.map_or_else(|| "a former user".to_owned(), |erased| erased.words())
}

/// An address in an entry's detail, which is a pseudonym once its person was erased.
fn address_of(text: &str) -> String {
    let erased = Pseudonym::read(text);
    erased.map_or_else(|| text.to_owned(), |erased| erased.words())
}

/// What was done, in words.
pub fn what(entry: &AuditRow) -> &str {
    if entry.act == Act::KeyGenerated && Detail::of(entry).has("replaced") {
        "API key regenerated"
    } else {
        entry.act.words()
    }
}

/// When and where a change of keys was obeyed.
fn obeyed(entry: &AuditRow, detail: &Detail) -> Option<String> {
    let receipt: Receipt = serde_json::from_str(entry.receipt.as_deref()?).ok()?;
    let what = match &entry.act {
        RecordedAct::Known(Act::KeyGenerated | Act::KeyCutOver) if detail.has("replaced") => {
            "Old key dead"
        }
        RecordedAct::Known(Act::KeyGenerated | Act::KeyCutOver) => "Live",
        RecordedAct::Known(Act::KeyPrepared) => "Known",
        RecordedAct::Known(Act::KeyExpired | Act::KeyDiscarded | Act::AccountClosed) => "Dead",
        RecordedAct::Known(_) => "Obeyed",
        RecordedAct::Later(_) => return None,
    };
    Some(format!("{what} {}", receipt.in_words()))
}

/// What an entry tells besides its columns.
struct Detail(Value);

impl Detail {
    fn of(entry: &AuditRow) -> Self {
        Self(serde_json::from_str(&entry.detail).unwrap_or_default())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0[name].as_str()
    }

    fn has(&self, name: &str) -> bool {
        !self.0[name].is_null()
    }

    fn texts(&self, name: &str) -> Vec<&str> {
        let list = self.0[name].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).collect()
    }

    fn lines(&self, entry: &AuditRow) -> Vec<String> {
        let mut lines = Vec::new();
        let whom = match (&entry.user_id, &entry.user_email) {
            (None, _) => None,
            (Some(user), _) if entry.actor.strip_prefix("user:") == Some(user.as_str()) => None,
            (Some(_), Some(email)) => Some(email.clone()),
            (Some(user), None) => Some(former(user)),
        };
        let whom = whom.or_else(|| self.text("email").map(address_of));
        match (whom, self.text("role")) {
            (Some(whom), Some(role)) => lines.push(format!("{whom}, {role}")),
            (Some(whom), None) => lines.push(whom),
            (None, Some(role)) => lines.push(format!("As {role}")),
            (None, None) => {}
        }
        if let (Some(from), Some(to)) = (self.text("from"), self.text("to")) {
            lines.push(format!("From {from} to {to}"));
        }
        if let Some(reason) = self.text("reason") {
            lines.push(format!("Reason: {reason}"));
        }
        if let Some(name) = self.text("name") {
            lines.push(name.to_owned());
        }
        if self.has("by_platform") {
            lines.push("By a platform, which may act for it".to_owned());
        }
        if entry.act == Act::KeyNetworks {
            let from = self.text("networks").unwrap_or("anywhere");
            lines.push(format!("Accepted from {from}"));
        }
        for place in self.texts("places") {
            lines.push(format!("Found: {place}"));
        }
        if let Some(vin) = self.text("vin") {
            lines.push(vin.to_owned());
        }
        if let Some(status) = self.text("status") {
            lines.push(format!("Now {status}"));
        }
        if let Some(records) = self.0["records"].as_i64() {
            let count = |name: &str| self.0[name].as_i64().unwrap_or_default();
            lines.push(format!(
                "Records: {records}, units changed: {}, refused: {}",
                count("changed"),
                count("refused")
            ));
        }
        if self.has("discarded") {
            lines.push("A next key that was prepared is discarded".to_owned());
        }
        match self.text("code") {
            Some("app") => lines.push("With a code of the app".to_owned()),
            Some("recovery") => lines.push("With a recovery code".to_owned()),
            _ => {}
        }
        if let Some(left) = self.0["left"].as_i64() {
            lines.push(format!("Recovery codes left: {left}"));
        }
        if self.has("by_sign_in") {
            lines.push("Somebody signed in in the same browser".to_owned());
        }
        if let (Some(session), Some(by)) = (self.text("session"), self.text("by_session"))
            && session != by
        {
            lines.push("From another browser".to_owned());
        }
        match self.texts("ended").len() {
            0 => {}
            1 => lines.push("1 other session ended".to_owned()),
            ended => lines.push(format!("{ended} other sessions ended")),
        }
        let uninvited = self.texts("uninvited");
        if !uninvited.is_empty() {
            let uninvited: Vec<String> = uninvited.into_iter().map(address_of).collect();
            let uninvited = uninvited.join(", ");
            lines.push(format!("Their invitations of {uninvited} work no more"));
        }
        lines
    }
}
