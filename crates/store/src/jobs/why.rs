//! What may hold a job back, read for `domain::why` to decide. Every statement is bounded and finds its rows by an
//! index. Owns no decision, and changes nothing.

mod turn;

use super::read::JobRow;
use crate::{Store, StoreError, pauses::RawPause, stats::DELTAS_READ_MAX};
use chrono::{DateTime, Utc};
use domain::{Dispatching, HeldFacts, JobId, JobState, Kind, LastFailure, PauseFacts, ServantFacts, WhyFacts};

/// Boots of servants that are looked at, newest first: of those that have not ended, and of any for the latest that has.
const UNENDED_MAX: i64 = 300;
const ENDED_MAX: i64 = 100;

/// Who leads until when, and how it dispatches.
struct Lead {
    until: Option<DateTime<Utc>>,
    dispatching: Option<Dispatching>,
    has_queue: bool,
}

impl Store {
    /// Everything that may hold a job back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn why_facts(&self, job: &JobRow) -> Result<WhyFacts, StoreError> {
        let now = self.clock.now();
        let mut facts = WhyFacts {
            now,
            kind: job.kind.clone(),
            state: job.state,
            due_at: job.due_at,
            finished_at: job.finished_at,
            held: None,
            pauses: Vec::new(),
            no_room: None,
            connection: None,
            last_failure: None,
            led_until: None,
            dispatching: None,
            servants: ServantFacts::default(),
            queued_at: job.queued_at,
            sends: job.sends,
            ahead: 0,
            share_pct: 100,
            is_ahead_bounded: false,
            queued_of_kind: 0,
        };
        if job.state == JobState::Running {
            let lease_until = self.lease_until(job.id).await?;
            facts.held = Some(HeldFacts { servant: job.servant_id, since: job.claimed_at, lease_until });
        }
        if !job.state.is_pending() {
            return Ok(facts);
        }
        facts.pauses = self.pauses_of(job).await?;
        facts.connection = match job.connection_id {
            Some(connection) => self.connection_facts(connection).await?,
            None => None,
        };
        facts.last_failure = self.last_failure(job.id).await?;
        let lead = self.dispatching().await?;
        facts.led_until = lead.until;
        facts.dispatching = lead.dispatching.filter(|_| lead.has_queue);
        facts.servants = self.servants_of(&job.kind, now).await?;
        if let Some(ready_at) = job.ready_at.filter(|_| job.state == JobState::Ready) {
            (facts.ahead, facts.is_ahead_bounded) = self.ahead_of(job, ready_at).await?;
            if facts.ahead > 0 {
                facts.share_pct = self.share_pct(job).await?;
            }
            let circuit = facts.connection.as_ref().and_then(|connection| connection.circuit.as_ref());
            let service = circuit.filter(|circuit| circuit.counts()).map(|circuit| circuit.service.clone());
            let room = self.room_for(job, service.as_deref()).await?;
            facts.no_room = room.none;
            if let Some(connection) = &mut facts.connection {
                let settings = self.breaker_settings().await?;
                connection.releasing = self.releasing(job, room.in_flight_of_connection, settings.release_secs).await?;
                if let Some(circuit) = connection.circuit.as_mut().filter(|circuit| circuit.counts()) {
                    circuit.look(&settings, u32::try_from(room.in_flight_of_service).unwrap_or(u32::MAX), now);
                }
            }
        }
        facts.queued_of_kind = self.in_hand_of(&job.kind, Some(DELTAS_READ_MAX)).await?.queued;
        Ok(facts)
    }

    async fn lease_until(&self, job: JobId) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(sqlx::query_scalar!(
            "-- lease_until
            SELECT until FROM leases WHERE id = (SELECT lease_id FROM jobs WHERE id = $1)",
            job.0,
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    async fn pauses_of(&self, job: &JobRow) -> Result<Vec<PauseFacts>, StoreError> {
        let rows = sqlx::query_as!(
            RawPause,
            "-- pauses_of
            SELECT scope, key, paused_by, reason, paused_at FROM pauses
            WHERE (scope = 'everything' AND key = '') OR (scope = 'kind' AND key = $1)
               OR (scope = 'account' AND key = $2) OR (scope = 'connection' AND key = $3)
               OR (scope = 'group' AND key = $4)
            LIMIT 5",
            job.kind.as_str(),
            job.account_id.to_string(),
            job.connection_id.map(|id| id.to_string()),
            job.group_id.map(|id| id.to_string()),
        )
        .fetch_all(&self.pool)
        .await?;
        let fact = |row: RawPause| {
            let row = row.read();
            PauseFacts { target: row.target, by: row.paused_by, reason: row.reason, since: row.paused_at }
        };
        Ok(rows.into_iter().map(fact).collect())
    }

    async fn last_failure(&self, job: JobId) -> Result<Option<LastFailure>, StoreError> {
        let row = sqlx::query!(
            "-- last_failure
            SELECT attempt, class, error, ended_at FROM attempts WHERE job_id = $1 ORDER BY ended_at DESC LIMIT 1",
            job.0,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| LastFailure {
            attempt: row.attempt,
            class: row.class,
            error: row.error.lines().next().unwrap_or_default().to_owned(),
            at: row.ended_at,
        }))
    }

    async fn dispatching(&self) -> Result<Lead, StoreError> {
        let row = sqlx::query!(
            r#"-- dispatching
            SELECT nullif(until, '-infinity') AS until, window_per_slot, window_min, look_ahead_ms, unclaimed_secs, has_queue
            FROM leader WHERE only_row"#,
        )
        .fetch_one(&self.pool)
        .await?;
        let number = |column: Option<i32>| column.and_then(|number| u32::try_from(number).ok());
        let window = number(row.window_per_slot).zip(number(row.window_min));
        // A leader of an older version says nothing of it.
        let look_ahead_ms = number(row.look_ahead_ms).unwrap_or(0);
        let dispatching = window.zip(number(row.unclaimed_secs));
        Ok(Lead {
            until: row.until,
            has_queue: row.has_queue,
            dispatching: dispatching.map(|((window_per_slot, window_min), unclaimed_secs)| Dispatching {
                window_per_slot,
                window_min,
                look_ahead_ms,
                unclaimed_secs,
            }),
        })
    }

    /// The newest boots of any kind for those that ended, and the newest of this kind that did not end by themselves.
    async fn servants_of(&self, kind: &Kind, now: DateTime<Utc>) -> Result<ServantFacts, StoreError> {
        let rows = sqlx::query!(
            r#"-- servants_of
            SELECT state AS "state!", seen_at AS "seen_at!", concurrency AS "concurrency!", running AS "running!"
            FROM (SELECT state, seen_at, concurrency, running FROM servants
                  WHERE kind = $1 AND state <> 'stopped' ORDER BY id DESC LIMIT $2) AS unended
            UNION ALL
            SELECT 'stopped', max(seen_at), 0, 0
            FROM (SELECT kind, seen_at FROM servants ORDER BY id DESC LIMIT $3) AS latest
            WHERE kind = $1 HAVING count(*) > 0"#,
            kind.as_str(),
            UNENDED_MAX,
            ENDED_MAX,
        )
        .fetch_all(&self.pool)
        .await?;
        let mut facts = ServantFacts::default();
        for row in rows {
            facts.count(&row.state, row.seen_at, now, row.concurrency, row.running);
        }
        Ok(facts)
    }
}
