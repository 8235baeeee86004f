//! Another site's page posts a form here from the browser of somebody who is signed in.
//!
//! Never: a form that is not tried: the table of routes is walked.

use reqwest::Method;

use super::EVIL;
use crate::support::{
    client::Answer,
    dealership::{About, Asked, Dealership, OWN, page_routes},
    person::{Form, Person},
};

type Headers<'a> = &'a [(&'static str, &'a str)];

async fn send(person: &mut Person, asked: &Asked, headers: Headers<'_>) -> Answer {
    let mut request = asked.of(person);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    person.ask(request).await
}

fn assert_refused(answer: &Answer, told: &str) {
    assert_eq!(answer.status, 403, "{told}: {}", answer.text);
    assert!(
        answer.words().contains("This form came from another site"),
        "{told}: {}",
        answer.words()
    );
    assert_eq!(answer.header("set-cookie"), "", "{told}");
}

fn posts() -> Vec<truckradar::http::Route> {
    let mut routes = page_routes();
    routes.retain(|route| route.method != Method::GET);
    assert!(routes.len() >= 13, "{}", routes.len());
    routes
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing_whatever_it_posts() {
    let dealership = Dealership::new().await;
    let mut victim = dealership.person("owner", OWN).await;
    let account = dealership.account(OWN, "owner").await;
    let at = dealership.served.api;
    let own = format!("http://{at}");
    let longer = format!("{own}.{EVIL}");
    let neighbour = format!("http://{}:{}", at.ip(), at.port() - 1);
    let other_scheme = format!("https://{EVIL}");
    let before = dealership.place.everything().await;
    for route in posts() {
        let asked = account.request(&route);
        let attacks: [Headers; 11] = [
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "Same-Origin")],
            &[("sec-fetch-site", "same-origin, cross-site")],
            &[("sec-fetch-site", "cross-site"), ("origin", &own)],
            &[("sec-fetch-site", "cross-site"), ("origin", "null")],
            &[("origin", "null")],
            &[("origin", &other_scheme)],
            &[("origin", &longer)],
            &[("origin", &neighbour)],
            &[("origin", "http://")],
        ];
        for headers in attacks {
            let told = format!("{asked} with {headers:?}");
            let answer = send(&mut victim, &asked, headers).await;
            assert_refused(&answer, &told);
            dealership.place.assert_unchanged(&before, &told).await;
        }
        // Nor by a form that a browser sends without asking the server first, in another form's clothes.
        let answer = victim
            .ask(
                asked
                    .of(&victim)
                    .header("content-type", "text/plain")
                    .header("sec-fetch-site", "cross-site"),
            )
            .await;
        assert_refused(&answer, "text/plain");
    }
    dealership
        .place
        .assert_unchanged(&before, "text/plain")
        .await;
}

/// Where no mail is sent, whoever forgot their password is told whom to ask.
fn is_done(asked: &Asked, answer: &Answer) -> bool {
    let told = asked.path == "/forgot-password" && answer.status == 200;
    answer.status == 303 || told || answer.text.contains("class=\"secret\"")
}

#[tokio::test]
async fn the_same_form_from_our_own_page_does_what_it_says() {
    let dealership = Dealership::new().await;
    let own = format!("http://{}", dealership.served.api);
    let headers: [Headers; 3] = [
        &[("sec-fetch-site", "same-origin"), ("origin", &own)],
        &[("origin", &own)],
        &[],
    ];
    for (turn, route) in posts().into_iter().enumerate() {
        let mut owner = dealership.person("owner", OWN).await;
        dealership.prepare(OWN);
        dealership.ready_for(route.path, "owner", OWN).await;
        let asked = dealership.account(OWN, "owner").await.request(&route);
        let answer = send(&mut owner, &asked, headers[turn % 3]).await;
        assert!(is_done(&asked, &answer), "{asked}: {}", answer.text);
    }
}

#[tokio::test]
async fn behind_a_proxy_that_changes_the_host_our_public_origins_are_ours_and_no_others() {
    let dealership = Dealership::with(&[
        "--public-url",
        "https://truckradar.example",
        "--public-url",
        "https://trailerradar.example",
    ])
    .await;
    let own = format!("http://{}", dealership.served.api);
    for route in posts() {
        let mut owner = dealership.person("owner", OWN).await;
        dealership.prepare(OWN);
        dealership.ready_for(route.path, "owner", OWN).await;
        let account = dealership.account(OWN, "owner").await;
        let asked = account.request(&route);
        let before = dealership.place.everything().await;
        for origin in [
            "http://truckradar.example",
            "https://truckradar.example:444",
            "https://www.truckradar.example",
            "https://truckradar.example.evil.example",
            "https://evil.example",
            "null",
        ] {
            let answer = send(&mut owner, &asked, &[("origin", origin)]).await;
            assert_refused(&answer, &format!("{asked} from {origin}"));
        }
        dealership.place.assert_unchanged(&before, &asked).await;
        let origin = match asked.about {
            About::Seller => "https://truckradar.example",
            About::Oneself => "https://trailerradar.example",
            // Asked under the address that the proxy uses, as from the machine itself.
            _ => &own,
        };
        let answer = send(&mut owner, &asked, &[("origin", origin)]).await;
        assert!(
            is_done(&asked, &answer),
            "{asked} from {origin}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn no_address_that_is_merely_opened_changes_anything() {
    let dealership = Dealership::new().await;
    let mut victim = dealership.person("owner", OWN).await;
    let account = dealership.account(OWN, "owner").await;
    let before = dealership.place.everything().await;
    for route in page_routes() {
        let asked = account.request(&route);
        let query = {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(&asked.fields);
            query.finish()
        };
        let with = if asked.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{with}{query}", asked.path);
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            let told = format!("{method} {path}");
            // Links and pictures of other sites are opened with the victim's cookie.
            let request = victim.request(method, &path);
            let request = request.header("sec-fetch-site", "cross-site");
            let answer = victim.ask(request).await;
            assert_eq!(answer.header("set-cookie"), "", "{told}");
            assert!(answer.shown_key().is_none(), "{told}");
            dealership.place.assert_unchanged(&before, &told).await;
        }
        // A method that a form or a header names instead is not looked at.
        if asked.method == Method::GET {
            let request = victim
                .request(Method::GET, &path)
                .header("x-http-method-override", "POST");
            victim.ask(request).await;
            let form = Form::made_up("/dashboard", [("_method", "DELETE")]);
            assert_eq!(victim.send(&form).await.status, 405);
        }
        dealership.place.assert_unchanged(&before, &path).await;
    }
}
