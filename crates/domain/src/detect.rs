//! When figures of a customer's data are out of the ordinary: volumes, empty fields, lateness, clocks, counts, deletes, quotas.
//! Pure judgements of numbers; owns their bounds. Does not own where numbers come from (`sync`, `store`), nor what an anomaly is.

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};

/// Weeks of an hour of the week before which nothing is called usual.
const WEEKS_MIN: usize = 4;
/// Weeks that are remembered.
pub const WEEKS_KEPT: usize = 8;
/// Deviations from the median that are ordinary, in median absolute deviations.
const DEVIATIONS_MAX: f64 = 6.0;
/// The least that a deviation counts, as a share of the median and in records: an hour of two records is not three times as
/// busy as usual.
const DEVIATION_SHARE_MIN: f64 = 0.05;
const DEVIATION_RECORDS_MIN: f64 = 2.0;
/// An hour with a smaller median is not busy.
const BUSY_MEDIAN_MIN: f64 = 10.0;

/// Rows that a field is judged by at a time, and those that have to be known before.
pub const NULLS_SAMPLE_ROWS: u64 = 50;
const NULLS_USUAL_ROWS_MIN: f64 = 200.0;
/// A share of empty values that is greater by so much is a jump, if chance does not explain it.
const NULLS_JUMP_MIN: f64 = 0.2;
const NULLS_ERRORS_MIN: f64 = 6.0;
/// What is usual is what these many rows before say.
const NULLS_USUAL_ROWS_MAX: f64 = 2_000.0;

/// Clocks that are further apart, in seconds, are wrong: answers take time, and stamps are whole seconds.
const CLOCKS_SECS_MAX: i64 = 30;

/// A quota that will be used up within so many hours is short.
const QUOTA_HOURS_MIN: f64 = 3.0;
/// Less of it used, in per cent, is no news, however fast.
const QUOTA_USED_PCT_MIN: u64 = 50;

/// What an hour's volume is, next to the same hour of the weeks before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Volume {
    /// As usual, or nothing is usual yet.
    Ordinary,
    /// Nothing at all, in an hour that is never so.
    Silent {
        /// What is usual.
        median: f64,
    },
    /// Far less or far more than usual.
    Unusual {
        /// What is usual.
        median: f64,
        /// The least that would have been.
        least: f64,
        /// The most that would have been.
        most: f64,
    },
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
        (Some(a), Some(b)) if sorted.len().is_multiple_of(2) => f64::midpoint(*a, *b),
        (_, Some(b)) => *b,
        _ => 0.0,
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Counts of records are far below 2^52.
const fn real(count: i64) -> f64 {
    count as f64
}

const fn real_u(count: u64) -> f64 {
    count as f64
}

/// What `count` is after `history`, the same hour of the weeks before.
#[must_use]
pub fn judge_volume(history: &[i64], count: i64) -> Volume {
    if history.len() < WEEKS_MIN {
        return Volume::Ordinary;
    }
    let values = sorted(history.iter().map(|value| real(*value)));
    let usual = median(&values);
    let deviations = sorted(values.iter().map(|value| (value - usual).abs()));
    let floor = (usual * DEVIATION_SHARE_MIN).max(DEVIATION_RECORDS_MIN);
    let span = DEVIATIONS_MAX * median(&deviations).max(floor);
    let (least, most) = ((usual - span).max(0.0), usual + span);
    let is_never_silent = values.first().is_some_and(|least| *least > 0.0);
    if count == 0 && usual >= BUSY_MEDIAN_MIN && is_never_silent {
        return Volume::Silent { median: usual };
    }
    if (least..=most).contains(&real(count)) {
        Volume::Ordinary
    } else {
        Volume::Unusual { median: usual, least, most }
    }
}

/// Whether so many deletes are far more than usual. Fewer never are: a quiet hour of deletes is no loss.
#[must_use]
pub fn judge_deletes(history: &[i64], deletes: i64) -> Volume {
    match judge_volume(history, deletes) {
        Volume::Unusual { median, most, least } if real(deletes) > most => Volume::Unusual { median, least, most },
        _ => Volume::Ordinary,
    }
}

/// An hour more at the front of its history.
pub fn remember(history: &mut Vec<i64>, count: i64) {
    history.insert(0, count);
    history.truncate(WEEKS_KEPT);
}

