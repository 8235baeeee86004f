//! Somebody makes a link that leads elsewhere after the sign-in, or asks under a name of their own.
//!
//! Never: a hostile name in an answer, wherever it was put into the request.

use reqwest::{Method, Url};

use super::{EVIL, whole};
use crate::support::{
    binary::PASSWORD,
    client::{Answer, raw_request},
    dealership::{Dealership, OWN, page_routes},
    person::{Form, Person},
};

/// Where somebody could be sent who signs in.
const WAYS: [&str; 46] = [
    "https://evil.example",
    "https://evil.example/dashboard",
    "HTTPS://evil.example/dashboard",
    "//evil.example",
    "//evil.example/dashboard",
    "///evil.example/dashboard",
    "/\\evil.example/dashboard",
    "\\\\evil.example",
    "\\/evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/dashboard\\@evil.example",
    "/dashboard@evil.example",
    "/dashboard.evil.example",
    "/dashboardevil",
    "/dashboard:80@evil.example",
    "/dashboard/..//evil.example",
    "/dashboard/../../evil.example",
    "/dashboard/../login",
    "/dashboard/../logout",
    "/dashboard/./../login",
    "/dashboard/..",
    "/dashboard/%2e%2e//evil.example",
    "/dashboard/.%2e/login",
    "/dashboard/%2E%2E/%2Fevil.example",
    "/dashboard/x/../../login",
    "/dashboard/\\..\\..\\evil.example",
    "/dashboard//evil.example",
    "/dashboard\r\nLocation: https://evil.example",
    "/dashboard\r\nSet-Cookie: truckradar_session=x",
    "/dashboard%0d%0aSet-Cookie:%20x=y",
    "/dashboard\u{2028}",
    "/dashboard\0",
    "/dashboard é",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "http:evil.example",
    "http:/evil.example",
    "evil.example",
    "login",
    "?next=//evil.example",
    "#//evil.example",
    "/login?next=//evil.example",
];

fn assert_leads_to_the_dashboard(answer: &Answer, told: &str) {
    assert_eq!(answer.status, 303, "{told}: {}", answer.text);
    let locations = answer.headers.get_all("location").iter().count();
    assert_eq!(locations, 1, "{told}");
    let to = answer.header("location");
    assert!(
        to.is_ascii() && !to.contains(char::is_whitespace),
        "{told}: {to}"
    );
    let base = Url::parse("http://truckradar.example:8080/login").expect("a URL");
    let url = base
        .join(to)
        .unwrap_or_else(|error| panic!("{told}: {to}: {error}"));
    assert_eq!(url.origin(), base.origin(), "{told}: {to}");
    let path = url.path();
    assert!(
        path == "/dashboard" || path.starts_with("/dashboard/"),
        "{told}: {to}"
    );
    assert!(!path.contains("//"), "{told}: {to}");
}

#[tokio::test]
async fn after_the_sign_in_one_is_on_the_dashboard_wherever_the_link_pointed() {
    let dealership = Dealership::new().await;
    let mut signed_in = dealership.person("owner", OWN).await;
    for way in WAYS {
        let told = format!("{way:?}");
        let next: String = form_urlencoded::byte_serialize(way.as_bytes()).collect();
        let path = format!("/login?next={next}");
        // Somebody who is signed in is sent on at once.
        assert_leads_to_the_dashboard(&signed_in.get(&path).await, &told);
        // Somebody who is not, after the form of that page, and after a form with a field of its own.
        let mut person = Person::at(dealership.served.api);
        let form = person.get(&path).await.form("/login");
        let form = form.with("email", "owner@lone-star.example");
        let right = form.clone().with("password", PASSWORD);
        assert_leads_to_the_dashboard(&person.send(&right).await, &told);
        let mut person = Person::at(dealership.served.api);
        let hostile = right.with("next", way);
        assert_leads_to_the_dashboard(&person.send(&hostile).await, &told);
        // A failure does not carry it on.
        let mut person = Person::at(dealership.served.api);
        let failed = person.send(&hostile.with("password", "not this one")).await;
        assert_eq!(failed.status, 422, "{told}");
        let next = failed
            .form("/login")
            .get("next")
            .unwrap_or_default()
            .to_owned();
        assert!(
            next.is_empty() || next.starts_with("/dashboard"),
            "{told}: {next}"
        );
        dealership
            .place
            .change("DELETE FROM sign_in_failures")
            .await;
    }
    // Two of them: the first is what counts, for the page and for the form.
    let mut person = Person::at(dealership.served.api);
    let path = "/login?next=/dashboard/inventory&next=//evil.example";
    let form = person.get(path).await.form("/login");
    let form = form
        .with("email", "owner@lone-star.example")
        .with("password", PASSWORD);
    let answer = person.send(&form).await;
    assert_eq!(answer.header("location"), "/dashboard/inventory");
}

/// Headers by which a name comes to a server behind a proxy, and some by which another path does.
const NAMING: [(&str, &str); 9] = [
    ("host", EVIL),
    ("x-forwarded-host", EVIL),
    ("x-forwarded-server", EVIL),
    ("x-forwarded-proto", "evil.example"),
    ("x-forwarded-port", "6666"),
    ("forwarded", "host=evil.example;proto=https"),
    ("x-host", EVIL),
    ("x-original-url", "http://evil.example/dashboard"),
    ("x-rewrite-url", "http://evil.example/dashboard"),
];

