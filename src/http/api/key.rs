//! `GET /api/v1/key`: what the caller's key is, for an integrator who wonders which key a machine has.
//!
//! Never: the key.

use std::sync::Arc;

use axum::{extract::State as Shared, response::Response};
use serde_json::{Value, json};

use super::super::{State, caller::KeyCaller, error::ApiError};
use crate::db::GrantedRow;

/// Keys looked at for when the account's key was last replaced.
const KEYS_READ: i64 = 20;
/// Sellers that a Platform is told of.
const SELLERS_SHOWN: i64 = 1_000;

/// The key's Seller or Platform, its hint, when it was made, and when the account's key was last replaced; for a Platform also
/// for whom it may act.
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    caller: KeyCaller,
) -> Result<Response, ApiError> {
    let db = &state.services.db;
    let scope = caller.own_scope();
    let account = db.seller(scope).await?;
    let keys = db.keys_of_seller(scope, KEYS_READ).await?;
    let own = keys.iter().find(|key| key.id == caller.key());
    let (Some(account), Some(key)) = (account, own) else {
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
    let mut shown = json!({
        "key_id": key.id,
        "hint": key.hint,
        "created_at": key.created_us,
        "last_rotated_at": came_after.then_some(since),
    });
    let owner = json!({
        "id": account.id, "slug": account.slug, "name": account.name, "plan": account.plan,
    });
    if caller.is_platform() {
        let granted = db.grants_held(scope, "", SELLERS_SHOWN).await?;
        shown["platform"] = owner;
        shown["sellers"] = granted.iter().map(seller).collect();
        shown["sellers_total"] = db.count_grants_held(scope).await?.into();
    } else {
        shown["seller"] = owner;
    }
    Ok(super::data(&shown))
}

/// A Seller as its Platform sees it.
fn seller(granted: &GrantedRow) -> Value {
    json!({
        "id": granted.seller_id,
        "slug": granted.slug,
        "name": granted.name,
        "status": granted.status,
        "granted_at": granted.created_us,
        "claimed": granted.owners > 0,
    })
}
