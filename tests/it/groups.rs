//! Groups with real processes: a servant is killed in the middle of one, and its finishing job runs once; one is cancelled
//! under way; and an operator's verbs for them.

use crate::fleet::{Backend, Fleet, LIMIT};
use crate::operator::Desk;
use domain::{AccountId, FinishWhen, Finishing, GroupId, GroupState, JobId, JobState, Kind};
use serde_json::{Value, json};
use sqlx::PgPool;
use store::{Inserted, NewGroup, NewJob};
use testkit::eventually;
use uuid::Uuid;

const MEMBERS: i64 = 50;
/// Members that add two more each as they end.
const PARENTS: i64 = 10;

fn effects() -> Kind {
    Kind::new("effects").unwrap()
}

async fn make(fleet: &Fleet, payloads: &[Value], request_id: Uuid) -> (GroupId, Vec<JobId>) {
    let when = FinishWhen::AllDone;
    let finishing = Finishing { kind: effects(), payload: json!({"pages": 2}), priority: 1, connection: None, when };
    let group =
        NewGroup { name: "back-fill".to_owned(), account: AccountId::SYSTEM, finishing: Some(finishing), request_id };
    let members: Vec<NewJob> = payloads.iter().map(|payload| NewJob::new(effects(), payload.clone())).collect();
    let (id, inserted) = fleet.store.create_group(&testkit::granted(), &group, &members, true).await.unwrap();
    let new = |inserted| if let Inserted::New(id) = inserted { id } else { panic!("a duplicate") };
    (id, inserted.into_iter().map(new).collect())
}

async fn until_state(fleet: &Fleet, id: GroupId, state: GroupState) -> store::GroupRow {
    eventually(LIMIT, &format!("the group to be {state}"), async || {
        fleet.store.find_group(id).await.ok().flatten().filter(|row| row.state == state)
    })
    .await
}

async fn a_group_survives_a_servants_death(backend: Backend) {
    let fleet = Fleet::on(backend).await;
    let sql = PgPool::connect(&fleet.deployment.database_url).await.unwrap();
    let mut scheduler = fleet.scheduler().await;
    let short = [("SERVANT_WORK__LEASE_SECS", "2"), ("SERVANT_WORK__CONCURRENCY", "5")];
    let mut servant = fleet.deployment.start("effects", &short).await;
    // One fails for good: the group ends all the same.
    let payload = |at| match at {
        0 => json!({"panic": true}),
        at if at <= PARENTS => json!({"pages": 2, "page_ms": 30, "children": 2, "children_join": true}),
        _ => json!({"pages": 2, "page_ms": 30, "children": 1}),
    };
    let request_id = Uuid::new_v4();
    let (group, mut jobs) = make(&fleet, &(0..MEMBERS).map(payload).collect::<Vec<_>>(), request_id).await;

    fleet.until(JobState::Succeeded, 10).await;
    servant.kill();
    scheduler.kill();
    let _scheduler = fleet.scheduler().await;
    let _servant = fleet.deployment.start("effects", &short).await;

    let ended = until_state(&fleet, group, GroupState::Finished).await;
    let wanted = MEMBERS - 1 + 2 * PARENTS;
    assert_eq!(ended.counts.members(), wanted + 1, "those that members added are members");
    assert_eq!((ended.counts.of(JobState::Succeeded), ended.counts.of(JobState::Failed)), (wanted, 1));
    let finishing = ended.finishing_job.expect("a finishing job");
    jobs.push(finishing);
    fleet.assert_sound(&jobs).await;
    let row = fleet.job(finishing).await;
    assert_eq!((row.state, row.group_id), (JobState::Succeeded, None));
    let runs: i64 = sqlx::query_scalar("SELECT count(*) FROM finished_jobs WHERE request_id = $1")
        .bind(request_id)
        .fetch_one(&sql)
        .await
        .unwrap();
    assert_eq!(runs, 1, "the finishing job ran more than once");
    let late: i64 = sqlx::query_scalar("SELECT count(*) FROM finished_jobs WHERE group_id = $1 AND finished_at > $2")
        .bind(group.0)
        .bind(row.created_at)
        .fetch_one(&sql)
        .await
        .unwrap();
    assert_eq!(late, 0, "a member ended after the finishing job was made");
}

#[tokio::test]
async fn a_finishing_job_runs_once_though_a_servant_is_killed() {
    a_group_survives_a_servants_death(Backend::Postgres).await;
}

#[tokio::test]
async fn a_finishing_job_runs_once_though_a_servant_is_killed_on_sqs() {
    a_group_survives_a_servants_death(Backend::Sqs).await;
}

