//! Takes and dispatches jobs of one kind as servants and the leader do, in one call: for tests whose question is another.

use chrono::{DateTime, Utc};
use domain::{Kind, Round, ServantId};
use store::{ClaimedJob, Delivered, Leadership, Permit, Store, StoreError};

/// Flows that are looked at.
const FLOWS_MAX: i64 = 1_000;
/// Entries of the outbox that are looked at.
const UNSENT_MAX: i64 = 100_000;

/// Claims up to `limit` jobs that nothing keeps from being taken straight from the table.
///
/// # Errors
/// The ledger's.
pub async fn claim_ready(
    store: &Store,
    servant: ServantId,
    kind: &Kind,
    limit: i64,
    until: DateTime<Utc>,
) -> Result<Vec<ClaimedJob>, StoreError> {
    let round = round(store, kind, |flow| flow.flow.connection.is_none()).await?;
    let visits = round.visits(limit, usize::MAX, |_| i64::MAX);
    let urgent_max = round.urgent_max(limit);
    Ok(store.claim_ready(servant, (kind, None), &visits, urgent_max, limit, until).await?.0)
}

/// Claims up to `limit` jobs that nothing holds, whatever limits say: those that are queued already as if the queue had
/// delivered them, the others dispatched before.
///
/// # Errors
/// The ledger's.
pub async fn claim(
    store: &Store,
    leadership: &Leadership,
    servant: ServantId,
    kind: &Kind,
    limit: i64,
    until: DateTime<Utc>,
) -> Result<Vec<ClaimedJob>, StoreError> {
    let mut claimed = claim_queued(store, leadership, servant, kind, limit, until).await?;
    let left = |claimed: &Vec<ClaimedJob>| limit - i64::try_from(claimed.len()).unwrap_or(limit);
    claimed.extend(claim_ready(store, servant, kind, left(&claimed), until).await?);
    dispatch(store, leadership, kind, left(&claimed)).await?;
    claimed.extend(claim_queued(store, leadership, servant, kind, left(&claimed), until).await?);
    Ok(claimed)
}

/// Claims up to `limit` of the jobs in the outbox, as if the queue had delivered them.
///
/// # Errors
/// The ledger's.
pub async fn claim_queued(
    store: &Store,
    leadership: &Leadership,
    servant: ServantId,
    kind: &Kind,
    limit: i64,
    until: DateTime<Utc>,
) -> Result<Vec<ClaimedJob>, StoreError> {
    let unsent = store.unsent(UNSENT_MAX).await?;
    let of_kind: Vec<_> =
        unsent.iter().filter(|entry| entry.kind == *kind).take(usize::try_from(limit).unwrap_or(0)).collect();
    let entries: Vec<i64> = of_kind.iter().map(|entry| entry.entry).collect();
    store.forget_sent(leadership, kind, &entries).await?;
    let sent_at = store.now();
    let delivered: Vec<_> = of_kind.iter().map(|entry| Delivered { id: entry.job, sent_at }).collect();
    store.claim_delivered(servant, kind, &delivered, until).await
}

/// Dispatches up to `limit` ready jobs that nothing holds, whatever limits say; answers with their number.
///
/// # Errors
/// The ledger's.
pub async fn dispatch(store: &Store, leadership: &Leadership, kind: &Kind, limit: i64) -> Result<u64, StoreError> {
    let round = round(store, kind, |flow| !flow.is_held).await?;
    let visits = round.visits(limit, usize::MAX, |_| i64::MAX);
    let mut tx = store.begin_dispatch().await?;
    let upcoming = store.upcoming_in(&mut tx, kind, &visits, &[], round.urgent_max(limit), limit).await?;
    let ids: Vec<_> = upcoming.iter().map(|job| job.taken.place.id).collect();
    let is_led = store.queue_in(&mut tx, leadership, kind, &ids, &Permit::default()).await?;
    tx.commit().await?;
    Ok(if is_led { ids.len() as u64 } else { 0 })
}

async fn round(store: &Store, kind: &Kind, is_open: impl Fn(&store::WaitingFlow) -> bool) -> Result<Round, StoreError> {
    let flows = store.waiting_flows((kind, None), None, &[], FLOWS_MAX).await?;
    let mut round = Round::default();
    let open = flows.iter().filter(|flow| is_open(flow)).map(|flow| (flow.flow, flow.weight));
    round.looked(open, None, store.now(), store.now());
    Ok(round)
}
