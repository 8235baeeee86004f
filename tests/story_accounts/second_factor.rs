//! A second factor set up, used, lost and turned off, and an owner who demands one.
//!
//! Never: a code taken from anywhere but where its reader finds it.

use super::*;

#[tokio::test]
async fn a_second_factor_is_set_up_asked_for_and_turned_off() {
    let (place, served, mut owner) = world().await;
    let elsewhere = Person::owner_of(served.api, SELLER).await;
    let page = owner.get(SETTINGS).await;
    assert!(!page.words().contains("Make new recovery codes"));
    let begin = page.form("/dashboard/settings/second-factor/begin");
    assert!(begin.button.contains(OWNER), "{}", begin.button);

    // What the app needs is shown once: as a drawing of our own, and to be typed.
    let shown = owner.send(&begin).await;
    assert_eq!(shown.header("cache-control"), "no-store");
    let first = shown.shown_secret();
    assert_eq!(first.len(), 32);
    assert!(shown.text.contains("<svg viewBox=\"0 0 "), "{}", shown.text);
    assert!(!shown.text.contains("otpauth:"), "only inside the drawing");
    // Begun anew, it is another one.
    let shown = owner.send(&begin).await;
    let secret = shown.shown_secret();
    assert_ne!(secret, first);
    // Not in force yet: the password alone lets in.
    Person::owner_of(served.api, SELLER).await;
    let confirm = shown.form("/dashboard/settings/second-factor/confirm");
    for wrong in [wrong_code(&secret), code(&first), String::new()] {
        let answer = owner.send(&confirm.clone().with("code", &wrong)).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        assert!(!answer.text.contains(&secret[..8]), "shown once");
        assert!(answer.words().contains("That code is not right"));
    }
    let confirmed_by = code(&secret);
    let answer = owner.send(&confirm.with("code", &confirmed_by)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    let codes = answer.shown_codes();
    assert_eq!(codes.len(), 10);
    assert!(codes.iter().all(|code| code.len() == 29), "{codes:?}");
    assert_eq!(acts(&place, 1).await, ["factor.on"]);
    // Sessions that the password alone began are over, and this one goes on.
    let mut elsewhere = elsewhere;
    assert_eq!(elsewhere.get("/dashboard").await.status, 303);
    let page = owner.get(SETTINGS).await;
    assert!(page.words().contains("10 recovery codes are left"));

    // From now on a code is asked for. The one that confirmed it is used up.
    let mut person = half_way(served.api, OWNER).await;
    assert_eq!(person.session_token(), None);
    let waits = person.get("/login/code?next=/dashboard/settings").await;
    assert!(waits.words().contains("Enter your code"), "{}", waits.text);
    let used = person.give_code(&confirmed_by).await;
    assert_eq!(used.status, 422, "{}", used.text);
    assert!(used.words().contains("was used already"));
    assert_eq!(person.session_token(), None);
    let form = waits.form("/login/code");
    let answer = person.send(&form.with("code", &code_in(&secret, 1))).await;
    assert_in(&answer, "/dashboard/settings");
    assert_eq!(person.half_token(), None, "the cookie is taken away");
    assert_eq!(person.get("/dashboard").await.status, 200);
    let last = acts(&place, 2).await;
    assert_eq!(last, ["session.code-asked", "session.began"]);

    // Turned off by password and code together.
    let page = person.get(SETTINGS).await;
    let off = page.form("/dashboard/settings/second-factor/off");
    assert!(off.button.contains(OWNER), "{}", off.button);
    for (password, code) in [
        (PASSWORD, wrong_code(&secret)),
        ("not the password", codes[0].clone()),
        (PASSWORD, String::new()),
        ("", codes[0].clone()),
    ] {
        let form = off.clone().with("old_password", password);
        let answer = person.send(&form.with("code", &code)).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        assert!(answer.words().contains("The second factor is as it was"));
    }
    let form = off.with("old_password", PASSWORD).with("code", &codes[0]);
    let answer = person.send(&form).await;
    assert_eq!(answer.status, 303, "{}", answer.text);
    assert_eq!(
        acts(&place, 2).await,
        ["factor.code-used", "factor.off"],
        "a wrong password used no code up"
    );
    Person::owner_of(served.api, SELLER).await;
}

#[tokio::test]
async fn who_has_lost_the_app_comes_in_by_a_recovery_code_once() {
    let (place, served, mut owner) = world().await;
    let (_, codes) = set_up(&mut owner).await;
    let mut person = half_way(served.api, OWNER).await;
    // As people type it.
    let typed = codes[3].to_uppercase().replace('-', " ");
    assert_in(&person.give_code(&typed).await, "/dashboard");
    assert_eq!(
        acts(&place, 3).await,
        ["session.code-asked", "factor.code-used", "session.began"]
    );
    let page = person.get(SETTINGS).await;
    assert!(page.words().contains("9 recovery codes are left"));
    let mut again = half_way(served.api, OWNER).await;
    assert_eq!(again.give_code(&codes[3]).await.status, 422);

    // New ones, and the earlier ones are dead.
    let form = page.form("/dashboard/settings/second-factor/codes");
    let made = person.send(&form.clone()).await;
    assert_eq!(made.status, 422, "a code is asked for: {}", made.text);
    let made = person.send(&form.with("code", &codes[6])).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let new = made.shown_codes();
    assert_eq!(new.len(), 10);
    assert_eq!(again.give_code(&codes[4]).await.status, 422);
    assert_in(&again.give_code(&new[0]).await, "/dashboard");
}

#[tokio::test]
async fn an_act_that_matters_takes_a_code_in_place_of_the_password() {
    let (place, _served, mut owner) = world().await;
    let (secret, codes) = set_up(&mut owner).await;
    let late = async || {
        place
            .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
            .await;
    };
    late().await;
    let page = owner.get(SETTINGS).await;
    let invite = page.form("/dashboard/settings/members/invite");
    let invite = invite.with("email", "ann@yard.example");
    let asks = owner.send(&invite).await;
    assert_eq!(asks.status, 200, "{}", asks.text);
    assert!(asks.words().contains("or a code of your second factor"));
    let form = asks.form(&invite.action);
    let wrong = owner
        .send(&form.clone().with("current_code", &wrong_code(&secret)))
        .await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
    assert!(wrong.words().contains("Nothing was changed"));
    // The code that turned it on was used, and those of earlier steps with it: whichever of them this is by now.
    let used = form.clone().with("current_code", &code_in(&secret, -1));
    assert_eq!(owner.send(&used).await.status, 422);
    let before = owner.session_token().map(str::to_owned);
    let right = form.clone().with("current_code", &code_in(&secret, 1));
    let done = owner.send(&right).await;
    assert!(done.shown("invitation-link").is_some(), "{}", done.text);
    assert_ne!(owner.session_token().map(str::to_owned), before);
    assert_eq!(
        acts(&place, 2).await,
        ["factor.confirmed", "member.invited"]
    );
    // A recovery code will do, and so will the password.
    for (field, text) in [
        ("current_code", codes[0].as_str()),
        ("current_password", PASSWORD),
    ] {
        late().await;
        let asks = owner.send(&invite).await;
        let form = asks.form(&invite.action).with(field, text);
        let done = owner.send(&form).await;
        assert!(done.shown("invitation-link").is_some(), "{}", done.text);
    }
}

#[tokio::test]
async fn an_owner_demands_a_second_factor_and_who_has_none_can_only_look() {
    let (place, served, mut owner) = world().await;
    let ann = "ann@lone-star.example";
    let mut admin = Person::invited(&place, served.api, SELLER, ann, "admin").await;
    let demand = "/dashboard/settings/members/second-factor";
    // An owner who has none cannot: the page offers it not, and the form is refused.
    let page = owner.get(SETTINGS).await;
    assert!(!page.text.contains(demand), "{}", page.text);
    let seller = page.form("/dashboard/settings/profile");
    let seller = seller.get("seller").expect("an id").to_owned();
    let yes = Form::made_up(demand, [("seller", &*seller), ("required", "yes")]);
    let refused = owner.send(&yes).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.words().contains("There is no second factor"));
    let (secret, codes) = set_up(&mut owner).await;
    // An admin cannot either, with or without.
    for factor in [Factor::None, Factor::On] {
        factor::put(&place, ann, factor).await;
        let refused = admin.send(&yes).await;
        assert_eq!(refused.status, 403, "{}", refused.text);
        assert!(!admin.get(SETTINGS).await.text.contains(demand));
    }
    factor::put(&place, ann, Factor::None).await;
    let page = owner.get(SETTINGS).await;
    assert!(page.words().contains("admin since") && page.words().contains("no second factor"));
    let form = page.form(demand);
    assert!(form.button.contains(SELLER), "{}", form.button);
    assert_eq!(owner.send(&form).await.status, 303);
    assert_eq!(acts(&place, 1).await, ["member.factor-required"]);

    // The admin looks at everything, is told what to do, and changes nothing.
    let page = admin.get(SETTINGS).await;
    assert_eq!(page.status, 200);
    let words = page.words();
    assert!(
        words.contains("wants a second factor of whoever acts for it"),
        "{words}"
    );
    assert!(words.contains("To generate or replace the key you need a second factor"));
    assert!(!page.has_form("generate-api-key"));
    assert_eq!(admin.get("/dashboard/settings/audit").await.status, 200);
    let profile = [("seller", &*seller), ("name", "Taken over")];
    let profile = Form::made_up("/dashboard/settings/profile", profile);
    let refused = admin.send(&profile).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert!(refused.words().contains("This needs a second factor"));
    assert!(
        refused
            .text
            .contains("/dashboard/settings?seller=lone-star#second-factor")
            || refused
                .text
                .contains("/dashboard/settings?seller=lone-star&#35;second-factor"),
        "{}",
        refused.text
    );
    // Set up there and then, they act again.
    set_up(&mut admin).await;
    assert_eq!(admin.send(&profile).await.status, 303);
    assert!(admin.get(SETTINGS).await.has_form("generate-api-key"));

    // The owner who turns their own off is no exception; with one, they leave it to each member again.
    let no = Form::made_up(demand, [("seller", &*seller), ("required", "no")]);
    let off = owner.get(SETTINGS).await;
    let off = off.form("/dashboard/settings/second-factor/off");
    let off = off.with("old_password", PASSWORD).with("code", &codes[0]);
    assert_eq!(owner.send(&off).await.status, 303);
    assert_eq!(owner.send(&no).await.status, 403);
    assert_eq!(owner.send(&profile).await.status, 403);
    let (again, _) = set_up(&mut owner).await;
    assert_ne!(again, secret);
    assert_eq!(owner.send(&no).await.status, 303);
    assert_eq!(acts(&place, 1).await, ["member.factor-optional"]);
    factor::put(&place, ann, Factor::None).await;
    assert_eq!(admin.send(&profile).await.status, 303);
}

