//! Decides which jobs run and when. Owns inserting and dispatching jobs, and the sweeps that bound every gap.
//! Does not run jobs (`servant-loop`), and writes no SQL (`store`). Several may run; one leads.

mod config;
pub mod duties;
mod nudges;
mod reign;
mod told;

pub use config::SchedulerConfig;
pub use nudges::{JobsReady, Nudges};
pub use told::Told;

use anyhow::Context as _;
use daemon::{Context, ExposeSecret};
use domain::{Catalogue, CatalogueTables, Clock};
use std::sync::Arc;
use store::Store;

/// What every duty works with.
#[derive(Debug)]
pub struct Office {
    /// The ledger.
    pub store: Store,
    /// Where ids go.
    pub queue: queue::Backend,
    /// The kinds of work.
    pub catalogue: Catalogue,
    /// Its settings.
    pub config: SchedulerConfig,
    /// Says that the outbox has something to send.
    pub outbox_filled: tokio::sync::Notify,
    /// Says that jobs are ready.
    pub jobs_ready: JobsReady,
    /// What the dispatcher keeps.
    pub desk: tokio::sync::Mutex<duties::dispatch::Desk>,
    /// What wakes duties.
    pub nudges: Nudges,
    /// What was said of rows that are not understood.
    pub told: Told,
}

impl Office {
    /// Whether there is a queue; without one, servants take from the ledger.
    #[must_use]
    pub const fn has_queue(&self) -> bool {
        matches!(self.queue, queue::Backend::Sqs(_))
    }
}

/// Runs until asked to stop.
///
/// # Errors
/// A bad configuration, a schema that this build does not know, no ledger at the start.
pub async fn run(context: Context<SchedulerConfig>) -> anyhow::Result<()> {
    let config = context.config.clone();
    let tables: CatalogueTables = daemon::read_file(&config.jobs_file)?;
    let catalogue = Catalogue::new(tables).map_err(|error| {
        daemon::ConfigError::new(config.jobs_file.display().to_string(), error.to_string(), "correct that key")
    })?;
    config.check().map_err(|problem| context.refuse(problem))?;
    let url = daemon::database_url()?;
    let store =
        Store::connect(url.expose_secret(), config.database.pool_max, Clock::system()).await.context("the ledger")?;
    store.check_schema().await?;
    let endpoint = daemon::read_env("SERVANT_SQS_ENDPOINT_URL").ok();
    let queue = config.queue.clone().at(endpoint).connect().await.context("the queue")?;
    let office = Arc::new(Office {
        store,
        queue,
        catalogue,
        config,
        outbox_filled: tokio::sync::Notify::new(),
        jobs_ready: JobsReady::default(),
        desk: tokio::sync::Mutex::default(),
        nudges: Nudges::default(),
        told: Told::default(),
    });
    // A boot is told from another by its instance and its start, so that a reused pid is no old leader.
    let holder = format!("{}-{}", context.instance, office.store.now().timestamp_micros());
    tracing::info!(holder, "the scheduler stands by");
    reign::stand(office, &holder, &context).await
}
