//! Second factor: setting it up, turning it off, and new recovery codes. It belongs to the person, whichever Seller they look at;
//! so it is a section of Settings, and of the page of one's own for whoever is a member of nothing.
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
    Page, Shell, account,
    qr::Drawing,
    settings::Wrong,
    shell::Section,
    step_up::{Act, with_recent_password},
    when::When,
    with_cookie,
};
use crate::{
    accounts::{
        codes::{RecoveryCode, RevealedSecret},
        people::PersonError,
        sessions::{Member, Session},
    },
    db::DbError,
};

/// The section of the page.
const SECTION: &str = "second-factor";

/// The person's second factor as its section shows it.
pub struct FactorView {
    /// Since when it is in force.
    pub since: Option<When>,
    /// Recovery codes that were not used yet.
    pub codes_left: i64,
}

impl FactorView {
    /// As it is now.
    pub async fn read(state: &State, caller: &SignedIn) -> Result<Self, DbError> {
        let services = &state.services;
        let now = services.clock.now();
        let factor = services.db.second_factor(caller.session.user()).await?;
        let since = factor.and_then(|factor| factor.confirmed_us);
        Ok(Self {
            since: since.map(|since| When::date(since, now)),
            codes_left: factor.map_or(0, |factor| factor.codes_left),
        })
    }
}

#[derive(Template)]
#[template(path = "factor_begun.html")]
struct BegunPage<'a> {
    shell: Shell,
    /// The Seller whose Settings the person came from; empty if none.
    seller: String,
    /// The page with the section, up to the word for what was done.
    back: String,
    email: &'a str,
    /// The secret in groups, as people type it; nothing on a page that asks again.
    secret: String,
    drawing: Option<Drawing>,
    wrong: bool,
}

#[derive(Template)]
#[template(path = "recovery_codes.html")]
struct CodesPage {
    shell: Shell,
    back: String,
    /// One on each line.
    codes: String,
    is_first: bool,
}

impl<'a> BegunPage<'a> {
    /// With the secret that was made just now, or asking for its code again.
    fn new(session: &'a Session, member: Option<&Member>, shown: Option<&RevealedSecret>) -> Self {
        let title = match shown {
            Some(_) => "Set up a second factor",
            None => "Set up a second factor: not right",
        };
        Self {
            shell: shell(title, session, member),
            seller: member.map_or(String::new(), |member| member.seller().to_text()),
            back: account::done_path_before(member),
            email: session.email(),
            secret: shown.map_or(String::new(), |shown| in_groups(&shown.typed)),
            drawing: shown.and_then(|shown| Drawing::of(&shown.address)),
            wrong: shown.is_none(),
        }
    }
}

/// In groups of four, as people type it.
fn in_groups(secret: &str) -> String {
    let mut grouped = String::new();
    for (at, c) in secret.chars().enumerate() {
        if at > 0 && at % 4 == 0 {
            grouped.push(' ');
        }
        grouped.push(c);
    }
    grouped
}

fn shell(title: &str, session: &Session, member: Option<&Member>) -> Shell {
    match member {
        Some(member) => Shell::inside(title, Section::Settings, session, member),
        None => Shell::open(title, Section::None, Some(session)),
    }
}

/// Makes a secret and shows it once.
pub async fn begin(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = account::member_of(&caller, &form)?;
    let act = Act {
        path: "/dashboard/settings/second-factor/begin",
        button: "Set up a second factor",
        danger: false,
        is_ones_own: true,
    };
    let work = async {
        let session = &caller.session;
        let begun = state.services.people.begin_second_factor(session).await;
        let secret = match begun {
            Ok(secret) => secret,
            Err(error) => return refused(&state, &caller, member.as_ref(), error).await,
        };
        let email = session.email().parse().map_err(|_| Problem::internal())?;
        let shown = secret.reveal(&email);
        let page = BegunPage::new(session, member.as_ref(), Some(&shown));
        Ok(Page(page).into_response())
    };
    with_recent_password(&state, &caller, member.as_ref(), &form, act, work).await
}

/// Turns the second factor on by its first code, and shows the recovery codes once.
pub async fn confirm(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = account::member_of(&caller, &form)?;
    let act = Act {
        path: "/dashboard/settings/second-factor/confirm",
        button: "Turn the second factor on",
        danger: false,
        is_ones_own: true,
    };
    let work = async {
        let session = &caller.session;
        let (people, settings) = (&state.services.people, &state.services.settings);
        let done = people.confirm_second_factor(session, form.text("code"), &caller.visitor);
        match done.await {
            Ok((token, codes)) => {
                let page = codes_page(session, member.as_ref(), &codes, true);
                Ok(with_cookie(page, session_cookie::set(&token, settings)))
            }
            Err(PersonError::WrongCode) => {
                let page = BegunPage::new(session, member.as_ref(), None);
                Ok(Page::with_status(StatusCode::UNPROCESSABLE_ENTITY, &page))
            }
            Err(error) => refused(&state, &caller, member.as_ref(), error).await,
        }
    };
    with_recent_password(&state, &caller, member.as_ref(), &form, act, work).await
}

/// Makes new recovery codes and shows them once. A code is asked for in the form itself.
pub async fn make_codes(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = account::member_of(&caller, &form)?;
    let act = Act {
        path: "/dashboard/settings/second-factor/codes",
        button: "Make new recovery codes",
        danger: true,
        is_ones_own: true,
    };
    let work = async {
        let session = &caller.session;
        let people = &state.services.people;
        let made = people.make_recovery_codes(session, form.text("code"), &caller.visitor);
        match made.await {
            Ok(codes) => Ok(codes_page(session, member.as_ref(), &codes, false)),
            Err(PersonError::WrongCode) => {
                let message = "The code is not right, or was used already. Your recovery codes are as they were.";
                let wrong = Wrong::new(SECTION, message);
                account::show_wrong(&state, &caller, member.as_ref(), wrong).await
            }
            Err(error) => refused(&state, &caller, member.as_ref(), error).await,
        }
    };
    with_recent_password(&state, &caller, member.as_ref(), &form, act, work).await
}

fn codes_page(
    session: &Session,
    member: Option<&Member>,
    codes: &[RecoveryCode],
    is_first: bool,
) -> Response {
    let lines: Vec<String> = codes.iter().map(|code| code.reveal().to_string()).collect();
    Page(CodesPage {
        shell: shell("Your recovery codes", session, member),
        back: account::done_path_before(member),
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
    let member = account::member_of(&caller, &form)?;
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
            let done = account::done(member.as_ref(), "factor-off", SECTION);
            Ok(with_cookie(done, cookie))
        }
        Err(PersonError::WrongPassword | PersonError::WrongCode) => {
            let message = "The password or the code is not right, or the code was used already. The second factor is as it was.";
            let wrong = Wrong::new(SECTION, message);
            account::show_wrong(&state, &caller, member.as_ref(), wrong).await
        }
        Err(other) => Err(other.into()),
    }
}

async fn refused(
    state: &State,
    caller: &SignedIn,
    member: Option<&Member>,
    error: PersonError,
) -> Result<Response, Problem> {
    match error {
        PersonError::NotBegun | PersonError::NoFactor => {
            let message = format!("{}.", capital(&error.to_string()));
            let wrong = Wrong::new(SECTION, message);
            account::show_wrong(state, caller, member, wrong).await
        }
        other => Err(other.into()),
    }
}
