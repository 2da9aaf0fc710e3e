//! Sends again what is queued and was not claimed within the bound: the answer to every message that gets lost.

use crate::Office;
use store::Leadership;

/// Puts overdue ids into the outbox again.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let duties = &office.config.duties;
    let mut is_full_batch = false;
    for (kind, _) in office.catalogue.iter() {
        let limit = i64::from(duties.batch_max);
        let again = office.store.send_again(leadership, kind, duties.unclaimed_secs, limit).await?;
        if again > 0 {
            tracing::warn!(
                Kind = kind.as_str(),
                jobs = again,
                "queued jobs were not claimed in time and are sent again"
            );
            metrics::counter!("servant_reconcile_repairs_total", "repair" => "send_again").increment(again);
            office.outbox_filled.notify_one();
        }
        is_full_batch |= again == u64::from(duties.batch_max);
    }
    Ok(is_full_batch)
}
