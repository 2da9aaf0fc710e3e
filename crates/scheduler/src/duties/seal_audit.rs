//! Chains what the audit has gained, and tells the log where the chain ends once an hour: who can write the database cannot
//! write the log, and a chain that was made anew, or cut off, shows against it.

use crate::Office;
use store::Leadership;

/// Seals what can be.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let sealed = office.store.seal_audit(leadership).await?;
    if let Some(head) = sealed.head {
        tracing::info!(head = head.to_string(), "the audit's chain ends here");
    }
    Ok(sealed.has_more)
}
