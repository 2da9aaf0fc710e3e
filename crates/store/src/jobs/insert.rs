//! How jobs come into being: in bulk, idempotent where a key is given. Owns INSERT into `jobs`; every later change
//! of a job's state is in `transition`.

use crate::{Store, StoreError, Tx, groups::admit};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, ConnectionId, GroupId, JobId, JobState, Kind, RetryPolicy};
use sqlx::PgConnection;
use std::collections::BTreeMap;
use uuid::Uuid;

/// A job to be.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// The type of work.
    pub kind: Kind,
    /// Whose it is.
    pub account: AccountId,
    /// The connection it works on.
    pub connection: Option<ConnectionId>,
    /// The group that it is a member of.
    pub group: Option<GroupId>,
    /// What to do; the kind's own shape.
    pub payload: serde_json::Value,
    /// 0 (urgent) to 4 (whenever); 2 is ordinary.
    pub priority: i16,
    /// Attempts in all.
    pub attempts_max: u16,
    /// Not before this time; `None`: now.
    pub due_at: Option<DateTime<Utc>>,
    /// Not after this time.
    pub deadline_at: Option<DateTime<Utc>>,
    /// At most one such job.
    pub unique: Option<Unique>,
    /// How much it has to do, in the units of its own progress, as far as that is known before it runs: its group's
    /// progress counts it from the beginning.
    pub todo: Option<u64>,
    /// Which request asked for it; on every log line.
    pub request_id: Uuid,
    /// The W3C trace context of that request.
    pub traceparent: Option<String>,
}

/// At most one job of a kind with this key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// The key, unique within the kind.
    pub key: String,
    /// For so many seconds from now; `None`: while such a job is unfinished.
    pub for_secs: Option<u32>,
}

/// What became of a [`NewJob`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the ledger.
    New(JobId),
    /// Its key was taken; by that job, if it is unfinished.
    Duplicate(Option<JobId>),
}

impl NewJob {
    /// An ordinary job of the system, due now.
    #[must_use]
    pub fn new(kind: Kind, payload: serde_json::Value) -> Self {
        Self {
            kind,
            account: AccountId::SYSTEM,
            connection: None,
            group: None,
            payload,
            priority: 2,
            attempts_max: RetryPolicy::default().attempts_max,
            due_at: None,
            deadline_at: None,
            unique: None,
            todo: None,
            request_id: Uuid::new_v4(),
            traceparent: None,
        }
    }
}

impl Store {
    /// Inserts jobs in one transaction, answers in their order, and wakes whoever waits for their kinds.
    ///
    /// # Errors
    /// [`StoreError`]; then none of them is in the ledger, unless the answer to the commit was lost.
    /// [`StoreError::NotAdmitted`] when a group takes no members.
    pub async fn insert_jobs(&self, jobs: &[NewJob]) -> Result<Vec<Inserted>, StoreError> {
        let inserted = if jobs.iter().all(|job| job.unique.is_none() && job.group.is_none() && job.todo.is_none()) {
            // One statement is a transaction by itself: two round trips less.
            let rows: Vec<&NewJob> = jobs.iter().collect();
            let mut conn = self.pool.acquire().await?;
            let ids = insert_plain(&mut conn, &rows, self.clock.now()).await?;
            ids.into_iter().map(Inserted::New).collect()
        } else {
            let mut tx = self.begin().await?;
            let inserted = self.insert_jobs_in(&mut tx, jobs).await?;
            tx.commit().await?;
            inserted
        };
        self.wake_for(jobs).await;
        Ok(inserted)
    }

