//! Changes of one Seller's keys, one after another, by the command line and by the dashboard of whichever node.
//!
//! A change that ends in an error may have taken place, or not; and it may yet take place while its transaction lives on in
//! the database. But it holds the owner's lock until its transaction ends, or, if it has not begun one yet, is decided on a
//! version of the key; so when a later change of the same Seller returns well, the earlier one has taken place before it, or
//! never will. So between the two the old key may be dead or not, and after that it is dead for sure.
//!
//! Never: a change of unknown outcome counted as one that took place, or as one that did not.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::{Method, header};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::sync::watch;

use super::clients::{Address, Stage};
use crate::{
    support::{
        binary::{PASSWORD, Place},
        client::{Answer, Client},
    },
    zero_window::judge::{Landed, Life, Span},
};

/// Calls that are awaited after each change, so that the clients get some in before the next one.
const CALLS_AFTER_EACH_CHANGE: u64 = 30;
/// Whoever presses the button goes away after this; a node may be frozen.
const DASHBOARD_PATIENCE: Duration = Duration::from_secs(6);

/// What became of a Seller's keys.
pub struct History {
    pub lives: Vec<Life>,
    pub landed: Vec<Landed>,
    pub changes: Vec<Change>,
}

/// One change, as its maker saw it.
#[derive(Clone, Debug)]
pub struct Change {
    pub what: &'static str,
    pub span: Span,
    /// What went wrong, if its outcome is not known.
    pub unknown: Option<String>,
    /// Whether it killed a key that clients have.
    pub killed: bool,
    /// Nodes that did not confirm but were waited for until their trust ran out.
    pub ran_out: usize,
}

/// Who changes the keys of one Seller.
pub struct Changer {
    pub stage: Arc<Stage>,
    pub place: Arc<Place>,
    /// The database itself, past every link.
    pub database: String,
    pub nodes: Vec<Address>,
    /// Counts the changes of all Sellers that have ended.
    pub ended: Arc<watch::Sender<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    GenerateByCommand,
    GenerateByDashboard(SocketAddr),
    Expire,
}

/// What a change that returned well says: the new key, and how many nodes did not confirm.
struct Done {
    key: Option<String>,
    ran_out: usize,
}

impl Changer {
    /// Changes keys until all is over. The first is a key, and the last returned well.
    pub async fn change_keys(self, seed: u64) -> History {
        let mut random = StdRng::seed_from_u64(seed);
        let mut history = History {
            lives: Vec::new(),
            landed: Vec::new(),
            changes: Vec::new(),
        };
        let mut database = None;
        // When the first change was asked for whose outcome is not known yet.
        let mut doubted: Option<Instant> = None;
        loop {
            let live = self.stage.keys.read().expect("not poisoned").live;
            let last = self.stage.enough.load(Ordering::Acquire);
            if last && doubted.is_none() {
                break;
            }
            let act = match live {
                None => Act::GenerateByCommand,
                Some(_) if last => Act::GenerateByCommand,
                Some(_) => self.choose(&mut random),
            };
            let invoked = Instant::now();
            let outcome = self.perform(act).await;
            let returned = Instant::now();
            let span = Span { invoked, returned };
            let change = Change {
                what: match act {
                    Act::GenerateByCommand => "generate by the command line",
                    Act::GenerateByDashboard(_) => "generate by a node's dashboard",
                    Act::Expire => "expire by the command line",
                },
                span,
                killed: outcome.is_ok() && live.is_some(),
                ran_out: outcome.as_ref().map_or(0, |done| done.ran_out),
                unknown: outcome.as_ref().err().cloned(),
            };
            history.changes.push(change);
            match outcome {
                Ok(Done { key, .. }) => {
                    if let Some(dead) = live {
                        // Read after the return: what is not seen here and is there in the end has landed too late.
                        let rows = self.rows_of(&mut database, dead).await;
                        history.landed[dead].at_return = rows;
                        let invoked = doubted.unwrap_or(invoked);
                        history.lives[dead].dead = Some(Span { invoked, returned });
                    }
                    doubted = None;
                    self.stage
                        .deaths
                        .fetch_add(usize::from(live.is_some()), Ordering::Relaxed);
                    let mut keys = self.stage.keys.write().expect("not poisoned");
                    keys.live = key.as_ref().map(|_| keys.made.len());
                    if let Some(key) = key {
                        keys.made.push(key);
                        history.landed.push(Landed::default());
                        history.lives.push(Life {
                            live: Some(span),
                            ..Life::default()
                        });
                        self.stage.handed_out.send_replace(keys.made.len());
                    }
                }
                Err(_) => doubted = doubted.or(Some(invoked)),
            }
            self.ended.send_modify(|ended| *ended += 1);
            if !history.lives.is_empty() && !last {
                self.stage.more_calls(CALLS_AFTER_EACH_CHANGE).await;
            }
        }
        for key in 0..history.landed.len() {
            let rows = self.rows_of(&mut database, key).await;
            history.landed[key].at_end = rows;
            if history.lives[key].dead.is_none() {
                history.landed[key].at_return = rows;
            }
        }
        history
    }

