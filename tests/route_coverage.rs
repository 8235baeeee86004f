//! Walks the table of routes, so that no route can be added without being asked: what without a key, what with a bad one,
//! what about another dealer's things, what by another method, what on the other address? Pages are asked the same of
//! sessions, in [`pages`].
//!
//! Never: a route passed over; the list of those without a wrong-Seller case made longer.

mod pages;

use std::{collections::BTreeSet, net::SocketAddr};

use reqwest::Method;
use serde_json::{Value, json};
use truckradar::{
    http::{CallerKind, Route, routes},
    keys::format::SecretKey,
};

use crate::support::{
    binary::{Place, Served},
    client::{Answer, Client},
    dealership::{routes_of, style},
    fixtures::{OTHER_VINS, VIN, record},
};

/// Routes that name nothing but the caller itself, and so have no wrong-Seller request; they are searched for another's
/// data instead. The list may only become shorter.
const ONLY_ONES_OWN: [(&str, &str); 2] = [("GET", "/api/v1/inventory"), ("GET", "/api/v1/key")];

/// Methods tried on every path: all that are well known but CONNECT, which asks for no path, and some that are not.
const METHODS: [&str; 12] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "PROPFIND",
    "get", "BREW",
];

/// A dealer, and a word of each kind by which another could name what is its.
struct Dealer {
    slug: &'static str,
    vin: &'static str,
    key: String,
}

/// A request: its path and its body.
type Asked = (String, Option<Value>);

/// The request of a route that is about a dealer: right with that dealer's key, and wrong with any other.
fn request_about(method: &Method, path: &str, dealer: &Dealer) -> Asked {
    let Dealer { slug, vin, .. } = dealer;
    let body = match (method.as_str(), path) {
        ("GET", "/api/v1/key" | "/api/v1/inventory") => None,
        ("POST", "/api/v1/inventory") => Some(record(vin)),
        ("PATCH", "/api/v1/inventory") => Some(json!({"vin": vin, "status": "expired"})),
        ("GET", "/api/v1/inventory/{vin}") => return (format!("/api/v1/inventory/{vin}"), None),
        ("POST", "/api/v1/dealers") => Some(json!({"slug": slug, "name": "Taken over"})),
        ("PATCH", "/api/v1/dealers") => Some(json!({"slug": slug, "phone": "+1 555 0199"})),
        ("GET", "/api/v1/dealers/{slug}") => return (format!("/api/v1/dealers/{slug}"), None),
        (method, path) => panic!(
            "{method} {path} has no wrong-Seller case: tell tests/route_coverage.rs by which request one dealer could \
             reach for another's things through it"
        ),
    };
    (path.to_owned(), body)
}

/// A server with two dealers who have a listing each; the first one's key was replaced once.
struct World {
    served: Served,
    _place: Place,
    own: Dealer,
    other: Dealer,
    dead_key: String,
}

