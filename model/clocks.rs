//! Lease, wait and the clocks they are measured with.
//!
//! The model counts true time in ticks, which no process sees. A clock that is off by at most ε shows, after `age` ticks,
//! anything between `age * (1 - ε)` and `age * (1 + ε)`, and every comparison is tried with whatever it may show. So no rate
//! has to be chosen, and a clock may change its rate as it likes.
//!
//! Whole ticks are enough. With the two timings below trust holds for at most T ticks and a wait lasts at least T + 1, both
//! exactly; and for bounds that are whole numbers and count themselves in, every order of events that is possible in continuous
//! time is possible with each event at a whole tick as well (Henzinger, Manna and Pnueli, "What good are digital clocks?", 1992).
//!
//! Never: two readings of one clock compared with each other but by the bounds that hold for any two.

/// An age in ticks of true time. It stops at the one from which on it makes no difference.
pub type Age = u8;

/// L and ε.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// L in ticks.
    pub lease: u32,
    /// ε as a fraction: `(1, 10)` is a tenth.
    pub allowance: (u32, u32),
}

/// The fewest ticks in which trust and wait differ: ε = 1/2, T = 3.
pub const COARSE: Timing = Timing {
    lease: 3,
    allowance: (1, 2),
};

/// The product's: ε = 1/10, T = 11.
pub const FINE: Timing = Timing {
    lease: 11,
    allowance: (1, 10),
};

/// What the clocks may show. Durations of clocks are in parts of a tick.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// How long trust lasts on the node's clock: L(1-ε).
    trust: u32,
    /// How long a change waits, and a sweep, on the changer's clock: L(1+2ε).
    wait: u32,
    /// What the slowest clock shows after one tick.
    slowest: u32,
    /// What the fastest clock shows after one tick.
    fastest: u32,
    /// The age from which on trust has run out by every clock.
    pub lapsed: Age,
    /// The age from which on a wait may be over.
    pub waited: Age,
}

impl Clocks {
    /// `allowing` is false for the mutant that reckons with ε = 0. The clocks drift all the same.
    pub fn new(timing: Timing, allowing: bool) -> Self {
        let (part, of) = timing.allowance;
        let allowed = if allowing { part } else { 0 };
        let mut clocks = Self {
            trust: timing.lease * (of - allowed),
            wait: timing.lease * (of + 2 * allowed),
            slowest: of - part,
            fastest: of + part,
            lapsed: 0,
            waited: 0,
        };
        while clocks.may_hold(clocks.lapsed) {
            clocks.lapsed += 1;
        }
        while !clocks.may_have_waited(clocks.waited) {
            clocks.waited += 1;
        }
        clocks
    }

    /// Whether trust that is counted from a t0 of this age may still hold.
    pub fn may_hold(&self, t0: Age) -> bool {
        u32::from(t0) * self.slowest <= self.trust
    }

    /// Whether it may have run out.
    pub fn may_have_lapsed(&self, t0: Age) -> bool {
        u32::from(t0) * self.fastest >= self.trust
    }

    /// Whether L(1+2ε) may have passed since something of this age.
    pub fn may_have_waited(&self, since: Age) -> bool {
        u32::from(since) * self.fastest >= self.wait
    }
}

#[test]
fn with_both_timings_a_wait_outlasts_trust_by_exactly_one_tick() {
    for (timing, longest_trust) in [(COARSE, 3), (FINE, 11)] {
        let clocks = Clocks::new(timing, true);
        assert_eq!(clocks.lapsed, longest_trust + 1);
        assert_eq!(clocks.waited, longest_trust + 1);
        // Exactly: there is nothing left over that whole ticks would hide.
        assert_eq!(u32::from(longest_trust) * clocks.slowest, clocks.trust);
        assert_eq!(u32::from(clocks.waited) * clocks.fastest, clocks.wait);

        let without_allowance = Clocks::new(timing, false);
        assert!(without_allowance.waited < without_allowance.lapsed);
    }
}
