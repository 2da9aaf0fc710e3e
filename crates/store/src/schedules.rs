//! What schedules make: the jobs of due fires, of an operator's "run now" and of a back-fill. Firing is one transaction:
//! compare-and-swap on the persisted due time, then the overlap policy, then the jobs. When a rule is due is
//! `domain::Plan`'s to say; rows of schedules are read in `schedules_read` and edited in `schedules_edit`.

use crate::{
    Leadership, Store, StoreError,
    audit::{Deed, Subject, note_each},
    jobs::cancel,
    schedules_cancel::lock_older,
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Granted, JobId, Kind, ScheduleId, action};
use serde_json::json;
use sqlx::PgConnection;
use std::collections::BTreeSet;
use uuid::Uuid;

/// How long a due time that was back-filled is not back-filled again, in days.
const BACKFILL_KEPT_DAYS: i64 = 365;

/// How long a schedule whose connection is not active is left alone, in seconds.
const HELD_SECS_MIN: f64 = 5.0;
const HELD_SECS_MAX: f64 = 300.0;

/// What a tick decided for one schedule that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fire {
    /// The schedule.
    pub id: ScheduleId,
    /// The due time that is persisted; if it is another by now, nothing happens.
    pub due_at: DateTime<Utc>,
    /// The due times that fire, in their order.
    pub fires: Vec<DateTime<Utc>>,
    /// Due times that are not made good.
    pub dropped: u64,
    /// What is persisted next.
    pub next: Option<DateTime<Utc>>,
}

/// What became of fires.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fired {
    /// The new jobs' kinds, each once.
    pub kinds: BTreeSet<Kind>,
    /// The new jobs.
    pub jobs: Vec<JobId>,
    /// Older jobs that were to be asked to stop, and whose rows were held by someone else meanwhile.
    pub uncancelled: Vec<JobId>,
}

/// What became of "run now".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RanNow {
    /// There is no such schedule.
    Missing,
    /// The job.
    Inserted(JobId),
    /// It waits for the unfinished job.
    Buffered,
    /// Its last job is unfinished, and its overlap policy makes no second one.
    Busy(Option<JobId>),
}

impl Store {
    /// Fires schedules in one transaction: each one's next due time is stored if the present one is what was decided on,
    /// so that no crash and no second leader fires twice, and its fires become ready jobs as its overlap policy says.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was fired, unless the answer to the commit was lost.
    pub async fn fire_schedules(&self, leadership: &Leadership, fires: &[Fire]) -> Result<Fired, StoreError> {
        let now = self.clock.now();
        let mut tx = self.pool.begin().await?;
        let (moved, may_cancel) = move_schedules(&mut tx, leadership, fires).await?;
        let moved = fires.iter().filter(|fire| moved.contains(&fire.id.0));
        let due: Vec<_> = moved.flat_map(|fire| fire.fires.iter().map(|due| (fire.id.0, *due))).collect();
        let fired =
            if due.is_empty() { Fired::default() } else { make_jobs(&mut tx, &due, &may_cancel, None, now).await? };
        tx.commit().await?;
        Ok(fired)
    }

    /// Lets due schedules whose connection is not active wait before they are looked at again: as long as they have
    /// been due, within bounds, so that a long outage of many costs little and a short one is over soon. What they have
    /// missed by then is for the catch-up window to say.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold_schedules(&self, leadership: &Leadership, ids: &[ScheduleId]) -> Result<(), StoreError> {
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        sqlx::query!(
            "-- hold_schedules
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE),
            held AS (
                SELECT s.id FROM schedules s JOIN connections c ON c.id = s.connection_id
                WHERE s.id = ANY($3) AND c.state <> 'active' AND EXISTS (SELECT FROM led)
                ORDER BY s.id FOR UPDATE OF s SKIP LOCKED
            )
            UPDATE schedules s
            SET held_until = $4::timestamptz + least(greatest($4 - s.next_due_at, make_interval(secs => $5)),
                                                     make_interval(secs => $6))
            FROM held WHERE s.id = held.id",
            leadership.term.0,
            leadership.holder,
            &ids,
            self.clock.now(),
            HELD_SECS_MIN,
            HELD_SECS_MAX,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Makes the jobs of fires that waited for an unfinished one, where it has finished.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release_buffered(&self, leadership: &Leadership, limit: i64) -> Result<Fired, StoreError> {
        let mut tx = self.pool.begin().await?;
        let waiting = lock_buffered(&mut tx, leadership, limit).await?;
        if waiting.is_empty() {
            return Ok(Fired::default());
        }
        // A statement of its own: it sees what was committed until the rows were locked.
        let due = take_buffered(&mut tx, &waiting).await?;
        let fired = make_jobs(&mut tx, &due, &[], None, self.clock.now()).await?;
        tx.commit().await?;
        Ok(fired)
    }

