//! The claims under which this process holds jobs: when the last job of one has ended, its lease and its permit are of no
//! use any more, and are dropped by the keeper, so that nobody need look at jobs that are long over to find that out.
//! Owns the count; a lease that it does not know, or of which a job's end is in doubt, runs out.

use domain::{LeaseId, PermitId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// All claims that are not over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The permit of each claim, if limits count its jobs, and those of its jobs that have not ended.
    jobs: HashMap<LeaseId, (Option<PermitId>, usize)>,
    over: Over,
}

/// What no job needs any more.
#[derive(Debug, Default)]
pub(crate) struct Over {
    pub(crate) leases: Vec<LeaseId>,
    pub(crate) permits: Vec<PermitId>,
}

impl Claims {
    /// Notes a claim of so many jobs, before any of them starts.
    pub(crate) fn began(&self, lease: LeaseId, permit: Option<PermitId>, jobs: usize) {
        self.lock().jobs.insert(lease, (permit, jobs));
    }

    /// Whether limits count jobs of any.
    pub(crate) fn are_counted(&self) -> bool {
        self.lock().jobs.values().any(|(permit, _)| permit.is_some())
    }

    /// Notes that a job's end is in the ledger.
    pub(crate) fn ended(&self, lease: LeaseId) {
        let mut state = self.lock();
        let Some((permit, jobs)) = state.jobs.get_mut(&lease) else { return };
        *jobs -= 1;
        if *jobs == 0 {
            let permit = permit.take();
            state.jobs.remove(&lease);
            state.over.leases.push(lease);
            state.over.permits.extend(permit);
        }
    }

    /// Notes that a job's end may not be in the ledger: the rescue has to look.
    pub(crate) fn lost(&self, lease: LeaseId) {
        self.lock().jobs.remove(&lease);
    }

    /// What no job needs any more, given out once.
    pub(crate) fn take_over(&self) -> Over {
        std::mem::take(&mut self.lock().over)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_over_with_the_last_of_its_jobs_and_never_when_one_is_in_doubt() {
        let claims = Claims::default();
        let (first, second) = (LeaseId(1), LeaseId(2));
        assert!(!claims.are_counted());
        claims.began(first, Some(PermitId(7)), 2);
        claims.began(second, Some(PermitId(8)), 2);
        claims.ended(first);
        claims.lost(second);
        claims.ended(second);
        assert!(claims.take_over().leases.is_empty() && claims.are_counted());
        claims.ended(first);
        assert!(!claims.are_counted());
        let over = claims.take_over();
        assert_eq!((over.leases, over.permits), (vec![first], vec![PermitId(7)]));
        assert!(claims.take_over().leases.is_empty());
    }
}
