//! What the words mean: jobs, their states, retries, schedules, ids and time.
//! Owns no I/O, no async and no ambient time: everything here is a function of its arguments.

mod catalogue;
mod chain;
mod clock;
mod error_class;
mod ids;
mod retry;
mod schedule;
mod servant;
mod state;

pub use catalogue::{Catalogue, CatalogueError, KindDefinition};
pub use chain::chain;
pub use clock::{Clock, ManualClock};
pub use error_class::{ErrorClass, Failure};
pub use ids::{AccountId, AttemptToken, ConnectionId, JobId, Kind, KindError, LeaseId, ScheduleId, ServantId, Term};
pub use retry::{RetryPolicy, Verdict};
pub use schedule::{
    CATCH_UP_MAX_MAX, CATCH_UP_SECS_MIN, CatchUp, Cron, CronError, Decision, DeclaredSchedule, DstTouch,
    JITTER_SECS_MAX, Occurrence, Overlap, Plan, Policy, PreviewedFire, Schedule, jitter,
};
pub use servant::{HEARTBEAT_SECS, Liveness, ServantState, liveness};
pub use state::{JobEvent, JobState, next};
