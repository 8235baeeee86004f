//! `/dashboard/settings`: profile, API key, locations, members, password and sessions, each in a section of its own.
//!
//! A form of the page that cannot be accepted comes back on this same page, with what was wrong beside it.
//!
//! Never: the key; a form without the Seller's id.

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
        form::{Fields, Query},
        problem::Problem,
    },
    Page, Shell,
    account::{self, SessionView},
    key_leaks::{LeakKind, LeakView},
    key_view::{KeyState, KeyView, Origin, ProgressView, SignView},
    platforms::{AccessView, NetworksView},
    profile::{LocationForm, ProfileForm},
    second_factor::FactorView,
    shell::Section,
    when::When,
};
use crate::{
    accounts::{AccountStatus, Role, sessions::Member},
    db::LocationRow,
    keys::{
        clients::CLIENTS_PER_KEY_AND_HOUR,
        found::{Finder, Works},
    },
};

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage<'a> {
    shell: Shell,
    seller: String,
    slug: String,
    name: String,
    plan: &'static str,
    role: &'static str,
    may_act: bool,
    /// Whether the role would do, whatever becomes of the second factor.
    may_inspect: bool,
    is_owner: bool,
    has_factor: bool,
    factor: FactorView,
    factor_required: bool,
    lacks_factor: bool,
    /// Whether invitations are mailed.
    mails_links: bool,
    notice: (&'static str, &'static str),
    wrong: Wrong,
    profile: ProfileForm,
    location: LocationForm,
    invited_email: String,
    invited_role: String,
    key: KeyView,
    /// Where keys were found that should not be there.
    leaks: Vec<LeakView>,
    /// What the forms of the page are about; see `key_live.rs`.
    opened_version: i64,
    locations: Vec<LocationRow>,
    access: AccessView,
    networks: NetworksView,
    status: AccountStatus,
    status_reason: String,
    members: Vec<MemberView>,
    invitations: Vec<InvitationView>,
    roles: Vec<Role>,
    managers: String,
    sessions: Vec<SessionView>,
    email: String,
    security_contact: &'a str,
    sales_contact: &'a str,
}

struct MemberView {
    user: String,
    email: String,
    role: Role,
    since: When,
    has_factor: bool,
    is_oneself: bool,
    may_be_managed: bool,
}

struct InvitationView {
    email: String,
    role: &'static str,
    expires: When,
    may_be_managed: bool,
}

impl SettingsPage<'_> {
    /// Behind a button's words, for whoever works for several dealers: which one it is about.
    fn whose(&self, word: &str) -> String {
        match self.shell.has_several() {
            true => format!(" {word} {}", self.shell.dealer()),
            false => String::new(),
        }
    }

    /// Whether a key was reported as found that works so far.
    fn was_found(&self, works: Works) -> bool {
        LeakView::tell_of(&self.leaks, LeakKind::Reported(works))
    }

    /// What is said of a form that was accepted, in the section where it stands.
    fn notice_in(&self, section: &str) -> &'static str {
        let (own, text) = self.notice;
        if own == section { text } else { "" }
    }
}

/// What was typed into a form that could not be accepted, so that it need not be typed again.
#[derive(Default)]
pub enum Typed {
    /// Nothing that is worth keeping.
    #[default]
    Nothing,
    /// The profile.
    Profile(ProfileForm),
    /// A location.
    Location(LocationForm),
    /// An invitation: the address and the role.
    Invitation(String, String),
    /// From where the key may be used.
    Networks(String),
}

impl Typed {
    /// What the form of an invitation says.
    pub fn invitation(form: &Fields) -> Self {
        Self::Invitation(form.text("email").to_owned(), form.text("role").to_owned())
    }
}

/// What was wrong with a form of this page.
#[derive(Clone, Debug, Default)]
pub struct Wrong {
    /// The section of the form.
    pub section: &'static str,
    /// What was wrong and what to do.
    pub messages: Vec<String>,
}

impl Wrong {
    /// One thing.
    pub fn new(section: &'static str, message: impl Into<String>) -> Self {
        Self {
            section,
            messages: vec![message.into()],
        }
    }

    /// The heading of the section.
    fn heading(&self) -> &'static str {
        match self.section {
            "profile" => "Profile",
            "locations" => "Locations",
            "members" => "Members",
            "password" => "Password",
            "platforms" => "Platform access",
            "networks" => "Where the key may be used",
            "second-factor" => "Second factor",
            _ => "Sessions",
        }
    }

    /// What was wrong in this section.
    pub fn of(&self, section: &str) -> &[String] {
        if self.section == section {
            &self.messages
        } else {
            &[]
        }
    }
}

/// The page.
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Query(query): Query,
) -> Result<Response, Problem> {
    let member = caller.member_of_page(&query)?;
    let notice = match query.text("done") {
        "key" => ("api-key", "The new key is in place."),
        "cut-over" => (
            "api-key",
            "The next key is live, and the one before it is dead.",
        ),
        "discarded" => (
            "api-key",
            "The next key is discarded. The present key goes on working.",
        ),
        "dismissed" => ("api-key", "Dismissed. The audit log has who did it."),
        "invited" => ("members", "The invitation stands."),
        "profile" => ("profile", "The profile is saved."),
        "locations" => ("locations", "The locations are saved."),
        "role" => ("members", "The role is changed."),
        "removed" => ("members", "The member is removed."),
        "uninvited" => ("members", "The invitation is taken back."),
        "granted" => ("platforms", "The platform has access now, on every server."),
        "withdrawn" => (
            "platforms",
            "The access is withdrawn: the platform's calls are refused on every server.",
        ),
        "networks" => (
            "networks",
            "Saved. Every server accepts the key from there, and from nowhere else.",
        ),
        "anywhere" => (
            "networks",
            "Saved. Every server accepts the key from anywhere now.",
        ),
        "factor-demanded" => (
            "members",
            "From now on whoever acts here must have a second factor.",
        ),
        "factor-optional" => ("members", "Members may act without a second factor."),
        "mailed" => ("members", "The invitation is on its way by mail."),
        // Where the page of a key leads when it is reloaded; see app.js.
        "shown" => (
            "api-key",
            "What was on that page is shown once. It is not kept here.",
        ),
        own => account::notice(own),
    };
    let nothing = (Wrong::default(), Typed::Nothing);
    let page = render(&state, &caller, &member, notice, nothing.0, nothing.1).await?;
    Ok(page.into_response())
}

