//! What the owners of a Seller are mailed: every act on its keys, and clients that go on sending a dead one. And what a member
//! is mailed: what becomes of their own membership.
//!
//! Never: a mail about keys to somebody who is no owner; a key, or the SMTP server's password, in a mail, a log or the database.

mod incidents;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use reqwest::Method;
use sqlx::AssertSqlSafe;

use crate::support::{
    binary::{Place, Served},
    client::Client,
    person::{Form, Person},
    smtp::{Mail, Mood, Smtp, Wants},
    tls::Authority,
};

const FROM: &str = "keys@market.example";
/// What every mail has for a header.
const HEADERS: [&str; 8] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "Content-Type",
    "Content-Transfer-Encoding",
];
/// Less than any time after which the program gives an SMTP server up.
const AT_ONCE: Duration = Duration::from_secs(8);

fn serve(place: &Place, url: &str, more: &[&str]) -> Served {
    let options = ["--smtp-url", url, "--mail-from", FROM];
    place.serve(&[&options[..], more].concat())
}

fn act(place: &Place, act: &str, slug: &str) -> serde_json::Value {
    place.json(&["key", act, "--seller", slug], "")
}

fn key_of(made: &serde_json::Value) -> String {
    made["key"].as_str().expect("a key").to_owned()
}

fn hint(key: &str) -> String {
    format!("tr_live_••••{}", &key[42..])
}

/// Recipients and subjects, in order.
fn told(mails: &[Mail]) -> Vec<(String, String)> {
    let mut told: Vec<_> = mails
        .iter()
        .map(|mail| (mail.to.clone(), mail.header("Subject")))
        .collect();
    told.sort();
    told
}

/// The tries of each mail that waits.
async fn waiting(place: &Place) -> Vec<i64> {
    let mut inside = place.look_inside().await;
    sqlx::query_scalar("SELECT attempts FROM outbox ORDER BY id")
        .fetch_all(&mut inside)
        .await
        .expect("answers")
}

async fn until_all_are_sent(place: &Place) {
    let sql = "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM outbox)";
    place.until("an empty outbox", sql).await;
}

/// As if every pause between tries were over.
async fn pass_the_pauses(place: &Place) {
    place.change("UPDATE outbox SET next_try_us = 0").await;
}

