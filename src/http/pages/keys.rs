//! `/dashboard/keys`: every key of a person who works for several dealers, with what needs attention first.
//!
//! The page is about no Seller: its address may name the one that the person came from, so that the way back is there. What
//! can be done from it is a form that names its own Seller, and goes where the form of that Seller's page goes.
//!
//! Never: a Seller that the person is no member of; an act on more than one Seller.

use std::{cmp::Ordering, sync::Arc};

use askama::Template;
use axum::{
    extract::State as Shared,
    response::{IntoResponse, Response},
};

use super::{
    super::{
        State,
        caller::SignedIn,
        form::{Fields, Query},
        problem::Problem,
    },
    Page, Shell, grouped,
    key_view::{KeyState, STALE, is_counted_since, write_counts},
    shell::Section,
    when::When,
};
use crate::{
    accounts::sessions::Member,
    clock::Time,
    keys::ring::{self, OnRing},
};

/// Dealers on one page.
const PER_PAGE: usize = 200;
/// Characters of what is searched for; a name has no more.
const SEARCH_CHARS_MAX: usize = 120;
/// The field of a row's form that says how the page was asked for.
const ASKED: &str = "asked";

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage {
    shell: Shell,
    /// Of how many dealers the person is a member, whatever is shown.
    all: usize,
    tabs: Vec<Tab>,
    heads: Vec<Head>,
    sorts: Vec<(Sort, bool)>,
    rows: Vec<Row>,
    asked: Asked,
    previous: Option<String>,
    next: Option<String>,
    as_of: When,
    is_stale: bool,
}

struct Tab {
    label: &'static str,
    count: String,
    path: String,
    is_here: bool,
}

/// The head of a column, which sorts by it.
struct Head {
    label: &'static str,
    path: String,
    /// `ascending` or `descending`, if it is what the rows are sorted by.
    sorted: Option<&'static str>,
    is_number: bool,
}

impl Head {
    /// Which way the rows go, for whoever looks.
    fn arrow(&self) -> &'static str {
        match self.sorted {
            Some("ascending") => "↑",
            Some(_) => "↓",
            None => "",
        }
    }
}

struct Row {
    seller: String,
    slug: String,
    name: String,
    role: &'static str,
    is_viewer: bool,
    version: i64,
    state: KeyState,
    hint: Option<String>,
    /// Somebody has a whole key, said so, and it works, or the next key, which would work from its cut-over on.
    reported: Option<Reported>,
    since: Option<When>,
    used: Option<When>,
    /// Said where it was not used for as long as use is remembered.
    unused: String,
    accepted: String,
    refused: String,
    has_refused: bool,
    still: String,
    staged: Option<Staged>,
    may_prepare: bool,
    sort: SortBy,
}

/// Which of a dealer's keys was reported as found; the live one, if both were.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reported {
    Live,
    Next,
}

struct Staged {
    hint: String,
    created: When,
    was_shown: bool,
}

/// By what a row is sorted and chosen.
struct SortBy {
    urgency: u8,
    since: Option<Time>,
    used: Option<Time>,
    accepted: i64,
    refused: i64,
    still: usize,
}

/// How urgent it is that a next key, which somebody has, waits for its cut-over: nobody is cut off, and neither is anybody by
/// what is less urgent. All that is more urgent needs attention.
const PREPARED: u8 = 8;
/// There is nothing that anybody could do.
const CLOSED: u8 = 11;

/// What the rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Urgency,
    Name,
    Since,
    Used,
    Accepted,
    Refused,
    Still,
}

impl Sort {
    const ALL: [Self; 7] = [
        Self::Urgency,
        Self::Name,
        Self::Since,
        Self::Used,
        Self::Accepted,
        Self::Refused,
        Self::Still,
    ];

