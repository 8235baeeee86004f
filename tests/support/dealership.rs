//! Two dealers with everything that a page can be about, and for every route of a page the request that is right for it.
//!
//! Never: a route without its request: [`Account::request`] panics, and every test that walks the table of routes fails.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;
use sqlx::AssertSqlSafe;
use truckradar::http::{CallerKind, Route, routes};

use super::{
    binary::{PASSWORD, Place, Served},
    client::{Answer, Client},
    factor::{self, Factor},
    fixtures::{OTHER_VINS, VIN, record},
    person::{Form, Person, path_in},
};

/// The two dealers.
pub const OWN: &str = "lone-star";
pub const OTHER: &str = "great-lakes";

/// See the module.
pub struct Dealership {
    pub served: Served,
    pub place: Place,
    keys: BTreeMap<&'static str, String>,
    invitations: BTreeMap<&'static str, String>,
    resets: BTreeMap<&'static str, String>,
    /// A Platform to which access can be given.
    platform: String,
}

/// What a request is about, which decides who may send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Nothing: whoever comes may.
    Nobody,
    /// Looks at a Seller.
    Look,
    /// Looks at what the Seller's owners and admins alone may see.
    Inspect,
    /// Changes a Seller's things.
    Seller,
    /// Changes what is the person's own.
    Oneself,
}

/// A request for a page, or of its form.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    /// Where it goes, with its query.
    pub path: String,
    pub fields: Vec<(&'static str, String)>,
    pub about: About,
}

/// One Seller as one of its members sees it: the ids and words that a form carries.
#[derive(Clone, Debug)]
pub struct Account {
    pub slug: &'static str,
    pub vin: &'static str,
    pub key: String,
    pub seller: String,
    pub email: String,
    version: i64,
    location: String,
    staff: String,
    leaver: String,
    session: String,
    leak: String,
    pub invitation: String,
    pub reset: String,
    platform: String,
}

impl Dealership {
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With more options for the server.
    pub async fn with(options: &[&str]) -> Self {
        let place = Place::new();
        let served = place.serve(options);
        let args = [
            "platform", "create", "--name", "Feedhub", "--slug", "feedhub",
        ];
        let made = place.json(&args, "");
        let platform = made["platform"]["id"].as_str().expect("an id").to_owned();
        let mut dealership = Self {
            platform,
            place,
            served,
            keys: BTreeMap::new(),
            invitations: BTreeMap::new(),
            resets: BTreeMap::new(),
        };
        for slug in [OWN, OTHER] {
            dealership.furnish(slug).await;
        }
        dealership
    }

    async fn furnish(&mut self, slug: &'static str) {
        let (place, at) = (&self.place, self.served.api);
        place.create_seller(slug);
        let key = place.generate(slug);
        let client = Client::new(at, Some(&key));
        let answer = client
            .post("/api/v1/inventory", &record(vin_of(slug)))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let dealer = json!({
            "slug": slug, "name": slug, "phone": phone_of(slug),
            "locations": [{"name": yard_of(slug), "city": "Dallas", "state": "TX"}],
        });
        let answer = client.post("/api/v1/dealers", &dealer).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        for name in ["staff", "leaver", "viewer"] {
            let email = format!("{name}@{slug}.example");
            Person::invited(place, at, slug, &email, "viewer").await;
        }
        let email = format!("invited@{slug}.example");
        let args = [
            "user", "invite", "--seller", slug, "--email", &email, "--role", "viewer",
        ];
        let link = place.json(&args, "")["link"].take();
        let token = token_in(link.as_str().expect("a link"));
        self.invitations.insert(slug, token);
        let email = format!("leaver@{slug}.example");
        let link = place.json(&["user", "reset-password", "--email", &email], "")["link"].take();
        let token = token_in(link.as_str().expect("a link"));
        self.resets.insert(slug, token);
        self.prepare(slug);
        // As if a browser had sent the key, and that had been written.
        place.change(AssertSqlSafe(format!(
            "INSERT INTO leaks (id, seller_id, key_id, finder, place, source, outcome, times, first_us, last_us) \
             SELECT s.id, s.id, k.id, 'browser', 'https://shop.{slug}.example', '', 'seen', 3, 1, 2 FROM sellers s \
             JOIN api_keys k ON k.seller_id = s.id AND k.state = 'live' WHERE s.slug = '{slug}'"
        ))).await;
        self.keys.insert(slug, key);
    }

