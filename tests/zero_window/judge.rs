//! The rule as a judge of recorded histories: what became of each key, what became of each call, and whether the two fit.
//!
//! Never: a call blamed that can be explained by some order of what happened at the same time.

use std::time::Instant;

use crate::support::history::{Accepted, two_keys_at_once};

/// One call of a client.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which of the Seller's keys, counted from 0 in the order in which they were made.
    pub key: usize,
    pub began: Instant,
    pub ended: Instant,
    pub status: u16,
    /// Whether it was refused with the reason `staged`.
    pub staged: bool,
    pub write: bool,
}

impl Call {
    pub fn accepted(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// When an act was asked for, and when it had returned. What it did took place in between.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub invoked: Instant,
    pub returned: Instant,
}

/// What became of one key; `None` for what did not happen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life {
    /// It was prepared.
    pub prepared: Option<Span>,
    /// It became the live key: it was generated, or cut over.
    pub live: Option<Span>,
    /// It died: it was replaced, or discarded before it was ever live.
    pub dead: Option<Span>,
}

/// How many rows one key had written at three moments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Landed {
    /// When the act that ended its staging was asked for; 0 for a key that was never staged.
    pub while_staged: i64,
    /// When the act that killed it had returned.
    pub at_return: i64,
    /// When all was over.
    pub at_end: i64,
}

/// Everything that breaks the rule, in words. `lives` and `landed` have a place for each key.
pub fn judge(calls: &[Call], lives: &[Life], landed: &[Landed]) -> Vec<String> {
    let mut broken = Vec::new();
    for call in calls {
        let life = &lives[call.key];
        let began_after = |act: Option<Span>| act.is_some_and(|act| call.began > act.returned);
        let ended_before = |act: Option<Span>| act.is_none_or(|act| call.ended < act.invoked);
        let (accepted, refused) = (call.accepted(), call.status == 401);
        let mut blame =
            |what: &str| broken.push(format!("{what}: {}, {call:?}, {life:?}", call.status));

        if began_after(life.dead) && (!refused || call.staged) {
            blame("a dead key was not refused as one");
        }
        if began_after(life.live) && ended_before(life.dead) && !accepted {
            blame("a live key was not accepted");
        }
        if accepted && ended_before(life.live) {
            blame("a key was accepted before it was made live, or was never made so");
        }
        let only_staged =
            began_after(life.prepared) && ended_before(life.live) && ended_before(life.dead);
        if only_staged && !call.staged {
            blame("a staged key was not refused as one");
        }
        if call.staged && (life.prepared.is_none() || began_after(life.live)) {
            blame("a key passes for staged that is not");
        }
        if !accepted && !refused {
            blame("neither success nor 401");
        }
    }
    for (key, landed) in landed.iter().enumerate() {
        if landed.while_staged != 0 {
            broken.push(format!("writes of the staged key {key} landed: {landed:?}"));
        }
        if landed.at_return != landed.at_end {
            broken.push(format!(
                "writes of key {key} landed after it was dead: {landed:?}"
            ));
        }
    }
    let accepted = calls.iter().filter(|call| call.accepted());
    let accepted: Vec<_> = accepted
        .map(
            |&Call {
                 key, began, ended, ..
             }| Accepted { key, began, ended },
        )
        .collect();
    broken.extend(two_keys_at_once(&accepted));
    broken
}

/// Judges short histories, in milliseconds from their beginning.
struct Court {
    start: Instant,
    lives: Vec<Life>,
}

impl Court {
    /// Keys by when they were prepared, live and dead: each the two ends of an act.
    fn of(lives: &[[Option<(u64, u64)>; 3]]) -> Self {
        let start = Instant::now();
        let at = |ms| start + std::time::Duration::from_millis(ms);
        let span = |act: Option<(u64, u64)>| {
            act.map(|(invoked, returned)| Span {
                invoked: at(invoked),
                returned: at(returned),
            })
        };
        let lives = lives
            .iter()
            .map(|&[prepared, live, dead]| Life {
                prepared: span(prepared),
                live: span(live),
                dead: span(dead),
            })
            .collect();
        Self { start, lives }
    }

    /// What is found wrong with calls, each with a key, from, until, and answered so: a status, or 1 for 401 `staged`.
    fn complaints(&self, calls: &[(usize, u64, u64, u16)]) -> Vec<String> {
        let at = |ms| self.start + std::time::Duration::from_millis(ms);
        let calls: Vec<_> = calls
            .iter()
            .map(|&(key, began, ended, answered)| Call {
                key,
                began: at(began),
                ended: at(ended),
                status: if answered == STAGED { 401 } else { answered },
                staged: answered == STAGED,
                write: false,
            })
            .collect();
        judge(&calls, &self.lives, &[])
    }

    fn assert_fine(&self, calls: &[(usize, u64, u64, u16)]) {
        for call in calls {
            assert_eq!(self.complaints(&[*call]), [""; 0], "{call:?}");
        }
    }

