//! What people do on the dashboard, told without a browser: sign in, make a key, see it once, replace it, manage who may.
//!
//! Never: a page passed over because its status was right; what it says to the person is looked at too.

mod people;

use std::process::Command;

use serde_json::json;

use crate::support::{
    binary::{PASSWORD, Place, Served},
    client::{Answer, Client},
    fixtures::{VIN, record, vin},
    person::{Form, Person},
};

/// Where the form that makes a key is sent.
const KEY: &str = "/dashboard/settings/api-key";

struct World {
    served: Served,
    place: Place,
}

impl World {
    fn new(sellers: &[&str]) -> Self {
        let place = Place::new();
        let served = place.serve(&[]);
        for slug in sellers {
            place.create_seller(slug);
        }
        Self { place, served }
    }

    async fn owner(&self, slug: &str) -> Person {
        Person::owner_of(self.served.api, slug).await
    }

    /// Somebody who accepted an invitation by the command line's link.
    async fn member(&self, slug: &str, email: &str, role: &str) -> Person {
        let args = [
            "user", "invite", "--seller", slug, "--email", email, "--role", role,
        ];
        let invited = self.place.json(&args, "");
        let link = invited["link"].as_str().expect("a link");
        let base = self.place.base_of_links(self.served.api);
        let path = link.strip_prefix(&base).expect("leads here");
        let mut person = Person::at(self.served.api);
        let page = person.get(path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let form = page.form("/invitation").with("password", PASSWORD);
        let joined = person.send(&form).await;
        assert_eq!(joined.status, 303, "{}", joined.text);
        person
    }

    async fn works(&self, key: &str) -> Answer {
        Client::new(self.served.api, Some(key))
            .get("/api/v1/key")
            .await
    }

    fn key_of(&self, slug: &str) -> serde_json::Value {
        self.place.json(&["key", "show", "--seller", slug], "")["key"].take()
    }
}

fn key_in(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
        .shown_key()
        .unwrap_or_else(|| panic!("no key on {}", answer.text))
}

#[tokio::test]
async fn a_dealer_signs_in_generates_a_key_and_uses_it() {
    let world = World::new(&["lone-star"]);
    let mut owner = world.owner("lone-star").await;
    let page = owner.get("/dashboard").await;
    assert!(page.words().contains("No key yet"), "{}", page.words());

    let page = owner.get("/dashboard/settings").await;
    assert_eq!(page.header("cache-control"), "no-store");
    assert!(page.text.contains("<section class=\"card\" id=\"api-key\""));
    let form = page.form_with_id("generate-api-key");
    assert_eq!(form.button, "Generate API Key for lone-star");
    assert_eq!(form.action, KEY);
    let answer = owner.send(&form).await;
    let key = key_in(&answer);
    assert_eq!(key.len(), 46);
    assert_eq!(answer.header("cache-control"), "no-store");
    let words = answer.words();
    assert!(
        words.contains("This is the only time you will see it."),
        "{words}"
    );
    assert!(words.contains("on 1 of 1 node after"), "{words}");

    // The ready lines carry the key and do what they say.
    let (_, rest) = answer
        .text
        .split_once("id=\"ex-curl\"")
        .expect("a line for curl");
    let line = rest
        .split_once("<code>")
        .and_then(|(_, rest)| rest.split_once("</code>"));
    let line = line
        .expect("a line")
        .0
        .replace("&quot;", "\"")
        .replace("&#34;", "\"");
    assert!(line.contains(&key), "{line}");
    let ran = Command::new("sh")
        .args(["-c", &line])
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(said.starts_with("HTTP/1.1 200"), "{line}\n{said}");
    assert!(said.contains("\"slug\":\"lone-star\""), "{said}");

    assert_eq!(world.works(&key).await.status, 200);
    let page = owner.get("/dashboard/settings").await;
    assert!(
        !page.text.contains(&key[..20]),
        "the key is on a later page"
    );
    assert!(page.text.contains(&key[42..]), "its hint is not");
}

#[tokio::test]
async fn reloading_and_posting_again_show_nothing_and_make_nothing() {
    let world = World::new(&["lone-star"]);
    let mut owner = world.owner("lone-star").await;
    let form = owner
        .get("/dashboard/settings")
        .await
        .form_with_id("generate-api-key");
    let key = key_in(&owner.send(&form).await);
    let made = world.key_of("lone-star");
    for _ in 0..3 {
        let again = owner.send(&form).await;
        assert_eq!(again.status, 409, "{}", again.text);
        assert_eq!(again.shown_key(), None);
        assert!(!again.text.contains(&key[..20]));
        let words = again.words();
        assert!(words.contains("No key was made for you"), "{words}");
        assert!(
            words.contains("you changed the key of lone-star"),
            "{words}"
        );
    }
    // What is reached by going there instead of by the form.
    let got = owner.get(KEY).await;
    assert_eq!(got.status, 405);
    assert_eq!(got.shown_key(), None);
    assert_eq!(world.key_of("lone-star")["id"], made["id"]);
    assert_eq!(world.works(&key).await.status, 200);
}

#[tokio::test]
async fn regenerating_first_tells_whom_it_hits_and_then_the_old_key_is_dead_at_once() {
    let world = World::new(&["lone-star"]);
    let mut owner = world.owner("lone-star").await;
    let old = key_in(&owner.generate("lone-star").await);
    let client = Client::new(world.served.api, Some(&old));
    let request = client
        .request(reqwest::Method::GET, "/api/v1/key")
        .header("user-agent", "DealerSync/2.1");
    assert_eq!(client.send(request).await.status, 200);
    // Counts are written every two seconds, and by a command that shows them.
    world.key_of("lone-star");

    let page = owner.get("/dashboard/settings").await;
    let form = page.form_with_id("generate-api-key");
    assert_eq!(form.button, "Regenerate API Key for lone-star…");
    assert!(page.words().contains("DealerSync/2.1"), "{}", page.words());
    let asked = owner.send(&form).await;
    assert_eq!((asked.status.as_u16(), asked.shown_key()), (200, None));
    let words = asked.words();
    assert!(
        words.contains("This client gets 401 the moment you press the button."),
        "{words}"
    );
    assert!(words.contains("DealerSync/2.1"), "{words}");
    assert_eq!(world.works(&old).await.status, 200, "asking killed the key");

    let form = asked.form_with_id("generate-api-key");
    assert_eq!(form.button, "Regenerate API Key for lone-star");
    let answer = owner.send(&form).await;
    let new = key_in(&answer);
    assert!(
        answer
            .words()
            .contains("The old key is dead on 1 of 1 node")
    );
    let request = client
        .request(reqwest::Method::GET, "/api/v1/key")
        .header("user-agent", "DealerSync/2.1");
    let dead = client.send(request).await;
    assert_eq!(
        (dead.status.as_u16(), dead.reason().as_str()),
        (401, "revoked")
    );
    assert_eq!(world.works(&new).await.status, 200);
    // The client that went on with the old key is named.
    world.key_of("lone-star");
    let words = owner.get("/dashboard/settings").await.words();
    let refused = "Refused with a dead key, and not changed over";
    let (_, after) = words.split_once(refused).expect("is there");
    assert!(after.contains("DealerSync/2.1"), "{words}");

    // Once it has the new key, it is on that list no more.
    let client = client.with_key(&new);
    let request = client
        .request(reqwest::Method::GET, "/api/v1/key")
        .header("user-agent", "DealerSync/2.1");
    assert_eq!(client.send(request).await.status, 200);
    let words = owner.get("/dashboard/settings").await.words();
    assert!(!words.contains(refused), "{words}");
}

#[tokio::test]
async fn of_two_tabs_at_once_one_gets_a_key_and_the_other_is_told() {
    let world = World::new(&["lone-star"]);
    let mut owner = world.owner("lone-star").await;
    world.place.generate("lone-star");
    let mut colleague = world
        .member("lone-star", "ann@lone-star.example", "admin")
        .await;
    for round in 0..5 {
        let mut forms = Vec::new();
        for person in [&mut owner, &mut colleague] {
            let page = person.get("/dashboard/settings").await;
            let asked = person.send(&page.form_with_id("generate-api-key")).await;
            forms.push(asked.form_with_id("generate-api-key"));
        }
        let (one, other) = tokio::join!(owner.send(&forms[0]), colleague.send(&forms[1]));
        let (won, lost) = match one.shown_key() {
            Some(_) => (one, other),
            None => (other, one),
        };
        assert_eq!(won.status, 200, "round {round}");
        // Who had to wait for a node has had the head of the answer before anybody knew, and has a page that says so.
        let waited = world.place.is_on_postgres()
            && lost.text.contains("not every server has confirmed it yet");
        let expected = if waited { 200 } else { 409 };
        assert_eq!(lost.status, expected, "round {round}");
        assert_eq!(world.works(&key_in(&won)).await.status, 200);
        assert_eq!(lost.shown_key(), None);
        let words = lost.words();
        let who = if words.contains("The key of lone-star was changed by owner@lone-star.example") {
            "owner"
        } else {
            assert!(
                words.contains("The key of lone-star was changed by ann@lone-star.example"),
                "{words}"
            );
            "ann"
        };
        let made_by = won.text.contains(&format!("{who}@lone-star.example"));
        assert!(made_by, "the winner is {who}");
        let mut inside = world.place.look_inside().await;
        let live: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM api_keys WHERE state = 'live'")
            .fetch_one(&mut inside)
            .await
            .expect("answers");
        assert_eq!(live, 1);
    }
}

#[tokio::test]
async fn a_form_acts_on_the_seller_that_it_names_and_on_no_other() {
    let world = World::new(&["great-lakes", "lone-star"]);
    let email = "vendor@dms.example";
    let mut vendor = world.member("great-lakes", email, "admin").await;
    let _ = world.member_again(email, "lone-star").await;
    let lakes = world.place.generate("great-lakes");
    let star = world.place.generate("lone-star");

    // One tab stands on one dealer while another tab is opened on the other.
    let stale = vendor.get("/dashboard/settings?seller=great-lakes").await;
    let current = vendor.get("/dashboard/settings?seller=lone-star").await;
    assert!(current.words().contains("Settings of lone-star"));
    let asked = vendor.send(&stale.form_with_id("generate-api-key")).await;
    let form = asked.form_with_id("generate-api-key");
    assert_eq!(form.button, "Regenerate API Key for great-lakes");
    let new = key_in(&vendor.send(&form).await);
    assert_eq!(
        world.works(&star).await.status,
        200,
        "the other dealer's key died"
    );
    assert_eq!(world.works(&lakes).await.reason(), "revoked");
    assert!(world.works(&new).await.text.contains("great-lakes"));
    // The stale form again, and one with the other Seller's id under the stale version.
    assert_eq!(vendor.send(&form).await.status, 409);
    let mixed = form.with(
        "seller",
        current
            .form_with_id("generate-api-key")
            .get("seller")
            .expect("an id"),
    );
    let answer = vendor.send(&mixed.with("version", "0")).await;
    assert_eq!(answer.status, 409, "{}", answer.text);
    assert_eq!(world.works(&star).await.status, 200);
}

impl World {
    /// A User who is a member of one Seller already accepts an invitation to another.
    async fn member_again(&self, email: &str, slug: &str) -> Person {
        self.member(slug, email, "admin").await
    }
}

#[tokio::test]
async fn a_viewer_sees_how_things_stand_and_can_change_nothing() {
    let world = World::new(&["lone-star"]);
    let key = world.place.generate("lone-star");
    let mut owner = world.owner("lone-star").await;
    let mut viewer = world
        .member("lone-star", "view@lone-star.example", "viewer")
        .await;
    let page = viewer.get("/dashboard/settings").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains(&key[42..]));
    assert!(!page.has_form("generate-api-key"), "a viewer has a button");
    assert!(
        page.words()
            .contains("Only owners and admins can generate a key: owner@lone-star.example.")
    );
    let form = owner
        .get("/dashboard/settings")
        .await
        .form_with_id("generate-api-key");
    for form in [form.clone(), form.with("confirmed", "yes")] {
        let refused = viewer.send(&form).await;
        assert_eq!(refused.status, 403, "{}", refused.text);
        assert!(refused.words().contains("Your role does not allow this"));
    }
    assert_eq!(world.works(&key).await.status, 200);
}

