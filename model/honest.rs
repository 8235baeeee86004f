//! The protocol as it is: the rule holds in every state that there is, and what should be possible is.
//!
//! Never: a search that ends before it has seen every state; a number of states that is not checked.

use stateright::{Checker, Model, Property};

use super::{
    clocks::{COARSE, FINE},
    protocol::{Bounds, Losses, Protocol, RULE, SAID},
    state::{Key, Life, Process, Stage, State},
};
use crate::full;

/// Sees every state, and returns how many there are. The rule must hold in each, and each thing that should be possible must be
/// found.
pub fn search_to_the_end(protocol: Protocol) -> usize {
    let (bounds, possible) = (protocol.bounds, (protocol.possible)());
    let search = protocol.checker().threads(2).spawn_bfs().join();
    search.assert_no_discovery(RULE);
    if bounds.told {
        search.assert_no_discovery(SAID);
    }
    for property in possible {
        search.assert_any_discovery(property.name);
    }
    let states = search.unique_state_count();
    println!(
        "{states} states, {} steps deep: {bounds:?}",
        search.max_depth()
    );
    states
}

/// One node, and all that can happen to it through two changes, of which the second may find nothing to do.
const ONE_NODE: Bounds = Bounds {
    timing: COARSE,
    processes: 1,
    changes: 2,
    no_ops: true,
    ends: true,
    losses: Losses::LostOrLate,
    early_requests: false,
    told: false,
};
/// Two nodes, and all that can happen to them through one change.
const TWO_NODES: Bounds = Bounds {
    processes: 2,
    changes: 1,
    no_ops: false,
    ..ONE_NODE
};
/// One node, one change, and the product's own ε.
const ONE_NODE_FINE: Bounds = Bounds {
    timing: FINE,
    processes: 1,
    ..TWO_NODES
};

/// One node, and all that can happen to it through one change of which its requests learn from the primary.
const ONE_NODE_THAT_TELLS: Bounds = Bounds {
    processes: 1,
    told: true,
    ..TWO_NODES
};

/// Three nodes that live, and one change.
const THREE_NODES: Bounds = Bounds {
    processes: 3,
    ends: false,
    losses: Losses::Lost,
    ..TWO_NODES
};
/// Two nodes that live, and two changes.
const TWO_NODES_TWO_CHANGES: Bounds = Bounds {
    processes: 2,
    ends: false,
    losses: Losses::Nothing,
    ..ONE_NODE
};
/// Two nodes that live, one change, and the product's own ε.
const TWO_NODES_FINE: Bounds = Bounds {
    processes: 2,
    ends: false,
    losses: Losses::Nothing,
    ..ONE_NODE_FINE
};

/// With how many states there are. A number that has changed is a model that has changed: look whether it should have.
const SHORT: &[(Bounds, usize)] = &[
    (ONE_NODE, 718_143),
    (TWO_NODES, 1_640_219),
    (ONE_NODE_FINE, 91_728),
    (ONE_NODE_THAT_TELLS, 67_142),
];
const LONG: &[(Bounds, usize)] = &[
    (THREE_NODES, 9_478_094),
    (TWO_NODES_TWO_CHANGES, 25_549_423),
    (TWO_NODES_FINE, 7_948_329),
];

#[test]
fn in_no_order_of_its_steps_does_the_protocol_let_a_dead_key_in() {
    let long = if full() { LONG } else { &[] };
    for (bounds, states) in SHORT.iter().chain(long) {
        assert_eq!(search_to_the_end(Protocol::honest(*bounds)), *states);
    }
}

/// What would be missing if the rule held only because nothing happens. What an action leads to is looked for in the states in
/// which it may be taken.
fn possible() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes(
            "the old key is accepted before the change",
            |_, state: &State| accepted_from_memory(state) == Some(0) && state.epoch == 0,
        ),
        Property::sometimes(
            "the old key is accepted while the change waits",
            |_, state: &State| accepted_from_memory(state) == Some(0) && state.epoch == 1,
        ),
        Property::sometimes("the new key is accepted from memory", |_, state: &State| {
            accepted_from_memory(state) == Some(1)
        }),
        Property::sometimes(
            "a request is accepted by the primary",
            |_, state: &State| state.accepted.is_some_and(|accepted| accepted.by_primary),
        ),
        Property::sometimes(
            "a change returns as every node has acknowledged",
            |_, state: &State| {
                let change = &state.changes[0];
                let has_applied = |p: &Process| p.row.is_some_and(|row| row >= change.epoch);
                change.stage == Stage::Listed
                    && state.processes.iter().all(|p| p.waited_for == 0)
                    && state.processes.iter().any(has_applied)
            },
        ),
        Property::sometimes(
            "a change returns with a node dead",
            |model: &Protocol, state: &State| {
                let change = &state.changes[0];
                let is_missed = |p: &Process| p.life == Life::Dead && p.waited_for != 0;
                change.stage == Stage::Listed
                    && model.clocks.may_have_waited(change.t1)
                    && state.processes.iter().any(is_missed)
            },
        ),
        Property::sometimes(
            "the row of a dead node is swept",
            |model: &Protocol, state: &State| {
                let is_dead_and_due = |p: &Process| p.life == Life::Dead && model.is_due(state, p);
                state.processes.iter().any(is_dead_and_due)
            },
        ),
    ]
}

/// The key that a node has accepted from memory.
fn accepted_from_memory(state: &State) -> Option<Key> {
    let accepted = state.accepted.filter(|accepted| !accepted.by_primary);
    accepted.map(|accepted| accepted.key)
}

#[test]
fn what_should_be_possible_is() {
    let bounds = Bounds {
        processes: 1,
        early_requests: true,
        ..TWO_NODES
    };
    search_to_the_end(Protocol {
        possible,
        reduced: false,
        ..Protocol::honest(bounds)
    });
}
