//! No act without its entry.
//!
//! Never: an act tried by a list of this file alone: routes and commands are taken from where the product has them.

use super::*;

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
pub struct Watch<'a> {
    place: &'a Place,
    last: RefCell<String>,
}

/// A new entry of the log.
#[derive(Debug, sqlx::FromRow)]
pub struct Entry {
    id: String,
    actor: String,
    address: Option<String>,
    act: String,
    user_id: Option<String>,
    detail: String,
}

impl<'a> Watch<'a> {
    pub async fn over(place: &'a Place) -> Self {
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
    pub async fn news(&self) -> (BTreeSet<String>, Vec<Entry>) {
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
    pub async fn judge(
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

pub async fn id_of(place: &Place, email: &str) -> String {
    let mut inside = place.look_inside().await;
    sqlx::query_scalar("SELECT id FROM users WHERE email = $1")
        .bind(email)
        .fetch_one(&mut inside)
        .await
        .expect("a User")
}

pub fn acts(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.act).collect()
}

pub fn detail(entry: &Entry) -> Value {
    serde_json::from_str(&entry.detail).expect("JSON")
}

/// The acts that a form writes down, each time that it is done.
pub fn acts_of(path: &str) -> &'static [&'static str] {
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
