//! Cron in every zone of the tz database over thirty years, against a walk over each of their minutes. Takes minutes where
//! `cron`'s sample takes seconds; `.ci/run` runs it, and by hand it is
//! `cargo test --release -p domain --test schedules -- --ignored`.

use crate::cron::{Dice, Naive};
use chrono::{DateTime, Offset as _, TimeZone as _, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use domain::Cron;

const SEED_VARIABLE: &str = "SERVANT_TEST_SEED";
const FROM: &str = "2000-01-01T00:00:00Z";
const TO: &str = "2030-01-01T00:00:00Z";
/// Patterns of each zone: one that names its hours, and one that paces.
const PATTERNS: usize = 2;
const DAY_MINUTES: i64 = 24 * 60;
/// No zone's clock is changed twice in so short a time.
const STEP_MINUTES: i64 = 6 * 60;

fn minute_of(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().unwrap().timestamp() / 60
}

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(minute * 60, 0).unwrap()
}

/// How far the zone's clock is ahead, in minutes.
fn offset(zone: Tz, minute: i64) -> i64 {
    let secs = i64::from(zone.offset_from_utc_datetime(&at(minute).naive_utc()).fix().local_minus_utc());
    assert_eq!(secs % 60, 0, "{zone}");
    secs / 60
}

/// From which minute on the zone's clock is how far ahead.
fn pieces(zone: Tz, from: i64, to: i64) -> Vec<(i64, i64)> {
    let mut pieces = vec![(from, offset(zone, from))];
    let mut reached = from;
    while reached < to {
        let (mut before, mut after) = (reached, reached + STEP_MINUTES);
        reached = after;
        let (old, new) = (offset(zone, before), offset(zone, after));
        if old == new {
            continue;
        }
        while after - before > 1 {
            let middle = before.midpoint(after);
            if offset(zone, middle) == old { before = middle } else { after = middle }
        }
        pieces.push((after, new));
    }
    pieces
}

/// Whether a pattern takes a minute of a clock; remembers the day.
struct Matcher<'a> {
    naive: &'a Naive,
    day: Option<(i64, bool)>,
}

impl Matcher<'_> {
    fn matches(&mut self, reading: i64) -> bool {
        let (day, minute) =
            (reading.div_euclid(DAY_MINUTES), usize::try_from(reading.rem_euclid(DAY_MINUTES)).unwrap());
        if !(self.naive.minutes[minute % 60] && self.naive.hours[minute / 60]) {
            return false;
        }
        match self.day {
            Some((known, takes)) if known == day => takes,
            _ => {
                let takes = self.naive.matches_day(at(day * DAY_MINUTES).date_naive());
                self.day = Some((day, takes));
                takes
            }
        }
    }
}

/// The minutes after `from` and not after `to` at which the pattern fires.
fn walk(naive: &Naive, pieces: &[(i64, i64)], from: i64, to: i64) -> Vec<i64> {
    let mut matcher = Matcher { naive, day: None };
    let (mut fires, mut piece) = (Vec::new(), 0);
    // The latest reading that has been on the clock.
    let mut reached = from + pieces[0].1;
    for minute in from + 1..=to {
        if pieces.get(piece + 1).is_some_and(|(start, _)| *start == minute) {
            piece += 1;
        }
        let reading = minute + pieces[piece].1;
        let is_due = if naive.paces {
            matcher.matches(reading)
        } else {
            let mut passed = false;
            while reached < reading {
                reached += 1;
                passed |= matcher.matches(reached);
            }
            passed
        };
        if is_due {
            fires.push(minute);
        }
    }
    fires
}

/// A pattern that fires some times a day, so that thirty years of it can be asked for.
fn sparse(dice: &mut Dice, paces: bool) -> Naive {
    loop {
        let naive = Naive::roll(dice);
        let taken = |set: &[bool]| set.iter().filter(|takes| **takes).count();
        if naive.paces == paces && taken(&naive.minutes) * taken(&naive.hours) <= 6 {
            return naive;
        }
    }
}

fn check(number: usize, zone: Tz, seed: u64) -> (usize, usize) {
    let mut dice = Dice(seed.wrapping_add(u64::try_from(number).unwrap()));
    let (from, to) = (minute_of(FROM), minute_of(TO));
    let pieces = pieces(zone, from, to);
    let mut count = 0;
    for pattern in 0..PATTERNS {
        let naive = sparse(&mut dice, pattern % 2 == 1);
        let cron = Cron::new(&naive.expression, zone.name()).unwrap();
        let next = |at: DateTime<Utc>| cron.next_after(at).map(|next| next.at);
        let mut found = std::iter::successors(next(at(from)), |at| next(*at)).take_while(|due| *due <= at(to));
        let expected = walk(&naive, &pieces, from, to);
        let about = || format!("{} in {zone}, {SEED_VARIABLE}={seed}", naive.expression);
        for due in &expected {
            assert_eq!(found.next(), Some(at(*due)), "{}", about());
        }
        assert_eq!(found.next(), None, "{}", about());
        count += expected.len();
    }
    (count, pieces.len() - 1)
}

#[test]
#[ignore = "takes minutes; .ci/run runs it"]
fn every_fire_of_thirty_years_in_every_zone_is_where_a_walk_over_the_minutes_finds_it() {
    let seed = std::env::var(SEED_VARIABLE)
        .ok()
        .map_or_else(|| u64::try_from(Utc::now().timestamp_micros()).unwrap(), |text| text.parse().unwrap());
    println!("{SEED_VARIABLE}={seed}");
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (fires, changes) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                let mine = TZ_VARIANTS.iter().enumerate().skip(first).step_by(threads);
                scope.spawn(move || {
                    mine.map(|(number, zone)| check(number, *zone, seed))
                        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    println!("{} zones, {changes} changes of the clock, {fires} fires", TZ_VARIANTS.len());
    assert!(TZ_VARIANTS.len() > 500 && changes > 5_000 && fires > 1_000_000);
}
