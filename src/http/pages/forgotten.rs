//! The page for whoever forgot their password: it mails a link to set a new one, or says whom to ask where no mail is sent.
//!
//! Never: an answer that tells whether an account exists.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State as Shared,
    response::{IntoResponse, Response},
};

use super::{
    super::{State, caller::Browser, form::Form, problem::Problem},
    Page, Shell,
};

#[derive(Template)]
#[template(path = "forgotten.html")]
struct ForgottenPage<'a> {
    shell: Shell,
    /// Whether links are mailed at all.
    mails: bool,
    asked: bool,
    sales_contact: &'a str,
}

/// The form.
pub async fn form(Shared(state): Shared<Arc<State>>) -> Response {
    page(&state, false)
}

/// Asks for the link.
pub async fn ask(
    Shared(state): Shared<Arc<State>>,
    browser: Browser,
    Form(form): Form,
) -> Result<Response, Problem> {
    let services = &state.services;
    if services.settings.mails_links {
        let asked = services
            .people
            .ask_reset(form.text("email"), &browser.visitor);
        asked.await?;
    }
    Ok(page(&state, true))
}

fn page(state: &State, asked: bool) -> Response {
    let settings = &state.services.settings;
    let title = if asked && settings.mails_links {
        "Look into your mail"
    } else {
        "Forgot your password?"
    };
    Page(ForgottenPage {
        shell: Shell::outside(title),
        mails: settings.mails_links,
        asked,
        sales_contact: &settings.sales_contact,
    })
    .into_response()
}
