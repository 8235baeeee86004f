//! Whoever is a member of nothing has a password, sessions and a second factor all the same.
//!
//! Never: a form that reaches somebody else's.

use super::*;

async fn member_of_nothing(world: &World) -> Person {
    let person = Person::invited(&world.place, world.served.api, "lone-star", ANN, "viewer").await;
    let args = ["user", "remove", "--seller", "lone-star", "--email", ANN];
    world.place.json(&args, "");
    person
}

#[tokio::test]
async fn a_member_of_nothing_changes_their_password_and_ends_their_sessions() {
    let world = World::new();
    let mut ann = member_of_nothing(&world).await;
    let told = ann.get("/dashboard").await;
    assert_eq!(told.status, 403);
    assert!(
        told.text.contains("href=\"/dashboard/account\""),
        "{}",
        told.text
    );
    let mut elsewhere = Person::signed_in(world.served.api, ANN, PASSWORD).await;
    let page = ann.get("/dashboard/account").await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.words().contains("not a member of any dealer account"));
    let form = page.form("/dashboard/settings/password");
    assert_eq!(form.get("seller"), None);

    // Wrong, too short, and right.
    let wrong = form.clone().with("old_password", "not the password");
    let wrong = ann
        .send(&wrong.with("new_password", "seven lorries at dawn"))
        .await;
    assert_eq!(wrong.status, 422);
    assert!(
        wrong
            .words()
            .contains("Your present password is not right.")
    );
    let short = form.clone().with("old_password", PASSWORD);
    let short = ann.send(&short.with("new_password", "short")).await;
    assert_eq!(short.status, 422, "{}", short.text);
    let right = form.with("old_password", PASSWORD);
    let right = ann
        .send(&right.with("new_password", "seven lorries at dawn"))
        .await;
    assert_eq!(right.status, 303, "{}", right.text);
    assert_eq!(
        right.header("location"),
        "/dashboard/account?done=password#password"
    );
    let page = ann.get("/dashboard/account?done=password").await;
    assert!(
        page.words().contains("Your password is changed."),
        "{}",
        page.words()
    );
    let ended = elsewhere.get("/dashboard/account").await;
    assert_eq!(ended.status, 303, "the other session ended");

    // Sessions, with the password asked for once it was long ago.
    let mut elsewhere = Person::signed_in(world.served.api, ANN, "seven lorries at dawn").await;
    world
        .place
        .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
        .await;
    let page = ann.get("/dashboard/account").await;
    let others = page
        .forms()
        .into_iter()
        .find(|form| form.get("session") == Some("others"))
        .expect("can be ended");
    let asked = ann.send(&others).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    assert_eq!(elsewhere.get("/dashboard/account").await.status, 200);
    let form = asked.form_with_id("confirm-password");
    assert!(
        asked.text.contains("href=\"/dashboard/account\">Cancel"),
        "{}",
        asked.text
    );
    let done = ann
        .send(&form.with("current_password", "seven lorries at dawn"))
        .await;
    assert_eq!(
        done.header("location"),
        "/dashboard/account?done=sessions#sessions"
    );
    assert_eq!(elsewhere.get("/dashboard/account").await.status, 303);
    let nonsense = others.with("session", "nonsense");
    assert_eq!(ann.send(&nonsense).await.status, 422);
    let all = nonsense.with("session", "all");
    assert_eq!(
        ann.send(&all).await.header("location"),
        "/login?done=signed-out"
    );
    assert_eq!(ann.get("/dashboard/account").await.status, 303);
}

