//! Limits as rows: declared by a deployment's file, set and removed by operators, listed. What is remembered of their
//! use is in `limit_states`; whether a job has room is `domain::Rooms`'s to say.

use crate::{
    Leadership, PAGE_ROWS_MAX, Store, StoreError,
    audit::{Subject, note, snapshot},
    partitions::leads,
};
use chrono::{DateTime, Utc};
use domain::{BudgetSettings, Granted, Limit, Limits, Scope, action};
use sqlx::PgConnection;

/// A limit as it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRow {
    /// What it covers.
    pub scope: Scope,
    /// What it says.
    pub limit: Limit,
    /// Whether a deployment's file says it; else an operator does.
    pub is_declared: bool,
    /// Whether it counts: an operator's takes the place of a declared one.
    pub is_in_force: bool,
    /// The operator, or the deployment.
    pub set_by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub set_at: DateTime<Utc>,
}

/// Where a page of limits starts: behind this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsAfter {
    /// What it covers.
    pub scope: Scope,
    /// Whether it is a declared one.
    pub is_declared: bool,
}

/// What became of a limit that an operator removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitRemoved {
    /// It is gone; a declared one, if there is any, counts again.
    Done,
    /// There is only a declared one.
    Declared,
    /// There is none.
    Missing,
}

/// A row before it is read.
struct Raw {
    scope: String,
    key: String,
    concurrency: Option<i64>,
    per_second: Option<i64>,
    per_minute: Option<i64>,
    burst: Option<i64>,
    per_day: Option<i64>,
    reserve_pct: Option<i16>,
}

impl Raw {
    /// No row may keep others from being dispatched or listed, whichever version wrote it: what covers nothing known bounds
    /// nothing, and what is more than a number holds here is as good as no bound. (The table's checks let in none below 1.)
    fn read(self) -> (Scope, Limit) {
        let number = |value: Option<i64>| value.map(|value| u32::try_from(value).unwrap_or(u32::MAX));
        let limit = Limit {
            concurrency: number(self.concurrency),
            per_second: number(self.per_second),
            per_minute: number(self.per_minute),
            burst: number(self.burst),
            per_day: number(self.per_day),
            reserve_pct: self.reserve_pct.and_then(|pct| u8::try_from(pct).ok()),
        };
        (Scope::of_row(self.scope, self.key), limit)
    }
}

const fn source(is_declared: bool) -> &'static str {
    if is_declared { "declared" } else { "operator" }
}

impl Store {
    /// Makes the ledger's declared limits those of this deployment's file: what the file says is set, and what this
    /// deployment once declared and the file no longer says is removed. Limits that another deployment declares stay,
    /// and those of a scope that only a newer version of this one knows; one that both declare is that of whoever led last.
    /// Answers with the number of rows that changed.
    ///
    /// # Errors
    /// [`StoreError::NotLeading`] when another leads by now.
    pub async fn declare_limits(
        &self,
        leadership: &Leadership,
        deployment: &str,
        limits: &[(Scope, Limit)],
        budget: BudgetSettings,
    ) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin().await?;
        if !leads(&mut tx, leadership).await? {
            return Err(StoreError::NotLeading);
        }
        let now = self.clock.now();
        let mut changed = 0;
        for (scope, limit) in limits {
            changed += upsert(&mut tx, scope, limit, true, deployment, "", now).await?;
        }
        changed += sqlx::query!(
            "-- drop_undeclared_limits
            DELETE FROM limits
            WHERE source = 'declared' AND set_by = $1 AND scope = ANY($4) AND (scope <> 'each_account' OR key = '')
              AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[]) AS t (scope, key)
                              WHERE t.scope = limits.scope AND t.key = limits.key)",
            deployment,
            &limits.iter().map(|(scope, _)| scope.scope().to_owned()).collect::<Vec<_>>(),
            &limits.iter().map(|(scope, _)| scope.key()).collect::<Vec<_>>(),
            &Scope::SORTS.map(str::to_owned),
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        changed += sqlx::query!(
            "-- declare_budget_settings
            INSERT INTO budget_settings (connection_id, share_pct, health_pct, set_by, reason, set_at)
            VALUES (0, $1, $2, $3, '', $4)
            ON CONFLICT (connection_id) DO UPDATE SET share_pct = excluded.share_pct,
                health_pct = excluded.health_pct, set_by = excluded.set_by, set_at = excluded.set_at
            WHERE (budget_settings.share_pct, budget_settings.health_pct)
                  IS DISTINCT FROM (excluded.share_pct, excluded.health_pct)",
            i16::from(budget.share_pct),
            i16::from(budget.health_pct),
            deployment,
            now,
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        if changed > 0 {
            self.wake_every_kind().await;
        }
        Ok(changed)
    }

    /// Sets an operator's limit; it counts until it is removed, whatever is declared.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_limit(
        &self,
        granted: &Granted<action::SetLimit>,
        scope: &Scope,
        limit: &Limit,
    ) -> Result<LimitRow, StoreError> {
        let (of, now) = (Subject::Limit(scope), self.clock.now());
        let (by, reason) = (granted.by(), granted.reason());
        let mut tx = self.pool.begin().await?;
        let before = snapshot(&mut tx, &of).await?;
        upsert(&mut tx, scope, limit, false, by, reason, now).await?;
        let after = snapshot(&mut tx, &of).await?;
        note(&mut tx, granted, &of, (before, after), now).await?;
        tx.commit().await?;
        self.wake_every_kind().await;
        Ok(LimitRow {
            scope: scope.clone(),
            limit: *limit,
            is_declared: false,
            is_in_force: true,
            set_by: by.to_owned(),
            reason: reason.to_owned(),
            set_at: now,
        })
    }

    /// Removes an operator's limit. What was used is remembered for the limit that counts next.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_limit(
        &self,
        granted: &Granted<action::RemoveLimit>,
        scope: &Scope,
    ) -> Result<LimitRemoved, StoreError> {
        let of = Subject::Limit(scope);
        let mut tx = self.pool.begin().await?;
        let before = snapshot(&mut tx, &of).await?;
        let found = sqlx::query!(
            r#"-- remove_limit
            WITH gone AS (
                DELETE FROM limits WHERE scope = $1 AND key = $2 AND source = 'operator' RETURNING scope
            )
            SELECT EXISTS (SELECT FROM gone) AS "is_gone!",
                   EXISTS (SELECT FROM limits WHERE scope = $1 AND key = $2 AND source = 'declared')
                   AS "is_declared!""#,
            scope.scope(),
            scope.key(),
        )
        .fetch_one(&mut *tx)
        .await?;
        if found.is_gone {
            note(&mut tx, granted, &of, (before, None), self.clock.now()).await?;
            tx.commit().await?;
            self.wake_every_kind().await;
            return Ok(LimitRemoved::Done);
        }
        Ok(if found.is_declared { LimitRemoved::Declared } else { LimitRemoved::Missing })
    }

    /// All limits, by scope and key, `limit` at most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_limits(&self, after: Option<&LimitsAfter>, limit: i64) -> Result<Vec<LimitRow>, StoreError> {
        let rows = sqlx::query!(
            r#"-- list_limits
            SELECT scope, key, source, concurrency, per_second, per_minute, burst, per_day, reserve_pct, set_by, reason,
                   set_at, source = 'operator' OR NOT EXISTS (
                       SELECT FROM limits AS o WHERE o.scope = limits.scope AND o.key = limits.key
                                               AND o.source = 'operator') AS "is_in_force!"
            FROM limits WHERE (scope, key, source) > ($1, $2, $3) ORDER BY scope, key, source LIMIT $4"#,
            after.map_or("", |after| after.scope.scope()),
            after.map(|after| after.scope.key()).unwrap_or_default(),
            after.map_or("", |after| source(after.is_declared)),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?;
        let read = rows.into_iter().map(|row| {
            let raw = Raw {
                scope: row.scope,
                key: row.key,
                concurrency: row.concurrency,
                per_second: row.per_second,
                per_minute: row.per_minute,
                burst: row.burst,
                per_day: row.per_day,
                reserve_pct: row.reserve_pct,
            };
            let (scope, limit) = raw.read();
            let (is_declared, is_in_force) = (row.source == source(true), row.is_in_force);
            let (set_by, reason, set_at) = (row.set_by, row.reason, row.set_at);
            LimitRow { scope, limit, is_declared, is_in_force, set_by, reason, set_at }
        });
        Ok(read.collect())
    }
}

