//! The routes of pages: what without a session, what for another Seller's people, what for a viewer, what with a key, and
//! that each works for the right person.
//!
//! Never: a status taken for granted where the database can be looked at.

use std::collections::BTreeSet;

use reqwest::Method;
use truckradar::http::{CallerKind, routes};

use super::{METHODS, ask, assert_not_allowed, assert_refused, methods_of};
use crate::support::{
    binary::{PASSWORD, assert_same_rows},
    client::Answer,
    dealership::{About, Asked, Dealership, OTHER, OWN, page_routes, routes_of},
    person::Person,
};

/// Routes of a person who is signed in that name no Seller, and so have no wrong-Seller request. The list may only become
/// shorter.
const NAMES_NO_SELLER: [(&str, &str); 1] = [("POST", "/logout")];

/// Routes of a person's own things, which a viewer may use. The list may only become shorter.
const ONES_OWN: [(&str, &str); 7] = [
    ("POST", "/dashboard/settings/password"),
    ("POST", "/dashboard/settings/second-factor/begin"),
    ("POST", "/dashboard/settings/second-factor/codes"),
    ("POST", "/dashboard/settings/second-factor/confirm"),
    ("POST", "/dashboard/settings/second-factor/off"),
    ("POST", "/dashboard/settings/sessions/end"),
    ("POST", "/logout"),
];

/// A token of the right form that is nobody's.
const NOBODYS: &str = "0123456789abcdefghijABCDEFGHIJ0123456789abc";

/// Where a redirect leads.
fn leads_to(answer: &Answer) -> &str {
    assert_eq!(answer.status, 303, "{}", answer.text);
    answer.header("location")
}

/// The page to which a redirect to the sign-in leads back.
fn leads_back_to(answer: &Answer) -> String {
    let query = leads_to(answer).strip_prefix("/login?").unwrap_or_default();
    let mut fields = form_urlencoded::parse(query.as_bytes());
    let next = fields.next();
    assert!(fields.next().is_none(), "{query}");
    let (name, next) = next.unwrap_or_else(|| panic!("leads to {}", leads_to(answer)));
    assert_eq!(name, "next");
    next.into_owned()
}

#[tokio::test]
async fn whoever_is_not_signed_in_is_sent_to_sign_in_and_changes_nothing() {
    let dealership = Dealership::new().await;
    let at = dealership.served.api;
    let mut gone = dealership.person("owner", OWN).await;
    let ended = gone.session_token().expect("a session").to_owned();
    let page = gone.get("/dashboard").await;
    assert_eq!(gone.send(&page.form("/logout")).await.status, 303);
    let account = dealership.account(OWN, "owner").await;
    let before = dealership.place.everything().await;
    for route in routes_of(CallerKind::SignedIn) {
        let asked = account.request(&route);
        for token in [
            "",
            "nonsense",
            NOBODYS,
            &ended,
            &account.key,
            &account.invitation,
        ] {
            let mut person = Person::at(at);
            if !token.is_empty() {
                person.set_session_token(token);
            }
            // A key is no way in for a person, wherever it is put.
            for key in [None, Some(&account.key)] {
                let mut request = asked.of(&person);
                if let Some(key) = key {
                    request = request
                        .header("authorization", format!("Bearer {key}"))
                        .header("x-api-key", key);
                }
                let answer = person.ask(request).await;
                let back = leads_back_to(&answer);
                match route.method {
                    Method::GET => assert_eq!(back, asked.path),
                    _ => assert_eq!(back, "/dashboard/settings"),
                }
                assert_eq!(answer.header("set-cookie"), "", "{asked}");
                assert_eq!(answer.text, "", "{asked}");
            }
        }
    }
    let told = "somebody without a session";
    dealership.place.assert_unchanged(&before, told).await;
    // The way back is one.
    for route in routes_of(CallerKind::SignedIn) {
        let mut person = Person::at(at);
        let asked = account.request(&route);
        let sent = asked.by(&mut person).await;
        let page = person.get(leads_to(&sent)).await;
        let form = page.form("/login").with("email", &account.email);
        let signed_in = person.send(&form.with("password", PASSWORD)).await;
        assert_eq!(leads_to(&signed_in), leads_back_to(&sent), "{asked}");
        assert_eq!(person.get(leads_to(&signed_in)).await.status, 200);
    }
}

