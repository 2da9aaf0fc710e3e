//! Owns the life of a process from `main` to its exit code: arguments, start, signals, drain.
//!
//! It does not own what the process is for: that is the callback.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{self, ConfigError, ProcessConfig};
use crate::health::Health;
use crate::shutdown::Stopper;
use crate::telemetry::{self, Identity, metrics_handle};

/// Asked to stop, or finished.
const EXIT_OK: u8 = 0;
/// Anything that is neither of the other two.
const EXIT_FAILURE: u8 = 1;
/// The configuration is wrong (`EX_USAGE` of sysexits.h); a restart will not help.
const EXIT_CONFIG: u8 = 64;

/// How long a program may take to return once told to stop at once.
const HARD_STOP_GRACE: Duration = Duration::from_secs(5);
/// How often samples of histograms are folded, so that memory stays bounded without a scraper.
const METRICS_UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// What a program is given at its start.
#[derive(Debug)]
pub struct Context<C> {
    /// The file without `[process]`.
    pub config: C,
    /// The table `[process]`.
    pub process: ProcessConfig,
    /// The stop of this process: the program returns soon after its soft order.
    pub stopper: Stopper,
    /// This process among its like: the host's name and the process id.
    pub instance: String,
    /// The program.
    pub name: &'static str,
    /// The version of the program.
    pub version: &'static str,
    /// Where the program says whether it is ready.
    pub health: Health,
    /// Where the configuration comes from.
    place: String,
}

impl<C> Context<C> {
    /// What the program refuses its configuration with, though each key by itself could be read; `problem` names the key.
    #[must_use]
    pub fn refuse(&self, problem: impl Into<String>) -> ConfigError {
        ConfigError::new(&self.place, problem, "correct that key in the file or in the environment")
    }
}

/// Runs a program, from reading its configuration to its exit code; `main` is this one call.
///
/// The first SIGTERM or SIGINT is the soft order to stop; a second one, or `process.drain_secs`
/// passing, is the hard one. When `start` returns, the soft order is given to whatever it spawned
/// with [`Stopper::spawn`], which is then waited for.
///
/// Exit codes: 0 = asked to stop or finished, 64 = a [`ConfigError`] (on stderr, naming the place,
/// the problem and the way out), 1 = anything else (the chain of causes in the log and on stderr).
pub fn run<C, F>(name: &'static str, version: &'static str, start: F) -> ExitCode
where
    C: DeserializeOwned + Send + 'static,
    F: AsyncFnOnce(Context<C>) -> anyhow::Result<()>,
{
    match parse(name, version, std::env::args_os()) {
        Ok(file) => {
            // Variables that are not text are none of ours: `vars()` would panic on them.
            let variables = std::env::vars_os()
                .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
            let outcome = prepare(name, version, file, variables)
                .map_err(anyhow::Error::from)
                .and_then(|context| live(context, start));
            ExitCode::from(report(name, &outcome))
        }
        Err(error) => {
            // Printing fails when nobody reads; there is nobody left to tell.
            let _ = error.print();
            // clap sends help and version here too, which are no errors.
            ExitCode::from(if error.use_stderr() { EXIT_CONFIG } else { EXIT_OK })
        }
    }
}

fn parse(
    name: &'static str,
    version: &'static str,
    arguments: impl Iterator<Item = OsString>,
) -> Result<Option<PathBuf>, clap::Error> {
    let file = clap::Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env("SERVANT_CONFIG")
        .value_parser(clap::value_parser!(PathBuf))
        .help("The configuration file (TOML); SERVANT_<TABLE>__<KEY> overrides its keys");
    let mut matches = clap::Command::new(name).version(version).arg(file).try_get_matches_from(arguments)?;
    Ok(matches.remove_one("config"))
}

fn prepare<C: DeserializeOwned>(
    name: &'static str,
    version: &'static str,
    file: Option<PathBuf>,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Context<C>, ConfigError> {
    let (process, config) = config::load(file.as_deref(), variables)?;
    let instance = format!("{}-{}", host(), std::process::id());
    let identity = Identity { service: name, version, instance: instance.clone() };
    telemetry::install(&process, &identity)?;
    let stopper = Stopper::new();
    let health = Health::new(stopper.clone());
    let place = config::place_of(file.as_deref());
    Ok(Context { config, process, stopper, instance, name, version, health, place })
}

fn live<C, F>(context: Context<C>, start: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(Context<C>) -> anyhow::Result<()>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(context.process.worker_threads)
        .enable_all()
        .build()
        .context("the async runtime cannot be built")?;
    // A panic would skip the exit code; its message was logged by the hook.
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(supervise(context, start))))
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the program panicked")));
    // What is still running has had its time; blocking threads must not hold the exit.
    runtime.shutdown_background();
    outcome
}