#[tokio::test]
async fn the_page_tells_each_state_of_a_key() {
    let world = World::new(&["lone-star"]);
    let mut owner = world.owner("lone-star").await;
    let state = async |owner: &mut Person| owner.get("/dashboard/settings").await.words();
    assert!(state(&mut owner).await.contains("has no API key yet"));

    let key = key_in(&owner.generate("lone-star").await);
    assert!(
        state(&mut owner)
            .await
            .contains("Waiting for your first call.")
    );
    assert!(
        owner
            .get("/dashboard")
            .await
            .words()
            .contains("Waiting for your first call")
    );
    assert_eq!(world.works(&key).await.status, 200);
    world.key_of("lone-star");
    let words = state(&mut owner).await;
    assert!(
        words.contains("API Key Live") && words.contains("used"),
        "{words}"
    );

    // As a crash between the commit and the answer leaves it.
    world
        .place
        .change("UPDATE api_keys SET shown_us = NULL WHERE state = 'live'")
        .await;
    let words = state(&mut owner).await;
    assert!(
        words.contains("Your key was replaced, but the new one was never shown to anybody."),
        "{words}"
    );
    let asked = owner
        .get("/dashboard/settings")
        .await
        .form_with_id("generate-api-key");
    let asked = owner.send(&asked).await;
    assert!(
        asked.words().contains("Nobody has seen the present key"),
        "{}",
        asked.words()
    );
    let key = key_in(&owner.send(&asked.form_with_id("generate-api-key")).await);

    let args = [
        "key",
        "expire",
        "--seller",
        "lone-star",
        "--reason",
        "found on a public <b>paste</b>",
    ];
    world.place.json(&args, "");
    assert_eq!(world.works(&key).await.reason(), "revoked");
    let page = owner.get("/dashboard/settings").await;
    let words = page.words();
    assert!(
        words.contains("The marketplace expired your key"),
        "{words}"
    );
    assert!(
        words.contains("Reason: found on a public <b>paste</b>"),
        "{words}"
    );
    assert!(!page.text.contains("<b>paste"));
    let form = page.form_with_id("generate-api-key");
    assert_eq!(form.button, "Generate API Key for lone-star");
    key_in(&owner.send(&form).await);
}

