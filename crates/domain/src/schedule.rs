//! Schedules: when they are due, what becomes of fires that were missed, and how all of it looks to a person.
//! Pure: the scheduler's tick gives the instants, `store` keeps the next one.

mod cron;
mod declared;
mod plan;
mod policy;
mod preview;
mod rule;

pub use cron::{Cron, CronError, DstTouch, Occurrence};
pub use declared::DeclaredSchedule;
pub(crate) use declared::ScheduleTable;
pub use plan::{Decision, Plan};
pub use policy::{CATCH_UP_MAX_MAX, CATCH_UP_SECS_MIN, CatchUp, JITTER_SECS_MAX, Overlap, Policy, jitter};
pub use preview::PreviewedFire;
pub use rule::Schedule;