async fn supervise<C, F>(context: Context<C>, start: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(Context<C>) -> anyhow::Result<()>,
{
    let stopper = context.stopper.clone();
    let drain = Duration::from_secs(context.process.drain_secs);
    trap_signals(stopper.clone())?;
    tokio::spawn(order_hard_stop_after(stopper.clone(), drain));
    tokio::spawn(keep_metrics_up());
    if let Some(listen) = context.process.health_listen {
        let address = context.health.serve(listen).await?;
        tracing::info!(address = address.to_string(), "health is served");
    }
    tracing::info!("started");

    let outcome = tokio::select! {
        outcome = start(context) => outcome,
        () = overdue(&stopper) => {
            Err(anyhow::anyhow!("did not stop within {} s of the order to stop at once", HARD_STOP_GRACE.as_secs()))
        }
    };
    stopper.stop();
    // The hard order comes by itself after `drain`.
    if !stopper.drain(drain + HARD_STOP_GRACE).await {
        tracing::warn!(tasks = stopper.tracker().len(), "some tasks did not end in time");
    }
    match (outcome, stopper.take_failure()) {
        (Ok(()), None) => Ok(()),
        (Ok(()), Some(failure)) => Err(failure),
        (Err(error), None) => Err(error),
        (Err(error), Some(failure)) => {
            // The task failed first: the program ended because it was stopped by that.
            tracing::error!(error = format!("{error:#}"), "the program failed too");
            Err(failure)
        }
    }
}

/// SIGTERM and SIGINT: the first is the soft order, the second the hard one.
fn trap_signals(stopper: Stopper) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be trapped")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be trapped")?;
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if stopper.is_stopping() {
                tracing::warn!(signal = name, "stopping at once");
                stopper.stop_hard();
            } else {
                tracing::info!(signal = name, "stopping");
                stopper.stop();
            }
        }
    });
    Ok(())
}

async fn order_hard_stop_after(stopper: Stopper, drain: Duration) {
    stopper.soft().cancelled().await;
    tokio::time::sleep(drain).await;
    tracing::warn!(drain_secs = drain.as_secs(), "drain time is over, stopping at once");
    stopper.stop_hard();
}

async fn overdue(stopper: &Stopper) {
    stopper.hard().cancelled().await;
    tokio::time::sleep(HARD_STOP_GRACE).await;
}

async fn keep_metrics_up() {
    let mut ticks = tokio::time::interval(METRICS_UPKEEP_EVERY);
    loop {
        ticks.tick().await;
        metrics_handle().run_upkeep();
    }
}

/// Logs the outcome, the one place where an error of the whole program is, and turns it into the
/// exit code.
fn report(name: &str, outcome: &anyhow::Result<()>) -> u8 {
    match outcome {
        Ok(()) => tracing::info!("stopped"),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "stopped by an error");
            eprintln!("{name}: {error:#}");
        }
    }
    exit_code(outcome)
}

fn exit_code(outcome: &anyhow::Result<()>) -> u8 {
    match outcome {
        Ok(()) => EXIT_OK,
        // The first finds one given as a context, the second one wrapped by another error.
        Err(error) if error.is::<ConfigError>() => EXIT_CONFIG,
        Err(error) if error.chain().any(|cause| cause.is::<ConfigError>()) => EXIT_CONFIG,
        Err(_) => EXIT_FAILURE,
    }
}

/// The name of this host, as far as it can be learnt without a system call of our own.
#[must_use]
pub fn host() -> String {
    let named = std::env::var("HOSTNAME").ok();
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|file| std::fs::read_to_string(file).ok())
        .or(named)
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}

    fn context() -> Context<Nothing> {
        prepare("test", "0.0.0", None, std::iter::empty()).unwrap()
    }

    #[test]
    fn exit_codes() {
        let wrong = || ConfigError::new("file x", "no", "do");
        assert_eq!(exit_code(&Ok(())), 0);
        assert_eq!(exit_code(&Err(anyhow::anyhow!("boom"))), 1);
        assert_eq!(exit_code(&Err(wrong().into())), 64);
        assert_eq!(exit_code(&Err(anyhow::Error::from(wrong()).context("at start"))), 64);
        assert_eq!(exit_code(&Err(anyhow::anyhow!("boom").context(wrong()))), 64);
    }

    #[test]
    fn what_a_program_refuses_names_the_place() {
        let refusal = context().refuse("work.poll_ms is 0").to_string();
        assert!(refusal.starts_with("configuration (no file was given): work.poll_ms is 0; "), "{refusal}");
    }

    #[test]
    fn arguments() {
        let parse = |list: &[&str]| parse("x", "1.0", list.iter().map(OsString::from));
        assert_eq!(parse(&["x", "--config", "a.toml"]).unwrap(), Some(PathBuf::from("a.toml")));
        assert!(parse(&["x", "--nonsense"]).unwrap_err().use_stderr());
        assert!(!parse(&["x", "--version"]).unwrap_err().use_stderr());
    }

    #[test]
    fn a_program_that_returns_has_its_tasks_waited_for() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let outcome = live(context(), async move |context: Context<Nothing>| {
            let stopper = context.stopper.clone();
            context.stopper.spawn("last words", async move {
                stopper.soft().cancelled().await;
                sender.send(()).map_err(Into::into)
            });
            Ok(())
        });
        assert_eq!(exit_code(&outcome), 0);
        receiver.try_recv().unwrap();
    }

    #[test]
    fn a_failed_task_and_a_panic_fail_the_program() {
        let outcome = live(context(), async |context: Context<Nothing>| {
            context.stopper.spawn("sweep", async { anyhow::bail!("boom") });
            context.stopper.soft().cancelled().await;
            Ok(())
        });
        assert!(format!("{:#}", outcome.unwrap_err()).contains("task sweep failed: boom"));
        let outcome = live(context(), async |_: Context<Nothing>| panic!("on purpose"));
        assert_eq!(exit_code(&outcome), 1);
    }

    #[test]
    fn a_taken_health_address_exits_with_64() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut context = context();
        context.process.health_listen = taken.local_addr().ok();
        let outcome = live(context, async |_: Context<Nothing>| Ok(()));
        assert_eq!(exit_code(&outcome), 64);
    }
}