#[tokio::test]
async fn what_a_dealer_says_of_itself_is_changed_under_the_apis_rules() {
    let world = World::new(&["lone-star"]);
    let key = world.place.generate("lone-star");
    let mut owner = world.owner("lone-star").await;
    let page = owner.get("/dashboard/settings").await;
    let form = page
        .form("/dashboard/settings/profile")
        .with("name", "Lone Star Trucks")
        .with("phone", "+1 555 0100")
        .with("website", "https://lonestar.example");
    assert_eq!(owner.send(&form).await.status, 303);
    let client = Client::new(world.served.api, Some(&key));
    let dealer = client.get("/api/v1/dealers/lone-star").await.json();
    assert_eq!(dealer["data"]["name"], "Lone Star Trucks");
    assert_eq!(dealer["data"]["phone"], "+1 555 0100");
    let bad = form
        .with("website", "javascript:alert(1)")
        .with("description", "typed text");
    let refused = owner.send(&bad).await;
    assert_eq!(refused.status, 422);
    let words = refused.words();
    assert!(
        words.contains("Website must be an address that begins with https://"),
        "{words}"
    );
    assert!(words.contains("typed text"), "what was typed is lost");
    assert_eq!(
        client.get("/api/v1/dealers/lone-star").await.json()["data"]["website"],
        "https://lonestar.example"
    );

    let add = page.form("/dashboard/settings/locations");
    let add = add
        .with("name", "Main yard")
        .with("city", "Dallas")
        .with("state", "tx");
    assert_eq!(owner.send(&add).await.status, 303);
    assert_eq!(
        owner.send(&add.clone().with("name", "Annex")).await.status,
        303
    );
    let wrong = owner.send(&add.with("state", "Texas")).await;
    assert_eq!(wrong.status, 422);
    assert!(
        wrong.words().contains("State must be two letters"),
        "{}",
        wrong.words()
    );
    let page = owner.get("/dashboard/settings").await;
    assert!(
        page.words().contains("Main yard Dallas, TX"),
        "{}",
        page.words()
    );
    let remove = page.form("/dashboard/settings/locations");
    assert!(remove.get("remove").is_some());
    assert_eq!(owner.send(&remove).await.status, 303);
    let dealer = client.get("/api/v1/dealers/lone-star").await.json();
    let names: Vec<_> = dealer["data"]["locations"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|l| l["name"].clone())
        .collect();
    assert_eq!(names, ["Annex"]);
}

