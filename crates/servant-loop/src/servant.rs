//! What a servant is, and the life of its process from start to drained.

use crate::{
    claims::Claims,
    config::LoopConfig,
    context::JobContext,
    finisher::{self, Ends},
    heartbeat::{self, Beating},
    intake::Intake,
    job_error::{Done, JobError},
    keeper::{self, Keeping},
    registry::{Registry, StopReason},
    runner::Runner,
};
use anyhow::Context as _;
use chrono::TimeDelta;
use daemon::{Context, ExposeSecret, Stopper};
use domain::{Catalogue, CatalogueTables, Clock, Kind, KindDefinition, ServantId};
use serde::de::DeserializeOwned;
use std::{
    future::Future,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use store::{Heard, NewServant, Store};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// One type of work. Its file, binary, kind and queue share one name: `const KIND: &'static str = env!("CARGO_BIN_NAME")`.
pub trait Servant: Sized + Send + Sync + 'static {
    /// The kind; the binary's name.
    const KIND: &'static str;
    /// What a job says; a strict shape, since a payload that does not fit fails visibly.
    type Payload: DeserializeOwned + Send + 'static;
    /// What `[<kind>.config]` of the catalogue says.
    type Config: DeserializeOwned + Send + 'static;

    /// Makes the servant, once for each process.
    fn connect(config: Self::Config, setup: &Setup) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Does one job.
    fn run(&self, payload: Self::Payload, job: &JobContext) -> impl Future<Output = Result<Done, JobError>> + Send;
}

/// What a servant is made with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The ledger.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// What opens customers' credentials.
    pub vault: Arc<vault::Vault>,
}

/// One end for so many slots may wait to be written when its job's slot is somebody else's already. A servant of few slots
/// has none, so that it never has more jobs in hand than slots.
const UNWRITTEN_SHARE: u32 = 8;

/// The `main` of every servant.
#[must_use]
pub fn main<S: Servant>() -> ExitCode {
    daemon::run(S::KIND, env!("CARGO_PKG_VERSION"), serve::<S>)
}

async fn serve<S: Servant>(context: Context<LoopConfig>) -> anyhow::Result<()> {
    let config = &context.config;
    config.check().map_err(|problem| context.refuse(problem))?;
    let kind = Kind::new(S::KIND)?;
    let (catalogue, definition) = definition_of(config, &kind)?;
    let own =
        serde_json::to_value(&definition.config).and_then(serde_json::from_value::<S::Config>).map_err(|error| {
            daemon::ConfigError::new(
                format!("[{kind}.config] of {}", config.jobs_file.display()),
                error.to_string(),
                "correct or remove that key",
            )
        })?;
    let concurrency = if config.work.concurrency == 0 { definition.concurrency } else { config.work.concurrency };

    let url = daemon::database_url()?.expose_secret().to_owned();
    let clock = Clock::system();
    let store = Store::connect(&url, config.database.pool_max, clock.clone()).await.context("the ledger")?;
    store.check_schema().await?;
    let backend = config
        .queue
        .clone()
        .at(daemon::read_env("SERVANT_SQS_ENDPOINT_URL").ok())
        .connect()
        .await
        .context("the queue")?;
    let vault = Arc::new(vault::Vault::new(config.vault.clone(), clock.clone()));
    let servant = S::connect(own, &Setup { store: store.clone(), clock: clock.clone(), vault }).await?;
    let id = store
        .register_servant(&NewServant {
            kind: kind.clone(),
            host: context.instance.clone(),
            pid: std::process::id(),
            version: context.version.to_owned(),
            concurrency,
        })
        .await?;
    tracing::info!(ServantId = id.0, Kind = S::KIND, concurrency, "the servant takes work");
    context.health.set("ledger", Ok(()));

    let registry = Registry::default();
    let claims = Claims::default();
    let is_paused = Arc::new(AtomicBool::new(false));
    let is_draining = Arc::new(AtomicBool::new(false));
    let is_over = Arc::new(AtomicBool::new(false));
    let lease = TimeDelta::seconds(i64::from(config.work.lease_secs));
    let keeper = keeper::start(Keeping {
        database_url: url,
        clock: clock.clone(),
        servant: id,
        lease,
        grace: TimeDelta::seconds(i64::from(config.work.cancel_grace_secs) + 10),
        retry: definition.retry,
        registry: registry.clone(),
        claims: claims.clone(),
        is_paused: is_paused.clone(),
        is_draining: is_draining.clone(),
        is_over: is_over.clone(),
    })
    .context("the keeper's thread")?;

    let (ended, ends) = mpsc::unbounded_channel();
    let finish_max = usize::try_from(config.work.finish_max)?.max(1);
    let has_ended = Arc::new(Notify::new());
    let (told, attempts_over) = mpsc::unbounded_channel();
    let over = matches!(backend, queue::Backend::Postgres).then_some(told);
    let slots = Arc::new(Semaphore::new(usize::try_from(concurrency)?));
    let unwritten_max = concurrency / UNWRITTEN_SHARE;
    let unwritten = Arc::new(Semaphore::new(usize::try_from(unwritten_max)?));
    let tell = Ends { bell: has_ended.clone(), over, claims: claims.clone(), unwritten: unwritten.clone() };
    let finisher = tokio::spawn(finisher::run(store.clone(), registry.clone(), ends, finish_max, tell));
    let runner = Arc::new(Runner {
        servant,
        store: store.clone(),
        registry: registry.clone(),
        retry: definition.retry,
        run_max: TimeDelta::seconds(i64::from(definition.run_secs_max)),
        cancel_grace: Duration::from_secs(u64::from(config.work.cancel_grace_secs)),
        ended,
        unwritten: unwritten.clone(),
    });
    let ordered = Arc::new(Notify::new());
    let beats_over = CancellationToken::new();
    // However this ends: nothing waits for heartbeats.
    let end_of_beats = beats_over.clone().drop_guard();
    if !config.manager.url.is_empty() {
        context.stopper.spawn(
            "heartbeat",
            heartbeat::run(Beating {
                manager_url: config.manager.url.clone(),
                credential: daemon::read_optional_secret("SERVANT_MANAGER_TOKEN")?,
                servant: id,
                kind: kind.clone(),
                version: context.version,
                host: context.instance.clone(),
                started_at: clock.now(),
                concurrency,
                registry: registry.clone(),
                is_paused: is_paused.clone(),
                is_draining: is_draining.clone(),
                ordered: ordered.clone(),
                stopper: context.stopper.clone(),
                over: beats_over,
            }),
        );
    }
    keep_clock(&context.stopper, store.clone());

    let intake = Arc::new(Intake {
        runner: runner.clone(),
        store: store.clone(),
        servant: id,
        kind: kind.clone(),
        catalogue,
        definition,
        slots: slots.clone(),
        claim_max: usize::try_from(config.work.claim_max)?.clamp(1, usize::try_from(concurrency)?),
        lease,
        poll: Duration::from_millis(config.work.poll_ms),
        is_paused,
        claims,
        ended: has_ended,
        stop: context.stopper.soft().clone(),
    });
    let ready = Arc::new(Notify::new());
    listen(&context.stopper, store.clone(), (kind, ready.clone()), (id, ordered));
    match backend {
        queue::Backend::Postgres => {
            intake.take_from_table(ready, attempts_over).await;
        }
        queue::Backend::Sqs(sqs) => intake.take_from_queue(sqs).await,
    }

    is_draining.store(true, Ordering::SeqCst);
    let places = [(slots, concurrency), (unwritten, unwritten_max)];
    drain(&context, &registry, &places).await;
    drop(runner);
    let _ = finisher.await;
    drop(end_of_beats);
    is_over.store(true, Ordering::SeqCst);
    let _ = tokio::task::spawn_blocking(move || keeper.join()).await;
    tracing::info!(ServantId = id.0, "the servant has stopped");
    Ok(())
}

