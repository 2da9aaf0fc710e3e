//! Cron by the wall clock of a zone. `croner` reads the pattern and says which readings of a wall clock match, on a
//! clock that never jumps; which instants those readings are, where the zone's clock does jump, is decided here.
//!
//! - An hour that is named (`9`, `2,14`, `8-17`): every matching reading fires once. One that is skipped fires right
//!   after the gap (several skipped ones together, once), one that comes twice fires the first time.
//! - An hour that is a wildcard or a step (`*`, `*/4`): the pattern paces real time. What is skipped does not fire, what
//!   comes twice fires twice.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::{GapInfo, Tz};
use croner::parser::{CronParser, Seconds, Year};
use serde::{Deserialize, Serialize};

/// A cron expression of 5 or 6 fields and the zone whose wall clock it reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Words", try_from = "Words")]
pub struct Cron {
    expression: String,
    zone: Tz,
    pattern: croner::Cron,
    paces_real_time: bool,
}

/// The form in the ledger and on the wire.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    expression: String,
    zone: String,
}

/// Why a cron rule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not 5 or 6 fields.
    #[error("'{expression}' has {fields} fields, not 5 (minute first) or 6 (second first)")]
    Fields {
        /// The expression.
        expression: String,
        /// How many it has.
        fields: usize,
    },
    /// A field makes no sense.
    #[error("'{expression}' is no cron expression: {problem}")]
    Expression {
        /// The expression.
        expression: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no such day.
    #[error("'{0}' never fires")]
    Never(String),
    /// There is no such zone.
    #[error("'{0}' is no zone of the tz database, as Europe/Berlin and UTC are")]
    Zone(String),
}

/// What a change of the zone's clock did to a fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DstTouch {
    /// Its reading was skipped.
    Skipped,
    /// Its reading comes twice, and it fires the first time.
    DoubledOnce,
    /// Its reading comes twice, and it fires both times.
    DoubledTwice,
}

impl DstTouch {
    /// The sentence for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped hour: runs right after the gap",
            Self::DoubledOnce => "doubled hour: runs once",
            Self::DoubledTwice => "doubled hour: runs both times",
        }
    }
}

/// One instant that a cron rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// The instant.
    pub at: DateTime<Utc>,
    /// What a change of the clock did to it.
    pub touched: Option<DstTouch>,
}

impl TryFrom<Words> for Cron {
    type Error = CronError;
    fn try_from(words: Words) -> Result<Self, CronError> {
        Self::new(&words.expression, &words.zone)
    }
}

impl From<Cron> for Words {
    fn from(cron: Cron) -> Self {
        Self { zone: cron.zone.name().to_owned(), expression: cron.expression }
    }
}

impl Cron {
    /// Checks an expression and a zone's name.
    ///
    /// # Errors
    /// [`CronError`] says what is wrong.
    pub fn new(expression: &str, zone: &str) -> Result<Self, CronError> {
        let zone = zone.parse().map_err(|_| CronError::Zone(zone.to_owned()))?;
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let hour = match fields.len() {
            5 => fields[1],
            6 => fields[2],
            count => return Err(CronError::Fields { expression: expression.to_owned(), fields: count }),
        };
        let wrong = |e: croner::errors::CronError| CronError::Expression {
            expression: expression.to_owned(),
            problem: e.to_string(),
        };
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let pattern = parser.parse(expression).map_err(wrong)?;
        // Leap years and weekdays repeat after 400 years; a day that is on no page of that calendar is on none.
        if pattern.find_next_occurrence(&DateTime::UNIX_EPOCH, true).is_err() {
            return Err(CronError::Never(expression.to_owned()));
        }
        let paces_real_time = hour.contains(['*', '?', '/']);
        Ok(Self { expression: expression.to_owned(), zone, pattern, paces_real_time })
    }

    /// The expression as it was given.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The zone.
    #[must_use]
    pub const fn zone(&self) -> Tz {
        self.zone
    }

