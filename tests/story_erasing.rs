//! Erasing a person: who they were is nowhere any more, what they did stays told, and nobody else loses anything.
//!
//! Never: a place taken for the only one where a person can be named; every table and column is read.

mod member_of_nothing;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{
    binary::{PASSWORD, Place, Served},
    browser::{Browser, Gallery, Options},
    client::{Answer, Client},
    factor::{self, code},
    person::{Form, Person, path_in},
};

const ANN: &str = "ann@dms.example";
/// A server that mails links, though nobody takes its mails: they wait.
const MAILS_WAIT: [&str; 6] = [
    "--smtp-url",
    "smtp://127.0.0.1:9",
    "--mail-from",
    "keys@truckradar.example",
    "--public-url",
    "http://truckradar.example",
];
/// How long what must happen may take, on a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(40);
const AUDIT: &str = "/dashboard/settings/audit?seller=lone-star";

struct World {
    served: Served,
    place: Place,
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        let served = place.serve(&[]);
        for slug in ["lone-star", "great-lakes"] {
            place.create_seller(slug);
        }
        Self { served, place }
    }

    /// The same, served anew with these options.
    fn served_anew(self, options: &[&str]) -> Self {
        let Self { served, place } = self;
        assert_eq!(served.terminate().0, Some(0));
        let served = place.serve(options);
        Self { served, place }
    }

    async fn count(&self, sql: &'static str) -> i64 {
        let mut inside = self.place.look_inside().await;
        let count = sqlx::query_scalar(sql).fetch_one(&mut inside).await;
        count.expect("answers")
    }

    /// Waits until the audit log has an act that follows its answer.
    async fn until_told(&self, act: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.places_of(act).await.contains("audit_log.act") {
            assert!(Instant::now() < end, "no {act}");
            tokio::task::yield_now().await;
        }
    }

    async fn id_of(&self, email: &str) -> String {
        let mut inside = self.place.look_inside().await;
        sqlx::query_scalar("SELECT id FROM users WHERE email = $1")
            .bind(email)
            .fetch_one(&mut inside)
            .await
            .expect("a User")
    }

    fn invite(&self, slug: &str, email: &str) -> String {
        let args = [
            "user", "invite", "--seller", slug, "--email", email, "--role", "viewer",
        ];
        let answer = self.place.json(&args, "");
        path_in(answer["link"].as_str().expect("a link")).to_owned()
    }

    fn erase(&self, email: &str) -> Value {
        self.place.json(&["user", "erase", "--email", email], "")
    }

    fn refuses(&self, email: &str) -> String {
        let output = self.place.run(&["user", "erase", "--email", email], "");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("text")
    }

    /// Every place of the database in which this stands: the table and the column.
    async fn places_of(&self, text: &str) -> BTreeSet<String> {
        let mut inside = self.place.look_inside().await;
        let mut found = BTreeSet::new();
        for (table, column, as_text) in self.place.columns().await {
            let sql = format!("SELECT {as_text} FROM {table}");
            let cells = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql));
            let cells = cells.fetch_all(&mut inside).await.expect("answers");
            if cells.iter().any(|cell| cell.contains(text)) {
                found.insert(format!("{table}.{column}"));
            }
        }
        found
    }
}

/// Rows of the audit page, the newest first, each as its words.
fn rows(page: &Answer) -> Vec<String> {
    assert_eq!(page.status, 200, "{}", page.text);
    let rows = page.text.split("<tr>").skip(2);
    rows.map(|row| crate::support::person::words_of(row.split("</tr>").next().unwrap_or_default()))
        .collect()
}

/// Her address as mails spell it that make no link of it, and within the address of a page.
const SPELT: [&str; 2] = ["ann (at) dms. example", "ann%40dms.example"];

