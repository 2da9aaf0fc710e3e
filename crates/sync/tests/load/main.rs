//! Owns the proofs that what the vendor answers comes to be rows: a page, a wide one, a whole pass. Does not own what is
//! mended afterwards: that is `repair`.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

#[path = "../customer/mod.rs"]
mod customer;
mod page;
mod pass;
mod wide;
