//! The temporary folder of one run: `pg` for the database server, `w` for the tests.
//!
//! It must never outlive the run, and its path must never grow long: a Unix socket's path ends at
//! 107 bytes, and the tests put sockets in folders of their own below `w`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// How many left-over names a report lists.
const LISTED: usize = 30;

/// Removed when dropped, whatever the reason.
pub struct Scratch {
    folder: TempDir,
}

impl Scratch {
    pub fn new() -> Result<Self> {
        // Not the caller's TMPDIR: that can be long, or closed to the user that PostgreSQL runs as.
        let folder = tempfile::Builder::new()
            .prefix("tr")
            .tempdir_in("/tmp")
            .context("could not make a folder under /tmp")?;
        let scratch = Self { folder };
        // The other user must get through to `pg`, whatever the umask says, but need not list the rest.
        set_mode(scratch.path(), 0o711)?;
        // And through to `w`: a test may have a PostgreSQL of its own there.
        for (folder, mode) in [(scratch.postgres(), 0o700), (scratch.work(), 0o711)] {
            fs::create_dir(&folder)
                .with_context(|| format!("could not make {}", folder.display()))?;
            set_mode(&folder, mode)?;
        }
        Ok(scratch)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The server's folder.
    pub fn postgres(&self) -> PathBuf {
        self.path().join("pg")
    }

    /// The tests' TMPDIR.
    pub fn work(&self) -> PathBuf {
        self.path().join("w")
    }

    /// What lies in the tests' TMPDIR, as lines for a report.
    pub fn left_overs(&self) -> Result<Vec<String>> {
        let work = self.work();
        let mut names = Vec::new();
        let mut folders = vec![work.clone()];
        while let Some(folder) = folders.pop() {
            let problem = || format!("could not list {}", folder.display());
            for entry in fs::read_dir(&folder).with_context(problem)? {
                let entry = entry.with_context(problem)?;
                let path = entry.path();
                let name = path.strip_prefix(&work).unwrap_or(&path).display();
                if entry.file_type().with_context(problem)?.is_dir() {
                    names.push(format!("{name}/"));
                    folders.push(path);
                } else {
                    names.push(name.to_string());
                }
            }
        }
        names.sort();
        Ok(shorten(names))
    }

    /// Removes the folder now, to be able to say so if it fails.
    pub fn remove(self) -> Result<()> {
        let path = self.path().to_owned();
        self.folder
            .close()
            .with_context(|| format!("could not remove {}", path.display()))
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("could not set the permissions of {}", path.display()))
}

fn shorten(mut names: Vec<String>) -> Vec<String> {
    let more = names.len().saturating_sub(LISTED);
    if more > 0 {
        names.truncate(LISTED);
        names.push(format!("… and {more} more"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_overs_are_named_and_gone_after_removal() {
        let scratch = Scratch::new().unwrap();
        let (path, work) = (scratch.path().to_owned(), scratch.work());
        assert!(work.as_os_str().len() < 20, "{}", work.display());
        assert!(scratch.left_overs().unwrap().is_empty());
        fs::create_dir(work.join("d")).unwrap();
        fs::write(work.join("d/file.db"), "").unwrap();
        assert_eq!(scratch.left_overs().unwrap(), ["d/", "d/file.db"]);
        scratch.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_long_list_is_cut_with_a_count() {
        let names = vec!["x".to_owned(); LISTED + 2];
        let short = shorten(names);
        assert_eq!(short.len(), LISTED + 1);
        assert_eq!(short[LISTED], "… and 2 more");
    }
}
