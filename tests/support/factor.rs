//! Second factors for people of a story: an authenticator app, and a factor put into the database beside the server.
//!
//! Never: a code made in any other way than the standard's.

use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::AssertSqlSafe;
use totp_rs::{Builder, Secret};

use super::{binary::Place, client::Answer};

/// The secret of whoever is given a second factor here.
pub const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
const SECRET_HEX: &str = "3132333435363738393031323334353637383930";

/// How far a second factor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    None,
    /// Begun, and waiting for its first code.
    Begun,
    /// In force.
    On,
}

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

/// What the app shows so many steps from now.
pub fn code_in(secret: &str, steps: i64) -> String {
    let secret = Secret::try_from_base32(secret).expect("base 32");
    let app = Builder::new()
        .with_secret(secret)
        .build()
        .expect("a secret");
    let at = seconds().saturating_add_signed(steps * 30);
    app.generate(at).to_string()
}

/// What the app shows now.
pub fn code(secret: &str) -> String {
    code_in(secret, 0)
}

/// A code that is none of those that are good around now.
pub fn wrong_code(secret: &str) -> String {
    let good: Vec<String> = (-3..=3).map(|steps| code_in(secret, steps)).collect();
    let wrong = (0..).map(|n| format!("{n:06}"));
    wrong
        .into_iter()
        .find(|code| !good.contains(code))
        .expect("one")
}

/// Waits until the step has at least so many seconds left, so that what follows falls into one.
pub async fn early_in_a_step() {
    while seconds() % 30 > 20 {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// Puts a person's second factor where it shall be, with nothing used of it.
pub async fn put(place: &Place, email: &str, factor: Factor) {
    let user = format!("(SELECT id FROM users WHERE email = '{email}')");
    let mut sql: Vec<String> = ["recovery_codes", "half_sign_ins", "second_factors"]
        .iter()
        .map(|table| format!("DELETE FROM {table} WHERE user_id = {user}"))
        .collect();
    if factor != Factor::None {
        let secret = match place.is_on_postgres() {
            true => format!("decode('{SECRET_HEX}', 'hex')"),
            false => format!("X'{SECRET_HEX}'"),
        };
        let now = seconds() * 1_000_000;
        let confirmed = match factor {
            Factor::On => now.to_string(),
            _ => "NULL".to_owned(),
        };
        sql.push(format!(
            "INSERT INTO second_factors (user_id, secret, created_us, confirmed_us, last_step, warned_us) \
             SELECT id, {secret}, {now}, {confirmed}, 0, 0 FROM users WHERE email = '{email}'"
        ));
    }
    place.change(AssertSqlSafe(sql.join(";\n"))).await;
}

/// As if no code had been used yet.
pub async fn forget_used_steps(place: &Place) {
    place
        .change("UPDATE second_factors SET last_step = 0")
        .await;
}

impl Answer {
    /// The text of the one element that shows a secret.
    pub fn shown(&self, id: &str) -> Option<String> {
        let (_, rest) = self.text.split_once(&format!("data-testid=\"{id}\""))?;
        let (_, rest) = rest.split_once('>')?;
        rest.split('<').next().map(str::to_owned)
    }

    /// The secret that the page shows once, as an app takes it.
    pub fn shown_secret(&self) -> String {
        let shown = self.shown("factor-secret").expect("a secret");
        shown.replace(' ', "")
    }

    /// The recovery codes that the page shows once.
    pub fn shown_codes(&self) -> Vec<String> {
        let shown = self.shown("recovery-codes").expect("recovery codes");
        shown.lines().map(str::to_owned).collect()
    }
}
