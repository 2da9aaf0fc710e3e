//! The jobs' part of the ledger. Inserting in `insert`, every change of state in `transition`, attempts' own writes
//! in `attempt`, reading in `read`.

mod attempt;
mod claimed;
mod fate;
mod insert;
mod lost;
mod read;
mod transition;

#[cfg(test)]
mod tests;

pub use attempt::Held;
pub use claimed::{AttemptKey, ClaimedJob, Delivered, Outcome};
pub use fate::{FailedAttempt, Fate, Rescued};
pub use insert::{Inserted, NewJob, Unique};
pub use read::*;
pub(crate) use transition::cancel;
