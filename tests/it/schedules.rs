//! `servantctl schedules` as an operator has it: the real program and the real manager. What each verb does and prints.

use crate::operator::Desk;
use serde_json::Value;

impl Desk {
    /// Makes a schedule; a tilde is a space within a word.
    async fn scheduled(&self, words: &str) -> i64 {
        self.run(&format!("schedules create {words} --json")).await.json()["id"].as_i64().unwrap()
    }
}

fn shows(text: &str, facts: &[&str]) {
    for fact in facts {
        assert!(text.contains(fact), "{fact:?} is not shown:\n{text}");
    }
}

#[tokio::test]
async fn schedules_are_made_changed_paused_and_deleted() {
    let desk = Desk::new().await;
    let made = desk
        .run(
            "schedules create nightly noop --cron 30~2~*~*~* --zone Europe/Berlin --overlap buffer_one \
             --jitter-secs 60 --catch-up-max 3 --payload {\"full\":true} --ends-at 2999-01-01T00:00:00Z",
        )
        .await
        .done();
    let facts =
        ["nightly 1: 30 2 * * * (Europe/Berlin)", "overlap     buffer_one", "jitter      60 s", "3 at the most"];
    shows(&made, &facts);
    shows(&made, &["{\"full\":true}", "until 2999-01-01T00:00:00Z"]);
    let list = desk.run("schedules list").await.done();
    shows(&list, &["ID  NAME     KIND  ACCOUNT  RULE", "30 2 * * * (Europe/Berlin)", "buffer_one"]);

    let changed = desk.run("schedules update 1 --every-secs 3600 --no-end --priority 4 --overlap allow").await.done();
    shows(&changed, &["nightly 1: every 3600 s", "priority    4", "overlap     allow"]);
    assert!(!changed.contains("bounds"), "{changed}");
    let paused = desk.run("schedules pause 1 --reason the~vendor~is~down --by ada --json").await.json();
    assert_eq!((&paused["paused_by"], &paused["paused_reason"]), (&"ada".into(), &"the vendor is down".into()));
    shows(&desk.run("schedules show 1").await.done(), &["paused      by ada, since ", ": the vendor is down"]);
    shows(&desk.run("schedules list").await.done(), &["paused"]);
    let preview = desk.run("schedules preview 1 --count 2").await;
    assert!(preview.code == 0 && preview.err.contains("paused by ada: nothing fires"), "{}", preview.err);
    assert!(!desk.run("schedules resume 1").await.done().contains("paused"));
    assert!(desk.run("schedules delete 1").await.done().contains("schedule 1 is deleted"));
    desk.run("schedules show 1").await.refused(1, &["there is no schedule 1"]);

    for name in ["a", "b", "c"] {
        let id = desk.scheduled(&format!("{name} noop --every-secs 60")).await;
        assert!(id > 1);
    }
    let page = desk.run("schedules list --limit 2").await;
    assert!(page.code == 0 && page.err.contains("there may be more: --before "), "{}", page.err);
}

#[tokio::test]
async fn their_jobs_are_made_by_hand() {
    let desk = Desk::new().await;
    let id = desk.scheduled("hourly noop --every-secs 3600 --overlap skip --starts-at 2999-01-01T00:00:00Z").await;
    let job = desk.run(&format!("schedules run {id} --json")).await.json()["job_id"].as_i64().unwrap();
    assert_eq!(desk.run(&format!("jobs show {job} --json")).await.json()["schedule_id"], id);
    desk.run(&format!("schedules run {id}")).await.refused(1, &[&format!("its job {job} is unfinished"), "cancel it"]);
    desk.run(&format!("schedules update {id} --overlap buffer_one")).await.done();
    let waits = desk.run(&format!("schedules run {id}")).await.done();
    shows(&waits, &["waits for the unfinished job"]);

    // No start: then the range holds what would have been.
    desk.run(&format!("schedules update {id} --no-start")).await.done();
    let range = format!("schedules backfill {id} --from 2020-01-01T00:00:00Z --to 2020-01-02T00:00:00Z");
    let filled = desk.run(&format!("{range} --json")).await.json();
    assert_eq!((&filled["due_times"], &filled["inserted"]), (&24.into(), &24.into()));
    let again = desk.run(&range).await.done();
    assert_eq!(again.lines().last(), Some("24         0"), "{again}");
    let backwards = format!("schedules backfill {id} --from 2020-01-02T00:00:00Z --to 2020-01-01T00:00:00Z");
    desk.run(&backwards).await.refused(1, &["to is not after from"]);
}

#[tokio::test]
async fn a_preview_is_fifty_fires_and_marks_changes_of_the_clock() {
    let desk = Desk::new().await;
    let id = desk.scheduled("nightly noop --cron 30~2~*~*~* --zone Europe/Berlin").await;
    let fifty = desk.run(&format!("schedules preview {id} --json")).await.json();
    assert_eq!(fifty["fires"].as_array().map(Vec::len), Some(50));
    let table = desk.run(&format!("schedules preview {id} --count 400")).await.done();
    assert_eq!(table.lines().count(), 401);
    assert!(table.starts_with("FIRES"), "{table}");
    // Every year has one of each.
    shows(&table, &["Europe/Berlin  skipped hour: runs right after the gap", "Europe/Berlin  doubled hour: runs once"]);
    let skipped = table.lines().find(|line| line.contains("skipped")).unwrap();
    assert!(skipped.contains("T03:00:00+02:00"), "{skipped}");
}

#[tokio::test]
async fn what_makes_no_sense_is_said() {
    let desk = Desk::new().await;
    desk.run("schedules create x noop").await.refused(64, &["when it fires", "--every-secs"]);
    for usage in ["schedules create x noop --cron 0~2~*~*~*", "schedules create x noop --zone UTC", "schedules pause 1"]
    {
        assert_eq!(desk.run(usage).await.code, 64, "{usage}");
    }
    desk.run("schedules create x noop --every-secs 60 --once 2999-01-01T00:00:00Z")
        .await
        .refused(64, &["cannot be used"]);
    let zone = "schedules create x noop --cron 0~2~*~*~* --zone Mars/Base";
    desk.run(zone).await.refused(1, &["'Mars/Base' is no zone of the tz database"]);
    desk.run("schedules create x noop --every-secs 60 --overlap both").await.refused(1, &["cancel_older"]);
    desk.scheduled("x noop --once 2999-01-01T00:00:00Z").await;
    desk.run("schedules create x noop --every-secs 60").await.refused(1, &["a schedule named 'x' already"]);
    assert_eq!(desk.run("schedules list --json").await.json()["schedules"].as_array().map(Vec::len), Some(1));
    let once = desk.run("schedules preview 1 --json").await.json();
    assert_eq!(once["fires"][0]["dst"], Value::Null);
}
