//! Codes that may be guesses: counted before they are looked at, slowed, and told to the person whose they are.
//!
//! Somebody who knows a password begins as many sign-ins as they like, from any address and on any node. So wrong codes are
//! counted three times over: as failures to sign in, whose answers are kept back; for the one sign-in or session they came in,
//! which the fifth ends; and for the person, for a day, in the database, whichever way they came. At five in a quarter of an
//! hour the person is mailed, and from the twentieth in a day on the next code of the app is looked at only after a pause that
//! grows to a quarter of an hour: then a million codes outlast whoever tries them. Codes wait for those of their own sign-in or
//! session only: a stranger's guesses keep nobody in a queue.
//!
//! The pause is for whoever guesses and for the person alike, as a node cannot tell them apart. A recovery code is not kept
//! waiting by it, and a new password shuts out whoever guesses.
//!
//! Never: a code of the app looked at before it is counted, so that of many at once, on any nodes, each is slowed by the
//! others; a recovery code kept waiting: it cannot be guessed.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::{
    codes::Given,
    people::{People, PersonError, Visitor},
    sessions::{Session, tell_person},
    sign_in::{FAILURES_COUNT_FOR, Lane, subject, subjects},
    tokens::TokenDigest,
};
use crate::{
    act::run_to_end,
    audit::Act,
    clock::Time,
    db::{AuditEntry, DbError},
    ids::{SessionId, UserId},
    mail::people_words::AccountNews,
};

/// Wrong codes that end the sign-in or session that they came in; and of which, from one person's account in a quarter of an
/// hour, that person is told.
const WRONG_CODES_MAX: i64 = 5;
/// How often at most a person is mailed that somebody guesses at their codes.
const WARN_EVERY: Duration = Duration::from_secs(3_600);
/// For how long a wrong code counts against the person's next one, and against its session.
pub const WRONG_CODES_COUNT_FOR: Duration = Duration::from_secs(86_400);
/// Wrong codes in that time after which the next one is looked at without a pause.
const CODES_FREE: i64 = 20;
/// The pause before the next one after that; each further wrong code doubles it.
const PAUSE_MIN: Duration = Duration::from_secs(30);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// Where a code is given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// After the password.
    SignIn(TokenDigest),
    /// In a session, before an act that matters.
    Session(SessionId),
    /// In a session, to show that the app has a secret which that very session was shown. There is nothing to guess.
    SetUp(SessionId),
}

/// Somebody who gives a code.
#[derive(Clone)]
pub(super) struct Giver {
    pub(super) user: UserId,
    pub(super) email: String,
    pub(super) visitor: Visitor,
    pub(super) place: Place,
}

impl Giver {
    /// Whose session it is, before an act that matters.
    pub(super) fn of(session: &Session, visitor: &Visitor) -> Self {
        Self {
            user: session.user(),
            email: session.email().to_owned(),
            visitor: visitor.clone(),
            place: Place::Session(session.id()),
        }
    }

    /// The same, setting a second factor up.
    pub(super) fn setting_up(session: &Session, visitor: &Visitor) -> Self {
        Self {
            place: Place::SetUp(session.id()),
            ..Self::of(session, visitor)
        }
    }

    /// What wrong codes are counted under, of this sign-in or session and of this person; the names of what counts for a day
    /// begin with `codes`.
    fn subjects(&self) -> Option<[String; 2]> {
        let of_place = match self.place {
            Place::SignIn(half) => {
                let hex: String = half.0.iter().map(|byte| format!("{byte:02x}")).collect();
                subject("half", &hex)
            }
            Place::Session(session) => subject("codes-session", &session.to_text()),
            Place::SetUp(_) => return None,
        };
        Some([of_place, subject("codes-user", &self.user.to_text())])
    }

    fn lane(&self) -> Lane {
        match self.place {
            Place::SignIn(half) => Lane::SignIn(half.0),
            Place::Session(session) | Place::SetUp(session) => Lane::Session(session),
        }
    }
}

/// A code that was counted before it was looked at.
struct Counted {
    subject: String,
    at: Time,
}