    /// Somebody who signed in, as `owner` or `viewer` of a Seller. They have no second factor then, and none is demanded.
    pub async fn person(&self, name: &str, slug: &str) -> Person {
        let email = format!("{name}@{slug}.example");
        factor::put(&self.place, &email, Factor::None).await;
        self.place
            .change(
                "UPDATE sellers SET second_factor_required = 0 WHERE second_factor_required = 1",
            )
            .await;
        Person::signed_in(self.served.api, &email, PASSWORD).await
    }

    /// Puts the second factor of somebody who is signed in where a route's request is right for it.
    pub async fn ready_for(&self, path: &str, name: &str, slug: &str) {
        let email = format!("{name}@{slug}.example");
        let wanted = match path {
            "/dashboard/settings/second-factor/confirm" => Factor::Begun,
            "/dashboard/settings/members/second-factor"
            | "/dashboard/settings/second-factor/codes"
            | "/dashboard/settings/second-factor/off" => Factor::On,
            _ => return,
        };
        factor::put(&self.place, &email, wanted).await;
    }

    /// Somebody with a second factor whose password was right and whose code is awaited.
    pub async fn half_way(&self, name: &str, slug: &str) -> Person {
        let email = format!("{name}@{slug}.example");
        factor::put(&self.place, &email, Factor::On).await;
        let mut person = Person::at(self.served.api);
        let answer = person.sign_in(&email, PASSWORD).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        assert_eq!(answer.header("location"), "/login/code?next=%2Fdashboard");
        person
    }

    /// Prepares a next key for a Seller, whatever became of an earlier one.
    pub fn prepare(&self, slug: &str) {
        self.place.json(&["key", "prepare", "--seller", slug], "");
    }

    /// How things stand at present for this member of a Seller.
    pub async fn account(&self, slug: &'static str, name: &str) -> Account {
        let mut inside = self.place.look_inside().await;
        let (seller, version): (String, i64) =
            sqlx::query_as("SELECT id, key_version FROM sellers WHERE slug = $1")
                .bind(slug)
                .fetch_one(&mut inside)
                .await
                .expect("the Seller");
        let location: Option<String> = sqlx::query_scalar(
            "SELECT id FROM seller_locations WHERE seller_id = $1 ORDER BY position",
        )
        .bind(&seller)
        .fetch_optional(&mut inside)
        .await
        .expect("answers");
        let mut users = Vec::new();
        for name in ["staff", "leaver", name] {
            let user: String = sqlx::query_scalar("SELECT id FROM users WHERE email = $1")
                .bind(format!("{name}@{slug}.example"))
                .fetch_one(&mut inside)
                .await
                .expect("a User");
            users.push(user);
        }
        let oneself = users.pop().expect("three");
        let session: Option<String> = sqlx::query_scalar(
            "SELECT id FROM sessions WHERE user_id = $1 ORDER BY created_us LIMIT 1",
        )
        .bind(oneself)
        .fetch_optional(&mut inside)
        .await
        .expect("answers");
        let leak: Option<String> = sqlx::query_scalar("SELECT id FROM leaks WHERE seller_id = $1")
            .bind(&seller)
            .fetch_optional(&mut inside)
            .await
            .expect("answers");
        let leaver = users.pop().expect("two");
        Account {
            slug,
            vin: vin_of(slug),
            key: self.keys[slug].clone(),
            seller,
            email: format!("{name}@{slug}.example"),
            version,
            location: location.unwrap_or_default(),
            staff: users.pop().expect("one"),
            leaver,
            session: session.unwrap_or_default(),
            leak: leak.unwrap_or_default(),
            invitation: self.invitations[slug].clone(),
            reset: self.resets[slug].clone(),
            platform: self.platform.clone(),
        }
    }

    /// What the database holds of a Seller and of its people.
    pub async fn rows_of(&self, account: &Account) -> Vec<String> {
        let mut inside = self.place.look_inside().await;
        let mut ids: Vec<String> =
            sqlx::query_scalar("SELECT user_id FROM memberships WHERE seller_id = $1")
                .bind(&account.seller)
                .fetch_all(&mut inside)
                .await
                .expect("answers");
        ids.push(account.seller.clone());
        self.rows_with(&ids).await
    }

