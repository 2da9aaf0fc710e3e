//! Rows of the ledger as words and numbers of a page. Pure.

use crate::sight;
use chrono::{DateTime, SecondsFormat, Utc};
use domain::{JobState, PauseTarget};
use manager_api::{Attempt, CurrentJob, Failure, Job, JobCount, JobQuery, Servant, TimelineStep};
use serde_json::Value;
use std::collections::BTreeMap;
use store::PauseRow;

/// Current jobs shown of one servant.
const CURRENT_SHOWN_MAX: usize = 3;

/// A moment, as text and exactly.
pub(crate) struct When {
    pub(crate) ago: String,
    pub(crate) exact: String,
}

pub(crate) fn when(at: DateTime<Utc>, now: DateTime<Utc>) -> When {
    let secs = (now - at).num_seconds();
    let ago = if secs < 0 { format!("in {}", span(-secs)) } else { format!("{} ago", span(secs)) };
    When { ago, exact: exact(at) }
}

fn exact(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A moment as people read it; the machine's form is [`exact`].
pub(crate) fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

pub(crate) fn span(secs: i64) -> String {
    match secs {
        0..60 => format!("{secs} s"),
        60..3_600 => format!("{} min", secs / 60),
        3_600..86_400 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    }
}

/// A stretch of time; exact where it is short.
pub(crate) fn lag(ms: i64) -> String {
    match ms {
        ..10_000 => format!("{ms} ms"),
        _ => span(ms / 1_000),
    }
}

/// A number as people read it: 1,234,567.
pub(crate) fn grouped(number: impl Into<i128>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Progress as a bar.
pub(crate) struct BarView {
    pub(crate) done: u64,
    pub(crate) total: Option<u64>,
    /// The two as text.
    pub(crate) count: String,
    pub(crate) message: String,
}

impl BarView {
    pub(crate) fn of(progress: Option<&Value>) -> Option<Self> {
        let progress = progress?.as_object()?;
        let number = |key: &str| progress.get(key).and_then(Value::as_u64);
        let done = number("done").unwrap_or(0);
        let total = number("total").filter(|total| *total > 0);
        let of_total = total.map(|total| format!(" / {}", grouped(total))).unwrap_or_default();
        Some(Self {
            done,
            total,
            count: format!("{}{of_total}", grouped(done)),
            message: progress.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
        })
    }
}

/// A job in a table.
pub(crate) struct JobView {
    pub(crate) id: i64,
    pub(crate) kind: String,
    pub(crate) state: &'static str,
    pub(crate) account_id: i64,
    pub(crate) attempts: String,
    pub(crate) created: When,
    pub(crate) due: When,
    pub(crate) is_cancelling: bool,
    pub(crate) bar: Option<BarView>,
}

impl JobView {
    pub(crate) fn new(job: &Job, now: DateTime<Utc>) -> Self {
        Self {
            id: job.id,
            kind: job.kind.clone(),
            state: job.state.as_str(),
            account_id: job.account_id,
            attempts: format!("{}/{}", job.attempt, job.attempts_max),
            created: when(job.created_at, now),
            due: when(job.due_at, now),
            is_cancelling: job.cancel_requested && !job.state.is_finished(),
            bar: BarView::of(job.progress.as_ref()),
        }
    }
}

/// A current job of a servant.
pub(crate) struct CurrentView {
    pub(crate) id: i64,
    pub(crate) bar: Option<BarView>,
}

/// A servant in a table.
pub(crate) struct ServantView {
    pub(crate) servant: Servant,
    pub(crate) silent: String,
    pub(crate) rss: String,
    /// Of one core.
    pub(crate) cpu: String,
    pub(crate) uptime: String,
    pub(crate) current: Vec<CurrentView>,
    /// Current jobs that are not shown.
    pub(crate) more: usize,
}

impl ServantView {
    pub(crate) fn new(servant: Servant) -> Self {
        Self {
            silent: span(servant.silent_secs),
            rss: servant.rss_bytes.map_or_else(|| "–".to_owned(), |bytes| format!("{} MB", bytes / 1_000_000)),
            cpu: servant.cpu_pct.map_or_else(|| "–".to_owned(), |pct| format!("{pct} %")),
            more: servant.jobs.len().saturating_sub(CURRENT_SHOWN_MAX),
            uptime: span((servant.seen_at - servant.started_at).num_seconds().max(0)),
            current: current_views(&servant.jobs, CURRENT_SHOWN_MAX),
            servant,
        }
    }
}

/// The first `max` of a servant's current jobs.
pub(crate) fn current_views(jobs: &[CurrentJob], max: usize) -> Vec<CurrentView> {
    jobs.iter().take(max).map(|job| CurrentView { id: job.id, bar: BarView::of(job.progress.as_ref()) }).collect()
}

/// A failure in a table.
pub(crate) struct FailureView {
    pub(crate) id: i64,
    pub(crate) kind: String,
    pub(crate) account_id: i64,
    pub(crate) class: String,
    pub(crate) error: String,
    pub(crate) at: When,
}

impl FailureView {
    pub(crate) fn new(row: Failure, now: DateTime<Utc>) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            account_id: row.account_id,
            class: row.class.unwrap_or_default(),
            error: row.error.as_deref().and_then(|text| text.lines().next()).unwrap_or_default().to_owned(),
            at: when(row.finished_at, now),
        }
    }
}

/// A stamp of a job's life.
pub(crate) struct StepView {
    pub(crate) step: String,
    pub(crate) at: String,
    pub(crate) exact: String,
    pub(crate) lag: String,
}

