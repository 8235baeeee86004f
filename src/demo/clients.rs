//! The demo's clients: three made-up programs that call the API as a dealer's would, so that there is something to rotate.
//!
//! Two of them follow the rule in the documentation: they also know the next key, from a file that stands for the dealer's
//! secret manager, and change over to it on 401. The third has its key from somewhere that everybody forgot.
//!
//! Never: anything that a client outside could not do; a key in a log.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{io::AsyncReadExt, task::JoinSet, time::MissedTickBehavior};
use zeroize::Zeroizing;

use super::EXAMPLE_VIN;
use crate::keys::format::SecretKey;

/// So much of the file is read; a key has 46 characters.
const FILE_BYTES_MAX: u64 = 4_096;
/// An answer that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a made-up client is.
struct Kind {
    /// Where it calls from, if the system lets it.
    address: Ipv4Addr,
    user_agent: &'static str,
    every: Duration,
    /// Whether it knows of the file.
    knows_next: bool,
}

/// Each with a pace of its own, as programs are; together they leave room in the key's fair use for whoever tries things out.
/// The one that was forgotten is the quickest, as it is the one that people wait to see.
const KINDS: [Kind; 3] = [
    Kind {
        address: Ipv4Addr::new(127, 0, 0, 14),
        user_agent: "dms-sync/4.2",
        every: Duration::from_millis(5_500),
        knows_next: true,
    },
    Kind {
        address: Ipv4Addr::new(127, 0, 0, 15),
        user_agent: "price-feed/1.9",
        every: Duration::from_secs(5),
        knows_next: true,
    },
    Kind {
        address: Ipv4Addr::new(127, 0, 0, 16),
        user_agent: "yard-kiosk/0.7",
        every: Duration::from_secs(3),
        knows_next: false,
    },
];

/// Lets the clients call the server with this key until the set is dropped; `next_key` is the file in which two of them look
/// for another one.
pub fn start(api: SocketAddr, key: &str, next_key: &Path) -> JoinSet<()> {
    let mut running = JoinSet::new();
    for kind in KINDS {
        let client = MadeUp {
            http: http_client(kind.address, api),
            api,
            key: Zeroizing::new(key.to_owned()),
            other: None,
            next_key: kind.knows_next.then(|| next_key.to_owned()),
            user_agent: kind.user_agent,
        };
        running.spawn(client.run(kind.every));
    }
    running
}

struct MadeUp {
    http: Client<HttpConnector, Empty<&'static [u8]>>,
    api: SocketAddr,
    /// The key that worked last.
    key: Zeroizing<String>,
    /// The other one that it holds.
    other: Option<Zeroizing<String>>,
    next_key: Option<PathBuf>,
    user_agent: &'static str,
}

impl MadeUp {
    async fn run(mut self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.call().await;
        }
    }

    /// One call, with the key that worked last; on 401 with the other one; and if that is refused too, once more with the
    /// first: it may have been cut over in between.
    async fn call(&mut self) {
        for _ in 0..3 {
            let refused = self.ask().await == Some(StatusCode::UNAUTHORIZED);
            if !refused || !self.change_over().await {
                return;
            }
        }
    }

    /// The status of one request; `None` if there was no answer.
    async fn ask(&self) -> Option<StatusCode> {
        let request = Request::get(format!(
            "http://{}/api/v1/inventory/{EXAMPLE_VIN}",
            self.api
        ))
        .header(header::USER_AGENT, self.user_agent)
        .header(header::AUTHORIZATION, format!("Bearer {}", *self.key))
        .body(Empty::new())
        .ok()?;
        let answer = async {
            let answer = self.http.request(request).await.ok()?;
            let status = answer.status();
            // Read to its end, so that the connection can be used again.
            answer.into_body().collect().await.ok()?;
            Some(status)
        };
        tokio::time::timeout(PATIENCE, answer).await.ok().flatten()
    }

    /// Takes the other key, if there is one; the file is where a newer one would be.
    async fn change_over(&mut self) -> bool {
        let Some(file) = &self.next_key else {
            return false;
        };
        if let Some(next) = read_key(file).await
            && next != self.key
        {
            self.other = Some(next);
        }
        let Some(other) = self.other.take() else {
            return false;
        };
        self.other = Some(std::mem::replace(&mut self.key, other));
        true
    }
}

/// The first key in a file, whatever stands around it.
async fn read_key(file: &Path) -> Option<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let file = tokio::fs::File::open(file).await.ok()?;
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .await
        .ok()?;
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut keys = words.filter(|word| SecretKey::parse(word.as_bytes()).is_ok());
    keys.next().map(|key| Zeroizing::new(key.to_owned()))
}

/// A client that calls from this address of the machine itself, if the system has it (Linux has all of 127.0.0.0/8) and the
/// server is where it leads: nothing of IPv6 is reached from an address of IPv4.
fn http_client(address: Ipv4Addr, api: SocketAddr) -> Client<HttpConnector, Empty<&'static [u8]>> {
    let mut connector = HttpConnector::new();
    let address = IpAddr::from(address);
    if api.is_ipv4() && std::net::TcpListener::bind((address, 0)).is_ok() {
        connector.set_local_address(Some(address));
    }
    Client::builder(TokioExecutor::new()).build(connector)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::limits::Policy;

    #[test]
    fn together_they_leave_a_quarter_of_the_fair_use() {
        let a_minute: f64 = KINDS
            .iter()
            .map(|kind| 60.0 / kind.every.as_secs_f64())
            .sum();
        let fair = Policy::Default.quota() as f64;
        assert!(a_minute < 0.75 * fair, "{a_minute}");
    }

    #[tokio::test]
    async fn they_reach_a_server_on_either_loopback() {
        for server in ["127.0.0.1:0", "[::1]:0"] {
            let listener = tokio::net::TcpListener::bind(server).await.expect("binds");
            let api = listener.local_addr().expect("is bound");
            let folder = tempfile::tempdir().expect("a folder");
            let _clients = start(api, "a key", &folder.path().join("next-key"));
            let mut from = Vec::new();
            for _ in KINDS {
                let came = tokio::time::timeout(PATIENCE, listener.accept()).await;
                from.push(came.expect("in time").expect("a connection").1.ip());
            }
            from.sort();
            from.dedup();
            let told_apart = cfg!(target_os = "linux") && api.is_ipv4();
            assert_eq!(from.len(), if told_apart { 3 } else { 1 }, "{from:?}");
        }
    }
}
