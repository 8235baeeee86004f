//! Who has changed over to the present key, and who still sends a dead one.
//!
//! Read from what [`super::usage`] counted; a client is an address together with a User-Agent.
//!
//! Never: "all clear" while a dead key was sent within the last ten minutes; a client called switched that was refused after
//! it was last let in.

use std::time::Duration;

use crate::{
    clock::Time,
    db::{ClientUse, Db, DbError, KeyRow, OfKeys, SlotUse},
    ids::KeyId,
    keys::scope::SellerScope,
};

/// Without a dead key sent for this long, all is clear.
pub const QUIET: Duration = Duration::from_secs(600);
/// How far back clients and calls are looked for.
pub const LOOK_BACK: Duration = Duration::from_secs(86_400);
/// A client that changes over by trying its other key is refused in the moment of the change, and in others that it had
/// begun. Whoever is refused later than this still has the dead key somewhere.
pub const CHANGE_OVER: Duration = Duration::from_secs(120);
/// Clients of one kind of key that are looked at, the busiest.
const CLIENTS_READ: i64 = 500;

/// How a Seller's keys are used.
pub struct Cutover {
    /// Clients that sent the live key, the busiest first.
    pub on_live: Vec<ClientUse>,
    /// Clients that still send a dead key: refused, and not seen with the live one since, or refused long after the change.
    pub still: Vec<ClientUse>,
    /// Of those, how many were refused within [`QUIET`].
    pub still_now: usize,
    /// Clients that a dead key let in and that have not called since it died: nobody knows yet what they send.
    pub unseen: Vec<ClientUse>,
    /// Every client that a dead key let in.
    pub let_in_before: Vec<ClientUse>,
    /// How far the change is.
    pub progress: Progress,
}

/// How far a change of keys is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No key died in the last 24 hours, and nobody sent a dead one.
    NothingDied,
    /// Clients still send a dead key.
    StillSent,
    /// Everybody who was refused has changed over, but a dead key was sent, or died, too shortly ago: since when it is quiet.
    Quieting {
        /// When a dead key was last sent, or died.
        since: Time,
        /// Whether anybody was refused.
        refused: bool,
    },
    /// Nobody has sent a dead key for [`QUIET`].
    AllClear {
        /// When a dead key was last sent, or died.
        since: Time,
    },
}

impl Cutover {
    /// Reads how the Seller's keys are used; `keys` are its newest ones, the live one first if there is one.
    pub async fn read(
        db: &Db,
        scope: SellerScope,
        keys: &[KeyRow],
        now: Time,
    ) -> Result<Self, DbError> {
        let minute = now.before(LOOK_BACK).minute();
        let live = keys.first().filter(|key| key.state == "live");
        // Asked for apart: however many clients still send a dead key, they hide none of the live one's.
        let clients = async |keys| db.clients_since(scope, keys, minute, CLIENTS_READ).await;
        let (on_live, on_dead) = match live {
            Some(key) => (
                clients(OfKeys::Only(key.id)).await?,
                clients(OfKeys::But(key.id)).await?,
            ),
            None => (Vec::new(), clients(OfKeys::All).await?),
        };
        let died = keys.iter().filter_map(KeyRow::died_us).max();
        Ok(Self::of(on_live, &on_dead, died, now))
    }

