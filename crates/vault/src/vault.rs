//! The vault: data keys out of their wrapping, kept unwrapped for a few minutes, and what is sealed with them.
//! Does not own the ciphers (`seal`) nor where master keys lie (`keys_file`, `kms`).

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, Clock, SecretPlace, WrappedKey};
use secrecy::SecretString;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    VaultError,
    keys_file::KeysFile,
    kms::Kms,
    seal::{self, KEY_BYTES, Key, KeyBytes},
};

/// How long a data key stays unwrapped, in seconds.
const UNWRAPPED_SECS: i64 = 300;
/// Data keys unwrapped at a time.
const UNWRAPPED_MAX: usize = 1_000;

/// `[vault]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file of master keys; empty = none.
    pub keys_file: PathBuf,
    /// The ARN of the AWS KMS key that is used instead; empty = none. The file's keys still unwrap what they wrapped.
    pub kms_key: String,
}

/// Seals and opens. Share it.
pub struct Vault {
    file: Option<KeysFile>,
    kms_key: Option<String>,
    kms: Kms,
    clock: Clock,
    /// By their wrapped form, so that a key is never taken for another of its account.
    unwrapped: Mutex<HashMap<Vec<u8>, Unwrapped>>,
}

struct Unwrapped {
    key: Arc<Key>,
    until: DateTime<Utc>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("file", &self.file).field("kms_key", &self.kms_key).finish_non_exhaustive()
    }
}

impl Vault {
    /// A vault. Reads no file and makes no call yet: programs that seal nothing need no master key.
    #[must_use]
    pub fn new(config: Config, clock: Clock) -> Self {
        Self {
            file: (!config.keys_file.as_os_str().is_empty()).then(|| KeysFile::at(config.keys_file)),
            kms_key: (!config.kms_key.is_empty()).then_some(config.kms_key),
            kms: Kms::default(),
            clock,
            unwrapped: Mutex::default(),
        }
    }

    /// The name of the master key that wraps new data keys.
    ///
    /// # Errors
    /// [`VaultError::NoMaster`] when there is none.
    pub fn master(&self) -> Result<String, VaultError> {
        match (&self.kms_key, &self.file) {
            // An alias may come to mean another key; what is stored must not.
            (Some(key), _) if !(key.starts_with("arn:") && key.contains(":key/")) => Err(VaultError::no_master(
                format!("vault.kms_key is '{key}'"),
                "name the key by its ARN, as arn:aws:kms:eu-central-1:111122223333:key/…",
            )),
            (Some(key), _) => Ok(format!("kms:{key}")),
            (None, Some(file)) => Ok(format!("file:{}", file.newest()?)),
            (None, None) => Err(VaultError::no_master(
                "there is no master key for credentials",
                "set vault.keys_file or vault.kms_key in the program's configuration",
            )),
        }
    }

    /// Adds a master key to the file; it wraps new data keys from now on. Answers with its name.
    ///
    /// # Errors
    /// [`VaultError::NoMaster`] when master keys do not lie in a file, or it cannot be written.
    pub fn generate_master(&self) -> Result<String, VaultError> {
        match (&self.kms_key, &self.file) {
            (None, Some(file)) => Ok(format!("file:{}", file.add()?)),
            _ => Err(VaultError::no_master(
                "master keys do not lie in a file here",
                "set vault.keys_file and leave vault.kms_key empty; AWS KMS makes its keys' next material by itself",
            )),
        }
    }

