//! Makes the coming days' partitions and drops those past retention; forgets keys whose period is over, unused states of
//! limits, old minutes of quotas, connections' events as old, groups, operations, errors and statistics, and records that
//! are in quarantine no more. What people did stays, and so does what is in quarantine.

use crate::Office;
use chrono::{Days, NaiveTime};
use store::{Leadership, Retention};

/// Groups forgotten in one go.
const GROUPS_MAX: i64 = 1_000;
/// Rows of any other sort forgotten in one go: the lead cannot be renewed meanwhile.
const ROWS_MAX: i64 = 10_000;

/// Returns when the day changes, by which partitions are made and dropped: in UTC.
pub async fn until_tomorrow(office: &Office) {
    let now = office.store.now();
    let tomorrow = now.date_naive().checked_add_days(Days::new(1)).map(|day| day.and_time(NaiveTime::MIN).and_utc());
    match tomorrow.and_then(|tomorrow| (tomorrow - now).to_std().ok()) {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}

/// Keeps the partitions.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let retention = Retention { days: office.config.retention.finished_days };
    for partition in office.store.keep_partitions(leadership, retention).await? {
        tracing::info!(partition, "a partition past retention was dropped");
    }
    let store = &office.store;
    let cutoff = store.now() - Days::new(u64::from(retention.days));
    let quarantine_cutoff = store.now() - Days::new(office.config.retention.quarantine_days.into());
    let forgotten = [
        store.drop_expired_keys(leadership, ROWS_MAX).await?,
        store.prune_limits(leadership, ROWS_MAX).await?,
        store.forget_connection_events(leadership, cutoff, ROWS_MAX).await?,
        store.forget_operation_items(leadership, cutoff, ROWS_MAX).await?,
        store.forget_operations(leadership, cutoff, ROWS_MAX).await?,
        store.forget_errors(leadership, cutoff, ROWS_MAX).await?,
        store.forget_throughput(leadership, ROWS_MAX).await?,
        store.forget_quarantined(leadership, quarantine_cutoff, ROWS_MAX).await?,
    ];
    let groups = store.drop_groups(leadership, cutoff, GROUPS_MAX).await?;
    let is_full = |gone: u64, most: i64| gone >= most.unsigned_abs();
    Ok(is_full(groups, GROUPS_MAX) || forgotten.into_iter().any(|gone| is_full(gone, ROWS_MAX)))
}
