//! What a recorded history of calls says of the keys, whoever recorded it.
//!
//! Never: a moment at which a call was accepted taken for known. All that a client sees is when it began and when it ended.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

/// A call that was accepted: at some moment between its beginning and its end.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Which of the Seller's keys, in the order in which they became live.
    pub key: usize,
    pub began: Instant,
    pub ended: Instant,
}

/// The calls that prove two keys of one Seller live at once, in words; empty if there is an order in which each key's calls
/// come before all those of later keys.
///
/// Such an order is missing exactly where a call with a later key had ended before one with an earlier key began: then the
/// earlier key was accepted after the later one, whatever the moments were. Without such a pair, each change-over can be
/// put between the last beginning with a key before it and the first end with a key after it.
pub fn two_keys_at_once(calls: &[Accepted]) -> Vec<String> {
    let mut first_end: BTreeMap<usize, &Accepted> = BTreeMap::new();
    for call in calls {
        let first = first_end.entry(call.key).or_insert(call);
        if call.ended < first.ended {
            *first = call;
        }
    }
    let mut first_later: HashMap<usize, &Accepted> = HashMap::new();
    let mut first: Option<&Accepted> = None;
    for (key, own) in first_end.into_iter().rev() {
        first_later.extend(first.map(|later| (key, later)));
        first = Some(first.filter(|f| f.ended <= own.ended).unwrap_or(own));
    }
    let proof = |call: &Accepted| {
        let later = first_later
            .get(&call.key)
            .filter(|later| later.ended < call.began)?;
        Some(format!(
            "an earlier key was accepted after a later one: {call:?} began when {later:?} was over"
        ))
    };
    calls.iter().filter_map(proof).collect()
}

#[test]
fn two_keys_at_once_are_seen_whatever_the_order_of_the_calls() {
    let start = Instant::now();
    let at = |ms| start + std::time::Duration::from_millis(ms);
    let count = |calls: &[(usize, u64, u64)]| {
        let calls: Vec<_> = calls
            .iter()
            .map(|&(key, began, ended)| Accepted {
                key,
                began: at(began),
                ended: at(ended),
            })
            .collect();
        two_keys_at_once(&calls).len()
    };
    for fine in [
        &[][..],
        &[(0, 10, 20), (1, 30, 40), (2, 50, 60)],
        &[(1, 30, 40), (0, 10, 20)],
        &[(0, 10, 50), (1, 20, 60)], // side by side: either may have been first
        &[(0, 10, 50), (1, 20, 30)], // the earlier key's began before the later key's ended
        &[(0, 30, 50), (1, 20, 30)],
        &[(0, 10, 20), (0, 15, 25), (2, 18, 40)],
    ] {
        assert_eq!(count(fine), 0, "{fine:?}");
    }
    for (broken, proofs) in [
        (&[(0, 31, 50), (1, 20, 30)][..], 1),
        (&[(0, 10, 20), (1, 20, 30), (0, 31, 32)], 1),
        (&[(0, 31, 50), (3, 20, 30)], 1), // keys between them that nobody used
        (&[(0, 31, 50), (1, 40, 60), (2, 20, 30)], 2),
        (&[(0, 10, 20), (1, 31, 32), (2, 20, 90), (2, 21, 30)], 1), // the first to end counts, not the first to begin
        (&[(1, 50, 60), (2, 20, 40), (3, 10, 90)], 1),
    ] {
        assert_eq!(count(broken), proofs, "{broken:?}");
    }
}
