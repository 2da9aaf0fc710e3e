//! The manager over a real socket on a real database: API, pages, refusals, heartbeats.

use crate::common;
use domain::{AccountId, Cause, ConnectionId, JobState, Kind, PauseTarget};
use manager_api::{
    Act, AuditQuery, ByWhom, ClientError, EnqueueRequest, Heartbeat, JobQuery, ManagerClient, Order, OverrideRequest,
    PauseQuery, PauseRequest,
};
use store::{NewServant, Store};

async fn manager(store: &Store) -> String {
    common::serve(store, |app| manager::router(app, 10_000)).await
}

fn noop(key: Option<&str>) -> EnqueueRequest {
    EnqueueRequest { kind: "noop".to_owned(), unique_key: key.map(str::to_owned), ..EnqueueRequest::default() }
}

#[tokio::test]
async fn a_job_is_enqueued_listed_cancelled_and_retried() {
    let database = testkit::database().await;
    let url = manager(&database.store().await).await;
    let client = ManagerClient::new(&url).unwrap();
    let first = client.enqueue(&noop(Some("k"))).await.unwrap();
    let id = first.id.unwrap();
    let again = client.enqueue(&noop(Some("k"))).await.unwrap();
    assert!(again.duplicate && again.id == Some(id));

    let page = client.jobs(&JobQuery { state: Some("pending".into()), ..JobQuery::default() }).await.unwrap();
    assert_eq!(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [id]);
    assert_eq!(client.cancel(id, &ByWhom::default()).await.unwrap().state, JobState::Cancelled);
    assert!(matches!(client.cancel(id, &ByWhom::default()).await, Err(ClientError::Refused { status: 409, .. })));
    let shown = client.job(id).await.unwrap();
    assert_eq!(shown.timeline.last().unwrap().step, "finished");
    assert_eq!(client.retry(id, &ByWhom::default()).await.unwrap().state, JobState::Ready);
    let stats = client.stats().await.unwrap();
    assert_eq!(stats.counts.iter().map(|count| (count.state, count.jobs)).collect::<Vec<_>>(), [(JobState::Ready, 1)]);
    client.schedules(&manager_api::ScheduleQuery::default()).await.unwrap();
    assert_eq!(client.accounts(&manager_api::PageQuery::default()).await.unwrap().accounts.len(), 1);

    let http = reqwest::Client::new();
    for path in ["/", "/jobs?state=pending", &format!("/jobs/{id}")] {
        let answer = http.get(format!("{url}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
        assert!(answer.text().await.unwrap().contains("noop"), "{path}");
    }
    let cancel = format!("{url}/jobs/{id}/cancel");
    let cross = http.post(&cancel).header("sec-fetch-site", "cross-site").send().await.unwrap();
    assert_eq!(cross.status(), 403);
    let own = http.post(&cancel).header("sec-fetch-site", "same-origin").send().await.unwrap();
    assert_eq!(own.status(), 200, "it leads back to the page");
}

#[tokio::test]
async fn every_refusal_is_the_envelope() {
    let database = testkit::database().await;
    let url = manager(&database.store().await).await;
    let http = reqwest::Client::new();
    let id = "7b0e7d0e-8f0f-4a52-9f5b-2a52cb6a1f11";
    let json =
        |body: String| http.post(format!("{url}/api/v1/jobs")).header("content-type", "application/json").body(body);
    let requests = [
        (http.get(format!("{url}/nowhere")), 404),
        (http.get(format!("{url}/api/v1/jobs/1")), 404),
        (http.get(format!("{url}/api/v1/jobs/x")), 400),
        (http.get(format!("{url}/api/v1/jobs?state=done")), 400),
        (http.get(format!("{url}/api/v1/jobs?colour=red")), 400),
        (http.delete(format!("{url}/api/v1/jobs")), 405),
        (json("{".to_owned()), 400),
        (json("{}".to_owned()), 422),
        // A structure is no array, and no text of the ledger holds a NUL.
        (json(r#"["noop"]"#.to_owned()), 400),
        (json(r#"{"kind": "noop", "payload": {"a": "\u0000"}}"#.to_owned()), 400),
        (json("x".repeat(20_000)), 413),
        (http.post(format!("{url}/api/v1/jobs")).body("{}"), 415),
    ];
    for (request, status) in requests {
        let answer = request.header("x-request-id", id).send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["x-request-id"], id);
        let envelope: manager_api::ErrorEnvelope = answer.json().await.unwrap();
        assert_eq!(envelope.error.request_id, id);
    }
    let api: serde_json::Value =
        http.get(format!("{url}/api/openapi.json")).send().await.unwrap().json().await.unwrap();
    assert!(api["paths"]["/api/v1/jobs/{id}/retry"]["post"].is_object());
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(http.get(format!("{url}{path}")).send().await.unwrap().status(), 200, "{path}");
    }
}

#[tokio::test]
async fn pauses_are_made_listed_and_ended_and_a_job_says_that_it_is_paused() {
    let database = testkit::database().await;
    let url = manager(&database.store().await).await;
    let client = ManagerClient::new(&url).unwrap();
    let id = client.enqueue(&noop(None)).await.unwrap().id.unwrap();
    let why = client.why(id).await.unwrap();
    assert!(matches!(why.why, Cause::NoServant { .. }) && why.state == JobState::Ready, "{why:?}");
    let request = PauseRequest { reason: " the vendor is down ".to_owned(), by: Some("ada".to_owned()) };
    let targets = [
        PauseTarget::Everything,
        PauseTarget::Kind(Kind::new("noop").unwrap()),
        PauseTarget::Account(AccountId(7)),
        PauseTarget::Connection(ConnectionId(70)),
    ];
    for target in &targets {
        let pause = client.pause(target, &request).await.unwrap();
        assert_eq!((pause.scope.as_str(), pause.key), (target.scope(), target.key()));
        assert_eq!((pause.paused_by.as_str(), pause.reason.as_str()), ("ada", "the vendor is down"));
    }
    let mut listed = Vec::new();
    let mut query = PauseQuery { after: None, limit: Some(1) };
    loop {
        let page = client.pauses(&query).await.unwrap();
        listed.extend(page.pauses.into_iter().map(|pause| PauseTarget::of_row(pause.scope, pause.key)));
        query.after = page.next_after;
        if query.after.is_none() {
            break;
        }
    }
    assert!(listed.iter().eq(targets.iter().rev()), "the latest first, page after page: {listed:?}");
    let nonsense = client.pauses(&PauseQuery { after: Some("yesterday".to_owned()), limit: None }).await;
    assert!(matches!(nonsense, Err(ClientError::Refused { status: 400, .. })), "{nonsense:?}");
    let why = client.why(id).await.unwrap();
    assert!(matches!(&why.why, Cause::Paused { scope, .. } if scope == "everything"), "{why:?}");
    assert_eq!(why.cleared_by.as_deref(), Some("servantctl resume everything"));
    for target in &targets {
        client.resume(target, &ByWhom::default()).await.unwrap();
        assert!(
            matches!(client.resume(target, &ByWhom::default()).await, Err(ClientError::Refused { status: 404, .. })),
            "{target}"
        );
    }
    assert_eq!(client.pauses(&PauseQuery::default()).await.unwrap().pauses, []);

    let silent = PauseRequest { reason: " ".to_owned(), ..request.clone() };
    let refused = client.pause(&PauseTarget::Everything, &silent).await;
    assert!(matches!(refused, Err(ClientError::Refused { status: 400, .. })), "{refused:?}");
    let http = reqwest::Client::new();
    for path in ["everything/x", "kind/No-Kind", "account/x", "account/-1", "queue/1"] {
        let put = http.put(format!("{url}/api/v1/pauses/{path}")).json(&request).send().await.unwrap();
        assert_eq!(put.status(), 400, "{path}");
    }
    assert!(matches!(client.why(999).await, Err(ClientError::Refused { status: 404, .. })));
    let raw: serde_json::Value =
        http.get(format!("{url}/api/v1/jobs/{id}/why")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&raw["why"]["cause"], &raw["why"]["kind"]), (&"no_servant".into(), &"noop".into()));
}

#[tokio::test]
async fn overrides_by_hand_are_kept_with_who_and_why() {
    let database = testkit::database().await;
    let store = database.store().await;
    let url = manager(&store).await;
    let client = ManagerClient::new(&url).unwrap();
    let later = EnqueueRequest { run_at: Some(store.now() + chrono::TimeDelta::hours(1)), ..noop(None) };
    let id = client.enqueue(&later).await.unwrap().id.unwrap();
    let request = OverrideRequest { by: Some("ada".to_owned()), reason: " they wait for it ".to_owned() };
    let silent = OverrideRequest { reason: String::new(), ..request.clone() };
    assert!(matches!(client.run_now(id, &silent).await, Err(ClientError::Refused { status: 400, .. })));
    assert_eq!(client.run_now(id, &request).await.unwrap().state, JobState::Ready);
    assert!(matches!(client.run_now(id, &request).await, Err(ClientError::Refused { status: 409, .. })));
    assert!(matches!(client.run_now(999, &request).await, Err(ClientError::Refused { status: 404, .. })));
    let bob = ByWhom { by: Some("bob".to_owned()), reason: Some("wrong year".to_owned()) };
    client.cancel(id, &bob).await.unwrap();
    // Without a word, as older clients ask.
    let http = reqwest::Client::new();
    assert_eq!(http.post(format!("{url}/api/v1/jobs/{id}/retry")).send().await.unwrap().status(), 200);
    let told = |acts: &[Act]| -> Vec<String> {
        acts.iter().map(|act| format!("{} by {}: {}", act.action, act.by, act.reason)).collect()
    };
    let expected = [
        "retry_job by anybody: ",
        "cancel_job by bob: wrong year",
        "run_job_now by ada: they wait for it",
        "enqueue_job by anybody: ",
    ];
    assert_eq!(told(&client.job(id).await.unwrap().acts), expected);

    let target = PauseTarget::Kind(Kind::new("noop").unwrap());
    let pause = PauseRequest { by: Some("ada".to_owned()), reason: "the vendor is down".to_owned() };
    client.pause(&target, &pause).await.unwrap();
    client.resume(&target, &ByWhom { reason: None, ..bob.clone() }).await.unwrap();
    let of = async |subject: &str, key: &str| {
        let query = AuditQuery { subject: Some(subject.into()), key: Some(key.into()), ..AuditQuery::default() };
        let page = client.audit(&query).await.unwrap();
        let entries = page.entries.into_iter();
        entries.map(|entry| format!("{} by {}: {}", entry.action, entry.actor, entry.reason)).collect::<Vec<_>>()
    };
    assert_eq!(of("pause", "kind noop").await, ["resume by bob: ", "pause by ada: the vendor is down"]);
    // What was refused once it was allowed is there, too.
    let failed = client.audit(&AuditQuery { subject: Some("request".into()), ..AuditQuery::default() }).await.unwrap();
    let failed: Vec<_> = failed.entries.iter().map(|row| (row.action.as_str(), row.outcome.as_str())).collect();
    assert_eq!(failed, [("run_job_now", "failed"); 3]);
    let page = client.audit(&AuditQuery { limit: Some(2), ..AuditQuery::default() }).await.unwrap();
    assert_eq!(page.entries.len(), 2);
    let rest = client.audit(&AuditQuery { before: page.next_before, ..AuditQuery::default() }).await.unwrap();
    assert_eq!((rest.entries.len(), rest.next_before), (7, None));
    for query in ["account=x", "since=x", "limit=0", "colour=red"] {
        let got = http.get(format!("{url}/api/v1/audit?{query}")).send().await.unwrap();
        assert_eq!(got.status(), 400, "{query}");
    }
}

#[tokio::test]
async fn jobs_without_a_word_on_attempts_have_as_many_as_their_kind() {
    let database = testkit::database().await;
    let store = database.store().await;
    let client = ManagerClient::new(&manager(&store).await).unwrap();
    let attempts = async |request: &EnqueueRequest| {
        let id = client.enqueue(request).await.unwrap().id.unwrap();
        client.job(id).await.unwrap().job.attempts_max
    };
    assert_eq!(attempts(&noop(None)).await, 10, "no catalogue was seen");
    let text = "[noop]\nlabel = \"n\"\nrun_secs_max = 60\nconcurrency = 1\n\
                retry = { attempts_max = 3, first_delay_ms = 1, delay_max_ms = 1 }\n";
    let tables: toml::Table = text.parse().unwrap();
    let catalogue = domain::Catalogue::new(tables.try_into().unwrap()).unwrap();
    let lead = store.lead("boot", 60).await.unwrap().unwrap();
    assert_eq!(store.declare_kinds(&lead, &catalogue).await.unwrap(), 1);
    assert_eq!(store.declare_kinds(&lead, &catalogue).await.unwrap(), 0, "nothing has changed");
    assert_eq!(attempts(&noop(None)).await, 3);
    assert_eq!(attempts(&EnqueueRequest { attempts_max: Some(7), ..noop(None) }).await, 7);
}

#[tokio::test]
async fn heartbeats_are_shown_and_answered_with_orders() {
    let database = testkit::database().await;
    let store = database.store().await;
    let kind = Kind::new("noop").unwrap();
    let new = NewServant { kind, host: "h".into(), pid: 1, version: "0".into(), concurrency: 4 };
    let id = store.register_servant(&new).await.unwrap().0;
    let client = ManagerClient::new(&manager(&store).await).unwrap();
    let mut beat = Heartbeat {
        servant_id: id,
        kind: "noop".into(),
        state: "running".into(),
        version: "0".into(),
        host: "h".into(),
        pid: 1,
        started_at: store.now(),
        rss_bytes: Some(9_000_000),
        cpu_pct: Some(137),
        concurrency: 4,
        running: 0,
        jobs: Vec::new(),
    };
    assert_eq!(client.heartbeat(&beat).await.unwrap(), manager_api::HeartbeatReply::default());
    client.order(id, Order::Pause, &ByWhom::default()).await.unwrap();
    assert!(client.heartbeat(&beat).await.unwrap().pause);
    let servants = client.servants().await.unwrap().servants;
    assert_eq!((servants[0].liveness.as_str(), servants[0].rss_bytes), ("alive", Some(9_000_000)));
    assert_eq!(servants[0].cpu_pct, Some(137));
    beat.servant_id = 0;
    assert!(matches!(client.heartbeat(&beat).await, Err(ClientError::Refused { status: 404, .. })));
}

#[tokio::test]
async fn servants_are_listed_page_after_page() {
    let database = testkit::database().await;
    let store = database.store().await;
    for n in 0..405_u32 {
        let kind = Kind::new(["zebra", "ant", "mule"][n as usize % 3]).unwrap();
        let new = NewServant { kind, host: "h".into(), pid: n, version: "0".into(), concurrency: 4 };
        store.register_servant(&new).await.unwrap();
    }
    let client = ManagerClient::new(&manager(&store).await).unwrap();
    let servants = client.servants().await.unwrap().servants;
    let listed: Vec<(&str, i64)> = servants.iter().map(|servant| (servant.kind.as_str(), servant.id)).collect();
    assert_eq!(listed.len(), 405);
    assert!(listed.is_sorted(), "by kind and age, and none twice");
    assert_eq!(client.stats().await.unwrap().servants_alive, 405);
}
