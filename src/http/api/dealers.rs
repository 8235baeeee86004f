//! `/api/v1/dealers`: what a dealer says of itself.
//!
//! Never: a dealer other than the key's.

use std::sync::Arc;

use axum::{
    extract::{Path, State as Shared, rejection::PathRejection},
    response::Response,
};
use serde_json::{Value, json};

use super::super::{State, body::JsonObject, caller::SellerCaller, error::ApiError};
use crate::accounts::dealers::{self, Dealer, DealerError};

/// Upserts the key's own dealer, with its locations.
pub async fn post(
    Shared(state): Shared<Arc<State>>,
    caller: SellerCaller,
    JsonObject(body, _room): JsonObject,
) -> Result<Response, ApiError> {
    let body = dealers::parse_upsert(&body)?;
    let (db, clock) = (&state.services.db, &state.services.clock);
    match dealers::change(db, clock, caller.scope(), body).await {
        Ok(dealer) => Ok(super::data(&shown(&dealer))),
        // A key cannot bring another dealer into being: a slug that is nobody's is no more this key's than one that is.
        Err(DealerError::NoSuchDealer(slug)) => Err(DealerError::NotYours(slug).into()),
        Err(error) => Err(error.into()),
    }
}

/// Changes some of the key's own dealer's scalar fields.
pub async fn patch(
    Shared(state): Shared<Arc<State>>,
    caller: SellerCaller,
    JsonObject(body, _room): JsonObject,
) -> Result<Response, ApiError> {
    let body = dealers::parse_patch(&body)?;
    let (db, clock) = (&state.services.db, &state.services.clock);
    let dealer = dealers::change(db, clock, caller.scope(), body).await?;
    Ok(super::data(&shown(&dealer)))
}

/// Reads the key's own dealer.
pub async fn get(
    Shared(state): Shared<Arc<State>>,
    caller: SellerCaller,
    slug: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    // A path that is not UTF-8 is nobody's slug.
    let slug = slug.map(|Path(slug)| slug).unwrap_or_default();
    let dealer = dealers::read(&state.services.db, caller.scope(), &slug).await?;
    Ok(super::data(&shown(&dealer)))
}

fn shown(dealer: &Dealer) -> Value {
    let Dealer { seller, locations } = dealer;
    json!({
        "id": seller.id,
        "slug": seller.slug,
        "name": seller.name,
        "plan": seller.plan,
        "phone": seller.phone,
        "email": seller.email,
        "website": seller.website,
        "description": seller.description,
        "locations": locations.iter().map(|location| json!({
            "id": location.id,
            "name": location.name,
            "street": location.street,
            "city": location.city,
            "state": location.state,
            "postal_code": location.postal_code,
            "phone": location.phone,
        })).collect::<Vec<_>>(),
        "created_at": seller.created_us,
        "updated_at": seller.updated_us,
    })
}