    fn of(on_live: Vec<ClientUse>, on_dead: &[ClientUse], died: Option<Time>, now: Time) -> Self {
        let dead = by_client(on_dead);
        let is_still = |client: &&ClientUse| {
            let Some(refused) = client.unauthorized_us else {
                return false;
            };
            let with_live = on_live.iter().find(|other| same_client(other, client));
            let switched = with_live.and_then(|other| other.accepted_us) > Some(refused);
            let late = died.is_some_and(|died| refused > died.0 + micros(CHANGE_OVER));
            !switched || late && refused > now.before(QUIET).0
        };
        let still: Vec<ClientUse> = dead.iter().filter(is_still).cloned().collect();
        let is_recent = |refused: Option<i64>| refused.is_some_and(|at| at > now.before(QUIET).0);
        let still_now = still
            .iter()
            .filter(|c| is_recent(c.unauthorized_us))
            .count();
        let let_in: Vec<ClientUse> = dead.iter().filter(|c| c.accepted > 0).cloned().collect();
        let unseen = let_in
            .iter()
            .filter(|client| {
                client
                    .unauthorized_us
                    .is_none_or(|at| Some(at) < client.accepted_us)
            })
            .filter(|client| !on_live.iter().any(|other| same_client(other, client)))
            .cloned()
            .collect();
        let refused = dead
            .iter()
            .filter_map(|client| client.unauthorized_us)
            .max();
        let progress = match refused.max(died.map(|at| at.0)) {
            Some(at) if at > now.before(LOOK_BACK).0 => {
                let (since, refused) = (Time(at), refused.is_some());
                match (still_now, is_recent(Some(at))) {
                    (1.., _) => Progress::StillSent,
                    (0, true) => Progress::Quieting { since, refused },
                    (0, false) => Progress::AllClear { since },
                }
            }
            _ => Progress::NothingDied,
        };
        Self {
            on_live,
            still,
            still_now,
            unseen,
            let_in_before: let_in,
            progress,
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn same_client(one: &ClientUse, other: &ClientUse) -> bool {
    (&one.address, &one.user_agent) == (&other.address, &other.user_agent)
}

/// What each client did with whichever dead key, in the order in which clients first stand in the list.
fn by_client(uses: &[ClientUse]) -> Vec<ClientUse> {
    let mut clients: Vec<ClientUse> = Vec::new();
    for one in uses {
        match clients.iter_mut().find(|client| same_client(client, one)) {
            Some(client) => {
                client.accepted += one.accepted;
                client.unauthorized += one.unauthorized;
                client.last_us = client.last_us.max(one.last_us);
                client.accepted_us = client.accepted_us.max(one.accepted_us);
                client.unauthorized_us = client.unauthorized_us.max(one.unauthorized_us);
            }
            None => clients.push(one.clone()),
        }
    }
    clients
}

/// What was done in one slot of a chart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Answered with 200 or the like.
    pub succeeded: i64,
    /// Answered with 401.
    pub refused: i64,
    /// Any other answer.
    pub others: i64,
}

/// Which key a line of a chart is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The live one.
    Live,
    /// The one that waits for its cut-over.
    Staged,
    /// All that are dead.
    Dead,
}

/// Calls over time, by key.
pub struct Chart {
    /// How many minutes one slot has.
    pub slot_minutes: i64,
    /// The slots of the live key, the oldest first; the last one is not over yet.
    pub live: Vec<Calls>,
    /// The same of the staged key.
    pub staged: Vec<Calls>,
    /// The same of all dead keys together.
    pub dead: Vec<Calls>,
    /// Which those are.
    pub dead_keys: Vec<KeyId>,
}

impl Chart {
    /// Reads so many slots up to now.
    pub async fn read(
        db: &Db,
        scope: SellerScope,
        live: Option<KeyId>,
        staged: Option<KeyId>,
        (slots, slot_minutes): (usize, i64),
        now: Time,
    ) -> Result<Self, DbError> {
        // Slots begin at whole multiples, so that a bar does not change its minutes with every look.
        let count = i64::try_from(slots).unwrap_or(i64::MAX);
        let first = (now.minute() / slot_minutes - (count - 1)) * slot_minutes;
        let uses = db.use_by_slot(scope, first, slot_minutes).await?;
        let mut chart = Self {
            slot_minutes,
            live: vec![Calls::default(); slots],
            staged: vec![Calls::default(); slots],
            dead: vec![Calls::default(); slots],
            dead_keys: Vec::new(),
        };
        for one in &uses {
            let line = match Some(one.key_id) {
                key if key == live => &mut chart.live,
                key if key == staged => &mut chart.staged,
                _ => {
                    if !chart.dead_keys.contains(&one.key_id) {
                        chart.dead_keys.push(one.key_id);
                    }
                    &mut chart.dead
                }
            };
            add(line, one);
        }
        Ok(chart)
    }

