//! Somebody who works for many dealers: one page of all their keys, the way from one dealer to another, and no act that lands
//! on the wrong one.
//!
//! Never: a dealer looked for by the order in which they happen to be listed.

use std::fs;

use reqwest::Method;
use sqlx::AssertSqlSafe;

use crate::support::{
    binary::{PASSWORD, Place, Served, assert_same_rows},
    browser::{Browser, Gallery, Options},
    client::{Answer, Client},
    person::{Form, Person},
};

const VENDOR: &str = "vendor@dms.example";
const PREPARE: &str = "/dashboard/settings/api-key/prepare";
const CUT_OVER: &str = "/dashboard/settings/api-key/cut-over";

/// A vendor who is a member of so many dealers, each with a live key.
struct World {
    served: Served,
    place: Place,
    keys: Vec<String>,
}

impl World {
    fn with(dealers: usize) -> Self {
        let place = Place::new();
        let file = place.path().join("keys.txt").display().to_string();
        let number = dealers.to_string();
        let fill = [
            "demo",
            "--sellers",
            &number,
            "--listings",
            "0",
            "--keys-out",
            &file,
        ];
        place.json(&fill, "");
        let keys = fs::read_to_string(&file).expect("is there");
        let keys: Vec<String> = keys.lines().map(str::to_owned).collect();
        assert_eq!(keys.len(), dealers);
        let served = place.serve(&[]);
        Self {
            served,
            place,
            keys,
        }
    }

    /// The vendor, signed in, as an admin of all dealers.
    async fn vendor(&self) -> Person {
        let first = slug(0);
        let person = Person::invited(&self.place, self.served.api, &first, VENDOR, "admin").await;
        self.place
            .change(AssertSqlSafe(format!(
                "INSERT INTO memberships (user_id, seller_id, role, created_us) SELECT u.id, s.id, 'admin', 1 \
                 FROM users u CROSS JOIN sellers s WHERE u.email = '{VENDOR}' AND s.slug <> '{first}'"
            )))
            .await;
        person
    }

    /// One call of a dealer's program; its status.
    async fn call(&self, program: &str, key: &str) -> u16 {
        let client = Client::new(self.served.api, Some(key));
        let request = client
            .request(Method::GET, "/api/v1/key")
            .header("user-agent", program);
        client.send(request).await.status.as_u16()
    }

    async fn seller_id(&self, slug: &str) -> String {
        let mut inside = self.place.look_inside().await;
        sqlx::query_scalar("SELECT id FROM sellers WHERE slug = $1")
            .bind(slug)
            .fetch_one(&mut inside)
            .await
            .expect("the Seller")
    }

    /// What the database holds of a dealer.
    async fn rows_of(&self, slug: &str) -> Vec<String> {
        let id = self.seller_id(slug).await;
        let mut rows = self.place.everything().await;
        rows.retain(|row| row.contains(&id));
        assert!(rows.len() > 1, "{rows:#?}");
        rows
    }
}

fn slug(n: usize) -> String {
    format!("load-{n:07}")
}

/// The rows of the page of all keys: each dealer's short name, and what is said of it.
fn rows(page: &Answer) -> Vec<(String, String)> {
    assert_eq!(page.status, 200, "{}", page.text);
    let rows = page.text.split("<tr>").skip(2);
    rows.map(|row| {
        let row = row.split("</tr>").next().unwrap_or_default();
        let (_, slug) = row.split_once("?seller=").expect("leads to a dealer");
        let slug = slug.split('"').next().unwrap_or_default();
        (slug.to_owned(), crate::support::person::words_of(row))
    })
    .collect()
}

fn slugs(page: &Answer) -> Vec<String> {
    rows(page).into_iter().map(|(slug, _)| slug).collect()
}

fn row_of(page: &Answer, slug: &str) -> String {
    let found = rows(page).into_iter().find(|(own, _)| own == slug);
    let (_, words) = found.unwrap_or_else(|| panic!("{slug} is not on\n{}", page.text));
    words
}

/// The form to prepare a dealer's next key, by the dealer's id.
fn prepare_of(page: &Answer, seller: &str) -> Option<Form> {
    let forms = page.forms().into_iter();
    let mut forms = forms.filter(|form| form.action == PREPARE);
    forms.find(|form| form.get("seller") == Some(seller))
}

const LIVE: &str = "Live ";

