//! How a Seller's key stands, as a person sees it: which of its states it is in, and who uses it.
//!
//! Never: the key; a state that hides that clients are about to be hit, or are hit already.

use std::sync::Arc;

use super::{
    super::{State, problem::Problem},
    audit::former,
    grouped,
    traffic::{Shown, Traffic},
    when::When,
};
use crate::{
    accounts::{AccountStatus, sessions::Member},
    act::{ActDied, run_to_end},
    clock::Time,
    db::{Db, DbError, FormerClient, KeyRow, StagedRow},
    ids::KeyId,
    keys::{
        clients::is_lump,
        cutover::{CLIENTS_READ, Cutover, Progress, Sign, told_apart},
        found::Finder,
        scope::SellerScope,
    },
};

/// What the operator is called on pages.
pub const MARKETPLACE: &str = "the marketplace";
const A_DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Keys looked at for it, the newest.
const KEYS_READ: i64 = 20;
/// Counts are written every other second; if none have been for this long, they cannot be.
pub const STALE: std::time::Duration = std::time::Duration::from_secs(30);
/// Clients on one page.
const CLIENTS_SHOWN: usize = 50;

/// How a Seller's key stands.
pub struct KeyView {
    /// The Seller's id, for the form.
    pub seller: String,
    /// The version of the key that the page shows, for the form.
    pub version: i64,
    /// Which of the states it is in.
    pub state: KeyState,
    /// The key, unless there is none.
    pub key: Option<KeyFacts>,
    /// The key that waits for its cut-over, if there is one.
    pub staged: Option<StagedFacts>,
    /// The key that the operator expired, if that is why there is none.
    pub expired: Option<ExpiredFacts>,
    /// Clients that used the live key in the last 24 hours.
    pub clients: Vec<ClientRow>,
    /// Whether there are more of them than are shown.
    pub more_clients: bool,
    /// Clients that were refused with a dead key in the last 24 hours and have not changed over.
    pub stragglers: Vec<ClientRow>,
    /// Whether there are more of them than are shown.
    pub more_stragglers: bool,
    /// Clients that a key let in within the last 24 hours, before it died, and that have not called since.
    pub unseen: Vec<ClientRow>,
    /// Whether there are more of them than are shown.
    pub more_unseen: bool,
    /// How far the change to the present key is.
    pub progress: ProgressView,
    /// Calls over time.
    pub traffic: Traffic,
    /// When all of this was so.
    pub as_of: When,
    /// Whether that is so long ago that counts cannot have been written since.
    pub is_stale: bool,
    /// Clients that earlier keys let in in the last 24 hours: who used a key that has leaked is found here after it died.
    pub earlier: Vec<ClientRow>,
    /// Whether there are more of them than are shown.
    pub more_earlier: bool,
    /// When it was noticed that clients go on sending dead keys, if an incident is open.
    pub noticed: Option<When>,
    /// For how many days use is remembered.
    pub usage_days: u32,
}

/// How far a change of keys is, as a person is told.
pub enum ProgressView {
    /// There was none.
    NothingDied,
    /// So many clients still send a dead key, and perhaps more.
    StillSent(usize, bool),
    /// Nobody is known to be left, but not for long enough.
    Settling(SignView),
    /// Nobody has sent a dead key for ten minutes, but some have not changed over.
    QuietForNow(SignView),
    /// Nobody is left.
    AllClear(SignView),
}

/// The last sign of a dead key, as a person is told.
pub enum SignView {
    /// When it was sent.
    Sent(When),
    /// When it died, if nobody has sent it since.
    Died(When),
}

/// The states of a Seller's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// There never was one.
    None,
    /// Live, and used.
    Live,
    /// Live, and not used yet.
    Waiting,
    /// Live, and not used for as long as use is remembered, if it ever was.
    Idle,
    /// Live, but nobody has seen it.
    NeverShown,
    /// The marketplace expired it.
    Expired,
    /// The marketplace has suspended the account: whatever key there is, its calls are refused.
    Suspended,
    /// The marketplace has closed the account, for good.
    Closed,
}

/// What is known of the live key.
pub struct KeyFacts {
    /// Its last four characters.
    pub hint: String,
    /// When it became the live one.
    pub since: When,
    /// Who made it.
    pub made_by: String,
    /// How it became the live one.
    pub origin: Origin,
    /// When it was last let in.
    pub used: Option<When>,
}

