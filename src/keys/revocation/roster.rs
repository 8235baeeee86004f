//! Who is there: the nodes as people are told of them, by `truckradar nodes` and the page for operators.
//!
//! Never: anything that a decision depends on.

use std::time::Duration;

use serde::Serialize;

use super::{Revocation, Rule, TRUST};
use crate::{
    clock::{Clock, Time},
    db::{Db, DbError, NodeRow},
    ids::NodeId,
};

/// The nodes at one moment, as the database knows them.
#[derive(Clone, Debug, Serialize)]
pub struct Roster {
    /// The database's revocation epoch.
    pub epoch: i64,
    /// Every node that is listed. One that is silent for too long is taken off the list: no change waits for it any more.
    pub nodes: Vec<ListedNode>,
}

/// One of them.
#[derive(Clone, Debug, Serialize)]
pub struct ListedNode {
    /// Which; new at every start.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// The version of its program.
    pub version: String,
    /// When it started.
    pub started_at: Time,
    /// Whether it may judge by its keys in memory.
    pub trust: ListedTrust,
    /// The epoch that it said it judges by; `None` before its first word.
    pub epoch: Option<i64>,
    /// How many epochs that is behind the database's.
    pub behind: Option<i64>,
    /// When it last renewed its trust; `None` where it need not.
    pub renewed_at: Option<Time>,
    /// How long ago that was, in milliseconds, on the database's clock.
    pub silent_ms: Option<i64>,
}

/// What can be told from outside of a node's trust in its keys in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListedTrust {
    /// It may judge by them.
    Trusted,
    /// It has not said yet that it does.
    Starting,
    /// It may not: it was silent for longer than its trust lasts, or, on a file, the outcome of a commit is unknown.
    Lapsed,
}

impl Revocation {
    /// The nodes on the database; where one process owns it, that process, if it serves.
    pub async fn roster(&self, db: &Db, clock: &Clock) -> Result<Roster, DbError> {
        // Before the nodes: none is then told to be further behind than it is.
        let epoch = db.key_epoch().await?;
        let nodes = match self.rule {
            Rule::Order => self.owner(epoch, clock).into_iter().collect(),
            Rule::Leases => {
                let now = clock.now();
                let rows = db.nodes().await?.into_iter();
                rows.map(|row| listed(row, epoch, now)).collect()
            }
        };
        Ok(Roster { epoch, nodes })
    }

    fn owner(&self, epoch: i64, clock: &Clock) -> Option<ListedNode> {
        let card = self.node.clone()?;
        let snapshot = self.snapshot();
        Some(ListedNode {
            id: card.id,
            name: card.name,
            version: card.version,
            started_at: card.started,
            trust: match snapshot.trust.holds(clock.boot()) {
                true => ListedTrust::Trusted,
                false => ListedTrust::Lapsed,
            },
            epoch: Some(snapshot.epoch),
            behind: Some((epoch - snapshot.epoch).max(0)),
            renewed_at: None,
            silent_ms: None,
        })
    }
}

fn listed(row: NodeRow, epoch: i64, now: Time) -> ListedNode {
    let silent = Duration::from_micros(row.age_us.try_into().unwrap_or_default());
    let said = (row.applied >= 0).then_some(row.applied);
    ListedNode {
        id: row.id,
        name: row.name,
        version: row.version,
        started_at: row.started_us,
        trust: match said {
            _ if silent >= TRUST => ListedTrust::Lapsed,
            Some(_) => ListedTrust::Trusted,
            None => ListedTrust::Starting,
        },
        epoch: said,
        behind: said.map(|said| (epoch - said).max(0)),
        renewed_at: Some(now.before(silent)),
        silent_ms: Some(silent.as_millis() as i64),
    }
}
