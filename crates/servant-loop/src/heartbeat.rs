//! Tells the manager how this process is, and carries out what its reply orders. A silent manager never stops work.

use crate::registry::{Registry, StopReason};
use chrono::{DateTime, Utc};
use daemon::{Secret, Stopper};
use domain::{HEARTBEAT_SECS, JobId, Kind, ServantId, ServantState, chain};
use manager_api::{CurrentJob, Heartbeat, HeartbeatReply, ManagerClient};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What the heartbeat needs.
pub(crate) struct Beating {
    pub(crate) manager_url: String,
    /// What is shown to a manager that asks; none: it asks nobody.
    pub(crate) credential: Option<Secret>,
    pub(crate) servant: ServantId,
    pub(crate) kind: Kind,
    pub(crate) version: &'static str,
    pub(crate) host: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) concurrency: u32,
    pub(crate) registry: Registry,
    pub(crate) is_paused: Arc<AtomicBool>,
    pub(crate) is_draining: Arc<AtomicBool>,
    /// An order waits at the manager: the next heartbeat is due at once.
    pub(crate) ordered: Arc<Notify>,
    pub(crate) stopper: Stopper,
    /// Cancelled once the drain is over: until then a draining servant is still seen.
    pub(crate) over: CancellationToken,
}

/// Jobs named in one heartbeat at the most; a servant of a thousand slots must not send a book.
const JOBS_NAMED_MAX: usize = 50;

pub(crate) async fn run(beating: Beating) -> anyhow::Result<()> {
    let client = match &beating.credential {
        Some(credential) => {
            // Good as long as this process: nobody else beats for it.
            let boot = vault::new_token(vault::TokenFor::Boot);
            ManagerClient::for_servant(&beating.manager_url, credential, &boot)?
        }
        None => ManagerClient::new(&beating.manager_url)?,
    };
    let mut was_silent = false;
    let mut cpu = CpuMeter::default();
    loop {
        let beat = beating.beat(cpu.pct());
        let answer = tokio::select! {
            answer = client.heartbeat(&beat) => answer,
            () = beating.over.cancelled() => return Ok(()),
        };
        match answer {
            Ok(reply) => {
                if was_silent {
                    tracing::info!("the manager answers again");
                }
                was_silent = false;
                beating.obey(&reply);
            }
            Err(error) if !was_silent => {
                tracing::warn!(error = chain(&error), "the manager does not take heartbeats; work goes on");
                was_silent = true;
            }
            Err(_) => {}
        }
        // Jittered, so that a fleet started together does not beat together.
        let wait = Duration::from_millis(u64::try_from(HEARTBEAT_SECS * 1_000).unwrap_or(2_000));
        tokio::select! {
            () = tokio::time::sleep(wait.mul_f64(0.75 + rand::random::<f64>() / 2.0)) => {}
            () = beating.ordered.notified() => {}
            () = beating.over.cancelled() => return Ok(()),
        }
    }
}

impl Beating {
    fn beat(&self, cpu_pct: Option<u32>) -> Heartbeat {
        let jobs = self.registry.all();
        Heartbeat {
            servant_id: self.servant.0,
            kind: self.kind.as_str().to_owned(),
            state: self.state().as_str().to_owned(),
            version: self.version.to_owned(),
            host: self.host.clone(),
            pid: std::process::id(),
            started_at: self.started_at,
            rss_bytes: rss_bytes(),
            cpu_pct,
            concurrency: self.concurrency,
            // Those whose end is still to be written may have left their slots to others.
            running: u32::try_from(jobs.len()).unwrap_or(u32::MAX).min(self.concurrency),
            jobs: jobs
                .iter()
                .take(JOBS_NAMED_MAX)
                .map(|job| CurrentJob {
                    id: job.key.id.0,
                    attempt: job.attempt,
                    account_id: job.account.0,
                    started_at: job.started_at,
                    progress: job.progress().and_then(|p| serde_json::to_value(p).ok()),
                })
                .collect(),
        }
    }

    fn state(&self) -> ServantState {
        if self.is_draining.load(Ordering::SeqCst) || self.stopper.is_stopping() {
            ServantState::Draining
        } else if self.is_paused.load(Ordering::SeqCst) {
            ServantState::Paused
        } else {
            ServantState::Running
        }
    }

    fn obey(&self, reply: &HeartbeatReply) {
        if reply.pause != self.is_paused.swap(reply.pause, Ordering::SeqCst) {
            tracing::info!(pause = reply.pause, "the manager orders");
        }
        if reply.drain && !self.stopper.is_stopping() {
            tracing::info!("the manager orders this servant to drain");
            self.stopper.stop();
        }
        for id in &reply.cancel {
            if let Some(job) = self.registry.get(JobId(*id)) {
                job.stop(StopReason::Operator);
            }
        }
    }
}

/// Resident memory of this process; `None` where the system does not tell (it does on Linux).
fn rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// How much of the processor this process takes, from one look to the next.
#[derive(Default)]
struct CpuMeter {
    last: Option<(Instant, u64)>,
}

impl CpuMeter {
    /// Per cent of one core since the look before; `None` at the first, and where the system does not tell (it does on Linux).
    fn pct(&mut self) -> Option<u32> {
        let (now, used_ms) = (Instant::now(), cpu_ms(&std::fs::read_to_string("/proc/self/stat").ok()?)?);
        let (then, used_then_ms) = self.last.replace((now, used_ms))?;
        let passed_ms = u64::try_from((now - then).as_millis()).ok()?;
        u32::try_from(used_ms.saturating_sub(used_then_ms).saturating_mul(100).checked_div(passed_ms)?).ok()
    }
}

/// Processor time of a process, by its `/proc/<pid>/stat`: user and system, in hundredths of a second on every Linux.
fn cpu_ms(stat: &str) -> Option<u64> {
    // The program's name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1000 0 0";
        assert_eq!(cpu_ms(stat), Some(3_000));
        assert_eq!(cpu_ms("7 (noop"), None);
    }

    #[test]
    fn the_first_look_tells_nothing_and_the_second_something() {
        let mut meter = CpuMeter::default();
        assert_eq!(meter.pct(), None);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        assert!(meter.pct().is_some());
    }
}
