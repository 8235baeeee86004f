//! What every request meets first, and what is added to every response.
//!
//! In order: a request id; the size of the headers; for whatever is under `/api/v1/`, the key, before the path, the method
//! or the body are looked at; fair use; for pages, the name by which they are asked for. Then the router. Then the response gets its headers, and the request is counted.
//!
//! Never: a handler under `/api/v1/` reached without a verified caller; a lock held while a handler runs; a query string,
//! a cookie or an Authorization header in a log.

use std::{
    convert::Infallible,
    future::Future,
    io::Write,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    BoxError, Router,
    body::{Body, Bytes, HttpBody},
    extract::ConnectInfo,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header},
    response::{IntoResponse, Response},
};
use tower::Service;
use uuid::Uuid;

use super::{
    State,
    caller::{self, ClientAddress, RequestId, Verified},
    error::{ApiError, ApiProblem, Code, KeyBarred},
    hosts,
    metrics::RefusedBecause,
    pages, path,
    problem::{self, Problem},
};
use crate::{
    clock::BootTime,
    config::RateLimitMode,
    keys::{
        format,
        limits::{Allowance, Policy},
        table::KeyRecord,
        usage::StatusClass,
        verify::{self, Presented, Refusal},
    },
};

/// Where the bare route of `bench/http` is.
#[cfg(feature = "bench-bare")]
pub(super) const BARE_PATH: &str = "/bare";

/// A header's value may have this many bytes, which admits 16 KiB after a scheme.
const HEADER_VALUE_BYTES_MAX: usize = (16 << 10) + 64;
/// All headers together may have this many.
const HEADERS_BYTES_MAX: usize = 48 << 10;
/// Room for the longest `RateLimit` header: a name of ten characters and two numbers of twenty.
const RATE_LIMIT_BYTES_MAX: usize = 60;
/// A request id that a caller sent is echoed up to this length.
const REQUEST_ID_CHARS_MAX: usize = 64;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A browser that came over TLS once shall not come without for a year.
const STAY_WITH_TLS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Which of the two addresses a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The world's.
    Api,
    /// The operator's, private and plain.
    Admin,
}

/// The router with the edge in front of it.
#[derive(Clone)]
pub(super) struct Edge {
    state: Arc<State>,
    router: Router,
    side: Side,
}

impl Edge {
    pub(super) fn new(state: Arc<State>, router: Router, side: Side) -> Self {
        Self {
            state,
            router,
            side,
        }
    }
}

impl<B> Service<Request<B>> for Edge
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let request = request.map(Body::new);
        #[cfg(feature = "bench-bare")]
        if request.uri().path() == BARE_PATH {
            return Box::pin(self.router.call(request));
        }
        let mut router = self.router.clone();
        let (state, side) = (Arc::clone(&self.state), self.side);
        Box::pin(async move { Ok(answer(&state, &mut router, request, side).await) })
    }
}

/// What the edge came to know of a request's caller.
enum Known {
    /// Nobody in particular, or nobody yet.
    Nobody,
    /// A key of ours, live or dead, to count the request for.
    Key(KeyRecord),
}

