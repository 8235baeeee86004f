//! What each action does.
//!
//! Never: whether it may happen (see `protocol`).

use super::{
    mutants::Mutant,
    protocol::{Losses, Protocol},
    state::{Accepted, Action, Cycle, Late, Life, Process, Request, Stage, State, Table},
};

impl Protocol {
    /// Takes `state` to the one that follows.
    pub fn step(&self, state: &mut State, action: Action) {
        match action {
            Action::Tick => self.tick(state),
            Action::Commit(at)
            | Action::FindNothing(at)
            | Action::NoteT1(at)
            | Action::List(at)
            | Action::Return(at) => self.change_step(state, at, action),
            Action::CommitRow(at)
            | Action::Read(at)
            | Action::ReadEpoch(at)
            | Action::Acknowledge(at)
            | Action::ArriveLate(at)
            | Action::ReadForAll(at) => self.step_at_database(state, at, action),
            Action::Start(at)
            | Action::Crash(at)
            | Action::Leave(at)
            | Action::Begin(at)
            | Action::See(at)
            | Action::Publish(at)
            | Action::Abandon(at) => self.step_in_memory(&mut state.processes[at], action),
            Action::Select(at) => state.processes[at].selected = true,
            Action::Sweep(at) => self.sweep(state, at),
            Action::Invoke(at) => {
                state.processes[at].request = Some(Request {
                    returned: state.returned,
                    pair: state.processes[at].pair,
                    said: state.processes[at].said,
                });
            }
            Action::Tell(at) => {
                state.processes[at].request = None;
                state.processes[at].said = state.epoch;
            }
            Action::Accept(at) => accept(state, at, false),
            Action::AcceptByPrimary(at) => accept(state, at, true),
        }
        self.make_one_of_equals(state);
    }

    fn tick(&self, state: &mut State) {
        let lapsed = |t0: u8| (t0 + 1).min(self.clocks.lapsed);
        for process in &mut state.processes {
            process.t0 = lapsed(process.t0);
            process.pair.t0 = lapsed(process.pair.t0);
            if let Some(request) = &mut process.request {
                request.pair.t0 = lapsed(request.pair.t0);
            }
        }
        for change in &mut state.changes {
            change.t1 = (change.t1 + 1).min(self.clocks.waited);
            change.listing = (change.listing + 1).min(self.clocks.waited);
        }
    }

    // -----------------------------------------------------------------------------------------------------------------
    // A process.

    fn step_in_memory(&self, process: &mut Process, action: Action) {
        match (action, process.cycle) {
            (Action::Start(_), _) => process.life = Life::Running,
            (Action::Crash(_), _) => self.end(process),
            (Action::Leave(_), _) => {
                self.end(process);
                process.late = Some(Late::RowGivenBack);
            }
            (Action::Begin(_), _) => {
                process.cycle = Cycle::Begun;
                process.t0 = 0;
            }
            // The table never goes back.
            (Action::See(_), Cycle::Read(table))
                if process.pair.table.is_some_and(|t| t.epoch > table.epoch) =>
            {
                self.abandon(process);
            }
            (Action::See(_), Cycle::Read(table)) => {
                process.pair.table = Some(table);
                process.cycle = Cycle::Seen;
                if self.is(Mutant::TrustFromReply) {
                    process.t0 = 0;
                }
            }
            (Action::Publish(_), cycle) => {
                if let Cycle::AcknowledgedUnseen(table) = cycle {
                    process.pair.table = Some(table);
                }
                process.pair.t0 = process.t0;
                process.cycle = Cycle::Idle;
                process.t0 = self.clocks.lapsed;
            }
            (Action::Abandon(_), _) => self.abandon(process),
            _ => {}
        }
    }

    /// Nobody waits any longer for what the cycle has on its way. Of several such messages the last one is remembered: that
    /// an earlier one is lost is one of the cases, and that it arrives first is another.
    fn abandon(&self, process: &mut Process) {
        let late = match (process.cycle, process.pair.table) {
            (Cycle::Begun | Cycle::ReadFirst(_), _) => Some(Late::Row),
            (Cycle::Seen, Some(table)) => Some(Late::Acknowledgement(table.epoch)),
            (Cycle::Read(table), _) if self.is(Mutant::LateAnswer) => Some(Late::Answer(table)),
            _ => None,
        };
        if self.bounds.losses == Losses::LostOrLate {
            process.late = late.or(process.late);
        }
        process.cycle = Cycle::Idle;
        process.t0 = self.clocks.lapsed;
    }

