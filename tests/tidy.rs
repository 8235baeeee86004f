//! The rules that no compiler knows: which room may import which, who may name which crate, where a key may leave, and
//! how a file begins. Read from the sources themselves, so that a broken rule is named with its line.
//!
//! Never: a rule that cannot fail: each is shown a made-up source that breaks it; an allow-list that grows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

/// The import rule: modules from the top of the house to its ground. A module may use what stands below it, and the
/// modules beside it in its own room; nothing above, and no other room on its own floor.
///
/// A name that ends in `::` is a whole room, the others are single files: a room whose files stand on several floors lists
/// each. Where a file stands follows from what it needs:
///
/// - `config` stands on the database because it holds `--database` as the type that `db` parses it into; so nothing that the
///   database is made of may know an option.
/// - `accounts` and `keys` and `inventory` have a pure part (their words and forms), which the database stores, and a part
///   that acts, which uses the database. `accounts` itself (`mod.rs`) is the pure part's re-exports.
/// - `mail` has words, which the use cases write into the outbox, and a sender, which nothing but a running server uses;
///   `config` knows where mails go.
/// - The files of the last floor know nothing of the house: time, identity, "run to the end", the acts of the audit log, a
///   certificate and its key, and the form of a key of ours, since whatever keeps a text must be able to tell that there is
///   a key in it.
const RANK: &[(&str, &[&str])] = &[
    ("the program", &["main"]),
    ("the command line", &["cli::"]),
    ("a running server", &["app"]),
    ("the ways in", &["http::", "control"]),
    (
        "the operator's acts",
        &["operator", "operator::accounts", "demo::"],
    ),
    ("what they share", &["services"]),
    ("who is believed about leaks", &["leaks::"]),
    (
        "the use cases",
        &[
            "keys",
            "keys::cutover",
            "keys::grants",
            "keys::incidents",
            "keys::leaks",
            "keys::lifecycle",
            "keys::limits",
            "keys::origins",
            "keys::revocation",
            "keys::revocation::cycle",
            "keys::revocation::figures",
            "keys::revocation::receipt",
            "keys::revocation::roster",
            "keys::revocation::wait",
            "keys::ring",
            "keys::standing",
            "keys::usage",
            "inventory",
            "inventory::pipeline",
            "inventory::service",
            "mail",
            "mail::sender",
            "accounts::dealers",
            "accounts::erasing",
            "accounts::guesses",
            "accounts::members",
            "accounts::passwords",
            "accounts::people",
            "accounts::recovery",
            "accounts::second_factor",
            "accounts::sellers",
            "accounts::sessions",
            "accounts::sign_in",
        ],
    ),
    (
        "what mails say and how they go",
        &[
            "mail::account_words",
            "mail::found",
            "mail::people_words",
            "mail::transport",
            "mail::words",
        ],
    ),
    (
        "the options",
        &["config", "config::keys_url", "config::public_url"],
    ),
    ("where mails go", &["mail::route"]),
    ("the database", &["db::"]),
    (
        "the pure types",
        &[
            "keys::clients",
            "keys::found",
            "keys::grant",
            "keys::networks",
            "keys::scope",
            "keys::table",
            "keys::verify",
            "inventory::listing",
            "inventory::issues",
            "inventory::validate",
            "inventory::vin",
            "accounts",
            "accounts::erased",
            "accounts::codes",
            "accounts::links",
            "accounts::names",
            "accounts::tokens",
        ],
    ),
    (
        "the ground",
        &["act", "audit", "clock", "ids", "keys::format", "tls"],
    ),
];

/// Crates that one room alone may name: what they are for is that room's work.
const CRATES: &[(&str, &[&str])] = &[
    ("db", &["sqlx"]),
    ("http", &["axum", "axum_server", "tower"]),
    ("tls", &["rustls"]),
    ("mail", &["lettre"]),
    ("leaks", &["hyper_rustls"]),
];

/// Who may act without a key: the command line's acts and the demo, which somebody with access to the machine started.
const ASSUMES_AUTHORITY: &[&str] = &["src/demo/mod.rs", "src/operator.rs"];

/// Where a key leaves the program: the answer to `key generate`, the demo's curl, its clients and the file of
/// `demo --keys-out`, and the one page that shows it. The list may only become shorter.
const KEYS_LEAVE: &[&str] = &[
    "src/cli/serve.rs",
    "src/http/pages/api_key.rs",
    "src/operator.rs",
];

