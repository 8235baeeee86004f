//! Finding out who somebody is by address and password, and slowing down whoever guesses.
//!
//! Only failures are slowed, from the tenth in a quarter of an hour, by delay: an account is never locked, so nobody can
//! lock another out. Failures are counted in the database under the account's address and under the client's, so that
//! neither many clients at one account nor one client at many accounts goes unnoticed. A client has a few attempts under
//! way at most, and each keeps its place until its delay has passed, whether or not the client waits for the answer:
//! hanging up gains nothing, and nobody keeps all hashing to themselves. Somebody who is signed in and gives the password
//! again has turns of their own.
//!
//! What is left: many clients together are slowed by what one account's hashes cost, not by its delays. Only a lock would
//! stop them, and a lock would be theirs to turn.
//!
//! Never: an answer, or the time that it takes, which tells whether an account exists.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Email,
    passwords::{Password, PasswordError},
    people::{People, PersonError, Visitor},
};
use crate::{
    act::{ActDied, run_to_end},
    db::{DbError, UserRow},
    ids::{SessionId, UserId},
};

/// For how long a failure counts.
pub const FAILURES_COUNT_FOR: Duration = Duration::from_secs(15 * 60);
/// Failures from which on the next answer is delayed.
const FAILURES_FREE: i64 = 9;
/// The delay of the tenth failure; each further one doubles it.
const DELAY_MIN: Duration = Duration::from_secs(1);
/// The longest delay.
const DELAY_MAX: Duration = Duration::from_secs(8);
/// Attempts under way of one client, or of one person who is signed in.
const ATTEMPTS_AT_ONCE: usize = 4;
/// How long further ones wait for their turn.
const TURN_MAX: Duration = Duration::from_secs(20);
/// Clients whose attempts are kept apart; beyond, clients share their turns with strangers.
const CLIENTS_MAX: usize = 10_000;

/// A hash of no password that anybody has, so that an unknown address costs as much as a known one.
static NOBODYS_HASH: LazyLock<Option<String>> =
    LazyLock::new(|| Password::unguessable().and_then(|password| password.hash_here().ok()));

/// Who takes turns with themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// A client that says who it is: an address, or what one client can choose its address from.
    Client(IpAddr),
    /// A person who is signed in already.
    Person(UserId),
    /// A sign-in that waits for its code, by its token's digest.
    SignIn([u8; 32]),
    /// A session in which a code is given.
    Session(SessionId),
}

impl Lane {
    /// Of whoever is not signed in.
    pub(super) fn of_client(visitor: &Visitor) -> Self {
        Self::Client(network(visitor.address))
    }
}

/// The turns that are taken at present.
#[derive(Default)]
pub struct Gate {
    turns: Mutex<HashMap<Lane, Arc<Semaphore>>>,
}

impl Gate {
    fn of(&self, lane: Lane) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has a turn or waits for one holds a copy.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        let place = if turns.len() < CLIENTS_MAX || turns.contains_key(&lane) {
            lane
        } else {
            Lane::Client(IpAddr::from([0, 0, 0, 0]))
        };
        let turn = turns
            .entry(place)
            .or_insert_with(|| Arc::new(Semaphore::new(ATTEMPTS_AT_ONCE)));
        Arc::clone(turn)
    }

    pub(super) async fn turn(&self, lane: Lane) -> Result<OwnedSemaphorePermit, PersonError> {
        match tokio::time::timeout(TURN_MAX, self.of(lane).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(PersonError::TooMany),
        }
    }
}

impl Gate {
    /// All the turns of a lane at once, in which nobody else then has one.
    pub(super) async fn whole_turn(&self, lane: Lane) -> Result<OwnedSemaphorePermit, PersonError> {
        let all = self.of(lane).acquire_many_owned(ATTEMPTS_AT_ONCE as u32);
        match tokio::time::timeout(TURN_MAX, all).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(PersonError::TooMany),
        }
    }
}

impl From<ActDied> for PersonError {
    fn from(_: ActDied) -> Self {
        Self::Password(PasswordError::Hash)
    }
}

