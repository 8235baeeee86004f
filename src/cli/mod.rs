//! The command line: what can be typed, what it turns into, how the answer is printed.
//!
//! Every act works while the server runs and without it; `migrate` and the filling of `demo` want the database to
//! themselves. No command prompts, and each prints one JSON object with `--json`.
//!
//! Never: a secret in an argument; those come on standard input. An act performed here: acts are in [`crate::operator`].

mod key;
mod listing;
mod maintenance;
mod nodes;
mod platform;
mod print;
mod seller;
mod serve;
mod user;

use std::{
    convert::Infallible, error::Error, io::Read, path::Path, process::ExitCode, time::Duration,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand, error::ContextKind};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    app,
    clock::Clock,
    config::{self, DatabaseArg},
    control,
    db::{BadDbUrl, Db, DbUrl},
    keys::format::redact,
    mail::route::BadSmtpUrl,
    operator::{self, Answer, Command, Refused},
    services::{Services, Settings},
};

/// Bytes read from standard input at most; what is read there is a key or a password.
const STDIN_BYTES_MAX: u64 = 64 << 10;
/// How long a command waits for another one that has the database.
const OWNERSHIP_WAIT: Duration = Duration::from_secs(10);
/// Connections of a command to a database that it shares.
const CONNECTIONS_OF_A_COMMAND: u32 = 2;
/// A change of keys that waits for longer says for whom.
const USUAL_WAIT: Duration = Duration::from_millis(200);

/// How long the end of the process waits for work on threads.
const THREADS_WAIT: Duration = Duration::from_secs(5);

/// Dealer API for a truck marketplace, with API keys that are dead the instant they are replaced.
#[derive(Parser)]
#[command(
    name = "truckradar",
    version,
    after_help = "To begin:\n  \
        truckradar demo                 a server on throw-away data, with a curl to paste\n  \
        truckradar serve                the server, on ./truckradar.db\n  \
        truckradar seller create --name 'Lone Star Trucks' --slug lone-star-trucks \\\n      \
            --owner-email owner@lonestar.example --owner-password-stdin < password.txt\n  \
        truckradar key generate --seller lone-star-trucks\n\n\
        Commands find a running server through its database, so give both the same --database.\n\
        Exit codes: 0 done, 1 refused, 2 wrong usage."
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Top,
}

/// Options that every command has.
#[derive(Args, Clone)]
pub(crate) struct Common {
    #[command(flatten)]
    database: DatabaseArg,
    /// Print one line of JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Top {
    /// Run the server until SIGTERM or Ctrl-C.
    Serve(serve::Serve),
    /// Run the server on throw-away data with two made-up dealers, or fill an empty database for a load test.
    Demo(serve::Demo),
    /// Create and look at Sellers (dealer accounts).
    #[command(subcommand)]
    Seller(seller::SellerCommand),
    /// Create and look at Platforms (aggregators), and say what they may do.
    #[command(subcommand)]
    Platform(platform::PlatformCommand),
    /// Let people in, and say how far they may act.
    #[command(subcommand)]
    User(user::UserCommand),
    /// Make, kill and look at API keys.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Act on single listings.
    #[command(subcommand)]
    Listing(listing::ListingCommand),
    /// List the servers on the database: which are trusted, how far each has come, and which are silent.
    #[command(
        after_help = "A node that renews its trust in its keys in memory is `trusted`. One that was silent for 1.8 s may not judge by \
        them any more; after a few seconds it is taken off the list, and no change of keys waits for it.\n\
        BEHIND is how many changes of keys it does not obey yet; it is more than 0 for moments only."
    )]
    Nodes,
    /// Create the database if there is none and bring its schema up to this version. `serve` does so by itself.
    Migrate,
    /// Read the configuration and the database and say what is wrong. Changes nothing.
    Check(maintenance::Check),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_usage(&error),
    };
    // Whatever this program makes, the database above all, is for its own user only.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("truckradar: the runtime cannot start: {error}");
            return ExitCode::from(1);
        }
    };
    let done = runtime.block_on(run(cli));
    // What runs on threads cannot be called off, such as the look-up of a mail server's name that nobody answers.
    runtime.shutdown_timeout(THREADS_WAIT);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("truckradar: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// Says what is wrong with a command line, or prints the help that was asked for. What was typed is repeated without a
/// key that stands in it by mistake, or a password in a database's address.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    if !error.use_stderr() {
        let _ = error.print();
        return code;
    }
    let argument = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    if argument
        .as_ref()
        .is_some_and(|argument| argument.starts_with("--database"))
    {
        eprintln!("error: invalid value for '--database <URL>': {BadDbUrl}");
        return code;
    }
    // A password with a character in it that ends an address too early would be taken for the host.
    if let Some(bad) = error.source().filter(|error| error.is::<BadSmtpUrl>()) {
        eprintln!("error: invalid value for '--smtp-url <URL>': {bad}");
        return code;
    }
    let text = error.render().to_string();
    eprint!("{}", without_credentials(&redact(&text)));
    code
}

