//! Sealed credentials on a real PostgreSQL: one sign-on for all who need it, and keys that change under everybody's feet.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod rotation;
mod salesforce;
mod sign_on;
mod world;
