//! API keys: the heart of the product.
//!
//! The life of a key, told once. [`lifecycle`] makes it from the system's randomness in the form that [`mod@format`] knows,
//! stores its digest in the transaction that kills the one before it, and [`revocation`] lets the act return only when
//! every node obeys. From then on each request's key is read and judged by [`verify`], from the [`table`] in memory;
//! what it was used for is counted by [`usage`], read for people by [`cutover`], for all of a person's Sellers by [`ring`], and measured against [`limits`]; and what it may touch is a
//! [`scope::SellerScope`]. One day it is replaced or expired. Its digest stays among the Seller's last hundred dead keys, so
//! that a client that still sends it can be named, as [`incidents`] does, and then it is forgotten. Where a key is [`found`] that
//! should not be there, [`leaks`] ends it or tells its owners; that browsers send it, [`origins`] notes.
//!
//! Never: a key outside [`format::SecretKey`]; a decision about a key anywhere but in [`verify`].

pub mod clients;
pub mod cutover;
pub mod format;
pub mod found;
pub mod grant;
pub mod grants;
pub mod incidents;
pub mod leaks;
pub mod lifecycle;
pub mod limits;
pub mod networks;
pub mod origins;
pub mod revocation;
pub mod ring;
pub mod scope;
pub mod standing;
pub mod table;
pub mod usage;
pub mod verify;

use tokio::sync::Notify;

use self::{limits::RateLimits, origins::Origins, revocation::Revocation, usage::Usage};
use crate::{
    clock::Clock,
    db::{Db, DbError, NodeCard},
};

/// Everything about keys that lives as long as the process.
pub struct Keys {
    db: Db,
    clock: Clock,
    /// What keys are good, and how that changes.
    pub revocation: Revocation,
    /// Who used which key.
    pub usage: Usage,
    /// How fast.
    pub limits: RateLimits,
    /// From which pages browsers sent which key.
    pub origins: Origins,
    /// Rung when mails were put into the outbox.
    pub mails_due: Notify,
}

impl Keys {
    /// Judges a request by the database itself, where this node's table may not be believed.
    pub async fn ask_primary(
        &self,
        digest: format::KeyDigest,
        request: &verify::Request<'_>,
    ) -> Result<verify::Caller, verify::Refusal> {
        self.revocation.ask_primary(&self.db, digest, request).await
    }

    /// Reads every key from the database. `node` is this process, if it will answer requests.
    pub async fn load(db: Db, clock: Clock, node: Option<NodeCard>) -> Result<Self, DbError> {
        Ok(Self {
            revocation: Revocation::load(&db, node).await?,
            usage: Usage::new(clock.now()),
            limits: RateLimits::default(),
            origins: Origins::default(),
            mails_due: Notify::new(),
            db,
            clock,
        })
    }
}
