//! `acts`, and who does something by hand where a reason need not be given.

use crate::{output, refusal::Refusal};
use clap::Args;
use manager_api::{Act, ActQuery, ByWhom, ManagerClient};

/// What operators did, the latest first.
#[derive(Debug, Args)]
pub(crate) struct Acts {
    /// With what: job, pause, servant, schedule, limit, budget or account.
    #[arg(long, requires = "key")]
    subject: Option<String>,
    /// With which one: an id; of a pause or a limit, as "kind noop".
    #[arg(long, requires = "subject")]
    key: Option<String>,
    /// Ids below this one.
    #[arg(long)]
    before: Option<i64>,
    /// Rows, 200 at the most.
    #[arg(long)]
    limit: Option<i64>,
}

/// Who does something, and why if that is worth a word.
#[derive(Debug, Clone, Args)]
pub(crate) struct Whom {
    /// Why; everybody who wonders reads it.
    #[arg(long, default_value = "")]
    reason: String,
    /// Who does it.
    #[arg(long, env = "USER", default_value = "unknown")]
    by: String,
}

impl Whom {
    pub(crate) fn said(&self) -> ByWhom {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        ByWhom { by: given(&self.by), reason: given(&self.reason) }
    }
}

pub(crate) async fn run(client: &ManagerClient, acts: &Acts, json: bool) -> anyhow::Result<()> {
    let Acts { subject, key, before, limit } = acts;
    let query = ActQuery { subject: subject.clone(), key: key.clone(), before: *before, limit: *limit };
    let page = client.acts(&query).await.map_err(Refusal::from)?;
    let row = |act: &Act| {
        let at = output::time(Some(act.at));
        vec![at, act.subject.clone(), act.key.clone(), act.what.clone(), act.by.clone(), words(&act.reason)]
    };
    let rows = page.acts.iter().map(row).collect();
    output::table(json, &page, &["AT", "SUBJECT", "KEY", "WHAT", "BY", "REASON"], rows)?;
    if let Some(next) = page.next_before.filter(|_| !json) {
        eprintln!("servantctl: there may be more: --before {next}");
    }
    Ok(())
}

/// A reason, or a dash.
pub(crate) fn words(reason: &str) -> String {
    if reason.is_empty() { "-".to_owned() } else { reason.to_owned() }
}
