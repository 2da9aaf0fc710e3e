//! `pause`, `resume` and `pauses`.

use crate::{output, refusal::Refusal};
use clap::{Args, Subcommand};
use domain::PauseTarget;
use manager_api::{ByWhom, ManagerClient, PauseList, PauseQuery, PauseRequest};

/// Pauses asked for at a time.
const PAGE_ROWS: i64 = 200;

/// What to hold back.
#[derive(Debug, Subcommand)]
pub(crate) enum Target {
    /// Every job.
    Everything,
    /// The jobs of a kind.
    Kind {
        /// Its name.
        kind: String,
    },
    /// The jobs of an account.
    Account {
        /// Its id.
        id: i64,
    },
    /// The jobs that work on a connection.
    Connection {
        /// Its id.
        id: i64,
    },
    /// The members of a group.
    Group {
        /// Its id.
        id: i64,
    },
}

/// A pause to be.
#[derive(Debug, Args)]
pub(crate) struct Pause {
    #[command(subcommand)]
    target: Target,
    /// Why; everybody who wonders reads it.
    #[arg(long, global = true, default_value = "")]
    reason: String,
    /// Who, where nobody signs on.
    #[arg(long, global = true)]
    by: Option<String>,
}

/// A pause to end.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    #[command(subcommand)]
    target: Target,
    /// Why.
    #[arg(long, global = true, default_value = "")]
    reason: String,
    /// Who, where nobody signs on.
    #[arg(long, global = true)]
    by: Option<String>,
}

impl Target {
    fn checked(&self) -> Result<PauseTarget, Refusal> {
        let (scope, key) = match self {
            Self::Everything => ("everything", String::new()),
            Self::Kind { kind } => ("kind", kind.clone()),
            Self::Account { id } => ("account", id.to_string()),
            Self::Connection { id } => ("connection", id.to_string()),
            Self::Group { id } => ("group", id.to_string()),
        };
        PauseTarget::new(scope, &key).map_err(|sentence| Refusal::usage(sentence, None))
    }
}

pub(crate) async fn pause(client: &ManagerClient, pause: &Pause, json: bool) -> anyhow::Result<()> {
    let target = pause.target.checked()?;
    if pause.reason.is_empty() {
        return Err(Refusal::usage("a pause needs a reason", Some("say it with --reason \"…\"")).into());
    }
    let request = PauseRequest { reason: pause.reason.clone(), by: pause.by.clone() };
    client.pause(&target, &request).await.map_err(Refusal::from)?;
    output::done(json, &format!("{target} is paused; jobs that run go on, no other starts"))
}

pub(crate) async fn resume(client: &ManagerClient, resume: &Resume, json: bool) -> anyhow::Result<()> {
    let target = resume.target.checked()?;
    let reason = Some(resume.reason.clone()).filter(|reason| !reason.is_empty());
    let whom = ByWhom { by: resume.by.clone(), reason };
    client.resume(&target, &whom).await.map_err(Refusal::from)?;
    output::done(json, &format!("{target} is no longer paused"))
}

pub(crate) async fn list(client: &ManagerClient, json: bool) -> anyhow::Result<()> {
    let mut list = PauseList { pauses: Vec::new(), next_after: None };
    loop {
        let query = PauseQuery { after: list.next_after.take(), limit: Some(PAGE_ROWS) };
        let page = client.pauses(&query).await.map_err(Refusal::from)?;
        list.pauses.extend(page.pauses);
        list.next_after = page.next_after;
        if list.next_after.is_none() {
            break;
        }
    }
    let rows = list.pauses.iter().map(|pause| {
        let since = output::time(Some(pause.paused_at));
        vec![pause.scope.clone(), pause.key.clone(), since, pause.paused_by.clone(), pause.reason.clone()]
    });
    output::table(json, &list, &["SCOPE", "KEY", "SINCE", "BY", "REASON"], rows.collect())
}
