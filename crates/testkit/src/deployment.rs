//! The programs of one deployment: what they share of configuration, and the kind `effects` that only tests have.
//! Does not own the ledger or the queue, which are named by their addresses.

use std::io::Write as _;

use anyhow::Context as _;
use tempfile::NamedTempFile;

use crate::process::{Process, root};

/// The table that the shipped catalogue does not have. Waits are short: tests wait for them.
const EFFECTS: &str = "
[effects]
label = \"Writes effects that can be counted\"
run_secs_max = 8
concurrency = 20
retry = { attempts_max = 10, first_delay_ms = 50, delay_max_ms = 1000, bug = { attempts_max = 2 } }
";
/// Seconds after the end of its time (`run_secs_max`) until a job that does not yield is ended with its process: the
/// grace below, and what the keeper adds.
pub const STUCK_SECS: u64 = 8 + 1 + 10;

/// Where the programs of a deployment find each other.
#[derive(Debug)]
pub struct Deployment {
    /// The ledger.
    pub database_url: String,
    /// A server that speaks SQS; none = no broker.
    pub sqs_url: Option<String>,
    /// Where servants send heartbeats; empty = nowhere.
    pub manager_url: String,
    jobs_file: NamedTempFile,
}

impl Deployment {
    /// On a migrated ledger; without a manager.
    ///
    /// # Errors
    /// The catalogue cannot be read or written.
    pub fn new(database_url: &str, sqs_url: Option<String>) -> anyhow::Result<Self> {
        let shipped = std::fs::read_to_string(root().join("config/jobs.toml")).context("config/jobs.toml")?;
        let mut jobs_file = NamedTempFile::with_suffix(".toml")?;
        jobs_file.write_all(format!("{shipped}{EFFECTS}").as_bytes())?;
        Ok(Self { database_url: database_url.to_owned(), sqs_url, manager_url: String::new(), jobs_file })
    }

    /// Starts a program with the shipped configuration; `more` are variables besides the deployment's own.
    pub async fn start(&self, program: &str, more: &[(&str, &str)]) -> Process {
        let config = match program {
            "scheduler" => "config/scheduler.toml",
            "manager" => "config/manager.toml",
            _ => "config/servant.toml",
        };
        let jobs_file = self.jobs_file.path().display().to_string();
        let backend = if self.sqs_url.is_some() { "sqs" } else { "postgres" };
        let mut environment = vec![
            ("DATABASE_URL", self.database_url.as_str()),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
        ];
        if let Some(url) = &self.sqs_url {
            environment.push(("SERVANT_SQS_ENDPOINT_URL", url));
        }
        if program == "manager" {
            environment.push(("SERVANT_MANAGER__LISTEN", "127.0.0.1:0"));
            // Who asks is not what is looked at through this.
            environment.push(("SERVANT_ACCESS__SIGN_ON", "open"));
        } else {
            environment.extend([("SERVANT_JOBS_FILE", jobs_file.as_str()), ("SERVANT_QUEUE__BACKEND", backend)]);
        }
        if program != "manager" && program != "scheduler" {
            environment.push(("SERVANT_MANAGER__URL", &self.manager_url));
            environment.push(("SERVANT_WORK__CANCEL_GRACE_SECS", "1"));
        }
        environment.extend_from_slice(more);
        Process::start(program, &["--config", config], &environment).await
    }
}
