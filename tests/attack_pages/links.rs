//! Somebody uses a link twice, for what it is not, too late, or guesses one.
//!
//! Never: a link that lets two in, or further than it says.

use super::NOBODYS;
use crate::support::{
    binary::PASSWORD,
    client::Answer,
    dealership::{Dealership, OTHER, OWN, token_in},
    factor::code,
    person::{Form, Person},
};

const INVITATION: &str = "/invitation";
const RESET: &str = "/reset-password";

fn follow(action: &str, token: &str, password: &str) -> Form {
    Form::made_up(action, [("token", token), ("password", password)])
}

async fn send(dealership: &Dealership, form: &Form) -> Answer {
    Person::at(dealership.served.api).send(form).await
}

async fn sign_in_status(dealership: &Dealership, email: &str, password: &str) -> u16 {
    let mut person = Person::at(dealership.served.api);
    person.sign_in(email, password).await.status.as_u16()
}

fn invite(dealership: &Dealership, email: &str) -> String {
    let args = [
        "user", "invite", "--seller", OWN, "--email", email, "--role", "viewer",
    ];
    let link = dealership.place.json(&args, "")["link"].take();
    token_in(link.as_str().expect("a link"))
}

fn reset(dealership: &Dealership, email: &str) -> String {
    let args = ["user", "reset-password", "--email", email];
    let link = dealership.place.json(&args, "")["link"].take();
    token_in(link.as_str().expect("a link"))
}

const PASSWORDS: [&str; 2] = ["a truck, a lake, a lamp", "one yard, two trailers"];

#[tokio::test]
async fn of_two_who_follow_a_link_at_once_one_comes_in() {
    let dealership = Dealership::new().await;
    for round in 0..8 {
        let email = format!("raced{round}@yard.example");
        let token = invite(&dealership, &email);
        let forms = PASSWORDS.map(|password| follow(INVITATION, &token, password));
        let (one, two) = tokio::join!(send(&dealership, &forms[0]), send(&dealership, &forms[1]));
        let won = [&one, &two].map(|answer| answer.status == 303);
        assert_ne!(won[0], won[1], "{} and {}", one.status, two.status);
        for (answer, won) in [&one, &two].into_iter().zip(won) {
            assert_eq!(answer.header("set-cookie").is_empty(), !won);
            if !won {
                // The link is used up, or, looked at a moment later, it is a User's, whose password this is not.
                assert!(
                    [410, 422].contains(&answer.status.as_u16()),
                    "{}",
                    answer.text
                );
            }
        }
        for (password, won) in PASSWORDS.into_iter().zip(won) {
            let expected = if won { 303 } else { 422 };
            assert_eq!(
                sign_in_status(&dealership, &email, password).await,
                expected
            );
        }
        // The same for a new password.
        let token = reset(&dealership, &email);
        let forms = PASSWORDS.map(|password| follow(RESET, &token, password));
        let (one, two) = tokio::join!(send(&dealership, &forms[0]), send(&dealership, &forms[1]));
        let won = [&one, &two].map(|answer| answer.status == 303);
        let mut statuses = [one.status.as_u16(), two.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [303, 410], "{} {}", one.text, two.text);
        for (password, won) in PASSWORDS.into_iter().zip(won) {
            let expected = if won { 303 } else { 422 };
            assert_eq!(
                sign_in_status(&dealership, &email, password).await,
                expected
            );
        }
        dealership
            .place
            .change("DELETE FROM sign_in_failures")
            .await;
    }
}

