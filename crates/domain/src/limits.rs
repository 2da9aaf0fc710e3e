//! How much may run at once, a second, a minute and a day, and how much of a customer's own quota is ours to use.
//! Owns what a limit says and whether a job has room under all that cover it. Does not own counting (what is in flight
//! is the ledger's to say) or which job asks first (fairness is the dispatcher's).
//!
//! Limits count jobs as they are dispatched, a retry again. Vendor budgets count calls, as the vendor does.

mod bucket;
mod budget;
mod day;
mod declared;
mod limit;
mod refusal;
mod room;
mod rooms;
mod scope;
mod state;

pub use bucket::{Bucket, Per, Rate};
pub use budget::{BudgetSettings, Pace, RECHECK_SECS, Spending, VendorBudget, Verdict as BudgetVerdict};
pub use day::{DayLimit, DayUse};
pub(crate) use declared::LimitsTable;
pub use limit::Limit;
pub use refusal::{BudgetCause, LimitCause, Refusal, What};
pub use rooms::{Blocked, BudgetFacts, Candidate, InFlight, Rooms, RoomsFacts};
pub use scope::{Limits, Scope, Subject, check_vendor};
pub use state::{Gauge, LimitState};

/// Priority of jobs that may use what is kept for urgent ones.
pub const URGENT: i16 = 0;
