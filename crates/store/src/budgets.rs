//! What vendors say of customers' own quotas: the latest word on each connection, its history by the minute, and our
//! share of it. What is free and how it is spread is `domain::Spending`'s to say.

use crate::{
    PAGE_ROWS_MAX, Store, StoreError, Tx,
    audit::{Subject, note, snapshot},
};
use chrono::{DateTime, Utc};
use domain::{AccountId, BudgetSettings, ConnectionId, Granted, VendorBudget, action};
use sqlx::PgConnection;

/// A vendor's word, as a job brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageReport {
    /// On which connection.
    pub connection: ConnectionId,
    /// What it said.
    pub budget: VendorBudget,
}

/// A connection's quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetRow {
    /// The connection.
    pub connection: ConnectionId,
    /// Whose it is.
    pub account: AccountId,
    /// The vendor.
    pub vendor: String,
    /// What the vendor said last.
    pub budget: VendorBudget,
    /// Our share.
    pub settings: BudgetSettings,
    /// Who set the share, why and when; the deployment, where it is the common one.
    pub settings_by: SettingsBy,
}

/// Who said what our share is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsBy {
    /// Whether it is this connection's own.
    pub is_own: bool,
    /// Who.
    pub set_by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub set_at: DateTime<Utc>,
}

/// A minute of a quota's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetMinute {
    /// Its beginning.
    pub minute: DateTime<Utc>,
    /// Calls used, by everybody.
    pub used: u64,
    /// Calls that the quota had.
    pub maximum: u64,
    /// Calls that jobs may have used.
    pub ceiling: u64,
    /// The most calls that were reserved for jobs in flight.
    pub reserved: u64,
}

struct RawMinute {
    minute: DateTime<Utc>,
    used: i64,
    maximum: i64,
    ceiling: i64,
    reserved: i64,
}

impl From<RawMinute> for BudgetMinute {
    fn from(row: RawMinute) -> Self {
        Self {
            minute: row.minute,
            used: calls(row.used),
            maximum: calls(row.maximum),
            ceiling: calls(row.ceiling),
            reserved: calls(row.reserved),
        }
    }
}

/// Both, as a row has them.
pub(crate) fn settings_of(share_pct: Option<i16>, health_pct: Option<i16>) -> Option<BudgetSettings> {
    let pct = |pct: Option<i16>| u8::try_from(pct?).ok();
    Some(BudgetSettings { share_pct: pct(share_pct)?, health_pct: pct(health_pct)? })
}

fn calls(calls: i64) -> u64 {
    u64::try_from(calls).unwrap_or(0)
}

fn bigint(calls: u64) -> i64 {
    i64::try_from(calls).unwrap_or(i64::MAX)
}

