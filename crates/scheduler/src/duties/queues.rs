//! Looks at what waits, for people: since when the oldest job of each kind does, and how deep the queues are; and moves
//! dead letters back where an operator ordered that. Owns no decision: dispatching looks for itself.

use crate::Office;
use domain::chain;
use queue::{Backend, Redriven, Sqs};
use store::{Leadership, SeenDepth};

/// Looks, notes, and carries out orders.
///
/// # Errors
/// The ledger's. A queue that does not answer is left out of what is noted.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let mut oldest = Vec::new();
    for (kind, _) in office.catalogue.iter() {
        oldest.push((kind.clone(), office.store.oldest_ready(kind).await?));
    }
    let depths = match &office.queue {
        Backend::Sqs(sqs) => {
            redrive(office, leadership, sqs).await?;
            depths_of(sqs).await
        }
        Backend::Postgres => Vec::new(),
    };
    office.store.note_queues(leadership, &oldest, &depths).await?;
    Ok(false)
}

async fn depths_of(sqs: &Sqs) -> Vec<SeenDepth> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    match sqs.list().await {
        Ok(depths) => depths
            .into_iter()
            .map(|d| SeenDepth { depths: [d.visible, d.in_flight, d.delayed, d.dead].map(number), kind: d.kind })
            .collect(),
        Err(error) => {
            tracing::debug!(error = chain(&error), "the queues did not say how deep they are");
            Vec::new()
        }
    }
}

/// Carries out what was ordered; a failure is told to whoever ordered it, and does not come back.
async fn redrive(office: &Office, leadership: &Leadership, sqs: &Sqs) -> anyhow::Result<()> {
    for kind in office.store.ordered_redrives().await? {
        let outcome = match sqs.redrive(&kind).await {
            Ok(Redriven::Begun) => "the dead letters are on their way back".to_owned(),
            Ok(Redriven::Moved(letters)) => format!("{letters} dead letters were moved back"),
            Err(error) => format!("they were not moved: {}", chain(&error)),
        };
        tracing::info!(kind, outcome, "an operator had dead letters moved back");
        office.store.note_redrive(leadership, &kind, &outcome).await?;
    }
    Ok(())
}
