//! The cookie that carries a session's token.
//!
//! Over TLS its name begins with `__Host-`, which a browser accepts only from this host itself, with `Secure` and for every
//! path; no neighbouring host can plant one. On plain HTTP, which is for one's own machine, it has a plain name.
//!
//! Never: a cookie that a page's script can read, or that another site's form sends along.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::{accounts::tokens::Token, services::Settings};

const PLAIN: &str = "truckradar_session";
const HOST: &str = "__Host-truckradar_session";

fn name(settings: &Settings) -> &'static str {
    if settings.https { HOST } else { PLAIN }
}

/// The token that a request's cookies hold. Two that differ name nobody: on plain HTTP a neighbouring host may have planted
/// one, and what a person does shall not be done in somebody else's session.
pub fn token(headers: &HeaderMap, settings: &Settings) -> Option<Token> {
    let name = name(settings);
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

/// Sets the cookie. It goes when the browser closes; how long the session lasts, the server decides.
pub fn set(token: &Token, settings: &Settings) -> Option<HeaderValue> {
    let secure = if settings.https { "; Secure" } else { "" };
    let text = format!(
        "{}={}; Path=/; HttpOnly; SameSite=Lax{secure}",
        name(settings),
        token.reveal()
    );
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Takes the cookie away.
pub fn clear(settings: &Settings) -> Option<HeaderValue> {
    let secure = if settings.https { "; Secure" } else { "" };
    let text = format!(
        "{}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0{secure}",
        name(settings)
    );
    HeaderValue::try_from(text).ok()
}