    /// What it has in memory is gone. What the database holds of it, and what is on its way there, is not.
    fn end(&self, process: &mut Process) {
        self.abandon(process);
        let late = process.late.filter(|late| !matches!(late, Late::Answer(_)));
        *process = Process {
            life: Life::Dead,
            row: process.row,
            waited_for: process.waited_for,
            unmoved: process.unmoved,
            selected: process.selected,
            first_counter: process.first_counter,
            late,
            ..Process::blank(&self.clocks)
        };
    }

    // -----------------------------------------------------------------------------------------------------------------
    // A process's transaction at the database.

    fn step_at_database(&self, state: &mut State, at: usize, action: Action) {
        match action {
            Action::CommitRow(_) => {
                let was_there = self.commit_row(state, at);
                let process = &mut state.processes[at];
                process.cycle = match (process.cycle, process.pair.table) {
                    (Cycle::ReadFirst(table), _) => Cycle::Read(table),
                    // "I have a table, so it is enough to be in the list again."
                    (_, Some(table)) if self.is(Mutant::JoinWithoutReading) && !was_there => {
                        Cycle::Read(table)
                    }
                    _ => Cycle::RowCommitted,
                };
            }
            Action::Read(_) => {
                let table = read(state, at);
                let process = &mut state.processes[at];
                process.cycle = match process.cycle {
                    Cycle::Begun => Cycle::ReadFirst(table),
                    _ if self.is(Mutant::EpochAfterKeys) => Cycle::KeysRead(table.live),
                    _ => Cycle::Read(table),
                };
            }
            Action::ReadEpoch(_) => {
                let epoch = state.epoch;
                let process = &mut state.processes[at];
                if let Cycle::KeysRead(live) = process.cycle {
                    process.cycle = Cycle::Read(Table { epoch, live });
                }
            }
            Action::Acknowledge(_) => {
                let process = &state.processes[at];
                let (table, acknowledged) = match (process.cycle, process.pair.table) {
                    (Cycle::Read(table), _) => (table, Cycle::AcknowledgedUnseen(table)),
                    (_, Some(table)) => (table, Cycle::Acknowledged),
                    _ => return,
                };
                if self.acknowledge(state, at, table.epoch) {
                    state.processes[at].cycle = acknowledged;
                } else {
                    // Its row is gone: it starts over.
                    self.abandon(&mut state.processes[at]);
                }
            }
            Action::ArriveLate(_) => match state.processes[at].late.take() {
                Some(Late::Row) => {
                    self.commit_row(state, at);
                }
                Some(Late::Acknowledgement(epoch)) => {
                    self.acknowledge(state, at, epoch);
                }
                Some(Late::RowGivenBack) => delete_row(&mut state.processes[self.holder(at)]),
                Some(Late::Answer(table)) => state.processes[at].cycle = Cycle::Read(table),
                None => {}
            },
            Action::ReadForAll(_) => state.processes[at].shared = Some(state.epoch),
            _ => {}
        }
    }

    /// Where the row of a process is kept.
    fn holder(&self, at: usize) -> usize {
        if self.is(Mutant::OneIdTwice) { 0 } else { at }
    }

    /// Step 2. Returns whether the row was there before.
    fn commit_row(&self, state: &mut State, at: usize) -> bool {
        let holder = &mut state.processes[self.holder(at)];
        let was_there = holder.row.is_some();
        holder.row = holder.row.or(Some(0));
        holder.first_counter = !was_there && self.is(Mutant::CounterStartsAgain);
        if !holder.first_counter {
            holder.unmoved = 0;
        }
        was_there
    }

    /// Step 4. Returns whether the row is there.
    fn acknowledge(&self, state: &mut State, at: usize, epoch: u8) -> bool {
        let holder = &mut state.processes[self.holder(at)];
        let Some(applied) = &mut holder.row else {
            return false;
        };
        *applied = epoch.max(*applied);
        for (number, change) in state.changes.iter().enumerate() {
            if change.stage == Stage::Listed && change.epoch <= epoch {
                holder.waited_for &= !(1 << number);
            }
        }
        true
    }

    // -----------------------------------------------------------------------------------------------------------------
    // A change.

