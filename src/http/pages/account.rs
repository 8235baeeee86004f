//! Settings → Password and Sessions: what belongs to the person rather than to a Seller.
//!
//! Ending sessions wants a recent password, as acts on a Seller's key do (OWASP ASVS 5.0, 7.5.2).
//!
//! Never: another person's session.

use std::sync::Arc;

use axum::{extract::State as Shared, response::Response};

use super::{
    super::{
        State,
        caller::SignedIn,
        form::Form,
        problem::{Problem, capital},
        session_cookie,
    },
    login::signed_out,
    settings::{self, Typed, Wrong},
    step_up::{Act, with_recent_password},
    with_cookie,
};
use crate::{
    accounts::{passwords::PasswordError, people::PersonError},
    ids::SessionId,
};

/// Changes the person's password. The old one is asked for in the form itself.
pub async fn change_password(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.member_of_form(&form)?;
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
            let done = settings::done(&member, "password", "password");
            return Ok(with_cookie(done, cookie));
        }
        Err(PersonError::WrongPassword) => "Your present password is not right.".to_owned(),
        Err(PersonError::Password(error @ (PasswordError::Length | PasswordError::Common))) => {
            format!("{}.", capital(&error.to_string()))
        }
        Err(other) => return Err(other.into()),
    };
    let wrong = Wrong::new("password", message);
    settings::show_wrong(&state, &caller, &member, wrong, Typed::Nothing).await
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
    let member = caller.member_of_form(&form)?;
    let which = form.text("session").to_owned();
    let one = which.parse::<SessionId>().ok();
    let button = match which.as_str() {
        ALL => "Sign out everywhere",
        OTHERS => "Sign out everywhere else",
        _ if one.is_some() => "Sign out the session",
        _ => {
            let wrong = Wrong::new("sessions", "Choose a session.");
            return settings::show_wrong(&state, &caller, &member, wrong, Typed::Nothing).await;
        }
    };
    let act = Act {
        path: "/dashboard/settings/sessions/end",
        button,
        danger: false,
    };
    let work = async {
        let people = &state.services.people;
        let own = &caller.session;
        match one {
            Some(id) => {
                people.end_session(own, id).await?;
                Ok(settings::done(&member, "session", "sessions"))
            }
            None if which == ALL => {
                people.end_other_sessions(own, None).await?;
                Ok(signed_out(&state.services.settings))
            }
            None => {
                people.end_other_sessions(own, Some(own.id())).await?;
                Ok(settings::done(&member, "sessions", "sessions"))
            }
        }
    };
    with_recent_password(&state, &caller, &member, &form, act, work).await
}
