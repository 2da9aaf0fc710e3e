//! Owns the simulated SQS: a server in memory that speaks the AWS JSON 1.0 protocol and misbehaves on request.
//! Does not own durability (a restart forgets everything), FIFO queues, fair ordering, retention or permissions.

mod clock;
mod error;
mod fault;
mod http;
mod request;
mod service;
mod store;

pub use clock::{Clock, ManualClock};
pub use fault::{Fault, Faults, Rule, UnknownFault};
pub use http::{FakeSqs, Options};
pub use service::Stats;

const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
