//! Ends the groups whose last member has ended and inserts their finishing jobs; ends the members of cancelled groups,
//! batch by batch. Both stand in the ledger: another leader goes on where this one stopped.

use crate::Office;
use store::{EndedGroups, Leadership};

/// Groups ended in one go.
const GROUPS_MAX: i64 = 100;

/// Cancels and ends.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let batch_max = i64::from(office.config.duties.batch_max);
    let cancelled = office.store.cancel_members(leadership, batch_max).await?;
    if cancelled.jobs > 0 {
        tracing::info!(jobs = cancelled.jobs, "members of cancelled groups were ended or asked to stop");
    }
    let EndedGroups { ended, unclear } = office.store.end_groups(leadership, GROUPS_MAX).await?;
    for (id, column) in unclear {
        if office.told.is_news(format!("group {id}: {column}")) {
            tracing::error!(GroupId = id.0, column, "the group is not understood and does not end; others do");
        }
    }
    for end in &ended {
        let job = end.finishing_job.as_ref().map(|(id, _)| id.0);
        tracing::info!(GroupId = end.id.0, state = end.state.as_str(), JobId = job, "the group has ended");
        metrics::counter!("servant_groups_ended_total", "state" => end.state.as_str()).increment(1);
        if let Some((_, kind)) = &end.finishing_job {
            office.store.wake(kind).await;
        }
    }
    Ok(cancelled.is_full || i64::try_from(ended.len())? == GROUPS_MAX)
}
