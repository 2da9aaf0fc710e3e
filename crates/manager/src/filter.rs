//! From the words of a URL to a filter of jobs; the same words in the API and on the pages.

use crate::error::ApiError;
use chrono::{DateTime, Utc};
use domain::{JobId, Search, age_secs};
use manager_api::JobQuery;
use store::JobFilter;

/// Rows of a page unless said.
pub(crate) const PAGE_ROWS: i64 = 50;

/// The filter, and how many rows.
pub(crate) fn of_query(query: &JobQuery, now: DateTime<Utc>) -> Result<(JobFilter, i64), ApiError> {
    let filter = JobFilter::of(&search_of(query)?, now);
    let filter = JobFilter { before_id: number(&query.before, "before")?.map(JobId), ..filter };
    Ok((filter, limit_of(number(&query.limit, "limit")?)?))
}

/// What is searched: the words of `q` and the other entries together.
pub(crate) fn search_of(query: &JobQuery) -> Result<Search, ApiError> {
    let mut search: Search = given(&query.q)
        .unwrap_or_default()
        .parse()
        .map_err(|error: String| ApiError::bad_request(error).hint("the page /keys says the words of the search"))?;
    if let Some(names) = given(&query.state) {
        search.states.clear();
        search.take_states(names).map_err(ApiError::bad_request)?;
    }
    let entries = [("kind", &query.kind), ("account", &query.account), ("group", &query.group)];
    for (key, value) in entries {
        if let Some(value) = given(value) {
            search.take(&format!("{key}:{value}")).map_err(ApiError::bad_request)?;
        }
    }
    for (key, value, place) in [
        ("older_than", &query.older_than, &mut search.older_secs),
        ("newer_than", &query.newer_than, &mut search.newer_secs),
    ] {
        if let Some(text) = given(value) {
            let wrong = || ApiError::bad_request(format!("{key}: '{text}' is no age; write 90s, 15m, 6h or 2d"));
            *place = Some(age_secs(text).ok_or_else(wrong)?);
        }
    }
    Ok(search)
}

/// A page's rows, checked.
pub(crate) fn limit_of(limit: Option<i64>) -> Result<i64, ApiError> {
    match limit.unwrap_or(PAGE_ROWS) {
        limit if (1..=store::PAGE_ROWS_MAX).contains(&limit) => Ok(limit),
        limit => Err(ApiError::bad_request(format!("limit is {limit}, not between 1 and {}", store::PAGE_ROWS_MAX))),
    }
}

/// What the page behind these rows is asked for with: the last one's place, by which they are in order. None when the page
/// is not full, since then it is the last.
pub(crate) fn next_of<R, P>(rows: &[R], limit: i64, place: impl FnOnce(&R) -> P) -> Option<P> {
    let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows == limit);
    rows.last().filter(|_| is_full).map(place)
}

/// A form without an entry sends an empty text.
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

fn number(text: &Option<String>, key: &str) -> Result<Option<i64>, ApiError> {
    let wrong = |text: &str| ApiError::bad_request(format!("{key}: '{text}' is no number"));
    given(text).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
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

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use domain::JobState;

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
        let query = JobQuery { older_than: Some("-1h".to_owned()), ..JobQuery::default() };
        assert!(of_query(&query, DateTime::UNIX_EPOCH).unwrap_err().message.contains("older_than: '-1h' is no age"));
        let query = JobQuery { q: Some("colour:blue".to_owned()), ..JobQuery::default() };
        assert!(of_query(&query, DateTime::UNIX_EPOCH).unwrap_err().message.contains("'colour:' is no word"));
        let query = JobQuery { state: Some("done".to_owned()), ..JobQuery::default() };
        assert!(of_query(&query, DateTime::UNIX_EPOCH).unwrap_err().message.contains("'done' is not a state"));
        assert!(limit_of(Some(201)).is_err());
    }
}