async fn answer(
    state: &State,
    router: &mut Router,
    mut request: Request<Body>,
    side: Side,
) -> Response {
    let services = &state.services;
    let began = services.clock.boot();
    let id = request_id(request.headers());
    let is_api = path::needs_key(request.uri().path());
    let method = request.method().clone();
    let user_agent = request.headers().get(header::USER_AGENT).cloned();
    let client = client_address(&request, state);

    let wants_page = !is_api && problem::wants_page(request.headers());
    if !is_api {
        let id = RequestId(String::from_utf8_lossy(&id).into());
        request.extensions_mut().insert(id);
        request.extensions_mut().insert(ClientAddress(client));
    }
    let path = tracing::enabled!(tracing::Level::DEBUG).then(|| loggable(request.uri().path()));

    let mut known = Known::Nobody;
    let mut limit = None;
    let admitted = if is_api {
        admit(state, &mut request, client, began, &mut known, &mut limit).await
    } else {
        admit_unknown(state, &request, side)
    };
    let mut response = match admitted {
        Ok(()) => {
            // A handler that panics is answered for; the panic's own words go to the log, redacted (see `crate::app`).
            let call = AssertUnwindSafe(router.call(request));
            match catch_unwind(call).await {
                Some(response) => response,
                None => ApiError::internal().into_response(),
            }
        }
        Err(error) => error.into_response(),
    };

    if !is_api {
        response = as_page(response, wants_page, &id);
    }
    let status = response.status().as_u16();
    let headers = response.headers_mut();
    // Kept only for a log that is written: cloning it costs an allocation.
    let logged_id = path.as_ref().map(|_| id.clone());
    if let Ok(id) = HeaderValue::from_maybe_shared(id) {
        headers.insert(X_REQUEST_ID, id);
    }
    if side == Side::Api && services.settings.https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, STAY_WITH_TLS);
    }
    if let Some((policy, allowance)) = limit {
        add_limit_headers(headers, policy, allowance);
    }
    if is_api {
        // Answers are for the holder of one key, and a key's answers change from one moment to the next.
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("private, no-cache"));
        let class = match response.extensions().get::<KeyBarred>() {
            Some(KeyBarred) => StatusClass::Barred,
            None => StatusClass::of(status),
        };
        state.metrics.answered(class);
        if let Known::Key(record) = known
            && counts_use()
        {
            let agent = user_agent.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
            let at = services.clock.now();
            services.keys.usage.count(record, class, client, agent, at);
        }
        let took = services.clock.boot().since(began);
        state.metrics.request_seconds.observe(took.as_secs_f64());
    }
    if let Some(path) = path {
        let key = match known {
            Known::Nobody => None,
            Known::Key(record) => Some(record.key),
        };
        tracing::debug!(
            id = %String::from_utf8_lossy(&logged_id.unwrap_or_default()),
            method = %format::redact(method.as_str()),
            path,
            status,
            key = key.map(tracing::field::display),
            %client,
            took_us = services.clock.boot().since(began).as_micros() as u64,
            "request"
        );
    }
    response
}

/// Whether requests are counted for their key: always, but where `bench/http` measures what that costs.
#[cfg(not(feature = "bench-bare"))]
const fn counts_use() -> bool {
    true
}

/// The same in a build for benchmarks, where the environment can say no; it is asked once.
#[cfg(feature = "bench-bare")]
fn counts_use() -> bool {
    static COUNTS: std::sync::LazyLock<bool> =
        std::sync::LazyLock::new(|| std::env::var_os("TRUCKRADAR_BENCH_UNCOUNTED").is_none());
    *COUNTS
}

/// A response outside of the API: what went wrong becomes a page, and every response gets what protects a browser.
fn as_page(mut response: Response, wants_page: bool, id: &[u8]) -> Response {
    let extensions = response.extensions_mut();
    let problem = extensions.remove::<Problem>().or_else(|| {
        let api = extensions.remove::<ApiProblem>().filter(|_| wants_page);
        api.map(|ApiProblem(problem)| problem)
    });
    if let Some(problem) = problem {
        let mut page = problem.page(&String::from_utf8_lossy(id));
        // What the response said besides, such as `Allow`, or a session's new cookie.
        for (name, value) in response.headers() {
            let of_the_body = [
                header::CONTENT_TYPE,
                header::CONTENT_LENGTH,
                header::CACHE_CONTROL,
            ];
            if !of_the_body.contains(name) {
                page.headers_mut().append(name, value.clone());
            }
        }
        response = page;
    }
    pages::add_security_headers(response.headers_mut());
    response
}

/// A path as the log may hold it: never a query string, nor a key that strayed into it, however it is spelt.
fn loggable(path: &str) -> String {
    if path::is_plain(path) {
        format::redact(path).into_owned()
    } else {
        "(a path that is not plainly spelt)".to_owned()
    }
}

/// Decides whether a request that needs no key may go on to the router.
fn admit_unknown(state: &State, request: &Request<Body>, side: Side) -> Result<(), ApiError> {
    check_headers(request.headers())?;
    if hosts::any_will_do(request.uri().path()) {
        return Ok(());
    }
    let host = hosts::asked_for(request);
    let (is_ours, message) = match side {
        Side::Api => (
            hosts::is_ours(host, &state.services.settings.public_urls),
            "This server is not known by the name that you asked for. Use the marketplace's own address.",
        ),
        Side::Admin => (
            hosts::is_address(host),
            "The operator's pages are asked for by IP address, or as localhost, and under no other name.",
        ),
    };
    if is_ours {
        return Ok(());
    }
    Err(ApiError::new(Code::MisdirectedRequest, message))
}