    /// Its name in addresses.
    fn as_str(self) -> &'static str {
        match self {
            Self::Urgency => "urgency",
            Self::Name => "name",
            Self::Since => "since",
            Self::Used => "used",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Still => "dead",
        }
    }

    /// What it puts first, for whoever chooses it from a list.
    fn words(self) -> &'static str {
        match self {
            Self::Urgency => "what needs attention",
            Self::Name => "name",
            Self::Since => "oldest key",
            Self::Used => "used longest ago",
            Self::Accepted => "most calls",
            Self::Refused => "most 401s",
            Self::Still => "most clients on a dead key",
        }
    }

    /// Large numbers come first, and so do old keys, unless it is the other way round.
    fn compare(self, one: &Row, other: &Row, is_reversed: bool) -> Ordering {
        let (a, b) = (&one.sort, &other.sort);
        let directed = |order: Ordering| match is_reversed {
            true => order.reverse(),
            false => order,
        };
        // Without a time there is nothing to be old or new: last, whichever way round.
        let time = |a: Option<Time>, b: Option<Time>| match (a, b) {
            (Some(a), Some(b)) => directed(a.cmp(&b)),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        let order = match self {
            Self::Since => return time(a.since, b.since),
            // What was never used comes before what was used longest ago; of several, the oldest key.
            Self::Used => return time(a.used, b.used).then(time(a.since, b.since)),
            Self::Urgency => a.urgency.cmp(&b.urgency).then(b.still.cmp(&a.still)),
            // The order in which they are read.
            Self::Name => Ordering::Equal,
            Self::Accepted => b.accepted.cmp(&a.accepted),
            Self::Refused => b.refused.cmp(&a.refused),
            Self::Still => b.still.cmp(&a.still),
        };
        directed(order)
    }
}

/// Which of them are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    All,
    Attention,
    Prepared,
}

impl Show {
    const ALL: [Self; 3] = [Self::All, Self::Attention, Self::Prepared];

    fn as_str(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Attention => "attention",
            Self::Prepared => "prepared",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::All => "All",
            Self::Attention => "Needs attention",
            Self::Prepared => "Next key prepared",
        }
    }

    fn has(self, row: &Row) -> bool {
        match self {
            Self::All => true,
            Self::Attention => row.sort.urgency < PREPARED,
            Self::Prepared => row.staged.as_ref().is_some_and(|key| key.was_shown),
        }
    }
}

/// What the page's address asks for; what it asks for and does not exist is the first of its kind.
#[derive(Clone)]
struct Asked {
    /// Where the person came from, for the way back.
    seller: String,
    search: String,
    sort: Sort,
    is_reversed: bool,
    show: Show,
    /// From 0.
    page: usize,
}

/// The page as it is at first, for whoever comes from a dealer.
pub fn path_from(member: &Member) -> String {
    way_back(&Fields::default(), member)
}

/// The way back to the page from an act on a dealer's key: as it was asked for, if the act's form says how.
pub fn way_back(form: &Fields, member: &Member) -> String {
    let asked = Asked::of(&Fields::of_query(form.text(ASKED)));
    let way_back = Asked {
        seller: member.slug().to_owned(),
        ..asked
    };
    way_back.path()
}

impl Asked {
    fn of(query: &Fields) -> Self {
        let sort = query.text("sort");
        let show = query.text("show");
        let search: String = query
            .text("q")
            .trim()
            .chars()
            .take(SEARCH_CHARS_MAX)
            .collect();
        let page = query.text("page").parse::<usize>().unwrap_or(1);
        Self {
            seller: query.text("seller").to_owned(),
            search,
            sort: Sort::ALL
                .into_iter()
                .find(|known| known.as_str() == sort)
                .unwrap_or(Sort::Urgency),
            is_reversed: query.text("order") == "reversed",
            show: Show::ALL
                .into_iter()
                .find(|known| known.as_str() == show)
                .unwrap_or(Show::All),
            page: page.saturating_sub(1),
        }
    }

