//! The cookies that carry a session's token, and that of a sign-in which waits for a code.
//!
//! Over TLS their names begin with `__Host-`, which a browser accepts only from this host itself, with `Secure` and for every
//! path; no neighbouring host can plant one. On plain HTTP, which is for one's own machine, they have plain names.
//!
//! Never: a cookie that a page's script can read, or that another site's form sends along; one of the two taken for the other.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::{
    accounts::{second_factor::CODE_AWAITED_FOR, tokens::Token},
    services::Settings,
};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Session,
    HalfSignIn,
}

impl Which {
    fn name(self, settings: &Settings) -> &'static str {
        match (self, settings.https) {
            (Self::Session, true) => "__Host-truckradar_session",
            (Self::Session, false) => "truckradar_session",
            (Self::HalfSignIn, true) => "__Host-truckradar_sign_in",
            (Self::HalfSignIn, false) => "truckradar_sign_in",
        }
    }
}

/// The token that a request's cookies hold. Two that differ name nobody: on plain HTTP a neighbouring host may have planted
/// one, and what a person does shall not be done in somebody else's session.
pub fn token(headers: &HeaderMap, settings: &Settings) -> Option<Token> {
    find(headers, Which::Session.name(settings))
}

/// The token of the sign-in that waits for a code, likewise.
pub fn half_token(headers: &HeaderMap, settings: &Settings) -> Option<Token> {
    find(headers, Which::HalfSignIn.name(settings))
}

fn find(headers: &HeaderMap, name: &str) -> Option<Token> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(cookie, _)| *cookie == name)
        .map(|(_, text)| text);
    let first = found.next()?;
    if found.all(|other| other == first) {
        Token::parse(first)
    } else {
        None
    }
}

/// Sets the session's cookie. It goes when the browser closes; how long the session lasts, the server decides.
pub fn set(token: &Token, settings: &Settings) -> Option<HeaderValue> {
    made(Which::Session, token.reveal(), "", settings)
}

/// Takes it away.
pub fn clear(settings: &Settings) -> Option<HeaderValue> {
    made(Which::Session, "", "; Max-Age=0", settings)
}

/// Sets the cookie of a sign-in that waits for a code, for as long as it does.
pub fn set_half(token: &Token, settings: &Settings) -> Option<HeaderValue> {
    let age = format!("; Max-Age={}", CODE_AWAITED_FOR.as_secs());
    made(Which::HalfSignIn, token.reveal(), &age, settings)
}

/// Takes it away.
pub fn clear_half(settings: &Settings) -> Option<HeaderValue> {
    made(Which::HalfSignIn, "", "; Max-Age=0", settings)
}

fn made(which: Which, token: &str, age: &str, settings: &Settings) -> Option<HeaderValue> {
    let secure = if settings.https { "; Secure" } else { "" };
    let name = which.name(settings);
    let text = format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax{age}{secure}");
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
