//! The laws of limits and budgets, for any history of asking and any clock.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod bucket;
mod budget;
mod day;
mod declared;
mod rooms;

use chrono::{DateTime, TimeDelta, Utc};

/// The start of every test, some microseconds on.
pub(crate) fn at_us(us: i64) -> DateTime<Utc> {
    "2030-05-06T12:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::microseconds(us)
}
