//! Settings → API Key: the forms that make, prepare, cut over and discard a key, and the one showing.
//!
//! Each form carries the Seller's id and the version of the key that it was rendered with. The act is on that Seller,
//! whichever other page is open; if the key has changed since, it is refused with 409 and shows nothing. So a page that is
//! reloaded, gone back to, or posted again makes no key.
//!
//! While a change waits for a node, the page says for which (see [`super::while_waiting`]).
//!
//! Never: a key on any page but the answer to the act that made it.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    super::{
        State,
        caller::SignedIn,
        form::{Fields, Form},
        problem::{Problem, capital},
    },
    Page, Shell,
    key_leaks::{LeakKind, LeakView},
    key_view::{KeyState, KeyView, MARKETPLACE, name_of},
    keys, settings,
    shell::Section,
    step_up::{Act, with_recent_password},
    when::When,
    while_waiting::{OUTCOME_FOLLOWS, Outcome, answer},
};
use crate::{
    accounts::sessions::Member,
    audit::ActKind,
    db::ListingFilter,
    inventory::listing::ListingStatus,
    keys::{
        Keys,
        format::SecretKey,
        found::Works,
        lifecycle::{Generated, KeyActError},
        scope::SellerScope,
    },
};

/// Where the form is posted to.
pub const PATH: &str = "/dashboard/settings/api-key";
/// Where the forms of a staged rotation are.
const PREPARE_PATH: &str = "/dashboard/settings/api-key/prepare";
/// See `PREPARE_PATH`.
const CUT_OVER_PATH: &str = "/dashboard/settings/api-key/cut-over";
/// See `PREPARE_PATH`.
const DISCARD_PATH: &str = "/dashboard/settings/api-key/discard";
/// The field that says that the page with the clients was shown.
const CONFIRMED: &str = "confirmed";
/// Where the way leads from a page that waited and shows no key.
const SEE_KEY: &str = "See how the key stands";
/// What is said while an act waits whose answer shows a key.
const KEY_FOLLOWS: &str = "Leave this page open: the new key is shown here, this once.";

#[derive(Template)]
#[template(path = "regenerate.html")]
struct RegeneratePage {
    shell: Shell,
    slug: String,
    key: KeyView,
    /// Somebody said that they have the key.
    is_reported: bool,
    /// Somebody else may have it: whoever said so, or reads the page that sends it.
    is_exposed: bool,
}

#[derive(Template)]
#[template(path = "generated.html", blocks = ["main"])]
struct GeneratedPage<'a> {
    shell: Shell,
    slug: String,
    /// The way back to the page of all keys.
    all_keys: &'a str,
    key: &'a str,
    /// It is not live yet.
    staged: bool,
    replaced: bool,
    receipt: String,
    base_url: &'a str,
    /// What the examples ask for: one of the Seller's own listings, or the key's own page.
    example: String,
    security_contact: &'a str,
}

#[derive(Template)]
#[template(path = "key_conflict.html", blocks = ["main"])]
struct ConflictPage {
    shell: Shell,
    slug: String,
    by: String,
    by_oneself: bool,
    at: Option<When>,
    /// The marketplace expired the key.
    expired: bool,
    /// The key was replaced and could not be shown.
    lost: bool,
}

/// Makes the Seller's key. With a live key there, first shows whom that hits.
pub async fn generate(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let (member, seen_version) = match as_seen(&state, &caller, &form).await? {
        Seen::Still(member, version) => (member, version),
        Seen::Changed(page) => return Ok(page),
    };
    let view = KeyView::read(&state, &member).await?;
    let has_key = view.has_key();
    if has_key && form.get(CONFIRMED).is_none() {
        let services = &state.services;
        let leaks = LeakView::read(&services.db, member.scope(), services.clock.now()).await?;
        let tells = |kind| LeakView::tell_of(&leaks, kind);
        let is_reported = tells(LeakKind::Reported(Works::Now));
        return Ok(Page(RegeneratePage {
            shell: Shell::inside(
                "Regenerate API Key",
                Section::Settings,
                &caller.session,
                &member,
            ),
            slug: member.slug().to_owned(),
            key: view,
            is_exposed: is_reported || tells(LeakKind::Browser),
            is_reported,
        })
        .into_response());
    }
    let verb = if has_key { "Regenerate" } else { "Generate" };
    let act = Act {
        path: PATH,
        button: &format!("{verb} API Key for {}", member.name()),
        danger: has_key,
        is_ones_own: false,
    };
    let all_keys = keys::path_from(&member);
    let own = Acting::new(&state, &caller, &member);
    let work = answer(&state, &caller, &member, KEY_FOLLOWS, async move {
        match own.keys().generate(own.scope(), seen_version).await {
            Ok(made) => own.show_once(&made, false, &all_keys).await,
            Err(error) => own.refused(error).await,
        }
    });
    with_recent_password(&state, &caller, &member, &form, act, work).await
}