#[tokio::test]
async fn every_act_on_keys_is_mailed_to_every_owner_and_to_nobody_else() {
    let smtp = Smtp::start();
    let place = Place::new();
    let served = serve(&place, &smtp.url(), &["--log", "trace"]);
    place.create_seller("lone-star");
    place.create_seller("other");
    for (name, role) in [
        ("second", "owner"),
        ("admin", "admin"),
        ("viewer", "viewer"),
    ] {
        let email = format!("{name}@lone-star.example");
        Person::invited(&place, served.api, "lone-star", &email, role).await;
    }
    let first = key_of(&act(&place, "generate", "lone-star"));
    let discarded = key_of(&act(&place, "prepare", "lone-star"));
    act(&place, "discard", "lone-star");
    // A second time there is nothing to tell of.
    act(&place, "discard", "lone-star");
    let cut_over = key_of(&act(&place, "prepare", "lone-star"));
    act(&place, "cut-over", "lone-star");
    let pointless = key_of(&act(&place, "prepare", "lone-star"));
    let mut owner = Person::owner_of(served.api, "lone-star").await;
    let last = owner
        .generate("lone-star")
        .await
        .shown_key()
        .expect("shown");
    let waited = key_of(&act(&place, "prepare", "lone-star"));
    let reason = ["--reason", "found in a public repository"];
    let expire = ["key", "expire", "--seller", "lone-star"];
    place.json(&[&expire[..], &reason].concat(), "");
    until_all_are_sent(&place).await;

    let mails = smtp.mails();
    let mut expected = Vec::new();
    for to in ["owner@lone-star.example", "second@lone-star.example"] {
        for subject in [
            "The API key of lone-star was cut over to the next one",
            "The API key of lone-star was expired",
            "The API key of lone-star was generated",
            "The API key of lone-star was replaced",
            "The next API key of lone-star was discarded",
            "The next API key of lone-star was prepared",
            "The next API key of lone-star was prepared",
            "The next API key of lone-star was prepared",
            "The next API key of lone-star was prepared",
        ] {
            expected.push((to.to_owned(), subject.to_owned()));
        }
    }
    assert_eq!(told(&mails), expected);

    let text = |subject: &str, part: &str| {
        let found = mails
            .iter()
            .find(|mail| mail.header("Subject").contains(subject) && mail.text().contains(part));
        found.unwrap_or_else(|| panic!("no mail {subject:?} with {part:?}: {mails:#?}"))
    };
    text("generated", &format!("Key: {}", hint(&first)));
    text("generated", ", by the marketplace, at 20");
    text("prepared", &format!("Next key: {}", hint(&discarded)));
    text("discarded", &format!("Discarded key: {}", hint(&discarded)));
    let mail = text("cut over", &format!("Live key: {}", hint(&cut_over)));
    assert!(mail.text().contains(&format!("Old key: {}", hint(&first))));
    let mail = text("replaced", ", by owner@lone-star.example, at 20").text();
    for part in [
        format!("New key: {}\n", hint(&last)),
        format!("Old key: {}\n", hint(&cut_over)),
        format!("never live: {}\n", hint(&pointless)),
        "The old key is dead since 20".to_owned(),
        "change your password".to_owned(),
        "Security contact: security@truckradar.ai\n".to_owned(),
    ] {
        assert!(mail.contains(&part), "{part:?} in {mail}");
    }
    let mail = text("expired", &format!("Expired key: {}\n", hint(&last))).text();
    for part in [
        format!("never live: {}\n", hint(&waited)),
        "Reason: found in a public repository\n".to_owned(),
    ] {
        assert!(mail.contains(&part), "{part:?} in {mail}");
    }

    let mut ids = Vec::new();
    for mail in &mails {
        assert_eq!(mail.from, FROM);
        assert_eq!(mail.header("From"), FROM);
        assert_eq!(mail.header("To"), mail.to);
        assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
        assert_eq!(mail.header_names(), HEADERS);
        // Without --public-url nobody knows where a link should lead.
        assert!(!mail.text().contains("http"), "{}", mail.text());
        ids.push(mail.header("Message-ID"));
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), mails.len(), "each has an id of its own");
    let (code, log) = served.terminate();
    assert_eq!(code, Some(0));
    let everything = format!(
        "{mails:#?}{}",
        mails.iter().map(Mail::text).collect::<String>()
    );
    for key in [first, discarded, cut_over, pointless, last, waited] {
        assert!(!everything.contains(&key), "a key is in a mail");
        assert!(!log.contains(&key), "a key is in the log");
    }
    assert!(!log.contains("@lone-star.example"), "{log}");
    assert!(log.contains(&format!(
        "mails go to the SMTP server {}, from {FROM}",
        smtp.address
    )));
}

#[tokio::test]
async fn whoever_is_given_another_role_or_removed_is_mailed_that() {
    let smtp = Smtp::start();
    let place = Place::new();
    let second = "second@lone-star.example";
    let of_second = ["--seller", "lone-star", "--email", second];
    // While links are shown and not mailed.
    let before = place.serve(&[]);
    place.create_seller("lone-star");
    Person::invited(&place, before.api, "lone-star", second, "owner").await;
    drop(before);
    let public = ["--public-url", "https://truckradar.example"];
    let served = serve(&place, &smtp.url(), &public);
    let mut inside = place.look_inside().await;
    let (seller, user): (String, String) =
        sqlx::query_as("SELECT m.seller_id, u.id FROM memberships m JOIN users u ON u.id = m.user_id WHERE u.email = $1")
            .bind(second)
            .fetch_one(&mut inside)
            .await
            .expect("a member");
    // Somebody took over an owner's account, and gets the other one out of the way.
    let mut taken_over = Person::owner_of(served.api, "lone-star").await;
    let fields = [("seller", &*seller), ("user", &user), ("role", "viewer")];
    let form = Form::made_up("/dashboard/settings/members/role", fields);
    assert_eq!(taken_over.send(&form).await.status, 303);
    // Done again it changes nothing, and nobody is mailed.
    assert_eq!(taken_over.send(&form).await.status, 303);
    place.json(&[&["user", "remove"], &of_second[..]].concat(), "");
    place.generate("lone-star");
    until_all_are_sent(&place).await;

    let mails = smtp.mails();
    let to = |to: &str, subject: &str| (to.to_owned(), subject.to_owned());
    assert_eq!(
        told(&mails),
        [
            to(
                "owner@lone-star.example",
                "The API key of lone-star was generated"
            ),
            to(second, "You were removed from lone-star"),
            to(second, "Your role at lone-star was changed"),
        ]
    );
    for (subject, part) in [
        (
            "Your role",
            "is viewer now, and was owner. This was done by owner@lone-star.example, at 20",
        ),
        (
            "You were",
            "was viewer, and is ended. This was done by the marketplace, at 20",
        ),
    ] {
        let mail = mails
            .iter()
            .find(|mail| mail.header("Subject").starts_with(subject));
        let text = mail.expect("came").text();
        assert!(text.contains(part), "{text}");
        assert!(text.contains("Security contact: "), "{text}");
        assert!(!text.contains("http"), "there is no page for them: {text}");
    }
}