    fn change_step(&self, state: &mut State, at: usize, action: Action) {
        let bit = 1 << at;
        let change = &mut state.changes[at];
        match action {
            Action::Commit(_) => {
                state.epoch += 1;
                change.epoch = state.epoch;
                change.stage = match self.mutant {
                    Some(Mutant::T1BeforeCommit) => Stage::Noted,
                    _ => Stage::Committed,
                };
            }
            Action::FindNothing(_) => {
                change.epoch = state.epoch;
                change.stage = Stage::Committed;
                if self.is(Mutant::NoOpReturnsAtOnce) {
                    self.change_step(state, at, Action::Return(at));
                }
            }
            Action::NoteT1(_) => {
                change.t1 = 0;
                change.stage = match (self.mutant, change.stage) {
                    (Some(Mutant::T1BeforeCommit), _) => Stage::Early,
                    (Some(Mutant::ListBeforeCommit), _) => Stage::Listed,
                    _ => Stage::Noted,
                };
            }
            Action::List(_) => {
                // Before the commit there is no epoch yet, and everybody is behind the one to come.
                let early = change.stage == Stage::NotBegun;
                change.stage = if early { Stage::Early } else { Stage::Listed };
                change.listing = 0;
                for process in &mut state.processes {
                    if process
                        .row
                        .is_some_and(|applied| early || applied < change.epoch)
                    {
                        process.waited_for |= bit;
                        process.unmoved |= bit;
                    }
                }
            }
            Action::Return(_) => {
                state.returned = state.returned.max(change.epoch);
                change.stage = Stage::Returned;
                for process in &mut state.processes {
                    process.waited_for &= !bit;
                }
            }
            _ => {}
        }
    }

    /// Times of harmless processes, and of those that are done everything.
    fn forget_the_harmless(&self, state: &mut State) {
        for process in &mut state.processes {
            if self.is_harmless(process) {
                process.pair.t0 = self.clocks.lapsed;
                process.t0 = self.clocks.lapsed;
                // A request under way may still have the table of before.
                if process.request.is_none() {
                    process.said = 0;
                }
            }
            if self.is_done(process) {
                process.cycle = Cycle::Idle;
                process.unmoved = 0;
                process.late = None;
            }
        }
    }

    fn sweep(&self, state: &mut State, at: usize) {
        let swept_by = self.due_by(state, &state.processes[at]);
        let process = &mut state.processes[at];
        let listed_by = process.unmoved;
        let first_counter = process.first_counter;
        delete_row(process);
        // Who else has the row listed has the counter with which it will come back.
        if let Some(number) = swept_by
            && first_counter
        {
            process.unmoved = listed_by & !(1 << number);
        }
    }

    /// Makes one state of those between which nothing that follows can tell.
    fn make_one_of_equals(&self, state: &mut State) {
        if self.reduced {
            self.forget_the_harmless(state);
        }
        for process in &mut state.processes {
            if process.life == Life::Dead && process.row.is_none() && process.late.is_none() {
                *process = Process::blank(&self.clocks);
            }
        }
        for (number, change) in state.changes.iter_mut().enumerate() {
            let bit = 1 << number;
            let nobody = |of: fn(&Process) -> u8| state.processes.iter().all(|p| of(p) & bit == 0);
            // A list is for the sweep. A wait is over when there is nobody to wait for.
            if nobody(|process| process.unmoved) {
                change.listing = self.clocks.waited;
            }
            if change.stage == Stage::Listed && nobody(|process| process.waited_for) {
                change.t1 = self.clocks.waited;
            }
            if change.stage == Stage::Returned {
                change.t1 = self.clocks.waited;
                change.epoch = 0;
            }
        }
        if self.reduced {
            state.processes.sort_unstable();
        }
    }
}

/// Step 3: the epoch and every change past the one that the process knows, in one snapshot.
fn read(state: &State, at: usize) -> Table {
    let live = match state.processes[at].pair.table {
        Some(table) if table.epoch >= state.epoch => table.live,
        _ => state.epoch,
    };
    Table {
        epoch: state.epoch,
        live,
    }
}

/// A change that waits for a row waits no longer when the row is gone.
fn delete_row(holder: &mut Process) {
    holder.row = None;
    holder.waited_for = 0;
    holder.unmoved = 0;
    holder.selected = false;
    holder.first_counter = false;
}

fn accept(state: &mut State, at: usize, by_primary: bool) {
    let process = &state.processes[at];
    let Some(Request {
        returned,
        pair,
        said,
    }) = process.request
    else {
        return;
    };
    let by_table = pair.table.map_or(state.epoch, |table| table.live);
    let key = match by_primary {
        true => process.shared.unwrap_or(state.epoch),
        false => by_table,
    };
    state.accepted = Some(Accepted {
        key,
        returned,
        said,
        by_primary,
    });
}
