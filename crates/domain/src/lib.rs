//! What the words mean: jobs, their states, retries, schedules, ids and time.
//! Owns no I/O, no async and no ambient time: everything here is a function of its arguments.

mod access;
mod anomaly;
mod breaker;
mod catalogue;
mod chain;
mod clock;
mod detect;
mod dispatching;
mod error_class;
mod fair_share;
mod fingerprint;
mod group;
mod ids;
mod latency;
mod limits;
mod pause;
mod quarantine;
mod reach_back;
mod release;
mod retry;
mod schedule;
mod search;
mod secrets;
mod sensitive;
mod servant;
mod state;
mod time_left;
mod why;

pub use access::{
    Action, Capability, Denied, Granted, Origin, Principal, PrincipalKind, Role, WhyDenied, action, authorize,
};
pub use anomaly::{AnomalyAct, AnomalyKind, AnomalyState, Severity};
pub use breaker::{Breaker, BreakerSettings, BreakerState, Forced, Outcomes, Room, Tally, Window};
pub use catalogue::{Catalogue, CatalogueError, CatalogueTables, KindDefinition};
pub use chain::chain;
pub use clock::{Clock, ManualClock};
pub use detect::{
    DeleteFuse, NULLS_SAMPLE_ROWS, Nulls, Volume, WEEKS_KEPT, clocks_apart, counts_differ, hour_of_week, is_late,
    judge_deletes, judge_volume, quota_lasts_hours, remember,
};
pub use dispatching::{Dispatching, TakenPerSec};
pub use error_class::{ErrorClass, Failure};
pub use fair_share::{AGING_SECS, Flow, Next, Place, Round, Taken, Visit, quanta};
pub use fingerprint::{Fingerprint, error_digest, error_title, is_spike};
pub use group::{FinishWhen, Finishing, GroupCounts, GroupState, GroupVerdict};
pub use ids::{
    AccountId, AttemptToken, ConnectionId, GroupId, JobId, Kind, KindError, LeaseId, PermitId, ScheduleId, ServantId,
    Term,
};
pub use latency::{LATENCY_BUCKETS, latency_bound_ms, latency_percentile_ms};
pub use limits::{
    Blocked, Bucket, BudgetCause, BudgetFacts, BudgetSettings, BudgetVerdict, Candidate, DayLimit, DayUse, Gauge,
    InFlight, Limit, LimitCause, LimitState, Limits, Pace, Per, RECHECK_SECS, Rate, Refusal, Rooms, RoomsFacts, Scope,
    Spending, Subject, URGENT, VendorBudget, What, check_vendor,
};
pub use pause::PauseTarget;
pub use quarantine::QuarantineState;
pub use reach_back::ReachBack;
pub use release::{Release, ReleaseRoom};
pub use retry::{Backoff, ClassRetry, RetryPolicy, Verdict};
pub use schedule::{
    CATCH_UP_MAX_MAX, CATCH_UP_SECS_MIN, CatchUp, Cron, CronError, Decision, DeclaredSchedule, DstTouch,
    JITTER_SECS_MAX, Occurrence, Overlap, Plan, Policy, PreviewedFire, Schedule, jitter,
};
pub use search::{BulkAct, Search, age_secs};
pub use secrets::{SecretPlace, WrappedKey};
pub use sensitive::{LogLines, Mask, SeePersonalData, Sensitive, Sentence};
pub use servant::{HEARTBEAT_SECS, Liveness, ServantState, liveness};
pub use state::{JobEvent, JobState, next};
pub use time_left::{ProgressPace, about, time_left};
pub use why::{
    Cause, CircuitFacts, CircuitOpen, CircuitRecovering, CircuitUnclear, ConnectionAtRest, ConnectionFacts,
    ForcedFacts, HeldFacts, LastFailure, NoRoomFacts, PauseFacts, Releasing, ServantFacts, WhyFacts, why,
};
