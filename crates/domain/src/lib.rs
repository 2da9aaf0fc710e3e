//! What the words mean: jobs, their states, retries, schedules, ids and time.
//! Owns no I/O, no async and no ambient time: everything here is a function of its arguments.

mod catalogue;
mod chain;
mod clock;
mod error_class;
mod ids;
mod pause;
mod retry;
mod schedule;
mod servant;
mod state;

pub use catalogue::{Catalogue, CatalogueError, DeclaredSchedule, KindDefinition};
pub use chain::chain;
pub use clock::{Clock, ManualClock};
pub use error_class::{ErrorClass, Failure};
pub use ids::{AccountId, AttemptToken, ConnectionId, JobId, Kind, KindError, LeaseId, ScheduleId, ServantId, Term};
pub use pause::PauseTarget;
pub use retry::{RetryPolicy, Verdict};
pub use schedule::Schedule;
pub use servant::{HEARTBEAT_SECS, Liveness, ServantState, liveness};
pub use state::{JobEvent, JobState, next};
