//! Somebody fills every field there is with markup, to have it run in another's browser.
//!
//! Never: a field left out because it is checked elsewhere.

use reqwest::Method;
use serde_json::json;

use super::assert_plain;
use crate::support::{
    binary::{PASSWORD, Place, Served},
    client::{Answer, Client},
    dealership::token_in,
    fixtures::{OTHER_VINS, VIN, record},
    person::{Form, Person},
};

const SCRIPT: &str = "\"><script>alert(1)</script>";
const IMAGE: &str = "'\"><img src=x onerror=alert(1)>";
const TEMPLATE: &str = "{{7*7919191}}${7*7919191}<%=7*7919191%>";
const LINK: &str = "javascript:alert(1)//\" onclick=alert(1) x=\"";
/// What is no markup where there can be no space.
const DENSE: &str = "\"onmouseover=alert(1)//><svg/onload=alert(1)>";
const ALL: [&str; 5] = [SCRIPT, IMAGE, TEMPLATE, LINK, DENSE];

fn assert_harmless(answer: &Answer, told: &str) {
    if answer.header("content-type").starts_with("text/html") {
        assert_plain(&answer.text, told);
    } else {
        // Without a page's media type nothing in it is markup, and nobody may guess one.
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{told}");
    }
    for (name, value) in &answer.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        assert!(!value.contains(['<', '>']), "{told}: {name}: {value}");
    }
    // Nothing of it was computed.
    assert!(!answer.text.contains("55434337"), "{told}: {}", answer.text);
}

struct World {
    served: Served,
    place: Place,
}

impl World {
    /// A Seller whose name is markup.
    fn new(name: &str) -> Self {
        let place = Place::new();
        let served = place.serve(&[]);
        let args = [
            "seller",
            "create",
            "--name",
            name,
            "--slug",
            "lone-star",
            "--owner-email",
            "owner@lone-star.example",
            "--owner-password-stdin",
        ];
        place.json(&args, PASSWORD);
        place.create_seller("second");
        Self { place, served }
    }

    /// Looks at every page that shows what was stored.
    async fn look_everywhere(&self, person: &mut Person, told: &str) -> String {
        let mut seen = String::new();
        for path in [
            "/dashboard",
            "/dashboard/settings",
            "/dashboard/inventory",
            "/dashboard/inventory?q=nothing",
            "/dashboard/inventory?status=sold",
        ] {
            let page = person.get(path).await;
            assert_eq!(page.status, 200, "{told}: {path}: {}", page.text);
            assert_harmless(&page, &format!("{told}: {path}"));
            seen += &page.words();
            seen += &page.text;
        }
        seen
    }
}

#[tokio::test]
async fn markup_in_what_a_dealer_says_of_itself_is_text() {
    for hostile in ALL {
        let world = World::new(hostile);
        let mut owner = Person::owner_of(world.served.api, "lone-star").await;
        let seen = world.look_everywhere(&mut owner, "by command").await;
        assert!(
            seen.contains(hostile),
            "{hostile} is shown as it was written"
        );

        // By the form, all fields at once and each alone, accepted or not.
        let page = owner.get("/dashboard/settings").await;
        let form = page.form("/dashboard/settings/profile");
        let dense: String = hostile.split_whitespace().collect();
        let fields = [
            ("name", format!("Form {hostile}")),
            ("phone", hostile.to_owned()),
            ("email", format!("{}@yard.example", dense.replace('@', ""))),
            ("website", format!("https://x/{hostile}")),
            ("description", format!("</textarea>{hostile}")),
        ];
        let mut filled = form.clone();
        for (name, text) in &fields {
            filled = filled.with(name, text);
        }
        let answer = owner.send(&filled).await;
        assert_eq!(answer.status, 303, "{hostile}: {}", answer.text);
        assert_harmless(&answer, hostile);
        let seen = world.look_everywhere(&mut owner, "by form").await;
        assert!(seen.contains(&format!("Form {hostile}")));
        for name in ["name", "phone", "email", "website", "description", "seller"] {
            let typed = format!("{hostile}\u{7}");
            let refused = owner.send(&form.clone().with(name, &typed)).await;
            assert_harmless(&refused, &format!("{name} {typed}"));
        }
        let refused = owner.send(&form.clone().with("website", LINK)).await;
        assert_eq!(refused.status, 422);
        assert_harmless(&refused, LINK);

        let add = page.form("/dashboard/settings/locations");
        let mut added = add.clone();
        for name in ["name", "street", "city", "postal_code", "phone"] {
            added = added.with(name, &format!("{name} {hostile}"));
        }
        let answer = owner.send(&added.with("state", "tx")).await;
        assert_eq!(answer.status, 303, "{hostile}: {}", answer.text);
        let seen = world.look_everywhere(&mut owner, "locations").await;
        assert!(seen.contains(&format!("street {hostile}")));
        for name in ["state", "remove", hostile] {
            let refused = owner.send(&add.clone().with(name, hostile)).await;
            assert_harmless(&refused, &format!("{name} {hostile}"));
        }

        // By the API.
        let key = world.place.generate("lone-star");
        let client = Client::new(world.served.api, Some(&key));
        let dealer = json!({
            "slug": "lone-star", "name": format!("API {hostile}"), "phone": hostile, "description": hostile,
            "website": format!("http://{hostile}"),
            "locations": [{"name": format!("API {hostile}"), "street": hostile, "city": hostile}],
        });
        let answer = client.post("/api/v1/dealers", &dealer).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let seen = world.look_everywhere(&mut owner, "by the API").await;
        assert!(seen.contains(&format!("API {hostile}")));

        // The pages that name the Seller besides.
        let args = [
            "user",
            "invite",
            "--seller",
            "lone-star",
            "--email",
            "x@yard.example",
            "--role",
            "viewer",
        ];
        let link = world.place.json(&args, "")["link"].take();
        let path = format!(
            "/invitation?token={}",
            token_in(link.as_str().expect("a link"))
        );
        let page = Person::at(world.served.api).get(&path).await;
        assert!(page.words().contains(&format!("Join API {hostile}")));
        assert_harmless(&page, "an invitation");
        let page = owner.get("/dashboard/settings").await;
        let asked = owner.send(&page.form_with_id("generate-api-key")).await;
        assert_harmless(&asked, "regenerate?");
        let made = owner.send(&asked.form_with_id("generate-api-key")).await;
        assert!(made.shown_key().is_some(), "{}", made.text);
        assert_harmless(&made, "regenerated");
        let conflict = owner.send(&asked.form_with_id("generate-api-key")).await;
        assert_eq!(conflict.status, 409);
        assert_harmless(&conflict, "a conflict");
    }
}

