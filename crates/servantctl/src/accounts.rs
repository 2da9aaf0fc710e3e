//! `accounts`.

use crate::{connections::Why, output, refusal::Refusal};
use clap::Subcommand;
use manager_api::{Account, ManagerClient, PageQuery, WeightRequest};

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists them, newest first.
    List {
        /// Ids below this one.
        #[arg(long)]
        before: Option<i64>,
        /// Rows, 200 at the most.
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
        Verb::List { before, limit } => {
            let page = client.accounts(&PageQuery { before: *before, limit: *limit }).await.map_err(Refusal::from)?;
            let row = |account: &Account| {
                let created = output::time(Some(account.created_at));
                vec![account.id.to_string(), account.name.clone(), account.weight.to_string(), created]
            };
            let rows = page.accounts.iter().map(row).collect();
            output::table(json, &page, &["ID", "NAME", "WEIGHT", "SINCE"], rows)
        }
        Verb::Weight { id, weight, why } => {
            let told = why.request();
            let request = WeightRequest { weight: *weight, reason: told.reason, by: told.by };
            let account = client.set_weight(*id, &request).await.map_err(Refusal::from)?;
            output::done(json, &format!("account {} has weight {}", account.id, account.weight))
        }
    }
}
