//! Somebody knows a person's password, or sits at their browser, and has to do with the second factor.
//!
//! Never: a way past the code that was not tried.

use sqlx::AssertSqlSafe;
use truckradar::http::CallerKind;

use crate::{
    secrets::found_in,
    support::{
        binary::{PASSWORD, Place},
        client::{Answer, raw_get},
        dealership::{About, Dealership, OTHER, OWN, page_routes, routes_of, token_in},
        factor::{self, Factor, SECRET, code, code_in, early_in_a_step, wrong_code},
        person::{Form, Person},
    },
};

pub(super) const OWNER: &str = "owner@lone-star.example";
const OTHERS: &str = "owner@great-lakes.example";
/// What has the form of a recovery code and is nobody's.
pub(super) const NOBODYS_CODE: &str = "0123-4567-89ab-cdef-ghjk-mnpq";

pub(super) fn giving(code: &str) -> Form {
    Form::made_up("/login/code", [("code", code)])
}

pub(super) fn is_in(answer: &Answer) -> bool {
    answer.status == 303 && answer.header("location") == "/dashboard"
}

/// Gives the owner recovery codes on the pages; a session that has them goes on.
pub(super) async fn recovery_codes(dealership: &Dealership) -> Vec<String> {
    let mut owner = dealership.half_way("owner", OWN).await;
    assert!(is_in(&owner.give_code(&code(SECRET)).await));
    let page = owner.get("/dashboard/settings").await;
    let form = page.form("/dashboard/settings/second-factor/codes");
    let made = owner.send(&form.with("code", &code_in(SECRET, 1))).await;
    factor::forget_used_steps(&dealership.place).await;
    made.shown_codes()
}

// ---------------------------------------------------------------------------------------------------------------------
// Without a code.

#[tokio::test]
async fn a_sign_in_that_waits_for_its_code_opens_nothing() {
    let dealership = Dealership::new().await;
    let waiting = dealership.half_way("owner", OWN).await;
    let half = waiting.half_token().expect("a cookie").to_owned();
    assert_eq!(half.len(), 43);
    let account = dealership.account(OWN, "owner").await;
    let before = dealership.place.everything().await;
    for route in routes_of(CallerKind::SignedIn) {
        let asked = account.request(&route);
        // With its own cookie, as a session's, as both, and as a link's token.
        let mut as_session = Person::at(dealership.served.api);
        as_session.set_session_token(&half);
        let mut as_both = waiting.clone();
        as_both.set_session_token(&half);
        for mut person in [waiting.clone(), as_session, as_both] {
            let answer = asked.by(&mut person).await;
            assert_eq!(answer.status, 303, "{asked}: {}", answer.text);
            let to = answer.header("location");
            assert!(to.starts_with("/login?next="), "{asked}: {to}");
            assert_eq!(answer.text, "", "{asked}");
        }
    }
    for path in ["/invitation", "/reset-password"] {
        let form = Form::made_up(path, [("token", half.as_str()), ("password", PASSWORD)]);
        let answer = waiting.clone().send(&form).await;
        assert_eq!(answer.status, 410, "{path}: {}", answer.text);
    }
    let told = "a sign-in that waits";
    dealership.place.assert_unchanged(&before, told).await;
}

