//! The protocol with one thing wrong at a time: every one is caught, by the shortest story of how it lets a dead key in,
//! or unsays what the database said.
//!
//! Never: a mutant in bounds in which the protocol itself is not searched to the end.

use stateright::{Checker, HasDiscoveries, Model};

use super::{
    clocks::COARSE,
    honest::search_to_the_end,
    protocol::{Bounds, Losses, Protocol, RULE, SAID},
    state::Action::{self, *},
};
use crate::full;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mutant {
    /// Step 4 comes before any thread sees the table.
    AcknowledgeBeforeApplying,
    /// Trust is counted from when the answer to step 3 has arrived.
    TrustFromReply,
    /// Step 3 comes before step 2.
    ReadBeforeRow,
    /// A process that finds its row gone puts it back and goes on with the table that it has.
    JoinWithoutReading,
    /// Two processes have the id of the first.
    OneIdTwice,
    /// ε = 0, and the clocks drift.
    NoAllowance,
    /// A row that is behind is deleted at any time after it was listed.
    SweepEarly,
    /// A row is deleted when a time in it is old by the sweeper's wall clock.
    SweepByWallClock,
    /// A row is found due, and then deleted by its id.
    SelectThenDelete,
    /// A row that comes back has the counter of a new row.
    CounterStartsAgain,
    /// A change notes t1, then commits.
    T1BeforeCommit,
    /// A change lists the nodes, then commits.
    ListBeforeCommit,
    /// A request looks a key up in the table of its pair and is judged by the trust that is current when it is judged.
    LaterTrust,
    /// The answer to an abandoned cycle's step 3 is taken for the answer that is being waited for.
    LateAnswer,
    /// A request takes the answer of a read of the primary that another one began.
    SharedRead,
    /// Step 3 reads the keys, and then the epoch.
    EpochAfterKeys,
    /// A change that finds nothing to do returns.
    NoOpReturnsAtOnce,
    /// A table is believed that knows less than the database was heard to say.
    BelieveOlderThanSaid,
}

/// One process, one change, and nothing fails: most mutants need no more.
const SMALL: Bounds = Bounds {
    timing: COARSE,
    processes: 1,
    changes: 1,
    no_ops: false,
    ends: false,
    losses: Losses::Lost,
    early_requests: false,
    told: false,
};
const TWO_PROCESSES: Bounds = Bounds {
    processes: 2,
    ..SMALL
};
const TWO_CHANGES: Bounds = Bounds {
    changes: 2,
    ..SMALL
};
const THREE_CHANGES: Bounds = Bounds {
    changes: 3,
    losses: Losses::Nothing,
    ..SMALL
};
const WITH_NO_OPS: Bounds = Bounds {
    no_ops: true,
    ..TWO_CHANGES
};
const WITH_ANSWERS_TOLD: Bounds = Bounds {
    told: true,
    ..SMALL
};
const WITH_LATE: Bounds = Bounds {
    losses: Losses::LostOrLate,
    ..SMALL
};

