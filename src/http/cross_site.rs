//! Forms of other sites are refused: a browser says in `Sec-Fetch-Site` and `Origin` where a request comes from.
//!
//! The rules are those of the library (and of Go's standard library): a request that changes something passes if it comes
//! from this site, or if its origin is one of the public addresses, or if it has neither header, as from a program that is
//! no browser and has no cookies to abuse. The session's cookie is `SameSite=Lax` besides.
//!
//! Never: a page's route that takes a form without this in front of it (see [`super::router`]).

use axum::{
    body::Body,
    http::{Response, StatusCode},
    response::IntoResponse,
};
use tower_http::csrf::{CsrfLayer, ProtectionError};

use super::problem::Problem;
use crate::services::Settings;

/// What stands in front of every route of a page.
pub type Protection = CsrfLayer<fn(ProtectionError) -> Response<Body>>;

/// Made from the public addresses, where a proxy may have changed `Host`.
pub fn protection(settings: &Settings) -> Protection {
    let mut layer = CsrfLayer::new();
    for url in &settings.public_urls {
        layer = match layer.clone().add_trusted_origin(url.origin()) {
            Ok(layer) => layer,
            Err(error) => {
                tracing::error!(%error, "a public address cannot be an origin");
                layer
            }
        };
    }
    layer.with_rejection_response(refuse as fn(ProtectionError) -> Response<Body>)
}

fn refuse(_: ProtectionError) -> Response<Body> {
    Problem::new(
        StatusCode::FORBIDDEN,
        "This form came from another site",
        "Nothing was changed. If you did press a button here, open the page anew and try again. If you came from another site's page, it tried to act in your name.",
    )
    .with_way_on("/dashboard", "Go to your dashboard")
    .into_response()
}
