//! `servants`.

use crate::{
    audit::{self, Whom},
    output,
    refusal::Refusal,
};
use clap::{Args, Subcommand};
use manager_api::{ManagerClient, Order};

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
    Pause(Given),
    /// Takes work again.
    Resume(Given),
    /// Finishes what it has and stops.
    Drain(Given),
}

/// A servant, and who gives it an order and why.
#[derive(Debug, Args)]
struct Given {
    /// The servant.
    id: i64,
    #[command(flatten)]
    whom: Whom,
}

pub(crate) async fn run(client: &ManagerClient, servants: &Servants, json: bool) -> anyhow::Result<()> {
    let (given, order) = match &servants.verb {
        Some(Verb::Pause(given)) => (given, Order::Pause),
        Some(Verb::Resume(given)) => (given, Order::Resume),
        Some(Verb::Drain(given)) => (given, Order::Drain),
        Some(Verb::Show { id }) => {
            let servant = client.servant(*id).await.map_err(Refusal::from)?;
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
                    or_dash(&s.ordered),
                    or_dash(&s.ordered_by),
                    audit::words(s.ordered_reason.as_deref().unwrap_or_default()),
                ]
            });
            let head = ["ID", "KIND", "HOST", "STATE", "LIVENESS", "HEARD", "BUSY", "ORDERED", "BY", "REASON"];
            return output::table(json, &list, &head, rows.collect());
        }
    };
    client.order(given.id, order, &given.whom.said()).await.map_err(Refusal::from)?;
    output::done(json, &format!("servant {} is told to {}", given.id, order.as_str()))
}

fn or_dash(text: &Option<String>) -> String {
    text.clone().unwrap_or_else(|| "-".to_owned())
}
