//! What a schedule will do, as a person reads it: instants with the zone's local time, and a mark where a change of the
//! zone's clock touches one.

use super::{DstTouch, Plan, Schedule};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// A fire to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewedFire {
    /// The due time.
    pub at: DateTime<Utc>,
    /// The same by the zone's clock, with its offset.
    pub local: String,
    /// What a change of the clock does to it.
    pub touched: Option<DstTouch>,
}

impl Plan {
    /// The zone that the rule reads.
    #[must_use]
    pub fn zone(&self) -> &'static str {
        match &self.rule {
            Schedule::Cron(cron) => cron.zone().name(),
            Schedule::EverySecs(_) | Schedule::Once(_) => "UTC",
        }
    }

    /// The fires from the due time `next` on, `count` at the most.
    #[must_use]
    pub fn preview(&self, next: Option<DateTime<Utc>>, count: usize) -> Vec<PreviewedFire> {
        std::iter::successors(next, |due| self.next_after(*due, *due)).take(count).map(|due| self.shown(due)).collect()
    }

    fn shown(&self, due: DateTime<Utc>) -> PreviewedFire {
        let Schedule::Cron(cron) = &self.rule else {
            return PreviewedFire { at: due, local: due.to_rfc3339_opts(SecondsFormat::AutoSi, true), touched: None };
        };
        let instant = due - self.jitter;
        let occurrence = cron.next_after(instant - TimeDelta::microseconds(1)).filter(|found| found.at == instant);
        PreviewedFire {
            at: due,
            local: due.with_timezone(&cron.zone()).to_rfc3339_opts(SecondsFormat::AutoSi, false),
            touched: occurrence.and_then(|found| found.touched),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CatchUp;

    #[test]
    fn fires_that_a_change_of_the_clock_touches_are_marked() {
        let shown = |expression: &str, from: &str| {
            let rule: Schedule = serde_json::from_value(
                serde_json::json!({"cron": {"expression": expression, "zone": "Europe/Berlin"}}),
            )
            .unwrap();
            let plan =
                Plan { rule, jitter: TimeDelta::zero(), starts_at: None, ends_at: None, catch_up: CatchUp::default() };
            let fires = plan.preview(plan.first(from.parse().unwrap()), 3);
            fires.into_iter().map(|fire| (fire.local, fire.touched.map_or("", DstTouch::as_str))).collect::<Vec<_>>()
        };
        let (gap, once, twice) =
            ("skipped hour: runs right after the gap", "doubled hour: runs once", "doubled hour: runs both times");
        let text = |local: &str, mark| (local.to_owned(), mark);
        assert_eq!(
            shown("30 2 * * *", "2030-03-29T12:00:00Z"),
            [
                text("2030-03-30T02:30:00+01:00", ""),
                text("2030-03-31T03:00:00+02:00", gap),
                text("2030-04-01T02:30:00+02:00", ""),
            ]
        );
        assert_eq!(
            shown("30 2,14 * * *", "2030-10-26T20:00:00Z"),
            [
                text("2030-10-27T02:30:00+02:00", once),
                text("2030-10-27T14:30:00+01:00", ""),
                text("2030-10-28T02:30:00+01:00", ""),
            ]
        );
        assert_eq!(
            shown("30 * * * *", "2030-10-27T00:00:00Z"),
            [
                text("2030-10-27T02:30:00+02:00", twice),
                text("2030-10-27T02:30:00+01:00", twice),
                text("2030-10-27T03:30:00+01:00", ""),
            ]
        );
    }
}
