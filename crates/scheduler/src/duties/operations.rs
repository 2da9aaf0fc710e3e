//! Carries out operators' bulk operations, a page at a time and no faster than each may go. What is done stands in the
//! ledger with what was done: another leader goes on where this one stopped.

use crate::Office;
use domain::{Principal, action, authorize};
use store::{Leadership, OperationStep, StoreError};

/// Who cancels an operation that is not understood.
const CANCELLED_BY: &str = "scheduler";

/// Does one page of one operation.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let step = match office.store.work_operation(leadership).await {
        Ok(step) => step,
        // A newer program's, or damage. It is the one whose turn it is, and would be so for ever, before all others.
        Err(StoreError::Corrupt { table: "operations", column, row }) => {
            tracing::error!(operation_id = row, column, "a bulk operation is not understood and was cancelled");
            let reason = format!("this scheduler does not understand its {column}");
            let granted = authorize::<action::CancelOperation>(&Principal::system(CANCELLED_BY), &reason)?;
            return Ok(office.store.cancel_unclear_operation(leadership, &granted, row.parse()?).await?);
        }
        Err(error) => return Err(error.into()),
    };
    let Some(OperationStep { id, applied, is_done, .. }) = step else { return Ok(false) };
    metrics::counter!("servant_operation_jobs_total").increment(u64::try_from(applied)?);
    if is_done {
        tracing::info!(operation_id = id, "the bulk operation has ended");
    }
    // Another may go on at once; one that may not is not found.
    Ok(true)
}
