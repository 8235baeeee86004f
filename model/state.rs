//! What the model remembers: the database, the processes with what the database holds of each, the changes, one request;
//! and what can happen next.
//!
//! Never: a number that grows without end; two states for what is one (a timer that nobody will read stands at its end).

use super::clocks::{Age, Clocks};

/// The most processes that a search can have.
pub const PROCESSES: usize = 3;

/// The most changes that a search can have.
pub const CHANGES: usize = 3;

/// The Seller's keys in the order in which they are live: 0 is the first, and each change kills one and makes the next one
/// live. So the live key has the number of the epoch.
pub type Key = u8;

/// What a node knows of the keys.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Table {
    pub epoch: u8,
    /// The key that it takes for the live one.
    pub live: Key,
}

/// What a request loads.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Pair {
    pub table: Option<Table>,
    /// The age of the t0 that trust is counted from.
    pub t0: Age,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Life {
    /// A place for a process, which nothing is left of anywhere.
    NotStarted,
    Running,
    Dead,
}

/// How far a cycle has come. A request to the database is on its way until its transaction takes place, and its answer from
/// then on. When an answer has arrived the next request goes out at once: the time between can be thought of as the answer's.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Cycle {
    Idle,
    /// Step 1 is done: t0 is noted.
    Begun,
    /// Step 2 is done: the row is committed.
    RowCommitted,
    /// Step 3 has read this, which the process does not know yet.
    Read(Table),
    /// Every thread sees the new table, with the old trust.
    Seen,
    /// Step 4 is done: the acknowledgement is committed.
    Acknowledged,
    /// Of mutants: read before step 2.
    ReadFirst(Table),
    /// Of mutants: the keys are read, the epoch is not.
    KeysRead(Key),
    /// Of mutants: the acknowledgement is committed, and no thread sees the table.
    AcknowledgedUnseen(Table),
}

/// What a cycle that was given up, or a process that ended, left on its way.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Late {
    Row,
    Acknowledgement(u8),
    RowGivenBack,
    /// Of mutants: the answer to step 3.
    Answer(Table),
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Request {
    /// The highest epoch of a change that had returned when it was invoked: all lower keys were dead.
    pub returned: u8,
    /// The pair that was current then.
    pub pair: Pair,
    /// What this process had said by then: see [`Process::said`].
    pub said: u8,
}

/// A process, and what the database holds of it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Process {
    pub life: Life,
    pub cycle: Cycle,
    /// The age of the cycle's t0.
    pub t0: Age,
    pub pair: Pair,
    /// Its row in `nodes`: the applied epoch.
    pub row: Option<u8>,
    /// By change, as bits: who waits for this row.
    pub waited_for: u8,
    /// By change, as bits: who has it listed as behind, with the counter that it still has. The process counts its cycles
    /// itself, so that a row which comes back has a counter that nobody has listed.
    pub unmoved: u8,
    pub late: Option<Late>,
    pub request: Option<Request>,
    /// The latest epoch of which an answer of the primary was told to who asked this process.
    pub said: u8,
    /// Of mutants: a sweep has found the row due, and will delete it.
    pub selected: bool,
    /// Of mutants: the row has the counter with which rows begin.
    pub first_counter: bool,
    /// Of mutants: what an earlier request's read of the primary has found.
    pub shared: Option<Key>,
}

impl Process {
    pub fn blank(clocks: &Clocks) -> Self {
        Self {
            life: Life::NotStarted,
            cycle: Cycle::Idle,
            t0: clocks.lapsed,
            pair: Pair {
                table: None,
                t0: clocks.lapsed,
            },
            row: None,
            waited_for: 0,
            unmoved: 0,
            late: None,
            request: None,
            said: 0,
            selected: false,
            first_counter: false,
            shared: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Stage {
    NotBegun,
    Committed,
    /// t1 is noted.
    Noted,
    /// The rows that are behind are listed, and waited for.
    Listed,
    Returned,
    /// Of mutants: t1 is noted or the rows are listed, and nothing is committed.
    Early,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Change {
    pub stage: Stage,
    /// The epoch that it waits for.
    pub epoch: u8,
    /// The age of its t1.
    pub t1: Age,
    /// The age of its list.
    pub listing: Age,
}

/// How the request ended, if a key was accepted. Nothing follows.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Accepted {
    pub key: Key,
    /// That of the request.
    pub returned: u8,
    /// That of the request.
    pub said: u8,
    /// By its own read of the primary, not by a table in memory.
    pub by_primary: bool,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct State {
    /// `key_epoch`, and so the live key.
    pub epoch: u8,
    pub processes: [Process; PROCESSES],
    pub changes: [Change; CHANGES],
    /// The highest epoch of a change that has returned.
    pub returned: u8,
    pub accepted: Option<Accepted>,
}

impl State {
    /// Nothing has begun, and key 0 is live.
    pub fn first(clocks: &Clocks) -> Self {
        Self {
            epoch: 0,
            processes: [Process::blank(clocks); PROCESSES],
            changes: [Change {
                stage: Stage::NotBegun,
                epoch: 0,
                t1: clocks.waited,
                listing: clocks.waited,
            }; CHANGES],
            returned: 0,
            accepted: None,
        }
    }
}

/// What can happen next. Processes and changes are named by their places.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// True time goes on by one tick.
    Tick,
    Start(usize),
    /// `kill -9`, or a power failure.
    Crash(usize),
    /// SIGTERM: trust ends, then the row is given back.
    Leave(usize),
    Begin(usize),
    CommitRow(usize),
    Read(usize),
    /// Of mutants: the second half of [`Action::Read`].
    ReadEpoch(usize),
    /// The answer to step 3 arrives, and every thread sees the new table.
    See(usize),
    Acknowledge(usize),
    Publish(usize),
    /// The cycle is given up.
    Abandon(usize),
    ArriveLate(usize),
    /// A change kills the live key, makes the next one live and bumps the epoch.
    Commit(usize),
    /// A change finds nothing to do.
    FindNothing(usize),
    NoteT1(usize),
    List(usize),
    Return(usize),
    /// Of mutants: the first half of [`Action::Sweep`].
    Select(usize),
    /// The row of this process is deleted.
    Sweep(usize),
    /// The request comes to this process and loads its pair.
    Invoke(usize),
    /// The pair's trust holds, and the key that is live in its table is accepted.
    Accept(usize),
    /// The pair's trust has run out. The request's own read of the primary takes place, and the key that is live there is
    /// accepted.
    AcceptByPrimary(usize),
    /// The same, and what the primary says of its keys is told; requests follow.
    Tell(usize),
    /// Of mutants: an earlier request's read of the primary takes place, and its answer is on its way.
    ReadForAll(usize),
}