#[tokio::test]
async fn a_link_of_one_kind_is_none_of_the_other_and_a_guess_is_none() {
    let dealership = Dealership::new().await;
    let mut owner = dealership.person("owner", OWN).await;
    let session = owner.session_token().expect("a session").to_owned();
    let account = dealership.account(OWN, "owner").await;
    let (invitation, reset) = (&account.invitation, &account.reset);
    let near = |token: &str| {
        let last = if token.ends_with('A') { 'B' } else { 'A' };
        format!("{}{last}", &token[..42])
    };
    let before = dealership.place.everything().await;
    let mut said = Vec::new();
    for (action, wrong) in [(INVITATION, reset), (RESET, invitation)] {
        let right = if action == RESET { reset } else { invitation };
        for token in [
            wrong.clone(),
            near(right),
            right.to_lowercase(),
            format!("{right}A"),
            right[..42].to_owned(),
            format!(" {right}"),
            format!("{right}="),
            NOBODYS.to_owned(),
            session.clone(),
            account.key.clone(),
            String::new(),
            "*".to_owned(),
            "' OR 1=1 --".to_owned(),
        ] {
            let told = format!("{action} {token:?}");
            let quoted: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
            let page = owner.get(&format!("{action}?token={quoted}")).await;
            let posted = owner.send(&follow(action, &token, PASSWORD)).await;
            for answer in [page, posted] {
                assert_eq!(answer.status, 410, "{told}: {}", answer.text);
                assert_eq!(answer.header("set-cookie"), "", "{told}");
                said.push(answer.text.replace(answer.header("x-request-id"), "ID"));
            }
        }
    }
    dealership.place.assert_unchanged(&before, "a guess").await;
    said.dedup();
    assert_eq!(said.len(), 1, "how near a guess was is told");
    // All that used nothing up.
    for (action, token) in [(INVITATION, invitation), (RESET, reset)] {
        let answer = owner.send(&follow(action, token, PASSWORD)).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        let again = owner.send(&follow(action, token, PASSWORDS[0])).await;
        assert_eq!(again.status, 410, "{}", again.text);
    }
}

#[tokio::test]
async fn a_link_that_is_too_old_or_taken_back_is_dead() {
    let dealership = Dealership::new().await;
    let mut owner = dealership.person("owner", OWN).await;
    let page = owner.get("/dashboard/settings").await;
    let uninvite = page.form("/dashboard/settings/members/uninvite");
    assert_eq!(uninvite.get("email"), Some("invited@lone-star.example"));
    let account = dealership.account(OWN, "owner").await;
    assert_eq!(owner.send(&uninvite).await.status, 303);
    let taken_back = follow(INVITATION, &account.invitation, PASSWORD);
    assert_eq!(send(&dealership, &taken_back).await.status, 410);

    let other = dealership.account(OTHER, "owner").await;
    dealership
        .place
        .change("UPDATE account_links SET expires_us = expires_us - 604800000000")
        .await;
    let before = dealership.place.everything().await;
    for form in [
        follow(INVITATION, &other.invitation, PASSWORD),
        follow(RESET, &other.reset, PASSWORDS[0]),
        follow(RESET, &account.reset, PASSWORDS[0]),
    ] {
        let path = format!("{}?token={}", form.action, form.get("token").expect("one"));
        assert_eq!(owner.get(&path).await.status, 410, "{path}");
        assert_eq!(send(&dealership, &form).await.status, 410, "{path}");
    }
    dealership
        .place
        .assert_unchanged(&before, "an old link")
        .await;
}

