//! The pages that a link leads to: accepting an invitation, setting a new password.
//!
//! Looking at such a page uses nothing up, since mail programs look at links too; sending its form does.
//!
//! Never: the token anywhere but in the address and in the form.

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
        caller::Browser,
        form::{Form, Query},
        problem::{Problem, capital},
    },
    Page, Shell,
    login::go_on,
    see_other,
};
use crate::accounts::{
    members::Invitation, passwords::PasswordError, people::PersonError, tokens::Token,
};

#[derive(Template)]
#[template(path = "invitation.html")]
struct InvitationPage<'a> {
    shell: Shell,
    token: &'a str,
    email: String,
    seller: String,
    role: &'static str,
    /// The Platforms that act for the Seller already, as one text.
    platforms: String,
    is_user: bool,
    wrong: String,
}

#[derive(Template)]
#[template(path = "reset.html")]
struct ResetPage<'a> {
    shell: Shell,
    token: &'a str,
    email: String,
    wrong: String,
}

fn token_of(text: &str) -> Result<Token, Problem> {
    Token::parse(text).ok_or_else(|| PersonError::DeadLink.into())
}

/// What an invitation offers.
pub async fn invitation(
    Shared(state): Shared<Arc<State>>,
    Query(query): Query,
) -> Result<Response, Problem> {
    let token = token_of(query.text("token"))?;
    let offered = state.services.people.invitation(&token).await?;
    let page = invitation_page(&token, offered, String::new());
    Ok(Page(page).into_response())
}

fn invitation_page(token: &Token, offered: Invitation, wrong: String) -> InvitationPage<'_> {
    InvitationPage {
        shell: Shell::outside(&format!("Join {}", offered.name)),
        token: token.reveal(),
        email: offered.email.to_string(),
        seller: offered.name,
        role: offered.role.as_str(),
        platforms: offered.platforms.join(", "),
        is_user: offered.is_user,
        wrong,
    }
}

/// Accepts an invitation.
pub async fn accept(
    Shared(state): Shared<Arc<State>>,
    browser: Browser,
    Form(form): Form,
) -> Result<Response, Problem> {
    let token = token_of(form.text("token"))?;
    let services = &state.services;
    let accepted = services
        .people
        .accept(
            &token,
            form.text("password"),
            &browser.visitor,
            browser.session.as_ref(),
        )
        .await;
    let wrong = match accepted {
        Ok((admitted, slug)) => {
            let next = format!("/dashboard?seller={slug}");
            return Ok(go_on(admitted, &next, &services.settings));
        }
        Err(PersonError::WrongPassword) => "That is not your password.".to_owned(),
        Err(error) => typed_wrong(error)?,
    };
    let offered = services.people.invitation(&token).await?;
    let page = invitation_page(&token, offered, wrong);
    Ok(Page::with_status(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

/// The form for a new password.
pub async fn reset(
    Shared(state): Shared<Arc<State>>,
    Query(query): Query,
) -> Result<Response, Problem> {
    let token = token_of(query.text("token"))?;
    let email = state.services.people.reset(&token).await?;
    Ok(Page(ResetPage {
        shell: Shell::outside("Set a new password"),
        token: token.reveal(),
        email: email.to_string(),
        wrong: String::new(),
    })
    .into_response())
}

/// Sets the new password.
pub async fn set_password(
    Shared(state): Shared<Arc<State>>,
    browser: Browser,
    Form(form): Form,
) -> Result<Response, Problem> {
    let token = token_of(form.text("token"))?;
    let people = &state.services.people;
    let done = people.reset_password(&token, form.text("password"), &browser.visitor);
    match done.await {
        Ok(()) => Ok(see_other("/login?done=password")),
        Err(error) => {
            let wrong = typed_wrong(error)?;
            let email = people.reset(&token).await?;
            let page = ResetPage {
                shell: Shell::outside("Set a new password"),
                token: token.reveal(),
                email: email.to_string(),
                wrong,
            };
            Ok(Page::with_status(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
    }
}

/// What is wrong with a password that was chosen, to be said beside the form; everything else is a page of its own.
fn typed_wrong(error: PersonError) -> Result<String, Problem> {
    match error {
        PersonError::Password(error @ (PasswordError::Length | PasswordError::Common)) => {
            Ok(format!("{}.", capital(&error.to_string())))
        }
        other => Err(other.into()),
    }
}
