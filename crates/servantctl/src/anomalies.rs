//! `anomalies`.

use crate::{audit::Whom, connections::Why, output, paged::Paged, refusal::Refusal};
use clap::{Args, Subcommand};
use domain::AnomalyAct;
use manager_api::{Anomaly, AnomalyQuery, AssignRequest, ByWhom, ManagerClient};

/// What to do with anomalies.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists them, newest first.
    List {
        /// open, acknowledged, muted or resolved.
        #[arg(long)]
        state: Option<String>,
        /// At least so grave: info, warning or critical.
        #[arg(long)]
        severity: Option<String>,
        /// Of this account.
        #[arg(long)]
        account: Option<i64>,
        /// Of this connection.
        #[arg(long)]
        connection: Option<i64>,
        #[command(flatten)]
        page: Paged,
    },
    /// Shows one and what it was seen by.
    Show {
        /// The anomaly.
        id: i64,
    },
    /// Makes it somebody's to look after, or nobody's.
    Assign {
        /// The anomaly.
        id: i64,
        /// Who looks after it; nobody unless said.
        to: Option<String>,
        #[command(flatten)]
        whom: Whom,
    },
    /// Says that somebody is at it; it is open again once it is graver.
    Acknowledge(Act),
    /// Says that it is over; it is open again once it is seen again.
    Resolve(Act),
    /// Nobody wants to hear more of it, however often it is seen.
    Mute(Act),
}

/// An anomaly, and who looked at it and why.
#[derive(Debug, Args)]
pub(crate) struct Act {
    /// The anomaly.
    id: i64,
    #[command(flatten)]
    why: Why,
}

pub(crate) async fn run(client: &ManagerClient, verb: &Verb, json: bool) -> anyhow::Result<()> {
    let (act, name) = match verb {
        Verb::List { state, severity, account, connection, page } => {
            let (state, severity) = (state.clone(), severity.clone());
            let (account, connection) = (*account, *connection);
            let query = AnomalyQuery { state, severity, account, connection, before: page.before, limit: page.limit };
            let page = client.anomalies(&query).await.map_err(Refusal::from)?;
            let head = ["ID", "SEVERITY", "STATE", "KIND", "CONNECTION", "OBJECT", "SEEN", "LAST SEEN", "SUMMARY"];
            output::table(json, &page, &head, page.anomalies.iter().map(row_of).collect())?;
            output::more(json, page.next_before, "--before");
            return Ok(());
        }
        Verb::Show { id } => {
            let anomaly = client.anomaly(*id).await.map_err(Refusal::from)?;
            return if json {
                output::print(&serde_json::to_string_pretty(&anomaly)?)
            } else {
                output::print(&text(&anomaly)?)
            };
        }
        Verb::Assign { id, to, whom } => {
            let ByWhom { by, reason } = whom.said();
            let request = AssignRequest { to: to.clone(), by, reason };
            let anomaly = client.assign_anomaly(*id, &request).await.map_err(Refusal::from)?;
            let whose = anomaly.assigned_to.as_deref().unwrap_or("nobody");
            return output::done(json, &format!("anomaly {id} is {whose}'s to look after"));
        }
        Verb::Acknowledge(act) => (act, AnomalyAct::Acknowledge),
        Verb::Resolve(act) => (act, AnomalyAct::Resolve),
        Verb::Mute(act) => (act, AnomalyAct::Mute),
    };
    let anomaly = client.change_anomaly(act.id, name, &act.why.request()).await.map_err(Refusal::from)?;
    output::done(json, &format!("anomaly {} is {}", act.id, anomaly.state))
}

fn text(row: &Anomaly) -> anyhow::Result<String> {
    let time = |at| output::time(Some(at));
    let mut text = format!("anomaly {}: {} ({}, {})", row.id, row.summary, row.severity, row.state);
    let mut line = |key: &str, value: &str| text.push_str(&format!("\n{key:11} {value}"));
    line("kind", &row.kind);
    line("connection", &row.connection_id.to_string());
    line("account", &row.account_id.to_string());
    line("object", &or_dash(&row.object));
    line("subject", &or_dash(&row.subject));
    line("seen", &format!("{} times from {} to {}", row.sightings, time(row.first_seen_at), time(row.last_seen_at)));
    line("assigned to", row.assigned_to.as_deref().unwrap_or("nobody"));
    let why = if row.state_reason.is_empty() { String::new() } else { format!(": {}", row.state_reason) };
    line("state", &format!("{} since {} by {}{why}", row.state, time(row.state_since), row.state_by));
    text.push_str(&format!("\n\nevidence\n{}", serde_json::to_string_pretty(&row.evidence)?));
    Ok(text)
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn row_of(row: &Anomaly) -> Vec<String> {
    let of = [row.object.as_str(), row.subject.as_str()];
    let of: Vec<&str> = of.into_iter().filter(|part| !part.is_empty()).collect();
    vec![
        row.id.to_string(),
        row.severity.clone(),
        row.state.clone(),
        row.kind.clone(),
        row.connection_id.to_string(),
        or_dash(&of.join(".")),
        row.sightings.to_string(),
        output::time(Some(row.last_seen_at)),
        row.summary.clone(),
    ]
}
