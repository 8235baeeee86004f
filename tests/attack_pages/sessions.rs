//! Somebody plants a session in a browser, keeps a copy of one, or goes round the question for the password.
//!
//! Never: a session that goes on under a token which somebody else may know.

use reqwest::Method;

use super::NOBODYS;
use crate::support::{
    binary::PASSWORD,
    client::Answer,
    dealership::{About, Asked, Dealership, OTHER, OWN, page_routes},
    factor::{self, Factor},
    person::{Form, Person},
};

const SETTINGS: &str = "/dashboard/settings";

/// Whether a token opens a session.
async fn opens(dealership: &Dealership, token: &str) -> bool {
    let mut person = Person::at(dealership.served.api);
    person.set_session_token(token);
    let answer = person.get("/dashboard").await;
    assert!([200, 303].contains(&answer.status.as_u16()));
    answer.status == 200
}

fn token_of(person: &Person) -> String {
    person.session_token().expect("a session").to_owned()
}

#[tokio::test]
async fn a_session_that_was_planted_before_the_sign_in_is_not_gone_on_with() {
    let dealership = Dealership::new().await;
    let attacker = dealership.person("owner", OTHER).await;
    let of_attacker = token_of(&attacker);
    for planted in [NOBODYS, &of_attacker, "x", ""] {
        let mut victim = Person::at(dealership.served.api);
        victim.set_session_token(planted);
        // The page to sign in is not shown to whoever has a session; its form can be posted all the same.
        let form = Form::made_up(
            "/login",
            [
                ("email", "owner@lone-star.example"),
                ("password", PASSWORD),
                ("token", planted),
                ("session", planted),
                ("truckradar_session", planted),
            ],
        );
        let answer = victim.send(&form).await;
        assert_eq!(answer.status, 303);
        let own = token_of(&victim);
        assert_ne!(own, planted);
        assert_eq!(own.len(), 43);
        assert!(!opens(&dealership, planted).await, "{planted} opens one");
        let page = victim.get("/dashboard").await;
        assert!(page.text.contains("owner@lone-star.example"));
    }
    // Once more: each sign-in has a token of its own, and the browser's session before it ends.
    let mut victim = dealership.person("owner", OWN).await;
    let first = token_of(&victim);
    let form = Form::made_up(
        "/login",
        [
            ("email", "viewer@lone-star.example"),
            ("password", PASSWORD),
        ],
    );
    assert_eq!(victim.send(&form).await.status, 303);
    assert!(!opens(&dealership, &first).await);
    assert!(opens(&dealership, &token_of(&victim)).await);
    // A failure neither ends it nor gives another.
    let before = token_of(&victim);
    let wrong = victim.send(&form.with("password", "not the one")).await;
    assert_eq!(wrong.status, 422);
    assert_eq!(wrong.header("set-cookie"), "");
    assert!(opens(&dealership, &before).await);
}

#[tokio::test]
async fn an_invitation_followed_in_a_planted_session_leads_into_ones_own() {
    let dealership = Dealership::new().await;
    let attacker = dealership.person("owner", OTHER).await;
    let mut victim = Person::at(dealership.served.api);
    victim.set_session_token(&token_of(&attacker));
    let account = dealership.account(OWN, "owner").await;
    let token = account.invitation.as_str();
    let form = Form::made_up("/invitation", [("token", token), ("password", PASSWORD)]);
    assert_eq!(victim.send(&form).await.status, 303);
    let page = victim.get("/dashboard").await;
    assert!(page.text.contains("invited@lone-star.example"));
    assert!(!opens(&dealership, &token_of(&attacker)).await);
}

/// A page asked for with these cookies, each in a header of its own or all in one.
async fn with_cookies(dealership: &Dealership, cookies: &[String], in_one: bool) -> Answer {
    let mut person = Person::at(dealership.served.api);
    let mut request = person.request(Method::GET, "/dashboard");
    if in_one {
        request = request.header("cookie", cookies.join("; "));
    } else {
        for cookie in cookies {
            request = request.header("cookie", cookie);
        }
    }
    person.ask(request).await
}