#[tokio::test]
async fn the_way_back_to_the_page_leads_nowhere_else_whatever_the_form_says() {
    let world = World::with(2);
    let mut vendor = world.vendor().await;
    let page = vendor.get("/dashboard/keys").await;
    let id = world.seller_id(&slug(0)).await;
    let form = prepare_of(&page, &id).expect("can be prepared");
    let hostile = "seller=//evil.example&sort=//evil.example&page=//evil.example&x=//evil.example";
    let shown = vendor.send(&form.with("asked", hostile)).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    assert!(!shown.text.contains("evil.example"), "{}", shown.text);
    let back = format!(
        "href=\"/dashboard/keys?seller={}\">I have stored it, back to all keys",
        slug(0)
    );
    assert!(shown.text.contains(&back), "{}", shown.text);
}

/// Forty dealers; of three, somebody forgot a program when the key was replaced.
#[tokio::test]
async fn a_vendor_with_40_dealers_finds_the_three_that_were_forgotten_and_changes_them_over() {
    let world = World::with(40);
    let mut vendor = world.vendor().await;
    // In the order of their names, which end in the number.
    let forgotten = [19, 33, 7];
    for n in 0..40 {
        assert_eq!(world.call("dms-sync/4", &world.keys[n]).await, 200);
    }
    let mut present = Vec::new();
    for n in forgotten {
        present.push(world.place.generate(&slug(n)));
        assert_eq!(world.call("dms-sync/4", &world.keys[n]).await, 401);
        assert_eq!(world.call("dms-sync/4", &world.keys[n]).await, 401);
    }

    let page = vendor.get("/dashboard/keys").await;
    let words = page.words();
    assert!(
        words.contains("The keys of the 40 dealer accounts"),
        "{words}"
    );
    for tab in ["All 40", "Needs attention 3", "Next key prepared 0"] {
        assert!(words.contains(tab), "{tab}: {words}");
    }
    let all = slugs(&page);
    assert_eq!(all.len(), 40);
    assert_eq!(all[..3], forgotten.map(slug), "what needs attention first");
    let told = row_of(&page, &slug(7));
    assert!(told.contains(" 1 client Open"), "{told}");
    assert!(told.contains(" 1 2 1 client"), "let in, 401s: {told}");
    let calm = row_of(&page, &slug(8));
    assert!(
        calm.contains(LIVE) && calm.contains(" 1 0 – Open"),
        "{calm}"
    );
    let attention = vendor.get("/dashboard/keys?show=attention").await;
    assert_eq!(slugs(&attention), forgotten.map(slug));

    // Prepare, one after the other, from the page; each time back to it, as it was asked for.
    let mut next = Vec::new();
    for n in forgotten {
        let page = vendor
            .get("/dashboard/keys?show=attention&sort=name&order=reversed")
            .await;
        let id = world.seller_id(&slug(n)).await;
        let form = prepare_of(&page, &id).expect("can be prepared");
        assert!(form.button.contains("Prepare next key"), "{}", form.button);
        assert!(form.button.contains(&format!("Load Test Trucks {n}")));
        let shown = vendor.send(&form).await;
        assert_eq!(shown.status, 200, "{}", shown.text);
        let heading = format!("Your next key for Load Test Trucks {n}");
        assert!(shown.words().contains(&heading), "{}", shown.words());
        let back = format!("/dashboard/keys?seller={}", slug(n));
        let asked = "&#38;show=attention&#38;sort=name&#38;order=reversed";
        let way_back = format!("href=\"{back}{asked}\"");
        assert!(shown.text.contains(&way_back), "{}", shown.text);
        next.push(shown.shown_key().expect("a key"));
        // The same form again prepares nothing: the key's version is another.
        assert_eq!(vendor.send(&form).await.status, 409);
    }
    let prepared = vendor.get("/dashboard/keys?show=prepared").await;
    assert_eq!(slugs(&prepared), forgotten.map(slug));
    for (n, key) in forgotten.iter().zip(&next) {
        let told = row_of(&prepared, &slug(*n));
        let hint = format!("Next key ••••{} prepared", &key[42..]);
        assert!(told.contains(&hint), "{told}");
        assert!(!told.contains("Prepare next key"), "one waits: {told}");
    }

    // The forgotten programs get both keys; then the cut-over, from each dealer's own page, and back.
    for (at, n) in forgotten.into_iter().enumerate() {
        let settings = format!("/dashboard/settings?seller={}", slug(n));
        let page = vendor.get(&settings).await;
        let back = format!("href=\"/dashboard/keys?seller={}\"", slug(n));
        assert!(page.text.contains(&back), "{}", page.text);
        let done = vendor.send(&page.form(CUT_OVER)).await;
        assert_eq!(done.status, 303, "{}", done.text);
        assert!(done.header("location").contains(&slug(n)));
        assert_eq!(world.call("dms-sync/4", &present[at]).await, 401);
        assert_eq!(world.call("dms-sync/4", &next[at]).await, 200);
    }
    let page = vendor
        .get(&format!("/dashboard/keys?seller={}", slug(33)))
        .await;
    assert!(
        page.words().contains("Needs attention 0"),
        "{}",
        page.words()
    );
    let told = row_of(&page, &slug(7));
    assert!(told.contains(&format!("••••{}", &next[2][42..])), "{told}");
    assert!(told.contains(" – Open"), "nobody is left: {told}");
    // The others go on with the keys that they have had all along.
    for n in (0..40).filter(|n| !forgotten.contains(n)) {
        assert_eq!(world.call("dms-sync/4", &world.keys[n]).await, 200, "{n}");
    }
}

