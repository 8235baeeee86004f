//! Platforms: one key that acts for every Seller that has granted it access, and for nobody else.
//!
//! Never: a combination of Platform, Seller and endpoint left out of the table because it is expected to be like another.

use reqwest::Method;
use serde_json::{Value, json};
use truckradar::http::{CallerKind, routes};

use crate::support::{
    binary::{PASSWORD, Place, Served},
    client::{Answer, Client},
    fixtures::{OTHER_VINS, VIN, record},
    person::{Form, Person, path_in},
    smtp::Smtp,
};

const SELLER: &str = "truckradar-seller";

/// A marketplace with a platform and some dealers, each of whom stands differently to it.
struct Market {
    served: Served,
    place: Place,
    key: String,
    /// What each dealer's id is, by its slug.
    ids: Vec<(&'static str, String)>,
}

impl Market {
    async fn open() -> Self {
        let place = Place::new();
        let served = place.serve(&[]);
        let mut ids = Vec::new();
        for slug in ["granted", "withdrawn", "others", "asleep"] {
            let made = place.create_seller(slug);
            ids.push((slug, text(&made["seller"]["id"])));
        }
        create_platform(&place, "feedhub");
        let key = platform_key(&place, "feedhub");
        let market = Self {
            served,
            place,
            key,
            ids,
        };
        for slug in ["granted", "withdrawn", "asleep"] {
            market.grant(slug, "feedhub").await.led_to();
        }
        market.withdraw("withdrawn", "feedhub").await.led_to();
        market.account(&[
            "seller", "suspend", "--seller", "asleep", "--reason", "unpaid",
        ]);
        market
    }

    fn client(&self) -> Client {
        Client::new(self.served.api, Some(&self.key))
    }

    fn id(&self, slug: &str) -> &str {
        let found = self.ids.iter().find(|(own, _)| *own == slug);
        found.map_or("", |(_, id)| id)
    }

    fn account(&self, args: &[&str]) -> Value {
        self.place.json(args, "")
    }

    /// A request that names a Seller, or none.
    async fn ask(&self, method: Method, path: &str, named: Option<&str>, body: &Value) -> Answer {
        ask(&self.client(), method, path, named, body).await
    }

    async fn grant(&self, slug: &str, platform: &str) -> Answer {
        let mut owner = Person::owner_of(self.served.api, slug).await;
        let page = owner.get(&settings(slug)).await;
        let id = platform_id(&self.place, platform);
        let form = page.form("/dashboard/settings/platforms/grant");
        owner.send(&form.with("platform", &id)).await
    }