#[tokio::test]
async fn with_a_public_address_a_mail_leads_to_the_page_that_it_is_about() {
    let smtp = Smtp::start();
    let place = Place::new();
    let urls = ["https://truckradar.example", "https://trailerradar.example"];
    let more = ["--public-url", urls[0], "--public-url", urls[1]];
    let _served = serve(&place, &smtp.url(), &more);
    place.create_seller("lone-star");
    place.generate("lone-star");
    let text = smtp.wait_for(1)[0].text();
    let link = "https://truckradar.example/dashboard/settings?seller=lone-star#api-key\n";
    assert!(text.contains(link), "{text}");
}

#[tokio::test]
async fn while_the_smtp_server_is_down_or_refuses_acts_go_on_and_mails_wait() {
    let smtp = Smtp::start();
    let (address, url) = (smtp.address, smtp.url());
    drop(smtp);
    let place = Place::new();
    let served = serve(&place, &url, &[]);
    place.create_seller("lone-star");
    let begun = Instant::now();
    let key = place.generate("lone-star");
    assert!(begun.elapsed() < AT_ONCE);
    served.wait_until_it_says("a mail waits for another try");
    served.wait_until_it_says("the SMTP server does not answer");
    assert_eq!(waiting(&place).await, [1]);
    assert!(!place.everything().await.concat().contains(&key));

    let smtp = Smtp::at(address, Wants::default());
    smtp.be(Mood::Refuses("451 try later"));
    pass_the_pauses(&place).await;
    served.wait_until_it_says("the SMTP server refused it with 451");
    assert_eq!(waiting(&place).await, [2]);
    assert_eq!(smtp.mails().len(), 0);

    smtp.be(Mood::Takes);
    // Its pause is not over: what comes now goes first.
    act(&place, "prepare", "lone-star");
    let first = smtp.wait_for(1);
    assert!(first[0].header("Subject").contains("prepared"));
    pass_the_pauses(&place).await;
    assert!(smtp.wait_for(2)[1].header("Subject").contains("generated"));
    until_all_are_sent(&place).await;
    assert_eq!(smtp.mails().len(), 2);
}

#[tokio::test]
async fn an_smtp_server_that_hangs_holds_up_neither_acts_nor_the_end() {
    let smtp = Smtp::start();
    smtp.be(Mood::Hangs);
    let place = Place::new();
    let served = serve(&place, &smtp.url(), &[]);
    place.create_seller("lone-star");
    place.generate("lone-star");
    smtp.wait_for_connection();
    let begun = Instant::now();
    let key = place.generate("lone-star");
    let answer = Client::new(served.api, Some(&key)).get("/api/v1/key").await;
    assert_eq!(answer.status, 200);
    let (code, _) = served.terminate();
    assert_eq!(code, Some(0));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(waiting(&place).await, [1, 0]);

    smtp.be(Mood::Takes);
    let _served = serve(&place, &smtp.url(), &[]);
    assert!(smtp.wait_for(1)[0].header("Subject").contains("replaced"));
    pass_the_pauses(&place).await;
    assert!(smtp.wait_for(2)[1].header("Subject").contains("generated"));
}

#[tokio::test]
async fn an_smtp_server_that_scans_a_mail_for_long_does_not_hold_up_the_end() {
    let smtp = Smtp::start();
    smtp.be(Mood::Scans);
    let place = Place::new();
    let served = serve(&place, &smtp.url(), &[]);
    place.create_seller("lone-star");
    place.generate("lone-star");
    smtp.wait_for(1);
    let begun = Instant::now();
    let (code, log) = served.terminate();
    assert_eq!(code, Some(0));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert!(!log.contains("another try"), "{log}");
    assert_eq!(waiting(&place).await, [1]);

    // It had taken the mail: whoever gets it twice can tell.
    smtp.be(Mood::Takes);
    pass_the_pauses(&place).await;
    let _served = serve(&place, &smtp.url(), &[]);
    let mails = smtp.wait_for(2);
    assert_eq!(mails[0].header("Message-ID"), mails[1].header("Message-ID"));
}

