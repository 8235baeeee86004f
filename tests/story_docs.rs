//! The documentation as somebody reads it who comes by a link, with no account: every page is there, every link leads
//! somewhere, and the addresses in it are this marketplace's own.
//!
//! Never: a page told from its source; the pages are read as the server sends them.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::{Method, header};
use serde_json::json;

use crate::support::{
    binary::{Place, Served},
    client::{Answer, Client},
    fixtures::VIN,
};

/// The pages of the documentation in their order.
const PAGES: [&str; 12] = [
    "/docs",
    "/docs/quickstart",
    "/docs/authentication",
    "/docs/leaks",
    "/docs/accounts",
    "/docs/inventory",
    "/docs/dealers",
    "/docs/platforms",
    "/docs/errors",
    "/docs/limits",
    "/docs/scaling",
    "/docs/security",
];

const CONTACTS: [&str; 4] = [
    "--security-contact",
    "holes@radar.example",
    "--sales-contact",
    "plans@radar.example",
];

/// Every value of an attribute in a page, as it was before it was escaped.
fn values(html: &str, attribute: &str) -> Vec<String> {
    html.split(&format!(" {attribute}=\""))
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(|value| value.replace("&amp;", "&").replace("&#38;", "&"))
        .collect()
}

/// Every path of the documentation that a page's text names, such as the `details.docs` of an example.
fn named_paths(html: &str) -> Vec<String> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/#_-".contains(c);
    html.match_indices("/docs/")
        .map(|(at, _)| html[at..].chars().take_while(|c| is_path(*c)).collect())
        .collect()
}

/// What of these links leads nowhere. A page's ids are known by its path; `answers` says which other paths do.
fn dead_links(
    ids: &BTreeMap<String, BTreeSet<String>>,
    links: &BTreeSet<(String, String)>,
    answers: impl Fn(&str) -> bool,
) -> Vec<String> {
    let leads_somewhere = |from: &str, link: &str| {
        let (path, id) = match link.split_once('#') {
            Some((path, id)) => (path, Some(id)),
            None => (link, None),
        };
        let path = if path.is_empty() { from } else { path };
        match (ids.get(path), id) {
            (Some(ids), Some(id)) => ids.contains(id),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => answers(path),
        }
    };
    links
        .iter()
        .filter(|(from, link)| !leads_somewhere(from, link))
        .map(|(from, link)| format!("{from}: {link}"))
        .collect()
}

async fn read(served: &Served, path: &str) -> Answer {
    let client = Client::new(served.api, None);
    let request = client.request(Method::GET, path);
    client
        .send(request.header(header::ACCEPT, "text/html"))
        .await
}

#[tokio::test]
async fn every_page_is_there_for_everybody_and_every_link_leads_somewhere() {
    let place = Place::new();
    let served = place.serve(&CONTACTS);
    let mut ids = BTreeMap::new();
    let mut links = BTreeSet::new();
    let mut others = BTreeMap::new();
    for path in PAGES {
        let page = read(&served, path).await;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(
            page.header("content-type"),
            "text/html; charset=utf-8",
            "{path}"
        );
        assert!(page.header("set-cookie").is_empty(), "{path}");
        let found = values(&page.text, "id");
        let distinct: BTreeSet<String> = found.iter().cloned().collect();
        assert_eq!(
            found.len(),
            distinct.len(),
            "{path}: an id stands twice: {found:?}"
        );
        // What is copied, and what labels something, is there.
        for attribute in ["data-copy", "aria-labelledby"] {
            for id in values(&page.text, attribute) {
                assert!(distinct.contains(&id), "{path}: {attribute} {id}");
            }
        }
        assert_eq!(
            values(&page.text, "data-copy").len(),
            page.text.matches("<pre ").count(),
            "{path}: every example can be copied"
        );
        assert_eq!(page.text.matches("<h1").count(), 1, "{path}");
        assert!(
            page.text.contains("aria-current=\"page\">Docs</a>"),
            "{path}"
        );
        ids.insert(path.to_owned(), distinct);
        let hrefs = values(&page.text, "href").into_iter();
        for link in hrefs.chain(named_paths(&page.text)) {
            assert!(!link.contains(".md"), "{path}: {link}");
            if link.starts_with("mailto:") {
                continue;
            }
            assert!(link.starts_with(['/', '#']), "{path}: {link} leads away");
            links.insert((path.to_owned(), link));
        }
        // Nothing is left that stands for another marketplace's address.
        for word in [
            "truckradar.example",
            "security@truckradar.ai",
            "sales@truckradar.ai",
        ] {
            assert!(!page.text.contains(word), "{path}: {word}");
        }
        assert!(
            !page.text.contains("expect 200"),
            "{path}: a comment for the tests"
        );
    }
    for (_, link) in &links {
        let path = link.split('#').next().unwrap_or_default();
        if !path.is_empty() && !ids.contains_key(path) {
            let status = read(&served, path).await.status;
            others.insert(path.to_owned(), status.is_success());
        }
    }
    let answers = |path: &str| others.get(path).copied().unwrap_or(false);
    assert_eq!(dead_links(&ids, &links, answers), Vec::<String>::new());
    assert!(links.len() > 100, "{}", links.len());

    // The checker sees what is dead.
    let of = |link: &str| BTreeSet::from([("/docs/errors".to_owned(), link.to_owned())]);
    for dead in [
        "/docs/errors#teapot",
        "#teapot",
        "/docs/teapot",
        "/docs/teapot#a",
        "/teapot",
    ] {
        assert_eq!(dead_links(&ids, &of(dead), answers).len(), 1, "{dead}");
    }
}

