//! Stages one and two: what a record may say, and how it is written down. Pure functions of the record, the rules and the
//! present year.
//!
//! Never: a record half accepted; a value changed in `validate`, or refused in `normalize`.

use serde_json::{Map, Value};

use super::{
    issues::{Issue, IssueCode, issue},
    listing::{Fields, ListingType},
    vin::Vin,
};
use crate::keys::format::PREFIX;

/// How strictly records are judged; the operator's choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// A check digit that does not hold is a refusal instead of a warning.
    pub strict_vin: bool,
}

/// A record that may be stored once normalised.
#[derive(Clone, Debug)]
pub struct Validated {
    vin: Vin,
    raw: RawFields,
    /// What is odd but no reason to refuse.
    pub warnings: Vec<Issue>,
}

/// A record in the form in which it is stored, but for what enrichment adds.
#[derive(Clone, Debug)]
pub struct Normalized {
    /// The unit.
    pub vin: Vin,
    /// `listing_type` is `None` until enrichment unless the record said it.
    pub listing_type: Option<ListingType>,
    /// Everything else.
    pub fields: Fields,
    /// What is odd but no reason to refuse.
    pub warnings: Vec<Issue>,
}

#[derive(Clone, Debug, Default)]
struct RawFields {
    source_provider_id: Option<String>,
    year: i64,
    make: String,
    model: Option<String>,
    category: Option<String>,
    listing_type: Option<String>,
    new_or_used: Option<String>,
    price: Option<i64>,
    odometer_miles: Option<i64>,
    engine_make: Option<String>,
    engine_model: Option<String>,
    horsepower: Option<i64>,
    fuel_type: Option<String>,
    transmission_type: Option<String>,
    axle_config: Option<String>,
    location_city: Option<String>,
    location_state: Option<String>,
    description: Option<String>,
    photos: Vec<String>,
}

/// First model year that is listed.
const YEAR_MIN: i64 = 1990;
/// Model years may run ahead of the calendar by this much.
const YEARS_AHEAD: i64 = 2;
/// Whole US dollars.
const PRICE_USD_MAX: i64 = 10_000_000;
const ODOMETER_MILES_MAX: i64 = 5_000_000;
const HORSEPOWER_MAX: i64 = 3_000;
const WORD_CHARS_MAX: usize = 100;
const DESCRIPTION_CHARS_MAX: usize = 20_000;
const PHOTOS_MAX: usize = 100;
const URL_CHARS_MAX: usize = 2_048;
/// Warnings about unknown fields in one record; the rest are not worth the bytes.
const UNKNOWN_FIELDS_SHOWN: usize = 10;

/// Stage one. Finds everything that is wrong, not only the first thing.
pub fn validate(
    record: &Map<String, Value>,
    rules: Rules,
    present_year: i64,
) -> Result<Validated, Vec<Issue>> {
    let mut read = Reader::new(record);
    let vin = read.vin(rules);
    let year_max = present_year + YEARS_AHEAD;
    let raw = RawFields {
        source_provider_id: read.text("source_provider_id", WORD_CHARS_MAX),
        year: read.required_integer("year", YEAR_MIN, year_max),
        make: read.required_text("make", WORD_CHARS_MAX),
        model: read.text("model", WORD_CHARS_MAX),
        category: read.text("category", WORD_CHARS_MAX),
        listing_type: read.one_of("listing_type", &["truck", "trailer"]),
        new_or_used: read.one_of("new_or_used", &["new", "used", "certified_preowned"]),
        price: read.integer("price", 0, PRICE_USD_MAX),
        odometer_miles: read.integer("odometer_miles", 0, ODOMETER_MILES_MAX),
        engine_make: read.text("engine_make", WORD_CHARS_MAX),
        engine_model: read.text("engine_model", WORD_CHARS_MAX),
        horsepower: read.integer("horsepower", 0, HORSEPOWER_MAX),
        fuel_type: read.text("fuel_type", WORD_CHARS_MAX),
        transmission_type: read.text("transmission_type", WORD_CHARS_MAX),
        axle_config: read.shaped("axle_config", is_axle_config, "must read like 6x4"),
        location_city: read.text("location_city", WORD_CHARS_MAX),
        location_state: read.shaped(
            "location_state",
            is_state,
            "must be two letters, such as TX",
        ),
        description: read.text("description", DESCRIPTION_CHARS_MAX),
        photos: read.photos(),
    };
    if let Some(vin) = vin {
        read.compare_year(vin, raw.year);
    }
    read.report_unknown_fields();
    match vin {
        Some(vin) if read.issues.is_empty() => Ok(Validated {
            vin,
            raw,
            warnings: read.warnings,
        }),
        _ => Err(read.issues),
    }
}

