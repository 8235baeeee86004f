//! Where the operator wants mails to go: an SMTP server, whose address is parsed here once, or a folder.
//!
//! Never: the password printed, by `Debug` or in an error.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use url::Url;
use zeroize::Zeroizing;

use crate::accounts::Email;

/// What the operator decided about mails.
#[derive(Clone, Debug)]
pub enum MailRoute {
    /// To an SMTP server.
    Smtp {
        /// Which.
        server: SmtpUrl,
        /// The address that mails are from.
        from: Email,
    },
    /// Into a folder, and no further.
    Folder {
        /// Which; made when the first mail comes.
        folder: PathBuf,
        /// The address that mails are from.
        from: Email,
    },
}

/// Where an SMTP server is and how it is spoken to.
#[derive(Clone)]
pub struct SmtpUrl {
    /// A name or an IP address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept private.
    pub tls: SmtpTls,
    /// By whom mails are handed in; nobody in particular if the server asks nobody.
    pub login: Option<Login>,
}

/// How the connection to an SMTP server is kept private.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// TLS from the first byte.
    Wrapped,
    /// STARTTLS, or no mail is sent.
    Required,
    /// STARTTLS if the server offers it; whoever sits in between can have it not offered.
    Opportunistic,
    /// In the clear.
    None,
}

/// A user of an SMTP server.
#[derive(Clone)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Zeroizing<String>,
}

/// Why a text is no address of an SMTP server. It repeats nothing of the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSmtpUrl {
    /// Not of the form.
    #[error(
        "must read smtp://USER:PASSWORD@HOST:587 or smtps://USER:PASSWORD@HOST:465; user and password may be missing, and what \
         stands for @ : / ? # or % in them is written %40 %3A %2F %3F %23 %25"
    )]
    Form,
    /// Only one of user and password.
    #[error("has a user without a password, or a password without a user")]
    HalfALogin,
    /// Something after the host that this program does not know.
    #[error(
        "may end in ?tls=required, ?tls=opportunistic or ?tls=none (smtp:// only), and in nothing else"
    )]
    Ending,
}

impl FromStr for SmtpUrl {
    type Err = BadSmtpUrl;

    fn from_str(text: &str) -> Result<Self, BadSmtpUrl> {
        let url = Url::parse(text).map_err(|_| BadSmtpUrl::Form)?;
        let host = url.host_str().ok_or(BadSmtpUrl::Form)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_address = host.parse::<IpAddr>().is_ok();
        let in_names = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
        if !is_address && (host.is_empty() || !host.bytes().all(in_names)) {
            return Err(BadSmtpUrl::Form);
        }
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(BadSmtpUrl::Ending);
        }
        let (tls, port) = match (url.scheme(), url.query()) {
            ("smtps", None) => (SmtpTls::Wrapped, 465),
            ("smtp", Some("tls=required")) => (SmtpTls::Required, 587),
            ("smtp", Some("tls=opportunistic")) => (SmtpTls::Opportunistic, 587),
            ("smtp", Some("tls=none")) => (SmtpTls::None, 587),
            // What goes to the same machine crosses no network.
            ("smtp", None) if is_loopback(host) => (SmtpTls::None, 587),
            ("smtp", None) => (SmtpTls::Required, 587),
            ("smtp" | "smtps", Some(_)) => return Err(BadSmtpUrl::Ending),
            _ => return Err(BadSmtpUrl::Form),
        };
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() && !password.is_empty() => Some(Login {
                user: decoded(user)?,
                password: Zeroizing::new(decoded(password)?),
            }),
            _ => return Err(BadSmtpUrl::HalfALogin),
        };
        Ok(Self {
            host: host.to_owned(),
            port: url.port().unwrap_or(port),
            tls,
            login,
        })
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn decoded(part: &str) -> Result<String, BadSmtpUrl> {
    let text = percent_decode_str(part).decode_utf8();
    text.map(Into::into).map_err(|_| BadSmtpUrl::Form)
}

impl fmt::Display for SmtpUrl {
    /// The host and port, without who hands mails in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for MailRoute {
    /// As the start-up log says it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smtp { server, from } => {
                write!(f, "mails go to the SMTP server {server}, from {from}")
            }
            Self::Folder { folder, .. } => write!(
                f,
                "no --smtp-url: mails are written to the folder {} and sent nowhere",
                folder.display()
            ),
        }
    }
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpUrl")
            .field("server", &self.to_string())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SmtpUrl, BadSmtpUrl> {
        text.parse()
    }

    #[test]
    fn what_is_not_said_is_safe() {
        for (text, server, tls) in [
            ("smtps://mail.example", "mail.example:465", SmtpTls::Wrapped),
            ("smtp://mail.example", "mail.example:587", SmtpTls::Required),
            (
                "smtp://mail.example:25/",
                "mail.example:25",
                SmtpTls::Required,
            ),
            ("smtp://10.0.0.1", "10.0.0.1:587", SmtpTls::Required),
            (
                "smtp://127.0.0.1.evil.example",
                "127.0.0.1.evil.example:587",
                SmtpTls::Required,
            ),
            ("smtp://127.0.0.1:2525", "127.0.0.1:2525", SmtpTls::None),
            ("smtp://localhost", "localhost:587", SmtpTls::None),
            ("smtp://[::1]:25", "[::1]:25", SmtpTls::None),
            (
                "smtp://127.0.0.1?tls=required",
                "127.0.0.1:587",
                SmtpTls::Required,
            ),
            (
                "smtp://mail.example?tls=opportunistic",
                "mail.example:587",
                SmtpTls::Opportunistic,
            ),
            (
                "smtp://mail.example?tls=none",
                "mail.example:587",
                SmtpTls::None,
            ),
        ] {
            let url = read(text).expect(text);
            assert_eq!((url.to_string().as_str(), url.tls), (server, tls), "{text}");
        }
    }

    #[test]
    fn a_login_is_decoded_and_never_printed() {
        let url = read("smtps://post%40lone.example:s%3Ae%2Fc%25ret@mail.example").expect("good");
        let printed = format!("{url} {url:?}");
        assert!(!printed.contains("ret") && !printed.contains("post"));
        let login = url.login.expect("a login");
        assert_eq!(
            (login.user.as_str(), login.password.as_str()),
            ("post@lone.example", "s:e/c%ret")
        );
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for (text, why) in [
            ("", BadSmtpUrl::Form),
            ("mail.example", BadSmtpUrl::Form),
            ("mail.example:587", BadSmtpUrl::Form),
            ("http://mail.example", BadSmtpUrl::Form),
            ("smtp://", BadSmtpUrl::Form),
            ("smtp:mail.example", BadSmtpUrl::Form),
            ("smtp://mail%0d%0a.example", BadSmtpUrl::Form),
            ("smtp://user@mail.example", BadSmtpUrl::HalfALogin),
            ("smtp://:secret@mail.example", BadSmtpUrl::HalfALogin),
            ("smtp://mail.example/path", BadSmtpUrl::Ending),
            ("smtp://mail.example?tls=maybe", BadSmtpUrl::Ending),
            ("smtps://mail.example?tls=none", BadSmtpUrl::Ending),
            ("smtp://mail.example#x", BadSmtpUrl::Ending),
        ] {
            assert_eq!(read(text).err(), Some(why), "{text}");
        }
    }
}
