//! The audit log: no act without its entry; who reads it, in words and as a file; what is kept, and for how long.
//!
//! Never: an act tried by a list of this file alone: routes and commands are taken from where the product has them.

mod by_command;
mod entries;
mod reading;

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
