//! `quarantine`.

use crate::{audit::Whom, connections::Why, output, refusal::Refusal};
use clap::Subcommand;
use manager_api::{ManagerClient, QuarantineDetail, QuarantineQuery, QuarantinedRecord};

/// What to do with records in quarantine.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists them, newest first.
    List {
        /// open, dismissed or resolved.
        #[arg(long)]
        state: Option<String>,
        /// Of this account.
        #[arg(long)]
        account: Option<i64>,
        /// Of this connection.
        #[arg(long)]
        connection: Option<i64>,
        /// Of this object of the connection.
        #[arg(long)]
        object: Option<String>,
        /// Of this record of the object, by its id: all its versions.
        #[arg(long)]
        record: Option<String>,
        /// Numbers below this one.
        #[arg(long)]
        before: Option<i64>,
        /// Rows, 200 at the most.
        #[arg(long)]
        limit: Option<i64>,
    },
    /// Shows one, what is wrong with it and its bytes.
    Show {
        /// Its number.
        id: i64,
    },
    /// Lets it rest: it stays, and nobody is told of it again while the vendor shows it as it is.
    Dismiss {
        /// Its number.
        id: i64,
        #[command(flatten)]
        why: Why,
    },
    /// Has the vendor asked for it once more, by its id.
    Retry {
        /// Its number.
        id: i64,
        #[command(flatten)]
        whom: Whom,
    },
}

pub(crate) async fn run(client: &ManagerClient, verb: &Verb, json: bool) -> anyhow::Result<()> {
    match verb {
        Verb::List { state, account, connection, object, record, before, limit } => {
            let (state, object, record) = (state.clone(), object.clone(), record.clone());
            let (account, connection, before, limit) = (*account, *connection, *before, *limit);
            let query = QuarantineQuery { state, account, connection, object, record, before, limit };
            let page = client.quarantine(&query).await.map_err(Refusal::from)?;
            let head = [
                "NUMBER",
                "STATE",
                "CONNECTION",
                "OBJECT",
                "RECORD",
                "VERSIONS",
                "BYTES",
                "FIRST SEEN",
                "LAST SEEN",
                "REASON",
            ];
            output::table(json, &page, &head, page.records.iter().map(row_of).collect())?;
            output::more(json, page.next_before, "--before");
            Ok(())
        }
        Verb::Show { id } => {
            let detail = client.quarantined(*id).await.map_err(Refusal::from)?;
            output::print(&if json { serde_json::to_string_pretty(&detail)? } else { text(&detail) })
        }
        Verb::Dismiss { id, why } => {
            client.dismiss_quarantined(*id, &why.request()).await.map_err(Refusal::from)?;
            output::done(json, &format!("record {id} rests in quarantine"))
        }
        Verb::Retry { id, whom } => {
            let reply = client.retry_quarantined(*id, &whom.said()).await.map_err(Refusal::from)?;
            let job = reply.id.map_or_else(|| "a job".to_owned(), |job| format!("job {job}"));
            let already = if reply.duplicate { " already" } else { "" };
            output::done(json, &format!("{job} asks for record {id}{already}"))
        }
    }
}

fn text(detail: &QuarantineDetail) -> String {
    let row = &detail.record;
    let time = |at| output::time(Some(at));
    let mut text = format!("record {} in quarantine: {} ({})", row.id, row.reason, row.state);
    let mut line = |key: &str, value: &str| text.push_str(&format!("\n{key:11} {value}"));
    line("object", &row.object);
    let id = row.record_id.as_deref().unwrap_or("-");
    let unasked = if row.is_askable { "" } else { " (no id that the vendor can be asked for)" };
    let binned = if row.is_deleted == Some(true) { ", in the vendor's recycle bin" } else { "" };
    line("record", &format!("{id}{unasked}{binned}"));
    line("version", &format!("{}, number {} since it is in quarantine", output::time(row.version_at), row.versions));
    line("account", &row.account_id.to_string());
    line("connection", &row.connection_id.to_string());
    line("seen", &format!("from {} to {}", time(row.first_seen_at), time(row.last_seen_at)));
    let why = if row.state_reason.is_empty() { String::new() } else { format!(": {}", row.state_reason) };
    line("state", &format!("{} since {} by {}{why}", row.state, time(row.state_since), row.state_by));
    line("asked again", &output::time(row.retried_at));
    let cut = if detail.is_cut { ", the first of them" } else { "" };
    text.push_str(&format!("\n\n{} bytes as {}{cut}\n{}", row.bytes, detail.encoding, detail.body));
    text
}

fn row_of(row: &QuarantinedRecord) -> Vec<String> {
    vec![
        row.id.to_string(),
        row.state.clone(),
        row.connection_id.to_string(),
        row.object.clone(),
        row.record_id.clone().unwrap_or_else(|| "-".to_owned()),
        row.versions.to_string(),
        row.bytes.to_string(),
        output::time(Some(row.first_seen_at)),
        output::time(Some(row.last_seen_at)),
        row.reason.clone(),
    ]
}
