//! The ledger against a real PostgreSQL. Each test owns its database and its clock.
//! Does not own what states mean: that is `domain`'s table, which `transitions` holds the statements to.

mod claims;
mod inserts;
mod leading;
mod lists;
mod transitions;
mod world;