#[tokio::test]
async fn of_two_cookies_of_the_name_neither_is_believed() {
    let dealership = Dealership::new().await;
    let victim = dealership.person("owner", OWN).await;
    let attacker = dealership.person("owner", OTHER).await;
    let cookie = |token: &str| format!("truckradar_session={token}");
    let (own, planted) = (cookie(&token_of(&victim)), cookie(&token_of(&attacker)));
    for in_one in [true, false] {
        // A neighbouring host can plant one for a longer path, which browsers send first.
        for planted in [&planted, &cookie(NOBODYS), &cookie("x"), &cookie("")] {
            for cookies in [
                [planted.clone(), own.clone()],
                [own.clone(), planted.clone()],
            ] {
                let answer = with_cookies(&dealership, &cookies, in_one).await;
                assert_eq!(answer.status, 303, "{cookies:?}");
                assert_eq!(answer.header("location"), "/login?next=%2Fdashboard");
            }
        }
        // Others' cookies, and the same one twice, are no reason to doubt.
        let cookies = [
            "a=b".to_owned(),
            own.clone(),
            format!("x{planted}"),
            planted.replace("session", "sessions"),
            own.clone(),
            "c".to_owned(),
        ];
        let answer = with_cookies(&dealership, &cookies, in_one).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.text.contains("owner@lone-star.example"));
    }
}

#[tokio::test]
async fn over_tls_a_cookie_that_a_neighbour_could_plant_is_not_looked_at() {
    let dealership = Dealership::with(&["--public-url", "https://truckradar.example"]).await;
    let mut person = Person::at(dealership.served.api);
    let form = Form::made_up(
        "/login",
        [("email", "owner@lone-star.example"), ("password", PASSWORD)],
    );
    let answer = person.send(&form).await;
    let cookie = answer.header("set-cookie").to_owned();
    let (pair, attributes) = cookie.split_once("; ").expect("attributes");
    let token = pair
        .strip_prefix("__Host-truckradar_session=")
        .expect("its name");
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Secure");
    for (cookies, status) in [
        (vec![pair.to_owned()], 200),
        (vec![format!("truckradar_session={token}")], 303),
        (
            vec![format!("truckradar_session={NOBODYS}"), pair.to_owned()],
            200,
        ),
        (vec![format!("__host-truckradar_session={token}")], 303),
    ] {
        let answer = with_cookies(&dealership, &cookies, true).await;
        assert_eq!(answer.status, status, "{cookies:?}");
    }
}

#[tokio::test]
async fn a_copy_of_a_session_dies_when_the_password_is_changed() {
    let dealership = Dealership::new().await;
    let mut victim = dealership.person("owner", OWN).await;
    let stolen = token_of(&victim);
    let change = victim
        .get(SETTINGS)
        .await
        .form("/dashboard/settings/password");
    let wrong = change
        .clone()
        .with("old_password", "not that one")
        .with("new_password", "a truck, a lake, a lamp");
    let answer = victim.send(&wrong).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("set-cookie")),
        (422, "")
    );
    let right = change
        .with("old_password", PASSWORD)
        .with("new_password", "a truck, a lake, a lamp");
    assert_eq!(victim.send(&right).await.status, 303);
    assert!(!opens(&dealership, &stolen).await, "the copy goes on");
    assert!(opens(&dealership, &token_of(&victim)).await);
}

/// Every act that asks for the password again, right for the owner of [`OWN`].
async fn acts_that_matter(dealership: &Dealership) -> Vec<Asked> {
    let account = dealership.account(OWN, "owner").await;
    let mut acts: Vec<Asked> = page_routes()
        .iter()
        .map(|route| account.request(route))
        .filter(|asked| asked.about == About::Seller)
        .collect();
    // What a Seller says of itself is no such act, nor that it has seen a sign of a leak.
    let lesser = ["/profile", "/locations", "/dismiss-leak"];
    acts.retain(|asked| !lesser.iter().any(|end| asked.path.ends_with(end)));
    assert_eq!(acts.len(), 12, "{acts:?}");
    acts
}

