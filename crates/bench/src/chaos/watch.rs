//! Whether the rules held: looks at the jobs in flight every few milliseconds while the run goes on, and reads the log of
//! dispatches, the failed attempts and the calls when it is over. Owns the bounds beyond which something is wrong.

use super::rules::{BURST, CRM, PER_SECOND, PERIOD_SECS, QUIET, QUOTA, RATED, Rules, SHARE_PCT, UNFAIR};
use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::{collections::BTreeMap, time::Duration};
use tokio::{sync::watch, task::JoinHandle};

const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A connection that was cut is made anew after this.
const CONNECT_AGAIN: Duration = Duration::from_millis(200);
/// Lines about one thing that is wrong, at the most.
const LINES_MAX: usize = 5;
/// Jobs of the unfair account that may go before a quiet account's ready job: a little more than what may be on the queue,
/// which one go of the dispatcher may take before it looks who else is there. The backlog is several times that.
const OVERTAKEN_MAX: i64 = 200;
/// Longest wait of a quiet account's ready job while its kind goes on, which is when so many of the kind go before it; at
/// a standstill everybody waits.
const QUIET_WAIT_SECS_MAX: u32 = 30;
const GOES_ON: i64 = 500;
/// Attempts that an outage may cost: without a breaker it is several times that.
const OUTAGE_ATTEMPTS_MAX: i64 = 150;
/// Failures that open a circuit whatever was before: as many as the outcomes that weigh at the most. A part of the fleet
/// that was down itself meets fewer.
const OPENS_AT: i64 = 40;

