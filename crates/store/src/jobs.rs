//! The jobs' part of the ledger. Inserting in `insert`, every change of state in `transition`, `retry`, `claim`, `dispatch` and
//! `by_hand`, whose turn it is and what has room in `line`, `gate` and `in_flight`, attempts' own writes in `attempt`, reading one in `read`, what holds one back in `why`, lists in `list` and
//! those beside it.

mod attempt;
mod by_hand;
mod claim;
mod claimed;
mod dispatch;
mod fate;
mod gate;
mod in_flight;
mod insert;
mod line;
mod list;
mod list_ages;
mod list_in_hand;
mod list_kinds;
mod list_looked;
mod list_members;
mod list_others;
mod lost;
mod own_attempts;
mod read;
mod retry;
mod transition;
mod why;

#[cfg(test)]
mod tests;

pub use attempt::Held;
pub use by_hand::{ActsOnJobs, JobAct, MakesJobs};
pub(crate) use by_hand::{act_on_jobs, new_of};
pub use claimed::{AttemptKey, ClaimedJob, Delivered, Outcome};
pub(crate) use dispatch::flow_of;
pub use dispatch::{Upcoming, WaitingFlow};
pub use fate::{FailedAttempt, Fate, Rescue, Rescued, Settled};
pub use gate::Terms;
pub use in_flight::{Permit, Tally};
pub(crate) use insert::insert_plain;
pub use insert::{Inserted, NewJob, Unique};
pub use line::{ClaimedInTurn, LetThrough, Line};
pub use list::{JobFilter, PAGE_ROWS_MAX};
pub use list_looked::JobsFound;
pub use read::JobRow;
pub(crate) use transition::cancel;