    /// Inserts jobs as part of a transaction. The caller may [`Store::wake`] their kinds after its commit; nobody
    /// misses them if it does not, the poll behind the wake-up finds them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_jobs_in(&self, tx: &mut Tx, jobs: &[NewJob]) -> Result<Vec<Inserted>, StoreError> {
        self.insert_children_in(tx, None, jobs).await
    }

    /// The same for a running job that is a member of `member_of`: its children may join that group although it is
    /// sealed, since the group cannot end before their parent has, and both are one commit.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::NotAdmitted`] when a group takes no members.
    pub async fn insert_children_in(
        &self,
        tx: &mut Tx,
        member_of: Option<GroupId>,
        jobs: &[NewJob],
    ) -> Result<Vec<Inserted>, StoreError> {
        admit(&mut tx.inner, jobs, member_of).await?;
        let now = self.clock.now();
        let (keyed, plain): (Vec<_>, Vec<_>) = jobs.iter().enumerate().partition(|(_, job)| job.unique.is_some());
        let mut answers = BTreeMap::new();
        if !plain.is_empty() {
            let rows: Vec<&NewJob> = plain.iter().map(|(_, job)| *job).collect();
            let ids = insert_plain(&mut tx.inner, &rows, now).await?;
            answers.extend(plain.iter().map(|(at, _)| *at).zip(ids.into_iter().map(Inserted::New)));
        }
        for (at, job) in keyed {
            answers.insert(at, insert_keyed(&mut tx.inner, job, now).await?);
        }
        let answers: Vec<Inserted> = answers.into_values().collect();
        announce(&mut tx.inner, jobs, &answers).await?;
        Ok(answers)
    }
}

/// Inserts jobs without keys in one statement; ids come back in the rows' order, since the sequence hands them out
/// in the order of the unnested arrays.
pub(crate) async fn insert_plain(
    conn: &mut PgConnection,
    jobs: &[&NewJob],
    now: DateTime<Utc>,
) -> Result<Vec<JobId>, StoreError> {
    let column = Columns::of(jobs, now);
    let ids = sqlx::query_scalar!(
        r#"-- insert_plain
        WITH inserted AS (
            INSERT INTO jobs (account_id, due_at, created_at, ready_at, state, priority, attempts_max, kind,
                              request_id, payload, connection_id, deadline_at, traceparent, group_id)
            SELECT coalesce(t.account_id, ($2::bigint[])[1]), t.due_at, $1, CASE WHEN t.due_at <= $1 THEN t.due_at END,
                   CASE WHEN t.due_at <= $1 THEN 1 ELSE 0 END, coalesce(t.priority, ($4::smallint[])[1]),
                   coalesce(t.attempts_max, ($5::smallint[])[1]), coalesce(t.kind, ($6::text[])[1]),
                   t.request_id, t.payload, t.connection_id, t.deadline_at, t.traceparent, t.group_id
            FROM unnest($2::bigint[], $3::timestamptz[], $4::smallint[], $5::smallint[], $6::text[], $7::uuid[],
                        $8::jsonb[], $9::bigint[], $10::timestamptz[], $11::text[], $15::bigint[])
                 AS t (account_id, due_at, priority, attempts_max, kind, request_id, payload, connection_id,
                       deadline_at, traceparent, group_id)
            RETURNING id
        ), counted AS (
            INSERT INTO job_count_deltas (kind, state, delta, group_id)
            SELECT * FROM unnest($12::text[], $13::smallint[], $14::bigint[], $16::bigint[])
        )
        SELECT coalesce(array_agg(id ORDER BY id), '{}') AS "ids!" FROM inserted"#,
        now,
        &column.account_id,
        &column.due_at,
        &column.priority,
        &column.attempts_max,
        &column.kind as &[&str],
        &column.request_id,
        &column.payload as &[&serde_json::Value],
        column.connection_id as Option<Vec<Option<i64>>>,
        column.deadline_at as Option<Vec<Option<DateTime<Utc>>>>,
        column.traceparent as Option<Vec<Option<&str>>>,
        &column.counted_kind as &[&str],
        &column.counted_state,
        &column.counted,
        column.group_id as Option<Vec<Option<i64>>>,
        column.counted_group as Option<Vec<Option<i64>>>,
    )
    .fetch_one(conn)
    .await?;
    Ok(ids.into_iter().map(JobId).collect())
}