impl StepView {
    pub(crate) fn new(step: &TimelineStep) -> Self {
        let lag = step.lag_ms.map(|ms| format!("+{}", lag(ms))).unwrap_or_default();
        Self { step: step.step.clone(), at: moment(step.at), exact: exact(step.at), lag }
    }
}

/// An attempt that did not simply succeed.
pub(crate) struct AttemptView {
    pub(crate) number: i16,
    pub(crate) class: String,
    pub(crate) ended: String,
    /// How long it ran.
    pub(crate) ran: String,
    pub(crate) servant_id: Option<i64>,
    /// The errors that are the same.
    pub(crate) group_url: Option<String>,
    pub(crate) error: String,
    /// The end of what it logged.
    pub(crate) log: Option<String>,
}

impl AttemptView {
    pub(crate) fn new(attempt: &Attempt) -> Self {
        let ran = attempt.claimed_at.map(|at| (attempt.ended_at - at).num_milliseconds().max(0));
        Self {
            number: attempt.attempt,
            class: attempt.class.clone(),
            ended: moment(attempt.ended_at),
            ran: ran.map(|ms| format!(" after {}", lag(ms))).unwrap_or_default(),
            servant_id: attempt.servant_id,
            group_url: sight::has_page("/errors").then(|| format!("/errors/{}", attempt.fingerprint)),
            error: attempt.error.clone(),
            log: attempt.log.clone(),
        }
    }
}

/// A pause in the banner.
pub(crate) struct PauseView {
    pub(crate) target: String,
    pub(crate) paused_by: String,
    pub(crate) reason: String,
    pub(crate) since: When,
}

impl PauseView {
    pub(crate) fn new(row: &PauseRow, now: DateTime<Utc>) -> Self {
        Self {
            target: row.target.to_string(),
            paused_by: row.paused_by.clone(),
            reason: row.reason.clone(),
            since: when(row.paused_at, now),
        }
    }
}

/// One kind's counts, in the order of a job's life: the state, how many, and that as text.
pub(crate) struct CountRow {
    pub(crate) kind: String,
    /// The kind itself is paused; an account, a connection or a group that is says nothing of it.
    pub(crate) is_paused: bool,
    pub(crate) cells: Vec<(&'static str, i64, String)>,
}

pub(crate) fn count_rows(counts: &[JobCount], pauses: &[PauseRow]) -> Vec<CountRow> {
    let mut kinds: BTreeMap<&str, BTreeMap<JobState, i64>> = BTreeMap::new();
    for count in counts {
        kinds.entry(&count.kind).or_default().insert(count.state, count.jobs);
    }
    let cells = |by_state: &BTreeMap<JobState, i64>| {
        let cell = |state: JobState| {
            let jobs = by_state.get(&state).copied().unwrap_or(0);
            (state.as_str(), jobs, grouped(jobs))
        };
        JobState::ALL.map(cell).to_vec()
    };
    let is_paused = |kind: &str| {
        pauses.iter().any(|pause| match &pause.target {
            PauseTarget::Everything => true,
            PauseTarget::Kind(paused) => paused.as_str() == kind,
            _ => false,
        })
    };
    let row = |(kind, by_state): (&&str, &BTreeMap<JobState, i64>)| CountRow {
        kind: (*kind).to_owned(),
        is_paused: is_paused(kind),
        cells: cells(by_state),
    };
    kinds.iter().map(row).collect()
}

/// A filter to choose.
pub(crate) struct Link {
    pub(crate) text: String,
    pub(crate) url: String,
    pub(crate) is_current: bool,
}

/// The address of a list of jobs.
pub(crate) fn jobs_url(query: &JobQuery) -> String {
    let entries = [
        ("q", &query.q),
        ("state", &query.state),
        ("kind", &query.kind),
        ("account", &query.account),
        ("group", &query.group),
        ("older_than", &query.older_than),
        ("newer_than", &query.newer_than),
        ("before", &query.before),
        ("limit", &query.limit),
    ];
    url_of("/jobs", &entries.map(|(key, value)| (key, value.clone())))
}

/// An address with those entries that are given.
pub(crate) fn url_of(path: &str, entries: &[(&str, Option<String>)]) -> String {
    let parts: Vec<String> = entries
        .iter()
        .filter_map(|(key, value)| Some((key, value.as_deref().filter(|value| !value.is_empty())?)))
        .map(|(key, value)| format!("{key}={}", encode(value)))
        .collect();
    if parts.is_empty() { path.to_owned() } else { format!("{path}?{}", parts.join("&")) }
}

/// A text as a part of an address.
pub(crate) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b',');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_the_filter() {
        let query = JobQuery { state: Some("pending".into()), kind: Some("a&b".into()), ..JobQuery::default() };
        assert_eq!(jobs_url(&query), "/jobs?state=pending&kind=a%26b");
        assert_eq!(jobs_url(&JobQuery::default()), "/jobs");
    }

    #[test]
    fn bars_need_an_object() {
        assert!(BarView::of(Some(&Value::Null)).is_none());
        let bar = BarView::of(Some(&serde_json::json!({"done": 3, "total": 0}))).unwrap();
        assert_eq!((bar.done, bar.total), (3, None));
    }

    #[test]
    fn numbers_are_grouped() {
        let texts = [(0, "0"), (999, "999"), (1_000, "1,000"), (-123_456, "-123,456"), (10_000_000, "10,000,000")];
        for (number, text) in texts {
            assert_eq!(grouped(number), text);
        }
    }
}
