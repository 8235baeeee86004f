//! Keys that were found where they should not be, as the world says so: GitHub's secret scanning by its signature, and whoever
//! else hands one in.
//!
//! What becomes of the key itself is [`crate::keys::leaks`]. Here is decided who is believed: GitHub, by [`signature`] and the
//! keys that are [`published`], which makes a live key's end; and whoever had the whole key, at the [`desk`], who makes its
//! owners be told, or its end if the operator wants that.
//!
//! Never: an answer that tells a stranger whether a key is one.

pub mod desk;
pub mod figures;
pub mod published;
pub mod signature;

use std::{collections::HashMap, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use self::{
    desk::{Desk, NotTaken, Reported, Slip},
    figures::{Dealt, Figures},
    published::{NotKnown, Published},
    signature::{PublishedKey, Signed},
};
use crate::{
    act::run_to_end,
    clock::Clock,
    config::KeysUrl,
    db::DbError,
    keys::{
        Keys,
        format::{KeyDigest, SecretKey},
        found::{Finder, Outcome, Place},
        leaks::Find,
        lifecycle::KeyActError,
    },
};

/// Keys of one request of GitHub's that are dealt with at the same time.
const KEYS_AT_ONCE: usize = 4;
/// Places of one key that are kept of one request.
const PLACES_MAX: usize = 10;
/// How long after a try in vain a report is tried anew; each further pause is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// How often a report is tried that fails for a defect of ours, and not because the database cannot answer at present.
const TRIES: u32 = 3;
/// How long the end of the server waits for what was handed in: a database that does not answer keeps it no longer.
const END_MAX: Duration = Duration::from_secs(10);

/// What the operator decided about leaks.
#[derive(Clone, Debug, Default)]
pub struct LeakRules {
    /// Where GitHub publishes its keys.
    pub github_keys: KeysUrl,
    /// Whether a key that somebody hands in is killed at once; else its owners are told.
    pub kill_reported: bool,
    /// Whom mails about found keys go to besides the owners; empty for nobody.
    pub contact: String,
}

/// See the module.
pub struct Leaks {
    keys: Arc<Keys>,
    clock: Clock,
    rules: LeakRules,
    published: Published,
    desk: Desk,
    /// What the operator can watch.
    pub figures: Arc<Figures>,
}

/// One match of GitHub's secret scanning, as its program describes it. It holds a key, so it cannot be printed.
#[derive(Deserialize)]
pub struct Alert {
    token: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    source: String,
}

/// What GitHub is answered about one match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// SHA-256 of what was matched: the key itself stands in no answer.
    pub digest: [u8; 32],
    /// The kind that GitHub named.
    pub kind: String,
    /// Whether it is or was a key of ours.
    pub is_key: bool,
}

/// What was found of one key.
struct Found {
    digest: KeyDigest,
    places: Vec<Place>,
}

impl Leaks {
    /// Nothing is asked of anybody before something is found.
    pub fn new(keys: Arc<Keys>, clock: Clock, rules: LeakRules) -> Self {
        Self {
            keys,
            clock,
            published: Published::new(rules.github_keys.clone()),
            desk: Desk::default(),
            figures: Arc::default(),
            rules,
        }
    }

    /// GitHub's current keys, by which a request that names one of them is to be judged.
    pub async fn github_keys(&self, signed: &Signed) -> Result<Vec<PublishedKey>, NotKnown> {
        let keys = self
            .published
            .keys(&signed.identifier, &self.clock, &self.figures);
        keys.await
    }

    /// Counts a request that GitHub did not sign.
    pub fn refuse(&self) {
        self.figures.count(Finder::GitHub, Dealt::Refused);
    }

