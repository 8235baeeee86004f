//! Clients that go on with a dead key are mailed once, by name.
//!
//! Never: a client told of that has changed over.

use super::*;

/// Calls with a key, as a program that calls itself so.
async fn call(served: &Served, key: &str, user_agent: &str, times: usize, status: u16) {
    let client = Client::new(served.api, Some(key));
    for _ in 0..times {
        let request = client.request(Method::GET, "/api/v1/key");
        let answer = client.send(request.header("user-agent", user_agent)).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
    }
}

/// The Seller's dead keys died longer ago than clients have to change over.
async fn died_long_ago(place: &Place, slug: &str) {
    let sql = format!(
        "UPDATE api_keys SET ended_us = ended_us - 121000000 \
         WHERE seller_id = (SELECT id FROM sellers WHERE slug = '{slug}')"
    );
    place.change(AssertSqlSafe(sql)).await;
}

/// Programs of two other Sellers go on sending dead keys, one after the other. When the second one's owner was mailed, the
/// look that found the first one is over, and every earlier call has been looked at.
async fn two_other_incidents(place: &Place, served: &Served, smtp: &Smtp, name: &str) {
    for slug in [format!("{name}-one"), format!("{name}-two")] {
        place.create_seller(&slug);
        let dead = place.generate(&slug);
        place.generate(&slug);
        died_long_ago(place, &slug).await;
        call(served, &dead, "lookout/1", 10, 401).await;
        wait_for_stray(smtp, &slug, 1);
    }
}

/// The mails about clients of a Seller that go on sending a dead key.
fn stray(mails: &[Mail], slug: &str) -> Vec<Mail> {
    let subject = format!("A dead API key of {slug} is still being sent");
    let mut mails = mails.to_vec();
    mails.retain(|mail| mail.header("Subject") == subject);
    mails
}

/// Waits until there are so many of them.
fn wait_for_stray(smtp: &Smtp, slug: &str, count: usize) -> Vec<Mail> {
    let mut all = 1;
    loop {
        let mails = smtp.wait_for(all);
        all = mails.len() + 1;
        let mails = stray(&mails, slug);
        if mails.len() >= count {
            return mails;
        }
    }
}

#[tokio::test]
async fn an_incident_is_mailed_once_and_names_who_was_forgotten() {
    let smtp = Smtp::start();
    let place = Place::new();
    let served = serve(&place, &smtp.url(), &[]);
    place.create_seller("lone-star");
    let viewer = "viewer@lone-star.example";
    let mut viewer = Person::invited(&place, served.api, "lone-star", viewer, "viewer").await;
    let old = place.generate("lone-star");
    for name in ["alpha/1", "beta/1", "forgotten-box/2.1"] {
        call(&served, &old, name, 1, 200).await;
    }
    // A key that waits is no dead one, however often it is tried before its time; nor when it is discarded after that.
    let staged = key_of(&act(&place, "prepare", "lone-star"));
    call(&served, &staged, "hasty/1", 12, 401).await;
    two_other_incidents(&place, &served, &smtp, "first-lookout").await;
    act(&place, "discard", "lone-star");
    two_other_incidents(&place, &served, &smtp, "second-lookout").await;
    let new = place.generate("lone-star");
    died_long_ago(&place, "lone-star").await;
    // Two change over, and may need many calls for it.
    for name in ["alpha/1", "beta/1"] {
        call(&served, &old, name, 8, 401).await;
        call(&served, &new, name, 1, 200).await;
    }
    // Nine are no incident.
    call(&served, &old, "forgotten-box/2.1", 9, 401).await;
    two_other_incidents(&place, &served, &smtp, "third-lookout").await;
    assert_eq!(stray(&smtp.mails(), "lone-star").len(), 0);
    for page in ["/dashboard", "/dashboard/settings"] {
        let shown = viewer.get(&format!("{page}?seller=lone-star")).await;
        let words = shown.words();
        assert!(!words.contains("owners get a mail about it"), "{words}");
    }

    // The tenth is. What the other one calls itself is made for the mail.
    let hostile = format!(
        "\"\tBcc: x@evil.example https://evil.example/ {}",
        "x".repeat(6_000)
    );
    call(&served, &old, &hostile, 1, 401).await;
    let mails = wait_for_stray(&smtp, "lone-star", 1);
    let (mail, text) = (&mails[0], mails[0].text());
    assert_eq!(mail.to, "owner@lone-star.example");
    assert!(
        text.starts_with(
            "2 clients of lone-star (lone-star) are still sending a dead key: 10 calls"
        ),
        "{text}"
    );
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("- ")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    let begin = "- 127.0.0.1  \"forgotten-box/2. 1\"  9 calls refused, the last at 20";
    assert!(lines[0].starts_with(begin), "{text}");
    let begin = "- 127.0.0.1  \"'\u{fffd}Bcc: x (at) evil. example https: //evil. example/ xxx";
    assert!(lines[1].starts_with(begin), "{text}");
    assert!(lines[1].chars().count() < 230, "{text}");
    for name in ["alpha", "beta", "hasty", &hint(&old)] {
        assert!(!text.contains(name), "{text}");
    }
    assert_eq!(mail.header_names(), HEADERS);
    for page in ["/dashboard", "/dashboard/settings"] {
        let shown = viewer
            .get(&format!("{page}?seller=lone-star"))
            .await
            .words();
        assert!(
            shown.contains("2 clients still send a dead key."),
            "{shown}"
        );
        assert!(shown.contains("the owners get a mail about it."), "{shown}");
    }

    // Nobody is mailed again while it lasts.
    call(&served, &old, "forgotten-box/2.1", 30, 401).await;
    two_other_incidents(&place, &served, &smtp, "fourth-lookout").await;
    assert_eq!(stray(&smtp.mails(), "lone-star").len(), 1);

    // Ten quiet minutes later it is over, and what comes then is another.
    let quiet = "UPDATE key_usage SET minute = minute - 11, last_us = last_us - 660000000";
    place.change(quiet).await;
    let closed = "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM incidents WHERE closed_us IS NULL)";
    place.until("the end of the incident", closed).await;
    let shown = viewer.get("/dashboard?seller=lone-star").await.words();
    assert!(!shown.contains("owners get a mail about it"), "{shown}");
    // Of the same dead key nobody is mailed again within a day, however often it becomes quiet.
    call(&served, &old, "forgotten-box/2.1", 10, 401).await;
    two_other_incidents(&place, &served, &smtp, "fifth-lookout").await;
    assert_eq!(stray(&smtp.mails(), "lone-star").len(), 1);

    // Another one dies: clients get their time, and then whoever is left is mailed about.
    place.generate("lone-star");
    call(&served, &new, "alpha/1", 12, 401).await;
    two_other_incidents(&place, &served, &smtp, "sixth-lookout").await;
    assert_eq!(
        stray(&smtp.mails(), "lone-star").len(),
        1,
        "it died just now"
    );
    died_long_ago(&place, "lone-star").await;
    wait_for_stray(&smtp, "lone-star", 2);
    until_all_are_sent(&place).await;
    let mails = stray(&smtp.mails(), "lone-star");
    assert_eq!(mails.len(), 2, "{mails:#?}");
    assert!(
        mails[1]
            .text()
            .starts_with("2 clients of lone-star (lone-star) are still sending")
    );
}
