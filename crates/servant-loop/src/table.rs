//! Takes jobs in straight from the table, where there is no queue: flow by flow in fair turns. Jobs that nothing limits are
//! claimed in one statement; where a limit, a quota or a service's breaker may have a say, servants let jobs through
//! themselves, one at a time of all servants, by the rules by which the scheduler does it for a queue.

use crate::{
    finisher::Over,
    intake::{Intake, RETRY_MS},
    servant::Servant,
};
use chrono::TimeDelta;
use domain::{BreakerSettings, Next};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use store::{ClaimedInTurn, Line, StoreError, Tally, Terms, WaitingFlow};
use tokio::sync::{Notify, mpsc};

/// Flows that one claim visits at the most.
const VISITS_MAX: usize = 200;
/// First wait, in milliseconds, until jobs that had no room are looked at again; doubled while they still have none, up to
/// the second number. (The poll ends it sooner.)
const SHORT_WAIT_MS: (u64, u64) = (5, 60_000);

/// What one who takes jobs from the table keeps between two goes.
#[derive(Default)]
struct Turns {
    line: Line,
    tally: Tally,
    breaker: BreakerSettings,
    /// Flows wait that something may limit.
    is_limited: bool,
}

impl<S: Servant> Intake<S> {
    /// Claims due jobs until told to stop, woken by `wake`, with a jittered poll behind it. `over` brings the attempts
    /// that this servant has in hand no more.
    pub(crate) async fn take_from_table(self: Arc<Self>, wake: Arc<Notify>, mut over: mpsc::UnboundedReceiver<Over>) {
        let mut retry_ms = RETRY_MS.0;
        let mut short_wait_ms = SHORT_WAIT_MS.0;
        let mut is_busy = false;
        let tally = Tally::of_servant(self.servant, self.kind.clone());
        let mut turns = Turns { tally, ..Turns::default() };
        let mut must_look = true;
        while let Some((slots, is_rung)) = self.free_slots(if is_busy { self.claim_max } else { 1 }, Some(&wake)).await
        {
            if is_rung {
                turns.line.round.woken();
                must_look = false;
            }
            if self.is_paused.load(Ordering::SeqCst) {
                drop(slots);
                self.pause().await;
                continue;
            }
            let wanted = slots.len();
            while let Ok(Over { ended, lost }) = over.try_recv() {
                turns.tally.ended(ended);
                turns.tally.lost(lost);
            }
            match self.take_turns(&mut turns, must_look, i64::try_from(wanted).unwrap_or(i64::MAX)).await {
                Ok(ClaimedInTurn { jobs, next, is_short, permit }) => {
                    retry_ms = RETRY_MS.0;
                    is_busy = wanted > 1 && jobs.len() * 2 >= wanted;
                    must_look = matches!(next, Next::Look | Next::BeginAgain);
                    let has_found = !jobs.is_empty();
                    self.start(jobs, slots, permit);
                    let is_woken = match next {
                        _ if is_short && !has_found => {
                            let is_woken = self.wait_for_room(&wake, Duration::from_millis(short_wait_ms)).await;
                            short_wait_ms = longer(short_wait_ms);
                            must_look = true;
                            is_woken
                        }
                        Next::TakeMore => false,
                        // What was there may be all that woke it: to see that it was is not urgent.
                        Next::Look if has_found => {
                            self.wait_a_little(&wake, turns.line.round.look_in(self.store.now())).await
                        }
                        Next::Look => false,
                        Next::BeginAgain => {
                            let time = turns.line.round.begin_in(self.store.now());
                            let is_woken = self.wait_a_little(&wake, time).await;
                            if !is_woken {
                                turns.line.round.begin_again();
                            }
                            is_woken
                        }
                        Next::Rest => {
                            self.wait_for_work(&wake).await;
                            true
                        }
                    };
                    if has_found || is_woken {
                        short_wait_ms = SHORT_WAIT_MS.0;
                    }
                    if is_woken {
                        turns.line.round.woken();
                        must_look = false;
                    }
                }
                Err(error) => {
                    drop(slots);
                    self.back_off(&error, &mut retry_ms).await;
                }
            }
        }
    }

    /// One go through the flows.
    async fn take_turns(&self, turns: &mut Turns, must_look: bool, limit: i64) -> Result<ClaimedInTurn, StoreError> {
        if must_look || turns.line.round.must_look(self.store.now()) {
            turns.line.look(&self.store, (&self.kind, self.definition.vendor.as_deref())).await?;
            turns.is_limited = turns.line.open_flows().any(WaitingFlow::may_be_limited);
            // Services, and with them breakers, are those of connections.
            if turns.line.open_flows().any(|flow| flow.flow.connection.is_some()) {
                turns.breaker = self.store.breaker_settings().await?;
            }
        }
        if !turns.is_limited {
            return self.claim_ready(turns, limit).await;
        }
        let Turns { line, tally, breaker, .. } = turns;
        let terms = Terms { catalogue: &self.catalogue, breaker };
        let until = self.store.now() + self.lease;
        let kind = (&self.kind, &self.definition);
        line.claim(&self.store, (terms, tally), kind, (self.servant, until), limit).await
    }

    /// Claims jobs that nothing limits.
    async fn claim_ready(&self, turns: &mut Turns, limit: i64) -> Result<ClaimedInTurn, StoreError> {
        let round = &mut turns.line.round;
        let visits = round.visits(limit, VISITS_MAX, |flow| if flow.connection.is_none() { i64::MAX } else { 0 });
        let until = self.store.now() + self.lease;
        let urgent_max = round.urgent_max(limit);
        let kind = (&self.kind, self.definition.vendor.as_deref());
        let (jobs, taken) = self.store.claim_ready(self.servant, kind, &visits, urgent_max, limit, until).await?;
        Ok(ClaimedInTurn { jobs, next: round.note(&visits, &taken, limit), is_short: false, permit: None })
    }

    async fn wait_for_work(&self, wake: &Notify) {
        let jittered = self.poll.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(jittered) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Waits until there may be room: what ends here is known at once, what ends elsewhere is not. True when it was
    /// woken because something has come.
    async fn wait_for_room(&self, wake: &Notify, time: Duration) -> bool {
        tokio::select! {
            () = wake.notified() => true,
            () = self.ended.notified() => false,
            () = tokio::time::sleep(time.min(self.poll)) => false,
            () = self.stop.cancelled() => false,
        }
    }

    /// True when it was woken before the time was over.
    async fn wait_a_little(&self, wake: &Notify, time: TimeDelta) -> bool {
        tokio::select! {
            () = wake.notified() => true,
            () = tokio::time::sleep(time.to_std().unwrap_or_default()) => false,
            () = self.stop.cancelled() => false,
        }
    }
}

/// The wait after one in vain.
const fn longer(wait_ms: u64) -> u64 {
    if wait_ms < SHORT_WAIT_MS.1 / 2 { wait_ms * 2 } else { SHORT_WAIT_MS.1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_often_there_is_no_room_the_wait_stays_a_wait() {
        let waits: Vec<u64> =
            std::iter::successors(Some(SHORT_WAIT_MS.0), |wait| Some(longer(*wait))).take(200).collect();
        assert_eq!(waits[..3], [5, 10, 20]);
        assert_eq!(waits[199], 60_000);
        assert!(waits.is_sorted());
    }
}