    /// One of its lines.
    pub fn line(&self, line: Line) -> &[Calls] {
        match line {
            Line::Live => &self.live,
            Line::Staged => &self.staged,
            Line::Dead => &self.dead,
        }
    }
}

fn add(line: &mut [Calls], one: &SlotUse) {
    let slot = usize::try_from(one.slot).ok();
    // A clock that was set back leaves counts of minutes that are still to come.
    let Some(calls) = slot.and_then(|slot| line.get_mut(slot)) else {
        return;
    };
    calls.succeeded += one.succeeded;
    calls.refused += one.refused;
    calls.others += one.others;
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;
    const NOW: Time = Time(2_000_000 * MINUTE);

    /// A client that was let in and refused so many minutes ago.
    fn client(name: &str, accepted: Option<i64>, refused: Option<i64>) -> ClientUse {
        let at = |ago: i64| NOW.0 - ago * MINUTE;
        ClientUse {
            key_id: String::new(),
            address: "192.0.2.1".into(),
            user_agent: name.into(),
            accepted: accepted.map_or(0, |_| 5),
            unauthorized: refused.map_or(0, |_| 7),
            last_us: accepted
                .into_iter()
                .chain(refused)
                .map(at)
                .max()
                .unwrap_or(0),
            accepted_us: accepted.map(at),
            unauthorized_us: refused.map(at),
        }
    }

    fn read(live: &[ClientUse], dead: &[ClientUse], died: Option<i64>) -> Cutover {
        let died = died.map(|ago| Time(NOW.0 - ago * MINUTE));
        Cutover::of(live.to_vec(), dead, died, NOW)
    }

    fn names(clients: &[ClientUse]) -> Vec<&str> {
        clients.iter().map(|c| c.user_agent.as_str()).collect()
    }

    #[test]
    fn whoever_was_refused_and_not_let_in_since_still_has_the_dead_key() {
        let dead = [
            client("switched", Some(9), Some(8)),
            client("forgotten", Some(9), Some(1)),
            client("back on the old one", Some(9), Some(1)),
            client("silent", Some(20), None),
        ];
        let live = [
            client("switched", Some(7), None),
            client("back on the old one", Some(3), None),
            client("new", Some(1), None),
        ];
        let found = read(&live, &dead, Some(8));
        assert_eq!(names(&found.still), ["forgotten", "back on the old one"]);
        assert_eq!(found.still_now, 2);
        assert_eq!(names(&found.unseen), ["silent"]);
        assert_eq!(found.let_in_before.len(), 4);
        assert_eq!(found.progress, Progress::StillSent);
    }

    /// Two programs of one name at one address, of which one was forgotten, are one client that is refused again and again.
    #[test]
    fn a_refusal_long_after_the_change_counts_whoever_else_is_let_in() {
        let live = [client("twins", Some(0), None)];
        let refused = |ago| [client("twins", None, Some(ago))];
        assert_eq!(
            names(&read(&live, &refused(9), Some(10)).still),
            [""; 0],
            "while it changed over"
        );
        assert_eq!(names(&read(&live, &refused(5), Some(10)).still), ["twins"]);
        let later = read(&live, &refused(11), Some(30));
        assert_eq!(names(&later.still), [""; 0], "not refused for ten minutes");
    }

    #[test]
    fn all_is_clear_after_ten_quiet_minutes_and_not_before() {
        let since = |ago: i64| Time(NOW.0 - ago * MINUTE);
        let live = [client("a", Some(0), None)];
        let dead = |ago| [client("a", None, Some(ago))];
        assert_eq!(read(&live, &[], None).progress, Progress::NothingDied);
        assert_eq!(
            read(&live, &[], Some(3)).progress,
            Progress::Quieting {
                since: since(3),
                refused: false
            }
        );
        assert_eq!(
            read(&live, &dead(2), Some(3)).progress,
            Progress::Quieting {
                since: since(2),
                refused: true
            }
        );
        assert_eq!(
            read(&live, &dead(9), Some(9)).progress,
            Progress::Quieting {
                since: since(9),
                refused: true
            }
        );
        assert_eq!(
            read(&live, &dead(10), Some(11)).progress,
            Progress::AllClear { since: since(10) }
        );
        assert_eq!(
            read(&live, &[], Some(10)).progress,
            Progress::AllClear { since: since(10) }
        );
        assert_eq!(
            read(&live, &[], Some(24 * 60)).progress,
            Progress::NothingDied
        );
        // Whoever gave up, or runs by the clock, is still named when all is quiet.
        let gave_up = read(&live, &[client("nightly", None, Some(60))], Some(90));
        assert_eq!(names(&gave_up.still), ["nightly"]);
        assert_eq!(
            (gave_up.still_now, gave_up.progress),
            (0, Progress::AllClear { since: since(60) })
        );
    }

    #[test]
    fn one_client_with_several_dead_keys_is_one() {
        let dead = [
            client("a", Some(30), Some(20)),
            client("b", None, Some(4)),
            client("a", Some(19), Some(3)),
        ];
        let found = read(&[], &dead, Some(18));
        assert_eq!(names(&found.still), ["a", "b"]);
        assert_eq!(found.still[0].unauthorized, 14);
        assert_eq!(found.still[0].unauthorized_us, Some(NOW.0 - 3 * MINUTE));
    }
}
