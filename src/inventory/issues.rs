//! What can be wrong, or odd, with a record: stable codes for programs, messages for people.
//!
//! Never: a key in what is sent back, nor a value longer than a person reads.

use serde::Serialize;
use serde_json::Value;

use crate::keys::format::redact;

/// Characters of a refused value that are sent back.
const SHOWN_CHARS: usize = 200;

/// One thing wrong, or odd, with a record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Issue {
    /// Which field.
    pub field: String,
    /// What kind of thing, stable.
    pub code: IssueCode,
    /// What is wrong, and what to do.
    pub message: String,
    /// What was sent, cut to a readable length.
    pub value: Value,
}

/// Kinds of issues; stable names that a program may branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IssueCode {
    /// The field must be there.
    Required,
    /// The field is of another JSON type than it must be.
    WrongType,
    /// A number outside its bounds.
    OutOfRange,
    /// Longer than is accepted.
    TooLong,
    /// Not of the form that the field has.
    BadFormat,
    /// Not one of the words that the field knows.
    NotAllowed,
    /// The VIN's ninth character is not what the others demand.
    VinCheckDigit,
    /// The stated year is none that the VIN's tenth character can mean.
    VinYear,
    /// The record has a field that is not known; it was not stored.
    UnknownField,
    /// The VIN stands in this batch before; the later record counts.
    RepeatedVin,
    /// Another dealer lists this VIN.
    OtherDealer,
    /// There is an API key in the text.
    ContainsKey,
}

/// An issue whose value is cut to a readable length.
pub(super) fn issue(
    field: &str,
    code: IssueCode,
    message: impl Into<String>,
    value: &Value,
) -> Issue {
    let value = match value {
        Value::String(text) => Value::from(shown(text)),
        Value::Array(_) | Value::Object(_) => Value::from(shown(&value.to_string())),
        other => other.clone(),
    };
    Issue {
        field: shown(field),
        code,
        message: message.into(),
        value,
    }
}

/// Text as it may be sent back: its beginning, without a key that strayed into it.
fn shown(text: &str) -> String {
    redact(text).chars().take(SHOWN_CHARS).collect()
}
