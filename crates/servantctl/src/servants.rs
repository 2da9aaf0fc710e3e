//! `servants`.

use crate::{output, refusal::Refusal};
use clap::{Args, Subcommand};
use manager_api::{ManagerClient, Order, Servant};

/// Servants; without a verb they are listed.
#[derive(Debug, Args)]
pub(crate) struct Servants {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists those heard of lately.
    List,
    /// Shows one and what it works on.
    Show {
        /// The servant.
        id: i64,
    },
    /// Takes no new work for now.
    Pause {
        /// The servant.
        id: i64,
    },
    /// Takes work again.
    Resume {
        /// The servant.
        id: i64,
    },
    /// Finishes what it has and stops.
    Drain {
        /// The servant.
        id: i64,
    },
}

pub(crate) async fn run(client: &ManagerClient, servants: &Servants, json: bool) -> anyhow::Result<()> {
    let (id, order) = match servants.verb {
        Some(Verb::Pause { id }) => (id, Order::Pause),
        Some(Verb::Resume { id }) => (id, Order::Resume),
        Some(Verb::Drain { id }) => (id, Order::Drain),
        Some(Verb::Show { id }) => {
            let servant = client.servant(id).await.map_err(Refusal::from)?;
            let busy = format!("{}/{}", servant.running, servant.concurrency);
            let jobs: Vec<String> = servant.jobs.iter().map(|job| job.id.to_string()).collect();
            let (kind, liveness, version) = (&servant.kind, &servant.liveness, &servant.version);
            let row =
                vec![kind.clone(), liveness.clone(), servant.state.clone(), version.clone(), busy, jobs.join(" ")];
            let head = ["KIND", "LIVENESS", "STATE", "BUILD", "BUSY", "WORKS ON"];
            return output::table(json, &servant, &head, vec![row]);
        }
        None | Some(Verb::List) => {
            let list = client.servants().await.map_err(Refusal::from)?;
            let rows = list.servants.iter().map(|s| {
                let busy = format!("{}/{}", s.running, s.concurrency);
                let heard = format!("{} s ago", s.silent_secs);
                vec![
                    s.id.to_string(),
                    s.kind.clone(),
                    s.host.clone(),
                    s.state.clone(),
                    s.liveness.clone(),
                    heard,
                    busy,
                    orders(s),
                ]
            });
            let head = ["ID", "KIND", "HOST", "STATE", "LIVENESS", "HEARD", "BUSY", "ORDERED"];
            return output::table(json, &list, &head, rows.collect());
        }
    };
    client.order(id, order).await.map_err(Refusal::from)?;
    output::done(json, &format!("servant {id} is told to {} with its next heartbeat", order.as_str()))
}

fn orders(servant: &Servant) -> String {
    servant.ordered.clone().unwrap_or_else(|| "-".to_owned())
}