/// Who makes a membership into the right to act on a Seller: the session, for a membership that it found in the database.
const MINTS_BY_MEMBERSHIP: &[&str] = &["src/accounts/sessions.rs"];

/// Who makes a key that was found into the right to have it killed: the act on found keys, for one that was presented whole and
/// that it found in the database by its digest.
const MINTS_BY_FIND: &[&str] = &["src/keys/leaks.rs"];

/// Where a Platform gets the right to a Seller without having been granted it: the transaction that brings that Seller into
/// being.
const FOUNDS: &[&str] = &["src/db/platforms.rs"];

/// Where a session's token, a link, or what a second factor is made of leaves the program: the cookie, the link, the form that a
/// link leads to, the pages that show a secret and recovery codes once; and the demo, which makes its password of a token, as
/// the hash of nobody's password does.
const TOKENS_LEAVE: &[&str] = &[
    "src/accounts/links.rs",
    "src/accounts/passwords.rs",
    "src/demo/mod.rs",
    "src/http/pages/links.rs",
    "src/http/pages/second_factor.rs",
    "src/http/session_cookie.rs",
];

/// Beyond this a file holds two ideas.
const LINES_MAX: usize = 600;

// ---------------------------------------------------------------------------------------------------------------------
// The rules, each as a function from sources to complaints.

/// One file of the program.
#[derive(Clone)]
struct Source {
    /// Such as `src/keys/format.rs`.
    path: String,
    text: Arc<str>,
    /// The tokens of its code: no comment, no text in quotes, and nothing that is compiled for tests only.
    tokens: Arc<[Token]>,
}

#[derive(Clone, Debug)]
struct Token {
    text: String,
    line: usize,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.into(),
            tokens: without_tests(&tokens(&code(text))).into(),
        }
    }

    /// Its module, such as `keys::format`; a room's `mod.rs` is the room.
    fn module(&self) -> String {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.trim_end_matches("/mod").replace('/', "::")
    }

    /// The lines on which these tokens follow one another.
    fn lines_with<'a>(&'a self, wanted: &'a [&str]) -> impl Iterator<Item = usize> + 'a {
        self.tokens
            .windows(wanted.len())
            .filter(move |window| window.iter().zip(wanted).all(|(t, w)| t.text == *w))
            .map(|window| window[0].line)
    }

    /// The same for several sequences at once.
    fn lines_with_any<'a>(&'a self, wanted: &'a [&'a [&str]]) -> BTreeSet<usize> {
        wanted
            .iter()
            .flat_map(|wanted| self.lines_with(wanted))
            .collect()
    }
}

fn imports_that_point_up(sources: &[Source]) -> Vec<String> {
    let modules: BTreeSet<String> = sources.iter().map(Source::module).collect();
    let mut complaints = Vec::new();
    for source in sources {
        let own = source.module();
        // The library's root declares the rooms and uses none.
        if own == "lib" {
            continue;
        }
        let Some(own_floor) = floor_of(&own) else {
            complaints.push(format!(
                "{}: the module {own} has no place in RANK (tests/tidy.rs): decide what it may use",
                source.path
            ));
            continue;
        };
        for (line, path) in paths(&source.tokens, &own) {
            let Some(used) = module_of(&path, &modules) else {
                continue;
            };
            let Some(used_floor) = floor_of(&used) else {
                continue; // Said of its own file.
            };
            let room = |module: &str| module.split("::").next().map(str::to_owned);
            let rule = match used_floor.cmp(&own_floor) {
                std::cmp::Ordering::Less => "imports point down only",
                std::cmp::Ordering::Equal if room(&used) != room(&own) => {
                    "rooms on one floor do not import each other"
                }
                _ => continue,
            };
            complaints.push(format!(
                "{}:{line}: {own} ({}) uses {} ({}): {rule}",
                source.path,
                RANK[own_floor].0,
                path.join("::"),
                RANK[used_floor].0,
            ));
        }
    }
    for name in RANK.iter().flat_map(|(_, names)| *names) {
        let module = name.trim_end_matches("::");
        if !modules.contains(module) {
            complaints.push(format!(
                "RANK (tests/tidy.rs) places {name}, which is no more"
            ));
        }
    }
    complaints
}

/// The floor of a module, counted from the top. A room's name stands for every file in it.
fn floor_of(module: &str) -> Option<usize> {
    RANK.iter().position(|(_, names)| {
        names.iter().any(|name| match name.strip_suffix("::") {
            Some(room) => module == room || module.starts_with(name),
            None => module == *name,
        })
    })
}