/// A mutant, the bounds in which it is caught, the length of the shortest story, and what decides in it, in this order.
type Case = (Mutant, Bounds, usize, &'static [Action]);

const CASES: &[Case] = &[
    // It has said that it knows of the change, and a request still finds the old table.
    (
        Mutant::AcknowledgeBeforeApplying,
        SMALL,
        16,
        &[
            Commit(0),
            Read(0),
            Acknowledge(0),
            List(0),
            Return(0),
            Invoke(0),
            Accept(0),
        ],
    ),
    // Trust in what was read before the commit begins after it, and outlasts the wait.
    (
        Mutant::TrustFromReply,
        SMALL,
        17,
        &[
            Read(0),
            Commit(0),
            NoteT1(0),
            Tick,
            See(0),
            Publish(0),
            Return(0),
            Invoke(0),
            Accept(0),
        ],
    ),
    // The change finds no row, and nothing to wait for.
    (
        Mutant::ReadBeforeRow,
        SMALL,
        13,
        &[
            Read(0),
            Commit(0),
            List(0),
            CommitRow(0),
            Publish(0),
            Return(0),
            Invoke(0),
            Accept(0),
        ],
    ),
    // It is swept, comes back, and trusts the table of before.
    (
        Mutant::JoinWithoutReading,
        SMALL,
        22,
        &[
            Read(0),
            See(0),
            Commit(0),
            Sweep(0),
            CommitRow(0),
            See(0),
            Publish(0),
            Invoke(0),
            Accept(0),
        ],
    ),
    // The second one has acknowledged for the first.
    (
        Mutant::OneIdTwice,
        TWO_PROCESSES,
        19,
        &[
            Publish(0),
            Commit(0),
            Read(1),
            Acknowledge(1),
            List(0),
            Return(0),
            Invoke(0),
            Accept(0),
        ],
    ),
    // The changer's clock is fast, the node's is slow.
    (
        Mutant::NoAllowance,
        SMALL,
        15,
        &[
            Publish(0),
            Commit(0),
            NoteT1(0),
            Tick,
            Tick,
            Return(0),
            Invoke(0),
            Accept(0),
        ],
    ),
    // The row is gone, and with it whom the change waits for; trust is not.
    (
        Mutant::SweepEarly,
        SMALL,
        14,
        &[
            Publish(0),
            Commit(0),
            List(0),
            Sweep(0),
            Return(0),
            Invoke(0),
            Accept(0),
        ],
    ),
    // The same, of a node that was not even behind.
    (
        Mutant::SweepByWallClock,
        SMALL,
        14,
        &[
            Acknowledge(0),
            Sweep(0),
            Publish(0),
            Commit(0),
            List(0),
            Return(0),
            Invoke(0),
            Accept(0),
        ],
    ),
    // The node did a whole cycle between the two halves. The next change does not find it.
    (
        Mutant::SelectThenDelete,
        TWO_CHANGES,
        25,
        &[
            Commit(0),
            List(0),
            Select(0),
            CommitRow(0),
            Acknowledge(0),
            Sweep(0),
            Publish(0),
            Commit(1),
            List(1),
            Return(1),
            Invoke(0),
            Accept(0),
        ],
    ),
    // Trust begins after t1, in what is read before the commit.
    (
        Mutant::T1BeforeCommit,
        SMALL,
        17,
        &[
            NoteT1(0),
            Tick,
            Begin(0),
            Read(0),
            Publish(0),
            Commit(0),
            Return(0),
            Invoke(0),
            Accept(0),
        ],
    ),
    // It joins after the list, and reads before the commit.
    (
        Mutant::ListBeforeCommit,
        SMALL,
        13,
        &[
            List(0),
            CommitRow(0),
            Read(0),
            Publish(0),
            Commit(0),
            Return(0),
            Invoke(0),
            Accept(0),
        ],
    ),
    // The old table's trust has run out, and between look-up and judgement the new table's comes.
    (
        Mutant::LaterTrust,
        SMALL,
        22,
        &[
            See(0),
            Commit(0),
            Return(0),
            Invoke(0),
            See(0),
            Publish(0),
            Accept(0),
        ],
    ),
    // What was read before the commit gets the trust of a cycle that began after it.
    (
        Mutant::LateAnswer,
        WITH_LATE,
        21,
        &[
            Read(0),
            Abandon(0),
            Commit(0),
            Begin(0),
            CommitRow(0),
            ArriveLate(0),
            See(0),
            Publish(0),
            Invoke(0),
            Accept(0),
        ],
    ),
    // The answer is older than the request.
    (
        Mutant::SharedRead,
        SMALL,
        8,
        &[
            ReadForAll(0),
            Commit(0),
            Return(0),
            Invoke(0),
            AcceptByPrimary(0),
        ],
    ),
    // The old keys under the new epoch: it acknowledges what it does not know.
    (
        Mutant::EpochAfterKeys,
        SMALL,
        14,
        &[
            Read(0),
            Commit(0),
            ReadEpoch(0),
            Acknowledge(0),
            Return(0),
            Invoke(0),
            Accept(0),
        ],
    ),
    // The first change still waits.
    (
        Mutant::NoOpReturnsAtOnce,
        WITH_NO_OPS,
        11,
        &[Publish(0), Commit(0), FindNothing(1), Invoke(0), Accept(0)],
    ),
    // A request that finds no trust yet asks the database, and is told of the change; the next one finds trust in the table.
    (
        Mutant::BelieveOlderThanSaid,
        WITH_ANSWERS_TOLD,
        12,
        &[
            Read(0),
            Invoke(0),
            Publish(0),
            Commit(0),
            Tell(0),
            Invoke(0),
            Accept(0),
        ],
    ),
];

/// It takes three changes, which is too many states for the short form.
const LONG_CASES: &[Case] = &[
    // Two changes have listed it. The second one takes the row that has come back for the row that it listed.
    (
        Mutant::CounterStartsAgain,
        THREE_CHANGES,
        30,
        &[
            List(0),
            List(1),
            Sweep(0),
            CommitRow(0),
            Acknowledge(0),
            Sweep(0),
            Publish(0),
            Commit(2),
            List(2),
            Return(2),
            Invoke(0),
            Accept(0),
        ],
    ),
];

/// Those of the short form, and of the long one if it was asked for.
fn cases() -> impl Iterator<Item = &'static Case> {
    let long = if full() { LONG_CASES } else { &[] };
    CASES.iter().chain(long)
}

