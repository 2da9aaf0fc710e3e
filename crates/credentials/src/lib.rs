//! Customers' sealed credentials at work: sessions out of them, each signed on for once however many servants need it,
//! and the rotation of the keys that seal them. Owns when a vendor is asked for a session. Does not own the ciphers
//! (`vault`), the rows (`store`) or any vendor's wire.

mod error;
mod rotation;
mod salesforce;
mod sign_on;

pub use crate::salesforce::SalesforceGrant;
pub use error::CredentialsError;
pub use rotation::{Progress, Rotation};
pub use sign_on::{Answer, Granted, Session, SignOn};
