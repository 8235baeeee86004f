//! How answers are printed.
//!
//! Never: anything but the answer on standard output, so that it can be piped.

use std::io::{self, Write};

use anyhow::Context;
use comfy_table::{Table, presets::NOTHING};
use serde_json::Value;

use crate::keys::revocation::Receipt;

/// One line of JSON.
pub(super) fn json(value: &Value) -> anyhow::Result<()> {
    text(&value.to_string())
}

/// Text and a line end.
pub(super) fn text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        // Whoever read our output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output cannot be written"),
    }
}

/// A key, alone on its line. Unlike other output it must reach somebody: nobody can ask for it again.
pub(super) fn secret(key: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{key}").and_then(|()| out.flush()).context(
        "the new key could not be printed and is lost; the old one is dead. Generate again",
    )
}

/// Names and values, one to a line.
pub(super) fn facts(facts: &[(&str, String)]) -> anyhow::Result<()> {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = facts
        .iter()
        .map(|(name, value)| format!("{name:width$}  {value}"))
        .collect();
    text(&lines.join("\n"))
}

/// Columns under headings.
pub(super) fn table(headings: &[&str], rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    text(&lines.join("\n"))
}

/// A value of an answer as a person reads it; a dash for what is not there.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A receipt in a few words, which follow a verb.
pub(super) fn receipt(receipt: &Value) -> String {
    match serde_json::from_value::<Receipt>(receipt.clone()) {
        Ok(receipt) => format!("{} (epoch {})", receipt.in_words(), receipt.epoch),
        // Of a server of another version.
        Err(_) => receipt.to_string(),
    }
}
