//! Password, sessions and second factor: what belongs to the person rather than to a Seller. Sections of Settings, and a page of their own,
//! `/dashboard/account`, for whoever is a member of no dealer account, or is on no dealer's page.
//!
//! A form that names a Seller comes back to Settings of that Seller, one that names none to the page.
//!
//! Ending sessions wants a recent password, as acts on a Seller's key do (OWASP ASVS 5.0, 7.5.2).
//!
//! Never: another person's session.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    super::{
        State,
        caller::SignedIn,
        form::{Fields, Form, Query},
        problem::{Problem, capital},
        session_cookie,
    },
    Page, Shell,
    login::signed_out,
    second_factor::FactorView,
    see_other,
    settings::{self, Typed, Wrong},
    shell::Section,
    step_up::{Act, with_recent_password},
    when::When,
    with_cookie,
};
use crate::{
    accounts::{passwords::PasswordError, people::PersonError, sessions::Member},
    db::DbError,
    ids::SessionId,
};

/// Where the page is.
pub const PATH: &str = "/dashboard/account";

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    shell: Shell,
    /// The forms of this page name none.
    seller: &'static str,
    is_member: bool,
    email: String,
    sessions: Vec<SessionView>,
    factor: FactorView,
    /// No Seller is the page's own: none of which it could say that it demands a factor.
    factor_required: bool,
    name: &'static str,
    notice: (&'static str, &'static str),
    wrong: Wrong,
}

/// One of the person's sessions.
pub struct SessionView {
    /// Its id, for a form.
    pub id: String,
    /// Whether it is the one that asks.
    pub is_this: bool,
    /// Where it was last used.
    pub address: String,
    /// By what, as a person would say it.
    pub program: String,
    /// By what, as it said itself.
    pub user_agent: String,
    /// Its last use.
    pub seen: When,
    /// When it began.
    pub created: When,
}

impl AccountPage {
    /// What is said of a form that was accepted, in the section where it stands.
    fn notice_in(&self, section: &str) -> &'static str {
        let (own, text) = self.notice;
        if own == section { text } else { "" }
    }
}

/// What is said of one of these forms that was accepted, by the word in the page's address: in which section, and what.
pub fn notice(done: &str) -> (&'static str, &'static str) {
    match done {
        "password" => (
            "password",
            "Your password is changed. Your other sessions were signed out.",
        ),
        "session" => ("sessions", "That session is signed out."),
        "sessions" => ("sessions", "All your other sessions are signed out."),
        "factor-off" => ("second-factor", "The second factor is turned off."),
        "kept-codes" => ("second-factor", "The second factor is on."),
        // Where the page of a secret leads when it is reloaded; see app.js.
        "shown-factor" => (
            "second-factor",
            "What was on that page is shown once. It is not kept here.",
        ),
        _ => ("", ""),
    }
}

/// The person's sessions, the one used last first.
pub async fn sessions_of(state: &State, caller: &SignedIn) -> Result<Vec<SessionView>, DbError> {
    let services = &state.services;
    let now = services.clock.now();
    let sessions = services.people.sessions_of(caller.session.user()).await?;
    let view = |row: crate::db::SessionRow| SessionView {
        id: row.id.to_text(),
        is_this: row.id == caller.session.id(),
        address: row.address,
        program: program_name(&row.user_agent),
        user_agent: row.user_agent,
        seen: When::ago(row.seen_us, now),
        created: When::date(row.created_us, now),
    };
    Ok(sessions.into_iter().map(view).collect())
}

/// The page. Its address may name the Seller whose page the person came from.
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Query(query): Query,
) -> Result<Response, Problem> {
    let member = match query.get("seller") {
        Some(_) => Some(caller.member_of_page(&query)?),
        None => None,
    };
    let notice = notice(query.text("done"));
    let page = page(&state, &caller, member.as_ref(), notice, Wrong::default()).await?;
    Ok(Page(page).into_response())
}

async fn page(
    state: &State,
    caller: &SignedIn,
    member: Option<&Member>,
    notice: (&'static str, &'static str),
    wrong: Wrong,
) -> Result<AccountPage, Problem> {
    let session = &caller.session;
    let title = "Password, sessions and second factor";
    Ok(AccountPage {
        shell: match member {
            Some(member) => Shell::inside(title, Section::None, session, member),
            None => Shell::open(title, Section::None, Some(session)),
        },
        seller: "",
        is_member: !session.memberships().is_empty(),
        email: session.email().to_owned(),
        sessions: sessions_of(state, caller).await?,
        factor: FactorView::read(state, caller).await?,
        factor_required: false,
        name: "",
        notice,
        wrong,
    })
}

