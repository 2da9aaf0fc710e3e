//! The proof of the Salesforce engine: its real programs against the simulated Salesforce, harmed and killed in every known
//! way, and in the end equal to the truth. Does not own what one crate can test by itself.
//!
//! A seed decides everything that is left to chance; a case that fails prints its seed. Few seeds run by default:
//!
//! - `SERVANT_PROOF_SEEDS`: how many cases of harm; an even seed is one harm by itself, an odd one three at random.
//! - `SERVANT_PROOF_SEED`: that case alone.
//! - `SERVANT_PROOF_KILLS`: how many kills at random instants, besides those at each commit.
//! - `SERVANT_PROOF_AT_ONCE`: how many cases at a time; they mostly wait.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod customer;
mod faults;
mod harm;
mod kills;
mod ledger;
mod tap;
mod world;

/// A number that the environment may say.
fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is '{text}', not a number")),
        Err(_) => otherwise,
    }
}
