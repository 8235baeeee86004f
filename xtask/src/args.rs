//! The command line of xtask, read by hand: three options do not repay a library.
//!
//! It must never touch the machine: it turns words into a [`Request`] or says what is wrong with them.

use anyhow::{Result, bail};

/// What `--help` prints.
pub const HELP: &str = "\
Runs every test of the project, with a PostgreSQL of its own.

Usage: cargo xtask test [--yes] [--full] [--only FILTER]

Options:
  --yes          Install missing programs without asking. CI=1 or CI=true does the same.
  --full         Run the long form of the tests that have one (sets TRUCKRADAR_TEST_FULL=1).
  --only FILTER  Run only the tests with FILTER in their name. No match is no failure:
                 look at the count in cargo's summary.
  -h, --help     Print this.

What it does:
  1. Looks for the programs the tests need: a PostgreSQL server, node 18 or newer with npm,
     python3, curl, nginx, chromium with its chromedriver. If one is missing it shows the
     apt-get line that installs it and asks before running it. If one is still missing after
     that, it fails: no test is skipped for it.
  2. Lets npm fetch axe-core, which judges pages, into the folder of what cargo builds. It
     does so once, and again when another version is wanted.
  3. Makes a folder under /tmp and starts a PostgreSQL in it, on a free port of 127.0.0.1.
     No other PostgreSQL on the machine is used or touched. As root, the server runs as the
     user postgres, because PostgreSQL refuses to run as root.
  4. Runs `cargo test --workspace --no-fail-fast`, its output unchanged, and then the test
     program of the stories once more, which tells them on PostgreSQL this time. Both with
       TRUCKRADAR_TEST_POSTGRES  the address of that server
       TRUCKRADAR_TEST_AXE       the file of axe-core
       TRUCKRADAR_TEST_ENGINE    postgres, the second time
       TMPDIR                    an empty folder
     and without the PG* and TRUCKRADAR_* variables of your shell, except
       TRUCKRADAR_TEST_SCREENSHOTS  the folder for pictures of pages, if you want them
  5. Stops the server and removes the folder, also after a failure, Ctrl-C or SIGTERM.

It ends with cargo's exit code, the worse of the two. It fails as well if the tests left a process running or a
file in TMPDIR. It needs Linux, apt-get if something has to be installed, and a network the
first time.
";

/// What the user asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    Help,
    Test(Options),
}

/// The options of `cargo xtask test`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub yes: bool,
    pub full: bool,
    pub only: Option<String>,
}

/// Reads the words after `cargo xtask`.
pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Request> {
    let mut words = words.into_iter();
    match words.next().as_deref() {
        Some("test") => {}
        Some("-h" | "--help" | "help") => return Ok(Request::Help),
        Some(other) => bail!("unknown command `{other}`: the one command is `test` (see --help)"),
        None => bail!("say what to do: `cargo xtask test` (see --help)"),
    }
    let mut options = Options::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-h" | "--help" => return Ok(Request::Help),
            "--yes" => options.yes = true,
            "--full" => options.full = true,
            "--only" => set_filter(&mut options, words.next())?,
            other => match other.strip_prefix("--only=") {
                Some(filter) => set_filter(&mut options, Some(filter.to_owned()))?,
                None => bail!("unknown option `{other}` (see --help)"),
            },
        }
    }
    Ok(Request::Test(options))
}

fn set_filter(options: &mut Options, filter: Option<String>) -> Result<()> {
    // A filter that looks like an option would reach cargo as one, and an empty one would select everything.
    match filter {
        Some(filter) if !filter.is_empty() && !filter.starts_with('-') => {
            if options.only.replace(filter).is_some() {
                bail!("--only takes one filter, given twice");
            }
            Ok(())
        }
        _ => bail!("--only needs a part of a test's name after it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Request> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    fn options(line: &str) -> Options {
        match read(line) {
            Ok(Request::Test(options)) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn no_option_means_all_tests_short_form_and_a_question_before_installing() {
        assert_eq!(options("test"), Options::default());
    }

    #[test]
    fn every_option_is_read_in_any_order() {
        let all = Options {
            yes: true,
            full: true,
            only: Some("keys".into()),
        };
        assert_eq!(options("test --yes --full --only keys"), all);
        assert_eq!(options("test --only=keys --full --yes"), all);
    }

    #[test]
    fn help_is_found_wherever_it_stands() {
        for line in ["--help", "-h", "help", "test --help", "test --full -h"] {
            assert_eq!(read(line).unwrap(), Request::Help, "{line}");
        }
    }

    #[test]
    fn a_mistake_is_named() {
        for (line, named) in [
            ("", "cargo xtask test"),
            ("tset", "`tset`"),
            ("test --ful", "`--ful`"),
            ("test keys", "`keys`"),
            ("test --only", "--only needs"),
            ("test --only=", "--only needs"),
            ("test --only --full", "--only needs"),
            ("test --only a --only b", "given twice"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
