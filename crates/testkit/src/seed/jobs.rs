//! The jobs of a seed: those that ended, day by day with their attempts, and those that wait or run.

use super::{Seed, connect, draw, errors::ERRORS_OF_KIND, run};
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use std::sync::Arc;

/// Connections that fill days side by side.
const LANES: usize = 2;
/// The last moments belong to jobs that wait.
const PENDING_MINUTES: i64 = 10;

/// A day and the ids of the jobs that were made in it.
struct Day {
    date: NaiveDate,
    ids: (i64, i64),
}

impl Seed {
    /// The columns of a job that both tables have, for row `n`.
    fn columns(&self) -> String {
        let kinds = self.kinds.len() - 1;
        let common = format!("1 + floor({kinds} * power({}, 2))::int", draw(1));
        let (fifth, spread) = (draw(2), draw(3));
        format!(
            "n AS id,
             CASE WHEN {fifth} < 0.2 THEN 1 ELSE 2 + floor({accounts} * power({spread}, 1.5))::bigint END AS account_id,
             CASE WHEN n IN (1, {middle}, {last}) THEN {all} ELSE {common} END AS kind_no",
            accounts = self.accounts - 1,
            middle = self.finished() / 2,
            last = self.finished(),
            all = kinds + 1,
        )
    }

    fn began(&self) -> DateTime<Utc> {
        self.now - TimeDelta::days(Self::DAYS)
    }

    /// Microseconds between two jobs.
    fn step_micros(&self) -> i64 {
        let span = TimeDelta::days(Self::DAYS) - TimeDelta::minutes(PENDING_MINUTES);
        (span.num_microseconds().unwrap_or(i64::MAX) / self.finished()).max(1)
    }

    fn days(&self) -> Vec<Day> {
        let id_at = |at: DateTime<Utc>| {
            let micros = (at - self.began()).num_microseconds().unwrap_or(0).max(0);
            (micros / self.step_micros()).clamp(0, self.finished())
        };
        let midnight = |date: NaiveDate| date.and_time(chrono::NaiveTime::MIN).and_utc();
        let days = (0..=Self::DAYS).map(|ago| self.now.date_naive() - Days::new(u64::try_from(ago).unwrap_or(0)));
        let last = self.now.date_naive();
        days.map(|date| {
            let until = if date == last { self.finished() } else { id_at(midnight(date + Days::new(1))) };
            Day { date, ids: (id_at(midnight(date)) + 1, until) }
        })
        .collect()
    }

    /// Each day's jobs and attempts go into tables of their own, which become partitions once they are full: so their
    /// indexes are made at once.
    pub(super) async fn finished_jobs(&self, url: &str, say: &impl Fn(&str)) -> anyhow::Result<()> {
        let days = Arc::new(tokio::sync::Mutex::new(self.days()));
        let mut lanes = tokio::task::JoinSet::new();
        for _ in 0..LANES {
            let (seed, days, mut sql) = (self.clone(), days.clone(), connect(url).await?);
            lanes.spawn(async move {
                let mut filled = Vec::new();
                loop {
                    let day = days.lock().await.pop();
                    let Some(day) = day else { return anyhow::Ok(filled) };
                    for statement in seed.day(&day) {
                        run(&mut sql, statement).await?;
                    }
                    filled.push(day.date);
                }
            });
        }
        let mut dates = Vec::new();
        while let Some(lane) = lanes.join_next().await {
            dates.extend(lane??);
        }
        say(&format!("{} jobs that ended", self.finished()));
        let mut sql = connect(url).await?;
        for date in dates {
            let (name, next) = (date.format("%Y%m%d"), date + Days::new(1));
            for table in ["finished_jobs", "attempts"] {
                run(
                    &mut sql,
                    format!(
                        "ALTER TABLE {table} ATTACH PARTITION {table}_{name}
                         FOR VALUES FROM ('{date} 00:00:00+00') TO ('{next} 00:00:00+00')"
                    ),
                )
                .await?;
            }
        }
        say("their indexes");
        Ok(())
    }

