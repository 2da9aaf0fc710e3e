//! Takes and dispatches jobs of one kind as servants and the leader do, in one call: for tests whose question is another.

use chrono::{DateTime, Utc};
use domain::{Kind, Round, ServantId};
use store::{ClaimedJob, Leadership, Store, StoreError};

/// Flows that are looked at.
const FLOWS_MAX: i64 = 1_000;

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

/// Claims up to `limit` jobs whatever way they go: what was dispatched, what needs no dispatch, and what does.
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
    let mut claimed = store.claim_sent(servant, kind, limit, until).await?;
    let left = |claimed: &Vec<ClaimedJob>| limit - i64::try_from(claimed.len()).unwrap_or(limit);
    claimed.extend(claim_ready(store, servant, kind, left(&claimed), until).await?);
    dispatch(store, leadership, kind, left(&claimed)).await?;
    claimed.extend(store.claim_sent(servant, kind, left(&claimed), until).await?);
    Ok(claimed)
}

/// Dispatches up to `limit` ready jobs that nothing holds, whatever limits say; answers with their number.
///
/// # Errors
/// The ledger's.
pub async fn dispatch(store: &Store, leadership: &Leadership, kind: &Kind, limit: i64) -> Result<u64, StoreError> {
    let round = round(store, kind, |flow| !flow.is_held).await?;
    let visits = round.visits(limit, usize::MAX, |_| i64::MAX);
    let Some(mut tx) = store.begin_led(leadership).await? else { return Ok(0) };
    let upcoming = store.upcoming_in(&mut tx, kind, &visits, &[], round.urgent_max(limit), limit).await?;
    let ids: Vec<_> = upcoming.iter().map(|job| job.taken.place.id).collect();
    store.queue_in(&mut tx, kind, &ids, &[]).await?;
    tx.commit().await?;
    Ok(ids.len() as u64)
}

async fn round(store: &Store, kind: &Kind, is_open: impl Fn(&store::WaitingFlow) -> bool) -> Result<Round, StoreError> {
    let flows = store.waiting_flows(kind, None, FLOWS_MAX).await?;
    let mut round = Round::default();
    let open = flows.iter().filter(|flow| is_open(flow)).map(|flow| (flow.flow, flow.weight));
    round.looked(open, None, store.now(), chrono::TimeDelta::zero());
    Ok(round)
}