fn assert_says_nothing_of_it(answer: &Answer, told: &str) {
    let said = whole(answer);
    assert!(!said.contains("evil"), "{told}: {said}");
    assert!(!said.contains(":6666"), "{told}: {said}");
}

#[tokio::test]
async fn a_hostile_name_is_in_no_answer() {
    // A proxy is trusted about addresses here, and about nothing else.
    let dealership = Dealership::with(&["--trusted-proxies", "127.0.0.0/8"]).await;
    let at = dealership.served.api;
    for signed_in in [true, false] {
        for route in page_routes() {
            let mut person = match signed_in {
                true => dealership.person("owner", OWN).await,
                false => Person::at(at),
            };
            let account = dealership.account(OWN, "owner").await;
            let mut asked = account.request(&route);
            for (_, text) in &mut asked.fields {
                *text = text.replace("elsewhere.example", "yard.example");
            }
            let mut request = asked.of(&person);
            for (name, value) in NAMING {
                request = request.header(name, value);
            }
            let answer = person.ask(request).await;
            assert_ne!(answer.status, 421);
            assert_says_nothing_of_it(&answer, &format!("{asked}"));
            // What leaves the server is built from what the operator said.
            // What a second factor is made of leads nowhere.
            let is_factor = asked.path.contains("/second-factor/");
            if answer.text.contains("class=\"secret\"") && !is_factor {
                assert!(answer.text.contains(&format!("http://{at}/")), "{asked}");
            }
        }
    }
    // What is not there, what cannot be done, and a target that is a whole address.
    let mut somebody = Person::at(at);
    for (method, path) in [(Method::GET, "/nothing"), (Method::DELETE, "/login")] {
        let mut request = somebody.request(method, path);
        for (name, value) in NAMING {
            request = request.header(name, value);
        }
        let answer = somebody.ask(request).await;
        assert_says_nothing_of_it(&answer, path);
    }
    for path in ["/", "/login", "/dashboard/settings?seller=x", "/nothing"] {
        let target = format!("http://{EVIL}{path}");
        let (status, said) = raw_request(at, "GET", &target, "Accept: text/html\r\n");
        assert!([200, 303, 404].contains(&status), "{said}");
        assert!(!said.to_lowercase().contains(EVIL), "{said}");
    }
    // Nor in what a command prints.
    let args = [
        "user",
        "invite",
        "--seller",
        OWN,
        "--email",
        "x@yard.example",
        "--role",
        "viewer",
    ];
    let link = dealership.place.json(&args, "")["link"].take();
    let link = link.as_str().expect("a link");
    let base = dealership.place.base_of_links(at);
    assert!(
        link.starts_with(&format!("{base}/invitation?token=")),
        "{link}"
    );
}

#[tokio::test]
async fn with_a_public_address_a_hostile_name_gets_nothing_and_does_nothing() {
    let dealership = Dealership::with(&["--public-url", "https://truckradar.example"]).await;
    let mut owner = dealership.person("owner", OWN).await;
    let account = dealership.account(OWN, "owner").await;
    let before = dealership.place.everything().await;
    for route in page_routes() {
        let asked = account.request(&route);
        for host in [
            EVIL,
            "truckradar.example.evil.example",
            "evil.example:443",
            "",
        ] {
            let request = asked.of(&owner).header("host", host);
            let answer = owner.ask(request).await;
            assert_eq!(answer.status, 421, "{asked} at {host}: {}", answer.text);
            assert_says_nothing_of_it(&answer, &format!("{asked} at {host}"));
            assert_eq!(answer.header("set-cookie"), "");
        }
        // A proxy's word on the name is nobody's word.
        let request = asked.of(&owner).header("host", EVIL);
        let request = request.header("x-forwarded-host", "truckradar.example");
        assert_eq!(owner.ask(request).await.status, 421, "{asked}");
    }
    let told = "a hostile name";
    dealership.place.assert_unchanged(&before, told).await;
    // Under its own name, links and lines name that, whichever of the names was asked for.
    let page = owner.get("/dashboard/settings").await;
    let invite = page
        .form("/dashboard/settings/members/invite")
        .with("email", "bob@yard.example");
    let request = owner.post(&invite).header("x-forwarded-host", EVIL);
    let invited = owner.ask(request).await;
    assert!(
        invited
            .text
            .contains(">https://truckradar.example/invitation?token="),
        "{}",
        invited.text
    );
    let made = owner.generate(OWN).await;
    assert!(
        made.text
            .contains("curl -i https://truckradar.example/api/v1/"),
        "{}",
        made.text
    );
}

#[tokio::test]
async fn the_way_back_to_a_page_is_a_path_of_ours() {
    let dealership = Dealership::new().await;
    let at = dealership.served.api;
    for target in [
        "/dashboard?next=//evil.example",
        "http://evil.example/dashboard?x=y",
        "/dashboard?\\\\evil.example",
        "/dashboard?x=%0d%0aLocation:%20//evil.example",
    ] {
        let (status, said) = raw_request(at, "GET", target, "");
        assert_eq!(status, 303, "{said}");
        let location = said
            .lines()
            .find_map(|line| line.strip_prefix("location: "));
        let location = location.expect("a way");
        let next = location.strip_prefix("/login?next=").expect("to sign in");
        assert!(next.starts_with("%2Fdashboard%3F"), "{location}");
        let mut person = Person::at(at);
        let page = person.get(location).await;
        let form: Form = page.form("/login").with("email", "owner@lone-star.example");
        let answer = person.send(&form.with("password", PASSWORD)).await;
        assert_leads_to_the_dashboard(&answer, target);
    }
}
