//! What a person does in Settings for themselves and for others: members, passwords, sessions.
//!
//! Never: an act for which nobody was asked for a password that it takes.

use super::*;

#[tokio::test]
async fn an_act_that_matters_wants_the_password_when_it_was_given_long_ago() {
    let world = World::new(&["lone-star"]);
    let mut owner = world.owner("lone-star").await;
    let form = owner
        .get("/dashboard/settings")
        .await
        .form_with_id("generate-api-key");
    world
        .place
        .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
        .await;
    let before = owner.session_token().map(str::to_owned);

    let asked = owner.send(&form).await;
    assert_eq!((asked.status.as_u16(), asked.shown_key()), (200, None));
    assert!(asked.words().contains("Confirm that it is you"));
    assert!(world.key_of("lone-star").is_null(), "asking made a key");
    let ask = asked.form(KEY);
    assert_eq!(ask.button, "Generate API Key for lone-star");
    let wrong = owner
        .send(&ask.clone().with("current_password", "not the password"))
        .await;
    assert_eq!((wrong.status.as_u16(), wrong.shown_key()), (422, None));
    assert!(!wrong.text.contains("not the password"));
    assert!(world.key_of("lone-star").is_null());

    let key = key_in(
        &owner
            .send(&wrong.form(KEY).with("current_password", PASSWORD))
            .await,
    );
    assert_eq!(world.works(&key).await.status, 200);
    // The session goes on under another token; the old one opens nothing.
    let after = owner.session_token().map(str::to_owned);
    assert_ne!(before, after);
    assert_eq!(owner.get("/dashboard").await.status, 200);
    let mut thief = owner.clone();
    thief.set_session_token(&before.expect("a token"));
    assert_eq!(thief.get("/dashboard").await.status, 303);
}

#[tokio::test]
async fn an_owner_invites_promotes_and_removes() {
    let world = World::new(&["lone-star"]);
    let mut owner = world.owner("lone-star").await;
    let page = owner.get("/dashboard/settings").await;
    let form = page.form("/dashboard/settings/members/invite");
    let form = form
        .with("email", "Bob@Yard.example")
        .with("role", "viewer");
    let invited = owner.send(&form).await;
    assert_eq!(invited.status, 200, "{}", invited.text);
    assert_eq!(invited.header("cache-control"), "no-store");
    let (_, rest) = invited
        .text
        .split_once("data-testid=\"invitation-link\"")
        .expect("a link");
    let link = rest
        .split_once('>')
        .and_then(|(_, rest)| rest.split('<').next())
        .expect("a link");
    let (_, path) = link
        .split_once(&world.served.api.to_string())
        .expect("leads here");
    let page = owner.get("/dashboard/settings").await;
    assert!(
        page.words().contains("bob@yard.example Invited as viewer"),
        "{}",
        page.words()
    );
    assert!(!page.text.contains(path), "the link is shown again");

    let mut bob = Person::at(world.served.api);
    // Looking uses nothing up.
    for _ in 0..2 {
        assert_eq!(bob.get(path).await.status, 200);
    }
    let form = bob.get(path).await.form("/invitation");
    let weak = bob
        .send(&form.clone().with("password", "password1234"))
        .await;
    assert_eq!(weak.status, 422, "{}", weak.text);
    assert!(
        weak.words()
            .contains("among the first that would be guessed"),
        "{}",
        weak.words()
    );
    let joined = bob.send(&form.clone().with("password", PASSWORD)).await;
    assert_eq!(joined.status, 303);
    assert_eq!(bob.get("/dashboard").await.status, 200);
    assert_eq!(bob.send(&form.with("password", PASSWORD)).await.status, 410);
    assert_eq!(Person::at(world.served.api).get(path).await.status, 410);

    let page = owner.get("/dashboard/settings").await;
    let bobs = |page: &Answer, action: &str| {
        let mut found = page
            .forms()
            .into_iter()
            .filter(|form| form.action == action);
        found.next_back().expect("a form for bob")
    };
    let promote = bobs(&page, "/dashboard/settings/members/role").with("role", "admin");
    assert_eq!(owner.send(&promote).await.status, 303);
    let form = bob
        .get("/dashboard/settings")
        .await
        .form_with_id("generate-api-key");
    // An admin reaches no owner.
    let owners = page.form("/dashboard/settings/members/remove");
    assert_eq!(bob.send(&owners).await.status, 403);
    // The last owner stays.
    let last = owner.send(&owners).await;
    assert_eq!(last.status, 422);
    assert!(last.words().contains("needs an owner"), "{}", last.words());

    let remove = bobs(&page, "/dashboard/settings/members/remove");
    assert_eq!(owner.send(&remove).await.status, 303);
    // Removed is removed: the page that is still open does nothing.
    assert_eq!(bob.send(&form).await.status, 403);
    assert_eq!(
        bob.get("/dashboard/settings?seller=lone-star").await.status,
        403
    );
    assert!(world.key_of("lone-star").is_null());
}