/// The text with what stands between `//` and `@` of an address taken out.
fn without_credentials(text: &str) -> String {
    let mut parts = text.split("://");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clean.push_str("://");
        let authority = part
            .find(|c: char| c == '/' || c.is_whitespace() || c == '\'')
            .unwrap_or(part.len());
        match part[..authority].rfind('@') {
            Some(at) => {
                clean.push_str("(redacted)");
                clean.push_str(&part[at..]);
            }
            None => clean.push_str(part),
        }
    }
    clean
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let common = cli.common;
    match cli.command {
        Top::Serve(command) => command.run(&common).await,
        Top::Demo(command) => command.run(&common).await,
        Top::Seller(command) => command.run(&common).await,
        Top::Platform(command) => command.run(&common).await,
        Top::User(command) => command.run(&common).await,
        Top::Key(command) => command.run(&common).await,
        Top::Listing(command) => command.run(&common).await,
        Top::Nodes => nodes::run(&common).await,
        Top::Migrate => maintenance::migrate(&common).await,
        Top::Check(command) => command.run(&common).await,
    }
}

/// What a command may do to a database that does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfMissing {
    /// Make it: the command is a way to begin.
    Create,
    /// Refuse: there is nothing to act on.
    Refuse,
}

/// Performs an act: through the server that owns the database file, or in this process if there is none; on a shared
/// database always in this process, beside the nodes.
async fn perform(common: &Common, command: Command, missing: IfMissing) -> anyhow::Result<Value> {
    app::start_logging(tracing::Level::WARN);
    let database = &common.database.database;
    let answer = match database {
        DbUrl::Sqlite(path) => on_file(database, path, command, missing).await?,
        DbUrl::Postgres(_) => beside_nodes(database, command, missing).await?,
    };
    answer.map_err(|Refused { message }| anyhow::anyhow!(message))
}

