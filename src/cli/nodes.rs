//! `truckradar nodes`.
//!
//! Never: a server told to be there that nothing lists.

use serde_json::Value;

use super::{Common, IfMissing, perform, print};
use crate::{db::DbUrl, operator::Command};

/// Lists the nodes on the database.
pub(super) async fn run(common: &Common) -> anyhow::Result<()> {
    let answer = perform(common, Command::Nodes, IfMissing::Refuse).await?;
    if common.json {
        return print::json(&answer);
    }
    let epoch = print::plain(&answer["epoch"]);
    let nodes = answer["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    if nodes.is_empty() {
        let none = match common.database.database {
            DbUrl::Sqlite(_) => "No server is running.",
            // One that was cut off from the database may be; it answers no request by its memory.
            DbUrl::Postgres(_) => "No node is listed.",
        };
        return print::text(&format!("{none} The database is at epoch {epoch}."));
    }
    print::text(&format!("The database is at epoch {epoch}."))?;
    print::table(
        &[
            "NODE", "TRUST", "EPOCH", "BEHIND", "RENEWED", "STARTED", "VERSION", "ID",
        ],
        nodes.iter().map(row).collect(),
    )
}

fn row(node: &Value) -> Vec<String> {
    let silent = node["silent_ms"]
        .as_f64()
        .map(|ms| format!("{:.1} s", ms / 1000.0));
    let trust = match (node["trust"].as_str(), &silent) {
        (Some("lapsed"), Some(silent)) => format!("silent for {silent}"),
        _ => print::plain(&node["trust"]),
    };
    vec![
        print::plain(&node["name"]),
        trust,
        print::plain(&node["epoch"]),
        print::plain(&node["behind"]),
        silent.map_or_else(|| "-".to_owned(), |silent| format!("{silent} ago")),
        print::plain(&node["started_at"]),
        print::plain(&node["version"]),
        print::plain(&node["id"]),
    ]
}
