//! Makes the coming days' partitions and drops those past retention; forgets unused states of limits, old minutes of
//! quotas, connections' events as old, groups, operations, errors and statistics, and records that are in quarantine no
//! more. What people did stays, and so does what is in quarantine.

use crate::Office;
use chrono::{Days, NaiveTime};
use store::{Leadership, Retention};

/// Groups forgotten in one go.
const GROUPS_MAX: i64 = 1_000;
/// Outcomes of bulk operations forgotten in one go.
const ITEMS_MAX: i64 = 50_000;
/// Records that left quarantine, forgotten in one go.
const RECORDS_MAX: i64 = 10_000;

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
    office.store.prune_limits(leadership).await?;
    let cutoff = office.store.now() - Days::new(u64::from(retention.days));
    office.store.forget_connection_events(leadership, cutoff).await?;
    let items = office.store.forget_operation_items(leadership, cutoff, ITEMS_MAX).await?;
    office.store.forget_operations(leadership, cutoff).await?;
    office.store.forget_errors(leadership, cutoff).await?;
    office.store.forget_throughput(leadership).await?;
    let quarantine_cutoff = office.store.now() - Days::new(office.config.retention.quarantine_days.into());
    let records = office.store.forget_quarantined(leadership, quarantine_cutoff, RECORDS_MAX).await?;
    let forgotten = office.store.drop_groups(leadership, cutoff, GROUPS_MAX).await?;
    let is_full = |gone: u64, most: i64| i64::try_from(gone).is_ok_and(|gone| gone == most);
    Ok(is_full(forgotten, GROUPS_MAX) || is_full(items, ITEMS_MAX) || is_full(records, RECORDS_MAX))
}