    async fn withdraw(&self, slug: &str, platform: &str) -> Answer {
        let mut owner = Person::owner_of(self.served.api, slug).await;
        let page = owner.get(&settings(slug)).await;
        let form = page.form("/dashboard/settings/platforms/withdraw");
        assert_eq!(
            form.get("platform"),
            Some(&*platform_id(&self.place, platform))
        );
        owner.send(&form).await
    }
}

fn settings(slug: &str) -> String {
    format!("/dashboard/settings?seller={slug}")
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

fn create_platform(place: &Place, slug: &str) -> String {
    let made = place.json(&["platform", "create", "--name", slug, "--slug", slug], "");
    text(&made["platform"]["id"])
}

fn platform_key(place: &Place, slug: &str) -> String {
    text(&place.json(&["platform", "key", "--platform", slug], "")["key"])
}

fn platform_id(place: &Place, slug: &str) -> String {
    text(&place.json(&["platform", "show", "--platform", slug], "")["platform"]["id"])
}

async fn ask(
    client: &Client,
    method: Method,
    path: &str,
    named: Option<&str>,
    body: &Value,
) -> Answer {
    let mut request = client.request(method.clone(), path);
    if method != Method::GET {
        request = request.json(body);
    }
    if let Some(named) = named {
        request = request.header(SELLER, named);
    }
    client.send(request).await
}

/// Every endpoint, with a body that a dealer of this slug could send.
fn endpoints(slug: &str) -> Vec<(Method, String, Value)> {
    let own = format!("/api/v1/dealers/{slug}");
    let listing = format!("/api/v1/inventory/{VIN}");
    vec![
        (Method::POST, "/api/v1/inventory".into(), record(VIN)),
        (Method::GET, listing, Value::Null),
        (Method::GET, "/api/v1/inventory".into(), Value::Null),
        (
            Method::PATCH,
            "/api/v1/inventory".into(),
            json!({"vin": VIN, "status": "sold"}),
        ),
        (
            Method::POST,
            "/api/v1/dealers".into(),
            json!({"slug": slug, "name": slug}),
        ),
        (
            Method::PATCH,
            "/api/v1/dealers".into(),
            json!({"slug": slug, "phone": "555 0100"}),
        ),
        (Method::GET, own, Value::Null),
        (Method::GET, "/api/v1/key".into(), Value::Null),
    ]
}

/// No endpoint that a platform's key may reach is missing in the tables.
#[test]
fn the_tables_have_every_endpoint() {
    let known = endpoints("some-slug");
    for route in routes() {
        if route.caller != CallerKind::Seller {
            continue;
        }
        let path = route
            .path
            .replace("{vin}", VIN)
            .replace("{slug}", "some-slug");
        let is_known = |(method, known, _): &(Method, String, Value)| {
            *method == route.method && *known == path
        };
        assert!(known.iter().any(is_known), "{} {path}", route.method);
    }
}

fn told(answer: &Answer) -> (u16, String) {
    let code = match answer.status.is_success() {
        true => String::new(),
        false => answer.code(),
    };
    (answer.status.as_u16(), code)
}

/// Every platform's standing, every dealer's, and every endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn a_platforms_key_acts_for_who_granted_it_and_for_nobody_else_at_any_endpoint() {
    let market = Market::open().await;
    // Another dealer's platform is nobody to this one, and the other way round.
    create_platform(&market.place, "rival");
    let rival = Client::new(
        market.served.api,
        Some(&platform_key(&market.place, "rival")),
    );
    market.grant("others", "rival").await.led_to();
    for (slug, wanted) in [
        ("others", (200, "")),
        ("granted", (403, "FORBIDDEN")),
        ("withdrawn", (403, "FORBIDDEN")),
        ("asleep", (403, "FORBIDDEN")),
    ] {
        for (method, path, body) in endpoints(slug) {
            let answer = ask(&rival, method.clone(), &path, Some(slug), &body).await;
            let case = format!("the rival's {method} {path} for {slug}: {}", answer.text);
            assert_eq!(told(&answer), (wanted.0, wanted.1.to_owned()), "{case}");
        }
    }
    let vin = json!({"vin": VIN, "status": "sold"});
    ask(
        &rival,
        Method::PATCH,
        "/api/v1/inventory",
        Some("others"),
        &vin,
    )
    .await;

    let client = market.client();
    let founded = ask(
        &client,
        Method::POST,
        "/api/v1/dealers",
        None,
        &json!({"slug": "founded", "name": "Founded Trucks", "phone": "555 0199"}),
    )
    .await;
    assert_eq!(founded.status, 200, "{}", founded.text);
    assert_eq!(founded.json()["data"]["phone"], "555 0199");
    let founded = text(&founded.json()["data"]["id"]);

    let works = (200, "");
    let forbidden = (403, "FORBIDDEN");
    let nobody = "0198c0de-0000-7000-8000-000000000000";
    let rows: Vec<(&str, &str, (u16, &str))> = vec![
        ("granted", "granted", works),
        ("granted", market.id("granted"), works),
        ("withdrawn", "withdrawn", forbidden),
        ("withdrawn", market.id("withdrawn"), forbidden),
        ("others", "others", forbidden),
        ("others", market.id("others"), forbidden),
        ("asleep", "asleep", forbidden),
        ("asleep", market.id("asleep"), forbidden),
        ("nobody", "nobody", forbidden),
        ("nobody", nobody, forbidden),
        ("feedhub", "feedhub", forbidden),
        ("granted", "GRANTED", forbidden),
        ("granted", "granted, others", forbidden),
        ("founded", "founded", works),
        ("founded", &founded, works),
    ];
    for (slug, named, wanted) in &rows {
        if wanted.0 == 200 {
            // One dealer at a time lists the VIN.
            let vin = json!({"vin": VIN, "status": "sold"});
            for own in ["granted", "founded"] {
                ask(&client, Method::PATCH, "/api/v1/inventory", Some(own), &vin).await;
            }
        }
        for (method, path, body) in endpoints(slug) {
            let before = market.place.everything().await;
            let answer = ask(&client, method.clone(), &path, Some(named), &body).await;
            let case = format!("{method} {path} for {named}: {}", answer.text);
            assert_eq!(told(&answer), (wanted.0, wanted.1.to_owned()), "{case}");
            if wanted.0 != 200 {
                market.place.assert_unchanged(&before, case).await;
            }
        }
    }
    // Two names at once are none.
    let twice = client
        .request(Method::GET, "/api/v1/inventory")
        .header(SELLER, "granted")
        .header(SELLER, "granted");
    assert_eq!(client.send(twice).await.code(), "FORBIDDEN");
    // Whether a dealer exists is not told.
    let body = async |named: &str| {
        let answer = ask(
            &client,
            Method::GET,
            "/api/v1/inventory",
            Some(named),
            &Value::Null,
        );
        answer.await.text
    };
    assert_eq!(body("others").await, body("nobody").await);
    // What is not there is not there, for a key that may act.
    let missing = ask(
        &client,
        Method::GET,
        "/api/v1/nothing",
        Some("granted"),
        &Value::Null,
    );
    assert_eq!(missing.await.code(), "NOT_FOUND");

    // Nobody named.
    for (method, path, body) in endpoints("granted") {
        let answer = ask(&client, method, &path, None, &body).await;
        let wanted = match path.as_str() {
            "/api/v1/key" => (200, ""),
            _ => (400, "SELLER_REQUIRED"),
        };
        assert_eq!(told(&answer), (wanted.0, wanted.1.to_owned()), "{path}");
    }
    let taken = async |slug: &str| {
        let body = json!({"slug": slug, "name": "Mine Now"});
        let answer = ask(&client, Method::POST, "/api/v1/dealers", None, &body).await;
        told(&answer)
    };
    for slug in ["others", "withdrawn", "feedhub"] {
        assert_eq!(taken(slug).await, (403, "FORBIDDEN".to_owned()), "{slug}");
    }

    // The plan, and the platform's own standing, come before everything else.
    let states: [(&[&str], (u16, &str)); 3] = [
        (
            &["platform", "plan", "--platform", "feedhub", "--plan", "pro"],
            (403, "TIER_RESTRICTED"),
        ),
        (
            &[
                "platform",
                "suspend",
                "--platform",
                "feedhub",
                "--reason",
                "abuse",
            ],
            forbidden,
        ),
        (
            &[
                "platform",
                "close",
                "--platform",
                "feedhub",
                "--reason",
                "abuse",
            ],
            (401, "UNAUTHORIZED"),
        ),
    ];
    for (act, wanted) in states {
        market.account(act);
        for named in [Some("granted"), Some("others"), Some("founded"), None] {
            for (method, path, body) in endpoints(named.unwrap_or("new-one")) {
                let answer = market.ask(method.clone(), &path, named, &body).await;
                let case = format!("{method} {path} after {act:?}: {}", answer.text);
                assert_eq!(told(&answer), (wanted.0, wanted.1.to_owned()), "{case}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dealers_own_key_needs_no_name_and_means_no_other_dealer() {
    let market = Market::open().await;
    let key = market.place.generate("granted");
    let client = Client::new(market.served.api, Some(&key));
    for (named, wanted) in [
        (None, 200),
        (Some("granted"), 200),
        (Some(market.id("granted")), 200),
        (Some("others"), 403),
        (Some(market.id("others")), 403),
        (Some("nobody"), 403),
        (Some("feedhub"), 403),
    ] {
        for path in ["/api/v1/inventory", "/api/v1/key"] {
            let answer = ask(&client, Method::GET, path, named, &Value::Null).await;
            assert_eq!(answer.status, wanted, "{path} {named:?}: {}", answer.text);
        }
    }
    // A dealer's key brings nobody into being.
    let body = json!({"slug": "brand-new", "name": "Brand New"});
    let answer = ask(&client, Method::POST, "/api/v1/dealers", None, &body).await;
    assert_eq!(told(&answer), (403, "FORBIDDEN".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_is_told_whose_key_it_has_and_for_whom_it_may_act() {
    let market = Market::open().await;
    let answer = market
        .ask(Method::GET, "/api/v1/key", None, &Value::Null)
        .await;
    let data = &answer.json()["data"];
    assert_eq!(data["platform"]["slug"], "feedhub");
    assert!(data.get("seller").is_none());
    let slugs: Vec<_> = data["sellers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|seller| (seller["slug"].as_str(), seller["status"].as_str()))
        .collect();
    assert_eq!(
        slugs,
        [
            (Some("asleep"), Some("suspended")),
            (Some("granted"), Some("active"))
        ]
    );
    assert_eq!(data["sellers_total"], 2);
    assert!(!answer.text.contains(&market.key));
}

/// A grant is a dealer's own to give.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_access_but_an_owner_of_the_dealer() {
    let market = Market::open().await;
    let (at, place) = (market.served.api, &market.place);
    let id = platform_id(place, "feedhub");
    let others = market.id("others");
    let form = |seller: &str| {
        Form::made_up(
            "/dashboard/settings/platforms/grant",
            [("seller", seller), ("platform", &*id)],
        )
    };
    for role in ["admin", "viewer"] {
        let email = format!("{role}@others.example");
        let mut member = Person::invited(place, at, "others", &email, role).await;
        let page = member.get(&settings("others")).await;
        assert!(!page.text.contains("/dashboard/settings/platforms/grant"));
        let before = place.everything().await;
        assert_eq!(member.send(&form(others)).await.status, 403, "{role}");
        place.assert_unchanged(&before, role).await;
    }
    // Another dealer's owner; and the platform's own people.
    let mut stranger = Person::owner_of(at, "granted").await;
    let mut people = Person::invited(place, at, "feedhub", "ann@feedhub.example", "owner").await;
    let before = place.everything().await;
    assert_eq!(stranger.send(&form(others)).await.status, 403);
    assert_eq!(people.send(&form(others)).await.status, 403);
    let own = form(&platform_id(place, "feedhub"));
    assert_eq!(people.send(&own).await.status, 404);
    let answer = market.ask(
        Method::GET,
        "/api/v1/inventory",
        Some("others"),
        &Value::Null,
    );
    assert_eq!(answer.await.status, 403);
    place.assert_unchanged(&before, "those who may not").await;
    // What is no platform cannot be given access, nor one that may not act.
    let mut owner = Person::owner_of(at, "others").await;
    for (platform, told) in [
        (
            market.id("granted").to_owned(),
            "There is no such platform.",
        ),
        (
            {
                let id = create_platform(place, "sleepy");
                market.account(&["platform", "plan", "--platform", "sleepy", "--plan", "pro"]);
                id
            },
            "cannot be granted access at present",
        ),
    ] {
        let form = form(others).with("platform", &platform);
        let answer = owner.send(&form).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        assert!(answer.words().contains(told), "{}", answer.words());
    }
    // Given twice, withdrawn twice: the same as once.
    for _ in 0..2 {
        owner.send(&form(others)).await.led_to();
    }
    let answer = market.ask(
        Method::GET,
        "/api/v1/inventory",
        Some("others"),
        &Value::Null,
    );
    assert_eq!(answer.await.status, 200);
    let mut away = form(others);
    away.action = "/dashboard/settings/platforms/withdraw".into();
    for _ in 0..2 {
        owner.send(&away).await.led_to();
        let answer = market.ask(
            Method::GET,
            "/api/v1/inventory",
            Some("others"),
            &Value::Null,
        );
        assert_eq!(answer.await.status, 403);
    }
    let log = owner
        .get("/dashboard/settings/audit?seller=others")
        .await
        .words();
    assert_eq!(log.matches("Platform access given").count(), 1, "{log}");
    assert_eq!(log.matches("Platform access withdrawn").count(), 1, "{log}");
}

/// What a platform does, its dealer and its own people see.
#[tokio::test(flavor = "multi_thread")]
async fn an_act_of_a_platform_is_in_the_log_of_the_dealer_and_in_its_own() {
    let market = Market::open().await;
    let change = json!({"slug": "granted", "phone": "555 0123"});
    let path = "/api/v1/dealers";
    let answer = market
        .ask(Method::PATCH, path, Some("granted"), &change)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let founded = json!({"slug": "founded", "name": "Founded"});
    assert_eq!(
        market.ask(Method::POST, path, None, &founded).await.status,
        200
    );
    let listed = market
        .ask(
            Method::POST,
            "/api/v1/inventory",
            Some("granted"),
            &json!({"records": [record(VIN), record(OTHER_VINS[0]), {"vin": "none"}]}),
        )
        .await;
    assert_eq!(listed.status, 200, "{}", listed.text);
    let sold = json!({"vin": VIN, "status": "sold"});
    let path = "/api/v1/inventory";
    let done = market
        .ask(Method::PATCH, path, Some("granted"), &sold)
        .await;
    assert_eq!(done.status, 200, "{}", done.text);
    market.withdraw("granted", "feedhub").await.led_to();
    let at = market.served.api;
    let mut owner = Person::owner_of(at, "granted").await;
    let log = owner
        .get("/dashboard/settings/audit?seller=granted")
        .await
        .words();
    let by = format!("feedhub, by its API key ••••{}", &market.key[42..]);
    assert_eq!(log.matches(&by).count(), 3, "{log}");
    assert!(log.contains("Profile or locations changed"), "{log}");
    let counted = "Records: 3, units changed: 2, refused: 1";
    assert!(log.contains(counted), "{log}");
    assert!(log.contains(&format!("{VIN} Now sold")), "{log}");
    assert!(log.contains("owner@granted.example"), "{log}");
    let mut people =
        Person::invited(&market.place, at, "feedhub", "ann@feedhub.example", "owner").await;
    let own = people
        .get("/dashboard/settings/audit?seller=feedhub")
        .await
        .words();
    for told in [
        "Profile or locations changed For granted (granted)",
        "Dealer account created For Founded (founded)",
        "Platform access given For granted (granted)",
        "Platform access withdrawn For granted (granted)",
        "somebody of granted",
        counted,
    ] {
        assert!(own.contains(told), "{told}: {own}");
    }
    // Which of the dealer's people gave and withdrew it, and from where, is theirs; in the files as well.
    for file in ["csv", "jsonl"] {
        let path = format!("/dashboard/settings/audit/{file}?seller=feedhub");
        let text = people.get(&path).await.text;
        let given: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("platform.granted"))
            .collect();
        assert_eq!(given.len(), 3, "{text}");
        for line in given {
            let slug = ["granted", "withdrawn", "asleep"];
            let slug = slug.into_iter().find(|slug| line.contains(market.id(slug)));
            let slug = slug.expect("one of them");
            assert!(line.contains(&format!("seller:{}", market.id(slug))));
            assert!(
                !line.contains("user:") && !line.contains("owner@"),
                "{line}"
            );
            assert!(!line.contains("127.0.0.1"), "{line}");
        }
        let listed = text
            .lines()
            .find(|line| line.contains("platform.inventory"));
        let listed = listed.expect("the batch");
        assert!(listed.contains(market.id("granted")), "{listed}");
        assert!(listed.contains("feedhub"), "{listed}");
    }
    // Who is invited to it claims the Seller, and reads how it came to be.
    let mut claims =
        Person::invited(&market.place, at, "founded", "bo@founded.example", "owner").await;
    let log = claims
        .get("/dashboard/settings/audit?seller=founded")
        .await
        .words();
    assert!(log.contains("By a platform, which may act for it"), "{log}");
    let page = claims.get(&settings("founded")).await.words();
    assert!(page.contains("feedhub"), "{page}");
}

/// Whoever becomes the owner of what a platform brought into being learns that before, and can end it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_invited_to_own_a_dealer_account_is_told_which_platforms_act_for_it() {
    let smtp = Smtp::start();
    let url = smtp.url();
    let place = Place::new();
    let served = place.serve_with_mails(&smtp);
    create_platform(&place, "feedhub");
    let client = Client::new(served.api, Some(&platform_key(&place, "feedhub")));
    let founded = json!({"slug": "founded", "name": "Founded"});
    let answer = ask(&client, Method::POST, "/api/v1/dealers", None, &founded).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let invite = |email: &str, role: &str| {
        let args = [
            "user", "invite", "--seller", "founded", "--email", email, "--role", role,
        ];
        // On PostgreSQL a command acts by itself, and its environment says that mails are sent.
        let mut command = place.command(&args);
        command
            .env("TRUCKRADAR_SMTP_URL", &url)
            .env("TRUCKRADAR_PUBLIC_URL", "https://truckradar.example");
        let output = command.output().expect("runs");
        assert!(output.status.success(), "{output:?}");
        mailed_to(&smtp, email)
    };
    let mut bo = Person::at(served.api);
    let mail = invite("bo@founded.example", "owner");
    assert!(mail.contains("with a key of their own: feedhub."), "{mail}");
    let page = bo.get(&link_in(&mail)).await;
    let words = page.words();
    assert!(words.contains("and says of itself: feedhub"), "{words}");
    // Others, who could not end it, are not told.
    let viewers = invite("vi@founded.example", "viewer");
    assert!(!viewers.contains("feedhub"), "{viewers}");
    let viewers = bo.get(&link_in(&viewers)).await.words();
    assert!(
        viewers.contains("as viewer") && !viewers.contains("feedhub"),
        "{viewers}"
    );
    let form = page.form("/invitation").with("password", PASSWORD);
    assert_eq!(bo.send(&form).await.status, 303);
    // An owner invites another.
    let page = bo.get(&settings("founded")).await;
    let another = page.form("/dashboard/settings/members/invite");
    let another = another.with("email", "cy@founded.example");
    assert_eq!(bo.send(&another.with("role", "owner")).await.status, 303);
    let mail = mailed_to(&smtp, "cy@founded.example");
    assert!(mail.contains("with a key of their own: feedhub."), "{mail}");
    // Once it is withdrawn, nobody is told any more: not by a link that was mailed before, either.
    let withdraw = page.form("/dashboard/settings/platforms/withdraw");
    bo.send(&withdraw).await.led_to();
    let words = bo.get(&link_in(&mail)).await.words();
    assert!(
        words.contains("as owner") && !words.contains("feedhub"),
        "{words}"
    );
    let mail = invite("di@founded.example", "owner");
    assert!(!mail.contains("feedhub"), "{mail}");
}

/// The text of the one mail to an address, once it has come.
fn mailed_to(smtp: &Smtp, email: &str) -> String {
    for count in 1.. {
        let mails = smtp.wait_for(count);
        if let Some(mail) = mails.iter().find(|mail| mail.to == email) {
            return mail.text();
        }
    }
    unreachable!("waiting ends")
}

/// The path of the link in a mail.
fn link_in(mail: &str) -> String {
    let link = mail.lines().find(|line| line.starts_with("https://"));
    path_in(link.expect("a link")).to_owned()
}

/// What a suspended dealer is told, by every way; and that it all comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_account_is_refused_and_not_dead_and_a_closed_one_is_dead() {
    let market = Market::open().await;
    let (at, place) = (market.served.api, &market.place);
    let key = place.generate("granted");
    let client = Client::new(at, Some(&key));
    let stored = client.post("/api/v1/inventory", &record(VIN)).await;
    assert_eq!(stored.status, 200);
    let mut owner = Person::owner_of(at, "granted").await;
    let page = owner.get(&settings("granted")).await;
    let generate = page
        .form_with_id("generate-api-key")
        .with("confirmed", "yes");
    let reason = "Unpaid invoice 7";
    let suspend = [
        "seller", "suspend", "--seller", "granted", "--reason", reason,
    ];
    let done = market.account(&suspend);
    assert_eq!(done["account"]["status"], "suspended");
    assert_eq!(market.account(&suspend)["changed"], false);
    for (method, path, body) in endpoints("granted") {
        let before = place.everything().await;
        let answer = ask(&client, method.clone(), &path, None, &body).await;
        assert_eq!(
            told(&answer),
            (403, "FORBIDDEN".to_owned()),
            "{method} {path}"
        );
        assert_eq!(answer.reason(), "suspended");
        place.assert_unchanged(&before, path).await;
    }
    let page = owner.get(&settings("granted")).await;
    assert!(page.words().contains(reason), "{}", page.words());
    let refused = owner.send(&generate).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert!(refused.words().contains("suspended or closed"));

    let resumed = market.account(&["seller", "resume", "--seller", "granted"]);
    assert_eq!(resumed["account"]["status"], "active");
    assert_eq!(client.get("/api/v1/key").await.status, 200);

    let close = ["seller", "close", "--seller", "granted", "--reason", "Gone"];
    assert_eq!(market.account(&close)["account"]["status"], "closed");
    let answer = client.get("/api/v1/key").await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (401, "revoked".into())
    );
    let answer = market
        .ask(
            Method::GET,
            "/api/v1/inventory",
            Some("granted"),
            &Value::Null,
        )
        .await;
    assert_eq!(answer.status, 403);
    // The VIN is free for another dealer.
    let other = Client::new(at, Some(&place.generate("others")));
    assert_eq!(
        other.post("/api/v1/inventory", &record(VIN)).await.status,
        200
    );
    let args = ["seller", "resume", "--seller", "granted", "--json"];
    assert_eq!(place.run(&args, "").status.code(), Some(1));
    let args = ["key", "generate", "--seller", "granted", "--json"];
    assert_eq!(place.run(&args, "").status.code(), Some(1));
}

/// A platform's key in the wrong hands does not take every short name.
#[tokio::test(flavor = "multi_thread")]
async fn a_platform_brings_in_so_many_dealers_until_their_owners_have_come() {
    let market = Market::open().await;
    let found = async |slug: &str| {
        let body = json!({"slug": slug, "name": slug});
        market
            .ask(Method::POST, "/api/v1/dealers", None, &body)
            .await
    };
    assert_eq!(found("founded").await.status, 200);
    // As many more as there may be, made from the first.
    for sql in [
        "INSERT INTO sellers (id, slug, name, plan, key_version, created_us, updated_us, created_by) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 499) \
         SELECT '00000000' || substr(s.id, 9, 25) || (n.i + 100), s.slug || '-' || n.i, s.name, s.plan, 0, s.created_us, s.updated_us, s.created_by \
         FROM sellers s CROSS JOIN n WHERE s.slug = 'founded'",
        "INSERT INTO grants (id, seller_id, platform_id, state, made_by, created_us, changed_epoch) \
         SELECT s.id, s.id, s.created_by, 'live', 'operator', s.created_us, 0 \
         FROM sellers s WHERE s.slug LIKE 'founded-%'",
    ] {
        market.place.change(sql).await;
    }
    let before = market.place.everything().await;
    let refused = found("one-more").await;
    assert_eq!(told(&refused), (403, "FORBIDDEN".to_owned()));
    assert_eq!(refused.reason(), "unclaimed");
    assert_eq!(refused.json()["error"]["details"]["limit"], 500);
    market.place.assert_unchanged(&before, "one more").await;
    let seller = market.account(&["seller", "show", "--seller", "founded"]);
    assert_eq!(seller["seller"]["created_by"], "feedhub");
    let shown = market
        .place
        .run(&["platform", "show", "--platform", "feedhub"], "");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("founded (unclaimed)"), "{shown}");
    assert!(shown.contains("asleep\n"), "{shown}");
    // One owner comes, and there is room for one.
    let email = "bo@founded.example";
    Person::invited(&market.place, market.served.api, "founded", email, "owner").await;
    let shown = market
        .place
        .run(&["seller", "show", "--seller", "founded"], "");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("feedhub\n"), "{shown}");
    assert_eq!(found("one-more").await.status, 200);
    assert_eq!(found("another").await.reason(), "unclaimed");
}

/// A leaked key is of no use from elsewhere, whatever the request says of where it comes from.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_networks_is_accepted_from_there_whatever_headers_claim() {
    let place = Place::new();
    // This server believes no proxy.
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    let client = Client::new(served.api, Some(&key));
    assert_eq!(client.get("/api/v1/key").await.status, 200);
    let networks = |from: &str| {
        place.json(
            &["key", "networks", "--seller", "lone-star", "--from", from],
            "",
        )
    };
    networks("203.0.113.0/24,2001:db8::/48");
    let forged = [
        ("x-forwarded-for", "203.0.113.7"),
        ("x-real-ip", "203.0.113.7"),
        ("forwarded", "for=203.0.113.7"),
        ("true-client-ip", "203.0.113.7"),
        ("cf-connecting-ip", "203.0.113.7"),
        ("x-client-ip", "203.0.113.7"),
        ("x-forwarded-for", "203.0.113.7, 127.0.0.1"),
    ];
    for (name, value) in forged {
        for (method, path, body) in endpoints("lone-star") {
            let mut request = client.request(method.clone(), &path).header(name, value);
            if method != Method::GET {
                request = request.json(&body);
            }
            let answer = client.send(request).await;
            assert_eq!(
                told(&answer),
                (403, "FORBIDDEN".to_owned()),
                "{name} {path}"
            );
            assert_eq!(answer.reason(), "address");
        }
    }
    // The list stays when the key is replaced.
    let key = place.generate("lone-star");
    let client = client.with_key(&key);
    assert_eq!(client.get("/api/v1/key").await.status, 403);
    networks("127.0.0.0/8");
    assert_eq!(client.get("/api/v1/key").await.status, 200);
    place.json(
        &["key", "networks", "--seller", "lone-star", "--anywhere"],
        "",
    );
    assert_eq!(client.get("/api/v1/key").await.status, 200);
    drop(served);

    // Behind a trusted proxy, its word from the right is what counts.
    let served = place.serve(&["--trusted-proxies", "127.0.0.0/8"]);
    let client = Client::new(served.api, Some(&key));
    networks("203.0.113.0/24");
    for (forwarded, wanted) in [
        ("203.0.113.7", 200),
        ("203.0.113.7, 198.51.100.1", 403),
        ("198.51.100.1, 203.0.113.7", 200),
        ("198.51.100.1", 403),
    ] {
        let request = client.request(Method::GET, "/api/v1/key");
        let answer = client
            .send(request.header("x-forwarded-for", forwarded))
            .await;
        assert_eq!(answer.status, wanted, "{forwarded}");
    }
}

/// Whoever sets the networks in the dashboard is told whom it would shut out.
#[tokio::test(flavor = "multi_thread")]
async fn networks_that_would_shut_out_a_present_client_are_asked_about_first() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    let client = Client::new(served.api, Some(&key));
    assert_eq!(client.get("/api/v1/key").await.status, 200);
    // Written with the next flush; the command waits for it.
    place.json(&["key", "show", "--seller", "lone-star"], "");
    let mut owner = Person::owner_of(served.api, "lone-star").await;
    let mut seen = owner.get(&settings("lone-star")).await;
    while !seen.words().contains("127.0.0.1 in the last 24 hours") {
        seen = owner.get(&settings("lone-star")).await;
    }
    let form = seen.form("/dashboard/settings/networks");
    let asked = owner
        .send(&form.clone().with("networks", "203.0.113.0/24"))
        .await;
    assert_eq!(asked.status, 422, "{}", asked.text);
    assert!(
        asked.words().contains("shut out clients"),
        "{}",
        asked.words()
    );
    assert_eq!(client.get("/api/v1/key").await.status, 200);
    let wrong = owner
        .send(&form.clone().with("networks", "the office"))
        .await;
    assert_eq!(wrong.status, 422);
    let form = form
        .with("networks", "203.0.113.0/24")
        .with("refuse", "yes");
    owner.send(&form).await.led_to();
    assert_eq!(client.get("/api/v1/key").await.status, 403);
    let page = owner.get(&settings("lone-star")).await;
    assert!(
        page.words().contains("203.0.113.0/24 only"),
        "{}",
        page.words()
    );
}

