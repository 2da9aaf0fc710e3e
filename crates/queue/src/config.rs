//! The table `[queue]` that scheduler, servants and servantctl share.

use crate::{Backend, BackendConfig, QueueError, SqsConfig};
use serde::Deserialize;

/// Where job ids travel, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueConfig {
    /// Which backend.
    pub backend: BackendConfig,
    /// Settings of SQS; unused with the other backend.
    #[serde(default)]
    pub sqs: SqsConfig,
}

impl QueueConfig {
    /// The same with another server's address, where one is given (`SERVANT_SQS_ENDPOINT_URL`).
    #[must_use]
    pub fn at(mut self, endpoint_url: Option<String>) -> Self {
        if endpoint_url.is_some() {
            self.sqs.endpoint_url = endpoint_url;
        }
        self
    }

    /// Connects what was chosen.
    ///
    /// # Errors
    /// Those of [`crate::Sqs::connect`].
    pub async fn connect(self) -> Result<Backend, QueueError> {
        self.backend.connect(self.sqs).await
    }
}
