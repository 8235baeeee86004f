//! The audit log: no act without its entry; who reads it, in words and as a file; what is kept, and for how long.
//!
//! Never: an act tried by a list of this file alone: routes and commands are taken from where the product has them.

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use truckradar::http::CallerKind;

use crate::support::{
    binary::{PASSWORD, Place, Served},
    client::{Answer, Client},
    dealership::{Dealership, OTHER, OWN, routes_of},
    factor::{self, Factor},
    person::{Form, Person},
};

// ---------------------------------------------------------------------------------------------------------------------
// No act without its entry.

/// Tables that an act on keys, members, sessions or passwords does not change, or never alone. The list may only become
/// shorter.
const NOT_WATCHED: [(&str, &str); 10] = [
    ("audit_also", "the log"),
    ("audit_log", "the log"),
    (
        "key_epoch",
        "counts changes of keys; each changes a key, too",
    ),
    ("incidents", "what the server noticed by itself"),
    ("key_usage", "counts requests"),
    (
        "listings",
        "what is for sale, which clients change all day; the operator's release of a VIN has an entry",
    ),
    ("nodes", "says which servers live"),
    (
        "outbox",
        "mails of acts that have their entries, until they are sent",
    ),
    ("sign_in_failures", "a failure to sign in is no act"),
    ("usage_clients", "counts requests"),
];

/// Columns that change without an act. The list may only become shorter.
const NO_ACT: [(&str, &str); 9] = [
    ("api_keys.shown_us", "the end of an act that has its entry"),
    ("leaks.last_us", "counts what finders say again"),
    ("leaks.outcome", "what was done has its entry"),
    ("leaks.times", "counts what finders say again"),
    ("leaks.told_us", "the end of an act that has its entry"),
    ("sessions.address", "where a session was last used"),
    ("sessions.seen_us", "when a session was last used"),
    ("sessions.user_agent", "by what a session was last used"),
    (
        "staged_keys.shown_us",
        "the end of an act that has its entry",
    ),
];

/// Sees what changes in a database while a server works on it: by triggers of its own, so that nothing goes past it.
struct Watch<'a> {
    place: &'a Place,
    last: RefCell<String>,
}

/// A new entry of the log.
#[derive(Debug, sqlx::FromRow)]
struct Entry {
    id: String,
    actor: String,
    address: Option<String>,
    act: String,
    user_id: Option<String>,
    detail: String,
}

impl<'a> Watch<'a> {
    async fn over(place: &'a Place) -> Self {
        let columns = place.columns().await;
        let is_watched = |table: &str| !NOT_WATCHED.iter().any(|(name, _)| *name == table);
        let tables: BTreeSet<&str> = columns.iter().map(|(table, ..)| &**table).collect();
        for (name, _) in NOT_WATCHED {
            assert!(tables.contains(name), "there is no table {name}");
        }
        let change = async |sql: String| place.change(AssertSqlSafe(sql)).await;
        change("CREATE TABLE changes_seen (what TEXT)".to_owned()).await;
        if place.is_on_postgres() {
            let sees = "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN INSERT INTO changes_seen VALUES (TG_ARGV[0]); RETURN NULL; END'";
            change(sees.to_owned()).await;
        }
        let see = |what: &str| match place.is_on_postgres() {
            true => format!("EXECUTE FUNCTION see('{what}')"),
            false => format!("BEGIN INSERT INTO changes_seen VALUES ('{what}'); END"),
        };
        for table in tables.iter().filter(|table| is_watched(table)) {
            for event in ["INSERT", "DELETE"] {
                let does = see(&format!("{table} {event}"));
                let name = format!("see_{table}_{event}");
                change(format!(
                    "CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW {does}"
                ))
                .await;
            }
        }
        for (table, column, _) in columns.iter().filter(|(table, ..)| is_watched(table)) {
            let what = format!("{table}.{column}");
            if NO_ACT.iter().any(|(name, _)| *name == what) {
                continue;
            }
            let does = see(&what);
            change(format!(
                "CREATE TRIGGER see_{table}_{column} AFTER UPDATE OF {column} ON {table} FOR EACH ROW \
                 WHEN (OLD.{column} IS DISTINCT FROM NEW.{column}) {does}"
            ))
            .await;
        }
        let watch = Self {
            place,
            last: RefCell::default(),
        };
        watch.news().await;
        watch
    }

    /// What was changed since it was last asked, and the entries that came.
    async fn news(&self) -> (BTreeSet<String>, Vec<Entry>) {
        let last = self.last.borrow().clone();
        let mut inside = self.place.look_inside().await;
        let changed: Vec<String> = sqlx::query_scalar("SELECT what FROM changes_seen")
            .fetch_all(&mut inside)
            .await
            .expect("answers");
        let entries: Vec<Entry> = sqlx::query_as(
            "SELECT id, actor, address, act, user_id, detail FROM audit_log WHERE id > $1 ORDER BY id",
        )
        .bind(last)
        .fetch_all(&mut inside)
        .await
        .expect("answers");
        self.place.change("DELETE FROM changes_seen").await;
        if let Some(last) = entries.last() {
            self.last.replace(last.id.clone());
        }
        (changed.into_iter().collect(), entries)
    }

