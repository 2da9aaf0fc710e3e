//! The pages over a real socket on a real database, as a browser without JavaScript reads them. Does not own how they look.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod accounts;
mod bulk;
#[path = "../common/mod.rs"]
mod common;
mod errors;
mod find;
mod fleet;
mod inbox;
mod jobs;
mod limits;
mod parity;
mod quarantine;
mod schedules;
mod world;
