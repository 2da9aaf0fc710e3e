//! Owns one PostgreSQL server on this machine: finding or fetching its binaries, its directory,
//! its start and its end, which comes at the latest with the end of this process.
//!
//! It does not own what is in the databases, and reads no configuration file.

mod account;
mod binaries;
mod data_dir;
mod download;
mod error;
mod server;
mod wire;

pub use error::Error;
pub use server::{Durability, LocalPostgres, Options};
