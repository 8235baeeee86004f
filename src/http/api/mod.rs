//! The API's resources, one file each: what is read from a request, what is asked of the use cases, what is answered.
//!
//! Never: a rule of the business; SQL.

pub mod dealers;
pub mod inventory;
pub mod key;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use serde_json::{Value, json};

/// Headers that a response ends up with.
const HEADERS_EXPECTED: usize = 10;

/// The media type of every body.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A success: `{"data":…}`.
pub fn data(value: &Value) -> Response {
    body(json!({ "data": value }).to_string())
}

/// A success whose body is written already.
pub fn body(body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    // With room for what the edge adds: growing it would cost as much as all the rest of this.
    *response.headers_mut() = HeaderMap::with_capacity(HEADERS_EXPECTED);
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}