/// The Seller to whose Settings a form belongs, as a member of it; `None` for a form of the page.
pub(super) fn member_of(caller: &SignedIn, form: &Fields) -> Result<Option<Member>, Problem> {
    match form.get("seller") {
        Some(_) => Ok(Some(caller.member_of_form(form)?)),
        None => Ok(None),
    }
}

/// The page of an accepted form again.
pub(super) fn done(member: Option<&Member>, what: &str, section: &str) -> Response {
    match member {
        Some(member) => settings::done(member, what, section),
        None => see_other(&format!("{}done={what}#{section}", done_path_before(None))),
    }
}

/// The address of that page, up to the word for what was done.
pub(super) fn done_path_before(member: Option<&Member>) -> String {
    match member {
        Some(member) => format!("/dashboard/settings?seller={}&", member.slug()),
        None => format!("{PATH}?"),
    }
}

/// The page of a form that cannot be accepted, with what was wrong.
pub(super) async fn show_wrong(
    state: &State,
    caller: &SignedIn,
    member: Option<&Member>,
    wrong: Wrong,
) -> Result<Response, Problem> {
    if let Some(member) = member {
        return settings::show_wrong(state, caller, member, wrong, Typed::Nothing).await;
    }
    let page = page(state, caller, None, ("", ""), wrong).await?;
    Ok(Page::with_status(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

/// Changes the person's password. The old one is asked for in the form itself.
pub async fn change_password(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = member_of(&caller, &form)?;
    let changed = state
        .services
        .people
        .change_password(
            &caller.session,
            form.text("old_password"),
            form.text("new_password"),
            &caller.visitor,
        )
        .await;
    let message = match changed {
        Ok(token) => {
            let cookie = session_cookie::set(&token, &state.services.settings);
            let done = done(member.as_ref(), "password", "password");
            return Ok(with_cookie(done, cookie));
        }
        Err(PersonError::WrongPassword) => "Your present password is not right.".to_owned(),
        Err(PersonError::Password(error @ (PasswordError::Length | PasswordError::Common))) => {
            format!("{}.", capital(&error.to_string()))
        }
        Err(other) => return Err(other.into()),
    };
    let wrong = Wrong::new("password", message);
    show_wrong(&state, &caller, member.as_ref(), wrong).await
}

/// What the form's `session` says for all sessions but this one, and for all.
const OTHERS: &str = "others";
const ALL: &str = "all";

/// Signs out one of the person's sessions, all but this one, or all.
pub async fn end_sessions(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = member_of(&caller, &form)?;
    let which = form.text("session").to_owned();
    let one = which.parse::<SessionId>().ok();
    let button = match which.as_str() {
        ALL => "Sign out everywhere",
        OTHERS => "Sign out everywhere else",
        _ if one.is_some() => "Sign out the session",
        _ => {
            let wrong = Wrong::new("sessions", "Choose a session.");
            return show_wrong(&state, &caller, member.as_ref(), wrong).await;
        }
    };
    let act = Act {
        path: "/dashboard/settings/sessions/end",
        button,
        danger: false,
        is_ones_own: true,
    };
    let work = async {
        let people = &state.services.people;
        let own = &caller.session;
        let done = |what| done(member.as_ref(), what, "sessions");
        match one {
            Some(id) => {
                people.end_session(own, id).await?;
                Ok(done("session"))
            }
            None if which == ALL => {
                people.end_other_sessions(own, None).await?;
                Ok(signed_out(&state.services.settings))
            }
            None => {
                people.end_other_sessions(own, Some(own.id())).await?;
                Ok(done("sessions"))
            }
        }
    };
    with_recent_password(&state, &caller, member.as_ref(), &form, act, work).await
}

/// A browser's User-Agent as a person would say it: "Chrome on Windows". What is not a browser's is left as it is.
fn program_name(user_agent: &str) -> String {
    if user_agent.is_empty() {
        return "A program that did not say its name".to_owned();
    }
    // In this order: every browser also claims to be the ones after it.
    const BROWSERS: [(&str, &str); 6] = [
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("HeadlessChrome/", "Chrome without a window"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ];
    const SYSTEMS: [(&str, &str); 6] = [
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ];
    let find = |names: &[(&str, &'static str)]| {
        let found = names.iter().find(|(mark, _)| user_agent.contains(mark));
        found.map(|(_, name)| *name)
    };
    match (find(&BROWSERS), find(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        _ => user_agent.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::program_name;

    #[test]
    fn a_browser_is_called_by_its_name() {
        let windows = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0";
        for (user_agent, name) in [
            (format!("{windows} Safari/537.36"), "Chrome on Windows"),
            (
                format!("{windows} Safari/537.36 Edg/156.0"),
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Safari/604.1"
                    .into(),
                "Safari on iPhone",
            ),
            ("curl/7.88.1".into(), "curl/7.88.1"),
            (String::new(), "A program that did not say its name"),
        ] {
            assert_eq!(program_name(&user_agent), name);
        }
    }
}