    /// The address that asks for the same among all.
    fn among_all(&self) -> String {
        let among_all = Self {
            show: Show::All,
            page: 0,
            ..self.clone()
        };
        among_all.path()
    }

    /// The address that asks for this.
    fn path(&self) -> String {
        let query = self.query();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("/dashboard/keys{mark}{query}")
    }

    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let mut add = |name: &str, text: &str| {
            if !text.is_empty() {
                query.append_pair(name, text);
            }
        };
        add("seller", &self.seller);
        add("q", &self.search);
        add("show", self.show.as_str());
        if self.sort != Sort::Urgency {
            add("sort", self.sort.as_str());
        }
        add("order", if self.is_reversed { "reversed" } else { "" });
        if self.page > 0 {
            add("page", &(self.page + 1).to_string());
        }
        query.finish()
    }

    /// Whether a row has what is searched for in one of its names.
    fn finds(&self, row: &Row) -> bool {
        let search = self.search.to_lowercase();
        row.name.to_lowercase().contains(&search) || row.slug.contains(&search)
    }

    fn head(&self, label: &'static str, sort: Sort) -> Head {
        let is_here = self.sort == sort;
        // The other way round, if it is sorted by this already.
        let is_reversed = is_here && !self.is_reversed;
        let is_number = matches!(sort, Sort::Accepted | Sort::Refused | Sort::Still);
        // Numbers fall from the top unless reversed; everything else rises.
        let sorted = match is_number != self.is_reversed {
            true => "descending",
            false => "ascending",
        };
        Head {
            label,
            path: Self {
                sort,
                is_reversed,
                page: 0,
                ..self.clone()
            }
            .path(),
            sorted: is_here.then_some(sorted),
            is_number,
        }
    }
}

/// The page.
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Query(query): Query,
) -> Result<Response, Problem> {
    let session = &caller.session;
    let member = match query.get("seller") {
        Some(_) => Some(caller.member_of_page(&query)?),
        None => None,
    };
    let asked = Asked::of(&query);
    write_counts(&state).await;
    let services = &state.services;
    let now = services.clock.now();
    let as_of = now.min(*services.keys.usage.written().borrow());
    let ring = ring::read(&services.db, session.user(), as_of).await?;
    let all = ring.len();
    let rows = ring.into_iter().map(|on| {
        let member = session.member_by_id(on.row.seller_id);
        let may_act = member.is_some_and(|member| member.may_act());
        row(&state, on, may_act, now)
    });
    let mut rows: Vec<Row> = rows.collect();
    rows.retain(|row| asked.finds(row));
    let tabs = Show::ALL.map(|show| Tab {
        label: show.label(),
        count: grouped(rows.iter().filter(|row| show.has(row)).count() as i64),
        path: Asked {
            show,
            page: 0,
            ..asked.clone()
        }
        .path(),
        is_here: asked.show == show,
    });
    rows.retain(|row| asked.show.has(row));
    // Those alike stand by name, or the other way round; sorting leaves them so.
    if asked.is_reversed {
        rows.reverse();
    }
    rows.sort_by(|one, other| asked.sort.compare(one, other, asked.is_reversed));
    let found = rows.len();
    let page = |page| Asked {
        page,
        ..asked.clone()
    };
    let (first, end) = (
        asked.page.saturating_mul(PER_PAGE),
        asked.page.saturating_add(1).saturating_mul(PER_PAGE),
    );
    let title = "All API keys";
    Ok(Page(KeysPage {
        shell: match &member {
            Some(member) => Shell::inside(title, Section::Keys, session, member),
            None => Shell::open(title, Section::Keys, Some(session)),
        },
        all,
        tabs: tabs.into(),
        heads: vec![
            asked.head("Dealer", Sort::Name),
            asked.head("Key", Sort::Urgency),
            asked.head("Live since", Sort::Since),
            asked.head("Last used", Sort::Used),
            asked.head("Let in, 24 h", Sort::Accepted),
            asked.head("401, 24 h", Sort::Refused),
            asked.head("On a dead key", Sort::Still),
        ],
        sorts: Sort::ALL.map(|sort| (sort, sort == asked.sort)).into(),
        rows: rows.into_iter().skip(first).take(PER_PAGE).collect(),
        previous: (asked.page > 0).then(|| page(asked.page - 1).path()),
        next: (end < found).then(|| page(asked.page + 1).path()),
        asked,
        as_of: When::clock(as_of),
        is_stale: as_of < now.before(STALE),
    })
    .into_response())
}

