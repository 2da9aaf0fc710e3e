//! Errors by group: what attempts ended with, folded from appended deltas; never counted over jobs or attempts on a
//! request's path. Which errors are one group is `domain::Fingerprint`'s to say; the appends are part of `settle` and
//! `retry` in `jobs`.

use crate::{Leadership, Store, StoreError};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{ErrorClass, Fingerprint, is_spike};

/// Groups of one page, each with a day's hours beside it.
pub const ERROR_GROUPS_MAX: i64 = 30;
/// Groups whose title one search looks at.
const LOOK_MAX: i64 = 100;
/// Hours shown, the current one included.
const HOURS: i64 = 24;
/// Days for which hours are kept.
const HOURS_KEPT_DAYS: i64 = 8;

/// A group of errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorGroupRow {
    /// What makes it one.
    pub fingerprint: String,
    /// Jobs of which kind.
    pub kind: String,
    /// The errors' class.
    pub class: String,
    /// The first line, without what differs.
    pub title: String,
    /// The latest whole chain.
    pub error: String,
    /// The job of that.
    pub job_id: i64,
    /// When first.
    pub first_seen_at: DateTime<Utc>,
    /// When last.
    pub last_seen_at: DateTime<Utc>,
    /// The build that had it first, where it is known.
    pub first_version: Option<String>,
    /// The build that had it last.
    pub last_version: Option<String>,
    /// Attempts that ended so.
    pub attempts: i64,
    /// Jobs that have failed so and were not retried.
    pub failed: i64,
    /// Attempts by hour, the last [`HOURS`] of them, the current one last.
    pub hours: Vec<i64>,
}

impl ErrorGroupRow {
    /// Whether it came much more often in the latest hours than before.
    #[must_use]
    pub fn is_spike(&self) -> bool {
        // The current hour may have just begun.
        let (before, latest) = self.hours.split_at(self.hours.len().saturating_sub(2));
        is_spike(latest.iter().sum::<i64>(), &before.chunks(2).map(|pair| pair.iter().sum()).collect::<Vec<i64>>())
    }
}

/// Which groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorFilter {
    /// Of this kind.
    pub kind: Option<String>,
    /// Of this class.
    pub class: Option<String>,
    /// Behind this one, seen last at that time: the last group of the page before.
    pub before: Option<(DateTime<Utc>, String)>,
}

/// A page of what a search of titles finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorsFound {
    /// The groups, the one seen last first.
    pub groups: Vec<ErrorGroupRow>,
    /// Behind which one to look on; none: there are no more.
    pub next_before: Option<(DateTime<Utc>, String)>,
}

/// Behind every group that there is.
fn far_future() -> (DateTime<Utc>, String) {
    (DateTime::from_timestamp(253_402_300_799, 0).unwrap_or(DateTime::UNIX_EPOCH), String::new())
}

struct RawErrorGroup {
    fingerprint: String,
    kind: String,
    class: String,
    title: String,
    error: String,
    job_id: i64,
    first_seen_at: DateTime<Utc>,
    last_seen_at: DateTime<Utc>,
    first_version: Option<String>,
    last_version: Option<String>,
    attempts: i64,
    failed: i64,
    hours: Vec<DateTime<Utc>>,
    counts: Vec<i64>,
}

impl RawErrorGroup {
    fn at(self, now: DateTime<Utc>) -> ErrorGroupRow {
        ErrorGroupRow {
            fingerprint: self.fingerprint,
            kind: self.kind,
            class: self.class,
            title: self.title,
            error: self.error,
            job_id: self.job_id,
            first_seen_at: self.first_seen_at,
            last_seen_at: self.last_seen_at,
            first_version: self.first_version,
            last_version: self.last_version,
            attempts: self.attempts,
            failed: self.failed,
            hours: by_hour(&self.hours, &self.counts, now),
        }
    }
}

