//! A person's account as they meet it on the pages: a second factor set up, used, lost and turned off; an owner who demands one;
//! a forgotten password, invitations and what is mailed about all of it.
//!
//! Never: a mail, a link or a code taken from anywhere but where its reader finds it.

use std::time::Instant;

use crate::support::{
    binary::{PASSWORD, Place, Served},
    client::Answer,
    dealership::token_in,
    factor::{self, Factor, SECRET, code, code_in, wrong_code},
    person::{Form, Person, path_in},
    smtp::{Mail, Mood, Smtp},
};

const SELLER: &str = "lone-star";
const OWNER: &str = "owner@lone-star.example";
const SETTINGS: &str = "/dashboard/settings?seller=lone-star";
const PUBLIC: &str = "https://truckradar.example";
const NEW: &str = "a truck, a lake, a lamp";
const LATER: &str = "one yard, two trailers";

async fn world() -> (Place, Served, Person) {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller(SELLER);
    let owner = Person::owner_of(served.api, SELLER).await;
    (place, served, owner)
}

/// The same with mails that are sent, and links that are mailed.
async fn world_with_mails(smtp: &Smtp) -> (Place, Served) {
    let place = Place::new();
    let served = serve_with_mails(&place, smtp);
    place.create_seller(SELLER);
    (place, served)
}

fn serve_with_mails(place: &Place, smtp: &Smtp) -> Served {
    let url = smtp.url();
    place.serve(&[
        "--smtp-url",
        &url,
        "--mail-from",
        "keys@market.example",
        "--public-url",
        PUBLIC,
    ])
}

/// Sets a second factor up on the pages; answers with its secret and the recovery codes.
async fn set_up(person: &mut Person) -> (String, Vec<String>) {
    let page = person.get(SETTINGS).await;
    let begin = page.form("/dashboard/settings/second-factor/begin");
    let shown = person.send(&begin).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    let secret = shown.shown_secret();
    let confirm = shown.form("/dashboard/settings/second-factor/confirm");
    let done = person.send(&confirm.with("code", &code(&secret))).await;
    assert_eq!(done.status, 200, "{}", done.text);
    (secret, done.shown_codes())
}

async fn half_way(at: std::net::SocketAddr, email: &str) -> Person {
    let mut person = Person::at(at);
    let answer = person.sign_in(email, PASSWORD).await;
    assert_eq!(answer.status, 303, "{}", answer.text);
    assert!(answer.header("location").starts_with("/login/code?next="));
    person
}

fn assert_in(answer: &Answer, to: &str) {
    assert_eq!(answer.status, 303, "{}", answer.text);
    assert_eq!(answer.header("location"), to);
}

/// The newest acts of the audit log, as their names.
async fn acts(place: &Place, count: i64) -> Vec<String> {
    let mut inside = place.look_inside().await;
    let mut acts: Vec<String> =
        sqlx::query_scalar("SELECT act FROM audit_log ORDER BY id DESC LIMIT $1")
            .bind(count)
            .fetch_all(&mut inside)
            .await
            .expect("answers");
    acts.reverse();
    acts
}

// ---------------------------------------------------------------------------------------------------------------------
// A second factor.

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
    let answer = owner.send(&confirm.with("code", &code(&secret))).await;
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
    let used = person.give_code(&code(&secret)).await;
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
    // The code that turned it on was used.
    let used = form.clone().with("current_code", &code(&secret));
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
    let served = serve_with_mails(&place, &smtp);
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

// ---------------------------------------------------------------------------------------------------------------------
// What is mailed.

fn to(mails: &[Mail], email: &str) -> Vec<String> {
    let of_theirs = mails.iter().filter(|mail| mail.to == email);
    of_theirs.map(|mail| mail.header("Subject")).collect()
}

/// The link that a mail brings, as a path of this server.
fn link_in(mail: &Mail) -> String {
    let text = mail.text();
    let links: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with(PUBLIC))
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
    format!("{PUBLIC}{path}")
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
    let served = serve_with_mails(&place, &smtp);
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
    until(&place, "SELECT 1 FROM outbox WHERE attempts = 1").await;
    place.change("DELETE FROM account_links").await;
    place.change("UPDATE outbox SET next_try_us = 0").await;
    served.wait_until_it_says("a mail is dropped");
}

async fn until(place: &Place, sql: &'static str) {
    let end = Instant::now() + std::time::Duration::from_secs(40);
    let mut inside = place.look_inside().await;
    loop {
        let found: Option<i64> = sqlx::query_scalar(sql)
            .fetch_optional(&mut inside)
            .await
            .expect("answers");
        if found.is_some() {
            return;
        }
        assert!(Instant::now() < end, "{sql}");
        tokio::task::yield_now().await;
    }
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
            .env("TRUCKRADAR_PUBLIC_URL", PUBLIC);
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
