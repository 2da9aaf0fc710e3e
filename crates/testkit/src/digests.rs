//! What every table holds, in a few bytes each: whether anything was changed. Does not say what.

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::collections::BTreeMap;

/// A digest of each table's rows by the table's name, of the database at `url`.
///
/// # Errors
/// The database does not answer.
pub async fn table_digests(url: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut sql = PgConnection::connect(url).await.context("the test server does not answer")?;
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
             AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_t%'",
    )
    .fetch_all(&mut sql)
    .await?;
    let mut digests = BTreeMap::new();
    for name in names {
        let statement = format!(
            "SELECT count(*) || ' rows, ' || md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM {name} AS t"
        );
        let digest: String = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut sql).await?;
        digests.insert(name, digest);
    }
    sql.close().await?;
    Ok(digests)
}