#[tokio::test]
async fn a_dealer_looks_through_the_inventory() {
    let world = World::new(&["lone-star"]);
    let mut owner = world.owner("lone-star").await;
    let words = owner.get("/dashboard/inventory").await.words();
    assert!(words.contains("No listings yet"), "{words}");
    let key = world.place.generate("lone-star");
    let client = Client::new(world.served.api, Some(&key));
    let records: Vec<_> = (0..60).map(|n| record(&vin(n))).collect();
    client
        .post("/api/v1/inventory", &json!({"records": records}))
        .await;
    client.post("/api/v1/inventory", &record(VIN)).await;
    client
        .patch("/api/v1/inventory", &json!({"vin": VIN, "status": "sold"}))
        .await;

    let first = owner.get("/dashboard/inventory").await;
    let words = first.words();
    assert!(
        words.contains("All 61 Active 60 Sold 1 Expired 0"),
        "{words}"
    );
    assert!(words.contains("2020 Freightliner Cascadia"), "{words}");
    assert_eq!(first.text.matches("<tr><td").count(), 50);
    let (_, rest) = first
        .text
        .split_once("<nav class=\"pager\"")
        .expect("pages");
    let next = rest
        .split_once("href=\"")
        .and_then(|(_, r)| r.split('"').next())
        .expect("a link");
    let second = owner
        .get(&next.replace("&amp;", "&").replace("&#38;", "&"))
        .await;
    assert_eq!(second.text.matches("<tr><td").count(), 11);
    let sold = owner.get("/dashboard/inventory?status=sold").await;
    assert_eq!(sold.text.matches("<tr><td").count(), 1);
    assert!(sold.text.contains(VIN));
    let found = owner
        .get(&format!("/dashboard/inventory?q={}", VIN.to_lowercase()))
        .await;
    assert_eq!(found.text.matches("<tr><td").count(), 1);
    let none = owner.get("/dashboard/inventory?q=Peterbilt").await;
    assert!(
        none.words().contains("Nothing found for “Peterbilt”"),
        "{}",
        none.words()
    );
    let expired = owner.get("/dashboard/inventory?status=expired").await;
    assert!(expired.words().contains("No expired listings"));
}

