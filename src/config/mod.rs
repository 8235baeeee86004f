//! What the operator decides: the options of `serve`, checked against each other.
//!
//! Never: a secret in an option that an environment variable could not carry instead; whatever is on a command line can be
//! read by every user of the machine.

mod keys_url;
mod public_url;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum, builder::FalseyValueParser};
use ipnet::IpNet;

pub use self::{
    keys_url::{BadKeysUrl, KeysUrl},
    public_url::{BadPublicUrl, PublicUrl},
};
use crate::{
    accounts::{Email, NameError},
    db::{DbUrl, POSTGRES_CONNECTIONS},
    mail::route::{MailRoute, SmtpUrl},
    tls::CertificateFiles,
};

/// Where the database is.
#[derive(Args, Clone, Debug)]
pub struct DatabaseArg {
    /// The database: sqlite:PATH, one file that one server owns, or postgres://USER@HOST/NAME, which any number of servers
    /// share. Other users of the machine can read a command line: give a password by the environment variable.
    #[arg(
        long,
        value_name = "URL",
        env = "TRUCKRADAR_DATABASE",
        default_value = "sqlite:truckradar.db",
        hide_env_values = true,
        global = true
    )]
    pub database: DbUrl,
}

/// Options of `serve` and `demo`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Where the API listens.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "TRUCKRADAR_LISTEN",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: SocketAddr,

    /// Where metrics and health checks for the operator listen; keep it private.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "TRUCKRADAR_ADMIN_LISTEN",
        default_value = "127.0.0.1:9090"
    )]
    pub admin_listen: SocketAddr,

    /// The certificate chain of the API's address, a PEM file with the server's own first; makes it speak TLS.
    #[arg(long, value_name = "FILE", env = "TRUCKRADAR_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of that certificate, a PEM file. Both files are read again when they change.
    #[arg(long, value_name = "FILE", env = "TRUCKRADAR_TLS_KEY")]
    pub tls_key: Option<PathBuf>,

    /// An address by which the world reaches this server, such as `https://truckradar.example`; may be repeated.
    #[arg(
        long,
        value_name = "URL",
        env = "TRUCKRADAR_PUBLIC_URL",
        value_delimiter = ','
    )]
    pub public_url: Vec<PublicUrl>,

    /// Networks whose X-Forwarded-For header is believed, read from the right. By default nobody's is.
    #[arg(
        long,
        value_name = "CIDR",
        env = "TRUCKRADAR_TRUSTED_PROXIES",
        value_delimiter = ','
    )]
    pub trusted_proxies: Vec<IpNet>,

    /// Serve plain HTTP on an address that is not loopback: keys then cross the network in the clear.
    #[arg(long, env = "TRUCKRADAR_INSECURE_HTTP", value_parser = FalseyValueParser::new())]
    pub insecure_http: bool,

    /// What to do when a key makes more requests than its fair use.
    #[arg(long, value_name = "MODE", env = "TRUCKRADAR_RATE_LIMITS", value_enum, default_value_t = RateLimitMode::Monitor)]
    pub rate_limits: RateLimitMode,

    /// Refuse a VIN whose check digit does not hold, instead of warning.
    #[arg(long, env = "TRUCKRADAR_STRICT_VIN", value_parser = FalseyValueParser::new())]
    pub strict_vin: bool,

    /// Whom dealers write to when a key has leaked.
    #[arg(
        long,
        value_name = "EMAIL",
        env = "TRUCKRADAR_SECURITY_CONTACT",
        default_value = "security@truckradar.ai",
        value_parser = contact
    )]
    pub security_contact: Email,

    /// Whom dealers write to about plans, platform access and disputed listings.
    #[arg(
        long,
        value_name = "EMAIL",
        env = "TRUCKRADAR_SALES_CONTACT",
        default_value = "sales@truckradar.ai",
        value_parser = contact
    )]
    pub sales_contact: Email,

    /// Kill a key that somebody hands in at /keys/report at once. By default its owners and the security contact are told, and
    /// the key goes on working until one of them replaces it.
    #[arg(long, env = "TRUCKRADAR_KILL_REPORTED_KEYS", value_parser = FalseyValueParser::new())]
    pub kill_reported_keys: bool,

    /// Where GitHub publishes the keys by which it signs what its secret scanning finds. Whoever can answer there can have keys
    /// killed, so https:// only, or http:// to this machine.
    #[arg(
        long,
        value_name = "URL",
        env = "TRUCKRADAR_GITHUB_KEYS_URL",
        default_value_t = KeysUrl::default()
    )]
    pub github_keys_url: KeysUrl,

    /// The SMTP server that mails are handed to: smtps://USER:PASSWORD@HOST or smtp://USER:PASSWORD@HOST, which wants
    /// STARTTLS. Other users of the machine can read a command line, so give a password by the environment variable.
    #[arg(
        long,
        value_name = "URL",
        env = "TRUCKRADAR_SMTP_URL",
        hide_env_values = true
    )]
    pub smtp_url: Option<SmtpUrl>,

    /// The address that mails are from; --smtp-url needs it.
    #[arg(long, value_name = "EMAIL", env = "TRUCKRADAR_MAIL_FROM", value_parser = contact)]
    pub mail_from: Option<Email>,

    /// Without --smtp-url: the folder that mails are written to. By default it stands beside the database, with .mails after
    /// its name.
    #[arg(long, value_name = "FOLDER", env = "TRUCKRADAR_MAIL_FOLDER")]
    pub mail_folder: Option<PathBuf>,

    /// On PostgreSQL: connections to the database for ordinary work. The server uses up to 11 more.
    #[arg(long, value_name = "N", env = "TRUCKRADAR_DATABASE_CONNECTIONS", default_value_t = POSTGRES_CONNECTIONS, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub database_connections: u32,

    /// What this server is called where nodes are listed; by default the machine's name and the port of --listen.
    #[arg(long, value_name = "NAME", env = "TRUCKRADAR_NODE_NAME", value_parser = node_name)]
    pub node_name: Option<String>,

    /// How long client addresses, User-Agents and counts of use are kept, in days.
    #[arg(long, value_name = "DAYS", env = "TRUCKRADAR_USAGE_DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub usage_days: u32,

    /// How long the audit log is kept, in days.
    #[arg(long, value_name = "DAYS", env = "TRUCKRADAR_AUDIT_DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub audit_days: u32,

    /// How much to log, on standard error: error, warn, info, debug (a line per request) or trace.
    #[arg(
        long,
        value_name = "LEVEL",
        env = "TRUCKRADAR_LOG",
        default_value = "info"
    )]
    pub log: tracing::Level,
}

