//! Owns the words that stand for days in a query, as LAST_N_DAYS:7. Does not own comparison.

use chrono::{DateTime, Datelike, Duration, Months, NaiveDate, Utc};

/// A span of days: from its first day until before its last.
pub(super) type Days = (NaiveDate, NaiveDate);

/// Whether a word stands for days; `name` is in upper case, `count` what follows the colon.
#[must_use]
pub(super) fn is_known(name: &str, count: Option<u32>) -> bool {
    days(name, count, DateTime::default()).is_some()
}

/// The days that a word stands for, at `now`. Weeks begin on Sunday; the user's zone is UTC.
#[must_use]
pub(super) fn days(name: &str, count: Option<u32>, now: DateTime<Utc>) -> Option<Days> {
    let today = now.date_naive();
    let day = |days: i64| today + Duration::days(days);
    let week = day(-i64::from(today.weekday().num_days_from_sunday()));
    let month = today.with_day(1)?;
    let quarter = month.with_month(month.month0() / 3 * 3 + 1)?;
    let year = month.with_month(1)?;
    let span = |first: NaiveDate, back: u32, months: u32| {
        Some((first.checked_sub_months(Months::new(back))?, first.checked_add_months(Months::new(months))?))
    };
    // Beyond that the calendar ends.
    let count = count.filter(|count| *count <= 36_500);
    match (name, count) {
        ("TODAY", None) => Some((today, day(1))),
        ("YESTERDAY", None) => Some((day(-1), today)),
        ("TOMORROW", None) => Some((day(1), day(2))),
        ("THIS_WEEK", None) => Some((week, week + Duration::days(7))),
        ("LAST_WEEK", None) => Some((week - Duration::days(7), week)),
        ("NEXT_WEEK", None) => Some((week + Duration::days(7), week + Duration::days(14))),
        ("THIS_MONTH", None) => span(month, 0, 1),
        ("LAST_MONTH", None) => span(month, 1, 0),
        ("NEXT_MONTH", None) => span(month.checked_add_months(Months::new(1))?, 0, 1),
        ("THIS_QUARTER", None) => span(quarter, 0, 3),
        ("LAST_QUARTER", None) => span(quarter, 3, 0),
        ("THIS_YEAR", None) => span(year, 0, 12),
        ("LAST_YEAR", None) => span(year, 12, 0),
        ("NEXT_YEAR", None) => span(year.checked_add_months(Months::new(12))?, 0, 12),
        ("LAST_90_DAYS", None) => Some((day(-90), day(1))),
        ("NEXT_90_DAYS", None) => Some((day(1), day(91))),
        ("LAST_N_DAYS", Some(count)) => Some((day(-i64::from(count)), day(1))),
        ("NEXT_N_DAYS", Some(count)) => Some((day(1), day(i64::from(count) + 1))),
        ("N_DAYS_AGO", Some(count)) => Some((day(-i64::from(count)), day(1 - i64::from(count)))),
        ("LAST_N_WEEKS", Some(count)) => Some((week - Duration::weeks(i64::from(count)), week)),
        ("LAST_N_MONTHS", Some(count)) => span(month, count, 0),
        ("LAST_N_YEARS", Some(count)) => span(year, count.checked_mul(12)?, 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_for_days() {
        let now = DateTime::parse_from_rfc3339("2024-02-29T10:00:00Z").unwrap().to_utc();
        let found = |name: &str, count| {
            let (first, last) = days(name, count, now).unwrap();
            format!("{first} {last}")
        };
        assert_eq!(found("TODAY", None), "2024-02-29 2024-03-01");
        assert_eq!(found("LAST_N_DAYS", Some(7)), "2024-02-22 2024-03-01");
        assert_eq!(found("THIS_WEEK", None), "2024-02-25 2024-03-03");
        assert_eq!(found("LAST_MONTH", None), "2024-01-01 2024-02-01");
        assert_eq!(found("THIS_QUARTER", None), "2024-01-01 2024-04-01");
        assert_eq!(found("LAST_YEAR", None), "2023-01-01 2024-01-01");
        assert!(!is_known("TODAY", Some(1)) && !is_known("LAST_N_DAYS", None) && !is_known("SOON", None));
    }
}