#[tokio::test]
async fn the_page_is_sorted_searched_and_filtered_by_its_address() {
    let world = World::with(5);
    let mut vendor = world.vendor().await;
    for (n, calls) in [(1, 3), (3, 1)] {
        for _ in 0..calls {
            assert_eq!(world.call("dms/1", &world.keys[n]).await, 200);
        }
    }
    for n in [2, 4] {
        world.place.generate(&slug(n));
    }
    for program in ["one/1", "two/2"] {
        assert_eq!(world.call(program, &world.keys[4]).await, 401);
    }
    for _ in 0..5 {
        assert_eq!(world.call("one/1", &world.keys[2]).await, 401);
    }
    let args = ["key", "expire", "--seller", &slug(0), "--reason", "leaked"];
    world.place.json(&args, "");
    let mut order = async |query: &str| {
        let page = vendor.get(&format!("/dashboard/keys{query}")).await;
        let slugs = slugs(&page).into_iter();
        slugs
            .map(|slug| slug[5..].parse().expect("a number"))
            .collect::<Vec<usize>>()
    };
    for (query, expected) in [
        // Expired; then by clients on a dead key; then live ones without a call yet and with.
        ("", vec![0, 4, 2, 1, 3]),
        ("?order=reversed", vec![3, 1, 2, 4, 0]),
        ("?sort=name", vec![0, 1, 2, 3, 4]),
        ("?sort=name&order=reversed", vec![4, 3, 2, 1, 0]),
        ("?sort=accepted", vec![1, 3, 0, 2, 4]),
        ("?sort=refused", vec![2, 4, 0, 1, 3]),
        ("?sort=dead", vec![4, 2, 0, 1, 3]),
        ("?sort=since", vec![1, 3, 2, 4, 0]),
        // Keys that were never used are the first to be asked about.
        ("?sort=used", vec![2, 4, 1, 3, 0]),
        // Those without a time come last, whichever way round.
        ("?sort=since&order=reversed", vec![4, 2, 3, 1, 0]),
        ("?sort=used&order=reversed", vec![3, 1, 4, 2, 0]),
        // What there is not is as if it had not been asked for.
        (
            "?sort=nonsense&order=up&show=me&page=x",
            vec![0, 4, 2, 1, 3],
        ),
        ("?page=0", vec![0, 4, 2, 1, 3]),
        ("?show=attention", vec![0, 4, 2]),
        ("?q=trucks%203", vec![3]),
        ("?q=LOAD-0000002", vec![2]),
        ("?q=%20Load%20Test%20&sort=name", vec![0, 1, 2, 3, 4]),
        ("?q=trucks%203&show=attention", vec![]),
        ("?q=%25", vec![]),
        ("?page=2", vec![]),
        ("?page=99999999999999999999", vec![0, 4, 2, 1, 3]),
        ("?page=18446744073709551615", vec![]),
    ] {
        assert_eq!(order(query).await, expected, "{query}");
    }
    let page = vendor.get("/dashboard/keys?q=%3Cb%3E&sort=name").await;
    assert!(page.words().contains("None of your dealers has “<b>”"));
    assert!(!page.text.contains("<b>"), "{}", page.text);
    // Whoever chooses from the list what comes first gets it first.
    let page = vendor
        .get("/dashboard/keys?sort=since&order=reversed")
        .await;
    let choose = page.form("/dashboard/keys");
    assert_eq!(choose.get("order"), None, "{choose:?}");
    // The heads lead to themselves the other way round, and keep what else is asked for.
    let page = vendor
        .get("/dashboard/keys?q=Load&sort=accepted&seller=load-0000001")
        .await;
    assert_eq!(page.status, 200);
    for (link, sorted) in [
        (
            "seller=load-0000001&amp;q=Load&amp;sort=accepted&amp;order=reversed",
            " aria-sort=\"descending\"",
        ),
        ("seller=load-0000001&amp;q=Load&amp;sort=name", ""),
    ] {
        let same = link.replace("&amp;", "&#38;");
        let head = format!("{sorted}><a href=\"/dashboard/keys?");
        let found = [link, &same]
            .iter()
            .any(|link| page.text.contains(&format!("{head}{link}\"")));
        assert!(found, "{link}: {}", page.text);
    }
}

