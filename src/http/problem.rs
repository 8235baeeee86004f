//! What goes wrong in front of a person: a page with what happened, what it means, what to do, and the request's id.
//!
//! A handler returns a [`Problem`]; [`super::edge`] writes the page when it knows the request's id. What went wrong outside
//! of any page (an unknown path, a wrong method, a request from another site) becomes one too, for a browser.
//!
//! Never: an inner error's text on a page.

use std::{borrow::Cow, time::Duration};

use askama::Template;
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::pages::{Page, Shell};
use crate::{
    accounts::{
        passwords::PasswordError,
        people::PersonError,
        sessions::{Member, Session},
    },
    db::{DbError, Fenced},
};

/// Where most ways on lead; which dealer's, [`Problem::about`] says.
const SETTINGS: &str = "/dashboard/settings";
/// Where somebody who works for several dealers chooses one.
const CHOOSE: &str = "/dashboard/keys";

/// See the module.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    title: &'static str,
    text: Cow<'static, str>,
    /// Where to go on, and what that is called.
    way_on: Option<(Cow<'static, str>, &'static str)>,
    /// Somebody who must sign in first is sent there instead of being shown a page.
    redirect: Option<Box<str>>,
    /// Who is signed in, for the way out.
    email: Option<Box<str>>,
}

impl Problem {
    /// A page with a title and a text.
    pub fn new(
        status: StatusCode,
        title: &'static str,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            title,
            text: text.into(),
            way_on: None,
            redirect: None,
            email: None,
        }
    }

    /// For somebody who is signed in, who then can sign out from here.
    pub fn for_person(mut self, session: &Session) -> Self {
        self.email = Some(session.email().into());
        self
    }

    /// Where to go on.
    pub fn with_way_on(mut self, path: impl Into<Cow<'static, str>>, label: &'static str) -> Self {
        self.way_on = Some((path.into(), label));
        self
    }

    /// Sign in first, then come back.
    pub fn sign_in_first(next: &str) -> Self {
        let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
        Self {
            redirect: Some(format!("/login?next={next}").into()),
            ..Self::new(StatusCode::SEE_OTHER, "Sign in", "Sign in first.")
        }
    }

    /// No dealer is named, and the person works for several.
    pub fn choose_dealer() -> Self {
        Self {
            redirect: Some(CHOOSE.into()),
            ..Self::new(StatusCode::SEE_OTHER, "Choose a dealer", "Choose a dealer.")
        }
    }

    /// Of a page or a form about this Seller: the way to Settings is the one to its own.
    pub fn about(mut self, member: &Member) -> Self {
        if let Some((path, _)) = &mut self.way_on
            && path == SETTINGS
        {
            *path = format!("{SETTINGS}?seller={}", member.slug()).into();
        }
        self
    }

    /// The person is no member of that dealer.
    pub fn other_dealers() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "Not one of your dealers",
            "You are not a member of this dealer account, or no longer. An owner of the account can invite you.",
        )
        .with_way_on("/dashboard", "Go to your dashboard")
    }

    /// The person's role does not reach that far.
    pub fn role_forbids() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "Your role does not allow this",
            "Nothing was changed. An owner of the dealer account can do this, or give you a role that may.",
        )
        .with_way_on(SETTINGS, "Go back to Settings")
    }

    /// The marketplace lets the account do nothing at present.
    pub fn inactive() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "This account is suspended or closed",
            "Nothing was changed. Settings says why. The marketplace alone can let the account go on.",
        )
        .with_way_on(SETTINGS, "Go back to Settings")
    }

    /// An owner demands a second factor of whoever acts, and the person has none.
    pub fn factor_wanted(member: &Member) -> Self {
        let path = format!("/dashboard/settings?seller={}#second-factor", member.slug());
        Self::new(
            StatusCode::FORBIDDEN,
            "This needs a second factor",
            format!(
                "Nothing was changed. The owners of {} have decided that whoever acts for it signs in with a second factor, and \
                 you have none. Set one up in Settings, which takes a minute; until then you can look at everything.",
                member.name()
            ),
        )
        .with_way_on(path, "Set up a second factor")
    }

    /// Something that may work again later. The cause goes to the log.
    pub fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "This cannot be done at present",
            "The reason is on our side. Wait a moment, then try again. If it goes on, tell us the request id below.",
        )
    }

    /// A defect of ours. The cause goes to the log.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something went wrong on our side",
            "Look at the page you came from to see whether the change was made. If it goes on, tell us the request id below.",
        )
    }

    /// What stands in the middle of the page, for one that was begun before this went wrong.
    pub fn part(&self, request_id: &str) -> String {
        let page = self.told(request_id);
        match page.as_main().render() {
            Ok(part) => part,
            Err(error) => {
                tracing::error!(%error, "a page cannot be written");
                String::new()
            }
        }
    }

    fn told<'a>(&'a self, request_id: &'a str) -> ProblemPage<'a> {
        ProblemPage {
            shell: Shell::of_problem(self.title, self.email.as_deref()),
            problem: self,
            request_id,
        }
    }

    /// The page, with the id by which the log knows the request.
    pub fn page(&self, request_id: &str) -> Response {
        let mut response = Page::with_status(self.status, &self.told(request_id));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::REQUEST_TIMEOUT {
            // What comes too late must not be taken for the next request.
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[derive(Template)]
#[template(path = "problem.html", blocks = ["main"])]
struct ProblemPage<'a> {
    shell: Shell,
    problem: &'a Problem,
    request_id: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if let Some(to) = &self.redirect {
            return super::pages::see_other(to);
        }
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Whether a request's sender shows pages.
pub fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("text/html"))
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Fenced(Fenced::Inactive) => Self::inactive(),
            // Removed, or made a viewer, between the page and here.
            DbError::Fenced(_) => Self::role_forbids(),
            DbError::Unique | DbError::Unavailable(_) => {
                tracing::warn!(%error, "the database is not available");
                Self::unavailable()
            }
            DbError::Damaged(_) | DbError::Schema(_) | DbError::TooOld | DbError::Internal(_) => {
                tracing::error!(%error, "a database call failed");
                Self::internal()
            }
        }
    }
}

