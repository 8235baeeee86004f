//! Every key that has a meaning, in memory: digest to record; and every grant by which a Platform's key acts for a Seller.
//! Looked up on each request; changed a few times a day.
//!
//! A reader loads one immutable [`Snapshot`] and never waits. A change copies the one shard it touches, publishes a new
//! snapshot, and lets the old one go when its last reader has.
//!
//! Never: a lookup in one snapshot judged by the trust of another; a snapshot that goes back in time.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;

use super::{
    format::KeyDigest,
    grant::{GrantName, GrantRecord},
    networks::Networks,
};
use crate::{
    clock::BootTime,
    ids::{KeyId, SellerId},
};

/// Shards of the table. With a million keys one holds about 244 entries of 68 bytes, so a change copies 17 KB and the
/// directory of 64 KB instead of a table of 68 MB.
const SHARDS: usize = 4096;

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Accepted.
    Live,
    /// Prepared, waiting for the cut-over: not accepted yet.
    Staged,
    /// Once live or staged, dead for good.
    Dead,
}

/// What kind of account holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A dealer's: the key acts for it and for nobody else.
    Seller,
    /// A Platform's: the key acts for the Seller that a request names, if that Seller has granted it.
    Platform {
        /// Whether its plan is the one that platform access belongs to.
        enterprise: bool,
    },
}

/// What the node knows of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key's id.
    pub key: KeyId,
    /// The one account that it belongs to: a Seller's, or a Platform's.
    pub seller: SellerId,
    /// Whether it is accepted.
    pub standing: Standing,
    /// Which of the two.
    pub holder: Holder,
    /// Whether the marketplace has suspended or closed the account.
    pub inactive: bool,
    /// Whether it is accepted from some networks only; which, the snapshot knows.
    pub fenced_in: bool,
}

impl KeyRecord {
    /// A key of a Seller about whose account there is nothing special.
    pub fn of_seller(key: KeyId, seller: SellerId, standing: Standing) -> Self {
        Self {
            key,
            seller,
            standing,
            holder: Holder::Seller,
            inactive: false,
            fenced_in: false,
        }
    }
}

/// Until when a snapshot may be believed, on the boot clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// As long as this process owns the database file: nobody else can change what keys are good.
    WhileOwner,
    /// Not at all: a change may have been committed that this snapshot does not show.
    Lapsed,
    /// A lease: until this reading of the boot clock.
    Until(BootTime),
}

impl Trust {
    /// Whether a snapshot under this trust may decide a request now.
    pub fn holds(self, now: BootTime) -> bool {
        match self {
            Trust::WhileOwner => true,
            Trust::Lapsed => false,
            Trust::Until(end) => now < end,
        }
    }
}

/// One immutable pair of a table and the trust it was published with.
#[derive(Clone)]
pub struct Snapshot {
    keys: Shards<KeyDigest, KeyRecord>,
    grants: Shards<GrantName, GrantRecord>,
    /// The networks of accounts that have named some.
    networks: Arc<HashMap<SellerId, Networks>>,
    /// How long this very table may be believed.
    pub trust: Trust,
    /// The revocation epoch up to which this table is complete.
    pub epoch: i64,
}

/// What a change of keys does to the table.
#[derive(Clone, Debug, Default)]
pub struct TableChange {
    /// Keys that are new or have a new standing.
    pub put: Vec<(KeyDigest, KeyRecord)>,
    /// Keys so long dead that they are forgotten.
    pub forget: Vec<KeyDigest>,
    /// Grants that are new or have changed, under both names of their Sellers.
    pub grants: Vec<(GrantName, GrantRecord)>,
    /// Of the accounts whose keys are among `put`, those that name networks, and which.
    pub networks: Vec<(SellerId, Networks)>,
}

impl Snapshot {
    /// A table of these keys. Building a million takes under a second.
    pub fn build(
        keys: impl IntoIterator<Item = (KeyDigest, KeyRecord)>,
        trust: Trust,
        epoch: i64,
    ) -> Self {
        let put = keys.into_iter().collect();
        let all = TableChange {
            put,
            ..TableChange::default()
        };
        Self::of_all(all, trust, epoch)
    }

