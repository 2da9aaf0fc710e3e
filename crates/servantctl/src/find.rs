//! `find`: what a bare text may stand for.

use crate::{output, refusal::Refusal};
use clap::Args;
use manager_api::{FindQuery, Found, ManagerClient};

/// What to look for.
#[derive(Debug, Args)]
pub(crate) struct Find {
    /// A job's id, a kind, an account's id or how a word of its name begins, a job's unique key, words of an error.
    text: String,
}

pub(crate) async fn run(client: &ManagerClient, find: &Find, json: bool) -> anyhow::Result<()> {
    let found = client.find(&FindQuery { text: find.text.clone() }).await.map_err(Refusal::from)?;
    let rows = rows_of(&found);
    output::table(json, &found, &["WHAT", "ID", "TELLS"], rows)?;
    if found.has_more_errors && !json {
        eprintln!("servantctl: there may be more errors: servantctl errors list --text TEXT");
    }
    Ok(())
}

fn rows_of(found: &Found) -> Vec<Vec<String>> {
    let row = |what: &str, id: String, tells: String| vec![what.to_owned(), id, tells];
    let mut rows = Vec::new();
    rows.extend(found.jobs.iter().map(|job| row("job", job.id.to_string(), format!("{} {}", job.kind, job.state))));
    rows.extend(found.kinds.iter().map(|kind| row("kind", kind.clone(), String::new())));
    rows.extend(found.accounts.iter().map(|account| row("account", account.id.to_string(), account.name.clone())));
    rows.extend(found.errors.iter().map(|error| row("error", error.fingerprint.clone(), error.title.clone())));
    rows
}
