//! Who used which key: counted in memory on every request, written to the database in batches.
//!
//! Counts are per key, minute, client and class of answer. A crash loses what was counted since the last flush, which is
//! at most five seconds (flushes are every two, or four).
//!
//! Never: a database call on the request's path; memory that grows with the number of clients between two flushes.

use std::{
    hash::BuildHasher,
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{
    clients::{CLIENTS_PER_KEY_AND_HOUR, LUMPED_ADDRESS, LUMPED_USER_AGENT},
    format::{acts_on_reader, redact},
    table::{KeyRecord, Standing},
};
use crate::{
    clock::Time,
    db::{Db, DbError, UsageRow},
    ids::{KeyId, SellerId},
};

/// How often counts are written, in milliseconds.
pub const FLUSH_EVERY_MS: u64 = 2_000;
/// A User-Agent is kept up to this many bytes.
const USER_AGENT_BYTES_MAX: usize = 200;
const SHARDS: usize = 64;
/// Different counts one shard holds between two flushes; beyond it, clients are lumped together.
const COUNTS_PER_SHARD_MAX: usize = 4_096;
/// More counts than this are written every other time.
const MANY_COUNTS: usize = 1_000;
/// Rows written in one transaction: it must stay short, as other writes wait for it.
const ROWS_PER_FLUSH: usize = 5_000;
/// How a request was answered, as far as usage tells it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusClass {
    /// Done.
    Success,
    /// Not modified.
    Redirect,
    /// The key was dead.
    Unauthorized,
    /// The key was prepared and not yet cut over.
    Staged,
    /// Another dealer's resource.
    Forbidden,
    /// The key was good and not let in: from elsewhere, or while its account or its plan has no access. Nobody who meets
    /// this has used the key, so it is counted apart from what was let in and then refused.
    Barred,
    /// Over the rate limit.
    Limited,
    /// Any other fault of the caller's.
    ClientError,
    /// A fault of ours.
    ServerError,
}

impl StatusClass {
    /// The class of an HTTP status.
    pub fn of(status: u16) -> Self {
        match status {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            429 => Self::Limited,
            300..=399 => Self::Redirect,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::Success,
        }
    }

    /// The same of a request that sent this key: a refusal of one that waits for its cut-over is no sign of a forgotten client.
    fn with(self, key: KeyRecord) -> Self {
        match (self, key.standing) {
            (Self::Unauthorized, Standing::Staged) => Self::Staged,
            (class, _) => class,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirect => "3xx",
            Self::Unauthorized => "401",
            Self::Staged => "staged",
            Self::Forbidden => "403",
            Self::Barred => "barred",
            Self::Limited => "429",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

/// What is counted apart. Small, as it is looked up on every request: the client is a hash, and what the hash is of stands with
/// the count.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct CountKey {
    key: KeyId,
    minute: i64,
    class: StatusClass,
    client: u64,
}

/// In the place of the hash of a client: all that cannot be told apart.
const LUMPED_CLIENT: u64 = 0;

struct Count {
    requests: i64,
    last_us: i64,
    seller: SellerId,
    address: IpAddr,
    user_agent: Box<str>,
}

/// The clients of one key that were told apart within an hour, by a hash.
struct Told {
    hour: i64,
    clients: Vec<u64>,
}

#[derive(Default)]
struct Shard {
    counts: HashMap<CountKey, Count>,
    /// Outlives the flushes: what it bounds is the rows of the database.
    told: HashMap<KeyId, Told>,
    /// When `told` was last tidied.
    hour: i64,
}

impl Shard {
    /// Lets go of the clients of past hours, which bound nothing any more.
    fn forget_past_hours(&mut self, now: Time) {
        let hour = now.minute().div_euclid(60);
        if self.hour != hour {
            self.hour = hour;
            self.told.retain(|_, told| told.hour >= hour);
            self.told.shrink_to_fit();
        }
    }

    /// Whether this client is, or may still become, one that is told apart.
    fn tells_apart(&mut self, found: CountKey) -> bool {
        let hour = found.minute.div_euclid(60);
        let client = found.client;
        let told = self.told.entry(found.key).or_insert(Told {
            hour,
            clients: Vec::new(),
        });
        if told.hour != hour {
            told.hour = hour;
            told.clients.clear();
        }
        if told.clients.contains(&client) {
            return true;
        }
        let room = told.clients.len() < CLIENTS_PER_KEY_AND_HOUR;
        if room {
            told.clients.push(client);
        }
        room
    }
}

/// The counters.
pub struct Usage {
    shards: Box<[Mutex<Shard>]>,
    /// Of clients.
    hasher: DefaultHashBuilder,
    /// How many counts wait to be written, about.
    held: AtomicUsize,
    /// Sellers with refused calls that were written and that nobody has looked at.
    refused: Mutex<HashSet<SellerId>>,
    dropped: AtomicU64,
    /// Held while counts are on their way to the database: one flush after another, so that each knows what was written.
    flushing: tokio::sync::Mutex<()>,
    /// Until when everything that was counted has been written; tells whoever watches that there is something new to read.
    written: watch::Sender<Time>,
}

impl Usage {
    /// Counters in which nothing was counted until now.
    pub fn new(now: Time) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            held: AtomicUsize::new(0),
            refused: Mutex::default(),
            dropped: AtomicU64::new(0),
            flushing: tokio::sync::Mutex::default(),
            written: watch::Sender::new(now),
        }
    }

