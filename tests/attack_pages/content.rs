//! Somebody frames a page, or gets a line of their own into one: what every answer says to browsers against that.
//!
//! Never: an answer of the pages' side without the headers, whatever its status.

use reqwest::Method;

use super::assert_plain;
use crate::support::{
    client::{Answer, Client},
    dealership::{Dealership, OWN, page_routes},
    person::{Form, Person},
};

/// What every answer outside of the API carries.
const PROTECTION: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

fn assert_protected(answer: &Answer, told: &str) {
    for (name, value) in PROTECTION {
        let values: Vec<_> = answer.headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{told}: {name}");
    }
    for name in answer.headers.keys() {
        let name = name.as_str();
        assert!(!name.starts_with("access-control-"), "{told}: {name}");
        assert!(
            !["server", "x-powered-by"].contains(&name),
            "{told}: {name}"
        );
    }
    let is_page = answer.header("content-type").starts_with("text/html");
    if is_page {
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert_plain(&answer.text, told);
    }
    let kept = answer.header("cache-control");
    if told.contains("/static/") && answer.status == 200 {
        assert_eq!(kept, "public, max-age=31536000, immutable", "{told}");
    } else {
        assert_eq!(kept, "no-store", "{told}");
    }
}

#[tokio::test]
async fn every_answer_of_every_page_can_be_framed_by_nobody_and_runs_nothing_but_our_script() {
    let dealership = Dealership::new().await;
    let at = dealership.served.api;
    for route in page_routes() {
        let mut owner = dealership.person("owner", OWN).await;
        let mut viewer = dealership.person("viewer", OWN).await;
        let account = dealership.account(OWN, "owner").await;
        let asked = account.request(&route);
        // Somebody without a session, of another site, with a form that is none, by another method, who may not, who may.
        let mut somebody = Person::at(at);
        let other_site = [("sec-fetch-site", "cross-site")];
        let mut answers = vec![("nobody", asked.by(&mut somebody).await)];
        let mut request = asked.of(&owner);
        for (name, value) in other_site {
            request = request.header(name, value);
        }
        answers.push(("another site", owner.ask(request).await));
        let request = owner.request(Method::POST, &asked.path).body("{}");
        answers.push(("no form", owner.ask(request).await));
        let request = owner.request(Method::PUT, &asked.path);
        answers.push(("PUT", owner.ask(request).await));
        let empty = Form::made_up(&asked.path, [("seller", account.seller.as_str())]);
        answers.push(("an empty form", viewer.send(&empty).await));
        if route.path != "/logout" {
            let mut third = dealership.person("owner", OWN).await;
            answers.push(("an empty form of the owner's", third.send(&empty).await));
        }
        answers.push(("the viewer", asked.by(&mut viewer).await));
        answers.push(("the owner", asked.by(&mut owner).await));
        for (who, answer) in answers {
            assert_protected(&answer, &format!("{asked} by {who}: {}", answer.status));
        }
        dealership
            .place
            .change("DELETE FROM sign_in_failures")
            .await;
    }
}

#[tokio::test]
async fn errors_outside_of_every_page_are_protected_too() {
    let dealership = Dealership::with(&["--public-url", "https://truckradar.example"]).await;
    let at = dealership.served.api;
    for accept in ["text/html", "application/json", "*/*"] {
        let client = Client::new(at, None);
        let ask = async |path: &str, headers: &[(&str, &str)]| {
            let mut request = client.request(Method::GET, path).header("accept", accept);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            client.send(request).await
        };
        let long = "x".repeat(17 << 10);
        for (path, headers, status) in [
            ("/nothing", &[][..], 404),
            ("/static/none.css", &[], 404),
            ("/login", &[("host", "evil.example")], 421),
            ("/login", &[("x-long", long.as_str())], 431),
            ("/healthz", &[], 200),
            ("/api", &[], 404),
            ("/metrics", &[], 404),
        ] {
            let answer = ask(path, headers).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.text);
            assert_protected(&answer, &format!("{path} as {accept}"));
            let expected = "max-age=31536000";
            assert_eq!(answer.header("strict-transport-security"), expected);
        }
    }
}

#[tokio::test]
async fn the_pages_that_follow_an_act_are_protected_too() {
    let dealership = Dealership::new().await;
    let mut owner = dealership.person("owner", OWN).await;
    let page = owner.get("/dashboard/settings").await;
    let form = page.form_with_id("generate-api-key");
    // The page that asks whether to.
    let asked = owner.send(&form).await;
    assert!(asked.shown_key().is_none());
    assert_protected(&asked, "regenerate?");
    let made = owner.send(&asked.form_with_id("generate-api-key")).await;
    assert!(made.shown_key().is_some());
    assert_protected(&made, "regenerated");
    let again = owner.send(&asked.form_with_id("generate-api-key")).await;
    assert_eq!(again.status, 409);
    assert_protected(&again, "a conflict");
    let wrong = owner.send(&form.with("version", "x")).await;
    assert_eq!(wrong.status, 422);
    assert_protected(&wrong, "no version");
    dealership
        .place
        .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
        .await;
    let form = page.form("/dashboard/settings/members/invite");
    let form = form.with("email", "bob@yard.example");
    let asked = owner.send(&form).await;
    assert!(asked.words().contains("Confirm that it is you"));
    assert_protected(&asked, "the password, please");
    for path in [
        "/dashboard/inventory?status=sold",
        "/dashboard/inventory?q=nothing",
        "/dashboard/inventory?after=019af5a0-0000-7000-8000-000000000000",
        "/dashboard/settings?done=password",
        "/invitation?token=x",
        "/reset-password",
    ] {
        assert_protected(&owner.get(path).await, path);
    }
}
