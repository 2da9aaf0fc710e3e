//! Limits and customers' quotas over HTTP: set, listed, removed, refused.

use crate::common;
use chrono::TimeDelta;
use domain::{AccountId, BudgetSettings, ConnectionId, Scope, VendorBudget};
use manager_api::{
    Bounds, BudgetQuery, ByWhom, ClientError, LimitQuery, LimitRequest, ManagerClient, MinuteQuery, PageQuery,
    PauseQuery, ShareRequest, WeightRequest,
};
use store::{Store, UsageReport};

async fn manager(store: &Store) -> String {
    common::serve(store, |app| manager::router(app, 10_000)).await
}

fn request(concurrency: u32) -> LimitRequest {
    let bounds = Bounds { concurrency: Some(concurrency), ..Bounds::default() };
    LimitRequest { bounds, by: Some("ada".to_owned()), reason: " their sandbox is slow ".to_owned() }
}

fn is_refused<T: std::fmt::Debug>(answer: &Result<T, ClientError>, with: u16) -> bool {
    matches!(answer, Err(ClientError::Refused { status, .. }) if *status == with)
}

#[tokio::test]
async fn limits_are_set_listed_page_after_page_and_removed() {
    let database = testkit::database().await;
    let store = database.store().await;
    let client = ManagerClient::new(&manager(&store).await).unwrap();
    let lead = store.lead("boot", 60).await.unwrap().unwrap();
    let limit = domain::Limit { per_minute: Some(60), ..domain::Limit::default() };
    let declared = [(Scope::EachAccount, limit), (Scope::Vendor("slack".to_owned()), limit)];
    store.declare_limits(&lead, "main", &declared, BudgetSettings::default()).await.unwrap();
    let scopes = [
        ("kind", "noop"),
        ("account", "7"),
        ("connection", "70"),
        ("vendor", "salesforce"),
        ("each_account", ""),
        ("each_connection", ""),
        ("each_connection", "salesforce"),
    ];
    for (scope, key) in scopes {
        let set = client.set_limit(&Scope::new(scope, key).unwrap(), &request(5)).await.unwrap();
        assert_eq!((set.scope.as_str(), set.key.as_str(), set.source.as_str()), (scope, key, "operator"));
        assert_eq!((set.set_by.as_str(), set.reason.as_str(), set.in_force), ("ada", "their sandbox is slow", true));
    }
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = client.limits(&LimitQuery { after, limit: Some(2) }).await.unwrap();
        all.extend(page.limits);
        after = page.next_after;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(all.len(), 9);
    assert!(all.is_sorted_by_key(|limit| (limit.scope.clone(), limit.key.clone())));
    let idle: Vec<_> = all.iter().filter(|limit| !limit.in_force).map(|limit| limit.scope.as_str()).collect();
    assert_eq!(idle, ["each_account"], "an operator's takes its place");
    for (scope, key) in scopes {
        let scope = Scope::new(scope, key).unwrap();
        client.remove_limit(&scope, &ByWhom::default()).await.unwrap();
        let again = client.remove_limit(&scope, &ByWhom::default()).await;
        assert!(is_refused(&again, if scope == Scope::EachAccount { 409 } else { 404 }), "{again:?}");
    }
    assert!(client.limits(&LimitQuery::default()).await.unwrap().limits.iter().all(|limit| limit.in_force));
}

#[tokio::test]
async fn limits_that_make_no_sense_are_refused() {
    let database = testkit::database().await;
    let url = manager(&database.store().await).await;
    let client = ManagerClient::new(&url).unwrap();
    let zero = client.set_limit(&Scope::EachAccount, &request(0)).await.unwrap_err();
    assert!(zero.to_string().contains("concurrency must be at least 1; to stop jobs altogether, pause them"), "{zero}");
    for wrong in [
        LimitRequest { bounds: Bounds::default(), ..request(1) },
        LimitRequest { bounds: Bounds { burst: Some(1), ..request(1).bounds }, ..request(1) },
        LimitRequest { reason: String::new(), ..request(1) },
    ] {
        let answer = client.set_limit(&Scope::EachAccount, &wrong).await;
        assert!(is_refused(&answer, 400), "{wrong:?}: {answer:?}");
    }
    let http = reqwest::Client::new();
    for path in ["kind", "everything", "kind/No-Kind", "account/x", "each_account/7", "vendor/A", "group/1"] {
        let put = http.put(format!("{url}/api/v1/limits/{path}")).json(&request(1)).send().await.unwrap();
        assert_eq!(put.status(), 400, "{path}");
    }
    for query in ["after=x", "after=kind/noop/nobody", "limit=0", "colour=red"] {
        let got = http.get(format!("{url}/api/v1/limits?{query}")).send().await.unwrap();
        assert_eq!(got.status(), 400, "{query}");
    }
    let api: serde_json::Value =
        http.get(format!("{url}/api/openapi.json")).send().await.unwrap().json().await.unwrap();
    for (path, verb) in [("limits/{scope}/{key}", "put"), ("limits/{scope}", "delete"), ("budgets/{connection}", "get")]
    {
        assert!(api["paths"][format!("/api/v1/{path}")][verb].is_object(), "{path}");
    }
}

