//! Records to send.

use serde_json::{Value, json};

/// The VIN of the published examples.
pub const VIN: &str = "3ALHCYFE3LDLM8435";
/// Others whose check digits hold.
pub const OTHER_VINS: [&str; 4] = [
    "3HAMMMML2KL595663",
    "1M8GDM9AXKP042788",
    "1JJV532D9KL000001",
    "1GRAA0626KB700001",
];

/// The smallest record that is shown in the published examples.
pub fn record(vin: &str) -> Value {
    json!({"vin": vin, "year": 2020, "make": "Freightliner", "model": "Cascadia", "price": 89500})
}

/// The published example of a single record, whole.
pub fn whole_record(vin: &str) -> Value {
    json!({
        "source_provider_id": "dms-7", "vin": vin, "year": 2020, "make": "Freightliner", "model": "M2 112",
        "category": "Reefer Truck", "listing_type": "truck", "new_or_used": "used", "price": 89500,
        "odometer_miles": 412000, "engine_make": "Detroit", "engine_model": "DD13", "horsepower": 450,
        "fuel_type": "diesel", "transmission_type": "automatic", "axle_config": "6x4", "location_city": "Dallas",
        "location_state": "TX", "description": "One owner.", "photos": ["https://photos.example/1.jpg"],
    })
}

/// A VIN with a check digit that holds, a different one for each `n` below a million.
pub fn vin(n: u64) -> String {
    truckradar::demo::vin("3AKJHHDR", 2020, n)
        .expect("a VIN can be found")
        .to_string()
}