/// What happens over the rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RateLimitMode {
    /// Count and show in headers and metrics; refuse nothing.
    Monitor,
    /// Answer 429.
    Enforce,
}

/// Limits on what clients may make the server do. Not options: they are promises of the documentation.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a client may take for the TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a client may take to send a request's headers, and to begin the next request on its connection.
    pub header_timeout: Duration,
    /// How long a client may pause while sending a body.
    pub body_pause: Duration,
    /// How long a client may take to send a whole body.
    pub body_timeout: Duration,
    /// How long bytes may wait for a client that does not take them.
    pub send_timeout: Duration,
    /// Connections to the API at once; more are closed at once.
    pub connections_max: usize,
    /// How long running requests get to finish after SIGTERM.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            body_pause: Duration::from_secs(15),
            body_timeout: Duration::from_secs(120),
            send_timeout: Duration::from_secs(30),
            connections_max: 10_000,
            drain: Duration::from_secs(20),
        }
    }
}

/// An address to write to. It stands in pages, in `mailto:` links and in lines of text files, so it may hold only what needs
/// no escaping in any of them.
fn contact(text: &str) -> Result<Email, String> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"@.-_+".contains(&c);
    if !text.bytes().all(plain) {
        return Err("an address here has letters, digits and . - _ + only, and one @".to_owned());
    }
    text.parse().map_err(|error: NameError| error.to_string())
}

