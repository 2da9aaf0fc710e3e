//! One job in words: who it is, its life with the lag of every hop, what went wrong.

use crate::output::time;
use manager_api::JobDetail;
use std::fmt::Write as _;

/// The whole as text.
pub(crate) fn text(detail: &JobDetail) -> Result<String, std::fmt::Error> {
    let job = &detail.job;
    let mut text = format!("{} {}: {}", job.kind, job.id, job.state);
    if job.cancel_requested && !job.state.is_finished() {
        text.push_str(", told to stop");
    }
    let mut line = |key: &str, value: &str| write!(text, "\n{key:11} {value}");
    line("account", &job.account_id.to_string())?;
    line("attempt", &format!("{} of {}", job.attempt, job.attempts_max))?;
    line("priority", &job.priority.to_string())?;
    for (key, value) in [
        ("group", job.group_id.map(|id| id.to_string())),
        ("servant", job.servant_id.map(|id| id.to_string())),
        ("connection", detail.connection_id.map(|id| id.to_string())),
        ("schedule", detail.schedule_id.map(|id| id.to_string())),
        ("unique key", detail.unique_key.clone()),
        ("deadline", detail.deadline_at.map(|at| time(Some(at)))),
        ("trace", detail.traceparent.clone()),
        ("progress", job.progress.as_ref().map(ToString::to_string)),
        ("checkpoint", detail.checkpoint.as_ref().map(ToString::to_string)),
    ] {
        if let Some(value) = value {
            line(key, &value)?;
        }
    }
    line("request", &detail.request_id)?;
    line("payload", &detail.payload.to_string())?;
    text.push_str("\n\ntimeline");
    for step in &detail.timeline {
        let at = step.at.format("%Y-%m-%d %H:%M:%S%.3f UTC");
        let lag = step.lag_ms.map(|ms| format!("  +{ms} ms")).unwrap_or_default();
        write!(text, "\n  {:9} {at}{lag}", step.step)?;
    }
    for act in &detail.acts {
        let reason = if act.reason.is_empty() { String::new() } else { format!(": {}", act.reason) };
        write!(text, "\n\n{} by {}, {}{reason}", act.action, act.by, time(Some(act.at)))?;
    }
    for attempt in &detail.attempts {
        let servant = attempt.servant_id.map(|id| format!(" on servant {id}")).unwrap_or_default();
        write!(text, "\n\nattempt {}: {}, {}{servant}", attempt.attempt, attempt.class, time(Some(attempt.ended_at)))?;
        for cause in attempt.error.lines() {
            write!(text, "\n  {cause}")?;
        }
        if let Some(log) = &attempt.log {
            text.push_str("\n  it logged at the end:");
            for line in log.lines() {
                write!(text, "\n    {line}")?;
            }
        }
    }
    Ok(text)
}
