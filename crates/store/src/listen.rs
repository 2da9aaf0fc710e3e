//! Wake-ups through LISTEN and NOTIFY: hints that save a poll's wait and may get lost at any time.
//! Sent after a commit and not within it, since NOTIFY makes the commits of a database queue up behind each other.

use crate::{Store, StoreError};
use domain::{Kind, chain};
use sqlx::postgres::PgListener;
use std::{collections::BTreeSet, time::Duration};

/// The channel; the payload is a kind.
const CHANNEL: &str = "servant_ready";
/// From the loss of the connection to the next try, in seconds.
const RETRY_SECS: u64 = 1;

/// A subscription to wake-ups.
#[derive(Debug)]
pub struct WakeUps {
    listener: PgListener,
}

impl Store {
    /// Tells whoever waits that jobs of a kind are ready. Errors are dropped: the poll behind finds the jobs.
    pub async fn wake(&self, kind: &Kind) {
        let sent =
            sqlx::query!("SELECT /* wake */ pg_notify($1, $2)", CHANNEL, kind.as_str()).execute(&self.pool).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "a wake-up was not sent");
        }
    }

    /// Subscribes on a connection of its own.
    ///
    /// # Errors
    /// [`StoreError`] when no connection can be had.
    pub async fn wake_ups(&self) -> Result<WakeUps, StoreError> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(WakeUps { listener })
    }

    /// Calls `heard` with the kinds of every wake-up, on a connection that is made again when it is lost. Never ends
    /// by itself: drop it, or race it against a cancellation.
    pub async fn follow_wake_ups(&self, heard: impl Fn(&BTreeSet<String>)) {
        loop {
            if let Err(error) = self.hear_wake_ups(&heard).await {
                tracing::debug!(error = chain(&error), "wake-ups are lost; the poll goes on");
            }
            tokio::time::sleep(Duration::from_secs(RETRY_SECS)).await;
        }
    }

    async fn hear_wake_ups(&self, heard: &impl Fn(&BTreeSet<String>)) -> Result<(), StoreError> {
        let mut wake_ups = self.wake_ups().await?;
        loop {
            heard(&wake_ups.next().await?);
        }
    }
}

impl WakeUps {
    /// Waits for wake-ups and answers with the kinds they name, all that have arrived.
    ///
    /// # Errors
    /// [`StoreError`] when the connection is lost and cannot be had again.
    pub async fn next(&mut self) -> Result<BTreeSet<String>, StoreError> {
        let mut kinds = BTreeSet::from([self.listener.recv().await?.payload().to_owned()]);
        while let Some(more) = self.listener.next_buffered() {
            kinds.insert(more.payload().to_owned());
        }
        Ok(kinds)
    }
}
