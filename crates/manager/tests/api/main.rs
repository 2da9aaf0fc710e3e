//! The manager's API over a real socket on a real database, asked by its client and by hand: what it answers, what it refuses
//! and what that costs the ledger. Owns no pages and nobody's sign-on: those are `pages` and `people`.
//!
//! One program: each would link the whole manager once more.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod bounds;
#[path = "../common/mod.rs"]
mod common;
mod connect;
mod connections;
mod groups;
mod http;
mod limits;
mod roles;
mod schedules;