/// Stage two. One way to write each thing down: no stray spaces, states in capitals, words of a fixed list in small
/// letters, each photo once.
pub fn normalize(record: Validated) -> Normalized {
    let Validated { vin, raw, warnings } = record;
    let lower = |text: Option<String>| text.map(|text| text.to_lowercase());
    let mut photos = Vec::with_capacity(raw.photos.len());
    for photo in raw.photos {
        if !photos.contains(&photo) {
            photos.push(photo);
        }
    }
    let listing_type = raw.listing_type.as_deref().map(|word| match word {
        "trailer" => ListingType::Trailer,
        _ => ListingType::Truck,
    });
    let fields = Fields {
        source_provider_id: raw.source_provider_id,
        year: raw.year,
        make: spaced(&raw.make),
        model: raw
            .model
            .map_or_else(|| "Unknown".to_owned(), |model| spaced(&model)),
        category: raw.category.map(|category| spaced(&category)),
        listing_type: listing_type.unwrap_or(ListingType::Truck),
        new_or_used: raw.new_or_used,
        price: raw.price,
        odometer_miles: raw.odometer_miles,
        engine_make: raw.engine_make,
        engine_model: raw.engine_model,
        horsepower: raw.horsepower,
        fuel_type: lower(raw.fuel_type),
        transmission_type: lower(raw.transmission_type),
        axle_config: lower(raw.axle_config),
        location_city: raw.location_city.map(|city| spaced(&city)),
        location_state: raw.location_state.map(|state| state.to_uppercase()),
        description: raw.description,
        photos,
    };
    Normalized {
        vin,
        listing_type,
        fields,
        warnings,
    }
}

/// Runs of white space as one space.
fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `6x4`: wheels by driven wheels.
fn is_axle_config(text: &str) -> bool {
    let digits =
        |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_digit());
    text.split_once(['x', 'X'])
        .is_some_and(|(wheels, driven)| digits(wheels) && digits(driven))
}

fn is_state(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|c| c.is_ascii_alphabetic())
}

/// Takes a record apart, field by field, and remembers what was wrong and which fields were asked for.
struct Reader<'a> {
    record: &'a Map<String, Value>,
    known: Vec<&'static str>,
    issues: Vec<Issue>,
    warnings: Vec<Issue>,
}

