//! What holds for every address: headers, no writes from other sites, no writes by looking.

use crate::world::World;
use domain::{Kind, Role};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use std::collections::{BTreeMap, BTreeSet};
use store::{NewJob, NewServant};
use vault::SecretString;

/// Every address and method: the API's by its description, the pages' by the table of parity.
async fn routes(world: &World, token: &SecretString) -> BTreeSet<(String, String)> {
    let request = world.call(Method::GET, "/api/openapi.json", Some(token));
    let description: Value = request.send().await.unwrap().json().await.unwrap();
    let mut routes = BTreeSet::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            routes.insert((method.to_uppercase(), path.clone()));
        }
    }
    let table = include_str!("../../../manager-api/parity.txt").lines().filter(|line| !line.starts_with('#'));
    for line in table {
        let (method, path) = line.split(" | ").nth(1).unwrap().split_once(' ').unwrap();
        routes.insert((method.to_owned(), path.to_owned()));
    }
    let others = [
        "GET /login",
        "POST /login",
        "GET /login/code",
        "POST /login/code",
        "GET /login/oidc",
        "GET /login/oidc/callback",
        "POST /logout",
        "GET /me/password",
        "GET /keys",
        "GET /metrics",
        "GET /livez",
        "GET /readyz",
        "GET /assets/servant.css",
        "GET /api/openapi.json",
        "GET /connect/salesforce",
        "GET /nowhere",
    ];
    routes.extend(others.map(|line| line.split_once(' ').unwrap()).map(|(m, p)| (m.to_owned(), p.to_owned())));
    assert!(routes.len() > 120, "{}", routes.len());
    let numbered = |path: String| {
        let parts: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { "7" } else { part }).collect();
        parts.join("/")
    };
    routes.into_iter().map(|(method, path)| (method, numbered(path))).collect()
}

fn assert_headers(answer: &Response, what: &str) {
    let text = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default();
    for part in [
        "default-src 'none'",
        "object-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types own-page",
    ] {
        assert!(text("content-security-policy").contains(part), "{what}: {part}");
    }
    assert!(!text("content-security-policy").contains("unsafe"), "{what}");
    assert_eq!(text("strict-transport-security"), "max-age=63072000; includeSubDomains", "{what}");
    assert_eq!(text("x-content-type-options"), "nosniff", "{what}");
    assert_eq!(text("referrer-policy"), "same-origin", "{what}");
    assert_eq!(text("cross-origin-opener-policy"), "same-origin", "{what}");
    assert_eq!(text("cross-origin-resource-policy"), "same-origin", "{what}");
    let cache = if what.contains("/assets/") { "max-age=60" } else { "no-store" };
    assert_eq!(text("cache-control"), cache, "{what}");
    for name in ["access-control-allow-origin", "access-control-allow-credentials", "server", "x-powered-by"] {
        assert_eq!(text(name), "", "{what}: {name}");
    }
}

