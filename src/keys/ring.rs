//! A person's key ring: how the keys stand of all the Sellers that they are a member of, and whose clients were forgotten.
//!
//! Never: another rule for who is still on a dead key than that of [`super::cutover`].

use std::collections::HashMap;

use super::cutover::{LOOK_BACK, is_still_on_a_dead_key, told_apart};
use crate::{
    clock::Time,
    db::{Db, DbError, RefusedClient, RingRow},
    ids::{SellerId, UserId},
};

/// Clients of one Seller that are looked at; its own page looks at more.
const CLIENTS_READ: i64 = 100;

/// One Seller's key on the ring.
pub struct OnRing {
    /// How it stands.
    pub row: RingRow,
    /// Clients that still send a dead key.
    pub still: usize,
    /// Whether there may be more of them.
    pub more: bool,
}

/// Reads how every key on a User's ring stood at `now`, by the Sellers' names.
pub async fn read(db: &Db, user: UserId, now: Time) -> Result<Vec<OnRing>, DbError> {
    let since = now.before(LOOK_BACK);
    let rows = db.key_ring(user, since).await?;
    let mut refused: HashMap<SellerId, Vec<RefusedClient>> = HashMap::new();
    for one in db.key_ring_refused(user, since, CLIENTS_READ).await? {
        let clients = refused.entry(one.seller_id).or_default();
        clients.push(one.client);
    }
    let on_ring = |row: RingRow| {
        let mut clients = refused.remove(&row.seller_id).unwrap_or_default();
        let was_cut = i64::try_from(clients.len()).is_ok_and(|read| read >= CLIENTS_READ);
        clients.retain(|client| is_still_on_a_dead_key(client, now));
        let (still, more) = told_apart(clients.len(), &clients, CLIENTS_READ);
        OnRing {
            row,
            still,
            more: still > 0 && (more || was_cut),
        }
    };
    Ok(rows.into_iter().map(on_ring).collect())
}