/// How a key became the live one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// There was none before.
    First,
    /// It replaced another.
    Replacement,
    /// It was prepared, and cut over to.
    CutOver,
}

/// What is known of a key that waits for its cut-over.
pub struct StagedFacts {
    /// Its last four characters.
    pub hint: String,
    /// When it was prepared.
    pub created: When,
    /// By whom.
    pub made_by: String,
    /// Whether anybody has seen it; if nobody has, it cannot be cut over.
    pub was_shown: bool,
}

/// What is known of a key that the marketplace expired.
pub struct ExpiredFacts {
    /// Its last four characters.
    pub hint: String,
    /// When.
    pub at: When,
    /// Why.
    pub reason: String,
}

/// One client.
pub struct ClientRow {
    /// Where it is.
    pub address: String,
    /// What it is.
    pub user_agent: String,
    /// Whether it stands for all that could not be told apart.
    pub is_lump: bool,
    /// Whether the present key lets it in as well.
    pub is_let_in: bool,
    /// Its calls.
    pub calls: String,
    /// Its last call.
    pub last: When,
}

impl KeyState {
    /// Of an account that the marketplace lets do nothing, whatever became of its key; `None` of one that may act.
    pub fn of_inactive(status: AccountStatus) -> Option<Self> {
        match status {
            AccountStatus::Active => None,
            AccountStatus::Suspended => Some(Self::Suspended),
            AccountStatus::Closed => Some(Self::Closed),
        }
    }

    /// Of a live key: when it was handed out and last let in, and whether it is so new that every use of it was counted.
    pub fn of_live(shown: Option<Time>, used: Option<Time>, is_new: bool) -> Self {
        match (shown, used) {
            (None, _) => Self::NeverShown,
            (Some(_), None) if is_new => Self::Waiting,
            (Some(_), None) => Self::Idle,
            (Some(_), Some(_)) => Self::Live,
        }
    }

    /// In a word or two.
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "No key yet",
            Self::Live => "Live",
            Self::Waiting => "Live, waiting for your first call",
            Self::Idle => "Live, but not in use",
            Self::NeverShown => "Replaced, but never shown",
            Self::Expired => "Expired by the marketplace",
            Self::Suspended => "Account suspended",
            Self::Closed => "Account closed",
        }
    }

    /// In as few words as there is room for in a table.
    pub fn short(self) -> &'static str {
        match self {
            Self::None => "No key yet",
            Self::Live => "Live",
            Self::Waiting => "No call yet",
            Self::Idle => "Not in use",
            Self::NeverShown => "Never shown",
            Self::Expired => "Expired",
            Self::Suspended => "Suspended",
            Self::Closed => "Closed",
        }
    }

    /// The class of its mark.
    pub fn mark(self) -> &'static str {
        match self {
            Self::None | Self::Closed => "quiet",
            Self::Live => "good",
            Self::Waiting | Self::Idle => "wait",
            Self::NeverShown | Self::Expired | Self::Suspended => "bad",
        }
    }
}

impl ProgressView {
    fn of(cutover: &Cutover, now: Time) -> Self {
        let told = |sign| match sign {
            Sign::Sent(at) => SignView::Sent(When::ago(at, now)),
            Sign::Died(at) => SignView::Died(When::ago(at, now)),
        };
        match cutover.progress {
            Progress::NothingDied => Self::NothingDied,
            Progress::StillSent(clients) => {
                let (clients, more) = told_apart(clients, &cutover.still, CLIENTS_READ);
                Self::StillSent(clients, more)
            }
            Progress::Settling(sign) => Self::Settling(told(sign)),
            Progress::QuietForNow(sign) => Self::QuietForNow(told(sign)),
            Progress::AllClear(sign) => Self::AllClear(told(sign)),
        }
    }
}

impl KeyView {
    /// Reads how the member's Seller's key stands, with everything that was counted until now.
    pub async fn read(state: &State, member: &Member) -> Result<Self, Problem> {
        // Without it the page is about an earlier moment, and says so.
        write_counts(state).await;
        Self::look(state, member).await
    }

