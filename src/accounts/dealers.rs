//! What a dealer says of itself: the body of `/api/v1/dealers`, parsed into a change that cannot be wrong, and made.
//!
//! Never: a Seller other than the scope's changed, whatever slug the body names; that is checked by [`own`] first.

use serde_json::{Map, Value};

use super::{Email, Slug, sellers::NAME_CHARS_MAX};
use crate::{
    audit::Act,
    clock::Clock,
    db::{AuditEntry, Db, DbError, DealerChange, LocationRow, NewDealer, SellerRow},
    ids::LocationId,
    keys::{format::PREFIX, scope::SellerScope},
};

/// Locations of one Seller at most.
pub const LOCATIONS_MAX: usize = 100;
const TEXT_CHARS_MAX: usize = 200;
const DESCRIPTION_CHARS_MAX: usize = 5_000;

/// A dealer's record with its locations.
pub struct Dealer {
    /// The Seller.
    pub seller: SellerRow,
    /// Its locations, in its order.
    pub locations: Vec<LocationRow>,
}

/// One thing wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FieldIssue {
    /// Which field, such as `locations[0].state`.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Why a body was refused. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum DealerError {
    /// A required field is absent.
    #[error("{0} is required")]
    Required(&'static str),
    /// Fields are not what they must be.
    #[error("{} of the fields cannot be accepted", .0.len())]
    Invalid(Vec<FieldIssue>),
    /// The slug names another dealer, or nobody.
    #[error("this key does not belong to the dealer {0}")]
    NotYours(String),
    /// No dealer has this slug.
    #[error("no dealer has the slug {0}")]
    NoSuchDealer(String),
    /// The database could not do it.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// A parsed upsert or partial update.
#[derive(Debug)]
pub struct DealerBody {
    slug: Slug,
    change: DealerChange,
    locations: Option<Vec<LocationRow>>,
}

impl DealerBody {
    /// The dealer that an upsert describes, for one that is to be brought into being; `None` if it lacks a name.
    pub fn into_new(self) -> Option<NewDealer> {
        Some(NewDealer {
            slug: self.slug,
            name: self.change.name.clone()?,
            change: self.change,
            locations: self.locations.unwrap_or_default(),
        })
    }
}

/// Reads the body of `POST /api/v1/dealers`: `slug` and `name` are required, what is absent of the rest is cleared, and
/// `locations`, if given, replace those that were.
pub fn parse_upsert(body: &Map<String, Value>) -> Result<DealerBody, DealerError> {
    let mut parsed = parse(body, true)?;
    if parsed.change.name.is_none() {
        return Err(DealerError::Required("name"));
    }
    let change = &mut parsed.change;
    for field in [
        &mut change.phone,
        &mut change.email,
        &mut change.website,
        &mut change.description,
    ] {
        field.get_or_insert(None);
    }
    Ok(parsed)
}

/// Reads the body of `PATCH /api/v1/dealers`: `slug` says which; of the scalar fields, those given are changed, and `null`
/// clears one.
pub fn parse_patch(body: &Map<String, Value>) -> Result<DealerBody, DealerError> {
    parse(body, false)
}

/// One change of a Seller's locations, as a person makes it.
#[derive(Debug)]
pub enum LocationChange {
    /// One more.
    Add(LocationRow),
    /// This one less.
    Remove(LocationId),
}

/// Reads one location, under the rules of the whole record's.
pub fn parse_location(record: &Value) -> Result<LocationRow, DealerError> {
    let mut issues = Vec::new();
    let one = Value::from(vec![record.clone()]);
    let parsed = parse_locations(&mut issues, &one).unwrap_or_default();
    match parsed.into_iter().next() {
        Some(location) if issues.is_empty() => Ok(location),
        _ => Err(DealerError::Invalid(issues)),
    }
}

/// Makes one change of the scope's locations; the others stay what they are.
pub async fn change_locations(
    db: &Db,
    clock: &Clock,
    scope: SellerScope,
    change: LocationChange,
) -> Result<(), DealerError> {
    let refused = |message: &str| {
        let mut issues = Vec::new();
        issue(&mut issues, "locations", message);
        Err(DealerError::Invalid(issues))
    };
    // Alone among the Seller's writes: what is read here must still hold when it is written.
    let mut tx = db.begin_change(scope).await?;
    let mut locations = tx.locations().await?;
    match change {
        LocationChange::Add(_) if locations.len() >= LOCATIONS_MAX => {
            return refused("are 100 already, which is the most");
        }
        LocationChange::Add(location) => locations.push(location),
        LocationChange::Remove(id) => {
            let before = locations.len();
            locations.retain(|location| location.id != id);
            if locations.len() == before {
                return refused("do not include this one any more: somebody removed it");
            }
        }
    }
    tx.replace_locations(&locations).await?;
    tx.append_audit(&AuditEntry::of(scope, clock.now(), Act::DealerChanged))
        .await?;
    Ok(tx.commit().await?)
}

fn parse(body: &Map<String, Value>, with_locations: bool) -> Result<DealerBody, DealerError> {
    let slug = match body.get("slug") {
        None | Some(Value::Null) => return Err(DealerError::Required("slug")),
        Some(slug) => slug,
    };
    let mut issues = Vec::new();
    let slug = slug.as_str().and_then(|slug| slug.parse::<Slug>().ok());
    if slug.is_none() {
        issue(
            &mut issues,
            "slug",
            "must be a dealer's slug: 2 to 64 characters of a-z, 0-9 and -",
        );
    }
    let mut change = DealerChange::default();
    let mut locations = None;
    for (field, value) in body {
        match field.as_str() {
            "slug" => {}
            "name" => match text(value, NAME_CHARS_MAX) {
                Some(Some(name)) => change.name = Some(name),
                _ => issue(&mut issues, field, "must be text of 1 to 120 characters"),
            },
            "phone" => scalar(&mut issues, field, value, TEXT_CHARS_MAX, &mut change.phone),
            "email" => {
                scalar(&mut issues, field, value, TEXT_CHARS_MAX, &mut change.email);
                if let Some(Some(email)) = &change.email
                    && email.parse::<Email>().is_err()
                {
                    issue(&mut issues, field, "must be an e-mail address");
                }
            }
            "website" => {
                scalar(
                    &mut issues,
                    field,
                    value,
                    TEXT_CHARS_MAX,
                    &mut change.website,
                );
                if let Some(Some(website)) = &change.website
                    && !(website.starts_with("https://") || website.starts_with("http://"))
                {
                    issue(
                        &mut issues,
                        field,
                        "must be an address that begins with https:// or http://",
                    );
                }
            }
            "description" => scalar(
                &mut issues,
                field,
                value,
                DESCRIPTION_CHARS_MAX,
                &mut change.description,
            ),
            "locations" if with_locations => locations = parse_locations(&mut issues, value),
            "locations" => issue(
                &mut issues,
                field,
                "cannot be changed by PATCH; send the whole record with POST",
            ),
            _ => issue(&mut issues, field, "is not a field of a dealer"),
        }
    }
    match slug {
        Some(slug) if issues.is_empty() => Ok(DealerBody {
            slug,
            change,
            locations,
        }),
        _ => Err(DealerError::Invalid(issues)),
    }
}

fn parse_locations(issues: &mut Vec<FieldIssue>, value: &Value) -> Option<Vec<LocationRow>> {
    let Some(items) = value
        .as_array()
        .filter(|items| items.len() <= LOCATIONS_MAX)
    else {
        issue(
            issues,
            "locations",
            "must be a list of at most 100 locations",
        );
        return None;
    };
    let mut locations = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = |field: &str| format!("locations[{index}].{field}");
        let Some(item) = item.as_object() else {
            issue(issues, &format!("locations[{index}]"), "must be an object");
            continue;
        };
        let mut location = LocationRow {
            id: LocationId::new(),
            name: String::new(),
            street: None,
            city: None,
            state: None,
            postal_code: None,
            phone: None,
        };
        for (field, value) in item {
            let slot = match field.as_str() {
                "name" => {
                    location.name = text(value, NAME_CHARS_MAX).flatten().unwrap_or_default();
                    continue;
                }
                "street" => &mut location.street,
                "city" => &mut location.city,
                "state" => &mut location.state,
                "postal_code" => &mut location.postal_code,
                "phone" => &mut location.phone,
                // What GET shows may be sent back.
                "id" => continue,
                _ => {
                    issue(issues, &at(field), "is not a field of a location");
                    continue;
                }
            };
            let mut read = None;
            scalar(issues, &at(field), value, TEXT_CHARS_MAX, &mut read);
            *slot = read.flatten();
        }
        if location.name.is_empty() {
            issue(
                issues,
                &at("name"),
                "is required: text of 1 to 120 characters",
            );
        }
        if let Some(state) = &mut location.state {
            state.make_ascii_uppercase();
            if state.len() != 2 || !state.bytes().all(|c| c.is_ascii_uppercase()) {
                issue(issues, &at("state"), "must be two letters, such as TX");
            }
        }
        locations.push(location);
    }
    Some(locations)
}

