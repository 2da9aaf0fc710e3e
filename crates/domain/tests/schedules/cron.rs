//! Cron in zones against a second implementation that is too slow to be wrong: it walks over every minute of real time
//! around changes of the clock, reads the zone's clock, and matches the fields of its own naive patterns. A sample, fresh
//! with every run; `every_zone` leaves nothing out.

use chrono::{
    DateTime, Datelike as _, NaiveDate, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _, Timelike as _, Utc,
};
use chrono_tz::{TZ_VARIANTS, Tz};
use domain::Cron;

/// Fixes the sample; printed by a failing run.
const SEED_VARIABLE: &str = "SERVANT_TEST_SEED";
/// The zones in which ten fresh patterns each are walked; the others are only seen in other runs.
const ZONES: usize = 120;
/// Changes of the clock looked at in each of them.
const CHANGES_MAX: usize = 2;
const PATTERNS: usize = 5;

/// SplitMix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(below).unwrap()).unwrap()
    }

    /// A field of `low..=high`: its text, and which values it takes.
    fn field(&mut self, low: u32, high: u32, may_pace: bool) -> (String, Vec<bool>) {
        let span = usize::try_from(high - low + 1).unwrap();
        let value = |dice: &mut Self| low + u32::try_from(dice.roll(span)).unwrap();
        let mut taken = vec![false; usize::try_from(high).unwrap() + 1];
        let mut take = |value: u32| taken[usize::try_from(value).unwrap()] = true;
        let text = match self.roll(if may_pace { 5 } else { 3 }) {
            0 => {
                let one = value(self);
                take(one);
                one.to_string()
            }
            1 => {
                let (one, other) = (value(self), value(self));
                take(one);
                take(other);
                format!("{one},{other}")
            }
            2 => {
                let (one, other) = (value(self), value(self));
                (one.min(other)..=one.max(other)).for_each(take);
                format!("{}-{}", one.min(other), one.max(other))
            }
            3 => {
                (low..=high).for_each(take);
                "*".to_owned()
            }
            _ => {
                let step = 2 + u32::try_from(self.roll(6)).unwrap();
                (low..=high).step_by(usize::try_from(step).unwrap()).for_each(take);
                format!("*/{step}")
            }
        };
        (text, taken)
    }
}

fn has(set: &[bool], value: u32) -> bool {
    set.get(usize::try_from(value).unwrap()).copied().unwrap_or(false)
}

/// A pattern as sets of values.
pub(crate) struct Naive {
    pub(crate) expression: String,
    pub(crate) minutes: Vec<bool>,
    pub(crate) hours: Vec<bool>,
    /// Both given: either is enough, as it always was with cron.
    days: Option<Vec<bool>>,
    weekdays: Option<Vec<bool>>,
    pub(crate) paces: bool,
}

impl Naive {
    pub(crate) fn roll(dice: &mut Dice) -> Self {
        let (minute, minutes) = dice.field(0, 59, true);
        let (mut hour, mut hours) = dice.field(0, 23, true);
        if dice.roll(3) > 0 {
            // Most changes of the clock are at night.
            let night = dice.roll(5);
            hours = vec![false; 24];
            hours[night] = true;
            hour = night.to_string();
            if dice.roll(2) == 0 {
                hours[14] = true;
                hour = format!("{night},14");
            }
        }
        let paces = hour.contains('*');
        let (mut day, mut days, mut weekday, mut weekdays) = ("*".to_owned(), None, "*".to_owned(), None);
        if dice.roll(4) == 0 {
            let (text, taken) = dice.field(1, 28, false);
            (day, days) = (text, Some(taken));
        }
        if dice.roll(4) == 0 {
            let (text, taken) = dice.field(0, 6, false);
            (weekday, weekdays) = (text, Some(taken));
        }
        Self { expression: format!("{minute} {hour} {day} * {weekday}"), minutes, hours, days, weekdays, paces }
    }

    fn matches(&self, reading: NaiveDateTime) -> bool {
        self.matches_day(reading.date()) && has(&self.minutes, reading.minute()) && has(&self.hours, reading.hour())
    }

    pub(crate) fn matches_day(&self, reading: NaiveDate) -> bool {
        let day = self.days.as_ref().map(|days| has(days, reading.day()));
        let weekday = self.weekdays.as_ref().map(|days| has(days, reading.weekday().num_days_from_sunday()));
        match (day, weekday) {
            (Some(day), Some(weekday)) => day || weekday,
            (one, other) => one.or(other).unwrap_or(true),
        }
    }

    /// The fires after `from` and not after `to`, by looking at every minute.
    fn walk(&self, readings: &[(DateTime<Utc>, NaiveDateTime)]) -> Vec<DateTime<Utc>> {
        let mut fires = Vec::new();
        // The latest reading that has been on the clock: a named hour's reading fires when the clock first gets there
        // or beyond.
        let mut reached = readings[0].1;
        for (at, reading) in &readings[1..] {
            let is_due = if self.paces {
                self.matches(*reading)
            } else {
                let mut passed = false;
                while reached < *reading {
                    reached += TimeDelta::minutes(1);
                    passed |= self.matches(reached);
                }
                passed
            };
            if is_due {
                fires.push(*at);
            }
        }
        fires
    }
}

/// Days of thirty years after which the zone's clock is another distance from UTC.
fn changes(zone: Tz) -> Vec<DateTime<Utc>> {
    let start: DateTime<Utc> = "2000-01-01T00:00:00Z".parse().unwrap();
    let offset = |at: DateTime<Utc>| zone.offset_from_utc_datetime(&at.naive_utc()).fix();
    let days = (0..30 * 365).map(|day| start + TimeDelta::days(day));
    days.filter(|day| offset(*day) != offset(*day + TimeDelta::days(1))).collect()
}

