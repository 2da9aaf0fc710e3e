//! The processes under measurement: PostgreSQL, one scheduler, K servants of kind `noop`, and the simulated SQS. A
//! part of a bench may have a catalogue of its own and other settings for the scheduler.

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use domain::{Kind, PauseTarget};
use local_postgres::{Durability, LocalPostgres};
use sqlx::{Connection as _, PgConnection};
use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};
use store::Store;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// Which queue is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Queue {
    /// No broker.
    Postgres,
    /// The simulated SQS, or the server of SERVANT_SQS_ENDPOINT_URL.
    Sqs,
}

impl Queue {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqs => "sqs",
        }
    }
}

/// How glibc's allocator is set where servants are shipped (`deploy/supervisord.conf`).
pub(crate) const ALLOCATOR: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "1048576")];

/// Longest start of the servants.
const START_MAX: Duration = Duration::from_secs(30);
/// How often it is asked whether they are there.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What the simulated SQS is given as keys: it does not check them. Real ones come from the environment.
const SQS_KEYS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "bench"), ("AWS_SECRET_ACCESS_KEY", "bench"), ("AWS_REGION", "us-east-1")];

/// What a deployment has of its own.
#[derive(Debug, Default)]
pub(crate) struct Setup<'a> {
    /// The catalogue, instead of the shipped one.
    pub(crate) jobs: Option<String>,
    /// Settings of the scheduler.
    pub(crate) scheduler: &'a [(&'a str, &'a str)],
}

/// Everything that runs.
pub(crate) struct Fleet {
    postgres: LocalPostgres,
    pub(crate) store: Store,
    pub(crate) database_url: String,
    pub(crate) servants: Vec<Child>,
    scheduler: Option<Child>,
    sqs_url: Option<String>,
    /// The simulated SQS; none when the server is somebody else's.
    _sqs: Option<Child>,
    queue: Queue,
    programs: PathBuf,
    jobs_file: Option<PathBuf>,
    _directory: tempfile::TempDir,
}

impl Fleet {
    /// Starts PostgreSQL with full durability, migrates it, and starts a scheduler as it is shipped.
    pub(crate) async fn start(queue: Queue) -> anyhow::Result<Self> {
        Self::start_with(queue, Setup::default()).await
    }

    /// The same, in another deployment.
    pub(crate) async fn start_with(queue: Queue, setup: Setup<'_>) -> anyhow::Result<Self> {
        let settings = setup.scheduler;
        let mut fleet = Self::prepare(queue, setup).await?;
        fleet.start_scheduler(settings)?;
        Ok(fleet)
    }

    /// The same without a scheduler: nothing runs but the database, and the queue.
    pub(crate) async fn prepare(queue: Queue, setup: Setup<'_>) -> anyhow::Result<Self> {
        let programs = std::env::current_exe()?.parent().context("no directory")?.to_owned();
        for program in ["scheduler", "noop", "fake_sqs"] {
            if !programs.join(program).exists() {
                bail!("{program} is not built: run `cargo build --release --workspace --bins` first");
            }
        }
        let directory = tempfile::tempdir()?;
        let postgres = LocalPostgres::start(local_postgres::Options {
            data_dir: directory.path().join("data"),
            durability: Durability::Full,
            max_connections: 200,
            shared_buffers_mb: 1024,
        })
        .await?;
        postgres.create_database("bench").await?;
        let database_url = postgres.url("bench");
        let store = Store::connect(&database_url, 26, domain::Clock::system()).await?;
        store.migrate().await?;
        let (sqs, sqs_url) = match (queue, std::env::var("SERVANT_SQS_ENDPOINT_URL")) {
            (Queue::Postgres, _) => (None, None),
            (Queue::Sqs, Ok(url)) => (None, Some(url)),
            (Queue::Sqs, Err(_)) => {
                let (child, url) = listening(&programs.join("fake_sqs"), &["--listen", "127.0.0.1:0"]).await?;
                (Some(child), Some(url))
            }
        };
        let jobs_file = match setup.jobs {
            None => None,
            Some(text) => {
                let path = directory.path().join("jobs.toml");
                std::fs::write(&path, text)?;
                Some(path)
            }
        };
        Ok(Self {
            postgres,
            store,
            database_url,
            servants: Vec::new(),
            scheduler: None,
            sqs_url,
            _sqs: sqs,
            queue,
            programs,
            jobs_file,
            _directory: directory,
        })
    }

    /// Starts a scheduler with these settings.
    pub(crate) fn start_scheduler(&mut self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        self.scheduler = Some(self.spawn("scheduler", "config/scheduler.toml", settings)?);
        Ok(())
    }

