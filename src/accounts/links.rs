//! How the links that let somebody in are written, and how long they work. The token stands in the query, which no log of ours holds.
//!
//! Never: a link built from what a request said of the host.

use std::time::Duration;

use super::tokens::Token;

/// How long an invitation works. One that is mailed: from when it is sent.
pub const INVITATION_WORKS_FOR: Duration = Duration::from_secs(7 * 86_400);
/// How long a link to set a new password works, likewise.
pub const RESET_WORKS_FOR: Duration = Duration::from_secs(3_600);

/// The page of an invitation.
pub const INVITATION_PATH: &str = "/invitation";
/// The page on which a new password is set.
pub const RESET_PATH: &str = "/reset-password";

/// The link of an invitation; `base_url` is a configured address of this server.
pub fn invitation(base_url: &str, token: &Token) -> String {
    format!("{base_url}{INVITATION_PATH}?token={}", token.reveal())
}

/// The link by which a new password is set.
pub fn reset(base_url: &str, token: &Token) -> String {
    format!("{base_url}{RESET_PATH}?token={}", token.reveal())
}