/// The module that a path leads into: the longest beginning of it that is one.
fn module_of(path: &[String], modules: &BTreeSet<String>) -> Option<String> {
    (1..=path.len())
        .rev()
        .map(|length| path[..length].join("::"))
        .find(|module| modules.contains(module))
}

/// Every path of the code that begins in this crate, wherever it stands, from the crate's root; and its line.
fn paths(tokens: &[Token], module: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = at == 0 || tokens[at - 1].text != "::";
        let leads_on = tokens.get(at + 1).is_some_and(|next| next.text == "::");
        let root: Option<Vec<String>> = match tokens[at].text.as_str() {
            // `truckradar` is what the binary calls the library.
            "crate" | "truckradar" => Some(Vec::new()),
            "self" | "super" => Some(module.split("::").map(str::to_owned).collect()),
            _ => None,
        };
        match root {
            Some(mut root) if begins && leads_on => {
                if tokens[at].text == "super" {
                    root.pop();
                }
                at = read_tree(tokens, at + 2, &root, &mut found);
            }
            _ => at += 1,
        }
    }
    found
}

/// Reads one branch of a `use` tree, or an inline path, from behind a `::`; answers where it ends.
fn read_tree(
    tokens: &[Token],
    mut at: usize,
    root: &[String],
    found: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let mut path = root.to_vec();
    loop {
        let Some(token) = tokens.get(at) else {
            return at;
        };
        match token.text.as_str() {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|next| next.text != "}") {
                    match tokens[at].text.as_str() {
                        "," => at += 1,
                        // Another name for what was just read.
                        "as" => at += 2,
                        _ => at = read_tree(tokens, at, &path, found),
                    }
                }
                return at + 1;
            }
            "super" => {
                path.pop();
            }
            "self" => {}
            name => path.push(name.to_owned()),
        }
        let line = token.line;
        at += 1;
        if tokens.get(at).is_none_or(|next| next.text != "::") {
            found.push((line, path));
            return at;
        }
        at += 1;
    }
}

fn crates_in_other_rooms(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (room, names) in CRATES {
        for source in sources {
            if source.module().split("::").next() == Some(*room) {
                continue;
            }
            for name in *names {
                for line in source.lines_with(&[name]) {
                    let path = &source.path;
                    complaints.push(format!("{path}:{line}: only src/{room} may name {name}"));
                }
            }
        }
    }
    complaints
}

fn authority_assumed_elsewhere(sources: &[Source]) -> Vec<String> {
    let calls: [&[&str]; 2] = [&["::", "assume"], &[".", "assume"]];
    compare_with_list(
        sources,
        |source| source.lines_with_any(&calls),
        ASSUMES_AUTHORITY,
        "assumes the operator's authority, which only a typed command may",
    )
}

fn keys_that_leave_elsewhere(sources: &[Source]) -> Vec<String> {
    let calls: [&[&str]; 2] = [&[".", "expose"], &["::", "expose"]];
    compare_with_list(
        sources,
        |source| source.lines_with_any(&calls),
        KEYS_LEAVE,
        "lets a key out, which the allow-list does not know",
    )
}

fn memberships_minted_elsewhere(sources: &[Source]) -> Vec<String> {
    let calls: [&[&str]; 2] = [&["::", "by_membership"], &[".", "by_membership"]];
    compare_with_list(
        sources,
        |source| source.lines_with_any(&calls),
        MINTS_BY_MEMBERSHIP,
        "makes a Seller's scope of a membership, which only a session that found it may",
    )
}

fn founded_elsewhere(sources: &[Source]) -> Vec<String> {
    let calls: [&[&str]; 2] = [&["::", "of_founded"], &[".", "of_founded"]];
    compare_with_list(
        sources,
        |source| source.lines_with_any(&calls),
        FOUNDS,
        "gives a Platform the right to a Seller, which only the transaction that makes the Seller may",
    )
}

fn finds_minted_elsewhere(sources: &[Source]) -> Vec<String> {
    let calls: [&[&str]; 2] = [&["::", "by_find"], &[".", "by_find"]];
    compare_with_list(
        sources,
        |source| source.lines_with_any(&calls),
        MINTS_BY_FIND,
        "makes a Seller's scope of a key that was found, which only the act on found keys may",
    )
}

fn tokens_that_leave_elsewhere(sources: &[Source]) -> Vec<String> {
    let calls: [&[&str]; 2] = [&[".", "reveal"], &["::", "reveal"]];
    compare_with_list(
        sources,
        |source| source.lines_with_any(&calls),
        TOKENS_LEAVE,
        "lets a token out, which the allow-list does not know",
    )
}