impl From<PersonError> for Problem {
    /// For what a page does not say beside its own form.
    fn from(error: PersonError) -> Self {
        match error {
            PersonError::Db(error) => error.into(),
            PersonError::NotAllowed => Self::role_forbids(),
            PersonError::SignedOut => Self::sign_in_first(SETTINGS),
            PersonError::SignInOver => Self {
                redirect: Some("/login?done=over".into()),
                ..Self::new(StatusCode::SEE_OTHER, "Sign in", "Sign in anew.")
            },
            PersonError::DeadLink => Self::new(
                StatusCode::GONE,
                "This link works no more",
                "It was used already, taken back, or is too old. Ask whoever sent it for a new one.",
            )
            .with_way_on("/login", "Sign in"),
            PersonError::Password(PasswordError::Busy) => Self::unavailable(),
            PersonError::TooMany => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many attempts at once",
                "Wait a minute, then try again. Nobody's account is locked.",
            ),
            PersonError::CodesPaused(wait) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many codes were not right",
                codes_paused(wait),
            ),
            PersonError::NoRandomness(_) | PersonError::Password(PasswordError::Hash) => {
                tracing::error!(%error, "an act of a person's failed");
                Self::internal()
            }
            other => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "This cannot be done",
                format!("{}. Nothing was changed.", capital(&other.to_string())),
            ),
        }
    }
}

/// What is said while codes of a person's app are not looked at.
pub fn codes_paused(wait: Duration) -> String {
    let minutes = wait.as_secs().div_ceil(60).max(1);
    let minutes = match minutes {
        1 => "in a minute".to_owned(),
        minutes => format!("in {minutes} minutes"),
    };
    format!(
        "Many codes were given for this account that were not right. The next code of its app is looked at {minutes}, if nobody \
         gives a wrong one meanwhile; a recovery code works at once. If it was not you, set a new password: that shuts out \
         whoever has yours."
    )
}

/// A message as a sentence begins.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}
