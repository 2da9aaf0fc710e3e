//! What sealed secrets are made of, as they are stored: wrapped keys, and the place that a sealed value belongs to.
//! Holds nothing that is secret by itself; sealing is the vault's.

use crate::AccountId;

/// An account's data key, wrapped by a master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Whose secrets it seals.
    pub account: AccountId,
    /// 1 for the account's first; new secrets are sealed by the greatest.
    pub version: i32,
    /// The master key that wraps it: `file:<number>` or `kms:<arn>`.
    pub master: String,
    /// The wrapped key.
    pub wrapped: Vec<u8>,
}

/// Where a sealed value belongs. It is bound to this: elsewhere it does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretPlace {
    /// The table.
    pub table: &'static str,
    /// The row's id.
    pub row: i64,
    /// The column.
    pub field: &'static str,
}
