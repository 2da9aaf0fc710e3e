//! A master key in AWS KMS. Owns the calls; what is wrapped is bound to its account and version by the encryption
//! context, which KMS also writes into its audit trail.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_kms::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
};
use domain::AccountId;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::{
    VaultError,
    seal::{KEY_BYTES, KeyBytes},
};

const CONNECT_SECS: u64 = 5;
const ATTEMPT_SECS: u64 = 10;
const ATTEMPTS_MAX: u32 = 4;
/// Refusals of KMS that pass by themselves; the rest are for a person.
const TRANSIENT: [&str; 5] = [
    "DependencyTimeoutException",
    "KeyUnavailableException",
    "KMSInternalException",
    "ThrottlingException",
    "LimitExceededException",
];

/// A connection to KMS, made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Kms {
    client: OnceCell<Client>,
}

impl Kms {
    /// Wraps a data key under the key that `arn` names.
    pub(crate) async fn wrap(
        &self,
        arn: &str,
        key: &KeyBytes,
        account: AccountId,
        version: i32,
    ) -> Result<Vec<u8>, VaultError> {
        let [first, second] = context(account, version);
        let answer = self
            .client()
            .await
            .encrypt()
            .key_id(arn)
            .plaintext(Blob::new(key.as_slice()))
            .encryption_context(first.0, first.1)
            .encryption_context(second.0, second.1)
            .send()
            .await
            .map_err(refusal)?;
        answer.ciphertext_blob.map(Blob::into_inner).ok_or_else(|| VaultError::sealed("an answer of the key service"))
    }

    /// Unwraps a data key. That `arn` is named keeps a key of somebody else's account from being used instead.
    pub(crate) async fn unwrap(
        &self,
        arn: &str,
        wrapped: &[u8],
        account: AccountId,
        version: i32,
    ) -> Result<KeyBytes, VaultError> {
        const WHAT: &str = "a wrapped key";
        let [first, second] = context(account, version);
        let answer = self
            .client()
            .await
            .decrypt()
            .key_id(arn)
            .ciphertext_blob(Blob::new(wrapped))
            .encryption_context(first.0, first.1)
            .encryption_context(second.0, second.1)
            .send()
            .await
            .map_err(refusal)?;
        let text = Zeroizing::new(answer.plaintext.ok_or_else(|| VaultError::sealed(WHAT))?.into_inner());
        let bytes: &[u8; KEY_BYTES] = text.as_slice().try_into().map_err(|_| VaultError::sealed(WHAT))?;
        Ok(Zeroizing::new(*bytes))
    }

    async fn client(&self) -> &Client {
        self.client
            .get_or_init(|| async {
                let shared = aws_config::defaults(BehaviorVersion::latest()).load().await;
                Client::from_conf(limited(aws_sdk_kms::config::Builder::from(&shared)).build())
            })
            .await
    }
}

fn limited(config: aws_sdk_kms::config::Builder) -> aws_sdk_kms::config::Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(CONNECT_SECS))
        .operation_attempt_timeout(Duration::from_secs(ATTEMPT_SECS))
        .build();
    config.timeout_config(timeouts).retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
}

fn context(account: AccountId, version: i32) -> [(&'static str, String); 2] {
    [("servant-account", account.to_string()), ("servant-key-version", version.to_string())]
}

fn refusal<E, R>(error: SdkError<E, R>) -> VaultError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let Some(refused) = error.as_service_error() else {
        return VaultError::Unavailable { reason: "no answer".to_owned(), source: error.into() };
    };
    let code = refused.code().unwrap_or("unknown").to_owned();
    match code.as_str() {
        // The cipher text was altered, or its context is not this account's and version's.
        "InvalidCiphertextException" | "IncorrectKeyException" => VaultError::sealed("a wrapped key"),
        _ if TRANSIENT.contains(&code.as_str()) => VaultError::Unavailable { reason: code, source: error.into() },
        _ => {
            let message = refused.message().unwrap_or_default();
            VaultError::no_master(
                format!("the key service refuses: {code}: {message}"),
                "check vault.kms_key, the key's state, and that this program's role may Encrypt and Decrypt with it",
            )
        }
    }
}

#[cfg(test)]
#[path = "kms_tests.rs"]
mod tests;
