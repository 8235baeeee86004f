//! The model: its bounds, what may happen in each state, and the rule.
//!
//! Never: what an action does (see `steps`).

use stateright::{Model, Property};

use super::{
    clocks::{Clocks, Timing},
    mutants::Mutant,
    state::{Action, CHANGES, Cycle, Late, Life, PROCESSES, Process, Stage, State},
};

/// The rule's name among the properties.
pub const RULE: &str = "no key is accepted that was dead when the request was invoked";

/// The name of what holds besides, while a change has yet to return: a process that has given the database's answer out does
/// not accept afterwards, from memory, what that answer had refused.
pub const SAID: &str = "no process unsays what the database said through it";

/// How much of the world a search has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub timing: Timing,
    /// How many processes there are at a time. One that is dead makes room for another when the database holds nothing of it
    /// and nothing of it is on its way; so this does not limit how often a node restarts.
    pub processes: usize,
    pub changes: usize,
    /// Whether a change may find that there is nothing to do.
    pub no_ops: bool,
    /// Whether processes end, by a crash or in order.
    pub ends: bool,
    pub losses: Losses,
    /// Whether requests are invoked before any change has returned. They cannot break the rule, but show what is possible.
    pub early_requests: bool,
    /// Whether a request that the primary answered is followed by others.
    pub told: bool,
}

/// What becomes of what is on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Losses {
    /// It arrives, sooner or later.
    Nothing,
    /// Or the cycle is given up, and it is lost.
    Lost,
    /// Or it still arrives after the cycle was given up.
    LostOrLate,
}

pub struct Protocol {
    pub bounds: Bounds,
    pub mutant: Option<Mutant>,
    pub clocks: Clocks,
    /// Whether what can do no harm is left out: see [`Protocol::is_harmless`] and `may_harm`. States that differ only in the
    /// order of the processes are one then, which makes traces hard to read.
    pub reduced: bool,
    /// What is looked for besides the rule.
    pub possible: fn() -> Vec<Property<Protocol>>,
}

impl Protocol {
    pub fn honest(bounds: Bounds) -> Self {
        Self {
            bounds,
            mutant: None,
            clocks: Clocks::new(bounds.timing, true),
            reduced: true,
            possible: Vec::new,
        }
    }

    pub fn mutated(bounds: Bounds, mutant: Mutant) -> Self {
        Self {
            mutant: Some(mutant),
            clocks: Clocks::new(bounds.timing, mutant != Mutant::NoAllowance),
            reduced: false,
            ..Self::honest(bounds)
        }
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The change that had this row listed as behind, L(1+2ε) ago, with the counter that it still has.
    pub fn due_by(&self, state: &State, process: &Process) -> Option<usize> {
        state
            .changes
            .iter()
            .enumerate()
            .position(|(number, change)| {
                let is_listed = process.row.is_some() && process.unmoved & (1 << number) != 0;
                is_listed && self.clocks.may_have_waited(change.listing)
            })
    }

    /// Whether this row is to be swept.
    pub fn is_due(&self, state: &State, process: &Process) -> bool {
        self.due_by(state, process).is_some()
    }

    /// Whether a process knows of the last change that there is. Its table never goes back, so it accepts no dead key any more,
    /// however long it trusts. All that others can still see of it is whether it acknowledges.
    pub fn is_harmless(&self, process: &Process) -> bool {
        let last = self.bounds.changes;
        let table = process.pair.table;
        table.is_some_and(|table| usize::from(table.live) == last)
    }

    /// Whether a harmless process has acknowledged the last change, so that nobody will ever wait for it.
    pub fn is_done(&self, process: &Process) -> bool {
        let last = self.bounds.changes;
        self.is_harmless(process) && process.row.map(usize::from) == Some(last)
    }

    /// Whether a request could break the rule if it were invoked now: by a table that has no key that is good enough. The
    /// primary's answer is never older than the request. Where answers are told, one that says more than the table is of
    /// interest too, as is what follows it.
    fn may_harm(&self, state: &State, process: &Process) -> bool {
        let table = process.pair.table;
        match self.bounds.told {
            true => table.is_none_or(|table| table.live < state.epoch),
            false => table.is_some_and(|table| table.live < state.returned),
        }
    }

    fn may_sweep(&self, state: &State, process: &Process) -> bool {
        match self.mutant {
            Some(Mutant::SweepEarly) => process.unmoved != 0,
            // A time that a node wrote by its own wall clock, and the sweeper's wall clock: they may be apart by anything.
            Some(Mutant::SweepByWallClock) => process.row.is_some(),
            Some(Mutant::SelectThenDelete) => process.selected,
            _ => self.is_due(state, process),
        }
    }

    /// What the database may do with a process's row and with what is on its way.
    fn database_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let process = &state.processes[at];
        match process.late {
            None => {}
            // It is taken for the answer that is being waited for.
            Some(Late::Answer(_)) if process.cycle != Cycle::RowCommitted => {}
            Some(_) => actions.push(Action::ArriveLate(at)),
        }
        if self.may_sweep(state, process) {
            actions.push(Action::Sweep(at));
        }
        if self.is(Mutant::SelectThenDelete) && !process.selected && self.is_due(state, process) {
            actions.push(Action::Select(at));
        }
    }