    fn day(&self, Day { date, ids: (first, last) }: &Day) -> Vec<String> {
        let (name, next) = (date.format("%Y%m%d"), *date + Days::new(1));
        let (waited, ran, end, try_again) = (draw(5), draw(6), draw(4), draw(7));
        let make = |table: &str| {
            format!("CREATE TABLE {table}_{name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
        };
        let fill = format!(
            "INSERT INTO finished_jobs_{name} (id, account_id, due_at, created_at, finished_at, ready_at, state, priority,
                attempt, attempts_max, kind, request_id, payload, connection_id, schedule_id, claimed_at, servant_id, group_id,
                progress)
             SELECT id, account_id, made, made, least(made + waits + runs, '{next} 00:00:00+00'::timestamptz - interval '1 us'),
                made, state, 2, CASE WHEN state = 5 THEN 3 ELSE 1 END, 10, ({kinds})[kind_no], gen_random_uuid(),
                jsonb_build_object('object', 'Account', 'n', id), connection_id, schedule_id,
                least(made + waits, '{next} 00:00:00+00'::timestamptz - interval '2 us'), 1 + id % {servants}, group_id,
                CASE WHEN group_id IS NOT NULL THEN '{{\"done\": 20, \"total\": 20}}'::jsonb END
             FROM (
                SELECT {columns}, '{began}'::timestamptz + n * {step} * interval '1 us' AS made,
                    {waited} * interval '2 s' AS waits, {ran} * interval '20 s' AS runs,
                    CASE WHEN {end} < 0.0002 THEN 6 WHEN {end} < 0.04 THEN 5 ELSE 4 END AS state,
                    CASE WHEN n % 20 = 0 THEN 1 + n / 20 % {groups} END AS group_id,
                    CASE WHEN n % 10 = 3 THEN 1 + n / 10 % {accounts} END AS schedule_id,
                    CASE WHEN n % 4 = 1 THEN 1 + n / 4 % {connections} END AS connection_id
                FROM generate_series({first}::bigint, {last}::bigint) AS n) AS job",
            kinds = self.kinds(),
            servants = self.servants,
            columns = self.columns(),
            began = self.began().to_rfc3339(),
            step = self.step_micros(),
            groups = self.groups(),
            accounts = self.accounts,
            connections = self.connections(),
        );
        let attempts = format!(
            "INSERT INTO attempts_{name} (job_id, attempt, class, error, servant_id, claimed_at, ended_at, fingerprint, failed)
             SELECT id, attempt, e.class, e.error, servant_id, claimed_at, finished_at, e.fingerprint, state = 5
             FROM (SELECT *, id AS n FROM finished_jobs_{name}) AS job
             JOIN seeded_errors e ON e.kind = job.kind AND e.no = floor({ERRORS_OF_KIND} * power({which}, 3))::int
             WHERE state = 5 OR {try_again} < 0.01",
            which = draw(8),
        );
        vec![make("finished_jobs"), fill, make("attempts"), attempts]
    }

    /// A third of what waits waits for its time; all that runs is in the hands of servants that do not let go of it.
    pub(super) async fn live_jobs(&self, sql: &mut sqlx::PgConnection) -> anyhow::Result<()> {
        let (first, pending) = (self.finished() + 1, self.finished() + self.pending());
        let minutes = format!("interval '{PENDING_MINUTES} min'");
        run(
            sql,
            format!(
                "INSERT INTO jobs (id, account_id, due_at, created_at, ready_at, state, priority, attempts_max, kind,
                    request_id, payload, connection_id, group_id)
                 SELECT id, account_id, CASE WHEN waits THEN {now} + interval '7 days' ELSE made END, made,
                    CASE WHEN waits THEN NULL ELSE made END, CASE WHEN waits THEN 0 ELSE 1 END, 2, 10, ({kinds})[kind_no],
                    gen_random_uuid(), '{{}}', CASE WHEN id % 4 = 1 THEN 1 + id / 4 % {connections} END,
                    CASE WHEN id % 3 = 0 THEN 1 END
                 FROM (SELECT {columns}, n % 3 = 1 AS waits,
                           {now} - {minutes} + (n - {first}) * {minutes} / {span} AS made
                       FROM generate_series({first}::bigint, {pending}::bigint) AS n) AS job",
                now = self.at(),
                kinds = self.kinds(),
                columns = self.columns(),
                connections = self.connections(),
                span = self.pending() + 1,
            ),
        )
        .await?;
        run(
            sql,
            format!(
                "INSERT INTO leases (id, servant_id, until, job_ids)
                 SELECT s, s, {now} + interval '1 day', ARRAY(SELECT {pending} + (s - 1) * {each} + k
                     FROM generate_series(1, {each}) AS k)
                 FROM generate_series(1, {servants}) AS s;
                 INSERT INTO jobs (id, account_id, due_at, created_at, ready_at, state, priority, attempt, attempts_max, kind,
                     request_id, payload, claimed_at, servant_id, lease_id, attempt_token, progress)
                 SELECT job.id, account_id, made, made, made, 3, 2, 1, 10, s.kind, gen_random_uuid(), '{{}}', made, s.id, s.id,
                     gen_random_uuid(), '{{\"done\": 7, \"total\": 20, \"message\": \"Account\"}}'
                 FROM (SELECT {columns}, {now} - interval '1 s' AS made, 1 + (n - {pending} - 1) / {each} AS on_servant
                       FROM generate_series({pending}::bigint + 1, {last}::bigint) AS n) AS job
                 JOIN servants s ON s.id = job.on_servant;
                 SELECT setval(pg_get_serial_sequence('jobs', 'id'), {last}),
                        setval(pg_get_serial_sequence('leases', 'id'), {servants})",
                now = self.at(),
                each = Self::IN_HAND,
                servants = self.servants,
                columns = self.columns(),
                last = pending + self.running(),
            ),
        )
        .await
    }
}
