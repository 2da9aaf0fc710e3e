//! Sees to it that the database knows of about how many jobs there are. Its own vacuum comes once a minute: when that
//! has found no jobs, statements are planned for none, and a flood in the minute after is claimed row by row from all of it.

use crate::Office;
use store::Leadership;

/// Renews the statistics when there are many times more jobs than they say.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    if let Some(jobs) = office.store.jobs_beyond_statistics().await? {
        tracing::debug!(jobs, "the database's statistics of jobs are renewed");
        office.store.renew_job_statistics(leadership).await?;
    }
    Ok(false)
}
