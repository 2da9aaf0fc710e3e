//! Gives back the jobs of servants that died or stalled: their leases ran out.

use crate::Office;
use domain::{Kind, RetryPolicy};
use std::time::Duration;
use store::{Leadership, Rescue};

/// Leases looked at in one go.
const LEASES_MAX: i64 = 500;

/// Returns once a lease has run out that nobody renewed, if that is before the timer says so; else never.
pub async fn until_due(office: &Office) {
    let ends = office.store.next_lease_end().await;
    // The timer's go meets the error again, and reports it.
    let Ok(Some(ends)) = ends else { return std::future::pending().await };
    match (ends - office.store.now()).to_std() {
        // A lease is good for all of its last microsecond.
        Ok(left) => tokio::time::sleep(left + Duration::from_millis(1)).await,
        Err(_) => std::future::pending().await,
    }
}

/// Rescues what is lost and wakes whoever can take it.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let retry = |kind: &str| {
        let definition = Kind::new(kind).ok().and_then(|kind| office.catalogue.get(&kind));
        definition.map_or_else(RetryPolicy::default, |definition| definition.retry)
    };
    let Rescue { jobs, is_full } = office.store.rescue(leadership, LEASES_MAX, retry).await?;
    for job in &jobs {
        tracing::warn!(
            JobId = job.id.0,
            AccountId = job.account.0,
            RequestId = %job.request_id,
            failed = job.failed,
            "the job's lease ran out"
        );
    }
    if !jobs.is_empty() {
        metrics::counter!("servant_reconcile_repairs_total", "repair" => "rescue").increment(jobs.len() as u64);
        for (kind, _) in office.catalogue.iter() {
            office.store.wake(kind).await;
        }
    }
    Ok(is_full)
}
