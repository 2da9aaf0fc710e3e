//! The scheduler's settings: `config/scheduler.toml` without `[process]`.

use crate::duties::Duty;
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

/// Rows that one statement may be told to change at the most: beyond that it holds the lead for longer than it saves.
const BATCH_MAX_MAX: u32 = 10_000;
/// Connections at the least: the lead is renewed while a duty works.
const POOL_MIN: u32 = 2;
/// The longest retention, in days: a century.
const DAYS_MAX: u32 = 36_500;

impl SchedulerConfig {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        self.breaker.check().map_err(|problem| format!("[breaker]: {problem}"))?;
        let Self { database, leader, duties, .. } = self;
        if database.pool_max < POOL_MIN {
            return Err(format!("database.pool_max is {}, not at least {POOL_MIN}", database.pool_max));
        }
        if leader.renew_ms == 0 || u64::from(leader.lease_secs) * 1_000 <= 2 * leader.renew_ms {
            return Err(format!(
                "leader.lease_secs is {} and leader.renew_ms {}: the lead is to be renewed more than twice before it runs out",
                leader.lease_secs, leader.renew_ms
            ));
        }
        if !(1..=BATCH_MAX_MAX).contains(&duties.batch_max) {
            return Err(format!("duties.batch_max is {}, not between 1 and {BATCH_MAX_MAX}", duties.batch_max));
        }
        for (key, number) in [
            ("window_per_slot", duties.window_per_slot),
            ("window_min", duties.window_min),
            ("unclaimed_secs", duties.unclaimed_secs),
        ] {
            if number == 0 {
                return Err(format!("duties.{key} is 0, not at least 1"));
            }
        }
        for (key, days) in
            [("finished_days", self.retention.finished_days), ("quarantine_days", self.retention.quarantine_days)]
        {
            if days > DAYS_MAX {
                return Err(format!("retention.{key} is {days}, above {DAYS_MAX}"));
            }
        }
        match Duty::ALL.into_iter().find(|duty| duty.every(duties).is_zero()) {
            Some(duty) => Err(format!("duties.{}_ms is 0, not at least 1", duty.name())),
            None => Ok(()),
        }
    }
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

    fn shipped() -> SchedulerConfig {
        let mut table: toml::Table = include_str!("../../../config/scheduler.toml").parse().unwrap();
        table.remove("process").expect("[process] is shown");
        table.try_into().unwrap()
    }

    #[test]
    fn the_shipped_file_is_complete() {
        let config = shipped();
        assert_eq!(config.breaker, BreakerSettings::default());
        let sqs = queue::SqsConfig::default();
        assert_eq!(format!("{:?}", config.queue.sqs), format!("{sqs:?}"), "what is shown is what counts without it");
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn what_cannot_work_is_named() {
        type Spoil = fn(&mut SchedulerConfig);
        let spoils: [(Spoil, &str); 10] = [
            (|config| config.database.pool_max = 1, "database.pool_max is 1, not at least 2"),
            (|config| config.leader.renew_ms = 0, "leader.renew_ms 0"),
            (|config| config.leader.lease_secs = 1, "leader.lease_secs is 1 and leader.renew_ms 500"),
            (|config| config.duties.batch_max = 0, "duties.batch_max is 0, not between 1 and 10000"),
            (|config| config.duties.batch_max = 10_001, "duties.batch_max is 10001"),
            (|config| config.duties.window_min = 0, "duties.window_min is 0"),
            (|config| config.duties.rescue_ms = 0, "duties.rescue_ms is 0, not at least 1"),
            (|config| config.duties.seal_audit_ms = 0, "duties.seal_audit_ms is 0"),
            (|config| config.retention.finished_days = 36_501, "retention.finished_days is 36501, above 36500"),
            (|config| config.breaker.failures_pct = 0, "[breaker]: "),
        ];
        for (spoil, problem) in spoils {
            let mut config = shipped();
            spoil(&mut config);
            let refusal = config.check().unwrap_err();
            assert!(refusal.contains(problem), "{refusal}");
        }
    }
}
