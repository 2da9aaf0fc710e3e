//! Wake-ups through LISTEN and NOTIFY: hints that save a poll's wait and may get lost at any time.
//! Sent after a commit and not within it, since NOTIFY makes the commits of a database queue up behind each other.

use crate::{NewJob, Store, StoreError, jobs::flow_of};
use domain::{Flow, Kind, ServantId, chain};
use sqlx::postgres::{PgListener, PgNotification};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The channel; the payload is a kind. Jobs are ready: whoever dispatches or claims from the table may look. Where it is
/// known in which flows and they are few, those follow, as `account` or `account/connection` behind a space.
const READY: &str = "servant_ready";
/// Flows that one wake-up names at the most: where more have jobs, looking is cheaper than being told.
const FLOWS_NAMED_MAX: usize = 16;
/// Flows of a kind that are kept of several wake-ups.
const FLOWS_KEPT_MAX: usize = 64;
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
    /// Kinds of which jobs are ready, and where.
    pub ready: BTreeMap<String, ReadyIn>,
    /// Servants for which an order waits.
    pub ordered: BTreeSet<ServantId>,
    /// A group was sealed or cancelled.
    pub has_groups: bool,
    /// A bulk operation was ordered.
    pub has_operations: bool,
}

/// Where jobs of a kind are ready.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ReadyIn {
    /// In these flows.
    pub flows: BTreeSet<Flow>,
    /// In others as well, or nobody said in which.
    pub is_anywhere: bool,
}

/// A subscription to wake-ups.
#[derive(Debug)]
pub struct WakeUps {
    listener: PgListener,
}

impl Store {
    /// Tells whoever waits that jobs of a kind are ready. Errors are dropped: the poll behind finds the jobs.
    pub async fn wake(&self, kind: &Kind) {
        self.say_ready(kind.as_str()).await;
    }

    /// The same for new jobs, kind by kind, with their flows where they are few.
    pub async fn wake_for(&self, jobs: &[NewJob]) {
        let mut kinds: BTreeMap<&Kind, BTreeSet<Flow>> = BTreeMap::new();
        for job in jobs {
            let flow = Flow { account: job.account, connection: job.connection };
            kinds.entry(&job.kind).or_default().insert(flow);
        }
        for (kind, flows) in kinds {
            self.say_ready(&ready_in(kind, &flows)).await;
        }
    }

    async fn say_ready(&self, payload: &str) {
        let sent = sqlx::query!("-- notify\nSELECT pg_notify($1, $2)", READY, payload).execute(&self.pool).await;
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
            _ => {
                let (kind, places) = read_ready(notification.payload());
                self.ready.entry(kind.to_owned()).or_default().add(&places);
            }
        }
    }
}

impl ReadyIn {
    /// Somewhere, nobody said where.
    #[must_use]
    pub const fn anywhere() -> Self {
        Self { flows: BTreeSet::new(), is_anywhere: true }
    }

    /// There as well.
    pub fn add(&mut self, more: &Self) {
        self.is_anywhere |= more.is_anywhere || self.flows.len() + more.flows.len() > FLOWS_KEPT_MAX;
        if self.is_anywhere {
            self.flows.clear();
        } else {
            self.flows.extend(&more.flows);
        }
    }
}

/// The payload that says in which flows jobs of a kind are ready.
fn ready_in(kind: &Kind, flows: &BTreeSet<Flow>) -> String {
    let mut payload = kind.as_str().to_owned();
    for flow in flows.iter().filter(|_| flows.len() <= FLOWS_NAMED_MAX) {
        payload.push_str(&format!(" {}", flow.account.0));
        if let Some(connection) = flow.connection {
            payload.push_str(&format!("/{}", connection.0));
        }
    }
    payload
}

/// What such a payload says. What is not understood may mean anywhere: another version may say more.
fn read_ready(payload: &str) -> (&str, ReadyIn) {
    let mut words = payload.split(' ');
    let kind = words.next().unwrap_or_default();
    let flow = |word: &str| {
        let (account, connection) = word.split_once('/').unwrap_or((word, "0"));
        Some(flow_of(account.parse().ok()?, connection.parse().ok()?))
    };
    let flows: Option<BTreeSet<Flow>> = words.map(flow).collect();
    match flows {
        Some(flows) if !flows.is_empty() => (kind, ReadyIn { flows, is_anywhere: false }),
        _ => (kind, ReadyIn::anywhere()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_says_in_which_flows_as_long_as_they_are_few() {
        let kind = Kind::new("sync_salesforce").unwrap();
        let flows: BTreeSet<Flow> = [flow_of(7, 0), flow_of(7, 3), flow_of(-1, 9)].into();
        let payload = ready_in(&kind, &flows);
        assert_eq!(payload, "sync_salesforce -1/9 7 7/3");
        assert_eq!(read_ready(&payload), ("sync_salesforce", ReadyIn { flows, is_anywhere: false }));
        let many = (0..=FLOWS_NAMED_MAX).map(|n| flow_of(n.try_into().unwrap(), 0)).collect();
        assert_eq!(ready_in(&kind, &many), "sync_salesforce");
    }

    #[test]
    fn what_is_not_understood_may_be_anywhere() {
        for payload in ["noop", "noop ", "noop x", "noop 1/", "noop 1 2/3/4", "noop 99999999999999999999"] {
            assert_eq!(read_ready(payload), ("noop", ReadyIn::anywhere()), "{payload}");
        }
        let mut places = ReadyIn::default();
        for n in 0..=i64::try_from(FLOWS_KEPT_MAX).unwrap() {
            places.add(&ReadyIn { flows: [flow_of(n, 0)].into(), is_anywhere: false });
            assert_eq!(places.is_anywhere, n == 64, "what is kept has an end");
        }
    }
}