/// The hour of the week, from Monday 00:00 UTC on.
#[must_use]
pub fn hour_of_week(at: DateTime<Utc>) -> i16 {
    let hour = at.weekday().num_days_from_monday() * 24 + at.hour();
    i16::try_from(hour).unwrap_or(0)
}

/// How often a field is empty: what was usual, rows and those of them without a value, and what a sample says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nulls {
    /// Rows that make what is usual.
    pub usual_rows: f64,
    /// Those of them without a value.
    pub usual_nulls: f64,
}

impl Nulls {
    /// Whether of `rows` far more than usual have no value.
    #[must_use]
    pub fn is_jump(self, rows: u64, nulls: u64) -> bool {
        if self.usual_rows < NULLS_USUAL_ROWS_MIN || rows < NULLS_SAMPLE_ROWS {
            return false;
        }
        let (rows, share) = (real_u(rows), real_u(nulls) / real_u(rows));
        // One more of each, so that a field that was never empty has an error too.
        let usual = (self.usual_nulls + 1.0) / (self.usual_rows + 2.0);
        let error = (usual * (1.0 - usual) * (1.0 / rows + 1.0 / self.usual_rows)).sqrt();
        share - usual > NULLS_JUMP_MIN.max(NULLS_ERRORS_MIN * error)
    }

    /// What is usual after a sample. One that jumped counts little: it is not usual yet.
    #[must_use]
    pub fn after(self, rows: u64, nulls: u64, jumped: bool) -> Self {
        let weight = if jumped { 0.25 } else { 1.0 };
        let (usual_rows, usual_nulls) =
            (self.usual_rows + weight * real_u(rows), self.usual_nulls + weight * real_u(nulls.min(rows)));
        let scale = (NULLS_USUAL_ROWS_MAX / usual_rows.max(1.0)).min(1.0);
        Self { usual_rows: usual_rows * scale, usual_nulls: usual_nulls * scale }
    }
}

/// Whether changes show so late that windows, which reach back by `overlap`, are about to miss some: half of it is used up.
#[must_use]
pub fn is_late(lateness: TimeDelta, overlap: TimeDelta) -> bool {
    overlap > TimeDelta::zero() && lateness * 2 > overlap
}

/// By how much two clocks are apart, if that is more than an answer's way explains.
#[must_use]
pub fn clocks_apart(theirs: DateTime<Utc>, ours: DateTime<Utc>) -> Option<TimeDelta> {
    let apart = theirs - ours;
    (apart.abs() > TimeDelta::seconds(CLOCKS_SECS_MAX)).then_some(apart)
}

/// Whether counts of two sides differ by more than what moved meanwhile explains: `moving` records changed after what ours
/// is a count of.
#[must_use]
pub const fn counts_differ(ours: u64, theirs: u64, moving: u64) -> bool {
    ours.abs_diff(theirs) > moving
}

/// How many records may go because a vendor shows them no more, without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteFuse {
    /// Of an object's records, in per cent.
    pub pct_max: u32,
    /// And at the most.
    pub rows_max: u64,
}

impl DeleteFuse {
    /// Whether `absent` of `live` records are too many.
    #[must_use]
    pub const fn holds(self, absent: u64, live: u64) -> bool {
        let pct = absent.saturating_mul(100);
        absent > 0 && (absent > self.rows_max || pct > live.saturating_mul(self.pct_max as u64))
    }
}

/// In how many hours a quota of `maximum` calls will be used up, of which `used` are and `then` were `elapsed` ago; none if
/// it lasts.
#[must_use]
pub fn quota_lasts_hours(used: u64, then: u64, maximum: u64, elapsed: TimeDelta) -> Option<f64> {
    if maximum == 0 || used.saturating_mul(100) < maximum.saturating_mul(QUOTA_USED_PCT_MIN) {
        return None;
    }
    let left = real_u(maximum.saturating_sub(used));
    if left == 0.0 {
        return Some(0.0);
    }
    let secs = real(elapsed.num_seconds());
    let burnt = real_u(used.saturating_sub(then));
    if secs < 1.0 || burnt < 1.0 {
        return None;
    }
    let hours = left / burnt * secs / 3_600.0;
    (hours < QUOTA_HOURS_MIN).then_some(hours)
}
