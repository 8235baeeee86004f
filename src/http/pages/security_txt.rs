//! `/.well-known/security.txt` (RFC 9116): whom to tell of a hole, for whoever looks where everybody looks.
//!
//! Never: an `Expires` that has passed, or that is a year or more ahead.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State as Shared,
    http::{HeaderValue, header},
    response::Response,
};

use super::super::State;
use crate::{clock::Time, config::PublicUrl, services::Settings};

/// How far ahead `Expires` is. The file is written anew for each request: as long as the server is there, it holds.
const HOLDS_FOR: std::time::Duration = std::time::Duration::from_secs(180 * 86_400);

/// The file.
pub async fn get(Shared(state): Shared<Arc<State>>) -> Response {
    let services = &state.services;
    let text = text(&services.settings, services.clock.now());
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// An address that is configured has been through `config`, which admits only what can stand here as it is.
fn text(settings: &Settings, now: Time) -> String {
    let contact = &settings.security_contact;
    let expires = now.after(HOLDS_FOR).iso();
    let origins = settings.public_urls.iter().map(PublicUrl::origin);
    let origins: Vec<_> = origins
        .filter(|origin| origin.starts_with("https://"))
        .collect();
    let mut text = format!("Contact: mailto:{contact}\n");
    // Where a key that somebody found is handed in, for whoever looks here first.
    for origin in &origins {
        text.push_str(&format!("Contact: {origin}/keys/report\n"));
    }
    text.push_str(&format!("Expires: {expires}\nPreferred-Languages: en\n"));
    // Only https addresses may stand there, and a reader's own must be among them: so every one that there is.
    for origin in &origins {
        text.push_str(&format!("Canonical: {origin}/.well-known/security.txt\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_whom_to_write_to_and_until_when_that_holds() {
        let settings = Settings {
            security_contact: "security@radar.example".to_owned(),
            ..Settings::default()
        };
        let text = text(&settings, Time(1_764_000_000_123_456));
        assert_eq!(
            text,
            "Contact: mailto:security@radar.example\nExpires: 2026-05-23T16:00:00.123Z\nPreferred-Languages: en\n"
        );
    }

    #[test]
    fn whoever_found_a_key_is_shown_where_to_hand_it_in_by_https_only() {
        let urls = ["https://radar.example", "http://127.0.0.1:8080"];
        let settings = Settings {
            public_urls: urls.map(|url| url.parse().expect("an address")).into(),
            ..Settings::default()
        };
        let text = super::text(&settings, Time(0));
        assert!(
            text.contains("\nContact: https://radar.example/keys/report\n"),
            "{text}"
        );
        assert!(!text.contains("127.0.0.1"), "{text}");
    }
}