fn definition_of(config: &LoopConfig, kind: &Kind) -> anyhow::Result<(Catalogue, KindDefinition)> {
    let tables: CatalogueTables = daemon::read_file(&config.jobs_file)?;
    let place = config.jobs_file.display().to_string();
    let catalogue = Catalogue::new(tables)
        .map_err(|error| daemon::ConfigError::new(&place, error.to_string(), "correct that key"))?;
    let definition = catalogue.get(kind).cloned().ok_or_else(|| {
        daemon::ConfigError::new(&place, format!("has no table [{kind}]"), format!("add a table [{kind}]"))
    })?;
    Ok((catalogue, definition))
}

/// Finishes what runs: jobs get a quarter of the time to end by themselves, then they are interrupted and given back.
/// It is over when all `places` are free.
async fn drain(context: &Context<LoopConfig>, registry: &Registry, places: &[(Arc<Semaphore>, u32)]) {
    if registry.len() > 0 {
        tracing::info!(in_hand = registry.len(), "draining");
    }
    let all = || async {
        for (places, count) in places {
            let _all = places.acquire_many(*count).await;
        }
    };
    let patience = Duration::from_secs(context.process.drain_secs) / 4;
    // Jobs that look at their cancellation stop at a checkpoint; it costs them no attempt.
    if tokio::time::timeout(patience, all()).await.is_ok() {
        return;
    }
    for job in registry.all() {
        job.stop(StopReason::Shutdown);
    }
    tokio::select! {
        () = all() => {}
        () = context.stopper.hard().cancelled() => {
            tracing::warn!(in_hand = registry.len(), "stopped with jobs in hand: their leases will run out");
        }
    }
}

/// Turns the ledger's wake-ups for this kind into `ready`, and those for this servant into `ordered`, for as long as the
/// process lives.
fn listen(
    stopper: &Stopper,
    store: Store,
    (kind, ready): (Kind, Arc<Notify>),
    (servant, ordered): (ServantId, Arc<Notify>),
) {
    let stop = stopper.soft().clone();
    stopper.spawn("wake-ups", async move {
        let heard = |heard: &Heard| {
            if heard.ready.contains_key(kind.as_str()) {
                ready.notify_one();
            }
            if heard.ordered.contains(&servant) {
                ordered.notify_one();
            }
        };
        stop.run_until_cancelled(store.follow_wake_ups(heard)).await;
        Ok(())
    });
}

/// Follows the ledger's clock.
fn keep_clock(stopper: &Stopper, store: Store) {
    let stop = stopper.soft().clone();
    stopper.spawn("clock", async move {
        stop.run_until_cancelled(store.keep_clock()).await;
        Ok(())
    });
}
