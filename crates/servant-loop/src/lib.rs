//! Runs jobs: receive or claim, run with a concurrency limit, finish in batches, keep leases, drain.
//! Owns the life of a job inside a servant process. Does not own what jobs do (`servants`), what states mean
//! (`domain`) or when jobs are made (`scheduler`).

mod claims;
mod config;
mod context;
mod finisher;
mod heartbeat;
mod intake;
mod job_error;
mod keeper;
mod registry;
mod runner;
mod servant;
mod table;

pub use config::LoopConfig;
pub use context::{JobContext, JobTx};
pub use job_error::{Done, JobError};
pub use servant::{Servant, Setup, main};
