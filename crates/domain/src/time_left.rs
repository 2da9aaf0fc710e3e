//! How long work with a known amount will still take, by how fast it went lately: a number, or honestly none.
//! Pure; what was done lately and since when is the ledger's to say.

use chrono::{DateTime, TimeDelta, Utc};

/// So much has to be seen of a pace before anything is said, in seconds.
const SEEN_SECS_MIN: i64 = 2;
/// Longer than this is said of nobody: by then it will have gone otherwise.
const LEFT_DAYS_MAX: i64 = 365;

/// What was done lately, by all who did it at the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProgressPace {
    /// So much.
    pub done: i64,
    /// Since then; `None`: nobody did anything.
    pub since: Option<DateTime<Utc>>,
}

/// How long until `total` is done. `None`: unknown, since no amount is known, nothing was done lately, or too short a
/// time was seen. Never negative; more done than was to do leaves nothing.
#[must_use]
pub fn time_left(done: i64, total: i64, pace: ProgressPace, now: DateTime<Utc>) -> Option<TimeDelta> {
    if total <= 0 {
        return None;
    }
    let left = i128::from(total) - i128::from(done.max(0));
    if left <= 0 {
        return Some(TimeDelta::zero());
    }
    let seen = now - pace.since?;
    if seen < TimeDelta::seconds(SEEN_SECS_MIN) || pace.done <= 0 {
        return None;
    }
    let millis = left * i128::from(seen.num_milliseconds()) / i128::from(pace.done);
    let most = TimeDelta::days(LEFT_DAYS_MAX);
    let left = i64::try_from(millis).ok().and_then(TimeDelta::try_milliseconds);
    left.filter(|left| *left <= most)
}

/// A span of time as it is said, in no more detail than an estimate bears.
#[must_use]
pub fn about(secs: i64) -> String {
    match secs.max(0) {
        secs @ 0..=89 => format!("{secs} s"),
        secs @ 90..=5_399 => format!("{} min", (secs + 30) / 60),
        secs @ 5_400..=172_799 => format!("{} h", (secs + 1_800) / 3_600),
        secs => format!("{} days", (secs + 43_200) / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_000_000 + secs, 0).unwrap()
    }

    fn left(done: i64, total: i64, lately: i64, secs: i64) -> Option<i64> {
        let pace = ProgressPace { done: lately, since: Some(at(0)) };
        time_left(done, total, pace, at(secs)).map(|left| left.num_seconds())
    }

    #[test]
    fn what_is_left_goes_as_fast_as_it_went() {
        assert_eq!(left(100, 300, 100, 10), Some(20));
        assert_eq!(left(290, 300, 100, 10), Some(1));
        assert_eq!(left(300, 300, 1, 10), Some(0));
        assert_eq!(left(0, 300, 0, 10), None, "nothing was done");
        assert_eq!(left(0, 300, 1, 1), None, "a second tells nothing");
        assert_eq!(time_left(0, 300, ProgressPace::default(), at(9)), None);
        assert_eq!(left(5, 0, 5, 10), None, "nobody knows how much there is");
    }

    #[test]
    fn spans_are_said_roughly() {
        for (secs, words) in
            [(-1, "0 s"), (89, "89 s"), (90, "2 min"), (3_500, "58 min"), (7_200, "2 h"), (260_000, "3 days")]
        {
            assert_eq!(about(secs), words);
        }
    }

    #[test]
    fn nothing_makes_it_negative_or_absurd() {
        assert_eq!(left(400, 300, 100, 10), Some(0), "more than was announced");
        assert_eq!(left(-5, 300, 100, 10), Some(30));
        assert_eq!(left(0, i64::MAX, 1, 10), None);
        assert_eq!(left(i64::MIN, i64::MAX, i64::MAX, 1_000_000), Some(1_000_000));
        assert_eq!(left(100, 300, 100, -10), None, "a clock that was set back");
        assert_eq!(left(100, 300, -100, 10), None);
    }
}
