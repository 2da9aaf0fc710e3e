//! `enqueue` and `jobs`.

use crate::{audit::Whom, connections::Why, output, refusal::Refusal, show};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use domain::JobState;
use manager_api::{ClientError, EnqueueRequest, JobPage, JobQuery, ManagerClient};
use serde::Serialize;
use std::future::Future;

/// A job to be.
#[derive(Debug, Args)]
pub(crate) struct Enqueue {
    /// The type of work.
    kind: String,
    /// What to do, as JSON.
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    payload: Option<serde_json::Value>,
    /// Whose job it is.
    #[arg(long)]
    account: Option<i64>,
    /// The connection it works on.
    #[arg(long)]
    connection: Option<i64>,
    /// 0 (urgent) to 4 (whenever).
    #[arg(long)]
    priority: Option<i16>,
    /// Not before this time (RFC 3339).
    #[arg(long)]
    run_at: Option<DateTime<Utc>>,
    /// Not after this time (RFC 3339).
    #[arg(long)]
    deadline: Option<DateTime<Utc>>,
    /// At most one unfinished job of the kind with this key.
    #[arg(long)]
    unique_key: Option<String>,
    /// The key stays taken for so many seconds.
    #[arg(long, requires = "unique_key")]
    unique_secs: Option<u32>,
}

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists jobs, newest first.
    List {
        /// Words of the search: state:failed kind:noop account:7 group:8 servant:9 error:… age:<2h.
        words: Vec<String>,
        /// States, comma-separated; pending = scheduled, ready, queued.
        #[arg(long)]
        state: Option<String>,
        /// A type of work.
        #[arg(long)]
        kind: Option<String>,
        /// An account.
        #[arg(long)]
        account: Option<String>,
        /// A group.
        #[arg(long)]
        group: Option<String>,
        /// Created at least so long ago: 90s, 15m, 6h, 2d.
        #[arg(long)]
        older_than: Option<String>,
        /// Created at most so long ago.
        #[arg(long)]
        newer_than: Option<String>,
        /// Ids below this one.
        #[arg(long)]
        before: Option<String>,
        /// Rows, 200 at the most.
        #[arg(long)]
        limit: Option<String>,
    },
    /// Shows everything known of a job.
    Show {
        /// The job.
        id: i64,
    },
    /// Says why a job does not run, and what would clear it.
    Why {
        /// The job.
        id: i64,
    },
    /// Starts failed or cancelled jobs anew.
    Retry {
        /// The jobs.
        #[arg(required = true)]
        ids: Vec<i64>,
        #[command(flatten)]
        whom: Whom,
    },
    /// Inserts a job like one that there is, with the same payload.
    Again {
        /// The job.
        id: i64,
    },
    /// Ends unfinished jobs.
    Cancel {
        /// The jobs.
        #[arg(required = true)]
        ids: Vec<i64>,
        #[command(flatten)]
        whom: Whom,
    },
    /// Lets jobs go at once that wait for a retry, or for the time for which they were asked.
    Run {
        /// The jobs.
        #[arg(required = true)]
        ids: Vec<i64>,
        #[command(flatten)]
        why: Why,
    },
}

pub(crate) fn parse_json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))
}

pub(crate) async fn enqueue(client: &ManagerClient, job: &Enqueue, json: bool) -> anyhow::Result<()> {
    let request = EnqueueRequest {
        kind: job.kind.clone(),
        payload: job.payload.clone(),
        account_id: job.account,
        connection_id: job.connection,
        priority: job.priority,
        attempts_max: None,
        run_at: job.run_at,
        deadline_at: job.deadline,
        unique_key: job.unique_key.clone(),
        unique_secs: job.unique_secs,
    };
    let reply = client.enqueue(&request).await.map_err(Refusal::from)?;
    let id = reply.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let outcome = if reply.duplicate { "duplicate" } else { "new" };
    output::table(json, &reply, &["JOB", "OUTCOME"], vec![vec![id, outcome.to_owned()]])?;
    note_nobody(client, &job.kind).await;
    Ok(())
}

