//! Every route there is, during a look: what is asked for is shown, masked, or refused; no row changes, nobody is called.

use super::world::{Side, World, get, person, send};
use axum::http::{Method, StatusCode, header};
use chrono::TimeDelta;
use domain::{Principal, Role};
use manager_api::AssumptionDetail;
use serde_json::Value;
use std::collections::BTreeSet;
use store::AuditFilter;

const OURS: &str = "OurPerson";
const THEIRS: &str = "TheirPerson";
/// Routes that are in no table, since they are no operation's.
const OTHERS: [&str; 7] = [
    "GET /keys",
    "GET /accounts/{id}/nothing",
    "GET /connect/salesforce?account=1",
    "GET /connect/salesforce/callback?state=x&code=y",
    "GET /jobs/new",
    "GET /schedules?limit=200",
    "GET /jobs?q=account%3A{account}%20state%3Afailed",
];

/// Every operation of the API, every page and every address of a form: method and path.
async fn everything(world: &World) -> BTreeSet<String> {
    let lines = include_str!("../../../manager-api/parity.txt").lines().filter(|line| !line.starts_with('#'));
    let mut all: BTreeSet<String> = OTHERS.map(str::to_owned).into();
    for line in lines {
        all.extend(line.split(" | ").take(2).map(str::to_owned));
    }
    let routes = world.routes(Principal::open("ada"));
    let description: Value = serde_json::from_str(&get(&routes, "/api/openapi.json", None).await.text).unwrap();
    for (path, methods) in description["paths"].as_object().unwrap() {
        all.extend(methods.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())));
    }
    assert!(all.len() > 120, "{}", all.len());
    all
}

/// The path with what belongs to that customer.
fn of(side: &Side, path: &str) -> String {
    let path =
        path.replace("{account}", &side.account.to_string()).replace("account=1", &format!("account={}", side.account));
    let mut parts: Vec<String> = Vec::new();
    for part in path.split('/') {
        let before = parts.last().map_or("", String::as_str);
        parts.push(match (part, before) {
            ("{id}", "jobs") => side.waiting.to_string(),
            ("{id}", "accounts") => side.account.to_string(),
            ("{id}", "groups") => side.group.to_string(),
            ("{id}", "schedules") => side.schedule.to_string(),
            ("{id}", "quarantine") => side.record.to_string(),
            ("{id}", "anomalies") => side.anomaly.to_string(),
            ("{id}" | "{connection}", _) => side.connection.to_string(),
            ("{scope}", _) => "account".to_owned(),
            ("{key}", _) => side.account.to_string(),
            _ if part.starts_with('{') => "salesforce".to_owned(),
            _ => part.to_owned(),
        });
    }
    parts.join("/")
}

