//! Signing in and out. Where there is a second factor, its code is asked for on a second page.
//!
//! Never: an answer that tells whether an account exists; a redirect to anywhere but a page of the dashboard.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State as Shared,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};

use super::{
    super::{
        State,
        caller::{Browser, SignedIn},
        form::{Form, Query},
        problem::{Problem, codes_paused},
        session_cookie,
    },
    Page, Shell, see_other, with_cookie,
};
use crate::{
    accounts::{people::PersonError, sessions::Admitted},
    services::Settings,
};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    shell: Shell,
    email: &'a str,
    next: &'a str,
    wrong: bool,
    notice: &'a str,
    sales_contact: &'a str,
}

#[derive(Template)]
#[template(path = "login_code.html")]
struct CodePage<'a> {
    shell: Shell,
    email: &'a str,
    next: &'a str,
    wrong: bool,
    /// Why no code of an app is looked at yet; empty if they are.
    paused: String,
    sales_contact: &'a str,
}

/// The way in for whoever types the bare address.
pub async fn root() -> Response {
    see_other("/dashboard")
}

/// The form to sign in.
pub async fn form(
    Shared(state): Shared<Arc<State>>,
    browser: Browser,
    Query(query): Query,
) -> Response {
    let next = safe_next(query.text("next"));
    if browser.session.is_some() {
        return see_other(next);
    }
    let notice = match query.text("done") {
        "signed-out" => "You are signed out.",
        "password" => "Your password is set. Sign in with it.",
        "over" => {
            "This sign-in is over: it waited for too long, or too many codes were not right. Begin anew."
        }
        _ if query.get("next").is_some() => "Sign in to go on.",
        _ => "",
    };
    Page(page(&state, "", next, notice)).into_response()
}

fn page<'a>(state: &'a State, email: &'a str, next: &'a str, notice: &'a str) -> LoginPage<'a> {
    LoginPage {
        shell: Shell::outside("Sign in"),
        email,
        next,
        wrong: false,
        notice,
        sales_contact: &state.services.settings.sales_contact,
    }
}

