//! The jobs of a chaos run: of every sort, a hundred a second, inserted whatever happens to the ledger meanwhile.
//! Remembers only what was acknowledged: an insertion whose answer was lost may have happened or not.

use domain::{JobId, Kind};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use std::time::Duration;
use store::{Inserted, NewJob, Store};
use tokio::{sync::watch, task::JoinHandle};

const JOBS_AT_ONCE: usize = 20;
const EVERY: Duration = Duration::from_millis(200);

/// The insertion under way.
pub(super) struct Load {
    stop: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<Vec<JobId>>>,
}

impl Load {
    /// Ends it and answers with the jobs whose insertion was acknowledged.
    pub(super) async fn stop(self) -> anyhow::Result<Vec<JobId>> {
        self.stop.send_replace(true);
        self.task.await?
    }
}

pub(super) fn start(store: Store, seed: u64) -> Load {
    let (stop, mut stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        let mut dice = StdRng::seed_from_u64(!seed);
        let mut committed = Vec::new();
        let kind = Kind::new("effects")?;
        while !*stopped.borrow() {
            let now = store.now();
            let jobs: Vec<NewJob> = (0..JOBS_AT_ONCE)
                .map(|_| {
                    let (payload, attempts_max) = payload(&mut dice);
                    let waits = Duration::from_millis(dice.random_range(1..4_000));
                    let due_at = dice.random_bool(0.1).then(|| now + waits);
                    NewJob { attempts_max, due_at, ..NewJob::new(kind.clone(), payload) }
                })
                .collect();
            if let Ok(inserted) = store.insert_jobs(&jobs).await {
                committed
                    .extend(inserted.iter().filter_map(|i| if let Inserted::New(id) = i { Some(*id) } else { None }));
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = stopped.changed() => {}
            }
        }
        Ok(committed)
    });
    Load { stop, task }
}

/// One job, and its attempts at the most.
fn payload(dice: &mut StdRng) -> (Value, u16) {
    let payload = match dice.random_range(0..1_000) {
        0..600 => json!({"page_ms": dice.random_range(0..200)}),
        600..750 => json!({"pages": dice.random_range(2..7), "page_ms": dice.random_range(0..300)}),
        750..830 => json!({"hold_ms": dice.random_range(0..800)}),
        830..890 => json!({"transient_attempts": dice.random_range(1..4)}),
        890..950 => json!({"children": dice.random_range(1..4), "page_ms": dice.random_range(0..200)}),
        950..975 => json!({"page_ms": dice.random_range(3_000..7_000)}),
        975..985 => return (json!({"panic": true}), 2),
        985..988 => return (json!({"deaf_ms": 60_000}), 1),
        _ => json!({}),
    };
    (payload, 30)
}
