//! `connections`.

use crate::{audit::Whom, breakers, output, refusal::Refusal};
use clap::{Args, Subcommand};
use manager_api::{
    AuthoriseRequest, ByWhom, Connection, ConnectionDetail, ConnectionEvent, ConnectionQuery, CreateConnection,
    ManagerClient, ObjectsRequest, OverrideRequest,
};

/// What to do with connections.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists them, newest first.
    List {
        /// active, needs_reauth, parked or disabled.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        page: crate::paged::Paged,
    },
    /// Shows one, its service's circuit breaker and what happened to it.
    Show {
        /// The connection.
        id: i64,
    },
    /// Prints the address at which a browser authorises one: a new one of an account, or one again.
    Authorise {
        /// Whose it is.
        #[arg(long)]
        account: i64,
        /// One that exists.
        #[arg(long)]
        connection: Option<i64>,
        /// At which vendor.
        #[arg(long, default_value = "salesforce")]
        vendor: String,
    },
    /// Enters one that signs on in a user's name by the application's private key (JWT bearer), without a browser.
    Create {
        /// Whose it is.
        #[arg(long)]
        account: i64,
        /// In whose name it signs on.
        #[arg(long)]
        username: String,
        /// At which vendor.
        #[arg(long, default_value = "salesforce")]
        vendor: String,
        /// An object to be followed, as often as there are some; the usual ones unless said.
        #[arg(long = "object")]
        objects: Vec<String>,
        #[command(flatten)]
        whom: Whom,
    },
    /// Syncs it now, before other work.
    Sync {
        /// The connection.
        id: i64,
    },
    /// Chooses the objects that are followed, from the next sync on.
    Objects {
        /// The connection.
        id: i64,
        /// Their names, as in Account or Invoice__c; none: the usual ones.
        objects: Vec<String>,
        #[command(flatten)]
        why: Why,
    },
    /// The customer has authorised it again, or what it was parked for is over: its jobs start again.
    Reauthorised(Act),
    /// Its jobs wait; those that run go on.
    Park(Act),
    /// It is out of use; its jobs wait.
    Disable(Act),
    /// It is in use again.
    Enable(Act),
}

/// A connection, and who changes it and why.
#[derive(Debug, Args)]
pub(crate) struct Act {
    /// The connection.
    id: i64,
    #[command(flatten)]
    why: Why,
}

/// Who overrides and why.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Why; everybody who wonders reads it.
    #[arg(long)]
    reason: String,
    /// Who, where nobody signs on.
    #[arg(long)]
    by: Option<String>,
}

impl Why {
    pub(crate) fn request(&self) -> OverrideRequest {
        OverrideRequest { reason: self.reason.clone(), by: self.by.clone() }
    }
}

pub(crate) async fn run(client: &ManagerClient, verb: &Verb, json: bool) -> anyhow::Result<()> {
    let (act, name) = match verb {
        Verb::List { state, page } => {
            let query = ConnectionQuery { state: state.clone(), before: page.before, limit: page.limit };
            let page = client.connections(&query).await.map_err(Refusal::from)?;
            let head = ["ID", "ACCOUNT", "VENDOR", "SERVICE", "STATE", "SINCE", "REASON"];
            output::table(json, &page, &head, page.connections.iter().map(row_of).collect())?;
            output::more(json, page.next_before, "--before");
            return Ok(());
        }
        Verb::Show { id } => {
            let detail = client.connection(*id).await.map_err(Refusal::from)?;
            return if json {
                output::print(&serde_json::to_string_pretty(&detail)?)
            } else {
                output::print(&text(&detail))
            };
        }
        Verb::Authorise { account, connection, vendor } => {
            let request = AuthoriseRequest { account_id: *account, vendor: vendor.clone(), connection_id: *connection };
            let reply = client.authorise_connection(&request).await.map_err(Refusal::from)?;
            return output::print(&if json { serde_json::to_string_pretty(&reply)? } else { reply.url });
        }
        Verb::Create { account, username, vendor, objects, whom } => {
            let ByWhom { by, reason } = whom.said();
            let (account_id, username, vendor) = (*account, username.clone(), vendor.clone());
            let request = CreateConnection { account_id, vendor, username, objects: objects.clone(), by, reason };
            let detail = client.create_connection(&request).await.map_err(Refusal::from)?;
            return output::done(json, &format!("connection {} is {}", detail.connection.id, detail.connection.state));
        }
        Verb::Sync { id } => {
            let reply = client.sync_connection(*id).await.map_err(Refusal::from)?;
            let job = reply.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
            let outcome = if reply.duplicate { "on its way already" } else { "new" };
            return output::table(json, &reply, &["JOB", "OUTCOME"], vec![vec![job, outcome.to_owned()]]);
        }
        Verb::Objects { id, objects, why } => {
            let OverrideRequest { reason, by } = why.request();
            let request = ObjectsRequest { objects: objects.clone(), reason, by };
            let detail = client.choose_objects(*id, &request).await.map_err(Refusal::from)?;
            let chosen = detail.connection.objects;
            let chosen = if chosen.is_empty() { "the usual objects".to_owned() } else { chosen.join(", ") };
            return output::done(json, &format!("connection {id} follows {chosen}"));
        }
        Verb::Reauthorised(act) => (act, "reauthorised"),
        Verb::Park(act) => (act, "park"),
        Verb::Disable(act) => (act, "disable"),
        Verb::Enable(act) => (act, "enable"),
    };
    let detail = client.change_connection(act.id, name, &act.why.request()).await.map_err(Refusal::from)?;
    output::done(json, &format!("connection {} is {}", act.id, detail.connection.state))
}

fn text(detail: &ConnectionDetail) -> String {
    let row = &detail.connection;
    let since = output::time(Some(row.state_since));
    let mut text = format!("connection {} to {}: {} since {since}", row.id, row.vendor, row.state);
    let mut line = |key: &str, value: &str| text.push_str(&format!("\n{key:11} {value}"));
    if let Some(reason) = &row.state_reason {
        line("reason", &reason.replace('\n', ": "));
    }
    line("account", &row.account_id.to_string());
    line("service", &row.service);
    if let Some(breaker) = &detail.breaker {
        line("breaker", &breakers::words(breaker));
    }
    line("settings", &detail.settings.to_string());
    text.push_str(&events(&detail.events));
    text
}

/// What happened, the latest first.
pub(crate) fn events(events: &[ConnectionEvent]) -> String {
    let line = |event: &ConnectionEvent| {
        let reason = event.reason.replace('\n', ": ");
        format!("\n  {} {} by {}: {reason}", output::time(Some(event.at)), event.what, event.by)
    };
    let lines: String = events.iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("\n\nevents{lines}") }
}

fn row_of(row: &Connection) -> Vec<String> {
    let reason = row.state_reason.as_deref().unwrap_or("-").lines().next().unwrap_or_default();
    vec![
        row.id.to_string(),
        row.account_id.to_string(),
        row.vendor.clone(),
        row.service.clone(),
        row.state.clone(),
        output::time(Some(row.state_since)),
        reason.to_owned(),
    ]
}
