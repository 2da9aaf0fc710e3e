//! A thin client of Salesforce: sign-on by refresh token, describe, queries page by page, limits.
//! Owns the vendor's HTTP. Does not own which records to ask for, nor how they are stored.

mod auth;
mod client;
mod error;
mod record_id;
mod transport;
mod wire;

pub use auth::{Credentials, StoreRotated};
pub use client::{Client, Options};
pub use error::{Result, SalesforceError};
pub use record_id::id18;
pub use secrecy::SecretString;
pub use wire::{ApiUsage, Describe, Field, Limit, Page};
