//! `/api/v1/dealers`: what a dealer says of itself.
//!
//! Never: a dealer other than the one that the caller may act for, or one that did not exist before.

use std::sync::Arc;

use axum::{
    extract::{Path, State as Shared, rejection::PathRejection},
    response::Response,
};
use serde_json::{Value, json};

use super::super::{
    State,
    body::JsonObject,
    caller::{KeyCaller, SellerCaller},
    error::ApiError,
};
use crate::accounts::dealers::{self, Dealer, DealerError};

/// Upserts the dealer that the request is about, with its locations. A Platform that names none brings one into being.
pub async fn post(
    Shared(state): Shared<Arc<State>>,
    caller: KeyCaller,
    JsonObject(body, _room): JsonObject,
) -> Result<Response, ApiError> {
    let body = dealers::parse_upsert(&body)?;
    let (db, clock) = (&state.services.db, &state.services.clock);
    let Some(scope) = caller.scope() else {
        let dealer = body.into_new().ok_or(DealerError::Required("name"))?;
        let founded = state.services.keys.found_seller(caller.own_scope(), dealer);
        let scope = founded.await?.scope;
        return Ok(super::data(&shown(&dealers::read_own(db, scope).await?)));
    };
    match dealers::change(db, clock, scope, body).await {
        Ok(dealer) => Ok(super::data(&shown(&dealer))),
        // A key cannot bring another dealer into being: a slug that is nobody's is no more this key's than one that is.
        Err(DealerError::NoSuchDealer(slug)) => Err(DealerError::NotYours(slug).into()),
        Err(error) => Err(error.into()),
    }
}

/// Changes some of the dealer's scalar fields.
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

/// Reads the dealer.
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