#[tokio::test]
async fn what_was_done_before_a_crash_or_without_a_server_is_mailed_by_the_next_one() {
    let smtp = Smtp::start();
    smtp.be(Mood::Hangs);
    let place = Place::new();
    let served = serve(&place, &smtp.url(), &[]);
    place.create_seller("lone-star");
    place.generate("lone-star");
    smtp.wait_for_connection();
    place.generate("lone-star");
    served.kill();
    // No server runs: the command does it by itself.
    act(&place, "prepare", "lone-star");
    assert_eq!(waiting(&place).await, [1, 0, 0]);
    pass_the_pauses(&place).await;
    smtp.be(Mood::Takes);
    let _served = serve(&place, &smtp.url(), &[]);
    until_all_are_sent(&place).await;
    let subjects: Vec<_> = told(&smtp.mails()).into_iter().map(|(_, s)| s).collect();
    assert_eq!(
        subjects,
        [
            "The API key of lone-star was generated",
            "The API key of lone-star was replaced",
            "The next API key of lone-star was prepared",
        ]
    );
}

#[tokio::test]
async fn a_mail_is_tried_for_three_days_and_then_given_up() {
    let smtp = Smtp::start();
    smtp.be(Mood::Refuses("451 not at present"));
    let place = Place::new();
    let served = serve(&place, &smtp.url(), &[]);
    place.create_seller("lone-star");
    place.generate("lone-star");
    served.wait_until_it_says("tries=1 error=the SMTP server refused it with 451");
    place
        .change("UPDATE outbox SET next_try_us = 0, attempts = 73")
        .await;
    served.wait_until_it_says("tries=74 error=the SMTP server refused it with 451");
    assert_eq!(waiting(&place).await, [74]);
    pass_the_pauses(&place).await;
    served.wait_until_it_says("a mail is given up");
    until_all_are_sent(&place).await;
}