    fn choose(&self, random: &mut StdRng) -> Act {
        let node = &self.nodes[random.random_range(..self.nodes.len())];
        let at = *node.borrow();
        match (random.random_range(0..10), at) {
            (0..2, _) => Act::Expire,
            (2..6, Some(at)) => Act::GenerateByDashboard(at),
            _ => Act::GenerateByCommand,
        }
    }

    /// An error: in words, why nobody knows what came of it.
    async fn perform(&self, act: Act) -> Result<Done, String> {
        let slug = self.stage.slug;
        match act {
            Act::GenerateByCommand => self.command(&["key", "generate", "--seller", slug]).await,
            Act::Expire => {
                let expire = ["key", "expire", "--reason", "leaked", "--seller", slug];
                self.command(&expire).await
            }
            Act::GenerateByDashboard(at) => {
                let pressed = generate_by_dashboard(at, slug);
                match tokio::time::timeout(DASHBOARD_PATIENCE, pressed).await {
                    Ok(key) => key.map(|key| Done {
                        key: Some(key),
                        ran_out: 0,
                    }),
                    Err(_) => Err("the dashboard does not answer".into()),
                }
            }
        }
    }

    async fn command(&self, args: &[&'static str]) -> Result<Done, String> {
        let place = Arc::clone(&self.place);
        let args = [args, &["--json"]].concat();
        let output = tokio::task::spawn_blocking(move || place.run(&args, ""))
            .await
            .expect("no panic");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let told: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
        let nodes = told["receipt"]["nodes"].as_array().expect("a list");
        let ran_out = nodes
            .iter()
            .filter(|node| node["outcome"] == "trust_ran_out");
        Ok(Done {
            key: told["key"].as_str().map(str::to_owned),
            ran_out: ran_out.count(),
        })
    }

    /// How many rows a key's writes have left, read past every link; the server may be on its way up.
    async fn rows_of(&self, connection: &mut Option<PgConnection>, key: usize) -> i64 {
        const SQL: &str = "SELECT count(*) FROM listings l JOIN sellers s ON s.id = l.seller_id \
             WHERE s.slug = $1 AND l.fields LIKE $2";
        loop {
            if connection.is_none() {
                *connection = PgConnection::connect(&self.database).await.ok();
            }
            if let Some(open) = connection {
                let rows = sqlx::query_scalar(SQL)
                    .bind(self.stage.slug)
                    .bind(format!("%{}%", written_by(key)))
                    .fetch_one(open)
                    .await;
                match rows {
                    Ok(rows) => return rows,
                    Err(_) => *connection = None,
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Signs in at a node and presses the button, and the one of the page that asks whether to; the key that is shown.
async fn generate_by_dashboard(at: SocketAddr, slug: &str) -> Result<String, String> {
    let client = Client::new(at, None);
    let send = async |request: reqwest::RequestBuilder, expected: u16| -> Result<Answer, String> {
        let answer = client.try_send(request).await;
        let answer = answer.map_err(|_| "the node hangs up".to_owned())?;
        if answer.status == expected {
            return Ok(answer);
        }
        Err(format!("the dashboard answers {}", answer.status))
    };
    let email = format!("owner@{slug}.example");
    let form = [("email", email.as_str()), ("password", PASSWORD)];
    let signed_in = send(client.request(Method::POST, "/login").form(&form), 303).await?;
    let cookie = signed_in.header("set-cookie");
    let cookie = cookie.split(';').next().unwrap_or_default();
    let settings = format!("/dashboard/settings?seller={slug}");
    let page = client.request(Method::GET, &settings);
    let mut page = send(page.header(header::COOKIE, cookie), 200).await?;
    // At most twice: the second one is for the page that asks.
    for _ in 0..2 {
        let form = page.form_with_id("generate-api-key");
        let press = client.request(Method::POST, &form.action);
        let press = press.header(header::COOKIE, cookie).form(&form.fields);
        page = send(press, 200).await?;
        if let Some(key) = page.shown_key() {
            return Ok(key);
        }
    }
    Err("the dashboard shows no key".into())
}

/// What the fields of a listing contain that was written with this key, as the database holds them.
fn written_by(key: usize) -> String {
    format!("\"source_provider_id\":\"key-{key}\"")
}
