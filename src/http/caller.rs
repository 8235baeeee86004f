//! Who is calling, as an extractor: the only way by which a handler comes to name a Seller.
//!
//! Never: a caller that [`super::edge`] has not verified.

use axum::{extract::FromRequestParts, http::request::Parts};

use super::error::ApiError;
use crate::keys::{scope::SellerScope, verify::Caller};

/// What the edge leaves with a request whose key it found good.
#[derive(Clone, Copy)]
pub(super) struct Verified(pub(super) Caller);

/// The holder of a live Seller key.
pub struct SellerCaller(Caller);

impl SellerCaller {
    /// The right to act on the key's Seller.
    pub fn scope(&self) -> SellerScope {
        self.0.scope()
    }

    /// The key.
    pub fn key(&self) -> crate::ids::KeyId {
        self.0.record().key
    }
}

impl<S: Sync> FromRequestParts<S> for SellerCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match parts.extensions.get::<Verified>() {
            Some(Verified(caller)) => Ok(Self(*caller)),
            // A route outside /api/v1/ asked for a Seller: a defect in the table, and never a way in.
            None => {
                tracing::error!("a route asked for a Seller where no key is checked");
                Err(ApiError::internal())
            }
        }
    }
}
