//! The alert rules that operators are given: each asks for what a node really measures, and the guide says what to do about it.
//!
//! Never: a rule about a metric that was renamed.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use crate::support::{
    binary::{Place, Served},
    client::Client,
};

/// One rule, as the file has it.
#[derive(Debug, Default)]
struct Rule {
    alert: String,
    expr: String,
    severity: String,
    summary: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file() -> String {
    fs::read_to_string(root().join("docs/operating/alerts.yml")).expect("the rules")
}

/// The rules of a file, or the line that is not of the one form that this file keeps to.
fn rules_in(yaml: &str) -> Result<Vec<Rule>, String> {
    let mut found: Vec<Rule> = Vec::new();
    let lines = yaml.lines().enumerate();
    let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    for opening in ["groups:", "  - name: truckradar-keys", "    rules:"] {
        match lines.next() {
            Some((_, line)) if line == opening => {}
            other => return Err(format!("{other:?} and not {opening}")),
        }
    }
    for (number, line) in lines {
        let wrong = || format!("{}: {line}", number + 1);
        if let Some(name) = line.strip_prefix("      - alert: ") {
            let alert = name.to_owned();
            found.push(Rule {
                alert,
                ..Rule::default()
            });
            continue;
        }
        let rule = found.last_mut().ok_or_else(wrong)?;
        if let Some(expr) = line.strip_prefix("        expr: ") {
            // What would end or change a plain scalar.
            if expr.contains(": ") || expr.contains(" #") || !expr.starts_with(char::is_alphabetic)
            {
                return Err(wrong());
            }
            rule.expr = expr.to_owned();
        } else if let Some(severity) = line.strip_prefix("          severity: ") {
            rule.severity = severity.to_owned();
        } else if let Some(summary) = line.strip_prefix("          summary: \"") {
            let inside = summary.strip_suffix('"').ok_or_else(wrong)?;
            if inside.contains(['"', '\\']) {
                return Err(wrong());
            }
            rule.summary = inside.to_owned();
        } else if let Some(wait) = line.strip_prefix("        for: ") {
            let (count, unit) = wait.split_at(wait.len() - 1);
            if count.parse::<u32>().is_err() || !matches!(unit, "s" | "m") {
                return Err(wrong());
            }
        } else if !matches!(line, "        labels:" | "        annotations:") {
            return Err(wrong());
        }
    }
    Ok(found)
}

/// The metrics that an expression names, each with the labels' values that it asks for.
fn asked_for(expr: &str) -> Vec<(String, Option<(String, String)>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = expr.match_indices("truckradar_").map(|(at, _)| at);
    starts
        .map(|at| {
            let name: String = expr[at..].chars().take_while(|c| is_name(*c)).collect();
            let label = expr[at + name.len()..].strip_prefix('{').map(|rest| {
                let inside = rest.split('}').next().unwrap_or_default();
                let (label, value) = inside.split_once('=').expect("a label and its value");
                (label.to_owned(), value.trim_matches('"').to_owned())
            });
            (name, label)
        })
        .collect()
}

/// What of the rules no line of `/metrics` answers to.
fn unanswered(rules: &[Rule], metrics: &str) -> Vec<String> {
    let is_there = |name: &str, label: &Option<(String, String)>| {
        metrics.lines().any(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| match label {
                None => rest.starts_with([' ', '{']),
                Some((label, value)) => {
                    let labels = rest.split('}').next().unwrap_or_default();
                    labels.contains(&format!("{label}=\"{value}\""))
                }
            })
        })
    };
    let asked = rules.iter().flat_map(|rule| asked_for(&rule.expr));
    asked
        .filter(|(name, label)| !is_there(name, label))
        .map(|(name, label)| format!("{name} {label:?}"))
        .collect()
}

async fn metrics(node: &Served) -> String {
    Client::new(node.admin, None).get("/metrics").await.text
}

#[tokio::test]
async fn every_alert_asks_for_what_a_node_measures_and_the_guide_says_what_to_do() {
    let place = Place::on_postgres().await;
    let node = place.serve(&["--node-name", "a"]);
    let rules = rules_in(&file()).expect("the rules' form");
    assert!(rules.len() >= 10, "{rules:?}");
    let measured = metrics(&node).await;
    assert_eq!(unanswered(&rules, &measured), Vec::<String>::new());

    let guide = fs::read_to_string(root().join("docs/operating.md")).expect("the guide");
    let mut names = BTreeSet::new();
    for rule in &rules {
        assert!(names.insert(&rule.alert), "{} stands twice", rule.alert);
        assert!(!asked_for(&rule.expr).is_empty(), "{rule:?}");
        assert!(
            ["page", "warning", "info"].contains(&rule.severity.as_str()),
            "{rule:?}"
        );
        assert!(!rule.summary.is_empty(), "{rule:?}");
        assert!(
            guide.contains(&format!("`{}`", rule.alert)),
            "{}",
            rule.alert
        );
    }
    // Prometheus' own judgement besides, where its tool is: Debian's package of it is a whole monitoring server.
    let checked = Command::new("promtool")
        .args(["check", "rules", "docs/operating/alerts.yml"])
        .current_dir(root())
        .output();
    if let Ok(output) = checked {
        assert!(output.status.success(), "{output:?}");
    }
    // And the guide names every metric that there is.
    for line in measured.lines() {
        let Some(rest) = line.strip_prefix("# TYPE ") else {
            continue;
        };
        let name = rest.split(' ').next().unwrap_or_default();
        let told = [format!("`{name}`"), format!("`{name}{{")];
        assert!(told.iter().any(|told| guide.contains(told)), "{name}");
    }

    // The checks see what is wrong.
    let made_up = [Rule {
        expr: "truckradar_truste == 0 or truckradar_cycles_total{outcome=\"lost\"} > 0".to_owned(),
        ..Rule::default()
    }];
    assert_eq!(unanswered(&made_up, &measured).len(), 2);
    for broken in [
        "groups: []",
        "groups:\n  - name: truckradar-keys\n    rules:\n     - alert: X",
    ] {
        assert!(rules_in(broken).is_err(), "{broken}");
    }
}
