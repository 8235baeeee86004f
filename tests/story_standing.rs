//! What the pages say of an account whose key is not let in: bound to networks, suspended, closed.
//!
//! Never: a page that calls a key used, live or replaceable, whose every call is refused.

use reqwest::Method;
use serde_json::json;

use crate::support::{
    binary::{PASSWORD, Place, Served},
    browser::{Browser, Gallery, Options},
    client::Client,
    person::{Person, path_in},
};

const SELLER: &str = "lone-star";
const OVERVIEW: &str = "/dashboard?seller=lone-star";
const SETTINGS: &str = "/dashboard/settings?seller=lone-star";
const NETWORKS: &str = "/dashboard/settings/networks";
const PREPARE: &str = "/dashboard/settings/api-key/prepare";
/// What a person does with what is their own, whatever becomes of the account; and how they leave.
const OWN_FORMS: [&str; 4] = [
    "/dashboard/settings/password",
    "/dashboard/settings/sessions",
    "/dashboard/settings/second-factor",
    "/logout",
];
/// Where whoever stole the key is.
const THIEF: &str = "198.51.100.66";
/// Where the dealer's own program is.
const OWN: &str = "203.0.113.7";

/// One dealer with a key, behind a proxy that says where its clients are.
fn world() -> (Place, Served, String) {
    let place = Place::new();
    let served = place.serve(&["--trusted-proxies", "127.0.0.0/8"]);
    place.create_seller(SELLER);
    let key = place.generate(SELLER);
    (place, served, key)
}

/// One call from an address; its status.
async fn call(served: &Served, key: &str, from: &str) -> u16 {
    let client = Client::new(served.api, Some(key));
    let request = client.request(Method::GET, "/api/v1/key");
    let answer = client.send(request.header("x-forwarded-for", from)).await;
    answer.status.as_u16()
}

fn only_from(place: &Place, networks: &str) {
    place.json(
        &["key", "networks", "--seller", SELLER, "--from", networks],
        "",
    );
}

