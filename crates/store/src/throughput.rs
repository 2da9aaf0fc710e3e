//! How many jobs ended by minute, quarter and hour, how long they waited and ran: folded with the counters, read for
//! charts. Also what waits, as the leading scheduler saw it last, and the order to move dead letters back.

use crate::{
    Leadership, Store, StoreError,
    audit::{Subject, note, snapshot},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Granted, Kind, action};

/// Points of one answer at the most: seven days of hours, a day of quarters, some hours of minutes.
const POINTS_MAX: i64 = 200;
/// How long each step is kept, in hours: twice what a chart of it shows.
const KEPT: [(i32, i64); 3] = [(60, 6), (900, 50), (3_600, 24 * 15)];
/// Flows whose oldest job is looked at; with more of them what is found may not be the oldest.
const FLOWS_MAX: i64 = 500;

/// Jobs that ended in a stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatPoint {
    /// Its beginning.
    pub at: DateTime<Utc>,
    /// Jobs that succeeded.
    pub succeeded: i64,
    /// Jobs that failed for good.
    pub failed: i64,
    /// Jobs that were cancelled.
    pub cancelled: i64,
    /// Milliseconds that those which succeeded had been ready before they were claimed, summed.
    pub waited_ms: i64,
    /// The longest of them.
    pub waited_ms_max: i64,
    /// Milliseconds that they ran, summed.
    pub ran_ms: i64,
    /// How many of them waited how long, as `domain`'s distribution of latencies.
    pub waited: Option<Vec<i64>>,
    /// How many ran how long.
    pub ran: Option<Vec<i64>>,
}

/// What waits of a kind, as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStateRow {
    /// The kind.
    pub kind: String,
    /// When it was looked at.
    pub seen_at: DateTime<Utc>,
    /// Since when the oldest job that is due waits.
    pub oldest_ready_at: Option<DateTime<Utc>>,
    /// Messages to be received; none: there is no queue.
    pub visible: Option<i64>,
    /// Messages received and not deleted.
    pub in_flight: Option<i64>,
    /// Messages not yet due.
    pub delayed: Option<i64>,
    /// Dead letters.
    pub dead: Option<i64>,
    /// Who ordered dead letters to be moved back, as long as that has not begun.
    pub redrive_by: Option<String>,
    /// What became of the last such order.
    pub redrive_outcome: Option<String>,
    /// When that was.
    pub redriven_at: Option<DateTime<Utc>>,
}

/// Depths of a kind's queue on SQS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenDepth {
    /// The kind.
    pub kind: String,
    /// Visible, in flight, delayed, dead.
    pub depths: [i64; 4],
}