/// Decides whether a request that needs a key may go on to the router.
async fn admit(
    state: &State,
    request: &mut Request<Body>,
    client: IpAddr,
    now: BootTime,
    known: &mut Known,
    limit: &mut Option<(Policy, Allowance)>,
) -> Result<(), ApiError> {
    check_headers(request.headers())?;
    let keys = &state.services.keys;
    let presented = verify::read_authorization(
        request
            .headers()
            .get_all(header::AUTHORIZATION)
            .iter()
            .map(HeaderValue::as_bytes),
    );
    let asked = verify::Request {
        presented,
        named: caller::named(request.headers()),
        from: client,
    };
    let verdict = keys.revocation.judge(&asked, &state.services.clock);
    let verdict = match (verdict, presented) {
        (Err(Refusal::CannotKnow), Presented::Key(digest)) => {
            keys.ask_primary(digest, &asked).await
        }
        (verdict, _) => verdict,
    };
    let caller = match verdict {
        Ok(caller) => caller,
        Err(refusal) => {
            if let Refusal::Revoked(record)
            | Refusal::Staged(record)
            | Refusal::Forbidden(record, _) = refusal
            {
                *known = Known::Key(record);
            }
            if let Refusal::Forbidden(record, _) = refusal {
                note_origin(state, request, record);
            }
            state.metrics.refused(because(refusal));
            return Err(refusal.into());
        }
    };
    let record = caller.record();
    *known = Known::Key(record);
    note_origin(state, request, record);

    let policy = policy_of(request);
    let allowance = keys.limits.count(record.key, policy, now);
    *limit = Some((policy, allowance));
    if !allowance.within {
        state.metrics.over_limit.inc();
        if state.services.settings.rate_limits == RateLimitMode::Enforce {
            return Err(ApiError::rate_limited(Duration::from_secs(
                allowance.retry_after_s,
            )));
        }
    }
    request.extensions_mut().insert(Verified(caller, client));
    Ok(())
}

/// Notes that a browser sent a key that lives, even one that may not act from there: whoever has none cannot have anything said
/// about one, and of a dead one there is nothing to say.
fn note_origin(state: &State, request: &Request<Body>, record: KeyRecord) {
    if let Some(origin) = request.headers().get(header::ORIGIN) {
        let at = state.services.clock.now();
        let origins = &state.services.keys.origins;
        origins.note(record, origin.as_bytes(), at);
    }
}

fn because(refusal: Refusal) -> RefusedBecause {
    match refusal {
        Refusal::Missing => RefusedBecause::Missing,
        Refusal::Malformed => RefusedBecause::Malformed,
        Refusal::Unknown => RefusedBecause::Unknown,
        Refusal::Revoked(_) => RefusedBecause::Revoked,
        Refusal::Staged(_) => RefusedBecause::Staged,
        Refusal::Forbidden(..) => RefusedBecause::Forbidden,
        Refusal::CannotKnow => RefusedBecause::CannotKnow,
    }
}

fn policy_of(request: &Request<Body>) -> Policy {
    if request.method() == Method::POST && request.uri().path() == "/api/v1/inventory" {
        Policy::Batches
    } else {
        Policy::Default
    }
}

fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut bytes = 0;
    for (name, value) in headers {
        bytes += name.as_str().len() + value.len() + 4;
        if value.len() > HEADER_VALUE_BYTES_MAX {
            bytes = usize::MAX;
            break;
        }
    }
    if bytes > HEADERS_BYTES_MAX {
        return Err(ApiError::new(
            Code::HeadersTooLarge,
            "The request's headers are too large: a header may have 16 KiB.",
        ));
    }
    Ok(())
}

/// The caller's own request id if it is short, plain, and not a key that strayed here; else a new one.
fn request_id(headers: &HeaderMap) -> Bytes {
    let sent = headers.get(X_REQUEST_ID).map(HeaderValue::as_bytes);
    if let Some(sent) = sent
        && (1..=REQUEST_ID_CHARS_MAX).contains(&sent.len())
        && sent
            .iter()
            .all(|c| c.is_ascii_alphanumeric() || b"-_.:".contains(c))
        && !sent
            .windows(format::PREFIX.len())
            .any(|part| part == format::PREFIX.as_bytes())
    {
        return Bytes::copy_from_slice(sent);
    }
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    Uuid::now_v7().hyphenated().encode_lower(&mut text);
    Bytes::copy_from_slice(&text)
}