fn issue(issues: &mut Vec<FieldIssue>, field: &str, message: &str) {
    issues.push(FieldIssue {
        field: field.chars().take(TEXT_CHARS_MAX).collect(),
        message: message.to_owned(),
    });
}

/// `Some(None)` for null and for nothing but spaces, `None` for what is not acceptable text.
fn text(value: &Value, chars_max: usize) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => {
            let text = text.trim();
            let control = |c: char| c.is_control() && c != '\n' && c != '\t' && c != '\r';
            // A key in a text that the world may read would be a leak.
            if text.chars().count() > chars_max || text.contains(control) || text.contains(PREFIX) {
                return None;
            }
            Some(Some(text.to_owned()).filter(|text| !text.is_empty()))
        }
        _ => None,
    }
}

fn scalar(
    issues: &mut Vec<FieldIssue>,
    field: &str,
    value: &Value,
    chars_max: usize,
    slot: &mut Option<Option<String>>,
) {
    match text(value, chars_max) {
        Some(text) => *slot = Some(text),
        None => issue(
            issues,
            field,
            &format!(
                "must be text of at most {chars_max} characters, without an API key in it, or null"
            ),
        ),
    }
}

/// The dealer with this slug, if the scope is that dealer's. Otherwise says whose it is not.
pub async fn own(db: &Db, scope: SellerScope, slug: &str) -> Result<SellerRow, DealerError> {
    let found = match slug.parse::<Slug>() {
        Ok(slug) => db.seller_by_slug(&slug).await?,
        Err(_) => None,
    };
    match found {
        Some(seller) if seller.id == scope.seller() => Ok(seller),
        Some(_) => Err(DealerError::NotYours(slug.to_owned())),
        None => Err(DealerError::NoSuchDealer(slug.to_owned())),
    }
}

