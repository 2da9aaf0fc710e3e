//! The jobs' part of the ledger. Inserting in `insert`, every change of state in `transition`, `claim` and
//! `dispatch`, attempts' own writes in `attempt`, reading one in `read`, what holds one back in `why`, lists in `list` and
//! `list_members`.

mod attempt;
mod claim;
mod claimed;
mod dispatch;
mod fate;
mod insert;
mod list;
mod list_members;
mod lost;
mod read;
mod transition;
mod why;

#[cfg(test)]
mod tests;

pub use attempt::Held;
pub use claimed::{AttemptKey, ClaimedJob, Delivered, Outcome};
pub use dispatch::{InFlight, Upcoming, WaitingFlow};
pub use fate::{FailedAttempt, Fate, Rescued, Settled};
pub(crate) use insert::insert_plain;
pub use insert::{Inserted, NewJob, Unique};
pub use list::{JobFilter, PAGE_ROWS_MAX};
pub use read::JobRow;
pub(crate) use transition::cancel;
