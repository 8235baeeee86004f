//! `truckradar serve` and `truckradar demo`.
//!
//! Never: a demo on data that is somebody's.

use std::{
    fs::{File, Permissions},
    io::{BufWriter, Write},
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{Common, database_option, print, program};
use crate::{
    app::{self, App},
    clock::Clock,
    config::ServeArgs,
    db::{Db, DbUrl},
    demo,
    keys::format::SecretKey,
};

/// Options of `serve`.
#[derive(Args)]
pub(super) struct Serve {
    #[command(flatten)]
    serve: ServeArgs,
}

/// Options of `demo`.
#[derive(Args)]
pub(super) struct Demo {
    #[command(flatten)]
    serve: ServeArgs,
    /// Do not serve: fill the empty database named by --database with this many Sellers, each with a key, and exit.
    #[arg(long, value_name = "N", requires = "keys_out")]
    sellers: Option<usize>,
    /// Listings of each of those Sellers.
    #[arg(long, value_name = "M", default_value_t = 10, requires = "sellers")]
    listings: usize,
    /// The file that gets those Sellers' keys, one to a line; only its owner can read it.
    #[arg(long, value_name = "FILE", requires = "sellers")]
    keys_out: Option<PathBuf>,
}

impl Serve {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        app::start_logging(self.serve.log);
        app::raise_file_limit();
        let stop = stop_signal()?;
        let database = &common.database.database;
        let app = App::start(&self.serve, database, Clock::system()).await?;
        let (api, admin) = (app.api_url()?, app.admin_address()?);
        tracing::info!("API on {api}, metrics and health on http://{admin}");
        if !app.services().db.has_sellers().await? {
            let program = program();
            eprintln!(
                "There is no Seller yet. In another terminal, type:\n\n  \
                 {program} seller create --name 'Lone Star Trucks' --slug lone-star-trucks \\\n    \
                 --owner-email owner@lonestar.example --owner-password-stdin{}\n\n\
                 (then the owner's password, Enter and Ctrl-D), and after it:\n\n  \
                 {program} key generate --seller lone-star-trucks{}\n\n\
                 or sign in as the owner at {}/login and press the button in Settings, API Key.\n",
                database_option(database),
                database_option(database),
                app.services().settings.base_url,
            );
        }
        app.run(stop).await
    }
}

impl Demo {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        match (self.sellers, &self.keys_out) {
            (Some(sellers), Some(keys_out)) => fill(common, sellers, self.listings, keys_out).await,
            _ => demo(self.serve).await,
        }
    }
}

async fn demo(mut args: ServeArgs) -> anyhow::Result<()> {
    // What the demo has to say is on standard output; a finer level than the usual one was asked for.
    let level = if args.log > tracing::Level::INFO {
        args.log
    } else {
        tracing::Level::WARN
    };
    app::start_logging(level);
    app::raise_file_limit();
    let stop = stop_signal()?;
    let folder = tempfile::Builder::new()
        .prefix("truckradar-demo-")
        .tempdir()
        .context("a throw-away folder cannot be made")?;
    let path = folder.path().join("demo.db");
    let database = DbUrl::Sqlite(path.clone());
    // A demo beside something that has the usual port is still a demo.
    args.listen = free_or_any(args.listen);
    args.admin_listen = free_or_any(args.admin_listen);
    let app = App::start(&args, &database, Clock::system()).await?;
    let welcome = demo::fill(app.services()).await?;
    let api = app.api_url()?;
    let next_key = folder.path().join("next-key");
    private_file(&next_key)?;
    // They call as clients do that trust nobody's certificate: not over TLS.
    let calling = args
        .certificate_files()
        .is_none()
        .then(|| app.api_address())
        .transpose()?;
    let clients =
        calling.map(|address| demo::clients::start(address, welcome.key.expose(), &next_key));
    print::text(&format!(
        "TruckRadar runs on {api} with two made-up dealers (Ctrl-C ends it and removes its data).\n\n\
         Sign in as the owner of Lone Star Trucks, and look at Settings, API Key:\n\n  \
         {api}/login\n  \
         e-mail    {}\n  \
         password  {}\n\n\
         Ask for one of its trucks:\n\n  \
         curl -i {api}/api/v1/inventory/{} \\\n    \
         -H \"Authorization: Bearer {}\"\n\n\
         {}\n\
         Who works for many dealers has all their keys on one page. Sign in as {} with the same\n\
         password, and look at All keys.\n\n\
         Acts on a key are mailed to its owner ({}).\n",
        welcome.email,
        welcome.password,
        demo::EXAMPLE_VIN,
        welcome.key.expose(),
        what_to_do(&next_key, &database, clients.is_some()),
        welcome.vendor,
        args.mail_route(&database),
    ))?;
    drop(welcome);
    let served = app.run(stop).await;
    drop(clients);
    served
}

