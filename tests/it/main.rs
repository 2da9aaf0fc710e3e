//! Tests of the whole: the repository's own rules, and the programs run together.
//! Does not own what one crate can test by itself.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod anomalies;
mod asvs;
mod audit;
mod backends;
mod bulk;
mod connections;
mod crashes;
mod customer;
mod fleet;
mod groups;
mod jwt;
mod life;
mod limits;
mod misbehaviour;
mod new_servant;
mod operator;
mod orders;
mod organisation;
mod outages;
mod pauses;
mod people;
mod readme;
mod reconcile;
mod schedulers;
mod schedules;
mod sync;
mod ticks;
mod tidy;
mod up;
