//! Folds the appended changes of the counters and what was appended of errors, so that reading them stays cheap.

use crate::Office;
use store::Leadership;

/// Changes folded in one go.
const DELTAS_MAX: i64 = 5_000;

/// Folds.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let folded = office.store.fold_counters(leadership, DELTAS_MAX).await?;
    office.nudges.counted();
    let errors = office.store.fold_errors(leadership, DELTAS_MAX).await?;
    Ok(i64::try_from(folded.max(errors))? == DELTAS_MAX)
}