#[tokio::test]
async fn no_way_in_leads_past_the_code() {
    let dealership = Dealership::new().await;
    let place = &dealership.place;
    factor::put(place, OWNER, Factor::On).await;
    let mut thief = Person::at(dealership.served.api);
    // The password, with whatever else a form may say.
    let mut form = Form::made_up("/login", [("email", OWNER), ("password", PASSWORD)]);
    for (name, text) in [
        ("code", "000000"),
        ("second_factor", "off"),
        ("confirmed_us", "1"),
        ("next", "/dashboard/settings"),
    ] {
        form.fields.push((name.to_owned(), text.to_owned()));
    }
    let answer = thief.send(&form).await;
    let waits = "/login/code?next=%2Fdashboard%2Fsettings";
    assert_eq!(answer.header("location"), waits, "{}", answer.text);
    assert_eq!(thief.session_token(), None);
    assert_eq!(thief.get("/dashboard").await.status, 303);
    // An invitation that was handed to the person: it joins, and asks for the code.
    let args = [
        "user", "invite", "--seller", OTHER, "--email", OWNER, "--role", "viewer",
    ];
    let link = place.json(&args, "")["link"].take();
    let token = token_in(link.as_str().expect("a link"));
    let form = Form::made_up(
        "/invitation",
        [("token", token.as_str()), ("password", PASSWORD)],
    );
    let answer = thief.send(&form).await;
    let waits = "/login/code?next=%2Fdashboard%3Fseller%3Dgreat-lakes";
    assert_eq!(answer.header("location"), waits, "{}", answer.text);
    assert_eq!(thief.session_token(), None);
    // A new password by a link.
    let args = ["user", "reset-password", "--email", OWNER];
    let link = place.json(&args, "")["link"].take();
    let token = token_in(link.as_str().expect("a link"));
    let new = "a truck, a lake, a lamp";
    let form = Form::made_up(
        "/reset-password",
        [("token", token.as_str()), ("password", new)],
    );
    assert_eq!(thief.send(&form).await.status, 303);
    assert_eq!(thief.session_token(), None);
    let answer = thief.sign_in(OWNER, new).await;
    assert_eq!(answer.header("location"), "/login/code?next=%2Fdashboard");
    assert_eq!(thief.session_token(), None);
    // What waited for a code by the old password was over with it.
    let mut early = Person::at(dealership.served.api);
    early.sign_in(OWNER, new).await;
    let args = ["user", "reset-password", "--email", OWNER];
    place.json(&args, "");
    let answer = early.send(&giving(&code(SECRET))).await;
    assert_eq!(answer.header("location"), "/login?done=over");
    assert_eq!(early.session_token(), None);
}