/// An allow-list says neither too little nor too much: an entry that is needed no more must go.
fn compare_with_list(
    sources: &[Source],
    lines: impl Fn(&Source) -> BTreeSet<usize>,
    list: &[&str],
    wrong: &str,
) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut needed = BTreeSet::new();
    for source in sources {
        let path = source.path.as_str();
        for line in lines(source) {
            needed.insert(path);
            if !list.contains(&path) {
                complaints.push(format!("{path}:{line}: {wrong}"));
            }
        }
    }
    for entry in list {
        if !needed.contains(entry) {
            complaints.push(format!(
                "{entry} stands in an allow-list of tests/tidy.rs without need: take it out"
            ));
        }
    }
    complaints
}

fn openings_missing(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for Source { path, text, .. } in sources {
        if !text.starts_with("//! ") {
            complaints.push(format!("{path}:1: a file opens with what it is for (//!)"));
        }
        // The library's root is a tour of the others.
        let says_never = text.lines().any(|line| line.starts_with("//! Never:"));
        if !says_never && path != "src/lib.rs" {
            complaints.push(format!(
                "{path}:1: a file says what it must never do, in a line that begins with //! Never:"
            ));
        }
    }
    complaints
}

fn words_that_do_not_belong(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let (path, in_cli) = (&source.path, source.module().starts_with("cli"));
        let mut forbid = |calls: &[&[&str]], rule: &str| {
            for line in source.lines_with_any(calls) {
                complaints.push(format!("{path}:{line}: {rule}"));
            }
        };
        forbid(
            &[
                &[".", "unwrap", "("],
                &["::", "unwrap"],
                &[".", "unwrap_err", "("],
                &[".", "expect", "("],
                &["::", "expect"],
                &[".", "expect_err", "("],
            ],
            "a failure is handled, not unwrapped, outside of tests",
        );
        forbid(
            &[&["todo", "!"], &["unimplemented", "!"], &["dbg", "!"]],
            "unfinished: todo!, unimplemented! and dbg! are for work in progress",
        );
        if path != "src/cli/print.rs" {
            forbid(
                &[&["println", "!"], &["print", "!"]],
                "standard output belongs to src/cli/print.rs, which survives a reader that has gone",
            );
        }
        if !in_cli {
            forbid(
                &[&["eprintln", "!"], &["eprint", "!"]],
                "standard error belongs to the log; only the command line speaks to people there",
            );
        }
    }
    complaints
}

fn files_too_long(sources: &[Source]) -> Vec<String> {
    let lines = |source: &Source| source.text.lines().count();
    sources
        .iter()
        .filter(|source| lines(source) > LINES_MAX)
        .map(|source| {
            format!(
                "{}: {} lines, over {LINES_MAX}: a file that long holds two ideas",
                source.path,
                lines(source)
            )
        })
        .collect()
}

/// What a migration makes, in words that both engines share.
#[derive(Debug, Default, PartialEq, Eq)]
struct Schema {
    /// Name to columns and constraints, in their order.
    tables: BTreeMap<String, Vec<String>>,
    /// Each `CREATE INDEX` whole.
    indexes: BTreeSet<String>,
}

/// Reads the statements that make plain tables and indexes. What only one engine knows (such as full-text tables) is made
/// by other statements and is no part of the comparison.
fn schema(sql: &str) -> Schema {
    let sql: String = sql
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    let mut schema = Schema::default();
    for statement in sql.split(';') {
        let words = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(table) = words.strip_prefix("CREATE TABLE ") {
            let (name, rest) = table.split_once('(').unwrap_or((table, ""));
            let body = rest
                .trim_end()
                .trim_end_matches("STRICT")
                .trim_end()
                .trim_end_matches(')');
            let columns = split_outside_brackets(body);
            let columns = columns.iter().map(|column| in_shared_words(column));
            schema
                .tables
                .insert(name.trim().to_owned(), columns.collect());
        } else if words.starts_with("CREATE INDEX ") || words.starts_with("CREATE UNIQUE INDEX ") {
            schema.indexes.insert(words);
        }
    }
    schema
}

