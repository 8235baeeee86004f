//! What a live history breaks, beyond what the judge of one server's histories finds, and what it holds, in figures.
//!
//! Never: a call blamed that can be explained by some order of what happened at the same time.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use truckradar::keys::revocation::TRUST;

use super::{
    changes::{Change, History},
    clients::{FORGOTTEN_AFTER, LiveCall, NO_ANSWER},
    faults::{Log, Window},
};
use crate::{
    support::fixtures::vin,
    zero_window::judge::{Call, Landed, Life, Span, judge},
};

/// The answer of a node that cannot know whether a key is good.
const CANNOT_KNOW: u16 = 503;

/// One Seller's history.
pub struct Case<'a> {
    pub calls: &'a [LiveCall],
    pub history: &'a History,
    pub log: &'a Log,
    /// By its VIN, which key wrote a listing that is there in the end.
    pub rows: &'a HashMap<String, usize>,
}

/// Everything that breaks the rule, in words.
pub fn judge_live(case: &Case) -> Vec<String> {
    let History { lives, landed, .. } = case.history;
    let says_something = |call: &&LiveCall| ![CANNOT_KNOW, NO_ANSWER].contains(&call.call.status);
    let answered = case.calls.iter().filter(says_something);
    let answered: Vec<Call> = answered.map(|call| call.call.clone()).collect();
    let mut broken = judge(&answered, lives, landed);
    for live in case.calls {
        let call = &live.call;
        let mut blame = |what: &str| broken.push(format!("{what}: {live:?}"));
        if is_isolated(live, case.log) && call.status != CANNOT_KNOW {
            blame("an isolated node gave another answer than 503");
        }
        if call.status == NO_ANSWER && call.ended - call.began >= FORGOTTEN_AFTER {
            blame("a call was forgotten");
        }
        let Some(number) = live.vin else {
            continue;
        };
        let landed = case.rows.get(&vin(number));
        if call.accepted() && landed != Some(&call.key) {
            blame("an acknowledged write is not there");
        }
        if call.status == 401 && landed.is_some() {
            blame("a refused write is there");
        }
    }
    broken
}

/// Whether the node could reach no database and had no trust any more, from the beginning of a call to its end. What it was
/// told before it was cut off, it trusts for no longer than a lease from then.
fn is_isolated(live: &LiveCall, log: &Log) -> bool {
    let mut windows = log.isolated.iter().filter(|window| window.is_at(live.node));
    windows.any(|window| live.call.began >= window.from + TRUST && live.call.ended <= window.until)
}

fn is_troubled(live: &LiveCall, log: &Log) -> bool {
    let mut windows = log.troubled.iter().filter(|window| window.is_at(live.node));
    windows.any(|window| live.call.began <= window.until && live.call.ended >= window.from)
}

impl Case<'_> {
    /// What the history holds, in figures; fails if it does not hold what could have gone wrong.
    pub fn told(&self) -> String {
        let count =
            |of: &dyn Fn(&LiveCall) -> bool| self.calls.iter().filter(|call| of(call)).count();
        let with = |status: u16, write: bool| {
            count(&|live| live.call.status == status && live.call.write == write)
        };
        let History { lives, changes, .. } = self.history;
        let after_death = count(&|live| {
            let dead = lives[live.call.key].dead;
            live.call.status == 401 && dead.is_some_and(|dead| live.call.began > dead.returned)
        });
        let isolated = count(&|live| is_isolated(live, self.log));
        let isolated_writes = count(&|live| live.call.write && is_isolated(live, self.log));
        let untroubled = |live: &LiveCall| !is_troubled(live, self.log);
        let quiet = count(&|live| untroubled(live) && !live.call.write);
        let quiet_503 =
            count(&|live| untroubled(live) && !live.call.write && live.call.status == CANNOT_KNOW);
        let longest = |of: &dyn Fn(&LiveCall) -> bool| {
            let calls = self.calls.iter().filter(|live| of(live));
            let longest = calls.map(|live| live.call.ended - live.call.began).max();
            longest.unwrap_or_default()
        };
        let unannounced = count(&|live| {
            live.call.write
                && [CANNOT_KNOW, NO_ANSWER].contains(&live.call.status)
                && live
                    .vin
                    .is_some_and(|number| self.rows.contains_key(&vin(number)))
        });
        let known = changes.iter().filter(|change| change.unknown.is_none());
        let killed = changes.iter().filter(|change| change.killed).count();
        let ran_out = changes.iter().filter(|change| change.ran_out > 0).count();
        let mut told = format!(
            "\n{} calls: {} reads and {} writes accepted, {} and {} refused (of both, {after_death} after the death had \
             returned), {} and {} answered 503, {} unanswered; {isolated} calls to an isolated node, {isolated_writes} of \
             them writes; {quiet_503} of {quiet} reads were answered 503 while nothing was wrong with the node; the longest \
             read {:?}, the longest write {:?}, at nodes without trouble {:?} and {:?}; {unannounced} writes landed \
             unacknowledged\n{} changes, {killed} killed a key, {} of unknown outcome, {ran_out} waited for trust to run out",
            self.calls.len(),
            with(200, false),
            with(200, true),
            with(401, false),
            with(401, true),
            with(CANNOT_KNOW, false),
            with(CANNOT_KNOW, true),
            count(&|live| live.call.status == NO_ANSWER),
            longest(&|live| !live.call.write),
            longest(&|live| live.call.write),
            longest(&|live| !live.call.write && untroubled(live)),
            longest(&|live| live.call.write && untroubled(live)),
            changes.len(),
            changes.len() - known.count(),
        );
        assert!(
            with(200, false) > 200
                && with(200, true) > 50
                && after_death > 500
                && isolated > 50
                && isolated_writes > 10
                && killed >= 5,
            "too little to judge: {told}"
        );
        told += &self.longest_in_troubles();
        told += &times_of(changes);
        told
    }

    /// The longest call that began in each kind of trouble, at a node that had it.
    fn longest_in_troubles(&self) -> String {
        let mut longest: BTreeMap<String, Duration> = BTreeMap::new();
        for (trouble, window) in self.log.troubles.iter().zip(&self.log.troubled) {
            let began_in = |live: &&LiveCall| {
                window.is_at(live.node)
                    && (window.from..window.until).contains(&live.call.began)
                    && live.call.status != NO_ANSWER
            };
            let calls = self.calls.iter().filter(began_in);
            for live in calls {
                let kind = if live.call.write { "write" } else { "read" };
                let so_far = longest
                    .entry(format!("{kind} in {trouble:?}, {}", live.call.status))
                    .or_default();
                *so_far = (*so_far).max(live.call.ended - live.call.began);
            }
        }
        let mut told = String::new();
        for (what, longest) in longest {
            told += &format!("\n  longest {what}: {longest:?}");
        }
        told
    }
}

