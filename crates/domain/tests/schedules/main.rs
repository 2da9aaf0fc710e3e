//! The laws of schedules: cron against a naive walk over every minute, and what a tick decides, for any rule.

mod cron;
mod plan;