/// Ann with everything that a person can have and do: an admin of one dealer, an owner of another, invited to a third time.
async fn a_full_life(world: World) -> (World, Person) {
    let (place, at) = (&world.place, world.served.api);
    let mut ann = Person::invited(place, at, "lone-star", ANN, "admin").await;
    let link = world.invite("great-lakes", ANN);
    let page = ann.get(&link).await;
    let joined = page.form("/invitation").with("password", PASSWORD);
    assert_eq!(ann.send(&joined).await.status, 303);
    let args = ["user", "role", "--seller", "great-lakes", "--email", ANN];
    place.json(&[&args[..], &["--role", "owner"]].concat(), "");
    // Her acts: keys, a next key that waits, a guest who comes and one who does not, another's role, her own password.
    let generated = ann.generate("lone-star").await;
    let key = generated.shown_key().expect("a key");
    ann.generate("great-lakes")
        .await
        .shown_key()
        .expect("a key");
    let settings = "/dashboard/settings?seller=lone-star";
    let page = ann.get(settings).await;
    let prepared = ann.send(&page.form(&format!("{KEY}/prepare"))).await;
    prepared.shown_key().expect("a next key");
    for guest in ["guest@yard.example", "late@yard.example"] {
        let page = ann.get(settings).await;
        let form = page.form("/dashboard/settings/members/invite");
        let shown = ann.send(&form.with("email", guest)).await;
        assert_eq!(shown.status, 200, "{}", shown.text);
        if guest.starts_with("guest") {
            let (_, link) = shown.text.split_once("/invitation?token=").expect("a link");
            let token = link.split(['<', '"', '\'']).next().expect("its end");
            let mut guest = Person::at(at);
            let page = guest.get(&format!("/invitation?token={token}")).await;
            let form = page.form("/invitation").with("password", PASSWORD);
            assert_eq!(guest.send(&form).await.status, 303);
        }
    }
    let guest = world.id_of("guest@yard.example").await;
    let lone_star = page_seller(&ann.get(settings).await);
    let role = [
        ("seller", lone_star.as_str()),
        ("user", guest.as_str()),
        ("role", "admin"),
    ];
    let form = Form::made_up("/dashboard/settings/members/role", role);
    assert_eq!(ann.send(&form).await.status, 303);
    let profile = [("seller", lone_star.as_str()), ("name", "lone-star")];
    let form = Form::made_up("/dashboard/settings/profile", profile);
    assert_eq!(ann.send(&form).await.status, 303);
    let password = [
        ("seller", lone_star.as_str()),
        ("old_password", PASSWORD),
        ("new_password", PASSWORD),
    ];
    let form = Form::made_up("/dashboard/settings/password", password);
    assert_eq!(ann.send(&form).await.status, 303);
    // What others did to her, and said of her.
    world
        .place
        .json(&["user", "reset-password", "--email", ANN], "");
    world.invite("great-lakes", "other@yard.example");
    let world = world.served_anew(&MAILS_WAIT);
    let (place, at) = (&world.place, world.served.api);
    let reason = format!("asked for by {ANN}, by telephone");
    let args = ["key", "expire", "--seller", "great-lakes", "--reason"];
    place.json(&[&args[..], &[&reason]].concat(), "");
    place.create_seller("third-coast");
    let args = ["seller", "suspend", "--seller", "third-coast", "--reason"];
    place.json(&[&args[..], &[&reason]].concat(), "");
    let found_at = "https://a.example/?by=ann%40dms.example";
    let slip = serde_json::json!({"key": key, "found_at": found_at});
    let answer = Client::new(at, None).post("/keys/report", &slip).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let asks = Form::made_up("/forgot-password", [("email", ANN)]);
    assert_eq!(Person::at(at).send(&asks).await.status, 200);
    world.until_told("key.reported").await;
    world.until_told("password.reset-asked").await;
    let mut ann = Person::signed_in(at, ANN, PASSWORD).await;
    assert_eq!(ann.get(settings).await.status, 200);
    // A platform that she lets act for her dealer; an app that shows codes, and a sign-in that waits for one.
    let hub = ["platform", "create", "--name", "Hub", "--slug", "hub"];
    let hub = place.json(&hub, "");
    let page = ann.get("/dashboard/settings?seller=great-lakes").await;
    let grant = page.form("/dashboard/settings/platforms/grant");
    let hub = hub["platform"]["id"].as_str().expect("an id");
    ann.send(&grant.with("platform", hub)).await.led_to();
    let begin = page.form("/dashboard/settings/second-factor/begin");
    let shown = ann.send(&begin).await;
    let confirm = shown.form("/dashboard/settings/second-factor/confirm");
    let code = code(&shown.shown_secret());
    let confirmed = ann.send(&confirm.with("code", &code)).await;
    assert_eq!(confirmed.status, 200, "{}", confirmed.text);
    let waits = Person::at(at).sign_in(ANN, PASSWORD).await;
    assert_eq!(waits.status, 303, "{}", waits.text);
    (world, ann)
}

