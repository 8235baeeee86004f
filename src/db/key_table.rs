//! What nodes keep in memory of keys and grants, read whole, by what has changed, or one by one.
//!
//! Never: two readings of different moments taken for one; an account's networks that cannot be read taken for none.

use futures_util::TryStreamExt;
use sqlx::{Connection, FromRow};

use super::{
    Db, DbError, ScopedTx, Tx,
    nodes::on_vital,
    place_in,
    postgres::{BEGIN_READ, PgDb, answered},
};
use crate::{
    accounts::{AccountKind, AccountStatus, Plan},
    ids::{GrantId, KeyId, SellerId},
    keys::{
        format::KeyDigest,
        grant::{GrantName, GrantRecord, Named},
        networks::Networks,
        table::{Holder, KeyRecord, Standing, TableChange},
    },
};

/// The revocation epoch.
pub(super) const EPOCH: &str = "SELECT epoch FROM key_epoch WHERE one = 1";

/// Keys and staged keys with what their accounts decide about them; the condition is on `k`, a key of either kind.
macro_rules! keys_where {
    ($condition:literal) => {
        concat!(
            "SELECT k.id, k.seller_id, k.digest, k.state, s.kind, s.plan, s.status, s.key_networks ",
            "FROM api_keys k JOIN sellers s ON s.id = k.seller_id WHERE ",
            $condition,
            " UNION ALL ",
            "SELECT k.id, k.seller_id, k.digest, 'staged', s.kind, s.plan, s.status, s.key_networks ",
            "FROM staged_keys k JOIN sellers s ON s.id = k.seller_id WHERE ",
            $condition
        )
    };
}

/// Grants with what their Sellers' accounts decide about them; the condition is on `g`, a grant, and `s`, its Seller.
macro_rules! grants_where {
    ($condition:literal) => {
        concat!(
            "SELECT g.id, g.seller_id, g.platform_id, g.state, s.slug, s.status FROM grants g ",
            "JOIN sellers s ON s.id = g.seller_id WHERE ",
            $condition
        )
    };
}

#[derive(FromRow)]
struct TableRow {
    id: KeyId,
    seller_id: SellerId,
    digest: Option<Vec<u8>>,
    state: String,
    kind: AccountKind,
    plan: Plan,
    status: AccountStatus,
    key_networks: Option<String>,
}

#[derive(FromRow)]
struct GrantEntry {
    id: GrantId,
    seller_id: SellerId,
    platform_id: SellerId,
    state: String,
    slug: String,
    status: AccountStatus,
}

/// What has changed among the keys and grants.
#[derive(Clone, Debug)]
pub struct KeyChanges {
    /// The epoch up to which this is complete.
    pub epoch: i64,
    /// What is new or has changed.
    pub change: TableChange,
    /// Keys whose digests are no longer kept.
    pub forgotten: Vec<KeyId>,
}

/// What the database itself says about one request, at this moment.
#[derive(Clone, Debug, Default)]
pub struct AskedKey {
    /// The key, if there is one with its digest.
    pub record: Option<KeyRecord>,
    /// The networks that its account has named.
    pub networks: Option<Networks>,
    /// The grant of the Seller that the request names, if the key is a Platform's.
    pub grant: Option<GrantRecord>,
    /// An epoch, read after all this: whoever knows everything up to it knows this too. 0 if there is no such key.
    pub epoch: i64,
}

pub(super) fn digest_of(bytes: &[u8]) -> Result<KeyDigest, DbError> {
    bytes
        .try_into()
        .map(KeyDigest)
        .map_err(|_| DbError::Damaged("a digest is not 32 bytes".into()))
}

impl TableRow {
    fn record(&self) -> KeyRecord {
        KeyRecord {
            key: self.id,
            seller: self.seller_id,
            standing: match self.state.as_str() {
                "live" => Standing::Live,
                "staged" => Standing::Staged,
                _ => Standing::Dead,
            },
            holder: match self.kind {
                AccountKind::Seller => Holder::Seller,
                AccountKind::Platform => Holder::Platform {
                    enterprise: self.plan == Plan::Enterprise,
                },
            },
            inactive: self.status != AccountStatus::Active,
            fenced_in: self.key_networks.is_some(),
        }
    }