/// A way back that names no dealer must not end at the one whose name comes first.
#[tokio::test]
async fn whoever_names_no_dealer_is_asked_which_and_is_not_led_to_the_first() {
    let world = World::with(3);
    let mut vendor = world.vendor().await;
    for path in [
        "/dashboard",
        "/dashboard/settings",
        "/dashboard/inventory",
        "/dashboard/settings/audit",
    ] {
        let answer = vendor.get(path).await;
        assert_eq!(answer.status, 303, "{path}: {}", answer.text);
        assert_eq!(answer.header("location"), "/dashboard/keys", "{path}");
    }
    // The session ends, a button of the third dealer's is pressed, and they sign in again.
    let page = vendor
        .get(&format!("/dashboard/settings?seller={}", slug(2)))
        .await;
    let save = page.form("/dashboard/settings/profile");
    assert_eq!(save.button, "Save profile of Load Test Trucks 2");
    let add = page.form("/dashboard/settings/locations");
    assert_eq!(add.button, "Add location to Load Test Trucks 2");
    world.place.change("DELETE FROM sessions").await;
    let late = vendor.send(&save).await;
    assert_eq!(
        late.header("location"),
        "/login?next=%2Fdashboard%2Fsettings"
    );
    let page = vendor.get(late.header("location")).await;
    let form = page.form("/login").with("email", VENDOR);
    let form = form.with("password", PASSWORD);
    let back = vendor.send(&form).await;
    let led = vendor.get(back.header("location")).await;
    assert_eq!(led.header("location"), "/dashboard/keys");

    // What cannot be done leads back to the dealer that it was about.
    world
        .place
        .change("UPDATE memberships SET role = 'viewer'")
        .await;
    let refused = vendor.send(&save).await;
    assert_eq!(refused.status, 403);
    let way = format!("href=\"/dashboard/settings?seller={}\"", slug(2));
    assert!(refused.text.contains(&way), "{}", refused.text);
    world
        .place
        .change("UPDATE memberships SET role = 'owner'")
        .await;
    let args = ["seller", "suspend", "--seller", &slug(2), "--reason", "x"];
    world.place.json(&args, "");
    let refused = vendor.send(&save).await;
    assert_eq!(refused.status, 403);
    assert!(refused.words().contains("suspended or closed"));
    assert!(refused.text.contains(&way), "{}", refused.text);
}

#[tokio::test]
async fn a_thousand_dealers_are_five_pages() {
    let world = World::with(1_000);
    let mut vendor = world.vendor().await;
    let mut seen = Vec::new();
    for page in 1..=5 {
        let path = format!("/dashboard/keys?sort=name&page={page}");
        let page_of = vendor.get(&path).await;
        let found = slugs(&page_of);
        assert_eq!(found.len(), 200, "page {page}");
        seen.extend(found);
        let next = page_of.text.contains(">Next page<");
        assert_eq!(next, page < 5, "page {page}");
        assert_eq!(page_of.text.contains(">Previous page<"), page > 1);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 1_000, "each is on one page");
    // The switcher does not list them on every page: it finds one.
    let page = vendor.get("/dashboard?seller=load-0000500").await;
    assert!(page.text.len() < 20_000, "{}", page.text.len());
    let find = page.form("/dashboard/keys");
    assert_eq!(find.get("seller"), Some("load-0000500"));
    let path = "/dashboard/keys?seller=load-0000500&q=trucks+777";
    let found = vendor.get(path).await;
    assert_eq!(slugs(&found), ["load-0000777"]);
    let told = vendor.get("/dashboard/keys?q=trucks+777&page=2").await;
    assert_eq!(slugs(&told), [""; 0]);
}

