//! The rule for gitleaks that operators and dealers are given: the file is read, and its expression tried on samples.
//!
//! gitleaks itself is not run: it is another project's binary, which a machine need not have. Its expressions are those of Go's
//! library (RE2), of which the crate used here has the same syntax for all that stands in this file.
//!
//! Never: a rule of which only its own text is looked at.

use std::{fs, path::Path};

use regex::Regex;
use serde::Deserialize;
use truckradar::keys::format::{SecretKey, digest_presented, keys_in};

#[derive(Deserialize)]
struct File {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    id: String,
    regex: String,
    keywords: Vec<String>,
    allowlists: Vec<Allowed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Allowed {
    regex_target: String,
    regexes: Vec<String>,
}

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(path)).expect(path)
}

fn rule() -> Rule {
    let file: File = basic_toml::from_str(&read("docs/operating/gitleaks.toml")).expect("TOML");
    let [rule] = <[Rule; 1]>::try_from(file.rules).ok().expect("one rule");
    rule
}

/// What gitleaks would report of a text: a keyword must be in it, the expression match, and the match not be allowed.
fn found<'a>(rule: &Rule, text: &'a str) -> Vec<&'a str> {
    let lower = text.to_lowercase();
    if !rule
        .keywords
        .iter()
        .any(|word| lower.contains(word.as_str()))
    {
        return Vec::new();
    }
    let expression = |text: &str| Regex::new(text).expect("an expression");
    let allowed: Vec<Regex> = rule
        .allowlists
        .iter()
        .inspect(|list| assert_eq!(list.regex_target, "match"))
        .flat_map(|list| &list.regexes)
        .map(|text| expression(text))
        .collect();
    expression(&rule.regex)
        .find_iter(text)
        .map(|found| found.as_str())
        .filter(|found| !allowed.iter().any(|allowed| allowed.is_match(found)))
        .collect()
}

#[test]
fn the_rule_finds_every_key_and_nothing_that_cannot_be_one() {
    let rule = rule();
    assert_eq!(rule.id, "truckradar-api-key");
    for _ in 0..20 {
        let key = SecretKey::generate().expect("randomness");
        let key = key.expose();
        for text in [
            key.to_owned(),
            format!("TRUCKRADAR_API_KEY={key}\n"),
            format!("Authorization: Bearer {key}"),
            format!("{{\"key\":\"{key}\"}}"),
            format!("const key = '{key}';"),
            format!("https://a.example/?key={key}&x=1"),
            format!("-H \"Authorization: Bearer {key}\" \\"),
            // A letter or a digit before it that is no part of a word.
            format!("curl https://a.example/?auth=Bearer%20{key}"),
            format!("https://a.example/?next=%2F%3Fkey%3D{key}"),
            format!(r#"{{"env":"A=b\n{key}\nC=d"}}"#),
            format!("x{key}"),
        ] {
            assert_eq!(found(&rule, &text), [key], "{text}");
            // As the server itself would find it in what somebody hands in.
            let server = keys_in(&text, 10);
            assert_eq!(
                server.iter().map(SecretKey::expose).collect::<Vec<_>>(),
                [key]
            );
        }
    }
    let key = SecretKey::generate().expect("randomness");
    let key = key.expose();
    for none in [
        &key[..45],
        &format!("{key}0"),
        &key.replace("tr_live_", "tr_test_"),
        &key.replace("tr_live_", "sk_live_"),
        &format!("{}-{}", &key[..20], &key[20..]),
        "tr_live_",
        "tr_live_••••a9f3",
        "tr_live_(redacted)",
    ] {
        assert_eq!(found(&rule, none), [""; 0], "{none}");
    }
}

#[test]
fn the_documents_examples_are_allowed_and_are_the_only_ones() {
    let rule = rule();
    let vectors = [
        "tr_live_000000000000000000000000000000000Q5GMF",
        "tr_live_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p61m7ev9",
        "tr_live_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz1BSNIP",
    ];
    for vector in vectors {
        assert!(digest_presented(vector.as_bytes()).is_ok(), "{vector}");
        assert_eq!(found(&rule, vector), [""; 0], "{vector}");
    }
    let docs = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).expect("docs/");
    for entry in docs {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).expect("text");
            assert_eq!(found(&rule, &text), [""; 0], "{}", path.display());
        }
    }
}

#[test]
fn the_page_for_finders_has_the_same_rule_and_the_same_pattern() {
    let (page, rule) = (read("docs/leaks.md"), rule());
    assert!(
        page.contains(&format!("`{}`", rule.regex)),
        "{}",
        rule.regex
    );
    let (_, block) = page.split_once("```toml\n").expect("the rule");
    let (block, _) = block.split_once("```").expect("its end");
    let file = read("docs/operating/gitleaks.toml");
    let bare: Vec<&str> = file
        .lines()
        .skip_while(|line| line.starts_with('#') || line.is_empty())
        .collect();
    assert_eq!(block.trim(), bare.join("\n").trim());
}
