//! Who reads the audit log, in words and as a file.
//!
//! Never: an entry read by who may not.

use super::*;

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