/// Makes the next key, which is not accepted yet, and shows it once.
pub async fn prepare(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let (member, seen_version) = match as_seen(&state, &caller, &form).await? {
        Seen::Still(member, version) => (member, version),
        Seen::Changed(page) => return Ok(page),
    };
    let act = Act {
        path: PREPARE_PATH,
        button: &format!("Prepare next key for {}", member.name()),
        danger: false,
        is_ones_own: false,
    };
    let all_keys = keys::way_back(&form, &member);
    let own = Acting::new(&state, &caller, &member);
    let work = answer(&state, &caller, &member, KEY_FOLLOWS, async move {
        match own.keys().prepare(own.scope(), seen_version).await {
            Ok(made) => own.show_once(&made, true, &all_keys).await,
            Err(error) => own.refused(error).await,
        }
    });
    with_recent_password(&state, &caller, &member, &form, act, work).await
}

/// Makes the prepared key the live one.
pub async fn cut_over(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let (member, seen_version) = match as_seen(&state, &caller, &form).await? {
        Seen::Still(member, version) => (member, version),
        Seen::Changed(page) => return Ok(page),
    };
    let services = &state.services;
    let leaks = LeakView::read(&services.db, member.scope(), services.clock.now()).await?;
    if LeakView::tell_of(&leaks, LeakKind::Reported(Works::NotYet)) {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "The next key was reported as found",
            "From the cut-over on it would work for whoever found it. Nothing was changed. Discard it in Settings, or say there \
             that you know of the report.",
        )
        .with_way_on("/dashboard/settings", "Go to Settings")
        .about(&member));
    }
    let act = Act {
        path: CUT_OVER_PATH,
        button: &format!("Cut over to the next key of {}", member.name()),
        danger: true,
        is_ones_own: false,
    };
    let own = Acting::new(&state, &caller, &member);
    let work = answer(&state, &caller, &member, OUTCOME_FOLLOWS, async move {
        match own.keys().cut_over(own.scope(), seen_version).await {
            Ok(done) => Ok(Outcome::SeeOther {
                path: settings::done_path(&own.member, "cut-over", "api-key"),
                title: "The next key is live",
                text: format!("The key before it is dead {}.", done.receipt.in_words()),
                label: SEE_KEY,
            }),
            Err(error) => own.refused(error).await,
        }
    });
    with_recent_password(&state, &caller, &member, &form, act, work).await
}

/// Kills the prepared key.
pub async fn discard(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let (member, seen_version) = match as_seen(&state, &caller, &form).await? {
        Seen::Still(member, version) => (member, version),
        Seen::Changed(page) => return Ok(page),
    };
    let act = Act {
        path: DISCARD_PATH,
        button: &format!("Discard the next key of {}", member.name()),
        danger: true,
        is_ones_own: false,
    };
    let own = Acting::new(&state, &caller, &member);
    let work = answer(&state, &caller, &member, OUTCOME_FOLLOWS, async move {
        match own.keys().discard(own.scope(), seen_version).await {
            Ok(done) => Ok(Outcome::SeeOther {
                path: settings::done_path(&own.member, "discarded", "api-key"),
                title: "The next key is discarded",
                text: format!("It is dead {}.", done.receipt.in_words()),
                label: SEE_KEY,
            }),
            Err(error) => own.refused(error).await,
        }
    });
    with_recent_password(&state, &caller, &member, &form, act, work).await
}

/// Whether the key is as the form's page showed it.
enum Seen {
    /// It is; of which Seller, and its version.
    Still(Member, i64),
    /// It is not; the page that says so.
    Changed(Response),
}

async fn as_seen(state: &Arc<State>, caller: &SignedIn, form: &Fields) -> Result<Seen, Problem> {
    let member = caller.actor_of_form(form)?;
    let seller = state.services.db.seller(member.scope()).await?;
    let seller = seller.ok_or_else(Problem::other_dealers)?;
    let Ok(version) = form.text("version").parse::<i64>() else {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "This form is not complete",
            "Nothing was changed. Open Settings and use the form there.",
        )
        .with_way_on("/dashboard/settings", "Go to Settings")
        .about(&member));
    };
    if seller.key_version == version {
        Ok(Seen::Still(member, version))
    } else {
        // The page names the key as replaced: then it is dead on every node, though the change may not have returned yet.
        state.services.keys.obeyed(member.scope()).await?;
        let own = Acting::new(state, caller, &member);
        Ok(Seen::Changed(own.conflict(false).await?.into_response()))
    }
}

