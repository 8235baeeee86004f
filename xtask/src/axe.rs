//! axe-core, by which the tests judge whether a page can be used by everybody: fetched by npm, in the version of the
//! lock file in `tests/browser`.
//!
//! It must never write into the source tree, nor run a script that a package brings.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::say;

/// What npm is told, as the files it looks for.
const MANIFEST: &str = "package.json";
const LOCK: &str = "package-lock.json";
/// Below the folder it works in. npm empties `node_modules` before it begins, so the mark is there only after an
/// installation that was finished.
const MARK: &str = "node_modules/installed.json";
const SOURCE: &str = "node_modules/axe-core/axe.min.js";

/// Makes sure of the file to be injected into pages, and answers with its path.
pub fn ensure() -> Result<PathBuf> {
    let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/browser");
    let folder = built()?.join("browser");
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    // Another run on the same folder may be about to do the same.
    let turn = File::create(folder.join("lock")).context("could not make a lock")?;
    turn.lock().context("could not take the lock")?;
    if !is_current(&wanted, &folder) {
        install(&wanted, &folder).context("could not fetch axe-core")?;
    }
    let source = folder.join(SOURCE);
    if !source.is_file() {
        bail!("npm brought no {}", source.display());
    }
    Ok(source)
}

/// Cargo's target folder: this program is in a folder of it.
fn built() -> Result<PathBuf> {
    let program = env::current_exe().context("could not find this program")?;
    let built = program.ancestors().nth(2).map(Path::to_owned);
    built.context("this program does not lie where cargo builds")
}

/// Whether what lies there was installed by this very lock file.
fn is_current(wanted: &Path, folder: &Path) -> bool {
    let read = |path: PathBuf| fs::read(path).ok();
    let mark = read(folder.join(MARK));
    mark.is_some() && mark == read(wanted.join(LOCK)) && folder.join(SOURCE).is_file()
}

fn install(wanted: &Path, folder: &Path) -> Result<()> {
    for name in [MANIFEST, LOCK] {
        let from = wanted.join(name);
        fs::copy(&from, folder.join(name))
            .with_context(|| format!("could not copy {}", from.display()))?;
    }
    say("npm fetches axe-core");
    let status = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .status()
        .context("could not run npm")?;
    if !status.success() {
        bail!("`npm ci` failed ({status})");
    }
    fs::copy(folder.join(LOCK), folder.join(MARK)).context("could not leave a mark")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_finished_installation_of_the_same_lock_file_is_current() {
        let (wanted, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let current = || is_current(wanted.path(), folder.path());
        assert!(!current(), "nothing is wanted and nothing is there");
        fs::write(wanted.path().join(LOCK), "one").unwrap();
        let source = folder.path().join(SOURCE);
        fs::create_dir_all(source.parent().unwrap()).unwrap();
        fs::write(&source, "axe").unwrap();
        assert!(!current(), "broken off before the mark");
        fs::write(folder.path().join(MARK), "one").unwrap();
        assert!(current());
        fs::write(wanted.path().join(LOCK), "two").unwrap();
        assert!(!current(), "another version");
        fs::write(folder.path().join(MARK), "two").unwrap();
        fs::remove_file(source).unwrap();
        assert!(!current(), "somebody tidied up");
    }

    #[test]
    fn the_lock_file_pins_one_version_and_names_no_server() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/browser");
        let manifest = fs::read_to_string(folder.join(MANIFEST)).unwrap();
        let (_, version) = manifest.split_once("\"axe-core\": \"").unwrap();
        let version = version.split('"').next().unwrap();
        assert!(
            version.starts_with("4.") && version.chars().all(|c| c == '.' || c.is_ascii_digit())
        );
        let lock = fs::read_to_string(folder.join(LOCK)).unwrap();
        assert!(lock.contains(&format!("\"version\": \"{version}\"")));
        assert!(lock.contains("\"integrity\": \"sha512-"));
        assert!(
            !lock.contains("resolved") && !lock.contains("://"),
            "{lock}"
        );
    }
}
