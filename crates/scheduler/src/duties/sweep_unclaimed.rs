//! Sends again what is queued and was not claimed within the bound: the answer to every message that gets lost. Without a
//! queue nothing should be queued; what is, from a time with one, is ready again.

use crate::Office;
use chrono::TimeDelta;
use std::time::Duration;
use store::Leadership;

/// Shortest rest between two looks: under load something falls due all the time.
const REST_MIN: Duration = Duration::from_secs(1);

/// Returns once the next job is due to be sent again, after a rest; else never.
pub async fn until_due(office: &Office) {
    if !office.has_queue() {
        return std::future::pending().await;
    }
    tokio::time::sleep(REST_MIN).await;
    let bound = TimeDelta::seconds(i64::from(office.config.duties.unclaimed_secs));
    let kinds: Vec<_> = office.catalogue.iter().map(|(kind, _)| kind).collect();
    // The timer's go meets the error again, and reports it.
    let Ok(Some(sent)) = office.store.first_dispatch_since(&kinds, office.store.now() - bound).await else {
        return std::future::pending().await;
    };
    let left = (sent + bound - office.store.now()).to_std().unwrap_or_default();
    tokio::time::sleep(left + Duration::from_millis(1)).await;
}

/// Puts overdue ids into the outbox again, or takes them back.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let duties = &office.config.duties;
    let mut is_full_batch = false;
    for (kind, _) in office.catalogue.iter() {
        let limit = i64::from(duties.batch_max);
        let (repaired, repair) = if office.has_queue() {
            (office.store.send_again(leadership, kind, duties.unclaimed_secs, limit).await?, "send_again")
        } else {
            (office.store.take_back(leadership, kind, limit).await?, "take_back")
        };
        if repaired > 0 {
            tracing::warn!(Kind = kind.as_str(), jobs = repaired, repair, "queued jobs were not claimed in time");
            metrics::counter!("servant_reconcile_repairs_total", "repair" => repair).increment(repaired);
            if office.has_queue() {
                office.outbox_filled.notify_one();
            } else {
                office.store.wake(kind).await;
            }
        }
        is_full_batch |= repaired == u64::from(duties.batch_max);
    }
    Ok(is_full_batch)
}