    /// The same with what was counted until the last flush.
    pub async fn look(state: &State, member: &Member) -> Result<Self, Problem> {
        let services = &state.services;
        let (db, scope) = (&services.db, member.scope());
        let now = services.clock.now();
        let seller = db.seller(scope).await?.ok_or_else(Problem::other_dealers)?;
        let keys = db.keys_of_seller(scope, KEYS_READ).await?;
        let live = keys.first().filter(|key| key.state == "live");
        let staged = db.staged_key(scope).await?;
        // What is not written yet is not seen: the page is about the time until which everything is.
        let as_of = now.min(*services.keys.usage.written().borrow());
        let cutover = Cutover::read(db, scope, live.map(|key| key.id), as_of).await?;
        // The one that was live last; what was prepared and discarded beside it says nothing.
        let died = cutover.died;
        let mut ended_last = keys
            .iter()
            .filter(|key| died.is_some() && key.ended_us == died);
        let expired = ended_last
            .find(|key| key.state == "expired")
            .filter(|_| live.is_none());
        let noticed = match died {
            Some(died) => db.open_incident(scope, died).await?,
            None => None,
        };
        let traffic = read_traffic(db, scope, &keys, staged.as_ref(), as_of).await?;
        let row = |address: &str, user_agent: &str, calls, last| {
            ClientRow::new(address, user_agent, calls, When::ago(last, now))
        };
        let clients = cutover.on_live.iter().take(CLIENTS_SHOWN);
        let stragglers = cutover.still.iter().take(CLIENTS_SHOWN);
        let former = |client: &FormerClient| {
            row(
                &client.address,
                &client.user_agent,
                client.let_in,
                client.let_in_us,
            )
        };
        let mut view = Self {
            seller: seller.id.to_text(),
            version: seller.key_version,
            state: match expired {
                Some(_) => KeyState::Expired,
                None => KeyState::None,
            },
            key: None,
            staged: None,
            expired: expired.map(|key| ExpiredFacts {
                hint: key.hint.clone(),
                at: When::ago(key.ended_us.unwrap_or(key.created_us), now),
                reason: key.end_reason.clone().unwrap_or_default(),
            }),
            clients: clients
                .map(|c| row(&c.address, &c.user_agent, c.accepted, Time(c.last_us)))
                .collect(),
            more_clients: cutover.on_live.len() > CLIENTS_SHOWN,
            stragglers: stragglers
                .map(|c| ClientRow {
                    is_let_in: c.let_in_us.is_some(),
                    ..row(&c.address, &c.user_agent, c.refused, c.refused_us)
                })
                .collect(),
            more_stragglers: cutover.still.len() > CLIENTS_SHOWN,
            unseen: cutover.unseen().take(CLIENTS_SHOWN).map(former).collect(),
            more_unseen: cutover.unseen().count() > CLIENTS_SHOWN,
            earlier: cutover
                .former
                .iter()
                .take(CLIENTS_SHOWN)
                .map(former)
                .collect(),
            more_earlier: cutover.former.len() > CLIENTS_SHOWN,
            progress: ProgressView::of(&cutover, now),
            noticed: noticed.map(|at| When::ago(at, now)),
            traffic,
            as_of: When::clock(as_of),
            is_stale: as_of < now.before(STALE),
            usage_days: services.settings.usage_days,
        };
        if let Some(key) = live {
            let used = db.last_accepted(scope, key.id).await?;
            let since = key.live_us.unwrap_or(key.created_us);
            let is_new = is_counted_since(state, since, now);
            view.state = KeyState::of_live(key.shown_us, used, is_new);
            view.key = Some(KeyFacts {
                hint: key.hint.clone(),
                since: When::date(since, now),
                made_by: name_of(state, &key.made_by).await?,
                origin: match (key.live_us, died) {
                    (Some(live), _) if live != key.created_us => Origin::CutOver,
                    // Replaced in that very moment; after an expiry there was none to replace.
                    (_, Some(died)) if died == since => Origin::Replacement,
                    _ => Origin::First,
                },
                used: used.map(|at| When::ago(at, now)),
            });
        }
        if let Some(state) = KeyState::of_inactive(seller.status) {
            view.state = state;
        }
        if let Some(key) = staged {
            view.staged = Some(StagedFacts {
                hint: key.hint,
                created: When::ago(key.created_us, now),
                made_by: name_of(state, &key.made_by).await?,
                was_shown: key.shown_us.is_some(),
            });
        }
        Ok(view)
    }

