//! `/dashboard/inventory`: a Seller's listings, as a person looks through them.
//!
//! Never: another Seller's listing.

use std::{str::FromStr, sync::Arc};

use askama::Template;
use axum::{
    extract::State as Shared,
    response::{IntoResponse, Response},
};

use super::{
    super::{State, caller::SignedIn, form::Query, problem::Problem},
    Page, Shell, grouped,
    platforms::only_for_dealers,
    shell::Section,
    when::When,
};
use crate::{
    clock::Time,
    db::ListingFilter,
    ids::ListingId,
    inventory::{
        listing::{Fields, Listing, ListingStatus},
        vin::Vin,
    },
};

/// Listings of one page.
const PER_PAGE: usize = 50;

#[derive(Template)]
#[template(path = "inventory.html")]
struct InventoryPage {
    shell: Shell,
    slug: String,
    status: &'static str,
    search: String,
    tabs: Vec<Tab>,
    rows: Vec<Row>,
    /// Whether the Seller has any listing at all.
    has_listings: bool,
    is_first: bool,
    first: String,
    next: Option<String>,
}

struct Tab {
    label: &'static str,
    count: String,
    path: String,
    is_here: bool,
}

struct Row {
    vin: String,
    title: String,
    kind: String,
    price: String,
    odometer: String,
    place: String,
    status: &'static str,
    updated: When,
}

/// The page.
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Query(query): Query,
) -> Result<Response, Problem> {
    let member = caller.member_of_page(&query)?;
    if member.is_of_platform() {
        return Err(only_for_dealers().for_person(&caller.session));
    }
    let services = &state.services;
    let scope = member.scope();
    let now = services.clock.now();
    let status = ListingStatus::from_str(query.text("status")).ok();
    let search: String = query.text("q").trim().chars().take(100).collect();
    let after = query
        .get("after")
        .and_then(|id| id.parse::<ListingId>().ok());

    let counts = services.db.count_listings(scope).await?;
    let mut found = match search.to_uppercase().parse::<Vin>() {
        Ok(vin) => {
            let own = services.db.listing(scope, vin).await?;
            own.into_iter()
                .filter(|listing| listing.seller == member.seller())
                .filter(|listing| status.is_none_or(|status| listing.status == status))
                .collect()
        }
        Err(_) => {
            let filter = ListingFilter {
                status,
                make: Some(search.clone()).filter(|text| !text.is_empty()),
                after,
                ..ListingFilter::default()
            };
            // One more than is shown tells whether there is a next page.
            services
                .db
                .listings(scope, &filter, PER_PAGE as i64 + 1)
                .await?
        }
    };
    let more = found.len() > PER_PAGE;
    found.truncate(PER_PAGE);

    let path = |status: Option<ListingStatus>, after: Option<ListingId>| {
        address(member.slug(), status, &search, after)
    };
    let next = found
        .last()
        .filter(|_| more)
        .map(|last| path(status, Some(last.id)));
    let tab = |label, count: i64, of: Option<ListingStatus>| Tab {
        label,
        count: grouped(count),
        path: path(of, None),
        is_here: status == of,
    };
    let all = counts.active + counts.sold + counts.expired;
    Ok(Page(InventoryPage {
        shell: Shell::inside("Inventory", Section::Inventory, &caller.session, &member),
        slug: member.slug().to_owned(),
        status: status.map_or("", ListingStatus::as_str),
        tabs: vec![
            tab("All", all, None),
            tab("Active", counts.active, Some(ListingStatus::Active)),
            tab("Sold", counts.sold, Some(ListingStatus::Sold)),
            tab("Expired", counts.expired, Some(ListingStatus::Expired)),
        ],
        rows: found.iter().map(|listing| row(listing, now)).collect(),
        has_listings: all > 0,
        is_first: after.is_none(),
        first: path(status, None),
        next,
        search,
    })
    .into_response())
}

/// The address of a page of listings.
fn address(
    seller: &str,
    status: Option<ListingStatus>,
    search: &str,
    after: Option<ListingId>,
) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("seller", seller);
    if let Some(status) = status {
        query.append_pair("status", status.as_str());
    }
    if !search.is_empty() {
        query.append_pair("q", search);
    }
    if let Some(after) = after {
        query.append_pair("after", &after.to_text());
    }
    format!("/dashboard/inventory?{}", query.finish())
}

fn row(listing: &Listing, now: Time) -> Row {
    let mut row = Row {
        vin: listing.vin.to_string(),
        title: String::new(),
        kind: String::new(),
        price: String::new(),
        odometer: String::new(),
        place: String::new(),
        status: listing.status.as_str(),
        updated: When::ago(listing.updated, now),
    };
    let Ok(fields) = serde_json::from_str::<Fields>(&listing.fields) else {
        tracing::error!(listing = %listing.id, "a stored listing cannot be read");
        return row;
    };
    row.title = format!("{} {} {}", fields.year, fields.make, fields.model);
    row.kind = fields.category.unwrap_or_default();
    row.price = match fields.price {
        Some(price) => format!("${}", grouped(price)),
        None => "Call for price".to_owned(),
    };
    row.odometer = match fields.odometer_miles {
        Some(miles) => format!("{} mi", grouped(miles)),
        None => String::new(),
    };
    row.place = match (fields.location_city, fields.location_state) {
        (Some(city), Some(state)) => format!("{city}, {state}"),
        (city, state) => city.or(state).unwrap_or_default(),
    };
    row
}
