//! The programs that the tests need and cargo does not bring: finding them, and installing what is missing.
//!
//! It must never install anything without a yes, and never let the tests start while something is missing.

use std::env;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::say;

/// The oldest node that the tests' scripts run on.
const NODE_MAJOR: u32 = 18;

/// Where Debian puts each version's server programs, which it keeps out of PATH.
const DEBIAN_POSTGRES: &str = "/usr/lib/postgresql";

/// What only has to be on PATH, in whatever version.
const PROGRAMS: [(&str, Need); 6] = [
    ("npm", Need::Npm),
    ("python3", Need::Python),
    ("curl", Need::Curl),
    ("chromium", Need::Chromium),
    ("chromedriver", Need::Chromedriver),
    ("nginx", Need::Nginx),
];

/// One thing to be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Postgres,
    Node,
    Npm,
    Python,
    Curl,
    Chromium,
    Chromedriver,
    Nginx,
}

impl Need {
    fn package(self) -> &'static str {
        match self {
            Need::Postgres => "postgresql",
            Need::Node => "nodejs",
            // Debian's nodejs comes without it; what others call by that name mostly has it.
            Need::Npm => "npm",
            Need::Python => "python3",
            Need::Curl => "curl",
            Need::Chromium => "chromium",
            Need::Chromedriver => "chromium-driver",
            Need::Nginx => "nginx",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Need::Postgres => "a PostgreSQL server (initdb and postgres)",
            Need::Node => "node 18 or newer",
            Need::Npm => "npm",
            Need::Python => "python3",
            Need::Curl => "curl",
            Need::Chromium => "chromium",
            Need::Chromedriver => "chromedriver",
            Need::Nginx => "nginx",
        }
    }
}

/// Makes sure of every program, and answers with the folder of `initdb` and `postgres`.
pub fn ensure(yes: bool) -> Result<PathBuf> {
    let (found, missing) = look();
    if let Some(postgres) = found.filter(|_| missing.is_empty()) {
        return Ok(postgres);
    }

    let lines = install_lines(&missing, rustix::process::geteuid().is_root());
    let shown = lines
        .iter()
        .map(|line| line.join(" "))
        .collect::<Vec<_>>()
        .join(" && ");
    say(&format!("missing: {}", names(&missing)));
    say(&format!("this installs it: {shown}"));
    if missing.contains(&Need::Postgres) {
        // Only a file under /etc could prevent it, and that is not ours to write.
        say(
            "Debian's package also sets up a server of its own on port 5432; the tests do not use it",
        );
    }

    if missing.contains(&Need::Nginx) {
        say("Debian's package also starts a server of its own on port 80; the tests do not use it");
    }

    let allowed = yes || ci() || agreed()?;
    if !allowed {
        bail!(
            "not installed, so the tests cannot run: {}",
            names(&missing)
        );
    }
    for line in &lines {
        run(line).with_context(|| format!("could not install {}", names(&missing)))?;
    }

    let (found, missing) = look();
    match found {
        Some(postgres) if missing.is_empty() => Ok(postgres),
        _ => bail!("still missing after the installation: {}", names(&missing)),
    }
}

/// The folder of the PostgreSQL server, if there is one, and everything that is missing.
fn look() -> (Option<PathBuf>, Vec<Need>) {
    let postgres = find_postgres();
    let mut missing = Vec::new();
    if postgres.is_none() {
        missing.push(Need::Postgres);
    }
    if node_version().is_none_or(|major| major < NODE_MAJOR) {
        missing.push(Need::Node);
    }
    let path = search_path();
    missing.extend(not_in(&path, &PROGRAMS));
    (postgres, missing)
}

/// Those of these programs that none of the folders holds.
fn not_in(path: &[PathBuf], programs: &[(&str, Need)]) -> Vec<Need> {
    programs
        .iter()
        .filter(|(program, _)| !path.iter().any(|folder| is_program(&folder.join(program))))
        .map(|(_, need)| *need)
        .collect()
}

fn find_postgres() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(DEBIAN_POSTGRES)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions
        .into_iter()
        .map(|(_, folder)| folder)
        .chain(search_path())
        .find(|folder| is_program(&folder.join("initdb")) && is_program(&folder.join("postgres")))
}

fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian keeps servers such as nginx out of a user's PATH.
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .collect()
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn node_version() -> Option<u32> {
    let output = Command::new("node")
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    node_major(&String::from_utf8_lossy(&output.stdout))
}

/// `v20.20.2` is 20.
fn node_major(version: &str) -> Option<u32> {
    version
        .trim()
        .strip_prefix('v')?
        .split('.')
        .next()?
        .parse()
        .ok()
}

