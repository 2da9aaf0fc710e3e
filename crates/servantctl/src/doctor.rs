//! `doctor`: looks at everything that must be there, and says what to do about what is not.

use crate::{open, output, queues, refusal::Refusal};
use chrono::TimeDelta;
use clap::{Args, ValueEnum};
use manager_api::{ManagerClient, Stats};
use queue::QueueDepth;
use serde::Serialize;
use std::{collections::BTreeSet, future::Future, time::Duration};
use store::Store;

/// A clock this far off makes log lines and schedules hard to read, in seconds. Leases go by the database's.
const CLOCK_OFF_SECS_MAX: i64 = 2;
/// Longest wait for one answer, in seconds.
const ANSWER_SECS_MAX: u64 = 15;

/// What is looked at.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Where job ids travel.
    #[arg(long, env = "SERVANT_QUEUE__BACKEND", value_enum, default_value = "sqs")]
    backend: Backend,
    #[command(flatten)]
    place: queues::Place,
}

/// The queue's backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// SQS: every kind of the catalogue has its queue.
    Sqs,
    /// The database itself: there are no queues.
    Postgres,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    finding: String,
    advice: Option<String>,
}

impl Finding {
    fn new(check: &'static str, outcome: Result<String, Refusal>) -> Self {
        match outcome {
            Ok(finding) => Self { check, ok: true, finding, advice: None },
            Err(refusal) => {
                let advice = refusal.way_out().map(str::to_owned);
                Self { check, ok: false, finding: refusal.what().to_owned(), advice }
            }
        }
    }

    fn lines(&self) -> String {
        let advice = self.advice.as_ref().map(|advice| format!("\n                  {advice}")).unwrap_or_default();
        format!("{:6}  {:8}  {}{advice}", if self.ok { "ok" } else { "FAILED" }, self.check, self.finding)
    }
}

pub(crate) async fn run(
    database: Option<&str>,
    client: impl Fn() -> anyhow::Result<ManagerClient>,
    doctor: &Doctor,
    json: bool,
) -> anyhow::Result<()> {
    let mut findings = Vec::new();
    match in_time(open(database)).await {
        Ok(store) => {
            findings.push(Finding::new("database", Ok("answers".to_owned())));
            findings.push(Finding::new("schema", in_time(schema(&store)).await));
            findings.push(Finding::new("clock", clock(store.clock().offset())));
            store.close().await;
        }
        Err(refusal) => findings.push(Finding::new("database", Err(refusal))),
    }
    let queues = match doctor.backend {
        Backend::Sqs => in_time(queues_of(&doctor.place)).await,
        Backend::Postgres => Ok("not used by the postgres backend".to_owned()),
    };
    findings.push(Finding::new("queues", queues));
    findings.push(Finding::new("manager", in_time(answers(client)).await));

    if json {
        output::print(&serde_json::to_string_pretty(&findings)?)?;
    } else {
        output::print(&findings.iter().map(Finding::lines).collect::<Vec<_>>().join("\n"))?;
    }
    match findings.iter().filter(|finding| !finding.ok).count() {
        0 => Ok(()),
        1 => anyhow::bail!("1 check failed"),
        failed => anyhow::bail!("{failed} checks failed"),
    }
}

/// A check that takes no answer for one after a while.
async fn in_time<T>(check: impl Future<Output = anyhow::Result<T>>) -> Result<T, Refusal> {
    match tokio::time::timeout(Duration::from_secs(ANSWER_SECS_MAX), check).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(error.downcast().unwrap_or_else(|error| Refusal::usage(format!("{error:#}"), None))),
        Err(_) => Err(Refusal::new(format!("no answer within {ANSWER_SECS_MAX} s"), "is that the right address?")),
    }
}

async fn schema(store: &Store) -> anyhow::Result<String> {
    store.check_schema().await.map_err(Refusal::from)?;
    Ok("is this program's".to_owned())
}

/// `ahead`: how far the database's clock is ahead of this machine's.
fn clock(ahead: TimeDelta) -> Result<String, Refusal> {
    let ahead_ms = ahead.num_milliseconds();
    let text = format!("{ahead_ms} ms from the database's");
    if ahead_ms.abs() < CLOCK_OFF_SECS_MAX * 1_000 {
        Ok(text)
    } else {
        Err(Refusal::new(text, "synchronise the clocks of this machine and the database's (NTP)"))
    }
}

async fn queues_of(place: &queues::Place) -> anyhow::Result<String> {
    let kinds = queues::kinds(place)?;
    let depths = queues::connect(place).await?.list().await.map_err(Refusal::from)?;
    let there: BTreeSet<&str> = depths.iter().map(|depth| depth.kind.as_str()).collect();
    let missing: Vec<&str> = kinds.iter().map(String::as_str).filter(|kind| !there.contains(kind)).collect();
    if missing.is_empty() { Ok(summary(&depths)) } else { Err(lacking(&missing).into()) }
}

fn lacking(kinds: &[&str]) -> Refusal {
    Refusal::new(format!("there is no queue for {}", kinds.join(", ")), "run `servantctl queues ensure`")
}

fn summary(depths: &[QueueDepth]) -> String {
    let dead: u64 = depths.iter().map(|depth| depth.dead).sum();
    let queues = if depths.len() == 1 { "1 queue".to_owned() } else { format!("{} queues", depths.len()) };
    // Their jobs were sent again long ago: a letter only says that something could not be read or claimed in time.
    if dead == 0 { queues } else { format!("{queues}; dead letters: {dead} (`servantctl queues list` shows where)") }
}

async fn answers(client: impl Fn() -> anyhow::Result<ManagerClient>) -> anyhow::Result<String> {
    let client = client()?;
    let Stats { servants_alive, servants_silent, .. } = client.stats().await.map_err(Refusal::from)?;
    Ok(format!("answers; servants alive: {servants_alive}, silent: {servants_silent}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_either_way_is_to_be_synchronised() {
        assert_eq!(clock(TimeDelta::milliseconds(-1_999)).unwrap(), "-1999 ms from the database's");
        for ahead_ms in [-2_000, 3_600_000] {
            let refusal = clock(TimeDelta::milliseconds(ahead_ms)).unwrap_err();
            assert!(refusal.what().contains(&ahead_ms.to_string()), "{refusal}");
            assert!(refusal.way_out().is_some_and(|way_out| way_out.contains("NTP")), "{refusal}");
        }
    }
}