#[tokio::test]
async fn whoever_has_no_second_factor_when_one_is_demanded_is_mailed() {
    let (place, served, _) = world().await;
    for (name, factor) in [
        ("ann", Factor::None),
        ("bob", Factor::Begun),
        ("cat", Factor::On),
    ] {
        let email = format!("{name}@lone-star.example");
        Person::invited(&place, served.api, SELLER, &email, "admin").await;
        factor::put(&place, &email, factor).await;
    }
    drop(served);
    let smtp = Smtp::start();
    let served = place.serve_with_mails(&smtp);
    let mut owner = Person::owner_of(served.api, SELLER).await;
    factor::put(&place, OWNER, Factor::On).await;
    let page = owner.get(SETTINGS).await;
    let demand = page.form("/dashboard/settings/members/second-factor");
    // Twice is once.
    for _ in 0..2 {
        assert_eq!(owner.send(&demand).await.status, 303);
    }
    let leave = demand.with("required", "no");
    assert_eq!(owner.send(&leave).await.status, 303);
    let mails = smtp.wait_for(2);
    let mut recipients: Vec<&str> = mails.iter().map(|mail| mail.to.as_str()).collect();
    recipients.sort_unstable();
    assert_eq!(
        recipients,
        ["ann@lone-star.example", "bob@lone-star.example"]
    );
    for mail in &mails {
        assert_eq!(mail.header("Subject"), "lone-star demands a second factor");
        let text = mail.text();
        assert!(
            text.contains("lets you act only with a second factor from now on"),
            "{text}"
        );
        assert!(
            text.contains("This was done by owner@lone-star.example"),
            "{text}"
        );
    }
    let mut inside = place.look_inside().await;
    let waiting: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM outbox WHERE attempts = 0")
        .fetch_one(&mut inside)
        .await
        .expect("answers");
    assert_eq!(waiting, 0, "nobody else is mailed");
}