/// The commands that install what is missing, in order: an old package list would name files that are gone.
fn install_lines(missing: &[Need], root: bool) -> Vec<Vec<&'static str>> {
    if missing.is_empty() {
        return Vec::new();
    }
    let start: &[&str] = if root {
        &["apt-get"]
    } else {
        &["sudo", "apt-get"]
    };
    let mut install = [start, &["install", "-y", "--no-install-recommends"]].concat();
    install.extend(missing.iter().map(|need| need.package()));
    vec![[start, &["update"]].concat(), install]
}

fn names(missing: &[Need]) -> String {
    missing
        .iter()
        .map(|need| need.what())
        .collect::<Vec<_>>()
        .join(", ")
}

fn ci() -> bool {
    env::var("CI").is_ok_and(|value| means_ci(&value))
}

fn means_ci(value: &str) -> bool {
    matches!(value, "1" | "true")
}

fn agreed() -> Result<bool> {
    let mut input = io::stdin().lock();
    if !input.is_terminal() {
        say("nobody to ask: standard input is not a terminal (--yes installs without asking)");
        return Ok(false);
    }
    let mut screen = io::stderr();
    write!(screen, "xtask: install now? [y/N] ")?;
    screen.flush()?;
    let mut answer = String::new();
    input
        .read_line(&mut answer)
        .context("could not read the answer")?;
    Ok(means_yes(&answer))
}

fn means_yes(answer: &str) -> bool {
    matches!(answer.trim(), "y" | "Y" | "yes")
}

fn run(line: &[&str]) -> Result<()> {
    let [program, arguments @ ..] = line else {
        bail!("an empty command");
    };
    let shown = line.join(" ");
    say(&format!("running {shown}"));
    let status = Command::new(program)
        .args(arguments)
        // Nobody may be there to answer a package's questions.
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .with_context(|| format!("could not run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(missing: &[Need], root: bool) -> Vec<String> {
        install_lines(missing, root)
            .iter()
            .map(|line| line.join(" "))
            .collect()
    }

    #[test]
    fn only_what_is_missing_is_installed() {
        assert!(shown(&[], true).is_empty());
        assert_eq!(
            shown(&[Need::Node], true),
            [
                "apt-get update",
                "apt-get install -y --no-install-recommends nodejs"
            ]
        );
        assert_eq!(
            shown(&[Need::Postgres, Need::Node, Need::Curl], true)[1],
            "apt-get install -y --no-install-recommends postgresql nodejs curl"
        );
        assert_eq!(
            shown(
                &[Need::Npm, Need::Python, Need::Chromium, Need::Chromedriver],
                true
            )[1],
            "apt-get install -y --no-install-recommends npm python3 chromium chromium-driver"
        );
    }

    #[test]
    fn a_program_counts_only_where_it_can_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = [PathBuf::from("/nowhere"), folder.path().to_owned()];
        let missing = || not_in(&path, &PROGRAMS);
        assert_eq!(missing(), PROGRAMS.map(|(_, need)| need));
        let file = folder.path().join("chromium");
        std::fs::write(&file, "").unwrap();
        assert!(missing().contains(&Need::Chromium));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(
            missing(),
            [
                Need::Npm,
                Need::Python,
                Need::Curl,
                Need::Chromedriver,
                Need::Nginx
            ]
        );
    }

    #[test]
    fn without_root_both_lines_go_through_sudo() {
        assert_eq!(
            shown(&[Need::Curl], false),
            [
                "sudo apt-get update",
                "sudo apt-get install -y --no-install-recommends curl"
            ]
        );
    }

    #[test]
    fn every_missing_program_is_named() {
        assert_eq!(
            names(&[Need::Postgres, Need::Curl, Need::Chromedriver]),
            "a PostgreSQL server (initdb and postgres), curl, chromedriver"
        );
        assert!(Need::Node.what().contains(&NODE_MAJOR.to_string()));
    }

    #[test]
    fn the_version_of_node_is_read_or_unknown() {
        assert_eq!(node_major("v20.20.2\n"), Some(20));
        assert_eq!(node_major("v8.1.0"), Some(8));
        assert_eq!(node_major(""), None);
        assert_eq!(node_major("node: not found"), None);
    }

    #[test]
    fn only_a_clear_yes_is_a_yes() {
        for yes in ["y\n", "Y", "yes\n"] {
            assert!(means_yes(yes), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "yeah no"] {
            assert!(!means_yes(no), "{no:?}");
        }
        assert!(means_ci("1") && means_ci("true"));
        assert!(!means_ci("") && !means_ci("0") && !means_ci("false"));
    }
}