/// One checked statement over the groups of `$from`, which names `error_groups`, with their hours since `$3`; `$4` of them,
/// the one seen last first.
macro_rules! error_groups {
    ($name:literal, $from:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            RawErrorGroup,
            "-- " + $name + "\nSELECT fingerprint, kind, class, title, error, job_id, first_seen_at, last_seen_at, first_version,
                last_version, attempts, failed, coalesce(h.hours, '{}') AS \"hours!\", coalesce(h.counts, '{}') AS \"counts!\"
            FROM (SELECT error_groups.* FROM " + $from + " ORDER BY last_seen_at DESC, fingerprint DESC LIMIT $4) AS g
            LEFT JOIN LATERAL (
                SELECT array_agg(error_hours.hour) AS hours, array_agg(error_hours.attempts) AS counts FROM error_hours
                WHERE error_hours.fingerprint = g.fingerprint AND hour > $3) AS h ON true
            ORDER BY last_seen_at DESC, fingerprint DESC",
            $($argument),*
        )
    };
}

impl Store {
    /// Groups of errors, the one seen last first, [`ERROR_GROUPS_MAX`] at the most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_errors(&self, filter: &ErrorFilter, limit: i64) -> Result<Vec<ErrorGroupRow>, StoreError> {
        let (at, fingerprint) = filter.before.clone().unwrap_or_else(far_future);
        let since = self.clock.now() - TimeDelta::hours(HOURS);
        let limit = limit.clamp(1, ERROR_GROUPS_MAX);
        let class = filter.class.as_deref();
        // Each by an index in its order: a rare kind or class is found without reading the others.
        let rows = match (&filter.kind, class) {
            (Some(kind), _) => {
                let all = ErrorClass::ALL.map(|class| class.as_str().to_owned());
                error_groups!(
                    "list_errors_of_kind",
                    "unnest($5::text[]) AS wanted (one) CROSS JOIN LATERAL (
                        SELECT * FROM error_groups
                        WHERE (kind, class, last_seen_at, fingerprint) < ($6, wanted.one, $1, $2)
                            AND kind = $6 AND class = wanted.one
                        ORDER BY kind DESC, class DESC, last_seen_at DESC, fingerprint DESC LIMIT $4) AS error_groups",
                    at,
                    fingerprint,
                    since,
                    limit,
                    &class.map_or(all.to_vec(), |class| vec![class.to_owned()]),
                    kind,
                )
                .fetch_all(&self.pool)
                .await?
            }
            (None, Some(class)) => {
                error_groups!(
                    "list_errors_of_class",
                    "error_groups WHERE (class, last_seen_at, fingerprint) < ($5, $1, $2) AND class = $5",
                    at,
                    fingerprint,
                    since,
                    limit,
                    class,
                )
                .fetch_all(&self.pool)
                .await?
            }
            (None, None) => {
                error_groups!(
                    "list_errors",
                    "error_groups WHERE (last_seen_at, fingerprint) < ($1, $2)",
                    at,
                    fingerprint,
                    since,
                    limit,
                )
                .fetch_all(&self.pool)
                .await?
            }
        };
        Ok(rows.into_iter().map(|row| row.at(self.clock.now())).collect())
    }

    /// Groups whose title has that text in it, whatever the case, from a bounded number of groups: a page may be short, or
    /// empty, and say behind which one to look on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn search_errors(&self, filter: &ErrorFilter, text: &str, limit: i64) -> Result<ErrorsFound, StoreError> {
        let (at, fingerprint) = filter.before.clone().unwrap_or_else(far_future);
        let limit = limit.clamp(1, ERROR_GROUPS_MAX);
        let horizon = sqlx::query!(
            "-- errors_horizon
            SELECT last_seen_at, fingerprint FROM error_groups WHERE (last_seen_at, fingerprint) < ($1, $2)
            ORDER BY last_seen_at DESC, fingerprint DESC LIMIT 1 OFFSET $3",
            at,
            fingerprint,
            LOOK_MAX - 1,
        )
        .fetch_optional(&self.pool)
        .await?;
        let rows = error_groups!(
            "search_errors",
            "(SELECT * FROM error_groups WHERE (last_seen_at, fingerprint) < ($1, $2)
                ORDER BY last_seen_at DESC, fingerprint DESC LIMIT $5) AS error_groups
            WHERE position(lower($6::text) IN lower(title)) > 0 AND ($7::text IS NULL OR kind = $7)
                AND ($8::text IS NULL OR class = $8)",
            at,
            fingerprint,
            self.clock.now() - TimeDelta::hours(HOURS),
            limit,
            LOOK_MAX,
            text,
            filter.kind.as_deref(),
            filter.class.as_deref(),
        )
        .fetch_all(&self.pool)
        .await?;
        let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= limit);
        let last = rows.last().filter(|_| is_full).map(|row| (row.last_seen_at, row.fingerprint.clone()));
        let next_before = last.or(horizon.map(|row| (row.last_seen_at, row.fingerprint)));
        Ok(ErrorsFound { groups: rows.into_iter().map(|row| row.at(self.clock.now())).collect(), next_before })
    }

    /// One group of errors.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_error(&self, fingerprint: &Fingerprint) -> Result<Option<ErrorGroupRow>, StoreError> {
        let seen = sqlx::query_scalar!(
            "-- find_error
            SELECT last_seen_at FROM error_groups WHERE fingerprint = $1",
            fingerprint.as_str(),
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(at) = seen else { return Ok(None) };
        // The text that follows this one in order.
        let before = Some((at, format!("{fingerprint}\u{1}")));
        let found = self.list_errors(&ErrorFilter { before, ..ErrorFilter::default() }, 1).await?.pop();
        Ok(found.filter(|row| row.fingerprint == fingerprint.as_str()))
    }

    /// Folds the deltas of errors appended so far; answers with their number. Idempotent: a delta is folded and deleted by
    /// one statement.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fold_errors(&self, leadership: &Leadership, deltas_max: i64) -> Result<u64, StoreError> {
        let folded = sqlx::query_scalar!(
            r#"-- fold_errors
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE),
            taken AS (
                DELETE FROM error_deltas
                WHERE ctid = ANY (ARRAY(
                    SELECT ctid FROM error_deltas WHERE EXISTS (SELECT FROM led) LIMIT $3 FOR UPDATE SKIP LOCKED))
                RETURNING *
            ), seen AS (
                SELECT fingerprint, min(kind) AS kind, min(class) AS class, min(at) AS first_at, max(at) AS last_at,
                       (array_agg(title ORDER BY at DESC))[1] AS title, (array_agg(error ORDER BY at DESC))[1] AS error,
                       (array_agg(job_id ORDER BY at DESC))[1] AS job_id,
                       (array_agg(servant_id ORDER BY at))[1] AS first_servant,
                       (array_agg(servant_id ORDER BY at DESC))[1] AS last_servant,
                       sum(attempts)::bigint AS attempts, sum(failed)::bigint AS failed
                FROM taken WHERE kind IS NOT NULL GROUP BY fingerprint
            ), less AS (
                SELECT fingerprint, sum(failed)::bigint AS failed FROM taken WHERE kind IS NULL GROUP BY fingerprint
            ), hours AS (
                INSERT INTO error_hours (fingerprint, hour, attempts)
                SELECT fingerprint, date_trunc('hour', at, 'UTC'), sum(attempts)::bigint FROM taken
                WHERE attempts > 0 GROUP BY 1, 2
                ON CONFLICT (fingerprint, hour) DO UPDATE SET attempts = error_hours.attempts + excluded.attempts
            ), retried AS (
                UPDATE error_groups SET failed = error_groups.failed + less.failed FROM less
                WHERE error_groups.fingerprint = less.fingerprint
                    AND less.fingerprint NOT IN (SELECT fingerprint FROM seen)
            ), counted AS (
                INSERT INTO error_groups (fingerprint, kind, class, title, error, job_id, first_seen_at, last_seen_at,
                                          first_version, last_version, attempts, failed)
                SELECT seen.fingerprint, seen.kind, seen.class, seen.title, seen.error, seen.job_id, first_at, last_at,
                       (SELECT version FROM servants WHERE servants.id = first_servant),
                       (SELECT version FROM servants WHERE servants.id = last_servant),
                       attempts, seen.failed + coalesce(less.failed, 0)
                FROM seen LEFT JOIN less USING (fingerprint)
                ON CONFLICT (fingerprint) DO UPDATE SET
                    error = excluded.error, job_id = excluded.job_id,
                    first_version = coalesce(error_groups.first_version, excluded.first_version),
                    last_version = coalesce(excluded.last_version, error_groups.last_version),
                    first_seen_at = least(error_groups.first_seen_at, excluded.first_seen_at),
                    last_seen_at = greatest(error_groups.last_seen_at, excluded.last_seen_at),
                    attempts = error_groups.attempts + excluded.attempts,
                    failed = error_groups.failed + excluded.failed
            )
            SELECT count(*) AS "folded!" FROM taken"#,
            leadership.term.0,
            leadership.holder,
            deltas_max,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(folded.unsigned_abs())
    }

    /// Forgets hours past their days, and groups that nothing was seen of since `cutoff` and of which no failed job is
    /// left, `limit` of each at the most. Answers with how many of that of which there are more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_errors(
        &self,
        leadership: &Leadership,
        cutoff: DateTime<Utc>,
        limit: i64,
    ) -> Result<u64, StoreError> {
        let gone = sqlx::query_scalar!(
            r#"-- forget_errors
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE),
            hours AS (
                DELETE FROM error_hours WHERE (fingerprint, hour) IN (
                    SELECT fingerprint, hour FROM error_hours WHERE hour < $4 AND EXISTS (SELECT FROM led) LIMIT $5)
                RETURNING 1
            ), groups AS (
                DELETE FROM error_groups WHERE fingerprint IN (
                    SELECT fingerprint FROM error_groups
                    WHERE last_seen_at < $3 AND failed <= 0 AND EXISTS (SELECT FROM led) ORDER BY last_seen_at LIMIT $5)
                RETURNING 1
            )
            SELECT greatest((SELECT count(*) FROM hours), (SELECT count(*) FROM groups)) AS "gone!""#,
            leadership.term.0,
            leadership.holder,
            cutoff,
            self.clock.now() - TimeDelta::days(HOURS_KEPT_DAYS),
            limit,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(gone.unsigned_abs())
    }
}

/// Counts in the order of the hours, those without one included.
fn by_hour(hours: &[DateTime<Utc>], counts: &[i64], now: DateTime<Utc>) -> Vec<i64> {
    let hour_of = |at: DateTime<Utc>| at.timestamp().div_euclid(3_600);
    let mut by_hour = vec![0; usize::try_from(HOURS).unwrap_or_default()];
    for (hour, count) in hours.iter().zip(counts) {
        let back = usize::try_from(hour_of(now) - hour_of(*hour));
        if let Some(place) = back.ok().and_then(|back| by_hour.iter_mut().rev().nth(back)) {
            *place += count;
        }
    }
    by_hour
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_stand_in_their_places() {
        let now: DateTime<Utc> = "2030-05-06T12:10:00Z".parse().unwrap();
        let at = |hours: i64| now - TimeDelta::minutes(10) - TimeDelta::hours(hours);
        let counts = by_hour(&[at(0), at(23), at(24), at(-1)], &[1, 2, 4, 8], now);
        assert_eq!((counts.len(), counts[0], counts[23], counts.iter().sum::<i64>()), (24, 2, 1, 3));
    }
}
