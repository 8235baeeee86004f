//! Everything that handlers and commands share: the database, the clock, the keys, the inventory and the settings.
//!
//! Never: state that a restart may not lose, other than in the database.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;

use crate::{
    accounts::people::People,
    clock::Clock,
    config::{KeysUrl, Limits, PublicUrl, RateLimitMode, ServeArgs},
    db::{Db, DbError, NodeCard},
    ids::NodeId,
    inventory::{service::Inventory, validate::Rules},
    keys::Keys,
    leaks::{LeakRules, Leaks},
};

/// See the module.
pub struct Services {
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Keys.
    pub keys: Arc<Keys>,
    /// Keys that were found where they should not be.
    pub leaks: Arc<Leaks>,
    /// Inventory.
    pub inventory: Arc<Inventory>,
    /// The people who sign in.
    pub people: Arc<People>,
    /// What the operator decided.
    pub settings: Settings,
}

/// What handlers need of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Proxies whose word on the client's address is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What happens over the rate limit.
    pub rate_limits: RateLimitMode,
    /// How strictly records are judged.
    pub rules: Rules,
    /// Whom dealers write to about leaked keys.
    pub security_contact: String,
    /// Whom dealers write to about the rest.
    pub sales_contact: String,
    /// Where GitHub publishes the keys by which it signs.
    pub github_keys_url: KeysUrl,
    /// Whether a key that somebody hands in is killed at once.
    pub kill_reported_keys: bool,
    /// Days for which client addresses, User-Agents and counts of use are kept.
    pub usage_days: u32,
    /// Days for which the audit log is kept.
    pub audit_days: u32,
    /// The names by which the world reaches the server; pages are served under these only, if there are any.
    pub public_urls: Vec<PublicUrl>,
    /// Whether browsers reach it over TLS, its own or a proxy's.
    pub https: bool,
    /// What links begin with that leave the server, in mails for one: scheme and host, without a slash.
    pub base_url: String,
    /// Whether links that let somebody in are mailed: there is an SMTP server, and a name that links can begin with. Otherwise
    /// they are shown to whoever makes them.
    pub mails_links: bool,
    /// Limits on what clients may make the server do.
    pub limits: Limits,
}

impl Default for Settings {
    /// Those of a process that answers no request, such as a command that runs alone.
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            rate_limits: RateLimitMode::Monitor,
            rules: Rules::default(),
            security_contact: String::new(),
            sales_contact: String::new(),
            github_keys_url: KeysUrl::default(),
            kill_reported_keys: false,
            usage_days: 30,
            audit_days: 365,
            public_urls: Vec::new(),
            https: false,
            base_url: "http://127.0.0.1:8080".to_owned(),
            mails_links: false,
            limits: Limits::default(),
        }
    }
}

impl Settings {
    /// The settings of these options, for a server whose API has this address: the port may be the system's choice.
    pub fn of(args: &ServeArgs, limits: Limits, api: SocketAddr) -> Self {
        let speaks_tls = args.certificate_files().is_some();
        let scheme = if speaks_tls { "https" } else { "http" };
        let first = args.public_url.first();
        // Listening on every address is none that a link could lead to.
        let mut reached = api;
        if api.ip().is_unspecified() {
            reached.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        Self {
            trusted_proxies: args.trusted_proxies.clone(),
            rate_limits: args.rate_limits,
            rules: Rules {
                strict_vin: args.strict_vin,
            },
            security_contact: args.security_contact.to_string(),
            sales_contact: args.sales_contact.to_string(),
            github_keys_url: args.github_keys_url.clone(),
            kill_reported_keys: args.kill_reported_keys,
            usage_days: args.usage_days,
            audit_days: args.audit_days,
            public_urls: args.public_url.clone(),
            https: speaks_tls || first.is_some_and(PublicUrl::is_https),
            base_url: first.map_or_else(|| format!("{scheme}://{reached}"), PublicUrl::to_string),
            mails_links: first.is_some() && args.smtp_url.is_some(),
            limits,
        }
    }
}

impl Services {
    /// Brings the schema up to date and reads what lives in memory. `name` is what this process is called among the nodes, if
    /// it will answer requests.
    pub async fn start(
        db: Db,
        clock: Clock,
        settings: Settings,
        name: Option<String>,
    ) -> Result<Self, DbError> {
        db.migrate().await?;
        let node = name.map(|name| NodeCard {
            id: NodeId::new(),
            name,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: clock.now(),
        });
        let keys = Arc::new(Keys::load(db.clone(), clock, node).await?);
        let rules = LeakRules {
            github_keys: settings.github_keys_url.clone(),
            kill_reported: settings.kill_reported_keys,
            contact: settings.security_contact.clone(),
        };
        Ok(Self {
            leaks: Arc::new(Leaks::new(Arc::clone(&keys), clock, rules)),
            keys,
            inventory: Arc::new(Inventory::new(db.clone(), clock, settings.rules)),
            people: Arc::new(People::new(db.clone(), clock)),
            db,
            clock,
            settings,
        })
    }
}