    /// Makes a job of a schedule now, by its overlap policy; its next due time stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn run_schedule(
        &self,
        granted: &Granted<action::RunSchedule>,
        id: ScheduleId,
        request_id: Uuid,
    ) -> Result<RanNow, StoreError> {
        let now = self.clock.now();
        let mut tx = self.pool.begin().await?;
        if !lock_schedule(&mut tx, id).await? {
            return Ok(RanNow::Missing);
        }
        let was_buffered = buffered_of(&mut tx, id).await?;
        let fired = make_jobs(&mut tx, &[(id.0, now)], &[id.0], Some(request_id), now).await?;
        let outcome = match fired.jobs.first() {
            Some(job) => RanNow::Inserted(*job),
            None if was_buffered.is_none() && buffered_of(&mut tx, id).await?.is_some() => RanNow::Buffered,
            None => RanNow::Busy(unfinished_of(&mut tx, id).await?),
        };
        if !matches!(outcome, RanNow::Busy(_)) {
            let of = Subject::Schedule(id);
            let job = fired.jobs.first().map(|job| json!({ "job": job.0 }));
            let deed = Deed { key: of.key(), before: None, after: job.or_else(|| Some(json!({ "buffered": true }))) };
            note_each(&mut tx, granted, of.name(), vec![deed], now).await?;
        }
        tx.commit().await?;
        for kind in &fired.kinds {
            self.wake(kind).await;
        }
        if !fired.uncancelled.is_empty() {
            self.cancel_jobs(&fired.uncancelled).await?;
        }
        Ok(outcome)
    }

    /// Makes one job of a schedule for each of these due times, at the lowest priority, whatever its overlap policy. A
    /// due time that was back-filled within a year, or whose job is unfinished, gets no second one. Answers with the
    /// number of new jobs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn backfill_schedule(
        &self,
        granted: &Granted<action::BackfillSchedule>,
        id: ScheduleId,
        due: &[DateTime<Utc>],
        request_id: Uuid,
    ) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let mut tx = self.pool.begin().await?;
        let kinds = sqlx::query!(
            r#"-- backfill_schedule
            WITH given AS (
                SELECT s.*, t.due,
                       'backfill:' || s.id || ':' || (extract(epoch FROM t.due) * 1000000)::bigint AS fill_key
                FROM schedules s, unnest($2::timestamptz[]) AS t (due) WHERE s.id = $1
            ), reserved AS (
                INSERT INTO unique_keys (kind, unique_key, until) SELECT kind, fill_key, $4 FROM given
                ON CONFLICT (kind, unique_key) DO UPDATE SET until = excluded.until WHERE unique_keys.until <= $3
                RETURNING unique_key
            ), inserted AS (
                INSERT INTO jobs (account_id, due_at, created_at, ready_at, state, priority, attempts_max, kind,
                                  request_id, payload, connection_id, schedule_id, fire_due_at, unique_key)
                SELECT account_id, due, $3, $3, 1, 4, attempts_max, kind, $5, payload, connection_id, id, due, fill_key
                FROM given WHERE fill_key IN (SELECT unique_key FROM reserved)
                ORDER BY due
                ON CONFLICT DO NOTHING
                RETURNING kind
            ), counted AS (
                INSERT INTO job_count_deltas (kind, state, delta)
                SELECT kind, 1, count(*) FROM inserted GROUP BY kind
            )
            SELECT kind AS "kind!", count(*) AS "jobs!" FROM inserted GROUP BY kind"#,
            id.0,
            due,
            now,
            now + TimeDelta::days(BACKFILL_KEPT_DAYS),
            request_id,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(made) = kinds else { return Ok(0) };
        let of = Subject::Schedule(id);
        let span = json!({ "jobs": made.jobs, "first": due.first(), "last": due.last() });
        let deed = Deed { key: of.key(), before: None, after: Some(span) };
        note_each(&mut tx, granted, of.name(), vec![deed], now).await?;
        tx.commit().await?;
        self.wake(&kind_of(made.kind)?).await;
        Ok(made.jobs.unsigned_abs())
    }
}

