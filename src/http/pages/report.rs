//! `/keys/report`: where everybody can hand in a key that they found.
//!
//! Whatever is handed in is answered with 202 and the same words, before anybody looks at it (see [`crate::leaks::desk`]).
//!
//! Never: an answer that depends on what was handed in, but for its size; a cookie looked at in `take`.

use std::{net::IpAddr, sync::Arc, time::Duration};

use askama::Template;
use axum::{
    extract::{Request, State as Shared},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use serde_json::json;

use super::{
    super::{
        State, api,
        body::read_small,
        caller::{Browser, ClientAddress},
        error::ApiError,
        problem::wants_page,
    },
    Page, Shell,
    shell::Section,
};
use crate::leaks::desk::{NotTaken, SLIP_BYTES_MAX, Slip, Writing};

const TITLE: &str = "Report a key that you found";
/// What whoever handed something in is told, whatever it was.
const THANKS: &str = "Thank you. If this is a key that works, its owners and the marketplace's security contact are told. Nobody is \
                      told here whether it is one.";

#[derive(Template)]
#[template(path = "report.html")]
struct ReportPage<'a> {
    shell: Shell,
    title: &'a str,
    thanks: Option<&'a str>,
    security_contact: &'a str,
}

/// The form.
pub async fn form(Shared(state): Shared<Arc<State>>, browser: Browser) -> Response {
    let page = ReportPage {
        shell: Shell::open(TITLE, Section::None, browser.session.as_ref()),
        title: TITLE,
        thanks: None,
        security_contact: &state.services.settings.security_contact,
    };
    Page::with_status(StatusCode::OK, &page)
}

/// Takes what is handed in, to be looked at later.
pub async fn take(
    Shared(state): Shared<Arc<State>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (leaks, settings) = (&state.services.leaks, &state.services.settings);
    let (parts, body) = request.into_parts();
    let client = parts.extensions.get::<ClientAddress>();
    let client = client.map_or(IpAddr::from([0, 0, 0, 0]), |ClientAddress(at)| *at);
    leaks.admit(client).map_err(not_taken)?;
    let headers = &parts.headers;
    let body = read_small(headers, body, SLIP_BYTES_MAX, "16 KiB", settings.limits).await?;
    leaks
        .take(Slip::new(body.to_vec(), writing(headers)))
        .map_err(not_taken)?;
    if wants_page(headers) {
        let page = ReportPage {
            shell: Shell::outside("Thank you"),
            title: "Thank you",
            thanks: Some(THANKS),
            security_contact: &settings.security_contact,
        };
        return Ok(Page::with_status(StatusCode::ACCEPTED, &page));
    }
    let mut response = api::data(&json!({"received": true, "message": THANKS}));
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

fn not_taken(why: NotTaken) -> ApiError {
    const MESSAGE: &str = "Too many reports at once. This one was not taken: send it again later, or write to the security contact.";
    let wait = match why {
        NotTaken::TooMany(wait) => wait,
        NotTaken::Full => Duration::from_secs(10),
    };
    // To whole seconds, and never too early.
    ApiError::too_many(MESSAGE, wait + Duration::from_millis(999))
}

fn writing(headers: &HeaderMap) -> Writing {
    let media = headers.get(header::CONTENT_TYPE);
    let media = media.and_then(|value| value.to_str().ok());
    let media = media.and_then(|value| value.split(';').next());
    match media.unwrap_or_default().trim() {
        kind if kind.eq_ignore_ascii_case("application/json") => Writing::Json,
        kind if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") => Writing::Form,
        _ => Writing::Text,
    }
}
