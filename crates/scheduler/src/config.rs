//! The scheduler's settings: `config/scheduler.toml` without `[process]`.

use domain::{BreakerSettings, Dispatching};
use serde::Deserialize;
use std::path::PathBuf;

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchedulerConfig {
    /// The catalogue of kinds.
    pub jobs_file: PathBuf,
    /// The name under which this file's limits are declared.
    pub deployment: String,
    /// The ledger.
    pub database: Database,
    /// Where ids go.
    pub queue: queue::QueueConfig,
    /// Who leads.
    pub leader: Leader,
    /// How often each duty is done without being woken, and how much at a time.
    pub duties: Duties,
    /// When a service's failures stop its jobs.
    pub breaker: BreakerSettings,
    /// What is kept.
    pub retention: Retention,
}

/// The ledger's connections.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Connections at the most, besides one for wake-ups.
    pub pool_max: u32,
}

/// The lead.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leader {
    /// How long the lead is good without being renewed, in seconds.
    pub lease_secs: u32,
    /// How often it is renewed or asked for, in milliseconds.
    pub renew_ms: u64,
}

/// The duties.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duties {
    /// Schedules that are due.
    pub tick_ms: u64,
    /// Jobs whose time has come.
    pub promote_ms: u64,
    /// Ready jobs to the outbox.
    pub dispatch_ms: u64,
    /// The outbox to the queue.
    pub relay_ms: u64,
    /// Queued jobs that nobody claimed.
    pub sweep_unclaimed_ms: u64,
    /// Leases that ran out.
    pub rescue_ms: u64,
    /// Counters.
    pub fold_counters_ms: u64,
    /// Outcomes into circuit breakers.
    pub breakers_ms: u64,
    /// Groups that have ended or are cancelled.
    pub groups_ms: u64,
    /// Operators' bulk operations.
    pub operations_ms: u64,
    /// What waits, and dead letters that are to go back.
    pub queues_ms: u64,
    /// Looks at accounts whose time is over.
    pub lapse_looks_ms: u64,
    /// The audit's chain.
    pub seal_audit_ms: u64,
    /// How far the database's statistics are behind.
    pub statistics_ms: u64,
    /// Partitions.
    pub prune_ms: u64,
    /// Rows that one statement of a duty changes at the most.
    pub batch_max: u32,
    /// Jobs on the queue for each slot of the live servants, at the most.
    pub window_per_slot: u32,
    /// Jobs of a kind on the queue when no servant is seen.
    pub window_min: u32,
    /// How far ahead of busy servants the queue is filled, in milliseconds.
    pub look_ahead_ms: u32,
    /// How long a job may be queued unclaimed before it is sent again, in seconds; doubled with each sending.
    pub unclaimed_secs: u32,
}

impl Duties {
    /// The rule of the way to the queue.
    #[must_use]
    pub const fn dispatching(&self) -> Dispatching {
        Dispatching {
            window_per_slot: self.window_per_slot,
            window_min: self.window_min,
            look_ahead_ms: self.look_ahead_ms,
            unclaimed_secs: self.unclaimed_secs,
        }
    }
}

/// What is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Whole days for which finished jobs are kept.
    pub finished_days: u32,
    /// Whole days for which records are kept that are in quarantine no more, or rest there and are shown no more.
    pub quarantine_days: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_is_complete() {
        let mut table: toml::Table = include_str!("../../../config/scheduler.toml").parse().unwrap();
        table.remove("process").expect("[process] is shown");
        let config: SchedulerConfig = table.try_into().unwrap();
        assert_eq!(config.breaker, BreakerSettings::default());
        let sqs = queue::SqsConfig::default();
        assert_eq!(format!("{:?}", config.queue.sqs), format!("{sqs:?}"), "what is shown is what counts without it");
        assert!(u64::from(config.leader.lease_secs) * 1_000 > 2 * config.leader.renew_ms);
    }
}
