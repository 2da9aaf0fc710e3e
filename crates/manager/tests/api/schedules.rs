//! Schedules over a real socket on a real database: what can be done with them, and what is refused with which words.

use crate::common;
use chrono::{DateTime, Utc};
use domain::{Clock, Kind, ManualClock};
use manager_api::{
    BackfillRequest, ByWhom, ClientError, CreateSchedule, DeleteQuery, ManagerClient, PauseSchedule, PreviewQuery,
    ScheduleQuery, ScheduleSettings, UpdateSchedule,
};
use serde_json::{Value, json};
use store::Store;
use testkit::TestDatabase;

struct Counter {
    _database: TestDatabase,
    store: Store,
    clock: ManualClock,
    url: String,
    client: ManagerClient,
}

async fn counter() -> Counter {
    let database = testkit::database().await;
    let clock = ManualClock::at("2030-03-29T12:00:00Z".parse().unwrap());
    let store = database.store_with(Clock::Manual(clock.clone())).await;
    let url = common::serve(&store, |app| manager::router(app, 10_000)).await;
    let client = ManagerClient::new(&url).unwrap();
    Counter { _database: database, store, clock, url, client }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn nightly() -> CreateSchedule {
    CreateSchedule {
        name: "nightly".to_owned(),
        kind: "noop".to_owned(),
        rule: json!({"cron": {"expression": "30 2 * * *", "zone": "Europe/Berlin"}}),
        ..CreateSchedule::default()
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, ClientError>, status: u16, words: &str) {
    match outcome {
        Err(ClientError::Refused { status: is, body }) => {
            assert!(is == status && body.message.contains(words), "{is}: {}", body.message);
        }
        other => panic!("not refused with {words:?}: {other:?}"),
    }
}

#[tokio::test]
async fn a_schedule_is_made_shown_changed_and_deleted() {
    let Counter { client, .. } = &counter().await;
    let mut new = nightly();
    new.settings.overlap = Some("buffer_one".to_owned());
    new.settings.payload = Some(json!({"full": true}));
    let made = client.create_schedule(&new).await.unwrap();
    assert_eq!((made.overlap.as_str(), made.catch_up_secs, made.catch_up_max), ("buffer_one", 86_400, 1));
    assert_eq!(made.next_due_at, Some(at("2030-03-30T01:30:00Z")));
    assert_eq!(client.schedule(made.id).await.unwrap().schedule, made);
    assert_eq!(client.schedules(&ScheduleQuery::default()).await.unwrap().schedules, std::slice::from_ref(&made));

    let change = UpdateSchedule {
        rule: Some(json!({"every_secs": 600})),
        settings: ScheduleSettings {
            ends_at: Some(Some(at("2030-04-01T00:00:00Z"))),
            priority: Some(4),
            ..ScheduleSettings::default()
        },
    };
    let changed = client.update_schedule(made.id, &change).await.unwrap();
    assert_eq!((changed.priority, changed.next_due_at), (4, Some(at("2030-03-29T12:00:00Z"))));
    assert_eq!((changed.payload, changed.overlap.as_str()), (json!({"full": true}), "buffer_one"), "the rest stays");
    let no_end = ScheduleSettings { ends_at: Some(None), ..ScheduleSettings::default() };
    let changed = client.update_schedule(made.id, &UpdateSchedule { rule: None, settings: no_end }).await.unwrap();
    assert_eq!(changed.ends_at, None);
    assert_eq!(client.delete_schedule(made.id, &DeleteQuery::default()).await.unwrap().id, made.id);
    refused(client.schedule(made.id).await, 404, "there is no schedule");
}

#[tokio::test]
async fn it_is_paused_resumed_run_and_back_filled() {
    let Counter { client, clock, .. } = &counter().await;
    let id = client.create_schedule(&nightly()).await.unwrap().id;
    let pause = PauseSchedule { by: Some("ada".to_owned()), reason: "the vendor is down".to_owned() };
    let paused = client.pause_schedule(id, &pause).await.unwrap();
    assert_eq!((paused.paused_by, paused.paused_reason), (pause.by, Some(pause.reason)));
    assert_eq!(paused.paused_at, Some(clock.now()));
    let job = client.run_schedule(id).await.unwrap().job_id.unwrap();
    assert_eq!(client.job(job).await.unwrap().schedule_id, Some(id), "run now asks nobody");
    refused(client.run_schedule(id).await, 409, &format!("its job {job} is unfinished"));
    clock.advance(chrono::TimeDelta::days(3));
    let resumed = client.resume_schedule(id, &ByWhom::default()).await.unwrap();
    assert_eq!((resumed.paused_by, resumed.next_due_at), (None, Some(at("2030-04-02T00:30:00Z"))));

    let range = BackfillRequest { from: at("2030-03-01T00:00:00Z"), to: at("2030-04-01T00:00:00Z") };
    let filled = client.backfill_schedule(id, &range).await.unwrap();
    assert_eq!((filled.due_times, filled.inserted), (31, 31));
    let again = client.backfill_schedule(id, &range).await.unwrap();
    assert_eq!((again.due_times, again.inserted), (31, 0));
    let jobs = client.jobs(&manager_api::JobQuery::default()).await.unwrap().jobs;
    assert_eq!(jobs.iter().filter(|job| job.priority == 4).count(), 31);
    assert!(jobs.iter().any(|job| job.due_at == at("2030-03-31T01:00:00Z")), "the skipped hour's, after the gap");
    refused(
        client.backfill_schedule(id, &BackfillRequest { to: at("2031-01-01T00:00:00Z"), ..range.clone() }).await,
        400,
        "lies in the future",
    );
    let backwards = BackfillRequest { from: range.to, to: range.from };
    refused(client.backfill_schedule(id, &backwards).await, 400, "not after from");
    let every_second = UpdateSchedule { rule: Some(json!({"every_secs": 1})), ..UpdateSchedule::default() };
    client.update_schedule(id, &every_second).await.unwrap();
    refused(client.backfill_schedule(id, &range).await, 400, "more than 10000 due times");
}

#[tokio::test]
async fn those_of_an_account_and_those_that_are_paused_are_listed_page_by_page() {
    let Counter { client, clock, store, .. } = &counter().await;
    let account = store.create_account("Acme").await.unwrap();
    let mut ids = Vec::new();
    for n in 0..5 {
        let whose = if n < 2 { account.0 } else { 0 };
        let new = CreateSchedule { name: format!("nightly {n}"), account_id: Some(whose), ..nightly() };
        ids.push(client.create_schedule(&new).await.unwrap().id);
    }
    // The third waits for nobody's word first, then the first, then the last.
    for (minutes, n) in [(1, 2), (2, 0), (3, 4)] {
        clock.advance(chrono::TimeDelta::minutes(minutes));
        let pause = PauseSchedule { by: Some("ada".to_owned()), reason: "they asked".to_owned() };
        client.pause_schedule(ids[n], &pause).await.unwrap();
    }
    let page = async |query: ScheduleQuery| {
        let page = client.schedules(&query).await.unwrap();
        let places: Vec<_> =
            page.schedules.iter().map(|row| ids.iter().position(|id| *id == row.id).unwrap()).collect();
        (places, page.next_before)
    };
    let paused = ScheduleQuery { paused: Some(true), limit: Some(2), ..ScheduleQuery::default() };
    assert_eq!(page(paused.clone()).await, (vec![4, 0], Some(ids[0])));
    let second = ScheduleQuery { before: Some(ids[0]), ..paused.clone() };
    assert_eq!(page(second.clone()).await, (vec![2], None));
    let of_account = ScheduleQuery { account: Some(account.0), ..ScheduleQuery::default() };
    assert_eq!(page(of_account.clone()).await, (vec![1, 0], None));
    assert_eq!(page(ScheduleQuery { limit: Some(1), ..of_account.clone() }).await, (vec![1], Some(ids[1])));
    assert_eq!(page(ScheduleQuery { before: Some(ids[1]), ..of_account.clone() }).await, (vec![0], None));
    assert_eq!(page(ScheduleQuery { paused: Some(true), ..of_account }).await, (vec![0], None));
    assert_eq!(page(ScheduleQuery { paused: Some(false), ..ScheduleQuery::default() }).await.0, [4, 3, 2, 1, 0]);
    client.resume_schedule(ids[0], &ByWhom::default()).await.unwrap();
    refused(client.schedules(&second).await, 400, "is not paused any more");

    let job = client.run_schedule(ids[1]).await.unwrap().job_id;
    let made: Vec<_> = client.schedule(ids[1]).await.unwrap().jobs.iter().map(|job| Some(job.id)).collect();
    assert_eq!(made, [job], "with the jobs that it made");
}

#[tokio::test]
async fn a_preview_shows_local_times_and_marks_changes_of_the_clock() {
    let Counter { client, .. } = &counter().await;
    let id = client.create_schedule(&nightly()).await.unwrap().id;
    let preview = client.preview_schedule(id, &PreviewQuery::default()).await.unwrap();
    assert_eq!((preview.fires.len(), preview.zone.as_str()), (50, "Europe/Berlin"));
    let shown: Vec<_> = preview.fires[..3].iter().map(|fire| (fire.local.as_str(), fire.dst.as_deref())).collect();
    assert_eq!(
        shown,
        [
            ("2030-03-30T02:30:00+01:00", None),
            ("2030-03-31T03:00:00+02:00", Some("skipped hour: runs right after the gap")),
            ("2030-04-01T02:30:00+02:00", None),
        ]
    );
    let year = client.preview_schedule(id, &PreviewQuery { count: Some(300) }).await.unwrap();
    let marks: Vec<_> = year.fires.iter().filter_map(|fire| Some((fire.at, fire.dst.clone()?))).collect();
    assert_eq!(marks[1], (at("2030-10-27T00:30:00Z"), "doubled hour: runs once".to_owned()));
    assert_eq!(marks.len(), 2);
    refused(client.preview_schedule(id, &PreviewQuery { count: Some(501) }).await, 400, "not between 1 and 500");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_words() {
    let Counter { client, store, url, .. } = &counter().await;
    let id = client.create_schedule(&nightly()).await.unwrap().id;
    refused(client.create_schedule(&nightly()).await, 409, "a schedule named 'nightly'");
    let changed = |change: fn(&mut CreateSchedule)| {
        let mut schedule = nightly();
        schedule.name = "other".to_owned();
        change(&mut schedule);
        schedule
    };
    for (schedule, status, words) in [
        (changed(|s| s.name = " ".to_owned()), 400, "name has 1 to 200"),
        (changed(|s| s.kind = "No-Kind".to_owned()), 400, "'No-Kind' is not a kind"),
        (changed(|s| s.account_id = Some(99)), 404, "there is no account 99"),
        (changed(|s| s.connection_id = Some(99)), 404, "no such connection"),
        (changed(|s| s.settings.overlap = Some("both".to_owned())), 400, "'both' is no overlap policy"),
        (changed(|s| s.settings.priority = Some(7)), 400, "priority is 7"),
        (changed(|s| s.settings.catch_up_secs = Some(1)), 400, "catch_up_secs is 1"),
        (changed(|s| s.rule = json!({"cron": {"expression": "0 9 * * *", "zone": "Mars/Base"}})), 400, "'Mars/Base'"),
        (changed(|s| s.rule = json!({"cron": {"expression": "0 99 * * *", "zone": "UTC"}})), 400, "no cron expression"),
        (changed(|s| s.rule = json!({"every_secs": 0})), 400, "at least 1"),
        (changed(|s| s.rule = json!("daily")), 400, "unknown variant `daily`"),
    ] {
        refused(client.create_schedule(&schedule).await, status, words);
    }
    let empty = PauseSchedule { by: Some("ada".to_owned()), reason: " ".to_owned() };
    refused(client.pause_schedule(id, &empty).await, 400, "reason is empty");
    for status in [
        client.update_schedule(99, &UpdateSchedule::default()).await.map(drop),
        client.resume_schedule(99, &ByWhom::default()).await.map(drop),
        client.run_schedule(99).await.map(drop),
        client.preview_schedule(99, &PreviewQuery::default()).await.map(drop),
        client.delete_schedule(99, &DeleteQuery::default()).await.map(drop),
    ] {
        refused(status, 404, "there is no schedule 99");
    }
    let http = reqwest::Client::new();
    let unknown =
        http.patch(format!("{url}/api/v1/schedules/{id}")).json(&json!({"colour": "red"})).send().await.unwrap();
    assert_eq!(unknown.status(), 422);
    assert!(unknown.text().await.unwrap().contains("unknown field `colour`"));

    let declared = store::NewSchedule {
        name: "declared".to_owned(),
        kind: Kind::new("noop").unwrap(),
        account: domain::AccountId::SYSTEM,
        connection: None,
        payload: json!({}),
        priority: 2,
        attempts_max: 1,
        rule: domain::Schedule::EverySecs(60),
        policy: domain::Policy::default(),
        first_due_at: None,
        declared: true,
    };
    store.declare_schedules(&[declared]).await.unwrap();
    let page = client.schedules(&ScheduleQuery::default()).await.unwrap();
    let declared = page.schedules.iter().find(|schedule| schedule.declared).unwrap().id;
    refused(client.delete_schedule(declared, &DeleteQuery::default()).await, 409, "declared in the catalogue");
    client.delete_schedule(declared, &DeleteQuery { force: Some(true) }).await.unwrap();
}

#[tokio::test]
async fn every_call_is_described() {
    let Counter { url, .. } = &counter().await;
    let api: Value = reqwest::get(format!("{url}/api/openapi.json")).await.unwrap().json().await.unwrap();
    let paths = &api["paths"];
    for (path, methods) in [
        ("/api/v1/schedules", &["get", "post"][..]),
        ("/api/v1/schedules/{id}", &["get", "patch", "delete"]),
        ("/api/v1/schedules/{id}/pause", &["post"]),
        ("/api/v1/schedules/{id}/resume", &["post"]),
        ("/api/v1/schedules/{id}/run", &["post"]),
        ("/api/v1/schedules/{id}/backfill", &["post"]),
        ("/api/v1/schedules/{id}/preview", &["get"]),
    ] {
        for method in methods {
            let call = &paths[path][*method];
            assert!(call["responses"].is_object() && call["summary"].is_string(), "{method} {path}: {call}");
        }
    }
    for schema in ["CreateSchedule", "UpdateSchedule", "ScheduleSettings", "SchedulePreview", "BackfillReply"] {
        assert!(api["components"]["schemas"][schema].is_object(), "{schema}");
    }
}