/// The row of the page of all keys.
async fn row(person: &mut Person) -> String {
    let page = person.get("/dashboard/keys").await.words();
    let (_, row) = page.rsplit_once("What you can do").expect("a table");
    row.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_tries_the_key_from_elsewhere_has_not_used_it_and_is_not_recommended() {
    let (place, served, key) = world();
    let mut owner = Person::owner_of(served.api, SELLER).await;
    only_from(&place, "203.0.113.0/24");
    for _ in 0..3 {
        assert_eq!(call(&served, &key, THIEF).await, 403);
    }
    let page = owner.get(OVERVIEW).await.words();
    assert!(page.contains("Waiting for your first call"), "{page}");
    assert!(page.contains("Not used yet."), "{page}");
    let told = row(&mut owner).await;
    assert!(told.contains("No call yet"), "{told}");
    assert!(
        told.contains(" never 0 0 – Open"),
        "last used, let in: {told}"
    );
    let page = owner.get(SETTINGS).await;
    assert!(!page.text.contains(THIEF), "{}", page.text);
    let form = page.form(NETWORKS);
    let closer = form.clone().with("networks", OWN);
    // Nobody is shut out, so nothing is asked.
    owner.send(&closer).await.led_to();
    let shown = place.json(&["key", "show", "--seller", SELLER], "");
    let client = &shown["clients_24h"][0];
    assert_eq!(client["address"], THIEF);
    assert_eq!(
        [&client["accepted"], &client["barred"]],
        [0, 3],
        "the operator sees who tried"
    );

    // The dealer's own program is let in, and still is the one that counts.
    assert_eq!(call(&served, &key, OWN).await, 200);
    assert_eq!(call(&served, &key, THIEF).await, 403);
    let told = row(&mut owner).await;
    assert!(told.contains(" 1 0 – Open"), "{told}");
    let page = owner.get(SETTINGS).await;
    let seen = format!("Your key was used from {OWN} in the last 24 hours");
    assert!(page.words().contains(&seen), "{}", page.words());
    assert!(!page.text.contains(THIEF), "{}", page.text);

    // Nor is anybody who used a key that is dead, though it let them in.
    place.json(&["key", "networks", "--seller", SELLER, "--anywhere"], "");
    assert_eq!(call(&served, &key, THIEF).await, 200);
    let next = place.generate(SELLER);
    assert_eq!(call(&served, &next, OWN).await, 200);
    let page = owner.get(SETTINGS).await;
    assert!(page.words().contains(&seen), "{}", page.words());
    let asked = page.form(NETWORKS).with("networks", OWN);
    // Nobody is shut out, so nothing is asked.
    owner.send(&asked).await.led_to();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_account_is_called_so_on_every_page_and_a_closed_one_needs_no_attention() {
    let (place, served, key) = world();
    let mut owner = Person::owner_of(served.api, SELLER).await;
    assert_eq!(call(&served, &key, OWN).await, 200);
    let page = owner.get("/dashboard/keys").await;
    assert!(page.forms().iter().any(|form| form.action == PREPARE));
    let reason = "Unpaid invoice 7";
    let act = |what: &str| {
        let args = ["seller", what, "--seller", SELLER, "--reason", reason];
        place.json(&args, "");
    };
    act("suspend");
    assert_eq!(call(&served, &key, OWN).await, 403);
    let told = "The marketplace has suspended lone-star.";
    for path in [OVERVIEW, SETTINGS] {
        let page = owner.get(path).await;
        let words = page.words();
        assert!(words.contains(told) && words.contains(reason), "{words}");
        assert!(words.contains("Account suspended"), "{words}");
        assert!(!page.text.contains("mark good\">Live"), "{}", page.text);
    }
    let page = owner.get("/dashboard/keys").await;
    assert!(page.words().contains("Needs attention 1"));
    assert!(page.forms().iter().all(|form| form.action != PREPARE));
    let told = row(&mut owner).await;
    assert!(
        told.contains("Suspended") && !told.contains("Live"),
        "{told}"
    );
    // What the page does not offer is what the server would refuse.
    let page = owner.get(SETTINGS).await;
    let offered = page
        .forms()
        .into_iter()
        .filter(|form| !form.button.is_empty());
    let offered = offered.map(|form| form.action);
    let mut offered: Vec<String> = offered.collect();
    offered.retain(|action| !OWN_FORMS.iter().any(|own| action.starts_with(own)));
    assert_eq!(offered, [""; 0]);

    place.json(&["seller", "resume", "--seller", SELLER], "");
    assert!(row(&mut owner).await.contains("Live"));

    act("close");
    assert_eq!(call(&served, &key, OWN).await, 401);
    let page = owner.get("/dashboard/keys").await;
    assert!(page.words().contains("Needs attention 0"));
    let told = row(&mut owner).await;
    assert!(
        told.contains("Closed") && !told.contains("Expired"),
        "{told}"
    );
    for path in [OVERVIEW, SETTINGS] {
        let words = owner.get(path).await.words();
        assert!(
            words.contains("has closed lone-star. This is for good"),
            "{words}"
        );
        assert!(words.contains("Account closed"), "{words}");
        assert!(!words.contains("Generate a new key"), "{words}");
        assert!(!words.contains("Getting started"), "{words}");
        assert!(!words.contains("that you will generate"), "{words}");
    }
}

/// Whoever lacks the factor that an owner demands is not offered what would be refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_key_is_offered_to_nobody_who_may_not_prepare_it() {
    let (place, served, _) = world();
    let mut owner = Person::owner_of(served.api, SELLER).await;
    let offers = async |owner: &mut Person| {
        let page = owner.get("/dashboard/keys").await;
        page.forms().iter().any(|form| form.action == PREPARE)
    };
    assert!(offers(&mut owner).await);
    place
        .change("UPDATE sellers SET second_factor_required = 1")
        .await;
    assert!(!offers(&mut owner).await);
    let told = row(&mut owner).await;
    assert!(!told.contains("you are"), "an owner all the same: {told}");
}

/// The most urgent thing that a dealer can be told of their key stands where they look first.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_reported_and_works_is_said_on_the_first_page_and_comes_first() {
    let (place, served, key) = world();
    place.create_seller("a-calm-one");
    place.generate("a-calm-one");
    let mut owner = Person::owner_of(served.api, SELLER).await;
    let args = ["user", "invite", "--seller", "a-calm-one", "--email"];
    let rest = ["owner@lone-star.example", "--role", "owner"];
    let invited = place.json(&[&args[..], &rest].concat(), "");
    let link = path_in(invited["link"].as_str().expect("a link")).to_owned();
    let page = owner.get(&link).await;
    let join = page.form("/invitation").with("password", PASSWORD);
    assert_eq!(owner.send(&join).await.status, 303);
    let slip = json!({"key": key, "found_at": "https://forum.example/post/9"});
    let client = Client::new(served.api, None);
    assert_eq!(client.post("/keys/report", &slip).await.status, 202);
    let headline = "and it still works";
    let mut page = owner.get(OVERVIEW).await;
    while !page.words().contains(headline) {
        page = owner.get(OVERVIEW).await;
    }
    let words = page.words();
    assert!(words.contains("https://forum.example/post/9"), "{words}");
    let ring = owner.get("/dashboard/keys").await;
    let words = ring.words();
    assert!(words.contains("Needs attention 1"), "{words}");
    let (_, rows) = words.rsplit_once("What you can do").expect("a table");
    let (first, second) = rows.split_once(" a-calm-one ").expect("both");
    assert!(first.contains("Reported as found, and it works"), "{rows}");
    assert!(!second.contains("Reported as found"), "{rows}");
    // What is suspended does not work, whoever has it.
    let suspend = ["seller", "suspend", "--seller", SELLER, "--reason", "x"];
    place.json(&suspend, "");
    for path in [OVERVIEW, SETTINGS, "/dashboard/keys"] {
        let words = owner.get(path).await.words();
        assert!(!words.contains("it still works"), "{words}");
        assert!(!words.contains("and it works"), "{words}");
        assert!(!words.contains("Regenerate it below"), "{words}");
    }
    place.json(&["seller", "resume", "--seller", SELLER], "");
    // Replaced, it is nobody's concern any more.
    place.generate(SELLER);
    let words = owner.get(OVERVIEW).await.words();
    assert!(!words.contains(headline), "{words}");
    let words = owner.get("/dashboard/keys").await.words();
    assert!(words.contains("Needs attention 0"), "{words}");
}