    /// What the database holds of a Seller itself.
    pub async fn rows_of_seller(&self, seller: &str) -> Vec<String> {
        self.rows_with(&[seller.to_owned()]).await
    }

    async fn rows_with(&self, ids: &[String]) -> Vec<String> {
        let mut rows = self.place.everything().await;
        rows.retain(|row| ids.iter().any(|id| row.contains(id)));
        assert!(rows.len() > 5, "{rows:#?}");
        rows
    }
}

impl Account {
    /// The request of a page's route that is right for this member, or for whoever comes.
    pub fn request(&self, route: &Route) -> Asked {
        self.request_to(&route.method, route.path)
    }

    /// The same by the route's method and path.
    pub fn request_to(&self, method: &Method, path: &'static str) -> Asked {
        let (slug, seller) = (self.slug, &self.seller);
        let at_page = format!("{path}?seller={slug}");
        let sellers = |more: &[(&'static str, &str)]| {
            let mut fields = vec![("seller", seller.clone())];
            fields.extend(more.iter().map(|(name, text)| (*name, (*text).to_owned())));
            (path.to_owned(), fields)
        };
        let plain = |fields: &[(&'static str, &str)]| {
            let fields = fields.iter().map(|(n, text)| (*n, (*text).to_owned()));
            (path.to_owned(), fields.collect())
        };
        let version = self.version.to_string();
        let code = factor::code(factor::SECRET);
        let invited = format!("invited@{slug}.example");
        let with_token = |token: &str| (format!("{path}?token={token}"), Vec::new());
        let (about, (path, fields)) = match (method.as_str(), path) {
            (
                "GET",
                "/"
                | "/login"
                | "/login/code"
                | "/forgot-password"
                | "/docs"
                | "/.well-known/security.txt"
                | "/keys/report",
            ) => (About::Nobody, plain(&[])),
            ("GET", "/docs/{page}") => (About::Nobody, ("/docs/errors".into(), Vec::new())),
            ("GET", "/invitation") => (About::Nobody, with_token(&self.invitation)),
            ("GET", "/reset-password") => (About::Nobody, with_token(&self.reset)),
            ("POST", "/login") => (
                About::Nobody,
                plain(&[("email", &self.email), ("password", PASSWORD)]),
            ),
            ("POST", "/login/code") => (About::Nobody, plain(&[("code", &code)])),
            ("POST", "/forgot-password") => (About::Nobody, plain(&[("email", &self.email)])),
            ("POST", "/invitation") => (
                About::Nobody,
                plain(&[("token", &self.invitation), ("password", PASSWORD)]),
            ),
            ("POST", "/reset-password") => (
                About::Nobody,
                plain(&[("token", &self.reset), ("password", PASSWORD)]),
            ),

            (
                "GET",
                "/dashboard"
                | "/dashboard/inventory"
                | "/dashboard/settings"
                | "/dashboard/keys"
                | "/dashboard/account",
            ) => (About::Look, (at_page, Vec::new())),
            ("GET", "/dashboard/settings/api-key/live") => (
                About::Look,
                (format!("{at_page}&version={version}"), Vec::new()),
            ),
            (
                "GET",
                "/dashboard/settings/audit"
                | "/dashboard/settings/audit/csv"
                | "/dashboard/settings/audit/jsonl",
            ) => (About::Inspect, (at_page, Vec::new())),
            ("POST", "/logout") => (About::Oneself, plain(&[])),
            ("POST", "/dashboard/settings/api-key") => (
                About::Seller,
                sellers(&[("version", &version), ("confirmed", "yes")]),
            ),
            ("POST", "/dashboard/settings/api-key/prepare") => {
                (About::Seller, sellers(&[("version", &version)]))
            }
            (
                "POST",
                "/dashboard/settings/api-key/cut-over" | "/dashboard/settings/api-key/discard",
            ) => (About::Seller, sellers(&[("version", &version)])),
            ("POST", "/dashboard/settings/api-key/dismiss-leak") => {
                (About::Seller, sellers(&[("leak", &self.leak)]))
            }
            ("POST", "/dashboard/settings/profile") => (
                About::Seller,
                sellers(&[("name", "Taken over"), ("phone", "+1 555 0199")]),
            ),
            ("POST", "/dashboard/settings/locations") => {
                (About::Seller, sellers(&[("remove", &self.location)]))
            }
            ("POST", "/dashboard/settings/members/invite") => (
                About::Seller,
                sellers(&[("email", "mallory@elsewhere.example"), ("role", "owner")]),
            ),
            ("POST", "/dashboard/settings/members/uninvite") => {
                (About::Seller, sellers(&[("email", &invited)]))
            }
            ("POST", "/dashboard/settings/members/role") => (
                About::Seller,
                sellers(&[("user", &self.staff), ("role", "admin")]),
            ),
            ("POST", "/dashboard/settings/members/remove") => {
                (About::Seller, sellers(&[("user", &self.leaver)]))
            }
            ("POST", "/dashboard/settings/networks") => {
                (About::Seller, sellers(&[("networks", "127.0.0.0/8")]))
            }
            (
                "POST",
                "/dashboard/settings/platforms/grant" | "/dashboard/settings/platforms/withdraw",
            ) => (About::Seller, sellers(&[("platform", &self.platform)])),
            ("POST", "/dashboard/settings/members/second-factor") => {
                (About::Seller, sellers(&[("required", "yes")]))
            }
            ("POST", "/dashboard/settings/second-factor/begin") => (About::Oneself, sellers(&[])),
            (
                "POST",
                "/dashboard/settings/second-factor/codes"
                | "/dashboard/settings/second-factor/confirm",
            ) => (About::Oneself, sellers(&[("code", &code)])),
            ("POST", "/dashboard/settings/second-factor/off") => (
                About::Oneself,
                sellers(&[("old_password", PASSWORD), ("code", &code)]),
            ),
            ("POST", "/dashboard/settings/password") => (
                About::Oneself,
                sellers(&[("old_password", PASSWORD), ("new_password", PASSWORD)]),
            ),
            ("POST", "/dashboard/settings/sessions/end") => {
                (About::Oneself, sellers(&[("session", &self.session)]))
            }
            (method, path) => panic!(
                "{method} {path} has no request: tell tests/support/dealership.rs by which request a person reaches it, and \
                 whose things that is about"
            ),
        };
        Asked {
            method: method.clone(),
            path,
            fields,
            about,
        }
    }

    /// Words by which the Seller is known to its own people only.
    pub fn words(&self) -> Vec<String> {
        vec![
            self.slug.to_owned(),
            self.vin.to_owned(),
            self.key[self.key.len() - 4..].to_owned(),
            yard_of(self.slug),
            phone_of(self.slug),
            format!("staff@{}.example", self.slug),
            self.seller.clone(),
        ]
    }
}

impl Asked {
    /// The request, with a person's cookies.
    pub fn of(&self, person: &Person) -> reqwest::RequestBuilder {
        match self.method {
            Method::POST => person.post(&self.form()),
            _ => person.request(self.method.clone(), &self.path),
        }
    }

    pub async fn by(&self, person: &mut Person) -> Answer {
        let request = self.of(person);
        person.ask(request).await
    }

    pub fn form(&self) -> Form {
        let fields = self.fields.iter();
        Form::made_up(&self.path, fields.map(|(n, text)| (*n, text.as_str())))
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// Every route of a page that is a person's, or whoever's.
pub fn routes_of(caller: CallerKind) -> Vec<Route> {
    let mut routes = routes();
    routes.retain(|route| route.caller == caller);
    assert!(!routes.is_empty());
    routes
}

/// Every route of a page.
pub fn page_routes() -> Vec<Route> {
    let mut routes = routes_of(CallerKind::Visitor);
    routes.extend(routes_of(CallerKind::SignedIn));
    routes
}

/// The token of a link.
pub fn token_in(link: &str) -> String {
    let (_, token) = path_in(link).split_once("?token=").expect("a token");
    token.to_owned()
}

fn vin_of(slug: &str) -> &'static str {
    if slug == OWN { VIN } else { OTHER_VINS[0] }
}

fn yard_of(slug: &str) -> String {
    format!("Yard of {slug}")
}

fn phone_of(slug: &str) -> String {
    let last = if slug == OWN { 1 } else { 2 };
    format!("+1 555 010{last}")
}

/// Where the stylesheet is: its name follows from what is in it.
pub fn style() -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(include_str!("../../static/style.css"));
    let hash: String = digest[..6].iter().map(|b| format!("{b:02x}")).collect();
    format!("/static/style-{hash}.css")
}
