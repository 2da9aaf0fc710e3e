//! The customers of a seed with all that is theirs but jobs, and the servants.

use super::{Seed, run};
use sqlx::PgConnection;

/// Objects of each connection that is followed.
const OBJECTS: i64 = 10;
/// Anomalies, nearly all of them long resolved.
const ANOMALIES: i64 = 20_000;
/// Records in quarantine, of three connections.
const QUARANTINED: i64 = 5_000;
/// Looks at an account as its customer does, all of one account.
const ASSUMPTIONS: i64 = 2_000;

impl Seed {
    /// Connections of all customers.
    pub(super) fn connections(&self) -> i64 {
        (self.accounts / 2).max(1)
    }

    pub(super) async fn customers(&self, sql: &mut PgConnection) -> anyhow::Result<()> {
        let (now, accounts, connections) = (self.at(), self.accounts, self.connections());
        let followed = connections.min(2_000);
        // Account 1 has the first five connections; services are vendors' hosts, several connections to each.
        run(
            sql,
            format!(
                "INSERT INTO accounts (id, name, created_at)
                 SELECT n, 'Customer ' || n, {now} - interval '100 days' + n * interval '1 min'
                 FROM generate_series(1, {accounts}) AS n;
                 SELECT setval(pg_get_serial_sequence('accounts', 'id'), {accounts});
                 INSERT INTO connections (id, account_id, vendor, service, state, state_reason, state_since, created_at)
                 SELECT n, CASE WHEN n <= 5 THEN 1 ELSE 1 + n * 2 % {accounts} END, 'salesforce', 'host-' || n % 2000 || '.test',
                     CASE WHEN n % 400 = 7 THEN 'needs_reauth' WHEN n % 900 = 11 THEN 'parked' ELSE 'active' END,
                     CASE WHEN n % 400 = 7 THEN 'auth_broken: consent was taken back' END, {now} - interval '90 days',
                     {now} - interval '90 days'
                 FROM generate_series(1, {connections}) AS n;
                 SELECT setval(pg_get_serial_sequence('connections', 'id'), {connections});
                 INSERT INTO connection_events (connection_id, what, by, reason, at)
                 SELECT 1 + n % {followed}, 'enabled', 'ada', 'asked for', {now} - n * interval '1 min'
                 FROM generate_series(20000, 1, -1) AS n;
                 INSERT INTO streams (account_id, connection_id, object, watermark, synced_at)
                 SELECT c.account_id, c.id, 'Object_' || k, {now} - interval '1 min', {now} - interval '1 min'
                 FROM connections c, generate_series(1, {OBJECTS}) AS k WHERE c.id <= {followed};
                 INSERT INTO windows (stream_id, lo, hi, rows_expected, rows_seen, pages, opened_at)
                 SELECT id, watermark, {now}, 1000, 400, 2, {now} FROM streams WHERE id % 7 = 0"
            ),
        )
        .await?;
        self.quotas(sql, followed).await?;
        run(
            sql,
            format!(
                "INSERT INTO anomalies (account_id, connection_id, object, kind, subject, severity, state, summary, evidence,
                     sightings, first_seen_at, last_seen_at, state_by, state_reason, state_since)
                 SELECT c.account_id, c.id, 'Object_' || n / {connections}, 'volume_unusual', n::text,
                     CASE WHEN n % 2000 = 9 THEN 3 ELSE 1 END, CASE WHEN n % 500 = 9 THEN 'open' ELSE 'resolved' END,
                     'Object_1 changed much more than usual', '{{\"changes\": 900}}', 3, {now} - interval '9 days',
                     {now} - interval '8 days', 'seed', '', {now} - interval '8 days'
                 FROM generate_series(1, {ANOMALIES}) AS n JOIN connections c ON c.id = 1 + n % {connections} ORDER BY n;
                 INSERT INTO quarantined_records (account_id, connection_id, object, digest, record_id, reason, body,
                     first_seen_at, last_seen_at, state, state_since)
                 SELECT c.account_id, c.id, 'Object_' || n % {OBJECTS}, md5(n::text)::uuid, '003' || n, 'not a record',
                     convert_to(n::text, 'UTF8'), {now} - interval '9 days', {now} - interval '8 days',
                     CASE WHEN n % 3 = 0 THEN 'resolved' ELSE 'open' END, {now} - interval '8 days'
                 FROM generate_series(1, {QUARANTINED}) AS n JOIN connections c ON c.id = 1 + n % 3 ORDER BY n;
                 INSERT INTO assumptions (principal_kind, principal_id, principal_name, account_id, reason, ticket,
                     token_digest, started_at, ends_at, ended_at)
                 SELECT 'user', '1', 'seed', 2, 'their sync is late', 'T-' || n, sha256(n::text::bytea),
                     {now} - interval '9 days', {now} - interval '9 days' + interval '30 min', {now} - interval '9 days'
                 FROM generate_series(1, {ASSUMPTIONS}) AS n ORDER BY n;
                 INSERT INTO schedules (id, name, kind, account_id, rule, next_due_at)
                 SELECT n, 'daily ' || n, '{kind}', n, '{{\"every_secs\": 86400}}', {now} + interval '6 h' + n * interval '1 s'
                 FROM generate_series(1, {accounts}) AS n;
                 SELECT setval(pg_get_serial_sequence('schedules', 'id'), {accounts})",
                kind = self.kinds[0],
            ),
        )
        .await?;
        run(
            sql,
            format!(
                "INSERT INTO servants (id, kind, host, pid, version, state, concurrency, running, started_at, seen_at,
                     heartbeat_at, rss_bytes, current_jobs)
                 SELECT n, ({kinds})[1 + n % {count}], 'host-' || n % 20, 1000 + n, CASE WHEN n % 10 = 0 THEN '1.1' ELSE '1.0' END,
                     'running', 8, {each}, {now} - interval '1 day', {now}, {now}, 40000000,
                     (SELECT jsonb_agg(jsonb_build_object('id', {first} + (n - 1) * {each} + k, 'attempt', 1, 'account_id', 1,
                          'started_at', {now} - interval '1 s')) FROM generate_series(1, {each}) AS k)
                 FROM generate_series(1, {servants}) AS n;
                 INSERT INTO builds (version, kinds, first_at)
                 SELECT version, array_agg(DISTINCT kind), min(started_at) FROM servants GROUP BY version;
                 SELECT setval(pg_get_serial_sequence('servants', 'id'), {servants})",
                kinds = self.kinds(),
                count = self.kinds.len(),
                each = Self::IN_HAND,
                first = self.finished() + self.pending(),
                servants = self.servants,
            ),
        )
        .await
    }

    /// What holds jobs back: quotas, limits, breakers; none of them binds.
    async fn quotas(&self, sql: &mut PgConnection, followed: i64) -> anyhow::Result<()> {
        let now = self.at();
        run(
            sql,
            format!(
                "INSERT INTO vendor_budgets (connection_id, used, maximum, reported_at)
                 SELECT n, 1000 + n, 100000, {now} FROM generate_series(1, {followed}) AS n;
                 INSERT INTO vendor_budget_minutes (connection_id, minute, used, maximum, ceiling)
                 SELECT n, date_trunc('minute', {now}) - k * interval '1 min', 1000 + n, 100000, 80000
                 FROM generate_series(1, least({followed}, 50)) AS n, generate_series(0, 1440) AS k;
                 INSERT INTO limits (scope, key, source, per_second, set_by, reason, set_at)
                 SELECT 'connection', n::text, 'operator', 1000, 'seed', 'asked for', {now}
                 FROM generate_series(1, least({followed}, 300)) AS n;
                 INSERT INTO breakers (service, state, since, reason, openings, counts_from, window_since, newer_succeeded,
                     newer_failed, older_succeeded, older_failed, forced, forced_by, forced_reason, forced_at)
                 SELECT 'host-' || n || '.test', 'closed', {now}, '', 0, {now}, {now}, 1, 0, 1, 0,
                     CASE WHEN n = 1999 THEN 'closed' END, CASE WHEN n = 1999 THEN 'ada' END,
                     CASE WHEN n = 1999 THEN 'known' END, CASE WHEN n = 1999 THEN {now} END
                 FROM generate_series(0, 1999) AS n"
            ),
        )
        .await
    }
}