/// The jobs as one array for each column. Of a column in which all are the same, the value is sent once: unnest fills
/// up with NULLs, and the statement takes the first value for those.
struct Columns<'a> {
    account_id: Vec<i64>,
    due_at: Vec<DateTime<Utc>>,
    priority: Vec<i16>,
    attempts_max: Vec<i16>,
    kind: Vec<&'a str>,
    request_id: Vec<Uuid>,
    payload: Vec<&'a serde_json::Value>,
    connection_id: Option<Vec<Option<i64>>>,
    deadline_at: Option<Vec<Option<DateTime<Utc>>>>,
    traceparent: Option<Vec<Option<&'a str>>>,
    group_id: Option<Vec<Option<i64>>>,
    /// What the counters gain: all rows go in or none, so it is known beforehand.
    counted_kind: Vec<&'a str>,
    counted_state: Vec<i16>,
    counted: Vec<i64>,
    counted_group: Option<Vec<Option<i64>>>,
}

impl<'a> Columns<'a> {
    fn of(jobs: &[&'a NewJob], now: DateTime<Utc>) -> Self {
        let mut counts: BTreeMap<(&str, i16, Option<GroupId>), i64> = BTreeMap::new();
        for job in jobs {
            *counts.entry((job.kind.as_str(), first_state(job, now).code(), job.group)).or_default() += 1;
        }
        Self {
            account_id: once_if_same(jobs.iter().map(|j| j.account.0)),
            due_at: jobs.iter().map(|j| j.due_at.unwrap_or(now)).collect(),
            priority: once_if_same(jobs.iter().map(|j| j.priority)),
            attempts_max: once_if_same(jobs.iter().map(|j| attempts(j))),
            kind: once_if_same(jobs.iter().map(|j| j.kind.as_str())),
            request_id: jobs.iter().map(|j| j.request_id).collect(),
            payload: jobs.iter().map(|j| &j.payload).collect(),
            connection_id: unless_empty(jobs.iter().map(|j| j.connection.map(|c| c.0))),
            deadline_at: unless_empty(jobs.iter().map(|j| j.deadline_at)),
            traceparent: unless_empty(jobs.iter().map(|j| j.traceparent.as_deref())),
            group_id: unless_empty(jobs.iter().map(|j| j.group.map(|g| g.0))),
            counted_kind: counts.keys().map(|(kind, ..)| *kind).collect(),
            counted_state: counts.keys().map(|(_, state, _)| *state).collect(),
            counted_group: unless_empty(counts.keys().map(|(.., group)| group.map(|g| g.0))),
            counted: counts.into_values().collect(),
        }
    }
}

/// Compared as the statement does it: in microseconds.
fn first_state(job: &NewJob, now: DateTime<Utc>) -> JobState {
    let is_due = job.due_at.is_none_or(|due| due.timestamp_micros() <= now.timestamp_micros());
    if is_due { JobState::Ready } else { JobState::Scheduled }
}

fn once_if_same<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    if values.windows(2).all(|pair| pair[0] == pair[1]) {
        values.truncate(1);
    }
    values
}

/// The values, or nothing when all of them are missing: unnest then gives NULLs, and none has to be sent.
fn unless_empty<T>(values: impl Iterator<Item = Option<T>>) -> Option<Vec<Option<T>>> {
    let values: Vec<_> = values.collect();
    values.iter().any(Option::is_some).then_some(values)
}

fn attempts(job: &NewJob) -> i16 {
    i16::try_from(job.attempts_max.max(1)).unwrap_or(i16::MAX)
}

