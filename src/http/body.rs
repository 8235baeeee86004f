//! Request bodies: read within limits of size and time, and parsed once.
//!
//! Never: a body read before its sender was verified; the content of a body in an error or a log.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    State,
    error::{ApiError, Code},
};
use crate::config::Limits;

/// Bytes of a body at most.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// A body larger than this is parsed on a thread of its own, so that it does not hold up this thread's other requests.
const PARSE_HERE_BYTES_MAX: usize = 64 << 10;

/// JSON values in one body at most: 500 whole records with a hundred photos each have 60,000. As values, a body of many
/// tiny ones would take a hundred times its size.
const VALUES_MAX: usize = 200_000;
/// Bytes of bodies in memory at once, in the unit of their semaphore.
const BODIES_KIB_MAX: u32 = 128 << 10;
const KIB: usize = 1 << 10;

static BODIES: Semaphore = Semaphore::const_new(BODIES_KIB_MAX as usize);

/// A body that is one JSON object, and the room that it takes until it has been dealt with.
pub struct JsonObject(pub Map<String, Value>, pub SemaphorePermit<'static>);

impl FromRequest<std::sync::Arc<State>> for JsonObject {
    type Rejection = ApiError;

    async fn from_request(
        request: Request,
        state: &std::sync::Arc<State>,
    ) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        check_media_type(&parts.headers)?;
        let room = room_for(&parts.headers)?;
        let bytes = read(&parts.headers, body, state.services.settings.limits).await?;
        if values_in(&bytes) > VALUES_MAX {
            return Err(ApiError::new(
                Code::ValidationError,
                "The body holds more than 200,000 JSON values. Send fewer records at a time.",
            ));
        }
        let parsed = if bytes.len() <= PARSE_HERE_BYTES_MAX {
            serde_json::from_slice::<Value>(&bytes)
        } else {
            tokio::task::spawn_blocking(move || serde_json::from_slice::<Value>(&bytes))
                .await
                .map_err(|_| ApiError::internal())?
        };
        match parsed {
            Ok(Value::Object(object)) => Ok(Self(object, room)),
            Ok(_) => Err(ApiError::new(
                Code::ValidationError,
                "The body must be a JSON object: { … }.",
            )),
            Err(error) => Err(ApiError::new(
                Code::ValidationError,
                format!(
                    "The body is not JSON: {}. Nothing was changed.",
                    describe(&error)
                ),
            )
            .with_details(json!({"line": error.line(), "column": error.column()}))),
        }
    }
}

/// Room for a body of the announced size, or of the largest if none is announced.
fn room_for(headers: &HeaderMap) -> Result<SemaphorePermit<'static>, ApiError> {
    let bytes = announced(headers)
        .unwrap_or(BODY_BYTES_MAX)
        .min(BODY_BYTES_MAX);
    let kib = u32::try_from(bytes / KIB + 1).unwrap_or(BODIES_KIB_MAX);
    BODIES
        .try_acquire_many(kib)
        .map_err(|_| ApiError::unavailable())
}

fn announced(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// About how many JSON values a text holds: what opens one or parts two, outside of strings.
fn values_in(bytes: &[u8]) -> usize {
    let (mut values, mut in_string, mut escaped) = (0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' | b',' if !in_string => values += 1,
            _ => {}
        }
    }
    values
}

/// Where and why, without what stands there.
fn describe(error: &serde_json::Error) -> String {
    let place = format!("line {}, column {}", error.line(), error.column());
    match error.classify() {
        serde_json::error::Category::Eof => format!("it ends too early, at {place}"),
        _ => format!("look at {place}"),
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported =
        |message: &'static str| Err(ApiError::new(Code::UnsupportedMediaType, message));
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let (media, parameters) = content_type.split_once(';').unwrap_or((&content_type, ""));
    if media.trim() != "application/json" {
        return unsupported("Send the body as JSON, with Content-Type: application/json.");
    }
    if let Some((_, charset)) = parameters.split_once("charset=")
        && !matches!(
            charset.trim().trim_matches('"'),
            "utf-8" | "utf8" | "us-ascii"
        )
    {
        return unsupported("Send the body in UTF-8.");
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            unsupported("Send the body as it is, without Content-Encoding.")
        }
        _ => Ok(()),
    }
}

async fn read(headers: &HeaderMap, mut body: Body, limits: Limits) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(
            Code::PayloadTooLarge,
            "The body is larger than 16 MiB. Send fewer records at a time.",
        )
    };
    let announced = announced(headers);
    if announced.is_some_and(|bytes| bytes > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(PARSE_HERE_BYTES_MAX));
    let reading = async {
        loop {
            let frame = tokio::time::timeout(limits.body_pause, body.frame())
                .await
                .map_err(|_| too_slow())?;
            match frame {
                None => return Ok(()),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        if bytes.len() + data.len() > BODY_BYTES_MAX {
                            return Err(too_large());
                        }
                        bytes.extend_from_slice(data);
                    }
                }
                Some(Err(_)) => {
                    return Err(ApiError::new(Code::ValidationError, "The body broke off."));
                }
            }
        }
    };
    match tokio::time::timeout(limits.body_timeout, reading).await {
        Ok(read) => read?,
        Err(_) => return Err(too_slow()),
    }
    Ok(bytes.into())
}

/// The body of a small request, as it came: `most` bytes, which the refusal calls `called`.
pub async fn read_small(
    headers: &HeaderMap,
    body: Body,
    most: usize,
    called: &str,
    limits: Limits,
) -> Result<Bytes, ApiError> {
    let too_large = || {
        let message = format!("The body is larger than {called}. Send less at a time.");
        ApiError::new(Code::PayloadTooLarge, message)
    };
    if announced(headers).is_some_and(|bytes| bytes > most) {
        return Err(too_large());
    }
    let reading = Limited::new(body, most).collect();
    match tokio::time::timeout(limits.body_pause, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::new(Code::ValidationError, "The body broke off.")),
        Err(_) => Err(too_slow()),
    }
}

fn too_slow() -> ApiError {
    ApiError::new(
        Code::RequestTimeout,
        "The body did not arrive in time. Nothing was changed.",
    )
}

#[cfg(test)]
mod tests {
    use super::values_in;

    #[test]
    fn values_are_counted_outside_of_strings() {
        assert_eq!(values_in(br#"{"a":[1,2,3]}"#), 4);
        assert_eq!(values_in(br#"{"a":"[,,,{\",,\\"}"#), 1);
        assert_eq!(values_in(br#"{"a":"\\","b":[]}"#), 3);
        assert_eq!(values_in(b""), 0);
    }
}
