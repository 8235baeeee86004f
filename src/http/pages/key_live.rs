//! Settings → API Key as it is at this moment: a stream of server-sent events, each with the parts of the page that change.
//!
//! The parts are written by the same template as the page itself, which is complete without a script.
//!
//! Never: an event for somebody whose session has ended, or who is no member any more; a stream that keeps a session from
//! running out, or the server from stopping; a database asked more than a tenth of the time by one stream.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use askama::Template;
use axum::{
    extract::State as Shared,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::stream;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    super::{State, caller::Watching, form::Query, problem::Problem},
    key_view::{KeyState, KeyView, Origin, ProgressView, SignView},
};
use crate::{accounts::sessions::Session, ids::UserId, keys::clients::CLIENTS_PER_KEY_AND_HOUR};

/// Streams at once.
const STREAMS_MAX: usize = 500;
/// Streams of one User at once; browsers open six connections to one host.
const STREAMS_PER_USER_MAX: usize = 6;
/// Streams that read at once: the others wait, so that pages and sign-ins find the database free.
const READING_MAX: usize = 2;
/// After an event, nothing is read for so many times as long as reading took.
const REST: u32 = 10;
/// But for this long at least.
const REST_MIN: Duration = Duration::from_secs(1);
/// A browser that lost its stream tries again after this long.
const RETRY: Duration = Duration::from_secs(5);

/// The parts of the page that change. Also part of `settings.html`.
#[derive(Template)]
#[template(path = "key_live.html")]
struct Parts {
    key: KeyView,
    /// The version of the key when the page was opened; its forms are about that one.
    opened_version: i64,
}

/// The streams that are open.
pub struct Streams {
    all: Arc<Semaphore>,
    reading: Semaphore,
    of_user: Mutex<HashMap<UserId, usize>>,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(STREAMS_MAX)),
            reading: Semaphore::new(READING_MAX),
            of_user: Mutex::default(),
        }
    }
}

impl Streams {
    /// A place for one more of this User's; `None` if there are too many.
    fn place(self: &Arc<Self>, user: UserId) -> Option<Place> {
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let mut of_user = self.of_user.lock().unwrap_or_else(PoisonError::into_inner);
        let own = of_user.entry(user).or_default();
        if *own >= STREAMS_PER_USER_MAX {
            return None;
        }
        *own += 1;
        Some(Place {
            streams: Arc::clone(self),
            user,
            _permit: permit,
        })
    }
}

/// One stream's place among all; given back when it ends, however it ends.
struct Place {
    streams: Arc<Streams>,
    user: UserId,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let of_user = &self.streams.of_user;
        let mut of_user = of_user.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = of_user.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                of_user.remove(&self.user);
            }
        }
    }
}

/// One stream on its way.
struct Watch {
    state: Arc<State>,
    session: Session,
    slug: String,
    opened_version: i64,
    /// Not before this is the database asked again.
    rested: Option<Instant>,
    _place: Place,
}

/// The stream.
pub async fn watch(
    Shared(state): Shared<Arc<State>>,
    Watching(caller): Watching,
    Query(query): Query,
) -> Result<Response, Problem> {
    let member = caller.member_of_page(&query)?;
    let place = state.streams.place(caller.session.user());
    let place = place.ok_or_else(|| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many live views",
            "Close some tabs, or reload the page to see the present state.",
        )
    })?;
    let watch = Watch {
        slug: member.slug().to_owned(),
        opened_version: query.text("version").parse().unwrap_or_default(),
        session: caller.session,
        state,
        rested: None,
        _place: place,
    };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    let mut response = Sse::new(events).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx holds answers back until they are complete, unless it is told not to.
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(response)
}

impl Watch {
    /// The next event; `None` when the stream is over.
    async fn next(&mut self) -> Option<Event> {
        let mut stopping = self.state.stopping.clone();
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => None,
            event = self.read_next() => event,
        }
    }

    async fn read_next(&mut self) -> Option<Event> {
        if let Some(rested) = self.rested {
            let mut written = self.state.services.keys.usage.written();
            tokio::time::sleep_until(rested).await;
            // What was counted reaches the database in batches; between two there is nothing new.
            written.changed().await.ok()?;
        }
        let streams = Arc::clone(&self.state.streams);
        let _reading = streams.reading.acquire().await.ok()?;
        let began = Instant::now();
        let event = match self.read().await {
            Ok(event) => event?,
            Err(problem) => {
                tracing::warn!(?problem, "a live view cannot be read");
                return None;
            }
        };
        let rest = (began.elapsed() * REST).max(REST_MIN);
        self.rested = Some(Instant::now() + rest);
        Some(event)
    }

    /// `None` if whoever watches may not any more.
    async fn read(&mut self) -> Result<Option<Event>, Problem> {
        let services = &self.state.services;
        let Some(session) = services.people.still_there(&self.session).await? else {
            return Ok(None);
        };
        let Some(member) = session.member_by_slug(Some(&self.slug)) else {
            return Ok(None);
        };
        let parts = Parts {
            key: KeyView::look(&self.state, &member).await?,
            opened_version: self.opened_version,
        };
        self.session = session;
        let Ok(html) = parts.render() else {
            return Ok(None);
        };
        Ok(Some(Event::default().event("key").retry(RETRY).data(html)))
    }
}
