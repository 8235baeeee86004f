//! TruckRadar: one program that a truck marketplace runs so that dealers and the vendors of their systems sync inventory
//! over an API, with keys that are dead the instant they are replaced.
//!
//! A tour, from the top down; each room opens with what it is for and what it must never do.
//!
//! - [`cli`]: command lines, turned into acts.
//! - [`app`]: one running server, from taking its database to giving it back.
//! - [`control`]: who owns the database, and how a command reaches the owner.
//! - [`http`]: every route in one table; who is calling, decided before anything else; errors turned into responses.
//! - [`operator`]: the operator's acts, the same with a server and without.
//! - [`demo`]: made-up Sellers.
//! - [`services`]: what handlers and commands share.
//! - [`leaks`]: keys that were found where they should not be, and who is believed about it.
//! - [`keys`]: the life of a key. [`keys::lifecycle`], [`keys::revocation`] and [`keys::usage`] act; [`keys::format`],
//!   [`keys::scope`], [`keys::table`] and [`keys::verify`] are pure.
//! - [`inventory`]: listings and the five-stage pipeline.
//! - [`accounts`]: Sellers, dealers, people.
//! - [`mail`]: what people are told by mail, and how it gets there.
//! - [`db`]: the only place that names SQL.
//! - [`config`], [`tls`], [`act`], [`audit`], [`clock`], [`ids`]: what everything else stands on.
//!
//! Imports point down this list only: command line → server → HTTP → use cases → database → pure types. The test `tidy`
//! reads every `use` line and names the one that breaks the rule.

pub mod accounts;
pub mod act;
pub mod app;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod db;
pub mod demo;
pub mod http;
pub mod ids;
pub mod inventory;
pub mod keys;
pub mod leaks;
pub mod mail;
pub mod operator;
pub mod services;
pub mod tls;
