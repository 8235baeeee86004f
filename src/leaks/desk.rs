//! Where everybody can hand in a key that they found: a slip is taken and answered at once, and read later.
//!
//! So neither the answer nor the time that it takes can tell whether a key is one. A client hands in ten slips at once and
//! then one a minute, all clients together sixty a minute; what waits is bounded, and what was taken waits until it can be dealt
//! with.
//!
//! Never: anything of a slip looked at before it was answered; a slip printed, logged or stored; a key that waits, but by its
//! digest.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hashbrown::HashMap;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use zeroize::Zeroizing;

use crate::{
    accounts::sign_in::network,
    clock::BootTime,
    keys::{
        format::{KeyDigest, SecretKey, keys_in},
        found::Place,
    },
};

/// Bytes of a slip at most.
pub const SLIP_BYTES_MAX: usize = 16 << 10;
/// Keys that are looked for on one slip.
const KEYS_PER_SLIP: usize = 10;
/// Slips that wait to be read or dealt with.
const WAITING_MAX: usize = 64;
/// Of one client: slips at once, and the time after which it has one more.
const OF_CLIENT: Rate = Rate {
    at_once: 10,
    each_us: 60_000_000,
};
/// Of all clients together.
const OF_ALL: Rate = Rate {
    at_once: 60,
    each_us: 1_000_000,
};
/// Clients that are told apart; beyond, strangers share one rate.
const CLIENTS_MAX: usize = 10_000;

/// How a slip is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// An object with `key`, and perhaps `found_at`.
    Json,
    /// A form with the same fields.
    Form,
    /// Anything with a key in it.
    Text,
}

/// What somebody handed in.
pub struct Slip {
    body: Zeroizing<Vec<u8>>,
    writing: Writing,
}

/// A slip on the desk, with its place there.
pub(super) struct Taken {
    slip: Slip,
    place: OwnedSemaphorePermit,
}

/// What was on a slip, to be dealt with; it keeps the slip's place until it is dropped.
pub(super) struct Reported {
    /// The keys.
    pub keys: Vec<KeyDigest>,
    /// Where they were found.
    pub places: Vec<Place>,
    _place: OwnedSemaphorePermit,
}

/// Why a slip was not taken. It says nothing of what is on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// This client, or all together, handed in too many; how long to wait.
    TooMany(Duration),
    /// Too many wait to be read or dealt with.
    Full,
}

impl Slip {
    /// Of a body as it came.
    pub fn new(body: Vec<u8>, writing: Writing) -> Self {
        Self {
            body: Zeroizing::new(body),
            writing,
        }
    }

    /// The keys on it, and where they were found.
    fn read(&self) -> (Vec<KeyDigest>, Vec<Place>) {
        let (text, found_at) = self.parts();
        let keys = keys_in(&text, KEYS_PER_SLIP);
        let mut found_at = found_at;
        for key in &keys {
            found_at = Zeroizing::new(key.strike(&found_at));
        }
        let place = Place::new(&found_at, "");
        let places = (!place.text().is_empty()).then_some(place);
        let keys = keys.iter().map(SecretKey::digest).collect();
        (keys, places.into_iter().collect())
    }

    /// What stands where a key belongs, and where a place does. What is not written as was said is looked through as text.
    fn parts(&self) -> (Zeroizing<String>, Zeroizing<String>) {
        #[derive(Deserialize)]
        struct Object {
            key: String,
            #[serde(default)]
            found_at: String,
        }
        match self.writing {
            Writing::Json => {
                if let Ok(object) = serde_json::from_slice::<Object>(&self.body) {
                    return (object.key.into(), object.found_at.into());
                }
            }
            Writing::Form => {
                let (mut key, mut found_at) = (Zeroizing::default(), Zeroizing::default());
                for (name, text) in form_urlencoded::parse(&self.body) {
                    match &*name {
                        "key" => key = Zeroizing::new(text.into_owned()),
                        "found_at" => found_at = Zeroizing::new(text.into_owned()),
                        _ => {}
                    }
                }
                return (key, found_at);
            }
            Writing::Text => {}
        }
        let text = String::from_utf8_lossy(&self.body).into_owned();
        (text.into(), Zeroizing::default())
    }
}