#[tokio::test]
async fn two_tabs_on_two_dealers_each_act_on_their_own() {
    let world = World::with(3);
    let mut vendor = world.vendor().await;
    let [one, two] = [1, 2].map(slug);
    let ids = [world.seller_id(&one).await, world.seller_id(&two).await];
    let settings = |slug: &str| format!("/dashboard/settings?seller={slug}");
    let first = vendor.get(&settings(&one)).await;
    let second = vendor.get(&settings(&two)).await;
    for (page, id) in [(&first, &ids[0]), (&second, &ids[1])] {
        for form in page.forms() {
            if form.action.starts_with("/dashboard/settings/") && form.get("seller").is_some() {
                assert_eq!(form.get("seller"), Some(id.as_str()), "{form:?}");
            }
        }
    }
    // The other tab goes on to a third dealer, and to the list of all: that is going, and changes nothing.
    let before = world.place.everything().await;
    for path in [
        "/dashboard?seller=load-0000000",
        "/dashboard/keys?seller=load-0000002&q=Load",
        "/dashboard/inventory?seller=load-0000000",
    ] {
        assert_eq!(vendor.get(path).await.status, 200);
    }
    world.place.assert_unchanged(&before, "going").await;
    for page in [&first, &second] {
        let (_, menu) = page.text.split_once("class=\"menu\"").expect("a switcher");
        let (menu, _) = menu.split_once("</details>").expect("an end");
        assert!(!menu.contains("post"), "the switcher only leads: {menu}");
    }
    // The first tab's form acts on the first dealer, though another was looked at last.
    let others = world.rows_of(&two).await;
    let shown = vendor.send(&first.form(PREPARE)).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    let heading = "Your next key for Load Test Trucks 1";
    assert!(shown.words().contains(heading), "{}", shown.words());
    assert_same_rows(&others, &world.rows_of(&two).await, "the first tab");
    let own = world.rows_of(&one).await;
    let shown = vendor.send(&second.form(PREPARE)).await;
    let heading = "Your next key for Load Test Trucks 2";
    assert!(shown.words().contains(heading), "{}", shown.words());
    assert_same_rows(&own, &world.rows_of(&one).await, "the second tab");

    // Left meanwhile: the forms that still stand open are refused, and change nothing; the other tab's go on working.
    let first = vendor.get(&settings(&one)).await;
    let keys = vendor.get("/dashboard/keys").await;
    let args = ["user", "remove", "--seller", &one, "--email", VENDOR];
    world.place.json(&args, "");
    let before = world.place.everything().await;
    for form in first.forms() {
        if form.get("seller").is_none() || form.action == "/dashboard/keys" {
            continue;
        }
        let answer = vendor.send(&form).await;
        assert_eq!(answer.status, 403, "{}: {}", form.action, answer.text);
        assert!(answer.words().contains("Not one of your dealers"));
        world.place.assert_unchanged(&before, &form.action).await;
    }
    assert!(prepare_of(&keys, &ids[0]).is_none(), "one waited there");
    let keys = vendor.get("/dashboard/keys?sort=name").await;
    assert_eq!(slugs(&keys), [slug(0), slug(2)]);
    assert_eq!(vendor.get(&settings(&one)).await.status, 403);
    let stale = format!("/dashboard/keys?seller={one}");
    assert_eq!(vendor.get(&stale).await.status, 403);
    let second = vendor.get(&settings(&two)).await;
    let discarded = vendor
        .send(&second.form("/dashboard/settings/api-key/discard"))
        .await;
    assert_eq!(discarded.status, 303, "{}", discarded.text);
}

