//! `GET /api/v1/key`: what the caller's key is, for an integrator who wonders which key a machine has.
//!
//! Never: the key.

use std::sync::Arc;

use axum::{extract::State as Shared, response::Response};
use serde_json::json;

use super::super::{State, caller::SellerCaller, error::ApiError};

/// Keys looked at for when the Seller's key was last replaced.
const KEYS_READ: i64 = 20;

/// The key's Seller, its hint, when it was made, and when the Seller's key was last replaced.
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    caller: SellerCaller,
) -> Result<Response, ApiError> {
    let db = &state.services.db;
    let seller = db.seller(caller.scope()).await?;
    let keys = db.keys_of_seller(caller.scope(), KEYS_READ).await?;
    let own = keys.iter().find(|key| key.id == caller.key());
    let (Some(seller), Some(key)) = (seller, own) else {
        // Replaced between the check and here.
        return Err(ApiError::revoked());
    };
    // A key that ended when this one began to be accepted, or before, is one that it came after; one that ended later was
    // prepared and discarded beside it.
    let since = key.live_us.unwrap_or(key.created_us);
    let came_after = keys
        .iter()
        .filter_map(|key| key.ended_us)
        .any(|end| end <= since);
    Ok(super::data(&json!({
        "key_id": key.id,
        "hint": key.hint,
        "created_at": key.created_us,
        "last_rotated_at": came_after.then_some(since),
        "seller": {"id": seller.id, "slug": seller.slug, "name": seller.name, "plan": seller.plan},
    })))
}