/// Who acts on the key of which Seller: all that an act needs that goes on behind a page that was begun.
struct Acting {
    state: Arc<State>,
    caller: SignedIn,
    member: Member,
}

impl Acting {
    fn new(state: &Arc<State>, caller: &SignedIn, member: &Member) -> Self {
        Self {
            state: Arc::clone(state),
            caller: caller.clone(),
            member: member.clone(),
        }
    }

    fn keys(&self) -> &Arc<Keys> {
        &self.state.services.keys
    }

    fn scope(&self) -> SellerScope {
        self.member.scope()
    }

    fn shell(&self, title: &str) -> Shell {
        Shell::inside(title, Section::Settings, &self.caller.session, &self.member)
    }

    async fn refused(&self, error: KeyActError) -> Result<Outcome, Problem> {
        match error {
            KeyActError::Conflict => self.conflict(false).await,
            KeyActError::NotShown(error) => {
                tracing::error!(%error, "a key was made and could not be shown");
                self.conflict(true).await
            }
            KeyActError::Db(error) => Err(error.into()),
            KeyActError::NothingLive | KeyActError::NothingStaged | KeyActError::StagedUnseen => {
                Err(Problem::new(
                    StatusCode::CONFLICT,
                    "There is nothing to do this with",
                    format!("{}. Nothing was changed.", capital(&error.to_string())),
                )
                .with_way_on("/dashboard/settings", "Go to Settings"))
            }
            error => {
                tracing::error!(%error, "an act on a key failed");
                Err(Problem::internal())
            }
        }
    }

    async fn show_once(
        &self,
        made: &Generated,
        staged: bool,
        all_keys: &str,
    ) -> Result<Outcome, Problem> {
        let settings = &self.state.services.settings;
        let page = GeneratedPage {
            shell: self.shell(if staged {
                "Your next API key"
            } else {
                "Your new API key"
            }),
            slug: self.member.slug().to_owned(),
            all_keys,
            key: exposed(&made.secret),
            staged,
            replaced: made.replaced.is_some(),
            receipt: made.receipt.in_words(),
            base_url: &settings.base_url,
            example: example(&self.state, &self.member).await,
            security_contact: &settings.security_contact,
        };
        Outcome::shown(StatusCode::OK, &page, &page.as_main())
    }

    /// Tells whoever was slower, or posts a form again, that no key was made for them.
    async fn conflict(&self, lost: bool) -> Result<Outcome, Problem> {
        let (services, member) = (&self.state.services, &self.member);
        let now = services.clock.now();
        let (db, scope) = (&services.db, member.scope());
        let keys = db.keys_of_seller(scope, 1).await?;
        let has_key = keys.first().is_some_and(|key| key.state == "live");
        let acts = db.newest_audit(scope, Some(ActKind::Keys), None, 1).await?;
        let last = acts.first();
        let own = format!("user:{}", self.caller.session.user());
        let page = ConflictPage {
            shell: self.shell(if lost {
                "The new key was not shown"
            } else {
                "No key was made"
            }),
            slug: member.slug().to_owned(),
            by: match last {
                Some(act) => name_of(&self.state, &act.actor).await?,
                None => MARKETPLACE.to_owned(),
            },
            by_oneself: last.is_some_and(|act| act.actor == own),
            at: last.map(|act| When::ago(act.at_us, now)),
            expired: !has_key,
            lost,
        };
        let status = if lost {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::CONFLICT
        };
        Outcome::shown(status, &page, &page.as_main())
    }
}

/// The one place from which a page gets a key.
fn exposed(secret: &SecretKey) -> &str {
    secret.expose()
}

/// What a first call can ask for. The key is made by now and must be shown, so nothing here may fail.
async fn example(state: &State, member: &Member) -> String {
    let filter = ListingFilter {
        status: Some(ListingStatus::Active),
        ..ListingFilter::default()
    };
    let found = state.services.db.listings(member.scope(), &filter, 1).await;
    match found.as_deref() {
        Ok([listing, ..]) => format!("/api/v1/inventory/{}", listing.vin),
        _ => "/api/v1/key".to_owned(),
    }
}