/// The dealer with this slug and its locations.
pub async fn read(db: &Db, scope: SellerScope, slug: &str) -> Result<Dealer, DealerError> {
    let seller = own(db, scope, slug).await?;
    let locations = db.locations(scope).await?;
    Ok(Dealer { seller, locations })
}

/// The scope's own dealer and its locations, whatever its slug.
pub async fn read_own(db: &Db, scope: SellerScope) -> Result<Dealer, DealerError> {
    let seller = db.seller(scope).await?;
    let seller = seller.ok_or_else(|| DealerError::NoSuchDealer(String::new()))?;
    let locations = db.locations(scope).await?;
    Ok(Dealer { seller, locations })
}

/// Makes a change of the scope's own dealer and answers what it is now.
pub async fn change(
    db: &Db,
    clock: &Clock,
    scope: SellerScope,
    body: DealerBody,
) -> Result<Dealer, DealerError> {
    own(db, scope, body.slug.as_str()).await?;
    let now = clock.now();
    let mut tx = db.begin_write(scope).await?;
    tx.update_dealer(&body.change, now).await?;
    if let Some(locations) = &body.locations {
        tx.replace_locations(locations).await?;
    }
    tx.append_audit(&AuditEntry::of(scope, now, Act::DealerChanged))
        .await?;
    tx.commit().await?;
    read(db, scope, body.slug.as_str()).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn an_upsert_clears_what_it_does_not_say_and_a_patch_leaves_it() {
        let record = body(json!({"slug": "lone-star", "name": " Lone Star ", "phone": null}));
        let upsert = parse_upsert(&record).expect("good");
        assert_eq!(upsert.change.name.as_deref(), Some("Lone Star"));
        assert_eq!(upsert.change.website, Some(None));
        assert!(upsert.locations.is_none());
        let patch = parse_patch(&record).expect("good");
        assert_eq!(patch.change.phone, Some(None));
        assert_eq!(patch.change.website, None);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        assert!(matches!(
            parse_upsert(&body(json!({}))),
            Err(DealerError::Required("slug"))
        ));
        assert!(matches!(
            parse_upsert(&body(json!({"slug": "ab"}))),
            Err(DealerError::Required("name"))
        ));
        let bad = body(json!({
            "slug": "A B", "name": 7, "email": "nobody", "website": "ftp://x", "colour": "red",
            "locations": [{"state": "Texas"}, 3],
        }));
        let Err(DealerError::Invalid(issues)) = parse_upsert(&bad) else {
            panic!("must be refused")
        };
        let fields: Vec<_> = issues.iter().map(|i| i.field.as_str()).collect();
        for field in [
            "slug",
            "name",
            "email",
            "website",
            "colour",
            "locations[0].name",
            "locations[0].state",
            "locations[1]",
        ] {
            assert!(fields.contains(&field), "{field} in {fields:?}");
        }
        assert!(parse_patch(&body(json!({"slug": "ab", "locations": []}))).is_err());
    }
}
