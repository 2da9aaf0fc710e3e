//! The settings that every servant shares: `config/servant.toml`. What a kind itself wants is in the catalogue.

use serde::Deserialize;
use std::path::PathBuf;

/// `config/servant.toml` without `[process]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopConfig {
    /// The catalogue of kinds.
    pub jobs_file: PathBuf,
    /// The ledger.
    pub database: Database,
    /// Where jobs come from.
    pub queue: queue::QueueConfig,
    /// How they are run.
    pub work: Work,
    /// Whom to tell.
    pub manager: Manager,
    /// What opens customers' credentials.
    pub vault: vault::Config,
}

/// The ledger's connections. Its address is a secret and comes from the environment (`DATABASE_URL`).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Connections of this process at the most, besides one for leases and one for wake-ups.
    pub pool_max: u32,
}

/// How jobs are run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Jobs at a time, instead of the catalogue's number for the kind; 0 = the catalogue's.
    pub concurrency: u32,
    /// Jobs claimed by one statement at the most.
    pub claim_max: u32,
    /// Ends of attempts written by one statement at the most.
    pub finish_max: u32,
    /// Longest wait before the table is looked at without a wake-up, in milliseconds (jittered to between a half and
    /// the whole).
    pub poll_ms: u64,
    /// How long a claim is good without being renewed, in seconds.
    pub lease_secs: u32,
    /// How long a cancelled job may take to return before it is dropped, in seconds.
    pub cancel_grace_secs: u32,
}

/// The manager that heartbeats go to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manager {
    /// Its address; empty = no heartbeats are sent.
    pub url: String,
}

impl LoopConfig {
    /// Refuses what cannot work: a wait of nothing is a loop that never rests.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Work { claim_max, finish_max, poll_ms, lease_secs, .. } = self.work;
        let numbers = [
            ("database.pool_max", u64::from(self.database.pool_max)),
            ("work.claim_max", u64::from(claim_max)),
            ("work.finish_max", u64::from(finish_max)),
            ("work.poll_ms", poll_ms),
            ("work.lease_secs", u64::from(lease_secs)),
        ];
        match numbers.into_iter().find(|(_, number)| *number == 0) {
            Some((key, _)) => Err(format!("{key} is 0, not at least 1")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_is_complete_and_what_cannot_work_is_named() {
        let mut table: toml::Table = include_str!("../../../config/servant.toml").parse().unwrap();
        table.remove("process").expect("[process] is shown");
        let mut config: LoopConfig = table.try_into().unwrap();
        assert_eq!(config.check(), Ok(()));
        config.work.lease_secs = 0;
        assert_eq!(config.check(), Err("work.lease_secs is 0, not at least 1".to_owned()));
        config.work.poll_ms = 0;
        assert_eq!(config.check(), Err("work.poll_ms is 0, not at least 1".to_owned()));
        let sqs = queue::SqsConfig::default();
        assert_eq!(format!("{:?}", config.queue.sqs), format!("{sqs:?}"), "what is shown is what counts without it");
    }
}
