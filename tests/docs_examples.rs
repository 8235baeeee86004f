//! Every example in the documents is run, as a reader would run it: calls by curl against the real binary, programs by
//! Node, command lines at least as far as the program understands them.
//!
//! A block marked `sh` stands after a comment that says what status its last answer has. Within a document the blocks run
//! in order, with a Seller of their own that lists nothing yet.
//!
//! Never: an example that is left out because it cannot be run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::binary::{Place, program};

/// What the documents call the server: by a public name, or as it is reached beside it.
const HOSTS: [&str; 2] = ["https://truckradar.example", "http://127.0.0.1:8080"];

/// A fenced block: its language, its text, the comment before it, where it begins.
#[derive(Debug)]
struct Block {
    language: String,
    text: String,
    expected: Option<String>,
    place: String,
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = vec![root.join("README.md")];
    let docs = fs::read_dir(root.join("docs")).expect("docs/");
    all.extend(
        docs.map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|e| e == "md")),
    );
    all.sort();
    all
}

fn blocks(document: &Path) -> Vec<Block> {
    let text = fs::read_to_string(document).expect("a document");
    let name = document
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    let mut before = "";
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.trim().strip_prefix("```")) {
            (None, Some(language)) => {
                let expected = before
                    .trim()
                    .strip_prefix("<!-- expect ")
                    .and_then(|rest| rest.strip_suffix(" -->"))
                    .map(str::to_owned);
                let place = format!("{name}:{}", number + 1);
                open = Some(Block {
                    language: language.to_owned(),
                    text: String::new(),
                    expected,
                    place,
                });
            }
            (Some(block), None) => {
                block.text.push_str(line.trim_start_matches("   "));
                block.text.push('\n');
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, None) => {}
        }
        if !line.trim().is_empty() {
            before = line;
        }
    }
    assert!(open.is_none(), "{name}: a block is not closed");
    found
}

#[test]
fn every_call_in_the_documents_answers_as_the_document_says() {
    let mut calls = 0;
    for document in documents() {
        let blocks = blocks(&document);
        if !blocks
            .iter()
            .any(|block| matches!(block.language.as_str(), "sh" | "ts"))
        {
            continue;
        }
        let place = Place::new();
        let served = place.serve(&[]);
        place.create_seller("lone-star-trucks");
        let key = place.generate("lone-star-trucks");
        let here = format!("http://{}", served.api);
        let local = |text: &str| {
            HOSTS
                .iter()
                .fold(text.to_owned(), |text, host| text.replace(host, &here))
        };
        for block in &blocks {
            let (text, at) = (local(&block.text), &block.place);
            match block.language.as_str() {
                "sh" => {
                    let expected = block.expected.as_deref();
                    let expected = expected
                        .unwrap_or_else(|| panic!("{at}: a call does not say what it expects"));
                    let mut shell = Command::new("sh");
                    shell
                        .args(["-ec", &text])
                        .env("TRUCKRADAR_API_KEY", &key)
                        .current_dir(place.path());
                    let output = shell.output().expect("sh runs");
                    let said = String::from_utf8_lossy(&output.stdout).into_owned();
                    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(output.status.success(), "{at}: {complaint}\n{text}");
                    let status = said
                        .lines()
                        .rev()
                        .find_map(|line| line.strip_prefix("HTTP/1.1 "));
                    let status = status.and_then(|line| line.split(' ').next());
                    assert_eq!(status, Some(expected), "{at}:\n{text}\n{said}");
                    calls += 1;
                }
                "ts" => {
                    let script = place.path().join("example.mjs");
                    fs::write(&script, text).expect("writes");
                    let mut node = Command::new("node");
                    let output = node
                        .arg(&script)
                        .env("TRUCKRADAR_API_KEY", &key)
                        .output()
                        .expect("node runs");
                    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(output.status.success(), "{at}: {complaint}");
                    calls += 1;
                }
                _ => {}
            }
        }
    }
    assert!(calls > 10, "the documents hold examples: {calls}");
}

#[test]
fn every_json_in_the_documents_is_json() {
    for document in documents() {
        for block in blocks(&document)
            .iter()
            .filter(|block| block.language == "json")
        {
            let parsed = serde_json::from_str::<serde_json::Value>(&block.text);
            assert!(
                parsed.is_ok(),
                "{}: {parsed:?}\n{}",
                block.place,
                block.text
            );
        }
    }
}

/// The program understands every command line that a document shows: it is asked for that command's help.
#[test]
fn every_command_in_the_documents_is_one() {
    let mut commands = 0;
    for document in documents() {
        for block in blocks(&document)
            .iter()
            .filter(|block| block.language == "console")
        {
            let joined = block.text.replace("\\\n", " ");
            for line in joined
                .lines()
                .filter_map(|line| line.trim().strip_prefix("$ "))
            {
                for part in line.split('|').map(str::trim) {
                    let Some(arguments) = part.strip_prefix("truckradar ") else {
                        continue;
                    };
                    let arguments = arguments
                        .split(" < ")
                        .next()
                        .unwrap_or_default()
                        .trim_end_matches('&');
                    let line = format!("{} {arguments} --help", program());
                    let output = Command::new("sh")
                        .args(["-c", &line])
                        .output()
                        .expect("sh runs");
                    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(
                        output.status.success(),
                        "{}: {part}\n{complaint}",
                        block.place
                    );
                    commands += 1;
                }
            }
        }
    }
    assert!(commands > 5, "the documents hold commands: {commands}");
}