#[tokio::test]
async fn a_member_of_nothing_sets_a_second_factor_up_makes_new_codes_and_turns_it_off() {
    let world = World::new();
    let mut ann = member_of_nothing(&world).await;
    let own = "/dashboard/account";
    let act = |act: &str| format!("/dashboard/settings/second-factor/{act}");
    let page = ann.get(own).await;
    let begin = page.form(&act("begin"));
    assert_eq!(begin.get("seller"), None);
    let shown = ann.send(&begin).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    let secret = shown.shown_secret();
    // The way back, and where a reload leads, is the page that they came from.
    let text = &shown.text;
    assert!(
        text.contains("/dashboard/account?done=not-begun#second-factor"),
        "{text}"
    );
    assert!(text.contains("data-once=\"/dashboard/account?done=shown-factor#second-factor\""));
    assert!(!text.contains("/dashboard/settings?"), "{text}");
    let confirm = shown.form(&act("confirm"));
    assert_eq!(confirm.get("seller"), None);
    let wrong = confirm.clone().with("code", &factor::wrong_code(&secret));
    let wrong = ann.send(&wrong).await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
    assert!(wrong.words().contains("That code is not right"));
    assert!(
        wrong
            .shown("factor-secret")
            .is_none_or(|shown| shown.is_empty())
    );
    let on = ann
        .send(&confirm.with("code", &factor::code(&secret)))
        .await;
    assert_eq!(on.status, 200, "{}", on.text);
    let codes = on.shown_codes();
    assert!(
        on.text
            .contains("/dashboard/account?done=kept-codes#second-factor")
    );
    let page = ann.get("/dashboard/account?done=kept-codes").await;
    let words = page.words();
    assert!(words.contains("The second factor is on."), "{words}");
    assert!(words.contains("10 recovery codes are left"), "{words}");
    // What is asked for again, is asked for on a page that leads back there.
    world
        .place
        .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
        .await;
    let make = page.form(&act("codes")).with("code", &codes[0]);
    let asks = ann.send(&make).await;
    assert!(asks.words().contains("Confirm that it is you"));
    assert!(
        asks.text.contains("href=\"/dashboard/account\">Cancel"),
        "{}",
        asks.text
    );
    let form = asks.form(&act("codes")).with("current_password", PASSWORD);
    let new = ann.send(&form).await.shown_codes();
    let refused = ann.send(&make).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(
        refused
            .words()
            .contains("Your recovery codes are as they were")
    );
    let off = page.form(&act("off")).with("old_password", PASSWORD);
    let wrong = ann.send(&off.clone().with("code", &codes[1])).await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
    assert!(wrong.words().contains("The second factor is as it was"));
    let done = ann.send(&off.with("code", &new[0])).await;
    assert_eq!(
        done.header("location"),
        "/dashboard/account?done=factor-off#second-factor"
    );
    let page = ann.get("/dashboard/account?done=factor-off").await;
    assert!(page.words().contains("The second factor is turned off."));
    // A form that names a dealer must name one of one's own.
    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    let settings = owner.get("/dashboard/settings").await;
    assert_eq!(ann.send(&settings.form(&act("begin"))).await.status, 403);
}

#[tokio::test]
async fn ones_own_forms_reach_nobody_elses_session() {
    let world = World::new();
    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    let mut ann = member_of_nothing(&world).await;
    let mut inside = world.place.look_inside().await;
    let owners: String = sqlx::query_scalar(
        "SELECT s.id FROM sessions s JOIN users u ON u.id = s.user_id WHERE u.email = $1",
    )
    .bind("owner@lone-star.example")
    .fetch_one(&mut inside)
    .await
    .expect("a session");
    let page = ann.get("/dashboard/account").await;
    assert!(!page.text.contains(&owners), "{}", page.text);
    let form = [("session", owners.as_str())];
    let form = Form::made_up("/dashboard/settings/sessions/end", form);
    assert_eq!(ann.send(&form).await.status, 303);
    assert_eq!(owner.get("/dashboard").await.status, 200, "goes on");
    // A form that names a dealer must name one of one's own.
    let settings = owner.get("/dashboard/settings").await;
    let form = settings.form("/dashboard/settings/password");
    assert!(form.get("seller").is_some());
    assert_eq!(ann.send(&form).await.status, 403);
    assert_eq!(
        ann.get("/dashboard/account?seller=lone-star").await.status,
        403
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_member_of_nothing_is_legible_and_accessible() {
    let world = World::new();
    member_of_nothing(&world).await;
    let mut browser = Browser::start(Options::at(world.served.api)).await;
    let gallery = Gallery::from_environment();
    browser.goto("/login?next=/dashboard/account").await;
    browser.fill("email", ANN).await;
    browser.fill("password", PASSWORD).await;
    browser.press("Sign in").await;
    assert_eq!(browser.path().await, "/dashboard/account");
    for (path, name) in [
        ("/dashboard/account", "account-of-nothing"),
        ("/dashboard/keys", "keys-of-nothing"),
        ("/dashboard", "dashboard-of-nothing"),
    ] {
        browser.goto(path).await;
        gallery.assert_looks_well(&mut browser, name).await;
    }
}