    /// How far the change of keys is, in a sentence for whoever listens to the page.
    pub fn said(&self) -> String {
        match (&self.progress, self.state) {
            (ProgressView::StillSent(..), _) => self.still_sent(),
            (ProgressView::Settling(SignView::Died(_)), _) => {
                "Nobody has sent the dead key yet.".to_owned()
            }
            (ProgressView::Settling(_), _) => "Nobody is left on a dead key.".to_owned(),
            (ProgressView::QuietForNow(_), _) => "Quiet for now.".to_owned(),
            (ProgressView::AllClear(_), _) => "All clear.".to_owned(),
            (ProgressView::NothingDied, KeyState::Waiting) => {
                "Waiting for your first call.".to_owned()
            }
            (ProgressView::NothingDied, KeyState::Live) => "The key is in use.".to_owned(),
            (ProgressView::NothingDied, _) => String::new(),
        }
    }

    /// How many clients still send a dead key, in a sentence; empty if none does.
    pub fn still_sent(&self) -> String {
        let ProgressView::StillSent(clients, more) = self.progress else {
            return String::new();
        };
        let at_least = if more { "At least " } else { "" };
        match clients {
            1 => format!("{at_least}1 client still sends a dead key."),
            n => format!("{at_least}{n} clients still send a dead key."),
        }
    }

    /// Whether some of the clients could not be told apart.
    pub fn has_lump(&self) -> bool {
        let lists = [&self.clients, &self.stragglers, &self.unseen];
        lists.into_iter().flatten().any(|row| row.is_lump)
    }

    /// Whether a next key can be prepared: beside a live one, unless one waits already that somebody has.
    pub fn may_prepare(&self) -> bool {
        let waits = self.staged.as_ref().is_some_and(|key| key.was_shown);
        self.has_key() && !waits
    }

    /// Whether the key is used, or may have been before what is remembered.
    pub fn has_been_used(&self) -> bool {
        matches!(self.state, KeyState::Live | KeyState::Idle)
    }

    /// Whether there is a key to replace.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }
}

/// Whether all use of a key that became live at this time was counted. Of one that is older than what is kept, nobody knows whether it
/// was ever used.
pub fn is_counted_since(state: &State, made: Time, now: Time) -> bool {
    made > now.before(A_DAY * state.services.settings.usage_days)
}

/// Writes what was counted but not written yet, on a task of its own: counts that were taken out of memory must reach the
/// database, whether or not the browser waits for the page.
pub async fn write_counts(state: &State) {
    let (keys, db) = (Arc::clone(&state.services.keys), state.services.db.clone());
    let now = state.services.clock.now();
    let written = run_to_end(async move {
        let seen = keys.origins.flush(&db).await;
        let written = keys.usage.flush(&db, now).await;
        seen.and(written).map_err(Unwritten::Db)
    });
    if let Err(error) = written.await {
        tracing::warn!(%error, "counts of usage cannot be written for a page");
    }
}

#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error(transparent)]
    Db(DbError),
    #[error(transparent)]
    Died(#[from] ActDied),
}

impl ClientRow {
    fn new(address: &str, user_agent: &str, calls: i64, last: When) -> Self {
        Self {
            address: address.to_owned(),
            user_agent: user_agent.to_owned(),
            is_lump: is_lump(address, user_agent),
            is_let_in: false,
            calls: grouped(calls),
            last,
        }
    }
}

/// The calls of a Seller's keys over time.
async fn read_traffic(
    db: &Db,
    scope: SellerScope,
    keys: &[KeyRow],
    staged: Option<&StagedRow>,
    now: Time,
) -> Result<Traffic, DbError> {
    let shown = |key: KeyId, hint: &str| Shown {
        key,
        hint: hint.to_owned(),
    };
    let live = keys.first().filter(|key| key.state == "live");
    let live = live.map(|key| shown(key.id, &key.hint));
    let staged = staged.map(|key| shown(key.id, &key.hint));
    let all: Vec<Shown> = keys.iter().map(|key| shown(key.id, &key.hint)).collect();
    Traffic::read(db, scope, live, staged, &all, now).await
}

/// Whoever the database names as `operator`, `user:ID` or a finder of keys, as a person would.
pub async fn name_of(state: &State, actor: &str) -> Result<String, DbError> {
    if let Some(finder) = Finder::words_of_actor(actor) {
        return Ok(finder.to_owned());
    }
    let Some(user) = actor.strip_prefix("user:") else {
        return Ok(MARKETPLACE.to_owned());
    };
    let row = match user.parse() {
        Ok(user) => state.services.db.user(user).await?,
        Err(_) => None,
    };
    Ok(row.map_or_else(|| former(user), |row| row.email))
}