    /// Where a program lies that was built with this one.
    pub(crate) fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.programs.join(name);
        anyhow::ensure!(path.exists(), "{name} is not built: run `cargo build --release --workspace --bins` first");
        Ok(path)
    }

    /// Starts servants with `concurrency` slots each; 0: as many as the catalogue says.
    pub(crate) fn start_servants(&mut self, servants: usize, concurrency: u32) -> anyhow::Result<()> {
        for _ in 0..servants {
            let concurrency = concurrency.to_string();
            let servant = self.spawn("noop", "config/servant.toml", &[("SERVANT_WORK__CONCURRENCY", &concurrency)])?;
            self.servants.push(servant);
        }
        Ok(())
    }

    /// Starts servants while their kind is paused, and lets go of it once all of them are there, so that no start-up is
    /// part of what is measured. Answers with the moment at which it lets go.
    pub(crate) async fn start_servants_together(
        &mut self,
        servants: usize,
        concurrency: u32,
    ) -> anyhow::Result<DateTime<Utc>> {
        let kind = PauseTarget::Kind(Kind::new("noop")?);
        self.store.pause(&testkit::granted_to("bench", "servants start"), &kind).await?;
        self.start_servants(servants, concurrency)?;
        self.wait_for_servants(servants).await?;
        let go_at = self.store.now();
        self.store.resume(&testkit::granted_to("bench", "a measurement"), &kind).await?;
        Ok(go_at)
    }

    /// Waits until so many servants say that they run.
    pub(crate) async fn wait_for_servants(&self, servants: usize) -> anyhow::Result<()> {
        let mut sql = PgConnection::connect(&self.database_url).await?;
        let start = Instant::now();
        loop {
            let running: i64 =
                sqlx::query_scalar("SELECT count(*) FROM servants WHERE state = 'running'").fetch_one(&mut sql).await?;
            if usize::try_from(running)? >= servants {
                return Ok(());
            }
            anyhow::ensure!(start.elapsed() < START_MAX, "{running} of {servants} servants have started");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Stops all servants as an operator would, and waits until they are gone.
    pub(crate) async fn stop_servants(&mut self) -> anyhow::Result<()> {
        for mut servant in self.servants.drain(..) {
            if let Some(pid) = servant.id() {
                // The standard library knows no signal but SIGKILL, which would leave leases behind.
                Command::new("/bin/sh").args(["-c", "kill \"$1\"", "kill", &pid.to_string()]).status().await?;
            }
            servant.wait().await?;
        }
        Ok(())
    }

    /// Kills the scheduler; its lead runs out.
    pub(crate) async fn stop_scheduler(&mut self) -> anyhow::Result<()> {
        if let Some(mut scheduler) = self.scheduler.take() {
            scheduler.kill().await?;
        }
        Ok(())
    }

    /// Fails when the scheduler has ended by itself, which nobody else would notice.
    pub(crate) fn check_scheduler(&mut self) -> anyhow::Result<()> {
        match self.scheduler.as_mut().map(Child::try_wait).transpose()?.flatten() {
            Some(status) => bail!("the scheduler ended: {status}"),
            None => Ok(()),
        }
    }

    pub(crate) fn servant_pids(&self) -> Vec<u32> {
        self.servants.iter().filter_map(Child::id).collect()
    }

    fn spawn(&self, program: &str, config: &str, variables: &[(&str, &str)]) -> anyhow::Result<Child> {
        let mut command = Command::new(self.programs.join(program));
        command
            .args(["--config", config])
            .envs(ALLOCATOR)
            .env("DATABASE_URL", &self.database_url)
            .env("SERVANT_QUEUE__BACKEND", self.queue.as_str())
            .env("SERVANT_MANAGER__URL", "")
            .env("SERVANT_PROCESS__LOG_FILTER", "warn")
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        if program == "scheduler" {
            command.env_remove("SERVANT_MANAGER__URL");
        }
        if let Some(path) = &self.jobs_file {
            command.env("SERVANT_JOBS_FILE", path);
        }
        if let Some(url) = &self.sqs_url {
            command.env("SERVANT_SQS_ENDPOINT_URL", url);
            if std::env::var_os("AWS_ACCESS_KEY_ID").is_none() {
                command.envs(SQS_KEYS);
            }
        }
        command.spawn().with_context(|| format!("{program} does not start"))
    }

    pub(crate) fn postgres_pid(&self) -> Option<u32> {
        self.postgres.pid()
    }

    pub(crate) fn sqs_url(&self) -> Option<&str> {
        self.sqs_url.as_deref()
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for child in self.servants.iter_mut().chain(self.scheduler.as_mut()) {
            child.kill().await?;
        }
        self.store.close().await;
        self.postgres.stop().await;
        Ok(())
    }
}

/// Starts a program that prints `listening on <address>`, and answers with that address.
pub(crate) async fn listening(program: &std::path::Path, arguments: &[&str]) -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some((_, url)) = line.split_once("listening on ") {
            let url = url.trim().to_owned();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok((child, url));
        }
    }
    bail!("{} ended before it listened", program.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_set_as_it_is_shipped() {
        let shipped = include_str!("../../../deploy/supervisord.conf");
        for (name, value) in ALLOCATOR {
            assert!(shipped.contains(&format!("{name}=\"{value}\"")), "{name}");
        }
    }
}