impl<'a> Reader<'a> {
    fn new(record: &'a Map<String, Value>) -> Self {
        Self {
            record,
            known: Vec::with_capacity(20),
            issues: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The field's value; null is the same as absent.
    fn get(&mut self, field: &'static str) -> Option<&'a Value> {
        self.known.push(field);
        self.record.get(field).filter(|value| !value.is_null())
    }

    fn refuse(&mut self, field: &str, code: IssueCode, message: impl Into<String>, value: &Value) {
        self.issues.push(issue(field, code, message, value));
    }

    fn vin(&mut self, rules: Rules) -> Option<Vin> {
        let Some(value) = self.get("vin") else {
            self.refuse("vin", IssueCode::Required, "must be given", &Value::Null);
            return None;
        };
        let Some(text) = value.as_str() else {
            self.refuse("vin", IssueCode::WrongType, "must be a string", value);
            return None;
        };
        let vin: Vin = match text.trim().parse() {
            Ok(vin) => vin,
            Err(error) => {
                self.refuse("vin", IssueCode::BadFormat, error.to_string(), value);
                return None;
            }
        };
        if !vin.check_digit_holds() {
            let found = issue(
                "vin",
                IssueCode::VinCheckDigit,
                "the check digit (the 9th character) does not match the others: look for a mistyped character",
                value,
            );
            if rules.strict_vin {
                self.issues.push(found);
            } else {
                self.warnings.push(found);
            }
        }
        Some(vin)
    }

    /// The year of a heavy truck is not always in its VIN, so a disagreement is a warning.
    fn compare_year(&mut self, vin: Vin, year: i64) {
        let meant = vin.model_years();
        // A year out of bounds has been refused already.
        if year >= YEAR_MIN && !meant.is_empty() && !meant.contains(&year) {
            let [early, late] = [meant[0], meant[meant.len() - 1]];
            self.warnings.push(issue(
                "year",
                IssueCode::VinYear,
                format!("the VIN's 10th character stands for {early} or {late}"),
                &Value::from(year),
            ));
        }
    }

    fn text(&mut self, field: &'static str, chars_max: usize) -> Option<String> {
        let value = self.get(field)?;
        let Some(text) = value.as_str() else {
            self.refuse(field, IssueCode::WrongType, "must be a string", value);
            return None;
        };
        let text = text.trim();
        if text.chars().count() > chars_max {
            let message = format!("must be at most {chars_max} characters long");
            self.refuse(field, IssueCode::TooLong, message, value);
            return None;
        }
        if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.refuse(
                field,
                IssueCode::BadFormat,
                "must not contain control characters",
                value,
            );
            return None;
        }
        if text.contains(PREFIX) {
            let message =
                "must not contain an API key: take it out, and replace the key if it is a real one";
            self.refuse(field, IssueCode::ContainsKey, message, value);
            return None;
        }
        Some(text.to_owned()).filter(|text| !text.is_empty())
    }

    fn required_text(&mut self, field: &'static str, chars_max: usize) -> String {
        let before = self.issues.len();
        match self.text(field, chars_max) {
            Some(text) => text,
            None => {
                if self.issues.len() == before {
                    self.refuse(field, IssueCode::Required, "must be given", &Value::Null);
                }
                String::new()
            }
        }
    }

    fn one_of(&mut self, field: &'static str, words: &[&str]) -> Option<String> {
        let text = self.text(field, WORD_CHARS_MAX)?.to_lowercase();
        if words.contains(&text.as_str()) {
            return Some(text);
        }
        let message = format!("must be one of {}", words.join(", "));
        self.refuse(field, IssueCode::NotAllowed, message, &Value::from(text));
        None
    }

    fn shaped(
        &mut self,
        field: &'static str,
        fits: fn(&str) -> bool,
        message: &str,
    ) -> Option<String> {
        let text = self.text(field, WORD_CHARS_MAX)?;
        if fits(&text) {
            return Some(text);
        }
        self.refuse(field, IssueCode::BadFormat, message, &Value::from(text));
        None
    }

    fn integer(&mut self, field: &'static str, min: i64, max: i64) -> Option<i64> {
        let value = self.get(field)?;
        if !value.is_number() {
            self.refuse(field, IssueCode::WrongType, "must be a whole number", value);
            return None;
        }
        // 89500.0 is a whole number too, whatever wrote it.
        let whole = value.as_i64().or_else(|| {
            value
                .as_f64()
                .filter(|n| n.fract() == 0.0 && n.abs() < 1e15)
                .map(|n| n as i64)
        });
        match whole {
            Some(n) if (min..=max).contains(&n) => Some(n),
            Some(_) => {
                let message = format!("must be between {min} and {max}");
                self.refuse(field, IssueCode::OutOfRange, message, value);
                None
            }
            None => {
                self.refuse(field, IssueCode::BadFormat, "must be a whole number", value);
                None
            }
        }
    }

    fn required_integer(&mut self, field: &'static str, min: i64, max: i64) -> i64 {
        let before = self.issues.len();
        match self.integer(field, min, max) {
            Some(n) => n,
            None => {
                if self.issues.len() == before {
                    self.refuse(field, IssueCode::Required, "must be given", &Value::Null);
                }
                0
            }
        }
    }

    fn photos(&mut self) -> Vec<String> {
        let Some(value) = self.get("photos") else {
            return Vec::new();
        };
        let Some(items) = value.as_array() else {
            self.refuse(
                "photos",
                IssueCode::WrongType,
                "must be a list of addresses",
                value,
            );
            return Vec::new();
        };
        if items.len() > PHOTOS_MAX {
            let message = format!("must be at most {PHOTOS_MAX} addresses");
            self.refuse(
                "photos",
                IssueCode::TooLong,
                message,
                &Value::from(items.len()),
            );
            return Vec::new();
        }
        let mut photos = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let good = item.as_str().map(str::trim).filter(|url| {
                let host = url.strip_prefix("https://").unwrap_or_default();
                !host.is_empty()
                    && !host.starts_with('/')
                    && url.chars().count() <= URL_CHARS_MAX
                    && !url.contains(PREFIX)
                    && !url.contains(|c: char| c.is_whitespace() || c.is_control())
            });
            match good {
                Some(url) => photos.push(url.to_owned()),
                None => self.refuse(
                    &format!("photos[{index}]"),
                    IssueCode::BadFormat,
                    format!("must be an https address of at most {URL_CHARS_MAX} characters"),
                    item,
                ),
            }
        }
        photos
    }

    fn report_unknown_fields(&mut self) {
        let unknown: Vec<_> = self
            .record
            .iter()
            .filter(|(field, _)| !self.known.contains(&field.as_str()))
            .take(UNKNOWN_FIELDS_SHOWN)
            .map(|(field, value)| {
                let message =
                    "is not a field of a record and was not stored: look for a misspelt name";
                issue(field, IssueCode::UnknownField, message, value)
            })
            .collect();
        self.warnings.extend(unknown);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn record(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    fn whole() -> Value {
        json!({
            "source_provider_id": "dms-1", "vin": "3alhcyfe3ldlm8435", "year": 2020, "make": " Freightliner ",
            "model": "Cascadia  126", "category": "Reefer Truck", "listing_type": "truck", "new_or_used": "used",
            "price": 89500, "odometer_miles": 412000, "engine_make": "Detroit", "engine_model": "DD15",
            "horsepower": 455, "fuel_type": "Diesel", "transmission_type": "automatic", "axle_config": "6X4",
            "location_city": "Dallas", "location_state": "tx", "description": "One owner.\nClean.",
            "photos": ["https://img.example/1.jpg", "https://img.example/2.jpg", "https://img.example/1.jpg"],
        })
    }

    fn judge(value: Value) -> Result<Normalized, Vec<Issue>> {
        validate(&record(value), Rules::default(), 2026).map(normalize)
    }

    fn with(field: &str, value: Value) -> Value {
        let mut record = whole();
        record[field] = value;
        record
    }

    #[test]
    fn a_whole_record_is_normalised() {
        let good = judge(whole()).expect("accepted");
        assert_eq!(good.vin.as_str(), "3ALHCYFE3LDLM8435");
        assert_eq!(good.fields.make, "Freightliner");
        assert_eq!(good.fields.model, "Cascadia 126");
        assert_eq!(good.fields.fuel_type.as_deref(), Some("diesel"));
        assert_eq!(good.fields.axle_config.as_deref(), Some("6x4"));
        assert_eq!(good.fields.location_state.as_deref(), Some("TX"));
        assert_eq!(good.fields.photos.len(), 2);
        assert_eq!(good.warnings, []);
    }

    #[test]
    fn the_smallest_record_is_accepted() {
        let good = judge(json!({"vin": "3ALHCYFE3LDLM8435", "year": 2020, "make": "Freightliner"}));
        let good = good.expect("accepted");
        assert_eq!(good.fields.model, "Unknown");
        assert_eq!(good.fields.price, None);
        assert_eq!(good.listing_type, None);
    }

    #[test]
    fn each_wrong_field_is_named_with_its_kind() {
        use IssueCode::*;
        for (field, value, code) in [
            ("vin", json!(null), Required),
            ("vin", json!(17), WrongType),
            ("vin", json!("3ALHCYFE3LDLM843"), BadFormat),
            ("vin", json!("3ALHCYFE3LDLM843O"), BadFormat),
            ("year", json!(null), Required),
            ("year", json!("2020"), WrongType),
            ("year", json!(1989), OutOfRange),
            ("year", json!(2029), OutOfRange),
            ("year", json!(2020.5), BadFormat),
            ("make", json!(""), Required),
            ("make", json!("  "), Required),
            ("make", json!("a\u{0}b"), BadFormat),
            ("model", json!("m".repeat(101)), TooLong),
            ("listing_type", json!("boat"), NotAllowed),
            ("new_or_used", json!("old"), NotAllowed),
            ("price", json!(-1), OutOfRange),
            ("price", json!(89500.5), BadFormat),
            ("price", json!("89500"), WrongType),
            ("price", json!(1e300), BadFormat),
            ("horsepower", json!(true), WrongType),
            ("axle_config", json!("6 by 4"), BadFormat),
            ("location_state", json!("Texas"), BadFormat),
            ("description", json!("d".repeat(20_001)), TooLong),
            (
                "description",
                json!("our key is tr_live_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p61m7ev9"),
                ContainsKey,
            ),
            ("photos", json!("https://img.example/1.jpg"), WrongType),
            ("photos", json!(vec!["https://x/1"; 101]), TooLong),
        ] {
            let issues = judge(with(field, value.clone())).expect_err("refused");
            assert_eq!(issues.len(), 1, "{field} = {value}: {issues:?}");
            assert_eq!(
                (issues[0].field.as_str(), issues[0].code),
                (field, code),
                "{value}"
            );
        }
        let issues = judge(with(
            "photos",
            json!(["https://x/1", "http://x/2", "https:///x", 3]),
        ))
        .expect_err("refused");
        let fields: Vec<_> = issues.iter().map(|i| i.field.as_str()).collect();
        assert_eq!(fields, ["photos[1]", "photos[2]", "photos[3]"]);
    }

    #[test]
    fn everything_wrong_is_found_at_once() {
        let issues = judge(json!({"year": 1, "price": "x"})).expect_err("refused");
        let fields: Vec<_> = issues.iter().map(|i| i.field.as_str()).collect();
        assert_eq!(fields, ["vin", "year", "make", "price"]);
    }

    #[test]
    fn oddities_are_warnings_unless_the_operator_is_strict() {
        let odd = with("vin", json!("3ALHCYFE4LDLM8435"));
        let good = judge(odd.clone()).expect("accepted");
        assert_eq!(good.warnings[0].code, IssueCode::VinCheckDigit);
        let issues = validate(&record(odd), Rules { strict_vin: true }, 2026).expect_err("refused");
        assert_eq!(issues[0].code, IssueCode::VinCheckDigit);
        let good = judge(with("year", json!(2019))).expect("accepted");
        assert_eq!(good.warnings[0].code, IssueCode::VinYear);
        let good = judge(with("milage", json!(5))).expect("accepted");
        assert_eq!(good.warnings[0].code, IssueCode::UnknownField);
        assert_eq!(good.warnings[0].field, "milage");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,30}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 4, |inner| {
            proptest::collection::vec(inner, 0..4).prop_map(Value::from)
        })
    }

    proptest! {
        /// Whatever one field holds, the record is refused with a reason or stored in a form that the pipeline accepts
        /// again unchanged.
        #[test]
        fn nothing_panics_and_what_is_normal_stays_so(at in 0usize..20, value in any_json()) {
            let mut changed = whole();
            let field = whole().as_object().and_then(|o| o.keys().nth(at).cloned()).unwrap_or_default();
            changed[field] = value;
            match judge(changed) {
                Err(issues) => prop_assert!(!issues.is_empty()),
                Ok(first) => {
                    let mut again = serde_json::to_value(&first.fields).expect("JSON");
                    again["vin"] = first.vin.as_str().into();
                    let second = judge(again).expect("still accepted");
                    prop_assert_eq!(second.fields, first.fields);
                }
            }
        }
    }
}