/// A job of a kind that no servant does waits in silence, be it that none runs or that the kind is misspelled.
async fn note_nobody(client: &ManagerClient, kind: &str) {
    // Only a note: when the servants cannot be asked, the job is enqueued all the same.
    let Ok(list) = client.servants().await else { return };
    if !list.servants.iter().any(|servant| servant.kind == kind && servant.liveness == "alive") {
        eprintln!("servantctl: no servant of kind {kind} is alive: the job waits until one starts");
    }
}

/// A page of jobs.
pub(crate) fn table(page: &JobPage, json: bool) -> anyhow::Result<()> {
    let rows = page.jobs.iter().map(|j| {
        let attempts = format!("{}/{}", j.attempt, j.attempts_max);
        let created = output::time(Some(j.created_at));
        vec![j.id.to_string(), j.kind.clone(), j.state.to_string(), j.account_id.to_string(), attempts, created]
    });
    output::table(json, page, &["ID", "KIND", "STATE", "ACCOUNT", "ATTEMPT", "CREATED"], rows.collect())?;
    output::more(json, page.next_before, "--before");
    Ok(())
}

pub(crate) async fn run(client: &ManagerClient, verb: &Verb, json: bool) -> anyhow::Result<()> {
    match verb {
        Verb::List { words, state, kind, account, group, older_than, newer_than, before, limit } => {
            let query = JobQuery {
                q: Some(words.join(" ")).filter(|q| !q.is_empty()),
                state: state.clone(),
                kind: kind.clone(),
                account: account.clone(),
                group: group.clone(),
                older_than: older_than.clone(),
                newer_than: newer_than.clone(),
                before: before.clone(),
                limit: limit.clone(),
            };
            let page = client.jobs(&query).await.map_err(Refusal::from)?;
            table(&page, json)
        }
        Verb::Show { id } => {
            let detail = client.job(*id).await.map_err(Refusal::from)?;
            let text = if json { serde_json::to_string_pretty(&detail)? } else { show::text(&detail)? };
            output::print(&text)
        }
        Verb::Why { id } => {
            let why = client.why(*id).await.map_err(Refusal::from)?;
            if json {
                return output::print(&serde_json::to_string_pretty(&why)?);
            }
            let clears = why.cleared_by.map(|what| format!("\n  cleared by: {what}")).unwrap_or_default();
            output::print(&format!("job {id} is {}: {}{clears}", why.state, why.says))
        }
        Verb::Again { id } => {
            let reply = client.run_again(*id).await.map_err(Refusal::from)?;
            let new = reply.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
            output::table(json, &reply, &["JOB", "LIKE"], vec![vec![new, id.to_string()]])
        }
        Verb::Retry { ids, whom } => {
            let whom = &whom.said();
            each(ids, json, |id| async move { Ok(client.retry(id, whom).await?.state) }).await
        }
        Verb::Cancel { ids, whom } => {
            let whom = &whom.said();
            each(ids, json, |id| async move { Ok(client.cancel(id, whom).await?.state) }).await
        }
        Verb::Run { ids, why } => {
            let why = &why.request();
            each(ids, json, |id| async move { Ok(client.run_now(id, why).await?.state) }).await
        }
    }
}

/// Where a job stands after it was retried or cancelled.
#[derive(Debug, Serialize)]
struct Standing {
    id: i64,
    state: JobState,
}

/// Does it to every job: one that is refused is no reason to leave out the next.
async fn each<F>(ids: &[i64], json: bool, change: impl Fn(i64) -> F) -> anyhow::Result<()>
where
    F: Future<Output = Result<JobState, ClientError>>,
{
    let mut changed = Vec::new();
    let mut refused = Vec::new();
    for &id in ids {
        match change(id).await {
            Ok(state) => changed.push(Standing { id, state }),
            Err(error @ ClientError::Refused { .. }) => refused.push(Refusal::from(error)),
            // Nobody there, or nobody who understands: the next would fare no better.
            Err(error) => return Err(Refusal::from(error).into()),
        }
    }
    if json || !changed.is_empty() {
        let rows = changed.iter().map(|standing| vec![standing.id.to_string(), standing.state.to_string()]).collect();
        output::table(json, &changed, &["ID", "STATE"], rows)?;
    }
    let sentences: Vec<String> = refused.iter().map(ToString::to_string).collect();
    anyhow::ensure!(refused.is_empty(), sentences.join("\nservantctl: "));
    Ok(())
}
