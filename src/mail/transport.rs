//! Where mails go: to an SMTP server, or into a folder when there is none. The only file that names lettre.
//!
//! Never: a mail in the folder that is there in part; the SMTP server's own words in an error, as they may repeat an address.

use std::{
    error::Error,
    fs::{DirBuilder, File},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Mailbox,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::Credentials,
        client::{Tls, TlsParameters},
        extension::ClientId,
    },
};

use super::route::{MailRoute, SmtpTls, SmtpUrl};
use crate::{accounts::Email, clock::Time, ids::MailId};

/// How long connecting to an SMTP server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long handing over one mail may take in all, connecting included. Some servers scan a mail before they answer that they
/// have it: whoever gives up before they do sends it once more.
pub const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// A mail, whole.
#[derive(Debug)]
pub struct Letter {
    /// Its id in the outbox.
    pub id: MailId,
    /// Its date.
    pub date: Time,
    /// To whom.
    pub recipient: String,
    /// What about.
    pub subject: String,
    /// Plain text.
    pub text: String,
}

/// Why a mail could not be handed over.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It never will be.
    #[error("its address is none that a mail can be sent to")]
    NoAddress,
    /// The SMTP server refused it.
    #[error("the SMTP server refused it with {0}")]
    Refused(u16),
    /// There is no private connection to the SMTP server.
    #[error("no TLS connection to the SMTP server, or none to one whose certificate is trusted")]
    Tls,
    /// The SMTP server lacks something without which nothing is sent to it.
    #[error(
        "the SMTP server offers no STARTTLS, or no way to sign in by a password that this program knows"
    )]
    Lacks,
    /// The SMTP server does not answer, or not as one does.
    #[error("the SMTP server does not answer")]
    Unreachable,
    /// The folder did not take it.
    #[error("it cannot be written into the folder: {0}")]
    Folder(#[from] std::io::Error),
}

/// The way for mails, ready to be used.
pub struct Transport {
    from: Mailbox,
    way: Way,
}

enum Way {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    Folder(PathBuf),
}

impl Transport {
    /// Makes the way ready. Nothing is connected and no folder is made yet.
    pub fn new(route: &MailRoute) -> anyhow::Result<Self> {
        let (way, from) = match route {
            MailRoute::Smtp { server, from } => (Way::Smtp(smtp(server, from)?), from),
            MailRoute::Folder { folder, from } => (Way::Folder(folder.clone()), from),
        };
        let from = address(from.as_str()).ok_or_else(|| {
            anyhow::anyhow!("--mail-from: {from} is no address that a mail can be sent from")
        })?;
        Ok(Self {
            from: Mailbox::new(None, from),
            way,
        })
    }

    /// Hands a mail over. When this returns well, the SMTP server has taken it, or it lies in the folder, on the disk.
    pub async fn send(&self, letter: Letter) -> Result<(), SendError> {
        let id = letter.id;
        let message = self.message(letter)?;
        match &self.way {
            Way::Smtp(smtp) => {
                match tokio::time::timeout(HAND_OVER_TIMEOUT, smtp.send(message)).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(told(&error)),
                    Err(_) => Err(SendError::Unreachable),
                }
            }
            Way::Folder(folder) => {
                let folder = folder.clone();
                let written = move || put(&folder, id, &message.formatted());
                tokio::task::spawn_blocking(written)
                    .await
                    .map_err(|died| SendError::Folder(std::io::Error::other(died)))?
                    .map_err(SendError::Folder)
            }
        }
    }

    fn message(&self, letter: Letter) -> Result<Message, SendError> {
        let to = address(&letter.recipient).ok_or(SendError::NoAddress)?;
        let since_1970 = Duration::from_micros(u64::try_from(letter.date.0).unwrap_or(0));
        let automatic = HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        );
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(letter.subject)
            .date(SystemTime::UNIX_EPOCH + since_1970)
            .message_id(Some(format!(
                "<{}@{}>",
                letter.id,
                self.from.email.domain()
            )))
            // So that no absence notice comes back (RFC 3834).
            .raw_header(automatic)
            .header(ContentType::TEXT_PLAIN)
            .header(ContentTransferEncoding::QuotedPrintable)
            .body(letter.text)
            .map_err(|_| SendError::NoAddress)
    }
}

fn address(text: &str) -> Option<Address> {
    text.parse().ok()
}

fn smtp(server: &SmtpUrl, from: &Email) -> anyhow::Result<AsyncSmtpTransport<Tokio1Executor>> {
    let parameters = || {
        TlsParameters::new(server.host.clone())
            .map_err(|_| anyhow::anyhow!("--smtp-url: TLS cannot be set up for {}", server.host))
    };
    let tls = match server.tls {
        SmtpTls::Wrapped => Tls::Wrapper(parameters()?),
        SmtpTls::Required => Tls::Required(parameters()?),
        SmtpTls::Opportunistic => Tls::Opportunistic(parameters()?),
        SmtpTls::None => Tls::None,
    };
    let domain = from.as_str().rsplit('@').next().unwrap_or_default();
    let mut smtp = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
        .port(server.port)
        .tls(tls)
        .timeout(Some(CONNECT_TIMEOUT))
        // A name that exists: some servers close on whoever greets them as "localhost".
        .hello_name(ClientId::Domain(domain.to_owned()));
    if let Some(login) = &server.login {
        let credentials = Credentials::new(login.user.clone(), login.password.to_string());
        smtp = smtp.credentials(credentials);
    }
    Ok(smtp.build())
}

fn told(error: &lettre::transport::smtp::Error) -> SendError {
    match error.status() {
        Some(code) => SendError::Refused(code.into()),
        None if error.is_tls() || is_bad_tls(error) => SendError::Tls,
        None if error.is_client() => SendError::Lacks,
        None => SendError::Unreachable,
    }
}

/// Whether it is a handshake that failed: a broken connection to lettre, invalid data to the layer below.
fn is_bad_tls(error: &(dyn Error + 'static)) -> bool {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    causes
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::InvalidData)
}

/// Puts a mail into the folder under a name that follows from its id, so that a second try makes no second file. When this
/// returns, a power cut takes neither the mail nor its name away.
fn put(folder: &Path, id: MailId, mail: &[u8]) -> std::io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {
            let beside = folder.parent().filter(|parent| *parent != Path::new(""));
            sync_folder(beside.unwrap_or(Path::new(".")))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    // For its owner only from the beginning, and under its name once it is whole.
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder)?;
    file.write_all(mail)?;
    file.as_file().sync_all()?;
    file.persist(folder.join(format!("{id}.eml")))?;
    sync_folder(folder)
}

/// Has the names in a folder written to the disk.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}
