//! `errors`: errors by group.

use crate::{output, refusal::Refusal};
use clap::Subcommand;
use manager_api::{ErrorGroup, ErrorQuery, ManagerClient};

/// What to do with groups of errors.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists them, those seen last first.
    List {
        /// Of this kind of work.
        #[arg(long)]
        kind: Option<String>,
        /// Of this class.
        #[arg(long)]
        class: Option<String>,
        /// With this in the title, whatever the case.
        #[arg(long)]
        text: Option<String>,
        /// Behind this one: what the page before ended with.
        #[arg(long)]
        before: Option<String>,
        /// Rows, 30 at the most.
        #[arg(long)]
        limit: Option<i64>,
    },
    /// Shows one with its latest text. `operations start retry error:<fingerprint>` retries its jobs.
    Show {
        /// The group.
        fingerprint: String,
    },
}

pub(crate) async fn run(client: &ManagerClient, verb: &Verb, json: bool) -> anyhow::Result<()> {
    match verb {
        Verb::List { kind, class, text, before, limit } => {
            let (kind, class, before) = (kind.clone(), class.clone(), before.clone());
            let query = ErrorQuery { kind, class, text: text.clone(), before, limit: *limit };
            let page = client.errors(&query).await.map_err(Refusal::from)?;
            let head = ["FINGERPRINT", "KIND", "CLASS", "ATTEMPTS", "FAILED", "LAST SEEN", "SPIKE", "TITLE"];
            output::table(json, &page, &head, page.errors.iter().map(row_of).collect())?;
            output::more(json, page.next_before.as_ref(), "--before");
            Ok(())
        }
        Verb::Show { fingerprint } => {
            let group = client.error(fingerprint).await.map_err(Refusal::from)?;
            if json {
                return output::print(&serde_json::to_string_pretty(&group)?);
            }
            output::print(&text(&group))
        }
    }
}

fn text(row: &ErrorGroup) -> String {
    let by = |version: &Option<String>| version.as_ref().map(|v| format!(" by build {v}")).unwrap_or_default();
    format!(
        "{} ({}, {})\nfingerprint {}\nattempts    {}\nfailed      {}, not retried\nfirst       {}{}\nlast        {}{}, job {}\n\n{}",
        row.title,
        row.kind,
        row.class,
        row.fingerprint,
        row.attempts,
        row.failed,
        output::time(Some(row.first_seen_at)),
        by(&row.first_version),
        output::time(Some(row.last_seen_at)),
        by(&row.last_version),
        row.job_id,
        row.error
    )
}

fn row_of(row: &ErrorGroup) -> Vec<String> {
    vec![
        row.fingerprint.clone(),
        row.kind.clone(),
        row.class.clone(),
        row.attempts.to_string(),
        row.failed.to_string(),
        output::time(Some(row.last_seen_at)),
        if row.is_spike { "yes" } else { "-" }.to_owned(),
        row.title.clone(),
    ]
}
