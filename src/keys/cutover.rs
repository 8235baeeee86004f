//! Who has changed over to the present key, and who still sends a dead one.
//!
//! Read from what [`super::usage`] counted; a client is an address together with a User-Agent.
//!
//! Never: "all clear" while a dead key was sent within the last ten minutes, or by a client that has not changed over.

use std::time::Duration;

use crate::{
    clock::Time,
    db::{ClientUse, Db, DbError, FormerClient, OfKeys, RefusedClient, SlotUse},
    ids::KeyId,
    keys::{clients::is_lump, scope::SellerScope},
};

/// Without a dead key sent for this long, it is quiet.
pub const QUIET: Duration = Duration::from_secs(600);
/// How far back clients and calls are looked for.
pub const LOOK_BACK: Duration = Duration::from_secs(86_400);
/// A client that changes over by trying its other key is refused a moment before it is first let in, and with what it had
/// begun a moment after. Whoever is refused later than this still has the dead key somewhere.
pub const CHANGE_OVER: Duration = Duration::from_secs(120);
/// Clients of one kind that are looked at.
pub const CLIENTS_READ: i64 = 500;

/// How a Seller's keys are used.
pub struct Cutover {
    /// Clients that the live key let in, the busiest first.
    pub on_live: Vec<ClientUse>,
    /// Clients that still send a dead key (see [`is_still_on_a_dead_key`]), those refused last first.
    pub still: Vec<RefusedClient>,
    /// Clients that a dead key let in before it died, the busiest first.
    pub former: Vec<FormerClient>,
    /// How far the change is.
    pub progress: Progress,
    /// When a live key last died.
    pub died: Option<Time>,
}

/// How far a change of keys is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No key died in the last 24 hours, and nobody sent a dead one.
    NothingDied,
    /// So many clients sent a dead key within [`QUIET`] and have not changed over.
    StillSent(usize),
    /// Nobody is known to be left, but a dead key was sent, or died, too shortly ago.
    Settling(Sign),
    /// Nobody has sent a dead key for [`QUIET`], but there are clients that did before and have not changed over.
    QuietForNow(Sign),
    /// Nobody has sent a dead key for [`QUIET`], and nobody is left.
    AllClear(Sign),
}

/// The last sign of a dead key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It was sent.
    Sent(Time),
    /// It died, and nobody has sent it since.
    Died(Time),
}

/// Whether a client that was refused has not changed over: the live key has not let it in since; or it was refused so long
/// after the live key first did that it is not changing over any more. That may be two programs of one name at one address,
/// of which one was forgotten, or one that begins with the dead key each time it starts.
pub fn is_still_on_a_dead_key(client: &RefusedClient, now: Time) -> bool {
    let (Some(first), Some(last)) = (client.first_let_in_us, client.let_in_us) else {
        return true;
    };
    let late = client.refused_us.before(CHANGE_OVER) > first;
    last <= client.refused_us || late && client.refused_us > now.before(QUIET)
}

/// How many clients a person can go and look for, of so many among these, and whether there may be more: all that could not
/// be told apart are some more, not one, and beyond so many nobody read on.
pub fn told_apart(count: usize, clients: &[RefusedClient], read_at_most: i64) -> (usize, bool) {
    let mut lumps = clients.iter();
    let lumped = lumps.any(|client| is_lump(&client.address, &client.user_agent));
    let cut = i64::try_from(clients.len()).is_ok_and(|read| read >= read_at_most);
    let told = count.saturating_sub(usize::from(lumped));
    (told.max(usize::from(count > 0)), lumped || cut)
}

impl Cutover {
    /// Reads how the Seller's keys were used until `now`.
    pub async fn read(
        db: &Db,
        scope: SellerScope,
        live: Option<KeyId>,
        now: Time,
    ) -> Result<Self, DbError> {
        let since = now.before(LOOK_BACK);
        let on_live = match live {
            Some(key) => {
                let of = OfKeys::Only(key);
                db.clients_since(scope, of, since.minute(), CLIENTS_READ)
                    .await?
            }
            None => Vec::new(),
        };
        let refused = db.refused_clients(scope, since, CLIENTS_READ).await?;
        let former = db.former_clients(scope, since.minute(), CLIENTS_READ);
        let former = former.await?;
        let died = db.last_death(scope).await?;
        Ok(Self::of(on_live, &refused, former, died, now))
    }

    /// `refused` has those refused last first.
    fn of(
        mut on_live: Vec<ClientUse>,
        refused: &[RefusedClient],
        former: Vec<FormerClient>,
        died: Option<Time>,
        now: Time,
    ) -> Self {
        on_live.retain(|client| client.accepted > 0);
        let still = refused.iter();
        let still = still.filter(|client| is_still_on_a_dead_key(client, now));
        let still: Vec<RefusedClient> = still.cloned().collect();
        let is_recent = |at: Time| at > now.before(QUIET);
        let still_now = still.iter().filter(|c| is_recent(c.refused_us)).count();
        let sent = refused.first().map(|client| Sign::Sent(client.refused_us));
        let lately = died.filter(|died| *died > now.before(LOOK_BACK));
        let sign = sent.into_iter().chain(lately.map(Sign::Died));
        let progress = match sign.max_by_key(|sign| sign.at()) {
            None => Progress::NothingDied,
            Some(_) if still_now > 0 => Progress::StillSent(still_now),
            Some(sign) if is_recent(sign.at()) => Progress::Settling(sign),
            Some(sign) if !still.is_empty() => Progress::QuietForNow(sign),
            Some(sign) => Progress::AllClear(sign),
        };
        Self {
            on_live,
            still,
            former,
            progress,
            died,
        }
    }