    /// Makes a data key for an account. It is in use once the ledger has it.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn new_key(&self, account: AccountId, version: i32) -> Result<WrappedKey, VaultError> {
        let bytes = seal::random_key()?;
        let master = self.master()?;
        let wrapped = self.wrap(&bytes, account, version, &master).await?;
        Ok(WrappedKey { account, version, master, wrapped })
    }

    /// The same data key wrapped by the master key in use; none when it is already.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn rewrap(&self, key: &WrappedKey) -> Result<Option<WrappedKey>, VaultError> {
        let master = self.master()?;
        if master == key.master {
            return Ok(None);
        }
        let bytes = self.unwrap(key).await?;
        let wrapped = self.wrap(&bytes, key.account, key.version, &master).await?;
        Ok(Some(WrappedKey { master, wrapped, ..*key }))
    }

    /// Seals a secret of the key's account for the place where it will lie.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn seal(
        &self,
        key: &WrappedKey,
        place: &SecretPlace,
        value: &SecretString,
    ) -> Result<Vec<u8>, VaultError> {
        seal::seal(&*self.data_key(key).await?, place, key.account, key.version, value)
    }

    /// Opens what lies in that place.
    ///
    /// # Errors
    /// [`VaultError::Sealed`] when it was altered, was sealed for another place or by another key.
    pub async fn open(&self, key: &WrappedKey, place: &SecretPlace, sealed: &[u8]) -> Result<SecretString, VaultError> {
        seal::open(&*self.data_key(key).await?, place, key.account, key.version, sealed)
    }

    async fn data_key(&self, key: &WrappedKey) -> Result<Arc<Key>, VaultError> {
        let now = self.clock.now();
        let kept = self.kept(&key.wrapped, now);
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let fresh = Arc::new(Key::new(&self.unwrap(key).await?)?);
        let mut unwrapped = self.unwrapped.lock().unwrap_or_else(PoisonError::into_inner);
        if unwrapped.len() >= UNWRAPPED_MAX {
            unwrapped.retain(|_, entry| entry.until > now);
        }
        if unwrapped.len() >= UNWRAPPED_MAX {
            unwrapped.clear();
        }
        let until = now + TimeDelta::seconds(UNWRAPPED_SECS);
        unwrapped.insert(key.wrapped.clone(), Unwrapped { key: fresh.clone(), until });
        Ok(fresh)
    }

    fn kept(&self, wrapped: &[u8], now: DateTime<Utc>) -> Option<Arc<Key>> {
        let mut unwrapped = self.unwrapped.lock().unwrap_or_else(PoisonError::into_inner);
        match unwrapped.get(wrapped) {
            Some(entry) if entry.until > now => Some(entry.key.clone()),
            Some(_) => {
                unwrapped.remove(wrapped);
                None
            }
            None => None,
        }
    }

    async fn wrap(
        &self,
        bytes: &KeyBytes,
        account: AccountId,
        version: i32,
        master: &str,
    ) -> Result<Vec<u8>, VaultError> {
        match master.split_once(':') {
            Some(("kms", arn)) => self.kms.wrap(arn, bytes, account, version).await,
            _ => self.file_key(master)?.encrypt(&seal::binding_of_key(account, version, master), bytes.as_slice()),
        }
    }

    async fn unwrap(&self, key: &WrappedKey) -> Result<KeyBytes, VaultError> {
        const WHAT: &str = "a wrapped key";
        if let Some(("kms", arn)) = key.master.split_once(':') {
            return self.kms.unwrap(arn, &key.wrapped, key.account, key.version).await;
        }
        let binding = seal::binding_of_key(key.account, key.version, &key.master);
        let text = self.file_key(&key.master)?.decrypt(&binding, &key.wrapped, WHAT)?;
        let bytes: &[u8; KEY_BYTES] = text.as_slice().try_into().map_err(|_| VaultError::sealed(WHAT))?;
        Ok(Zeroizing::new(*bytes))
    }

    fn file_key(&self, master: &str) -> Result<Key, VaultError> {
        let number = master.strip_prefix("file:").and_then(|number| number.parse().ok());
        match (&self.file, number) {
            (Some(file), Some(number)) => file.key(number),
            _ => Err(VaultError::no_master(
                format!("keys are wrapped by the master key '{master}', which is not to be had here"),
                "set vault.keys_file to the file that holds it",
            )),
        }
    }
}

#[cfg(test)]
#[path = "vault_tests.rs"]
mod tests;