#[tokio::test]
async fn an_account_has_a_share_that_an_operator_sets() {
    let database = testkit::database().await;
    let store = database.store().await;
    let account = store.create_account("acme").await.unwrap().0;
    let url = manager(&store).await;
    let client = ManagerClient::new(&url).unwrap();
    let request = |weight| WeightRequest { weight, reason: "they pay for it".to_owned(), by: Some("ada".to_owned()) };
    assert_eq!(client.set_weight(account, &request(3)).await.unwrap().weight, 3);
    let page = client.accounts(&PageQuery::default()).await.unwrap();
    assert_eq!(page.accounts.iter().map(|account| account.weight).collect::<Vec<_>>(), [3, 1]);
    assert!(is_refused(&client.set_weight(999, &request(3)).await, 404));
    for wrong in [request(0), request(101), WeightRequest { reason: String::new(), ..request(1) }] {
        assert!(is_refused(&client.set_weight(account, &wrong).await, 400), "{wrong:?}");
    }
}

#[tokio::test]
async fn quotas_are_listed_and_shown_with_their_history_and_shares_are_set() {
    let database = testkit::database().await;
    let store = database.store().await;
    let client = ManagerClient::new(&manager(&store).await).unwrap();
    let mut connections = Vec::new();
    for used in 0..3 {
        let settings = serde_json::json!({});
        let id = store.create_connection(AccountId::SYSTEM, "salesforce", &settings, None).await.unwrap();
        for minute in 0..4 {
            let reported_at = store.now() + TimeDelta::minutes(minute);
            let budget = VendorBudget { used, maximum: 15_000, reported_at, resets_at: None };
            store.report_usage(&[UsageReport { connection: id, budget }]).await.unwrap();
        }
        connections.push(id.0);
    }
    let page = client.budgets(&BudgetQuery { after: None, limit: Some(2) }).await.unwrap();
    assert_eq!(page.budgets.iter().map(|budget| budget.connection_id).collect::<Vec<_>>(), connections[..2]);
    let rest = client.budgets(&BudgetQuery { after: page.next_after, limit: Some(2) }).await.unwrap();
    assert_eq!((rest.budgets.len(), rest.next_after), (1, None));
    let last = &rest.budgets[0];
    assert_eq!((last.used, last.maximum, last.ceiling, last.share_is_own), (2, 15_000, 11_250, false));

    let shown = client.budget(connections[0], &MinuteQuery { before: None, limit: Some(3) }).await.unwrap();
    let more = MinuteQuery { before: shown.next_before, limit: Some(3) };
    let rest = client.budget(connections[0], &more).await.unwrap();
    assert_eq!((shown.minutes.len(), rest.minutes.len(), rest.next_before), (3, 1, None));
    assert!(rest.minutes[0].minute < shown.minutes[2].minute);
    assert!(is_refused(&client.budget(999, &MinuteQuery::default()).await, 404));

    let (by, reason) = (Some("ada".to_owned()), "they asked for it".to_owned());
    let share = ShareRequest { share_pct: 50, health_pct: 10, by, reason };
    client.set_share(connections[0], &share).await.unwrap();
    let own = client.budget(connections[0], &MinuteQuery::default()).await.unwrap().budget;
    assert_eq!((own.ceiling, own.share_is_own, own.share_set_by.as_str()), (6_000, true, "ada"));
    assert!(is_refused(&client.set_share(999, &share).await, 404));
    for wrong in [
        ShareRequest { share_pct: 101, ..share.clone() },
        ShareRequest { health_pct: 50, ..share.clone() },
        ShareRequest { reason: String::new(), ..share.clone() },
    ] {
        assert!(is_refused(&client.set_share(connections[0], &wrong).await, 400), "{wrong:?}");
    }
    client.remove_share(connections[0], &ByWhom::default()).await.unwrap();
    assert!(is_refused(&client.remove_share(connections[0], &ByWhom::default()).await, 404));
    assert!(store.find_budget(ConnectionId(connections[0])).await.unwrap().is_some());
}

/// What this version does not know is on every list and page as it is, and hides nothing else.
#[tokio::test]
async fn what_only_a_newer_version_limits_or_pauses_is_shown() {
    let database = testkit::database().await;
    let store = database.store().await;
    let url = manager(&store).await;
    let client = ManagerClient::new(&url).unwrap();
    client.set_limit(&Scope::new("vendor", "slack").unwrap(), &request(5)).await.unwrap();
    let sql = sqlx::PgPool::connect(database.url()).await.unwrap();
    let newer = "ALTER TABLE limits DROP CONSTRAINT limits_scope_check;
        ALTER TABLE pauses DROP CONSTRAINT pauses_scope_check;
        INSERT INTO limits (scope, key, source, concurrency, set_by, reason, set_at)
            VALUES ('region', 'eu/west', 'declared', 1, 'main', '', now());
        INSERT INTO pauses (scope, key, paused_by, reason, paused_at) VALUES ('region', 'eu/west', 'ada', 'a storm', now())";
    sqlx::raw_sql(newer).execute(&sql).await.unwrap();
    client.set_limit(&Scope::new("each_account", "").unwrap(), &request(5)).await.unwrap();

    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = client.limits(&LimitQuery { after, limit: Some(1) }).await.unwrap();
        listed.extend(page.limits.into_iter().map(|limit| format!("{} {}", limit.scope, limit.key)));
        after = page.next_after;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, ["each_account ", "region eu/west", "vendor slack"]);
    let paused = client.pauses(&PauseQuery::default()).await.unwrap().pauses;
    assert_eq!((paused[0].scope.as_str(), paused[0].key.as_str()), ("region", "eu/west"));
    for page in ["/", "/limits"] {
        let answer = reqwest::get(format!("{url}{page}")).await.unwrap();
        assert_eq!(answer.status(), 200, "{page}");
        let text = answer.text().await.unwrap();
        assert!(text.contains("region eu/west"), "{page} does not show it: {text}");
    }
}