const KEY: &str = "/dashboard/settings/api-key";

fn page_seller(page: &Answer) -> String {
    let form = page.form(KEY);
    form.get("seller").expect("a Seller").to_owned()
}

#[tokio::test]
async fn whoever_is_erased_is_named_in_no_table_and_what_they_did_stays_told() {
    let (world, mut ann) = a_full_life(World::new()).await;
    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    let id = world.id_of(ANN).await;
    let places = world.places_of(ANN).await;
    for place in [
        "users.email",
        "audit_log.detail",
        "api_keys.end_reason",
        "sellers.status_reason",
        "leaks.place",
        "outbox.body",
    ] {
        assert!(places.contains(place), "{place}: {places:?}");
    }
    let spelt = BTreeSet::from(["outbox.body".to_owned()]);
    assert_eq!(world.places_of(SPELT[0]).await, spelt);
    let from_where = "SELECT COUNT(address) FROM audit_log WHERE act = 'password.reset-asked'";
    assert_eq!(world.count(from_where).await, 1);
    let places = world.places_of(&id).await;
    for place in [
        "users.id",
        "grants.made_by",
        "half_sign_ins.user_id",
        "memberships.user_id",
        "recovery_codes.user_id",
        "second_factors.user_id",
        "sessions.user_id",
        "account_links.made_by",
        "api_keys.made_by",
        "staged_keys.made_by",
        "audit_log.actor",
        "audit_log.user_id",
        "audit_log.detail",
    ] {
        assert!(places.contains(place), "{place}: {places:?}");
    }
    let before = rows(&owner.get(AUDIT).await);
    let hers = before.iter().filter(|row| row.contains(ANN)).count();
    assert!(hers > 8, "{before:#?}");

    let answer = world.erase(ANN);
    let pseudonym = answer["erased"]["pseudonym"].as_str().expect("a name");
    assert!(pseudonym.starts_with("erased-"), "{answer}");
    let left = &answer["erased"]["left"];
    assert_eq!(*left, serde_json::json!(["great-lakes", "lone-star"]));
    assert_eq!(answer["erased"]["sessions"], 1);
    assert_eq!(answer["shown_by"], serde_json::json!([]));

    for name in [ANN, &id, "erasing"].into_iter().chain(SPELT) {
        assert_eq!(world.places_of(name).await, BTreeSet::new(), "{name}");
    }
    assert_eq!(world.count(from_where).await, 0, "from where she asked");
    let named = world.places_of(pseudonym).await;
    for place in [
        "grants.made_by",
        "api_keys.made_by",
        "api_keys.end_reason",
        "sellers.status_reason",
        "leaks.place",
        "staged_keys.made_by",
        "audit_log.actor",
        "audit_log.user_id",
        "audit_log.detail",
    ] {
        assert!(named.contains(place), "{place}: {named:?}");
    }

    // The story is as long as before and reads as before, but for her name: and two entries that say what was done.
    let page = owner.get(AUDIT).await;
    let after = rows(&page);
    assert_eq!(after.len(), before.len() + 2, "{after:#?}");
    assert!(
        after[0].starts_with("Member removed an erased user ("),
        "{}",
        after[0]
    );
    assert!(
        after[1].starts_with("Person erased an erased user ("),
        "{}",
        after[1]
    );
    let words = format!("an erased user ({})", &pseudonym[7..13]);
    let without_times = |row: &str| {
        let row = row.replace("127.0.0.1", "").replace("not kept", "");
        let words = row.split_whitespace();
        let words = words.filter(|word| !word.bytes().all(|c| c.is_ascii_digit()));
        let words = words.filter(|word| {
            ![
                "second", "seconds", "minute", "minutes", "now", "ago", "just",
            ]
            .contains(word)
        });
        words.collect::<Vec<_>>().join(" ")
    };
    for (now, then) in after[2..].iter().zip(&before) {
        // In what somebody else wrote, such as a place, the pseudonym stands itself.
        let then = then.replace(&format!("by={ANN}"), &format!("by={pseudonym}"));
        let then = then.replace(ANN, &words);
        assert_eq!(without_times(now), without_times(&then));
    }
    for row in after.iter().filter(|row| row.contains(&words)) {
        if !row.contains("marketplace") && !row.contains("guest@") {
            assert!(row.contains("not kept"), "from where she acted: {row}");
        }
    }
    // The same in the file, under one name throughout; and the dealer's page of the key.
    let file = owner
        .get("/dashboard/settings/audit/jsonl?seller=lone-star")
        .await
        .text;
    assert!(!file.contains(ANN) && !file.contains(&id), "{file}");
    assert!(
        file.contains(&format!("\"actor\":\"user:{pseudonym}\"")),
        "{file}"
    );
    let csv = owner
        .get("/dashboard/settings/audit/csv?seller=lone-star")
        .await
        .text;
    assert!(!csv.contains(ANN) && csv.contains(pseudonym), "{csv}");
    let settings = owner.get("/dashboard/settings?seller=lone-star").await;
    assert!(settings.words().contains(&words), "{}", settings.words());
    assert!(!settings.text.contains(ANN), "{}", settings.text);

    // She is out, and nobody else is.
    let next = ann.get("/dashboard").await;
    assert!(
        next.header("location").starts_with("/login"),
        "{}",
        next.text
    );
    let again = ann.sign_in(ANN, PASSWORD).await;
    assert_eq!(again.status, 422, "{}", again.text);
    let guest = Person::signed_in(world.served.api, "guest@yard.example", PASSWORD).await;
    drop(guest);
    // Nobody is left to be erased; who comes back is somebody new.
    assert!(world.refuses(ANN).contains("no user has the address"));
    let world = world.served_anew(&[]);
    let mut owner = Person::owner_of(world.served.api, "lone-star").await;
    let link = world.invite("lone-star", ANN);
    let mut back = Person::at(world.served.api);
    let page = back.get(&link).await;
    let form = page.form("/invitation").with("password", PASSWORD);
    assert_eq!(back.send(&form).await.status, 303);
    assert_ne!(world.id_of(ANN).await, id);
    let now = rows(&owner.get(AUDIT).await);
    assert!(now.iter().any(|row| row.contains(&words)), "{now:#?}");
    let second = world.erase(ANN);
    assert_ne!(second["erased"]["pseudonym"], pseudonym);
}

