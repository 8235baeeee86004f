//! A listing as it is stored and shown, and the field names of the public reference.
//!
//! Never: a rule about what is acceptable. Those live in [`super::pipeline`], so that a stored listing can always be read
//! back, whatever the rules have become since.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::vin::Vin;
use crate::{
    clock::Time,
    ids::{ListingId, SellerId},
};

/// Where a listing is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListingStatus {
    /// For sale. A VIN has at most one active listing in the whole marketplace.
    Active,
    /// Sold, as its Seller said.
    Sold,
    /// No longer offered.
    Expired,
}

impl ListingStatus {
    /// The name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Sold => "sold",
            Self::Expired => "expired",
        }
    }
}

impl FromStr for ListingStatus {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "active" => Ok(Self::Active),
            "sold" => Ok(Self::Sold),
            "expired" => Ok(Self::Expired),
            _ => Err(UnknownName),
        }
    }
}

/// A word outside the list of those that an enumeration knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of the known names")]
pub struct UnknownName;

/// Truck or trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListingType {
    /// Has an engine.
    Truck,
    /// Is pulled.
    Trailer,
}

/// The record's fields besides its VIN, after the pipeline. What a Seller did not say is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    /// Which of the Seller's systems the record came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_provider_id: Option<String>,
    /// Model year.
    pub year: i64,
    /// Maker, such as Freightliner.
    pub make: String,
    /// Model, such as Cascadia; `Unknown` when not said.
    pub model: String,
    /// Kind of unit, such as Reefer Truck.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Told by the VIN's maker code when not said.
    pub listing_type: ListingType,
    /// `new`, `used` or `certified_preowned`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_or_used: Option<String>,
    /// Whole US dollars; absent means "call for price".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<i64>,
    /// Miles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub odometer_miles: Option<i64>,
    /// Engine's maker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_make: Option<String>,
    /// Engine's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_model: Option<String>,
    /// Rated power.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horsepower: Option<i64>,
    /// Such as `diesel`; lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel_type: Option<String>,
    /// Such as `automatic`; lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transmission_type: Option<String>,
    /// Wheels by driven wheels, such as `6x4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axle_config: Option<String>,
    /// Where the unit stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location_city: Option<String>,
    /// Two letters, upper case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location_state: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Addresses of photos, in the Seller's order, the first one leading.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub photos: Vec<String>,
}

/// A listing as the database holds it. `fields` stays the JSON text of [`Fields`]: it is compared, sent and stored whole.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The listing's id.
    pub id: ListingId,
    /// Whose it is.
    pub seller: SellerId,
    /// The unit.
    pub vin: Vin,
    /// Where it is in its life.
    pub status: ListingStatus,
    /// JSON text of [`Fields`].
    pub fields: String,
    /// When this Seller first listed the VIN.
    pub created: Time,
    /// When anything about it last changed.
    pub updated: Time,
}

impl Listing {
    /// The flat JSON object that the API shows: the names of the POST, plus `id`, `status` and times.
    pub fn to_json(&self) -> String {
        let inner = self
            .fields
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .unwrap_or_default();
        let comma = if inner.is_empty() { "" } else { "," };
        format!(
            r#"{{"id":"{}","vin":"{}","status":"{}"{comma}{inner},"created_at":"{}","updated_at":"{}"}}"#,
            self.id,
            self.vin,
            self.status.as_str(),
            self.created.iso(),
            self.updated.iso(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_one_flat_object() {
        let listing = Listing {
            id: ListingId::new(),
            seller: SellerId::new(),
            vin: "3ALHCYFE3LDLM8435".parse().expect("a VIN"),
            status: ListingStatus::Active,
            fields: r#"{"year":2020,"make":"Freightliner","model":"Cascadia \"R\"","listing_type":"truck"}"#.into(),
            created: Time(0),
            updated: Time(1_000_000),
        };
        let shown: serde_json::Value = serde_json::from_str(&listing.to_json()).expect("JSON");
        assert_eq!(shown["model"], "Cascadia \"R\"");
        assert_eq!(shown["vin"], "3ALHCYFE3LDLM8435");
        assert_eq!(shown["status"], "active");
        assert_eq!(shown["updated_at"], "1970-01-01T00:00:01.000Z");
        assert!(shown.get("seller").is_none());
        let fields: Fields = serde_json::from_str(&listing.fields).expect("fields");
        assert_eq!(serde_json::to_value(&fields).expect("JSON")["year"], 2020);
    }
}