/// Inserts one job that carries a key, unless the key is taken.
async fn insert_keyed(conn: &mut PgConnection, job: &NewJob, now: DateTime<Utc>) -> Result<Inserted, StoreError> {
    let unique = job.unique.as_ref();
    let key = unique.map(|u| u.key.as_str());
    if let (Some(key), Some(secs)) = (key, unique.and_then(|u| u.for_secs)) {
        let until = now + TimeDelta::seconds(i64::from(secs));
        if !reserve_key(conn, &job.kind, key, now, until).await? {
            return Ok(Inserted::Duplicate(holder_of_key(conn, &job.kind, key).await?));
        }
    }
    let due = job.due_at.unwrap_or(now);
    let state = first_state(job, now);
    let id = sqlx::query_scalar!(
        r#"-- insert_keyed
        WITH inserted AS (
            INSERT INTO jobs (account_id, due_at, created_at, ready_at, state, priority, attempts_max, kind,
                              request_id, payload, connection_id, deadline_at, traceparent, unique_key, group_id)
            VALUES ($1, $2::timestamptz, $3::timestamptz, CASE WHEN $2::timestamptz <= $3::timestamptz THEN $2::timestamptz END, $4::smallint, $5, $6, $7::text, $8, $9, $10, $11, $12, $13, $14::bigint)
            ON CONFLICT (kind, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
            RETURNING id
        ), counted AS (
            INSERT INTO job_count_deltas (kind, state, delta, group_id)
            SELECT $7::text, $4::smallint, 1, $14::bigint FROM inserted
        )
        SELECT id AS "id!" FROM inserted"#,
        job.account.0,
        due,
        now,
        state.code(),
        job.priority,
        attempts(job),
        job.kind.as_str(),
        job.request_id,
        job.payload,
        job.connection.map(|c| c.0),
        job.deadline_at,
        job.traceparent,
        key,
        job.group.map(|g| g.0),
    )
    .fetch_optional(&mut *conn)
    .await?;
    match (id, key) {
        (Some(id), _) => Ok(Inserted::New(JobId(id))),
        (None, Some(key)) => Ok(Inserted::Duplicate(holder_of_key(conn, &job.kind, key).await?)),
        (None, None) => Ok(Inserted::Duplicate(None)),
    }
}

/// Notes how much jobs have to do, of those that say so.
async fn announce(conn: &mut PgConnection, jobs: &[NewJob], inserted: &[Inserted]) -> Result<(), StoreError> {
    let (mut ids, mut todos) = (Vec::new(), Vec::new());
    for (job, inserted) in jobs.iter().zip(inserted) {
        if let (Some(todo), Inserted::New(id)) = (job.todo, inserted) {
            ids.push(id.0);
            todos.push(i64::try_from(todo).unwrap_or(i64::MAX));
        }
    }
    if !ids.is_empty() {
        sqlx::query!(
            "-- announce
            UPDATE jobs SET progress = jsonb_build_object('done', 0, 'total', t.todo)
            FROM unnest($1::bigint[], $2::bigint[]) AS t (id, todo) WHERE jobs.id = t.id",
            &ids,
            &todos,
        )
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Takes a key for a period; false when it is still taken.
async fn reserve_key(
    conn: &mut PgConnection,
    kind: &Kind,
    key: &str,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let taken = sqlx::query!(
        "-- reserve_key
        INSERT INTO unique_keys (kind, unique_key, until) VALUES ($1, $2, $4)
        ON CONFLICT (kind, unique_key) DO UPDATE SET until = excluded.until WHERE unique_keys.until <= $3",
        kind.as_str(),
        key,
        now,
        until,
    )
    .execute(conn)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// The unfinished job that holds a key.
async fn holder_of_key(conn: &mut PgConnection, kind: &Kind, key: &str) -> Result<Option<JobId>, StoreError> {
    let id = sqlx::query_scalar!(
        "-- holder_of_key
        SELECT id FROM jobs WHERE kind = $1 AND unique_key = $2",
        kind.as_str(),
        key,
    )
    .fetch_optional(conn)
    .await?;
    Ok(id.map(JobId))
}
