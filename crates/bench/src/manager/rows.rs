//! Rows that requests read. Nobody else works on the ledger meanwhile, and each request has a manager of its own: a session
//! tells what it has read when it ends. What a manager reads by starting is measured first, and taken off.

use super::{say, server::Manager};
use crate::fleet::Fleet;
use sqlx::PgConnection;
use testkit::Read;

/// The request that reads most.
pub(super) struct Worst {
    pub(super) rows: i64,
    pub(super) address: String,
}

/// Makes every request once.
pub(super) async fn worst(fleet: &Fleet, sql: &mut PgConnection, reads: &[Read]) -> anyhow::Result<Worst> {
    let nothing = read_by(fleet, sql, None).await?;
    let mut rows = Vec::new();
    for read in reads {
        rows.push((read_by(fleet, sql, Some(&read.address)).await? - nothing, read));
    }
    rows.sort_by_key(|(rows, _)| std::cmp::Reverse(*rows));
    for (rows, read) in rows.iter().take(5) {
        say(&format!("{rows} rows: {}", read.address));
    }
    let worst = rows.first().map(|(rows, read)| Worst { rows: *rows, address: read.address.clone() });
    worst.ok_or_else(|| anyhow::anyhow!("there is nothing to read"))
}

async fn read_by(fleet: &Fleet, sql: &mut PgConnection, address: Option<&str>) -> anyhow::Result<i64> {
    let before = rows_read(sql).await?;
    let manager = Manager::start(fleet, Some(1)).await?;
    if let Some(address) = address {
        let answer = reqwest::get(format!("{}{address}", manager.url)).await?;
        let (status, text) = (answer.status(), answer.text().await?);
        anyhow::ensure!(status.is_success(), "{address}: {status} {text}");
    }
    manager.stop_with_sessions(sql).await?;
    Ok(rows_read(sql).await? - before)
}

/// Rows that ended sessions have read: index entries that led to one, and whole tables.
async fn rows_read(sql: &mut PgConnection) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(
        "SELECT (sum(seq_tup_read) + sum(coalesce(idx_tup_fetch, 0)))::bigint FROM pg_stat_user_tables",
    )
    .fetch_one(sql)
    .await?)
}