#[tokio::test]
async fn a_link_for_a_new_password_is_dead_once_the_person_changed_theirs_or_turned_a_factor_on() {
    let dealership = Dealership::new().await;
    let email = "owner@lone-star.example";
    // Somebody has had a link made in the person's name, and has come by it.
    let thiefs = reset(&dealership, email);
    let mut owner = dealership.person("owner", OWN).await;
    let page = owner.get("/dashboard/settings").await;
    let change = page.form("/dashboard/settings/password");
    let change = change.with("old_password", PASSWORD);
    // One that is refused changes nothing about it.
    let refused = change.clone().with("new_password", "short");
    assert_eq!(owner.send(&refused).await.status, 422);
    let path = format!("{RESET}?token={thiefs}");
    assert_eq!(owner.get(&path).await.status, 200);
    let changed = owner.send(&change.with("new_password", PASSWORDS[0])).await;
    assert_eq!(changed.status, 303, "{}", changed.text);
    assert_eq!(owner.get(&path).await.status, 410);
    let form = follow(RESET, &thiefs, PASSWORDS[1]);
    assert_eq!(send(&dealership, &form).await.status, 410);
    assert_eq!(sign_in_status(&dealership, email, PASSWORDS[0]).await, 303);

    // The same with a second factor.
    let thiefs = reset(&dealership, email);
    let mut owner = Person::signed_in(dealership.served.api, email, PASSWORDS[0]).await;
    let page = owner.get("/dashboard/settings").await;
    let begin = page.form("/dashboard/settings/second-factor/begin");
    let shown = owner.send(&begin).await;
    let path = format!("{RESET}?token={thiefs}");
    assert_eq!(owner.get(&path).await.status, 200, "only begun");
    let confirm = shown.form("/dashboard/settings/second-factor/confirm");
    let confirm = confirm.with("code", &code(&shown.shown_secret()));
    assert_eq!(owner.send(&confirm).await.status, 200);
    let form = follow(RESET, &thiefs, PASSWORDS[1]);
    assert_eq!(send(&dealership, &form).await.status, 410);
    // Links to others, and invitations, are as they were.
    let account = dealership.account(OWN, "owner").await;
    for (action, token) in [(RESET, &account.reset), (INVITATION, &account.invitation)] {
        let page = owner.get(&format!("{action}?token={token}")).await;
        assert_eq!(page.status, 200, "{action}: {}", page.text);
    }
}

#[tokio::test]
async fn an_invitation_reaches_no_further_than_it_says_whatever_its_form_says() {
    let dealership = Dealership::new().await;
    let account = dealership.account(OWN, "owner").await;
    let other = dealership.account(OTHER, "owner").await;
    let others = dealership.rows_of(&other).await;
    let mut form = follow(INVITATION, &account.invitation, PASSWORD);
    for (name, text) in [
        ("role", "owner"),
        ("seller", other.seller.as_str()),
        ("seller_id", other.seller.as_str()),
        ("email", "owner@great-lakes.example"),
        ("user", "019af5a0-0000-7000-8000-000000000000"),
        ("is_user", "true"),
        ("token", other.invitation.as_str()),
    ] {
        form.fields.push((name.to_owned(), text.to_owned()));
    }
    form.action = format!("{INVITATION}?token={}&role=owner", other.invitation);
    let mut person = Person::at(dealership.served.api);
    assert_eq!(person.send(&form).await.status, 303);
    let page = person.get("/dashboard/settings").await;
    let words = page.words();
    assert!(words.contains("Your role here is viewer"), "{words}");
    assert!(page.text.contains("invited@lone-star.example"));
    assert_eq!(
        person.get("/dashboard?seller=great-lakes").await.status,
        403
    );
    let after = dealership.rows_of(&other).await;
    crate::support::binary::assert_same_rows(&others, &after, "an invitation");
    let their_own = follow(INVITATION, &other.invitation, PASSWORD);
    assert_eq!(send(&dealership, &their_own).await.status, 303);

    // Whoever has an account joins with its password, and not with one of their choice.
    let token = invite(&dealership, "owner@great-lakes.example");
    for guess in [PASSWORDS[0], "", "not the password"] {
        let answer = send(&dealership, &follow(INVITATION, &token, guess)).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        assert_eq!(answer.header("set-cookie"), "");
    }
    let email = "owner@great-lakes.example";
    assert_eq!(sign_in_status(&dealership, email, PASSWORD).await, 303);
    // Nor does a session of theirs join for them: the password is asked for.
    let mut theirs = Person::signed_in(dealership.served.api, email, PASSWORD).await;
    let answer = theirs.send(&follow(INVITATION, &token, "")).await;
    assert_eq!(answer.status, 422);
    let answer = theirs.send(&follow(INVITATION, &token, PASSWORD)).await;
    assert_eq!(answer.status, 303);
}