async fn on_file(
    database: &DbUrl,
    path: &Path,
    command: Command,
    missing: IfMissing,
) -> anyhow::Result<Answer> {
    if missing == IfMissing::Refuse && !path.exists() {
        anyhow::bail!(
            "there is no database {}: name it with --database, or begin with `truckradar serve`",
            path.display()
        );
    }
    let tries_end = tokio::time::Instant::now() + OWNERSHIP_WAIT;
    loop {
        if let Some(answer) = control::ask(path, &command)
            .await
            .context("the server that owns the database cannot be asked")?
        {
            return Ok(answer);
        }
        if let Some(_owner) = control::Ownership::take(path)
            .with_context(|| format!("cannot lock the database {}", path.display()))?
        {
            return alone(Db::open(database).await?, command).await;
        }
        // A server on its way up or down, or another command.
        anyhow::ensure!(
            tokio::time::Instant::now() < tries_end,
            "another process owns the database {} and does not answer",
            path.display()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn beside_nodes(
    database: &DbUrl,
    command: Command,
    missing: IfMissing,
) -> anyhow::Result<Answer> {
    let db = Db::open_with(database, CONNECTIONS_OF_A_COMMAND)
        .await
        .with_context(|| format!("cannot open the database {database}"))?;
    if missing == IfMissing::Refuse {
        let found = db.schema_is_there().await?;
        anyhow::ensure!(
            found,
            "{database} holds nothing of TruckRadar's: name another one with --database, or begin with `truckradar serve`"
        );
    }
    alone(db, command).await
}

/// Performs an act in this process, and says meanwhile for which node it waits.
async fn alone(db: Db, command: Command) -> anyhow::Result<Answer> {
    let mut settings = Settings::default();
    // There is no server to ask what its links begin with, but the same environment as the server's may say it.
    if let Some(url) = config::public_url_of_environment() {
        settings.base_url = url.to_string();
        settings.mails_links = config::has_smtp_by_environment();
    }
    let services = Services::start(db, Clock::system(), settings, None).await?;
    let answer = tokio::select! {
        answer = operator::perform(&services, command) => answer,
        never = say_who_is_waited_for(&services) => match never {},
    };
    services.db.close().await;
    Ok(answer)
}

/// Tells on standard error, where the key is not, which nodes a change of keys waits for, once that takes longer than usual.
async fn say_who_is_waited_for(services: &Services) -> Infallible {
    let mut waiting = services.keys.revocation.waiting();
    let mut said = None;
    loop {
        let _ = waiting.changed().await;
        tokio::time::sleep(USUAL_WAIT).await;
        let changes = waiting.borrow_and_update().clone();
        for change in changes {
            if said.as_ref() == Some(&change.whom) {
                continue;
            }
            eprintln!("{}", change.in_words(services.clock.boot()));
            said = Some(change.whom);
        }
    }
}

/// All of standard input, which may be a secret.
fn read_stdin(what: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    std::io::stdin()
        .take(STDIN_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{what} cannot be read from standard input"))?;
    anyhow::ensure!(
        bytes.len() as u64 <= STDIN_BYTES_MAX,
        "{what} is expected on standard input, and more than {} KiB came",
        STDIN_BYTES_MAX >> 10
    );
    Ok(bytes)
}

/// A secret from standard input, without the line end that comes with most ways to type or pipe one.
fn read_secret(what: &str) -> anyhow::Result<Zeroizing<String>> {
    let bytes = read_stdin(what)?;
    let text = std::str::from_utf8(&bytes)
        .with_context(|| format!("{what} cannot be read from standard input"))?;
    let trimmed = text.strip_suffix('\n').unwrap_or(text);
    let trimmed = trimmed.strip_suffix('\r').unwrap_or(trimmed);
    anyhow::ensure!(
        !trimmed.is_empty(),
        "{what} is expected on standard input, and nothing came"
    );
    Ok(Zeroizing::new(trimmed.to_owned()))
}

/// A key alone, or the mail or the file that it was found in, from standard input. In whatever encoding: a key is ASCII.
fn read_text_with_key() -> anyhow::Result<Zeroizing<String>> {
    let bytes = read_stdin("a key, or the part of a text that it stands in,")?;
    let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
    anyhow::ensure!(
        !text.trim().is_empty(),
        "a key is expected on standard input, and nothing came"
    );
    Ok(text)
}

/// How this program was called, for commands to type: it may not be on the PATH.
fn program() -> String {
    let called = std::env::args().next();
    shell_word(&called.unwrap_or_else(|| "truckradar".to_owned()))
}

/// The option that makes a command find the server's database; nothing if it is the default.
fn database_option(database: &DbUrl) -> String {
    match database {
        DbUrl::Sqlite(path) if path != std::path::Path::new("truckradar.db") => {
            format!(
                " --database {}",
                shell_word(&format!("sqlite:{}", path.display()))
            )
        }
        DbUrl::Sqlite(_) => String::new(),
        // It may hold a password, which is not printed: the environment has it.
        DbUrl::Postgres(_) if std::env::var_os("TRUCKRADAR_DATABASE").is_some() => String::new(),
        DbUrl::Postgres(_) => format!(" --database {}", shell_word(&database.to_string())),
    }
}

/// A word as a shell reads it back, whatever is in it.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_of_what_is_repeated() {
        assert_eq!(
            without_credentials("a 'x://u:p@h/d' b"),
            "a 'x://(redacted)@h/d' b"
        );
        assert_eq!(without_credentials("x://u:p@ss@h"), "x://(redacted)@h");
        assert_eq!(
            without_credentials("no address, an@address"),
            "no address, an@address"
        );
        assert_eq!(without_credentials("http://h/p@q"), "http://h/p@q");
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("sqlite:/v/a.db"), "sqlite:/v/a.db");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
