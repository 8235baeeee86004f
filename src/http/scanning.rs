//! `POST /secret-scanning/github`: what GitHub's secret scanning found, by the protocol of its partner program.
//!
//! Never: a token looked at before GitHub's signature on the whole body was found good; a refusal that says what was wrong; a
//! list of GitHub's left half done because GitHub hung up; GitHub shut out by others who send slowly.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{Request, State as Shared},
    http::{HeaderMap, HeaderName},
    response::Response,
};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    State, api,
    body::read_small,
    caller::ClientAddress,
    error::{ApiError, Code},
};
use crate::{
    accounts::sign_in::network,
    leaks::{Alert, Label, signature::Signed},
};

const IDENTIFIER: HeaderName = HeaderName::from_static("github-public-key-identifier");
const SIGNATURE: HeaderName = HeaderName::from_static("github-public-key-signature");
/// Bytes of a body at most; a match takes some 300.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Matches of one request at most.
const ALERTS_MAX: usize = 1_000;
/// Bodies that are read or dealt with at the same time, which bounds the memory that they take: which keys GitHub has is
/// public, so anybody may come this far.
const PLACES: usize = 64;
/// Of one client, so that whoever sends slowly shuts out nobody but themselves.
const PLACES_OF_CLIENT: usize = 2;
/// How long a request waits for a place: GitHub waits for half a minute in all.
const PLACE_WAIT: Duration = Duration::from_secs(15);
/// Clients that are told apart before those without a place are forgotten.
const CLIENTS_MAX: usize = 1_000;

/// The places that are taken at present.
pub struct Places {
    all: Arc<Semaphore>,
    of_clients: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// One request's place: its client's, and one among all. Given back when it is dropped.
struct Place {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(PLACES)),
            of_clients: Mutex::default(),
        }
    }
}

impl Places {
    /// A place for a request of this client; `None` if there was none for too long.
    async fn place(&self, client: IpAddr) -> Option<Place> {
        let own = self.of_client(network(client));
        let both = async {
            // Its own first: whoever waits for that takes none from the others.
            let own = own.acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Place {
                _own: own,
                _of_all: of_all,
            })
        };
        tokio::time::timeout(PLACE_WAIT, both).await.ok().flatten()
    }

    fn of_client(&self, client: IpAddr) -> Arc<Semaphore> {
        let of_clients = &self.of_clients;
        let mut of_clients = of_clients.lock().unwrap_or_else(PoisonError::into_inner);
        if of_clients.len() >= CLIENTS_MAX {
            // Whoever has a place or waits for one holds a copy; there are no more of those than connections.
            of_clients.retain(|_, own| Arc::strong_count(own) > 1);
        }
        let own = of_clients.entry(client);
        Arc::clone(own.or_insert_with(|| Arc::new(Semaphore::new(PLACES_OF_CLIENT))))
    }
}

/// Kills what is a key of ours, and says of each match whether it is one.
pub async fn github(
    Shared(state): Shared<Arc<State>>,
    request: Request,
) -> Result<Response, ApiError> {
    let leaks = &state.services.leaks;
    let refused = || {
        leaks.refuse();
        ApiError::new(
            Code::Forbidden,
            "This address takes what GitHub's secret scanning sends and signs. To report a key that you found, use /keys/report.",
        )
    };
    let (parts, body) = request.into_parts();
    let signed = signed(&parts.headers).ok_or_else(refused)?;
    let keys = leaks.github_keys(&signed).await;
    let keys = keys.map_err(|_| ApiError::unavailable())?;
    if !keys.iter().any(|key| key.is(&signed.identifier)) {
        return Err(refused());
    }
    let client = parts.extensions.get::<ClientAddress>();
    let client = client.map_or(IpAddr::from([0, 0, 0, 0]), |ClientAddress(at)| *at);
    let place = state.scanning.place(client).await;
    let place = place.ok_or_else(ApiError::unavailable)?;
    let limits = state.services.settings.limits;
    let body = read_small(&parts.headers, body, BODY_BYTES_MAX, "1 MiB", limits).await?;
    if !signed.is_good(&keys, &body) {
        return Err(refused());
    }
    let not_understood = |what: &str| {
        let message = format!("{what} Nothing was changed.");
        ApiError::new(Code::ValidationError, message)
    };
    let alerts: Vec<Alert> = serde_json::from_slice(&body)
        .map_err(|_| not_understood("The body is no JSON list of matches."))?;
    if alerts.len() > ALERTS_MAX {
        return Err(not_understood("The body has more than 1,000 matches."));
    }
    match leaks.github(alerts, place).await {
        Ok(labels) => Ok(answer(&labels)),
        Err(error) => {
            tracing::error!(%error, "what GitHub found could not be dealt with; it is told to try again");
            Err(ApiError::unavailable())
        }
    }
}

/// Exactly one of each header.
fn signed(headers: &HeaderMap) -> Option<Signed> {
    let one = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    let (identifier, signature) = (one(&IDENTIFIER)?, one(&SIGNATURE)?);
    Signed::read(identifier.as_bytes(), signature.as_bytes())
}

/// The list that GitHub expects: `token_hash` and never `token_raw`, so that no key stands in an answer.
fn answer(labels: &[Label]) -> Response {
    let hex = |digest: &[u8; 32]| -> String { digest.iter().map(|b| format!("{b:02x}")).collect() };
    let label = |is_key| match is_key {
        true => "true_positive",
        false => "false_positive",
    };
    let list: Vec<_> = labels
        .iter()
        .map(|one| {
            json!({
                "token_hash": hex(&one.digest), "token_type": one.kind, "label": label(one.is_key),
            })
        })
        .collect();
    api::body(json!(list).to_string())
}
