//! `cargo xtask test`: every test of the project, with the programs, the axe-core and the PostgreSQL they need.
//!
//! It must never pass because something was left out, and never leave a process or a file behind.
//! One thing is beyond it: killed by SIGKILL it cannot remove its folder, though PostgreSQL still stops.

mod args;
mod axe;
mod needs;
mod postgres;
mod processes;
mod scratch;

use std::env;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use args::{Options, Request};
use postgres::Server;
use processes::{Household, Interrupted, Process, Stop, pid_of};
use scratch::Scratch;

/// How often the tests are looked after while they run.
const POLL: Duration = Duration::from_millis(100);

/// Where the tests put pictures of pages, if somebody wants them: a folder, named by whoever calls.
const SCREENSHOTS: &str = "TRUCKRADAR_TEST_SCREENSHOTS";

fn main() -> ExitCode {
    let request = match args::parse(env::args().skip(1)) {
        Ok(request) => request,
        Err(error) => {
            say(&error.to_string());
            return ExitCode::from(2);
        }
    };
    match request {
        Request::Help => {
            // A pager that was closed early is no failure.
            let _ = std::io::stdout().write_all(args::HELP.as_bytes());
            ExitCode::SUCCESS
        }
        Request::Test(options) => match test(&options) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                say(&format!("{error:#}"));
                ExitCode::FAILURE
            }
        },
    }
}

/// A line to the user. Never `eprintln!`, whose panic on a closed terminal would cut a clean-up short.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "xtask: {text}");
}

/// Everything from the check to the clean-up. The answer is the exit code.
fn test(options: &Options) -> Result<u8> {
    let programs = needs::ensure(options.yes)?;
    // Ctrl-C still ends both npm and this process by itself.
    let axe = axe::ensure()?;

    // What is made first is dropped last: the folder goes when no process uses it any more.
    let stop = Stop::listen()?;
    let scratch = Scratch::new()?;
    let household = Household::found()?;

    let mut code = match serve_and_run(options, &programs, &axe, &scratch, &household, &stop) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("{error:#}"));
            match error.downcast_ref::<Interrupted>() {
                Some(interrupted) => interrupted.exit_code(),
                None => 1,
            }
        }
    };

    // Each step of the clean-up is taken whatever became of the one before.
    let mut failed = |problem: String| {
        say(&problem);
        code = code.max(1);
    };
    match household.end(&[]) {
        Ok(immortal) if immortal.is_empty() => {}
        Ok(immortal) => failed(format!("still alive: {}", list(&immortal))),
        Err(error) => failed(format!("{error:#}")),
    }
    if let Err(error) = scratch.remove() {
        failed(format!("{error:#}"));
    }
    Ok(code)
}

fn serve_and_run(
    options: &Options,
    programs: &Path,
    axe: &Path,
    scratch: &Scratch,
    household: &Household,
    stop: &Stop,
) -> Result<u8> {
    let mut server = Server::start(programs, scratch, stop)?;
    say(&format!("PostgreSQL from {} runs", programs.display()));

    let mut code = 0;
    for run in [Run::EveryTest, Run::StoriesOnPostgres] {
        let finished = run_tests(run, options, &mut server, axe, scratch, household, stop);
        if finished.is_err() {
            // The tests end before the server does, or they would fill the screen with lost connections.
            household.end(&[server.pid()])?;
        }
        code = code.max(exit_code(finished?));
    }

    let left = household.left(&[server.pid()])?;
    if !left.is_empty() {
        say(&format!("the tests left running: {}", list(&left)));
        household.end(&[server.pid()])?;
        code = code.max(1);
    }
    server.stop()?;
    let left = household.left(&[])?;
    if !left.is_empty() {
        say(&format!("PostgreSQL left running: {}", list(&left)));
        code = code.max(1);
    }

    let left_overs = scratch.left_overs()?;
    if !left_overs.is_empty() {
        say("the tests left in their TMPDIR:");
        for name in left_overs {
            say(&format!("  {name}"));
        }
        code = code.max(1);
    }
    Ok(code)
}

/// One run of cargo.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    /// Everything; the stories are told on SQLite.
    EveryTest,
    /// The stories once more, on PostgreSQL.
    StoriesOnPostgres,
}

/// The parts of the test program that the second run passes over: what they test is one engine, or none, or is tested on
/// both by themselves; or it is how pages look and what HTTP says of them, which no engine changes.
const NOT_ON_BOTH: [&str; 25] = [
    "alerts::",
    "attack_pages::content::",
    "attack_pages::kept_by_browsers::",
    "attack_pages::markup::",
    "attack_pages::names_and_ways::",
    "browser::",
    "crash::",
    "db_contract::",
    "docs_examples::walk",
    "docs_security::",
    "fuzz::",
    "gitleaks::",
    "nodes::",
    "nodes_live::",
    "public_urls::",
    "resilience::",
    "story_dashboard::a_second_factor_is_set_up_and_used_in_a_browser_and_axe_finds_nothing",
    "story_dashboard::axe_finds_nothing_on_any_page_in_any_state",
    "story_docs::",
    "story_erasing::member_of_nothing::the_page_of_a_member_of_nothing_is_legible_and_accessible",
    "story_leaks::axe_finds_nothing_on_the_pages_about_leaks",
    "story_standing::what_is_said_of_reported_suspended_and_closed_is_legible_and_accessible",
    "story_vendor::the_page_and_the_switcher_are_legible_and_accessible",
    "tidy::",
    "tls::",
];