#[tokio::test]
async fn pages_name_the_configured_contacts() {
    let place = Place::new();
    let served = place.serve(&CONTACTS);
    for path in ["/docs", "/docs/authentication"] {
        let page = read(&served, path).await.text;
        for contact in ["holes@radar.example", "plans@radar.example"] {
            let link = format!("<a href=\"mailto:{contact}\">{contact}</a>");
            assert!(page.contains(&link), "{path}: {contact}");
        }
    }
    // And who configured nothing has those of the marketplace for which the program was made.
    let place = Place::new();
    let served = place.serve(&[]);
    let page = read(&served, "/docs/authentication").await.text;
    assert!(page.contains("<a href=\"mailto:security@truckradar.ai\">security@truckradar.ai</a>"));
}

#[tokio::test]
async fn a_page_that_is_not_there_leads_back_to_those_that_are() {
    let place = Place::new();
    let served = place.serve(&[]);
    for path in [
        "/docs/teapot",
        "/docs/errors.md",
        "/docs/operating",
        "/docs/..%2Flogin",
        "/docs/%3Cb%3E",
    ] {
        let page = read(&served, path).await;
        assert_eq!(page.status, 404, "{path}");
        assert!(
            page.text.contains("<a class=\"button\" href=\"/docs\">"),
            "{path}: {}",
            page.text
        );
        assert!(!page.text.contains("<b>"), "{path}");
    }
}

#[tokio::test]
async fn whoever_is_signed_in_keeps_the_way_to_the_dashboard() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let client = Client::new(served.api, None);
    // The library would follow the redirect without the cookie.
    let form = "email=owner%40lone-star.example&password=correct+horse+battery";
    let (status, answer) = crate::support::client::raw_request(
        served.api,
        "POST",
        "/login",
        &format!(
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ),
    );
    assert_eq!(status, 303, "{answer}");
    let cookie = answer
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .and_then(|value| value.split(';').next())
        .expect("a session's cookie");
    for path in ["/docs", "/docs/errors"] {
        let request = client
            .request(Method::GET, path)
            .header(header::COOKIE, cookie);
        let page = client.send(request).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.text.contains("href=\"/dashboard/settings\""), "{path}");
        assert!(page.text.contains("owner@lone-star.example"), "{path}");
        // A page that names somebody is nobody else's.
        assert_eq!(page.header("cache-control"), "no-store", "{path}");
    }
}

#[tokio::test]
async fn security_txt_says_whom_to_write_to_and_until_when_that_holds() {
    let place = Place::new();
    let served = place.serve(&CONTACTS);
    let file = read(&served, "/.well-known/security.txt").await;
    assert_eq!(file.status, 200);
    assert_eq!(file.header("content-type"), "text/plain; charset=utf-8");
    let mut fields = BTreeMap::new();
    for line in file.text.lines() {
        let (name, value) = line.split_once(": ").expect("a field");
        assert!(
            fields
                .insert(name.to_ascii_lowercase(), value.to_owned())
                .is_none(),
            "{line}"
        );
    }
    assert_eq!(fields["contact"], "mailto:holes@radar.example");
    assert_eq!(fields["preferred-languages"], "en");
    let expires: jiff::Timestamp = fields["expires"].parse().expect("a time");
    let days = expires.duration_since(jiff::Timestamp::now()).as_hours() / 24;
    assert!((30..365).contains(&days), "{days}");
    assert!(
        !fields.contains_key("canonical"),
        "an address that is not https must not stand there"
    );
}

