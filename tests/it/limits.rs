//! Limits and quotas as an operator has them: `servantctl limits` and `budgets`, and what a scheduler does with its file.

use crate::{fleet::LIMIT, operator::Desk};
use domain::{AccountId, VendorBudget};
use serde_json::{Value, json};
use store::{Store, UsageReport};
use testkit::{Process, TestDatabase, eventually};

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
