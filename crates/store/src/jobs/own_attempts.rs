//! Which attempts of its own servant a tally counts, and of which flow each is. Owns that list; what is in flight in all,
//! `in_flight` counts.
//!
//! Thousands of attempts come and go each second, a claim's at a time. The attempts of one claim lie side by side in the
//! order of their jobs, so that to note them costs next to nothing and to find one does not leave the processor's cache.

use super::claimed::AttemptKey;
use domain::{AttemptToken, Flow, JobId};
use foldhash::HashMap;

/// The attempts.
#[derive(Debug, Default)]
pub(super) struct OwnAttempts {
    claims: HashMap<AttemptToken, Claim>,
    len: usize,
}

/// The attempts of one claim, which share its token.
#[derive(Debug, Default)]
struct Claim {
    /// In the order of the jobs; none: that attempt has been taken out.
    jobs: Vec<(JobId, Option<Flow>)>,
    left: usize,
}

impl OwnAttempts {
    /// Attempts in all.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Takes an attempt out; none: it is not there.
    pub(super) fn remove(&mut self, key: AttemptKey) -> Option<Flow> {
        let claim = self.claims.get_mut(&key.token)?;
        let at = claim.jobs.binary_search_by_key(&key.id, |(job, _)| *job).ok()?;
        let flow = claim.jobs[at].1.take()?;
        claim.left -= 1;
        self.len -= 1;
        if claim.left == 0 {
            self.claims.remove(&key.token);
        }
        Some(flow)
    }
}

impl Extend<(AttemptKey, Flow)> for OwnAttempts {
    /// Attempts that are not there yet. One that is named twice counts once: what runs while a limit is set is on two permits.
    fn extend<I: IntoIterator<Item = (AttemptKey, Flow)>>(&mut self, attempts: I) {
        let mut claims: HashMap<AttemptToken, Vec<(JobId, Option<Flow>)>> = HashMap::default();
        for (key, flow) in attempts {
            claims.entry(key.token).or_default().push((key.id, Some(flow)));
        }
        for (token, mut jobs) in claims {
            jobs.sort_unstable_by_key(|(job, _)| *job);
            jobs.dedup_by_key(|(job, _)| *job);
            self.len += jobs.len();
            let claim = self.claims.entry(token).or_default();
            claim.left += jobs.len();
            claim.jobs.append(&mut jobs);
            claim.jobs.sort_unstable_by_key(|(job, _)| *job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::AccountId;
    use uuid::Uuid;

    #[test]
    fn an_attempt_is_taken_out_once_and_only_by_its_own_token() {
        let [one, other] = [AttemptToken(Uuid::from_u128(1)), AttemptToken(Uuid::from_u128(2))];
        let flow = |account| Flow { account: AccountId(account), connection: None };
        let key = |id, token| AttemptKey { id: JobId(id), token };
        let mut attempts = OwnAttempts::default();
        // As claims bring them: flow by flow, so in no order of their ids; and a claim's flows one after the other.
        attempts.extend([(key(5, one), flow(1)), (key(2, one), flow(1)), (key(9, other), flow(3))]);
        attempts.extend([(key(3, one), flow(2)), (key(3, one), flow(2))]);
        assert_eq!(attempts.len(), 4, "twice is once");
        assert_eq!(attempts.remove(key(3, one)), Some(flow(2)));
        assert_eq!(attempts.remove(key(3, one)), None, "twice");
        assert_eq!(attempts.remove(key(2, other)), None, "by another claim's token");
        assert_eq!(attempts.remove(key(4, one)), None);
        assert_eq!(attempts.remove(key(2, one)), Some(flow(1)));
        assert_eq!(attempts.remove(key(5, one)), Some(flow(1)));
        assert_eq!(attempts.remove(key(9, other)), Some(flow(3)));
        assert_eq!(attempts.len(), 0);
        assert!(attempts.claims.is_empty(), "a claim that is over is forgotten");
    }
}