fn row(state: &State, on: OnRing, may_act: bool, now: Time) -> Row {
    let OnRing { row, still, more } = on;
    // When the live key began to work; a prepared one could not be used before its cut-over.
    let since = row.live_us.or(row.created_us);
    let is_expired = row.died_us.is_some() && row.died_us == row.expired_us;
    let key = match (KeyState::of_inactive(row.status), since) {
        (Some(inactive), _) => inactive,
        (None, Some(since)) => {
            let is_new = is_counted_since(state, since, now);
            KeyState::of_live(row.shown_us, row.used_us, is_new)
        }
        (None, None) if is_expired => KeyState::Expired,
        (None, None) => KeyState::None,
    };
    let staged = row.staged_hint.zip(row.staged_us);
    let staged = staged.map(|(hint, created)| Staged {
        hint,
        created: When::ago(created, now),
        was_shown: row.staged_shown_us.is_some(),
    });
    let has_key = since.is_some();
    let waits = staged.as_ref().map(|key| key.was_shown);
    let reported = match KeyState::of_inactive(row.status) {
        Some(_) => None,
        None if row.live_reported > 0 => Some(Reported::Live),
        None if row.staged_reported > 0 => Some(Reported::Next),
        None => None,
    };
    let urgency = match (key, waits) {
        (KeyState::Closed, _) => CLOSED,
        (KeyState::Suspended, _) => 2,
        _ if reported.is_some() => 0,
        (KeyState::Expired, _) => 1,
        (KeyState::NeverShown, _) => 3,
        _ if still > 0 => 4,
        (_, Some(false)) => 5,
        (KeyState::None, _) => 6,
        // A key that nobody needs is one that nobody would miss.
        (KeyState::Idle, _) => 7,
        (_, Some(true)) => PREPARED,
        (KeyState::Waiting, None) => 9,
        (KeyState::Live, None) => 10,
    };
    let is_unused = matches!(key, KeyState::Idle | KeyState::Waiting);
    Row {
        seller: row.seller_id.to_text(),
        slug: row.slug,
        name: row.name,
        role: row.role.as_str(),
        is_viewer: !row.role.may_act(),
        version: row.key_version,
        state: key,
        hint: row.hint,
        reported,
        since: since.map(|at| When::ago(at, now)),
        used: row.used_us.map(|at| When::ago(at, now)),
        unused: match key {
            KeyState::Waiting => "never".to_owned(),
            KeyState::Idle => match state.services.settings.usage_days {
                1 => "not in a day".to_owned(),
                days => format!("not in {days} days"),
            },
            _ => "–".to_owned(),
        },
        accepted: grouped(row.accepted),
        refused: grouped(row.refused),
        has_refused: row.refused > 0,
        still: match (still, more) {
            (0, _) => String::new(),
            (1, false) => "1 client".to_owned(),
            (n, false) => format!("{n} clients"),
            (1, true) => "at least 1 client".to_owned(),
            (n, true) => format!("at least {n} clients"),
        },
        // Of a key that somebody else has, the next one is not prepared: it is replaced at once, where Open leads.
        may_prepare: may_act && has_key && waits != Some(true) && reported != Some(Reported::Live),
        staged,
        sort: SortBy {
            urgency,
            since,
            used: row.used_us.or(is_unused.then_some(Time(0))),
            accepted: row.accepted,
            refused: row.refused,
            still,
        },
    }
}