#[tokio::test]
async fn a_form_of_the_page_whose_dealer_was_left_is_refused() {
    let world = World::with(2);
    let mut vendor = world.vendor().await;
    let keys = vendor.get("/dashboard/keys").await;
    let id = world.seller_id(&slug(1)).await;
    let form = prepare_of(&keys, &id).expect("can be prepared");
    let viewer = ["user", "role", "--seller", &slug(1), "--email", VENDOR];
    let viewer = [&viewer[..], &["--role", "viewer"]].concat();
    world.place.json(&viewer, "");
    let before = world.place.everything().await;
    let refused = vendor.send(&form).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert!(refused.words().contains("Your role does not allow this"));
    // A viewer sees how the key stands, and is offered nothing to press.
    let keys = vendor.get("/dashboard/keys").await;
    assert!(prepare_of(&keys, &id).is_none(), "{}", keys.text);
    let own = row_of(&keys, &slug(1));
    assert!(own.contains("you are viewer"), "{own}");
    assert!(
        own.contains(&format!("••••{}", &world.keys[1][42..])),
        "{own}"
    );
    let args = ["user", "remove", "--seller", &slug(1), "--email", VENDOR];
    world.place.assert_unchanged(&before, "a viewer").await;
    world.place.json(&args, "");
    let before = world.place.everything().await;
    let refused = vendor.send(&form).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert!(refused.words().contains("Not one of your dealers"));
    world.place.assert_unchanged(&before, "the form").await;
}

#[tokio::test]
async fn the_page_shows_nothing_of_other_dealers_and_explains_itself() {
    let world = World::with(3);
    let mut vendor = world.vendor().await;
    for n in 1..3 {
        let args = ["user", "remove", "--seller", &slug(n), "--email", VENDOR];
        world.place.json(&args, "");
    }
    // What is counted for others is not told either.
    assert_eq!(world.call("theirs/1", &world.keys[2]).await, 200);
    let page = vendor.get("/dashboard/keys").await;
    assert_eq!(slugs(&page), [slug(0)]);
    assert!(
        page.words()
            .contains("You are a member of one dealer account")
    );
    for n in 1..3 {
        let hint = &world.keys[n][42..];
        for word in [&slug(n), &format!("Trucks {n}"), &format!("••••{hint}")] {
            assert!(!page.text.contains(word.as_str()), "{word}: {}", page.text);
        }
        let searched = vendor.get(&format!("/dashboard/keys?q={}", slug(n))).await;
        assert_eq!(slugs(&searched), [""; 0]);
        let named = vendor
            .get(&format!("/dashboard/keys?seller={}", slug(n)))
            .await;
        assert_eq!(named.status, 403);
    }
    let args = ["user", "remove", "--seller", &slug(0), "--email", VENDOR];
    world.place.json(&args, "");
    let page = vendor.get("/dashboard/keys").await;
    assert_eq!(page.status, 200);
    assert!(
        page.words().contains("No dealer account yet"),
        "{}",
        page.words()
    );
    assert!(!page.text.contains("<table"), "{}", page.text);
}

