//! A key that is where it should not be: GitHub finds it, somebody hands it in, a browser sends it. What becomes of it, who is
//! told, and what each of them sees.
//!
//! Never: a key taken for dead because an answer says so; each is tried.

mod reported;

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use truckradar::keys::format::SecretKey;

use crate::{
    secrets::found_in,
    support::{
        binary::{Place, Served},
        browser::{Browser, Gallery, Options},
        client::{Answer, Client},
        github::{GitHub, Mood, alert, signed},
        person::Person,
        smtp::{Mail, Smtp},
    },
};

const OWNER: &str = "owner@lone-star.example";
const CONTACT: &str = "security@market.example";
const PAGE: &str = "/dashboard/settings?seller=lone-star";
const FOUND_AT: &str = "https://github.com/octocat/hello/blob/1234567/deploy.sh";
/// How long what must happen may take, on a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(40);

/// A server with a dealer, GitHub and a mail server.
struct World {
    served: Served,
    github: GitHub,
    smtp: Smtp,
    place: Place,
}

impl World {
    fn with(options: &[&str]) -> Self {
        let (github, smtp, place) = (GitHub::start(), Smtp::start(), Place::new());
        let (keys, mails) = (github.url(), smtp.url());
        let own = [
            "--log",
            "trace",
            "--github-keys-url",
            &keys,
            "--smtp-url",
            &mails,
            "--mail-from",
            "keys@market.example",
            "--security-contact",
            CONTACT,
        ];
        let served = place.serve(&[&own, options].concat());
        place.create_seller("lone-star");
        Self {
            served,
            github,
            smtp,
            place,
        }
    }

    fn new() -> Self {
        Self::with(&[])
    }

    fn client(&self) -> Client {
        Client::new(self.served.api, None)
    }

    fn prepare(&self) -> String {
        let made = self
            .place
            .json(&["key", "prepare", "--seller", "lone-star"], "");
        made["key"].as_str().expect("a key").to_owned()
    }

    /// What the API says of a key: 200, or the reason of a 401.
    async fn says(&self, key: &str) -> String {
        let answer = Client::new(self.served.api, Some(key));
        let answer = answer.get("/api/v1/key").await;
        match answer.status.as_u16() {
            401 => answer.reason(),
            status => status.to_string(),
        }
    }

    /// GitHub tells of these matches; what it is answered.
    async fn tell(&self, alerts: &[Value]) -> Answer {
        let client = self.client();
        let body = json!(alerts).to_string();
        let request = self.github.signer.request(&client, &body);
        client.send(request).await
    }

    async fn hand_in(&self, key: &str) {
        let slip = json!({"key": key, "found_at": FOUND_AT});
        let answer = self.client().post("/keys/report", &slip).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
    }

    /// Waits until the server has counted this, by the end of a line of its metrics.
    async fn until_counted(&self, finder: &str, outcome: &str, count: u64) {
        let name = "truckradar_leak_reports_total";
        let line = format!("{name}{{finder=\"{finder}\",outcome=\"{outcome}\"}} {count}");
        let client = Client::new(self.served.admin, None);
        let end = Instant::now() + PATIENCE;
        loop {
            let metrics = client.get("/metrics").await.text;
            if metrics.lines().any(|said| said == line) {
                return;
            }
            assert!(Instant::now() < end, "{line}: {metrics}");
            tokio::task::yield_now().await;
        }
    }

    async fn count(&self, sql: &'static str) -> i64 {
        let mut inside = self.place.look_inside().await;
        let count = sqlx::query_scalar(sql).fetch_one(&mut inside).await;
        count.expect("answers")
    }

    /// Waits until every mail was handed over; those about keys that were found.
    async fn mails(&self) -> Vec<Mail> {
        let end = Instant::now() + PATIENCE;
        while self.count("SELECT COUNT(*) FROM outbox").await > 0 {
            assert!(Instant::now() < end, "mails wait");
            tokio::task::yield_now().await;
        }
        let mut mails = self.smtp.mails();
        mails.retain(|mail| mail.header("Subject").contains("found"));
        mails.sort_by_key(|mail| mail.to.clone());
        mails
    }