/// The looking, under way.
pub(super) struct Watch {
    stop: watch::Sender<bool>,
    task: JoinHandle<Samples>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Samples {
    looks: u64,
    over: u64,
    /// The most in flight at once, by rule.
    peaks: BTreeMap<&'static str, i64>,
    violations: Vec<String>,
}

impl Watch {
    pub(super) async fn stop(self) -> anyhow::Result<Samples> {
        self.stop.send_replace(true);
        Ok(self.task.await?)
    }
}

/// Begins to look, on a connection of its own.
pub(super) fn start(url: &str, rules: &Rules) -> Watch {
    let sums: Vec<String> = rules
        .concurrency
        .iter()
        .map(|rule| {
            let (jobs, each) = (&rule.jobs, rule.each);
            format!(
                "(SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM flying WHERE {jobs} GROUP BY {each}) AS s)"
            )
        })
        .collect();
    // One statement is one snapshot: no job is seen to end and its successor to begin.
    let look = format!(
        "WITH flying AS MATERIALIZED (SELECT kind, account_id, connection_id, state FROM jobs WHERE state IN (2, 3))
         SELECT ARRAY[{}]",
        sums.join(", ")
    );
    let bounds: Vec<(&'static str, i64)> = rules.concurrency.iter().map(|rule| (rule.name, rule.at_most)).collect();
    let (stop, stopped) = watch::channel(false);
    let url = url.to_owned();
    let task = tokio::spawn(async move {
        let mut samples = Samples::default();
        while !*stopped.borrow() {
            let Ok(mut sql) = PgConnection::connect(&url).await else {
                tokio::time::sleep(CONNECT_AGAIN).await;
                continue;
            };
            while !*stopped.borrow() {
                let Ok(seen) = sqlx::query_scalar(AssertSqlSafe(look.as_str())).fetch_one(&mut sql).await else {
                    break;
                };
                samples.note(&bounds, seen);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        samples
    });
    Watch { stop, task }
}

impl Samples {
    fn note(&mut self, bounds: &[(&'static str, i64)], seen: Vec<i64>) {
        self.looks += 1;
        let mut is_over = false;
        for ((name, at_most), jobs) in bounds.iter().zip(seen) {
            let peak = self.peaks.entry(name).or_default();
            *peak = jobs.max(*peak);
            if jobs > *at_most {
                is_over = true;
                if self.violations.len() < LINES_MAX {
                    self.violations
                        .push(format!("{jobs} jobs in flight under limit {name} of {at_most}, {}", Utc::now()));
                }
            }
        }
        self.over += u64::from(is_over);
    }
}

/// Reads the ledger at rest; answers with the figures and what must not be.
pub(super) async fn judge(url: &str, samples: Samples) -> anyhow::Result<(Value, Vec<String>)> {
    let mut sql = PgConnection::connect(url).await?;
    let Samples { looks, over, peaks, mut violations } = samples;
    let rated = rated(&mut sql, &mut violations).await.context("the rate")?;
    let quiet = quiet(&mut sql, &mut violations).await.context("the quiet accounts")?;
    let outage = outage(&mut sql, &mut violations).await.context("the outage")?;
    let calls = calls(&mut sql, &mut violations).await.context("the calls")?;
    sql.close().await?;
    let mut figures = json!({"limit_samples": looks, "over_limit_samples": over, "in_flight_max": peaks});
    for part in [rated, quiet, outage, calls] {
        if let (Some(figures), Value::Object(part)) = (figures.as_object_mut(), part) {
            figures.extend(part);
        }
    }
    Ok((figures, violations))
}

/// Tokens were taken between the beginning of each dispatch and its stamp: no stretch of time, taken that wide, may have
/// more dispatches than the bucket gives in it.
async fn rated(sql: &mut PgConnection, violations: &mut Vec<String>) -> anyhow::Result<Value> {
    let starts: Vec<(DateTime<Utc>, DateTime<Utc>)> =
        sqlx::query_as("SELECT begun_at, at FROM starts WHERE account_id = $1 ORDER BY begun_at")
            .bind(RATED.0)
            .fetch_all(sql)
            .await?;
    let mut over = 0;
    for (first, (begun_at, _)) in starts.iter().enumerate() {
        let mut stamps: Vec<DateTime<Utc>> = starts.iter().skip(first).map(|(_, at)| *at).collect();
        stamps.sort_unstable();
        for (n, at) in (1_u32..).zip(stamps) {
            let given = f64::from(BURST) + f64::from(PER_SECOND) * (at - begun_at).as_seconds_f64();
            if f64::from(n) > given {
                over += 1;
                if over <= LINES_MAX {
                    violations.push(format!("{n} jobs from {begun_at} to {at}, at a rate that gives {given:.1}"));
                }
            }
        }
    }
    Ok(json!({"rated_jobs": starts.len(), "over_rate": over}))
}

/// A quiet account's job: what its kind is, how long it was ready, who went before it meanwhile.
#[derive(sqlx::FromRow)]
struct Waited {
    job_id: i64,
    kind: String,
    ready_at: DateTime<Utc>,
    wait_ms: f64,
    overtaken: i64,
    kind_went: i64,
    is_beside: bool,
}

/// Waits of ready jobs, and who went before them.
async fn quiet(sql: &mut PgConnection, violations: &mut Vec<String>) -> anyhow::Result<Value> {
    let waits: Vec<Waited> = sqlx::query_as(
        "SELECT job_id, kind, ready_at, (extract(epoch FROM at - ready_at) * 1000)::float8 AS wait_ms,
                (SELECT count(*) FROM starts u WHERE u.kind = s.kind AND u.account_id = $1
                   AND u.at > s.ready_at AND u.at < s.begun_at) AS overtaken,
                (SELECT count(*) FROM starts u WHERE u.kind = s.kind
                   AND u.at > s.ready_at AND u.at < s.begun_at) AS kind_went,
                EXISTS (SELECT FROM starts u WHERE u.kind = s.kind AND u.account_id = $1
                   AND u.at > s.at AND u.ready_at < s.ready_at) AS is_beside
         FROM starts s WHERE account_id >= $2 AND account_id < $3",
    )
    .bind(UNFAIR.0)
    .bind(QUIET.start)
    .bind(QUIET.end)
    .fetch_all(sql)
    .await?;
    let ms_max = f64::from(QUIET_WAIT_SECS_MAX) * 1_000.0;
    let is_starved = |one: &&Waited| one.overtaken > OVERTAKEN_MAX || (one.wait_ms > ms_max && one.kind_went > GOES_ON);
    let starved: Vec<&Waited> = waits.iter().filter(is_starved).collect();
    for one in starved.iter().take(LINES_MAX) {
        let Waited { job_id, kind, ready_at, wait_ms, overtaken, kind_went, .. } = one;
        violations.push(format!(
            "job {job_id} ({kind}) of a quiet account, ready at {ready_at}, waited {wait_ms:.0} ms: {kind_went} went \
             before it, {overtaken} of them the unfair account's"
        ));
    }
    let mut beside: Vec<f64> = waits.iter().filter(|one| one.is_beside).map(|one| one.wait_ms).collect();
    Ok(json!({
        "starved": starved.len(),
        "quiet_jobs": waits.len(),
        "quiet_jobs_beside_backlog": beside.len(),
        "quiet_wait_ms_p50": if beside.is_empty() { 0.0 } else { crate::measure::percentile(&mut beside, 0.5).round() },
        "quiet_wait_ms_max": waits.iter().map(|one| one.wait_ms).fold(0.0, f64::max).round(),
        "quiet_overtaken_max": waits.iter().map(|one| one.overtaken).max(),
    }))
}

async fn outage(sql: &mut PgConnection, violations: &mut Vec<String>) -> anyhow::Result<Value> {
    let attempts: i64 = sqlx::query_scalar("SELECT count(*) FROM attempts WHERE error LIKE '%is down as ordered%'")
        .fetch_one(&mut *sql)
        .await?;
    let openings: i64 =
        sqlx::query_scalar("SELECT count(*) FROM connection_events WHERE service = $1 AND what = 'open'")
            .bind(CRM)
            .fetch_one(&mut *sql)
            .await?;
    let others: i64 =
        sqlx::query_scalar("SELECT count(*) FROM connection_events WHERE service <> $1 AND what = 'open'")
            .bind(CRM)
            .fetch_one(sql)
            .await?;
    if attempts > OUTAGE_ATTEMPTS_MAX {
        violations.push(format!("the outage cost {attempts} attempts, and {OUTAGE_ATTEMPTS_MAX} are enough"));
    }
    if attempts >= OPENS_AT && openings == 0 {
        violations.push(format!("{attempts} attempts met the outage and the circuit never opened"));
    }
    if others > 0 {
        violations.push(format!("circuits of services that were never down opened {others} times"));
    }
    Ok(json!({"outage_attempts": attempts, "circuit_openings": openings}))
}

/// As the vendor counts them. A job's call is known once the job or a later one has reported; those that a crash kept from
/// reporting are what the share kept for health is for.
async fn calls(sql: &mut PgConnection, violations: &mut Vec<String>) -> anyhow::Result<Value> {
    let periods: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT floor(extract(epoch FROM called_at) / $1)::bigint, count(*) FROM calls GROUP BY 1, connection_id",
    )
    .bind(PERIOD_SECS)
    .fetch_all(sql)
    .await?;
    let (ours, most) = (QUOTA * SHARE_PCT / 100, periods.iter().map(|(_, calls)| *calls).max().unwrap_or(0));
    for (period, calls) in periods.iter().filter(|(_, calls)| calls.unsigned_abs() > ours) {
        violations.push(format!("{calls} calls in period {period}, and {ours} of the vendor's {QUOTA} are ours"));
    }
    Ok(json!({"quota_periods": periods.len(), "quota_calls_max": most, "quota_calls_ours": ours}))
}