#[tokio::test]
async fn nobody_gets_round_the_question_for_the_password() {
    let dealership = Dealership::new().await;
    // Somebody with another password, which shall not do.
    let args = [
        "user",
        "invite",
        "--seller",
        OWN,
        "--email",
        "ann@lone-star.example",
        "--role",
        "owner",
    ];
    let link = dealership.place.json(&args, "")["link"].take();
    let token = crate::support::dealership::token_in(link.as_str().expect("a link"));
    let anns = "a truck, a lake, a lamp";
    let mut ann = Person::at(dealership.served.api);
    let form = Form::made_up(
        "/invitation",
        [("token", token.as_str()), ("password", anns)],
    );
    assert_eq!(ann.send(&form).await.status, 303);

    let mut thief = dealership.person("owner", OWN).await;
    let place = &dealership.place;
    place
        .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
        .await;
    let before = place.everything().await;
    let account = dealership.account(OWN, "owner").await;
    let own = ["begin", "confirm", "codes"].map(|act| {
        let found = page_routes().into_iter().find(|route| {
            route.path == format!("/dashboard/settings/second-factor/{act}").as_str()
        });
        account.request(&found.expect("a route"))
    });
    let mut acts = acts_that_matter(&dealership).await;
    acts.extend(own);
    for asked in acts {
        for fields in [
            &[][..],
            &[("current_password", "")],
            &[("current_password", "not the password")],
            &[("current_password", anns)],
            &[("password", PASSWORD)],
            &[("old_password", PASSWORD)],
            &[("current_password ", PASSWORD)],
            &[
                ("current_password", "not it"),
                ("current_password", PASSWORD),
            ],
            &[("current_password", ""), ("current_password", PASSWORD)],
            &[
                ("email", "ann@lone-star.example"),
                ("current_password", anns),
            ],
            &[("confirmed_us", "9999999999999999"), ("is_recent", "true")],
            // Whoever has no second factor has no code either.
            &[("current_code", "000000")],
            &[("current_code", "0000-0000-0000-0000-0000-0000")],
        ] {
            let mut form = asked.form();
            for (name, text) in fields {
                form.fields.push(((*name).to_owned(), (*text).to_owned()));
            }
            let answer = thief.send(&form).await;
            let told = format!("{asked} with {fields:?}");
            assert!(
                [200, 422].contains(&answer.status.as_u16()),
                "{told}: {}",
                answer.text
            );
            let words = answer.words();
            assert!(words.contains("Confirm that it is you"), "{told}: {words}");
            assert_eq!(answer.header("set-cookie"), "", "{told}");
            // What was typed as the password is not sent back.
            let asks = answer.form(&asked.path);
            let typed = asks.fields.iter().filter(|(n, _)| n == "current_password");
            assert_eq!(typed.count(), 1, "{told}: {asks:?}");
            assert_eq!(asks.get("current_password"), Some(""), "{told}");
            // Failures are counted; a tenth would be slow.
            place.change("DELETE FROM sign_in_failures").await;
            place.assert_unchanged(&before, &told).await;
        }
    }
}

#[tokio::test]
async fn each_act_renews_the_token_and_a_copy_of_the_old_one_dies_with_it() {
    let dealership = Dealership::new().await;
    for turn in 0..5 {
        let mut owner = dealership.person("owner", OWN).await;
        dealership
            .place
            .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
            .await;
        let asked = acts_that_matter(&dealership).await.swap_remove(turn);
        let stolen = token_of(&owner);
        let page = owner.send(&asked.form()).await;
        let form = page.form(&asked.path).with("current_password", PASSWORD);
        let answer = owner.send(&form).await;
        let done = answer.status == 303 || answer.text.contains("class=\"secret\"");
        assert!(done, "{asked}: {}", answer.text);
        assert_ne!(token_of(&owner), stolen, "{asked}");
        assert!(!opens(&dealership, &stolen).await, "{asked}");
        assert!(opens(&dealership, &token_of(&owner)).await, "{asked}");
        // The copy cannot answer the question either.
        let mut thief = Person::at(dealership.served.api);
        thief.set_session_token(&stolen);
        assert_eq!(thief.send(&form).await.status, 303);
    }
}

