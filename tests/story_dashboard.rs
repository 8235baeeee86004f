//! The dashboard in a real browser: a dealer makes a key, sees it once, and nothing that a browser does shows it again.
//!
//! Never: a page judged by its source alone where a person would look at it.

use crate::support::{
    binary::{PASSWORD, Place, Served},
    browser::{Browser, Gallery, Options},
    client::Client,
    factor::{code, wrong_code},
    fixtures::{VIN, record, vin},
    person::path_in,
};

const OWNER: &str = "owner@lone-star.example";

struct World {
    served: Served,
    place: Place,
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        let served = place.serve(&[]);
        place.create_seller("lone-star");
        Self { place, served }
    }

    async fn browser(&self, options: Options) -> Browser {
        Browser::start(options).await
    }

    fn here(&self) -> Options {
        Options::at(self.served.api)
    }

    async fn status(&self, key: &str) -> (u16, String) {
        let answer = Client::new(self.served.api, Some(key))
            .get("/api/v1/key")
            .await;
        let reason = if answer.status == 401 {
            answer.reason()
        } else {
            String::new()
        };
        (answer.status.as_u16(), reason)
    }

    /// Where a link that a command prints leads, on this server.
    fn link(&self, args: &[&str]) -> String {
        let answer = self.place.json(args, "");
        path_in(answer["link"].as_str().expect("a link")).to_owned()
    }

    fn invite(&self, email: &str, role: &str) -> String {
        self.link(&[
            "user",
            "invite",
            "--seller",
            "lone-star",
            "--email",
            email,
            "--role",
            role,
        ])
    }
}

async fn sign_in(browser: &Browser, email: &str) {
    browser.goto("/login").await;
    browser.fill("email", email).await;
    browser.fill("password", PASSWORD).await;
    browser.press("Sign in").await;
    assert_eq!(browser.path().await, "/dashboard");
}

async fn shown_key(browser: &Browser) -> String {
    let key = browser
        .find("[data-testid=api-key-value]")
        .await
        .text()
        .await;
    assert_eq!(key.len(), 46, "{key}");
    key
}

/// Whether a key, or a part that would be enough to guess it, is anywhere on the page.
async fn shows(browser: &Browser, key: &str) -> bool {
    browser.source().await.contains(&key[..24]) || browser.text().await.contains(&key[..24])
}