    /// A table of everything that there is, as a change of an empty one.
    pub fn of_all(all: TableChange, trust: Trust, epoch: i64) -> Self {
        Self {
            keys: Shards::build(all.put),
            grants: Shards::build(all.grants),
            networks: Arc::new(all.networks.into_iter().collect()),
            trust,
            epoch,
        }
    }

    /// The record of a key, if it has one.
    pub fn get(&self, digest: &KeyDigest) -> Option<&KeyRecord> {
        self.keys.get(digest)
    }

    /// A grant by one of its names.
    pub fn grant(&self, name: &GrantName) -> Option<&GrantRecord> {
        self.grants.get(name)
    }

    /// The networks from which the keys of an account are accepted, if it has named some.
    pub fn networks(&self, account: SellerId) -> Option<&Networks> {
        self.networks.get(&account)
    }

    /// The digests of these keys, those of them that it has. Looks at every key there is, so this is for what is rare.
    pub fn digests_of(&self, keys: &[KeyId]) -> Vec<KeyDigest> {
        let found = self.keys.iter();
        let found = found.filter(|(_, record)| keys.contains(&record.key));
        found.map(|(digest, _)| *digest).collect()
    }

    /// How many keys the table holds, live and dead.
    pub fn len(&self) -> usize {
        self.keys.iter().count()
    }

    /// Whether the table holds no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// This table with a change made to it.
    fn with(&self, change: &TableChange, epoch: i64) -> Self {
        Self {
            keys: self.keys.with(&change.put, &change.forget),
            grants: self.grants.with(&change.grants, &[]),
            networks: self.networks_with(change),
            trust: self.trust,
            epoch,
        }
    }

    /// What the change says of an account's networks takes the place of what was known; of other accounts it says nothing.
    fn networks_with(&self, change: &TableChange) -> Arc<HashMap<SellerId, Networks>> {
        let accounts = || change.put.iter().map(|(_, record)| record.seller);
        if change.networks.is_empty() && !accounts().any(|own| self.networks.contains_key(&own)) {
            return Arc::clone(&self.networks);
        }
        let mut networks = HashMap::clone(&self.networks);
        for account in accounts() {
            networks.remove(&account);
        }
        networks.extend(change.networks.iter().cloned());
        Arc::new(networks)
    }
}

/// A map that is never changed: a changed one shares with it all shards but those that changed.
struct Shards<K, V>(Arc<[Shard<K, V>]>);

/// Entries sorted by name.
type Shard<K, V> = Arc<[(K, V)]>;

impl<K, V> Clone for Shards<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Copy + Ord + AsRef<[u8; 32]>, V: Copy> Shards<K, V> {
    fn build(mut entries: Vec<(K, V)>) -> Self {
        entries.sort_unstable_by_key(|entry| entry.0);
        // Sorted, the shards lie one after another; each is cut to its exact size.
        let mut rest = &entries[..];
        let shards = (0..SHARDS)
            .map(|shard| {
                let end = rest.partition_point(|entry| shard_of(entry.0.as_ref()) <= shard);
                let (own, others) = rest.split_at(end);
                rest = others;
                Shard::from(own)
            })
            .collect();
        Self(shards)
    }

    fn get(&self, name: &K) -> Option<&V> {
        let shard = &self.0[shard_of(name.as_ref())];
        let mut at = expected_place(name.as_ref(), shard.len());
        while at > 0 && shard[at - 1].0 >= *name {
            at -= 1;
        }
        let (found, value) = shard[at..].iter().find(|(other, _)| other >= name)?;
        (found == name).then_some(value)
    }

    fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.0.iter().flat_map(|shard| shard.iter())
    }

    fn with(&self, put: &[(K, V)], forget: &[K]) -> Self {
        if put.is_empty() && forget.is_empty() {
            return self.clone();
        }
        let mut shards: Vec<Shard<K, V>> = self.0.to_vec();
        for name in forget {
            let shard = &mut shards[shard_of(name.as_ref())];
            *shard = shard.iter().filter(|e| e.0 != *name).copied().collect();
        }
        for (name, value) in put {
            let shard = &mut shards[shard_of(name.as_ref())];
            let mut entries = shard.to_vec();
            match entries.binary_search_by(|entry| entry.0.cmp(name)) {
                Ok(at) => entries[at].1 = *value,
                Err(at) => entries.insert(at, (*name, *value)),
            }
            *shard = entries.into();
        }
        Self(shards.into())
    }
}

/// The first twelve bits of a name, which SHA-256 spreads evenly.
fn shard_of(name: &[u8; 32]) -> usize {
    (usize::from(name[0]) << 4) | usize::from(name[1] >> 4)
}

/// About where a name stands among `len` sorted ones of its shard. They are spread evenly, so the bits after those that
/// chose the shard tell: a look at a few neighbours finds it, where a binary search would jump through memory.
fn expected_place(name: &[u8; 32], len: usize) -> usize {
    let [_, low, a, b, c, ..] = *name;
    let fraction = u32::from_be_bytes([low, a, b, c]) << 4;
    ((u64::from(fraction) * len as u64) >> 32) as usize
}

/// The current snapshot, and the one way to replace it.
pub struct KeyTable {
    current: ArcSwap<Snapshot>,
}

impl KeyTable {
    /// A table that starts from this snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self {
            current: ArcSwap::from_pointee(snapshot),
        }
    }

    /// The current snapshot. Wait-free; hold it for one decision, not for a request.
    pub fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Publishes a change: every request that begins from here on is judged by it. Callers make changes one after
    /// another, in the order of their epochs ([`super::revocation::Revocation`] sees to it).
    pub(super) fn apply(&self, change: &TableChange, epoch: i64) {
        let next = self.current.load().with(change, epoch);
        self.current.store(Arc::new(next));
    }

    /// Believes the current table until then. The one writer is the node's cycle, so no other table can have come between.
    pub(super) fn trust(&self, trust: Trust) {
        let mut next = Snapshot::clone(&self.current.load());
        next.trust = trust;
        self.current.store(Arc::new(next));
    }

    /// Publishes a table read anew.
    pub(super) fn replace(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
    }

    /// Stops believing the current table until it is replaced.
    pub(super) fn distrust(&self) {
        self.trust(Trust::Lapsed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn digest(n: u16) -> KeyDigest {
        use sha2::{Digest, Sha256};
        KeyDigest(Sha256::digest(n.to_be_bytes()).into())
    }

    #[derive(Clone, Debug)]
    enum Act {
        Put(u16, bool),
        Forget(u16),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            (0u16..50, any::<bool>()).prop_map(|(n, live)| Act::Put(n, live)),
            (0u16..50).prop_map(Act::Forget),
        ];
        proptest::collection::vec(act, 0..100)
    }

    proptest! {
        #[test]
        fn the_table_behaves_like_a_map_and_old_snapshots_do_not_change(acts in acts()) {
            let table = KeyTable::new(Snapshot::build([], Trust::WhileOwner, 0));
            let mut model = HashMap::new();
            for (epoch, act) in acts.iter().enumerate() {
                let before = table.load();
                let seen_before: Vec<_> = (0..50).map(|n| before.get(&digest(n)).copied()).collect();
                let mut change = TableChange::default();
                match act {
                    Act::Put(n, live) => {
                        let standing = if *live { Standing::Live } else { Standing::Dead };
                        let record = KeyRecord::of_seller(KeyId::new(), SellerId::new(), standing);
                        change.put.push((digest(*n), record));
                        model.insert(*n, record);
                    }
                    Act::Forget(n) => {
                        change.forget.push(digest(*n));
                        model.remove(n);
                    }
                }
                table.apply(&change, epoch as i64);
                let now = table.load();
                prop_assert_eq!(now.len(), model.len());
                for n in 0..50 {
                    prop_assert_eq!(now.get(&digest(n)), model.get(&n));
                    prop_assert_eq!(before.get(&digest(n)).copied(), seen_before[usize::from(n)]);
                }
            }
        }
    }
}
