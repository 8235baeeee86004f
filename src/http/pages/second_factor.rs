//! Settings → Second factor: setting it up, turning it off, and new recovery codes. It belongs to the person, whichever Seller
//! they look at.
//!
//! Never: a secret or a recovery code on any page but the answer to the act that made it.

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
        form::Form,
        problem::{Problem, capital},
        session_cookie,
    },
    Page, Shell,
    qr::Drawing,
    settings::{self, Typed, Wrong},
    shell::Section,
    step_up::{Act, with_recent_password},
    with_cookie,
};
use crate::accounts::{
    codes::RecoveryCode,
    people::PersonError,
    sessions::{Member, Session},
};

/// The section of the page.
const SECTION: &str = "second-factor";

#[derive(Template)]
#[template(path = "factor_begun.html")]
struct BegunPage<'a> {
    shell: Shell,
    seller: String,
    slug: &'a str,
    email: &'a str,
    /// The secret in groups, as people type it; nothing on a page that asks again.
    secret: String,
    drawing: Option<Drawing>,
    wrong: bool,
}

#[derive(Template)]
#[template(path = "recovery_codes.html")]
struct CodesPage<'a> {
    shell: Shell,
    slug: &'a str,
    /// One on each line.
    codes: String,
    is_first: bool,
}

fn shell(title: &str, session: &Session, member: &Member) -> Shell {
    Shell::inside(title, Section::Settings, session, member)
}

/// Makes a secret and shows it once.
pub async fn begin(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.member_of_form(&form)?;
    let act = Act {
        path: "/dashboard/settings/second-factor/begin",
        button: "Set up a second factor",
        danger: false,
    };
    let work = async {
        let session = &caller.session;
        let begun = state.services.people.begin_second_factor(session).await;
        let secret = match begun {
            Ok(secret) => secret,
            Err(error) => return refused(&state, &caller, &member, error).await,
        };
        let email = session.email().parse().map_err(|_| Problem::internal())?;
        let shown = secret.reveal(&email);
        let mut grouped = String::new();
        for (at, c) in shown.typed.chars().enumerate() {
            if at > 0 && at % 4 == 0 {
                grouped.push(' ');
            }
            grouped.push(c);
        }
        Ok(Page(BegunPage {
            shell: shell("Set up a second factor", session, &member),
            seller: member.seller().to_text(),
            slug: member.slug(),
            email: session.email(),
            secret: grouped,
            drawing: Drawing::of(&shown.address),
            wrong: false,
        })
        .into_response())
    };
    with_recent_password(&state, &caller, &member, &form, act, work).await
}

/// Turns the second factor on by its first code, and shows the recovery codes once.
pub async fn confirm(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.member_of_form(&form)?;
    let act = Act {
        path: "/dashboard/settings/second-factor/confirm",
        button: "Turn the second factor on",
        danger: false,
    };
    let work = async {
        let session = &caller.session;
        let (people, settings) = (&state.services.people, &state.services.settings);
        let done = people.confirm_second_factor(session, form.text("code"), &caller.visitor);
        match done.await {
            Ok((token, codes)) => {
                let page = codes_page(session, &member, &codes, true);
                Ok(with_cookie(page, session_cookie::set(&token, settings)))
            }
            Err(PersonError::WrongCode) => {
                let page = BegunPage {
                    shell: shell("Set up a second factor: not right", session, &member),
                    seller: member.seller().to_text(),
                    slug: member.slug(),
                    email: session.email(),
                    secret: String::new(),
                    drawing: None,
                    wrong: true,
                };
                Ok(Page::with_status(StatusCode::UNPROCESSABLE_ENTITY, &page))
            }
            Err(error) => refused(&state, &caller, &member, error).await,
        }
    };
    with_recent_password(&state, &caller, &member, &form, act, work).await
}

/// Makes new recovery codes and shows them once. A code is asked for in the form itself.
pub async fn make_codes(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.member_of_form(&form)?;
    let act = Act {
        path: "/dashboard/settings/second-factor/codes",
        button: "Make new recovery codes",
        danger: true,
    };
    let work = async {
        let session = &caller.session;
        let people = &state.services.people;
        let made = people.make_recovery_codes(session, form.text("code"), &caller.visitor);
        match made.await {
            Ok(codes) => Ok(codes_page(session, &member, &codes, false)),
            Err(PersonError::WrongCode) => {
                let message = "The code is not right, or was used already. Your recovery codes are as they were.";
                let wrong = Wrong::new(SECTION, message);
                settings::show_wrong(&state, &caller, &member, wrong, Typed::Nothing).await
            }
            Err(error) => refused(&state, &caller, &member, error).await,
        }
    };
    with_recent_password(&state, &caller, &member, &form, act, work).await
}

fn codes_page(
    session: &Session,
    member: &Member,
    codes: &[RecoveryCode],
    is_first: bool,
) -> Response {
    let lines: Vec<String> = codes.iter().map(|code| code.reveal().to_string()).collect();
    Page(CodesPage {
        shell: shell("Your recovery codes", session, member),
        slug: member.slug(),
        codes: lines.join("\n"),
        is_first,
    })
    .into_response()
}

/// Turns the second factor off. Password and code are asked for in the form itself.
pub async fn turn_off(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.member_of_form(&form)?;
    let people = &state.services.people;
    let done = people
        .turn_second_factor_off(
            &caller.session,
            form.text("old_password"),
            form.text("code"),
            &caller.visitor,
        )
        .await;
    match done {
        Ok(token) => {
            let cookie = session_cookie::set(&token, &state.services.settings);
            let done = settings::done(&member, "factor-off", SECTION);
            Ok(with_cookie(done, cookie))
        }
        Err(PersonError::WrongPassword | PersonError::WrongCode) => {
            let message = "The password or the code is not right, or the code was used already. The second factor is as it was.";
            let wrong = Wrong::new(SECTION, message);
            settings::show_wrong(&state, &caller, &member, wrong, Typed::Nothing).await
        }
        Err(other) => Err(other.into()),
    }
}

async fn refused(
    state: &State,
    caller: &SignedIn,
    member: &Member,
    error: PersonError,
) -> Result<Response, Problem> {
    match error {
        PersonError::NotBegun | PersonError::NoFactor => {
            let message = format!("{}.", capital(&error.to_string()));
            let wrong = Wrong::new(SECTION, message);
            settings::show_wrong(state, caller, member, wrong, Typed::Nothing).await
        }
        other => Err(other.into()),
    }
}