    /// Of the clients that a dead key let in, those that have not called since: nobody knows which key they have.
    pub fn unseen(&self) -> impl Iterator<Item = &FormerClient> {
        let former = self.former.iter();
        former.filter(|client| client.seen_us <= client.let_in_us)
    }
}

impl Sign {
    /// When it was.
    pub fn at(self) -> Time {
        match self {
            Self::Sent(at) | Self::Died(at) => at,
        }
    }
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

    fn ago(minutes: i64) -> Time {
        Time(NOW.0 - minutes * MINUTE)
    }

    /// A client that was refused so many minutes ago, and let in by the live key first and last so many minutes ago.
    fn refused(name: &str, at: i64, let_in: Option<(i64, i64)>) -> RefusedClient {
        RefusedClient {
            address: "192.0.2.1".into(),
            user_agent: name.into(),
            refused: 7,
            refused_us: ago(at),
            first_let_in_us: let_in.map(|(first, _)| ago(first)),
            let_in_us: let_in.map(|(_, last)| ago(last)),
        }
    }

    fn read(refused: &[RefusedClient], died: Option<i64>) -> Cutover {
        Cutover::of(Vec::new(), refused, Vec::new(), died.map(ago), NOW)
    }

    fn still(client: RefusedClient) -> bool {
        is_still_on_a_dead_key(&client, NOW)
    }

    #[test]
    fn whoever_was_refused_and_not_let_in_since_still_has_the_dead_key() {
        assert!(still(refused("forgotten", 1, None)));
        assert!(still(refused("back on the old one", 1, Some((5, 3)))));
        assert!(!still(refused("changed over", 8, Some((7, 0)))));
        // However rarely it calls, and however long after the death of the old key: first refused, then let in.
        assert!(!still(refused("each hour", 3, Some((2, 2)))));
        assert!(
            still(refused("nightly", 600, None)),
            "until it is forgotten"
        );
    }

    /// Two programs of one name at one address, of which one was forgotten, are one client that is refused again and again.
    #[test]
    fn a_refusal_long_after_the_first_call_that_was_let_in_counts_whoever_else_is() {
        assert!(!still(refused("changing over", 8, Some((9, 0)))));
        assert!(still(refused("twins", 5, Some((9, 0)))));
        assert!(
            !still(refused("twins", 11, Some((30, 0)))),
            "not for ten minutes"
        );
    }

    #[test]
    fn all_is_clear_when_nobody_is_left_and_it_was_quiet_for_ten_minutes() {
        let progress = |refused: &[RefusedClient], died| read(refused, died).progress;
        let over = |at| [refused("a", at, Some((at - 1, 0)))];
        assert_eq!(progress(&[], None), Progress::NothingDied);
        assert_eq!(progress(&[], Some(24 * 60)), Progress::NothingDied);
        assert_eq!(
            progress(&[], Some(3)),
            Progress::Settling(Sign::Died(ago(3)))
        );
        assert_eq!(
            progress(&over(2), Some(3)),
            Progress::Settling(Sign::Sent(ago(2)))
        );
        assert_eq!(
            progress(&over(9), Some(9)),
            Progress::Settling(Sign::Died(ago(9)))
        );
        assert_eq!(
            progress(&over(10), Some(11)),
            Progress::AllClear(Sign::Sent(ago(10)))
        );
        assert_eq!(
            progress(&[], Some(10)),
            Progress::AllClear(Sign::Died(ago(10)))
        );
        let both = [refused("b", 1, None), over(2)[0].clone()];
        assert_eq!(progress(&both, Some(3)), Progress::StillSent(1));
        // Whoever gave up, or runs by the clock, is still named when all is quiet, and then all is not clear.
        let gave_up = [refused("nightly", 60, None)];
        assert_eq!(
            progress(&gave_up, Some(90)),
            Progress::QuietForNow(Sign::Sent(ago(60)))
        );
        assert_eq!(read(&gave_up, Some(90)).still, gave_up);
    }

    #[test]
    fn who_has_not_called_since_is_told_apart() {
        let former = |name: &str, let_in, seen| FormerClient {
            address: "192.0.2.1".into(),
            user_agent: name.into(),
            let_in: 3,
            let_in_us: ago(let_in),
            seen_us: ago(seen),
        };
        let all = vec![former("nightly", 60, 60), former("refused since", 60, 5)];
        let found = Cutover::of(Vec::new(), &[], all, Some(ago(30)), NOW);
        let unseen: Vec<_> = found.unseen().map(|c| c.user_agent.as_str()).collect();
        assert_eq!(unseen, ["nightly"]);
    }
}
