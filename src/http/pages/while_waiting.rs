//! A page that is begun before its act has ended: while a change of keys or grants waits for a node, the browser shows for which, and
//! for how long at most. It needs no script: what is said last takes the place of what was said before, by the stylesheet.
//!
//! Never: a page begun before the change is committed, or while there is nobody to name; an act that depends on whether
//! anybody reads the rest.

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use askama::Template;
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use tokio::sync::watch;

use super::{
    super::{State, caller::SignedIn, problem::Problem},
    Shell, html,
    shell::Section,
};
use crate::{
    accounts::sessions::Member,
    clock::Clock,
    ids::SellerId,
    keys::revocation::{Waiting, Whom},
};

/// A change that waits for longer is told of; the usual one is not worth a page.
const USUAL_WAIT: Duration = Duration::from_millis(200);
/// Where the page is cut in two. Nothing that anybody wrote is on a page unescaped, so it is there once.
const CUT: &str = "<!-- the rest -->";

/// What became of an act, fit to be a page of its own or the rest of one that was begun.
pub enum Outcome {
    /// A page.
    Shown {
        /// Its status, where it is a page of its own.
        status: StatusCode,
        /// The whole.
        page: String,
        /// What stands in its middle.
        rest: String,
    },
    /// Another page says it.
    SeeOther {
        /// Its path.
        path: String,
        /// What is said instead where the browser can be sent there no more.
        title: &'static str,
        /// The same, as a sentence.
        text: String,
        /// What the way to that page is called then.
        label: &'static str,
    },
    /// A form that could not be accepted, shown again.
    Wrong {
        /// The page with the form.
        page: Response,
        /// Its path, where the browser can be shown it no more.
        path: String,
        /// What was wrong, as a sentence.
        text: String,
    },
}

impl Outcome {
    /// A page, and its middle.
    pub fn shown(
        status: StatusCode,
        page: &impl Template,
        rest: &impl Template,
    ) -> Result<Self, Problem> {
        match (page.render(), rest.render()) {
            (Ok(page), Ok(rest)) => Ok(Self::Shown { status, page, rest }),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "a page cannot be written");
                Err(Problem::internal())
            }
        }
    }

    fn rest(self) -> Result<String, Problem> {
        match self {
            Self::Shown { rest, .. } => Ok(rest),
            Self::SeeOther {
                path,
                title,
                text,
                label,
            } => Done {
                path,
                title,
                text,
                label,
            }
            .part(),
            Self::Wrong { path, text, .. } => Done {
                path,
                title: "Nothing was changed",
                text,
                label: "Go back to Settings",
            }
            .part(),
        }
    }
}

impl IntoResponse for Outcome {
    fn into_response(self) -> Response {
        match self {
            Self::Shown { status, page, .. } => html(status, page),
            Self::SeeOther { path, .. } => super::see_other(&path),
            Self::Wrong { page, .. } => page,
        }
    }
}

#[derive(Template)]
#[template(path = "waiting.html")]
struct WaitingPage {
    shell: Shell,
}

#[derive(Template)]
#[template(path = "waiting_for.html")]
struct WaitingFor<'a> {
    sentence: &'a str,
    meanwhile: &'a str,
}

#[derive(Template)]
#[template(path = "waited_for.html")]
struct Done {
    path: String,
    title: &'static str,
    text: String,
    label: &'static str,
}

impl Done {
    fn part(&self) -> Result<String, Problem> {
        self.render().map_err(|error| {
            tracing::error!(%error, "a page cannot be written");
            Problem::internal()
        })
    }
}

/// What is said while an act waits whose answer shows no key.
pub const OUTCOME_FOLLOWS: &str = "This page says when it is done.";