impl Taken {
    /// Reads it; the key is gone from memory when this returns.
    pub(super) fn read(self) -> Reported {
        let Self { slip, place } = self;
        let (keys, places) = slip.read();
        Reported {
            keys,
            places,
            _place: place,
        }
    }
}

/// A rate by the generic cell rate algorithm.
#[derive(Clone, Copy)]
struct Rate {
    at_once: u64,
    each_us: u64,
}

impl Rate {
    /// Takes one, if there is one; `full_at` is the moment at which all are there again.
    fn take(self, full_at: &mut u64, now: BootTime) -> Result<(), NotTaken> {
        let owed = full_at.saturating_sub(now.0);
        let most = self.at_once * self.each_us;
        if owed + self.each_us > most {
            let wait = owed + self.each_us - most;
            return Err(NotTaken::TooMany(Duration::from_micros(wait)));
        }
        *full_at = now.0 + owed + self.each_us;
        Ok(())
    }
}

#[derive(Default)]
struct Meters {
    clients: HashMap<IpAddr, u64>,
    all: u64,
}

/// See the module.
pub struct Desk {
    places: Arc<Semaphore>,
    taken: mpsc::UnboundedSender<Taken>,
    /// Until whoever reads takes it.
    waiting: Mutex<Option<mpsc::UnboundedReceiver<Taken>>>,
    meters: Mutex<Meters>,
}

impl Default for Desk {
    fn default() -> Self {
        // Bounded by the places.
        let (taken, waiting) = mpsc::unbounded_channel();
        Self {
            places: Arc::new(Semaphore::new(WAITING_MAX)),
            taken,
            waiting: Mutex::new(Some(waiting)),
            meters: Mutex::default(),
        }
    }
}