#[tokio::test]
async fn the_states_of_keys_are_told_apart() {
    let world = World::with(7);
    let mut vendor = world.vendor().await;
    let id = world.seller_id(&slug(5)).await;
    let change = async |sql: String| world.place.change(AssertSqlSafe(sql)).await;
    // As after a crash: made, and seen by nobody.
    let of = |n: usize| format!("(SELECT id FROM sellers WHERE slug = '{}')", slug(n));
    change(format!(
        "UPDATE api_keys SET shown_us = NULL WHERE seller_id = {}",
        of(0)
    ))
    .await;
    let args = ["key", "expire", "--seller", &slug(1), "--reason", "leaked"];
    world.place.json(&args, "");
    for n in [2, 3] {
        world
            .place
            .json(&["key", "prepare", "--seller", &slug(n)], "");
    }
    change(format!(
        "UPDATE staged_keys SET shown_us = NULL WHERE seller_id = {}",
        of(2)
    ))
    .await;
    change(format!("DELETE FROM api_keys WHERE seller_id = '{id}'")).await;
    // Older than use is remembered, and nobody is known to have used it.
    change(format!(
        "UPDATE api_keys SET created_us = created_us - 17280000000000, live_us = live_us - 17280000000000 WHERE seller_id = {}",
        of(6)
    ))
    .await;
    let page = vendor.get("/dashboard/keys").await;
    for (n, words) in [
        (0, ["Never shown", "Replaced, but never shown"]),
        (1, ["Expired", "Expired by the marketplace"]),
        (2, [", never shown", "but never shown to anybody"]),
        (3, ["Next key", "The next key is prepared"]),
        (4, ["No call yet", "Live, waiting for your first call"]),
        (5, ["No key yet", "No key yet"]),
        (6, ["Not in use", "Live, but not in use"]),
    ] {
        let told = row_of(&page, &slug(n));
        assert!(told.contains(words[0]), "{n}: {told}");
        let settings = vendor
            .get(&format!("/dashboard/settings?seller={}", slug(n)))
            .await;
        // The Seller's own page says the same of it.
        let own = settings.words();
        assert!(own.contains(words[1]), "{n}: {own}");
        let offers = told.contains("Prepare next key");
        assert_eq!(offers, settings.text.contains(PREPARE), "{n}: {told}");
    }
    assert_eq!(
        slugs(&page),
        [1, 0, 2, 5, 6, 3, 4].map(slug),
        "by how urgent it is"
    );
    let own = vendor
        .get(&format!("/dashboard?seller={}", slug(6)))
        .await
        .words();
    assert!(
        own.contains("Not used as far back as use is remembered, 30 days."),
        "{own}"
    );
    assert!(row_of(&page, &slug(6)).contains("not in 30 days"));
    assert!(row_of(&page, &slug(4)).contains(" never "));
    let attention = vendor.get("/dashboard/keys?show=attention").await;
    assert!(slugs(&attention).contains(&slug(6)));
    let longest = vendor.get("/dashboard/keys?sort=used").await;
    assert_eq!(slugs(&longest)[0], slug(6));
    // What is searched for is there, if not where it is looked for.
    let path = "/dashboard/keys?show=attention&q=trucks+3";
    let missed = vendor.get(path).await;
    assert!(missed.words().contains("Not among these"));
    let (before, _) = missed
        .text
        .split_once("\">Look among all your dealers<")
        .expect("a way on");
    let (_, way) = before.rsplit_once("href=\"").expect("a link");
    assert_eq!(way, "/dashboard/keys?q=trucks+3");
    assert_eq!(slugs(&vendor.get(way).await), [slug(3)]);

    // A key that was prepared long ago could not be used before its cut-over, which is now.
    change("UPDATE staged_keys SET created_us = created_us - 17280000000000".to_owned()).await;
    world
        .place
        .json(&["key", "cut-over", "--seller", &slug(3)], "");
    let page = vendor.get("/dashboard/keys").await;
    assert!(row_of(&page, &slug(3)).contains("No call yet"));
}

#[tokio::test]
async fn two_dealers_of_one_name_are_told_apart_on_every_page() {
    let world = World::with(3);
    let mut vendor = world.vendor().await;
    let [one, other, third] = [0, 1, 2].map(slug);
    world
        .place
        .change(AssertSqlSafe(format!(
            "UPDATE sellers SET name = 'Lone Star Trucks' WHERE slug IN ('{one}', '{other}')"
        )))
        .await;
    let settings = vendor
        .get(&format!("/dashboard/settings?seller={one}"))
        .await;
    let own = format!("Lone Star Trucks ({one})");
    let title = format!("<title>Settings · {own} · TruckRadar</title>");
    assert!(settings.text.contains(&title), "{}", settings.text);
    for named in [&own, &format!("Lone Star Trucks ({other})")] {
        assert!(settings.words().contains(named), "{named}");
    }
    let id = world.seller_id(&one).await;
    let all = vendor.get("/dashboard/keys").await;
    let shown = vendor
        .send(&prepare_of(&all, &id).expect("can be prepared"))
        .await;
    assert!(shown.shown_key().is_some());
    let heading = format!("Your next key for {own}");
    assert!(shown.words().contains(&heading), "{}", shown.words());
    // Asked for the password, too; but what is the vendor's own is no dealer's.
    let settings = vendor
        .get(&format!("/dashboard/settings?seller={one}"))
        .await;
    let late = "UPDATE sessions SET confirmed_us = confirmed_us - 901000000";
    world.place.change(late).await;
    let told = format!("For {own} .");
    for (act, is_of_dealer) in [
        ("/dashboard/settings/api-key/discard", true),
        ("/dashboard/settings/second-factor/begin", false),
    ] {
        let asks = vendor.send(&settings.form(act)).await.words();
        assert!(asks.contains("Confirm that it is you"), "{act}: {asks}");
        assert_eq!(asks.contains(&told), is_of_dealer, "{act}: {asks}");
    }
    // A name that is one dealer's only needs nothing beside it.
    let settings = vendor
        .get(&format!("/dashboard/settings?seller={third}"))
        .await;
    let title = "<title>Settings · Load Test Trucks 2 · TruckRadar</title>";
    assert!(settings.text.contains(title), "{}", settings.text);
}

