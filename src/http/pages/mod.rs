//! The pages for people: the dashboard, signing in, the documentation.
//!
//! Every page is a template with a [`Shell`] around it, turned into a response by [`Page`]; every act is a form that works
//! without a script and carries the id of the Seller that it acts on.
//!
//! Never: a page that anything keeps ([`Page`] says `no-store`), that another site frames, or that loads anything from
//! elsewhere; a Seller's page without the membership that proves the right to it.

pub mod account;
pub mod api_key;
pub mod assets;
pub mod audit;
pub mod audit_export;
pub mod docs;
pub mod forgotten;
pub mod inventory;
pub mod key_leaks;
pub mod key_live;
mod key_view;
pub mod keys;
pub mod leaks;
pub mod links;
pub mod login;
mod markdown;
pub mod members;
pub mod nodes;
pub mod overview;
pub mod platforms;
pub mod profile;
mod qr;
pub mod report;
pub mod second_factor;
pub mod security_txt;
pub mod settings;
mod shell;
mod step_up;
mod traffic;
mod when;
mod while_waiting;

use askama::Template;
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

pub use self::shell::Shell;

/// What a browser may do with anything that is not the API's. No inline script or style, nothing from elsewhere, no frames.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Added to every response outside of the API.
pub fn add_security_headers(headers: &mut HeaderMap) {
    const ALL: [(HeaderName, &str); 6] = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: with that a browser sends `Origin: null` with a form, and the form would be refused.
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in ALL {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// A template on its way to a browser.
pub struct Page<T: Template>(pub T);

impl<T: Template> Page<T> {
    /// The page under another status than 200.
    pub fn with_status(status: StatusCode, template: &T) -> Response {
        match template.render() {
            Ok(text) => html(status, text),
            Err(error) => {
                tracing::error!(%error, "a page cannot be written");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        Self::with_status(StatusCode::OK, &self.0)
    }
}

/// A page that is written already, or is being written.
fn html(status: StatusCode, page: impl Into<Body>) -> Response {
    let mut response = Response::new(page.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Sends the browser to another page of ours, by GET.
pub fn see_other(path: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let to = HeaderValue::try_from(path).unwrap_or(HeaderValue::from_static("/dashboard"));
    response.headers_mut().insert(header::LOCATION, to);
    response
}

/// Adds a cookie to a response.
fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// A number as people write it: 1,204.
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn numbers_are_written_in_groups() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_204, "1,204"),
            (1_000_000, "1,000,000"),
            (-1_204, "-1,204"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