fn split_outside_brackets(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

/// SQLite's names for the kinds of columns, for PostgreSQL's.
fn in_shared_words(column: &str) -> String {
    let word = |word| match word {
        "BIGINT" => "INTEGER",
        "BYTEA" => "BLOB",
        other => other,
    };
    let words: Vec<&str> = column.split_whitespace().map(word).collect();
    let words = words.join(" ").replace("DOUBLE PRECISION", "REAL");
    // SQLite compares bytes unless told otherwise; PostgreSQL has to be told.
    words.replace(" COLLATE \"C\"", "")
}

fn migrations_that_differ(
    sqlite: &BTreeMap<String, String>,
    postgres: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut complaints = Vec::new();
    let names: BTreeSet<&String> = sqlite.keys().chain(postgres.keys()).collect();
    for name in names {
        let (Some(one), Some(other)) = (sqlite.get(name), postgres.get(name)) else {
            complaints.push(format!("migrations: {name} is there for one engine only"));
            continue;
        };
        let (one, other) = (schema(one), schema(other));
        let tables: BTreeSet<&String> = one.tables.keys().chain(other.tables.keys()).collect();
        for table in tables {
            let (sqlite, postgres) = (one.tables.get(table), other.tables.get(table));
            if sqlite != postgres {
                complaints.push(format!(
                    "migrations: {name}: the table {table} differs:\n  sqlite:   {sqlite:?}\n  postgres: {postgres:?}"
                ));
            }
        }
        for index in one.indexes.symmetric_difference(&other.indexes) {
            complaints.push(format!("migrations: {name}: one engine only has: {index}"));
        }
    }
    complaints
}

// ---------------------------------------------------------------------------------------------------------------------
// The rules, held to the program.

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    static READ: LazyLock<Vec<Source>> = LazyLock::new(read_sources);
    READ.clone()
}

fn read_sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("is there") {
            let path: PathBuf = entry.expect("is there").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("is below").display();
                let text = fs::read_to_string(&path).expect("is text");
                found.push(Source::new(&name.to_string(), &text));
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(found.len() > 40, "only {} files were found", found.len());
    found
}

fn migrations(engine: &str) -> BTreeMap<String, String> {
    let folder = root().join("migrations").join(engine);
    let files = fs::read_dir(folder).expect("is there");
    files
        .map(|file| {
            let file = file.expect("is there");
            let name = file.file_name().to_string_lossy().into_owned();
            (name, fs::read_to_string(file.path()).expect("is text"))
        })
        .collect()
}

#[track_caller]
fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn imports_point_down_only() {
    assert_none(imports_that_point_up(&sources()));
}

#[test]
fn only_the_database_names_sqlx_and_only_http_names_axum() {
    assert_none(crates_in_other_rooms(&sources()));
}

#[test]
fn only_typed_commands_assume_the_operators_authority() {
    assert_none(authority_assumed_elsewhere(&sources()));
}

#[test]
fn a_key_leaves_in_the_few_places_that_the_allow_list_names() {
    assert_none(keys_that_leave_elsewhere(&sources()));
}

#[test]
fn a_membership_becomes_a_right_where_it_was_found_and_a_token_leaves_where_it_must() {
    assert_none(memberships_minted_elsewhere(&sources()));
    assert_none(founded_elsewhere(&sources()));
    assert_none(finds_minted_elsewhere(&sources()));
    assert_none(tokens_that_leave_elsewhere(&sources()));
}

#[test]
fn every_file_says_what_it_is_for_and_what_it_must_never_do() {
    assert_none(openings_missing(&sources()));
}

#[test]
fn nothing_is_unwrapped_left_unfinished_or_printed_past_the_command_line() {
    assert_none(words_that_do_not_belong(&sources()));
}

#[test]
fn no_file_is_too_long() {
    assert_none(files_too_long(&sources()));
}

#[test]
fn both_engines_have_the_same_schema() {
    let (sqlite, postgres) = (migrations("sqlite"), migrations("postgres"));
    let tables = sqlite.values().map(|sql| schema(sql).tables.len());
    assert!(tables.sum::<usize>() >= 10, "the tables were not found");
    assert_none(migrations_that_differ(&sqlite, &postgres));
}

// ---------------------------------------------------------------------------------------------------------------------
// The rules, shown what they must catch.

/// The complaints of a rule about one made-up file among the real ones.
fn about(rule: impl Fn(&[Source]) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
    let mut all = sources();
    all.retain(|source| source.path != path);
    all.push(Source::new(path, text));
    let complaints = rule(&all).into_iter();
    complaints
        .filter(|complaint| complaint.starts_with(path))
        .collect()
}

