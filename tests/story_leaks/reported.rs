//! A key that somebody hands in: whom it tells, what it does, and once a day only.
//!
//! Never: the key told to anybody, whoever hands it in.

use super::*;

#[tokio::test]
async fn a_key_that_somebody_hands_in_goes_on_working_and_its_owners_are_told_once_a_day() {
    let world = World::new();
    let key = world.place.generate("lone-star");
    let mut finder = Person::at(world.served.api);
    let page = finder.get("/keys/report").await;
    assert_eq!(page.status, 200);
    let form = page.form("/keys/report");
    assert_eq!(form.button, "Report this key");
    let lines = format!("# config\nexport TRUCKRADAR_API_KEY={key}\n");
    let form = form.with("key", &lines).with("found_at", FOUND_AT);
    let thanks = finder.send(&form).await;
    assert_eq!(thanks.status, 202);
    assert!(thanks.words().contains("Thank you."), "{}", thanks.text);
    world.until_counted("report", "told", 1).await;

    let mails = world.mails().await;
    assert_eq!(recipients(&mails), [OWNER, CONTACT]);
    for mail in &mails {
        let subject = mail.header("Subject");
        assert!(
            subject.ends_with("was reported as found, and still works"),
            "{subject}"
        );
        let told = "- https: //github. com/octocat/hello/blob/1234567/deploy. sh\n";
        assert!(mail.text().contains(told), "{}", mail.text());
    }
    let how = "truckradar key expire --seller lone-star --reason";
    assert!(mails[1].text().contains(how), "{}", mails[1].text());
    assert_eq!(world.says(&key).await, "200");

    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    let page = owner.get(PAGE).await;
    let told = format!(
        "Somebody reported that they found tr_live_••••{} , and it still works.",
        &key[42..]
    );
    assert!(page.words().contains(&told), "{}", page.words());
    // Whoever replaces it is told whose a client may be, and is not led to keep the key for longer.
    let asked = owner.send(&page.form_with_id("generate-api-key")).await;
    let words = asked.words();
    assert!(
        words.contains("reported that they found this key"),
        "{words}"
    );
    assert!(
        words.contains("put the new key into it, if it is yours,"),
        "{words}"
    );
    assert!(!words.contains("Prepare the next key"), "{words}");
    let all = owner.get("/dashboard/keys").await;
    assert!(!all.words().contains("Prepare next key"), "{}", all.words());
    assert!(
        page.words()
            .contains("Whoever found the present key can use it until the cut-over.")
    );
    let log = owner
        .get("/dashboard/settings/audit?seller=lone-star")
        .await;
    let words = log.words();
    assert!(
        words.contains(&format!(
            "API key reported as found Found: {FOUND_AT} a report "
        )),
        "{words}"
    );

    // Again and elsewhere: counted, and nobody is mailed again.
    world.hand_in(&key).await;
    let slip = json!({"key": key});
    assert_eq!(world.client().post("/keys/report", &slip).await.status, 202);
    world.until_counted("report", "told", 3).await;
    assert_eq!(world.mails().await.len(), 2);
    let sql = "SELECT COUNT(*) FROM audit_log WHERE act = 'key.reported'";
    assert_eq!(world.count(sql).await, 1);
    assert_eq!(world.count("SELECT COUNT(*) FROM leaks").await, 2);

    // Dismissed it is shown no more, until somebody says it again.
    let page = owner.get(PAGE).await;
    for form in page.forms() {
        if form.action == "/dashboard/settings/api-key/dismiss-leak" {
            assert_eq!(form.button, "We know: dismiss this for lone-star");
            assert_eq!(owner.send(&form).await.status, 303);
        }
    }
    let words = owner.get(PAGE).await.words();
    assert!(!words.contains("Somebody reported"), "{words}");
    let day = "UPDATE leaks SET told_us = told_us - 86400000000";
    world.place.change(day).await;
    world.hand_in(&key).await;
    world.until_counted("report", "told", 4).await;
    assert_eq!(
        world.mails().await.len(),
        4,
        "a day later they are told again"
    );
    let words = owner.get(PAGE).await.words();
    assert!(words.contains("Somebody reported"), "{words}");

    // The key replaced, there is nothing left to say.
    world.place.generate("lone-star");
    let words = owner.get(PAGE).await.words();
    assert!(!words.contains("Somebody reported"), "{words}");
    world.assert_kept_nothing_of(&[key]).await;
}

