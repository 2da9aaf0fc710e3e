//! Charts as numbers: where bars, lines, ticks and words of an SVG stand. Pure; the template writes the elements, and the
//! style sheet has the colours.

use crate::view::{grouped, lag};
use chrono::{DateTime, TimeDelta, Utc};
use manager_api::{Percentiles, Throughput};

/// The drawing's own units.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 150.0;
/// Room for words at the left, below and above.
const LEFT: f64 = 60.0;
const BELOW: f64 = 18.0;
const ABOVE: f64 = 8.0;

/// A rectangle.
pub(crate) struct Bar {
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) width: String,
    pub(crate) height: String,
    pub(crate) class: &'static str,
}

/// A word at a place.
pub(crate) struct Word {
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) text: String,
    pub(crate) anchor: &'static str,
}

/// A line through points.
pub(crate) struct Line {
    pub(crate) points: String,
    pub(crate) class: &'static str,
}

/// An upright line with a word: something happened then.
pub(crate) struct Mark {
    pub(crate) x: String,
    pub(crate) text: String,
}

/// One chart.
pub(crate) struct Chart {
    /// What it says, for those who do not see it.
    pub(crate) label: String,
    pub(crate) bars: Vec<Bar>,
    pub(crate) lines: Vec<Line>,
    pub(crate) marks: Vec<Mark>,
    /// Heights of the lines across.
    pub(crate) grid: Vec<String>,
    pub(crate) words: Vec<Word>,
    /// Where the drawing begins and ends.
    pub(crate) left: String,
    pub(crate) right: String,
    pub(crate) bottom: String,
}

fn units(value: f64) -> String {
    format!("{value:.1}")
}

/// The next round number: 1, 2 or 5 and zeros.
fn round_up(value: i64) -> i64 {
    let mut step = 1;
    loop {
        for factor in [1, 2, 5] {
            if step * factor >= value {
                return step * factor;
            }
        }
        step *= 10;
        if step > i64::MAX / 50 {
            return i64::MAX;
        }
    }
}

struct Frame {
    top: i64,
    points: usize,
}

impl Frame {
    fn width(&self) -> f64 {
        (WIDTH - LEFT) / self.points.max(1) as f64
    }

    fn x(&self, at: usize) -> f64 {
        LEFT + self.width() * at as f64
    }

    fn y(&self, value: i64) -> f64 {
        let share = value as f64 / self.top.max(1) as f64;
        HEIGHT - BELOW - share.clamp(0.0, 1.0) * (HEIGHT - BELOW - ABOVE)
    }
}

/// What the charts of one stretch of time have in common.
pub(crate) struct Timeline<'a> {
    of: &'a Throughput,
    points: usize,
}

impl<'a> Timeline<'a> {
    pub(crate) fn new(of: &'a Throughput) -> Self {
        let points = (of.until - of.from).num_seconds() / i64::from(of.step_secs.max(1)) + 1;
        Self { of, points: usize::try_from(points).unwrap_or(1) }
    }

    /// The place of a moment, if it lies within.
    fn place(&self, at: DateTime<Utc>) -> Option<usize> {
        let steps = (at - self.of.from).num_seconds().div_euclid(i64::from(self.of.step_secs.max(1)));
        usize::try_from(steps).ok().filter(|place| *place < self.points)
    }

    fn by_place(&self, value: impl Fn(&manager_api::ThroughputPoint) -> i64) -> Vec<i64> {
        let mut values = vec![0; self.points];
        for point in &self.of.points {
            if let Some(place) = self.place(point.at) {
                values[place] = value(point);
            }
        }
        values
    }

    fn frame(&self, greatest: i64) -> Frame {
        Frame { top: round_up(greatest.max(1)), points: self.points }
    }