/// What a mutant breaks.
fn broken_by(mutant: Mutant) -> &'static str {
    match mutant {
        Mutant::BelieveOlderThanSaid => SAID,
        _ => RULE,
    }
}

/// The actions of the shortest story in which a dead key is accepted, or one that was said to be.
fn caught(mutant: Mutant, bounds: Bounds) -> Vec<Action> {
    // On one thread the search goes by length.
    let search = Protocol::mutated(bounds, mutant).checker().threads(1);
    let search = search.finish_when(HasDiscoveries::Any).spawn_bfs().join();
    let story = search.discovery(broken_by(mutant));
    let story = story.unwrap_or_else(|| panic!("{mutant:?} is not caught"));
    println!("{mutant:?}: {} states", search.unique_state_count());
    story.into_actions()
}

/// Whether these actions are among those of the story, in their order.
fn tells(story: &[Action], decisive: &[Action]) -> bool {
    let mut rest = story.iter();
    decisive
        .iter()
        .all(|action| rest.any(|told| told == action))
}

#[test]
fn every_mutant_breaks_what_it_should_and_is_caught_by_its_story() {
    for (mutant, bounds, length, decisive) in cases() {
        let story = caught(*mutant, *bounds);
        println!("  {} actions: {story:?}", story.len());
        assert_eq!(story.len(), *length, "{mutant:?}: {story:?}");
        assert!(tells(&story, decisive), "{mutant:?}: {story:?}");
    }
}

/// Leaving out what can do no harm must not leave out what does.
#[test]
fn what_is_left_out_as_harmless_hides_no_mutant() {
    for (mutant, bounds, ..) in cases() {
        // What is left out rests on the very thing that they break: that a pair is judged by its own trust, and that a
        // row is one process's.
        if [Mutant::LaterTrust, Mutant::OneIdTwice].contains(mutant) {
            continue;
        }
        let reduced = Protocol {
            reduced: true,
            ..Protocol::mutated(*bounds, *mutant)
        };
        let search = reduced.checker().spawn_bfs().join();
        let is_caught = search.discovery(broken_by(*mutant)).is_some();
        assert!(is_caught, "{mutant:?}");
    }
}

#[test]
fn what_catches_the_mutants_finds_nothing_in_the_protocol_itself() {
    let mut searched: Vec<Bounds> = Vec::new();
    for (_, bounds, ..) in cases() {
        if !searched.contains(bounds) {
            search_to_the_end(Protocol::honest(*bounds));
            searched.push(*bounds);
        }
    }
}
