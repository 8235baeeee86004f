//! The schema: bringing it up, and what is wrong with one that cannot be.
//!
//! Never: a program at work on a schema that has left it behind; a migration that is undone or changed.

use sqlx::{Connection, migrate::Migrator};

use super::{Db, DbError, on_db};

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");
/// What is said to a program that the schema has left behind.
pub(super) const TOO_OLD: &str =
    "the schema is of a later version, which this program does not suit; upgrade the program";

impl Db {
    /// Brings the schema up to this program's; does nothing to one that is, or to a later one that says it suits this program
    /// too. Processes that do so at once wait for each other. Returns how many migrations this program has.
    pub async fn migrate(&self) -> Result<usize, DbError> {
        // What a later version added is no error: nodes of two versions share the database while one replaces the other.
        match self {
            Self::Sqlite(db) => {
                later_versions_pass(&SQLITE_MIGRATIONS)
                    .run(&db.writer)
                    .await?
            }
            Self::Postgres(db) => {
                // A migration may take longer than any other statement is given.
                let mut own = db.unlimited().await?;
                later_versions_pass(&POSTGRES_MIGRATIONS)
                    .run(&mut own)
                    .await?;
                own.close().await?;
            }
        }
        if self.schema_floor().await? > Self::newest_migration() {
            return Err(DbError::TooOld);
        }
        Ok(Self::schema_version())
    }

    /// The oldest schema whose programs still work with this database's.
    async fn schema_floor(&self) -> Result<i64, DbError> {
        const SQL: &str = "SELECT oldest FROM schema_floor WHERE one = 1";
        Ok(on_db!(self, |pool| sqlx::query_scalar(SQL)
            .fetch_one(pool)
            .await)?)
    }

    fn newest_migration() -> i64 {
        let versions = SQLITE_MIGRATIONS.iter().map(|migration| migration.version);
        versions.max().unwrap_or(0)
    }

    /// The schema version that this program works with.
    pub fn schema_version() -> usize {
        SQLITE_MIGRATIONS.iter().count()
    }

    /// Whether there is a schema of ours, of whatever version.
    pub async fn schema_is_there(&self) -> Result<bool, DbError> {
        const SQLITE: &str = "SELECT COUNT(*) FROM sqlite_master WHERE name = 'key_epoch'";
        const POSTGRES: &str =
            "SELECT COUNT(*) FROM pg_catalog.pg_class WHERE oid = to_regclass('key_epoch')";
        let sql = self.of_engine(SQLITE, POSTGRES);
        let found: i64 = on_db!(self, |pool| sqlx::query_scalar(sql).fetch_one(pool).await)?;
        Ok(found > 0)
    }

    /// What is wrong with the schema, for a program that will not change it; nothing is well.
    pub async fn schema_problem(&self) -> Option<&'static str> {
        const SQL: &str = "SELECT MAX(version) FROM _sqlx_migrations WHERE success";
        let found: Result<Option<i64>, _> =
            on_db!(self, |pool| sqlx::query_scalar(SQL).fetch_one(pool).await);
        let newest = Some(Self::newest_migration());
        match found {
            Ok(found) if found == newest => None,
            Ok(found) if found > newest => match self.schema_floor().await {
                Ok(floor) if Some(floor) <= newest => None,
                _ => Some(TOO_OLD),
            },
            _ => Some(
                "the schema is missing or of an earlier version; `truckradar migrate` or `serve` brings it up",
            ),
        }
    }
}

/// The same migrations, of which the database may have later ones.
fn later_versions_pass(migrations: &Migrator) -> Migrator {
    Migrator {
        ignore_missing: true,
        migrations: migrations.migrations.clone(),
        ..Migrator::DEFAULT
    }
}
