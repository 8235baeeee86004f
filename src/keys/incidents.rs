//! Notices when a Seller's clients go on sending dead keys, and mails the owners, once per incident, who they are.
//!
//! An incident opens when clients that have not changed over to the live key were refused [`REFUSED_TO_OPEN`] times within
//! [`WINDOW`], and closes when nobody has sent a dead key of the Seller for as long. Clients that hold both keys and change
//! over on their first 401 open none.
//!
//! Never: two mails to one owner about one incident; anything that a request waits for.

use std::time::Duration;

use super::{
    Keys,
    cutover::{CHANGE_OVER, QUIET},
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
pub const REFUSED_TO_OPEN: i64 = 10;
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Clients counted at most; more can be told apart only under several dead keys at once.
const CLIENTS_READ: i64 = 500;

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
    let since = now.before(WINDOW);
    keys.db.close_quiet_incidents(since, now).await?;
    for seller in keys.usage.take_refused() {
        look_at(keys, seller, since, now).await?;
    }
    Ok(())
}

async fn look_at(keys: &Keys, seller: SellerId, since: Time, now: Time) -> Result<(), DbError> {
    let clients = keys
        .db
        .new_stray_clients(seller, since, CHANGE_OVER, CLIENTS_READ)
        .await?;
    let refused: i64 = clients.iter().map(|client| client.refused).sum();
    if refused < REFUSED_TO_OPEN {
        return Ok(());
    }
    let mut tx = keys.db.begin().await?;
    if !tx.open_incident(IncidentId::new(), seller, now).await? {
        return Ok(());
    }
    if let Some(to) = tx.addressees(seller).await? {
        let mail = about_stray_clients(&to, &clients, now);
        tx.insert_mails(&to.owners, &mail, now).await?;
    }
    tx.commit().await?;
    keys.mails_due.notify_one();
    tracing::info!(%seller, clients = clients.len(), refused, "clients go on sending dead keys");
    Ok(())
}