/// A platform's people have what a dealer's have, but for what only dealers have.
#[tokio::test(flavor = "multi_thread")]
async fn a_platforms_people_replace_its_key_in_the_dashboard_and_have_no_inventory() {
    let market = Market::open().await;
    let at = market.served.api;
    let mut people =
        Person::invited(&market.place, at, "feedhub", "ann@feedhub.example", "owner").await;
    let page = people.get(&settings("feedhub")).await;
    let words = page.words();
    assert!(
        words.contains("granted") && words.contains("asleep"),
        "{words}"
    );
    assert!(!page.text.contains("/dashboard/settings/profile"));
    assert!(!page.text.contains("/dashboard/inventory"));
    let page = people.get("/dashboard?seller=feedhub").await;
    assert!(
        page.words().contains("2 have granted access"),
        "{}",
        page.words()
    );
    let page = people.get("/dashboard/inventory?seller=feedhub").await;
    assert_eq!(page.status, 404);
    let form = Form::made_up(
        "/dashboard/settings/locations",
        [
            ("seller", &*platform_id(&market.place, "feedhub")),
            ("name", "Yard"),
        ],
    );
    assert_eq!(people.send(&form).await.status, 404);
    let made = people.generate("feedhub").await;
    let key = made.shown_key().expect("a key").to_owned();
    let identified = market.place.run(&["key", "identify"], &key);
    let identified = String::from_utf8_lossy(&identified.stdout).into_owned();
    assert!(identified.contains("platform"), "{identified}");
    assert!(
        made.words()
            .contains("name it in the header TruckRadar-Seller"),
        "{}",
        made.words()
    );
    let old = market
        .ask(
            Method::GET,
            "/api/v1/inventory",
            Some("granted"),
            &Value::Null,
        )
        .await;
    assert_eq!((old.status.as_u16(), old.reason()), (401, "revoked".into()));
    let client = Client::new(at, Some(&key));
    let new = ask(
        &client,
        Method::GET,
        "/api/v1/inventory",
        Some("granted"),
        &Value::Null,
    )
    .await;
    assert_eq!(new.status, 200);
    // A platform lists nothing of its own.
    let own = record(OTHER_VINS[0]);
    let answer = ask(
        &client,
        Method::POST,
        "/api/v1/inventory",
        Some("feedhub"),
        &own,
    )
    .await;
    assert_eq!(answer.status, 403);
}