/// The address that the request came from: the connection's, unless that is a trusted proxy's; then the right-most
/// address in `X-Forwarded-For` that is not one's.
fn client_address(request: &Request<Body>, state: &State) -> IpAddr {
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::from([0, 0, 0, 0]), |ConnectInfo(peer)| {
            peer.ip().to_canonical()
        });
    let trusted = &state.services.settings.trusted_proxies;
    if trusted.is_empty() {
        return peer;
    }
    forwarded_address(peer, request.headers(), |address| {
        trusted.iter().any(|network| network.contains(&address))
    })
}

fn forwarded_address(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut address = peer;
    // By bytes: a hop that is no text was put there by a client and must not hide the ones that proxies added after it.
    let hops = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .collect::<Vec<_>>();
    for hop in hops.into_iter().rev() {
        if !trusted(address) {
            break;
        }
        match std::str::from_utf8(hop).ok().and_then(address_of_hop) {
            Some(hop) => address = hop,
            None => break,
        }
    }
    address
}

fn address_of_hop(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    // Some proxies add a port.
    let with_port = || hop.parse::<SocketAddr>().map(|with_port| with_port.ip());
    let address = hop.parse::<IpAddr>().or_else(|_| with_port()).ok()?;
    Some(address.to_canonical())
}

fn add_limit_headers(headers: &mut HeaderMap, policy: Policy, allowance: Allowance) {
    let policies = match policy {
        Policy::Default => HeaderValue::from_static(r#""default";q=60;w=60"#),
        Policy::Batches => HeaderValue::from_static(r#""batches";q=10;w=60"#),
    };
    headers.insert(RATE_LIMIT_POLICY, policies);
    let Allowance {
        remaining, reset_s, ..
    } = allowance;
    // Written on the stack: this is done for every request.
    let mut text = [0; RATE_LIMIT_BYTES_MAX];
    let mut rest = &mut text[..];
    let written = write!(rest, "\"{}\";r={remaining};t={reset_s}", policy.name());
    let unused = rest.len();
    if let (Ok(()), Ok(value)) = (
        written,
        HeaderValue::from_bytes(&text[..RATE_LIMIT_BYTES_MAX - unused]),
    ) {
        headers.insert(RATE_LIMIT, value);
    }
}

/// Polls a future to its end, or to its panic, which is `None`.
async fn catch_unwind<F>(future: AssertUnwindSafe<F>) -> Option<Response>
where
    F: Future<Output = Result<Response, Infallible>>,
{
    let mut future = std::pin::pin!(future.0);
    std::future::poll_fn(move |context| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(response))) => Poll::Ready(Some(response)),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_addresses_are_read_from_the_right_and_only_from_trusted_hops() {
        let trusted = |address: IpAddr| address.to_string().starts_with("10.");
        let read = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(
                    X_FORWARDED_FOR,
                    HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
                );
            }
            forwarded_address(peer.parse().expect("an address"), &headers, trusted).to_string()
        };
        assert_eq!(read("203.0.113.1", &["198.51.100.1"]), "203.0.113.1");
        assert_eq!(read("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(read("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(read("10.0.0.1", &["1.2.3.4, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(
            read("10.0.0.1", &["1.2.3.4, 198.51.100.1, 10.0.0.2"]),
            "198.51.100.1"
        );
        assert_eq!(
            read("10.0.0.1", &["1.2.3.4", "198.51.100.1:4711"]),
            "198.51.100.1"
        );
        assert_eq!(read("10.0.0.1", &["junk, 10.0.0.3"]), "10.0.0.3");
        assert_eq!(read("10.0.0.1", &["::ffff:198.51.100.1"]), "198.51.100.1");
        // What a client sends that is no text hides nobody.
        assert_eq!(read("10.0.0.1", &["é, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(read("10.0.0.1", &["é", "198.51.100.1"]), "198.51.100.1");
        assert_eq!(read("10.0.0.1", &["198.51.100.1, é"]), "10.0.0.1");
    }

    #[test]
    fn a_request_id_is_echoed_only_if_it_is_sane() {
        let read = |sent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(sent).expect("a value"));
            String::from_utf8(request_id(&headers).to_vec()).expect("text")
        };
        assert_eq!(read("abc-123_x.y:z"), "abc-123_x.y:z");
        for odd in [
            "",
            "a b",
            "a,b",
            "<x>",
            &"a".repeat(65),
            "tr_live_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p61m7ev9",
        ] {
            let id = read(odd);
            assert_eq!(id.len(), 36, "{odd}");
            assert_ne!(id, odd);
        }
    }
}
