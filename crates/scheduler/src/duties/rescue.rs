//! Gives back the jobs of servants that died or stalled: their leases ran out.

use crate::Office;
use domain::{Kind, RetryPolicy};
use store::{Leadership, Rescue};

/// Leases looked at in one go.
const LEASES_MAX: i64 = 500;

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
