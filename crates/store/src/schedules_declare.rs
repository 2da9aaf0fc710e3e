//! Which declared schedules are missing. Those of the system by name; those for every account, or for every connection to
//! a vendor, by walking through accounts in the order of their making, a page at a time. The place is kept, so that a
//! walk goes on where the last leader stopped, and costs next to nothing when there is nobody new.

use crate::{
    Leadership, NewSchedule, ScheduleRow, Store, StoreError,
    schedules_edit::{insert_schedules, pause},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, ConnectionId, Granted, ScheduleId, action};

/// Whose transaction was open for so long when the walk passed, in minutes, is found all the same; so is who was entered
/// by a clock that was off by so much.
const LATE_MINUTES_MAX: i64 = 10;
/// How often the walk goes back for them, in seconds.
const BACK_EVERY_SECS: i64 = 60;

/// Somebody whom a walk has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// The name of the declared schedule.
    pub name: String,
    /// Whose schedule it would be.
    pub account: AccountId,
    /// For which connection.
    pub connection: Option<ConnectionId>,
    /// When the account, or the connection, was made: with its id, the place of the walk.
    pub created_at: DateTime<Utc>,
    /// Whether the schedule is there.
    pub has: bool,
}

impl Store {
    /// Enters schedules as [`Store::declare_schedules`] does; none when another scheduler leads.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn enter_schedules(
        &self,
        leadership: &Leadership,
        schedules: &[NewSchedule],
    ) -> Result<usize, StoreError> {
        let Some(mut tx) = self.begin_led(leadership).await? else { return Ok(0) };
        let entered = insert_schedules(&mut tx.inner, schedules).await?.len();
        tx.commit().await?;
        Ok(entered)
    }

    /// Pauses a schedule that the leader does not understand; none when there is no such schedule, or another scheduler
    /// leads, which may understand it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pause_unclear_schedule(
        &self,
        leadership: &Leadership,
        granted: &Granted<action::PauseSchedule>,
        id: ScheduleId,
    ) -> Result<Option<ScheduleRow>, StoreError> {
        let Some(mut tx) = self.begin_led(leadership).await? else { return Ok(None) };
        let row = pause(&mut tx.inner, granted, id, self.clock.now()).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Those of these names that no schedule has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn missing_schedules(&self, names: &[String]) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- missing_schedules
            SELECT t.name AS "name!" FROM unnest($1::text[]) AS t (name)
            WHERE NOT EXISTS (SELECT FROM schedules s WHERE s.name = t.name)"#,
            names,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// The next accounts of the walk for each of these names, `limit` at the most for each, in their order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn walk_accounts(&self, names: &[String], limit: i64) -> Result<Vec<Walked>, StoreError> {
        let rows = sqlx::query!(
            r#"-- walk_accounts
            SELECT t.name AS "name!", a.id, a.created_at,
                   EXISTS (SELECT FROM schedules s WHERE s.name = t.name || '/' || a.id) AS "has!"
            FROM unnest($1::text[]) AS t (name) LEFT JOIN schedule_declarations d ON d.name = t.name
            CROSS JOIN LATERAL (
                SELECT id, created_at FROM accounts
                WHERE (created_at, id) > (coalesce(d.accounts_until, '-infinity'), coalesce(d.walked_id, 0)) AND id > 0
                ORDER BY created_at, id LIMIT $2
            ) AS a
            ORDER BY t.name, a.created_at, a.id"#,
            names,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let walked = rows.into_iter().map(|row| Walked {
            name: row.name,
            account: AccountId(row.id),
            connection: None,
            created_at: row.created_at,
            has: row.has,
        });
        Ok(walked.collect())
    }

    /// The next connections of the walk for each of these names and vendors, `limit` at the most for each, in their
    /// order. Those that are not active as well: their schedules wait until they are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn walk_connections(
        &self,
        names: &[String],
        vendors: &[String],
        limit: i64,
    ) -> Result<Vec<Walked>, StoreError> {
        let rows = sqlx::query!(
            r#"-- walk_connections
            SELECT t.name AS "name!", c.id, c.account_id, c.created_at,
                   EXISTS (SELECT FROM schedules s WHERE s.name = t.name || '/' || c.account_id || '/' || c.id) AS "has!"
            FROM unnest($1::text[], $2::text[]) AS t (name, vendor)
            LEFT JOIN schedule_declarations d ON d.name = t.name
            CROSS JOIN LATERAL (
                SELECT id, account_id, created_at FROM connections
                WHERE vendor = t.vendor
                  AND (created_at, id) > (coalesce(d.accounts_until, '-infinity'), coalesce(d.walked_id, 0))
                ORDER BY created_at, id LIMIT $3
            ) AS c
            ORDER BY t.name, c.created_at, c.id"#,
            names,
            vendors,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let walked = rows.into_iter().map(|row| Walked {
            name: row.name,
            account: AccountId(row.account_id),
            connection: Some(ConnectionId(row.id)),
            created_at: row.created_at,
            has: row.has,
        });
        Ok(walked.collect())
    }

    /// Keeps that walks have come to these, one for each name, and that all before them have their schedules; nothing when
    /// another scheduler leads.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_walks(&self, leadership: &Leadership, last: &[&Walked]) -> Result<(), StoreError> {
        let names: Vec<String> = last.iter().map(|walked| walked.name.clone()).collect();
        let at: Vec<DateTime<Utc>> = last.iter().map(|walked| walked.created_at).collect();
        let ids: Vec<i64> = last.iter().map(|w| w.connection.map_or(w.account.0, |connection| connection.0)).collect();
        sqlx::query!(
            "-- keep_walks
            WITH led AS (SELECT 1 FROM leader WHERE term = $4 AND holder = $5 FOR SHARE)
            INSERT INTO schedule_declarations (name, accounts_until, walked_id)
            SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::bigint[]) WHERE EXISTS (SELECT FROM led)
            ON CONFLICT (name) DO UPDATE SET accounts_until = excluded.accounts_until, walked_id = excluded.walked_id",
            &names,
            &at,
            &ids,
            leadership.term.0,
            leadership.holder,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Takes walks that have come to the end back by some minutes, once a minute: a row that was committed behind the
    /// walk is found then. Nothing when another scheduler leads.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_walks_back(&self, leadership: &Leadership, names: &[String]) -> Result<(), StoreError> {
        let now = self.clock.now();
        sqlx::query!(
            "-- take_walks_back
            WITH led AS (SELECT 1 FROM leader WHERE term = $5 AND holder = $6 FOR SHARE)
            UPDATE schedule_declarations SET accounts_until = $2, walked_id = 0, went_back_at = $3
            WHERE name = ANY($1) AND accounts_until > $2 AND went_back_at <= $4 AND EXISTS (SELECT FROM led)",
            names,
            now - TimeDelta::minutes(LATE_MINUTES_MAX),
            now,
            now - TimeDelta::seconds(BACK_EVERY_SECS),
            leadership.term.0,
            leadership.holder,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
