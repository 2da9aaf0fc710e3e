//! Wake-ups through LISTEN and NOTIFY: hints that save a poll's wait and may get lost at any time.
//! Sent after a commit and not within it, since NOTIFY makes the commits of a database queue up behind each other.

use crate::{Store, StoreError};
use domain::{Kind, ServantId, chain};
use sqlx::postgres::{PgListener, PgNotification};
use std::{collections::BTreeSet, time::Duration};

/// The channel; the payload is a kind. Jobs are ready: whoever dispatches or claims from the table may look.
const READY: &str = "servant_ready";
/// The channel; the payload is a servant's id. An order waits for it: it may ask the manager at once.
const ORDERED: &str = "servant_ordered";
/// The channel; the payload says what a person ordered of the leading scheduler: its duty may look at once.
const DUTY: &str = "servant_duty";
/// The payload: a group was sealed or cancelled.
const GROUPS: &str = "groups";
/// The payload: a bulk operation was ordered.
const OPERATIONS: &str = "operations";
/// From the loss of the connection to the next try, in seconds.
const RETRY_SECS: u64 = 1;

/// What was heard.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Kinds of which jobs are ready.
    pub ready: BTreeSet<String>,
    /// Servants for which an order waits.
    pub ordered: BTreeSet<ServantId>,
    /// A group was sealed or cancelled.
    pub has_groups: bool,
    /// A bulk operation was ordered.
    pub has_operations: bool,
}

/// A subscription to wake-ups.
#[derive(Debug)]
pub struct WakeUps {
    listener: PgListener,
}

impl Store {
    /// Tells whoever waits that jobs of a kind are ready. Errors are dropped: the poll behind finds the jobs.
    pub async fn wake(&self, kind: &Kind) {
        let sent = sqlx::query!("-- notify\nSELECT pg_notify($1, $2)", READY, kind.as_str()).execute(&self.pool).await;
        if let Err(error) = sent {
            tracing::debug!(error = chain(&error), "a wake-up was not sent");
        }
    }

    /// Tells a servant that an order waits for it. Errors are dropped: its next heartbeat brings the order.
    pub(crate) async fn call_servant(&self, id: ServantId) {
        let sent = sqlx::query!("-- call_servant\nSELECT pg_notify($1, $2)", ORDERED, id.to_string());
        if let Err(error) = sent.execute(&self.pool).await {
            tracing::debug!(error = chain(&error), "a servant was not called");
        }
    }

    /// Tells the leading scheduler that a group was sealed or cancelled. Errors are dropped: its timer finds the group.
    pub(crate) async fn call_for_groups(&self) {
        self.call_duty(GROUPS).await;
    }

    /// Tells the leading scheduler that a bulk operation was ordered. Errors are dropped: its timer finds it.
    pub(crate) async fn call_for_operations(&self) {
        self.call_duty(OPERATIONS).await;
    }

    async fn call_duty(&self, what: &str) {
        let sent = sqlx::query!("-- call_duty\nSELECT pg_notify($1, $2)", DUTY, what).execute(&self.pool).await;
        if let Err(error) = sent {
            tracing::debug!(error = chain(&error), what, "a duty was not called");
        }
    }

    /// Subscribes on a connection of its own.
    ///
    /// # Errors
    /// [`StoreError`] when no connection can be had.
    pub async fn wake_ups(&self) -> Result<WakeUps, StoreError> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen_all([READY, ORDERED, DUTY]).await?;
        Ok(WakeUps { listener })
    }

    /// Calls `heard` with every wake-up, on a connection that is made again when it is lost. Never ends
    /// by itself: drop it, or race it against a cancellation.
    pub async fn follow_wake_ups(&self, heard: impl Fn(&Heard)) {
        loop {
            if let Err(error) = self.hear_wake_ups(&heard).await {
                tracing::debug!(error = chain(&error), "wake-ups are lost; the poll goes on");
            }
            tokio::time::sleep(Duration::from_secs(RETRY_SECS)).await;
        }
    }

    async fn hear_wake_ups(&self, heard: &impl Fn(&Heard)) -> Result<(), StoreError> {
        let mut wake_ups = self.wake_ups().await?;
        loop {
            heard(&wake_ups.next().await?);
        }
    }
}

impl WakeUps {
    /// Waits for wake-ups and answers with all that have arrived.
    ///
    /// # Errors
    /// [`StoreError`] when the connection is lost and cannot be had again.
    pub async fn next(&mut self) -> Result<Heard, StoreError> {
        let mut heard = Heard::default();
        heard.note(&self.listener.recv().await?);
        while let Some(more) = self.listener.next_buffered() {
            heard.note(&more);
        }
        Ok(heard)
    }
}

impl Heard {
    fn note(&mut self, notification: &PgNotification) {
        match notification.channel() {
            ORDERED => self.ordered.extend(notification.payload().parse().ok().map(ServantId)),
            DUTY => {
                self.has_groups |= notification.payload() == GROUPS;
                self.has_operations |= notification.payload() == OPERATIONS;
            }
            _ => drop(self.ready.insert(notification.payload().to_owned())),
        }
    }
}
