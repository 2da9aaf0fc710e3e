//! Carries out operators' bulk operations, a page at a time and no faster than each may go. What is done stands in the
//! ledger with what was done: another leader goes on where this one stopped.

use crate::Office;
use store::Leadership;

/// Does one page of one operation.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let Some(step) = office.store.work_operation(leadership).await? else { return Ok(false) };
    metrics::counter!("servant_operation_jobs_total").increment(u64::try_from(step.applied)?);
    if step.is_done {
        tracing::info!(operation_id = step.id, "the bulk operation has ended");
    }
    // Another may go on at once; one that may not is not found.
    Ok(true)
}