#[tokio::test]
async fn a_person_changes_their_password_and_sees_where_they_are_signed_in() {
    let world = World::new(&["lone-star"]);
    let mut here = world.owner("lone-star").await;
    let mut there = world.owner("lone-star").await;
    let mut third = world.owner("lone-star").await;
    let page = here.get("/dashboard/settings").await;
    let ends: Vec<Form> = page
        .forms()
        .into_iter()
        .filter(|form| form.action == "/dashboard/settings/sessions/end")
        .collect();
    assert_eq!(ends.len(), 4, "two others, everywhere else, everywhere");
    assert_eq!(here.send(&ends[0]).await.status, 303);
    let left = [
        there.get("/dashboard").await.status,
        third.get("/dashboard").await.status,
    ];
    assert_eq!(
        left.iter().filter(|status| status.as_u16() == 200).count(),
        1,
        "{left:?}"
    );

    let change = page.form("/dashboard/settings/password");
    let new = "a truck, a lake, a lamp";
    let wrong = change
        .clone()
        .with("old_password", "not that one")
        .with("new_password", new);
    let refused = here.send(&wrong).await;
    assert_eq!(refused.status, 422);
    assert!(
        refused
            .words()
            .contains("Your present password is not right."),
        "{}",
        refused.words()
    );
    let short = change
        .clone()
        .with("old_password", PASSWORD)
        .with("new_password", "short");
    assert!(
        here.send(&short)
            .await
            .words()
            .contains("12 characters or more")
    );
    let right = change
        .with("old_password", PASSWORD)
        .with("new_password", new);
    assert_eq!(here.send(&right).await.status, 303);
    assert_eq!(here.get("/dashboard").await.status, 200);
    for other in [&mut there, &mut third] {
        assert_eq!(other.get("/dashboard").await.status, 303);
    }
    let page = here.get("/dashboard/settings").await;
    let mut forms = page.forms().into_iter();
    let everywhere = forms.find(|form| form.button == "Sign out everywhere");
    let out = here.send(&everywhere.expect("a form")).await;
    assert_eq!(out.header("location"), "/login?done=signed-out");
    assert_eq!(here.get("/dashboard").await.status, 303);
    let mut person = Person::at(world.served.api);
    assert_eq!(
        person
            .sign_in("owner@lone-star.example", PASSWORD)
            .await
            .status,
        422
    );
    assert_eq!(
        person.sign_in("Owner@Lone-Star.example ", new).await.status,
        303
    );
}

#[tokio::test]
async fn a_forgotten_password_is_set_by_a_link_once() {
    let world = World::new(&["lone-star"]);
    let mut owner = world.owner("lone-star").await;
    let args = [
        "user",
        "reset-password",
        "--email",
        "owner@lone-star.example",
    ];
    let link = |answer: serde_json::Value| answer["link"].as_str().expect("a link").to_owned();
    let older = link(world.place.json(&args, ""));
    let newer = link(world.place.json(&args, ""));
    let base = world.place.base_of_links(world.served.api);
    let path = |link: &str| link.strip_prefix(&base).expect("here").to_owned();
    let mut person = Person::at(world.served.api);
    assert_eq!(person.get(&path(&older)).await.status, 410);
    let form = person.get(&path(&newer)).await.form("/reset-password");
    let form = form.with("password", "a truck, a lake, a lamp");
    let set = person.send(&form).await;
    assert_eq!(
        (set.status.as_u16(), set.header("location")),
        (303, "/login?done=password")
    );
    assert_eq!(person.send(&form).await.status, 410);
    assert_eq!(
        owner.get("/dashboard").await.status,
        303,
        "a session survived"
    );
    assert_eq!(
        person
            .sign_in("owner@lone-star.example", "a truck, a lake, a lamp")
            .await
            .status,
        303
    );
}

#[tokio::test]
async fn signing_out_ends_the_session_for_whoever_has_its_token() {
    let world = World::new(&["lone-star"]);
    let mut owner = world.owner("lone-star").await;
    let mut copy = owner.clone();
    let form = owner.get("/dashboard").await.form("/logout");
    let out = owner.send(&form).await;
    assert_eq!(
        (out.status.as_u16(), out.header("location")),
        (303, "/login?done=signed-out")
    );
    assert_eq!(owner.session_token(), None);
    assert_eq!(out.header("clear-site-data"), "\"cache\"");
    let next = copy.get("/dashboard/settings?seller=lone-star").await;
    assert_eq!(next.status, 303);
    assert_eq!(
        next.header("location"),
        "/login?next=%2Fdashboard%2Fsettings%3Fseller%3Dlone-star"
    );
}

#[tokio::test]
async fn somebody_who_is_a_member_of_nothing_is_told_so() {
    let world = World::new(&["lone-star"]);
    let mut bob = world
        .member("lone-star", "bob@yard.example", "viewer")
        .await;
    let args = [
        "user",
        "remove",
        "--seller",
        "lone-star",
        "--email",
        "bob@yard.example",
    ];
    world.place.json(&args, "");
    for path in ["/dashboard", "/dashboard/settings", "/dashboard/inventory"] {
        let page = bob.get(path).await;
        assert_eq!(page.status, 403);
        assert!(
            page.words().contains("No dealer account yet"),
            "{}",
            page.words()
        );
        let id = page.header("x-request-id").to_owned();
        assert!(
            page.words().contains(&id),
            "the page does not say its request id"
        );
    }
}
