//! Schedules as the scheduler keeps them, over a real PostgreSQL and by a clock that is moved by hand: weeks of fires
//! over changes of the clock with a leader that dies after every step, and what the catalogue declares.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod declared;
mod weeks;
mod world;
