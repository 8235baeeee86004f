//! `/api/v1/inventory`: taking in records, marking units sold, reading them.
//!
//! Never: a listing of another Seller.

use std::{convert::Infallible, str::FromStr, sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{FromRequestParts, Path, RawQuery, State as Shared, rejection::PathRejection},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::super::{
    State,
    body::JsonObject,
    caller::SellerCaller,
    error::{ApiError, Code},
};
use crate::{
    clock::Time,
    db::ListingFilter,
    ids::ListingId,
    inventory::{
        listing::ListingStatus,
        pipeline::{RecordResult, Stage, Stored},
        service::{Answer, Found},
        vin::{Vin, VinError},
    },
};

/// Records in one batch at most.
pub const RECORDS_MAX: usize = 500;
/// Listings in one page unless asked otherwise, and at most.
const PAGE_DEFAULT: i64 = 50;
const PAGE_MAX: i64 = 200;

/// Takes in one record (its fields at the root) or a batch (`records`).
pub async fn post(
    Shared(state): Shared<Arc<State>>,
    caller: SellerCaller,
    JsonObject(body, _room): JsonObject,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    if body.contains_key("records") {
        post_batch(&state, &caller, body).await
    } else {
        post_single(&state, &caller, body, began).await
    }
}

async fn post_single(
    state: &State,
    caller: &SellerCaller,
    record: Map<String, Value>,
    began: Instant,
) -> Result<Response, ApiError> {
    if record.get("vin").is_none_or(Value::is_null) {
        return Err(ApiError::new(
            Code::InvalidPayload,
            "The field vin is required (or records, for a batch).",
        )
        .with_details(json!({"field": "vin"})));
    }
    let services = &state.services;
    let mut results = services
        .inventory
        .ingest(caller.scope(), vec![Value::Object(record)])
        .await
        .map_err(|error| ApiError::of_inventory(error, &services.settings))?;
    let result = results.pop().ok_or_else(ApiError::internal)?;
    let stored = result
        .outcome
        .map_err(|rejected| ApiError::of_rejected(&rejected, &services.settings))?;
    let stages: Map<String, Value> = Stage::ALL
        .iter()
        .filter_map(|stage| Some((json!(stage).as_str()?.to_owned(), json!("ok"))))
        .collect();
    let mut data = json!({
        "success": true,
        "id": stored.id,
        "vin": result.vin.map(|vin| vin.trim().to_ascii_uppercase()),
        "status": stored.change,
        "stages": stages,
        "durationMs": began.elapsed().as_millis() as u64,
    });
    add_warnings(&mut data, &stored);
    Ok(super::data(&data))
}

async fn post_batch(
    state: &State,
    caller: &SellerCaller,
    mut body: Map<String, Value>,
) -> Result<Response, ApiError> {
    let Some(Value::Array(mut records)) = body.remove("records") else {
        return Err(ApiError::new(
            Code::ValidationError,
            "records must be a list of 1 to 500 records.",
        ));
    };
    if records.len() > RECORDS_MAX {
        let (sent, max) = (records.len(), RECORDS_MAX);
        return Err(ApiError::new(
            Code::BatchTooLarge,
            format!("The batch has {sent} records; {max} is the most. Split it and send the parts one after another."),
        )
        .with_details(json!({"records": sent, "max": max})));
    }
    if records.is_empty() {
        return Err(ApiError::new(
            Code::ValidationError,
            "records is empty; send 1 to 500 records.",
        ));
    }
    let provider = body
        .remove("source_provider_id")
        .filter(|value| !value.is_null());
    if let Some(field) = body.keys().next() {
        let field: String = field.chars().take(100).collect();
        return Err(ApiError::new(
            Code::ValidationError,
            "Beside records there may be source_provider_id only; a record's fields stand inside it.",
        )
        .with_details(json!({"field": field})));
    }
    // What the envelope says holds for every record that does not say otherwise.
    if let Some(provider) = provider {
        for record in records.iter_mut().filter_map(Value::as_object_mut) {
            record
                .entry("source_provider_id")
                .or_insert_with(|| provider.clone());
        }
    }
    let services = &state.services;
    let results = services
        .inventory
        .ingest(caller.scope(), records)
        .await
        .map_err(|error| ApiError::of_inventory(error, &services.settings))?;
    let succeeded = results
        .iter()
        .filter(|result| result.outcome.is_ok())
        .count();
    let shown: Vec<Value> = results
        .iter()
        .enumerate()
        .map(|(index, result)| record_result(index, result, state))
        .collect();
    Ok(super::data(&json!({
        "total": results.len(),
        "succeeded": succeeded,
        "failed": results.len() - succeeded,
        "results": shown,
    })))
}

fn record_result(index: usize, result: &RecordResult, state: &State) -> Value {
    let mut shown = json!({"index": index, "vin": result.vin});
    match &result.outcome {
        Ok(stored) => {
            shown["status"] = json!(stored.change);
            shown["id"] = json!(stored.id);
            add_warnings(&mut shown, stored);
        }
        Err(rejected) => {
            shown["status"] = json!("rejected");
            shown["error"] = ApiError::in_batch(rejected, &state.services.settings);
        }
    }
    shown
}

fn add_warnings(shown: &mut Value, stored: &Stored) {
    if !stored.warnings.is_empty() {
        shown["warnings"] = json!(stored.warnings);
    }
}

/// Marks a listing sold or expired.
pub async fn patch(
    Shared(state): Shared<Arc<State>>,
    caller: SellerCaller,
    JsonObject(body, _room): JsonObject,
) -> Result<Response, ApiError> {
    let Some(vin) = body.get("vin").filter(|vin| !vin.is_null()) else {
        return Err(
            ApiError::new(Code::InvalidPayload, "The field vin is required.")
                .with_details(json!({"field": "vin"})),
        );
    };
    let vin: Vin = vin.as_str().unwrap_or_default().trim().parse()?;
    let status = match body.get("status").and_then(Value::as_str) {
        Some("sold") => ListingStatus::Sold,
        Some("expired") => ListingStatus::Expired,
        _ => {
            return Err(ApiError::new(
                Code::InvalidStatus,
                "status must be sold or expired. To list a unit again, send its record with POST.",
            ));
        }
    };
    let services = &state.services;
    let answer = services
        .inventory
        .set_status(caller.scope(), vin, status)
        .await
        .map_err(|error| ApiError::of_inventory(error, &services.settings))?;
    Ok(send(answer))
}

/// Reads one listing; answers 304 to a caller that has it already.
pub async fn get(
    Shared(state): Shared<Arc<State>>,
    caller: SellerCaller,
    vin: Result<Path<String>, PathRejection>,
    held: HeldValidators,
) -> Result<Response, ApiError> {
    // A path that is not UTF-8 is no VIN either.
    let vin: Vin = vin.map_or(Err(VinError::Alphabet), |Path(vin)| vin.parse())?;
    let services = &state.services;
    let found = services
        .inventory
        .find(caller.scope(), vin)
        .await
        .map_err(|error| ApiError::of_inventory(error, &services.settings))?;
    match found {
        Found::Own(answer) if held.name(&answer.etag) => {
            let mut response = send(answer);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
            response.headers_mut().remove(header::CONTENT_TYPE);
            Ok(response)
        }
        Found::Own(answer) => Ok(send(answer)),
        Found::OtherDealers => Err(ApiError::other_dealers_vin(&services.settings)),
        Found::Nothing => Err(ApiError::new(Code::NotFound, "This VIN is not listed.")),
    }
}

fn send(answer: Answer) -> Response {
    let mut response = super::body(answer.body);
    if let Ok(etag) = HeaderValue::from_maybe_shared(answer.etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

/// The values of a request's `If-None-Match` headers, taken out so that not every header need be copied.
pub struct HeldValidators(Vec<HeaderValue>);

impl<S: Sync> FromRequestParts<S> for HeldValidators {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values = parts.headers.get_all(header::IF_NONE_MATCH);
        Ok(Self(values.iter().cloned().collect()))
    }
}

impl HeldValidators {
    /// Whether they name this validator, by weak comparison (RFC 9110 section 13.1.2).
    fn name(&self, etag: &[u8]) -> bool {
        self.0
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag)
    }
}

/// Pages through the Seller's own listings.
pub async fn list(
    Shared(state): Shared<Arc<State>>,
    caller: SellerCaller,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (filter, limit) = read_query(query.as_deref().unwrap_or_default())?;
    let services = &state.services;
    // One more than asked for tells whether there is a next page.
    let mut listings = services
        .inventory
        .list(caller.scope(), &filter, limit + 1)
        .await
        .map_err(|error| ApiError::of_inventory(error, &services.settings))?;
    let more = listings.len() as i64 > limit;
    listings.truncate(limit as usize);
    let next = listings
        .last()
        .filter(|_| more)
        .map(|last| BASE64_URL_SAFE_NO_PAD.encode(last.id.to_text()));
    let items: Vec<String> = listings.iter().map(|listing| listing.to_json()).collect();
    Ok(super::body(format!(
        r#"{{"data":{{"items":[{}],"next_cursor":{}}}}}"#,
        items.join(","),
        json!(next)
    )))
}

fn read_query(query: &str) -> Result<(ListingFilter, i64), ApiError> {
    let mut filter = ListingFilter::default();
    let mut limit = PAGE_DEFAULT;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = value.trim();
        // The name is shown only when it is one of ours: a stray parameter may be anything, a key included.
        let bad = |name: &str, want: &str| {
            ApiError::new(
                Code::InvalidParams,
                format!("The parameter {name} must be {want}."),
            )
            .with_details(json!({"parameter": name}))
        };
        let number = |name: &str| {
            value
                .parse::<i64>()
                .map_err(|_| bad(name, "a whole number"))
        };
        let word =
            || Some(value.chars().take(100).collect::<String>()).filter(|word| !word.is_empty());
        match &*name {
            "status" => {
                let status = ListingStatus::from_str(value);
                filter.status = Some(status.map_err(|_| bad("status", "active, sold or expired"))?);
            }
            "make" => filter.make = word(),
            "model" => filter.model = word(),
            "category" => filter.category = word(),
            "listing_type" => match value {
                "truck" | "trailer" => filter.listing_type = word(),
                _ => return Err(bad("listing_type", "truck or trailer")),
            },
            "new_or_used" => match value {
                "new" | "used" | "certified_preowned" => filter.new_or_used = word(),
                _ => return Err(bad("new_or_used", "new, used or certified_preowned")),
            },
            "location_state" => {
                filter.location_state = word().map(|state| state.to_ascii_uppercase())
            }
            "year_min" => filter.year_min = Some(number("year_min")?),
            "year_max" => filter.year_max = Some(number("year_max")?),
            "price_min" => filter.price_min = Some(number("price_min")?),
            "price_max" => filter.price_max = Some(number("price_max")?),
            "updated_since" => {
                let at = value.parse::<jiff::Timestamp>();
                let at =
                    at.map_err(|_| bad("updated_since", "a time such as 2026-03-17T14:50:00Z"))?;
                filter.updated_since = Some(Time(at.as_microsecond()));
            }
            "limit" => {
                limit = number("limit")?;
                if !(1..=PAGE_MAX).contains(&limit) {
                    return Err(bad("limit", "between 1 and 200"));
                }
            }
            "cursor" => {
                let id = BASE64_URL_SAFE_NO_PAD
                    .decode(value)
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok())
                    .and_then(|text| ListingId::from_str(&text).ok());
                filter.after =
                    Some(id.ok_or_else(|| bad("cursor", "the next_cursor of an earlier page"))?);
            }
            _ => {
                return Err(ApiError::new(
                    Code::InvalidParams,
                    "There is a parameter that this endpoint does not have. It has status, make, model, category, \
                     listing_type, new_or_used, location_state, year_min, year_max, price_min, price_max, \
                     updated_since, limit and cursor. A key is never sent as a parameter.",
                ));
            }
        }
    }
    Ok((filter, limit))
}
