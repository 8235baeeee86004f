//! The zero-window rule on several nodes as a model, searched through every order in which its steps can happen, by
//! stateright: one database, processes that keep the key table in memory, changes of the one Seller's key, and a request.
//!
//! The rule: **a request invoked after a change returned is accepted with no key that the change killed.** Each key here
//! makes way for the next, and what accepts a dead key refuses the one that took its place, so the same search shows that the
//! new key is accepted by every node that judges from memory.
//!
//! Besides, in searches of their own: **a process that has answered by what the database said does not unsay it from memory.** So a
//! client that was told of a cut-over is not told afterwards, by the same process, that it has yet to come.
//!
//! What is searched, and why that is enough:
//!
//! - **Orders.** Each step of a cycle and of a change is one transaction of the database or one act of a process; every order
//!   is tried, and any time may pass between two steps. So a node that is paused (SIGSTOP), starved or cut off, a request or an
//!   answer that is late, and `NOTIFY`, arriving or not, need no steps of their own: a cycle begins at any moment or never.
//! - **Losses.** A cycle may be given up at any step. What it has on its way to the database arrives later, in the midst of
//!   the next cycle too and after its process died, or never. Processes die at any step, or leave in order and give
//!   their row back. A node that restarts is another process, with another id. So is a second one at the same address.
//! - **Clocks.** See `clocks`: each reading of a clock may be off by the whole allowance, to either side.
//! - **Requests.** They change nothing, but for what is told of, so one at a time is enough: what one of many would show, it shows when it is the one. It loads a
//!   pair when it is invoked, and is judged later. Loading later would show it a later table. Where answers are told, one may
//!   follow another.
//! - **What is left out on the way.** Which of two processes is which; a request whose table is new enough; what a process does
//!   once it knows of the last change and has said so. `protocol` has the reasons, and `mutants` tries that they hide none.
//! - **The end.** Nothing counts without end, so the states are finitely many and the search ends when it has seen them all,
//!   at no limit of depth. What limits it are the numbers of processes and changes.
//! - **What no search joins.** Two changes with crashes or late messages on two nodes; three nodes with crashes. `honest` has
//!   the bounds. A node that sweeps rows which stand still, whoever is behind, is the change's own sweep without a change: it is
//!   safe for the same reason, and not searched apart.
//!
//! Left out: a database that goes back, after which a node reads everything anew as one that joins; writes, which the
//! database fences in their own transaction; several Sellers, as one table's rows come from one snapshot; and a promoted standby
//! that lacks a commit, which the rule assumes away.
//!
//! Never: a step that looks at what its doer cannot see; a mutant that differs from the protocol in more than its one point.

/// Whether the long forms were asked for: `cargo xtask test --full`.
fn full() -> bool {
    std::env::var_os("TRUCKRADAR_TEST_FULL").is_some()
}

mod clocks;
mod honest;
mod mutants;
mod protocol;
mod state;
mod steps;
