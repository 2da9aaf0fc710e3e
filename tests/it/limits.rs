//! Limits and quotas as an operator has them: `servantctl limits` and `budgets`, and what a scheduler does with its file.

use crate::{
    fleet::{Backend, Fleet, LIMIT},
    operator::Desk,
};
use domain::{AccountId, JobState, Kind, Limit, Scope, VendorBudget};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use store::{NewJob, Store, UsageReport};
use testkit::{Process, TestDatabase, eventually};

/// How many jobs of the kind, and of each account, may be in flight.
const OF_KIND_MAX: i64 = 5;
const OF_ACCOUNT_MAX: i64 = 2;

/// Notes, in each transaction that changes what is in flight, how much that is at the instant of its commit: such commits
/// go one by one, each looks when no other is under way, and none is left out. So this is every number there ever was.
const EVERY_INSTANT: &str = "
CREATE TABLE instants (of_kind bigint NOT NULL, of_account bigint NOT NULL);
CREATE FUNCTION note_instant() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('instants', 0));
    INSERT INTO instants SELECT coalesce(sum(n), 0), coalesce(max(n), 0) FROM (
        SELECT count(*) AS n FROM jobs WHERE state IN (2, 3) GROUP BY account_id) AS of_account;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER note_change AFTER UPDATE ON jobs DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN ((OLD.state IN (2, 3)) <> (NEW.state IN (2, 3))) EXECUTE FUNCTION note_instant();
CREATE CONSTRAINT TRIGGER note_end AFTER DELETE ON jobs DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.state IN (2, 3)) EXECUTE FUNCTION note_instant();";

#[tokio::test]
async fn limits_are_set_listed_and_removed_by_hand() {
    let desk = Desk::new().await;
    let set = "limits set kind salesforce_sync --concurrency 5 --per-minute 60 --reason their~sandbox~is~slow --by ada";
    let done = desk.run(set).await.done();
    assert_eq!(done.trim(), "kind salesforce_sync is limited: concurrency 5, per_minute 60");
    desk.run("limits set each_account --per-day 1000 --reserve-pct 10 --reason a~test --by bob").await.done();
    desk.run("limits set each_connection slack --per-second 2 --burst 4 --reason a~test --by bob").await.done();
    let table = desk.run("limits list").await.done();
    for words in ["SCOPE", "salesforce_sync  concurrency 5, per_minute 60", "operator", "their sandbox is slow", "ada"]
    {
        assert!(table.contains(words), "{words:?} is not shown:\n{table}");
    }
    let list = desk.run("limits list --json").await.json();
    assert_eq!(list["limits"].as_array().unwrap().len(), 3);
    assert_eq!(list["limits"][1]["bounds"], json!({"per_second": 2, "burst": 4}));
    desk.run("limits remove kind salesforce_sync").await.done();
    desk.run("limits remove kind salesforce_sync").await.refused(1, &["there is no limit on kind salesforce_sync"]);
    desk.run("limits set kind noop --concurrency 0 --reason a~test")
        .await
        .refused(1, &["to stop jobs altogether, pause"]);
    desk.run("limits set kind noop --reason a~test").await.refused(1, &["needs at least one of concurrency"]);
    desk.run("limits set kind noop --concurrency 1").await.refused(64, &["a limit needs a reason"]);
    desk.run("limits set group 1 --concurrency 1 --reason a~test").await.refused(64, &["'group' has no limits"]);
}