    fn assert_broken(&self, calls: &[(usize, u64, u64, u16)]) {
        for call in calls {
            assert!(!self.complaints(&[*call]).is_empty(), "{call:?}");
        }
    }
}

/// In [`Court::complaints`]: 401 with the reason `staged`.
const STAGED: u16 = 1;
const EVER: Option<(u64, u64)> = Some((0, 1));

#[test]
fn the_judge_finds_what_breaks_the_rule_when_a_key_is_generated() {
    let generated = Some((100, 110));
    let court = Court::of(&[[None, EVER, generated], [None, generated, None]]);
    court.assert_fine(&[
        (0, 50, 60, 200),
        (0, 109, 115, 200), // began before the return: may be either
        (0, 109, 115, 401),
        (0, 111, 112, 401),
        (1, 111, 112, 200),
        (1, 105, 112, 401), // began before the return
    ]);
    court.assert_broken(&[
        (0, 111, 112, 200),
        (0, 111, 112, 304),
        (0, 111, 112, 503),
        (0, 111, 112, STAGED),
        (0, 50, 60, 401),
        (0, 105, 106, 503), // whichever came first, this is no answer
        (1, 111, 112, 401),
        (1, 50, 60, 200),
        (1, 105, 106, STAGED),
        (1, 111, 112, 500),
    ]);
}

#[test]
fn the_judge_finds_what_breaks_the_rule_when_a_key_is_cut_over() {
    let (prepared, cut_over) = (Some((100, 110)), Some((200, 210)));
    let court = Court::of(&[[None, EVER, cut_over], [prepared, cut_over, None]]);
    court.assert_fine(&[
        (0, 50, 60, 200),
        (0, 105, 106, 200), // while the next one is prepared
        (0, 150, 160, 200), // and while it is staged
        (0, 205, 206, 200), // during the cut-over it may be either
        (0, 205, 206, 401),
        (0, 211, 212, 401),
        (1, 105, 106, 401), // not known yet
        (1, 105, 106, STAGED),
        (1, 150, 160, STAGED),
        (1, 190, 206, 200), // ended when it may have been live already
        (1, 209, 220, STAGED),
        (1, 211, 212, 200),
    ]);
    court.assert_broken(&[
        (0, 105, 106, 401),
        (0, 150, 160, 401),
        (0, 150, 160, STAGED),
        (0, 199, 215, STAGED),
        (0, 211, 212, 200),
        (1, 50, 60, 200),
        (1, 150, 160, 200), // before it was live
        (1, 150, 160, 401), // for another reason than that it is staged
        (1, 150, 160, 503),
        (1, 105, 199, 200), // all of it before the cut-over was asked for
        (1, 211, 212, 401),
        (1, 211, 212, STAGED),
    ]);
    // Each call for itself could be right, and all together cannot: the change-over would have been twice.
    court.assert_fine(&[(0, 205, 206, 200), (1, 201, 204, 200)]);
    assert_eq!(
        court
            .complaints(&[(0, 205, 206, 200), (1, 201, 204, 200)])
            .len(),
        1
    );
    assert_eq!(
        court.complaints(&[(0, 203, 206, 200), (1, 201, 204, 200)]),
        [""; 0]
    );
}

#[test]
fn the_judge_finds_what_breaks_the_rule_when_a_key_is_discarded() {
    let (prepared, discarded) = (Some((100, 110)), Some((200, 210)));
    let court = Court::of(&[[None, EVER, None], [prepared, None, discarded]]);
    court.assert_fine(&[
        (0, 105, 106, 200),
        (0, 150, 160, 200),
        (0, 205, 206, 200), // while the other is discarded
        (0, 90, 900, 200),
        (1, 105, 106, 401),
        (1, 150, 160, STAGED),
        (1, 205, 206, STAGED),
        (1, 205, 206, 401),
        (1, 211, 212, 401),
        (1, 800, 900, 401),
    ]);
    court.assert_broken(&[
        (0, 105, 106, 401),
        (0, 205, 206, 401),
        (0, 90, 900, 401),
        (1, 105, 106, 200),
        (1, 150, 160, 200),
        (1, 205, 206, 200), // never live, so never good
        (1, 211, 212, 200),
        (1, 211, 212, STAGED),
        (1, 800, 900, 200),
        (1, 800, 900, 404),
    ]);
}

#[test]
fn the_judge_finds_writes_that_landed_when_they_must_not() {
    let count = |while_staged, at_return, at_end| {
        let landed = Landed {
            while_staged,
            at_return,
            at_end,
        };
        judge(&[], &[], &[landed]).len()
    };
    assert_eq!(count(0, 0, 0), 0);
    assert_eq!(count(0, 3, 3), 0);
    assert_eq!(count(0, 3, 4), 1, "after it was dead");
    assert_eq!(count(1, 1, 1), 1, "before it was live");
}
