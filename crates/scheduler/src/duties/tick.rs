//! Makes jobs of the schedules that are due, and of fires that waited for a job that has finished since. What fires is
//! `domain::Plan`'s to say; firing once is the ledger's compare-and-swap. Schedules are entered by `declare`.

use super::declare;
use crate::Office;
use chrono::TimeDelta;
use domain::{Principal, authorize};
use futures::{StreamExt as _, TryStreamExt as _};
use std::time::Duration;
use store::{DueSchedule, Fire, Fired, Leadership, StoreError};

/// Shortest rest between two ticks that are not full.
const REST_MIN: Duration = Duration::from_millis(50);
/// Pieces of `batch_max` schedules that one tick reads, and that it writes at a time. Not more of them: the lead cannot
/// be renewed while any of them is being written.
const PIECES_MAX: i64 = 5;
const PIECES_AT_ONCE: usize = 3;
/// Jobs after which a transaction takes no further schedule. One schedule has a thousand fires at the most.
const JOBS_MAX: usize = 5_000;
/// Who pauses a schedule whose row is not understood.
const PAUSED_BY: &str = "scheduler";

/// Returns once the next schedule is due, if that is before the timer says so; else never.
pub(super) async fn until_due(office: &Office) {
    let timer = TimeDelta::milliseconds(i64::try_from(office.config.duties.tick_ms).unwrap_or(i64::MAX / 1_000));
    match office.store.next_due(office.store.now() + timer).await {
        Ok(Some(due)) => {
            tokio::time::sleep((due - office.store.now()).to_std().unwrap_or_default().max(REST_MIN)).await
        }
        // The timer's tick meets the error again, and reports it.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// Fires what is due.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let declared_all = declare::perform(office, leadership).await?;
    let limit = i64::from(office.config.duties.batch_max);
    let released = office.store.release_buffered(leadership, limit).await?;
    follow_up(office, leadership, &released).await?;
    let piece = usize::try_from(limit)?.max(1);
    let due = office.store.due_schedules(limit * PIECES_MAX).await?;
    let is_full = i64::try_from(due.len())? == limit * PIECES_MAX;
    // While one piece is decided on, others are written: none of them has anything to do with another.
    let pieces: Vec<_> = due.chunks(piece).map(|piece| fire(office, leadership, piece)).collect();
    futures::stream::iter(pieces).buffer_unordered(PIECES_AT_ONCE).try_collect::<()>().await?;
    Ok(is_full || !declared_all)
}

/// Decides on schedules and makes their jobs.
async fn fire(office: &Office, leadership: &Leadership, due: &[DueSchedule]) -> anyhow::Result<()> {
    let now = office.store.now();
    let mut fires = Vec::with_capacity(due.len());
    let mut held = Vec::new();
    for schedule in due {
        if schedule.is_held {
            held.push(schedule.id);
            continue;
        }
        match schedule.plan() {
            Ok(plan) => {
                let decision = plan.decide(schedule.due_at, now);
                if decision.dropped > 0 {
                    let dropped = decision.dropped;
                    tracing::warn!(schedule = schedule.name, dropped, "fires were missed and are not made good");
                }
                fires.push(Fire {
                    id: schedule.id,
                    due_at: schedule.due_at,
                    fires: decision.fires,
                    dropped: decision.dropped,
                    next: decision.next,
                });
            }
            // A newer program's, or damage: it must not keep the others from firing, nor be looked at twice a second.
            Err(problem) => {
                tracing::error!(schedule = schedule.name, problem, "a schedule is not understood and was paused");
                let reason = format!("this scheduler does not understand it: {problem}");
                let granted = authorize(&Principal::system(PAUSED_BY), &reason)?;
                office.store.pause_unclear_schedule(leadership, &granted, schedule.id).await?;
            }
        }
    }
    if !held.is_empty() {
        office.store.hold_schedules(leadership, &held).await?;
    }
    for batch in batches(&fires) {
        let fired = office.store.fire_schedules(leadership, batch).await?;
        follow_up(office, leadership, &fired).await?;
    }
    Ok(())
}

/// Pieces of which each makes about so many jobs at the most: the lead is locked while they are made.
fn batches(mut fires: &[Fire]) -> Vec<&[Fire]> {
    let mut batches = Vec::new();
    while !fires.is_empty() {
        let mut jobs = 0;
        let full = fires.iter().position(|fire| {
            jobs += fire.fires.len();
            jobs >= JOBS_MAX
        });
        let (batch, rest) = fires.split_at(full.map_or(fires.len(), |last| last + 1));
        batches.push(batch);
        fires = rest;
    }
    batches
}

/// What does not have to be in the fires' transaction: wakes whoever waits for the new jobs, and asks the older ones again
/// whose rows were held.
async fn follow_up(office: &Office, leadership: &Leadership, fired: &Fired) -> Result<(), StoreError> {
    for kind in &fired.kinds {
        office.store.wake(kind).await;
    }
    if !fired.uncancelled.is_empty() && !office.store.cancel_older(leadership, &fired.uncancelled).await? {
        tracing::warn!(jobs = fired.uncancelled.len(), "older jobs could not be told to stop in time");
    }
    Ok(())
}