impl Store {
    /// Takes down what vendors said. Of several words on one connection the latest stands, whoever brings it first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn report_usage(&self, reports: &[UsageReport]) -> Result<(), StoreError> {
        let mut conn = self.pool.acquire().await?;
        report_usage(&mut conn, reports).await
    }

    /// The same in a transaction of the caller's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn report_usage_in(&self, tx: &mut Tx, reports: &[UsageReport]) -> Result<(), StoreError> {
        report_usage(&mut tx.inner, reports).await
    }

    /// Notes in the history how many calls are reserved for jobs in flight, for connections whose vendor has spoken.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_reserved_in(&self, tx: &mut Tx, reserved: &[(ConnectionId, u64)]) -> Result<(), StoreError> {
        note_reserved(&mut tx.inner, self.clock.now(), reserved).await
    }

    /// Quotas by connection, `limit` at most; `after` is the last connection of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_budgets(&self, after: Option<ConnectionId>, limit: i64) -> Result<Vec<BudgetRow>, StoreError> {
        self.budgets_from(after.map_or(0, |id| id.0.saturating_add(1)), i64::MAX, limit).await
    }

    /// One connection's quota; none: its vendor has not spoken.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_budget(&self, connection: ConnectionId) -> Result<Option<BudgetRow>, StoreError> {
        Ok(self.budgets_from(connection.0, connection.0, 1).await?.pop())
    }

    async fn budgets_from(&self, from: i64, until: i64, limit: i64) -> Result<Vec<BudgetRow>, StoreError> {
        let rows = sqlx::query!(
            r#"-- budgets_from
            SELECT b.connection_id, c.account_id, c.vendor, b.used, b.maximum, b.reported_at, b.resets_at,
                   own.connection_id IS NOT NULL AS "is_own!", coalesce(own.share_pct, common.share_pct) AS share_pct,
                   coalesce(own.health_pct, common.health_pct) AS health_pct,
                   coalesce(own.set_by, common.set_by) AS "set_by!", coalesce(own.reason, common.reason) AS "reason!",
                   coalesce(own.set_at, common.set_at) AS "set_at!"
            FROM vendor_budgets AS b
            JOIN connections AS c ON c.id = b.connection_id
            JOIN budget_settings AS common ON common.connection_id = 0
            LEFT JOIN budget_settings AS own ON own.connection_id = b.connection_id
            WHERE b.connection_id BETWEEN $1 AND $2 ORDER BY b.connection_id LIMIT $3"#,
            from,
            until,
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?;
        let row = rows.into_iter().map(|row| BudgetRow {
            connection: ConnectionId(row.connection_id),
            account: AccountId(row.account_id),
            vendor: row.vendor,
            budget: VendorBudget {
                used: calls(row.used),
                maximum: calls(row.maximum),
                reported_at: row.reported_at,
                resets_at: row.resets_at,
            },
            settings: settings_of(row.share_pct, row.health_pct).unwrap_or_default(),
            settings_by: SettingsBy { is_own: row.is_own, set_by: row.set_by, reason: row.reason, set_at: row.set_at },
        });
        Ok(row.collect())
    }

    /// A quota's minutes, the latest first, `limit` at most; `before` is the earliest one of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn budget_minutes(
        &self,
        connection: ConnectionId,
        before: Option<DateTime<Utc>>,
        limit: i64,
    ) -> Result<Vec<BudgetMinute>, StoreError> {
        let mut conn = self.pool.acquire().await?;
        budget_minutes(&mut conn, connection, before, limit).await
    }

    /// A quota over the last day: the last minute that is known of each quarter of an hour, the latest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn budget_day(&self, connection: ConnectionId) -> Result<Vec<BudgetMinute>, StoreError> {
        let rows = sqlx::query_as!(
            RawMinute,
            "-- budget_day
            SELECT m.minute, m.used, m.maximum, m.ceiling, m.reserved
            FROM generate_series(0, 95) AS quarter (n) CROSS JOIN LATERAL (
                SELECT minute, used, maximum, ceiling, reserved FROM vendor_budget_minutes
                WHERE connection_id = $1 AND minute > $2::timestamptz - make_interval(mins => 15 * (n + 1))
                    AND minute <= $2 - make_interval(mins => 15 * n)
                ORDER BY minute DESC LIMIT 1) AS m
            ORDER BY m.minute DESC",
            connection.0,
            self.clock.now(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(BudgetMinute::from).collect())
    }

    /// The last of a quota's minutes, as the transaction sees them, the latest first, `limit` at most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_budget_minutes_in(
        &self,
        tx: &mut Tx,
        connection: ConnectionId,
        limit: i64,
    ) -> Result<Vec<BudgetMinute>, StoreError> {
        budget_minutes(&mut tx.inner, connection, None, limit).await
    }

    /// Sets our share of one connection's quota; false: there is no such connection.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_budget_settings(
        &self,
        granted: &Granted<action::SetShare>,
        connection: ConnectionId,
        settings: BudgetSettings,
    ) -> Result<bool, StoreError> {
        let (of, now) = (Subject::Share(connection), self.clock.now());
        let mut tx = self.pool.begin().await?;
        let before = snapshot(&mut tx, &of).await?;
        let set = sqlx::query!(
            "-- set_budget_settings
            INSERT INTO budget_settings (connection_id, share_pct, health_pct, set_by, reason, set_at)
            SELECT id, $2, $3, $4, $5, $6 FROM connections WHERE id = $1
            ON CONFLICT (connection_id) DO UPDATE SET share_pct = excluded.share_pct,
                health_pct = excluded.health_pct, set_by = excluded.set_by, reason = excluded.reason,
                set_at = excluded.set_at",
            connection.0,
            i16::from(settings.share_pct),
            i16::from(settings.health_pct),
            granted.by(),
            granted.reason(),
            now,
        )
        .execute(&mut *tx)
        .await?;
        if set.rows_affected() == 0 {
            return Ok(false);
        }
        let after = snapshot(&mut tx, &of).await?;
        note(&mut tx, granted, &of, (before, after), now).await?;
        tx.commit().await?;
        self.wake_every_kind().await;
        Ok(true)
    }

    /// Takes a connection's own share back: the common one counts again. False when it has none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_budget_settings(
        &self,
        granted: &Granted<action::RemoveShare>,
        connection: ConnectionId,
    ) -> Result<bool, StoreError> {
        let of = Subject::Share(connection);
        let mut tx = self.pool.begin().await?;
        let before = snapshot(&mut tx, &of).await?;
        let removed = sqlx::query!(
            "-- remove_budget_settings
            DELETE FROM budget_settings WHERE connection_id = $1 AND connection_id <> 0",
            connection.0,
        )
        .execute(&mut *tx)
        .await?;
        if removed.rows_affected() == 0 {
            return Ok(false);
        }
        note(&mut tx, granted, &of, (before, None), self.clock.now()).await?;
        tx.commit().await?;
        self.wake_every_kind().await;
        Ok(true)
    }
}

