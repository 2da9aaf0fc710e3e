//! `accounts`.

use crate::{audit::words, connections::Why, output, paged::Paged, refusal::Refusal};
use clap::Subcommand;
use manager_api::{Account, AuditEntry, ChangeQuery, ManagerClient, StreamQuery, WeightRequest};

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists them, newest first.
    List {
        #[command(flatten)]
        page: Paged,
    },
    /// Shows one, its connections and what is open.
    Show {
        /// The account.
        id: i64,
    },
    /// Lists how far its objects are followed, by connection and object.
    Streams {
        /// The account.
        id: i64,
        /// Behind this one, as 7/Contact.
        #[arg(long)]
        after: Option<String>,
        /// Rows, 200 at the most.
        #[arg(long)]
        limit: Option<i64>,
    },
    /// Lists what people changed of what decides how its jobs go: its share, pauses, limits, quotas, schedules.
    Changes {
        /// The account.
        id: i64,
        /// Of each thing, 20 at the most.
        #[arg(long)]
        limit: Option<i64>,
    },
    /// Sets an account's share of what is dispatched, beside others that wait for the same kind of work.
    Weight {
        /// The account.
        id: i64,
        /// 1 to 100: weight 3 is served three times as often as weight 1.
        weight: i16,
        #[command(flatten)]
        why: Why,
    },
}

pub(crate) async fn run(client: &ManagerClient, verb: &Verb, json: bool) -> anyhow::Result<()> {
    match verb {
        Verb::List { page } => {
            let page = client.accounts(&(*page).into()).await.map_err(Refusal::from)?;
            let row = |account: &Account| {
                let created = output::time(Some(account.created_at));
                vec![account.id.to_string(), account.name.clone(), account.weight.to_string(), created]
            };
            let rows = page.accounts.iter().map(row).collect();
            output::table(json, &page, &["ID", "NAME", "WEIGHT", "SINCE"], rows)?;
            output::more(json, page.next_before, "--before");
            Ok(())
        }
        Verb::Show { id } => {
            let detail = client.account(*id).await.map_err(Refusal::from)?;
            let rows = detail.connections.iter().map(|row| {
                let of = vec![format!("connection {}", row.id), row.state.clone(), row.service.clone()];
                [of, vec![row.state_reason.clone().unwrap_or_default()]].concat()
            });
            let open = detail.anomalies.iter().map(|row| {
                vec![format!("anomaly {}", row.id), row.state.clone(), row.severity.clone(), row.summary.clone()]
            });
            output::table(json, &detail, &["WHAT", "STATE", "OF", "WHY"], rows.chain(open).collect())
        }
        Verb::Streams { id, after, limit } => {
            let query = StreamQuery { after: after.clone(), limit: *limit };
            let page = client.streams(*id, &query).await.map_err(Refusal::from)?;
            let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
            let rows = page.streams.iter().map(|row| {
                vec![
                    row.connection_id.to_string(),
                    row.object.clone(),
                    row.health.clone(),
                    output::time(row.watermark),
                    number(row.lag_secs),
                    number(row.rows_seen),
                    number(row.rows_expected),
                ]
            });
            let head = ["CONNECTION", "OBJECT", "HEALTH", "READ UNTIL", "BEHIND S", "ROWS", "OF"];
            output::table(json, &page, &head, rows.collect())?;
            output::more(json, page.next_after, "--after");
            Ok(())
        }
        Verb::Changes { id, limit } => {
            let list = client.changes(*id, &ChangeQuery { limit: *limit }).await.map_err(Refusal::from)?;
            let row = |entry: &AuditEntry| {
                let (at, changed) = (output::time(Some(entry.at)), words(&entry.changes().join("; ")));
                vec![at, entry.actor.clone(), entry.deed(), entry.thing(), changed, words(&entry.reason)]
            };
            let rows = list.changes.iter().map(row).collect();
            output::table(json, &list, &["AT", "ACTOR", "DONE", "WITH", "CHANGED", "REASON"], rows)
        }
        Verb::Weight { id, weight, why } => {
            let told = why.request();
            let request = WeightRequest { weight: *weight, reason: told.reason, by: told.by };
            let account = client.set_weight(*id, &request).await.map_err(Refusal::from)?;
            output::done(json, &format!("account {} has weight {}", account.id, account.weight))
        }
    }
}
