//! What the operator can watch of leaks: what was said of keys and what came of it, and whether GitHub's keys are known.
//!
//! Never: anything that a decision depends on; a Seller, a key or a place.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::keys::found::{Finder, Outcome};

/// What came of one saying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dealt {
    /// Something was done about the key, or it was dead already.
    Done(Outcome),
    /// It is no key that anybody has here.
    Unknown,
    /// There was no key in it.
    NoKey,
    /// It was not looked at: signed by nobody who may, or too many came.
    Refused,
    /// The database could not do it.
    Failed,
}

/// How a fetch of GitHub's keys ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// They are known.
    Done,
    /// They are not, or those of before are.
    Failed,
}

impl Dealt {
    /// Every one that is counted apart.
    pub const ALL: [Self; 8] = [
        Self::Done(Outcome::Expired),
        Self::Done(Outcome::Discarded),
        Self::Done(Outcome::Told),
        Self::Done(Outcome::Dead),
        Self::Unknown,
        Self::NoKey,
        Self::Refused,
        Self::Failed,
    ];

    /// Its name in the label `outcome`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done(outcome) => outcome.as_str(),
            Self::Unknown => "unknown",
            Self::NoKey => "no_key",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Whoever says that keys were found, in the order in which they are counted.
pub const FINDERS: [Finder; 2] = [Finder::GitHub, Finder::Report];

/// See the module.
#[derive(Default)]
pub struct Figures {
    dealt: [[AtomicU64; Dealt::ALL.len()]; FINDERS.len()],
    fetches: [AtomicU64; 2],
}

impl Figures {
    /// Counts what came of one saying.
    pub(super) fn count(&self, finder: Finder, dealt: Dealt) {
        let finder = FINDERS.iter().position(|one| *one == finder);
        let at = Dealt::ALL.iter().position(|one| *one == dealt);
        if let (Some(finder), Some(at)) = (finder, at) {
            self.dealt[finder][at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn fetched(&self, fetch: Fetch) {
        self.fetches[fetch as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often something came of what this finder said: in the order of [`Dealt::ALL`].
    pub fn dealt(&self, finder: usize) -> impl Iterator<Item = u64> {
        let own = self.dealt.get(finder).into_iter().flatten();
        own.map(|count| count.load(Ordering::Relaxed))
    }

    /// How often GitHub's keys were fetched, and how often in vain.
    pub fn fetches(&self) -> [u64; 2] {
        [&self.fetches[0], &self.fetches[1]].map(|count| count.load(Ordering::Relaxed))
    }
}