    /// The first instant strictly after `now`.
    #[must_use]
    pub fn next_after(&self, now: DateTime<Utc>) -> Option<Occurrence> {
        if self.paces_real_time { self.next_in_real_time(now) } else { self.next_by_wall_clock(now) }
    }

    /// Readings fire in their order, each once: the first that fires after `now`. Their instants never fall while
    /// readings rise, since a gap's all fire at its end and a doubled one's fires the first time.
    fn next_by_wall_clock(&self, now: DateTime<Utc>) -> Option<Occurrence> {
        let mut reading = self.reading(now);
        loop {
            reading = self.matching(reading, false)?;
            let (at, touched) = match self.zone.from_local_datetime(&reading) {
                MappedLocalTime::Single(at) => (at, None),
                MappedLocalTime::Ambiguous(first, _) => (first, Some(DstTouch::DoubledOnce)),
                MappedLocalTime::None => (GapInfo::new(&reading, &self.zone)?.end?, Some(DstTouch::Skipped)),
            };
            let at = at.with_timezone(&Utc);
            if at > now {
                return Some(Occurrence { at, touched });
            }
        }
    }

    /// Whatever instant reads a matching time fires: the first after `now`.
    fn next_in_real_time(&self, now: DateTime<Utc>) -> Option<Occurrence> {
        let start = self.reading(now);
        let onwards = self.next_onwards(start, now)?;
        // While a reading comes for the first time of two, the clock's way back is nearer than what lies beyond it.
        let MappedLocalTime::Ambiguous(first, second) = self.zone.from_local_datetime(&start) else {
            return Some(onwards);
        };
        if now >= second {
            return Some(onwards);
        }
        let turn = self.turn_between(first.with_timezone(&Utc), second.with_timezone(&Utc));
        let reading_at_turn = self.reading(turn);
        let reading = self.matching(reading_at_turn, true)?;
        let again = Occurrence { at: turn + (reading - reading_at_turn), touched: Some(DstTouch::DoubledTwice) };
        Some(if again.at < onwards.at { again } else { onwards })
    }

    fn next_onwards(&self, start: NaiveDateTime, now: DateTime<Utc>) -> Option<Occurrence> {
        let mut reading = start;
        loop {
            reading = self.matching(reading, false)?;
            let (at, touched) = match self.zone.from_local_datetime(&reading) {
                MappedLocalTime::Single(at) => (at, None),
                MappedLocalTime::Ambiguous(first, second) => {
                    (if first > now { first } else { second }, Some(DstTouch::DoubledTwice))
                }
                MappedLocalTime::None => continue,
            };
            if at > now {
                return Some(Occurrence { at: at.with_timezone(&Utc), touched });
            }
        }
    }

    /// What the zone's clock reads at an instant.
    pub(super) fn reading(&self, at: DateTime<Utc>) -> NaiveDateTime {
        at.with_timezone(&self.zone).naive_local()
    }

    /// The next matching reading, on a clock that never jumps.
    fn matching(&self, from: NaiveDateTime, inclusive: bool) -> Option<NaiveDateTime> {
        let next = self.pattern.find_next_occurrence(&Utc.from_utc_datetime(&from), inclusive).ok()?;
        Some(next.naive_utc())
    }

    /// The first second between two instants at which the zone's offset is the later one's.
    fn turn_between(&self, first: DateTime<Utc>, second: DateTime<Utc>) -> DateTime<Utc> {
        let offset = |at: DateTime<Utc>| self.zone.offset_from_utc_datetime(&at.naive_utc()).fix();
        let (mut before, mut after) = (0, (second - first).num_seconds());
        let changed = offset(second);
        while after - before > 1 {
            let middle = i64::midpoint(before, after);
            if offset(first + TimeDelta::seconds(middle)) == changed { after = middle } else { before = middle }
        }
        // `first` may carry a fraction; the clock turns on a whole second.
        let turn = first + TimeDelta::seconds(after);
        turn - TimeDelta::nanoseconds(i64::from(turn.timestamp_subsec_nanos()))
    }
}
