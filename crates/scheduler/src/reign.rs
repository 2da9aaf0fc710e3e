//! Who leads, and what runs while one does: takes and keeps the lead, starts the duties, stops them the moment the
//! lead is lost or can no longer be shown to be held.

use crate::{
    Office, SchedulerConfig,
    duties::{Duty, declare_limits},
};
use daemon::{Context, Stopper};
use domain::chain;
use futures::FutureExt as _;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};
use store::{Heard, Leadership};
use tokio::{task::JoinSet, time::Instant};

/// Longest wait between two tries of a duty that fails, in milliseconds.
const RETRY_MS_MAX: u64 = 5_000;

/// Stands for the lead until asked to stop.
pub(crate) async fn stand(office: Arc<Office>, holder: &str, context: &Context<SchedulerConfig>) -> anyhow::Result<()> {
    let renew_every = Duration::from_millis(office.config.leader.renew_ms);
    listen(&context.stopper, office.clone());
    keep_clock(&context.stopper, office.clone());
    let mut was_away = false;
    while !context.stopper.is_stopping() {
        match office.store.lead(holder, office.config.leader.lease_secs).await {
            Ok(Some(leadership)) => {
                was_away = false;
                context.health.set("ledger", Ok(()));
                reign(office.clone(), &leadership, &context.stopper).await;
            }
            Ok(None) => {
                was_away = false;
                context.health.set("ledger", Ok(()));
            }
            Err(error) => {
                context.health.set("ledger", Err(chain(&error)));
                if !was_away {
                    tracing::warn!(error = chain(&error), "the ledger does not answer; trying on");
                    was_away = true;
                }
            }
        }
        pause(&context.stopper, renew_every).await;
    }
    Ok(())
}

/// Leads: runs the duties for as long as the lead is renewed in time.
async fn reign(office: Arc<Office>, leadership: &Leadership, stopper: &Stopper) {
    tracing::info!(term = leadership.term.0, "this scheduler leads");
    metrics::gauge!("servant_scheduler_leader").set(1.0);
    let lease = Duration::from_secs(u64::from(office.config.leader.lease_secs));
    let renew_every = Duration::from_millis(office.config.leader.renew_ms);
    let mut good_until = Instant::now() + lease;
    // Before the first dispatch, so that a new limit holds from the start.
    let mut is_declared = declare_limits(&office, leadership).await;
    let mut duties = JoinSet::new();
    for duty in Duty::of(&office) {
        duties.spawn(perform(duty, office.clone(), leadership.clone()));
    }
    let mut is_noted = note_dispatching(&office, leadership).await;
    while !stopper.is_stopping() {
        pause(stopper, renew_every).await;
        if !is_noted {
            is_noted = note_dispatching(&office, leadership).await;
        }
        if !is_declared {
            is_declared = declare_limits(&office, leadership).await;
        }
        let asked_at = Instant::now();
        let renewal = office.store.lead(&leadership.holder, office.config.leader.lease_secs);
        match tokio::time::timeout_at(good_until, renewal).await {
            Ok(Ok(Some(now))) if now.term == leadership.term => good_until = asked_at + lease,
            Ok(Ok(_)) => break,
            Ok(Err(_)) if Instant::now() < good_until => {}
            _ => break,
        }
    }
    duties.shutdown().await;
    metrics::gauge!("servant_scheduler_leader").set(0.0);
    tracing::info!(term = leadership.term.0, "this scheduler no longer leads");
    if stopper.is_stopping()
        && let Err(error) = office.store.resign(leadership).await
    {
        tracing::debug!(error = chain(&error), "the lead was not handed on; it runs out");
    }
}

/// Tells the ledger how this leader dispatches; false when it has to be told again. Not worth a wait: the lead is.
async fn note_dispatching(office: &Office, leadership: &Leadership) -> bool {
    let noting = office.store.note_dispatching(
        leadership,
        office.config.duties.dispatching(),
        &office.config.breaker,
        office.has_queue(),
    );
    matches!(tokio::time::timeout(Duration::from_millis(office.config.leader.renew_ms), noting).await, Ok(Ok(())))
}

/// Declares the catalogue's limits; false when it has to be done again. Not worth a wait: the lead is.
async fn declare_limits(office: &Office, leadership: &Leadership) -> bool {
    let declaring = declare_limits::perform(office, leadership);
    match tokio::time::timeout(Duration::from_millis(office.config.leader.renew_ms), declaring).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(error = format!("{error:#}"), "the limits were not declared; trying on");
            false
        }
        Err(_) => false,
    }
}

/// Does one duty again and again: on its timer, when it is woken, and at once while there is more to do.
async fn perform(duty: Duty, office: Arc<Office>, leadership: Leadership) {
    let every = duty.every(&office.config.duties);
    let mut retry_ms = 0;
    loop {
        match caught(duty.perform(&office, &leadership)).await {
            Ok(more) => {
                if retry_ms > 0 {
                    tracing::info!(duty = duty.name(), "the duty is done again");
                    retry_ms = 0;
                }
                if more {
                    continue;
                }
                tokio::select! {
                    () = tokio::time::sleep(every) => {}
                    () = duty.woken(&office) => {}
                }
            }
            Err(error) => {
                if retry_ms == 0 {
                    tracing::warn!(duty = duty.name(), error = format!("{error:#}"), "the duty failed; trying on");
                }
                retry_ms = (retry_ms * 2).clamp(100, RETRY_MS_MAX);
                tokio::time::sleep(Duration::from_millis(retry_ms)).await;
            }
        }
    }
}

/// What a duty came to. A panic is its failure and nothing more: the leader would else go on to lead without that duty, and
/// without a word.
async fn caught(work: impl Future<Output = anyhow::Result<bool>>) -> anyhow::Result<bool> {
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked; the line before this one says where")))
}

/// Turns the ledger's wake-ups into nudges for the dispatcher and for those whom an order waits for.
fn listen(stopper: &Stopper, office: Arc<Office>) {
    let stop = stopper.soft().clone();
    stopper.spawn("wake-ups", async move {
        let heard = |heard: &Heard| {
            office.jobs_ready.come(&heard.ready);
            if heard.has_groups {
                office.nudges.group_changed();
            }
            if heard.has_operations {
                office.nudges.operations.notify_one();
            }
        };
        stop.run_until_cancelled(office.store.follow_wake_ups(heard)).await;
        Ok(())
    });
}

/// Follows the ledger's clock.
fn keep_clock(stopper: &Stopper, office: Arc<Office>) {
    let stop = stopper.soft().clone();
    stopper.spawn("clock", async move {
        stop.run_until_cancelled(office.store.keep_clock()).await;
        Ok(())
    });
}

async fn pause(stopper: &Stopper, time: Duration) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = stopper.soft().cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_duty_that_panics_has_failed() {
        let failed = caught(async { panic!("on purpose") }).await.unwrap_err();
        assert!(failed.to_string().contains("panicked"), "{failed}");
        assert!(caught(async { Ok(true) }).await.unwrap());
    }
}
