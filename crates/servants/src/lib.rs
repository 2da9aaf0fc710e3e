//! What servants share: how a customer's vendor is reached from within a job.
//! Owns nothing that only one kind needs; that is in the kind's own file.

pub mod salesforce;
