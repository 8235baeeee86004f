//! The processes below this one: noticing Ctrl-C, finding what the tests left running, and ending it.
//!
//! It must never signal a process that is not a child of this one. A child keeps its number until
//! this process reaps it, so a signal sent here cannot hit a stranger who got the number since.

use std::fmt;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};

/// How long a process that is on its way out may take before it counts as left running.
const GRACE: Duration = Duration::from_secs(2);
/// How long a process may take to end when asked to, before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// Set by SIGINT, SIGTERM or SIGHUP, which from then on no longer end this process by themselves:
/// everything that waits must look at it.
#[derive(Clone)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    pub fn listen() -> Result<Self> {
        let flag = Arc::new(AtomicUsize::new(0));
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let number = signal.as_raw();
            signal_hook::flag::register_usize(number, flag.clone(), number.unsigned_abs() as usize)
                .context("could not listen for signals")?;
        }
        Ok(Self(flag))
    }

    /// Fails with [`Interrupted`] once a signal has come.
    pub fn check(&self) -> Result<(), Interrupted> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            // No signal's number is above 64.
            signal => Err(Interrupted(u8::try_from(signal).unwrap_or(0))),
        }
    }
}

/// The user or the system asked this process to end, by the signal of this number.
#[derive(Debug)]
pub struct Interrupted(u8);

impl Interrupted {
    /// What a shell reports for a process that died of the signal.
    pub fn exit_code(&self) -> u8 {
        128 + self.0
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by signal {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// A process below this one, as `/proc` shows it.
pub struct Process {
    pid: Pid,
    name: String,
    ended: bool,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.pid.as_raw_nonzero())
    }
}

/// The parent of every process that the tests orphan. Whatever is left when it is dropped is ended.
pub struct Household(());

impl Household {
    /// From here on an orphan below this process becomes its child instead of the system's, so that
    /// nothing the tests started can get away by losing its parent.
    pub fn found() -> Result<Self> {
        rustix::process::set_child_subreaper(Some(getpid()))
            .context("could not become the keeper of orphaned processes")?;
        Ok(Self(()))
    }

    /// Buries the orphans that have ended, so that a test that waits for one to go away sees it gone.
    pub fn reap(&self, except: &[Option<Pid>]) -> Result<()> {
        living(except).map(drop)
    }

    /// The children that still run after the time a process needs to go.
    pub fn left(&self, except: &[Option<Pid>]) -> Result<Vec<Process>> {
        settle(except, GRACE)
    }

    /// Ends all children, the stubborn ones by SIGKILL, and answers with those that even that left alive.
    pub fn end(&self, except: &[Option<Pid>]) -> Result<Vec<Process>> {
        for signal in [Signal::TERM, Signal::KILL] {
            let deadline = Instant::now() + PATIENCE;
            let mut asked = Vec::new();
            loop {
                let children = living(except)?;
                if children.is_empty() {
                    return Ok(children);
                }
                // Each death can hand us new orphans, so the list is read again and again.
                for child in children {
                    if !asked.contains(&child.pid) {
                        // A refusal shows as a child that stays alive.
                        let _ = kill_process(child.pid, signal);
                        asked.push(child.pid);
                    }
                }
                if Instant::now() >= deadline {
                    break;
                }
                sleep(POLL);
            }
        }
        living(except)
    }
}

impl Drop for Household {
    fn drop(&mut self) {
        // Only a panic or an early error leaves something to do here; it is already being reported.
        let _ = self.end(&[]);
    }
}

/// The number of a child, for the lists of exceptions.
pub fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn settle(except: &[Option<Pid>], time: Duration) -> Result<Vec<Process>> {
    let deadline = Instant::now() + time;
    loop {
        let children = living(except)?;
        if children.is_empty() || Instant::now() >= deadline {
            return Ok(children);
        }
        sleep(POLL);
    }
}

/// The children that run, apart from the exceptions, which their owners wait for. Those that ended are reaped.
fn living(except: &[Option<Pid>]) -> Result<Vec<Process>> {
    let mut living = Vec::new();
    for child in children()? {
        if except.contains(&Some(child.pid)) {
            continue;
        }
        if child.ended {
            // It may have been reaped by the owner in between, which is as good.
            let _ = waitpid(Some(child.pid), WaitOptions::NOHANG);
        } else {
            living.push(child);
        }
    }
    Ok(living)
}

fn children() -> Result<Vec<Process>> {
    let me = getpid().as_raw_nonzero().get();
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").context("could not list the processes")? {
        let entry = entry.context("could not list the processes")?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw)
        else {
            continue;
        };
        // A process that has gone since it was listed is no longer anybody's child.
        let Ok(line) = std::fs::read(entry.path().join("stat")) else {
            continue;
        };
        if let Some((name, state, parent)) = read_stat(&String::from_utf8_lossy(&line))
            && parent == me
        {
            children.push(Process {
                pid,
                name: name.to_owned(),
                ended: matches!(state, 'Z' | 'X'),
            });
        }
    }
    Ok(children)
}

/// Name, state and parent from a line of `/proc/PID/stat`. The name may hold spaces and brackets itself.
fn read_stat(line: &str) -> Option<(&str, char, i32)> {
    let (front, back) = line.rsplit_once(')')?;
    let (_, name) = front.split_once('(')?;
    let mut fields = back.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((name, state, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        assert_eq!(
            read_stat("7 (a (b) c) S 41 7 7 0"),
            Some(("a (b) c", 'S', 41))
        );
        assert_eq!(
            read_stat("8 (postgres) Z 1 8 8 0"),
            Some(("postgres", 'Z', 1))
        );
        assert_eq!(read_stat("nonsense"), None);
    }

    #[test]
    fn an_interruption_has_the_exit_code_that_shells_use() {
        assert_eq!(Interrupted(2).exit_code(), 130);
        assert_eq!(Interrupted(15).exit_code(), 143);
    }
}
