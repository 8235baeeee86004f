//! Notices when a Seller's clients go on sending dead keys, and mails the owners, once per incident, who they are.
//!
//! An incident is about the last death of a live key. It opens once clients had [`CHANGE_OVER`] to change over, if those
//! that have not were refused ten times within ten minutes; it closes when nobody has sent a dead key of the
//! Seller for as long, or when another key dies. Clients that hold both keys and change over on their first 401 open none.
//!
//! Never: two mails to one owner about one incident, or about one death within a day; anything that a request waits for.

use std::time::Duration;

use super::{
    Keys,
    cutover::{CHANGE_OVER, CLIENTS_READ, QUIET, is_still_on_a_dead_key},
};
use crate::{
    clock::Time,
    db::DbError,
    ids::{IncidentId, SellerId},
    mail::words::about_stray_clients,
};

/// How far back refused calls count.
const WINDOW: Duration = QUIET;
/// Refused calls that make an incident.
const REFUSED_TO_OPEN: i64 = 10;
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Nobody is mailed about the same death again for this long, however often it is quiet in between.
const TOLD_FOR: Duration = Duration::from_secs(86_400);

/// Looks for as long as the server runs. May be dropped at any moment.
pub async fn watch(keys: &Keys) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = look(keys).await {
            tracing::warn!(%error, "whether clients go on sending dead keys cannot be told at present");
        }
    }
}

/// Closes what has become quiet, and looks at the Sellers who had refused calls since the last look.
async fn look(keys: &Keys) -> Result<(), DbError> {
    let now = keys.clock.now();
    let quiet_since = now.before(QUIET);
    keys.db.close_quiet_incidents(quiet_since, now).await?;
    let mut failed = None;
    for seller in keys.usage.take_refused() {
        match look_at(keys, seller, now).await {
            Ok(Looked::Done) => {}
            Ok(Looked::TooEarly) => keys.usage.note_refused(seller),
            Err(error) => {
                keys.usage.note_refused(seller);
                failed = Some(error);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Whether a look at a Seller was the last one until somebody is refused again.
enum Looked {
    Done,
    /// Its clients are still changing over.
    TooEarly,
}

async fn look_at(keys: &Keys, seller: SellerId, now: Time) -> Result<Looked, DbError> {
    let death = keys.db.untold_death(seller, now.before(TOLD_FOR)).await?;
    let Some(death) = death else {
        return Ok(Looked::Done);
    };
    if death.died_us > now.before(CHANGE_OVER) {
        return Ok(Looked::TooEarly);
    }
    let since = now.before(WINDOW);
    let clients = keys.db.refused_clients_of(seller, since, CLIENTS_READ);
    let mut clients = clients.await?;
    clients.retain(|client| is_still_on_a_dead_key(client, now));
    clients.sort_by_key(|client| std::cmp::Reverse(client.refused));
    let refused: i64 = clients.iter().map(|client| client.refused).sum();
    if refused < REFUSED_TO_OPEN {
        return Ok(Looked::Done);
    }
    let mut tx = keys.db.begin().await?;
    let incident = IncidentId::new();
    if !tx
        .open_incident(incident, seller, death.died_us, now)
        .await?
    {
        return Ok(Looked::Done);
    }
    if let Some(to) = tx.addressees(seller).await? {
        let mail = about_stray_clients(&to, &clients, death.live_keys > 0, now);
        tx.insert_mails(&to.owners, &mail, now).await?;
    }
    tx.commit().await?;
    keys.mails_due.notify_one();
    tracing::info!(%seller, clients = clients.len(), refused, "clients go on sending dead keys");
    Ok(Looked::Done)
}
