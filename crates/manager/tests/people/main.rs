//! A manager that asks everybody who they are, over a real socket on a real database: people, programs and servants; what is
//! refused; and what every answer carries.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod guards;
mod password;
mod programs;
mod provider;
mod servants;
mod sign_in;
mod throttle;
mod world;