    /// `None` as well for what cannot be read: the key is fenced in all the same, and so let in from nowhere.
    fn networks(&self) -> Option<Networks> {
        let text = self.key_networks.as_deref()?;
        match text.parse() {
            Ok(networks) => Some(networks),
            Err(error) => {
                tracing::error!(%error, account = %self.seller_id, "an account's networks cannot be read");
                None
            }
        }
    }

    /// Puts it into a change of the table; into the list of forgotten ones if it has no digest any more.
    fn put(self, change: &mut TableChange, forgotten: &mut Vec<KeyId>) -> Result<(), DbError> {
        match &self.digest {
            Some(digest) => {
                change.put.push((digest_of(digest)?, self.record()));
                if let Some(networks) = self.networks() {
                    change.networks.push((self.seller_id, networks));
                }
            }
            None => forgotten.push(self.id),
        }
        Ok(())
    }
}

impl GrantEntry {
    fn record(&self) -> GrantRecord {
        GrantRecord {
            grant: self.id,
            seller: self.seller_id,
            live: self.state == "live",
            seller_inactive: self.status != AccountStatus::Active,
        }
    }

    fn put(self, change: &mut TableChange) {
        let record = self.record();
        let names = [
            GrantName::by_id(self.platform_id, self.seller_id),
            GrantName::by_slug(self.platform_id, &self.slug),
        ];
        change.grants.extend(names.map(|name| (name, record)));
    }
}

impl Db {
    /// Everything that decides about keys, with the epoch up to which it is complete, all of one moment.
    pub async fn key_table(&self) -> Result<(TableChange, i64), DbError> {
        const KEYS: &str = keys_where!("k.digest IS NOT NULL");
        const GRANTS: &str = grants_where!("g.state = 'live'");
        const COUNT: &str = "SELECT (SELECT COUNT(*) FROM api_keys WHERE digest IS NOT NULL) \
             + (SELECT COUNT(*) FROM staged_keys)";
        // Row by row into what is kept: a million rows as the driver holds them would be several times as large.
        macro_rules! read {
            ($tx:expr) => {{
                let mut tx = $tx;
                let epoch = sqlx::query_scalar(EPOCH).fetch_one(&mut *tx).await?;
                let count: i64 = sqlx::query_scalar(COUNT).fetch_one(&mut *tx).await?;
                let mut all = TableChange {
                    put: Vec::with_capacity(usize::try_from(count).unwrap_or(0)),
                    ..TableChange::default()
                };
                {
                    let mut rows = sqlx::query_as::<_, TableRow>(KEYS).fetch(&mut *tx);
                    while let Some(row) = rows.try_next().await? {
                        row.put(&mut all, &mut Vec::new())?;
                    }
                }
                let mut rows = sqlx::query_as::<_, GrantEntry>(GRANTS).fetch(&mut *tx);
                while let Some(row) = rows.try_next().await? {
                    row.put(&mut all);
                }
                (all, epoch)
            }};
        }
        Ok(match self {
            Self::Sqlite(db) => read!(db.reader.begin().await?),
            Self::Postgres(db) => {
                // A million rows may take longer than any other statement is given.
                let mut own = db.unlimited().await?;
                let read = read!(PgDb::begin_read(&mut own).await?);
                own.close().await?;
                read
            }
        })
    }

    /// What has changed since an epoch, all of one snapshot.
    pub async fn key_changes(&self, since: i64) -> Result<KeyChanges, DbError> {
        const KEYS: &str = keys_where!("k.changed_epoch > $1");
        const GRANTS: &str = grants_where!("g.changed_epoch > $1");
        macro_rules! read {
            ($tx:expr) => {{
                let mut tx = $tx;
                let epoch: i64 = sqlx::query_scalar(EPOCH).fetch_one(&mut *tx).await?;
                let (keys, grants): (Vec<TableRow>, Vec<GrantEntry>) = if epoch == since {
                    (Vec::new(), Vec::new())
                } else {
                    (
                        sqlx::query_as(KEYS).bind(since).fetch_all(&mut *tx).await?,
                        sqlx::query_as(GRANTS)
                            .bind(since)
                            .fetch_all(&mut *tx)
                            .await?,
                    )
                };
                tx.rollback().await?;
                Ok((epoch, keys, grants))
            }};
        }
        let (epoch, keys, grants) = match self {
            Self::Sqlite(db) => {
                let read: Result<_, sqlx::Error> = async { read!(db.reader.begin().await?) }.await;
                read?
            }
            Self::Postgres(db) => {
                answered(async { read!(db.lease.begin_with(BEGIN_READ).await?) }).await?
            }
        };
        let (change, forgotten) = changes_of(keys, grants)?;
        Ok(KeyChanges {
            epoch,
            change,
            forgotten,
        })
    }