#[tokio::test]
async fn the_seller_that_was_authorised_is_the_one_that_is_acted_on() {
    let dealership = Dealership::new().await;
    // An owner of one, a viewer of the other.
    let email = "owner@lone-star.example";
    let mut owner = Person::invited(
        &dealership.place,
        dealership.served.api,
        OTHER,
        email,
        "viewer",
    )
    .await;
    let place = &dealership.place;
    let other = dealership.account(OTHER, "owner").await;
    let other_id = other.seller.clone();
    for n in 0..acts_that_matter(&dealership).await.len() {
        // Each as things stand after the one before.
        dealership.prepare(OWN);
        if n == 8 {
            factor::put(place, email, Factor::On).await;
        }
        let asked = acts_that_matter(&dealership).await.swap_remove(n);
        let own_id = dealership.account(OWN, "owner").await.seller;
        // Named first, the other is what is asked about, and refused.
        let before = place.everything().await;
        for smuggled in [
            vec![("seller", other_id.as_str())],
            vec![("seller", ""), ("seller", &own_id)],
            vec![("seller", "nonsense"), ("seller", &own_id)],
            vec![("Seller", &own_id)],
            vec![("seller[]", &own_id)],
            vec![],
        ] {
            let mut form = asked.form();
            form.fields.retain(|(name, _)| name != "seller");
            let first = smuggled.iter().map(|(n, v)| ((*n).into(), (*v).into()));
            form.fields.splice(0..0, first);
            let answer = owner.send(&form).await;
            assert_eq!(answer.status, 403, "{asked} {smuggled:?}: {}", answer.text);
            place.assert_unchanged(&before, &asked).await;
        }
        // Named behind, it is nothing, through the question for the password too.
        place
            .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
            .await;
        // That the person gave the password is seen by every Seller of theirs.
        let rows_of_other = async || {
            let mut rows = dealership.rows_of_seller(&other_id).await;
            rows.retain(|row| !row.starts_with("audit_also: "));
            rows
        };
        let rows = rows_of_other().await;
        let mut form = asked.form();
        form.fields.push(("seller".to_owned(), other_id.clone()));
        form.action = format!("{}?seller={OTHER}", asked.path);
        let page = owner.send(&form).await;
        let form = page.form(&asked.path).with("current_password", PASSWORD);
        let sellers: Vec<_> = form.fields.iter().filter(|(n, _)| n == "seller").collect();
        assert_eq!(sellers[0].1, own_id, "{asked}: {sellers:?}");
        assert!(!form.button.contains(OTHER), "{}", form.button);
        let answer = owner.send(&form).await;
        let done = answer.status == 303 || answer.text.contains("class=\"secret\"");
        assert!(done, "{asked}: {}", answer.text);
        assert!(!answer.text.contains("for great-lakes"), "{asked}");
        let after = rows_of_other().await;
        crate::support::binary::assert_same_rows(&rows, &after, &asked);
    }
}

#[tokio::test]
async fn a_session_that_nobody_has_ends_nobodys_session() {
    let dealership = Dealership::new().await;
    let mut owner = dealership.person("owner", OWN).await;
    let second = dealership.person("owner", OWN).await;
    let page = owner.get(SETTINGS).await;
    let form = page.form("/dashboard/settings/sessions/end");
    assert!(form.get("session").is_some());
    let before = dealership.place.everything().await;
    for session in ["nonsense", "0", "019af5a0-0000-7000-8000-00000000000", "*"] {
        let answer = owner.send(&form.clone().with("session", session)).await;
        assert_eq!(answer.status, 422, "{session}: {}", answer.text);
        dealership.place.assert_unchanged(&before, session).await;
    }
    assert!(opens(&dealership, &token_of(&second)).await);
}
