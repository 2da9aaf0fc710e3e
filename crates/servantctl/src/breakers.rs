//! `breakers`.

use crate::{
    connections::{self, Why},
    output,
    refusal::Refusal,
};
use clap::{Args, Subcommand};
use manager_api::{Breaker, BreakerQuery, ManagerClient};

/// What to do with circuit breakers.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists them by their services' names.
    List {
        /// Only those that are not simply closed, and those that somebody holds.
        #[arg(long)]
        troubled: bool,
        /// Services whose names come after this one.
        #[arg(long)]
        after: Option<String>,
        /// Rows, 200 at the most.
        #[arg(long)]
        limit: Option<i64>,
    },
    /// Shows one and what happened to it.
    Show {
        /// The service.
        service: String,
    },
    /// Holds it open: no job of the service starts, whatever its outcomes say.
    Open(Act),
    /// Holds it closed: the service's jobs start, whatever its outcomes say.
    Close(Act),
    /// Lets its outcomes decide again; one that was held open recovers little by little.
    Clear(Act),
}

/// A service, and who overrides its breaker and why.
#[derive(Debug, Args)]
pub(crate) struct Act {
    /// The service.
    service: String,
    #[command(flatten)]
    why: Why,
}

pub(crate) async fn run(client: &ManagerClient, verb: &Verb, json: bool) -> anyhow::Result<()> {
    let (act, name, done) = match verb {
        Verb::List { troubled, after, limit } => {
            let query = BreakerQuery { troubled: troubled.then_some(true), after: after.clone(), limit: *limit };
            let page = client.breakers(&query).await.map_err(Refusal::from)?;
            let head = ["SERVICE", "STATE", "SINCE", "SUCCEEDED", "FAILED", "NEXT PROBE", "HELD", "BY", "REASON"];
            output::table(json, &page, &head, page.breakers.iter().map(row_of).collect())?;
            output::more(json, page.next_after, "--after");
            return Ok(());
        }
        Verb::Show { service } => {
            let detail = client.breaker(service).await.map_err(Refusal::from)?;
            let text = || format!("{service}: {}{}", words(&detail.breaker), connections::events(&detail.events));
            return output::print(&if json { serde_json::to_string_pretty(&detail)? } else { text() });
        }
        Verb::Open(act) => (act, "open", "is held open; jobs that run go on, no other starts"),
        Verb::Close(act) => (act, "close", "is held closed"),
        Verb::Clear(act) => (act, "clear", "is decided by its outcomes again"),
    };
    client.force_breaker(&act.service, name, &act.why.request()).await.map_err(Refusal::from)?;
    output::done(json, &format!("the circuit of {} {done}", act.service))
}

/// Where a breaker stands, in words.
pub(crate) fn words(breaker: &Breaker) -> String {
    let since = |at| output::time(Some(at));
    let mut words = format!("{} since {}", breaker.state.replace('_', "-"), since(breaker.since));
    if !breaker.reason.is_empty() {
        words.push_str(&format!(" ({})", breaker.reason));
    }
    if let Some(at) = breaker.next_probe_at {
        words.push_str(&format!(", next probe at {}", since(at)));
    }
    if let Some(room) = breaker.room {
        words.push_str(&format!(", {room} at a time"));
    }
    if let (Some(forced), Some(by), Some(at)) = (&breaker.forced, &breaker.forced_by, breaker.forced_at) {
        let reason = breaker.forced_reason.as_deref().unwrap_or_default();
        words.push_str(&format!("; held {forced} by {by} since {}: {reason}", since(at)));
    }
    words
}

fn row_of(row: &Breaker) -> Vec<String> {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        row.service.clone(),
        row.state.clone(),
        output::time(Some(row.since)),
        row.succeeded.to_string(),
        row.failed.to_string(),
        output::time(row.next_probe_at),
        or_dash(&row.forced),
        or_dash(&row.forced_by),
        row.forced_reason.clone().unwrap_or_else(|| row.reason.clone()),
    ]
}
