//! `truckradar migrate` and `truckradar check`.
//!
//! Never: a change made by `check`.

use std::path::Path;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::{Common, print};
use crate::{
    app,
    config::ServeArgs,
    control::{self, Ownership},
    db::{Db, DbUrl},
    operator::Command,
};

/// Options of `check`: those of `serve`, which it judges.
#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    serve: ServeArgs,
}

/// Brings the schema up to this version's.
pub(super) async fn migrate(common: &Common) -> anyhow::Result<()> {
    app::start_logging(tracing::Level::WARN);
    let database = &common.database.database;
    let version = match database {
        DbUrl::Sqlite(path) => match Ownership::take(path)? {
            Some(_owner) => migrate_now(database).await?,
            // A server brings the schema up before it takes commands.
            None => {
                control::ask(path, &Command::SellerList { after: "~".into() })
                    .await?
                    .and_then(Result::ok)
                    .context("another process owns the database and does not answer")?;
                Db::schema_version()
            }
        },
        // Others may do the same at this moment; one waits for the other.
        DbUrl::Postgres(_) => migrate_now(database).await?,
    };
    if common.json {
        return print::json(&json!({"schema_version": version}));
    }
    print::text(&format!("{database} is at schema version {version}."))
}

async fn migrate_now(database: &DbUrl) -> anyhow::Result<usize> {
    let db = Db::open(database)
        .await
        .with_context(|| format!("cannot open the database {database}"))?;
    let version = db.migrate().await?;
    db.close().await;
    Ok(version)
}

impl Check {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        app::start_logging(tracing::Level::ERROR);
        let mut problems = self.serve.problems();
        let mut facts = Vec::new();
        match &common.database.database {
            DbUrl::Sqlite(path) => look_at_file(path, &mut facts, &mut problems).await?,
            database @ DbUrl::Postgres(_) => {
                look_at_server(database, &mut facts, &mut problems).await;
            }
        }
        if common.json {
            print::json(&json!({"problems": problems, "facts": facts}))?;
        } else {
            for fact in &facts {
                print::text(fact)?;
            }
            for problem in &problems {
                print::text(&format!("PROBLEM: {problem}"))?;
            }
        }
        anyhow::ensure!(
            problems.is_empty(),
            "{} found",
            match problems.len() {
                1 => "1 problem".to_owned(),
                n => format!("{n} problems"),
            }
        );
        if !common.json {
            print::text("Nothing is wrong.")?;
        }
        Ok(())
    }
}

/// What there is to say of a database file, and what is wrong with it.
async fn look_at_file(
    path: &Path,
    facts: &mut Vec<String>,
    problems: &mut Vec<String>,
) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        problems.push(format!(
            "the folder {} for the database does not exist",
            folder.display()
        ));
    } else if !path.exists() {
        facts.push(format!(
            "there is no database {} yet; `truckradar serve` makes it",
            path.display()
        ));
    } else if let Some(_owner) = Ownership::take(path)? {
        facts.push("no server is running on the database".to_owned());
        problems.extend(check_file(path).await?);
    } else {
        // Somebody else's while it runs; whether it answers is what can be told from here.
        let asked = control::ask(path, &Command::SellerList { after: "~".into() }).await;
        match asked {
            Ok(Some(Ok(_))) => {
                facts.push("a server is running on the database and answers commands".to_owned())
            }
            Ok(Some(Err(refused))) => {
                problems.push(format!("the server answers: {}", refused.message))
            }
            Ok(None) => {
                problems.push("another process owns the database and takes no commands".to_owned())
            }
            Err(error) => problems.push(format!("the server cannot be asked: {error}")),
        }
    }
    Ok(())
}

/// The same of a database server.
async fn look_at_server(database: &DbUrl, facts: &mut Vec<String>, problems: &mut Vec<String>) {
    let db = match Db::open(database).await {
        Ok(db) => db,
        Err(error) => {
            problems.push(format!("{database} cannot be opened: {error}"));
            return;
        }
    };
    match db.schema_problem().await {
        Some(problem) => problems.push(problem.to_owned()),
        None => match db.nodes().await {
            Ok(nodes) => facts.push(format!(
                "{database} answers, and {} on it",
                match nodes.len() {
                    0 => "no server is running".to_owned(),
                    1 => "1 server is running".to_owned(),
                    n => format!("{n} servers are running"),
                }
            )),
            Err(error) => problems.push(format!("the nodes cannot be listed: {error}")),
        },
    }
    db.close().await;
}

/// What is wrong with a database file that nobody else uses.
async fn check_file(path: &Path) -> anyhow::Result<Vec<String>> {
    let db = match Db::inspect(path).await {
        Ok(db) => db,
        Err(error) => return Ok(vec![format!("the database cannot be opened: {error}")]),
    };
    let mut problems = match db.integrity_problems().await {
        Ok(problems) => problems,
        Err(error) => vec![format!("the database cannot be read: {error}")],
    };
    problems.extend(db.schema_problem().await.map(str::to_owned));
    db.close().await;
    Ok(problems)
}