#[tokio::test]
async fn quotas_are_shown_and_our_share_is_set_by_hand() {
    let desk = Desk::new().await;
    let store = desk.store().await;
    let id = store.create_connection(AccountId::SYSTEM, "salesforce", &json!({}), None).await.unwrap();
    desk.run(&format!("budgets show {id}")).await.refused(1, &["no vendor has spoken of a quota of connection"]);
    let budget = VendorBudget { used: 14_900, maximum: 15_000, reported_at: store.now(), resets_at: None };
    store.report_usage(&[UsageReport { connection: id, budget }]).await.unwrap();
    let table = desk.run("budgets list").await.done();
    assert!(table.contains("salesforce  14900  11250  15000    80 % - 5 %"), "{table}");
    let minutes = desk.run(&format!("budgets show {id} --json")).await.json();
    assert_eq!((&minutes["minutes"][0]["used"], &minutes["budget"]["used"]), (&14_900.into(), &14_900.into()));
    assert!(desk.run(&format!("budgets show {id}")).await.done().starts_with("MINUTE"));
    let set = format!("budgets set {id} --share-pct 100 --health-pct 0 --reason they~asked --by ada");
    assert!(desk.run(&set).await.done().contains("jobs may use 100 % of connection"));
    let list = desk.run("budgets list --json").await.json();
    assert_eq!((&list["budgets"][0]["ceiling"], &list["budgets"][0]["share_set_by"]), (&15_000.into(), &"ada".into()));
    desk.run(&format!("budgets set {id} --share-pct 0 --reason a~test")).await.refused(1, &["share_pct is 0"]);
    desk.run(&format!("budgets set {id} --share-pct 50")).await.refused(64, &["a share needs a reason"]);
    desk.run(&format!("budgets reset {id}")).await.done();
    desk.run(&format!("budgets reset {id}")).await.refused(1, &["has no share of its own"]);
}

const KIND: &str = "[noop]\nlabel = \"n\"\nrun_secs_max = 1\nconcurrency = 1\n";

async fn scheduler(database: &TestDatabase, deployment: &str, limits: &str) -> Process {
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::fs::write(file.path(), format!("{limits}\n{KIND}")).unwrap();
    let environment = [
        ("DATABASE_URL", database.url()),
        ("SERVANT_JOBS_FILE", file.path().to_str().unwrap()),
        ("SERVANT_DEPLOYMENT", deployment),
        ("SERVANT_QUEUE__BACKEND", "postgres"),
    ];
    let mut scheduler = Process::start("scheduler", &["--config", "config/scheduler.toml"], &environment).await;
    scheduler.line_with(LIMIT, "this scheduler leads").await;
    scheduler
}

