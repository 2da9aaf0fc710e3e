//! The ledger against a real PostgreSQL. Each test owns its database and its clock.
//! Does not own what states mean: that is `domain`'s table, which `transitions` holds the statements to.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod anomalies;
mod assumptions;
mod audit;
mod budgets;
mod by_hand;
mod by_operators;
mod claims;
mod connections;
mod declared;
mod groups;
mod groups_end;
mod inserts;
mod leading;
mod limits;
mod lists;
mod operations;
mod overlap;
mod pauses;
mod quarantine;
mod records;
mod schedules;
mod statistics;
mod transitions;
mod wall;
mod why;
mod windows;
mod world;
