//! The one table of attacks in `docs/security.md` names tests: each is there, and no row is without one.
//!
//! Never: a test named that was renamed or taken away.

use std::{fs, path::Path};

/// Every test and every contract's sentence, as the sources spell them: those of the test programs and those beside the code.
fn sources() -> String {
    let mut text = String::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("tests"), root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("is there") {
            let path = entry.expect("is there").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).expect("is text");
                text += tests_in(&source, path.starts_with(root.join("src")));
            }
        }
    }
    text
}

/// In a file of the product only what stands below `#[cfg(test)]` may count: a function of the product tries nothing.
fn tests_in(source: &str, is_product: bool) -> &str {
    match is_product {
        true => source
            .split_once("#[cfg(test)]")
            .map_or("", |(_, tests)| tests),
        false => source,
    }
}

fn is_test(name: &str, sources: &str) -> bool {
    let told = [
        format!("fn {name}("),
        format!("    {name}: contract_"),
        format!("\n    {name}\n"),
    ];
    told.iter().any(|told| sources.contains(told))
}

/// What is wrong with a table's rows.
fn complaints(document: &str, sources: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for line in document.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let [about, attack, _, tests] = cells.as_slice() else {
            complaints.push(format!("not four cells: {line}"));
            continue;
        };
        if about.trim() == "about" {
            continue;
        }
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            complaints.push(format!("no test tries {attack}"));
        }
        for name in names {
            if !is_test(name, sources) {
                complaints.push(format!("there is no test {name}"));
            }
        }
    }
    complaints
}

#[test]
fn each_attack_is_tried_by_a_test_that_is_there() {
    let document = include_str!("../docs/security.md");
    assert!(
        document
            .lines()
            .filter(|line| line.starts_with("| "))
            .count()
            > 10
    );
    assert_eq!(complaints(document, &sources()), Vec::<String>::new());
}

#[test]
fn an_attack_without_a_test_would_be_named() {
    let sources = "#[test]\nasync fn it_holds() {}\n";
    let head = "| about | attack | what stops it | test |\n|---|---|---|---|\n";
    for (row, wrong) in [
        ("| x | a | b | `it_holds` |", 0),
        ("| x | a | b | `it_held` |", 1),
        ("| x | a | b | `it_holds`, `it_held` |", 1),
        ("| x | a | b | none |", 1),
        ("| x | a | `it_holds` |", 1),
    ] {
        let found = complaints(&format!("{head}{row}\n"), sources);
        assert_eq!(found.len(), wrong, "{row}: {found:?}");
    }
}

#[test]
fn a_function_of_the_product_is_not_taken_for_a_test() {
    let source = "fn erase() {}\n#[cfg(test)]\nmod tests {\nfn it_erases() {}\n}";
    assert!(!is_test("erase", tests_in(source, true)));
    assert!(is_test("it_erases", tests_in(source, true)));
    assert!(is_test("erase", tests_in(source, false)));
}