impl People {
    /// The User with this address and password. What is done about it must ask again, inside its own transaction, whether
    /// the password is still theirs.
    pub(super) async fn recognise(
        self: &Arc<Self>,
        email: &str,
        password: &str,
        lane: Lane,
        visitor: &Visitor,
    ) -> Result<UserRow, PersonError> {
        let subjects = subjects(email, visitor);
        let turn = self.gate.turn(lane).await?;
        let user = match email.parse::<Email>() {
            Ok(email) => self.db.user_by_email(&email).await?,
            Err(_) => None,
        };
        let people = Arc::clone(self);
        let typed = Password::typed(password);
        // On a task of its own: who hangs up neither loses the count of the failure nor frees the turn.
        run_to_end(async move {
            let known = user.map(|user| (user.password_hash.clone(), user));
            let (hash, user) = match known {
                Some((hash, user)) => (Some(hash), Some(user)),
                None => (nobodys_hash().await, None),
            };
            let right = match hash {
                Some(hash) => typed.verify(hash).await?,
                None => return Err(PersonError::Password(PasswordError::Hash)),
            };
            if let (true, Some(user)) = (right, user) {
                return Ok(user);
            }
            let (failures, delay) = people.note_failure(&subjects).await?;
            tracing::info!(failures, "somebody failed to sign in");
            tokio::time::sleep(delay).await;
            drop(turn);
            Err(PersonError::WrongPassword)
        })
        .await
    }

    /// Makes ready what an unknown address is compared with, so that the first one takes no longer than others.
    pub async fn warm_up(&self) {
        if nobodys_hash().await.is_none() {
            tracing::error!("no password could be hashed");
        }
    }

    /// Counts a failure; answers how many there were of late, and for how long this one shall be kept waiting.
    pub(super) async fn note_failure(
        &self,
        subjects: &[String],
    ) -> Result<(i64, Duration), DbError> {
        let now = self.clock.now();
        let mut tx = self.db.begin_in_turn().await?;
        tx.insert_sign_in_failure(subjects, now).await?;
        tx.commit().await?;
        let since = now.before(FAILURES_COUNT_FOR);
        let mut most = 0;
        for subject in subjects {
            most = most.max(self.db.sign_in_failures(subject, since).await?);
        }
        Ok((most, delay_after(most)))
    }
}

async fn nobodys_hash() -> Option<String> {
    tokio::task::spawn_blocking(|| NOBODYS_HASH.clone())
        .await
        .ok()
        .flatten()
}

/// How long the answer to a failure is kept back when there were this many.
fn delay_after(failures: i64) -> Duration {
    let over = failures - FAILURES_FREE;
    if over <= 0 {
        return Duration::ZERO;
    }
    let doubled = u32::try_from(over - 1).unwrap_or(u32::MAX).min(16);
    (DELAY_MIN * 2u32.pow(doubled)).min(DELAY_MAX)
}

/// What a failure is counted under: the account's address and the client's.
pub(super) fn subjects(email: &str, visitor: &Visitor) -> Vec<String> {
    vec![
        subject("email", &email.trim().to_lowercase()),
        subject("address", &network(visitor.address).to_string()),
    ]
}

/// What failures have in common, as it is stored.
pub(super) fn subject(kind: &str, what: &str) -> String {
    let digest = Sha256::digest(what.as_bytes());
    let hex: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
    format!("{kind}:{hex}")
}

/// What one client can choose its address from, by its first address: an IPv6 client has a whole /64.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenth_failure_waits_and_no_failure_waits_for_long() {
        let waits: Vec<u64> = (0..16).map(|n| delay_after(n).as_secs()).collect();
        assert_eq!(waits[..10], [0; 10]);
        assert_eq!(waits[10..], [1, 2, 4, 8, 8, 8]);
        assert_eq!(delay_after(i64::MAX), DELAY_MAX);
    }

    #[test]
    fn neighbours_in_an_ipv6_network_are_one_client() {
        let of = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        // They share their turns as well as their failures.
        let gate = Gate::default();
        let turn = |text: &str| gate.of(Lane::Client(of(text)));
        let held = turn("2001:db8:1:2::1");
        assert!(Arc::ptr_eq(&held, &turn("2001:db8:1:2:ffff::9")));
        assert!(!Arc::ptr_eq(&held, &turn("2001:db8:1:3::1")));
    }

    #[test]
    fn turns_are_forgotten_when_nobody_has_one() {
        let gate = Gate::default();
        let lane = |last| Lane::Client(IpAddr::from([192, 0, 2, last]));
        let held = gate.of(lane(1));
        drop(gate.of(lane(2)));
        drop(gate.of(Lane::Person(UserId::new())));
        assert!(Arc::ptr_eq(&held, &gate.of(lane(1))));
        let turns = gate.turns.lock().expect("not poisoned");
        assert_eq!(turns.len(), 1);
    }
}
