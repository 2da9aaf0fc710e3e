//! A ledger of any size, as months of work would have left it, made by statements over whole sets: what screens are
//! measured on. Rows, and every number that is kept beside them, are as the real paths write them, so that a recount
//! finds no difference. Skewed on purpose: account 1 has a fifth of all jobs, the last kind has three, few are cancelled.

mod customers;
mod errors;
mod jobs;
mod totals;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};
use std::collections::BTreeMap;

/// How much there is to be.
#[derive(Debug, Clone)]
pub struct Seed {
    /// Jobs in all; one in a hundred waits, the others have ended in the last [`Seed::DAYS`] days.
    pub jobs: i64,
    /// Customers beside the system; one in two has a connection.
    pub accounts: i64,
    /// The kinds' names; the last one is rare.
    pub kinds: Vec<String>,
    /// Servants that are alive, each with a few jobs in hand.
    pub servants: i64,
    /// Until when everything has happened.
    pub now: DateTime<Utc>,
}

impl Seed {
    /// Days over which jobs have ended.
    pub const DAYS: i64 = 14;
    /// Jobs in the hands of each servant.
    pub const IN_HAND: i64 = 2;

    /// Jobs that wait.
    #[must_use]
    pub fn pending(&self) -> i64 {
        (self.jobs / 100).max(10)
    }

    /// Jobs that run.
    #[must_use]
    pub fn running(&self) -> i64 {
        self.servants * Self::IN_HAND
    }

    /// Jobs that have ended: their ids are those from 1 to this.
    #[must_use]
    pub fn finished(&self) -> i64 {
        self.jobs - self.pending() - self.running()
    }

    /// Groups of jobs; the first has a third of all that waits.
    #[must_use]
    pub fn groups(&self) -> i64 {
        (self.jobs / 5_000).max(4)
    }

    /// The kind that hardly any job is of.
    ///
    /// # Panics
    /// When there are no kinds.
    #[must_use]
    pub fn rare_kind(&self) -> &str {
        self.kinds.last().expect("a kind")
    }

    /// Fills an empty, migrated database; says on the way what is there. Nobody else may work on it meanwhile.
    ///
    /// # Errors
    /// The database's; then it is of no use any more.
    pub async fn fill(&self, url: &str, say: impl Fn(&str)) -> anyhow::Result<()> {
        anyhow::ensure!(self.kinds.len() > 1 && self.accounts > 1 && self.finished() > 0, "too little to seed");
        let mut sql = connect(url).await?;
        self.customers(&mut sql).await?;
        say("accounts, connections, streams, schedules, servants");
        self.errors(&mut sql).await?;
        self.finished_jobs(url, &say).await?;
        self.live_jobs(&mut sql).await?;
        say("pending and running jobs");
        self.groups_and_acts(&mut sql).await?;
        self.totals(&mut sql).await?;
        say("counters, statistics, groups of errors");
        run(&mut sql, "VACUUM (ANALYZE)").await?;
        run(&mut sql, "CHECKPOINT").await?;
        say("vacuumed and analysed");
        Ok(())
    }

    /// What stands for each name of [`reads`](crate::reads): other things for each `n`, a job in another state too.
    ///
    /// # Errors
    /// The database's, or it is not this seed.
    pub async fn names(&self, sql: &mut PgConnection, n: i64) -> anyhow::Result<BTreeMap<&'static str, String>> {
        let groups: Vec<String> =
            sqlx::query_scalar("SELECT fingerprint FROM error_groups ORDER BY attempts DESC, fingerprint LIMIT 100")
                .fetch_all(sql)
                .await?;
        let at = usize::try_from(n.rem_euclid(i64::try_from(groups.len().max(1))?))?;
        let within = |first: i64, count: i64| (first + n.wrapping_mul(7_919).rem_euclid(count.max(1))).to_string();
        let job = match n.rem_euclid(3) {
            // One that is ready: those which wait for their time are every third.
            0 => self.finished() + 3 * ((self.pending() - 1) / 3 * (1 + n.rem_euclid(7)) / 8) + 3 - self.finished() % 3,
            1 => self.finished() + self.pending() + 1 + n.rem_euclid(self.running()),
            _ => 1 + n.wrapping_mul(104_729).rem_euclid(self.finished()),
        };
        Ok(BTreeMap::from([
            ("job", job.to_string()),
            ("kind", self.kinds[usize::try_from(n)? % (self.kinds.len() - 1)].clone()),
            ("rare", self.rare_kind().to_owned()),
            ("account", within(2, self.accounts - 1)),
            ("busy", "1".to_owned()),
            ("group", if n.rem_euclid(4) == 0 { "1".to_owned() } else { within(1, self.groups()) }),
            ("servant", within(1, self.servants)),
            ("schedule", within(1, self.accounts)),
            ("connection", within(1, self.connections().min(50))),
            ("service", format!("host-{}.test", within(0, 2_000))),
            ("anomaly", within(1, 10_000)),
            ("quarantine", within(1, 5_000)),
            ("assumption", within(1, 2_000)),
            ("operation", within(1, 300)),
            ("fingerprint", groups.get(at).cloned().unwrap_or_default()),
        ]))
    }

    /// A time as a literal.
    fn at(&self) -> String {
        format!("'{}'::timestamptz", self.now.to_rfc3339())
    }

    /// The kinds as a literal.
    fn kinds(&self) -> String {
        format!("'{{{}}}'::text[]", self.kinds.join(","))
    }
}

/// Whatever is drawn for row `n`: the same for each `salt`, even from 0 until below 1.
fn draw(salt: u32) -> String {
    format!("((hashint8extended(n, {salt}) & 2147483647)::float8 / 2147483648)")
}

async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    // Sets are joined as they should be, and indexes made in one go.
    let options = url.parse::<PgConnectOptions>()?.options([
        ("maintenance_work_mem", "512MB"),
        ("work_mem", "256MB"),
        ("synchronous_commit", "off"),
        ("client_min_messages", "warning"),
    ]);
    Ok(PgConnection::connect_with(&options).await?)
}

async fn run(sql: &mut PgConnection, statement: impl Into<String>) -> anyhow::Result<()> {
    let statement: String = statement.into();
    let shown: String = statement.chars().take(120).collect();
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(sql).await.map_err(|error| anyhow::anyhow!("{error}: {shown}"))?;
    Ok(())
}