    /// Ends the server and searches everything that it left for these keys.
    async fn assert_kept_nothing_of(self, keys: &[String]) {
        let mails = self.mails().await;
        let leaks = Client::new(self.served.admin, None).get("/leaks").await;
        let metrics = Client::new(self.served.admin, None).get("/metrics").await;
        let mut searched = self.place.stored().await;
        let mails: String = mails.iter().map(|mail| mail.text() + &mail.raw).collect();
        let (code, log) = self.served.terminate();
        assert_eq!(code, Some(0));
        for (name, text) in [
            ("mails", mails),
            ("/leaks", leaks.text),
            ("/metrics", metrics.text),
            ("log", log),
        ] {
            searched.push((name.to_owned(), text.into_bytes()));
        }
        assert_eq!(found_in(&searched, keys), Vec::<String>::new());
    }
}

fn hash(token: &str) -> String {
    let digest = Sha256::digest(token);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn label(token: &str, label: &str) -> Value {
    json!({"token_hash": hash(token), "token_type": "truckradar_api_key", "label": label})
}

fn unknown_key() -> String {
    SecretKey::generate()
        .expect("randomness")
        .expose()
        .to_owned()
}

fn recipients(mails: &[Mail]) -> Vec<&str> {
    mails.iter().map(|mail| mail.to.as_str()).collect()
}

#[tokio::test]
async fn a_live_key_that_github_found_is_dead_before_github_is_answered() {
    let world = World::new();
    let second = "second@lone-star.example";
    let (place, at) = (&world.place, world.served.api);
    Person::invited(place, at, "lone-star", second, "owner").await;
    let key = place.generate("lone-star");
    let staged = world.prepare();
    let unknown = unknown_key();
    let answer = world
        .tell(&[
            alert(&key, FOUND_AT),
            alert(&unknown, "https://a.example"),
            alert("tr_live_nonsense", ""),
            alert(&key, "https://github.com/octocat/hello/issues/1"),
        ])
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let (yes, no) = ("true_positive", "false_positive");
    assert_eq!(
        answer.json(),
        json!([
            label(&key, yes),
            label(&unknown, no),
            label("tr_live_nonsense", no),
            label(&key, yes)
        ])
    );
    // Dead when the answer came, and the next key with it.
    assert_eq!(world.says(&key).await, "revoked");
    assert_eq!(world.says(&staged).await, "revoked");

    // Who is told, and what.
    let mails = world.mails().await;
    assert_eq!(recipients(&mails), [OWNER, second, CONTACT]);
    for mail in &mails {
        let (subject, text) = (mail.header("Subject"), mail.text());
        assert_eq!(
            subject,
            "The API key of lone-star was found in public, and is expired"
        );
        for part in [
            "GitHub secret scanning found the API key",
            "- commit: https: //github. com/octocat/hello/blob/1234567/deploy. sh\n",
            "- commit: https: //github. com/octocat/hello/issues/1\n",
            &format!("tr_live_••••{}", &key[42..]),
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }
    let to_owner = mails[0].text();
    let discarded = format!("never live: tr_live_••••{}\n", &staged[42..]);
    assert!(to_owner.contains(&discarded), "{to_owner}");
    assert!(to_owner.contains("Generate a new key in Settings"));
    assert!(mails[2].text().contains("Its 2 owners were mailed."));

    // What they see.
    let mut owner = Person::owner_of(at, "lone-star").await;
    let words = owner.get(PAGE).await.words();
    for part in [
        "GitHub secret scanning found tr_live_••••",
        "Found here: commit: https://github.com/octocat/hello/issues/1 · said once, last ",
        "The marketplace expired your key",
        "Reason: GitHub secret scanning found it in public: commit: https://github.com/octocat/hello/blob/1234567/deploy.sh, and at 1 more",
        "Generate API Key for lone-star",
    ] {
        assert!(words.contains(part), "{part:?} in {words}");
    }
    let log = owner
        .get("/dashboard/settings/audit?seller=lone-star")
        .await;
    let words = log.words();
    assert!(
        words.contains("API key expired Reason: GitHub secret scanning found"),
        "{words}"
    );
    assert!(words.contains(" GitHub secret scanning "), "{words}");
    assert!(words.contains("Dead on 1 of 1 node"), "{words}");

    // Said again, it is one expiry and one mail; to look a key up is no use of it.
    let acts = "SELECT COUNT(*) FROM audit_log";
    let before = world.count(acts).await;
    let again = world.tell(&[alert(&key, FOUND_AT)]).await;
    assert_eq!(again.json(), json!([label(&key, yes)]));
    assert_eq!(world.count(acts).await, before);
    assert_eq!(world.mails().await.len(), 3);
    let shown = world
        .place
        .json(&["key", "show", "--seller", "lone-star"], "");
    let clients = shown["clients_24h"].as_array().expect("a list");
    let accepted = clients.iter().filter(|c| c["accepted"] != json!(0));
    assert_eq!(accepted.count(), 0, "{shown}");

    let identified = world.place.json(&["key", "identify"], &key);
    let leaks = identified["identified"]["leaks"]
        .as_array()
        .expect("a list");
    assert_eq!(leaks.len(), 2, "{identified}");
    let of = |url: &str| {
        let found = leaks.iter().find(|leak| leak["place"] == url);
        found.expect("is there").clone()
    };
    let leak = of(FOUND_AT);
    assert_eq!(
        json!([
            leak["finder"],
            leak["source"],
            leak["outcome"],
            leak["times"]
        ]),
        json!(["github", "commit", "expired", 2])
    );
    let text = world.place.run(&["key", "identify"], &key);
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(
        text.contains(FOUND_AT) && text.contains("expired"),
        "{text}"
    );

    let page = Client::new(world.served.admin, None).get("/leaks").await;
    assert_eq!(page.status, 200);
    let words = page.words();
    for part in [
        "lone-star",
        FOUND_AT,
        "GitHub secret scanning",
        "Expired at once",
        "expired now",
    ] {
        assert!(words.contains(part), "{part:?} in {words}");
    }
    world.assert_kept_nothing_of(&[key, staged, unknown]).await;
}

#[tokio::test]
async fn a_prepared_key_that_github_found_is_discarded_and_the_present_one_goes_on() {
    let world = World::new();
    let live = world.place.generate("lone-star");
    let staged = world.prepare();
    let answer = world.tell(&[alert(&staged, "")]).await;
    assert_eq!(answer.json(), json!([label(&staged, "true_positive")]));
    assert_eq!(world.says(&staged).await, "revoked");
    assert_eq!(world.says(&live).await, "200");
    let mails = world.mails().await;
    assert_eq!(recipients(&mails), [OWNER, CONTACT]);
    let text = mails[0].text();
    assert!(
        text.contains("found the next API key of lone-star"),
        "{text}"
    );
    assert!(text.contains("The present key goes on working."), "{text}");
    assert!(text.contains("\n- commit\n"), "nobody said where: {text}");
    let sql =
        "SELECT COUNT(*) FROM audit_log WHERE act = 'key.discarded' AND actor = 'finder:github'";
    assert_eq!(world.count(sql).await, 1);
}

#[tokio::test]
async fn a_key_that_was_replaced_before_it_was_found_is_true_and_its_successor_is_let_be() {
    let world = World::new();
    let old = world.place.generate("lone-star");
    let new = world.place.generate("lone-star");
    let answer = world.tell(&[alert(&old, FOUND_AT)]).await;
    assert_eq!(answer.json(), json!([label(&old, "true_positive")]));
    world.hand_in(&old).await;
    world.until_counted("report", "dead", 1).await;
    assert_eq!(world.says(&new).await, "200");
    assert_eq!(world.mails().await.len(), 0, "there is nothing to do");
    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    let words = owner.get(PAGE).await.words();
    assert!(!words.contains("octocat"), "{words}");
    let page = Client::new(world.served.admin, None).get("/leaks").await;
    assert!(
        page.words().contains("Nothing: it was dead"),
        "{}",
        page.text
    );
}

#[tokio::test]
async fn githubs_own_example_is_taken_for_what_it_is() {
    const ID: &str = "bcb53661c06b4728e59d897fb6165d5c9cda0fd9cdf9d09ead458168deb7518c";
    const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYAGMWO8XgCamYKMJS6jc/qgvSlAd\nAjPuDPRcXU22YxgBrz+zoN19MzuRyW87qEt9/AmtoNP5GrobzUvQSyJFVw==\n-----END PUBLIC KEY-----\n";
    const SIGNATURE: &str = "MEQCIQDaMKqrGnE27S0kgMrEK0eYBmyG0LeZismAEz/BgZyt7AIfXt9fErtRS4XaeSt/AO1RtBY66YcAdjxji410VQV4xg==";
    const BODY: &str = r#"[{"source":"commit","token":"some_token","type":"some_type","url":"https://example.com/base-repo-url/"}]"#;
    let world = World::new();
    let published = json!({"key_identifier": ID, "key": KEY, "is_current": true});
    world.github.be(Mood::Publishes(vec![published]));
    let client = world.client();
    let answer = client.send(signed(&client, ID, SIGNATURE, BODY)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(
        answer.json(),
        json!([{"token_hash": hash("some_token"), "token_type": "some_type", "label": "false_positive"}])
    );
}

/// Asks with a key as a web page's script would.
async fn from_a_page(world: &World, key: &str, headers: &[(&str, &str)]) -> u16 {
    let client = Client::new(world.served.api, Some(key));
    let mut request = client.request(Method::GET, "/api/v1/key");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.send(request).await.status.as_u16()
}

#[tokio::test]
async fn a_key_that_a_browser_sends_is_shown_with_the_page_until_somebody_says_that_it_is_known() {
    let world = World::new();
    let key = world.place.generate("lone-star");
    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    let fetch = ("sec-fetch-mode", "cors");
    // Node's own fetch, an app that is no web page, and a page that hides where it is from.
    for headers in [
        &[fetch][..],
        &[("origin", "null")],
        &[("origin", "file://")],
        &[("origin", "https://u:p@a.example/x")],
    ] {
        assert_eq!(from_a_page(&world, &key, headers).await, 200);
    }
    let words = owner.get(PAGE).await.words();
    assert!(!words.contains("A web browser sends"), "{words}");
    for _ in 0..3 {
        let headers = [fetch, ("origin", "https://Shop.lone-star.example")];
        assert_eq!(from_a_page(&world, &key, &headers).await, 200);
    }
    let page = owner.get(PAGE).await;
    let words = page.words();
    let told = format!("A web browser sends tr_live_••••{} , since ", &key[42..]);
    assert!(words.contains(&told), "{words}");
    let told = "From here: https://shop.lone-star.example · 3 requests, last ";
    assert!(words.contains(told), "{words}");
    assert!(words.contains("Move the calls to a server of yours, then regenerate the key."));
    let form = page.form("/dashboard/settings/api-key/dismiss-leak");
    let answer = owner.send(&form).await;
    assert_eq!(answer.status, 303, "{}", answer.text);
    let done = owner
        .get(answer.header("location").split('#').next().expect("a path"))
        .await;
    assert!(
        done.words()
            .contains("Dismissed. The audit log has who did it.")
    );
    // It goes on, and is known; another page is not.
    let known = [("origin", "https://shop.lone-star.example")];
    assert_eq!(from_a_page(&world, &key, &known).await, 200);
    let words = owner.get(PAGE).await.words();
    assert!(!words.contains("A web browser sends"), "{words}");
    let another = [("origin", "http://localhost:3000")];
    assert_eq!(from_a_page(&world, &key, &another).await, 200);
    let words = owner.get(PAGE).await.words();
    assert!(
        words.contains("From here: http://localhost:3000 · 1 request, last "),
        "{words}"
    );
    let log = owner
        .get("/dashboard/settings/audit?seller=lone-star")
        .await;
    let words = log.words();
    let entry = format!("Sign of a leak dismissed Found: https://shop.lone-star.example {OWNER} ");
    assert!(words.contains(&entry), "{words}");
    let identified = world.place.json(&["key", "identify"], &key);
    let leaks = identified["identified"]["leaks"]
        .as_array()
        .expect("a list");
    let times: Vec<_> = leaks
        .iter()
        .map(|leak| (&leak["place"], &leak["times"]))
        .collect();
    assert!(
        times.contains(&(&json!("https://shop.lone-star.example"), &json!(4))),
        "{leaks:?}"
    );
    // What was not written yet when the server was told to stop is not lost.
    let last = [("origin", "https://last.example")];
    assert_eq!(from_a_page(&world, &key, &last).await, 200);
    let World { served, place, .. } = world;
    assert_eq!(served.terminate().0, Some(0));
    let mut inside = place.look_inside().await;
    let sql = "SELECT times FROM leaks WHERE place = 'https://last.example'";
    let times: Option<i64> = sqlx::query_scalar(sql)
        .fetch_optional(&mut inside)
        .await
        .expect("answers");
    assert_eq!(times, Some(1));
}

#[tokio::test]
async fn a_key_that_is_refused_where_a_browser_sends_it_from_is_shown_all_the_same() {
    let world = World::new();
    let key = world.place.generate("lone-star");
    let elsewhere = [
        "key",
        "networks",
        "--seller",
        "lone-star",
        "--from",
        "203.0.113.0/24",
    ];
    world.place.json(&elsewhere, "");
    let origin = [("origin", "https://shop.lone-star.example")];
    assert_eq!(from_a_page(&world, &key, &origin).await, 403);
    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    let words = owner.get(PAGE).await.words();
    let told = "From here: https://shop.lone-star.example · 1 request, last ";
    assert!(words.contains(told), "{words}");
}

#[tokio::test]
async fn the_operators_page_explains_itself_when_there_is_nothing_to_tell() {
    let world = World::new();
    let page = Client::new(world.served.admin, None).get("/leaks").await;
    assert_eq!(page.status, 200);
    assert!(page.words().contains("Nothing was found"), "{}", page.text);
    assert!(
        page.words().contains("When a key is found"),
        "{}",
        page.text
    );
    let public = world.client().get("/leaks").await;
    assert_eq!(public.status, 404);
}

/// Each page and state, for axe in both themes and for whoever looks at the pictures.
#[tokio::test]
async fn axe_finds_nothing_on_the_pages_about_leaks() {
    let world = World::new();
    let gallery = Gallery::from_environment();
    let admin = Options::at(world.served.admin);
    let mut operator = Browser::start(admin).await;
    operator.goto("/leaks").await;
    gallery.take_all(&mut operator, "leaks-none").await;
    operator.assert_accessible("no leaks").await;

    let old = world.place.generate("lone-star");
    assert_eq!(world.tell(&[alert(&old, FOUND_AT)]).await.status, 200);
    let browser = Browser::start(Options::at(world.served.api)).await;
    let mut browser = browser;
    browser.goto("/keys/report").await;
    gallery.take_all(&mut browser, "report").await;
    browser.assert_accessible("the report page").await;
    browser.fill("key", &old).await;
    browser.press("Report this key").await;
    gallery.take_all(&mut browser, "report-thanks").await;
    browser.assert_accessible("thanks").await;

    browser.goto("/login").await;
    browser.fill("email", OWNER).await;
    browser
        .fill("password", crate::support::binary::PASSWORD)
        .await;
    browser.press("Sign in").await;
    browser.goto(&format!("{PAGE}#api-key")).await;
    gallery.take_all(&mut browser, "key-found-by-github").await;
    browser.assert_accessible("expired by GitHub").await;

    let key = world.place.generate("lone-star");
    world.hand_in(&key).await;
    world.until_counted("report", "told", 1).await;
    let origin = [("origin", "https://shop.lone-star.example")];
    assert_eq!(from_a_page(&world, &key, &origin).await, 200);
    browser.goto(PAGE).await;
    gallery.take_all(&mut browser, "key-reported").await;
    browser
        .assert_accessible("reported, and sent by a browser")
        .await;
    browser.assert_no_console_errors("the key page").await;
    operator.goto("/leaks").await;
    gallery.take_all(&mut operator, "leaks").await;
    operator.assert_accessible("leaks").await;
}