async fn until_declared(store: &Store, expected: &[&str]) {
    eventually(LIMIT, "the limits to be those of the files", async || {
        let rows = store.list_limits(None, 100).await.ok()?;
        let told: Vec<String> = rows.iter().map(|row| row.scope.to_string()).collect();
        (told == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_deployments_file_takes_back_what_it_said_and_no_others() {
    let database = testkit::database().await;
    let store = database.store().await;
    let both = "[limits]\neach_account = { concurrency = 3 }\n[limits.vendor.slack]\nper_second = 1";
    let mut blue = scheduler(&database, "blue", both).await;
    until_declared(&store, &["each account", "vendor slack"]).await;
    blue.kill();
    let mut green = scheduler(&database, "green", "[limits.vendor.mail]\nper_minute = 30").await;
    until_declared(&store, &["each account", "vendor mail", "vendor slack"]).await;
    green.kill();
    let _blue = scheduler(&database, "blue", "").await;
    until_declared(&store, &["vendor mail"]).await;
}

/// A mistake in the file is told with its table, key and line before anything starts.
#[tokio::test]
async fn a_mistake_in_the_file_is_told() {
    let desk = Desk::new().await;
    for (limits, words) in [
        ("[limits]\neach_account = { concurrency = 0 }", vec!["[limits] each_account: concurrency must be at least 1"]),
        ("\n[limits.each_account]\nper_hour = 3", vec!["unknown field `per_hour`", "line 3"]),
        ("[limits]\nlabel = \"x\"", vec!["unknown field `label`", "line 2"]),
        ("[limits.budget]\nshare_pct = 0", vec!["[limits] budget: share_pct is 0"]),
    ] {
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(file.path(), format!("{limits}\n{KIND}")).unwrap();
        let reply = desk.run(&format!("queues ensure --jobs-file {}", file.path().display())).await;
        reply.refused(64, &words);
    }
    assert_ne!(Value::Null, desk.run("limits list --json").await.json());
}

/// An attempt that its servant loses while it stands still holds no place any more once it was rescued, for that servant
/// neither: it takes the job again.
#[tokio::test]
async fn a_lost_attempt_holds_no_place() {
    let fleet = Fleet::on_postgres().await;
    let limit = Limit { concurrency: Some(1), ..Limit::default() };
    fleet.store.set_limit(&testkit::granted(), &Scope::Kind(Kind::new("noop").unwrap()), &limit).await.unwrap();
    let _scheduler = fleet.scheduler().await;
    let servant = fleet.deployment.start("noop", &[("SERVANT_WORK__LEASE_SECS", "2")]).await;
    // For a second after a limit was set, everyone counts anew.
    fleet.enqueue(4, 500).await;
    fleet.until(JobState::Succeeded, 4).await;
    let jobs = fleet.enqueue(2, 500).await;
    fleet.until(JobState::Running, 1).await;
    servant.stop();
    let rescued = async || (fleet.count(JobState::Running).await == 0).then_some(());
    eventually(LIMIT, "the attempt to be rescued", rescued).await;
    servant.cont();
    fleet.until(JobState::Succeeded, 6).await;
    let rows = [fleet.job(jobs[0]).await, fleet.job(jobs[1]).await];
    assert!(rows.iter().any(|row| row.attempt > 1), "none was lost");
    assert_eq!(fleet.store.count_drift().await.unwrap(), vec![]);
}

async fn no_limit_is_passed(backend: Backend) {
    let fleet = Fleet::on(backend).await;
    let mut sql = PgConnection::connect(&fleet.deployment.database_url).await.unwrap();
    sqlx::raw_sql(EVERY_INSTANT).execute(&mut sql).await.unwrap();
    let kind = Kind::new("noop").unwrap();
    for (scope, jobs) in [(Scope::Kind(kind.clone()), OF_KIND_MAX), (Scope::EachAccount, OF_ACCOUNT_MAX)] {
        let limit = Limit { concurrency: u32::try_from(jobs).ok(), ..Limit::default() };
        fleet.store.set_limit(&testkit::granted(), &scope, &limit).await.unwrap();
    }
    let job = |at: i64| NewJob {
        account: AccountId(1 + at % 4),
        attempts_max: 50,
        ..NewJob::new(kind.clone(), json!({"sleep_ms": 5 + at % 40}))
    };
    let jobs = 240;
    fleet.store.insert_jobs(&(0..jobs).map(job).collect::<Vec<_>>()).await.unwrap();
    let short = [("SERVANT_WORK__LEASE_SECS", "2"), ("SERVANT_WORK__CONCURRENCY", "8")];
    let soon = [
        ("SERVANT_LEADER__LEASE_SECS", "2"),
        ("SERVANT_LEADER__RENEW_MS", "500"),
        ("SERVANT_DUTIES__UNCLAIMED_SECS", "2"),
    ];
    let mut scheduler = fleet.deployment.start("scheduler", &soon).await;
    let mut servants = [fleet.deployment.start("noop", &short).await, fleet.deployment.start("noop", &short).await];
    for (round, done) in [30, 70, 110, 150].into_iter().enumerate() {
        fleet.until(JobState::Succeeded, done).await;
        let doomed = &mut servants[round % 2];
        if round < 2 {
            doomed.kill()
        } else {
            doomed.stop()
        };
        scheduler.kill();
        scheduler = fleet.deployment.start("scheduler", &soon).await;
        if round < 2 {
            *doomed = fleet.deployment.start("noop", &short).await;
        } else {
            // It wakes up when its lease has run out.
            fleet.until(JobState::Succeeded, done + 20).await;
            servants[round % 2].cont();
        }
    }
    fleet.until(JobState::Succeeded, jobs).await;
    assert_eq!(fleet.store.count_drift().await.unwrap(), vec![]);
    let (instants, of_kind, of_account): (i64, i64, i64) =
        sqlx::query_as("SELECT count(*), max(of_kind), max(of_account) FROM instants")
            .fetch_one(&mut sql)
            .await
            .unwrap();
    println!("{backend:?}: {instants} instants");
    assert!(instants >= 2 * jobs, "only {instants} changes were seen");
    assert_eq!((of_kind, of_account), (OF_KIND_MAX, OF_ACCOUNT_MAX), "{backend:?}: the limits, and never one more");
}

/// At no instant of a run in which servants and the leader are killed, and servants wake up late, is there one job more in
/// flight than a limit allows; and all that it allows is used.
#[tokio::test]
async fn no_limit_is_passed_at_any_instant_whoever_dies() {
    tokio::join!(no_limit_is_passed(Backend::Postgres), no_limit_is_passed(Backend::Sqs));
}