#[test]
fn an_import_that_points_up_would_be_named_with_its_line() {
    const NONE: [usize; 0] = [];
    let complaints = |path: &str, text: &str| about(imports_that_point_up, path, text);
    let lines = |path: &str, text: &str| -> Vec<usize> {
        complaints(path, text)
            .iter()
            .map(|complaint| {
                let line = complaint.split(':').nth(1).expect("a line");
                line.parse().expect("a number")
            })
            .collect()
    };
    let said = complaints("src/db/usage.rs", "use crate::keys::usage::Usage;\n");
    assert_eq!(
        said,
        [
            "src/db/usage.rs:1: db::usage (the database) uses keys::usage::Usage (the use cases): imports point down only"
        ]
    );
    let said = complaints("src/control.rs", "use crate::http::Server;\n");
    assert_eq!(
        said,
        [
            "src/control.rs:1: control (the ways in) uses http::Server (the ways in): rooms on one floor do not import each \
             other"
        ]
    );

    let nested = "use std::io;\nuse crate::{\n    clock::Time,\n    ids::{self, SellerId as Id},\n    http::{\n        \
                  Metrics,\n        self,\n    },\n    services::*,\n};\n";
    assert_eq!(lines("src/keys/lifecycle.rs", nested), [6, 7, 9]);
    assert_eq!(
        lines("src/keys/lifecycle.rs", "use super::{Keys, format};"),
        NONE
    );
    assert_eq!(lines("src/keys/verify.rs", "use super::usage::Usage;"), [1]);
    assert_eq!(lines("src/keys/verify.rs", "use super::Keys;"), [1]);
    assert_eq!(
        lines("src/accounts/mod.rs", "pub use self::sellers::X;"),
        [1]
    );
    assert_eq!(
        lines("src/http/api/key.rs", "use super::super::State;"),
        NONE
    );
    assert_eq!(
        lines("src/http/api/key.rs", "use super::super::super::cli::main;"),
        [1]
    );
    assert_eq!(
        lines("src/main.rs", "fn main() { truckradar::cli::main() }"),
        NONE
    );
    assert_eq!(
        lines(
            "src/ids.rs",
            "\nfn f(t: crate::db::Db) -> crate::clock::Time {}"
        ),
        [2, 2]
    );
    assert_eq!(
        lines(
            "src/clock.rs",
            "macro_rules! m { () => { $crate::app::App } }"
        ),
        [1]
    );

    // What is no import: a comment, a text, a test, a visibility.
    let innocent = "//! See [`crate::cli`].\n/* crate::cli /* crate::cli */ crate::cli */\n\
                    const A: &str = \"crate::cli\";\nconst B: &str = r#\"\"crate::cli\"#;\nconst C: char = '\"';\n\
                    pub(crate) fn f<'a>(x: &'a str) {} // crate::cli\n\
                    #[cfg(test)]\nmod tests { use crate::cli::main; fn g() { { } } }\n\
                    #[cfg(test)]\nuse crate::cli;\n";
    assert_eq!(lines("src/ids.rs", innocent), NONE);
    let after = format!("{innocent}use crate::cli::main;\n");
    assert_eq!(lines("src/ids.rs", &after), [11]);

    let said = complaints("src/feeds.rs", "");
    assert!(said[0].contains("no place in RANK"), "{said:?}");
    let said = imports_that_point_up(&[Source::new("src/lib.rs", "")]);
    assert!(said.contains(&"RANK (tests/tidy.rs) places http::, which is no more".to_owned()));
}

#[test]
fn a_crate_in_another_room_would_be_named() {
    let complaints = |path: &str, text: &str| about(crates_in_other_rooms, path, text);
    let said = complaints("src/ids.rs", "use uuid::Uuid;\nimpl sqlx::Type for X {}");
    assert_eq!(said, ["src/ids.rs:2: only src/db may name sqlx"]);
    assert_eq!(complaints("src/db/new.rs", "use sqlx::Row;"), [""; 0]);
    assert_eq!(complaints("src/db/new.rs", "use axum::Json;").len(), 1);
    assert_eq!(complaints("src/http/new.rs", "use sqlx::Row;").len(), 1);
    assert_eq!(
        complaints("src/http/new.rs", "use tower::Service;"),
        [""; 0]
    );
    assert_eq!(
        complaints("src/app.rs", "use {tower::Service, axum_server::Handle};").len(),
        2
    );
    assert_eq!(complaints("src/app.rs", "// axum\n\"sqlx\""), [""; 0]);
}