fn kind_of(name: String) -> Result<Kind, StoreError> {
    let row = name.clone();
    Kind::new(name).map_err(|_| StoreError::Corrupt { table: "schedules", column: "kind", row })
}

/// Stores the next due times where the present ones are what was decided on. Answers with those schedules, and
/// with those of them that cancel their older jobs.
///
/// `IS NOT DISTINCT FROM` is `=` here, and keeps the planner from looking for the due time in its index: ten thousand
/// schedules that are due at one instant would be read ten thousand times each.
async fn move_schedules(
    conn: &mut PgConnection,
    leadership: &Leadership,
    fires: &[Fire],
) -> Result<(BTreeSet<i64>, Vec<i64>), StoreError> {
    let ids: Vec<i64> = fires.iter().map(|fire| fire.id.0).collect();
    let due: Vec<DateTime<Utc>> = fires.iter().map(|fire| fire.due_at).collect();
    let next: Vec<Option<DateTime<Utc>>> = fires.iter().map(|fire| fire.next).collect();
    let last: Vec<Option<DateTime<Utc>>> = fires.iter().map(|fire| fire.fires.last().copied()).collect();
    let dropped: Vec<i64> = fires.iter().map(|fire| i64::try_from(fire.dropped).unwrap_or(i64::MAX)).collect();
    let moved = sqlx::query!(
        r#"-- move_schedules
        WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE)
        UPDATE schedules s
        SET next_due_at = t.next, last_due_at = coalesce(t.last, s.last_due_at),
            dropped_fires = s.dropped_fires + t.dropped, held_until = NULL
        FROM unnest($3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::bigint[])
             AS t (id, due, next, last, dropped)
        WHERE s.id = t.id AND s.next_due_at IS NOT DISTINCT FROM t.due AND s.paused_by IS NULL AND EXISTS (SELECT FROM led)
        RETURNING s.id, s.overlap = 'cancel_older' AS "may_cancel!""#,
        leadership.term.0,
        leadership.holder,
        &ids,
        &due,
        &next as &[Option<DateTime<Utc>>],
        &last as &[Option<DateTime<Utc>>],
        &dropped,
    )
    .fetch_all(conn)
    .await?;
    let may_cancel = moved.iter().filter(|row| row.may_cancel).map(|row| row.id).collect();
    Ok((moved.into_iter().map(|row| row.id).collect(), may_cancel))
}

/// Makes the jobs of fires of schedules whose rows are locked, by their overlap policies; `may_cancel` are those among
/// which there may be one that cancels its older jobs.
async fn make_jobs(
    conn: &mut PgConnection,
    due: &[(i64, DateTime<Utc>)],
    may_cancel: &[i64],
    request_id: Option<Uuid>,
    now: DateTime<Utc>,
) -> Result<Fired, StoreError> {
    let (ids, due): (Vec<i64>, Vec<DateTime<Utc>>) = due.iter().copied().unzip();
    let older = if may_cancel.is_empty() { Vec::new() } else { lock_older(conn, may_cancel).await? };
    let (free, uncancelled): (Vec<_>, Vec<_>) = older.into_iter().partition(|(_, free)| *free);
    if !free.is_empty() {
        let free: Vec<JobId> = free.into_iter().map(|(id, _)| id).collect();
        cancel(conn, &free, now).await?;
    }
    let inserted = sqlx::query!(
        r#"-- make_jobs
        WITH given AS (
            SELECT t.id, t.due, row_number() OVER (PARTITION BY t.id ORDER BY t.due) AS nth,
                   count(*) OVER (PARTITION BY t.id) AS fires
            FROM unnest($1::bigint[], $2::timestamptz[]) AS t (id, due)
        ), judged AS (
            SELECT s.*, g.due, CASE s.overlap
                WHEN 'allow' THEN true
                WHEN 'cancel_older' THEN g.nth = g.fires
                ELSE g.nth = 1 AND s.buffered_due_at IS NULL AND NOT EXISTS (
                    SELECT FROM jobs j WHERE j.schedule_id = s.id
                    AND (j.unique_key IS NULL OR j.unique_key NOT LIKE 'backfill:%'))
                END AS fires_now
            FROM given g JOIN schedules s ON s.id = g.id
        ), buffered AS (
            UPDATE schedules s SET buffered_due_at = w.due
            FROM (SELECT id, min(due) AS due FROM judged WHERE NOT fires_now GROUP BY id) AS w
            WHERE s.id = w.id AND s.overlap = 'buffer_one' AND s.buffered_due_at IS NULL
        ), inserted AS (
            INSERT INTO jobs (account_id, due_at, created_at, ready_at, state, priority, attempts_max, kind,
                              request_id, payload, connection_id, schedule_id, fire_due_at, unique_key)
            SELECT account_id, due, $3, $3, 1, priority, attempts_max, kind, coalesce($4, gen_random_uuid()),
                   payload, connection_id, id, due, CASE overlap WHEN 'skip' THEN 'schedule:' || id END
            FROM judged WHERE fires_now
            ORDER BY due
            ON CONFLICT DO NOTHING
            RETURNING id, kind
        ), counted AS (
            INSERT INTO job_count_deltas (kind, state, delta)
            SELECT kind, 1, count(*) FROM inserted GROUP BY kind
        )
        SELECT kind AS "kind!", array_agg(id) AS "ids!" FROM inserted GROUP BY kind"#,
        &ids,
        &due,
        now,
        request_id,
    )
    .fetch_all(conn)
    .await?;
    let mut fired = Fired { uncancelled: uncancelled.into_iter().map(|(id, _)| id).collect(), ..Fired::default() };
    for made in inserted {
        fired.kinds.insert(kind_of(made.kind)?);
        fired.jobs.extend(made.ids.into_iter().map(JobId));
    }
    Ok(fired)
}

