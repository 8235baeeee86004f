//! Fair use: how many requests a key may make in a minute, by the generic cell rate algorithm, which needs one number
//! per key and policy.
//!
//! By default limits are counted and shown but not enforced.
//!
//! Never: a limit shared between two keys, or memory kept for a key that has been quiet for a minute.

use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;

use crate::{clock::BootTime, ids::KeyId};

const SHARDS: usize = 64;
const WINDOW_US: u64 = 60_000_000;

/// Which limit a request falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Everything but the next: 60 requests a minute.
    Default,
    /// `POST /api/v1/inventory`: 10 batches a minute.
    Batches,
}

impl Policy {
    /// The policy's name in the `RateLimit` headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Batches => "batches",
        }
    }

    /// Requests in a window of 60 seconds.
    pub fn quota(self) -> u64 {
        match self {
            Self::Default => 60,
            Self::Batches => 10,
        }
    }
}

/// Where a key stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Whether the request is within the limit.
    pub within: bool,
    /// Requests that could be made at once.
    pub remaining: u64,
    /// Seconds until the whole quota is there again.
    pub reset_s: u64,
    /// Seconds until one more request would be within the limit.
    pub retry_after_s: u64,
}

/// For each key and policy, the moment at which its whole quota is there again, in microseconds of the boot clock.
#[derive(Default)]
struct Meters {
    full_at_us: [u64; 2],
}

/// Every key's meters.
pub struct RateLimits {
    shards: Box<[Mutex<HashMap<KeyId, Meters>>]>,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl RateLimits {
    /// Counts a request against its policy. One over the limit is not counted, so waiting helps.
    pub fn count(&self, key: KeyId, policy: Policy, now: BootTime) -> Allowance {
        let mut meters = self.shards[key.spread() as usize % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let full_at = &mut meters.entry(key).or_default().full_at_us[policy as usize];
        let cost = WINDOW_US / policy.quota();
        let owed = full_at.saturating_sub(now.0);
        let within = owed + cost <= WINDOW_US;
        if within {
            *full_at = now.0 + owed + cost;
        }
        let owed = full_at.saturating_sub(now.0);
        let seconds = |us: u64| us.div_ceil(1_000_000);
        Allowance {
            within,
            remaining: (WINDOW_US - owed.min(WINDOW_US)) / cost,
            reset_s: seconds(owed),
            retry_after_s: seconds((owed + cost).saturating_sub(WINDOW_US)).max(1),
        }
    }

    /// Forgets keys whose whole quota is there again.
    pub fn forget_quiet(&self, now: BootTime) {
        for shard in &self.shards {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|_, meters| meters.full_at_us.iter().any(|at| *at > now.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_burst_and_then_a_rate() {
        let limits = RateLimits::default();
        let key = KeyId::new();
        let at = |ms: u64| BootTime(1_000_000_000 + ms * 1000);
        for n in 0..10 {
            let standing = limits.count(key, Policy::Batches, at(0));
            assert!(standing.within);
            assert_eq!(standing.remaining, 9 - n);
        }
        let over = limits.count(key, Policy::Batches, at(0));
        assert_eq!(
            over,
            Allowance {
                within: false,
                remaining: 0,
                reset_s: 60,
                retry_after_s: 6
            }
        );
        assert!(!limits.count(key, Policy::Batches, at(5_999)).within);
        assert!(limits.count(key, Policy::Batches, at(6_000)).within);
        assert!(!limits.count(key, Policy::Batches, at(6_001)).within);
        // Other policies and other keys are untouched.
        assert_eq!(limits.count(key, Policy::Default, at(0)).remaining, 59);
        assert_eq!(
            limits.count(KeyId::new(), Policy::Batches, at(0)).remaining,
            9
        );
    }

    #[test]
    fn quiet_keys_are_forgotten() {
        let limits = RateLimits::default();
        let key = KeyId::new();
        limits.count(key, Policy::Default, BootTime(0));
        let held = || {
            limits
                .shards
                .iter()
                .map(|s| s.lock().expect("not poisoned").len())
                .sum::<usize>()
        };
        limits.forget_quiet(BootTime(999_999));
        assert_eq!(held(), 1);
        limits.forget_quiet(BootTime(1_000_000));
        assert_eq!(held(), 0);
    }
}
