//! Every example in the documents is run, as a reader would run it: calls by curl against the real binary, programs by
//! Node and Python, command lines at least as far as the program understands them. The one in Rust is compiled with these
//! tests.
//!
//! A block marked `sh` stands after a comment that says what status its last answer has. Within a document the blocks run
//! in order, with a Seller of their own that lists nothing yet. The commands of one page are a walk, and are all run.
//!
//! Never: an example that is left out because it cannot be run.

mod two_keys;
mod walk;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use self::two_keys::TruckRadar;
use crate::support::{
    binary::{Place, Served, program},
    client::Client,
    key_act::KeyAct::{CutOver, Generate, Prepare},
    person::Person,
};

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
    let (mut before, mut indent) = ("", "");
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.trim().strip_prefix("```")) {
            (None, Some(language)) => {
                let expected = before
                    .trim()
                    .strip_prefix("<!-- expect ")
                    .and_then(|rest| rest.strip_suffix(" -->"))
                    .map(str::to_owned);
                let place = format!("{name}:{}", number + 1);
                indent = &line[..line.len() - line.trim_start().len()];
                open = Some(Block {
                    language: language.to_owned(),
                    text: String::new(),
                    expected,
                    place,
                });
            }
            (Some(block), None) => {
                // Within a list all of a block stands as far in as its fence does.
                block
                    .text
                    .push_str(line.strip_prefix(indent).unwrap_or(line));
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

/// An example with our server in place of the documents'.
fn local(text: &str, served: &Served) -> String {
    let here = format!("http://{}", served.api);
    HOSTS
        .iter()
        .fold(text.to_owned(), |text, host| text.replace(host, &here))
}

/// How a reader runs a program in this language.
fn program_of(place: &Place, language: &str, text: &str) -> Command {
    let (interpreter, name) = match language {
        "ts" => ("node", "example.mjs"),
        "python" => ("python3", "example.py"),
        other => panic!("nothing runs {other}"),
    };
    let script = place.path().join(name);
    fs::write(&script, text).expect("writes");
    let mut program = Command::new(interpreter);
    // Python asks a proxy even for this machine, if the environment names one.
    program.arg(&script).env("NO_PROXY", "127.0.0.1");
    program
}

/// The key of a platform to which the documents' dealer has given access.
fn platform_with_access(place: &Place, served: &Served) -> String {
    let args = [
        "platform", "create", "--name", "Feedhub", "--slug", "feedhub",
    ];
    let made = place.json(&args, "");
    let id = made["platform"]["id"].as_str().expect("an id");
    let give = async {
        let mut owner = Person::owner_of(served.api, "lone-star-trucks").await;
        let page = owner
            .get("/dashboard/settings?seller=lone-star-trucks")
            .await;
        let form = page.form("/dashboard/settings/platforms/grant");
        owner.send(&form.with("platform", id)).await.led_to();
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(give);
    let made = place.json(&["platform", "key", "--platform", "feedhub"], "");
    made["key"].as_str().expect("a key").to_owned()
}

#[test]
fn every_call_in_the_documents_answers_as_the_document_says() {
    let mut calls = 0;
    for document in documents() {
        let blocks = blocks(&document);
        if !blocks
            .iter()
            .any(|block| matches!(block.language.as_str(), "sh" | "ts" | "python"))
        {
            continue;
        }
        let place = Place::new();
        let served = place.serve(&[]);
        place.create_seller("lone-star-trucks");
        let key = place.generate("lone-star-trucks");
        let is_of_platforms = |block: &Block| block.text.contains("TRUCKRADAR_PLATFORM_KEY");
        let platform_key = match blocks.iter().any(is_of_platforms) {
            true => platform_with_access(&place, &served),
            false => String::new(),
        };
        for block in &blocks {
            let (text, at) = (local(&block.text, &served), &block.place);
            match block.language.as_str() {
                "sh" => {
                    let expected = block.expected.as_deref();
                    let expected = expected
                        .unwrap_or_else(|| panic!("{at}: a call does not say what it expects"));
                    let mut shell = Command::new("sh");
                    shell
                        .args(["-ec", &text])
                        .env("TRUCKRADAR_API_KEY", &key)
                        .env("TRUCKRADAR_PLATFORM_KEY", &platform_key)
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
                "ts" | "python" => {
                    let mut program = program_of(&place, &block.language, &text);
                    let output = program.env("TRUCKRADAR_API_KEY", &key).output();
                    let output = output.expect("it runs");
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

/// The examples of clients that hold two keys, by their language.
fn two_key_clients() -> Vec<Block> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/authentication.md");
    let mut found = blocks(&document);
    found
        .retain(|block| block.language == "rust" || block.text.contains("TRUCKRADAR_NEXT_API_KEY"));
    found
}

/// What is added to an example, so that it calls once for each line it reads, and says the status.
fn calls_when_told(language: &str) -> &'static str {
    match language {
        "ts" => {
            "import { createInterface } from \"node:readline\";\n\
             for await (const _ of createInterface({ input: process.stdin })) {\n\
               console.log((await call(\"/api/v1/key\")).status);\n\
             }\n"
        }
        "python" => {
            "import sys\n\
             for line in sys.stdin:\n    print(call(\"/api/v1/key\")[0], flush=True)\n"
        }
        other => panic!("nothing runs {other}"),
    }
}

/// An example that runs as a program of its own and calls when it is told to.
struct Caller {
    child: Child,
    told: BufReader<ChildStdout>,
}

impl Caller {
    fn start(place: &Place, served: &Served, block: &Block, keys: &[String; 2]) -> Self {
        let text = local(&block.text, served) + "\n" + calls_when_told(&block.language);
        let mut child = program_of(place, &block.language, &text)
            .env("TRUCKRADAR_API_KEY", &keys[0])
            .env("TRUCKRADAR_NEXT_API_KEY", &keys[1])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let told = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, told }
    }

    fn call(&mut self) -> String {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(b"call\n").expect("it reads");
        let mut status = String::new();
        self.told.read_line(&mut status).expect("it answers");
        status.trim().to_owned()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many requests were refused so far because their key was revoked.
async fn revoked(served: &Served) -> u64 {
    let metrics = Client::new(served.admin, None).get("/metrics").await.text;
    let line = "truckradar_refused_total{reason=\"revoked\"} ";
    let count = metrics.lines().find_map(|said| said.strip_prefix(line));
    count.expect("is counted").parse().expect("a number")
}

/// A Seller's live key and a prepared one.
async fn two_keys(place: &Place) -> [String; 2] {
    let mut keys = Vec::new();
    for act in [Generate, Prepare] {
        let made = act.quickly(place).await;
        keys.push(made["key"].as_str().expect("a key").to_owned());
    }
    keys.try_into().expect("two")
}

/// A client as the document has it goes on through a cut-over: one 401, and then the key that works.
#[tokio::test(flavor = "multi_thread")]
async fn the_documents_clients_with_two_keys_change_over_on_401() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let clients = two_key_clients();
    let languages: Vec<_> = clients.iter().map(|c| c.language.as_str()).collect();
    assert_eq!(languages, ["ts", "python", "rust"]);
    for block in clients.iter().filter(|block| block.language != "rust") {
        let keys = two_keys(&place).await;
        let mut caller = Caller::start(&place, &served, block, &keys);
        let refused = revoked(&served).await;
        assert_eq!(caller.call(), "200", "{}: before", block.place);
        CutOver.quickly(&place).await;
        assert_eq!(caller.call(), "200", "{}: changes over", block.place);
        assert_eq!(caller.call(), "200", "{}: afterwards", block.place);
        assert_eq!(revoked(&served).await, refused + 1, "{}", block.place);
    }
}

#[tokio::test]
async fn the_documents_client_in_rust_is_what_is_compiled_here_and_changes_over_on_401() {
    let (_, source) = include_str!("docs_examples/two_keys.rs")
        .split_once("\n\n")
        .expect("an opening, and then the example");
    let clients = two_key_clients();
    let in_rust: Vec<_> = clients.iter().filter(|c| c.language == "rust").collect();
    assert_eq!(in_rust.len(), 1, "one example in Rust: {in_rust:?}");
    assert_eq!(in_rust[0].text, source, "{}", in_rust[0].place);

    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let keys = two_keys(&place).await;
    let mut api = TruckRadar::new(keys.to_vec());
    let path = format!("http://{}/api/v1/key", served.api);
    let mut call = async || {
        let answer = api.call(|http| http.get(&path)).await;
        answer.expect("an answer").status().as_u16()
    };
    assert_eq!(call().await, 200, "before");
    CutOver.quickly(&place).await;
    assert_eq!(call().await, 200, "changes over");
    assert_eq!(call().await, 200, "afterwards");
    assert_eq!(revoked(&served).await, 1);
    // With keys that are both dead it gives up after three times.
    Generate.quickly(&place).await;
    assert_eq!(call().await, 401);
    assert_eq!(revoked(&served).await, 4);
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
                    // What the shell reads, it reads; the program is asked about the rest.
                    let cut =
                        [" < ", " 2> "].map(|sign| arguments.find(sign).unwrap_or(arguments.len()));
                    let arguments = &arguments[..cut[0].min(cut[1])];
                    let arguments = arguments.trim_end_matches('&');
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
