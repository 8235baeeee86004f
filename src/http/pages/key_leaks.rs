//! Settings → API Key: where a key was found that should not be there, which browsers send one, and the form that says "we
//! know".
//!
//! Never: a place as a link, since a stranger may have written it; a key that was found and is shown no more because another
//! one was made.

use std::sync::Arc;

use axum::{extract::State as Shared, response::Response};

use super::{
    super::{State, caller::SignedIn, form::Form, problem::Problem},
    grouped, settings,
    when::When,
};
use crate::{
    accounts::AccountStatus,
    clock::Time,
    db::{Db, DbError, LeakRow},
    ids::{KeyId, LeakId},
    keys::{
        found::{self, Finder, Outcome, Works},
        scope::SellerScope,
    },
};

/// Signs that are read for one page, the newest.
const LEAKS_READ: i64 = 200;
/// Groups of them on one page.
const LEAKS_SHOWN: usize = 20;

/// What a person is told of one key by one kind of signs.
pub struct LeakView {
    /// The key's last four characters.
    pub hint: String,
    /// What it is about.
    pub about: LeakKind,
    /// When it was first said.
    pub first: When,
    /// Where, the last said first.
    pub places: Vec<PlaceView>,
}

/// One sign.
pub struct PlaceView {
    /// Its id, for the form.
    pub id: String,
    /// Where; as somebody else wrote it.
    pub text: String,
    /// How often it was said.
    pub said: String,
    /// When it was last said.
    pub last: When,
}

/// What a sign means for the Seller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeakKind {
    /// Somebody has the key, and it lives; whether it works for them.
    Reported(Works),
    /// It was found in public, and is dead for that.
    Killed(Finder),
    /// A browser sends it.
    Browser,
}

impl LeakKind {
    /// The class of its note.
    pub fn note(self) -> &'static str {
        match self {
            Self::Reported(Works::Now) => " bad",
            Self::Killed(_) => "",
            Self::Reported(Works::NotYet | Works::Suspended) | Self::Browser => " wait",
        }
    }

    fn of(row: &LeakRow) -> Option<Self> {
        let works = match (row.key_state.as_str(), row.status) {
            ("staged", _) => Some(Works::NotYet),
            ("live", AccountStatus::Active) => Some(Works::Now),
            ("live", AccountStatus::Suspended | AccountStatus::Closed) => Some(Works::Suspended),
            _ => None,
        };
        match (row.outcome, row.finder) {
            _ if row.dismissed_us.is_some() => None,
            (Outcome::Expired | Outcome::Discarded, finder) => Some(Self::Killed(finder)),
            (Outcome::Told, _) if works.is_some() => works.map(Self::Reported),
            (Outcome::Seen, _) if works.is_some() => Some(Self::Browser),
            // Of a key that is dead there is nothing to do.
            (Outcome::Told | Outcome::Seen | Outcome::Dead, _) => None,
        }
    }
}

impl LeakView {
    /// Reads what the Seller's people should know, what matters most first.
    pub async fn read(db: &Db, scope: SellerScope, now: Time) -> Result<Vec<Self>, DbError> {
        let rows = db.leaks_of(scope, LEAKS_READ).await?;
        Ok(Self::of(&rows, now))
    }

    /// Whether something of this kind is among them.
    pub fn tell_of(leaks: &[Self], kind: LeakKind) -> bool {
        leaks.iter().any(|leak| leak.about == kind)
    }

    fn of(rows: &[LeakRow], now: Time) -> Vec<Self> {
        let mut groups: Vec<(KeyId, LeakKind, Vec<&LeakRow>)> = Vec::new();
        for row in rows {
            let Some(kind) = LeakKind::of(row) else {
                continue;
            };
            let mut known = groups.iter_mut();
            match known.find(|(key, of, _)| (*key, *of) == (row.key_id, kind)) {
                Some((.., rows)) => rows.push(row),
                None => groups.push((row.key_id, kind, vec![row])),
            }
        }
        groups.sort_by_key(|(_, kind, _)| match kind {
            LeakKind::Reported(_) => 0,
            LeakKind::Killed(_) => 1,
            LeakKind::Browser => 2,
        });
        groups.truncate(LEAKS_SHOWN);
        let views = groups.into_iter().filter_map(|(_, about, rows)| {
            let first = rows.iter().map(|row| row.first_us).min()?;
            Some(Self {
                hint: rows.first()?.key_hint.clone(),
                about,
                first: When::ago(first, now),
                places: rows.iter().map(|row| PlaceView::of(row, now)).collect(),
            })
        });
        views.collect()
    }
}

impl PlaceView {
    fn of(row: &LeakRow, now: Time) -> Self {
        let is_browser = row.finder == Finder::Browser;
        Self {
            id: row.id.to_text(),
            text: match is_browser && row.place.is_empty() {
                true => "other pages".to_owned(),
                false => found::in_words(&row.place, &row.source),
            },
            said: match (is_browser, row.times) {
                (true, 1) => "1 request".to_owned(),
                (true, n) => format!("{} requests", grouped(n)),
                (false, 1) => "said once".to_owned(),
                (false, n) => format!("said {} times", grouped(n)),
            },
            last: When::ago(row.last_us, now),
        }
    }
}

/// Shows signs no more: those that the form names.
pub async fn dismiss(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.actor_of_form(&form)?;
    let keys = &state.services.keys;
    let named = form.without("seller").filter(|(name, _)| *name == "leak");
    // What is no id, or another Seller's, is dismissed as little as what was dismissed before.
    for leak in named.filter_map(|(_, id)| id.parse::<LeakId>().ok()) {
        let dismissed = keys.dismiss_leak(member.scope(), leak).await;
        dismissed.map_err(|error| Problem::from(error).about(&member))?;
    }
    Ok(settings::done(&member, "dismissed", "api-key"))
}
