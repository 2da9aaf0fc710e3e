//! Every operation of the API's description, asked for by every role over a real socket: let through or refused as the
//! table in `domain` says, and a refusal is in the audit. An operation that is in no line here fails.

use crate::common;
use domain::{AccountId, Action, Principal, PrincipalKind, Role};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use std::collections::BTreeMap;
use store::{AuditFilter, NewJob, Store};

const WHY: &str = r#"{"reason": "a test"}"#;
const GROUP: &str = r#"{"name": "back-fill", "jobs": [], "seal": false}"#;
const SCHEDULE: &str = r#"{"name": "nightly", "kind": "noop", "rule": {"every_secs": 60}}"#;
const RANGE: &str = r#"{"from": "2030-01-01T00:00:00Z", "to": "2030-01-02T00:00:00Z"}"#;
const LIMIT: &str = r#"{"bounds": {"concurrency": 5}, "reason": "a test"}"#;
const BEAT: &str = r#"{"servant_id": 9, "kind": "noop", "state": "running", "running": 0, "jobs": []}"#;

/// The operation, the action that it is, where it is asked for, and with which body.
const TABLE: &[(&str, Action, &str, &str)] = &[
    ("GET /api/v1/jobs", Action::ReadJobs, "", ""),
    ("GET /api/v1/jobs/{id}", Action::ReadJobs, "", ""),
    ("GET /api/v1/jobs/{id}/why", Action::ReadJobs, "", ""),
    ("POST /api/v1/jobs", Action::EnqueueJob, "", r#"{"kind": "noop"}"#),
    ("POST /api/v1/jobs/{id}/retry", Action::RetryJob, "", "{}"),
    ("POST /api/v1/jobs/{id}/cancel", Action::CancelJob, "", "{}"),
    ("POST /api/v1/jobs/{id}/again", Action::RepeatJob, "", ""),
    ("POST /api/v1/jobs/{id}/run-now", Action::RunJobNow, "", WHY),
    ("GET /api/v1/operations", Action::ReadOperations, "", ""),
    ("GET /api/v1/operations/{id}", Action::ReadOperations, "", ""),
    ("GET /api/v1/operations/{id}/items", Action::ReadOperations, "", ""),
    ("GET /api/v1/operations/preview", Action::ReadOperations, "?act=cancel&q=kind:noop", ""),
    (
        "POST /api/v1/operations",
        Action::CreateOperation,
        "",
        r#"{"act": "cancel", "q": "kind:none", "reason": "a test"}"#,
    ),
    ("POST /api/v1/operations/{id}/cancel", Action::CancelOperation, "", "{}"),
    ("GET /api/v1/audit", Action::ReadAudit, "", ""),
    ("GET /api/v1/audit/export", Action::ReadAudit, "", ""),
    ("GET /api/v1/audit/verify", Action::ReadAudit, "", ""),
    ("GET /api/v1/assumptions", Action::ReadAssumptions, "", ""),
    ("GET /api/v1/assumptions/{id}", Action::ReadAssumptions, "", ""),
    (
        "POST /api/v1/assumptions",
        Action::AssumeAccount,
        "",
        r#"{"account_id": 9, "reason": "a test", "ticket": "T-1"}"#,
    ),
    ("POST /api/v1/assumptions/{id}/end", Action::EndAssumption, "", ""),
    ("GET /api/v1/me", Action::ReadStats, "", ""),
    (
        "POST /api/v1/me/password",
        Action::ChangePassword,
        "",
        r#"{"old_password": "a test", "new_password": "another test, and a longer one"}"#,
    ),
    ("GET /api/v1/users", Action::ReadPeople, "", ""),
    ("POST /api/v1/users", Action::ManagePeople, "", r#"{"name": "ada", "email": "", "role": "viewer"}"#),
    ("PUT /api/v1/users/{id}/role", Action::ManagePeople, "", r#"{"role": "viewer"}"#),
    ("POST /api/v1/users/{id}/disable", Action::ManagePeople, "", ""),
    ("POST /api/v1/users/{id}/enable", Action::ManagePeople, "", ""),
    ("POST /api/v1/users/{id}/sign-out", Action::ManagePeople, "", ""),
    ("POST /api/v1/users/{id}/code", Action::ManagePeople, "", ""),
    ("GET /api/v1/tokens", Action::ReadPeople, "", ""),
    ("POST /api/v1/tokens", Action::ManagePeople, "", r#"{"name": "ci", "role": "viewer", "days": 7}"#),
    ("POST /api/v1/tokens/{id}/revoke", Action::ManagePeople, "", ""),
    ("GET /api/v1/credentials", Action::ReadPeople, "", ""),
    ("POST /api/v1/credentials", Action::ManagePeople, "", r#"{"kind": "noop"}"#),
    ("POST /api/v1/credentials/{id}/revoke", Action::ManagePeople, "", ""),
    ("GET /api/v1/find", Action::ReadJobs, "?text=7", ""),
    ("GET /api/v1/errors", Action::ReadErrors, "", ""),
    ("GET /api/v1/errors/{fingerprint}", Action::ReadErrors, "", ""),
    ("GET /api/v1/queues", Action::ReadQueues, "", ""),
    ("POST /api/v1/queues/{kind}/redrive", Action::Redrive, "", "{}"),
    ("GET /api/v1/throughput", Action::ReadStats, "", ""),
    ("GET /api/v1/stats", Action::ReadStats, "", ""),
    ("GET /api/v1/onboardings", Action::ReadGroups, "", ""),
    ("GET /api/v1/groups", Action::ReadGroups, "", ""),
    ("GET /api/v1/groups/{id}", Action::ReadGroups, "", ""),
    ("GET /api/v1/groups/{id}/jobs", Action::ReadJobs, "", ""),
    ("POST /api/v1/groups", Action::CreateGroup, "", GROUP),
    ("POST /api/v1/groups/{id}/jobs", Action::AddToGroup, "", r#"{"jobs": []}"#),
    ("POST /api/v1/groups/{id}/seal", Action::SealGroup, "", ""),
    ("POST /api/v1/groups/{id}/cancel", Action::CancelGroup, "", WHY),
    ("GET /api/v1/servants", Action::ReadServants, "", ""),
    ("GET /api/v1/servants/{id}", Action::ReadServants, "", ""),
    ("POST /api/v1/servants/{id}/order", Action::OrderServant, "", r#"{"order": "drain"}"#),
    ("POST /api/v1/heartbeats", Action::Heartbeat, "", BEAT),
    ("GET /api/v1/schedules", Action::ReadSchedules, "", ""),
    ("GET /api/v1/schedules/{id}", Action::ReadSchedules, "", ""),
    ("GET /api/v1/schedules/{id}/preview", Action::ReadSchedules, "", ""),
    ("POST /api/v1/schedules", Action::CreateSchedule, "", SCHEDULE),
    ("PATCH /api/v1/schedules/{id}", Action::EditSchedule, "", "{}"),
    ("DELETE /api/v1/schedules/{id}", Action::DeleteSchedule, "", ""),
    ("POST /api/v1/schedules/{id}/pause", Action::PauseSchedule, "", WHY),
    ("POST /api/v1/schedules/{id}/resume", Action::ResumeSchedule, "", "{}"),
    ("POST /api/v1/schedules/{id}/run", Action::RunSchedule, "", ""),
    ("POST /api/v1/schedules/{id}/backfill", Action::BackfillSchedule, "", RANGE),
    ("GET /api/v1/pauses", Action::ReadLimits, "", ""),
    ("PUT /api/v1/pauses/everything", Action::Pause, "", WHY),
    ("DELETE /api/v1/pauses/everything", Action::Resume, "", ""),
    ("PUT /api/v1/pauses/{scope}/{key}", Action::Pause, "", WHY),
    ("DELETE /api/v1/pauses/{scope}/{key}", Action::Resume, "", ""),
    ("GET /api/v1/limits", Action::ReadLimits, "", ""),
    ("GET /api/v1/holders", Action::ReadLimits, "?scope=kind&key=noop", ""),
    ("PUT /api/v1/limits/{scope}", Action::SetLimit, "", LIMIT),
    ("PUT /api/v1/limits/{scope}/{key}", Action::SetLimit, "", LIMIT),
    ("DELETE /api/v1/limits/{scope}", Action::RemoveLimit, "", ""),
    ("DELETE /api/v1/limits/{scope}/{key}", Action::RemoveLimit, "", ""),
    ("GET /api/v1/budgets", Action::ReadLimits, "", ""),
    ("GET /api/v1/budgets/{connection}", Action::ReadLimits, "", ""),
    (
        "PUT /api/v1/budgets/{connection}/share",
        Action::SetShare,
        "",
        r#"{"share_pct": 50, "health_pct": 5, "reason": "x"}"#,
    ),
    ("DELETE /api/v1/budgets/{connection}/share", Action::RemoveShare, "", ""),
    ("GET /api/v1/connections", Action::ReadAccounts, "", ""),
    ("GET /api/v1/connections/{id}", Action::ReadAccounts, "", ""),
    (
        "POST /api/v1/connections",
        Action::CreateConnection,
        "",
        r#"{"account_id": 9, "vendor": "salesforce", "username": "ada@example.com"}"#,
    ),
    (
        "POST /api/v1/connections/authorise",
        Action::AuthoriseConnection,
        "",
        r#"{"account_id": 9, "vendor": "salesforce"}"#,
    ),
    ("POST /api/v1/connections/{id}/sync", Action::SyncConnection, "", ""),
    (
        "PUT /api/v1/connections/{id}/objects",
        Action::ChooseObjects,
        "",
        r#"{"objects": ["Account"], "reason": "a test"}"#,
    ),
    ("POST /api/v1/connections/{id}/reauthorised", Action::Reauthorised, "", WHY),
    ("POST /api/v1/connections/{id}/park", Action::ParkConnection, "", WHY),
    ("POST /api/v1/connections/{id}/disable", Action::DisableConnection, "", WHY),
    ("POST /api/v1/connections/{id}/enable", Action::EnableConnection, "", WHY),
    ("GET /api/v1/breakers", Action::ReadLimits, "", ""),
    ("GET /api/v1/breakers/{service}", Action::ReadLimits, "", ""),
    ("POST /api/v1/breakers/{service}/open", Action::OpenBreaker, "", WHY),
    ("POST /api/v1/breakers/{service}/close", Action::CloseBreaker, "", WHY),
    ("POST /api/v1/breakers/{service}/clear", Action::ClearBreaker, "", WHY),
    ("GET /api/v1/anomalies", Action::ReadAnomalies, "", ""),
    ("GET /api/v1/anomalies/{id}", Action::ReadAnomalies, "", ""),
    ("POST /api/v1/anomalies/{id}/acknowledge", Action::AcknowledgeAnomaly, "", WHY),
    ("POST /api/v1/anomalies/{id}/resolve", Action::ResolveAnomaly, "", WHY),
    ("POST /api/v1/anomalies/{id}/assign", Action::AssignAnomaly, "", "{}"),
    ("POST /api/v1/anomalies/{id}/mute", Action::MuteAnomaly, "", WHY),
    ("GET /api/v1/quarantine", Action::ReadQuarantine, "", ""),
    ("GET /api/v1/quarantine/{id}", Action::ReadQuarantine, "", ""),
    ("POST /api/v1/quarantine/{id}/dismiss", Action::DismissRecord, "", WHY),
    ("POST /api/v1/quarantine/{id}/retry", Action::RetryRecord, "", "{}"),
    ("GET /api/v1/accounts", Action::ReadAccounts, "", ""),
    ("GET /api/v1/accounts/{id}", Action::ReadAccounts, "", ""),
    ("GET /api/v1/accounts/{id}/streams", Action::ReadAccounts, "", ""),
    ("GET /api/v1/accounts/{id}/changes", Action::ReadAudit, "", ""),
    ("PUT /api/v1/accounts/{id}/weight", Action::SetWeight, "", r#"{"weight": 3, "reason": "a test"}"#),
];

async fn manager(store: &Store, principal: Principal) -> String {
    common::serve(store, |app| manager::router_for(app, 10_000, principal)).await
}

fn somebody(role: Role) -> Principal {
    Principal::new(PrincipalKind::User, "1", format!("a {role}"), role)
}

/// Where an operation is asked for: of things that are not there, which is another matter than who may.
fn place(path: &str, query: &str) -> String {
    let scope =
        if path.starts_with("/api/v1/limits/{scope}") && !path.contains("{key}") { "each_account" } else { "kind" };
    let words = [("{scope}", scope), ("{key}", "noop"), ("{kind}", "noop"), ("{service}", "acme")];
    let mut path = path.to_owned();
    for (name, word) in words {
        path = path.replace(name, word);
    }
    let parts: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { "999" } else { part }).collect();
    format!("{}{query}", parts.join("/"))
}

async fn ask(
    http: &Client,
    url: &str,
    (operation, _, query, body): &(&str, Action, &str, &str),
) -> (StatusCode, Value) {
    let (method, path) = operation.split_once(' ').unwrap();
    let request = http.request(Method::from_bytes(method.as_bytes()).unwrap(), format!("{url}{}", place(path, query)));
    let request = match *body {
        "" => request,
        body => request.header("content-type", "application/json").body(body.to_owned()),
    };
    let answer = request.send().await.unwrap();
    let status = answer.status();
    (status, answer.json().await.unwrap())
}

#[tokio::test]
async fn every_operation_is_let_through_or_refused_for_every_role_as_the_table_says() {
    let database = testkit::database().await;
    let store = database.store().await;
    let http = Client::new();
    for role in Role::ALL {
        let url = manager(&store, somebody(role)).await;
        let description: Value =
            http.get(format!("{url}/api/openapi.json")).send().await.unwrap().json().await.unwrap();
        let mut lines: BTreeMap<&str, _> = TABLE.iter().map(|line| (line.0, line)).collect();
        for (path, methods) in description["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                let operation = format!("{} {path}", method.to_uppercase());
                let line = lines.remove(operation.as_str());
                let line = line.unwrap_or_else(|| panic!("{operation} is in no line of the table"));
                let (status, answer) = ask(&http, &url, line).await;
                let may = line.1.is_for(role);
                assert_eq!(status != StatusCode::FORBIDDEN, may, "{role}: {operation}: {status} {answer}");
                let is_parsed = !matches!(status.as_u16(), 405 | 415 | 422 | 500..);
                assert!(is_parsed, "{role}: {operation} was not understood: {status} {answer}");
                if !may {
                    assert_eq!(answer["error"]["code"], "forbidden", "{answer}");
                    let filter = AuditFilter {
                        actor: Some(format!("a {role}")),
                        action: Some(line.1.as_str().to_owned()),
                        ..AuditFilter::default()
                    };
                    let denied = store.list_audit(&filter, 1).await.unwrap().remove(0);
                    assert_eq!(
                        (denied.outcome.as_str(), denied.subject.as_str()),
                        ("denied", "request"),
                        "{operation}"
                    );
                    assert!(denied.key.starts_with(line.0.split(' ').next().unwrap()), "{}", denied.key);
                    assert!(denied.request_id.is_some(), "{operation}");
                }
            }
        }
        assert!(lines.is_empty(), "the API has no {:?}", lines.keys());
    }
}

#[tokio::test]
async fn pages_are_refused_with_their_data_and_payloads_are_masked() {
    let database = testkit::database().await;
    let store = database.store().await;
    let job = NewJob::new(domain::Kind::new("noop").unwrap(), serde_json::json!({"to": "ada@example.com"}));
    let store::Inserted::New(id) = store.insert_jobs(&[job]).await.unwrap()[0] else { panic!("it is new") };
    let http = Client::new();
    for role in Role::ALL {
        let url = manager(&store, somebody(role)).await;
        let get = async |path: &str| {
            let answer = http.get(format!("{url}{path}")).header("accept", "text/html").send().await.unwrap();
            (answer.status(), answer.text().await.unwrap())
        };
        for path in ["/audit", "/audit/verify", "/audit/export"] {
            assert_eq!(get(path).await.0 != StatusCode::FORBIDDEN, Action::ReadAudit.is_for(role), "{role} {path}");
        }
        for path in [format!("/jobs/{id}"), format!("/api/v1/jobs/{id}")] {
            let (status, text) = get(&path).await;
            assert_eq!(status, StatusCode::OK);
            assert_eq!(text.contains("ada@example.com"), Action::ReadPayload.is_for(role), "{role}: {text}");
        }
        let form = [("by", "somebody else"), ("reason", "a test"), ("scope", "everything")];
        let paused = http.post(format!("{url}/pauses")).form(&form).send().await.unwrap();
        assert_eq!(paused.status() == StatusCode::FORBIDDEN, !Action::Pause.is_for(role), "{role}");
    }
}

#[tokio::test]
async fn whoever_signs_on_acts_in_their_own_name_and_whoever_assumes_an_account_changes_nothing() {
    let database = testkit::database().await;
    let store = database.store().await;
    let http = Client::new();
    let pause = |url: &str, by: &str| {
        let body = serde_json::json!({"reason": "a test", "by": by});
        http.put(format!("{url}/api/v1/pauses/kind/noop")).json(&body).send()
    };
    let url = manager(&store, somebody(Role::Operator)).await;
    let refused = pause(&url, "eve").await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert!(refused.text().await.unwrap().contains("who acts is known from the sign-on"));
    let failed = store.list_audit(&AuditFilter::default(), 1).await.unwrap().remove(0);
    assert_eq!((failed.action.as_str(), failed.outcome.as_str()), ("pause", "failed"));
    let paused: Value = pause(&url, "a operator").await.unwrap().json().await.unwrap();
    assert_eq!(paused["paused_by"], "a operator");
    let done = store.list_audit(&AuditFilter::default(), 1).await.unwrap().remove(0);
    assert_eq!((done.actor.as_str(), done.role.as_str(), done.outcome.as_str()), ("a operator", "operator", "done"));

    let open = manager(&store, Principal::open("anybody")).await;
    let paused: Value = pause(&open, "eve").await.unwrap().json().await.unwrap();
    assert_eq!(paused["paused_by"], "eve", "nobody is asked who they are");

    let assuming = manager(&store, somebody(Role::Admin).assuming(AccountId(7))).await;
    for line in TABLE {
        let (status, answer) = ask(&http, &assuming, line).await;
        let may = line.1.is_reading() && line.1.is_for_assuming();
        assert_eq!(status != StatusCode::FORBIDDEN, may, "{}: {status} {answer}", line.0);
    }
    let filter = AuditFilter { account: Some(AccountId(7)), ..AuditFilter::default() };
    assert!(store.list_audit(&filter, 200).await.unwrap().iter().all(|row| row.outcome == "denied"));
}