/// How long each kind of change took, and what went wrong with those whose outcome is not known.
fn times_of(changes: &[Change]) -> String {
    let mut kinds: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut errors: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for change in changes {
        let took = change.span.returned - change.span.invoked;
        match &change.unknown {
            None => kinds.entry(change.what).or_default().push(took),
            Some(error) => {
                let error = format!("{}: {}", change.what, error.trim());
                errors.entry(error).or_default().push(took);
            }
        }
    }
    let mut told = String::new();
    for (kind, mut times) in kinds {
        times.sort();
        let (count, median) = (times.len(), times[times.len() / 2]);
        told += &format!(
            "\n  {kind}: {count}, median {median:?}, longest {:?}",
            times[count - 1]
        );
    }
    for (error, times) in errors {
        let longest = times.iter().max().copied().unwrap_or_default();
        told += &format!(
            "\n  unknown, {} times, longest {longest:?}: {error}",
            times.len()
        );
    }
    told
}

impl Log {
    /// What went wrong and how long it took to be well again.
    pub fn told(&self) -> String {
        let mut recoveries: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        for (after, took) in &self.recoveries {
            recoveries.entry(after).or_default().push(*took);
        }
        let mut told = format!("\n{} troubles; ready again", self.troubles.len());
        for (after, times) in recoveries {
            let longest = times.iter().max().copied().unwrap_or_default();
            told += &format!(
                "\n  after {after}: {} times, longest after {longest:?}",
                times.len()
            );
        }
        told
    }
}

/// Calls that each server alone could explain, and that are wrong of a node that was cut off, or of a write.
#[test]
fn the_judge_finds_what_isolated_nodes_and_writes_must_not_do() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let span = |invoked, returned| {
        Some(Span {
            invoked: at(invoked),
            returned: at(returned),
        })
    };
    let history = History {
        lives: vec![Life {
            live: span(0, 1),
            dead: span(9_000, 9_010),
            ..Life::default()
        }],
        landed: vec![Landed::default()],
        changes: Vec::new(),
    };
    let mut log = Log::default();
    log.isolated.push(Window {
        node: Some(1),
        from: at(1_000),
        until: at(5_000),
    });
    let rows = HashMap::from([(vin(1), 0)]);
    let complaints = |node, began, ended, status, vin: Option<u64>| {
        let calls = [LiveCall {
            call: Call {
                key: 0,
                began: at(began),
                ended: at(ended),
                status,
                staged: false,
                write: vin.is_some(),
            },
            node,
            vin,
        }];
        let case = Case {
            calls: &calls,
            history: &history,
            log: &log,
            rows: &rows,
        };
        judge_live(&case).len()
    };
    for fine in [
        (1, 2_700, 2_710, 200, None), // its trust may hold so long
        (1, 2_800, 2_810, 503, None),
        (1, 4_000, 5_001, 200, None), // asked when it was let go
        (0, 4_000, 4_010, 200, None), // another node
        (0, 4_000, 4_010, 200, Some(1)),
        (0, 4_000, 4_010, 503, Some(1)), // it may land, and need not
        (0, 4_000, 4_010, 503, Some(2)),
        (0, 9_500, 9_510, 401, Some(2)),
        (0, 4_000, 4_010, NO_ANSWER, Some(1)),
    ] {
        let (node, began, ended, status, vin) = fine;
        assert_eq!(complaints(node, began, ended, status, vin), 0, "{fine:?}");
    }
    for broken in [
        (1, 2_800, 2_810, 200, None),
        (1, 2_800, 2_810, NO_ANSWER, None),
        (0, 4_000, 4_010, 200, Some(2)), // acknowledged and not there
        (0, 9_500, 9_510, 401, Some(1)), // refused and there
        (0, 4_000, 4_010, 401, None),
        (0, 4_000, 4_010, 500, None),
        (0, 9_500, 9_510, 200, None),
        (0, 1_000, 80_000, NO_ANSWER, None),
    ] {
        let (node, began, ended, status, vin) = broken;
        assert!(
            complaints(node, began, ended, status, vin) > 0,
            "{broken:?}"
        );
    }
}
