//! A thin client of Salesforce: sign-on by OAuth 2.0, describe, queries page by page and in bulk, logs of changes, limits.
//! Owns the vendor's HTTP. Does not own which records to ask for, nor how they are stored.

mod address;
mod bulk;
mod call;
mod client;
mod composite;
mod error;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod jwt;
mod oauth;
mod options;
mod record_id;
mod refusal;
mod resolve;
mod rest;
mod session;
mod transport;
mod unpack;
mod wire;

pub use address::Hosts;
pub use bulk::{BulkJob, BulkOperation, BulkPage, BulkState, BulkStatus, FIRST_PAGE, ResultPages};
pub use client::Client;
pub use composite::{Answer, QUERIES_MAX, QUESTIONS_MAX, Question};
pub use error::{Result, SalesforceError};
pub use jwt::JwtUser;
pub use oauth::{ConnectedApp, Grant, OAuth, new_secret};
pub use options::Options;
pub use record_id::{id18, is_id18};
pub use secrecy::SecretString;
pub use session::{Credentials, GiveSession, Session, SessionSource, StoreRotated};
pub use transport::PageBody;
pub use wire::{ApiUsage, Changed, Deleted, Describe, Described, Field, Limit, Page};