impl Run {
    fn arguments(self, only: Option<&str>) -> Vec<&str> {
        let mut arguments = vec!["test", "--no-fail-fast"];
        match self {
            Self::EveryTest => {
                arguments.push("--workspace");
                arguments.extend(only);
            }
            Self::StoriesOnPostgres => {
                // Of the whole workspace, as in the first run: alone it would be built once more, with fewer features of what it uses.
                arguments.extend(["--workspace", "--test", "stories"]);
                arguments.extend(only);
                arguments.push("--");
                arguments.extend(NOT_ON_BOTH.iter().flat_map(|part| ["--skip", part]));
            }
        }
        arguments
    }
}

/// Runs cargo to its end, or fails as soon as the server is gone or we are told to stop.
fn run_tests(
    run: Run,
    options: &Options,
    server: &mut Server,
    axe: &Path,
    scratch: &Scratch,
    household: &Household,
    stop: &Stop,
) -> Result<ExitStatus> {
    // Cargo names itself here, so the tests are built by the toolchain that built xtask.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command.args(run.arguments(options.only.as_deref()));
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(misleads) {
            command.env_remove(name);
        }
    }
    command
        .env("TRUCKRADAR_TEST_POSTGRES", server.url())
        .env("TRUCKRADAR_TEST_AXE", axe)
        .env("TMPDIR", scratch.work())
        // A test that reads from the terminal would hang the run.
        .stdin(Stdio::null());
    if let Some(folder) = env::var_os(SCREENSHOTS).filter(|folder| !folder.is_empty()) {
        // The tests run in another folder than whoever named this one.
        command.env(SCREENSHOTS, std::path::absolute(folder)?);
    }
    if run == Run::StoriesOnPostgres {
        say("the stories once more, on PostgreSQL");
        command.env("TRUCKRADAR_TEST_ENGINE", "postgres");
    }
    if options.full {
        command.env("TRUCKRADAR_TEST_FULL", "1");
    }

    let mut child = command
        .spawn()
        .with_context(|| format!("could not run {}", cargo.display()))?;
    loop {
        stop.check()?;
        if let Some(status) = child.try_wait().context("could not wait for cargo")? {
            return Ok(status);
        }
        server.check()?;
        household.reap(&[server.pid(), pid_of(&child)])?;
        sleep(POLL);
    }
}

/// Whether a variable of ours would lead the tests astray: the settings of somebody's real server, or
/// what `cargo run` told xtask about itself, which makes build scripts that look at it run once more.
fn misleads(name: &str) -> bool {
    ["PG", "TRUCKRADAR_"]
        .into_iter()
        .chain(["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"])
        .any(|start| name.starts_with(start))
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    // What does not fit must not wrap round to success.
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn list(processes: &[Process]) -> String {
    processes
        .iter()
        .map(Process::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_cargo_is_never_a_success_of_ours() {
        // As the kernel packs them: an exit code in the second byte, a signal in the first.
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(101 << 8)), 101);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }

    #[test]
    fn the_second_run_tells_the_stories_that_were_asked_for() {
        let arguments = Run::StoriesOnPostgres.arguments(Some("story_pages"));
        let own = arguments.iter().position(|&word| word == "--");
        let filter = arguments.iter().position(|&word| word == "story_pages");
        assert!(
            filter < own && arguments.contains(&"tidy::"),
            "{arguments:?}"
        );
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
        let modules = std::fs::read_to_string(folder.join("main.rs")).unwrap();
        for part in NOT_ON_BOTH {
            let path = part.trim_end_matches("::");
            let (top, _) = part.split_once("::").unwrap();
            assert!(modules.contains(&format!("\nmod {top};")), "{part}");
            // What stands in a module stands in its file.
            let Some((module, name)) = path.rsplit_once("::") else {
                continue;
            };
            let file = folder.join(format!("{}.rs", module.replace("::", "/")));
            let file = std::fs::read_to_string(file).unwrap();
            let mut kinds = ["mod", "fn"].iter();
            let is_there = kinds.any(|kind| file.contains(&format!("{kind} {name}")));
            assert!(is_there, "{part}");
        }
        // Of one package alone the tests would be built once more, with fewer features of what they use.
        for run in [Run::EveryTest, Run::StoriesOnPostgres] {
            assert!(run.arguments(None).contains(&"--workspace"));
        }
    }

    #[test]
    fn the_tests_see_no_setting_of_a_real_server() {
        for name in ["PGPASSWORD", "TRUCKRADAR_DATABASE", "CARGO_PKG_NAME"] {
            assert!(misleads(name), "{name}");
        }
        for name in ["PATH", "CARGO_TARGET_DIR", "RUSTFLAGS", "TMPDIR"] {
            assert!(!misleads(name), "{name}");
        }
    }
}