/// A name that stands in pages, mails and tables.
fn node_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_graphic();
    if (1..=64).contains(&text.len()) && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err("a name here has 1 to 64 letters, digits and signs, without spaces".to_owned())
}

impl ServeArgs {
    /// What this server is called, if its API has this address.
    pub fn node_name(&self, api: SocketAddr) -> String {
        self.node_name.clone().unwrap_or_else(|| {
            let machine = rustix::system::uname();
            format!("{}:{}", machine.nodename().to_string_lossy(), api.port())
        })
    }

    /// The certificate that the API's address shall use, if it shall speak TLS.
    pub fn certificate_files(&self) -> Option<CertificateFiles> {
        Some(CertificateFiles {
            cert: self.tls_cert.clone()?,
            key: self.tls_key.clone()?,
        })
    }

    /// Where mails go, for a server on this database.
    pub fn mail_route(&self, database: &DbUrl) -> MailRoute {
        // Nobody answers a mail that lies in a folder; yet it is from somebody.
        let from = self.mail_from.as_ref().unwrap_or(&self.security_contact);
        let from = from.clone();
        if let Some(server) = self.smtp_url.clone() {
            return MailRoute::Smtp { server, from };
        }
        let folder = self.mail_folder.clone();
        let beside = || match database {
            DbUrl::Sqlite(path) => path.with_added_extension("mails"),
            DbUrl::Postgres(_) => PathBuf::from("truckradar.mails"),
        };
        let folder = folder.unwrap_or_else(beside);
        MailRoute::Folder { folder, from }
    }

    /// What is wrong with the options together, and with the files that they name; empty is well.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let wants_tls = self.tls_cert.is_some() || self.tls_key.is_some();
        match self.certificate_files() {
            Some(files) => problems.extend(files.read().err().map(|bad| bad.to_string())),
            None if wants_tls => problems.push(
                "--tls-cert and --tls-key belong together: give both, or neither for plain HTTP"
                    .to_owned(),
            ),
            None => {}
        }
        let exposed = !self.listen.ip().is_loopback();
        if exposed && !wants_tls && self.trusted_proxies.is_empty() && !self.insecure_http {
            problems.push(format!(
                "--listen {}: plain HTTP on an address that is not loopback would send keys in the clear. Give a certificate \
                 with --tls-cert and --tls-key, or put a proxy that speaks TLS in front and name it with \
                 --trusted-proxies CIDR, or accept the risk with --insecure-http",
                self.listen
            ));
        }
        if !self.admin_listen.ip().is_loopback() && !self.insecure_http {
            problems.push(format!(
                "--admin-listen {}: metrics would be open to the network. Use a loopback address, or accept the risk with \
                 --insecure-http",
                self.admin_listen
            ));
        }
        let mut secure = self.public_url.iter().map(PublicUrl::is_https);
        if let Some(first) = secure.next()
            && secure.any(|other| other != first)
        {
            problems.push(
                "--public-url: give https:// addresses or http:// ones, not both. A session's cookie is for one or the \
                 other, and would travel in the clear or not at all"
                    .to_owned(),
            );
        }
        if self.smtp_url.is_some() && self.mail_from.is_none() {
            problems.push(
                "--smtp-url needs --mail-from EMAIL: the address that mails are from".to_owned(),
            );
        }
        if self.smtp_url.is_some() && self.mail_folder.is_some() {
            problems.push(
                "--smtp-url and --mail-folder: mails go to one of the two; give the other no more"
                    .to_owned(),
            );
        }
        if self.listen == self.admin_listen && self.listen.port() != 0 {
            problems.push("--listen and --admin-listen must differ".to_owned());
        }
        problems
    }
}

/// Whether the environment names an SMTP server, for a command that runs without a server: the next one mails what it leaves.
pub fn has_smtp_by_environment() -> bool {
    let named = std::env::var("TRUCKRADAR_SMTP_URL");
    named.is_ok_and(|named| named.parse::<SmtpUrl>().is_ok())
}

