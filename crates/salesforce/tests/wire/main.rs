//! Proofs of the client over real sockets against small servers that answer as a test says: sign-on, bulk, composite, logs,
//! and whatever a hostile or broken server may send. Does not own the proof against the simulated Salesforce (`client`).

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod addresses;
mod bulk;
mod composite;
mod hostile;
mod oauth;
mod rest;
mod server;