    fn chart(&self, frame: &Frame, label: String, top: String, marks: &[(DateTime<Utc>, String)]) -> Chart {
        let time = |at: DateTime<Utc>| {
            let format = if self.of.step_secs >= 3_600 { "%d %b" } else { "%H:%M" };
            at.format(format).to_string()
        };
        let middle = self.of.from + TimeDelta::seconds((self.of.until - self.of.from).num_seconds() / 2);
        let word = |x: f64, text: String, anchor| Word { x: units(x), y: units(HEIGHT - 4.0), text, anchor };
        let side = |y: f64, text: String| Word { x: units(LEFT - 6.0), y: units(y), text, anchor: "end" };
        Chart {
            label,
            bars: Vec::new(),
            lines: Vec::new(),
            marks: marks
                .iter()
                .filter_map(|(at, text)| Some(Mark { x: units(frame.x(self.place(*at)?)), text: text.clone() }))
                .collect(),
            grid: vec![units(frame.y(frame.top)), units(frame.y(0))],
            words: vec![
                side(frame.y(frame.top) + 4.0, top),
                side(frame.y(0), "0".to_owned()),
                word(LEFT, time(self.of.from), "start"),
                word((LEFT + WIDTH) / 2.0, time(middle), "middle"),
                word(WIDTH, format!("{} UTC", time(self.of.until)), "end"),
            ],
            left: units(LEFT),
            right: units(WIDTH),
            bottom: units(HEIGHT - BELOW),
        }
    }

    /// Jobs that ended by step: those that succeeded, and those that failed on top.
    pub(crate) fn ended(&self, marks: &[(DateTime<Utc>, String)]) -> Chart {
        let (good, bad) = (self.by_place(|point| point.succeeded), self.by_place(|point| point.failed));
        let sums: Vec<i64> = good.iter().zip(&bad).map(|(good, bad)| good + bad).collect();
        let frame = self.frame(sums.iter().copied().max().unwrap_or(0));
        let (all, failed): (i64, i64) = (sums.iter().sum(), bad.iter().sum());
        let label = format!("{} jobs ended, {} of them failed", grouped(all), grouped(failed));
        let mut chart = self.chart(&frame, label, grouped(frame.top), marks);
        let bar = |at: usize, from: i64, to: i64, class| Bar {
            x: units(frame.x(at) + 0.5),
            y: units(frame.y(to)),
            width: units((frame.width() - 1.0).max(0.5)),
            // What is there is seen, however little it is.
            height: units((frame.y(from) - frame.y(to)).max(1.0)),
            class,
        };
        for (at, (good, sum)) in good.iter().zip(&sums).enumerate() {
            if *good > 0 {
                chart.bars.push(bar(at, 0, *good, "good"));
            }
            if sum > good {
                chart.bars.push(bar(at, *good, *sum, "bad"));
            }
        }
        chart
    }

    /// How long jobs waited: within which time half of them, 95 % and 99 % were claimed.
    pub(crate) fn waited(&self, marks: &[(DateTime<Utc>, String)]) -> Chart {
        self.percentiles("were claimed", |point| point.waited_ms, marks)
    }

    /// How long jobs ran.
    pub(crate) fn ran(&self, marks: &[(DateTime<Utc>, String)]) -> Chart {
        self.percentiles("were done", |point| point.ran_ms, marks)
    }

    fn percentiles(
        &self,
        what: &str,
        of: impl Fn(&manager_api::ThroughputPoint) -> Percentiles,
        marks: &[(DateTime<Utc>, String)],
    ) -> Chart {
        let (half, most) = (self.by_place(|point| of(point).p50), self.by_place(|point| of(point).p95));
        let nearly_all = self.by_place(|point| of(point).p99);
        let greatest = |values: &[i64]| values.iter().copied().max().unwrap_or(0);
        let frame = self.frame(greatest(&nearly_all));
        let label = format!("99 % of jobs {what} within {} at the worst", lag(greatest(&nearly_all)));
        let mut chart = self.chart(&frame, label, lag(frame.top), marks);
        let line = |values: &[i64], class| {
            let points = values
                .iter()
                .enumerate()
                .map(|(at, value)| format!("{},{}", units(frame.x(at) + frame.width() / 2.0), units(frame.y(*value))));
            Line { points: points.collect::<Vec<_>>().join(" "), class }
        };
        chart.lines.extend([line(&nearly_all, "soft"), line(&most, "mid"), line(&half, "line")]);
        chart
    }
}

/// How much of a quota was used, by the quarter of an hour of the last day, in the sizes of [`spark`]; the greatest of each.
pub(crate) fn day(minutes: &[(DateTime<Utc>, u64, u64)], now: DateTime<Utc>) -> Vec<Bar> {
    let mut shares = [0.0_f64; 96];
    for (minute, used, maximum) in minutes {
        let back = usize::try_from((now - *minute).num_minutes().div_euclid(15));
        if let Some(share) = back.ok().and_then(|back| shares.iter_mut().rev().nth(back)) {
            *share = share.max(*used as f64 / (*maximum).max(1) as f64);
        }
    }
    let bar = |(at, share): (usize, &f64)| {
        let height = (share.min(1.0) * 20.0).max(1.0);
        let class = if *share >= 1.0 { "bad" } else { "good" };
        Bar { x: units(at as f64), y: units(20.0 - height), width: "1".to_owned(), height: units(height), class }
    };
    shares.iter().enumerate().filter(|(_, share)| **share > 0.0).map(bar).collect()
}