    /// Counts one request. Takes a lock that is held for a map look-up and by nobody for longer.
    pub fn count(
        &self,
        record: KeyRecord,
        class: StatusClass,
        address: IpAddr,
        user_agent: &[u8],
        at: Time,
    ) {
        let user_agent = cut(user_agent);
        let found = CountKey {
            key: record.key,
            minute: at.minute(),
            class: class.with(record),
            client: self.hasher.hash_one((address, user_agent)),
        };
        let mut shard = self.shard(record.key);
        if let Some(count) = shard.counts.get_mut(&found) {
            count.requests += 1;
            count.last_us = count.last_us.max(at.0);
            return;
        }
        let full = !shard.tells_apart(found) || shard.counts.len() >= COUNTS_PER_SHARD_MAX;
        let counts = &mut shard.counts;
        if full && counts.len() >= 2 * COUNTS_PER_SHARD_MAX {
            // Even lumped there are too many keys at once for this shard; the metric tells.
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let (client, address, user_agent) = if full {
            let lump: Box<str> = LUMPED_USER_AGENT.into();
            (LUMPED_CLIENT, LUMPED_ADDRESS, lump)
        } else {
            (found.client, address, readable(user_agent).into())
        };
        let count = counts
            .entry(CountKey { client, ..found })
            .or_insert_with(|| {
                self.held.fetch_add(1, Ordering::Relaxed);
                Count {
                    requests: 0,
                    last_us: at.0,
                    seller: record.seller,
                    address,
                    user_agent,
                }
            });
        count.requests += 1;
        count.last_us = count.last_us.max(at.0);
    }

    /// Whether counts should be written now. Many are written every other time only: they are mostly of the same keys and
    /// clients again, and cost as much each time.
    pub fn is_due(&self, now: Time) -> bool {
        let many = self.held.load(Ordering::Relaxed) > MANY_COUNTS;
        let written = *self.written.borrow();
        !many || written <= now.before(Duration::from_millis(FLUSH_EVERY_MS + FLUSH_EVERY_MS / 2))
    }

    /// Requests that could not be counted because far too many keys were in use at once.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what was counted. What the database does not take is counted again, to be written next time.
    pub async fn flush(&self, db: &Db, now: Time) -> Result<(), DbError> {
        let _one_at_a_time = self.flushing.lock().await;
        let mut rows = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            // It keeps its room, for as many again.
            rows.extend(shard.counts.drain());
            shard.forget_past_hours(now);
        }
        self.held.store(0, Ordering::Relaxed);
        let written = self.write(db, rows).await;
        // Also after a failure: whoever watches sees how old what they see is.
        self.written.send_modify(|until| {
            if written.is_ok() {
                *until = now;
            }
        });
        written
    }

    async fn write(&self, db: &Db, mut rows: Vec<(CountKey, Count)>) -> Result<(), DbError> {
        while !rows.is_empty() {
            let some = rows.split_off(rows.len().saturating_sub(ROWS_PER_FLUSH));
            let written: Vec<_> = some.iter().map(|(key, count)| to_row(key, count)).collect();
            if let Err(error) = db.add_usage(&written).await {
                rows.extend(some);
                self.count_again(rows);
                return Err(error);
            }
            let refused = some
                .iter()
                .filter(|(key, _)| key.class == StatusClass::Unauthorized);
            self.refused()
                .extend(refused.map(|(_, count)| count.seller));
        }
        Ok(())
    }

    /// Until when everything that was counted can be read; changes with each flush.
    pub fn written(&self) -> watch::Receiver<Time> {
        self.written.subscribe()
    }

    /// The Sellers for whose dead keys 401s were written since this was last asked.
    pub fn take_refused(&self) -> HashSet<SellerId> {
        std::mem::take(&mut *self.refused())
    }

    /// Has a Seller looked at once more.
    pub fn note_refused(&self, seller: SellerId) {
        self.refused().insert(seller);
    }

