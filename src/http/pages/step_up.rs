//! Asking for the password again before an act that matters, when it was given more than a quarter of an hour ago. Whoever has a
//! second factor may give a code of it instead.
//!
//! The form that was posted comes back inside the page that asks, so that the act follows the answer at once.
//!
//! Never: an act done on a password or a code that was not asked for in this very form.

use std::sync::Arc;

use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};

use super::{
    super::{State, caller::SignedIn, form::Fields, problem::Problem, session_cookie},
    Page, Shell, account,
    shell::Section,
    with_cookie,
};
use crate::accounts::{people::PersonError, sessions::Member};

/// The name of the field in which the password is given.
pub const PASSWORD: &str = "current_password";
/// The name of the field in which a code is given.
pub const CODE: &str = "current_code";

/// How the question went.
enum StepUp {
    /// Go on. If the password was given just now, the session has a new token, and this is its cookie.
    GoOn(Option<HeaderValue>),
    /// This page must be answered first.
    Ask(Response),
}

/// What the page says that asks.
pub struct Act<'a> {
    /// Where the form was posted to, and will be again.
    pub path: &'static str,
    /// What the button does, such as "Regenerate API Key for Lone Star Trucks".
    pub button: &'a str,
    /// Whether it kills something.
    pub danger: bool,
    /// Whether it is on what is the person's own, whichever dealer's page they came from.
    pub is_ones_own: bool,
}

#[derive(Template)]
#[template(path = "step_up.html")]
struct StepUpPage<'a> {
    shell: Shell,
    email: &'a str,
    act: &'a Act<'a>,
    fields: Vec<(&'a str, &'a str)>,
    has_factor: bool,
    wrong: bool,
    back: String,
}

/// Does the work if the password was given recently; else asks for it, and does nothing yet. `member` is `None` for an act on
/// what is the person's own, from a page that is about no Seller.
pub async fn with_recent_password<'a>(
    state: &Arc<State>,
    caller: &SignedIn,
    member: impl Into<Option<&'a Member>>,
    form: &Fields,
    act: Act<'_>,
    work: impl Future<Output = Result<Response, Problem>>,
) -> Result<Response, Problem> {
    let member = member.into();
    let about = |problem: Problem| match member {
        Some(member) => problem.about(member),
        None => problem,
    };
    match step_up(state, caller, member, form, act)
        .await
        .map_err(about)?
    {
        StepUp::Ask(page) => Ok(page),
        StepUp::GoOn(cookie) => {
            // The session's old token is dead by now: the new one must reach the browser whatever became of the work.
            let done = work.await.map_err(about);
            let response = done.unwrap_or_else(IntoResponse::into_response);
            Ok(with_cookie(response, cookie))
        }
    }
}

async fn step_up(
    state: &Arc<State>,
    caller: &SignedIn,
    member: Option<&Member>,
    form: &Fields,
    act: Act<'_>,
) -> Result<StepUp, Problem> {
    let services = &state.services;
    let session = &caller.session;
    if session.is_recent(services.clock.now()) {
        return Ok(StepUp::GoOn(None));
    }
    let people = &services.people;
    let given = match (form.get(CODE), form.get(PASSWORD)) {
        (Some(code), _) => Some(people.confirm_by_code(session, code, &caller.visitor).await),
        (None, Some(password)) => Some(people.confirm(session, password, &caller.visitor).await),
        (None, None) => None,
    };
    let wrong = match given {
        None => false,
        Some(Ok(token)) => {
            let cookie = session_cookie::set(&token, &services.settings);
            return Ok(StepUp::GoOn(cookie));
        }
        Some(Err(PersonError::WrongPassword | PersonError::WrongCode)) => true,
        Some(Err(other)) => return Err(other.into()),
    };
    let factor = services.db.second_factor(session.user()).await?;
    let title = "Confirm that it is you";
    let (shell, back) = match member {
        Some(member) => (
            Shell::inside(title, Section::Settings, session, member),
            format!("/dashboard/settings?seller={}", member.slug()),
        ),
        None => (
            Shell::open(title, Section::None, Some(session)),
            account::PATH.to_owned(),
        ),
    };
    let page = StepUpPage {
        shell,
        email: session.email(),
        fields: form
            .without(PASSWORD)
            .filter(|(name, _)| *name != CODE)
            .collect(),
        has_factor: factor.is_some_and(|factor| factor.confirmed_us.is_some()),
        wrong,
        back,
        act: &act,
    };
    let response = if wrong {
        Page::with_status(StatusCode::UNPROCESSABLE_ENTITY, &page)
    } else {
        Page(page).into_response()
    };
    Ok(StepUp::Ask(response))
}
