//! Groups over the API: made, joined, sealed, cancelled, listed, and each refusal.

use crate::common;
use domain::{FinishWhen, GroupState, JobState};
use manager_api::{
    AddJobs, BreakerQuery, ByWhom, CancelGroup, ClientError, CreateGroup, EnqueueRequest, FinishingJob, GroupQuery,
    JobQuery, ManagerClient, OnboardingQuery, OverrideRequest, PauseRequest, PreviewQuery, ScheduleQuery,
};
use serde_json::json;
use store::Store;

async fn manager(store: &Store) -> ManagerClient {
    ManagerClient::new(&common::serve(store, |app| manager::router(app, 200_000)).await).unwrap()
}

fn noop() -> EnqueueRequest {
    EnqueueRequest { kind: "noop".to_owned(), ..EnqueueRequest::default() }
}

fn group(jobs: Vec<EnqueueRequest>) -> CreateGroup {
    let (name, by) = ("onboarding of 7".to_owned(), Some("ada".to_owned()));
    CreateGroup { name, by, account_id: Some(7), jobs, ..CreateGroup::default() }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>, wanted: u16, words: &str) {
    match answer {
        Err(ClientError::Refused { status, body }) => {
            assert_eq!(status, wanted, "{body:?}");
            assert!(body.message.contains(words), "{body:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_group_is_made_joined_sealed_and_shown() {
    let database = testkit::database().await;
    let store = database.store().await;
    let client = manager(&store).await;
    let keyed = EnqueueRequest { unique_key: Some("k".to_owned()), ..noop() };
    let mut new = group(vec![noop(), keyed.clone(), EnqueueRequest { account_id: Some(8), ..keyed.clone() }]);
    new.finishing = Some(FinishingJob {
        kind: "noop".to_owned(),
        payload: Some(json!({"sleep_ms": 1})),
        priority: None,
        connection_id: None,
        when: FinishWhen::AllSucceeded,
    });
    let made = client.create_group(&new).await.unwrap();
    let id = made.group.id;
    assert_eq!((made.group.members, made.group.counts.ready, made.group.state), (2, 2, GroupState::Open));
    assert_eq!(made.jobs.iter().map(|job| job.duplicate).collect::<Vec<_>>(), [false, false, true]);
    let member = client.job(made.jobs[0].id.unwrap()).await.unwrap();
    assert_eq!((member.job.group_id, member.job.account_id), (Some(id), 7));

    let added = client.add_jobs(id, &AddJobs { jobs: vec![noop(), noop()] }).await.unwrap();
    assert_eq!((added.group.members, added.jobs.len()), (4, 2));
    let lone = client.enqueue(&noop()).await.unwrap().id.unwrap();
    let page = client.group_jobs(id, &JobQuery { limit: Some("3".into()), ..JobQuery::default() }).await.unwrap();
    assert_eq!(page.jobs.len(), 3);
    let query = JobQuery { before: page.next_before.map(|id| id.to_string()), ..JobQuery::default() };
    assert_eq!(client.group_jobs(id, &query).await.unwrap().jobs.len(), 1);
    let filtered = client.jobs(&JobQuery { group: Some(id.to_string()), ..JobQuery::default() }).await.unwrap();
    assert!(filtered.jobs.len() == 4 && filtered.jobs.iter().all(|job| job.id != lone));

    let sealed = client.seal_group(id).await.unwrap();
    assert_eq!(sealed.state, GroupState::Sealed);
    refused(client.seal_group(id).await, 409, "only an open group is sealed");
    refused(client.add_jobs(id, &AddJobs { jobs: vec![noop()] }).await, 409, "it is sealed");
    let shown = client.group(id).await.unwrap();
    assert_eq!(shown.group.finishing.unwrap().when, FinishWhen::AllSucceeded);
    assert_eq!((shown.progress.total, shown.progress.is_partial, shown.group.created_by.as_str()), (0, false, "ada"));

    let whole = client.create_group(&CreateGroup { seal: true, ..group(vec![noop()]) }).await.unwrap().group;
    assert_eq!(whole.state, GroupState::Sealed);
    let list = client.groups(&GroupQuery { limit: Some(1), ..GroupQuery::default() }).await.unwrap();
    assert_eq!((list.groups[0].id, list.next_before), (whole.id, Some(whole.id)));
    for (query, wanted) in [
        (GroupQuery { before: list.next_before, ..GroupQuery::default() }, 1),
        (GroupQuery { state: Some("sealed".into()), ..GroupQuery::default() }, 2),
        (GroupQuery { state: Some("open".into()), ..GroupQuery::default() }, 0),
        (GroupQuery { account: Some(7), ..GroupQuery::default() }, 2),
        (GroupQuery { account: Some(8), ..GroupQuery::default() }, 0),
    ] {
        assert_eq!(client.groups(&query).await.unwrap().groups.len(), wanted, "{query:?}");
    }
    assert_eq!(store.count_drift().await.unwrap(), []);
}

#[tokio::test]
async fn a_group_is_cancelled_paused_and_its_members_are_not_retried() {
    let database = testkit::database().await;
    let store = database.store().await;
    let client = manager(&store).await;
    let made = client.create_group(&group(vec![noop()])).await.unwrap();
    let (id, member) = (made.group.id, made.jobs[0].id.unwrap());
    let target = domain::PauseTarget::Group(domain::GroupId(id));
    let pause = PauseRequest { reason: "a look first".to_owned(), by: Some("ada".to_owned()) };
    client.pause(&target, &pause).await.unwrap();
    let why = client.why(member).await.unwrap();
    assert!(why.says.contains(&format!("group {id} is paused by ada")), "{}", why.says);
    assert_eq!(why.cleared_by, Some(format!("servantctl resume group {id}")));
    client.resume(&target, &ByWhom::default()).await.unwrap();

    let cancel = CancelGroup { reason: "wrong year".to_owned(), by: Some("ada".to_owned()) };
    let cancelled = client.cancel_group(id, &cancel).await.unwrap();
    assert_eq!((cancelled.state, cancelled.cancelled_by.as_deref()), (GroupState::Cancelling, Some("ada")));
    refused(client.cancel_group(id, &cancel).await, 409, "is cancelling; only an open or sealed group");
    refused(client.add_jobs(id, &AddJobs { jobs: vec![noop()] }).await, 409, "it is cancelling");
    let lead = store.lead("boot-1", 60).await.unwrap().unwrap();
    assert_eq!(store.cancel_members(&lead, 10).await.unwrap().jobs, 1);
    refused(client.retry(member, &ByWhom::default()).await, 409, "is cancelled");
    while store.fold_counters(&lead, 100).await.unwrap() > 0 {}
    assert_eq!(store.end_groups(&lead, 10).await.unwrap().ended.len(), 1);
    let shown = client.group(id).await.unwrap().group;
    assert_eq!((shown.state, shown.counts.cancelled), (GroupState::Cancelled, 1));
    assert_eq!(client.job(member).await.unwrap().job.state, JobState::Cancelled);
}

#[tokio::test]
async fn every_call_is_described() {
    let database = testkit::database().await;
    let client = manager(&database.store().await).await;
    let address = format!("{}/api/openapi.json", client.url());
    let api: serde_json::Value = reqwest::get(address).await.unwrap().json().await.unwrap();
    for (path, methods) in [
        ("/api/v1/groups", &["get", "post"][..]),
        ("/api/v1/groups/{id}", &["get"]),
        ("/api/v1/groups/{id}/jobs", &["get", "post"]),
        ("/api/v1/groups/{id}/seal", &["post"]),
        ("/api/v1/groups/{id}/cancel", &["post"]),
    ] {
        for method in methods {
            let call = &api["paths"][path][*method];
            assert!(call["responses"].is_object() && call["summary"].is_string(), "{method} {path}: {call}");
        }
    }
    for schema in ["CreateGroup", "FinishingJob", "GroupDetail", "GroupReply", "MemberCounts", "GroupProgress"] {
        assert!(api["components"]["schemas"][schema].is_object(), "{schema}");
    }
}

async fn page_of(client: &ManagerClient, page: &str) -> String {
    let asked = reqwest::Client::new().get(format!("{}{page}", client.url())).header("accept", "text/html");
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{page}");
    answer.text().await.unwrap()
}

/// What a newer version wrote, or damage, in one row: every list and page shows it for what it is, and the others.
#[tokio::test]
async fn rows_that_are_not_understood_are_shown_and_hide_no_other() {
    let database = testkit::database().await;
    let store = database.store().await;
    let client = manager(&store).await;
    let sql = sqlx::PgPool::connect(database.url()).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (payload, priority, connection_id, when) = (None, None, None, FinishWhen::AllDone);
        let finishing = FinishingJob { kind: "noop".to_owned(), payload, priority, connection_id, when };
        let new = CreateGroup { finishing: Some(finishing), ..group(vec![noop()]) };
        ids.push(client.create_group(&new).await.unwrap().group.id);
    }
    let newer = format!(
        "ALTER TABLE groups DROP CONSTRAINT groups_state_check;
         UPDATE groups SET state = 'adjourned' WHERE id = {};
         UPDATE groups SET finishing = finishing || '{{\"when\": \"all_seen\"}}' WHERE id = {};
         ALTER TABLE breakers DROP CONSTRAINT breakers_state_check, DROP CONSTRAINT breakers_forced_check,
             DROP CONSTRAINT breakers_check, DROP CONSTRAINT breakers_check1;
         INSERT INTO breakers (service, state, since, reason, openings, counts_from, window_since, newer_succeeded,
             newer_failed, older_succeeded, older_failed, forced, forced_by, forced_reason, forced_at)
         SELECT service, state, now(), '', 0, now(), now(), 0, 0, 0, 0, forced, 'ada', 'x', now()
         FROM (VALUES ('a', 'closed', 'half'), ('b', 'throttled', NULL), ('c', 'closed', 'open')) AS t (service, state, forced)",
        ids[0], ids[1]
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(newer)).execute(&sql).await.unwrap();

    let listed = client.groups(&GroupQuery::default()).await.unwrap().groups;
    let states: Vec<_> = listed.iter().map(|group| group.state).collect();
    assert_eq!(states, [GroupState::Open, GroupState::NotUnderstood, GroupState::NotUnderstood]);
    assert_eq!(client.group(ids[0]).await.unwrap().group.members, 1, "its members are known");
    refused(client.add_jobs(ids[0], &AddJobs { jobs: vec![noop()] }).await, 409, "it is not_understood");
    refused(client.seal_group(ids[0]).await, 409, "is not_understood");
    let cancel = CancelGroup { reason: "wrong year".to_owned(), by: Some("ada".to_owned()) };
    refused(client.cancel_group(ids[0], &cancel).await, 409, "is not_understood");
    let cancelled = client.cancel_group(ids[1], &cancel).await.unwrap();
    assert_eq!(cancelled.state, GroupState::Cancelling, "what would run in the end does not matter any more");

    let circuits = client.breakers(&BreakerQuery::default()).await.unwrap().breakers;
    let shown: Vec<_> = circuits.iter().map(|row| (row.service.as_str(), row.state.as_str())).collect();
    assert_eq!(shown, [("a", "not_understood"), ("b", "not_understood"), ("c", "closed")]);
    assert_eq!(client.breaker("a").await.unwrap().breaker.reason, "another version wrote its forced, or it is damaged");
    for (page, words) in [
        ("/groups", "not understood"),
        (&format!("/groups/{}", ids[0]), "Another version wrote this group"),
        ("/limits", "another version wrote its state, or it is damaged"),
        ("/", "another version wrote its forced, or it is damaged"),
    ] {
        let text = page_of(&client, page).await;
        assert!(text.contains(words), "{page} lacks {words}: {text}");
    }
    let schedule = "INSERT INTO schedules (name, kind, payload, rule, next_due_at, priority, attempts_max)
        VALUES ('newer', 'noop', '{}', '{\"by_moon\": 1}', now(), 2, 1) RETURNING id";
    let schedule: i64 = sqlx::query_scalar(schedule).fetch_one(&sql).await.unwrap();
    let listed = client.schedules(&ScheduleQuery::default()).await.unwrap().schedules;
    assert_eq!(listed.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["newer"]);
    let unclear = "is not understood: another version wrote its rule";
    refused(client.preview_schedule(schedule, &PreviewQuery { count: None }).await, 409, unclear);
    for (page, words) in [("/schedules".to_owned(), "newer"), (format!("/schedules/{schedule}"), unclear)] {
        let text = page_of(&client, &page).await;
        assert!(text.contains(words), "{page} lacks {words}: {text}");
    }
    let why = OverrideRequest { reason: "it is well".to_owned(), by: Some("ada".to_owned()) };
    let cleared = client.force_breaker("a", "clear", &why).await.unwrap().breaker;
    assert_eq!((cleared.state.as_str(), cleared.room), ("recovering", Some(1)), "not closed at once");
    let held = client.force_breaker("b", "open", &why).await.unwrap().breaker;
    assert_eq!((held.state.as_str(), held.forced.as_deref()), ("recovering", Some("open")));
}

#[tokio::test]
async fn onboardings_that_go_on_come_before_those_that_ended_lately() {
    let database = testkit::database().await;
    let store = database.store().await;
    let client = manager(&store).await;
    let sql = sqlx::PgPool::connect(database.url()).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(client.create_group(&group(vec![noop()])).await.unwrap().group.id);
    }
    let made = format!(
        "UPDATE groups SET created_by = 'salesforce_sync' WHERE id <> {};
         UPDATE groups SET state = 'finished', state_since = now() - interval '1 hour' WHERE id = {};
         UPDATE groups SET state = 'failed', state_since = now() - interval '25 hours' WHERE id = {}",
        ids[4], ids[3], ids[2]
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(made)).execute(&sql).await.unwrap();
    let listed = async |limit| {
        let list = client.onboardings(&OnboardingQuery { limit }).await.unwrap().onboardings;
        list.into_iter().map(|row| (row.group.id, row.progress.done)).collect::<Vec<_>>()
    };
    assert_eq!(listed(None).await, [(ids[1], 0), (ids[0], 0), (ids[3], 0)]);
    assert_eq!(listed(Some(1)).await, [(ids[1], 0), (ids[3], 0)], "one of each");
    refused(client.onboardings(&OnboardingQuery { limit: Some(11) }).await, 400, "not between 1 and 10");
}

#[tokio::test]
async fn nonsense_is_refused_with_its_place() {
    let database = testkit::database().await;
    let store = database.store().await;
    let client = manager(&store).await;
    refused(client.create_group(&CreateGroup { name: " ".into(), ..group(vec![]) }).await, 400, "name is empty");
    let bad = EnqueueRequest { kind: "No".to_owned(), ..noop() };
    refused(client.create_group(&group(vec![noop(), bad])).await, 400, "jobs[1]: kind: 'No' is not a kind");
    refused(client.create_group(&group(vec![noop(); 1_001])).await, 400, "1001 jobs are more than 1000");
    let finishing = |kind: &str, priority| {
        let (payload, connection_id, when) = (None, None, FinishWhen::AllDone);
        Some(FinishingJob { kind: kind.to_owned(), payload, priority, connection_id, when })
    };
    let with = |finishing| CreateGroup { finishing, ..group(vec![]) };
    refused(client.create_group(&with(finishing("No", None))).await, 400, "finishing: kind: 'No'");
    refused(client.create_group(&with(finishing("noop", Some(5)))).await, 400, "finishing: priority is 5");
    refused(client.group(9).await, 404, "there is no group 9");
    refused(client.seal_group(9).await, 404, "there is no group 9");
    refused(client.add_jobs(9, &AddJobs { jobs: vec![noop()] }).await, 404, "there is no group 9");
    refused(client.group_jobs(9, &JobQuery::default()).await, 404, "there is no group 9");
    let cancel = CancelGroup { reason: String::new(), by: Some("ada".to_owned()) };
    refused(client.cancel_group(9, &cancel).await, 400, "reason is empty");
    let query = GroupQuery { state: Some("done".into()), ..GroupQuery::default() };
    refused(client.groups(&query).await, 400, "'done' is not a group's state");
    assert!(store.list_groups(&store::GroupFilter::default(), 10).await.unwrap().is_empty(), "nothing is left of them");
}