/// Answers with what becomes of an act, or, when its change waits for longer than usual, with a page that says so and ends
/// with what became of it. That page's status is 200 whatever it ends with. `meanwhile` is what to do until then.
pub async fn answer(
    state: &Arc<State>,
    caller: &SignedIn,
    member: &Member,
    meanwhile: &'static str,
    act: impl Future<Output = Result<Outcome, Problem>> + Send + 'static,
) -> Result<Response, Problem> {
    let mut waiting = state.services.keys.revocation.waiting();
    let seller = member.scope().seller();
    let mut act = Box::pin(act);
    tokio::select! {
        outcome = &mut act => return outcome.map(IntoResponse::into_response),
        () = waits_for_long(&mut waiting, seller) => {}
    }
    let shell = Shell::inside("Settings", Section::Settings, &caller.session, member);
    let page = WaitingPage { shell }.render();
    let (begin, end) = page
        .as_deref()
        .ok()
        .and_then(|page| page.split_once(CUT))
        .ok_or_else(Problem::internal)?;
    let begun = Begun {
        act,
        member: member.clone(),
        seller,
        waiting,
        clock: state.services.clock,
        said: None,
        meanwhile,
        begin: Some(begin.to_owned()),
        end: Some(end.to_owned()),
        request_id: caller.request_id.clone(),
    };
    let parts = stream::unfold(begun, |mut begun| async move {
        let part = begun.next().await?;
        Some((Ok::<_, Infallible>(part), begun))
    });
    let mut response = html(StatusCode::OK, Body::from_stream(parts));
    // nginx holds answers back until they are complete, unless it is told not to.
    let headers = response.headers_mut();
    let name = HeaderName::from_static("x-accel-buffering");
    headers.insert(name, HeaderValue::from_static("no"));
    Ok(response)
}

/// Returns when a change of this Seller's keys has waited for longer than usual and still does.
async fn waits_for_long(waiting: &mut watch::Receiver<Vec<Waiting>>, seller: SellerId) {
    let waits = |all: &Vec<Waiting>| all.iter().any(|change| change.seller == seller);
    loop {
        // It has no end: the process that waits is this one.
        let _ = waiting.wait_for(waits).await;
        tokio::time::sleep(USUAL_WAIT).await;
        if waits(&waiting.borrow()) {
            return;
        }
    }
}

/// A page on its way.
struct Begun {
    act: Pin<Box<dyn Future<Output = Result<Outcome, Problem>> + Send>>,
    member: Member,
    seller: SellerId,
    waiting: watch::Receiver<Vec<Waiting>>,
    clock: Clock,
    /// Who was named last.
    said: Option<Whom>,
    meanwhile: &'static str,
    begin: Option<String>,
    /// Gone when the page has ended.
    end: Option<String>,
    request_id: String,
}

impl Begun {
    /// The next part of the page; `None` at its end.
    async fn next(&mut self) -> Option<String> {
        if let Some(begin) = self.begin.take() {
            return Some(begin + &self.sentence().unwrap_or_default());
        }
        self.end.as_ref()?;
        loop {
            tokio::select! {
                outcome = &mut self.act => {
                    let rest = outcome.and_then(Outcome::rest);
                    let told = |problem: Problem| problem.about(&self.member).part(&self.request_id);
                    let rest = rest.unwrap_or_else(told);
                    return self.end.take().map(|end| rest + &end);
                }
                _ = self.waiting.changed() => {
                    if let Some(sentence) = self.sentence() {
                        return Some(sentence);
                    }
                }
            }
        }
    }

    /// Who is waited for, if that was not said yet.
    fn sentence(&mut self) -> Option<String> {
        let all = self.waiting.borrow_and_update();
        let own = all.iter().filter(|change| change.seller == self.seller);
        // Of two changes the later one is the longer wait.
        let change = own.max_by_key(|change| change.until)?;
        if self.said.as_ref() == Some(&change.whom) {
            return None;
        }
        self.said = Some(change.whom.clone());
        let line = WaitingFor {
            sentence: &change.in_words(self.clock.boot()),
            meanwhile: self.meanwhile,
        };
        line.render().ok()
    }
}