/// Locks schedules whose buffered fire may go, the longest waiting first.
async fn lock_buffered(conn: &mut PgConnection, leadership: &Leadership, limit: i64) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        "-- lock_buffered
        WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE)
        SELECT s.id FROM schedules s
        WHERE s.buffered_due_at IS NOT NULL AND s.paused_by IS NULL AND EXISTS (SELECT FROM led)
          AND NOT EXISTS (SELECT FROM jobs j WHERE j.schedule_id = s.id
                          AND (j.unique_key IS NULL OR j.unique_key NOT LIKE 'backfill:%'))
        ORDER BY s.buffered_due_at LIMIT $3 FOR UPDATE OF s SKIP LOCKED",
        leadership.term.0,
        leadership.holder,
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// Takes the buffered fires out of locked schedules whose jobs have all finished.
async fn take_buffered(conn: &mut PgConnection, schedules: &[i64]) -> Result<Vec<(i64, DateTime<Utc>)>, StoreError> {
    let taken = sqlx::query!(
        r#"-- take_buffered
        UPDATE schedules s SET buffered_due_at = NULL
        FROM schedules was
        WHERE was.id = s.id AND s.id = ANY($1) AND s.buffered_due_at IS NOT NULL
          AND NOT EXISTS (SELECT FROM jobs j WHERE j.schedule_id = s.id
                          AND (j.unique_key IS NULL OR j.unique_key NOT LIKE 'backfill:%'))
        RETURNING s.id, was.buffered_due_at AS "due!""#,
        schedules,
    )
    .fetch_all(conn)
    .await?;
    Ok(taken.into_iter().map(|row| (row.id, row.due)).collect())
}

/// Locks one schedule; false when there is none.
pub(crate) async fn lock_schedule(conn: &mut PgConnection, id: ScheduleId) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar!(
        "-- lock_schedule
        SELECT id FROM schedules WHERE id = $1 FOR UPDATE",
        id.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}

async fn buffered_of(conn: &mut PgConnection, id: ScheduleId) -> Result<Option<DateTime<Utc>>, StoreError> {
    Ok(sqlx::query_scalar!(
        "-- buffered_of
        SELECT buffered_due_at FROM schedules WHERE id = $1",
        id.0,
    )
    .fetch_one(conn)
    .await?)
}

/// One of a schedule's unfinished jobs, or the job that holds its key.
async fn unfinished_of(conn: &mut PgConnection, id: ScheduleId) -> Result<Option<JobId>, StoreError> {
    let job = sqlx::query_scalar!(
        r#"-- unfinished_of
        SELECT max(job.id) FROM (
            SELECT j.id FROM jobs j WHERE j.schedule_id = $1
              AND (j.unique_key IS NULL OR j.unique_key NOT LIKE 'backfill:%')
            UNION ALL
            SELECT j.id FROM schedules s JOIN jobs j ON j.kind = s.kind AND j.unique_key = 'schedule:' || s.id
            WHERE s.id = $1
        ) AS job"#,
        id.0,
    )
    .fetch_one(conn)
    .await?;
    Ok(job.map(JobId))
}