#[tokio::test]
async fn a_reported_key_that_cannot_be_used_at_present_is_not_said_to_work() {
    let world = World::new();
    let live = world.place.generate("lone-star");
    let staged = world.prepare();
    world.hand_in(&staged).await;
    world.until_counted("report", "told", 1).await;
    let mails = world.mails().await;
    assert_eq!(recipients(&mails), [OWNER, CONTACT]);
    for mail in &mails {
        let (subject, text) = (mail.header("Subject"), mail.text());
        assert_eq!(
            subject,
            "The next API key of lone-star was reported as found, and is not live yet"
        );
        assert!(!text.contains("still works"), "{text}");
        assert!(text.contains("not affected"), "{text}");
    }
    let text = mails[0].text();
    assert!(
        text.contains("1. Discard it in Settings, API Key"),
        "{text}"
    );
    assert!(!text.contains("Regenerate"), "{text}");
    let how = "truckradar key discard --seller lone-star\n";
    assert!(mails[1].text().contains(how), "{}", mails[1].text());
    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    let words = owner.get(PAGE).await.words();
    let told = format!(
        "Somebody reported that they found the prepared key tr_live_••••{} , which is not live yet.",
        &staged[42..]
    );
    assert!(words.contains(&told), "{words}");
    assert!(
        words.contains("Discard it below and do not cut over to it"),
        "{words}"
    );
    assert!(!words.contains("it still works"), "{words}");
    // The page offers no cut-over to it before somebody has said that they know.
    assert!(!words.contains("Cut over to the next key"), "{words}");
    assert!(words.contains("Discard the next key"), "{words}");
    let words = owner.get("/dashboard/keys").await.words();
    assert!(
        words.contains("Next key reported as found: discard it"),
        "{words}"
    );
    assert!(!words.contains("and it works"), "{words}");
    assert_eq!(world.says(&live).await, "200");

    // Cut over to all the same, it works for whoever found it: the page says so.
    let cut_over = ["key", "cut-over", "--seller", "lone-star"];
    world.place.json(&cut_over, "");
    let words = owner.get(PAGE).await.words();
    assert!(words.contains("and it still works."), "{words}");
    let words = owner.get("/dashboard/keys").await.words();
    assert!(words.contains("Reported as found, and it works"), "{words}");

    let live = world.place.generate("lone-star");
    let suspend = [
        "seller",
        "suspend",
        "--seller",
        "lone-star",
        "--reason",
        "unpaid",
    ];
    world.place.json(&suspend, "");
    world.hand_in(&live).await;
    world.until_counted("report", "told", 2).await;
    let mails = world.mails().await;
    let mails: Vec<_> = mails
        .iter()
        .filter(|mail| mail.header("Subject").ends_with("the account is suspended"))
        .collect();
    assert_eq!(mails.len(), 2);
    for mail in mails {
        let text = mail.text();
        assert!(
            text.contains("It is refused at present")
                || text.contains("The key is refused at present"),
            "{text}"
        );
        assert!(!text.contains("still works"), "{text}");
    }
    let words = owner.get(PAGE).await.words();
    assert!(
        words.contains("which is refused while the account is suspended."),
        "{words}"
    );
    assert!(!words.contains("it still works"), "{words}");
    let page = Client::new(world.served.admin, None).get("/leaks").await;
    assert!(!page.words().contains("Still works"), "{}", page.words());
    // Resumed, it does.
    world
        .place
        .json(&["seller", "resume", "--seller", "lone-star"], "");
    let words = owner.get(PAGE).await.words();
    assert!(words.contains("and it still works."), "{words}");
    let page = Client::new(world.served.admin, None).get("/leaks").await;
    assert!(page.words().contains("Still works"), "{}", page.words());
}

#[tokio::test]
async fn nobody_cuts_over_to_a_reported_key_unless_they_know_of_the_report() {
    const CUT_OVER: &str = "/dashboard/settings/api-key/cut-over";
    let world = World::new();
    let live = world.place.generate("lone-star");
    let staged = world.prepare();
    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    let opened_before = owner.get(PAGE).await.form(CUT_OVER);
    world.hand_in(&staged).await;
    world.until_counted("report", "told", 1).await;
    let refused = owner.send(&opened_before).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    let words = refused.words();
    assert!(
        words.contains("The next key was reported as found"),
        "{words}"
    );
    assert_eq!(world.says(&staged).await, "staged");
    assert_eq!(world.says(&live).await, "200");
    let page = owner.get(PAGE).await;
    assert!(!page.text.contains(CUT_OVER), "{}", page.text);
    // They may have handed it in themselves.
    let dismiss = page.form("/dashboard/settings/api-key/dismiss-leak");
    assert_eq!(owner.send(&dismiss).await.status, 303);
    let cut_over = owner.get(PAGE).await.form(CUT_OVER);
    assert_eq!(owner.send(&cut_over).await.status, 303);
    assert_eq!(world.says(&staged).await, "200");
    assert_eq!(world.says(&live).await, "revoked");
}

#[tokio::test]
async fn where_the_operator_wants_it_a_key_that_somebody_hands_in_is_killed_at_once() {
    let world = World::with(&["--kill-reported-keys"]);
    let key = world.place.generate("lone-star");
    let other = world.place.create_seller("other");
    assert!(other["seller"]["id"].is_string());
    let others = world.place.generate("other");
    world.hand_in(&key).await;
    world.until_counted("report", "expired", 1).await;
    assert_eq!(world.says(&key).await, "revoked");
    assert_eq!(world.says(&others).await, "200");
    let mails = world.mails().await;
    assert_eq!(recipients(&mails), [OWNER, CONTACT]);
    let text = mails[0].text();
    assert!(
        text.starts_with("Somebody reported that they found"),
        "{text}"
    );
    assert!(text.contains("It was expired at once"), "{text}");
    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    // Whoever goes on sending it may be the finder.
    let words = owner.get(PAGE).await.words();
    assert!(
        words.contains("Generate a key and put it into each client below that is yours"),
        "{words}"
    );
    let log = owner
        .get("/dashboard/settings/audit?seller=lone-star")
        .await;
    let words = log.words();
    assert!(
        words.contains("Reason: somebody who had found it reported it: https://github.com"),
        "{words}"
    );
    assert!(words.contains(" a report "), "{words}");
}
