//! The manager's process, and the sessions that it has at PostgreSQL.

use crate::{fleet::Fleet, measure::cpu_secs};
use anyhow::Context as _;
use sqlx::PgConnection;
use std::{
    collections::HashMap,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

/// Longest start.
const START_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What its sessions are called.
const NAME: &str = "bench-manager";
/// Settings that have nothing to do with what is measured: no keys, and nobody is asked who they are.
const SETTINGS: &[(&str, &str)] =
    &[("SERVANT_VAULT__KEYS_FILE", ""), ("SERVANT_PROCESS__LOG_FILTER", "warn"), ("SERVANT_ACCESS__SIGN_ON", "open")];

/// A manager that answers.
pub(super) struct Manager {
    child: Child,
    pub(super) url: String,
}

/// CPU seconds of each session.
pub(super) struct SessionsCpu(HashMap<u32, f64>);

impl SessionsCpu {
    /// CPU seconds of those that there are now more than then.
    pub(super) fn since(&self, before: &Self) -> f64 {
        self.0.iter().map(|(pid, secs)| secs - before.0.get(pid).copied().unwrap_or(0.0)).sum()
    }
}

impl Manager {
    /// Starts one as it is shipped, or with so many connections to the ledger.
    pub(super) async fn start(fleet: &Fleet, pool_max: Option<u32>) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mark = if fleet.database_url.contains('?') { '&' } else { '?' };
        let mut command = Command::new(fleet.program("manager")?);
        command
            .args(["--config", "config/manager.toml"])
            .env("DATABASE_URL", format!("{}{mark}application_name={NAME}", fleet.database_url))
            .env("SERVANT_MANAGER__LISTEN", format!("127.0.0.1:{port}"))
            .envs(SETTINGS.iter().copied())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        if let Some(pool_max) = pool_max {
            command.env("SERVANT_DATABASE__POOL_MAX", pool_max.to_string());
        }
        let mut manager = Self {
            child: command.spawn().context("the manager does not start")?,
            url: format!("http://127.0.0.1:{port}"),
        };
        let (client, start) = (reqwest::Client::new(), Instant::now());
        loop {
            let answer = client.get(format!("{}/readyz", manager.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(manager);
            }
            if let Some(status) = manager.child.try_wait()? {
                anyhow::bail!("the manager ended: {status}");
            }
            anyhow::ensure!(start.elapsed() < START_MAX, "the manager is not ready");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What its sessions have used so far.
    pub(super) async fn sessions_cpu(&self, sql: &mut PgConnection) -> anyhow::Result<SessionsCpu> {
        let pids: Vec<i32> = sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE application_name = $1")
            .bind(NAME)
            .fetch_all(sql)
            .await?;
        let pids = pids.into_iter().filter_map(|pid| u32::try_from(pid).ok());
        Ok(SessionsCpu(pids.map(|pid| (pid, cpu_secs(pid))).collect()))
    }

    /// Ends it.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        Ok(())
    }

    /// Ends it and waits until its sessions have ended, too, and have told how much they read.
    pub(super) async fn stop_with_sessions(self, sql: &mut PgConnection) -> anyhow::Result<()> {
        self.stop().await?;
        let start = Instant::now();
        loop {
            let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1")
                .bind(NAME)
                .fetch_one(&mut *sql)
                .await?;
            if left == 0 {
                return Ok(());
            }
            anyhow::ensure!(start.elapsed() < START_MAX, "the manager's sessions do not end");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
