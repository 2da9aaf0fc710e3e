//! Owns the proof that judgements of figures hold for any figures, and not only for those that come to mind.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    DeleteFuse, Nulls, Volume, clocks_apart, counts_differ, hour_of_week, is_late, judge_deletes, judge_volume,
    quota_lasts_hours, remember,
};
use proptest::prelude::*;

fn at(secs: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(secs, 0).unwrap()
}

#[test]
fn volumes_are_held_against_the_same_hour_of_the_weeks_before() {
    let usual = [100, 104, 98, 101, 97];
    assert_eq!(judge_volume(&usual, 100), Volume::Ordinary);
    assert_eq!(judge_volume(&usual, 0), Volume::Silent { median: 100.0 });
    assert!(matches!(judge_volume(&usual, 400), Volume::Unusual { median: 100.0, .. }));
    assert!(matches!(judge_volume(&usual, 20), Volume::Unusual { .. }));
    assert_eq!(judge_volume(&usual[..3], 4_000), Volume::Ordinary, "three weeks say nothing yet");
    assert_eq!(judge_volume(&[0, 50, 60, 70], 0), Volume::Ordinary, "it was silent before");
    assert_eq!(judge_volume(&[0, 1, 0, 2], 3), Volume::Ordinary, "a quiet hour is not busy for three records");
    assert!(matches!(judge_deletes(&[0, 0, 1, 0], 500), Volume::Unusual { .. }));
    assert_eq!(judge_deletes(&[900, 905, 910, 890], 0), Volume::Ordinary, "no deletes are no loss");
}

#[test]
fn fields_that_turn_empty_are_told_from_chance() {
    let never = Nulls { usual_rows: 1_000.0, usual_nulls: 0.0 };
    assert!(never.is_jump(50, 25));
    assert!(!never.is_jump(50, 5));
    assert!(!never.is_jump(10, 10), "ten rows say nothing");
    assert!(!Nulls { usual_rows: 20.0, usual_nulls: 0.0 }.is_jump(50, 50), "nothing is usual yet");
    let half = Nulls { usual_rows: 1_000.0, usual_nulls: 500.0 };
    assert!(!half.is_jump(50, 34), "chance");
    assert!(half.is_jump(500, 400));
    assert!(!half.is_jump(500, 0), "fewer are no trouble");
}

#[test]
fn clocks_lateness_and_quotas_have_bounds() {
    assert_eq!(clocks_apart(at(1_000), at(1_020)), None);
    assert_eq!(clocks_apart(at(1_000), at(1_031)), Some(TimeDelta::seconds(-31)));
    let overlap = TimeDelta::seconds(900);
    assert!(is_late(TimeDelta::seconds(451), overlap) && !is_late(TimeDelta::seconds(450), overlap));
    assert!(!is_late(TimeDelta::seconds(9), TimeDelta::zero()));
    let hour = TimeDelta::hours(1);
    assert_eq!(quota_lasts_hours(60, 50, 100, hour), None, "four hours");
    assert_eq!(quota_lasts_hours(80, 60, 100, hour), Some(1.0));
    assert_eq!(quota_lasts_hours(40, 0, 100, hour), None, "less than half is used");
    assert_eq!(quota_lasts_hours(100, 100, 100, hour), Some(0.0));
    assert_eq!(quota_lasts_hours(80, 90, 100, hour), None, "it recovers");
    assert_eq!(hour_of_week(at(0)), 3 * 24, "1970 began on a Thursday");
    assert_eq!(hour_of_week(at(-3 * 86_400)), 0);
}

#[test]
fn the_fuse_holds_by_share_and_by_number() {
    let fuse = DeleteFuse { pct_max: 5, rows_max: 1_000 };
    assert!(!fuse.holds(5, 100) && fuse.holds(6, 100));
    assert!(!fuse.holds(1_000, 1_000_000) && fuse.holds(1_001, 1_000_000));
    assert!(!fuse.holds(0, 0) && fuse.holds(1, 1));
}

proptest! {
    #[test]
    fn what_was_seen_in_most_weeks_is_ordinary(usual in 0_i64..1_000_000, weeks in 4_usize..9) {
        let history = vec![usual; weeks];
        prop_assert_eq!(judge_volume(&history, usual), Volume::Ordinary);
        let verdict = judge_volume(&history, usual * 3 + 100);
        prop_assert!(matches!(verdict, Volume::Unusual { .. }), "{:?}", verdict);
    }

    #[test]
    fn more_is_never_more_ordinary(mut history in prop::collection::vec(0_i64..10_000, 4..9), more in 0_i64..100_000) {
        history.sort_unstable();
        let above = history.last().unwrap() + more;
        if judge_volume(&history, above) == Volume::Ordinary {
            let middle = history[history.len() / 2];
            prop_assert_eq!(judge_volume(&history, middle), Volume::Ordinary);
        } else {
            prop_assert!(judge_volume(&history, above + 1) != Volume::Ordinary);
        }
    }

    #[test]
    fn the_order_of_weeks_does_not_matter(history in prop::collection::vec(0_i64..10_000, 0..9), count in 0_i64..20_000) {
        let mut turned = history.clone();
        turned.reverse();
        prop_assert_eq!(judge_volume(&history, count), judge_volume(&turned, count));
    }

    #[test]
    fn histories_keep_the_newest(counts in prop::collection::vec(0_i64..100, 0..40)) {
        let mut history = Vec::new();
        counts.iter().for_each(|count| remember(&mut history, *count));
        let newest: Vec<i64> = counts.iter().rev().take(8).copied().collect();
        prop_assert_eq!(history, newest);
    }

    #[test]
    fn a_jump_that_stays_is_usual_in_the_end(usual in 0.0_f64..0.3, rows in 50_u64..1_000) {
        let mut nulls = Nulls { usual_rows: 5_000.0, usual_nulls: 5_000.0 * usual };
        prop_assert!(nulls.is_jump(rows, rows));
        let mut samples = 0;
        while nulls.is_jump(rows, rows) {
            nulls = nulls.after(rows, rows, true);
            samples += 1;
            prop_assert!(samples < 2_000 && nulls.usual_nulls <= nulls.usual_rows);
        }
        prop_assert!(samples > 1, "one sample changes nothing");
    }

    #[test]
    fn counts_differ_beyond_what_moved(ours in 0_u64..1_000, theirs in 0_u64..1_000, moving in 0_u64..1_000) {
        prop_assert_eq!(counts_differ(ours, theirs, moving), counts_differ(theirs, ours, moving));
        prop_assert!(!counts_differ(ours, ours, moving));
        prop_assert_eq!(counts_differ(ours, theirs, 0), ours != theirs);
    }

    #[test]
    fn a_fuse_that_holds_holds_more(absent in 1_u64..5_000, live in 0_u64..100_000) {
        let fuse = DeleteFuse { pct_max: 5, rows_max: 1_000 };
        if fuse.holds(absent, live) {
            prop_assert!(fuse.holds(absent + 1, live));
        }
    }
}
