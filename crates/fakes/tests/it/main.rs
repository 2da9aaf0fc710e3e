//! Owns the proofs of the simulated Salesforce over its own protocol, one module for each part of it.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod bulk;
mod changes;
mod common;
mod queries;