impl Store {
    /// Jobs that ended since then by steps of 60, 900 or 3,600 seconds, the earliest first; of a kind, or of all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn throughput(
        &self,
        kind: Option<&Kind>,
        step_secs: i32,
        since: DateTime<Utc>,
    ) -> Result<Vec<StatPoint>, StoreError> {
        Ok(sqlx::query_as!(
            StatPoint,
            "-- throughput
            SELECT at, succeeded, failed, cancelled, waited_ms, waited_ms_max, ran_ms, waited_latencies AS waited,
                   ran_latencies AS ran
            FROM job_stats
            WHERE kind = $1 AND step_secs = $2 AND at >= $3 ORDER BY at LIMIT $4",
            kind.map_or("", Kind::as_str),
            step_secs,
            since,
            POINTS_MAX,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Forgets points that are older than any chart shows, of each step `limit` at the most. Answers with how many of the
    /// step that has most of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_throughput(&self, leadership: &Leadership, limit: i64) -> Result<u64, StoreError> {
        let mut most = 0;
        for (step_secs, hours) in KEPT {
            let gone = sqlx::query!(
                "-- forget_throughput
                WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE),
                old AS (
                    SELECT kind, at FROM job_stats WHERE step_secs = $3 AND at < $4 AND EXISTS (SELECT FROM led)
                    ORDER BY at LIMIT $5
                )
                DELETE FROM job_stats USING old
                WHERE job_stats.step_secs = $3 AND job_stats.kind = old.kind AND job_stats.at = old.at",
                leadership.term.0,
                leadership.holder,
                step_secs,
                self.clock.now() - TimeDelta::hours(hours),
                limit,
            )
            .execute(&self.pool)
            .await?;
            most = gone.rows_affected().max(most);
        }
        Ok(most)
    }

    /// Since when the oldest job of a kind that is due waits, by the oldest of each flow.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn oldest_ready(&self, kind: &Kind) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- oldest_ready
            WITH RECURSIVE flows AS (
                (SELECT account_id, coalesce(connection_id, 0) AS connection, 1 AS n FROM jobs
                 WHERE kind = $1 AND ready_at IS NOT NULL
                 ORDER BY kind, account_id, coalesce(connection_id, 0) LIMIT 1)
                UNION ALL
                SELECT after.account_id, after.connection, flows.n + 1 FROM flows CROSS JOIN LATERAL (
                    SELECT account_id, coalesce(connection_id, 0) AS connection FROM jobs
                    WHERE kind = $1 AND (account_id, coalesce(connection_id, 0)) > (flows.account_id, flows.connection)
                        AND ready_at IS NOT NULL
                    ORDER BY kind, account_id, coalesce(connection_id, 0) LIMIT 1) AS after
                WHERE flows.n < $2
            )
            SELECT min(oldest.ready_at) AS "at?" FROM flows CROSS JOIN LATERAL (
                SELECT ready_at FROM jobs
                WHERE kind = $1 AND account_id = flows.account_id AND coalesce(connection_id, 0) = flows.connection
                    AND ready_at IS NOT NULL AND state IN (1, 2)
                ORDER BY (date_part('epoch', ready_at - '2000-01-01 00:00:00+00'::timestamptz) + 60 * priority), id
                LIMIT 1) AS oldest"#,
            kind.as_str(),
            i32::try_from(FLOWS_MAX).unwrap_or(i32::MAX),
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Notes what waits: of each kind since when the oldest does, and the depths of its queue where there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_queues(
        &self,
        leadership: &Leadership,
        oldest: &[(Kind, Option<DateTime<Utc>>)],
        depths: &[SeenDepth],
    ) -> Result<(), StoreError> {
        let depth =
            |kind: &Kind, at: usize| depths.iter().find(|seen| seen.kind == kind.as_str()).map(|seen| seen.depths[at]);
        let column = |at: usize| oldest.iter().map(|(kind, _)| depth(kind, at)).collect::<Vec<Option<i64>>>();
        sqlx::query!(
            "-- note_queues
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE)
            INSERT INTO queue_states (kind, seen_at, oldest_ready_at, visible, in_flight, delayed, dead)
            SELECT t.kind, $3, t.oldest, t.visible, t.in_flight, t.delayed, t.dead
            FROM unnest($4::text[], $5::timestamptz[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
                AS t (kind, oldest, visible, in_flight, delayed, dead)
            WHERE EXISTS (SELECT FROM led)
            ON CONFLICT (kind) DO UPDATE SET seen_at = excluded.seen_at, oldest_ready_at = excluded.oldest_ready_at,
                visible = excluded.visible, in_flight = excluded.in_flight, delayed = excluded.delayed,
                dead = excluded.dead",
            leadership.term.0,
            leadership.holder,
            self.clock.now(),
            &oldest.iter().map(|(kind, _)| kind.as_str().to_owned()).collect::<Vec<_>>(),
            &oldest.iter().map(|(_, at)| *at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
            &column(0) as &[Option<i64>],
            &column(1) as &[Option<i64>],
            &column(2) as &[Option<i64>],
            &column(3) as &[Option<i64>],
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What waits of each kind, as it was seen last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn queue_states(&self) -> Result<Vec<QueueStateRow>, StoreError> {
        Ok(sqlx::query_as!(
            QueueStateRow,
            "-- queue_states
            SELECT kind, seen_at, oldest_ready_at, visible, in_flight, delayed, dead, redrive_by, redrive_outcome,
                   redriven_at
            FROM queue_states ORDER BY kind LIMIT 500"
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Orders a kind's dead letters to be moved back; false when no queue of it was ever seen.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn order_redrive(&self, granted: &Granted<action::Redrive>, kind: &Kind) -> Result<bool, StoreError> {
        let (of, now) = (Subject::Queue(kind), self.clock.now());
        let mut tx = self.pool.begin().await?;
        let before = snapshot(&mut tx, &of).await?;
        let ordered = sqlx::query!(
            "-- order_redrive
            UPDATE queue_states SET redrive_by = $2, redrive_ordered_at = $3 WHERE kind = $1 AND visible IS NOT NULL",
            kind.as_str(),
            granted.by(),
            now,
        )
        .execute(&mut *tx)
        .await?;
        if ordered.rows_affected() == 0 {
            return Ok(false);
        }
        let after = snapshot(&mut tx, &of).await?;
        note(&mut tx, granted, &of, (before, after), now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Kinds whose dead letters are ordered to be moved back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ordered_redrives(&self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar!(
            "-- ordered_redrives
            SELECT kind FROM queue_states WHERE redrive_by IS NOT NULL ORDER BY redrive_ordered_at LIMIT 100"
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Notes what became of an order to move dead letters back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_redrive(&self, leadership: &Leadership, kind: &str, outcome: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "-- note_redrive
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE)
            UPDATE queue_states SET redrive_by = NULL, redrive_ordered_at = NULL, redrive_outcome = $4, redriven_at = $5
            WHERE kind = $3 AND EXISTS (SELECT FROM led)",
            leadership.term.0,
            leadership.holder,
            kind,
            outcome,
            self.clock.now(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
