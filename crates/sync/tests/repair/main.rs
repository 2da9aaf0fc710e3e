//! Owns the proof that stored records come to be what the vendor shows, whatever windows cannot see, and that what is out of
//! the ordinary is said once and taken back: over real HTTP from the simulated Salesforce into a real PostgreSQL. Does not own
//! the jobs around it.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

#[path = "../customer/mod.rs"]
mod customer;
mod drift;
mod reconcile;
mod watch;
mod world;
