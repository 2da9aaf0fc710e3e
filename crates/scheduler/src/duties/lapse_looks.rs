//! Ends looks at accounts whose half hour is over and which nobody ended: that they lapsed is in the audit then, whether or
//! not anybody looks again.

use crate::Office;
use store::Leadership;

/// Looks that the ledger ends in one go.
const LOOKS_MAX: u64 = 100;

/// Ends what is over.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let lapsed = office.store.lapse_assumptions(leadership).await?;
    if lapsed > 0 {
        tracing::info!(looks = lapsed, "looks at accounts have lapsed");
    }
    Ok(lapsed >= LOOKS_MAX)
}
