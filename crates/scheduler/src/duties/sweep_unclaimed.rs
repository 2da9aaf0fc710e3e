//! Sends again what is queued and was not claimed within the bound: the answer to every message that gets lost. Without a
//! queue nothing should be queued; what is, from a time with one, is ready again.

use crate::Office;
use store::Leadership;

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
