//! The leader's duties, one file each. Each is idempotent, takes no input, and runs on a timer as well as when woken.

pub mod breakers;
mod declare;
pub mod declare_limits;
pub mod dispatch;
pub mod fold_counters;
pub mod groups;
pub mod lapse_looks;
pub mod operations;
pub mod promote;
pub mod prune;
pub mod queues;
pub mod relay;
pub mod rescue;
pub mod seal_audit;
pub mod statistics;
pub mod sweep_unclaimed;
pub mod tick;

use crate::{Office, config::Duties};
use std::time::Duration;
use store::Leadership;

/// One duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    Tick,
    Promote,
    Dispatch,
    Relay,
    SweepUnclaimed,
    Rescue,
    FoldCounters,
    Breakers,
    Groups,
    Operations,
    Queues,
    LapseLooks,
    SealAudit,
    Statistics,
    Prune,
}

impl Duty {
    /// All of them.
    pub(crate) const ALL: [Self; 15] = [
        Self::Tick,
        Self::Promote,
        Self::Dispatch,
        Self::Relay,
        Self::SweepUnclaimed,
        Self::Rescue,
        Self::FoldCounters,
        Self::Breakers,
        Self::Groups,
        Self::Operations,
        Self::Queues,
        Self::LapseLooks,
        Self::SealAudit,
        Self::Statistics,
        Self::Prune,
    ];

    /// The duties that this deployment has: without a queue there is nothing to send.
    pub(crate) fn of(office: &Office) -> impl Iterator<Item = Self> {
        let has_queue = office.has_queue();
        Self::ALL.into_iter().filter(move |duty| has_queue || *duty != Self::Relay)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Promote => "promote",
            Self::Dispatch => "dispatch",
            Self::Relay => "relay",
            Self::SweepUnclaimed => "sweep_unclaimed",
            Self::Rescue => "rescue",
            Self::FoldCounters => "fold_counters",
            Self::Breakers => "breakers",
            Self::Groups => "groups",
            Self::Operations => "operations",
            Self::Queues => "queues",
            Self::LapseLooks => "lapse_looks",
            Self::SealAudit => "seal_audit",
            Self::Statistics => "statistics",
            Self::Prune => "prune",
        }
    }

    pub(crate) const fn every(self, duties: &Duties) -> Duration {
        Duration::from_millis(match self {
            Self::Tick => duties.tick_ms,
            Self::Promote => duties.promote_ms,
            Self::Dispatch => duties.dispatch_ms,
            Self::Relay => duties.relay_ms,
            Self::SweepUnclaimed => duties.sweep_unclaimed_ms,
            Self::Rescue => duties.rescue_ms,
            Self::FoldCounters => duties.fold_counters_ms,
            Self::Breakers => duties.breakers_ms,
            Self::Groups => duties.groups_ms,
            Self::Operations => duties.operations_ms,
            Self::Queues => duties.queues_ms,
            Self::LapseLooks => duties.lapse_looks_ms,
            Self::SealAudit => duties.seal_audit_ms,
            Self::Statistics => duties.statistics_ms,
            Self::Prune => duties.prune_ms,
        })
    }

    /// Does it once. True when there was as much to do as one go may do: then it is done again at once.
    pub(crate) async fn perform(self, office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
        match self {
            Self::Tick => tick::perform(office, leadership).await,
            Self::Promote => promote::perform(office, leadership).await,
            Self::Dispatch => dispatch::perform(office, leadership).await,
            Self::Relay => relay::perform(office, leadership).await,
            Self::SweepUnclaimed => sweep_unclaimed::perform(office, leadership).await,
            Self::Rescue => rescue::perform(office, leadership).await,
            Self::FoldCounters => fold_counters::perform(office, leadership).await,
            Self::Breakers => breakers::perform(office, leadership).await,
            Self::Groups => groups::perform(office, leadership).await,
            Self::Operations => operations::perform(office, leadership).await,
            Self::Queues => queues::perform(office, leadership).await,
            Self::LapseLooks => lapse_looks::perform(office, leadership).await,
            Self::SealAudit => seal_audit::perform(office, leadership).await,
            Self::Statistics => statistics::perform(office, leadership).await,
            Self::Prune => prune::perform(office, leadership).await,
        }
    }

    /// Waits for a reason to do it before its timer.
    pub(crate) async fn woken(self, office: &Office) {
        match self {
            Self::Tick => tick::until_due(office).await,
            Self::Dispatch => office.jobs_ready.notified().await,
            Self::Relay => office.outbox_filled.notified().await,
            Self::SweepUnclaimed => sweep_unclaimed::until_due(office).await,
            Self::Rescue => rescue::until_due(office).await,
            Self::FoldCounters => office.nudges.fold_counters.notified().await,
            Self::Groups => office.nudges.groups.notified().await,
            Self::Operations => office.nudges.operations.notified().await,
            Self::Prune => prune::until_tomorrow(office).await,
            // Their timers are the pace at which anybody could see a difference.
            Self::Promote | Self::Breakers | Self::Queues | Self::LapseLooks | Self::SealAudit | Self::Statistics => {
                std::future::pending().await
            }
        }
    }
}