/// The page with what was wrong with one of its forms.
pub async fn show_wrong(
    state: &State,
    caller: &SignedIn,
    member: &Member,
    wrong: Wrong,
    typed: Typed,
) -> Result<Response, Problem> {
    let page = render(state, caller, member, ("", ""), wrong, typed).await?;
    Ok(Page::with_status(StatusCode::UNPROCESSABLE_ENTITY, &page.0))
}

async fn render<'a>(
    state: &'a State,
    caller: &SignedIn,
    member: &Member,
    notice: (&'static str, &'static str),
    wrong: Wrong,
    typed: Typed,
) -> Result<Page<SettingsPage<'a>>, Problem> {
    let services = &state.services;
    let (db, scope) = (&services.db, member.scope());
    let now = services.clock.now();
    let seller = db.seller(scope).await?.ok_or_else(Problem::other_dealers)?;
    let key = KeyView::read(state, member).await?;
    let leaks = LeakView::read(db, scope, now).await?;
    let locations = db.locations(scope).await?;
    let rows = db.members(scope).await?;
    let managers: Vec<&str> = rows
        .iter()
        .filter(|row| row.role.may_act())
        .map(|row| row.email.as_str())
        .collect();
    let managers = managers.join(", ");
    let members = rows
        .iter()
        .map(|row| MemberView {
            user: row.user_id.to_text(),
            email: row.email.clone(),
            role: row.role,
            since: When::date(row.created_us, now),
            has_factor: row.has_factor != 0,
            is_oneself: row.user_id == caller.session.user(),
            may_be_managed: member.may_act() && member.role().may_manage(row.role),
        })
        .collect();
    let invitations = if member.role().may_act() {
        db.invitations(scope, now).await?
    } else {
        Vec::new()
    };
    let (mut profile, mut location) = (ProfileForm::of(&seller), LocationForm::default());
    let (mut invited, mut networks) = ((String::new(), String::new()), String::new());
    match typed {
        Typed::Nothing => {}
        Typed::Profile(typed) => profile = typed,
        Typed::Location(typed) => location = typed,
        Typed::Invitation(email, role) => invited = (email, role),
        Typed::Networks(typed) => networks = typed,
    }
    let access = AccessView::read(state, member, &seller).await?;
    let networks = NetworksView::read(state, member, &seller, networks).await?;
    let sessions = account::sessions_of(state, caller).await?;
    let factor = FactorView::read(state, caller).await?;
    let settings = &services.settings;
    Ok(Page(SettingsPage {
        shell: Shell::inside("Settings", Section::Settings, &caller.session, member),
        seller: seller.id.to_text(),
        slug: seller.slug.clone(),
        name: seller.name.clone(),
        plan: seller.plan.as_str(),
        role: member.role().as_str(),
        may_act: member.may_act(),
        may_inspect: member.role().may_act(),
        is_owner: member.role() == Role::Owner,
        has_factor: factor.since.is_some(),
        factor,
        factor_required: member.factor_required(),
        lacks_factor: member.lacks_factor(),
        mails_links: settings.mails_links,
        notice,
        wrong,
        profile,
        location,
        invited_email: invited.0,
        invited_role: invited.1,
        opened_version: key.version,
        key,
        leaks,
        locations,
        access,
        networks,
        status: seller.status,
        status_reason: seller.status_reason.clone().unwrap_or_default(),
        members,
        invitations: invitations
            .into_iter()
            .map(|link| InvitationView {
                email: link.email,
                role: link.role.map_or("", Role::as_str),
                expires: When::date(link.expires_us, now),
                may_be_managed: member.may_act()
                    && link.role.is_some_and(|role| member.role().may_manage(role)),
            })
            .collect(),
        roles: [Role::Viewer, Role::Admin, Role::Owner]
            .into_iter()
            .filter(|role| member.role().may_manage(*role))
            .collect(),
        managers,
        sessions,
        email: caller.session.email().to_owned(),
        security_contact: &settings.security_contact,
        sales_contact: &settings.sales_contact,
    }))
}

/// Where a location is, in one line.
fn place_line(place: &LocationRow) -> String {
    let state = [&place.state, &place.postal_code];
    let state: Vec<&str> = state.into_iter().flatten().map(String::as_str).collect();
    let state = Some(state.join(" ")).filter(|text| !text.is_empty());
    let parts = [&place.street, &place.city, &state];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    let line = Some(parts.join(", ")).filter(|text| !text.is_empty());
    let both = [line.as_deref(), place.phone.as_deref()];
    both.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// The page again, after a form of it was accepted.
pub fn done(member: &Member, what: &str, section: &str) -> Response {
    super::see_other(&done_path(member, what, section))
}

/// Where it says so.
pub fn done_path(member: &Member, what: &str, section: &str) -> String {
    format!(
        "/dashboard/settings?seller={}&done={what}#{section}",
        member.slug()
    )
}
