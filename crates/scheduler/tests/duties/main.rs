//! Each duty by itself over a real PostgreSQL and a simulated SQS, by a clock that stands still: what it does, that
//! doing it twice is doing it once, and that a scheduler of the past can do nothing.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod at_once;
mod breakers;
mod deaths;
mod dispatch;
mod dispatch_walk;
mod dispatch_why;
mod groups;
mod limits;
mod newer;
mod operations;
mod queues;
mod release;
mod sweeps;
mod tick;
mod to_the_queue;
mod wakes;
mod world;
