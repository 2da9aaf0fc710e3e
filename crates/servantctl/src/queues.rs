//! `queues`: creates, shows and redrives the queues on SQS; what the leading scheduler saw of them comes from the manager.
//! What is done to queues is no part of the ledger: its line in the audit is written behind it, with the outcome.

use crate::{actor, output, refusal::Refusal};
use clap::{Args, Subcommand};
use domain::{Action, Capability, Catalogue, CatalogueTables, action};
use manager_api::{ManagerClient, QueueList, RedriveRequest};
use queue::{Redriven, Sqs, SqsConfig};
use std::{fmt::Display, path::PathBuf};
use store::Store;

/// Where the queues are.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// A server other than Amazon's.
    #[arg(long, env = "SERVANT_SQS_ENDPOINT_URL")]
    sqs_endpoint: Option<String>,
    /// The first part of every queue's name.
    #[arg(long, default_value = "servant")]
    prefix: String,
    /// The catalogue of kinds.
    #[arg(long, env = "SERVANT_JOBS_FILE", default_value = "config/jobs.toml")]
    jobs_file: PathBuf,
}

/// What to do with queues.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Creates what is missing, for every kind of the catalogue.
    Ensure(Place),
    /// Shows the queues and their depths.
    List(Place),
    /// What waits by kind, as the leading scheduler saw it last.
    Seen,
    /// Has the leading scheduler move a kind's dead letters back.
    OrderRedrive {
        /// The kind.
        kind: String,
        /// Who, where nobody signs on.
        #[arg(long)]
        by: Option<String>,
    },
    /// Moves a kind's dead letters back to its queue.
    Redrive {
        /// The kind.
        kind: String,
        #[command(flatten)]
        place: Place,
    },
}

impl Verb {
    /// Whether something is done to queues from here, which the ledger is told of.
    pub(crate) const fn needs_ledger(&self) -> bool {
        matches!(self, Self::Ensure(_) | Self::Redrive { .. })
    }
}

/// `store`: where the verb needs it.
pub(crate) async fn run(
    client: impl Fn() -> anyhow::Result<ManagerClient>,
    store: Option<Store>,
    verb: &Verb,
    json: bool,
) -> anyhow::Result<()> {
    match verb {
        Verb::Seen => seen(&client()?.queues().await.map_err(Refusal::from)?, json),
        Verb::OrderRedrive { kind, by } => {
            let request = RedriveRequest { by: by.clone() };
            seen(&client()?.redrive(kind, &request).await.map_err(Refusal::from)?, json)
        }
        Verb::Ensure(place) => {
            let kinds = kinds(place)?;
            let sqs = connect(place).await?;
            let sentence = "every kind has its queue and its dead-letter queue";
            let mut ensured = Ok(());
            for kind in &kinds {
                ensured = sqs.ensure(kind).await;
                if ensured.is_err() {
                    break;
                }
            }
            tell::<action::EnsureQueues>(store.as_ref(), &kinds, ensured.as_ref().map(|()| sentence)).await?;
            ensured.map_err(Refusal::from)?;
            output::done(json, sentence)
        }
        Verb::List(place) => {
            let depths = connect(place).await?.list().await.map_err(Refusal::from)?;
            let value: Vec<_> = depths
                .iter()
                .map(|d| {
                    serde_json::json!({ "name": d.name, "kind": d.kind, "visible": d.visible,
                        "in_flight": d.in_flight, "delayed": d.delayed, "dead": d.dead })
                })
                .collect();
            let rows = depths
                .iter()
                .map(|d| vec![d.name.clone(), d.visible.to_string(), d.in_flight.to_string(), d.dead.to_string()]);
            output::table(json, &value, &["QUEUE", "VISIBLE", "IN FLIGHT", "DEAD"], rows.collect())
        }
        Verb::Redrive { kind, place } => {
            let redriven = connect(place).await?.redrive(kind).await.map(|redriven| match redriven {
                Redriven::Begun => "the dead letters are on their way back".to_owned(),
                Redriven::Moved(1) => "1 dead letter was moved back".to_owned(),
                Redriven::Moved(letters) => format!("{letters} dead letters were moved back"),
            });
            let kinds = std::slice::from_ref(kind);
            tell::<action::Redrive>(store.as_ref(), kinds, redriven.as_deref()).await?;
            output::done(json, &redriven.map_err(Refusal::from)?)
        }
    }
}

/// Tells the ledger what was done to queues, or that it came to nothing and why.
async fn tell<A: Capability>(
    store: Option<&Store>,
    kinds: &[String],
    outcome: Result<&str, &(impl Display + Sync)>,
) -> anyhow::Result<()> {
    // Where there is none, the verb is one that does nothing.
    let Some(store) = store else { return Ok(()) };
    let by = actor::granted::<A>()?;
    let told = match outcome {
        Ok(outcome) => store.note_queues_by(&by, kinds, outcome).await,
        Err(error) => {
            let verb = if A::ACTION == Action::Redrive { "redrive" } else { "ensure" };
            let asked = format!("servantctl queues {verb}");
            store.note_failed(by.principal(), A::ACTION, &asked, &error.to_string()).await
        }
    };
    Ok(told.map_err(Refusal::from)?)
}

pub(crate) async fn connect(place: &Place) -> anyhow::Result<Sqs> {
    let config =
        SqsConfig { endpoint_url: place.sqs_endpoint.clone(), prefix: place.prefix.clone(), ..SqsConfig::default() };
    Ok(Sqs::connect(config).await.map_err(Refusal::from)?)
}

fn seen(list: &QueueList, json: bool) -> anyhow::Result<()> {
    let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let rows = list.queues.iter().map(|row| {
        vec![
            row.kind.clone(),
            output::time(row.oldest_ready_at),
            number(row.visible),
            number(row.in_flight),
            number(row.dead),
            row.redrive_by
                .as_ref()
                .map(|by| format!("ordered by {by}"))
                .or(row.redrive_outcome.clone())
                .unwrap_or_default(),
        ]
    });
    output::table(json, list, &["KIND", "OLDEST SINCE", "VISIBLE", "IN FLIGHT", "DEAD", "REDRIVE"], rows.collect())
}

/// The kinds of the catalogue.
pub(crate) fn kinds(place: &Place) -> anyhow::Result<Vec<String>> {
    let tables: CatalogueTables = daemon::read_file(&place.jobs_file)?;
    let catalogue = Catalogue::new(tables).map_err(|error| {
        daemon::ConfigError::new(place.jobs_file.display().to_string(), error.to_string(), "correct that key")
    })?;
    Ok(catalogue.iter().map(|(kind, _)| kind.as_str().to_owned()).collect())
}
