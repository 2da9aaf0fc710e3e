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

    /// Halves the ids until few are left among which jobs begin to be younger. Jobs that are kept no more are older than any.
    async fn ids_around(&self, at: DateTime<Utc>) -> Result<(i64, i64), StoreError> {
        let newest = self.newest_id().await?;
        let (mut below, mut above) = (0, newest.saturating_add(1));
        while above - below > ROUGH_IDS {
            let middle = below + (above - below) / 2;
            match self.made_from(middle).await? {
                // The first job from there on is older: so is everything before it.
                Some((id, made)) if made <= at => below = id.max(middle),
                _ => above = middle,
            }
        }
        // Whoever inserts now is younger still.
        Ok((below, if above > newest { i64::MAX } else { above }))
    }

    async fn newest_id(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- newest_id
            SELECT greatest((SELECT coalesce(max(id), 0) FROM (SELECT id FROM jobs ORDER BY id DESC LIMIT 1) AS j),
                            (SELECT coalesce(max(id), 0) FROM (SELECT id FROM finished_jobs ORDER BY id DESC LIMIT 1) AS f))
                AS "id!""#
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// The first job from an id on, and when it was made.
    async fn made_from(&self, id: i64) -> Result<Option<(i64, DateTime<Utc>)>, StoreError> {
        let first = sqlx::query!(
            r#"-- made_from
            SELECT id AS "id!", created_at AS "created_at!" FROM (
                (SELECT id, created_at FROM jobs WHERE id >= $1 ORDER BY id LIMIT 1)
                UNION ALL (SELECT id, created_at FROM finished_jobs WHERE id >= $1 ORDER BY id LIMIT 1)) AS first
            ORDER BY id LIMIT 1"#,
            id,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(first.map(|row| (row.id, row.created_at)))
    }
}