#[tokio::test]
async fn the_operator_takes_a_second_factor_away_of_whoever_lost_everything() {
    let (place, served, mut owner) = world().await;
    let args = ["user", "reset-second-factor", "--email", OWNER];
    let refused = place.run(&args, "");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("owner@lone-star.example has no second factor"),
        "{said}"
    );
    let unknown = ["user", "reset-second-factor", "--email", "no@x.example"];
    assert_eq!(place.run(&unknown, "").status.code(), Some(1));

    let (secret, _) = set_up(&mut owner).await;
    let mut waiting = half_way(served.api, OWNER).await;
    let answer = place.json(&args, "");
    assert_eq!(answer["email"], OWNER);
    assert_eq!(answer["sessions_ended"], 1);
    assert_eq!(acts(&place, 1).await, ["factor.taken-away"]);
    assert_eq!(owner.get("/dashboard").await.status, 303, "signed out");
    // Whoever waited for a code begins anew, and is in.
    assert_eq!(waiting.get("/login/code").await.status, 303);
    let form = Form::made_up("/login/code", [("code", &*code_in(&secret, 1))]);
    assert_in(&waiting.send(&form).await, "/login?done=over");
    Person::owner_of(served.api, SELLER).await;
    // In words, for whoever typed it.
    factor::put(&place, OWNER, Factor::On).await;
    let told = place.run(&args, "");
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(
        said.contains("the second factor and its recovery codes"),
        "{said}"
    );
}