/// What a newcomer can try with the demo's key.
fn what_to_do(next_key: &Path, database: &DbUrl, clients: bool) -> String {
    let (program, database) = (program(), database_option(database));
    let next_key = next_key.display();
    if !clients {
        return format!(
            "Replace the key, there or here, and see the old one die at once:\n\n  \
             {program} key generate --seller lone-star-trucks{database}\n"
        );
    }
    format!(
        "Three made-up clients call with that key. Two of them also look into a file for the next key, and change over to it\n\
         when the present one is refused; the third was forgotten. Keep Settings, API Key open, and replace the key without\n\
         losing a call of those two. Prepare the next key, into that file:\n\n  \
         {program} key prepare --seller lone-star-trucks{database} > {next_key}\n\n\
         Then cut over, here or there, and see who was forgotten:\n\n  \
         {program} key cut-over --seller lone-star-trucks{database}\n"
    )
}

/// An empty file that only its owner can read.
fn private_file(path: &Path) -> anyhow::Result<()> {
    let mut options = File::options();
    options.create_new(true).write(true).mode(0o600);
    let made = options.open(path);
    made.with_context(|| format!("{} cannot be made", path.display()))?;
    Ok(())
}

/// The address if nothing listens there, else the same with a port that the system chooses.
fn free_or_any(address: SocketAddr) -> SocketAddr {
    match std::net::TcpListener::bind(address) {
        Ok(_) => address,
        Err(_) => SocketAddr::new(address.ip(), 0),
    }
}

async fn fill(
    common: &Common,
    sellers: usize,
    listings: usize,
    keys_out: &PathBuf,
) -> anyhow::Result<()> {
    app::start_logging(tracing::Level::WARN);
    let database = &common.database.database;
    let _owner = match database {
        DbUrl::Sqlite(path) => Some(app::own(path)?),
        DbUrl::Postgres(_) => None,
    };
    // Refuse before the work, not after it.
    let (file, is_new) = keys_file(keys_out)?;
    let filled = fill_database(database, sellers, listings).await;
    let keys = match filled {
        Ok(keys) => keys,
        Err(error) => {
            // It would stand in the way of the next try.
            if is_new {
                std::fs::remove_file(keys_out)?;
            }
            return Err(error);
        }
    };
    let mut lines = BufWriter::new(file);
    for key in &keys {
        writeln!(lines, "{}", key.expose())?;
    }
    lines
        .into_inner()
        .context("the keys cannot be written")?
        .sync_all()?;
    if common.json {
        return print::json(&json!({"sellers": sellers, "listings": sellers * listings}));
    }
    print::text(&format!(
        "{database} has {sellers} Sellers with {listings} listings each; their keys are in {}.",
        keys_out.display()
    ))
}

/// The file for the keys, readable by its owner only, and whether it was made here. A file that holds something is not
/// overwritten.
fn keys_file(path: &Path) -> anyhow::Result<(File, bool)> {
    let is_new = !path.exists();
    let file = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    let meta = file.metadata()?;
    anyhow::ensure!(
        meta.is_file() && meta.len() == 0,
        "{} holds something already; name another file",
        path.display()
    );
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok((file, is_new))
}

async fn fill_database(
    database: &DbUrl,
    sellers: usize,
    listings: usize,
) -> anyhow::Result<Vec<SecretKey>> {
    let db = Db::open(database)
        .await
        .with_context(|| format!("cannot open the database {database}"))?;
    db.migrate().await?;
    let keys = demo::fill_in_bulk(&db, Clock::system().now(), sellers, listings).await;
    db.close().await;
    keys
}

/// Completes on SIGTERM or SIGINT. Installed before anything else, so that no signal finds the process unprepared.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
