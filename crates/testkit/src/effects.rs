//! What must hold of a whole ledger at rest, and the tables by which it is seen that effects happen once: the servant
//! `effects` writes to them, [`audit`] reads everything. Does not own how a job is crashed.
//!
//! The table of effects has no constraint: one would refuse the second effect and so hide that the fence let it by.

use std::time::Duration;

use anyhow::Context as _;
use domain::{Clock, JobId};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use store::Store;

use crate::eventually::LOOK_EVERY;

/// The tables, made by the test that uses them.
const TABLES: &str = "
CREATE TABLE effects (
    job_id bigint NOT NULL,
    page bigint NOT NULL,
    attempt smallint NOT NULL,
    pid integer NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE tries (
    job_id bigint NOT NULL,
    attempt smallint NOT NULL,
    pid integer NOT NULL,
    tried_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE outages (service text NOT NULL);
CREATE TABLE calls (connection_id bigint NOT NULL, called_at timestamptz NOT NULL);
CREATE INDEX effects_job_idx ON effects (job_id);
CREATE INDEX tries_job_idx ON tries (job_id);
CREATE INDEX calls_connection_idx ON calls (connection_id, called_at);";

/// One effect; `$1` = job_id, page, attempt, pid. Part of the transaction that is to be fenced.
pub const INSERT_EFFECT: &str = "INSERT INTO effects (job_id, page, attempt, pid)
    SELECT job_id, page, attempt, pid
    FROM jsonb_to_record($1) AS t (job_id bigint, page bigint, attempt smallint, pid integer)";

/// One attempt that has begun; `$1` = job_id, attempt, pid. A transaction of its own.
pub const INSERT_TRY: &str = "INSERT INTO tries (job_id, attempt, pid)
    SELECT job_id, attempt, pid FROM jsonb_to_record($1) AS t (job_id bigint, attempt smallint, pid integer)";

/// A row while the service that `$1` names is down.
pub const IS_DOWN: &str = "SELECT FROM outages WHERE service = $1->>'service'";

/// A call to a vendor that counts them; `$1` = connection_id. One after the other, so that each [`CALLS_SINCE`] in the same
/// transaction answers with a number of its own.
pub const INSERT_CALL: &str = "WITH turn AS MATERIALIZED (
        SELECT pg_advisory_xact_lock(($1->>'connection_id')::bigint), ($1->>'connection_id')::bigint AS connection_id)
    INSERT INTO calls (connection_id, called_at) SELECT connection_id, clock_timestamp() FROM turn";

/// A row for each call of the connection in the current period; `$1` = connection_id, since (seconds since 1970).
pub const CALLS_SINCE: &str = "SELECT FROM calls WHERE connection_id = ($1->>'connection_id')::bigint
    AND called_at >= to_timestamp(($1->>'since')::float8)";

/// Each answers with one line for each thing that must not be. `pages` = effects that the job's payload asks for.
const MUST_BE_EMPTY: [&str; 15] = [
    "SELECT format('job %s is unfinished: state %s, attempt %s', id, state, attempt) FROM jobs ORDER BY id",
    "SELECT format('job %s was committed and is nowhere', id) FROM unnest($1::bigint[]) AS t (id)
     WHERE NOT EXISTS (SELECT FROM jobs WHERE jobs.id = t.id)
       AND NOT EXISTS (SELECT FROM finished_jobs WHERE finished_jobs.id = t.id)",
    "SELECT format('job %s is in the ledger %s times', id, count(*))
     FROM (SELECT id FROM jobs UNION ALL SELECT id FROM finished_jobs) AS j GROUP BY id HAVING count(*) > 1",
    "SELECT format('job %s failed and no attempt says why', id) FROM finished_jobs f
     WHERE state = 5 AND NOT EXISTS (SELECT FROM attempts WHERE attempts.job_id = f.id)",
    "SELECT format('page %s of job %s was written %s times', page, job_id, count(*))
     FROM effects GROUP BY job_id, page HAVING count(*) > 1",
    "SELECT format('job %s succeeded with %s effects instead of %s', id, n, pages) FROM (
         SELECT id, greatest(coalesce((payload->>'pages')::bigint, 1), 1) AS pages,
                (SELECT count(*) FROM effects WHERE effects.job_id = f.id) AS n
         FROM finished_jobs f WHERE kind = 'effects' AND state = 4) AS s
     WHERE n <> pages",
    "SELECT format('job %s was finished by attempt %s of servant %s, its last effect is of attempt %s of process %s',
                   f.id, f.attempt, f.servant_id, e.attempt, e.pid)
     FROM finished_jobs f JOIN servants s ON s.id = f.servant_id JOIN effects e ON e.job_id = f.id
     WHERE f.kind = 'effects' AND f.state = 4
       AND e.page = greatest(coalesce((f.payload->>'pages')::bigint, 1), 1) - 1
       AND (e.attempt, e.pid) IS DISTINCT FROM (f.attempt, s.pid)",
    "SELECT format('job %s did not succeed and has its last effect', f.id)
     FROM finished_jobs f JOIN effects e ON e.job_id = f.id
     WHERE f.kind = 'effects' AND f.state <> 4
       AND e.page = greatest(coalesce((f.payload->>'pages')::bigint, 1), 1) - 1",
    "SELECT format('an effect of job %s, which is nowhere', job_id) FROM effects e
     WHERE NOT EXISTS (SELECT FROM finished_jobs f WHERE f.id = e.job_id)
       AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = e.job_id)",
    "SELECT format('job %s (state %s) inserted %s jobs instead of %s', id, state, n, wanted) FROM (
         SELECT f.id, f.state,
                CASE WHEN f.state = 4 THEN coalesce((f.payload->>'children')::bigint, 0) ELSE 0 END AS wanted,
                coalesce(c.n, 0) AS n
         FROM finished_jobs f
         LEFT JOIN (SELECT (payload->>'parent')::bigint AS parent, count(*) AS n FROM finished_jobs
                    WHERE payload ? 'parent' GROUP BY 1) AS c ON c.parent = f.id
         WHERE f.kind = 'effects') AS s
     WHERE n <> wanted",
    "SELECT format('attempt %s of job %s failed by a mistake of ours: %s', attempt, job_id, error) FROM attempts
     WHERE class = 'bug' AND error NOT LIKE '%panicked as ordered%' AND error NOT LIKE '%did not yield%'",
    "SELECT format('job %s is still in the outbox', job_id) FROM outbox",
    "SELECT format('lease %s of servant %s is left', id, servant_id) FROM leases",
    "SELECT format('group %s is %s though none of its members is unfinished', id, state) FROM groups
     WHERE state IN ('sealed', 'cancelling')",
    "SELECT format('group %s finished without its finishing job', id) FROM groups g
     WHERE state = 'finished' AND finishing IS NOT NULL
       AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = g.finishing_job_id)
       AND NOT EXISTS (SELECT FROM finished_jobs WHERE finished_jobs.id = g.finishing_job_id)",
];

