//! Owns the proofs of the simulated Salesforce over its own protocol, one module for each part of it: one program, since
//! each would link the whole of it once more.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod bulk;
mod changes;
mod common;
mod connect;
mod folder;
mod queries;
mod wire;