/// Signs in.
pub async fn sign_in(
    Shared(state): Shared<Arc<State>>,
    browser: Browser,
    Form(form): Form,
) -> Result<Response, Problem> {
    let services = &state.services;
    let next = safe_next(form.text("next"));
    let email = form.text("email");
    let signed_in = services
        .people
        .sign_in(
            email,
            form.text("password"),
            &browser.visitor,
            browser.session.as_ref(),
        )
        .await;
    match signed_in {
        Ok(admitted) => Ok(go_on(admitted, next, &services.settings)),
        Err(PersonError::WrongPassword) => {
            let mut page = page(&state, email, next, "");
            page.wrong = true;
            page.shell.title = "Sign in: not right".to_owned();
            Ok(Page::with_status(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
        Err(other) => Err(other.into()),
    }
}

/// Leads whoever was admitted to a page of the dashboard, or to where a code is asked for on the way there.
pub fn go_on(admitted: Admitted, next: &str, settings: &Settings) -> Response {
    match admitted {
        Admitted::In(token) => with_cookie(see_other(next), session_cookie::set(&token, settings)),
        Admitted::HalfWay(token) => {
            let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
            let path = format!("/login/code?next={next}");
            with_cookie(see_other(&path), session_cookie::set_half(&token, settings))
        }
    }
}

/// The form for the code that follows the password.
pub async fn code_form(
    Shared(state): Shared<Arc<State>>,
    browser: Browser,
    Query(query): Query,
) -> Result<Response, Problem> {
    let next = safe_next(query.text("next"));
    let Some(half) = &browser.half else {
        return Ok(see_other("/login"));
    };
    let waiting = state.services.people.half_sign_in(half).await?;
    Ok(Page(code_page(&state, &waiting.email, next)).into_response())
}

fn code_page<'a>(state: &'a State, email: &'a str, next: &'a str) -> CodePage<'a> {
    CodePage {
        shell: Shell::outside("Sign in: code"),
        email,
        next,
        wrong: false,
        paused: String::new(),
        sales_contact: &state.services.settings.sales_contact,
    }
}

/// Ends the sign-in with its code.
pub async fn give_code(
    Shared(state): Shared<Arc<State>>,
    browser: Browser,
    Form(form): Form,
) -> Result<Response, Problem> {
    let services = &state.services;
    let (people, settings) = (&services.people, &services.settings);
    let next = safe_next(form.text("next"));
    let Some(half) = &browser.half else {
        return Ok(see_other("/login"));
    };
    let (visitor, before) = (&browser.visitor, browser.session.as_ref());
    let waiting = people.half_sign_in(half).await?;
    let done = people.complete_sign_in(half, form.text("code"), visitor, before);
    match done.await {
        Ok(token) => {
            let response = go_on(Admitted::In(token), next, settings);
            Ok(with_cookie(response, session_cookie::clear_half(settings)))
        }
        Err(PersonError::WrongCode) => {
            let mut page = code_page(&state, &waiting.email, next);
            page.wrong = true;
            page.shell.title = "Sign in: code not right".to_owned();
            Ok(Page::with_status(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
        Err(PersonError::CodesPaused(wait)) => {
            let mut page = code_page(&state, &waiting.email, next);
            page.paused = codes_paused(wait);
            page.shell.title = "Sign in: too many codes were not right".to_owned();
            Ok(Page::with_status(StatusCode::TOO_MANY_REQUESTS, &page))
        }
        Err(other) => Err(other.into()),
    }
}

/// Signs out here, and has the browser forget the pages that it keeps to go back to.
pub async fn sign_out(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
) -> Result<Response, Problem> {
    let services = &state.services;
    let session = &caller.session;
    services.people.end_session(session, session.id()).await?;
    Ok(signed_out(&services.settings))
}

/// Takes the cookie away, and leads to the form to sign in.
pub fn signed_out(settings: &Settings) -> Response {
    let response = see_other("/login?done=signed-out");
    let mut response = with_cookie(response, session_cookie::clear(settings));
    response.headers_mut().insert(
        HeaderName::from_static("clear-site-data"),
        HeaderValue::from_static("\"cache\""),
    );
    response
}

/// Where to go after signing in: a page of the dashboard, whatever was asked for.
fn safe_next(next: &str) -> &str {
    let end = next.find(['?', '#']).unwrap_or(next.len());
    let (path, rest) = next.split_at(end);
    // None of our paths holds anything else; dots and what is encoded could lead back out of the dashboard.
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'/');
    let is_page = path
        .strip_prefix("/dashboard")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let is_path = path.bytes().all(plain) && !path.contains("//");
    let is_plain = rest
        .bytes()
        .all(|c| c.is_ascii_graphic() && !matches!(c, b'\\' | b'"' | b'<' | b'>'));
    if is_page && is_path && is_plain {
        next
    } else {
        "/dashboard"
    }
}

#[cfg(test)]
mod tests {
    use super::safe_next;

    #[test]
    fn one_comes_back_to_the_dashboard_and_nowhere_else() {
        for page in [
            "/dashboard",
            "/dashboard/settings",
            "/dashboard/settings?seller=lone-star#api-key",
            "/dashboard?x=//e",
        ] {
            assert_eq!(safe_next(page), page);
        }
        for other in [
            "",
            "/",
            "https://elsewhere.example/dashboard",
            "//elsewhere.example/dashboard",
            "/dashboardx",
            "/dashboard.elsewhere.example",
            "/dashboard@elsewhere.example",
            "/dashboard\\..\\",
            "/dashboard/../login",
            "/dashboard/..//elsewhere.example",
            "/dashboard/%2e%2e//elsewhere.example",
            "/dashboard//elsewhere.example",
            "/dashboard/settings?a\\b",
            "/dashboard\r\nSet-Cookie: a=b",
            "javascript:alert(1)",
            "/login",
        ] {
            assert_eq!(safe_next(other), "/dashboard", "{other}");
        }
    }
}