#[test]
fn a_door_that_is_not_on_its_list_would_be_named() {
    let assumes = "fn f() { OperatorAuthority::assume(); }";
    let said = about(authority_assumed_elsewhere, "src/http/api/key.rs", assumes);
    assert_eq!(said.len(), 1, "{said:?}");
    let by_another_name = "use X as Y;\nlet f = Y::assume;";
    let said = about(authority_assumed_elsewhere, "src/app.rs", by_another_name);
    assert_eq!(said.len(), 1, "{said:?}");
    let in_a_test = "#[cfg(test)]\nmod tests { fn f() { OperatorAuthority::assume(); } }";
    let said = about(authority_assumed_elsewhere, "src/app.rs", in_a_test);
    assert_eq!(said, [""; 0]);

    let exposes = "fn f(k: SecretKey) {\n    log(k.expose());\n    keys.map(SecretKey::expose);\n}";
    let said = about(keys_that_leave_elsewhere, "src/app.rs", exposes);
    assert_eq!(said.len(), 2, "{said:?}");
    // Needed no more, so it must go.
    let said = about(keys_that_leave_elsewhere, "src/operator.rs", "");
    assert_eq!(said.len(), 1, "{said:?}");
    let mints = "fn f() { SellerScope::by_membership(seller, user); }";
    let said = about(memberships_minted_elsewhere, "src/http/caller.rs", mints);
    assert_eq!(said.len(), 1, "{said:?}");
    let founds = "fn f() { scope.of_founded(seller); }";
    let said = about(founded_elsewhere, "src/http/api/dealers.rs", founds);
    assert_eq!(said.len(), 1, "{said:?}");
    let finds = "fn f() { SellerScope::by_find(seller, key, finder); }";
    let said = about(finds_minted_elsewhere, "src/leaks/mod.rs", finds);
    assert_eq!(said.len(), 1, "{said:?}");
    let reveals = "fn f(t: Token) { log(t.reveal()); }";
    let said = about(tokens_that_leave_elsewhere, "src/app.rs", reveals);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(KEYS_LEAVE.len() <= 3 && ASSUMES_AUTHORITY.len() <= 2);
    assert!(MINTS_BY_MEMBERSHIP.len() <= 1 && FOUNDS.len() <= 1 && TOKENS_LEAVE.len() <= 6);
    assert!(MINTS_BY_FIND.len() <= 1);
}

#[test]
fn a_file_without_an_opening_would_be_named() {
    let complaints = |text: &str| about(openings_missing, "src/new.rs", text).len();
    assert_eq!(complaints("//! For this.\n//!\n//! Never: that.\n"), 0);
    assert_eq!(complaints("//! For this.\n"), 1);
    assert_eq!(complaints("use x;\n//! Never: that.\n"), 1);
    assert_eq!(complaints("// Never: that.\n"), 2);
    assert_eq!(complaints("//! For this.\n// Never: that.\n"), 1);
}

#[test]
fn a_word_that_does_not_belong_would_be_named() {
    let complaints = |path: &str, text: &str| about(words_that_do_not_belong, path, text).len();
    for bad in [
        "x.unwrap()",
        "x\n    .expect(\"y\")",
        "x.map(Result::unwrap)",
        "x.unwrap_err()",
        "todo!()",
        "unimplemented!()",
        "dbg!(x)",
        "println!(\"x\")",
        "eprintln!(\"x\")",
    ] {
        assert_eq!(complaints("src/app.rs", bad), 1, "{bad}");
    }
    for good in [
        "x.unwrap_or(y)",
        "x.unwrap_or_else(f).unwrap_or_default()",
        "#[expect(lint)] fn f() {}",
        "// x.unwrap()",
        "\"x.unwrap()\"",
        "#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }",
        "writeln!(out)",
    ] {
        assert_eq!(complaints("src/app.rs", good), 0, "{good}");
    }
    assert_eq!(complaints("src/cli/new.rs", "eprintln!()"), 0);
    assert_eq!(complaints("src/cli/new.rs", "println!()"), 1);
    assert_eq!(complaints("src/cli/print.rs", "println!()"), 0);
}

#[test]
fn a_long_file_would_be_named() {
    let complaints = |lines: usize| about(files_too_long, "src/new.rs", &"x\n".repeat(lines)).len();
    assert_eq!(complaints(LINES_MAX), 0);
    assert_eq!(complaints(LINES_MAX + 1), 1);
}

