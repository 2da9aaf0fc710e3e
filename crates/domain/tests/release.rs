//! Laws of letting go what was held back: by and by, never everything at once, and in the end without a bound.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

use chrono::{DateTime, TimeDelta, Utc};
use domain::{ConnectionId, Release};
use proptest::prelude::*;

fn at(ms: i64) -> DateTime<Utc> {
    "2030-05-06T12:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::milliseconds(ms)
}

fn jobs(release: Release, connection: i64, over_secs: u32, ms: i64) -> u64 {
    let room = release.room(ConnectionId(connection), over_secs, at(ms));
    room.map_or(u64::MAX, |room| u64::from(room.jobs))
}

proptest! {
    #[test]
    fn the_room_grows_from_one_job_to_any_number_and_never_shrinks(
        is_wide: bool, connection in 1_i64..1_000_000, over_secs in 1_u32..600, steps in proptest::collection::vec(0_i64..2_000, 1..200),
    ) {
        let release = Release { at: at(0), is_wide };
        let (mut now, mut last) = (0, 0);
        for step in steps {
            now += step;
            let room = jobs(release, connection, over_secs, now);
            prop_assert!(room >= last, "{last} jobs, and {room} later");
            prop_assert!(room <= 1_023 || room == u64::MAX);
            last = room;
        }
        let first = jobs(release, connection, over_secs, 0);
        prop_assert!(first == 1 || (is_wide && first == 0));
        prop_assert_eq!(jobs(release, connection, over_secs, i64::from(over_secs) * 1_000), u64::MAX);
    }

    #[test]
    fn the_end_that_is_said_is_the_end(is_wide: bool, connection in 1_i64..1_000_000, over_secs in 1_u32..600) {
        let release = Release { at: at(0), is_wide };
        let until = release.room(ConnectionId(connection), over_secs, at(0)).unwrap().until;
        let before = release.room(ConnectionId(connection), over_secs, until - TimeDelta::microseconds(1));
        prop_assert_eq!(before.map(|room| room.until), Some(until));
        prop_assert_eq!(release.room(ConnectionId(connection), over_secs, until), None);
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nobody(back_ms in 1_i64..1_000_000, connection in 1_i64..1_000, is_wide: bool) {
        prop_assert_eq!(jobs(Release { at: at(0), is_wide }, connection, 10, -back_ms), 1);
    }

    #[test]
    fn those_that_are_let_go_together_do_not_begin_together(first in 1_i64..1_000_000, ms in 0_i64..1_000_000) {
        let release = Release { at: at(ms), is_wide: true };
        let began = |after_ms| (first..first + 1_000).filter(|id| jobs(release, *id, 10, ms + after_ms) > 0).count();
        // Within each half second of five, about a tenth of them begin.
        for step in 0..10 {
            let begin = began((step + 1) * 500) - began(step * 500);
            prop_assert!((50..=160).contains(&begin), "{begin} of 1000 begin within half second {step}");
        }
    }

    #[test]
    fn the_later_release_counts(own in 0_i64..1_000, shared in 0_i64..1_000) {
        let latest = Release::latest(Some(at(own)), Some(at(shared))).unwrap();
        prop_assert_eq!(latest, Release { at: at(own.max(shared)), is_wide: shared > own });
    }
}

#[test]
fn without_a_time_to_go_over_everything_goes_at_once() {
    let release = Release { at: at(0), is_wide: true };
    assert_eq!(release.room(ConnectionId(7), 0, at(0)), None);
    assert_eq!(Release::latest(None, None), None);
}