#[tokio::test]
async fn a_cancelled_group_stops_what_runs_and_ends_what_waits() {
    let fleet = Fleet::on_sqs().await;
    let mut scheduler = fleet.scheduler().await;
    let _servant = fleet.effects("4").await;
    let payloads = vec![json!({"pages": 1_000, "page_ms": 300_000, "children": 3, "children_join": true}); 60];
    let (group, jobs) = make(&fleet, &payloads, Uuid::new_v4()).await;
    fleet.until(JobState::Running, 4).await;
    // Nobody leads when it is ordered: the order stands in the ledger.
    scheduler.kill();
    fleet.store.cancel_group(&testkit::granted_to("ada", "wrong year"), group).await.unwrap();
    let _scheduler = fleet.scheduler().await;
    let row = until_state(&fleet, group, GroupState::Cancelled).await;
    assert_eq!(row.counts.of(JobState::Cancelled), 60);
    assert!(row.finishing_job.is_none(), "its finishing job does not run");
    fleet.assert_sound(&jobs).await;
}

#[tokio::test]
async fn groups_are_made_from_files_watched_and_ended() {
    let desk = Desk::new().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let name = file.path().to_str().unwrap();
    let text = json!({
        "name": "onboarding of 7", "account_id": 7, "jobs": [{"kind": "noop"}, {"kind": "noop", "unique_key": "k"}],
        "finishing": {"kind": "noop", "when": "all_succeeded"},
    });
    std::fs::write(file.path(), text.to_string()).unwrap();
    let made = desk.run(&format!("groups create {name} --by ada --json")).await.json();
    let id = made["group"]["id"].as_i64().unwrap();
    assert_eq!((&made["group"]["members"], &made["group"]["created_by"]), (&json!(2), &json!("ada")));
    assert_eq!(made["jobs"].as_array().map(Vec::len), Some(2));
    std::fs::write(file.path(), json!([{"kind": "noop"}, {"kind": "noop", "unique_key": "k"}]).to_string()).unwrap();
    let added = desk.run(&format!("groups add {id} {name}")).await;
    assert!(added.code == 0 && added.err.contains("1 of 2 jobs did not join"), "{}{}", added.out, added.err);

    let table = desk.run("groups list --state open --account 7").await.done();
    assert!(table.starts_with("ID  NAME") && table.contains("onboarding of 7"), "{table}");
    let shown = desk.run(&format!("groups show {id}")).await.done();
    for fact in [
        format!("group {id} (onboarding of 7): open since"),
        "members     3: 0 scheduled, 3 ready".to_owned(),
        "progress    0 of 0".to_owned(),
        "time left   unknown".to_owned(),
        "finishing   noop when all_succeeded".to_owned(),
        "made by     ada at".to_owned(),
    ] {
        assert!(shown.contains(&fact), "{fact:?} is not shown:\n{shown}");
    }
    let page = desk.run(&format!("groups jobs {id} --limit 2 --state pending")).await;
    assert!(page.out.starts_with("ID  KIND") && page.err.contains("there may be more: --before"), "{}", page.err);
    let members = desk.run(&format!("jobs list --group {id} --json")).await.json();
    let member = members["jobs"][0]["id"].as_i64().unwrap();
    assert!(desk.run(&format!("jobs show {member}")).await.done().contains(&format!("group       {id}")));

    assert!(desk.run(&format!("groups seal {id}")).await.done().contains("is sealed"));
    desk.run(&format!("groups seal {id}")).await.refused(1, &["only an open group is sealed"]);
    desk.run(&format!("groups add {id} {name}")).await.refused(1, &["takes no members: it is sealed"]);
    desk.run(&format!("groups cancel {id}")).await.refused(64, &["needs a reason", "--reason"]);
    desk.run(&format!("pause group {id} --reason x --by ada")).await.done();
    let why = desk.run(&format!("jobs why {member}")).await.done();
    assert!(why.contains(&format!("cleared by: servantctl resume group {id}")), "{why}");
    desk.run(&format!("resume group {id}")).await.done();
    assert!(desk.run(&format!("groups cancel {id} --reason wrong~year --by ada")).await.done().contains("cancelled"));
    let shown = desk.run(&format!("groups show {id}")).await.done();
    assert!(shown.contains("cancelling") && shown.contains("cancelled   by ada: wrong year"), "{shown}");

    // The README's own example.
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, section) = readme.split_once("\n## Groups\n").expect("the README's section");
    let (_, example) = section.split_once("```json\n").expect("its example");
    std::fs::write(file.path(), example.split_once("```").expect("its end").0).unwrap();
    let made = desk.run(&format!("groups create {name} --json")).await.json();
    assert_eq!((&made["group"]["state"], &made["group"]["members"]), (&json!("sealed"), &json!(2)));
    std::fs::write(file.path(), "[]").unwrap();

    desk.run("groups show 999").await.refused(1, &["there is no group 999"]);
    desk.run("groups create /nowhere").await.refused(64, &["/nowhere cannot be read"]);
    desk.run(&format!("groups create {name}")).await.refused(64, &["is no group: it holds an object"]);
    std::fs::write(file.path(), "{").unwrap();
    desk.run(&format!("groups create {name}")).await.refused(64, &["is no JSON"]);
    std::fs::write(file.path(), json!({"name": "x", "job": []}).to_string()).unwrap();
    desk.run(&format!("groups create {name}")).await.refused(64, &["unknown field `job`"]);
}
