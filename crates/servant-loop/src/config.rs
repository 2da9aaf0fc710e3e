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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_is_complete() {
        let mut table: toml::Table = include_str!("../../../config/servant.toml").parse().unwrap();
        table.remove("process").expect("[process] is shown");
        let config: LoopConfig = table.try_into().unwrap();
        assert!(config.work.lease_secs >= 2);
        let sqs = queue::SqsConfig::default();
        assert_eq!(format!("{:?}", config.queue.sqs), format!("{sqs:?}"), "what is shown is what counts without it");
    }
}