impl People {
    /// Does an act that a code is given for. A wrong one counts as a failure to sign in, and its answer waits as long.
    pub(super) async fn attempt<T: Send + 'static>(
        self: &Arc<Self>,
        giver: Giver,
        given: &Given,
        act: impl Future<Output = Result<T, PersonError>> + Send + 'static,
    ) -> Result<T, PersonError> {
        let is_guessable = given.is_guessable();
        // One after another in each sign-in and session: many at once would be many guesses in each delay.
        let turn = match is_guessable {
            true => Some(self.gate.whole_turn(giver.lane()).await?),
            false => None,
        };
        let people = Arc::clone(self);
        // On a task of its own: who hangs up neither loses the count of the failure nor frees the turn.
        run_to_end(async move {
            let counted = match is_guessable {
                true => people.count_guess(&giver).await?,
                false => None,
            };
            let done = act.await;
            if !matches!(done, Err(PersonError::WrongCode)) {
                if let Some(counted) = counted {
                    people.was_no_guess(&counted).await;
                }
                return done;
            }
            let (delay, over) = people.note_wrong_code(&giver, counted.is_some()).await?;
            tokio::time::sleep(delay).await;
            drop(turn);
            match over {
                Some(over) => Err(over),
                None => done,
            }
        })
        .await
    }

    /// Counts a code as a wrong one of its person before anybody looks at it, or refuses to look at it yet.
    async fn count_guess(&self, giver: &Giver) -> Result<Option<Counted>, PersonError> {
        let Some([_, subject]) = giver.subjects() else {
            return Ok(None);
        };
        let mut tx = self.db.begin_in_turn().await?;
        // The codes of a person come one after another here, on whichever nodes.
        tx.locked_password(giver.user).await?;
        let now = self.clock.now();
        let since = now.before(WRONG_CODES_COUNT_FOR);
        let (count, last) = tx.wrong_codes(&subject, since).await?;
        let last = last.unwrap_or(Time(0));
        let next = last.after(pause_after(count));
        if now < next {
            let wait = Duration::from_micros(u64::try_from(next.0 - now.0).unwrap_or(0));
            return Err(PersonError::CodesPaused(wait));
        }
        // A moment of its own, by which this one is found again.
        let at = now.max(last.after(Duration::from_micros(1)));
        tx.insert_sign_in_failure(std::slice::from_ref(&subject), at)
            .await?;
        tx.commit().await?;
        Ok(Some(Counted { subject, at }))
    }

    /// Takes a code that was not wrong out of the count. If that fails, one too many counts for a day, and no harm is done.
    async fn was_no_guess(&self, counted: &Counted) {
        let taken = async {
            let mut tx = self.db.begin_in_turn().await?;
            tx.take_sign_in_failure(&counted.subject, counted.at)
                .await?;
            tx.commit().await
        };
        if let Err(error) = taken.await {
            tracing::warn!(%error, "a code that was not wrong goes on counting as one");
        }
    }

    /// Counts a wrong code; for how long its answer shall wait, and what that answer is if its sign-in or session is over.
    async fn note_wrong_code(
        &self,
        giver: &Giver,
        is_counted: bool,
    ) -> Result<(Duration, Option<PersonError>), DbError> {
        let own = giver.subjects();
        let mut counted = subjects(&giver.email, &giver.visitor);
        if let Some([of_place, of_user]) = &own {
            counted.push(of_place.clone());
            counted.extend((!is_counted).then(|| of_user.clone()));
        }
        let (failures, delay) = self.note_failure(&counted).await?;
        tracing::info!(failures, "somebody gave a code that is not right");
        let Some([of_place, of_user]) = own else {
            return Ok((delay, None));
        };
        let now = self.clock.now();
        let (day, lately) = (
            now.before(WRONG_CODES_COUNT_FOR),
            now.before(FAILURES_COUNT_FOR),
        );
        let is_over = self.db.sign_in_failures(&of_place, day).await? >= WRONG_CODES_MAX;
        if !is_over && self.db.sign_in_failures(&of_user, lately).await? < WRONG_CODES_MAX {
            return Ok((delay, None));
        }
        self.tell_of_wrong_codes(giver, is_over, now).await?;
        let over = match giver.place {
            Place::SignIn(_) => PersonError::SignInOver,
            Place::Session(_) | Place::SetUp(_) => PersonError::SignedOut,
        };
        Ok((delay, is_over.then_some(over)))
    }

    /// Ends the sign-in or session if it is over, writes the entry and tells the person: of a session that ended always, of
    /// sign-ins once in a while, as there may be any number of them.
    async fn tell_of_wrong_codes(
        &self,
        giver: &Giver,
        is_over: bool,
        now: Time,
    ) -> Result<(), DbError> {
        let from = giver.visitor.address;
        let mut tx = self.db.begin_in_turn().await?;
        let (session, has_ended) = match giver.place {
            Place::SignIn(half) if is_over => (None, tx.take_half_sign_in(half).await?.is_some()),
            Place::Session(id) if is_over => (Some(id), tx.end_session(giver.user, id).await?),
            Place::Session(id) | Place::SetUp(id) => (Some(id), false),
            Place::SignIn(_) => (None, false),
        };
        let before = now.before(WARN_EVERY);
        let mut is_told = tx.note_warned(giver.user, now, before).await?;
        is_told |= session.is_some() && has_ended;
        if is_told || has_ended {
            let entry = AuditEntry::of_person(giver.user, from, now, Act::CodesRefused);
            let detail = json!({ "session": session, "ended": has_ended });
            tx.append_audit(&entry.with(detail)).await?;
        }
        if is_told {
            let news = match session {
                None => AccountNews::CodesRefused,
                Some(_) => AccountNews::CodesRefusedInSession { has_ended },
            };
            tell_person(&mut tx, &giver.email, news, Some(from), now).await?;
        }
        tx.commit().await
    }
}

/// How long after the last one of so many wrong codes the next one is looked at.
fn pause_after(wrong: i64) -> Duration {
    let over = wrong - CODES_FREE;
    if over < 0 {
        return Duration::ZERO;
    }
    let doubled = u32::try_from(over).unwrap_or(u32::MAX).min(16);
    (PAUSE_MIN * 2u32.pow(doubled)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_wrong_codes_are_free_and_then_the_next_one_is_hours_of_guessing_away() {
        assert!((0..20).all(|wrong| pause_after(wrong).is_zero()));
        let waits: Vec<u64> = (20..27).map(|n| pause_after(n).as_secs()).collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 900, 900]);
        assert_eq!(pause_after(i64::MAX), PAUSE_MAX);
        // Whoever goes on without a break gets so many guesses in a day, each of which finds one of three codes in a million.
        let (mut at, mut guesses) = (Duration::ZERO, 0);
        while at < WRONG_CODES_COUNT_FOR {
            guesses += 1;
            at += pause_after(guesses);
        }
        assert!(guesses <= 121, "{guesses} guesses in a day");
    }
}
