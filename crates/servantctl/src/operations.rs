//! `operations`: what is done to every job that a search finds.

use crate::{connections::Why, output, paged::Paged, refusal::Refusal};
use clap::{Args, Subcommand};
use manager_api::{CancelOperation, CreateOperation, ItemQuery, ManagerClient, Operation, PreviewOperationQuery};

/// What to do with bulk operations.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Says what an operation would be done to; changes nothing.
    Preview(Meant),
    /// Orders that every job found is retried or cancelled; it goes on in the background.
    Start {
        #[command(flatten)]
        meant: Meant,
        /// Jobs a second at the most.
        #[arg(long)]
        per_second: Option<u32>,
        #[command(flatten)]
        why: Why,
    },
    /// Lists them, newest first.
    List {
        #[command(flatten)]
        page: Paged,
    },
    /// Shows one and how far it is.
    Show {
        /// The operation.
        id: i64,
    },
    /// Lists what became of its jobs, newest first.
    Items {
        /// The operation.
        id: i64,
        #[command(flatten)]
        page: Paged,
    },
    /// Stops one; what it has done stays.
    Cancel {
        /// The operation.
        id: i64,
        /// Who, where nobody signs on.
        #[arg(long)]
        by: Option<String>,
    },
}

/// What is done, and to which jobs.
#[derive(Debug, Args)]
pub(crate) struct Meant {
    /// retry or cancel.
    act: String,
    /// The words of the search: state:failed kind:noop account:7 group:8 error:… age:<2h.
    #[arg(required = true, num_args = 1..)]
    words: Vec<String>,
}

pub(crate) async fn run(client: &ManagerClient, verb: &Verb, json: bool) -> anyhow::Result<()> {
    match verb {
        Verb::Preview(meant) => {
            let query = PreviewOperationQuery { act: meant.act.clone(), q: meant.words.join(" ") };
            let preview = client.preview_operation(&query).await.map_err(Refusal::from)?;
            let row = vec![preview.act.clone(), preview.how_many(|jobs| jobs.to_string()), preview.q.clone()];
            output::table(json, &preview, &["ACT", "JOBS", "SEARCH"], vec![row])
        }
        Verb::Start { meant, per_second, why } => {
            let why = why.request();
            let (act, q, per_second) = (meant.act.clone(), meant.words.join(" "), *per_second);
            let request = CreateOperation { act, q, per_second, by: why.by, reason: why.reason };
            show(json, &client.create_operation(&request).await.map_err(Refusal::from)?)
        }
        Verb::List { page } => {
            let page = (*page).into();
            let page = client.operations(&page).await.map_err(Refusal::from)?;
            output::table(json, &page, &HEAD, page.operations.iter().map(row_of).collect())?;
            output::more(json, page.next_before, "--before");
            Ok(())
        }
        Verb::Show { id } => show(json, &client.operation(*id).await.map_err(Refusal::from)?),
        Verb::Items { id, page } => {
            let query = ItemQuery { before: page.before, limit: page.limit };
            let page = client.operation_items(*id, &query).await.map_err(Refusal::from)?;
            let outcome = |applied| if applied { "done" } else { "not done" };
            let rows = page.items.iter().map(|item| vec![item.job_id.to_string(), outcome(item.applied).to_owned()]);
            output::table(json, &page, &["JOB", "OUTCOME"], rows.collect())?;
            output::more(json, page.next_before, "--before");
            Ok(())
        }
        Verb::Cancel { id, by } => {
            let request = CancelOperation { by: by.clone() };
            show(json, &client.cancel_operation(*id, &request).await.map_err(Refusal::from)?)
        }
    }
}

const HEAD: [&str; 9] = ["ID", "ACT", "STATE", "EXPECTED", "DONE", "NOT DONE", "BY", "ORDERED", "SEARCH"];

fn show(json: bool, operation: &Operation) -> anyhow::Result<()> {
    output::table(json, operation, &HEAD, vec![row_of(operation)])
}

fn row_of(row: &Operation) -> Vec<String> {
    let more = if row.expected_is_exact { "" } else { "+" };
    vec![
        row.id.to_string(),
        row.act.clone(),
        row.state.clone(),
        format!("{}{more}", row.expected),
        row.applied.to_string(),
        row.skipped.to_string(),
        row.created_by.clone(),
        output::time(Some(row.created_at)),
        row.q.clone(),
    ]
}
