//! `GET /api/v1/key`: what the caller's key is, for an integrator who wonders which key a machine has.
//!
//! Never: the key.

use std::sync::Arc;

use axum::{extract::State as Shared, response::Response};
use serde_json::json;

use super::super::{State, caller::SellerCaller, error::ApiError};

/// The key's Seller, its hint, when it was made, and when the Seller's key was last replaced.
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    caller: SellerCaller,
) -> Result<Response, ApiError> {
    let db = &state.services.db;
    let seller = db.seller(caller.scope()).await?;
    let keys = db.keys_of_seller(caller.scope(), 2).await?;
    let own = keys.iter().find(|key| key.id == caller.key());
    let (Some(seller), Some(key)) = (seller, own) else {
        // Replaced between the check and here.
        return Err(ApiError::revoked());
    };
    // The key that this one replaced, or the operator killed, ended when the present one began or before.
    let last_ended = keys.iter().filter_map(|key| key.ended_us).max();
    Ok(super::data(&json!({
        "key_id": key.id,
        "hint": key.hint,
        "created_at": key.created_us,
        "last_rotated_at": last_ended.map(|_| key.created_us),
        "seller": {"id": seller.id, "slug": seller.slug, "name": seller.name, "plan": seller.plan},
    })))
}
