//! What psql does with the same rows: COPY into a table like ours, and COPY to a temporary table with an upsert behind it.
//! Owns the machine's limits that the sync is compared with.

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, PgConnection};
use std::{path::Path, process::Stdio, time::Instant};
use tokio::process::Command;

/// psql on our rows.
pub(super) struct Psql<'a> {
    pub(super) url: &'a str,
    pub(super) table: &'a str,
    pub(super) directory: &'a Path,
}

/// Seconds that it took.
pub(super) struct Baseline {
    pub(super) copy_secs: f64,
    pub(super) copy_upsert_secs: f64,
    /// Of all rows, as COPY writes them.
    pub(super) bytes: u64,
}

impl Psql<'_> {
    /// Measures both. `is_known`: the upsert meets every row.
    pub(super) async fn measure(&self, sql: &mut PgConnection, is_known: bool) -> anyhow::Result<Baseline> {
        let file = self.directory.join("rows.copy");
        let rows = file.display();
        self.run(&format!("\\copy {} TO '{rows}'", self.table)).await?;
        for name in ["copied", "upserted"] {
            // No index or limit is left out: the same table under another name.
            let make = format!("CREATE TABLE {name} (LIKE {} INCLUDING ALL) WITH (fillfactor = 85)", self.table);
            sqlx::query(AssertSqlSafe(make)).execute(&mut *sql).await?;
        }
        super::settle(sql).await?;
        let copy_secs = self.run(&format!("\\copy copied FROM '{rows}'")).await?;
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT quote_ident(attname) FROM pg_attribute
             WHERE attrelid = 'upserted'::regclass AND attnum > 0 ORDER BY attnum",
        )
        .fetch_all(&mut *sql)
        .await?;
        let keys = ["account_id", "id"];
        let set = names.iter().filter(|name| !keys.contains(&name.as_str()));
        let set: Vec<String> = set.map(|name| format!("{name} = excluded.{name}")).collect();
        let upsert = format!(
            "CREATE TEMPORARY TABLE staged (LIKE upserted);\n\\copy staged FROM '{rows}'\n\
             INSERT INTO upserted SELECT * FROM staged ON CONFLICT (account_id, id) DO UPDATE SET {};",
            set.join(", ")
        );
        if is_known {
            self.run(&upsert).await?;
        }
        super::settle(sql).await?;
        let copy_upsert_secs = self.run(&upsert).await?;
        Ok(Baseline { copy_secs, copy_upsert_secs, bytes: std::fs::metadata(&file)?.len() })
    }

    /// Seconds of psql's whole life.
    async fn run(&self, script: &str) -> anyhow::Result<f64> {
        let file = self.directory.join("script.sql");
        tokio::fs::write(&file, script).await?;
        let began = Instant::now();
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url, "-f"]).arg(&file).stdin(Stdio::null());
        let status = psql.status().await.context("psql is needed for the comparison and cannot be started")?;
        anyhow::ensure!(status.success(), "psql failed: {status}");
        Ok(began.elapsed().as_secs_f64())
    }
}