#[test]
fn a_schema_that_differs_would_be_named() {
    let sqlite = "-- Why.\nCREATE TABLE a (\n  id TEXT NOT NULL PRIMARY KEY, -- one, two\n  n INTEGER CHECK (n IN (1, 2)),\n  \
                  b BLOB,\n  UNIQUE (id, n)\n) STRICT;\nCREATE UNIQUE INDEX i ON a (n) WHERE n = 1;\n";
    let postgres = sqlite
        .replace("INTEGER", "BIGINT")
        .replace("BLOB", "BYTEA")
        .replace(" STRICT", "");
    let differ = |one: &str, other: &str| {
        let file = |sql: &str| BTreeMap::from([("0001_a.sql".to_owned(), sql.to_owned())]);
        migrations_that_differ(&file(one), &file(other)).len()
    };
    assert_eq!(schema(sqlite).tables["a"].len(), 4);
    assert_eq!(differ(sqlite, &postgres), 0);
    let only_there = "CREATE VIRTUAL TABLE words USING fts5 (text);";
    assert_eq!(differ(&format!("{sqlite}{only_there}"), &postgres), 0);
    for (was, is) in [
        ("id TEXT", "ident TEXT"),
        ("n BIGINT", "n TEXT"),
        ("NOT NULL", ""),
        ("b BYTEA,", ""),
        ("CREATE TABLE a", "CREATE TABLE aa"),
        ("INDEX i", "INDEX j"),
        ("WHERE n = 1", "WHERE n = 2"),
        ("UNIQUE (id, n)", "UNIQUE (n, id)"),
    ] {
        assert!(differ(sqlite, &postgres.replacen(was, is, 1)) > 0, "{was}");
    }
    let turned = postgres.replace(
        "n BIGINT CHECK (n IN (1, 2)),\n  b BYTEA",
        "b BYTEA,\n  n BIGINT CHECK (n IN (1, 2))",
    );
    assert_ne!(turned, postgres);
    assert_eq!(differ(sqlite, &turned), 1, "another order");
    let nothing = BTreeMap::new();
    let one = BTreeMap::from([("0001_a.sql".to_owned(), String::new())]);
    assert_eq!(migrations_that_differ(&one, &nothing).len(), 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// As much of Rust as the rules need.

/// The source with comments and the inside of quotes as blanks, line by line where it was.
fn code(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    let blank = |out: &mut String, from: usize, to: usize| {
        let skipped = chars[from..to.min(chars.len())].iter();
        out.extend(skipped.map(|c| if *c == '\n' { '\n' } else { ' ' }));
    };
    while at < chars.len() {
        let rest = &chars[at..];
        let before = at.checked_sub(1).map(|before| chars[before]);
        let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let end = match rest {
            ['/', '/', ..] => at + rest.iter().take_while(|c| **c != '\n').count(),
            ['/', '*', ..] => at + comment_length(rest),
            ['"', ..] => at + text_length(rest),
            ['r', '"' | '#', ..] if !in_word => at + raw_text_length(rest),
            ['b' | 'c', 'r', '"' | '#', ..] if !in_word => at + 1 + raw_text_length(&rest[1..]),
            // A character, and not a lifetime.
            ['\'', '\\', ..] => at + 3 + rest[3..].iter().take_while(|c| **c != '\'').count(),
            ['\'', _, '\'', ..] => at + 2,
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            // The closing quote of a character goes with it.
            let end = if chars[at] == '\'' { end + 1 } else { end };
            blank(&mut out, at, end);
            at = end;
        }
    }
    out
}

/// Comments nest.
fn comment_length(chars: &[char]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn text_length(chars: &[char]) -> usize {
    let mut at = 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Zero if it is none: `r#type` is a name.
fn raw_text_length(chars: &[char]) -> usize {
    let hashes = chars[1..].iter().take_while(|c| **c == '#').count();
    if chars.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let mut end = vec!['"'];
    end.extend(std::iter::repeat_n('#', hashes));
    let inside = &chars[2 + hashes..];
    let length = inside.windows(end.len()).position(|window| window == end);
    2 + hashes + length.map_or(inside.len(), |length| length + end.len())
}

/// Words, `::`, and single other characters.
fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let length = if word(first) {
                rest.find(|c| !word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token {
                text: rest[..length].to_owned(),
                line: number + 1,
            });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// Leaves out every item under `#[cfg(test)]`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let marked = tokens[at..].iter().map(|token| token.text.as_str());
        if !marked.take(MARK.len()).eq(MARK) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        // The item ends with its outermost bracket, or at a semicolon before there is one.
        let mut depth = 0;
        at += MARK.len();
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                ";" if depth == 0 => break,
                _ => continue,
            }
            if depth == 0 {
                break;
            }
        }
    }
    kept
}
