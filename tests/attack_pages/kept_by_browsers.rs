//! Somebody sits down at a browser after its owner has gone, and presses Back.
//!
//! Never: a secret in the page or in its source once the person has left it, with scripts or without.

use crate::support::{
    binary::{PASSWORD, Place},
    browser::{Browser, Options},
};

/// What stands in the one element that shows a secret.
async fn shown(browser: &Browser, id: &str) -> Option<String> {
    let source = browser.source().await;
    let (_, rest) = source.split_once(&format!("data-testid=\"{id}\""))?;
    let (_, rest) = rest.split_once('>')?;
    rest.split('<').next().map(str::to_owned)
}

/// Neither of the secrets is on the page that is before the person.
async fn assert_hides(browser: &Browser, secrets: &[String], told: &str) {
    let (text, source) = (browser.text().await, browser.source().await);
    let path = browser.path().await;
    for secret in secrets {
        // A part of it would be as bad.
        let part = &secret[secret.len() - 30..];
        assert!(!text.contains(part), "{told}: it is on {path}:\n{text}");
        assert!(
            !source.contains(part),
            "{told}: it is in the source of {path}"
        );
    }
}

async fn tries_to_see_it_again(options: impl Fn(Options) -> Options) {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let email = "owner@lone-star.example";
    let browser = Browser::start(options(Options::at(served.api))).await;
    browser.goto("/login").await;
    browser.fill("email", email).await;
    browser.fill("password", PASSWORD).await;
    browser.press_at("main form button").await;
    browser.goto("/dashboard/settings").await;
    browser.press("Generate API Key for lone-star").await;
    let key = shown(&browser, "api-key-value").await.expect("a key");
    assert!(key.starts_with("tr_live_") && browser.text().await.contains(&key));
    let mut secrets = vec![key];

    browser.press("I have stored the key").await;
    assert_hides(&browser, &secrets, "on the next page").await;
    browser.back().await;
    assert_hides(&browser, &secrets, "after Back").await;
    browser.reload().await;
    assert_hides(&browser, &secrets, "after Back and Reload").await;
    browser.forward().await;
    assert_hides(&browser, &secrets, "after Forward").await;
    browser.goto("/dashboard").await;
    for step in 1..=3 {
        browser.back().await;
        assert_hides(&browser, &secrets, &format!("{step} times Back")).await;
    }

    // The same for the link of an invitation, on a page that is left by its menu.
    browser.goto("/dashboard/settings?seller=lone-star").await;
    browser.click("Invite somebody").await;
    let field = "#members [name=email]";
    browser.fill_at(field, "ann@yard.example").await;
    browser.press("Make an invitation link").await;
    let link = shown(&browser, "invitation-link").await.expect("a link");
    assert!(link.contains("/invitation?token=") && browser.text().await.contains(&link));
    secrets.push(link);
    browser.click(email).await;
    browser.press("Your password and sessions").await;
    assert_hides(&browser, &secrets, "in the menu's page").await;
    browser.back().await;
    assert_hides(&browser, &secrets, "Back to the invitation").await;
    browser.forward().await;
    assert_hides(&browser, &secrets, "and Forward").await;

    // Somebody else sits down after the person has signed out: nothing at all of the dealer is to be seen.
    browser.goto("/dashboard/inventory").await;
    browser.press("Overview").await;
    browser.click(email).await;
    browser.press("Sign out").await;
    for step in 1..=6 {
        browser.back().await;
        let told = format!("signed out, {step} times Back");
        assert_hides(&browser, &secrets, &told).await;
        let source = browser.source().await;
        assert!(!source.contains(email), "{told}: {source}");
    }
}

#[tokio::test]
async fn a_key_is_not_seen_again_by_going_back() {
    tries_to_see_it_again(|options| options).await;
}

#[tokio::test]
async fn a_key_is_not_seen_again_by_going_back_without_javascript() {
    tries_to_see_it_again(Options::without_javascript).await;
}