#[test]
fn every_fire_is_where_a_walk_over_the_minutes_finds_it() {
    let seed = std::env::var(SEED_VARIABLE)
        .ok()
        .map_or_else(|| u64::try_from(Utc::now().timestamp_micros()).unwrap(), |text| text.parse().unwrap());
    println!("{SEED_VARIABLE}={seed}");
    let mut dice = Dice(seed);
    let (mut fires_seen, mut changes_seen) = (0, 0);
    for _ in 0..ZONES {
        let zone = TZ_VARIANTS[dice.roll(TZ_VARIANTS.len())];
        let changes = changes(zone);
        let ordinary = "2015-06-10T00:00:00Z".parse().unwrap();
        let days = match changes.len() {
            0 => vec![ordinary],
            count => (0..CHANGES_MAX).map(|_| changes[dice.roll(count)]).collect(),
        };
        for day in days {
            changes_seen += usize::from(day != ordinary);
            let minutes = (-24 * 60..48 * 60).map(|minute| day + TimeDelta::minutes(minute));
            let readings: Vec<_> = minutes.map(|at| (at, at.with_timezone(&zone).naive_local())).collect();
            let (from, to) = (readings[0].0, readings[readings.len() - 1].0);
            for _ in 0..PATTERNS {
                let naive = Naive::roll(&mut dice);
                let cron = Cron::new(&naive.expression, zone.name()).unwrap();
                let next = |at: DateTime<Utc>| cron.next_after(at).map(|next| next.at);
                let found: Vec<_> =
                    std::iter::successors(next(from), |at| next(*at)).take_while(|at| *at <= to).collect();
                let expected = naive.walk(&readings);
                assert_eq!(found, expected, "{} in {zone} from {from}, {SEED_VARIABLE}={seed}", naive.expression);
                // Wherever one starts to look, it is the same fire that comes next.
                let now = from + TimeDelta::seconds(i64::try_from(dice.roll(71 * 3600)).unwrap());
                let later = next(now).filter(|at| *at <= to);
                assert_eq!(
                    later,
                    expected.iter().copied().find(|at| *at > now),
                    "{} in {zone} after {now}, {SEED_VARIABLE}={seed}",
                    naive.expression
                );
                fires_seen += found.len();
            }
        }
    }
    assert!(fires_seen > 1_000 && changes_seen > 50, "{fires_seen} fires, {changes_seen} changes: too few to tell");
}

fn fires(expression: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    let cron = Cron::new(expression, zone).unwrap();
    let to: DateTime<Utc> = to.parse().unwrap();
    let next = |at: DateTime<Utc>| cron.next_after(at).map(|next| next.at).filter(|at| *at <= to);
    let first = next(from.parse().unwrap());
    std::iter::successors(first, |at| next(*at)).map(|at| at.with_timezone(&cron.zone()).to_rfc3339()).collect()
}

#[test]
fn a_named_hour_that_is_skipped_runs_once_after_the_gap() {
    let spring = |expression| fires(expression, "Europe/Berlin", "2030-03-30T22:30:00Z", "2030-03-31T20:00:00Z");
    let after = "2030-03-31T03:00:00+02:00";
    assert_eq!(spring("30 2 * * *"), [after]);
    assert_eq!(spring("30 2,14 * * *"), [after, "2030-03-31T14:30:00+02:00"]);
    assert_eq!(spring("0 2-4 * * *"), [after, "2030-03-31T04:00:00+02:00"], "2:00 and 3:00 are one");
    assert_eq!(spring("* 2 * * *"), [after], "sixty are one");
    assert_eq!(spring("15 30 2 * * *"), [after]);
    // A whole day that never was.
    assert_eq!(
        fires("0 9 * * *", "Pacific/Apia", "2011-12-30T00:00:00Z", "2011-12-31T00:00:00Z"),
        ["2011-12-31T00:00:00+14:00", "2011-12-31T09:00:00+14:00"]
    );
}

#[test]
fn a_named_hour_that_comes_twice_runs_once() {
    let autumn = |expression| fires(expression, "Europe/Berlin", "2030-10-26T22:30:00Z", "2030-10-27T20:00:00Z");
    let first = "2030-10-27T02:30:00+02:00";
    assert_eq!(autumn("30 2 * * *"), [first]);
    assert_eq!(autumn("30 2,14 * * *"), [first, "2030-10-27T14:30:00+01:00"]);
    assert_eq!(autumn("*/30 2 * * *").len(), 2);
    // Half an hour, on Lord Howe.
    assert_eq!(
        fires("45 1 * * *", "Australia/Lord_Howe", "2030-04-06T12:00:00Z", "2030-04-07T12:00:00Z"),
        ["2030-04-07T01:45:00+11:00"]
    );
}

#[test]
fn a_wildcard_or_step_paces_real_time() {
    let spring = fires("30 * * * *", "Europe/Berlin", "2030-03-31T00:00:00Z", "2030-03-31T02:00:00Z");
    assert_eq!(spring, ["2030-03-31T01:30:00+01:00", "2030-03-31T03:30:00+02:00"]);
    let autumn = fires("0 */2 * * *", "Europe/Berlin", "2030-10-26T22:30:00Z", "2030-10-27T03:00:00Z");
    assert_eq!(autumn, ["2030-10-27T02:00:00+02:00", "2030-10-27T02:00:00+01:00", "2030-10-27T04:00:00+01:00"]);
    let seconds = fires("*/20 * * * * *", "UTC", "2030-01-01T00:00:00.5Z", "2030-01-01T00:01:00Z");
    assert_eq!(seconds.len(), 3);
}
