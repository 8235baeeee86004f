//! How stories are told: a server (the real binary, or the same app inside this process), its commands, and clients.
//!
//! Never: a call past the surface that a user has, except to look at what the database holds.

pub mod binary;
pub mod browser;
pub mod chromium;
pub mod client;
pub mod dealership;
pub mod factor;
pub mod fixtures;
pub mod github;
pub mod history;
pub mod key_act;
pub mod own_postgres;
pub mod person;
pub mod postgres;
pub mod smtp;
pub mod tls;
pub mod webdriver;

/// Whether the long forms were asked for: `cargo xtask test --full`.
pub fn full() -> bool {
    std::env::var_os("TRUCKRADAR_TEST_FULL").is_some()
}
