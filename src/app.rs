//! One running server: it takes the database, listens, works in the background, and ends without losing anything.
//!
//! Never: an address answered before every key is in memory; the database left before the last request has ended.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    clock::Clock,
    config::{Limits, ServeArgs},
    control::{ControlSocket, Ownership},
    db::{Db, DbUrl},
    http::{Certificate, Metrics, Server},
    keys::{format::redact, incidents, usage::FLUSH_EVERY_MS},
    mail::{
        sender::{Closing, Sender},
        transport::Transport,
    },
    services::{Services, Settings},
};

/// How often the write-ahead log's size is looked at.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// How often what is no longer needed is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// A server that is bound and ready to serve.
pub struct App {
    services: Arc<Services>,
    server: Server,
    certificate: Option<Certificate>,
    metrics: Arc<Metrics>,
    sender: Sender,
    // Last, so that it is dropped last: the database is ours until nothing of ours uses it.
    own_file: Option<OwnFile>,
}

/// What goes with a database that is a file: this server owns it, and takes commands for it.
struct OwnFile {
    control: ControlSocket,
    _owner: Ownership,
}

impl App {
    /// Takes the database, brings it up to date, reads every key and binds both addresses.
    pub async fn start(args: &ServeArgs, database: &DbUrl, clock: Clock) -> anyhow::Result<Self> {
        let problems = args.problems();
        anyhow::ensure!(problems.is_empty(), "{}", problems.join("\n"));
        let certificate = args
            .certificate_files()
            .map(Certificate::read)
            .transpose()?;
        let limits = Limits::default();
        let route = args.mail_route(database);
        let transport = Transport::new(&route)?;
        let mut server =
            Server::bind(args.listen, args.admin_listen, limits).context("cannot listen")?;
        if let Some(certificate) = &certificate {
            server = server.with_tls(certificate);
        }
        let settings = Settings::of(args, limits, server.api_address()?);
        let owner = match database {
            DbUrl::Sqlite(path) => Some((path, own(path)?)),
            DbUrl::Postgres(_) => None,
        };
        let db = Db::open_with(database, args.database_connections)
            .await
            .with_context(|| format!("cannot open the database {database}"))?;
        let name = args.node_name(server.api_address()?);
        let services = Services::start(db, clock, settings, Some(name)).await?;
        services.people.warm_up().await;
        let closing = Closing {
            security_contact: services.settings.security_contact.clone(),
            base_url: args.public_url.first().map(ToString::to_string),
            mails_links: services.settings.mails_links,
        };
        let sender = Sender::new(services.db.clone(), clock, transport, closing);
        tracing::info!("{route}");
        let own_file = owner
            .map(|(path, owner)| {
                let control = ControlSocket::bind(path, &owner)
                    .context("cannot listen for commands beside the database")?;
                anyhow::Ok(OwnFile {
                    control,
                    _owner: owner,
                })
            })
            .transpose()?;
        let metrics = Metrics::new()?;
        metrics.add(&services.keys.revocation.figures)?;
        Ok(Self {
            services: Arc::new(services),
            server,
            certificate,
            metrics: Arc::new(metrics),
            sender,
            own_file,
        })
    }

    /// What handlers and commands share.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Where the API listens.
    pub fn api_address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.server.api_address()?)
    }

    /// The same as an address for clients.
    pub fn api_url(&self) -> anyhow::Result<String> {
        let scheme = match self.certificate {
            Some(_) => "https",
            None => "http",
        };
        Ok(format!("{scheme}://{}", self.api_address()?))
    }

    /// Where the operator's address is.
    pub fn admin_address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.server.admin_address()?)
    }

    /// Serves until the signal comes; then lets running requests finish, writes what was counted, and returns.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        let Self {
            services,
            server,
            certificate,
            metrics,
            sender,
            own_file,
        } = self;
        let (tell, told) = watch::channel(false);
        let mut background = background_tasks(&services, &told);
        if let Some(certificate) = certificate {
            background.spawn(until_told(certificate.keep_fresh(), told.clone()));
        }
        let keys = Arc::clone(&services.keys);
        let send = async move { sender.run(&keys.mails_due).await };
        background.spawn(until_told(send, told.clone()));
        let (control, _owner) = match own_file {
            Some(OwnFile { control, _owner }) => (Some(control), Some(_owner)),
            None => (None, None),
        };
        let own = Arc::clone(&services);
        let commands = tokio::spawn(async move {
            if let Some(control) = control {
                control.serve(own, told).await;
            }
        });

        let stopper = server.stopper();
        let waiting = tokio::spawn(async move {
            stop.await;
            tracing::info!("stopping: no new requests, running ones may finish");
            stopper();
        });
        let served = server.run(Arc::clone(&services), metrics).await;
        waiting.abort();
        // Commands last: an operator may want to kill a key while the last requests drain.
        let _ = tell.send(true);
        if tokio::time::timeout(services.settings.limits.drain, commands)
            .await
            .is_err()
        {
            tracing::warn!("a command did not end in time");
        }
        // Ended by the signal, not cut off: counts that are on their way to the database must get there.
        background.join_all().await;
        if let Err(error) = services
            .keys
            .usage
            .flush(&services.db, services.clock.now())
            .await
        {
            tracing::warn!(%error, "the last counts of usage are lost");
        }
        if let Err(error) = services.keys.origins.flush(&services.db).await {
            tracing::warn!(%error, "that browsers sent keys is lost");
        }
        services.keys.revocation.leave(&services.db).await;
        services.db.close().await;
        tracing::info!("stopped");
        Ok(served?)
    }
}