/// The first public address that the environment names, for a command that runs without a server.
pub fn public_url_of_environment() -> Option<PublicUrl> {
    let named = std::env::var("TRUCKRADAR_PUBLIC_URL").ok()?;
    named.split(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn problems(args: &[&str]) -> usize {
        let line = Line::try_parse_from([&["x"], args].concat()).expect("parses");
        line.serve.problems().len()
    }

    #[test]
    fn plain_http_on_the_network_needs_a_word() {
        assert_eq!(problems(&[]), 0);
        assert_eq!(problems(&["--listen", "0.0.0.0:8080"]), 1);
        assert_eq!(
            problems(&["--listen", "0.0.0.0:8080", "--insecure-http"]),
            0
        );
        assert_eq!(
            problems(&[
                "--listen",
                "0.0.0.0:8080",
                "--trusted-proxies",
                "10.0.0.0/8"
            ]),
            0
        );
        assert_eq!(problems(&["--admin-listen", "0.0.0.0:9090"]), 1);
        assert_eq!(
            problems(&["--listen", "127.0.0.1:1", "--admin-listen", "127.0.0.1:1"]),
            1
        );
    }

    #[test]
    fn mails_go_to_one_place_and_are_from_somebody() {
        let smtp = ["--smtp-url", "smtps://user:hunter2@mail.example"];
        let from = ["--mail-from", "keys@truckradar.example"];
        let folder = ["--mail-folder", "/var/mails"];
        assert_eq!(problems(&smtp), 1);
        assert_eq!(problems(&[smtp, from].concat()), 0);
        assert_eq!(problems(&[smtp, from, folder].concat()), 1);
        assert_eq!(problems(&folder), 0);
        let line = Line::try_parse_from([&["x"], &smtp[..], &from].concat()).expect("parses");
        let route = line.serve.mail_route(&DbUrl::Sqlite("/v/t.db".into()));
        for said in [format!("{:?}", line.serve), format!("{route} {route:?}")] {
            assert!(
                said.contains("mail.example:465") && !said.contains("hunter2"),
                "{said}"
            );
        }
        let line = Line::try_parse_from(["x"]).expect("parses");
        let route = line
            .serve
            .mail_route(&DbUrl::Sqlite("/v/t.db".into()))
            .to_string();
        assert!(route.contains(" /v/t.db.mails "), "{route}");
    }

    #[test]
    fn a_contact_is_an_address_that_can_stand_anywhere() {
        for good in ["security@truckradar.ai", "a.b+c_d-e@f-g.example"] {
            assert_eq!(contact(good).map(String::from), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "security",
            "@host",
            "name@",
            "a@b@c",
            " a@b",
            "a@b\n",
            "a@b\r\nContact: mailto:e@vil",
            "a@b\u{0}",
            "a@b\u{202e}",
            "a@b?bcc=c@d",
            "a%0a@b",
            "<a@b>",
            "\"a\"@b",
            "a,b@c",
            "mailto:a@b",
            "https://a@b",
        ] {
            assert!(contact(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tls_needs_both_files_and_then_no_other_word() {
        assert_eq!(problems(&["--tls-cert", "/nowhere/c.pem"]), 1);
        assert_eq!(problems(&["--tls-key", "/nowhere/k.pem"]), 1);
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        let args = [
            "--listen",
            "0.0.0.0:8443",
            "--tls-cert",
            cert.to_str().expect("text"),
            "--tls-key",
            key.to_str().expect("text"),
        ];
        assert_eq!(problems(&args), 1, "they cannot be read");
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("made");
        std::fs::write(&cert, made.cert.pem()).expect("writes");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("writes");
        assert_eq!(problems(&args), 0);
        let with_open_admin = [&args[..], &["--admin-listen", "0.0.0.0:9090"]].concat();
        assert_eq!(problems(&with_open_admin), 1, "that address stays plain");
    }
}
