//! How far a window reaches back into the one before it, for changes that the vendor shows late: further once one was, and
//! less again, slowly, while none is. Pure; what was late is found by whoever stores the records.

use chrono::TimeDelta;

/// No window reaches back further, in seconds: what comes later than that is found by comparing everything.
const SECS_MAX: i64 = 6 * 3_600;
/// What is given back of the excess with each window in which nothing was late.
const GIVEN_BACK: i32 = 64;

/// How far windows reach back now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReachBack {
    /// The last one.
    pub current: TimeDelta,
    /// As configured: the least.
    pub base: TimeDelta,
}

impl ReachBack {
    /// How far the next one does, when the latest change in the last was late by `lateness`: twice as far as that, since
    /// only what is within reach is seen to be late.
    #[must_use]
    pub fn after(self, lateness: Option<TimeDelta>) -> TimeDelta {
        let most = TimeDelta::seconds(SECS_MAX).max(self.base);
        let next = match lateness {
            Some(lateness) => self.current.max(lateness.checked_mul(2).unwrap_or(most)),
            None => {
                let excess = self.current - self.base;
                self.current - (excess / GIVEN_BACK).max(TimeDelta::seconds(1))
            }
        };
        next.clamp(self.base, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn minutes(minutes: i64) -> TimeDelta {
        TimeDelta::seconds(minutes * 60)
    }

    #[test]
    fn lateness_widens_and_its_absence_narrows_slowly() {
        let base = minutes(15);
        let late = ReachBack { current: base, base }.after(Some(minutes(10)));
        assert_eq!(late, minutes(20));
        assert_eq!(ReachBack { current: late, base }.after(Some(minutes(1))), late, "what is far enough stays");
        let mut current = late;
        for _ in 0..10 {
            let next = ReachBack { current, base }.after(None);
            assert!(next < current && next > base, "{next}");
            current = next;
        }
        for _ in 0..1_000 {
            current = ReachBack { current, base }.after(None);
        }
        assert_eq!(current, base, "and ends where it began");
    }

    #[test]
    fn it_has_a_bound_and_a_least() {
        let base = minutes(15);
        assert_eq!(ReachBack { current: base, base }.after(Some(TimeDelta::MAX)), minutes(360));
        assert_eq!(ReachBack { current: minutes(1), base }.after(None), base);
        let far = minutes(1_000);
        assert_eq!(ReachBack { current: far, base: far }.after(Some(minutes(999))), far, "what is configured holds");
    }
}
