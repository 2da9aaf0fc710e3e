//! Puts ready jobs on their way to the queue, by priority and age, within a window sized from what the live servants
//! can take: a short queue is what lets priority, pause and cancel act at once.

use crate::Office;
use chrono::TimeDelta;
use std::collections::HashMap;
use store::Leadership;

/// Silence in seconds after which a servant's slots no longer count.
const SILENCE_SECS_MAX: i64 = 10;

/// Fills every kind's window.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let duties = &office.config.duties;
    let capacity: HashMap<String, i64> = office
        .store
        .capacity(TimeDelta::seconds(SILENCE_SECS_MAX))
        .await?
        .into_iter()
        .map(|c| (c.kind, c.slots))
        .collect();
    let mut is_full_batch = false;
    for (kind, _) in office.catalogue.iter() {
        let slots = capacity.get(kind.as_str()).copied().unwrap_or(0);
        let window = duties.dispatching().window(slots);
        let queued = office.store.queued_of(kind).await?;
        let limit = (window - queued).min(i64::from(duties.batch_max));
        if limit <= 0 {
            continue;
        }
        let dispatched = office.store.dispatch(leadership, kind, limit).await?;
        if dispatched > 0 {
            metrics::counter!("servant_jobs_dispatched_total", "kind" => kind.as_str().to_owned())
                .increment(dispatched);
            office.outbox_filled.notify_one();
        }
        is_full_batch |= dispatched == u64::from(duties.batch_max);
    }
    Ok(is_full_batch)
}
