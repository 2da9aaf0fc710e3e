//! Makes the declared limits in the ledger those of this deployment's file. Done once in each reign: the file is read at
//! the start. What the file says is set, and what this deployment once declared and its file no longer says is removed;
//! another deployment's limits stay. An operator's limit takes the place of a declared one, whatever happens here.
//! What the file says of kinds goes with it, for those who explain what waits for room.

use crate::Office;
use store::Leadership;

/// Declares them.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<()> {
    let catalogue = &office.catalogue;
    office.store.declare_kinds(leadership, catalogue).await?;
    let declaring =
        office.store.declare_limits(leadership, &office.config.deployment, catalogue.limits(), catalogue.budget());
    let changed = declaring.await?;
    if changed > 0 {
        tracing::info!(changed, "declared limits were changed to what the catalogue says");
    }
    Ok(())
}