#[tokio::test]
async fn the_last_owner_of_a_seller_is_not_erased() {
    let world = World::new();
    let owner = "owner@lone-star.example";
    let before = world.place.everything().await;
    let said = world.refuses(owner);
    assert!(
        said.contains("nobody but them owns lone-star: make somebody else owner first"),
        "{said}"
    );
    world.place.assert_unchanged(&before, "the refusal").await;
    let mut ann = Person::invited(&world.place, world.served.api, "lone-star", ANN, "owner").await;
    let answer = world.erase(owner);
    assert_eq!(answer["erased"]["left"], serde_json::json!(["lone-star"]));
    let said = world.refuses(ANN);
    assert!(said.contains("nobody but them owns lone-star"), "{said}");
    assert_eq!(ann.get("/dashboard").await.status, 200);
    assert!(
        world
            .refuses("nobody@yard.example")
            .contains("no user has the address")
    );
}

/// Whoever was invited and never came is no User, and is named all the same.
#[tokio::test]
async fn somebody_who_was_only_invited_is_erased_too() {
    let world = World::new();
    let link = world.invite("lone-star", ANN);
    world.invite("great-lakes", "joann@dms.example");
    let mut owner = Person::owner_of(world.served.api, "great-lakes").await;
    let answer = world.erase(ANN);
    assert_eq!(answer["erased"]["links"], 1);
    assert_eq!(answer["erased"]["left"], serde_json::json!([]));
    let only = BTreeSet::from(["account_links.email", "audit_log.detail"].map(str::to_owned));
    assert_eq!(world.places_of(ANN).await, only, "in joann's address");
    let gone = Person::at(world.served.api).get(&link).await;
    assert_eq!(gone.status, 410, "{}", gone.text);
    let told = rows(
        &owner
            .get("/dashboard/settings/audit?seller=great-lakes")
            .await,
    );
    assert!(told[1].contains("joann@dms.example, viewer"), "{told:#?}");
}