    fn refused(&self) -> MutexGuard<'_, HashSet<SellerId>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_again(&self, rows: Vec<(CountKey, Count)>) {
        for (key, again) in rows {
            let counts = &mut self.shard(key.key).counts;
            if counts.len() >= 2 * COUNTS_PER_SHARD_MAX {
                self.dropped
                    .fetch_add(again.requests.unsigned_abs(), Ordering::Relaxed);
                continue;
            }
            match counts.get_mut(&key) {
                Some(count) => {
                    count.requests += again.requests;
                    count.last_us = count.last_us.max(again.last_us);
                }
                None => {
                    counts.insert(key, again);
                }
            }
        }
    }

    fn shard(&self, key: KeyId) -> MutexGuard<'_, Shard> {
        // A counter that a panic left behind is still a counter.
        self.shards[key.spread() as usize % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_row(key: &CountKey, count: &Count) -> UsageRow {
    let address = count.address.to_canonical().to_string();
    let mut hash = Sha256::new();
    hash.update(&address);
    hash.update([0]);
    hash.update(count.user_agent.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    UsageRow {
        seller: count.seller,
        key: key.key,
        minute: key.minute,
        client: i64::from_be_bytes(first),
        address,
        user_agent: count.user_agent.to_string(),
        status_class: key.class.as_str(),
        requests: count.requests,
        last_us: count.last_us,
    }
}

/// A User-Agent as it is kept: without a key, and without characters that would act on whoever's terminal shows it.
fn readable(user_agent: &str) -> String {
    redact(user_agent).replace(acts_on_reader, "\u{fffd}")
}

/// A User-Agent header as it is kept and shown: its beginning, readable, without a key.
pub fn readable_user_agent(header: &[u8]) -> String {
    readable(cut(header))
}

/// The readable beginning of a User-Agent. The cut comes before redaction finds a key, so a key that straddles it is
/// left in part: redaction takes parts too.
fn cut(user_agent: &[u8]) -> &str {
    let some = &user_agent[..user_agent.len().min(USER_AGENT_BYTES_MAX)];
    match std::str::from_utf8(some) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&some[..error.valid_up_to()]).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> KeyRecord {
        KeyRecord::of_seller(KeyId::new(), SellerId::new(), Standing::Live)
    }

    fn held(usage: &Usage) -> Vec<(CountKey, Count)> {
        usage
            .shards
            .iter()
            .flat_map(|shard| std::mem::take(&mut shard.lock().expect("not poisoned").counts))
            .collect()
    }

    #[test]
    fn like_requests_are_one_count() {
        let usage = Usage::new(Time(0));
        let record = record();
        for n in 0..5 {
            usage.count(
                record,
                StatusClass::Success,
                [10, 0, 0, 1].into(),
                b"curl/8",
                Time(n),
            );
        }
        usage.count(
            record,
            StatusClass::Unauthorized,
            [10, 0, 0, 1].into(),
            b"curl/8",
            Time(9),
        );
        let mut counts: Vec<_> = held(&usage)
            .iter()
            .map(|(_, c)| (c.requests, c.last_us))
            .collect();
        counts.sort_unstable();
        assert_eq!(counts, [(1, 9), (5, 4)]);
    }

    #[test]
    fn a_flood_of_clients_is_lumped() {
        let usage = Usage::new(Time(0));
        let record = record();
        for n in 0..100_000u32 {
            usage.count(
                record,
                StatusClass::Unauthorized,
                n.to_be_bytes().into(),
                b"x",
                Time(0),
            );
        }
        let held = held(&usage);
        assert_eq!(held.len(), CLIENTS_PER_KEY_AND_HOUR + 1);
        let lump = |count: &Count| {
            crate::keys::clients::is_lump(&count.address.to_string(), &count.user_agent)
        };
        assert_eq!(held.iter().filter(|(_, count)| lump(count)).count(), 1);
        assert_eq!(held.iter().map(|(_, c)| c.requests).sum::<i64>(), 100_000);
        assert_eq!(usage.dropped(), 0);
    }

    #[test]
    fn a_client_stays_the_same_one_from_flush_to_flush() {
        let usage = Usage::new(Time(0));
        let record = record();
        for _ in 0..3 * CLIENTS_PER_KEY_AND_HOUR {
            for client in 1..4 {
                usage.count(
                    record,
                    StatusClass::Success,
                    [10, 0, 0, client].into(),
                    b"curl/8",
                    Time(0),
                );
            }
            let held = held(&usage);
            let addresses = held.iter().map(|(_, count)| count.address);
            let addresses: std::collections::BTreeSet<_> = addresses.collect();
            assert_eq!(addresses, (1..4).map(|n| [10, 0, 0, n].into()).collect());
        }
    }

    #[test]
    fn a_user_agent_is_cut_and_holds_no_key() {
        assert_eq!(cut(&[b'a'; 300]).len(), USER_AGENT_BYTES_MAX);
        assert_eq!(cut(b"ok\xff"), "ok");
        let usage = Usage::new(Time(0));
        let key = "tr_live_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p61m7ev9";
        usage.count(
            record(),
            StatusClass::Success,
            [1, 1, 1, 1].into(),
            key.as_bytes(),
            Time(0),
        );
        assert_eq!(&*held(&usage)[0].1.user_agent, "tr_live_(redacted)");
        assert_eq!(readable("a\u{9b}31m\u{202e}b"), "a\u{fffd}31m\u{fffd}b");
    }
}