// ---------------------------------------------------------------------------------------------------------------------
// In a browser.

async fn sign_in(browser: &Browser) {
    browser.goto("/login").await;
    browser.fill("email", VENDOR).await;
    browser
        .fill("password", crate::support::binary::PASSWORD)
        .await;
    browser.press("Sign in").await;
    assert_eq!(browser.path().await, "/dashboard/keys", "where one chooses");
}

async fn open_switcher(browser: &Browser) {
    let summary = browser.find("details.dealers summary").await;
    summary.click().await.expect("opens");
}

/// Pixels of the head of the page.
async fn head_height(browser: &Browser) -> f64 {
    let head = browser.find("header.top").await;
    let height = head.css("height").await;
    let pixels = height.strip_suffix("px").expect("pixels");
    pixels.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_the_switcher_are_legible_and_accessible() {
    let world = World::with(40);
    world.vendor().await;
    let long =
        "Great Northern & Western Heavy Haulage Equipment Traders of Minnesota, Incorporated";
    let rename = format!(
        "UPDATE sellers SET name = '{long}' WHERE slug = '{}'",
        slug(12)
    );
    world.place.change(AssertSqlSafe(rename)).await;
    for n in 0..12 {
        for _ in 0..n * 3 {
            world.call("dms-sync/4", &world.keys[n]).await;
        }
    }
    for n in [3, 12, 21] {
        world.place.generate(&slug(n));
        world.call("dms-sync/4", &world.keys[n]).await;
        world.call("kiosk/1", &world.keys[n]).await;
    }
    let args = ["key", "expire", "--seller", &slug(30), "--reason", "leaked"];
    world.place.json(&args, "");
    world
        .place
        .json(&["key", "prepare", "--seller", &slug(5)], "");
    let mut browser = Browser::start(Options::at(world.served.api)).await;
    let gallery = Gallery::from_environment();
    sign_in(&browser).await;
    browser.goto("/dashboard/keys").await;
    gallery.assert_looks_well(&mut browser, "keys").await;
    browser.goto("/dashboard/keys?show=prepared").await;
    gallery
        .assert_looks_well(&mut browser, "keys-prepared")
        .await;
    browser.goto("/dashboard/keys?q=nowhere").await;
    gallery.assert_looks_well(&mut browser, "keys-none").await;
    browser.goto("/dashboard/account").await;
    gallery.assert_looks_well(&mut browser, "account").await;
    let dealer = format!("/dashboard?seller={}", slug(12));
    browser.goto(&dealer).await;
    open_switcher(&browser).await;
    gallery.assert_looks_well(&mut browser, "switcher").await;
    // Two rows at 360 px, whatever the dealer's name.
    browser.set_width(360).await;
    for path in [dealer.as_str(), "/dashboard/keys", "/dashboard/account"] {
        browser.goto(path).await;
        let height = head_height(&browser).await;
        assert!(height < 120.0, "{path}: the head is {height} px high");
    }
    browser
        .assert_no_console_errors("the pages of a vendor")
        .await;
}

/// From the page to a next key and back, on a phone and without a script.
#[tokio::test(flavor = "multi_thread")]
async fn a_next_key_is_prepared_from_the_page_without_a_script() {
    let world = World::with(12);
    world.vendor().await;
    let options = Options::at(world.served.api).without_javascript();
    let browser = Browser::start(options.width(360)).await;
    sign_in(&browser).await;
    let dealer = format!("/dashboard?seller={}", slug(0));
    browser.goto(&dealer).await;
    open_switcher(&browser).await;
    browser.fill("q", "trucks 11").await;
    browser.press("Find").await;
    browser
        .press("Prepare next key for Load Test Trucks 11, load-0000011")
        .await;
    let text = browser.text().await;
    assert!(
        text.contains("Your next key for Load Test Trucks 11"),
        "{text}"
    );
    browser.press("I have stored it, back to all keys").await;
    let path = browser.path().await;
    // As it was left, with what was searched for.
    let left = format!("/dashboard/keys?seller={}&q=trucks+11", slug(11));
    assert_eq!(path, left);
    let text = browser.text().await;
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = words.join(" ");
    assert!(words.contains("Next key prepared 1"), "{text}");
}
