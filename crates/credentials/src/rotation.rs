//! The rotation of keys while everything runs: data keys under the newest master key, new data keys, and what they seal.
//! Owns the walks and their batches; each step leaves everything readable, and an interrupted rotation is finished by the
//! next one.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{ConnectionId, Granted, SecretPlace, action};
use store::{SealedSecrets, SecretsBehind, Store, credential_place, session_place};
use vault::Vault;

use crate::CredentialsError;

/// Rows of one batch.
const BATCH_ROWS: i64 = 500;
/// How long a key that seals nothing is kept after a newer one came, in seconds: whoever took it for the newest has sealed
/// by then.
const SUPERSEDED_SECS: i64 = 3_600;

/// How far a rotation is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Data keys that were wrapped anew.
    pub rewrapped: u64,
    /// Accounts that were given a new data key.
    pub renewed: u64,
    /// Connections whose secrets were sealed anew.
    pub resealed: u64,
    /// Old data keys that sealed nothing any more and were deleted.
    pub pruned: u64,
}

/// One rotation.
#[derive(Debug)]
pub struct Rotation<'a> {
    store: &'a Store,
    vault: &'a Vault,
    by: &'a Granted<action::RotateKeys>,
    progress: Progress,
}

impl<'a> Rotation<'a> {
    /// Does nothing yet.
    #[must_use]
    pub fn new(store: &'a Store, vault: &'a Vault, by: &'a Granted<action::RotateKeys>) -> Self {
        Self { store, vault, by, progress: Progress::default() }
    }

    /// How far it is.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// Wraps every data key by the master key in use. `tell` is called after each batch.
    ///
    /// # Errors
    /// [`CredentialsError`]; what was done stays done.
    pub async fn rewrap(&mut self, tell: impl Fn(Progress)) -> Result<(), CredentialsError> {
        let mut after = None;
        loop {
            let keys = self.store.walk_keys(after, BATCH_ROWS).await?;
            let Some(last) = keys.last() else { return Ok(()) };
            after = Some((last.account, last.version));
            let mut pairs = Vec::new();
            for key in keys {
                if let Some(new) = self.vault.rewrap(&key).await? {
                    pairs.push((key, new));
                }
            }
            if !pairs.is_empty() {
                self.progress.rewrapped += self.store.rewrap_keys(&pairs, self.by).await?;
                tell(self.progress);
            }
        }
    }

    /// Gives every account a new data key, unless it has one since `since`, and seals by it what the old ones sealed.
    ///
    /// # Errors
    /// As [`Rotation::rewrap`].
    pub async fn renew(&mut self, since: DateTime<Utc>, tell: impl Fn(Progress)) -> Result<(), CredentialsError> {
        let mut after = None;
        loop {
            let newest = self.store.walk_newest_keys(after, BATCH_ROWS).await?;
            let Some((last, ..)) = newest.last() else { break };
            after = Some(*last);
            let mut keys = Vec::new();
            for (account, version, created_at) in newest {
                if created_at < since {
                    keys.push(self.vault.new_key(account, version + 1).await?);
                }
            }
            if !keys.is_empty() {
                self.store.renew_keys(&keys, self.by).await?;
                self.progress.renewed += keys.len() as u64;
                tell(self.progress);
            }
        }
        self.reseal(tell).await
    }

    /// Seals by each account's newest key what older ones sealed, and deletes those that seal nothing any more.
    ///
    /// # Errors
    /// As [`Rotation::rewrap`].
    pub async fn reseal(&mut self, tell: impl Fn(Progress)) -> Result<(), CredentialsError> {
        let mut after = None;
        loop {
            let rows = self.store.secrets_behind(after, BATCH_ROWS).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.connection);
            let mut pairs = Vec::new();
            for row in rows {
                let sealed = SealedSecrets {
                    key_version: row.new.version,
                    credential: self.anew(&row, row.sealed.credential.as_deref(), credential_place).await?,
                    session: self.anew(&row, row.sealed.session.as_deref(), session_place).await?,
                };
                pairs.push((row, sealed));
            }
            // A row that was written meanwhile was sealed by whoever wrote it, by the newest key.
            self.progress.resealed += self.store.reseal(&pairs, self.by).await?;
            tell(self.progress);
        }
        let before = self.store.now() - TimeDelta::seconds(SUPERSEDED_SECS);
        self.progress.pruned += self.store.prune_keys(before, self.by).await?;
        Ok(())
    }

    async fn anew(
        &self,
        row: &SecretsBehind,
        sealed: Option<&[u8]>,
        place_of: fn(ConnectionId) -> SecretPlace,
    ) -> Result<Option<Vec<u8>>, CredentialsError> {
        let Some(sealed) = sealed else { return Ok(None) };
        let place = place_of(row.connection);
        let text = self.vault.open(&row.old, &place, sealed).await?;
        Ok(Some(self.vault.seal(&row.new, &place, &text).await?))
    }
}
