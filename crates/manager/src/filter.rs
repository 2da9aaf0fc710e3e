//! From the words of a URL to a filter of jobs; the same words in the API and on the pages.

use crate::error::ApiError;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, GroupId, JobId, JobState, Kind};
use manager_api::JobQuery;
use store::JobFilter;

/// Rows of a page unless said.
pub(crate) const PAGE_ROWS: i64 = 50;

/// The filter, and how many rows.
pub(crate) fn of_query(query: &JobQuery, now: DateTime<Utc>) -> Result<(JobFilter, i64), ApiError> {
    let filter = JobFilter {
        states: given(&query.state).map(states).transpose()?.unwrap_or_default(),
        kind: given(&query.kind)
            .map(Kind::new)
            .transpose()
            .map_err(|error| ApiError::bad_request(format!("kind: {error}")))?,
        account: number(&query.account, "account")?.map(AccountId),
        group: number(&query.group, "group")?.map(GroupId),
        older_than: age(&query.older_than, "older_than")?.map(|age| now - age),
        newer_than: age(&query.newer_than, "newer_than")?.map(|age| now - age),
        before_id: number(&query.before, "before")?.map(JobId),
    };
    Ok((filter, limit_of(number(&query.limit, "limit")?)?))
}

/// A page's rows, checked.
pub(crate) fn limit_of(limit: Option<i64>) -> Result<i64, ApiError> {
    match limit.unwrap_or(PAGE_ROWS) {
        limit if (1..=store::PAGE_ROWS_MAX).contains(&limit) => Ok(limit),
        limit => Err(ApiError::bad_request(format!("limit is {limit}, not between 1 and {}", store::PAGE_ROWS_MAX))),
    }
}

/// A form without an entry sends an empty text.
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

fn states(text: &str) -> Result<Vec<JobState>, ApiError> {
    let mut states = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if name == "pending" {
            states.extend(JobState::ALL.into_iter().filter(|state| state.is_pending()));
        } else {
            states.push(name.parse().map_err(|error| ApiError::bad_request(format!("state: {error}, and pending")))?);
        }
    }
    states.sort_unstable();
    states.dedup();
    Ok(states)
}

fn number(text: &Option<String>, key: &str) -> Result<Option<i64>, ApiError> {
    let wrong = |text: &str| ApiError::bad_request(format!("{key}: '{text}' is no number"));
    given(text).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
}

fn age(text: &Option<String>, key: &str) -> Result<Option<TimeDelta>, ApiError> {
    let wrong = |text: &str| ApiError::bad_request(format!("{key}: '{text}' is no age; write 90s, 15m, 6h or 2d"));
    given(text).map(|text| parse_age(text).ok_or_else(|| wrong(text))).transpose()
}

fn parse_age(text: &str) -> Option<TimeDelta> {
    let unit = text.chars().last()?;
    let secs: i64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let count: u32 = text.strip_suffix(unit)?.parse().ok()?;
    // Ten years: far beyond what is kept, and no date arithmetic overflows.
    TimeDelta::try_seconds(i64::from(count) * secs).filter(|age| *age <= TimeDelta::days(3_650))
}

/// Characters of a name or a reason that are kept.
const TEXT_CHARS_MAX: usize = 500;

/// A name or a reason, trimmed; one is needed.
pub(crate) fn words<'a>(name: &str, text: &'a str) -> Result<&'a str, ApiError> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > TEXT_CHARS_MAX {
        return Err(ApiError::bad_request(format!("{name} is empty or has more than {TEXT_CHARS_MAX} characters")));
    }
    Ok(text)
}

/// Who overrides and why; both are needed.
pub(crate) fn who_and_why<'a>(by: &'a str, reason: &'a str) -> Result<(&'a str, &'a str), ApiError> {
    let hint = |error: ApiError| error.hint("say who does it and why: others will wonder");
    Ok((words("by", by).map_err(hint)?, words("reason", reason).map_err(hint)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_filters() {
        let query = JobQuery {
            state: Some("pending,failed".to_owned()),
            kind: Some(String::new()),
            older_than: Some("15m".to_owned()),
            ..JobQuery::default()
        };
        let (filter, limit) = of_query(&query, DateTime::UNIX_EPOCH).unwrap();
        assert_eq!(filter.states, [JobState::Scheduled, JobState::Ready, JobState::Queued, JobState::Failed]);
        assert_eq!(filter.kind, None);
        assert_eq!(filter.older_than, Some(DateTime::UNIX_EPOCH - TimeDelta::minutes(15)));
        assert_eq!(limit, PAGE_ROWS);
    }

    #[test]
    fn nonsense_is_named() {
        for age in ["", "5", "m", "-1h", "5 m", "ü"] {
            assert_eq!(parse_age(age), None, "{age:?} was taken");
        }
        let query = JobQuery { state: Some("done".to_owned()), ..JobQuery::default() };
        assert!(of_query(&query, DateTime::UNIX_EPOCH).unwrap_err().message.contains("'done' is not a state"));
        assert!(limit_of(Some(201)).is_err());
    }
}
