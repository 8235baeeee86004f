//! The keys by which GitHub signs, fetched from where it publishes them and kept for a day.
//!
//! They are fetched when a signed request comes and there are none yet, or those that there are do not know the key that it
//! names; whatever comes, once a minute at most. The list is small, so one that is large or slow is none.
//!
//! A fetch that was begun is done to its end, whoever waits for it: anybody can send what begins one, and if hanging up ended it,
//! nobody would ever have the keys.
//!
//! Never: a redirect followed, or a proxy asked; a list believed that is older than a day; a fetch for a request that is not
//! even signed in form; one that ends without being counted.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    figures::{Fetch, Figures},
    signature::{NotKeys, PublishedKey, published},
};
use crate::{
    clock::{BootTime, Clock},
    config::KeysUrl,
};

/// For how long a list is believed.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3_600);
/// From one fetch to the next, whatever became of it.
const PAUSE: Duration = Duration::from_secs(60);
/// How long a fetch may take, from the first byte to the last.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a list at most.
const LIST_BYTES_MAX: usize = 256 << 10;

/// See the module.
pub struct Published {
    url: KeysUrl,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    keys: Vec<PublishedKey>,
    /// When these were fetched.
    fetched: Option<BootTime>,
    /// When a fetch last began.
    tried: Option<BootTime>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the certificates that this system trusts cannot be read: {0}")]
    Roots(#[from] std::io::Error),
    #[error("the address cannot be asked: {0}")]
    Request(#[from] http::Error),
    #[error("no connection: {0}")]
    Connect(#[from] hyper_util::client::legacy::Error),
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the answer is too large or broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    NotKeys(#[from] NotKeys),
    #[error("no answer within {} s", FETCH_TIMEOUT.as_secs())]
    Timeout,
}

/// There are no keys at present by which a signature could be judged.
#[derive(Debug, thiserror::Error)]
#[error("GitHub's keys are not known at present")]
pub struct NotKnown;

impl Published {
    /// Nothing is fetched before somebody asks.
    pub fn new(url: KeysUrl) -> Self {
        Self {
            url,
            kept: Arc::default(),
        }
    }

    /// The current keys, fetched anew if they must be to know the one of this name. Whoever asks while a fetch is under way
    /// waits for it.
    pub async fn keys(
        &self,
        identifier: &str,
        clock: &Clock,
        figures: &Arc<Figures>,
    ) -> Result<Vec<PublishedKey>, NotKnown> {
        let mut kept = Arc::clone(&self.kept).lock_owned().await;
        let now = clock.boot();
        let is_fresh = |kept: &Kept| {
            let fetched = kept.fetched;
            fetched.is_some_and(|fetched| now.since(fetched) < KEPT_FOR)
        };
        let is_known = kept.keys.iter().any(|key| key.is(identifier));
        let may_try = kept.tried.is_none_or(|tried| now.since(tried) >= PAUSE);
        if !(is_fresh(&kept) && is_known) && may_try {
            kept.tried = Some(now);
            // On a task of its own, which holds the list until it has the new one: this request may be dropped at any moment.
            let fetching = fill(kept, self.url.clone(), Arc::clone(figures), now);
            kept = tokio::spawn(fetching).await.map_err(|error| {
                tracing::error!(%error, "a fetch of GitHub's public keys ended unexpectedly");
                figures.fetched(Fetch::Failed);
                NotKnown
            })?;
        }
        if is_fresh(&kept) {
            Ok(kept.keys.clone())
        } else {
            Err(NotKnown)
        }
    }
}

/// Fetches the keys into the list, if they can be had, and counts it.
async fn fill(
    mut kept: OwnedMutexGuard<Kept>,
    url: KeysUrl,
    figures: Arc<Figures>,
    now: BootTime,
) -> OwnedMutexGuard<Kept> {
    match fetch(&url).await {
        Ok(keys) => {
            figures.fetched(Fetch::Done);
            tracing::info!(keys = keys.len(), "GitHub's public keys were fetched");
            kept.keys = keys;
            kept.fetched = Some(now);
        }
        Err(error) => {
            figures.fetched(Fetch::Failed);
            tracing::warn!(%error, %url, "GitHub's public keys cannot be fetched");
        }
    }
    kept
}

async fn fetch(url: &KeysUrl) -> Result<Vec<PublishedKey>, FetchError> {
    match tokio::time::timeout(FETCH_TIMEOUT, fetch_now(url)).await {
        Ok(fetched) => fetched,
        Err(_) => Err(FetchError::Timeout),
    }
}

async fn fetch_now(url: &KeysUrl) -> Result<Vec<PublishedKey>, FetchError> {
    // In the clear only where the option admits it: to this machine.
    let connector = HttpsConnectorBuilder::new().with_native_roots()?;
    let connector = connector.https_or_http().enable_http1().build();
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let request = Request::get(url.as_str())
        .header(header::ACCEPT, "application/json")
        // GitHub answers nobody without a name.
        .header(
            header::USER_AGENT,
            concat!("truckradar/", env!("CARGO_PKG_VERSION")),
        )
        .body(Empty::<Bytes>::new())?;
    let answer = client.request(request).await?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status()));
    }
    let body = Limited::new(answer.into_body(), LIST_BYTES_MAX).collect();
    let body = body.await.map_err(FetchError::Body)?;
    Ok(published(&body.to_bytes())?)
}
