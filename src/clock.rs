//! Where every time comes from: the wall clock for what people read, the boot clock for how long something took or may
//! be trusted.
//!
//! Never: a time taken from SQL (`now()`), nor a duration measured on the wall clock, which can jump.

use std::time::Duration;

use jiff::{Timestamp, tz::Offset};
use serde::{Serialize, Serializer};

/// A moment of the wall clock, in whole microseconds since 1970 UTC: what the database stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    /// ISO 8601 in UTC with `Z` and millisecond precision, the form of every time in the API.
    pub fn iso(self) -> String {
        match Timestamp::from_microsecond(self.0) {
            Ok(at) => format!("{at:.3}"),
            // Only a damaged database can hold a time outside the years -9999 to 9999.
            Err(_) => "invalid".to_owned(),
        }
    }

    /// As people read it who may be anywhere: `2025-11-24 16:00:00 UTC`.
    pub fn utc(self) -> String {
        match Timestamp::from_microsecond(self.0) {
            Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            Err(_) => "invalid".to_owned(),
        }
    }

    /// The moment this much earlier.
    pub fn before(self, by: Duration) -> Time {
        Time(self.0.saturating_sub(by.as_micros() as i64))
    }

    /// The moment this much later.
    pub fn after(self, by: Duration) -> Time {
        Time(self.0.saturating_add(by.as_micros() as i64))
    }

    /// Whole minutes since 1970: the grain in which usage is counted.
    pub fn minute(self) -> i64 {
        self.0.div_euclid(60_000_000)
    }

    /// The calendar year in UTC.
    pub fn year(self) -> i16 {
        Timestamp::from_microsecond(self.0)
            .map(|at| Offset::UTC.to_datetime(at).year())
            .unwrap_or(1970)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.iso())
    }
}

/// A reading of `CLOCK_BOOTTIME` in microseconds: it never jumps and, unlike `std::time::Instant` on Linux, it counts
/// the time a machine was suspended. A lease that ignored suspension would outlive its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Time since an earlier reading; zero if `earlier` is not earlier.
    pub fn since(self, earlier: BootTime) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The moment this much later.
    pub fn after(self, by: Duration) -> BootTime {
        BootTime(self.0.saturating_add(by.as_micros() as u64))
    }
}

/// The source of time, handed to whoever needs it: nobody else reads a clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock;

impl Clock {
    /// The machine's own clocks.
    pub fn system() -> Self {
        Self
    }

    /// The wall clock.
    pub fn now(&self) -> Time {
        Time(Timestamp::now().as_microsecond())
    }

    /// The boot clock. Other systems than Linux have no such clock; there the monotonic one stands in.
    pub fn boot(&self) -> BootTime {
        #[cfg(target_os = "linux")]
        let id = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let id = rustix::time::ClockId::Monotonic;
        let at = rustix::time::clock_gettime(id);
        BootTime(at.tv_sec as u64 * 1_000_000 + at.tv_nsec as u64 / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_iso_8601_utc() {
        assert_eq!(
            Time(1_764_000_000_123_456).iso(),
            "2025-11-24T16:00:00.123Z"
        );
        assert_eq!(Time(1_764_000_000_123_456).utc(), "2025-11-24 16:00:00 UTC");
        assert_eq!(Time(1_764_000_000_123_456).year(), 2025);
        assert_eq!(Time(0).iso(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn the_boot_clock_moves_forward() {
        let clock = Clock::system();
        let earlier = clock.boot();
        let later = clock.boot();
        assert!(later >= earlier);
        assert_eq!(earlier.since(later), Duration::ZERO);
    }
}