    /// What the database itself says of a key and of the Seller that a request with it names. Each is a reading of its own,
    /// begun after the request, which is all that the rule asks for.
    pub async fn ask_about_key(
        &self,
        digest: KeyDigest,
        named: Named<'_>,
    ) -> Result<AskedKey, DbError> {
        const KEY: &str = keys_where!("k.digest = $1");
        const BY_ID: &str = grants_where!("g.platform_id = $1 AND g.seller_id = $2");
        const BY_SLUG: &str = grants_where!("g.platform_id = $1 AND s.slug = $2");
        let _place = match self {
            Self::Sqlite(_) => None,
            Self::Postgres(db) => Some(place_in(&db.checks).await?),
        };
        let row: Option<TableRow> = on_vital!(self, |pool| sqlx::query_as(KEY)
            .bind(digest.0.to_vec())
            .fetch_optional(pool)
            .await)?;
        let Some(row) = row else {
            return Ok(AskedKey::default());
        };
        let (record, networks) = (row.record(), row.networks());
        let seller_text = |id: SellerId| (BY_ID, id.to_text());
        let asked = match (record.holder, named) {
            (Holder::Platform { .. }, Named::Id(id)) => Some(seller_text(id)),
            (Holder::Platform { .. }, Named::Slug(slug)) => Some((BY_SLUG, slug.to_owned())),
            _ => None,
        };
        let grant: Option<GrantEntry> = match asked {
            None => None,
            Some((sql, name)) => on_vital!(self, |pool| sqlx::query_as(sql)
                .bind(record.seller)
                .bind(name)
                .fetch_optional(pool)
                .await)?,
        };
        let epoch = on_vital!(self, |pool| sqlx::query_scalar(EPOCH).fetch_one(pool).await)?;
        Ok(AskedKey {
            record: Some(record),
            networks,
            grant: grant.map(|grant| grant.record()),
            epoch,
        })
    }
}

impl ScopedTx {
    /// What a change that was sealed with this epoch does to the table in memory. Nothing on PostgreSQL, where each node reads
    /// that for itself.
    pub async fn sealed_changes(&mut self, epoch: i64) -> Result<TableChange, DbError> {
        const KEYS: &str = keys_where!("k.changed_epoch = $1 AND k.digest IS NOT NULL");
        const GRANTS: &str = grants_where!("g.changed_epoch = $1");
        match &mut self.tx.inner {
            Tx::Sqlite(tx) => {
                let keys = sqlx::query_as(KEYS)
                    .bind(epoch)
                    .fetch_all(&mut **tx)
                    .await?;
                let grants = sqlx::query_as(GRANTS)
                    .bind(epoch)
                    .fetch_all(&mut **tx)
                    .await?;
                changes_of(keys, grants).map(|(change, _)| change)
            }
            Tx::Postgres(_) => Ok(TableChange::default()),
        }
    }
}

fn changes_of(
    keys: Vec<TableRow>,
    grants: Vec<GrantEntry>,
) -> Result<(TableChange, Vec<KeyId>), DbError> {
    let (mut change, mut forgotten) = (TableChange::default(), Vec::new());
    for row in keys {
        row.put(&mut change, &mut forgotten)?;
    }
    for row in grants {
        row.put(&mut change);
    }
    Ok((change, forgotten))
}

impl KeyChanges {
    /// What is to be done to a table; `digests` finds those of keys in it.
    pub fn for_table(self, digests: impl FnOnce(&[KeyId]) -> Vec<KeyDigest>) -> TableChange {
        let forget = match self.forgotten.is_empty() {
            true => Vec::new(),
            false => digests(&self.forgotten),
        };
        TableChange {
            forget,
            ..self.change
        }
    }
}