#[tokio::test]
async fn a_mail_that_nobody_is_there_for_is_given_up_after_a_few_tries() {
    let smtp = Smtp::start();
    smtp.be(Mood::Refuses("550 nobody here"));
    let place = Place::new();
    let served = serve(&place, &smtp.url(), &[]);
    place.create_seller("lone-star");
    place.generate("lone-star");
    served.wait_until_it_says("tries=1 error=the SMTP server refused it with 550");
    place
        .change("UPDATE outbox SET next_try_us = 0, attempts = 3")
        .await;
    served.wait_until_it_says("tries=4 error=the SMTP server refused it with 550");
    assert_eq!(waiting(&place).await, [4]);
    let mut inside = place.look_inside().await;
    let id: String = sqlx::query_scalar("SELECT id FROM outbox")
        .fetch_one(&mut inside)
        .await
        .expect("one waits");
    pass_the_pauses(&place).await;
    served.wait_until_it_says(&format!("a mail is given up mail={id} tries=5"));
    until_all_are_sent(&place).await;
    let (_, log) = served.terminate();
    assert!(!log.contains("@lone-star.example"), "{log}");
    assert!(!log.contains("nobody here"), "{log}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

#[tokio::test]
async fn without_an_smtp_server_mails_lie_in_a_folder_and_the_log_says_so() {
    let place = Place::new();
    let elsewhere = place.path().join("elsewhere");
    let by_default = place.path().join(match place.is_on_postgres() {
        true => "truckradar.mails",
        false => "t.db.mails",
    });
    let named = elsewhere.to_str().expect("text").to_owned();
    for (folder, options) in [
        (by_default, vec![]),
        (elsewhere, vec!["--mail-folder", &named]),
    ] {
        let served = place.serve(&options);
        served.wait_until_it_says(&format!(
            "no --smtp-url: mails are written to the folder {} and sent nowhere",
            // On a server the folder is one of where the program was started.
            match options.is_empty() && place.is_on_postgres() {
                true => Path::new("truckradar.mails"),
                false => &folder,
            }
            .display()
        ));
        assert!(!folder.exists(), "there is nothing to write yet");
        let slug = if options.is_empty() {
            "lone-star"
        } else {
            "other"
        };
        place.create_seller(slug);
        let key = place.generate(slug);
        until_all_are_sent(&place).await;
        assert_eq!(mode(&folder), 0o700);
        let files: Vec<_> = fs::read_dir(&folder)
            .expect("is there")
            .map(|file| file.expect("is there").path())
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!(files[0].extension().expect("one"), "eml");
        assert_eq!(mode(&files[0]), 0o600);
        let mail = fs::read_to_string(&files[0]).expect("text");
        assert!(
            mail.contains(&format!("To: owner@{slug}.example\r\n")),
            "{mail}"
        );
        assert!(mail.contains(&format!("Subject: The API key of {slug} was generated\r\n")));
        assert!(!mail.contains(&key));
    }
}

#[tokio::test]
async fn a_password_goes_over_tls_only_and_stands_in_no_log() {
    const PASSWORD: &str = "s:e/c@ret-of-the-post";
    let authority = Authority::new();
    let wants = Wants {
        login: Some(("post@market.example".to_owned(), PASSWORD.to_owned())),
        tls: Some(authority.issue().server_config()),
    };
    let smtp = Smtp::that_wants(wants.clone());
    let place = Place::new();
    let login = "post%40market.example:s%3Ae%2Fc%40ret-of-the-post";
    let url = format!("smtp://{login}@{}?tls=required", smtp.address);
    let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let options = ["serve", "--mail-from", FROM, "--log", "trace"];
    let start = |url: &str, roots: Option<&Path>| {
        let mut command = place.command(&[&options[..], &listen].concat());
        command.env("TRUCKRADAR_SMTP_URL", url);
        if let Some(roots) = roots {
            command.env("SSL_CERT_FILE", roots);
        }
        place.serve_by(command)
    };
    // Nobody here knows the authority that signed for it.
    let served = start(&url, None);
    place.create_seller("lone-star");
    place.generate("lone-star");
    served.wait_until_it_says("no TLS connection to the SMTP server");
    let (_, mut log) = served.terminate();
    assert_eq!(smtp.mails().len(), 0);

    let roots = place.path().join("roots.pem");
    fs::write(&roots, authority.pem()).expect("writes");
    pass_the_pauses(&place).await;
    let served = start(&url, Some(&roots));
    let mail = smtp.wait_for(1).remove(0);
    assert!(mail.is_encrypted);
    assert_eq!(mail.login, wants.login);
    log.push_str(&served.terminate().1);

    // One that offers no TLS gets neither the password nor the mail.
    let plain = Smtp::that_wants(Wants { tls: None, ..wants });
    place.generate("lone-star");
    let url = format!("smtp://{login}@{}?tls=required", plain.address);
    let served = start(&url, Some(&roots));
    served.wait_until_it_says("the SMTP server offers no STARTTLS");
    log.push_str(&served.terminate().1);
    assert_eq!(plain.mails().len(), 0);
    for secret in [PASSWORD, "ret-of-the-post", "post@market", "post%40"] {
        assert!(!log.contains(secret), "{secret:?} in {log}");
    }
}

#[test]
fn wrong_options_are_refused_at_the_start_and_no_password_is_repeated() {
    let place = Place::new();
    let run = |args: &[&str]| {
        let output = place.run(&[&["serve"], args].concat(), "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("secret"), "{said}");
        (output.status.code(), said)
    };
    let (code, said) = run(&["--smtp-url", "smtp://a:secret@mail.example"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("--smtp-url needs --mail-from"), "{said}");
    let both = ["--mail-from", FROM, "--mail-folder", "mails"];
    let (code, said) = run(&[&["--smtp-url", "smtp://a:secret@mail.example"], &both[..]].concat());
    assert_eq!(code, Some(1));
    assert!(said.contains("mails go to one of the two"), "{said}");
    for bad in [
        "smtp://a:b/secret@mail.example",
        "smtp://a:secret@mail.example/x",
        "ftp://a:secret@mail.example",
    ] {
        let (code, said) = run(&["--smtp-url", bad, "--mail-from", FROM]);
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("invalid value for '--smtp-url <URL>'"),
            "{said}"
        );
    }
    let (code, said) = run(&["--mail-from", "x\r\nBcc: y@z.example"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(!place.database_file().exists());
}