    /// Deals with what GitHub found, to the end of the list even if GitHub hangs up. When this returns, every key of ours among
    /// it is dead, and each match has its label, in their order. After an error some may live, and sending the same again is
    /// right. `place` is what the list takes up, which is given back when all of it has been dealt with.
    pub async fn github<P: Send + 'static>(
        self: &Arc<Self>,
        alerts: Vec<Alert>,
        place: P,
    ) -> Result<Vec<Label>, KeyActError> {
        let leaks = Arc::clone(self);
        run_to_end(async move {
            let labels = leaks.github_now(alerts).await;
            drop(place);
            labels
        })
        .await
    }

    async fn github_now(&self, alerts: Vec<Alert>) -> Result<Vec<Label>, KeyActError> {
        let mut labels = Vec::with_capacity(alerts.len());
        let mut at: HashMap<KeyDigest, usize> = HashMap::new();
        let mut all: Vec<Found> = Vec::new();
        for alert in alerts {
            let Alert {
                token,
                kind,
                url,
                source,
            } = alert;
            let key = SecretKey::parse(token.as_bytes());
            let digest = match &key {
                Ok(key) => key.digest().0,
                Err(_) => Sha256::digest(token.as_bytes()).into(),
            };
            labels.push(Label {
                digest,
                kind,
                is_key: false,
            });
            let Ok(key) = key else {
                self.figures.count(Finder::GitHub, Dealt::NoKey);
                continue;
            };
            let place = Place::new(&key.strike(&url), &key.strike(&source));
            let at = *at.entry(key.digest()).or_insert_with(|| {
                all.push(Found {
                    digest: key.digest(),
                    places: Vec::new(),
                });
                all.len() - 1
            });
            let places = &mut all[at].places;
            if places.len() < PLACES_MAX && !places.contains(&place) {
                places.push(place);
            }
        }
        let known = self.kill_all(all).await?;
        for label in &mut labels {
            label.is_key = known.contains(&KeyDigest(label.digest));
        }
        Ok(labels)
    }

    /// Kills these keys, a few at a time; answers which of them are or were somebody's.
    async fn kill_all(&self, all: Vec<Found>) -> Result<Vec<KeyDigest>, KeyActError> {
        let mut known = Vec::new();
        let mut failed = None;
        let mut work = JoinSet::new();
        let mut left = all.into_iter();
        loop {
            while work.len() < KEYS_AT_ONCE
                && let Some(Found { digest, places }) = left.next()
            {
                let keys = Arc::clone(&self.keys);
                let find = self.find(Finder::GitHub, places, true);
                work.spawn(async move { (digest, keys.found(digest, find).await) });
            }
            let Some(done) = work.join_next().await else {
                break;
            };
            let Ok((digest, done)) = done else {
                failed = Some(KeyActError::Died(crate::act::ActDied));
                continue;
            };
            self.count(Finder::GitHub, &done);
            match done {
                Ok(Some(_)) => known.push(digest),
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(known), Err)
    }

    fn find(&self, finder: Finder, places: Vec<Place>, kills: bool) -> Find {
        Find {
            finder,
            places,
            kills,
            contact: self.rules.contact.clone(),
        }
    }

    fn count(&self, finder: Finder, done: &Result<Option<Outcome>, KeyActError>) {
        let dealt = match done {
            Ok(Some(outcome)) => Dealt::Done(*outcome),
            Ok(None) => Dealt::Unknown,
            Err(_) => Dealt::Failed,
        };
        self.figures.count(finder, dealt);
    }

    /// Whether this client may hand in a slip now.
    pub fn admit(&self, client: IpAddr) -> Result<(), NotTaken> {
        let admitted = self.desk.admit(client, self.clock.boot());
        self.note_refused(admitted)
    }

    /// Takes a slip, which is read later.
    pub fn take(&self, slip: Slip) -> Result<(), NotTaken> {
        let taken = self.desk.take(slip);
        self.note_refused(taken)
    }

    fn note_refused(&self, done: Result<(), NotTaken>) -> Result<(), NotTaken> {
        if done.is_err() {
            self.figures.count(Finder::Report, Dealt::Refused);
        }
        done
    }

    /// Reads what is handed in and deals with it until told to stop, and then for a little longer with what still waits.
    pub async fn read_slips(&self, mut stop: watch::Receiver<bool>) {
        let Some(mut waiting) = self.desk.waiting() else {
            tracing::error!("two read what is handed in");
            return;
        };
        // Read at once, so that no key waits in memory, and dealt with one after another.
        let (read, reports) = mpsc::unbounded_channel();
        let mut dealing = pin!(self.deal_with_all(reports));
        loop {
            tokio::select! {
                Some(slip) = waiting.recv() => drop(read.send(slip.read())),
                _ = stop.wait_for(|stop| *stop) => break,
                () = &mut dealing => return,
            }
        }
        while let Ok(slip) = waiting.try_recv() {
            drop(read.send(slip.read()));
        }
        drop(read);
        if tokio::time::timeout(END_MAX, dealing).await.is_err() {
            tracing::error!(
                "reports of keys could not be dealt with before the end; they are lost"
            );
        }
    }

    async fn deal_with_all(&self, mut reports: mpsc::UnboundedReceiver<Reported>) {
        while let Some(report) = reports.recv().await {
            if report.keys.is_empty() {
                self.figures.count(Finder::Report, Dealt::NoKey);
            }
            for key in &report.keys {
                self.deal_with(*key, &report.places).await;
            }
        }
    }

    /// Deals with one key that was handed in, as soon as the database can: whoever handed it in was thanked.
    async fn deal_with(&self, key: KeyDigest, places: &[Place]) {
        let mut pause = PAUSE_MIN;
        let mut defects = 0;
        for tried in 1_u32.. {
            let kills = self.rules.kill_reported;
            let find = self.find(Finder::Report, places.to_vec(), kills);
            let done = self.keys.found(key, find).await;
            let Err(error) = &done else {
                return self.count(Finder::Report, &done);
            };
            if tried == 1 {
                // Once for each report, however long it waits.
                self.count(Finder::Report, &done);
            }
            if !matches!(error, KeyActError::Db(DbError::Unavailable(_))) {
                defects += 1;
            }
            if defects == TRIES {
                tracing::error!(%error, "a report of a key could not be dealt with; it is lost");
                return;
            }
            tracing::warn!(%error, tried, "a report of a key waits for another try");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