#[tokio::test]
async fn markup_in_listings_clients_and_reasons_is_text() {
    let world = World::new("Lone Star");
    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    for (n, hostile) in ALL.into_iter().enumerate() {
        let key = world.place.generate("lone-star");
        let client = Client::new(world.served.api, Some(&key));
        let vin = [VIN].into_iter().chain(OTHER_VINS).nth(n).expect("a VIN");
        let mut listing = record(vin);
        for field in [
            "make",
            "model",
            "category",
            "location_city",
            "location_state",
            "description",
            "engine_make",
            "source_provider_id",
        ] {
            listing[field] = json!(format!("{field} {hostile}"));
        }
        let answer = client.post("/api/v1/inventory", &listing).await;
        // What the fields' bounds refuse is left out, until all the rest is stored.
        let refused = answer.json()["error"]["details"]["issues"].take();
        for issue in refused.as_array().into_iter().flatten() {
            let field = issue["field"].as_str().expect("a field").to_owned();
            listing.as_object_mut().expect("an object").remove(&field);
        }
        let answer = client.post("/api/v1/inventory", &listing).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        for field in ["make", "model", "location_city"] {
            assert!(
                listing.get(field).is_some(),
                "{field} cannot hold {hostile}"
            );
        }
        let request = client
            .request(Method::GET, "/api/v1/key")
            .header("user-agent", format!("Sync {hostile}"));
        assert_eq!(client.send(request).await.status, 200);
        // Counts are written when a command shows them.
        world
            .place
            .json(&["key", "show", "--seller", "lone-star"], "");
        let seen = world.look_everywhere(&mut owner, hostile).await;
        assert!(seen.contains(&format!("make {hostile}")), "{seen}");
        assert!(seen.contains(&format!("Sync {hostile}")), "{seen}");
        // A session's browser.
        let mut other = Person::at(world.served.api);
        let form = Form::made_up(
            "/login",
            [("email", "owner@lone-star.example"), ("password", PASSWORD)],
        );
        let request = other
            .post(&form)
            .header("user-agent", format!("Browser {hostile}"));
        assert_eq!(other.ask(request).await.status, 303);
        let seen = world.look_everywhere(&mut owner, hostile).await;
        assert!(seen.contains(&format!("Browser {hostile}")), "{seen}");
        let args = [
            "key",
            "expire",
            "--seller",
            "lone-star",
            "--reason",
            &format!("because {hostile}"),
        ];
        world.place.json(&args, "");
        let seen = world.look_everywhere(&mut owner, hostile).await;
        assert!(seen.contains(&format!("because {hostile}")), "{seen}");
    }
}