#[tokio::test]
async fn a_crawl_of_every_route_changes_no_row_and_calls_nobody() {
    let world = World::new().await;
    let (ours, theirs) = (world.customer(OURS).await, world.customer(THEIRS).await);
    let everything = everything(&world).await;
    let routes = world.routes(person(Role::Support));
    let look = world.look(&routes, ours.account).await;
    let token = Some(look.token.as_str());
    let mut before = testkit::table_digests(world.database.url()).await.unwrap();
    let (mut asked, mut shown) = (0, 0);
    for route in &everything {
        let (method, path) = route.split_once(' ').unwrap();
        if path.starts_with("/assumptions/{id}/end") || path.starts_with("/api/v1/assumptions/{id}/end") {
            continue;
        }
        let method: Method = method.parse().unwrap();
        let is_safe = method == Method::GET;
        for (side, is_own) in [(&ours, true), (&theirs, false)] {
            let url = of(side, path);
            let answer = send(&routes, method.clone(), &url, token, None).await;
            let (status, text) = (answer.status, &answer.text);
            assert!(!text.contains(THEIRS) && !text.contains(OURS), "{method} {url} tells of a person: {text}");
            assert!(!answer.headers.contains_key(header::SET_COOKIE), "{method} {url}");
            let says = |code: &str| text.contains(code);
            if !is_safe {
                assert!(
                    status == StatusCode::FORBIDDEN && (says("read_only") || says("nothing is done")),
                    "{method} {url}: {text}"
                );
            } else if crate::assume::is_shown(path) && (path.contains("{id}") || path.contains("{connection}")) {
                let expected = if is_own { StatusCode::OK } else { StatusCode::NOT_FOUND };
                assert_eq!(status, expected, "{url}: {text}");
            } else {
                let may_be = [StatusCode::OK, StatusCode::SEE_OTHER, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
                assert!(may_be.contains(&status), "{url}: {status} {text}");
            }
            let is_page = text.starts_with("<!doctype html>");
            assert!(is_page || url.starts_with("/api/") || status == StatusCode::SEE_OTHER, "{url}: {text}");
            assert!(!is_page || text.contains("class=\"look\""), "{method} {url} lacks the banner: {text}");
            asked += 1;
            shown += usize::from(is_safe && status == StatusCode::OK);
        }
    }
    assert!(shown >= 30, "{shown} of {asked} were shown");
    let mut after = testkit::table_digests(world.database.url()).await.unwrap();
    // What was looked at is written down twice: in the look's own list, and in the audit.
    for noted in ["assumption_events", "audit"] {
        assert_ne!(before.remove(noted).unwrap(), after.remove(noted).unwrap(), "{noted}");
    }
    assert_eq!(before, after, "no other row changes");
    let (mut audited, mut next) = (0, Some(i64::MAX));
    while let Some(before) = next {
        let filter = AuditFilter { account: Some(ours.account), before: Some(before), ..AuditFilter::default() };
        let page = world.store.search_audit(&filter, 200).await.unwrap();
        assert!(page.rows.iter().all(|row| (row.subject.as_str(), row.actor.as_str()) == ("assumption", "a support")));
        (audited, next) = (audited + page.rows.len(), page.next_before);
    }
    let (mut events, mut next) = (0, Some(i64::MAX));
    while let Some(before) = next {
        let page = world.store.assumption_events(look.assumption.id, Some(before), 200).await.unwrap();
        (events, next) = (events + page.len(), page.last().map(|event| event.id));
    }
    assert_eq!(audited + 1, events, "the beginning is noted by itself");
    assert!(audited > shown, "what was refused is noted, too: {audited}");
    assert_eq!(world.calls(), 0, "nobody is called");

    // As oneself, the same request does call.
    let own = get(&routes, &of(&ours, "/connect/salesforce?account=1"), None).await;
    let (to, cookie) =
        (own.headers[header::LOCATION].to_str().unwrap(), own.headers[header::SET_COOKIE].to_str().unwrap());
    let state = to.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let callback = axum::extract::Request::builder()
        .uri(format!("/connect/salesforce/callback?state={state}&code=y"))
        .header(header::COOKIE, cookie.split(';').next().unwrap())
        .body(axum::body::Body::empty())
        .unwrap();
    let answer = tower::ServiceExt::oneshot(routes.clone(), callback).await.unwrap();
    assert_eq!((answer.status(), world.calls() > 0), (StatusCode::BAD_GATEWAY, true));
}

#[tokio::test]
async fn every_page_is_written_down_and_the_end_is_the_end() {
    let world = World::new().await;
    let ours = world.customer(OURS).await;
    let routes = world.routes(person(Role::Support));
    let look = world.look(&routes, ours.account).await;
    let token = Some(look.token.as_str());
    let id = look.assumption.id;
    let page = get(&routes, &format!("/accounts/{}", ours.account), token).await;
    assert_eq!(page.status, StatusCode::OK);
    for fact in [
        "as its customer does",
        "ticket T-1",
        "a support",
        "12:30:00 UTC",
        "2030-05-06T12:30:00",
        &format!("/assumptions/{id}/end"),
    ] {
        assert!(page.text.contains(fact), "{fact}: {}", page.text);
    }
    assert!(
        !page.text.contains("href=\"/servants\"") && page.text.contains("href=\"/jobs\""),
        "the navigation is theirs"
    );
    let home = get(&routes, "/", token).await;
    assert_eq!(home.status, StatusCode::SEE_OTHER);
    assert_eq!(home.headers[header::LOCATION], format!("/accounts/{}", ours.account));
    assert_eq!(get(&routes, "/servants", token).await.status, StatusCode::FORBIDDEN);
    assert_eq!(
        send(&routes, Method::POST, &format!("/jobs/{}/retry", ours.failed), token, None).await.status,
        StatusCode::FORBIDDEN
    );
    // Another person's cookie is nobody's.
    let other = world.routes(person(Role::Admin));
    assert_eq!(get(&other, "/jobs", token).await.status, StatusCode::FORBIDDEN);
    let detail = get(&other, &format!("/api/v1/assumptions/{id}"), None).await;
    let detail: AssumptionDetail = serde_json::from_str(&detail.text).unwrap();
    let told: Vec<String> =
        detail.events.iter().rev().map(|event| format!("{} {}", event.what, event.at_what)).collect();
    let expected = [
        "started ".to_owned(),
        format!("looked GET /accounts/{}", ours.account),
        "refused GET /servants".to_owned(),
        format!("refused POST /jobs/{}/retry", ours.failed),
    ];
    assert_eq!(told, expected);
    let filter = AuditFilter { subject: Some("assumption".to_owned()), ..AuditFilter::default() };
    let audited = world.store.list_audit(&filter, 10).await.unwrap();
    let told: Vec<String> = audited
        .iter()
        .rev()
        .map(|row| format!("{} {}", row.outcome, row.after.as_ref().unwrap()["request"].as_str().unwrap()))
        .collect();
    let expected = [
        format!("done GET /accounts/{}", ours.account),
        "denied GET /servants".to_owned(),
        format!("denied POST /jobs/{}/retry", ours.failed),
    ];
    assert_eq!(told, expected, "in the audit, too");

    let ended = send(&routes, Method::POST, &format!("/assumptions/{id}/end"), token, None).await;
    assert_eq!(ended.status, StatusCode::SEE_OTHER, "{}", ended.text);
    assert!(ended.headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    for _ in 0..2 {
        let after = get(&routes, "/jobs", token).await;
        assert_eq!(
            after.status,
            StatusCode::FORBIDDEN,
            "a cookie that is over shows nothing, and not as oneself either"
        );
        assert!(
            after.headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0")
                && !after.text.contains("class=\"look\"")
        );
    }

    let next = world.look(&routes, ours.account).await;
    world.clock.advance(TimeDelta::minutes(30));
    assert_eq!(get(&routes, "/jobs", Some(&next.token)).await.status, StatusCode::FORBIDDEN, "its time is over");
    let page = get(&routes, &format!("/assumptions?account={}", ours.account), None).await;
    assert!(page.text.contains("their sync is late") && !page.text.contains("state open"), "{}", page.text);
}

#[tokio::test]
async fn a_reason_and_a_ticket_are_needed_and_the_role() {
    let world = World::new().await;
    let account = world.store.create_account("Acme").await.unwrap().0;
    let ask = async |role, account: i64, reason: &str, ticket: &str| {
        let body = serde_json::json!({"account_id": account, "reason": reason, "ticket": ticket});
        send(&world.routes(person(role)), Method::POST, "/api/v1/assumptions", None, Some(body)).await.status
    };
    for role in [Role::Viewer, Role::Operator] {
        assert_eq!(ask(role, account, "a", "b").await, StatusCode::FORBIDDEN, "{role}");
    }
    for (id, reason, ticket, status) in
        [(account, " ", "b", 400), (account, "a", "", 400), (0, "a", "b", 404), (999, "a", "b", 404)]
    {
        assert_eq!(ask(Role::Support, id, reason, ticket).await.as_u16(), status);
    }
    assert_eq!(world.store.list_assumptions(None, None, 10).await.unwrap(), []);
    for role in [Role::Support, Role::Admin] {
        assert_eq!(ask(role, account, "a", "b").await, StatusCode::CREATED, "{role}");
    }
    // A browser's form.
    let routes = world.routes(person(Role::Support));
    let form = axum::extract::Request::builder()
        .method(Method::POST)
        .uri(format!("/accounts/{account}/assume"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(axum::body::Body::from("reason=late&ticket=T-2"))
        .unwrap();
    let answer = tower::ServiceExt::oneshot(routes.clone(), form).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
    for part in ["__Host-servant-assumed=", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict", "; Max-Age=1800"]
    {
        assert!(cookie.contains(part) && !cookie.contains("Domain"), "{cookie}");
    }
    let token = cookie.split(['=', ';']).nth(1).unwrap();
    assert_eq!(get(&routes, &format!("/accounts/{account}"), Some(token)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn one_manager_serves_sixteen_looks_and_frees_those_that_ended() {
    let world = World::new().await;
    let account = world.store.create_account("Acme").await.unwrap();
    let routes = world.routes(person(Role::Support));
    let mut looks = Vec::new();
    for _ in 0..17 {
        looks.push(world.look(&routes, account).await);
    }
    for look in &looks[..16] {
        assert_eq!(get(&routes, "/jobs", Some(&look.token)).await.status, StatusCode::OK);
    }
    let last = &looks[16].token;
    assert_eq!(get(&routes, "/jobs", Some(last)).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(world.store.end_assumption(&testkit::granted(), looks[3].assumption.id).await.unwrap());
    assert_eq!(get(&routes, "/jobs", Some(last)).await.status, StatusCode::OK);
    assert_eq!(get(&routes, "/jobs", Some(&looks[3].token)).await.status, StatusCode::FORBIDDEN);
}
