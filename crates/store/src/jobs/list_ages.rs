//! Which ids jobs of an age have: ids are handed out in the order in which jobs are made, so that a bound of the age becomes
//! one of the ids, and a list does not walk through all that is younger. Owns no list.
//!
//! Jobs that are made at the same time get their ids in any order: the bounds are rough on the safe side, and every
//! statement compares the times themselves as well.

use crate::{Store, StoreError};
use chrono::{DateTime, TimeDelta, Utc};

/// Ids within which the search for a bound stops.
const ROUGH_IDS: i64 = 128;
/// How far the order of ids may be off: jobs bear the time at which their transaction began.
const ROUGH_TIME: TimeDelta = TimeDelta::milliseconds(500);

impl Store {
    /// An id above those of all jobs made at this time or before.
    pub(super) async fn id_after(&self, at: DateTime<Utc>) -> Result<i64, StoreError> {
        let (_, above) = self.ids_around(at + ROUGH_TIME).await?;
        Ok(above)
    }

    /// An id that all jobs made at this time or after reach.
    pub(super) async fn id_before(&self, at: DateTime<Utc>) -> Result<i64, StoreError> {
        let (below, _) = self.ids_around(at - ROUGH_TIME).await?;
        Ok(below)
    }

    /// Halves the ids until few are left among which jobs begin to be younger, in one journey. Jobs that are kept no more
    /// are older than any.
    async fn ids_around(&self, at: DateTime<Utc>) -> Result<(i64, i64), StoreError> {
        let row = sqlx::query!(
            r#"-- ids_around
            WITH RECURSIVE newest AS (
                SELECT greatest((SELECT coalesce(max(id), 0) FROM (SELECT id FROM jobs ORDER BY id DESC LIMIT 1) AS j),
                                (SELECT coalesce(max(id), 0) FROM (SELECT id FROM finished_jobs ORDER BY id DESC LIMIT 1) AS f))
                    AS id
            ), halved AS (
                SELECT 0::bigint AS below, id + 1 AS above FROM newest
                UNION ALL
                -- The first job from the middle on is older: so is everything before it.
                SELECT CASE WHEN first.created_at <= $1 THEN greatest(first.id, middle.id) ELSE below END,
                       CASE WHEN first.created_at <= $1 THEN above ELSE middle.id END
                FROM halved CROSS JOIN LATERAL (SELECT below + (above - below) / 2 AS id) AS middle
                LEFT JOIN LATERAL (
                    SELECT id, created_at FROM (
                        (SELECT id, created_at FROM jobs WHERE id >= middle.id ORDER BY id LIMIT 1)
                        UNION ALL (SELECT id, created_at FROM finished_jobs WHERE id >= middle.id ORDER BY id LIMIT 1)) AS next
                    ORDER BY id LIMIT 1) AS first ON true
                WHERE above - below > $2
            )
            SELECT below AS "below!", above AS "above!", above > newest.id AS "is_open!"
            FROM halved CROSS JOIN newest ORDER BY above - below LIMIT 1"#,
            at,
            ROUGH_IDS,
        )
        .fetch_one(&self.pool)
        .await?;
        // Whoever inserts now is younger still.
        Ok((row.below, if row.is_open { i64::MAX } else { row.above }))
    }
}