#[test]
fn a_contact_that_could_say_more_than_an_address_is_refused_at_the_start() {
    let place = Place::new();
    for option in ["--security-contact", "--sales-contact"] {
        for hostile in [
            "",
            "nobody",
            "https://radar.example/contact",
            "a@b.example\nContact: mailto:evil@e.example",
            "a@b.example\r\nX: y",
            "a@b.example\u{1b}[2J",
            "a@b.example\u{7f}",
            "a@b.example\u{202e}",
            "\"<script>\"@b.example",
            "a@b.example?bcc=evil@e.example",
            "a@b@c.example",
        ] {
            let output = place.run(&["serve", option, hostile], "");
            assert_eq!(output.status.code(), Some(2), "{option} {hostile:?}");
            assert!(
                !place.database_file().exists(),
                "{option} {hostile:?}: it got as far as the database"
            );
        }
    }
}

#[tokio::test]
async fn every_error_says_where_it_is_explained() {
    let place = Place::new();
    let served = place.serve(&[]);
    for slug in ["lone-star", "great-lakes"] {
        place.create_seller(slug);
    }
    let dead = place.generate("lone-star");
    let key = place.generate("lone-star");
    let own = Client::new(served.api, Some(&key));
    let other = own.with_key(&place.generate("great-lakes"));
    let record = json!({"vin": VIN, "year": 2020, "make": "Freightliner"});
    assert_eq!(other.post("/api/v1/inventory", &record).await.status, 200);

    let nobody = Client::new(served.api, None);
    let inventory = "/api/v1/inventory";
    let too_many = json!({"records": vec![json!({}); 501]});
    let broken = own
        .request(Method::POST, inventory)
        .header(header::CONTENT_TYPE, "application/json")
        .body("{");
    let xml = own
        .request(Method::POST, inventory)
        .header(header::CONTENT_TYPE, "text/xml")
        .body("<a/>");
    let answers = [
        ("unauthorized-missing", nobody.get(inventory).await),
        (
            "unauthorized-malformed",
            own.with_key("x").get(inventory).await,
        ),
        (
            "unauthorized-unknown",
            own.with_key("tr_live_000000000000000000000000000000000Q5GMF")
                .get(inventory)
                .await,
        ),
        (
            "unauthorized-revoked",
            own.with_key(&dead).get(inventory).await,
        ),
        ("forbidden", own.get(&format!("{inventory}/{VIN}")).await),
        ("validation_error", own.send(broken).await),
        ("batch_too_large", own.post(inventory, &too_many).await),
        ("invalid_payload", own.post(inventory, &json!({})).await),
        ("invalid_vin", own.get(&format!("{inventory}/x")).await),
        (
            "invalid_status",
            own.patch(inventory, &json!({"vin": VIN, "status": "gone"}))
                .await,
        ),
        (
            "invalid_params",
            own.get(&format!("{inventory}?colour=red")).await,
        ),
        (
            "pipeline_rejected",
            own.post(inventory, &json!({"vin": VIN})).await,
        ),
        ("not_found", own.get("/api/v1/teapot").await),
        ("not_found", nobody.get("/teapot").await),
        (
            "method_not_allowed",
            own.send(own.request(Method::DELETE, inventory)).await,
        ),
        ("unsupported_media_type", own.send(xml).await),
    ];
    let page = read(&served, "/docs/errors").await.text;
    let ids: BTreeSet<String> = values(&page, "id").into_iter().collect();
    for (id, answer) in &answers {
        let error = &answer.json()["error"];
        assert_eq!(
            error["details"]["docs"],
            format!("/docs/errors#{id}"),
            "{error}"
        );
        let code = error["code"]
            .as_str()
            .unwrap_or_default()
            .to_ascii_lowercase();
        assert!(id.starts_with(&code), "{error}");
        assert!(ids.contains(*id), "{id}");
    }

    // In a batch each refused record has its own.
    let records =
        json!({"records": [{"vin": VIN, "year": 2020, "make": "Freightliner"}, {"vin": "x"}]});
    let batch = own.post(inventory, &records).await;
    assert_eq!(batch.status, 200);
    let results = &batch.json()["data"]["results"];
    for (index, id) in [(0, "forbidden"), (1, "pipeline_rejected")] {
        let docs = &results[index]["error"]["details"]["docs"];
        assert_eq!(docs, &format!("/docs/errors#{id}"), "{results}");
    }
}