async fn budget_minutes(
    conn: &mut PgConnection,
    connection: ConnectionId,
    before: Option<DateTime<Utc>>,
    limit: i64,
) -> Result<Vec<BudgetMinute>, StoreError> {
    let rows = sqlx::query_as!(
        RawMinute,
        "-- budget_minutes
        SELECT minute, used, maximum, ceiling, reserved FROM vendor_budget_minutes
        WHERE connection_id = $1 AND minute < coalesce($2::timestamptz, 'infinity') ORDER BY minute DESC LIMIT $3",
        connection.0,
        before,
        limit.clamp(1, PAGE_ROWS_MAX),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(BudgetMinute::from).collect())
}

async fn report_usage(conn: &mut PgConnection, reports: &[UsageReport]) -> Result<(), StoreError> {
    // One row can be written once in a statement; those of several statements are locked in one order.
    let mut latest: Vec<UsageReport> = reports.to_vec();
    latest.sort_by_key(|report| (report.connection, std::cmp::Reverse(report.budget.reported_at)));
    latest.dedup_by_key(|report| report.connection);
    if latest.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "-- report_usage
        WITH said AS (
            INSERT INTO vendor_budgets AS b (connection_id, used, maximum, reported_at, resets_at)
            SELECT t.* FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::timestamptz[])
                AS t (connection_id, used, maximum, reported_at, resets_at)
            ON CONFLICT (connection_id) DO UPDATE SET used = excluded.used, maximum = excluded.maximum,
                reported_at = excluded.reported_at, resets_at = excluded.resets_at
            WHERE b.reported_at < excluded.reported_at
            RETURNING connection_id, used, maximum, reported_at
        )
        INSERT INTO vendor_budget_minutes AS m (connection_id, minute, used, maximum, ceiling)
        SELECT said.connection_id, date_trunc('minute', said.reported_at, 'UTC'), said.used, said.maximum,
               said.maximum * (coalesce(own.share_pct, common.share_pct)
                               - coalesce(own.health_pct, common.health_pct)) / 100
        FROM said
        JOIN budget_settings AS common ON common.connection_id = 0
        LEFT JOIN budget_settings AS own ON own.connection_id = said.connection_id
        ON CONFLICT (connection_id, minute) DO UPDATE SET used = excluded.used, maximum = excluded.maximum,
            ceiling = excluded.ceiling",
        &latest.iter().map(|r| r.connection.0).collect::<Vec<_>>(),
        &latest.iter().map(|r| bigint(r.budget.used)).collect::<Vec<_>>(),
        // Our share of it is reckoned in the same type.
        &latest.iter().map(|r| bigint(r.budget.maximum).min(i64::MAX / 100)).collect::<Vec<_>>(),
        &latest.iter().map(|r| r.budget.reported_at).collect::<Vec<_>>(),
        &latest.iter().map(|r| r.budget.resets_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes how many calls are reserved.
pub(crate) async fn note_reserved(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
    reserved: &[(ConnectionId, u64)],
) -> Result<(), StoreError> {
    if reserved.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "-- note_reserved
        INSERT INTO vendor_budget_minutes AS m (connection_id, minute, used, maximum, ceiling, reserved)
        SELECT b.connection_id, date_trunc('minute', $3::timestamptz, 'UTC'), b.used, b.maximum,
               b.maximum * (coalesce(own.share_pct, common.share_pct)
                            - coalesce(own.health_pct, common.health_pct)) / 100, t.reserved
        FROM unnest($1::bigint[], $2::bigint[]) AS t (connection_id, reserved)
        JOIN vendor_budgets AS b ON b.connection_id = t.connection_id
        JOIN budget_settings AS common ON common.connection_id = 0
        LEFT JOIN budget_settings AS own ON own.connection_id = t.connection_id
        ON CONFLICT (connection_id, minute) DO UPDATE SET reserved = greatest(m.reserved, excluded.reserved)",
        &reserved.iter().map(|(id, _)| id.0).collect::<Vec<_>>(),
        &reserved.iter().map(|(_, calls)| bigint(*calls)).collect::<Vec<_>>(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}
