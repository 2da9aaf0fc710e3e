//! Envelope encryption: each account's secrets are sealed by data keys of its own, and data keys are wrapped by a master
//! key that lies in a file or in AWS KMS. Owns the ciphers and the master keys. Stores nothing: wrapped keys and sealed
//! values are for the ledger to keep, and neither is of use without a master key. Also what passwords become, and new tokens.

mod error;
mod keys_file;
mod kms;
mod password;
mod seal;
mod token;
mod vault;

pub use error::VaultError;
pub use password::{PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, check_password, hash_password, verify_password};
pub use seal::{digest, is_digest_of, key_version};
pub use secrecy::{ExposeSecret, SecretString};
pub use token::{TokenFor, new_token};
pub use vault::{Config, Vault};
