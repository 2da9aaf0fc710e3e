//! `doctor`: looks at everything that must be there, and says what to do about what is not.

use crate::{open, output, queues};
use manager_api::ManagerClient;
use serde::Serialize;

/// A clock this far off makes log lines and schedules hard to read, in seconds. Leases go by the database's.
const CLOCK_OFF_SECS_MAX: i64 = 2;

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    finding: String,
    advice: &'static str,
}

pub(crate) async fn run(
    database: Option<&str>,
    manager: &str,
    place: &queues::Place,
    json: bool,
) -> anyhow::Result<()> {
    let mut findings = Vec::new();
    let mut note = |check, outcome: anyhow::Result<String>, advice| {
        let (ok, finding) = match outcome {
            Ok(text) => (true, text),
            Err(error) => (false, format!("{error:#}")),
        };
        findings.push(Finding { check, ok, finding, advice: if ok { "" } else { advice } });
    };
    match open(database).await {
        Ok(store) => {
            note("database", Ok("answers".to_owned()), "");
            let schema = store.check_schema().await.map(|()| "is this program's".to_owned());
            note("schema", schema.map_err(Into::into), "run `servantctl migrate`");
            let off = store.clock().offset();
            let text = format!("{} ms from the database's", off.num_milliseconds());
            let is_near = off.num_seconds().abs() < CLOCK_OFF_SECS_MAX;
            let clock = if is_near { Ok(text) } else { Err(anyhow::anyhow!(text)) };
            note("clock", clock, "synchronise this machine's clock (NTP)");
        }
        Err(error) => note("database", Err(error), "start PostgreSQL, or correct DATABASE_URL"),
    }
    let queues = match queues::connect(place).await {
        Ok(sqs) => sqs.list().await.map(|depths| format!("{} queues", depths.len())).map_err(Into::into),
        Err(error) => Err(error),
    };
    note("queues", queues, "set SERVANT_SQS_ENDPOINT_URL or AWS credentials; not needed with the postgres backend");
    let answer = match ManagerClient::new(manager) {
        Ok(client) => client.stats().await,
        Err(error) => Err(error),
    };
    let answer = answer.map(|stats| format!("answers; {} servants alive", stats.servants_alive));
    note("manager", answer.map_err(Into::into), "start the manager, or set SERVANT_MANAGER_URL");

    let rows = findings.iter().map(|f| {
        let ok = if f.ok { "ok" } else { "FAILED" };
        vec![f.check.to_owned(), ok.to_owned(), f.finding.clone(), f.advice.to_owned()]
    });
    output::table(json, &findings, &["CHECK", "", "FINDING", "WHAT TO DO"], rows.collect())?;
    let failed = findings.iter().filter(|f| !f.ok).count();
    anyhow::ensure!(failed == 0, "{failed} checks failed");
    Ok(())
}
