//! Sends what waits in the outbox, one mail after another, for as long as the server runs.
//!
//! A try is noted before it begins, and the mail leaves the outbox after it was handed over: a crash in between sends it
//! once more, under the same Message-ID, and none is lost.
//!
//! A mail that brings a link waits without it. The token is made when the mail is sent, and the link answers to it from then on:
//! a try after one that failed makes another, and the earlier token works no more.
//!
//! Never: anything that a key act, a request or the server's end waits for; a recipient, a subject or a body in the log.

use std::time::Duration;

use tokio::sync::Notify;

use super::transport::{Letter, SendError, Transport};
use crate::{
    accounts::{
        links::{self, INVITATION_WORKS_FOR, RESET_WORKS_FOR},
        tokens::Token,
    },
    clock::{Clock, Time},
    db::{Db, DbError, LinkKind, MailRow},
    ids::MailId,
};

/// How often the outbox is looked at when nobody says that there is something in it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// From the beginning of the first try to that of the second; it doubles with each. Longer than a try may take.
const FIRST_PAUSE: Duration = Duration::from_secs(6 * 60);
/// Doublings of it at most: 96 minutes.
const DOUBLINGS_MAX: i64 = 4;
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
/// Tries of one mail: with these pauses they take three days. Tries and not days, as a server that was down for days has
/// tried nothing.
const TRIES_MAX: i64 = 75;
/// Tries after which a mail is given up that the SMTP server refuses with 550 to 553: there is no such recipient, or it takes
/// nothing. A few, as a server that is being set up says so too.
const TRIES_REFUSED_MAX: i64 = 5;
/// Mails read at a time.
const MAILS_AT_A_TIME: i64 = 50;

/// What every mail ends with.
#[derive(Clone, Debug)]
pub struct Closing {
    /// Whom people write to who did not do what a mail tells of.
    pub security_contact: String,
    /// What links begin with; without it none are mailed.
    pub base_url: Option<String>,
    /// Whether links may be mailed that let somebody in: not into a folder.
    pub mails_links: bool,
}

/// See the module.
pub struct Sender {
    db: Db,
    clock: Clock,
    transport: Transport,
    closing: Closing,
}

impl Sender {
    /// Nothing is sent before [`Sender::run`].
    pub fn new(db: Db, clock: Clock, transport: Transport, closing: Closing) -> Self {
        Self {
            db,
            clock,
            transport,
            closing,
        }
    }

    /// Sends what is due, now and whenever `due` is rung or some time has passed. May be dropped at any moment.
    pub async fn run(&self, due: &Notify) {
        loop {
            match self.send_due().await {
                // There may be more.
                Ok(sent) if sent == MAILS_AT_A_TIME => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the outbox cannot be read; mails wait"),
            }
            tokio::select! {
                () = due.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Tries the mails that are due; answers how many there were.
    async fn send_due(&self) -> Result<i64, DbError> {
        let mails = self.db.mails_due(self.clock.now(), MAILS_AT_A_TIME).await?;
        let count = mails.len() as i64;
        for mail in mails {
            self.send(mail).await?;
        }
        Ok(count)
    }

    async fn send(&self, mail: MailRow) -> Result<(), DbError> {
        let (id, tries) = (mail.id, mail.attempts + 1);
        let now = self.clock.now();
        if !self.db.begin_mail_try(&mail, next_try(&mail, now)).await? {
            return Ok(());
        }
        let Some(letter) = self.letter(mail, now).await? else {
            tracing::info!(mail = %id, "a mail is dropped: the link that it was to bring works no more, or none may be mailed");
            return self.db.remove_mail(id).await;
        };
        match self.transport.send(letter).await {
            Ok(()) => {
                tracing::info!(mail = %id, "a mail was handed over");
                self.db.remove_mail(id).await
            }
            Err(error) if tries >= tries_max(&error) => {
                tracing::error!(mail = %id, tries, %error, "a mail is given up");
                self.db.remove_mail(id).await
            }
            Err(error) => {
                tracing::warn!(mail = %id, tries, %error, "a mail waits for another try");
                Ok(())
            }
        }
    }

    /// The mail as it goes out; `None` if it was to bring a link that works no more.
    async fn letter(&self, mail: MailRow, now: Time) -> Result<Option<Letter>, DbError> {
        let Closing {
            security_contact,
            base_url,
            mails_links,
        } = &self.closing;
        let base_url = base_url.as_deref();
        let (id, more) = match (&mail.link, base_url) {
            (Some(_), Some(base)) if *mails_links => match self.link(&mail, base, now).await? {
                // Of another text, and so another mail, than a try before.
                Some(link) => (MailId::new(), format!("{link}\n\n")),
                None => return Ok(None),
            },
            (Some(_), _) => return Ok(None),
            (None, Some(base)) if !mail.page.is_empty() => {
                (mail.id, format!("Settings, API Key: {base}{}\n", mail.page))
            }
            (None, _) => (mail.id, String::new()),
        };
        Ok(Some(Letter {
            id,
            date: mail.created_us,
            recipient: mail.recipient,
            subject: mail.subject,
            text: format!(
                "{}\n{more}Security contact: {security_contact}\nYou get this mail as an owner of this \
                 dealer account, as that contact, or because it is about you.\n",
                mail.body
            ),
        }))
    }

    /// Makes the token of the link that a mail brings, and the link.
    async fn link(
        &self,
        mail: &MailRow,
        base_url: &str,
        now: Time,
    ) -> Result<Option<String>, DbError> {
        let Ok(token) = Token::generate() else {
            tracing::error!("the system's random generator failed");
            return Ok(None);
        };
        let works_for = |kind| match kind {
            LinkKind::Invitation => INVITATION_WORKS_FOR,
            LinkKind::Reset => RESET_WORKS_FOR,
        };
        let renewed = self.db.renew_link_of(mail, token.digest(), now, works_for);
        Ok(renewed.await?.map(|kind| match kind {
            LinkKind::Invitation => links::invitation(base_url, &token),
            LinkKind::Reset => links::reset(base_url, &token),
        }))
    }
}

/// After how many tries a mail is given up that failed like this.
fn tries_max(error: &SendError) -> i64 {
    match error {
        SendError::NoAddress => 1,
        SendError::Refused(550..=553) => TRIES_REFUSED_MAX,
        _ => TRIES_MAX,
    }
}

/// When a mail is tried again if the try that begins now fails.
fn next_try(mail: &MailRow, now: Time) -> Time {
    let doublings = mail.attempts.clamp(0, DOUBLINGS_MAX) as u32;
    now.after((FIRST_PAUSE * 2u32.pow(doublings)).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::MailId, mail::transport::HAND_OVER_TIMEOUT};

    #[test]
    fn pauses_double_from_six_minutes_to_an_hour() {
        let pause = |attempts| {
            let mail = MailRow {
                id: MailId::new(),
                created_us: Time(0),
                recipient: String::new(),
                subject: String::new(),
                body: String::new(),
                page: String::new(),
                attempts,
                link: None,
            };
            next_try(&mail, Time(0)).0 / 60_000_000
        };
        let pauses: Vec<_> = (0..9).map(pause).collect();
        assert_eq!(pauses, [6, 12, 24, 48, 60, 60, 60, 60, 60]);
        assert_eq!(pause(i64::MAX), 60);
        assert!(
            FIRST_PAUSE > HAND_OVER_TIMEOUT,
            "two tries of one mail at once"
        );
        let minutes: i64 = (0..TRIES_MAX - 1).map(pause).sum();
        assert_eq!(minutes / 60, 3 * 24 - 1, "and the last try then");
    }
}