#[tokio::test]
async fn a_dealer_prepares_the_next_key_and_cuts_over() {
    let world = World::new(&["lone-star"]);
    let mut owner = world.owner("lone-star").await;
    let old = key_in(&owner.generate("lone-star").await);
    let page = owner.get("/dashboard/settings").await;
    let form = page.form("/dashboard/settings/api-key/prepare");
    assert_eq!(form.button, "Prepare next key for lone-star");
    let shown = owner.send(&form).await;
    let next = key_in(&shown);
    assert!(
        shown.words().contains("It is not live yet."),
        "{}",
        shown.words()
    );
    assert_eq!(world.works(&next).await.reason(), "staged");
    assert_eq!(world.works(&old).await.status, 200);
    // Sent again, it makes no other one.
    let again = owner.send(&form).await;
    assert_eq!((again.status.as_u16(), again.shown_key()), (409, None));

    let page = owner.get("/dashboard/settings").await;
    let words = page.words();
    assert!(words.contains("The next key is prepared:"), "{words}");
    assert!(page.text.contains(&next[42..]) && !page.text.contains(&next[..20]));
    let form = page.form("/dashboard/settings/api-key/cut-over");
    assert_eq!(form.button, "Cut over to the next key of lone-star");
    assert_eq!(owner.send(&form).await.status, 303);
    assert_eq!(world.works(&next).await.status, 200);
    assert_eq!(world.works(&old).await.reason(), "revoked");
    assert_eq!(owner.send(&form).await.status, 409, "a second time");

    let page = owner.get("/dashboard/settings").await;
    let prepared = owner
        .send(&page.form("/dashboard/settings/api-key/prepare"))
        .await;
    let unused = key_in(&prepared);
    let page = owner.get("/dashboard/settings").await;
    let discard = page.form("/dashboard/settings/api-key/discard");
    assert_eq!(owner.send(&discard).await.status, 303);
    assert_eq!(world.works(&unused).await.reason(), "revoked");
    assert_eq!(world.works(&next).await.status, 200);
}
