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
mod cross_site;
mod edge;
mod error;
mod form;
mod hosts;
mod metrics;
mod ops;
mod pages;
mod path;
mod problem;
mod scanning;
mod server;
mod session_cookie;

use std::sync::Arc;

use axum::{
    Router,
    http::Method,
    routing::{MethodFilter, MethodRouter, on},
};
use quick_cache::sync::Cache;
use tokio::sync::watch;

use self::pages::key_live::Streams;
pub use self::{certificate::Certificate, metrics::Metrics, server::Server};
use crate::{ids::SellerId, services::Services};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerKind {
    /// Whoever reaches the server, on either address.
    Anyone,
    /// Whoever opens a page, signed in or not.
    Visitor,
    /// A person who is signed in; whoever is not is sent to sign in.
    SignedIn,
    /// The holder of a live key that may act for a Seller: the Seller's own, or a Platform's with its grant.
    Seller,
    /// Whoever found a key: a program of GitHub's, or anybody. No cookie is looked at, and no page is needed.
    Finder,
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
    /// Pages that are watched.
    streams: Arc<Streams>,
    /// Requests of GitHub's that are read.
    scanning: scanning::Places,
    /// Says when the server stops; an answer that has no end of its own ends then.
    stopping: watch::Receiver<bool>,
    /// The slugs of Sellers whose own keys named them.
    own_slugs: Cache<SellerId, Arc<str>>,
}

/// Slugs kept, each some 200 bytes.
const OWN_SLUGS_MAX: usize = 16_384;

/// Every route there is.
pub fn routes() -> Vec<Route> {
    use CallerKind::{Anyone, Finder, Operator, Seller, SignedIn, Visitor};
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
        GET   "/nodes"                      Operator  pages::nodes::show;
        GET   "/leaks"                      Operator  pages::leaks::show;
        GET   "/static/{file}"              Anyone    pages::assets::get;
        GET   "/api/v1/key"                 Seller    api::key::show;
        POST  "/api/v1/inventory"           Seller    api::inventory::post;
        PATCH "/api/v1/inventory"           Seller    api::inventory::patch;
        GET   "/api/v1/inventory"           Seller    api::inventory::list;
        GET   "/api/v1/inventory/{vin}"     Seller    api::inventory::get;
        POST  "/api/v1/dealers"             Seller    api::dealers::post;
        PATCH "/api/v1/dealers"             Seller    api::dealers::patch;
        GET   "/api/v1/dealers/{slug}"      Seller    api::dealers::get;

        POST  "/secret-scanning/github"     Finder    scanning::github;
        POST  "/keys/report"                Finder    pages::report::take;

        GET   "/"                           Visitor   pages::login::root;
        GET   "/docs"                       Visitor   pages::docs::index;
        GET   "/docs/{page}"                Visitor   pages::docs::page;
        GET   "/.well-known/security.txt"   Visitor   pages::security_txt::get;
        GET   "/keys/report"                Visitor   pages::report::form;
        GET   "/login"                      Visitor   pages::login::form;
        POST  "/login"                      Visitor   pages::login::sign_in;
        GET   "/login/code"                 Visitor   pages::login::code_form;
        POST  "/login/code"                 Visitor   pages::login::give_code;
        GET   "/forgot-password"            Visitor   pages::forgotten::form;
        POST  "/forgot-password"            Visitor   pages::forgotten::ask;
        GET   "/invitation"                 Visitor   pages::links::invitation;
        POST  "/invitation"                 Visitor   pages::links::accept;
        GET   "/reset-password"             Visitor   pages::links::reset;
        POST  "/reset-password"             Visitor   pages::links::set_password;
        POST  "/logout"                     SignedIn  pages::login::sign_out;
        GET   "/dashboard"                  SignedIn  pages::overview::show;
        GET   "/dashboard/inventory"        SignedIn  pages::inventory::show;
        GET   "/dashboard/keys"             SignedIn  pages::keys::show;
        GET   "/dashboard/account"          SignedIn  pages::account::show;
        GET   "/dashboard/settings"         SignedIn  pages::settings::show;
        POST  "/dashboard/settings/api-key" SignedIn  pages::api_key::generate;
        GET   "/dashboard/settings/api-key/live"     SignedIn pages::key_live::watch;
        POST  "/dashboard/settings/api-key/prepare"  SignedIn pages::api_key::prepare;
        POST  "/dashboard/settings/api-key/cut-over" SignedIn pages::api_key::cut_over;
        POST  "/dashboard/settings/api-key/discard"  SignedIn pages::api_key::discard;
        POST  "/dashboard/settings/api-key/dismiss-leak" SignedIn pages::key_leaks::dismiss;
        POST  "/dashboard/settings/profile" SignedIn  pages::profile::save;
        POST  "/dashboard/settings/locations"        SignedIn pages::profile::save_locations;
        POST  "/dashboard/settings/members/invite"   SignedIn pages::members::invite;
        POST  "/dashboard/settings/members/uninvite" SignedIn pages::members::uninvite;
        POST  "/dashboard/settings/members/role"     SignedIn pages::members::set_role;
        POST  "/dashboard/settings/members/remove"   SignedIn pages::members::remove;
        POST  "/dashboard/settings/members/second-factor"  SignedIn pages::members::require_factor;
        POST  "/dashboard/settings/networks"         SignedIn pages::platforms::set_networks;
        POST  "/dashboard/settings/platforms/grant"  SignedIn pages::platforms::grant;
        POST  "/dashboard/settings/platforms/withdraw" SignedIn pages::platforms::withdraw;
        POST  "/dashboard/settings/second-factor/begin"    SignedIn pages::second_factor::begin;
        POST  "/dashboard/settings/second-factor/confirm"  SignedIn pages::second_factor::confirm;
        POST  "/dashboard/settings/second-factor/codes"    SignedIn pages::second_factor::make_codes;
        POST  "/dashboard/settings/second-factor/off"      SignedIn pages::second_factor::turn_off;
        POST  "/dashboard/settings/password"         SignedIn pages::account::change_password;
        POST  "/dashboard/settings/sessions/end"     SignedIn pages::account::end_sessions;
        GET   "/dashboard/settings/audit"            SignedIn pages::audit::show;
        GET   "/dashboard/settings/audit/csv"        SignedIn pages::audit_export::csv;
        GET   "/dashboard/settings/audit/jsonl"      SignedIn pages::audit_export::json_lines;
    }
}

/// The router of one of the two addresses.
fn router(state: Arc<State>, admits: impl Fn(CallerKind) -> bool) -> Router {
    let mut router = Router::new();
    let protection = cross_site::protection(&state.services.settings);
    for route in routes() {
        if !admits(route.caller) {
            continue;
        }
        let handler = match route.caller {
            CallerKind::Visitor | CallerKind::SignedIn => route.handler.layer(protection.clone()),
            // No cookie opens these.
            CallerKind::Anyone | CallerKind::Seller | CallerKind::Finder | CallerKind::Operator => {
                route.handler
            }
        };
        router = router.route(route.path, handler);
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