/// Mails to the person are not sent any more, and mails to others do not name them.
#[tokio::test]
async fn mails_that_wait_name_them_no_more() {
    let place = Place::new();
    // Nobody listens there: mails wait.
    let mail = [
        "--smtp-url",
        "smtp://127.0.0.1:9",
        "--mail-from",
        "keys@truckradar.example",
    ];
    let served = place.serve(&mail);
    place.create_seller("lone-star");
    let mut ann = Person::invited(&place, served.api, "lone-star", ANN, "admin").await;
    ann.generate("lone-star").await.shown_key().expect("a key");
    let role = ["user", "role", "--seller", "lone-star", "--email", ANN];
    place.json(&[&role[..], &["--role", "owner"]].concat(), "");
    let world = World { served, place };
    let places = world.places_of(ANN).await;
    assert!(
        places.contains("outbox.recipient") && places.contains("outbox.body"),
        "{places:?}"
    );
    let answer = world.erase(ANN);
    assert_eq!(answer["erased"]["mails"], 1);
    assert_eq!(world.places_of(ANN).await, BTreeSet::new());
    let mut inside = world.place.look_inside().await;
    let bodies: Vec<String> = sqlx::query_scalar("SELECT body FROM outbox")
        .fetch_all(&mut inside)
        .await
        .expect("answers");
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert!(bodies[0].contains("by an erased user ("), "{bodies:?}");
}

/// What a dealer says of itself is not a person's account; that it shows the address is told.
#[tokio::test]
async fn a_dealers_own_record_is_named_and_left() {
    let world = World::new();
    let key = world.place.generate("lone-star");
    Person::invited(&world.place, world.served.api, "lone-star", ANN, "viewer").await;
    let client = Client::new(world.served.api, Some(&key));
    let patch = serde_json::json!({"slug": "lone-star", "email": ANN});
    assert_eq!(client.patch("/api/v1/dealers", &patch).await.status, 200);
    let answer = world.erase(ANN);
    assert_eq!(answer["shown_by"], serde_json::json!(["lone-star"]));
    let left = world.places_of(ANN).await;
    assert_eq!(left, BTreeSet::from(["sellers.email".to_owned()]));
    let output = world
        .place
        .run(&["user", "erase", "--email", "guest@yard.example"], "");
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn it_is_erased_without_a_server_as_with_one() {
    let place = Place::new();
    place.create_seller("lone-star");
    let args = [
        "user",
        "invite",
        "--seller",
        "lone-star",
        "--email",
        ANN,
        "--role",
        "viewer",
    ];
    place.json(&args, "");
    let output = place.run(&["user", "erase", "--email", "Ann@DMS.example"], "");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).expect("text");
    for line in [
        "erased ",
        "was a member of   no Seller",
        "links taken back  1",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("dms.example"), "{said}");
}

/// Columns that may name a person, and that erasing knows of. A new one must be dealt with in `src/db/erasing.rs`.
const NAMING: [&str; 26] = [
    "account_links.email",
    "account_links.made_by",
    "api_keys.end_reason",
    "api_keys.made_by",
    "audit_log.actor",
    "audit_log.detail",
    "audit_log.user_id",
    "erasing.email",
    "erasing.email_json",
    "erasing.user_id",
    "grants.made_by",
    "half_sign_ins.user_id",
    "leaks.place",
    "memberships.user_id",
    "outbox.body",
    "outbox.recipient",
    "outbox.subject",
    "recovery_codes.user_id",
    "second_factors.user_id",
    // A Platform, no person.
    "sellers.created_by",
    // A dealer's own words.
    "sellers.email",
    "sellers.status_reason",
    "sessions.user_id",
    "staged_keys.made_by",
    "users.email",
    "users.id",
];

#[tokio::test]
async fn every_column_that_may_name_a_person_is_known_to_the_erasure() {
    let place = Place::new();
    place.create_seller("lone-star");
    let known = BTreeSet::from(NAMING.map(str::to_owned));
    for (table, column, _) in place.columns().await {
        let marks = [
            "user",
            "email",
            "mail_to",
            "recipient",
            "actor",
            "person",
            // Free text, which may name anybody.
            "reason",
            "place",
            "subject",
            "body",
        ];
        let may = marks.iter().any(|mark| column.contains(mark)) || column.ends_with("_by");
        let name = format!("{table}.{column}");
        let is_other = [
            "usage_clients.user_agent",
            "sessions.user_agent",
            "sellers.second_factor_required",
            // A hash.
            "sign_in_failures.subject",
        ]
        .contains(&name.as_str());
        assert!(
            !may || is_other || known.contains(&name),
            "{name} may name a person: have src/db/erasing.rs see to it, and tell this test"
        );
    }
}