/// A few bars without words, for a row of a table: 24 hours, the current one last.
pub(crate) fn spark(values: &[i64]) -> Vec<Bar> {
    let greatest = values.iter().copied().max().unwrap_or(0).max(1) as f64;
    let bar = |(at, value): (usize, &i64)| {
        let height = (*value as f64 / greatest * 20.0).max(1.0);
        Bar {
            x: units(at as f64 * 4.0),
            y: units(20.0 - height),
            width: "3".to_owned(),
            height: units(height),
            class: "bad",
        }
    };
    values.iter().enumerate().filter(|(_, value)| **value > 0).map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use manager_api::ThroughputPoint;

    fn hour(points: Vec<ThroughputPoint>) -> Throughput {
        let until: DateTime<Utc> = "2030-05-06T12:00:00Z".parse().unwrap();
        Throughput { step_secs: 60, from: until - TimeDelta::minutes(59), until, points }
    }

    fn point(at: &str, succeeded: i64, failed: i64) -> ThroughputPoint {
        let (waited_ms_mean, waited_ms_max) = (5, 30);
        ThroughputPoint {
            at: at.parse().unwrap(),
            succeeded,
            failed,
            cancelled: 0,
            waited_ms_mean,
            waited_ms_max,
            waited_ms: Percentiles { p50: 4, p95: 20, p99: 30 },
            ran_ms_mean: 1,
            ran_ms: Percentiles::default(),
        }
    }

    #[test]
    fn bars_stand_where_their_minutes_are() {
        let of = hour(vec![point("2030-05-06T11:01:00Z", 8, 2), point("2030-05-06T12:00:00Z", 0, 1)]);
        let marks = [
            ("2030-05-06T11:30:10Z".parse().unwrap(), "v2".to_owned()),
            ("2030-05-06T10:00:00Z".parse().unwrap(), "v1".to_owned()),
        ];
        let chart = Timeline::new(&of).ended(&marks);
        assert_eq!(chart.label, "11 jobs ended, 3 of them failed");
        let places: Vec<_> = chart.bars.iter().map(|bar| (bar.x.as_str(), bar.class)).collect();
        assert_eq!(places, [("60.5", "good"), ("60.5", "bad"), ("591.5", "bad")]);
        assert_eq!(chart.words[0].text, "10", "the scale ends at a round number");
        assert_eq!(chart.marks.iter().map(|mark| mark.text.as_str()).collect::<Vec<_>>(), ["v2"], "v1 is too long ago");
    }

    #[test]
    fn percentiles_are_lines_one_above_the_other() {
        let of = hour(vec![point("2030-05-06T11:01:00Z", 8, 2)]);
        let chart = Timeline::new(&of).waited(&[]);
        assert_eq!(chart.label, "99 % of jobs were claimed within 30 ms at the worst");
        let heights: Vec<f64> = chart.lines.iter().map(|line| height_at(&line.points, 0)).collect();
        assert!(heights.is_sorted_by(|higher, lower| higher < lower), "p99, p95, p50 from above: {heights:?}");
        assert_eq!(chart.words[0].text, "50 ms");
    }

    fn height_at(points: &str, place: usize) -> f64 {
        points.split(' ').nth(place).unwrap().split_once(',').unwrap().1.parse().unwrap()
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let of = hour(Vec::new());
        let chart = Timeline::new(&of).waited(&[]);
        assert!(chart.bars.is_empty() && chart.lines.iter().all(|line| line.points.split(' ').count() == 60));
        assert_eq!((round_up(1), round_up(3), round_up(51), round_up(i64::MAX)), (1, 5, 100, i64::MAX));
        assert!(spark(&[0; 24]).is_empty());
        let now: DateTime<Utc> = "2030-05-06T12:00:00Z".parse().unwrap();
        let bars = day(&[(now - TimeDelta::minutes(20), 50, 100), (now - TimeDelta::days(2), 9, 10)], now);
        assert_eq!(
            bars.iter().map(|bar| (bar.x.as_str(), bar.height.as_str())).collect::<Vec<_>>(),
            [("94.0", "10.0")]
        );
    }
}