/// The limits that count for jobs of these accounts and connections, whatever their kinds and vendors.
pub(crate) async fn limits_in_force(
    conn: &mut PgConnection,
    accounts: &[String],
    connections: &[String],
) -> Result<Limits, StoreError> {
    // An operator's limit comes after the declared one and takes its place.
    let rows = sqlx::query_as!(
        Raw,
        r#"-- limits_in_force
        SELECT scope AS "scope!", key AS "key!", concurrency, per_second, per_minute, burst, per_day, reserve_pct
        FROM (
            SELECT * FROM limits WHERE scope = ANY (ARRAY['kind', 'vendor', 'each_account', 'each_connection'])
            UNION ALL SELECT * FROM limits WHERE scope = 'account' AND key = ANY($1)
            UNION ALL SELECT * FROM limits WHERE scope = 'connection' AND key = ANY($2)
        ) AS l ORDER BY source"#,
        accounts,
        connections,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Raw::read).collect())
}

async fn upsert(
    conn: &mut PgConnection,
    scope: &Scope,
    limit: &Limit,
    is_declared: bool,
    by: &str,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let number = |value: Option<u32>| value.map(i64::from);
    Ok(sqlx::query!(
        "-- upsert_limit
        INSERT INTO limits AS l (scope, key, source, concurrency, per_second, per_minute, burst, per_day, reserve_pct,
                                 set_by, reason, set_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        ON CONFLICT (scope, key, source) DO UPDATE SET concurrency = excluded.concurrency,
            per_second = excluded.per_second, per_minute = excluded.per_minute, burst = excluded.burst,
            per_day = excluded.per_day, reserve_pct = excluded.reserve_pct, set_by = excluded.set_by,
            reason = excluded.reason, set_at = excluded.set_at
        WHERE (l.concurrency, l.per_second, l.per_minute, l.burst, l.per_day, l.reserve_pct, l.set_by, l.reason)
              IS DISTINCT FROM (excluded.concurrency, excluded.per_second, excluded.per_minute, excluded.burst,
                                excluded.per_day, excluded.reserve_pct, excluded.set_by, excluded.reason)",
        scope.scope(),
        scope.key(),
        source(is_declared),
        number(limit.concurrency),
        number(limit.per_second),
        number(limit.per_minute),
        number(limit.burst),
        number(limit.per_day),
        limit.reserve_pct.map(i16::from),
        by,
        reason,
        now,
    )
    .execute(conn)
    .await?
    .rows_affected())
}
