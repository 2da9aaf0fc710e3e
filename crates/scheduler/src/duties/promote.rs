//! Makes jobs ready whose time has come: run-at times and the waits before retries.

use crate::Office;
use domain::Kind;
use store::Leadership;

/// Promotes what is due and wakes whoever waits for it.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let kinds = office.store.promote(leadership, i64::from(office.config.duties.batch_max)).await?;
    for kind in &kinds {
        office.store.wake(&Kind::new(kind.as_str())?).await;
    }
    Ok(!kinds.is_empty())
}
