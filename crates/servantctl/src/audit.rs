//! `audit`: what anybody did, was denied or failed at; its export, and the proof that nobody edited it. Listing goes
//! through the manager; export and proof read the ledger itself. Also how somebody says why they do something, where
//! they need not.

use crate::{output, paged::Paged, refusal::Refusal};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use manager_api::{AuditEntry, AuditQuery, ByWhom, ManagerClient};
use std::io::{BufWriter, Write as _};
use store::{AuditHead, AuditRow, Store};

/// Rows asked for at a time.
const PAGE: i64 = 200;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists the audit, the latest first.
    List(List),
    /// Prints the sealed rows as JSON, one a line, the oldest first.
    Export {
        /// From then on, as 2030-01-02T03:04:05Z.
        #[arg(long)]
        since: Option<DateTime<Utc>>,
        /// Until before then.
        #[arg(long)]
        until: Option<DateTime<Utc>>,
    },
    /// Computes every row's hash and the chain of all again. Fails when one row is not what it was.
    Verify {
        /// A head of the chain that was told before, as the scheduler's log has it: 12:ab34…; also shows what was cut off.
        #[arg(long)]
        head: Option<AuditHead>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// By that name.
    #[arg(long)]
    actor: Option<String>,
    /// Of that action, as `retry_job`.
    #[arg(long)]
    action: Option<String>,
    /// With that sort of thing: job, pause, servant, schedule, limit, budget, account, connection, …
    #[arg(long)]
    subject: Option<String>,
    /// With which one: an id; of a pause or a limit, as "kind noop".
    #[arg(long, requires = "subject")]
    key: Option<String>,
    /// While that account was looked at as its customer does.
    #[arg(long)]
    account: Option<i64>,
    /// From then on, as 2030-01-02T03:04:05Z.
    #[arg(long)]
    since: Option<DateTime<Utc>>,
    #[command(flatten)]
    page: Paged,
}

/// Who does something, and why if that is worth a word.
#[derive(Debug, Clone, Args)]
pub(crate) struct Whom {
    /// Why; everybody who wonders reads it.
    #[arg(long, default_value = "")]
    reason: String,
    /// Who, where nobody signs on.
    #[arg(long)]
    by: Option<String>,
}

impl Whom {
    pub(crate) fn said(&self) -> ByWhom {
        ByWhom { by: self.by.clone(), reason: Some(self.reason.clone()).filter(|reason| !reason.is_empty()) }
    }
}

/// Lists by way of the manager.
pub(crate) async fn list(client: &ManagerClient, list: &List, json: bool) -> anyhow::Result<()> {
    let query = AuditQuery {
        actor: list.actor.clone(),
        action: list.action.clone(),
        subject: list.subject.clone(),
        key: list.key.clone(),
        account: list.account.map(|id| id.to_string()),
        since: list.since.map(|at| at.to_rfc3339()),
        before: list.page.before,
        limit: list.page.limit,
    };
    let page = client.audit(&query).await.map_err(Refusal::from)?;
    let row = |entry: &AuditEntry| {
        let (at, outcome) = (output::time(Some(entry.at)), entry.outcome.clone());
        let changed = words(&entry.changes().join("; "));
        let (deed, thing, reason) = (entry.deed(), entry.thing(), words(&entry.reason));
        vec![entry.seq.to_string(), at, entry.actor.clone(), deed, thing, changed, outcome, reason]
    };
    let rows = page.entries.iter().map(row).collect();
    output::table(json, &page, &["SEQ", "AT", "ACTOR", "DONE", "WITH", "CHANGED", "OUTCOME", "REASON"], rows)?;
    output::more(json, page.next_before, "--before");
    Ok(())
}

/// Exports or verifies.
pub(crate) async fn run(store: &Store, verb: &Verb, json: bool) -> anyhow::Result<()> {
    match verb {
        Verb::Export { since, until } => export(store, *since, *until).await,
        Verb::Verify { head } => verify(store, head.as_ref(), json).await,
        Verb::List(_) => Ok(()),
    }
}

async fn export(store: &Store, since: Option<DateTime<Utc>>, until: Option<DateTime<Utc>>) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout());
    let mut next = Some(0);
    while let Some(after) = next {
        let page = store.export_audit(after, (since, until), PAGE).await.map_err(Refusal::from)?;
        next = page.next_after;
        for row in &page.rows {
            match writeln!(out, "{}", line_of(row)) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            }
        }
    }
    match out.flush() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A row as a line of JSON, with the names that the API gives its columns.
fn line_of(row: &AuditRow) -> serde_json::Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    serde_json::json!({
        "seq": row.seq, "at": row.at, "actor_kind": row.actor_kind, "actor_id": row.actor_id, "actor": row.actor,
        "role": row.role, "on_behalf_of": row.on_behalf_of, "action": row.action, "subject": row.subject,
        "key": row.key, "before": row.before, "after": row.after, "reason": row.reason, "request_id": row.request_id,
        "ip": row.ip, "agent": row.agent, "outcome": row.outcome, "row_hash": hex(&row.row_hash),
        "chain_hash": row.chain_hash.as_deref().map(hex),
    })
}

async fn verify(store: &Store, head: Option<&AuditHead>, json: bool) -> anyhow::Result<()> {
    let verdict = store.verify_audit(head).await.map_err(Refusal::from)?;
    if json {
        output::print(&serde_json::to_string_pretty(&verdict)?)?;
    }
    if let Some(bad) = &verdict.bad {
        anyhow::bail!("the audit was edited: row {}: {}", bad.seq, bad.what);
    }
    if !json {
        let head =
            verdict.head.as_ref().map_or_else(|| "nothing is sealed yet".to_owned(), |h| format!("the head is {h}"));
        let (sealed, awaiting) = (verdict.sealed, verdict.awaiting);
        output::print(&format!("{sealed} rows are as they were written; {awaiting} more await the seal; {head}"))?;
    }
    Ok(())
}

/// A reason, or a dash.
pub(crate) fn words(reason: &str) -> String {
    if reason.is_empty() { "-".to_owned() } else { reason.to_owned() }
}
