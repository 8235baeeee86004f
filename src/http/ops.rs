//! Health and metrics, for whoever runs the server.
//!
//! Never: anything about a Seller.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State as Shared,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{State, error::ApiError};

/// How long the database may take to answer a process that calls itself ready.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(1);

/// The process runs.
pub async fn healthz() -> Response {
    super::api::data(&json!({"healthy": true}))
}

/// The process can do its work: the database answers and the key table may be believed.
pub async fn readyz(Shared(state): Shared<Arc<State>>) -> Result<Response, ApiError> {
    let services = &state.services;
    if !services
        .keys
        .revocation
        .snapshot()
        .trust
        .holds(services.clock.boot())
    {
        return Err(ApiError::unavailable());
    }
    match tokio::time::timeout(DATABASE_TIMEOUT, services.db.ping()).await {
        Ok(answer) => answer?,
        Err(_) => return Err(ApiError::unavailable()),
    }
    Ok(super::api::data(&json!({"ready": true})))
}

/// Prometheus' text format.
pub async fn metrics(Shared(state): Shared<Arc<State>>) -> Result<Response, ApiError> {
    let text = state.metrics.render(&state.services).map_err(|error| {
        tracing::error!(%error, "metrics cannot be written");
        ApiError::internal()
    })?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// The body of a listing without any check or work: what `bench/http` measures everything else against.
#[cfg(feature = "bench-bare")]
pub async fn bare() -> Response {
    const BODY: &str = include_str!("../../bench/listing.json");
    (
        [(header::CONTENT_TYPE, "application/json")],
        BODY.trim_end(),
    )
        .into_response()
}