impl World {
    async fn new() -> Self {
        let place = Place::new();
        let served = place.serve(&[]);
        for slug in ["lone-star", "great-lakes"] {
            place.create_seller(slug);
        }
        let dead_key = place.generate("lone-star");
        let own = Dealer {
            slug: "lone-star",
            vin: VIN,
            key: place.generate("lone-star"),
        };
        let other = Dealer {
            slug: "great-lakes",
            vin: OTHER_VINS[0],
            key: place.generate("great-lakes"),
        };
        let world = Self {
            _place: place,
            served,
            own,
            other,
            dead_key,
        };
        for dealer in [&world.own, &world.other] {
            let asked = ("/api/v1/inventory".to_owned(), Some(record(dealer.vin)));
            let answer = world.ask(&Method::POST, &asked, Some(&dealer.key)).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
        world
    }

    /// Asks on the API's address.
    async fn ask(&self, method: &Method, asked: &Asked, key: Option<&str>) -> Answer {
        ask(self.served.api, method, asked, key).await
    }

    async fn ask_admin(&self, method: &Method, asked: &Asked, key: Option<&str>) -> Answer {
        ask(self.served.admin, method, asked, key).await
    }

    /// Everything that the other dealer can see of itself.
    async fn of_the_other(&self) -> String {
        let paths = [
            format!("/api/v1/dealers/{}", self.other.slug),
            format!("/api/v1/inventory/{}", self.other.vin),
            "/api/v1/inventory".to_owned(),
            "/api/v1/key".to_owned(),
        ];
        let mut seen = String::new();
        for path in paths {
            let answer = self
                .ask(&Method::GET, &(path, None), Some(&self.other.key))
                .await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            seen += &answer.text;
        }
        seen
    }
}

/// Asks as a browser's page on another site would, and looks at what every answer must have.
async fn ask(at: SocketAddr, method: &Method, (path, body): &Asked, key: Option<&str>) -> Answer {
    let client = Client::new(at, key);
    let mut request = client
        .request(method.clone(), path)
        .header("origin", "https://elsewhere.example")
        .header("access-control-request-method", method.as_str())
        .header("access-control-request-headers", "authorization");
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = client.send(request).await;
    let told = format!("{method} {path}: {answer:?}");
    assert!(!answer.header("x-request-id").is_empty(), "{told}");
    for name in answer.headers.keys() {
        assert!(!name.as_str().starts_with("access-control-"), "{told}");
    }
    answer
}

fn is_only_ones_own(route: &Route) -> bool {
    ONLY_ONES_OWN.contains(&(route.method.as_str(), route.path))
}

fn assert_refused(answer: &Answer, status: u16, code: &str, reason: &str, told: &str) {
    assert_eq!(answer.status, status, "{told}: {}", answer.text);
    assert_eq!(answer.code(), code, "{told}: {}", answer.text);
    assert_eq!(answer.reason(), reason, "{told}: {}", answer.text);
}

#[tokio::test]
async fn every_route_of_a_seller_needs_a_live_key() {
    let world = World::new().await;
    let unknown = SecretKey::generate().expect("randomness");
    for route in routes_of(CallerKind::Seller) {
        let asked = request_about(&route.method, route.path, &world.own);
        for (key, reason, challenge) in [
            (None, "missing", ""),
            (
                Some("tr_live_not-a-key"),
                "malformed",
                ", error=\"invalid_token\"",
            ),
            (
                Some(unknown.expose()),
                "unknown",
                ", error=\"invalid_token\"",
            ),
            (
                Some(world.dead_key.as_str()),
                "revoked",
                ", error=\"invalid_token\"",
            ),
        ] {
            let told = format!(
                "{} {} with a key that is {reason}",
                route.method, route.path
            );
            let answer = world.ask(&route.method, &asked, key).await;
            assert_refused(&answer, 401, "UNAUTHORIZED", reason, &told);
            let header = answer.header("www-authenticate");
            let expected = format!("Bearer realm=\"truckradar\"{challenge}");
            // RFC 6750 section 3: a caller without credentials is told of no error.
            if key.is_none() {
                assert_eq!(header, expected, "{told}");
            } else {
                assert!(header.starts_with(&expected), "{told}: {header}");
                assert!(
                    header.contains(", error_description=\""),
                    "{told}: {header}"
                );
            }
        }
        let answer = world.ask(&route.method, &asked, Some(&world.own.key)).await;
        assert_eq!(
            answer.status, 200,
            "{} {} with a live key: {}",
            route.method, route.path, answer.text
        );
    }
}

#[tokio::test]
async fn no_route_of_a_seller_reaches_another_sellers_things() {
    let world = World::new().await;
    let before = world.of_the_other().await;
    for route in routes_of(CallerKind::Seller) {
        let told = format!("{} {}", route.method, route.path);
        let asked = request_about(&route.method, route.path, &world.other);
        let answer = world.ask(&route.method, &asked, Some(&world.own.key)).await;
        if is_only_ones_own(&route) {
            assert_eq!(answer.status, 200, "{told}: {}", answer.text);
            assert!(answer.text.contains(match route.path {
                "/api/v1/key" => world.own.slug,
                _ => world.own.vin,
            }));
        } else {
            assert_refused(&answer, 403, "FORBIDDEN", "", &told);
        }
        // An answer, a refusal too, says nothing of the other but what the request itself said.
        let hint = &world.other.key[world.other.key.len() - 4..];
        let said = format!("{asked:?}");
        for word in [world.other.slug, world.other.vin, hint, "Taken over"] {
            assert!(
                !answer.text.contains(word) || said.contains(word),
                "{told}: {word} in {}",
                answer.text
            );
        }
        assert_eq!(world.of_the_other().await, before, "{told} changed it");
    }
    // Each of these requests was right but for the key.
    for route in routes_of(CallerKind::Seller) {
        let asked = request_about(&route.method, route.path, &world.other);
        let answer = world
            .ask(&route.method, &asked, Some(&world.other.key))
            .await;
        assert_eq!(
            answer.status, 200,
            "{} {}: {}",
            route.method, route.path, answer.text
        );
    }
    assert_ne!(world.of_the_other().await, before);
}

#[test]
fn the_list_of_routes_without_a_wrong_seller_case_does_not_grow() {
    let expected = [("GET", "/api/v1/inventory"), ("GET", "/api/v1/key")];
    assert_eq!(ONLY_ONES_OWN, expected);
    for (method, path) in ONLY_ONES_OWN {
        let is_there = routes()
            .iter()
            .any(|route| (route.method.as_str(), route.path) == (method, path));
        assert!(is_there, "{method} {path} is no more: take it off the list");
    }
}

#[test]
fn a_route_without_a_case_would_be_noticed() {
    let dealer = Dealer {
        slug: "lone-star",
        vin: VIN,
        key: String::new(),
    };
    for (method, path) in [
        (Method::GET, "/api/v1/new"),
        (Method::DELETE, "/api/v1/inventory/{vin}"),
    ] {
        let asked = std::panic::catch_unwind(|| request_about(&method, path, &dealer));
        assert!(asked.is_err(), "{method} {path}");
    }
}

#[test]
fn every_path_under_the_api_is_a_sellers_and_no_route_stands_twice() {
    let mut seen = BTreeSet::new();
    for route in routes() {
        assert_eq!(
            route.path.starts_with("/api/"),
            route.caller == CallerKind::Seller,
            "{}",
            route.path
        );
        assert!(seen.insert((route.method.to_string(), route.path)));
    }
    assert!(seen.len() >= 11, "{seen:?}");
}

/// The methods of a path, with the one that comes with GET.
fn methods_of(path: &str) -> BTreeSet<String> {
    let mut methods = BTreeSet::new();
    for route in routes().iter().filter(|route| route.path == path) {
        methods.insert(route.method.to_string());
        if route.method == Method::GET {
            methods.insert("HEAD".to_owned());
        }
    }
    methods
}

fn assert_not_allowed(answer: &Answer, method: &Method, path: &str) {
    let told = format!("{method} {path}: {answer:?}");
    assert_eq!(answer.status, 405, "{told}");
    let allowed: BTreeSet<String> = answer
        .header("allow")
        .split(", ")
        .map(str::to_owned)
        .collect();
    assert_eq!(allowed, methods_of(path), "{told}");
    if *method == Method::HEAD {
        assert_eq!(answer.text, "", "{told}");
    } else {
        assert_eq!(answer.code(), "METHOD_NOT_ALLOWED", "{told}");
    }
}

#[tokio::test]
async fn the_key_is_checked_before_the_method() {
    let world = World::new().await;
    for route in routes_of(CallerKind::Seller) {
        let (path, _) = request_about(&route.method, route.path, &world.own);
        let asked = (path, None);
        for method in METHODS {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let told = format!("{method} {}", route.path);
            // Those that the path has are asked in the tests above.
            let answer = world.ask(&method, &asked, None).await;
            assert_eq!(answer.status, 401, "{told}");
            assert!(!answer.header("www-authenticate").is_empty(), "{told}");
            assert_eq!(answer.header("allow"), "", "{told} says what is there");
            let answer = world.ask(&method, &asked, Some(&world.dead_key)).await;
            assert_eq!(answer.status, 401, "{told}");
            if !methods_of(route.path).contains(method.as_str()) {
                let answer = world.ask(&method, &asked, Some(&world.own.key)).await;
                assert_not_allowed(&answer, &method, route.path);
            }
        }
    }
}

#[tokio::test]
async fn what_finders_send_is_taken_on_the_apis_address_alone_by_post_and_by_nothing_else() {
    let world = World::new().await;
    for route in routes_of(CallerKind::Finder) {
        let told = format!("{} {}", route.method, route.path);
        assert_eq!(route.method, Method::POST, "{told}");
        let asked = (route.path.to_owned(), None);
        let answer = world.ask_admin(&route.method, &asked, None).await;
        assert_refused(&answer, 404, "NOT_FOUND", "", &told);
        // Whoever asks, and whatever key or page of another site they come with.
        for key in [None, Some(&*world.own.key), Some(&*world.dead_key)] {
            let answer = world.ask(&route.method, &asked, key).await;
            let expected = match route.path {
                "/secret-scanning/github" => 403,
                _ => 202,
            };
            assert_eq!(answer.status, expected, "{told}: {}", answer.text);
            assert_eq!(answer.header("set-cookie"), "", "{told}");
        }
        for method in METHODS {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            if !methods_of(route.path).contains(method.as_str()) {
                let answer = world.ask(&method, &asked, None).await;
                assert_not_allowed(&answer, &method, route.path);
            }
        }
    }
    let key = Some(&*world.own.key);
    let own = ("/api/v1/key".to_owned(), None);
    assert_eq!(world.ask(&Method::GET, &own, key).await.status, 200);
}

#[tokio::test]
async fn head_is_answered_as_get_without_the_body() {
    let world = World::new().await;
    let gets = routes().into_iter().filter(|r| r.method == Method::GET);
    for route in gets.filter(|route| route.caller == CallerKind::Seller) {
        let asked = request_about(&route.method, route.path, &world.own);
        let key = Some(world.own.key.as_str());
        let get = world.ask(&Method::GET, &asked, key).await;
        let head = world.ask(&Method::HEAD, &asked, key).await;
        assert_eq!(head.status, get.status, "{}", route.path);
        assert_eq!(head.text, "", "{}", route.path);
        for header in ["content-type", "content-length", "etag", "cache-control"] {
            assert_eq!(head.header(header), get.header(header), "{}", route.path);
        }
        assert_eq!(get.header("content-length"), get.text.len().to_string());
        // What is another's is no more told by HEAD.
        if !is_only_ones_own(&route) {
            let asked = request_about(&route.method, route.path, &world.other);
            let head = world.ask(&Method::HEAD, &asked, key).await;
            assert_eq!(head.status, 403, "{}", route.path);
        }
    }
}

#[tokio::test]
async fn each_address_has_the_routes_that_belong_there_and_no_others() {
    let world = World::new().await;
    let key = Some(world.own.key.as_str());
    for route in routes_of(CallerKind::Seller) {
        let asked = request_about(&route.method, route.path, &world.own);
        // The key comes first here too; then there is nothing.
        let answer = world.ask_admin(&route.method, &asked, None).await;
        assert_refused(&answer, 401, "UNAUTHORIZED", "missing", route.path);
        for method in METHODS {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let answer = world.ask_admin(&method, &asked, key).await;
            assert_eq!(answer.status, 404, "{method} {}", route.path);
            assert_eq!(answer.header("allow"), "", "{method} {}", route.path);
        }
    }
    for route in routes_of(CallerKind::Operator) {
        let asked = (route.path.to_owned(), None);
        let answer = world.ask_admin(&route.method, &asked, None).await;
        assert_eq!(answer.status, 200, "{}", route.path);
        for method in METHODS {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            for key in [None, key] {
                let answer = world.ask(&method, &asked, key).await;
                assert_eq!(answer.status, 404, "{method} {}", route.path);
                assert_eq!(answer.header("allow"), "", "{method} {}", route.path);
            }
            if !methods_of(route.path).contains(method.as_str()) {
                let answer = world.ask_admin(&method, &asked, None).await;
                assert_not_allowed(&answer, &method, route.path);
            }
        }
    }
    for route in routes_of(CallerKind::Anyone) {
        let path = match route.path {
            "/static/{file}" => style(),
            path => path.to_owned(),
        };
        let asked = (path, None);
        for address in [world.served.api, world.served.admin] {
            // A key, good or bad, is nothing that these look at.
            for key in [None, key, Some(&*world.dead_key), Some("nonsense")] {
                let answer = ask(address, &route.method, &asked, key).await;
                assert_eq!(answer.status, 200, "{}", route.path);
            }
            for method in METHODS {
                let method = Method::from_bytes(method.as_bytes()).expect("a method");
                if !methods_of(route.path).contains(method.as_str()) {
                    let answer = ask(address, &method, &asked, None).await;
                    assert_not_allowed(&answer, &method, route.path);
                }
            }
        }
    }
    // Nothing else is anywhere.
    let root = ("/".to_owned(), None);
    let answer = ask(world.served.admin, &Method::GET, &root, None).await;
    assert_refused(&answer, 404, "NOT_FOUND", "", "/");
    for path in ["/api", "/api/v2/key", "/bare", "/metricsx", "/healthz/"] {
        let asked = (path.to_owned(), None);
        for address in [world.served.api, world.served.admin] {
            let answer = ask(address, &Method::GET, &asked, None).await;
            assert_refused(&answer, 404, "NOT_FOUND", "", path);
        }
    }
    for path in ["/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v1/key/"] {
        let asked = (path.to_owned(), None);
        for address in [world.served.api, world.served.admin] {
            let answer = ask(address, &Method::GET, &asked, None).await;
            assert_refused(&answer, 401, "UNAUTHORIZED", "missing", path);
            let answer = ask(address, &Method::GET, &asked, key).await;
            assert_refused(&answer, 404, "NOT_FOUND", "", path);
        }
    }
}