impl Desk {
    /// Whether this client may hand in a slip now; asked before the slip is, as reading it costs something too.
    pub fn admit(&self, client: IpAddr, now: BootTime) -> Result<(), NotTaken> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let Meters { clients, all } = &mut *meters;
        let mut client = network(client);
        if clients.len() >= CLIENTS_MAX && !clients.contains_key(&client) {
            clients.retain(|_, full_at| *full_at > now.0);
            if clients.len() >= CLIENTS_MAX {
                client = IpAddr::from([0, 0, 0, 0]);
            }
        }
        // Its own first: whoever is refused takes nothing from the others.
        OF_CLIENT.take(clients.entry(client).or_default(), now)?;
        OF_ALL.take(all, now)
    }

    /// Takes a slip, to be read later.
    pub fn take(&self, slip: Slip) -> Result<(), NotTaken> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| NotTaken::Full)?;
        let taken = self.taken.send(Taken { slip, place });
        taken.map_err(|_| NotTaken::Full)
    }

    /// What was taken, for the one who reads it; `None` if somebody does.
    pub(super) fn waiting(&self) -> Option<mpsc::UnboundedReceiver<Taken>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.take()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "tr_live_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p61m7ev9";

    fn read(body: &str, writing: Writing) -> (usize, String) {
        let (keys, places) = Slip::new(body.as_bytes().to_vec(), writing).read();
        let place = places.first().map(|place| place.text().to_owned());
        (keys.len(), place.unwrap_or_default())
    }

    #[test]
    fn a_key_is_found_however_the_slip_is_written() {
        let json = format!(r#"{{"key":"{KEY}","found_at":"https://a.example/x","more":1}}"#);
        let form = format!("key=%20{KEY}%0A&found_at=https%3A%2F%2Fa.example%2Fx&more=1");
        let place = "https://a.example/x".to_owned();
        assert_eq!(read(&json, Writing::Json), (1, place.clone()));
        assert_eq!(read(&form, Writing::Form), (1, place));
        let nowhere = (1, String::new());
        assert_eq!(read(&format!("export KEY={KEY}"), Writing::Text), nowhere);
        // Half of a JSON, or one that is no object, is text.
        assert_eq!(read(&format!("[\"{KEY}\""), Writing::Json), nowhere);
        assert_eq!(read("", Writing::Json).0, 0);
        assert_eq!(read("key=nothing", Writing::Form).0, 0);
    }

    #[test]
    fn the_place_holds_no_part_of_the_key() {
        for said in [KEY, &KEY[8..], &KEY[8..40]] {
            let form = format!("key={KEY}&found_at=at {said}!");
            let (_, place) = read(&form, Writing::Form);
            assert!(!place.contains(&KEY[8..40]), "{place}");
        }
    }

    #[test]
    fn a_client_hands_in_ten_at_once_and_then_one_a_minute_and_takes_nothing_from_others() {
        let desk = Desk::default();
        let client = |n: u8| IpAddr::from([192, 0, 2, n]);
        let at = |s: u64| BootTime(1_000_000_000 + s * 1_000_000);
        for _ in 0..10 {
            assert_eq!(desk.admit(client(1), at(0)), Ok(()));
        }
        for _ in 0..100 {
            let wait = NotTaken::TooMany(Duration::from_secs(60));
            assert_eq!(desk.admit(client(1), at(0)), Err(wait));
        }
        assert!(desk.admit(client(1), at(59)).is_err());
        assert_eq!(desk.admit(client(1), at(60)), Ok(()));
        // Of the sixty for all, what was refused took none.
        for n in 2..7 {
            for _ in 0..10 {
                assert_eq!(desk.admit(client(n), at(60)), Ok(()), "{n}");
            }
        }
        for _ in 0..9 {
            assert_eq!(desk.admit(client(9), at(60)), Ok(()));
        }
        assert!(desk.admit(client(9), at(60)).is_err());
        assert_eq!(desk.admit(client(10), at(61)), Ok(()));
    }

    #[test]
    fn so_many_clients_that_they_fill_the_memory_share_one_rate() {
        let desk = Desk::default();
        let mut refused = 0;
        for n in 0..3 * CLIENTS_MAX as u32 {
            // Slow enough for all together.
            let now = BootTime(u64::from(n) * 1_000_000 / 1_000);
            let client = IpAddr::from((10_u32 << 24 | n).to_be_bytes());
            refused += usize::from(desk.admit(client, now).is_err());
        }
        let meters = desk.meters.lock().expect("not poisoned");
        assert!(meters.clients.len() <= CLIENTS_MAX + 1);
        assert!(refused > CLIENTS_MAX);
    }

    #[test]
    fn what_waits_is_bounded() {
        let desk = Desk::default();
        let slip = || Slip::new(Vec::new(), Writing::Text);
        for _ in 0..WAITING_MAX {
            assert_eq!(desk.take(slip()), Ok(()));
        }
        assert_eq!(desk.take(slip()), Err(NotTaken::Full));
        let mut waiting = desk.waiting().expect("nobody reads yet");
        assert!(desk.waiting().is_none());
        // One that is read and not dealt with has its place still.
        let reported = waiting.try_recv().expect("a slip").read();
        assert_eq!(desk.take(slip()), Err(NotTaken::Full));
        drop(reported);
        assert_eq!(desk.take(slip()), Ok(()));
    }

    proptest! {
        #[test]
        fn no_slip_panics(body in proptest::collection::vec(any::<u8>(), 0..200), which in 0usize..3) {
            let writing = [Writing::Json, Writing::Form, Writing::Text][which];
            let (keys, places) = Slip::new(body, writing).read();
            prop_assert!(keys.len() <= KEYS_PER_SLIP && places.len() <= 1);
        }
    }
}