#[tokio::test]
async fn a_sign_in_that_waited_too_long_or_was_used_is_over() {
    let dealership = Dealership::new().await;
    let mut late = dealership.half_way("owner", OWN).await;
    dealership
        .place
        .change("UPDATE half_sign_ins SET expires_us = expires_us - 600000000")
        .await;
    let answer = late.send(&giving(&code(SECRET))).await;
    assert_eq!(answer.header("location"), "/login?done=over");
    assert!(
        late.get("/login?done=over")
            .await
            .words()
            .contains("Begin anew")
    );
    assert_eq!(late.session_token(), None);

    let mut person = dealership.half_way("owner", OWN).await;
    let half = person.half_token().expect("a cookie").to_owned();
    assert!(is_in(&person.give_code(&code(SECRET)).await));
    let mut copy = Person::at(dealership.served.api);
    copy.set_half_token(&half);
    let answer = copy.send(&giving(&code_in(SECRET, 1))).await;
    assert_eq!(answer.header("location"), "/login?done=over");
    assert_eq!(copy.session_token(), None);
    for made_up in ["", "x", "0123456789abcdefghijABCDEFGHIJ0123456789abc"] {
        copy.set_half_token(made_up);
        let answer = copy.send(&giving(&code_in(SECRET, 1))).await;
        assert_eq!(answer.status, 303);
        assert!(answer.header("location").starts_with("/login"));
        assert_eq!(copy.session_token(), None, "{made_up}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// With a code that was used, or is another's.

#[tokio::test]
async fn a_code_that_was_seen_works_no_second_time_even_at_the_same_moment() {
    let dealership = Dealership::new().await;
    for round in 0..6 {
        let (mut one, mut two) = {
            let one = dealership.half_way("owner", OWN).await;
            let mut two = Person::at(dealership.served.api);
            two.sign_in(OWNER, PASSWORD).await;
            (one, two)
        };
        early_in_a_step().await;
        let (seen, before) = (code(SECRET), code_in(SECRET, -1));
        let form = giving(&seen);
        let (first, second) = tokio::join!(one.send(&form), two.send(&form));
        let came_in = [is_in(&first), is_in(&second)];
        assert_ne!(
            came_in[0], came_in[1],
            "{round}: {} {}",
            first.text, second.text
        );
        for (answer, came_in) in [first, second].iter().zip(came_in) {
            if !came_in {
                assert_eq!(answer.status, 422, "{}", answer.text);
                assert_eq!(answer.header("set-cookie"), "");
            }
        }
        // Nor later, nor the one before it.
        let mut third = Person::at(dealership.served.api);
        third.sign_in(OWNER, PASSWORD).await;
        for dead in [&seen, &before] {
            assert_eq!(third.send(&giving(dead)).await.status, 422);
        }
        dealership
            .place
            .change("DELETE FROM sign_in_failures")
            .await;
    }
}

#[tokio::test]
async fn of_two_answers_to_one_sign_in_one_counts() {
    let dealership = Dealership::new().await;
    let person = dealership.half_way("owner", OWN).await;
    early_in_a_step().await;
    let (mut one, mut two) = (person.clone(), person);
    let (now, next) = (giving(&code(SECRET)), giving(&code_in(SECRET, 1)));
    let (first, second) = tokio::join!(one.send(&now), two.send(&next));
    assert_ne!(
        is_in(&first),
        is_in(&second),
        "{} {}",
        first.text,
        second.text
    );
}

#[tokio::test]
async fn a_recovery_code_works_once_even_at_the_same_moment() {
    let dealership = Dealership::new().await;
    let codes = recovery_codes(&dealership).await;
    for code in &codes[..5] {
        let mut people = Vec::new();
        for _ in 0..2 {
            let mut person = Person::at(dealership.served.api);
            person.sign_in(OWNER, PASSWORD).await;
            people.push(person);
        }
        let form = giving(code);
        let (one, two) = people.split_at_mut(1);
        let (first, second) = tokio::join!(one[0].send(&form), two[0].send(&form));
        assert_ne!(
            is_in(&first),
            is_in(&second),
            "{} {}",
            first.text,
            second.text
        );
        let mut third = Person::at(dealership.served.api);
        third.sign_in(OWNER, PASSWORD).await;
        let again = third.send(&form).await;
        assert_eq!(again.status, 422, "{}", again.text);
        dealership
            .place
            .change("DELETE FROM sign_in_failures")
            .await;
    }
}

#[tokio::test]
async fn the_codes_of_another_user_open_nothing() {
    let dealership = Dealership::new().await;
    let place = &dealership.place;
    let codes = recovery_codes(&dealership).await;
    // Another person, whose secret is another.
    factor::put(place, OTHERS, Factor::On).await;
    let bytes = match place.is_on_postgres() {
        true => "decode('0102030405060708090a0b0c0d0e0f1011121314', 'hex')",
        false => "X'0102030405060708090a0b0c0d0e0f1011121314'",
    };
    place
        .change(AssertSqlSafe(format!(
            "UPDATE second_factors SET secret = {bytes} WHERE user_id = (SELECT id FROM users WHERE email = '{OTHERS}')"
        )))
        .await;
    factor::forget_used_steps(place).await;
    let mut thief = Person::at(dealership.served.api);
    thief.sign_in(OTHERS, PASSWORD).await;
    for code in [code(SECRET), codes[0].clone(), NOBODYS_CODE.to_owned()] {
        let answer = thief.send(&giving(&code)).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        assert_eq!(thief.session_token(), None);
    }
    // Nor does somebody's session answer another one's question: the code is the waiting person's.
    let mut owner = Person::at(dealership.served.api);
    owner.sign_in(OWNER, PASSWORD).await;
    assert!(
        is_in(&owner.send(&giving(&codes[0])).await),
        "used up by nobody"
    );
    owner.set_half_token(thief.half_token().expect("a cookie"));
    let answer = owner.send(&giving(&code(SECRET))).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    let page = owner.get("/dashboard").await;
    assert!(page.text.contains(OWNER), "still who they were");
}

// ---------------------------------------------------------------------------------------------------------------------
// At somebody's browser, and as a member who would like to be more.

#[tokio::test]
async fn a_stolen_session_neither_takes_the_second_factor_away_nor_puts_one_there() {
    let dealership = Dealership::new().await;
    let place = &dealership.place;
    let mut thief = dealership.person("owner", OWN).await;
    place
        .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
        .await;
    let account = dealership.account(OWN, "owner").await;
    let seller = account.seller.as_str();
    let post = |act: &str, fields: &[(&str, &str)]| {
        let path = format!("/dashboard/settings/second-factor/{act}");
        Form::made_up(&path, [&[("seller", seller)], fields].concat())
    };
    for (factor, acts) in [
        (Factor::None, &["begin"][..]),
        (Factor::Begun, &["begin", "confirm"]),
        (Factor::On, &["codes", "begin"]),
    ] {
        factor::put(place, OWNER, factor).await;
        let before = place.everything().await;
        for act in acts {
            let answer = thief.send(&post(act, &[("code", &code(SECRET))])).await;
            assert_eq!(answer.status, 200, "{act}: {}", answer.text);
            assert!(answer.words().contains("Confirm that it is you"));
            place.assert_unchanged(&before, act).await;
        }
    }
    // Turning it off takes both, however recent the session.
    place
        .change("UPDATE sessions SET confirmed_us = confirmed_us + 901000000")
        .await;
    let before = place.everything().await;
    for fields in [
        &[][..],
        &[("code", "000000"), ("old_password", PASSWORD)],
        &[("code", NOBODYS_CODE), ("old_password", PASSWORD)],
        &[("old_password", PASSWORD)],
        &[("code", &code(SECRET))],
        &[
            ("code", &code(SECRET)),
            ("old_password", "not the password"),
        ],
        &[("code", &code(SECRET)), ("current_password", PASSWORD)],
    ] {
        let answer = thief.send(&post("off", fields)).await;
        assert_eq!(answer.status, 422, "{fields:?}: {}", answer.text);
        place.change("DELETE FROM sign_in_failures").await;
        place.assert_unchanged(&before, "off").await;
    }
    // Whoever has the password alone makes no recovery codes, which would turn it off together with that.
    for fields in [
        &[][..],
        &[("code", "000000")],
        &[("code", NOBODYS_CODE)],
        &[("old_password", PASSWORD)],
        &[("current_password", PASSWORD)],
        &[("current_code", &code(SECRET))],
    ] {
        let answer = thief.send(&post("codes", fields)).await;
        assert_eq!(answer.status, 422, "{fields:?}: {}", answer.text);
        assert!(answer.shown("recovery-codes").is_none(), "{fields:?}");
        place.change("DELETE FROM sign_in_failures").await;
        place.assert_unchanged(&before, "codes").await;
    }
    // Nor by answering the question for the password first.
    place
        .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
        .await;
    let asks = thief.send(&post("codes", &[])).await;
    let form = asks.form("/dashboard/settings/second-factor/codes");
    let answer = thief.send(&form.with("current_password", PASSWORD)).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(
        answer
            .words()
            .contains("Your recovery codes are as they were")
    );
    assert!(answer.shown("recovery-codes").is_none());
    let mut inside = place.look_inside().await;
    let made: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM recovery_codes")
        .fetch_one(&mut inside)
        .await
        .expect("answers");
    assert_eq!(made, 0);
    place.change("DELETE FROM sign_in_failures").await;
    let before = place.everything().await;
    // One that is in force is not begun anew.
    let answer = thief.send(&post("begin", &[])).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(answer.shown("factor-secret").is_none());
    place.assert_unchanged(&before, "begin").await;
    // One that was begun long ago is not ended.
    factor::put(place, OWNER, Factor::Begun).await;
    place
        .change("UPDATE second_factors SET created_us = created_us - 901000000")
        .await;
    let answer = thief
        .send(&post("confirm", &[("code", &code(SECRET))]))
        .await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    Person::owner_of(dealership.served.api, OWN).await;
}

#[tokio::test]
async fn nobody_raises_themselves_by_the_pages_of_members_and_second_factors() {
    let dealership = Dealership::new().await;
    let place = &dealership.place;
    let (api, at) = (dealership.served.api, [OWN]);
    let admin_email = "admin@lone-star.example";
    Person::invited(place, api, at[0], admin_email, "admin").await;
    let demand = "/dashboard/settings/members/second-factor";
    // Neither a viewer nor an admin demands or lifts it, nor an owner of elsewhere, with a second factor or without.
    for (name, slug, statuses) in [
        ("viewer", OWN, [403, 403]),
        ("admin", OWN, [403, 403]),
        ("owner", OTHER, [403, 403]),
        ("owner", OWN, [422, 303]),
    ] {
        let mut person = dealership.person(name, slug).await;
        let account = dealership.account(OWN, "owner").await;
        let email = format!("{name}@{slug}.example");
        for (factor, status) in [Factor::None, Factor::On].into_iter().zip(statuses) {
            factor::put(place, &email, factor).await;
            for required in ["yes", "no"] {
                let fields = [("seller", account.seller.as_str()), ("required", required)];
                let answer = person.send(&Form::made_up(demand, fields)).await;
                // Lifting what is not demanded changes nothing, for an owner.
                let lifts = status == 422 && required == "no";
                let expected = if lifts { 303 } else { status };
                let told = format!("{name} of {slug}, {factor:?}, {required}");
                assert_eq!(answer.status, expected, "{told}: {}", answer.text);
            }
        }
        factor::put(place, &email, Factor::None).await;
    }
    // Where it is demanded, an admin without one is refused whatever changes the Seller, and the database agrees.
    let mut admin = dealership.person("admin", OWN).await;
    place
        .change("UPDATE sellers SET second_factor_required = 1")
        .await;
    let account = dealership.account(OWN, "admin").await;
    let before = place.everything().await;
    let mut tried = 0;
    for route in page_routes() {
        let asked = account.request(&route);
        if asked.about != About::Seller {
            continue;
        }
        let answer = asked.by(&mut admin).await;
        assert_eq!(answer.status, 403, "{asked}: {}", answer.text);
        assert!(
            answer.words().contains("This needs a second factor"),
            "{asked}"
        );
        place.assert_unchanged(&before, &asked).await;
        tried += 1;
    }
    assert!(tried > 10, "only {tried}");
    // What is only begun is none; and nobody is shown more than before.
    factor::put(place, admin_email, Factor::Begun).await;
    let invite = Form::made_up(
        "/dashboard/settings/members/invite",
        [
            ("seller", account.seller.as_str()),
            ("email", "mallory@elsewhere.example"),
            ("role", "admin"),
        ],
    );
    assert_eq!(admin.send(&invite).await.status, 403);
    factor::put(place, admin_email, Factor::On).await;
    assert_eq!(admin.send(&invite).await.status, 200);
}

#[tokio::test]
async fn nothing_of_a_second_factor_is_found_in_logs_metrics_or_later_pages_and_no_code_in_what_is_stored()
 {
    let place = Place::new();
    let served = place.serve(&["--log", "trace"]);
    place.create_seller(OWN);
    let mut owner = Person::owner_of(served.api, OWN).await;
    let page = owner.get("/dashboard/settings").await;
    let begun = owner
        .send(&page.form("/dashboard/settings/second-factor/begin"))
        .await;
    let secret = begun.shown_secret();
    let form = begun.form("/dashboard/settings/second-factor/confirm");
    owner
        .send(&form.clone().with("code", &wrong_code(&secret)))
        .await;
    let done = owner.send(&form.with("code", &code(&secret))).await;
    let mut secrets = done.shown_codes();
    let mut waiting = Person::at(served.api);
    waiting.sign_in(OWNER, PASSWORD).await;
    secrets.push(waiting.half_token().expect("a cookie").to_owned());
    waiting.give_code(NOBODYS_CODE).await;
    assert!(is_in(&waiting.give_code(&secrets[0].clone()).await));
    // As they are kept, too: without hyphens.
    let bare: Vec<String> = secrets.iter().map(|code| code.replace('-', "")).collect();
    secrets.extend(bare);
    // Whatever somebody confused sends where it does not belong.
    for secret in secrets.iter().chain([&secret]) {
        let path = format!("/login/code?code={secret}&{secret}");
        waiting.get(&path).await;
        waiting
            .send(&Form::made_up(
                "/login/code",
                [(secret.as_str(), secret.as_str())],
            ))
            .await;
    }
    secrets.push(secret);
    let mut searched = place.stored().await;
    for path in [
        "/dashboard",
        "/dashboard/settings",
        "/dashboard/settings/audit",
        "/login/code",
    ] {
        let page = owner.get(path).await;
        searched.push((path.to_owned(), page.text.into_bytes()));
    }
    let (_, metrics) = raw_get(served.admin, "/metrics", "");
    searched.push(("metrics".to_owned(), metrics.into_bytes()));
    let log = served.kill();
    assert!(
        log.contains("somebody gave a code that is not right"),
        "{log:.500}"
    );
    searched.push(("log".to_owned(), log.into_bytes()));
    searched.extend(place.stored().await);
    assert_eq!(found_in(&searched, &secrets), Vec::<String>::new());
}
