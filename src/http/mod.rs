//! The HTTP surface: every route in one table.
//!
//! A request meets `edge` first, which decides who is calling before anything else is decided, and then its handler,
//! which can name a Seller only through an extractor of `caller`. Whatever goes wrong becomes a response in `error`.
//!
//! Never: a route outside the table; axum named outside this folder.

mod api;
mod body;
mod caller;
mod certificate;
mod edge;
mod error;
mod hosts;
mod metrics;
mod ops;
mod path;
mod server;

use std::sync::Arc;

use axum::{
    Router,
    http::Method,
    routing::{MethodFilter, MethodRouter, on},
};

pub use self::{certificate::Certificate, metrics::Metrics, server::Server};
use crate::services::Services;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerKind {
    /// Whoever reaches the server, on either address.
    Anyone,
    /// The holder of a live Seller key.
    Seller,
    /// Whoever reaches the admin address, which is private.
    Operator,
}

/// One route.
pub struct Route {
    /// Its method; GET answers HEAD too.
    pub method: Method,
    /// Its path, in axum's notation.
    pub path: &'static str,
    /// Who may call it.
    pub caller: CallerKind,
    handler: MethodRouter<Arc<State>>,
}

/// What handlers are given.
pub struct State {
    services: Arc<Services>,
    metrics: Arc<Metrics>,
}

/// Every route there is.
pub fn routes() -> Vec<Route> {
    use CallerKind::{Anyone, Operator, Seller};
    macro_rules! table {
        ($($method:ident $path:literal $caller:ident $handler:path;)+) => {
            vec![$(Route {
                method: Method::$method,
                path: $path,
                caller: $caller,
                handler: on(MethodFilter::$method, $handler),
            }),+]
        };
    }
    table! {
        GET   "/healthz"                    Anyone    ops::healthz;
        GET   "/readyz"                     Anyone    ops::readyz;
        GET   "/metrics"                    Operator  ops::metrics;
        GET   "/api/v1/key"                 Seller    api::key::show;
        POST  "/api/v1/inventory"           Seller    api::inventory::post;
        PATCH "/api/v1/inventory"           Seller    api::inventory::patch;
        GET   "/api/v1/inventory"           Seller    api::inventory::list;
        GET   "/api/v1/inventory/{vin}"     Seller    api::inventory::get;
        POST  "/api/v1/dealers"             Seller    api::dealers::post;
        PATCH "/api/v1/dealers"             Seller    api::dealers::patch;
        GET   "/api/v1/dealers/{slug}"      Seller    api::dealers::get;
    }
}

/// The router of one of the two addresses.
fn router(state: Arc<State>, admits: impl Fn(CallerKind) -> bool) -> Router {
    let mut router = Router::new();
    for route in routes() {
        if admits(route.caller) {
            router = router.route(route.path, route.handler);
        }
    }
    #[cfg(feature = "bench-bare")]
    {
        router = router.route(edge::BARE_PATH, on(MethodFilter::GET, ops::bare));
    }
    router
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .with_state(state)
}
