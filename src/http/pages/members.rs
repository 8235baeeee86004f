//! Settings → Members: who may act for a Seller.
//!
//! Never: an invitation's link on any page but the answer to the act that made it.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State as Shared,
    response::{IntoResponse, Response},
};

use super::{
    super::{
        State,
        caller::SignedIn,
        form::{Fields, Form},
        problem::{Problem, capital},
    },
    Page, Shell, see_other,
    settings::{self, Typed, Wrong},
    shell::Section,
    step_up::{Act, with_recent_password},
};
use crate::{
    accounts::{Email, Role, links, people::PersonError, sessions::Member},
    ids::UserId,
};

/// The section of the page.
const SECTION: &str = "members";

#[derive(Template)]
#[template(path = "invited.html")]
struct InvitedPage {
    shell: Shell,
    slug: String,
    name: String,
    email: String,
    role: &'static str,
    link: String,
}

/// Makes an invitation and mails its link, or shows it once where no mail is sent.
pub async fn invite(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.actor_of_form(&form)?;
    let (email, role) = match (
        form.text("email").parse::<Email>(),
        form.text("role").parse(),
    ) {
        (Ok(email), Ok(role)) => (email, role),
        (Err(error), _) | (_, Err(error)) => {
            let message = format!("{}.", capital(&error.to_string()));
            let typed = Typed::invitation(&form);
            return wrong(&state, &caller, &member, message, typed).await;
        }
    };
    let act = Act {
        path: "/dashboard/settings/members/invite",
        button: &format!("Invite {email} to {}", member.name()),
        danger: false,
        is_ones_own: false,
    };
    let work = make_invitation(&state, &caller, &member, &email, role);
    with_recent_password(&state, &caller, &member, &form, act, work).await
}

async fn make_invitation(
    state: &State,
    caller: &SignedIn,
    member: &Member,
    email: &Email,
    role: Role,
) -> Result<Response, Problem> {
    let services = &state.services;
    let people = &services.people;
    if services.settings.mails_links {
        let done = people.invite_by_mail(member.scope(), email, role).await;
        return finish(state, caller, member, "mailed", done).await;
    }
    match people.invite(member.scope(), email, role).await {
        Ok(token) => Ok(Page(InvitedPage {
            shell: Shell::inside("Invitation", Section::Settings, &caller.session, member),
            slug: member.slug().to_owned(),
            name: member.name().to_owned(),
            email: email.to_string(),
            role: role.as_str(),
            link: links::invitation(&services.settings.base_url, &token),
        })
        .into_response()),
        Err(error) => refused(state, caller, member, error).await,
    }
}

/// Takes an invitation back.
pub async fn uninvite(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.actor_of_form(&form)?;
    let Ok(email) = form.text("email").parse::<Email>() else {
        let message = "That is not an invitation.".to_owned();
        return wrong(&state, &caller, &member, message, Typed::Nothing).await;
    };
    let act = Act {
        path: "/dashboard/settings/members/uninvite",
        button: &format!("Take back the invitation of {email}"),
        danger: true,
        is_ones_own: false,
    };
    let people = &state.services.people;
    let work = async {
        let done = people.take_invitation_back(member.scope(), &email).await;
        finish(&state, &caller, &member, "uninvited", done).await
    };
    with_recent_password(&state, &caller, &member, &form, act, work).await
}

/// Changes a member's role.
pub async fn set_role(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.actor_of_form(&form)?;
    let (Ok(user), Ok(role)) = (user_of(&form), form.text("role").parse::<Role>()) else {
        let message = "Choose a member and a role.".to_owned();
        return wrong(&state, &caller, &member, message, Typed::Nothing).await;
    };
    let act = Act {
        path: "/dashboard/settings/members/role",
        button: &format!("Change the role to {}", role.as_str()),
        danger: false,
        is_ones_own: false,
    };
    let people = &state.services.people;
    let work = async {
        let done = people.set_role(member.scope(), user, role).await;
        finish(&state, &caller, &member, "role", done).await
    };
    with_recent_password(&state, &caller, &member, &form, act, work).await
}

/// Removes a member.
pub async fn remove(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.actor_of_form(&form)?;
    let Ok(user) = user_of(&form) else {
        let message = "Choose a member.".to_owned();
        return wrong(&state, &caller, &member, message, Typed::Nothing).await;
    };
    let act = Act {
        path: "/dashboard/settings/members/remove",
        button: &format!("Remove the member from {}", member.name()),
        danger: true,
        is_ones_own: false,
    };
    let people = &state.services.people;
    let work = async {
        let done = people.remove_member(member.scope(), user).await;
        if done.is_ok() && user == caller.session.user() {
            // Settings of this Seller are no longer theirs to see.
            return Ok(see_other("/dashboard"));
        }
        finish(&state, &caller, &member, "removed", done).await
    };
    with_recent_password(&state, &caller, &member, &form, act, work).await
}

/// Demands a second factor of whoever acts for the Seller, or leaves it to them.
pub async fn require_factor(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.actor_of_form(&form)?;
    let required = match form.text("required") {
        "yes" => true,
        "no" => false,
        _ => {
            let message = "Say whether a second factor is demanded.".to_owned();
            return wrong(&state, &caller, &member, message, Typed::Nothing).await;
        }
    };
    let (button, what) = match required {
        true => ("Demand a second factor of members of", "factor-demanded"),
        false => (
            "Let members act without a second factor for",
            "factor-optional",
        ),
    };
    let act = Act {
        path: "/dashboard/settings/members/second-factor",
        button: &format!("{button} {}", member.name()),
        danger: false,
        is_ones_own: false,
    };
    let people = &state.services.people;
    let work = async {
        let done = people.require_second_factor(member.scope(), required).await;
        finish(&state, &caller, &member, what, done).await
    };
    with_recent_password(&state, &caller, &member, &form, act, work).await
}

fn user_of(form: &Fields) -> Result<UserId, ()> {
    form.text("user").parse().map_err(drop)
}

async fn finish(
    state: &State,
    caller: &SignedIn,
    member: &Member,
    what: &str,
    done: Result<(), PersonError>,
) -> Result<Response, Problem> {
    match done {
        Ok(()) => Ok(settings::done(member, what, SECTION)),
        Err(error) => refused(state, caller, member, error).await,
    }
}

async fn refused(
    state: &State,
    caller: &SignedIn,
    member: &Member,
    error: PersonError,
) -> Result<Response, Problem> {
    match error {
        PersonError::IsMember(_)
        | PersonError::LastOwner
        | PersonError::NoSuchMember
        | PersonError::InvitedTooMany
        | PersonError::InvitedTooOften(_)
        | PersonError::NoFactor => {
            let message = format!("{}.", capital(&error.to_string()));
            wrong(state, caller, member, message, Typed::Nothing).await
        }
        other => Err(other.into()),
    }
}

async fn wrong(
    state: &State,
    caller: &SignedIn,
    member: &Member,
    message: String,
    typed: Typed,
) -> Result<Response, Problem> {
    settings::show_wrong(state, caller, member, Wrong::new(SECTION, message), typed).await
}