    /// Fails if something changed without an entry, or the other way round, or if an entry names another actor or address.
    /// Answers with the entries; none if nothing changed.
    async fn judge(
        &self,
        told: impl std::fmt::Display,
        actor: &str,
        address: Option<&str>,
    ) -> Vec<Entry> {
        let (changed, entries) = self.news().await;
        assert_eq!(
            changed.is_empty(),
            entries.is_empty(),
            "{told} changed {changed:?}, and the log got {entries:?}"
        );
        for entry in &entries {
            assert_eq!(entry.actor, actor, "{told}: {entry:?}");
            assert_eq!(entry.address.as_deref(), address, "{told}: {entry:?}");
        }
        entries
    }
}

const HERE: Option<&str> = Some("127.0.0.1");

async fn id_of(place: &Place, email: &str) -> String {
    let mut inside = place.look_inside().await;
    sqlx::query_scalar("SELECT id FROM users WHERE email = $1")
        .bind(email)
        .fetch_one(&mut inside)
        .await
        .expect("a User")
}

fn acts(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.act).collect()
}

fn detail(entry: &Entry) -> Value {
    serde_json::from_str(&entry.detail).expect("JSON")
}

/// The acts that a form writes down, each time that it is done.
fn acts_of(path: &str) -> &'static [&'static str] {
    match path {
        "/login" | "/login/code" => &["session.began"],
        // Here no mail is sent.
        "/forgot-password" => &[],
        "/logout" | "/dashboard/settings/sessions/end" => &["session.ended"],
        "/invitation" => &["member.joined", "session.began"],
        "/reset-password" => &["password.reset"],
        "/dashboard/settings/password" => &["password.changed"],
        "/dashboard/settings/api-key" => &["key.generated"],
        "/dashboard/settings/api-key/prepare" => &["key.prepared"],
        "/dashboard/settings/api-key/cut-over" => &["key.cut-over"],
        "/dashboard/settings/api-key/discard" => &["key.discarded"],
        "/dashboard/settings/api-key/dismiss-leak" => &["key.leak-dismissed"],
        "/dashboard/settings/profile" | "/dashboard/settings/locations" => &["dealer.changed"],
        "/dashboard/settings/networks" => &["key.networks"],
        "/dashboard/settings/platforms/grant" => &["platform.granted"],
        "/dashboard/settings/platforms/withdraw" => &["platform.withdrawn"],
        "/dashboard/settings/members/invite" => &["member.invited"],
        "/dashboard/settings/members/uninvite" => &["member.uninvited"],
        "/dashboard/settings/members/role" => &["member.role"],
        "/dashboard/settings/members/remove" => &["member.removed"],
        "/dashboard/settings/members/second-factor" => &["member.factor-required"],
        "/dashboard/settings/second-factor/begin" => &["factor.begun"],
        "/dashboard/settings/second-factor/confirm" => &["factor.on"],
        "/dashboard/settings/second-factor/codes" => &["factor.codes-made"],
        "/dashboard/settings/second-factor/off" => &["factor.off"],
        path => panic!("{path}: say which acts it writes down"),
    }
}

#[tokio::test]
async fn no_form_of_a_page_changes_keys_members_or_sessions_without_an_entry() {
    let dealership = Dealership::new().await;
    let watch = Watch::over(&dealership.place).await;
    let mut tried = 0;
    for route in routes_of(CallerKind::SignedIn) {
        if route.method != Method::POST {
            continue;
        }
        let mut owner = dealership.person("owner", OWN).await;
        let user = format!(
            "user:{}",
            id_of(&dealership.place, &format!("owner@{OWN}.example")).await
        );
        let came = watch.judge("signing in", &user, HERE).await;
        assert_eq!(acts(&came), ["session.began"]);
        dealership.prepare(OWN);
        watch.judge("key prepare", "operator", None).await;
        dealership.ready_for(route.path, "owner", OWN).await;
        watch.news().await;
        let account = dealership.account(OWN, "owner").await;
        let asked = account.request(&route);
        let answer = asked.by(&mut owner).await;
        assert!(
            [200, 303].contains(&answer.status.as_u16()),
            "{asked}: {}",
            answer.text
        );
        let entries = watch.judge(&asked, &user, HERE).await;
        assert_eq!(acts(&entries), acts_of(route.path), "{asked}");
        tried += 1;
    }
    // Of the other dealer, whose links are all there yet.
    for route in routes_of(CallerKind::Visitor) {
        if route.method != Method::POST {
            continue;
        }
        let account = dealership.account(OTHER, "owner").await;
        let asked = account.request(&route);
        let mut person = Person::at(dealership.served.api);
        if route.path == "/login/code" {
            person = dealership.half_way("owner", OTHER).await;
            let (_, came) = watch.news().await;
            assert_eq!(acts(&came), ["session.code-asked"]);
        }
        let answer = asked.by(&mut person).await;
        assert!(
            [200, 303].contains(&answer.status.as_u16()),
            "{asked}: {}",
            answer.text
        );
        let name = match route.path {
            "/login" | "/login/code" | "/forgot-password" => "owner",
            "/invitation" => "invited",
            "/reset-password" => "leaver",
            path => panic!("{path}: say who is named by it"),
        };
        let email = format!("{name}@{OTHER}.example");
        let user = format!("user:{}", id_of(&dealership.place, &email).await);
        let entries = watch.judge(&asked, &user, HERE).await;
        assert_eq!(acts(&entries), acts_of(route.path), "{asked}");
        tried += 1;
    }
    assert!(tried > 14, "only {tried} forms");
}