    fn cycle_actions(&self, process: &Process, at: usize, actions: &mut Vec<Action>) {
        if self.bounds.ends {
            actions.extend([Action::Crash(at), Action::Leave(at)]);
        }
        if process.cycle != Cycle::Idle && self.bounds.losses != Losses::Nothing {
            actions.push(Action::Abandon(at));
        }
        actions.push(match process.cycle {
            Cycle::Idle => Action::Begin(at),
            Cycle::Begun if self.is(Mutant::ReadBeforeRow) => Action::Read(at),
            Cycle::Begun | Cycle::ReadFirst(_) => Action::CommitRow(at),
            Cycle::RowCommitted => Action::Read(at),
            Cycle::KeysRead(_) => Action::ReadEpoch(at),
            Cycle::Read(_) if self.is(Mutant::AcknowledgeBeforeApplying) => Action::Acknowledge(at),
            Cycle::Read(_) => Action::See(at),
            Cycle::Seen => Action::Acknowledge(at),
            Cycle::Acknowledged | Cycle::AcknowledgedUnseen(_) => Action::Publish(at),
        });
    }

    fn request_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let process = &state.processes[at];
        let others = || state.processes.iter().any(|p| p.request.is_some());
        match process.request {
            None if others() => {}
            None if state.returned == 0 && !self.bounds.early_requests && !self.bounds.told => {}
            None if self.reduced && !self.may_harm(state, process) => {}
            None => actions.push(Action::Invoke(at)),
            Some(request) => {
                let judged_by = match self.mutant {
                    Some(Mutant::LaterTrust) => process.pair.t0,
                    _ => request.pair.t0,
                };
                // The table says nothing before it knows what the database was heard to say.
                let table = request.pair.table;
                let table = table.filter(|table| {
                    table.epoch >= process.said || self.is(Mutant::BelieveOlderThanSaid)
                });
                if table.is_some() && self.clocks.may_hold(judged_by) {
                    actions.push(Action::Accept(at));
                }
                if table.is_none() || self.clocks.may_have_lapsed(judged_by) {
                    actions.push(Action::AcceptByPrimary(at));
                    if self.bounds.told {
                        actions.push(Action::Tell(at));
                    }
                }
            }
        }
        if self.is(Mutant::SharedRead) && process.shared.is_none() {
            actions.push(Action::ReadForAll(at));
        }
    }

    fn change_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let change = &state.changes[at];
        match change.stage {
            // Nothing tells one changer from another, so they may as well begin in order.
            Stage::NotBegun if at > 0 && state.changes[at - 1].stage == Stage::NotBegun => {}
            Stage::NotBegun => {
                if self.bounds.no_ops && state.epoch > 0 {
                    actions.push(Action::FindNothing(at));
                }
                actions.push(match self.mutant {
                    Some(Mutant::T1BeforeCommit) => Action::NoteT1(at),
                    Some(Mutant::ListBeforeCommit) => Action::List(at),
                    _ => Action::Commit(at),
                });
            }
            Stage::Early => actions.push(Action::Commit(at)),
            Stage::Committed => actions.push(Action::NoteT1(at)),
            Stage::Noted => actions.push(Action::List(at)),
            Stage::Listed => {
                let bit = 1 << at;
                let nobody = state.processes.iter().all(|p| p.waited_for & bit == 0);
                if nobody || self.clocks.may_have_waited(change.t1) {
                    actions.push(Action::Return(at));
                }
            }
            Stage::Returned => {}
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(&self.clocks)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.accepted.is_some() {
            return;
        }
        let begun = state.processes.iter();
        let begun = begun.filter(|p| p.life != Life::NotStarted).count();
        // Who starts after the last change cannot but know of it.
        let too_late = self.reduced && usize::from(state.epoch) == self.bounds.changes;
        let mut may_start = begun < self.bounds.processes && !too_late;
        for at in 0..PROCESSES {
            self.database_actions(state, at, actions);
            let process = &state.processes[at];
            match process.life {
                // Which of the free places it takes makes no difference.
                Life::NotStarted if may_start => {
                    actions.push(Action::Start(at));
                    may_start = false;
                }
                Life::NotStarted | Life::Dead => {}
                Life::Running => {
                    if !(self.reduced && self.is_done(process)) {
                        self.cycle_actions(process, at, actions);
                    }
                    self.request_actions(state, at, actions);
                }
            }
        }
        for at in 0..self.bounds.changes.min(CHANGES) {
            self.change_actions(state, at, actions);
        }
        actions.push(Action::Tick);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        self.step(&mut state, action);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let rule = Property::always(RULE, |_: &Self, state: &State| {
            state
                .accepted
                .is_none_or(|accepted| accepted.key >= accepted.returned)
        });
        let mut properties = vec![rule];
        if self.bounds.told {
            properties.push(Property::always(SAID, |_: &Self, state: &State| {
                state
                    .accepted
                    .is_none_or(|accepted| accepted.key >= accepted.said)
            }));
        }
        properties.extend((self.possible)());
        properties
    }
}
