//! Day partitions of what is finished and of the change log: made ahead, dropped when past retention. No row is ever deleted to prune.

use crate::{Leadership, Store, StoreError};
use chrono::{Days, NaiveDate};

/// The partitioned tables.
const TABLES: [&str; 3] = ["finished_jobs", "attempts", "record_changes"];
/// Days for which partitions exist ahead of time.
const DAYS_AHEAD: u64 = 3;
/// Days of rows in the default partition that one go gives a partition to; a clock far off makes few of them.
const DAYS_MENDED_MAX: u32 = 40;
/// Longest wait for the lock that a partition needs which is made or dropped; whoever works goes first.
const LOCK_WAIT: &str = "1s";

/// The time that a table is partitioned by.
fn column_of(table: &str) -> &'static str {
    match table {
        "attempts" => "ended_at",
        "record_changes" => "at",
        _ => "finished_at",
    }
}

/// How long finished jobs and changes of records are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Whole days.
    pub days: u32,
}

impl Store {
    /// Makes the partitions of today, of the next days and of whatever lies in the default partition, and drops those
    /// past retention. What a backup or somebody's long look is in the way of is left for a later go: it is in no hurry,
    /// and whoever waits for a lock has everybody wait. Answers with the names of the dropped ones.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_partitions(
        &self,
        leadership: &Leadership,
        retention: Retention,
    ) -> Result<Vec<String>, StoreError> {
        let today = self.clock.now().date_naive();
        let oldest_kept = today - Days::new(u64::from(retention.days));
        let mut dropped = Vec::new();
        for table in TABLES {
            let ahead = (0..=DAYS_AHEAD).map(|ahead| today + Days::new(ahead));
            for day in ahead.chain(self.days_in_default(table).await?) {
                match self.make_partition(leadership, table, day).await {
                    Ok(()) | Err(StoreError::Conflict(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            for (name, day) in self.day_partitions(table).await? {
                if day >= oldest_kept {
                    continue;
                }
                match self.drop_partition(leadership, &name).await {
                    Ok(()) => dropped.push(name),
                    Err(StoreError::Conflict(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(dropped)
    }

    async fn make_partition(&self, leadership: &Leadership, table: &str, day: NaiveDate) -> Result<(), StoreError> {
        let name = format!("{table}_{}", day.format("%Y%m%d"));
        if self.day_partitions(table).await?.iter().any(|(existing, _)| *existing == name) {
            return Ok(());
        }
        let column = column_of(table);
        let (from, until) = (format!("{day} 00:00:00+00"), format!("{} 00:00:00+00", day + Days::new(1)));
        let mut tx = self.pool.begin().await?;
        // Identifiers cannot be parameters; these are made of a constant and a date. Rows of that day that came before
        // their partition lie in the default one and move over: PostgreSQL makes no partition beside them.
        for statement in [
            format!("SET LOCAL lock_timeout = '{LOCK_WAIT}'"),
            format!("LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE"),
            format!("CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"),
            format!(
                "WITH moved AS (DELETE FROM {table}_default WHERE {column} >= '{from}' AND {column} < '{until}' RETURNING *)
                 INSERT INTO {name} SELECT * FROM moved"
            ),
            format!("ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{until}')"),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(format!("/* make_partition */ {statement}"))).execute(&mut *tx).await?;
        }
        // Last, since the lead cannot be renewed while it is looked at, and rows that move take their time.
        if !leads(&mut tx, leadership).await? {
            return Err(StoreError::NotLeading);
        }
        Ok(tx.commit().await?)
    }

    /// The days of the rows that are in no day's partition, oldest first.
    async fn days_in_default(&self, table: &str) -> Result<Vec<NaiveDate>, StoreError> {
        let statement = format!(
            "/* days_in_default */ SELECT DISTINCT ({} AT TIME ZONE 'UTC')::date AS day FROM {table}_default
             ORDER BY day LIMIT {DAYS_MENDED_MAX}",
            column_of(table)
        );
        Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_all(&self.pool).await?)
    }

    async fn drop_partition(&self, leadership: &Leadership, name: &str) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        // Nothing leaves it while it is counted: a job of it that somebody has run again is counted out by that.
        for statement in [format!("SET LOCAL lock_timeout = '{LOCK_WAIT}'"), format!("LOCK TABLE {name} IN SHARE MODE")]
        {
            sqlx::query(sqlx::AssertSqlSafe(format!("/* drop_partition */ {statement}"))).execute(&mut *tx).await?;
        }
        // The counters follow what is dropped, in the same transaction.
        if name.starts_with("finished_jobs_") {
            let count = format!(
                "INSERT INTO job_count_deltas (kind, state, delta) SELECT kind, state, -count(*) FROM {name} GROUP BY kind, state"
            );
            sqlx::query(sqlx::AssertSqlSafe(count)).execute(&mut *tx).await?;
            // Those of groups count on: a member that failed long ago has failed all the same.
            let members = format!(
                "INSERT INTO pruned_members (group_id, state, jobs, done, total)
                 SELECT group_id, state, count(*), sum(progress_done(progress)), sum(progress_total(progress))
                 FROM {name} WHERE group_id IS NOT NULL GROUP BY group_id, state"
            );
            sqlx::query(sqlx::AssertSqlSafe(members)).execute(&mut *tx).await?;
        }
        if name.starts_with("attempts_") {
            let errors = format!(
                "INSERT INTO error_deltas (fingerprint, attempts, failed, at) SELECT fingerprint, 0, -count(*), max(ended_at)
                 FROM {name} WHERE failed AND fingerprint IS NOT NULL GROUP BY fingerprint"
            );
            sqlx::query(sqlx::AssertSqlSafe(errors)).execute(&mut *tx).await?;
        }
        // Only now, since the lead cannot be renewed while it is looked at, and a day's jobs take long to count.
        if !leads(&mut tx, leadership).await? {
            return Err(StoreError::NotLeading);
        }
        sqlx::query(sqlx::AssertSqlSafe(format!("DROP TABLE {name}"))).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    async fn day_partitions(&self, table: &str) -> Result<Vec<(String, NaiveDate)>, StoreError> {
        let names = sqlx::query_scalar!(
            r#"-- day_partitions
            SELECT child.relname::text AS "name!" FROM pg_inherits
            JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent
            WHERE parent.relname = $1"#,
            table,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(names
            .into_iter()
            .filter_map(|name| {
                let day = NaiveDate::parse_from_str(name.rsplit('_').next()?, "%Y%m%d").ok()?;
                Some((name, day))
            })
            .collect())
    }

    /// Drops keys whose period is over, `limit` at the most: none of them keeps a job out any more. Answers with how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_expired_keys(&self, leadership: &Leadership, limit: i64) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let gone = sqlx::query!(
            "-- drop_expired_keys
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE)
            DELETE FROM unique_keys WHERE until < $3 AND (kind, unique_key) IN (
                SELECT kind, unique_key FROM unique_keys WHERE until < $3 AND EXISTS (SELECT FROM led)
                ORDER BY until LIMIT $4)",
            leadership.term.0,
            leadership.holder,
            now,
            limit,
        )
        .execute(&self.pool)
        .await?;
        Ok(gone.rows_affected())
    }
}

/// Whether the lead is still held, locked until the transaction ends.
pub(crate) async fn leads(conn: &mut sqlx::PgConnection, leadership: &Leadership) -> Result<bool, StoreError> {
    let term = sqlx::query_scalar!(
        "-- leads
        SELECT term FROM leader WHERE term = $1 AND holder = $2 FOR SHARE",
        leadership.term.0,
        leadership.holder,
    )
    .fetch_optional(conn)
    .await?;
    Ok(term.is_some())
}
