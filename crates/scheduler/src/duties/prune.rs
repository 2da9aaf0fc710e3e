//! Makes the coming days' partitions and drops those past retention; forgets unused states of limits, old minutes of
//! quotas, and connections' events as old.

use crate::Office;
use store::{Leadership, Retention};

/// Keeps the partitions.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let retention = Retention { days: office.config.retention.finished_days };
    for partition in office.store.keep_partitions(leadership, retention).await? {
        tracing::info!(partition, "a partition past retention was dropped");
    }
    office.store.prune_limits(leadership).await?;
    let kept = chrono::TimeDelta::days(i64::from(retention.days));
    office.store.forget_connection_events(leadership, office.store.now() - kept).await?;
    Ok(false)
}