/// Makes the tables of effects and of tries.
///
/// # Errors
/// They are there already, or the server does not answer.
pub async fn create_effects_tables(url: &str) -> anyhow::Result<()> {
    let mut sql = PgConnection::connect(url).await?;
    sqlx::raw_sql(TABLES).execute(&mut sql).await.context("the tables of effects")?;
    Ok(sql.close().await?)
}

/// Waits until nothing is under way: no unfinished job, nothing to send, no lease, no group to end. False when `limit` passes first;
/// [`audit`] then says what is left.
pub async fn until_at_rest(url: &str, limit: Duration) -> bool {
    let look = async {
        loop {
            if is_at_rest(url).await.unwrap_or(false) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(limit, look).await.is_ok()
}

async fn is_at_rest(url: &str) -> anyhow::Result<bool> {
    let mut sql = PgConnection::connect(url).await?;
    let statement = "SELECT NOT EXISTS (SELECT FROM jobs) AND NOT EXISTS (SELECT FROM outbox)
        AND NOT EXISTS (SELECT FROM leases) AND NOT EXISTS (SELECT FROM group_counts WHERE is_awaited)";
    Ok(sqlx::query_scalar(statement).fetch_one(&mut sql).await?)
}

/// Reads the whole ledger at rest and lists what must not be, one line each; `committed` are the jobs whose insertion
/// was acknowledged.
///
/// # Errors
/// The server does not answer.
pub async fn audit(url: &str, committed: &[JobId]) -> anyhow::Result<Vec<String>> {
    let mut sql = PgConnection::connect(url).await?;
    let ids: Vec<i64> = committed.iter().map(|id| id.0).collect();
    let mut violations = Vec::new();
    for statement in MUST_BE_EMPTY {
        let query = sqlx::query_scalar::<_, String>(AssertSqlSafe(statement));
        let query = if statement.contains("$1") { query.bind(&ids) } else { query };
        violations.extend(query.fetch_all(&mut sql).await.with_context(|| statement.to_owned())?);
    }
    sql.close().await?;
    let store = Store::connect(url, 1, Clock::system()).await?;
    let drift = store.count_drift().await?;
    violations.extend(drift.iter().map(|drift| format!("a counter differs from a recount: {drift:?}")));
    store.close().await;
    Ok(violations)
}

/// The attempts of a job that began, in order: their numbers and their processes.
///
/// # Errors
/// The server does not answer.
pub async fn tries_of(url: &str, job: JobId) -> anyhow::Result<Vec<(i16, i32)>> {
    let mut sql = PgConnection::connect(url).await?;
    let statement = "SELECT attempt, pid FROM tries WHERE job_id = $1 ORDER BY tried_at";
    Ok(sqlx::query_as(statement).bind(job.0).fetch_all(&mut sql).await?)
}