#[tokio::test]
async fn what_changes_nothing_has_no_entry() {
    let dealership = Dealership::new().await;
    let place = &dealership.place;
    let mut owner = dealership.person("owner", OWN).await;
    let account = dealership.account(OWN, "owner").await;
    let watch = Watch::over(place).await;
    let seller = account.seller.as_str();
    let post = async |owner: &mut Person, path: &str, fields: &[(&'static str, &str)]| {
        let fields = [&[("seller", seller)], fields].concat();
        let answer = owner.send(&Form::made_up(path, fields)).await;
        assert_eq!(answer.status, 303, "{path}: {}", answer.text);
    };
    let staff = id_of(place, &format!("staff@{OWN}.example")).await;
    let settings = "/dashboard/settings";
    for (path, fields) in [
        (
            "members/uninvite",
            [("email", "nobody@elsewhere.example"), ("", "")],
        ),
        (
            "members/role",
            [("user", staff.as_str()), ("role", "viewer")],
        ),
        ("sessions/end", [("session", "others"), ("", "")]),
    ] {
        post(&mut owner, &format!("{settings}/{path}"), &fields).await;
        let entries = watch.judge(path, "nobody", None).await;
        assert_eq!(acts(&entries), [""; 0], "{path}");
    }
    let mut stranger = Person::at(dealership.served.api);
    let refused = stranger.sign_in(&account.email, "not the password").await;
    assert_eq!(refused.status, 422);
    assert_eq!(owner.get("/dashboard").await.status, 200);
    assert_eq!(owner.get(&format!("{settings}/audit")).await.status, 200);
    let looked = watch.judge("looking", "nobody", None).await;
    assert_eq!(acts(&looked), [""; 0]);
}

#[tokio::test]
async fn what_ends_a_session_says_which_and_by_whom() {
    let dealership = Dealership::new().await;
    let (place, at) = (&dealership.place, dealership.served.api);
    let watch = Watch::over(place).await;
    let owner = format!("owner@{OWN}.example");
    let owner_id = id_of(place, &owner).await;
    let as_owner = format!("user:{owner_id}");

    // Somebody of another dealer signs in where one was signed in: that session ends, and its dealer does not learn by whom.
    let mut browser = dealership.person("owner", OWN).await;
    watch.judge("signing in", &as_owner, HERE).await;
    let other = format!("owner@{OTHER}.example");
    let other_id = id_of(place, &other).await;
    let asked = Form::made_up("/login", [("email", &*other), ("password", PASSWORD)]);
    assert_eq!(browser.send(&asked).await.status, 303);
    let (_, came) = watch.news().await;
    assert_eq!(acts(&came), ["session.ended", "session.began"]);
    assert_eq!(came[0].actor, as_owner);
    assert_eq!(came[0].user_id.as_deref(), Some(&*owner_id));
    assert_eq!(came[0].address, None);
    assert_eq!(detail(&came[0])["by_sign_in"], true);
    assert_eq!(came[1].actor, format!("user:{other_id}"));
    let mut browser = dealership.person("owner", OWN).await;
    watch.judge("signing in", &as_owner, HERE).await;
    let page = format!("/dashboard/settings/audit?seller={OWN}");
    let told = rows(&browser.get(&page).await);
    let expected = format!("Signed out Somebody signed in in the same browser {owner} ");
    assert!(told[1].starts_with(&expected), "{told:#?}");
    assert!(told[1].ends_with("not kept –"), "{told:#?}");
    let file = format!("/dashboard/settings/audit/jsonl?seller={OWN}");
    let file = browser.get(&file).await.text;
    assert!(
        !file.contains(&other_id) && !file.contains(&other),
        "{file}"
    );

    // The same person anew: they may read from where.
    let asked = Form::made_up("/login", [("email", &*owner), ("password", PASSWORD)]);
    assert_eq!(browser.send(&asked).await.status, 303);
    let came = watch.judge("signing in anew", &as_owner, HERE).await;
    assert_eq!(acts(&came), ["session.ended", "session.began"]);

    // The password given again.
    let other = dealership.person("owner", OWN).await;
    drop(other);
    place
        .change("UPDATE sessions SET confirmed_us = confirmed_us - 901000000")
        .await;
    watch.news().await;
    let account = dealership.account(OWN, "owner").await;
    let others = [("seller", &*account.seller), ("session", "others")];
    let form = Form::made_up("/dashboard/settings/sessions/end", others);
    assert_eq!(browser.send(&form).await.status, 200, "asks first");
    assert_eq!(watch.news().await.1.len(), 0, "nothing was done yet");
    let done = browser.send(&form.with("current_password", PASSWORD)).await;
    assert_eq!(done.status, 303, "{}", done.text);
    let came = watch.judge("confirming", &as_owner, HERE).await;
    assert_eq!(acts(&came), ["password.confirmed", "sessions.ended"]);
    assert_eq!(detail(&came[1])["ended"].as_array().map(Vec::len), Some(1));
    assert_eq!(detail(&came[0])["session"], detail(&came[1])["by_session"]);

    // One session too many: the one used longest ago makes room.
    let digest = match place.is_on_postgres() {
        true => "sha256(CAST(CAST(i AS TEXT) AS BYTEA))",
        false => "randomblob(32)",
    };
    place
        .change(AssertSqlSafe(format!(
            "INSERT INTO sessions WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) \
             SELECT '00000000-0000-7000-8000-' || (100000000000 + i), '{owner_id}', {digest}, i, i, i, '', '' FROM n"
        )))
        .await;
    watch.news().await;
    let _ = Person::signed_in(at, &owner, PASSWORD).await;
    let came = watch.judge("one too many", &as_owner, HERE).await;
    assert_eq!(acts(&came), ["session.began"]);
    let ended = detail(&came[0])["ended"].clone();
    assert_eq!(
        ended,
        json!([
            "00000000-0000-7000-8000-100000000001",
            "00000000-0000-7000-8000-100000000002"
        ])
    );

    // Another password, and a link for one: every other session, and every one.
    let mut browser = Person::signed_in(at, &owner, PASSWORD).await;
    watch.news().await;
    let fields = [
        ("seller", &*account.seller),
        ("old_password", PASSWORD),
        ("new_password", "seven lorries at dawn"),
    ];
    let form = Form::made_up("/dashboard/settings/password", fields);
    assert_eq!(browser.send(&form).await.status, 303);
    let came = watch.judge("another password", &as_owner, HERE).await;
    assert_eq!(acts(&came), ["password.changed"]);
    assert_eq!(
        detail(&came[0])["ended"].as_array().map(Vec::len),
        Some(199)
    );
    place.json(&["user", "reset-password", "--email", &owner], "");
    let came = watch.judge("a reset", "operator", None).await;
    assert_eq!(acts(&came), ["password.reset-link"]);
    assert_eq!(came[0].user_id.as_deref(), Some(&*owner_id));
    assert_eq!(detail(&came[0])["ended"].as_array().map(Vec::len), Some(1));
}

/// The commands of a group, from its own help.
fn commands_of(place: &Place, group: &str) -> BTreeSet<String> {
    let help = place.run(&[group, "--help"], "");
    let help = String::from_utf8(help.stdout).expect("text");
    let (_, commands) = help.split_once("Commands:\n").expect("commands");
    let (commands, _) = commands.split_once("\n\n").expect("an end");
    let names = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help");
    names.map(|name| format!("{group} {name}")).collect()
}

#[tokio::test]
async fn no_command_on_keys_users_or_sellers_lacks_its_entry() {
    let dealership = Dealership::new().await;
    let place = &dealership.place;
    let watch = Watch::over(place).await;
    let at = ["--seller", OWN];
    let staff = format!("staff@{OWN}.example");
    let email = ["--email", staff.as_str()];
    let new = ["--email", "new@elsewhere.example", "--role", "viewer"];
    let created = [
        "--name",
        "New",
        "--slug",
        "new",
        "--owner-email",
        "new@new.example",
        "--owner-password-stdin",
    ];
    let pro = ["--plan", "pro"];
    let why = ["--reason", "unpaid"];
    let hub = ["--platform", "hub"];
    let leaver = format!("leaver@{OWN}.example");
    factor::put(place, &staff, Factor::On).await;
    watch.news().await;
    let acts_of: [(&str, Vec<&str>, &[&str]); 29] = [
        ("key generate", at.to_vec(), &["key.generated"]),
        ("key prepare", at.to_vec(), &["key.prepared"]),
        ("key cut-over", at.to_vec(), &["key.cut-over"]),
        // There is none any more.
        ("key discard", at.to_vec(), &[]),
        (
            "key expire",
            [&at[..], &["--reason", "leaked"]].concat(),
            &["key.expired"],
        ),
        ("key show", at.to_vec(), &[]),
        ("key identify", vec![], &[]),
        (
            "key networks",
            [&at[..], &["--from", "192.0.2.0/24"]].concat(),
            &["key.networks"],
        ),
        (
            "user invite",
            [&at[..], &new[..]].concat(),
            &["member.invited"],
        ),
        (
            "user role",
            [&at[..], &email[..], &["--role", "admin"]].concat(),
            &["member.role"],
        ),
        (
            "user remove",
            [&at[..], &email[..]].concat(),
            &["member.removed"],
        ),
        (
            "user reset-password",
            email.to_vec(),
            &["password.reset-link"],
        ),
        (
            "user erase",
            vec!["--email", leaver.as_str()],
            &["member.erased", "member.removed"],
        ),
        (
            "user reset-second-factor",
            email.to_vec(),
            &["factor.taken-away"],
        ),
        ("seller create", created.to_vec(), &["seller.created"]),
        ("seller list", vec![], &[]),
        ("seller show", at.to_vec(), &[]),
        ("seller plan", [&at[..], &pro].concat(), &["account.plan"]),
        (
            "seller suspend",
            [&at[..], &why].concat(),
            &["account.suspended"],
        ),
        ("seller resume", at.to_vec(), &["account.resumed"]),
        (
            "platform create",
            vec!["--name", "Hub", "--slug", "hub"],
            &["platform.created"],
        ),
        ("platform list", vec![], &[]),
        ("platform show", hub.to_vec(), &[]),
        ("platform key", hub.to_vec(), &["key.generated"]),
        (
            "platform plan",
            [&hub[..], &pro].concat(),
            &["account.plan"],
        ),
        (
            "platform suspend",
            [&hub[..], &why].concat(),
            &["account.suspended"],
        ),
        ("platform resume", hub.to_vec(), &["account.resumed"]),
        (
            "platform close",
            [&hub[..], &why].concat(),
            &["account.closed"],
        ),
        (
            "seller close",
            vec!["--seller", "new", "--reason", "gone"],
            &["account.closed"],
        ),
    ];
    let mut known = BTreeSet::new();
    for group in ["key", "user", "seller", "platform"] {
        known.extend(commands_of(place, group));
    }
    let tried: BTreeSet<String> = acts_of
        .iter()
        .map(|(name, ..)| (*name).to_owned())
        .collect();
    assert_eq!(known, tried, "every command is tried here");
    for (name, args, expected) in &acts_of {
        let words: Vec<&str> = name.split(' ').chain(args.iter().copied()).collect();
        place.json(&words, PASSWORD);
        let entries = watch.judge(name, "operator", None).await;
        assert_eq!(acts(&entries), *expected, "{name}");
    }
    // Done again, most change nothing; a prepared key alone is expired as well.
    for (words, expected) in [
        (
            vec!["key", "expire", "--seller", OWN, "--reason", "again"],
            &[][..],
        ),
        (vec!["key", "generate", "--seller", OWN], &["key.generated"]),
        (vec!["key", "prepare", "--seller", OWN], &["key.prepared"]),
        (vec!["key", "discard", "--seller", OWN], &["key.discarded"]),
        (vec!["key", "discard", "--seller", OWN], &[]),
    ] {
        place.json(&words, "");
        let entries = watch.judge(words.join(" "), "operator", None).await;
        assert_eq!(acts(&entries), expected, "{words:?}");
    }
}

#[tokio::test]
async fn an_act_by_key_names_the_key_and_from_where() {
    let dealership = Dealership::new().await;
    let account = dealership.account(OWN, "owner").await;
    let client = Client::new(dealership.served.api, Some(&account.key));
    let key = client.get("/api/v1/key").await.json()["data"]["key_id"].take();
    let key = format!("key:{}", key.as_str().expect("an id"));
    let watch = Watch::over(&dealership.place).await;
    let patch = json!({"slug": OWN, "phone": "+1 555 0142"});
    assert_eq!(client.patch("/api/v1/dealers", &patch).await.status, 200);
    let came = watch.judge("PATCH", &key, HERE).await;
    assert_eq!(acts(&came), ["dealer.changed"]);
    let whole = json!({"slug": OWN, "name": "Lone Star"});
    assert_eq!(client.post("/api/v1/dealers", &whole).await.status, 200);
    let came = watch.judge("POST", &key, HERE).await;
    assert_eq!(acts(&came), ["dealer.changed"]);
    let mut owner = dealership.person("owner", OWN).await;
    let told = rows(&owner.get(PAGE).await);
    let hint = &account.key[42..];
    let expected = format!("Profile or locations changed API key ••••{hint} ");
    // After signing in.
    assert!(told[1].starts_with(&expected), "{told:#?}");
    assert!(told[1].ends_with("127.0.0.1 –"), "{told:#?}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Who reads it.

const SELLER: &str = "lone-star";
const PAGE: &str = "/dashboard/settings/audit?seller=lone-star";
const CSV: &str = "/dashboard/settings/audit/csv?seller=lone-star";
const LINES: &str = "/dashboard/settings/audit/jsonl?seller=lone-star";

async fn world() -> (Place, Served, Person) {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller(SELLER);
    let owner = Person::owner_of(served.api, SELLER).await;
    (place, served, owner)
}

/// Rows of the page, the newest first, each as its words.
fn rows(page: &Answer) -> Vec<String> {
    assert_eq!(page.status, 200, "{}", page.text);
    let rows = page.text.split("<tr>").skip(2);
    rows.map(|row| {
        let row = row.split("</tr>").next().unwrap_or_default();
        let row = Answer {
            status: page.status,
            headers: page.headers.clone(),
            text: row.to_owned(),
        };
        row.words()
    })
    .collect()
}

fn lines(file: &Answer) -> Vec<Value> {
    assert_eq!(file.status, 200, "{}", file.text);
    assert!(file.text.ends_with('\n'));
    let lines = file.text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn cells(file: &Answer) -> Vec<Vec<String>> {
    assert_eq!(file.status, 200, "{}", file.text);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(file.text.as_bytes());
    let records = reader.records();
    records
        .map(|record| record.expect("CSV").iter().map(str::to_owned).collect())
        .collect()
}

#[tokio::test]
async fn an_owner_reads_in_words_what_was_done() {
    let (place, served, mut owner) = world().await;
    let first = owner.generate(SELLER).await.shown_key().expect("a key");
    let second = owner.generate(SELLER).await.shown_key().expect("a key");
    let reason = "<script>alert(1)</script> & \"leaked\"";
    place.json(
        &["key", "expire", "--seller", SELLER, "--reason", reason],
        "",
    );
    let ann = "ann@lone-star.example";
    Person::invited(&place, served.api, SELLER, ann, "viewer").await;
    place.json(
        &[
            "user", "role", "--seller", SELLER, "--email", ann, "--role", "admin",
        ],
        "",
    );
    place.json(&["user", "reset-password", "--email", ann], "");

    let page = owner.get(PAGE).await;
    assert!(!page.text.contains("<script>alert"), "{}", page.text);
    let own = "owner@lone-star.example";
    let told = rows(&page);
    let expect = [
        format!("Link for a new password made {ann} 1 other session ended the marketplace"),
        format!("Role changed {ann} From viewer to admin the marketplace"),
        format!("Signed in {ann}"),
        format!("Invitation accepted As viewer Invited by the marketplace {ann}"),
        format!("Invitation made {ann}, viewer the marketplace"),
        format!("API key expired Reason: {reason} Dead on 1 of 1 node after"),
        "API key regenerated Old key dead on 1 of 1 node after".to_owned(),
        "API key generated Live on 1 of 1 node after".to_owned(),
        format!("Signed in {own}"),
        format!("Dealer account created {own} the marketplace"),
    ];
    assert_eq!(told.len(), expect.len(), "{told:#?}");
    for (row, expected) in told.iter().zip(&expect) {
        assert!(row.starts_with(expected), "{row} is not {expected}");
        let from = if row.contains("the marketplace") && !row.contains("Invited by")
            || row.starts_with("API key expired")
        {
            "on the server"
        } else {
            "127.0.0.1"
        };
        assert!(row.contains(from), "{row} is not from {from}");
    }
    assert!(
        told[6].ends_with(&format!("••••{}", &second[42..])),
        "{}",
        told[6]
    );
    assert!(
        told[7].ends_with(&format!("••••{}", &first[42..])),
        "{}",
        told[7]
    );
    assert!(page.text.contains("<time datetime="));
    // By what it is about.
    for (kind, some) in [
        ("keys", [5, 6, 7].as_slice()),
        ("members", &[1, 3, 4]),
        ("sessions", &[0, 2, 8]),
    ] {
        let found = rows(&owner.get(&format!("{PAGE}&kind={kind}")).await);
        let expected: Vec<_> = some.iter().map(|at| told[*at].as_str()).collect();
        let without_time = |row: &str| row.split(" ago").next().unwrap_or_default().len();
        assert_eq!(found.len(), expected.len(), "{kind}: {found:#?}");
        for (row, expected) in found.iter().zip(expected) {
            let length = without_time(expected).min(40);
            assert_eq!(row[..length], expected[..length], "{kind}");
        }
    }
    let settings = owner.get("/dashboard/settings?seller=lone-star").await;
    assert!(settings.text.contains(PAGE), "Settings leads there");
}

#[tokio::test]
async fn older_entries_are_a_page_further() {
    let (place, _served, mut owner) = world().await;
    fill(&place, 120).await;
    let (mut path, mut seen) = (PAGE.to_owned(), Vec::new());
    for expected in [50, 50, 22] {
        let page = owner.get(&path).await;
        let told = rows(&page);
        assert_eq!(told.len(), expected);
        seen.extend(told);
        let older = page
            .text
            .split("<a class=\"button\" href=\"")
            .find(|part| part.contains(">Older entries<") && part.contains("before="));
        path = match older {
            Some(part) => part
                .split('"')
                .next()
                .unwrap_or_default()
                .replace("&amp;", "&")
                .replace("&#38;", "&"),
            None => String::new(),
        };
    }
    assert_eq!(path, "", "there is nothing older");
    let seen: Vec<&str> = seen
        .iter()
        .filter_map(|row| row.split("Reason: r").nth(1))
        .collect();
    let numbers: Vec<u32> = seen
        .iter()
        .filter_map(|row| row.split_whitespace().next()?.parse().ok())
        .collect();
    assert_eq!(numbers, (1..=120).rev().collect::<Vec<_>>());
    let nothing = owner
        .get(&format!(
            "{PAGE}&before=00000000-0000-7000-8000-000000000000"
        ))
        .await;
    assert!(nothing.words().contains("No older entries"));
}

/// Adds so many expiries, the last one last, later in order than every entry there is.
async fn fill(place: &Place, count: u32) {
    fill_with(place, count, "'r' || i").await;
}

/// The same with this SQL for the reasons; `i` is an entry's number.
async fn fill_with(place: &Place, count: u32, reason: &str) {
    place
        .change(AssertSqlSafe(format!(
            "INSERT INTO audit_log (id, at_us, actor, seller_id, act, detail) \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             SELECT 'ffffffff-0000-7000-8000-' || (100000000000 + i), (SELECT MAX(at_us) FROM audit_log), 'operator', \
             (SELECT id FROM sellers LIMIT 1), 'key.expired', '{{\"reason\":\"' || {reason} || '\"}}' FROM n"
        )))
        .await;
}

#[tokio::test]
async fn only_owners_and_admins_of_the_dealer_read_it() {
    let (place, served, mut owner) = world().await;
    place.create_seller("great-lakes");
    let mut other = Person::owner_of(served.api, "great-lakes").await;
    let ann = "ann@lone-star.example";
    let mut viewer = Person::invited(&place, served.api, SELLER, ann, "viewer").await;
    for path in [PAGE, CSV, LINES] {
        assert_eq!(owner.get(path).await.status, 200);
        let refused = viewer.get(path).await;
        assert_eq!(refused.status, 403);
        assert!(refused.words().contains("Your role does not allow this"));
        let refused = other.get(path).await;
        assert_eq!(refused.status, 403);
        assert!(refused.words().contains("Not one of your dealers"));
        let sent = Person::at(served.api).get(path).await;
        assert_eq!(sent.status, 303);
        assert!(sent.header("location").starts_with("/login?next="));
    }
    let settings = viewer.get("/dashboard/settings?seller=lone-star").await;
    assert!(!settings.text.contains("/dashboard/settings/audit"));
    place.json(
        &[
            "user", "role", "--seller", SELLER, "--email", ann, "--role", "admin",
        ],
        "",
    );
    for path in [PAGE, CSV, LINES] {
        assert_eq!(viewer.get(path).await.status, 200, "an admin now");
    }
}

#[tokio::test]
async fn somebody_who_left_is_seen_as_long_as_they_were_there() {
    let (place, served, mut owner) = world().await;
    let ann = "ann@lone-star.example";
    Person::invited(&place, served.api, SELLER, ann, "viewer").await;
    let before = lines(&owner.get(LINES).await);
    place.json(&["user", "remove", "--seller", SELLER, "--email", ann], "");
    Person::signed_in(served.api, ann, PASSWORD).await;
    let after = lines(&owner.get(LINES).await);
    let came = |lines: &[Value]| {
        let signed_in = lines
            .iter()
            .filter(|line| line["act"] == "session.began" && line["actor_email"] == ann);
        signed_in.count()
    };
    assert_eq!((came(&before), came(&after)), (1, 1));
    assert_eq!(after[after.len() - 1]["act"], "member.removed");
    assert_eq!(after[..before.len()], before);
}

// ---------------------------------------------------------------------------------------------------------------------
// As a file.

#[tokio::test]
async fn a_file_has_everything_and_nothing_that_a_spreadsheet_would_compute() {
    let (place, served, mut owner) = world().await;
    owner.generate(SELLER).await.shown_key().expect("a key");
    let formula = "=hyperlink(\"https://elsewhere.example\",\"click\")@lone-star.example";
    let mut mallory = Person::invited(&place, served.api, SELLER, formula, "admin").await;
    mallory.generate(SELLER).await.shown_key().expect("a key");
    let reason = "=HYPERLINK(\"https://elsewhere.example\")";
    place.json(
        &["key", "expire", "--seller", SELLER, "--reason", reason],
        "",
    );

    let (csv, jsonl) = (owner.get(CSV).await, owner.get(LINES).await);
    let attached = |name| format!("attachment; filename=\"{name}\"");
    let name = csv.header("content-disposition");
    assert_eq!(name, attached("truckradar-audit-lone-star.csv"));
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    let name = jsonl.header("content-disposition");
    assert_eq!(name, attached("truckradar-audit-lone-star.jsonl"));
    assert_eq!(jsonl.header("content-type"), "application/jsonl");
    for file in [&csv, &jsonl] {
        assert_eq!(file.header("cache-control"), "no-store");
        assert_eq!(file.header("x-content-type-options"), "nosniff");
    }

    assert!(csv.text.ends_with("\r\n"));
    let table = cells(&csv);
    let told = lines(&jsonl);
    assert_eq!(table.len(), told.len() + 1);
    for (row, line) in table[1..].iter().zip(&told) {
        let line = line.as_object().expect("an object");
        let names: BTreeSet<&str> = line.keys().map(String::as_str).collect();
        let columns: BTreeSet<&str> = table[0].iter().map(String::as_str).collect();
        assert_eq!(names, columns);
        for (cell, column) in row.iter().zip(&table[0]) {
            assert!(!cell.starts_with(['=', '+', '-', '@']), "{cell}");
            let expected = match &line[column] {
                Value::Null => String::new(),
                Value::String(text) if text == formula => format!("'{text}"),
                Value::String(text) => text.clone(),
                object => object.to_string(),
            };
            // The engine keeps an object's fields in the order in which they were written.
            if !line[column].is_object() {
                assert_eq!(*cell, expected, "{column}");
            } else {
                let cell: Value = serde_json::from_str(cell).expect("JSON");
                assert_eq!(cell, line[column], "{column}");
            }
        }
    }
    let last = &told[told.len() - 1];
    assert_eq!(last["act"], "key.expired");
    assert_eq!(last["detail"]["reason"], reason);
    assert_eq!(last["receipt"]["nodes"][0]["outcome"], "confirmed");
    assert!(last["at"].as_str().is_some_and(|at| at.ends_with('Z')));
    let replaced = &told[told.len() - 2];
    assert_eq!(replaced["what"], "API key regenerated");
    assert_eq!(replaced["actor_email"], formula);
    assert!(
        csv.text
            .contains(&format!("\"'{}\"", formula.replace('"', "\"\"")))
    );
}

#[tokio::test]
async fn a_long_file_is_whole_and_one_that_breaks_off_does_not_look_so() {
    let (place, _served, mut owner) = world().await;
    let before = lines(&owner.get(LINES).await).len();
    fill(&place, 1_200).await;
    let (csv, told) = (owner.get(CSV).await, lines(&owner.get(LINES).await));
    assert_eq!(told.len(), before + 1_200);
    assert_eq!(cells(&csv).len(), told.len() + 1);
    let ids: BTreeSet<&str> = told.iter().filter_map(|line| line["id"].as_str()).collect();
    assert_eq!(ids.len(), told.len());
    let in_order: Vec<&str> = told.iter().filter_map(|line| line["id"].as_str()).collect();
    assert!(in_order.is_sorted(), "the oldest first");

    // An entry that cannot be read, far behind the first ones.
    place
        .change(
            "INSERT INTO audit_log (id, at_us, actor, seller_id, act, detail) SELECT \
             'ffffffff-0000-7000-8000-no-number', 0, 'operator', id, 'key.expired', '{}' FROM sellers",
        )
        .await;
    for path in [CSV, LINES] {
        // Broken off before its head was on its way, or behind it.
        let is_whole = match owner.request(Method::GET, path).send().await {
            Ok(sent) => sent.bytes().await.is_ok(),
            Err(_) => false,
        };
        assert!(!is_whole, "{path} looks complete");
        assert_eq!(owner.get("/dashboard").await.status, 200);
    }
}

#[tokio::test]
async fn who_may_no_longer_see_the_log_gets_no_further_entries_of_a_file_on_its_way() {
    let (place, served, _owner) = world().await;
    let ann = "ann@lone-star.example";
    let mut admin = Person::invited(&place, served.api, SELLER, ann, "admin").await;
    // Far more than waits between a server and a client who does not read.
    const WHOLE: usize = 20_000 * 2_000;
    let long = format!("'{}'", "x".repeat(2_000));
    fill_with(&place, 20_000, &long).await;
    let of_ann = ["--seller", SELLER, "--email", ann];
    for (path, act) in [
        (CSV, &["user", "role", "--role", "viewer"][..]),
        (LINES, &["user", "remove"]),
    ] {
        let asked = admin.request(Method::GET, path);
        let mut sent = asked.send().await.expect("begins");
        assert_eq!(sent.status(), 200);
        let first = sent.chunk().await.expect("comes");
        let mut bytes = first.expect("has entries").len();
        place.json(&[act, &of_ann].concat(), "");
        let looks_whole = loop {
            match sent.chunk().await {
                Ok(Some(part)) => bytes += part.len(),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        assert!(!looks_whole && bytes < WHOLE, "{path}: {bytes} bytes");
        let back = ["user", "role", "--role", "admin"];
        if act[1] == "role" {
            place.json(&[&back[..], &of_ann].concat(), "");
        }
    }
    assert_eq!(admin.get(PAGE).await.status, 403);
}

#[tokio::test]
async fn an_act_that_only_a_later_version_knows_is_shown_by_its_name() {
    let (place, _served, mut owner) = world().await;
    place
        .change(
            "INSERT INTO audit_log (id, at_us, actor, seller_id, act, detail, receipt) SELECT \
             'ffffffff-0000-7000-8000-000000000001', 0, 'operator', id, 'future.act', '{\"to\":[1]}', '{\"new\":1}' FROM sellers",
        )
        .await;
    let told = rows(&owner.get(PAGE).await);
    assert!(
        told[0].starts_with("future.act the marketplace"),
        "{told:#?}"
    );
    assert!(told.len() > 1, "{told:#?}");
    let table = cells(&owner.get(CSV).await);
    let last = &table[table.len() - 1];
    assert_eq!(last[2..4], ["future.act", "future.act"]);
    let lines = lines(&owner.get(LINES).await);
    let last = &lines[lines.len() - 1];
    assert_eq!(
        (&last["act"], &last["what"]),
        (&json!("future.act"), &json!("future.act"))
    );
    assert_eq!(last["detail"], json!({"to": [1]}));
}

// ---------------------------------------------------------------------------------------------------------------------
// What is kept.

#[tokio::test]
async fn addresses_go_after_a_month_and_entries_after_a_year() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller(SELLER);
    drop(served);
    for days in [29, 31, 364, 366] {
        place
            .change(AssertSqlSafe(format!(
                "INSERT INTO audit_log (id, at_us, actor, address, seller_id, act, detail) SELECT \
                 'ffffffff-0000-7000-8000-000000000{days:03}', at_us - {days} * 86400000000, 'user:x', '192.0.2.{}', \
                 seller_id, 'dealer.changed', '{{}}' FROM audit_log WHERE act = 'seller.created'",
                days % 256
            )))
            .await;
    }
    let kept = async || -> Vec<(String, Option<String>)> {
        let mut inside = place.look_inside().await;
        sqlx::query_as(
            "SELECT substr(id, 34), address FROM audit_log WHERE id LIKE 'f%' ORDER BY id",
        )
        .fetch_all(&mut inside)
        .await
        .expect("answers")
    };
    assert_eq!(kept().await.len(), 4);
    // It forgets as soon as it runs.
    let served = place.serve(&[]);
    let forgotten = async {
        while kept().await.len() > 3
            || kept().await.iter().filter(|(_, at)| at.is_some()).count() > 1
        {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), forgotten).await;
    waited.expect("forgets");
    let address = Some("192.0.2.29".to_owned());
    let expected = [("029", address), ("031", None), ("364", None)];
    assert_eq!(
        kept().await,
        expected.map(|(days, at)| (days.to_owned(), at))
    );
    let mut owner = Person::owner_of(served.api, SELLER).await;
    let told = rows(&owner.get(PAGE).await);
    assert_eq!(
        told.iter().filter(|row| row.contains("not kept")).count(),
        2
    );
    assert_eq!(
        told.iter().filter(|row| row.contains("192.0.2.29")).count(),
        1
    );
}
