//! The operator's command line as an operator has it: the real program over a real database, manager and queue. What
//! each verb prints, its exit code, and what it says when something is missing or wrong.

use crate::fleet::LIMIT;
use domain::{Kind, ServantId};
use fakes::sqs::{FakeSqs, Options};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use store::{NewServant, Store};
use testkit::{Process, TestDatabase};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";

/// Leaves a database as `CREATE DATABASE` makes it.
const EMPTY: &str = "DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
END $$; CREATE SCHEMA public";

/// Everything that an operator's command needs.
pub(crate) struct Desk {
    database: TestDatabase,
    sqs: FakeSqs,
    _manager: Process,
    manager: String,
}

/// What a command left.
pub(crate) struct Reply {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Reply {
    /// It did what was asked.
    pub(crate) fn done(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    pub(crate) fn json(self) -> Value {
        let text = self.done();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// It failed with that code and told all of that on standard error.
    pub(crate) fn refused(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not said: {}", self.err);
        }
        assert!(self.err.starts_with("servantctl: ") || self.err.starts_with("error: "), "{}", self.err);
        self
    }
}

impl Desk {
    pub(crate) async fn new() -> Self {
        let database = testkit::database().await;
        let environment = [
            ("DATABASE_URL", database.url()),
            ("SERVANT_MANAGER__LISTEN", "127.0.0.1:0"),
            ("SERVANT_ACCESS__SIGN_ON", "open"),
        ];
        let manager = Process::start("manager", &["--config", "config/manager.toml"], &environment).await;
        let address = format!("http://{}", manager.address(LIMIT).await);
        let sqs = FakeSqs::start(Options::default()).await.unwrap();
        Self { database, sqs, _manager: manager, manager: address }
    }

    pub(crate) async fn store(&self) -> Store {
        self.database.store().await
    }

