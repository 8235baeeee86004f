//! Every test that goes through the real router, the real database and the real binary: one program, so that it is linked
//! once. Stories are told from the outside; `support` is how they are told.
//!
//! Never: a part of the product replaced by a stand-in; a sleep where an event can be awaited.

mod support;

mod alerts;
mod attack_leaks;
mod attack_pages;
mod browser;
mod crash;
mod db_contract;
mod docs_examples;
mod docs_security;
mod fuzz;
mod gitleaks;
mod nodes;
mod nodes_live;
mod permissions;
mod public_urls;
mod resilience;
mod route_coverage;
mod secrets;
mod seed_examples;
mod story_accounts;
mod story_audit;
mod story_auth;
mod story_commands;
mod story_cutover;
mod story_dashboard;
mod story_dealers;
mod story_docs;
mod story_erasing;
mod story_inventory;
mod story_leaks;
mod story_mail;
mod story_pages;
mod story_people;
mod story_platforms;
mod story_staged;
mod story_standing;
mod story_vendor;
mod tidy;
mod tls;
mod zero_window;
