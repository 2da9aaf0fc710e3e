//! The laws of schedules: cron against a naive walk over every minute, and what a tick decides, for any rule.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod cron;
mod every_zone;
mod plan;