    /// Runs `servantctl` with the environment that an operator has, some of it changed; empty = not set. A tilde is a
    /// space within a word.
    async fn run_with(&self, changes: &[(&str, &str)], words: &str) -> Reply {
        let url = self.sqs.url();
        let mut environment = vec![
            ("DATABASE_URL", self.database.url()),
            ("SERVANT_MANAGER_URL", &self.manager),
            ("SERVANT_SQS_ENDPOINT_URL", &url),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
        ];
        environment.extend_from_slice(changes);
        let mut command = tokio::process::Command::new(testkit::build_binaries().unwrap().join("servantctl"));
        command
            .args(words.split_whitespace().map(|word| word.replace('~', " ")))
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        // Elsewhere than AWS nobody answers when it is asked what this machine may do.
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        for (key, value) in environment {
            if value.is_empty() {
                command.env_remove(key)
            } else {
                command.env(key, value)
            };
        }
        let output = command.output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Reply { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    pub(crate) async fn run(&self, words: &str) -> Reply {
        self.run_with(&[], words).await
    }

    async fn servant(&self) -> ServantId {
        let kind = Kind::new("noop").unwrap();
        let new = NewServant { kind, host: "host-7".into(), pid: 1, version: "0".into(), concurrency: 4 };
        self.store().await.register_servant(&new).await.unwrap()
    }

    async fn enqueued(&self, words: &str) -> i64 {
        self.run(&format!("enqueue {words} --json")).await.json()["id"].as_i64().unwrap()
    }

    /// What `doctor` found of one check.
    async fn finding(&self, changes: &[(&str, &str)], words: &str, check: &str) -> (bool, String) {
        let reply = self.run_with(changes, &format!("doctor --json {words}")).await;
        let findings: Vec<Value> = serde_json::from_str(&reply.out).unwrap();
        let is_healthy = findings.iter().all(|finding| finding["ok"] == true);
        assert_eq!(reply.code, i32::from(!is_healthy), "{}", reply.err);
        let found = findings.iter().find(|finding| finding["check"] == check).expect("that check");
        let advice = found["advice"].as_str().map(|advice| format!("; {advice}")).unwrap_or_default();
        (found["ok"] == true, format!("{}{advice}", found["finding"].as_str().unwrap()))
    }

    async fn assert_ill(&self, changes: &[(&str, &str)], words: &str, check: &str, says: &[&str]) {
        let (ok, finding) = self.finding(changes, words, check).await;
        assert!(!ok && says.iter().all(|word| finding.contains(word)), "{check}: {ok}, {finding}");
    }
}

#[tokio::test]
async fn an_empty_database_is_migrated_and_the_doctor_says_so() {
    let desk = Desk::new().await;
    let mut connection = PgConnection::connect(desk.database.url()).await.unwrap();
    sqlx::raw_sql(EMPTY).execute(&mut connection).await.unwrap();
    desk.assert_ill(&[], "", "schema", &["run `servantctl migrate`"]).await;
    for _ in 0..2 {
        assert!(desk.run("migrate").await.done().contains("at this program's schema"));
    }
    assert!(desk.finding(&[], "", "schema").await.0);
    assert!(desk.run("migrate --json").await.json()["done"].is_string());
    desk.run_with(&[("DATABASE_URL", "")], "migrate").await.refused(64, &["no address of a database", "DATABASE_URL"]);
    desk.run_with(&[("DATABASE_URL", "nonsense")], "migrate").await.refused(64, &["postgres://user@host/name"]);
}

#[tokio::test]
async fn the_doctor_names_what_is_missing_and_what_to_do() {
    let desk = Desk::new().await;
    desk.assert_ill(&[], "", "queues", &["no queue for", "noop", "servantctl queues ensure"]).await;
    desk.run("queues ensure").await.done();
    let healthy = desk.run("doctor").await.done();
    assert_eq!(healthy.lines().filter(|line| line.starts_with("ok ")).count(), 5, "{healthy}");
    assert!(healthy.contains("servants alive: 0"), "{healthy}");

    desk.assert_ill(&[("DATABASE_URL", "")], "", "database", &["no address", "set DATABASE_URL"]).await;
    let nowhere = [("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")];
    desk.assert_ill(&nowhere, "", "database", &["unavailable", "Connection refused", "start PostgreSQL"]).await;
    let (place, options) = desk.database.url().split_once('?').unwrap_or((desk.database.url(), ""));
    let (server, name) = place.rsplit_once('/').unwrap();
    let missing = format!("{server}/no_{name}?{options}");
    desk.assert_ill(&[("DATABASE_URL", &missing)], "", "database", &["does not exist", "the database's name"]).await;
    let signed = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
    desk.assert_ill(&signed, "", "queues", &["credentials", "AWS_PROFILE"]).await;
    desk.assert_ill(&[("SERVANT_MANAGER_URL", NOBODY)], "", "manager", &["does not answer", "start the manager"]).await;
    let gone = [("SERVANT_SQS_ENDPOINT_URL", NOBODY)];
    desk.assert_ill(&gone, "", "queues", &["unavailable", "Connection refused", "SERVANT_SQS_ENDPOINT_URL"]).await;
    desk.assert_ill(&[("AWS_REGION", "")], "", "queues", &["set AWS_REGION"]).await;
    desk.assert_ill(&[], "--jobs-file /nowhere", "queues", &["/nowhere"]).await;
    assert!(desk.finding(&gone, "--backend postgres", "queues").await.0, "there is nothing to be missed");
    let told = desk.run_with(&gone, "doctor").await.refused(1, &["1 check failed"]);
    assert!(told.out.contains("FAILED  queues"), "{}", told.out);
}

#[tokio::test]
async fn jobs_are_enqueued_listed_shown_retried_and_cancelled() {
    let desk = Desk::new().await;
    let unheard = desk.run("enqueue noop").await;
    assert!(unheard.code == 0 && unheard.err.contains("no servant of kind noop is alive"), "{}", unheard.err);
    desk.servant().await;
    let first = desk.enqueued("noop --unique-key k --payload {\"sleep_ms\":5} --priority 1").await;
    let again = desk.run("enqueue noop --unique-key k --json").await.json();
    assert_eq!((&again["duplicate"], again["id"].as_i64()), (&Value::Bool(true), Some(first)));
    let later = desk.enqueued("noop --run-at 2999-01-01T00:00:00Z").await;

    let list = desk.run("jobs list --state pending --kind noop --limit 2 --json").await.json();
    let ids: Vec<i64> = list["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect();
    assert_eq!((ids, list["next_before"].as_i64()), (vec![later, first], Some(first)));
    let table = desk.run("jobs list --limit 2").await;
    assert!(table.out.starts_with("ID  KIND  STATE") && table.err.contains(&format!("--before {first}")));
    let shown = desk.run(&format!("jobs show {first}")).await.done();
    for fact in [&format!("noop {first}: ready"), "priority    1", "unique key  k", "{\"sleep_ms\":5}", "  created"] {
        assert!(shown.contains(fact), "{fact:?} is not shown:\n{shown}");
    }
    assert_eq!(desk.run(&format!("jobs show {first} --json")).await.json()["timeline"][0]["step"], "created");

    // One refusal is no reason to leave out the others.
    let partly = desk.run(&format!("jobs cancel {first} 999999 {later}")).await;
    let partly = partly.refused(1, &["there is no job 999999", "dropped after their retention"]);
    assert_eq!(partly.out.matches("cancelled").count(), 2, "{}", partly.out);
    desk.run(&format!("jobs cancel {first}")).await.refused(1, &["is cancelled already"]);
    assert_eq!(desk.run(&format!("jobs retry {first} --json")).await.json()[0]["state"], "ready");
    desk.run(&format!("jobs retry {first}")).await.refused(1, &["only a failed or cancelled job is retried"]);

    let waits = desk.enqueued("noop --run-at 2999-01-01T00:00:00Z").await;
    desk.run(&format!("jobs run {waits}")).await.refused(64, &["--reason"]);
    let ready = desk.run(&format!("jobs run {waits} --reason they~wait --by ada --json")).await.json();
    assert_eq!(ready[0]["state"], "ready");
    desk.run(&format!("jobs run {waits} --reason x")).await.refused(1, &["only one that waits for its time"]);
    desk.run(&format!("jobs cancel {waits} --by bob --reason wrong~year")).await.done();
    let shown = desk.run(&format!("jobs show {waits}")).await.done();
    assert!(shown.contains("run_job_now by ada, ") && shown.contains(": they wait"), "{shown}");
    assert!(shown.contains("cancel_job by bob, ") && shown.contains(": wrong year"), "{shown}");
    let acts = desk.run(&format!("audit list --subject job --key {waits}")).await.done();
    assert!(acts.starts_with("SEQ") && acts.lines().count() == 4 && acts.contains("wrong year"), "{acts}");
    assert_eq!(desk.run("audit list --key 7").await.code, 64);

    let stats = desk.run("stats --json").await.json();
    let cancelled = stats["counts"].as_array().unwrap().iter().find(|count| count["state"] == "cancelled");
    assert_eq!(cancelled.map(|count| &count["jobs"]), Some(&Value::from(2)));
    assert!(desk.run("stats").await.done().starts_with("KIND"));
}

#[tokio::test]
async fn jobs_are_paused_and_resumed_and_say_why_they_wait() {
    let desk = Desk::new().await;
    desk.servant().await;
    let id = desk.enqueued("noop").await;
    let idle = desk.run(&format!("jobs why {id}")).await.done();
    assert!(idle.starts_with(&format!("job {id} is ready: ")) && idle.contains("0 of 4 slots busy"), "{idle}");
    assert_eq!(desk.run("pauses --json").await.json()["pauses"], Value::Array(Vec::new()));
    for (target, named) in [
        ("kind noop", ("kind", "noop")),
        ("account 7", ("account", "7")),
        ("connection 9", ("connection", "9")),
        ("group 3", ("group", "3")),
        ("everything", ("everything", "")),
    ] {
        let done = desk.run(&format!("pause {target} --reason maintenance --by ada")).await.done();
        assert!(done.contains(&format!("{target} is paused")), "{done}");
        let list = desk.run("pauses --json").await.json();
        let mine = list["pauses"].as_array().unwrap().iter().find(|pause| pause["scope"] == named.0).expect("it");
        assert_eq!(
            (&mine["key"], &mine["paused_by"], &mine["reason"]),
            (&named.1.into(), &"ada".into(), &"maintenance".into())
        );
    }
    let table = desk.run("pauses").await.done();
    assert!(table.starts_with("SCOPE") && table.lines().count() == 6, "{table}");
    let why = desk.run(&format!("jobs why {id}")).await.done();
    assert!(
        why.contains("everything is paused by ada since") && why.contains("cleared by: servantctl resume everything")
    );
    assert_eq!(desk.run(&format!("jobs why {id} --json")).await.json()["why"]["cause"], "paused");
    for target in ["kind noop", "account 7", "connection 9", "group 3", "everything"] {
        let resumed = desk.run(&format!("resume {target} --by bob --reason it~is~over")).await.done();
        assert!(resumed.contains(&format!("{target} is no longer paused")), "{resumed}");
        let acts =
            desk.run(&format!("audit list --subject pause --key {} --json", target.replace(' ', "~"))).await.json();
        let last = &acts["entries"][0];
        let said = (&last["action"], &last["actor"], &last["reason"]);
        assert_eq!(said, (&"resume".into(), &"bob".into(), &"it is over".into()), "{acts}");
        desk.run(&format!("resume {target}")).await.refused(1, &[&format!("{target} is not paused")]);
    }
    assert_eq!(desk.run(&format!("jobs why {id} --json")).await.json()["why"]["cause"], "slot");
    desk.run("jobs why 999").await.refused(1, &["there is no job 999"]);
    desk.run("pause everything").await.refused(64, &["a pause needs a reason", "--reason"]);
    desk.run("pause kind No-Kind --reason x").await.refused(64, &["'No-Kind' is not a kind"]);
    assert_eq!(desk.run("pause queue 1 --reason x").await.code, 64);
}

#[tokio::test]
async fn servants_are_listed_and_take_orders_and_schedules_are_listed() {
    let desk = Desk::new().await;
    let id = desk.servant().await.0;
    let table = desk.run("servants").await.done();
    assert!(table.contains("host-7") && table.contains("alive") && table.contains("0/4"), "{table}");
    for order in ["pause", "resume", "drain"] {
        let told = desk.run(&format!("servants {order} {id} --by ada --reason a~new~version")).await.done();
        assert!(told.contains(&format!("told to {order}")), "{told}");
        let listed = &desk.run("servants list --json").await.json()["servants"][0];
        assert_eq!((&listed["ordered"], &listed["ordered_by"]), (&order.into(), &"ada".into()));
        let table = desk.run("servants").await.done();
        assert!(table.contains("ada") && table.contains("a new version"), "{table}");
    }
    desk.run("servants pause 999").await.refused(1, &["there is no servant 999"]);

    assert_eq!(desk.run("schedules list --json").await.json()["schedules"], Value::Array(Vec::new()));
    let catalogue = "[noop]\nlabel = \"n\"\nrun_secs_max = 1\nconcurrency = 1\n\
                     schedules = [{ name = \"each minute\", every_secs = 60 }]\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), catalogue).unwrap();
    let environment = [
        ("DATABASE_URL", desk.database.url()),
        ("SERVANT_JOBS_FILE", file.path().to_str().unwrap()),
        ("SERVANT_QUEUE__BACKEND", "postgres"),
    ];
    let _scheduler = Process::start("scheduler", &["--config", "config/scheduler.toml"], &environment).await;
    testkit::eventually(LIMIT, "the schedule is listed", async || {
        let table = desk.run("schedules list").await.done();
        (table.contains("each minute") && table.contains("every 60 s")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn queues_are_made_shown_and_redriven() {
    let desk = Desk::new().await;
    for _ in 0..2 {
        desk.run("queues ensure").await.done();
    }
    let list = desk.run("queues list --json").await.json();
    let noop = list.as_array().unwrap().iter().find(|queue| queue["kind"] == "noop").expect("its queue");
    assert_eq!((&noop["name"], &noop["dead"]), (&Value::from("servant-noop"), &Value::from(0)));
    assert!(desk.run("queues list").await.done().starts_with("QUEUE"));
    assert!(desk.run("queues redrive noop").await.done().contains("on their way back"));
    desk.run("queues redrive nosuch").await.refused(1, &["servant-nosuch-dead does not exist", "queues ensure"]);
    let told = desk.run("audit list").await.done();
    let lines: Vec<&str> = told.lines().filter(|line| line.contains("cli:")).collect();
    assert!(lines[0].contains("servantctl queues redrive") && lines[0].contains("failed"), "{told}");
    assert!(lines[1].contains("queue noop") && lines[1].contains("on their way back"), "{told}");
    let is_ensured = |line: &&str| line.contains("ensure queues") && line.contains("every kind has its queue");
    assert!(lines[2..].iter().all(is_ensured) && lines.len() > 4, "{told}");
    desk.run_with(&[("DATABASE_URL", "")], "queues ensure").await.refused(64, &["no address of a database"]);
    desk.run("queues ensure --jobs-file /nowhere").await.refused(64, &["/nowhere"]);
    desk.run_with(&[("AWS_REGION", "")], "queues list").await.refused(64, &["set AWS_REGION"]);
    desk.run_with(&[("SERVANT_SQS_ENDPOINT_URL", NOBODY)], "queues list").await.refused(1, &["Connection refused"]);
}

#[tokio::test]
async fn wrong_usage_is_told_from_failure() {
    let desk = Desk::new().await;
    for words in ["", "jobs", "jobs show x", "jobs retry", "enqueue noop --payload {", "enqueue noop --unique-secs 5"] {
        assert_eq!(desk.run(words).await.code, 64, "servantctl {words}");
    }
    desk.run("enqueue Bad-Kind").await.refused(1, &["'Bad-Kind' is not a kind"]);
    desk.run("jobs list --state done").await.refused(1, &["'done' is not a state"]);
    desk.run("--manager nonsense stats").await.refused(64, &["'nonsense' is no address of a manager"]);
    desk.run(&format!("--manager {NOBODY} stats")).await.refused(1, &["does not answer", "start the manager"]);
    let foreign = format!("--manager {} stats", desk.sqs.url());
    desk.run(&foreign).await.refused(1, &["no manager that this program understands"]);
    for words in ["help", "--version", "help jobs"] {
        assert_eq!(desk.run(words).await.code, 0);
    }
}

/// What every list shows, by the table of operations: a table for people, JSON for programs.
#[tokio::test]
async fn every_list_is_a_table_or_json() {
    let desk = Desk::new().await;
    let operations = include_str!("../../crates/manager-api/parity.txt");
    let mut asked = 0;
    for line in operations.lines().filter(|line| line.starts_with("GET ")) {
        let (address, verb) = (line.split(" | ").next().unwrap(), line.split(" | ").last().unwrap());
        // One thing, or what needs more words.
        if address.contains('{') || ["operations preview", "audit export"].contains(&verb) {
            continue;
        }
        let verb = match verb {
            "find" => "find noop",
            "limits holders" => "limits holders kind noop",
            verb => verb,
        };
        let value = desk.run(&format!("{verb} --json")).await.json();
        assert!(value.is_object() || value.is_array(), "{verb}: {value}");
        assert!(!desk.run(verb).await.done().trim().is_empty(), "{verb}");
        asked += 1;
    }
    assert!(asked >= 20, "only {asked} lists were asked for");
}
