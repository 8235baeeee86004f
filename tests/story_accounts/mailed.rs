//! What is mailed about what a person signs in with: links, invitations, and every change.
//!
//! Never: a mail or a link taken from anywhere but where its reader finds it.

use super::*;

fn to(mails: &[Mail], email: &str) -> Vec<String> {
    let of_theirs = mails.iter().filter(|mail| mail.to == email);
    of_theirs.map(|mail| mail.header("Subject")).collect()
}

/// The link that a mail brings, as a path of this server.
fn link_in(mail: &Mail) -> String {
    let text = mail.text();
    let links: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with(PUBLIC_URL))
        .collect();
    assert_eq!(links.len(), 1, "{text}");
    path_in(links[0]).to_owned()
}

#[tokio::test]
async fn every_change_of_what_one_signs_in_with_is_mailed() {
    let smtp = Smtp::start();
    let place = Place::new();
    let url = smtp.url();
    let served = place.serve(&["--smtp-url", &url, "--mail-from", "keys@market.example"]);
    place.create_seller(SELLER);
    let mut owner = Person::owner_of(served.api, SELLER).await;
    let (secret, codes) = set_up(&mut owner).await;
    let page = owner.get(SETTINGS).await;
    let change = page.form("/dashboard/settings/password");
    let change = change.with("old_password", PASSWORD);
    assert_eq!(
        owner.send(&change.with("new_password", NEW)).await.status,
        303
    );
    let make = page.form("/dashboard/settings/second-factor/codes");
    let make = make.with("code", &code_in(&secret, 1));
    let codes_now = owner.send(&make).await.shown_codes();
    factor::forget_used_steps(&place).await;
    assert_ne!(codes_now, codes);
    let mut person = Person::at(served.api);
    assert_eq!(person.sign_in(OWNER, NEW).await.status, 303);
    assert_in(&person.give_code(&codes_now[0]).await, "/dashboard");
    let off = page.form("/dashboard/settings/second-factor/off");
    let off = off.with("old_password", NEW);
    let off = off.with("code", &code_in(&secret, 1));
    assert_eq!(person.send(&off).await.status, 303);
    // No public address: the operator is given the link, and the person is told that there is one.
    let reset = ["user", "reset-password", "--email", OWNER];
    let link = place.json(&reset, "")["link"].take();
    let page = person.get(path_in(link.as_str().expect("a link"))).await;
    let form = page.form("/reset-password").with("password", LATER);
    assert_eq!(person.send(&form).await.status, 303);
    factor::put(&place, OWNER, Factor::On).await;
    place.json(&["user", "reset-second-factor", "--email", OWNER], "");

    let mails = smtp.wait_for(8);
    let mut subjects = to(&mails, OWNER);
    subjects.sort();
    assert_eq!(
        subjects,
        [
            "A link to set a new password was made for you",
            "One of your recovery codes was used",
            "Your password was changed",
            "Your password was set anew",
            "Your recovery codes were made anew",
            "Your second factor was taken away",
            "Your second factor was turned off",
            "Your second factor was turned on",
        ]
    );
    for mail in &mails {
        let text = mail.text();
        assert!(text.contains("for owner@lone-star.example, "), "{text}");
        assert!(text.contains("Security contact: security@truckradar.ai\n"));
        assert!(!text.contains("http"), "{text}");
        let by_operator = ["A link to set", "Your second factor was taken"];
        let subject = mail.header("Subject");
        let from = match by_operator.iter().any(|begin| subject.starts_with(begin)) {
            true => "by the marketplace",
            false => "from the address 127.0.0.1",
        };
        assert!(text.contains(from), "{text}");
        for secret in [secret.as_str(), NEW, LATER, &codes_now[0], &codes_now[1]] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[tokio::test]
async fn whoever_forgot_their_password_is_mailed_a_link_that_works_once() {
    let smtp = Smtp::start();
    let (place, served) = world_with_mails(&smtp).await;
    let mut person = Person::at(served.api);
    let page = person.get("/login").await;
    assert!(page.text.contains("href=\"/forgot-password\""));
    let page = person.get("/forgot-password").await;
    let form = page.form("/forgot-password");
    let known = person.send(&form.clone().with("email", OWNER)).await;
    let unknown = person
        .send(&form.clone().with("email", "nobody@lone-star.example"))
        .await;
    let without_id = |answer: &Answer| answer.text.replace(answer.header("x-request-id"), "");
    for answer in [&known, &unknown] {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(without_id(answer), without_id(&known));
        assert_eq!(answer.header("set-cookie"), "");
    }
    // Asked again at once, there is no second mail.
    person
        .send(&form.clone().with("email", "OWNER@lone-star.example"))
        .await;
    let mail = smtp.wait_for(1).remove(0);
    assert_eq!(mail.to, OWNER);
    assert!(
        mail.text()
            .contains("Somebody at the address 127.0.0.1 asked")
    );
    let link = link_in(&mail);
    assert_eq!(acts(&place, 1).await, ["password.reset-asked"]);
    // Looking at it uses nothing up; the token is nowhere in what is stored.
    let page = person.get(&link).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let token = token_in(&link_with_host(&link));
    for (name, bytes) in place.stored().await {
        assert!(!contains(&bytes, &token), "the token is in {name}");
    }
    let set = page.form("/reset-password").with("password", NEW);
    assert_in(&person.send(&set).await, "/login?done=password");
    let again = person.send(&set.clone().with("password", LATER)).await;
    assert_eq!(again.status, 410, "{}", again.text);
    let mut owner = Person::at(served.api);
    assert_eq!(owner.sign_in(OWNER, NEW).await.status, 303);
    assert_eq!(owner.get("/dashboard").await.status, 200);
    assert_eq!(smtp.wait_for(2).len(), 2, "that, and that it was set");

    // Five minutes later another one may be asked for; where there is a second factor, it is asked for all the same.
    place
        .change("UPDATE users SET reset_asked_us = reset_asked_us - 301000000")
        .await;
    factor::put(&place, OWNER, Factor::On).await;
    person.send(&form.with("email", OWNER)).await;
    let mail = smtp.wait_for(3).pop().expect("a third");
    let page = person.get(&link_in(&mail)).await;
    let set = page.form("/reset-password").with("password", LATER);
    assert_in(&person.send(&set).await, "/login?done=password");
    let answer = person.sign_in(OWNER, LATER).await;
    assert_in(&answer, "/login/code?next=%2Fdashboard");
    assert_in(&person.give_code(&code(SECRET)).await, "/dashboard");
}

fn link_with_host(path: &str) -> String {
    format!("{PUBLIC_URL}{path}")
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_link_is_made_when_its_mail_is_sent_and_a_second_try_makes_another() {
    let smtp = Smtp::start();
    smtp.be(Mood::Scans);
    let (place, served) = world_with_mails(&smtp).await;
    let mut person = Person::at(served.api);
    let form = Form::made_up("/forgot-password", [("email", OWNER)]);
    person.send(&form).await;
    // Taken, without the program's being told so: for it the mail waits.
    let first = link_in(&smtp.wait_for(1)[0]);
    served.terminate();
    smtp.be(Mood::Takes);
    place.change("UPDATE outbox SET next_try_us = 0").await;
    let served = place.serve_with_mails(&smtp);
    let mails = smtp.wait_for(2);
    let second = link_in(&mails[1]);
    assert_ne!(first, second);
    let ids = [0, 1].map(|n: usize| mails[n].header("Message-ID"));
    assert_ne!(ids[0], ids[1], "no mail program takes them for one");
    let mut person = Person::at(served.api);
    assert_eq!(person.get(&first).await.status, 410);
    assert_eq!(person.get(&second).await.status, 200);

    // A link that is taken back before its mail is sent takes the mail with it.
    drop(smtp);
    place
        .change("UPDATE users SET reset_asked_us = 0; DELETE FROM account_links; DELETE FROM sign_in_failures")
        .await;
    person.send(&form).await;
    place
        .until("a first try", "SELECT 1 FROM outbox WHERE attempts = 1")
        .await;
    place.change("DELETE FROM account_links").await;
    place.change("UPDATE outbox SET next_try_us = 0").await;
    served.wait_until_it_says("a mail is dropped");
}

#[tokio::test]
async fn invitations_are_mailed_where_mails_are_sent_and_the_link_is_shown_nowhere() {
    let smtp = Smtp::start();
    let (place, served) = world_with_mails(&smtp).await;
    let mut owner = Person::at(served.api);
    assert_eq!(owner.sign_in(OWNER, PASSWORD).await.status, 303);
    let page = owner.get(SETTINGS).await;
    let form = page.form("/dashboard/settings/members/invite");
    assert_eq!(form.button, "Mail an invitation");
    let form = form.with("email", "ann@yard.example").with("role", "admin");
    let sent = owner.send(&form).await;
    assert_in(
        &sent,
        "/dashboard/settings?seller=lone-star&done=mailed#members",
    );
    let page = owner.get(sent.header("location")).await;
    assert!(
        page.words()
            .contains("The invitation is on its way by mail")
    );
    assert!(page.words().contains("Invited as admin"));
    let mail = smtp.wait_for(1).remove(0);
    assert_eq!(mail.to, "ann@yard.example");
    assert_eq!(mail.header("Subject"), "You are invited to lone-star");
    assert!(mail.text().starts_with(
        "owner@lone-star.example invites you to lone-star on TruckRadar, as admin, at 20"
    ));
    let mut ann = Person::at(served.api);
    let page = ann.get(&link_in(&mail)).await;
    let joined = ann
        .send(&page.form("/invitation").with("password", NEW))
        .await;
    assert_in(&joined, "/dashboard?seller=lone-star");

    // By command: the same environment says whether mails are sent.
    let by_command = |args: &[&str]| {
        let mut command = place.command(&[args, &["--json"]].concat());
        command
            .env("TRUCKRADAR_SMTP_URL", smtp.url())
            .env("TRUCKRADAR_PUBLIC_URL", PUBLIC_URL);
        let output = command.output().expect("runs");
        assert!(output.status.success(), "{output:?}");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(answer["mailed"], true, "{answer}");
        assert!(answer.get("link").is_none(), "{answer}");
    };
    by_command(&[
        "user",
        "invite",
        "--seller",
        SELLER,
        "--email",
        "bob@yard.example",
        "--role",
        "viewer",
    ]);
    by_command(&["user", "reset-password", "--email", OWNER]);
    let mails = smtp.wait_for(3);
    let found = |email: &str| {
        let found = mails.iter().find(|mail| mail.to == email);
        found.expect("a mail").clone()
    };
    let invited = found("bob@yard.example");
    assert!(invited.text().starts_with("The marketplace invites you"));
    assert_eq!(ann.get(&link_in(&invited)).await.status, 200);
    let reset = found(OWNER);
    assert!(reset.text().starts_with("The marketplace asked for a link"));
    assert_eq!(ann.get(&link_in(&reset)).await.status, 200);
    assert_eq!(owner.get("/dashboard").await.status, 303, "signed out");
}

#[tokio::test]
async fn invitations_are_mailed_to_so_many_and_to_one_address_so_often_only() {
    let smtp = Smtp::start();
    let (place, served) = world_with_mails(&smtp).await;
    let mut owner = Person::owner_of(served.api, SELLER).await;
    let page = owner.get(SETTINGS).await;
    let form = page.form("/dashboard/settings/members/invite");
    let mailed = "/dashboard/settings?seller=lone-star&done=mailed#members";
    let to = |email: &str| form.clone().with("email", email).with("role", "viewer");
    for _ in 0..3 {
        assert_in(&owner.send(&to("ann@yard.example")).await, mailed);
    }
    let before = place.everything().await;
    let refused = owner.send(&to("ann@yard.example")).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    let words = refused.words();
    assert!(
        words.contains("That address was invited three times within an hour: ann@yard.example"),
        "{words}"
    );
    place.assert_unchanged(&before, "a fourth").await;
    assert_in(&owner.send(&to("bob@yard.example")).await, mailed);

    // As if there had been so many invitations so many seconds ago.
    let mut inside = place.look_inside().await;
    let now: i64 = sqlx::query_scalar("SELECT MAX(at_us) FROM audit_log")
        .fetch_one(&mut inside)
        .await
        .expect("answers");
    let mut made = 0;
    let mut as_if_made = async |email: &str, count: usize, ago: i64| {
        for _ in 0..count {
            made += 1;
            let at = now - ago * 1_000_000;
            place
                .change(sqlx::AssertSqlSafe(format!(
                    "INSERT INTO audit_log (id, at_us, actor, seller_id, act, detail) \
                     SELECT '00000000-0000-7000-8000-{made:012}', {at}, 'user:somebody', id, 'member.invited', \
                     '{{\"email\":\"{email}\",\"role\":\"viewer\"}}' FROM sellers WHERE slug = '{SELLER}'"
                )))
                .await;
        }
    };
    as_if_made("cat@yard.example", 3, 3_610).await;
    assert_in(&owner.send(&to("cat@yard.example")).await, mailed);
    // Eight so far; and some that are a day old.
    as_if_made("somebody@else.example", 30, 86_410).await;
    as_if_made("somebody@else.example", 41, 80_000).await;
    assert_in(&owner.send(&to("dan@yard.example")).await, mailed);
    let before = place.everything().await;
    let refused = owner.send(&to("eve@yard.example")).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    let words = refused.words();
    assert!(
        words.contains("50 invitations to this dealer account were made within a day"),
        "{words}"
    );
    place
        .assert_unchanged(&before, "the one after the last")
        .await;
    // What was mailed works, and the operator goes on.
    let args = [
        "user",
        "invite",
        "--seller",
        SELLER,
        "--email",
        "eve@yard.example",
        "--role",
        "viewer",
    ];
    let done = place.run(&args, "");
    assert!(done.status.success(), "{done:?}");
}

#[tokio::test]
async fn where_no_mail_is_sent_the_page_says_whom_to_ask() {
    let place = Place::new();
    let served = place.serve(&["--sales-contact", "plans@radar.example"]);
    place.create_seller(SELLER);
    let mut person = Person::at(served.api);
    let page = person.get("/forgot-password").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("mailto:plans@radar.example"));
    assert!(page.forms().is_empty(), "{}", page.text);
    let before = place.everything().await;
    let form = Form::made_up("/forgot-password", [("email", OWNER)]);
    let answer = person.send(&form).await;
    assert!(answer.text.contains("mailto:plans@radar.example"));
    place
        .assert_unchanged(&before, "a request for a mail")
        .await;
}
