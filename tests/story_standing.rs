//! What the pages say of an account whose key is not let in: bound to networks, suspended, closed.
//!
//! Never: a page that calls a key used, live or replaceable, whose every call is refused.

use reqwest::Method;

use crate::support::{
    binary::{Place, Served},
    client::Client,
    person::Person,
};

const SELLER: &str = "lone-star";
const OVERVIEW: &str = "/dashboard?seller=lone-star";
const SETTINGS: &str = "/dashboard/settings?seller=lone-star";
const NETWORKS: &str = "/dashboard/settings/networks";
/// Where whoever stole the key is.
const THIEF: &str = "198.51.100.66";
/// Where the dealer's own program is.
const OWN: &str = "203.0.113.7";

/// One dealer with a key, behind a proxy that says where its clients are.
fn world() -> (Place, Served, String) {
    let place = Place::new();
    let served = place.serve(&["--trusted-proxies", "127.0.0.0/8"]);
    place.create_seller(SELLER);
    let key = place.generate(SELLER);
    (place, served, key)
}

/// One call from an address; its status.
async fn call(served: &Served, key: &str, from: &str) -> u16 {
    let client = Client::new(served.api, Some(key));
    let request = client.request(Method::GET, "/api/v1/key");
    let answer = client.send(request.header("x-forwarded-for", from)).await;
    answer.status.as_u16()
}

fn only_from(place: &Place, networks: &str) {
    place.json(
        &["key", "networks", "--seller", SELLER, "--from", networks],
        "",
    );
}

/// The row of the page of all keys.
async fn row(person: &mut Person) -> String {
    let page = person.get("/dashboard/keys").await.words();
    let (_, row) = page.rsplit_once("What you can do").expect("a table");
    row.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_tries_the_key_from_elsewhere_has_not_used_it_and_is_not_recommended() {
    let (place, served, key) = world();
    let mut owner = Person::owner_of(served.api, SELLER).await;
    only_from(&place, "203.0.113.0/24");
    for _ in 0..3 {
        assert_eq!(call(&served, &key, THIEF).await, 403);
    }
    let page = owner.get(OVERVIEW).await.words();
    assert!(page.contains("Waiting for your first call"), "{page}");
    assert!(page.contains("Not used yet."), "{page}");
    let told = row(&mut owner).await;
    assert!(told.contains("No call yet"), "{told}");
    assert!(told.contains(" – 0 0 – Open"), "last used, let in: {told}");
    let page = owner.get(SETTINGS).await;
    assert!(!page.text.contains(THIEF), "{}", page.text);
    let form = page.form(NETWORKS);
    let closer = form.clone().with("networks", OWN);
    // Nobody is shut out, so nothing is asked.
    owner.send(&closer).await.led_to();
    let shown = place.json(&["key", "show", "--seller", SELLER], "");
    let client = &shown["clients_24h"][0];
    assert_eq!(client["address"], THIEF);
    assert_eq!(
        [&client["accepted"], &client["barred"]],
        [0, 3],
        "the operator sees who tried"
    );

    // The dealer's own program is let in, and still is the one that counts.
    assert_eq!(call(&served, &key, OWN).await, 200);
    assert_eq!(call(&served, &key, THIEF).await, 403);
    let told = row(&mut owner).await;
    assert!(told.contains(" 1 0 – Open"), "{told}");
    let page = owner.get(SETTINGS).await;
    let seen = format!("Your key was used from {OWN} in the last 24 hours");
    assert!(page.words().contains(&seen), "{}", page.words());
    assert!(!page.text.contains(THIEF), "{}", page.text);

    // Nor is anybody who used a key that is dead, though it let them in.
    place.json(&["key", "networks", "--seller", SELLER, "--anywhere"], "");
    assert_eq!(call(&served, &key, THIEF).await, 200);
    let next = place.generate(SELLER);
    assert_eq!(call(&served, &next, OWN).await, 200);
    let page = owner.get(SETTINGS).await;
    assert!(page.words().contains(&seen), "{}", page.words());
    let asked = page.form(NETWORKS).with("networks", OWN);
    // Nobody is shut out, so nothing is asked.
    owner.send(&asked).await.led_to();
}