#[tokio::test]
async fn every_answer_carries_the_headers_with_and_without_a_name() {
    let world = World::new().await;
    let token = world.token(Role::Admin).await;
    for (method, path) in routes(&world, &token).await {
        for token in [None, Some(&token)] {
            let method: Method = method.parse().unwrap();
            let request = world.call(method.clone(), &path, token).header("origin", "https://evil.test");
            // Not same-origin, so that nothing is changed; refused or not, the headers are there.
            assert_headers(&request.send().await.unwrap(), &format!("{method} {path}"));
        }
    }
    for path in ["/", "/api/v1/jobs", "/livez", "/nowhere"] {
        let answer = world.call(Method::TRACE, path, Some(&token)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_headers(&answer, path);
        let preflight = world
            .call(Method::OPTIONS, path, None)
            .header("origin", "https://evil.test")
            .header("access-control-request-method", "POST");
        assert!(!preflight.send().await.unwrap().headers().contains_key("access-control-allow-origin"), "{path}");
    }
    for path in ["/.git/config", "/.env", "/assets/", "/assets/../Cargo.toml", "/debug", "/config/manager.toml"] {
        let answer = world.call(Method::GET, path, Some(&token)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

/// Everything in the database but when something was last used.
async fn contents(sql: &PgPool) -> BTreeMap<String, Value> {
    let tables: Vec<String> = sqlx::query_scalar("SELECT relid::regclass::text FROM pg_stat_user_tables ORDER BY 1")
        .fetch_all(sql)
        .await
        .unwrap();
    let mut contents = BTreeMap::new();
    for table in tables {
        let rows = format!(
            "SELECT coalesce(jsonb_agg(to_jsonb(t) - 'used_at' - 'seen_at' ORDER BY to_jsonb(t)::text), '[]') FROM {table} AS t"
        );
        let rows: Value = sqlx::query_scalar(AssertSqlSafe(rows)).fetch_one(sql).await.unwrap();
        contents.insert(table, rows);
    }
    contents
}

/// A job, a servant and an account with a connection, so that pages have something to lead to.
async fn furnish(world: &World) {
    let store = &world.store;
    let account = store.create_account("Acme").await.unwrap();
    store.create_connection(account, "salesforce", &json!({}), None).await.unwrap();
    let kind = Kind::new("noop").unwrap();
    store.insert_jobs(&[NewJob::new(kind.clone(), json!({}))]).await.unwrap();
    let new = NewServant { kind, host: "h".into(), pid: 1, version: "0".into(), concurrency: 1 };
    store.register_servant(&new).await.unwrap();
}

#[tokio::test]
async fn nothing_is_written_from_another_site() {
    let world = World::new().await;
    furnish(&world).await;
    let (_, mut browser) = world.person("Ada", Role::Admin).await;
    let token = world.token(Role::Admin).await;
    let sql = PgPool::connect(world.database.url()).await.unwrap();
    let before = contents(&sql).await;
    let mut tried = 0;
    for (method, path) in routes(&world, &token).await {
        if method == "GET" {
            continue;
        }
        for path in [path.clone(), path.replace('7', "1")] {
            for (name, value) in
                [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "https://evil.test")]
            {
                let request = browser.request(method.parse().unwrap(), &path).header(name, value);
                let answer = browser.send(request.form(&[("role", "viewer")])).await;
                assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{method} {path} {value}");
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
    assert_eq!(contents(&sql).await, before);
    assert!(browser.is_in().await, "nor is anybody signed out");
}

/// Addresses of our own that a page leads to.
fn links(page: &str) -> Vec<String> {
    let hrefs = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    hrefs.filter(|href| href.starts_with('/')).map(|href| href.replace("&#38;", "&").replace("&amp;", "&")).collect()
}

#[tokio::test]
async fn nothing_is_written_by_looking() {
    let world = World::new().await;
    furnish(&world).await;
    let (_, mut browser) = world.person("Ada", Role::Admin).await;
    let token = world.token(Role::Admin).await;
    let code = world.code(None, Role::Viewer).await;
    let sql = PgPool::connect(world.database.url()).await.unwrap();
    let before = contents(&sql).await;
    let mut todo: Vec<String> = vec!["/".to_owned(), format!("/login/code?code={code}")];
    let gets = routes(&world, &token).await.into_iter().filter(|(method, _)| method == "GET").map(|(_, path)| path);
    for path in gets {
        todo.push(path.replace('7', "1"));
        todo.push(path);
    }
    let mut seen = BTreeSet::new();
    while let Some(path) = todo.pop() {
        if seen.len() > 400 || !seen.insert(path.clone()) {
            continue;
        }
        let answer = browser.get(&path).await;
        assert!(!answer.status().is_server_error(), "{path}: {}", answer.status());
        let is_page = answer.headers().get("content-type").is_some_and(|kind| kind == "text/html; charset=utf-8");
        let text = answer.text().await.unwrap();
        if is_page {
            todo.extend(links(&text));
        }
    }
    assert!(seen.len() > 80, "{}", seen.len());
    let after = contents(&sql).await;
    for (table, rows) in &before {
        assert_eq!(&after[table], rows, "{table} was changed by looking");
    }
}
