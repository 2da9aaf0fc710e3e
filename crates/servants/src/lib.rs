//! What servants share: how a customer's vendor is reached from within a job, and the jobs that several kinds make.
//! Owns nothing that only one kind needs; that is in the kind's own file.

pub mod bulk;
pub mod salesforce;