/// Takes a database, or says who has it.
pub fn own(path: &Path) -> anyhow::Result<Ownership> {
    Ownership::take(path)
        .with_context(|| format!("cannot lock the database {}", path.display()))?
        .with_context(|| {
            format!(
                "another process owns the database {}: a server or a command is running on it",
                path.display()
            )
        })
}

fn background_tasks(services: &Arc<Services>, stop: &watch::Receiver<bool>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let own = Arc::clone(services);
    let keep_trusted = async move {
        let revocation = &own.keys.revocation;
        revocation.keep_trusted(&own.db, &own.clock).await;
    };
    tasks.spawn(until_told(keep_trusted, stop.clone()));

    let own = Arc::clone(services);
    tasks.spawn(every(
        Duration::from_millis(FLUSH_EVERY_MS),
        stop.clone(),
        move || {
            let own = Arc::clone(&own);
            async move {
                let now = own.clock.now();
                if let Err(error) = own.keys.origins.flush(&own.db).await {
                    tracing::warn!(%error, "that browsers sent keys cannot be written; kept in memory");
                }
                if !own.keys.usage.is_due(now) {
                    return;
                }
                if let Err(error) = own.keys.usage.flush(&own.db, now).await {
                    tracing::warn!(%error, "counts of usage cannot be written; kept in memory");
                }
            }
        },
    ));

    let (own, stopped) = (Arc::clone(services), stop.clone());
    tasks.spawn(async move { own.leaks.read_slips(stopped).await });

    let own = Arc::clone(services);
    let watch = async move { incidents::watch(&own.keys).await };
    tasks.spawn(until_told(watch, stop.clone()));

    let own = Arc::clone(services);
    tasks.spawn(every(CHECKPOINT_EVERY, stop.clone(), move || {
        let own = Arc::clone(&own);
        async move {
            if let Err(error) = own.db.checkpoint().await {
                tracing::warn!(%error, "the write-ahead log cannot be checkpointed");
            }
        }
    }));

    let (own, stopped) = (Arc::clone(services), stop.clone());
    tasks.spawn(every(FORGET_EVERY, stop.clone(), move || {
        let (own, stopped) = (Arc::clone(&own), stopped.clone());
        async move {
            own.keys.limits.forget_quiet(own.clock.boot());
            // After a long stop there may be much to forget; the end does not wait for it.
            until_told(forget_old(&own), stopped).await;
        }
    }));
    tasks
}

/// Removes what is older than the operator wants it kept; what fails keeps nothing else from being forgotten.
async fn forget_old(services: &Services) {
    let days_ago = |days: u32| {
        services
            .clock
            .now()
            .before(Duration::from_secs(u64::from(days) * 86_400))
    };
    let used = days_ago(services.settings.usage_days);
    let done = days_ago(services.settings.audit_days);
    let db = &services.db;
    for (what, forgotten) in [
        (
            "counts of use",
            db.forget_usage_before(used.minute(), used).await,
        ),
        (
            "addresses in the audit log",
            db.forget_audit_addresses_before(used).await,
        ),
        ("incidents", db.forget_incidents_before(used).await),
        ("signs of leaks", db.forget_leaks_before(done, used).await),
        ("the audit log", db.forget_audit_before(done).await),
        (
            "sessions, sign-ins, links and failures",
            services.people.forget_past().await,
        ),
    ] {
        if let Err(error) = forgotten {
            tracing::warn!(%error, what, "what is past its time cannot be forgotten");
        }
    }
}

/// Works until told to stop, and then no further.
async fn until_told(work: impl Future<Output = ()>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Does the work each period until told to stop; work that has begun is finished.
async fn every<F: Future<Output = ()>>(
    period: Duration,
    mut stop: watch::Receiver<bool>,
    mut work: impl FnMut() -> F,
) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let go_on = tokio::select! {
            _ = ticks.tick() => true,
            _ = stop.wait_for(|stop| *stop) => false,
        };
        if !go_on {
            return;
        }
        work().await;
    }
}

/// Logs to standard error. Other crates' own messages are cut at "warn": some of them print headers at finer levels.
pub fn start_logging(level: tracing::Level) {
    use tracing_subscriber::{
        filter::{LevelFilter, Targets},
        layer::SubscriberExt,
        util::SubscriberInitExt,
    };
    let ours = Targets::new()
        .with_target("truckradar", level)
        .with_default(level.min(tracing::Level::WARN))
        // It repeats what it does not know of the database's address, which may be a password.
        .with_target("sqlx_postgres::options", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    // A second call, as in tests, keeps the first one's settings.
    let _ = tracing_subscriber::registry()
        .with(ours)
        .with(lines)
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("(no message)");
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(place, "panic: {}", redact(text));
    }));
}

/// Lets the process have as many open files as the system allows: each connection is one.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
}