async fn generate_and_use(options: fn(Options) -> Options) {
    let world = World::new();
    let browser = world.browser(options(world.here())).await;
    sign_in(&browser, OWNER).await;
    browser.press("Settings").await;
    browser.press("Generate API Key for lone-star").await;
    let first = shown_key(&browser).await;
    assert_eq!(world.status(&first).await.0, 200);

    // Reload: the form is not posted again, or is refused; nothing is shown and nothing is made.
    browser.reload().await;
    assert!(!shows(&browser, &first).await, "a reload shows the key");
    assert_eq!(
        world.status(&first).await.0,
        200,
        "a reload made another key"
    );
    // Away, and back by the browser's own buttons.
    browser.goto("/dashboard/settings").await;
    browser.press("Regenerate API Key for lone-star…").await;
    assert!(
        browser.text().await.contains("gets 401"),
        "{}",
        browser.text().await
    );
    browser.press("Regenerate API Key for lone-star").await;
    let second = shown_key(&browser).await;
    assert_eq!(world.status(&first).await, (401, "revoked".to_owned()));
    assert_eq!(world.status(&second).await.0, 200);
    browser.press("I have stored the key").await;
    assert!(!shows(&browser, &second).await);
    browser.back().await;
    assert!(!shows(&browser, &second).await, "going back shows the key");
    browser.forward().await;
    assert!(!shows(&browser, &second).await);
    assert_eq!(
        world.status(&second).await.0,
        200,
        "going back made another key"
    );
    browser.assert_no_console_errors("the key's pages").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_shown_once_and_used() {
    generate_and_use(|options| options).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_without_a_script_and_on_a_phone() {
    generate_and_use(|options| options.without_javascript().width(360)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_at_once_leave_one_live_key_and_one_person_told() {
    let world = World::new();
    world.place.generate("lone-star");
    let browser = world.browser(world.here()).await;
    sign_in(&browser, OWNER).await;
    let one = browser.tab().await;
    browser.goto("/dashboard/settings").await;
    browser.press("Regenerate API Key for lone-star…").await;
    let other = browser.new_tab().await;
    browser.switch_to(&other).await;
    browser.goto("/dashboard/settings").await;
    browser.press("Regenerate API Key for lone-star…").await;
    browser.press("Regenerate API Key for lone-star").await;
    let key = shown_key(&browser).await;
    browser.switch_to(&one).await;
    browser.press("Regenerate API Key for lone-star").await;
    let text = browser.text().await;
    assert!(text.contains("No key was made for you"), "{text}");
    assert!(
        browser
            .find_all("[data-testid=api-key-value]")
            .await
            .is_empty()
    );
    assert_eq!(world.status(&key).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_copied_by_its_button_and_by_the_keyboard_alone_it_can_be_made() {
    let world = World::new();
    let browser = world.browser(world.here()).await;
    sign_in(&browser, OWNER).await;
    browser.goto("/dashboard/settings").await;
    browser
        .press_by_keyboard("Generate API Key for lone-star")
        .await;
    let key = shown_key(&browser).await;
    browser.click("Copy API key").await;
    assert_eq!(browser.clipboard().await, key);
}

/// Waits until the page says this, by itself.
async fn comes_to_say(browser: &Browser, words: &str) {
    let wait = async {
        while !browser.text().await.contains(words) {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(30), wait).await;
    let said = browser.text().await;
    assert!(waited.is_ok(), "it does not say {words:?}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_page_changes_by_itself_while_it_is_looked_at() {
    let world = World::new();
    let old = world.place.generate("lone-star");
    let browser = world.browser(world.here()).await;
    sign_in(&browser, OWNER).await;
    browser.goto("/dashboard/settings").await;
    comes_to_say(&browser, "Waiting for your first call.").await;
    comes_to_say(&browser, "Live: it updates by itself.").await;
    assert_eq!(world.status(&old).await.0, 200);
    comes_to_say(&browser, "Clients that used this key").await;
    let text = browser.text().await;
    assert!(!text.contains("Waiting for your first call"), "{text}");
    let new = world.place.generate("lone-star");
    assert_eq!(world.status(&old).await, (401, "revoked".to_owned()));
    comes_to_say(&browser, "1 client still sends a dead key.").await;
    // Whoever listens to the page is told, and once.
    let said = browser.find("#said").await.text().await;
    assert_eq!(said, "1 client still sends a dead key.");
    comes_to_say(&browser, "The key has changed since you opened this page.").await;
    assert_eq!(world.status(&new).await.0, 200);
    comes_to_say(&browser, "Nobody is left on a dead key").await;
    // What the person does on the page meanwhile is not disturbed: only what is told is replaced.
    browser
        .fill_in("form[action$=profile]", "phone", "+1 555 0100")
        .await;
    assert_eq!(world.status(&old).await.0, 401);
    comes_to_say(&browser, "1 client still sends a dead key.").await;
    let phone = browser.find("input[name=phone]").await;
    assert_eq!(phone.property("value").await, "+1 555 0100");

    browser.assert_no_console_errors("the key page").await;

    // The session ends elsewhere: the page says that it is not live any more, and a reload asks to sign in.
    world.place.change("DELETE FROM sessions").await;
    comes_to_say(&browser, "Not live any more").await;
    browser.reload().await;
    assert!(browser.path().await.starts_with("/login"));
}

/// What stands in the one element that shows a secret.
async fn shown(browser: &Browser, id: &str) -> String {
    let element = browser.find(&format!("[data-testid={id}]")).await;
    element.text().await
}

/// The pages of a second factor, for axe and for whoever looks at the pictures; and it works where no script runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_is_set_up_and_used_in_a_browser_and_axe_finds_nothing() {
    let world = World::new();
    let mut browser = world.browser(world.here()).await;
    let gallery = Gallery::from_environment();
    sign_in(&browser, OWNER).await;
    let set_up = format!("Set up a second factor for {OWNER}");
    browser.goto("/dashboard/settings").await;
    browser.press(&set_up).await;
    gallery
        .assert_looks_well(&mut browser, "factor-begun")
        .await;
    let secret = shown(&browser, "factor-secret").await.replace(' ', "");
    browser.fill("code", &wrong_code(&secret)).await;
    browser.press("Turn the second factor on").await;
    gallery
        .assert_looks_well(&mut browser, "factor-wrong")
        .await;
    browser.back().await;
    let source = browser.source().await;
    assert!(
        !source.contains(&secret[..4]) && !source.contains("<path"),
        "shown once: {source}"
    );
    browser.goto("/dashboard/settings").await;
    browser.press(&set_up).await;
    let secret = shown(&browser, "factor-secret").await.replace(' ', "");
    browser.fill("code", &code(&secret)).await;
    browser.press("Turn the second factor on").await;
    gallery
        .assert_looks_well(&mut browser, "recovery-codes")
        .await;
    let codes = shown(&browser, "recovery-codes").await;
    let codes: Vec<String> = codes.lines().map(str::to_owned).collect();
    assert_eq!(codes.len(), 10);
    browser.press("I have kept the codes").await;
    browser.back().await;
    assert!(!browser.source().await.contains(&codes[0]), "shown once");
    browser.goto("/dashboard/settings").await;
    browser
        .click("Turn it off, or move it to another phone")
        .await;
    gallery
        .assert_looks_well(&mut browser, "settings-factor")
        .await;
    browser
        .press("Demand a second factor of members of lone-star")
        .await;
    browser.goto("/dashboard/settings").await;
    gallery
        .assert_looks_well(&mut browser, "settings-factor-demanded")
        .await;
    world
        .place
        .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
        .await;
    browser.fill("code", &codes[0]).await;
    browser.press("Make new recovery codes").await;
    gallery
        .assert_looks_well(&mut browser, "step-up-factor")
        .await;

    // The code after the password.
    sign_out(&browser).await;
    browser.fill("email", OWNER).await;
    browser.fill("password", PASSWORD).await;
    browser.press("Sign in").await;
    gallery.assert_looks_well(&mut browser, "login-code").await;
    browser.fill("code", "000").await;
    browser.press("Sign in").await;
    gallery
        .assert_looks_well(&mut browser, "login-code-wrong")
        .await;

    // Whoever has none is told so.
    browser
        .goto(&world.invite("ann@lone-star.example", "admin"))
        .await;
    browser.fill("password", PASSWORD).await;
    browser.press("Join lone-star").await;
    browser.goto("/dashboard/settings").await;
    gallery
        .assert_looks_well(&mut browser, "settings-lacks-factor")
        .await;

    let plain = world.browser(world.here().without_javascript()).await;
    plain.goto("/login").await;
    plain.fill("email", OWNER).await;
    plain.fill("password", PASSWORD).await;
    plain.press("Sign in").await;
    assert!(plain.path().await.starts_with("/login/code"));
    plain.fill("code", &codes[1]).await;
    plain.press("Sign in").await;
    assert_eq!(plain.path().await, "/dashboard");
}

/// Every page and state, for axe in both themes and for whoever looks at the pictures.
#[tokio::test(flavor = "multi_thread")]
async fn axe_finds_nothing_on_any_page_in_any_state() {
    let world = World::new();
    let mut browser = world.browser(world.here()).await;
    let gallery = Gallery::from_environment();
    let mut seen = Vec::new();
    macro_rules! look {
        ($name:expr) => {{
            gallery.assert_looks_well(&mut browser, $name).await;
            seen.push($name);
        }};
    }

    browser.goto("/login").await;
    look!("login");
    browser.fill("email", OWNER).await;
    browser.fill("password", "not the password").await;
    browser.press("Sign in").await;
    look!("login-wrong");
    browser.goto("/nowhere").await;
    look!("not-found");
    browser.goto("/forgot-password").await;
    look!("forgotten");
    for (path, name) in [
        ("/docs", "docs"),
        ("/docs/quickstart", "docs-quickstart"),
        ("/docs/authentication", "docs-authentication"),
        ("/docs/accounts", "docs-accounts"),
        ("/docs/inventory", "docs-inventory"),
        ("/docs/dealers", "docs-dealers"),
        ("/docs/errors", "docs-errors"),
        ("/docs/limits", "docs-limits"),
        ("/docs/scaling", "docs-scaling"),
        ("/docs/security", "docs-security"),
    ] {
        browser.goto(path).await;
        look!(name);
    }

    let admin = world.served.admin;
    browser
        .goto(&format!("http://{admin}/nodes?refresh=no"))
        .await;
    look!("nodes");
    browser
        .goto(&world.invite("ann@lone-star.example", "viewer"))
        .await;
    look!("invitation");
    browser.fill("password", "password1234").await;
    browser.press("Join lone-star").await;
    look!("invitation-wrong");
    browser.fill("password", PASSWORD).await;
    browser.press("Join lone-star").await;
    browser.goto("/dashboard/settings").await;
    look!("settings-viewer");
    browser.goto("/dashboard").await;
    look!("overview-viewer");
    sign_out(&browser).await;
    look!("login-signed-out");
    browser
        .goto(&world.link(&["user", "reset-password", "--email", "ann@lone-star.example"]))
        .await;
    look!("reset");
    browser.goto("/reset-password?token=x").await;
    look!("dead-link");

    sign_in(&browser, OWNER).await;
    look!("overview-empty");
    browser.goto("/dashboard/inventory").await;
    look!("inventory-empty");
    browser.goto("/dashboard/settings").await;
    look!("settings-no-key");
    browser.click("Add a location").await;
    browser.click("Invite somebody").await;
    look!("settings-open");
    browser
        .fill_in("form[action$=invite]", "email", "bob@yard.example")
        .await;
    browser.press("Make an invitation link").await;
    look!("invited");
    browser.goto("/dashboard/settings").await;
    browser
        .fill_in(
            "form[action$=profile]",
            "website",
            "https://lonestar.example",
        )
        .await;
    browser
        .fill_in("form[action$=profile]", "phone", "tr_live_")
        .await;
    browser.press("Save profile").await;
    look!("settings-wrong");

    browser.goto("/dashboard/settings").await;
    browser.press("Generate API Key for lone-star").await;
    look!("key-shown");
    let key = shown_key(&browser).await;
    browser.goto("/dashboard/settings").await;
    look!("settings-waiting");
    let client = Client::new(world.served.api, Some(&key));
    let records: Vec<_> = (0..60).map(|n| record(&vin(n))).collect();
    let sent = client
        .post(
            "/api/v1/inventory",
            &serde_json::json!({"records": records}),
        )
        .await;
    assert_eq!(sent.status, 200);
    client.post("/api/v1/inventory", &record(VIN)).await;
    let sold = serde_json::json!({"vin": VIN, "status": "sold"});
    assert_eq!(client.patch("/api/v1/inventory", &sold).await.status, 200);
    for agent in [
        "node-fetch/3.3.2",
        "curl/7.88.1",
        "DealerSync/2.1 (nightly run)",
    ] {
        let request = client
            .request(reqwest::Method::GET, "/api/v1/key")
            .header("user-agent", agent);
        assert_eq!(client.send(request).await.status, 200);
    }
    // Whoever asks for a key's clients has what was counted written first.
    world
        .place
        .json(&["key", "show", "--seller", "lone-star"], "");
    browser.goto("/dashboard").await;
    look!("overview");
    browser.goto("/dashboard/inventory").await;
    look!("inventory");
    browser.goto("/dashboard/inventory?q=Peterbilt").await;
    look!("inventory-none");
    browser.goto("/dashboard/settings").await;
    look!("settings-live");
    browser.press("Regenerate API Key for lone-star…").await;
    look!("regenerate");
    browser.goto("/dashboard/settings").await;
    browser.press("Prepare next key for lone-star").await;
    look!("next-key-shown");
    browser.goto("/dashboard/settings").await;
    look!("settings-staged");
    world
        .place
        .change("UPDATE staged_keys SET shown_us = NULL")
        .await;
    browser.goto("/dashboard/settings").await;
    look!("settings-staged-unseen");
    browser.press("Regenerate API Key for lone-star…").await;
    look!("regenerate-staged");
    let stale = browser.tab().await;
    let other = browser.new_tab().await;
    browser.switch_to(&other).await;
    let present = world.place.generate("lone-star");
    client.get("/api/v1/key").await;
    world
        .place
        .json(&["key", "show", "--seller", "lone-star"], "");
    browser.goto("/dashboard/settings").await;
    look!("settings-stragglers");
    browser.goto("/dashboard").await;
    look!("overview-stragglers");
    client.with_key(&present).get("/api/v1/key").await;
    browser.goto("/dashboard/settings").await;
    look!("settings-quiet");
    for earlier in [
        "UPDATE key_usage SET minute = minute - 11, last_us = last_us - 660000000",
        "UPDATE api_keys SET ended_us = ended_us - 660000000",
    ] {
        world.place.change(earlier).await;
    }
    browser.goto("/dashboard/settings").await;
    look!("settings-all-clear");
    browser.switch_to(&stale).await;
    browser.press("Regenerate API Key for lone-star").await;
    look!("key-conflict");

    world
        .place
        .change("UPDATE api_keys SET shown_us = NULL WHERE state = 'live'")
        .await;
    browser.goto("/dashboard/settings").await;
    look!("settings-never-shown");
    let reason = "Found in a public repository on 3 May; the maintainer told us.";
    world.place.json(
        &["key", "expire", "--seller", "lone-star", "--reason", reason],
        "",
    );
    browser.goto("/dashboard/settings").await;
    look!("settings-expired");
    browser.press("Open the audit log").await;
    look!("audit");
    let nothing = "/dashboard/settings/audit?before=00000000-0000-7000-8000-000000000000";
    browser.goto(nothing).await;
    look!("audit-no-older");
    browser.goto("/dashboard/settings").await;
    world
        .place
        .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
        .await;
    browser.press("Generate API Key for lone-star").await;
    look!("step-up");
    assert!(seen.len() > 25, "{seen:?}");
}

async fn sign_out(browser: &Browser) {
    browser
        .find("details.switch summary")
        .await
        .click()
        .await
        .expect("opens");
    browser.press("Sign out").await;
    assert_eq!(browser.path().await, "/login?done=signed-out");
}