/// Nothing of a Seller is on a page but what the request itself said.
fn assert_says_nothing_of(words: &[String], answer: &Answer, asked: &Asked) {
    let said = format!("{asked:?}");
    for word in words {
        assert!(
            !answer.text.contains(word.as_str()) || said.contains(word.as_str()),
            "{asked}: {word} in {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn nobody_reaches_the_things_of_a_seller_that_they_are_no_member_of() {
    let dealership = Dealership::new().await;
    let mut owner = dealership.person("owner", OWN).await;
    dealership.person("owner", OTHER).await;
    let other = dealership.account(OTHER, "owner").await;
    let before = dealership.place.everything().await;
    for route in routes_of(CallerKind::SignedIn) {
        if NAMES_NO_SELLER.contains(&(route.method.as_str(), route.path)) {
            continue;
        }
        let asked = other.request(&route);
        let answer = asked.by(&mut owner).await;
        assert_eq!(answer.status, 403, "{asked}: {}", answer.text);
        assert!(answer.words().contains("Not one of your dealers"));
        assert_says_nothing_of(&other.words(), &answer, &asked);
        dealership.place.assert_unchanged(&before, &asked).await;
        // A Seller that is nobody's is answered alike.
        let mut nobodys = asked.clone();
        nobodys.path = asked.path.replace(OTHER, "no-such-dealer");
        for (name, text) in &mut nobodys.fields {
            if *name == "seller" {
                *text = "019af5a0-0000-7000-8000-000000000000".to_owned();
            }
        }
        let same = nobodys.by(&mut owner).await;
        let without_id = |answer: &Answer| answer.text.replace(answer.header("x-request-id"), "");
        assert_eq!(same.status, answer.status, "{asked}");
        assert_eq!(without_id(&same), without_id(&answer), "{asked}");
    }
}

#[tokio::test]
async fn naming_ones_own_seller_opens_no_way_to_anothers_things() {
    let dealership = Dealership::new().await;
    dealership.person("owner", OTHER).await;
    for route in routes_of(CallerKind::SignedIn) {
        let mut owner = dealership.person("owner", OWN).await;
        let own = dealership.account(OWN, "owner").await;
        let other = dealership.account(OTHER, "owner").await;
        let before = dealership.rows_of(&other).await;
        let (right, mut asked) = (own.request(&route), other.request(&route));
        // The other's things, but one's own Seller; and the other Seller once more, behind it.
        for (name, text) in &mut asked.fields {
            let own = right.fields.iter().find(|(own, _)| own == name);
            if let (true, Some((_, own))) = (["seller", "version"].contains(name), own) {
                own.clone_into(text);
            }
        }
        if asked.fields.iter().any(|(name, _)| *name == "seller") {
            asked.fields.push(("seller", other.seller.clone()));
        }
        if [About::Look, About::Inspect].contains(&asked.about) {
            asked.path = format!("{}?seller={OWN}&seller={OTHER}&q={}", route.path, other.vin);
        }
        let answer = asked.by(&mut owner).await;
        assert!(
            [200, 303, 422].contains(&answer.status.as_u16()),
            "{asked}: {}",
            answer.text
        );
        assert_says_nothing_of(&other.words(), &answer, &asked);
        assert_same_rows(&before, &dealership.rows_of(&other).await, &asked);
    }
}

/// What is shown once is shown at once; all other acts lead to a page, if they had to wait for a node by a link to it.
fn assert_done(answer: &Answer, asked: &Asked) {
    let shows = answer.text.contains("class=\"secret\"");
    let waited = answer
        .text
        .contains("<p><a class=\"button\" href=\"/dashboard/settings?seller=");
    let expected = if shows || waited { 200 } else { 303 };
    assert_eq!(answer.status, expected, "{asked}: {}", answer.text);
}

#[tokio::test]
async fn a_viewer_looks_at_everything_and_changes_their_own_things_only() {
    let dealership = Dealership::new().await;
    for route in routes_of(CallerKind::SignedIn) {
        let mut viewer = dealership.person("viewer", OWN).await;
        dealership.ready_for(route.path, "viewer", OWN).await;
        let account = dealership.account(OWN, "viewer").await;
        let before = dealership.place.everything().await;
        let asked = account.request(&route);
        let answer = asked.by(&mut viewer).await;
        match asked.about {
            About::Look => {
                assert_eq!(answer.status, 200, "{asked}: {}", answer.text);
                let words = account.words();
                let of_theirs = words.iter().any(|word| answer.text.contains(word));
                assert!(of_theirs, "{}", answer.text);
                dealership.place.assert_unchanged(&before, &asked).await;
            }
            About::Seller | About::Inspect => {
                assert_eq!(answer.status, 403, "{asked}: {}", answer.text);
                assert!(answer.words().contains("Your role does not allow this"));
                dealership.place.assert_unchanged(&before, &asked).await;
            }
            About::Oneself => {
                let name = (route.method.as_str(), route.path);
                assert!(ONES_OWN.contains(&name), "{asked} is not on the list");
                assert_done(&answer, &asked);
                assert_ne!(dealership.place.everything().await, before, "{asked}");
            }
            About::Nobody => panic!("{asked} needs a session and is about nobody"),
        }
    }
}

#[tokio::test]
async fn each_route_works_for_the_right_person() {
    let dealership = Dealership::new().await;
    for route in routes_of(CallerKind::SignedIn) {
        let mut owner = dealership.person("owner", OWN).await;
        // So that there is one to cut over, or to discard, whatever came before.
        dealership.prepare(OWN);
        dealership.ready_for(route.path, "owner", OWN).await;
        let account = dealership.account(OWN, "owner").await;
        let before = dealership.place.everything().await;
        let asked = account.request(&route);
        let answer = asked.by(&mut owner).await;
        let after = dealership.place.everything().await;
        if [About::Look, About::Inspect].contains(&asked.about) {
            assert_eq!(answer.status, 200, "{asked}: {}", answer.text);
            assert_same_rows(&before, &after, &asked);
        } else {
            assert_done(&answer, &asked);
            assert_ne!(after, before, "{asked}");
        }
    }
}

#[tokio::test]
async fn each_page_of_a_visitor_works_without_a_session() {
    let dealership = Dealership::new().await;
    let account = dealership.account(OWN, "owner").await;
    for route in routes_of(CallerKind::Visitor) {
        let asked = account.request(&route);
        assert_eq!(asked.about, About::Nobody, "{asked}");
        let before = dealership.place.everything().await;
        let mut somebody = Person::at(dealership.served.api);
        let answer = asked.by(&mut somebody).await;
        match (route.method.as_str(), route.path) {
            ("GET", "/") => assert_eq!(leads_to(&answer), "/dashboard"),
            // Nobody's code is awaited.
            (_, "/login/code") => assert_eq!(leads_to(&answer), "/login"),
            ("POST", "/login" | "/invitation") => {
                let joined = format!("/dashboard?seller={}", account.slug);
                let to = if route.path == "/login" {
                    "/dashboard"
                } else {
                    &joined
                };
                assert_eq!(leads_to(&answer), to);
                assert_eq!(somebody.get("/dashboard").await.status, 200);
            }
            ("POST", "/reset-password") => {
                assert_eq!(leads_to(&answer), "/login?done=password");
                assert_eq!(somebody.get("/dashboard").await.status, 303);
            }
            _ => assert_eq!(answer.status, 200, "{asked}: {}", answer.text),
        }
        if route.method == Method::GET {
            dealership.place.assert_unchanged(&before, &asked).await;
        }
    }
    // Somebody who is signed in need not do so again, and is shown no form for it.
    let mut owner = dealership.person("owner", OWN).await;
    assert_eq!(leads_to(&owner.get("/login").await), "/dashboard");
}

#[tokio::test]
async fn whoever_guesses_at_a_page_of_a_visitor_gets_no_session_and_changes_nothing() {
    let dealership = Dealership::new().await;
    let account = dealership.account(OWN, "owner").await;
    let before = dealership.place.everything().await;
    for route in routes_of(CallerKind::Visitor) {
        let mut asked = account.request(&route);
        if asked.method != Method::POST {
            continue;
        }
        for (name, text) in &mut asked.fields {
            match *name {
                "token" => NOBODYS.clone_into(text),
                "password" => text.push('!'),
                _ => {}
            }
        }
        for key in ["", &account.key] {
            let mut somebody = Person::at(dealership.served.api);
            let request = asked
                .of(&somebody)
                .header("authorization", format!("Bearer {key}"));
            let answer = somebody.ask(request).await;
            let expected = match route.path {
                "/login" => 422,
                "/login/code" => 303,
                "/forgot-password" => 200,
                _ => 410,
            };
            assert_eq!(answer.status, expected, "{asked}: {}", answer.text);
            assert_eq!(answer.header("set-cookie"), "", "{asked}");
            // That somebody failed to sign in is counted.
            let mut after = dealership.place.everything().await;
            after.retain(|row| !row.starts_with("sign_in_failures: "));
            assert_same_rows(&before, &after, &asked);
        }
    }
}

#[test]
fn the_lists_of_exceptions_for_pages_do_not_grow() {
    assert_eq!(NAMES_NO_SELLER, [("POST", "/logout")]);
    let own = [
        ("POST", "/dashboard/settings/password"),
        ("POST", "/dashboard/settings/second-factor/begin"),
        ("POST", "/dashboard/settings/second-factor/codes"),
        ("POST", "/dashboard/settings/second-factor/confirm"),
        ("POST", "/dashboard/settings/second-factor/off"),
        ("POST", "/dashboard/settings/sessions/end"),
        ("POST", "/logout"),
    ];
    assert_eq!(ONES_OWN, own);
    for (method, path) in NAMES_NO_SELLER.iter().chain(&ONES_OWN) {
        let is_there = routes()
            .iter()
            .any(|route| (route.method.as_str(), route.path) == (*method, *path));
        assert!(is_there, "{method} {path} is no more: take it off the list");
    }
}

#[tokio::test]
async fn a_page_without_a_request_would_be_noticed() {
    let dealership = Dealership::new().await;
    let account = dealership.account(OWN, "owner").await;
    for (method, path) in [
        (Method::GET, "/dashboard/new"),
        (Method::POST, "/dashboard/inventory"),
    ] {
        let asked = std::panic::catch_unwind(|| account.request_to(&method, path));
        assert!(asked.is_err(), "{method} {path}");
    }
}

#[tokio::test]
async fn head_of_a_page_is_its_get_without_the_body() {
    let dealership = Dealership::new().await;
    let mut owner = dealership.person("owner", OWN).await;
    let account = dealership.account(OWN, "owner").await;
    let gets = page_routes()
        .into_iter()
        .filter(|r| r.method == Method::GET);
    for route in gets {
        let asked = account.request(&route);
        let get = asked.by(&mut owner).await;
        let head = Asked {
            method: Method::HEAD,
            ..asked.clone()
        };
        let head = head.by(&mut owner).await;
        assert_eq!(head.status, get.status, "{asked}");
        assert_eq!(head.text, "", "{asked}");
        // Of a body that is not there, neither the length nor the form is told.
        let left_out = [
            "x-request-id",
            "date",
            "content-length",
            "transfer-encoding",
        ];
        for (name, value) in &get.headers {
            if !left_out.contains(&name.as_str()) {
                assert_eq!(head.headers.get(name), Some(value), "{asked}: {name}");
            }
        }
    }
}

#[tokio::test]
async fn pages_are_on_the_apis_address_only_and_by_their_own_methods_only() {
    let dealership = Dealership::new().await;
    let mut owner = dealership.person("owner", OWN).await;
    let account = dealership.account(OWN, "owner").await;
    let before = dealership.place.everything().await;
    let paths: BTreeSet<(&str, String)> = page_routes()
        .iter()
        .map(|route| {
            let asked = account.request(route).path;
            let path = asked.split('?').next().unwrap_or_default();
            (route.path, path.to_owned())
        })
        .collect();
    for (route, path) in paths {
        let asked = (path, None);
        for method in METHODS {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let answer = ask(dealership.served.admin, &method, &asked, None).await;
            assert_eq!(answer.status, 404, "{method} {route}");
            assert_eq!(answer.header("allow"), "", "{method} {route}");
            if methods_of(route).contains(method.as_str()) {
                continue;
            }
            // Whoever asks, and wherever their page is from.
            let answer = ask(dealership.served.api, &method, &asked, None).await;
            assert_not_allowed(&answer, &method, route);
            let request = owner.request(method.clone(), &asked.0);
            let answer = owner.ask(request).await;
            assert_eq!(answer.status, 405, "{method} {route}");
            assert!(!answer.header("allow").is_empty(), "{method} {route}");
            if method != Method::HEAD {
                assert!(answer.words().contains("This address cannot do that"));
            }
        }
    }
    let told = "a wrong method";
    dealership.place.assert_unchanged(&before, told).await;
}

#[tokio::test]
async fn what_is_not_there_is_a_page_for_a_browser_and_json_for_a_program() {
    let dealership = Dealership::new().await;
    for path in [
        "/nothing",
        "/dashboard/",
        "/dashboard/nothing",
        "/login/",
        "/static/",
        "/static/style.css",
        "/static/../Cargo.toml",
        "/static/%2e%2e%2fCargo.toml",
        "/static/%ff",
        "/%64ashboard",
        "//dashboard",
    ] {
        let page = Person::at(dealership.served.api).get(path).await;
        assert_eq!(page.status, 404, "{path}: {}", page.text);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        let words = page.words();
        assert!(words.contains("There is nothing here"), "{path}: {words}");
        assert!(words.contains(page.header("x-request-id")), "{words}");
        let asked = (path.to_owned(), None);
        let answer = ask(dealership.served.api, &Method::GET, &asked, None).await;
        if path.starts_with("/static/") && path != "/static/" {
            assert_eq!(answer.status, 404, "{path}");
        } else {
            assert_refused(&answer, 404, "NOT_FOUND", "", path);
        }
    }
}
