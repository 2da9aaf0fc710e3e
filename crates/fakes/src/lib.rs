//! Owns simulated services that speak the real protocols, for tests and the one-command stack.
//! Does not own what is tested with them.

pub mod identity;
pub mod salesforce;
pub mod sqs;