/// What is said of the networks is what was done, and who may change what is said to whom it is true of.
#[tokio::test(flavor = "multi_thread")]
async fn the_settings_say_of_networks_and_platforms_what_is_so() {
    let (place, served, key) = world();
    let mut owner = Person::owner_of(served.api, SELLER).await;
    let page = owner.get(SETTINGS).await;
    assert!(!page.words().contains("is the server itself"));
    let form = page.form(NETWORKS);
    let set = owner.send(&form.clone().with("networks", OWN)).await;
    let words = owner.get(&set.led_to()).await.words();
    assert!(words.contains("and from nowhere else"), "{words}");
    let lifted = owner.send(&form.with("networks", "")).await;
    let words = owner.get(&lifted.led_to()).await.words();
    assert!(!words.contains("from nowhere else"), "{words}");
    assert!(
        words.contains("accepts the key from anywhere now"),
        "{words}"
    );
    // As where a proxy in front is not named: everybody is this machine.
    assert_eq!(call(&served, &key, "127.0.0.1").await, 200);
    let words = owner.get(SETTINGS).await.words();
    assert!(words.contains("is the server itself"), "{words}");

    let only_owners = "Only an owner of lone-star can change this.";
    assert!(!words.contains(only_owners), "{words}");
    place
        .change("UPDATE sellers SET second_factor_required = 1")
        .await;
    let words = owner.get(SETTINGS).await.words();
    assert!(!words.contains(only_owners), "{words}");
    assert!(
        words.contains("To change this you need a second factor"),
        "{words}"
    );
    place
        .change("UPDATE sellers SET second_factor_required = 0, status = 'suspended'")
        .await;
    let words = owner.get(SETTINGS).await.words();
    assert!(!words.contains(only_owners), "{words}");
    assert!(
        words.contains("Nothing can be changed here while"),
        "{words}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_reported_suspended_and_closed_is_legible_and_accessible() {
    let (place, served, key) = world();
    let mut browser = Browser::start(Options::at(served.api)).await;
    let gallery = Gallery::from_environment();
    browser.goto("/login").await;
    browser.fill("email", "owner@lone-star.example").await;
    browser.fill("password", PASSWORD).await;
    browser.press("Sign in").await;
    macro_rules! look {
        ($path:expr, $name:expr) => {{
            browser.goto($path).await;
            gallery.assert_looks_well(&mut browser, $name).await;
        }};
    }
    assert_eq!(call(&served, &key, "127.0.0.1").await, 200);
    let slip = json!({"key": key, "found_at": "https://forum.example/post/9"});
    let client = Client::new(served.api, None);
    assert_eq!(client.post("/keys/report", &slip).await.status, 202);
    browser.goto(OVERVIEW).await;
    while !browser.text().await.contains("and it still works") {
        browser.goto(OVERVIEW).await;
    }
    look!(OVERVIEW, "reported-overview");
    look!("/dashboard/keys", "reported-keys");
    browser.goto(SETTINGS).await;
    let summary = browser.find("#networks summary").await;
    summary.click().await.expect("opens");
    gallery.take(&browser, "networks-from-here").await;
    for (act, name) in [("suspend", "suspended"), ("close", "closed")] {
        place.json(
            &[
                "seller",
                act,
                "--seller",
                SELLER,
                "--reason",
                "Unpaid invoice 7",
            ],
            "",
        );
        for (path, page) in [
            (OVERVIEW, "overview"),
            (SETTINGS, "settings"),
            ("/dashboard/keys", "keys"),
        ] {
            look!(path, &format!("{name}-{page}"));
        }
    }
    browser.assert_no_console_errors("those pages").await;
}