#[tokio::test]
async fn markup_in_a_members_address_is_text() {
    let world = World::new("Lone Star");
    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    for hostile in ALL {
        let dense: String = hostile.split_whitespace().collect();
        let email = format!("{dense}@yard.example").to_lowercase();
        let page = owner.get("/dashboard/settings").await;
        let invite = page.form("/dashboard/settings/members/invite");
        for (name, text) in [("email", hostile), ("role", hostile), ("seller", hostile)] {
            let refused = owner.send(&invite.clone().with(name, text)).await;
            assert!([403, 422].contains(&refused.status.as_u16()), "{name}");
            assert_harmless(&refused, &format!("{name} {text}"));
        }
        let invite = invite.with("email", &email).with("role", "admin");
        let invited = owner.send(&invite).await;
        assert_eq!(invited.status, 200, "{email}: {}", invited.text);
        assert!(invited.words().contains(&email));
        assert_harmless(&invited, &email);
        world.look_everywhere(&mut owner, "invited").await;
        let (_, rest) = invited
            .text
            .split_once("/invitation?token=")
            .expect("a link");
        let path = format!("/invitation?token={}", &rest[..43]);
        let mut member = Person::at(world.served.api);
        let page = member.get(&path).await;
        assert_harmless(&page, &path);
        let weak = page.form("/invitation").with("password", "x");
        assert_harmless(&member.send(&weak).await, "a weak password");
        let form = page.form("/invitation").with("password", PASSWORD);
        assert_eq!(member.send(&form).await.status, 303);
        // As whoever made the key, for the others to see, and on the pages of the member.
        let own = member.get("/dashboard/settings").await;
        let form = own.form_with_id("generate-api-key");
        let made = member.generate("lone-star").await;
        assert!(made.shown_key().is_some(), "{}", made.text);
        assert_harmless(&made, &email);
        let late = owner.send(&form).await;
        assert_eq!(late.status, 409);
        assert!(late.words().contains(&email), "{}", late.words());
        assert_harmless(&late, &email);
        world.look_everywhere(&mut member, &email).await;
        let seen = world.look_everywhere(&mut owner, &email).await;
        assert!(seen.contains(&email));
        // Asked for the password, the member sees the address, and a form's fields come back in the page.
        world
            .place
            .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
            .await;
        let mut form = own.form("/dashboard/settings/members/invite");
        form = form.with("email", &format!("second{email}"));
        form.fields.push((hostile.to_owned(), hostile.to_owned()));
        form.fields.push((String::new(), hostile.to_owned()));
        let asked = member.send(&form).await;
        assert!(asked.words().contains("Confirm that it is you"));
        assert_harmless(&asked, &email);
        let back = asked.form("/dashboard/settings/members/invite");
        assert_eq!(back.get(hostile), Some(hostile), "it came back whole");
        world
            .place
            .change("UPDATE sessions SET confirmed_us = confirmed_us + 901000000")
            .await;
    }
}

#[tokio::test]
async fn markup_that_is_sent_back_at_once_is_text() {
    let world = World::new("Lone Star");
    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    for hostile in ALL {
        let quoted: String = form_urlencoded::byte_serialize(hostile.as_bytes()).collect();
        let percent: String = hostile.bytes().map(|b| format!("%{b:02x}")).collect();
        let mut somebody = Person::at(world.served.api);
        for path in [
            format!("/{percent}"),
            format!("/static/{percent}"),
            format!("/dashboard/{percent}"),
            format!("/login?next={quoted}&done={quoted}"),
            format!("/login?next=/dashboard?{quoted}"),
            format!("/login?next=%2Fdashboard%3F{percent}"),
            format!("/invitation?token={quoted}"),
            format!("/reset-password?token={quoted}"),
            format!("/dashboard?seller={quoted}"),
            format!("/dashboard/settings?seller=lone-star&done={quoted}"),
            format!("/dashboard/inventory?q={quoted}"),
            format!("/dashboard/inventory?q={quoted}&status={quoted}&after={quoted}"),
            format!("/dashboard/inventory?q={quoted}&status=sold"),
            format!("/dashboard/inventory?{quoted}={quoted}"),
        ] {
            for person in [&mut somebody, &mut owner] {
                let page = person.get(&path).await;
                assert_harmless(&page, &path);
                let request = person
                    .request(Method::GET, &path)
                    .header("x-request-id", hostile)
                    .header("user-agent", hostile)
                    .header("referer", hostile)
                    .header("accept-language", hostile);
                let page = person.ask(request).await;
                assert_harmless(&page, &path);
            }
        }
        let found = owner.get(&format!("/dashboard/inventory?q={quoted}")).await;
        let shown: String = found.words();
        assert!(shown.contains("No listings yet"), "{shown}");
        assert_eq!(
            found
                .forms()
                .iter()
                .find_map(|form| form.get("q").map(str::to_owned))
                .as_deref(),
            Some(hostile.trim())
        );
        for (name, text) in [("email", hostile), ("next", hostile), (hostile, hostile)] {
            let form = Form::made_up("/login", [("password", hostile)]).with(name, text);
            let failed = somebody.send(&form).await;
            assert_eq!(failed.status, 422);
            assert_harmless(&failed, &format!("{name} {text}"));
            if name == "email" {
                assert_eq!(failed.form("/login").get("email"), Some(hostile));
            }
        }
        for action in ["/invitation", "/reset-password"] {
            let form = Form::made_up(action, [("token", hostile), ("password", hostile)]);
            assert_harmless(&somebody.send(&form).await, action);
        }
        world.place.change("DELETE FROM sign_in_failures").await;
    }
}
