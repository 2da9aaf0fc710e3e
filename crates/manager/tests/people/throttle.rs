//! How much anybody may ask, by a clock that is moved by hand.

use crate::world::{PASSWORD, World, config};
use domain::Role;
use manager::{LimitConfig, LimitsConfig, ProxiesConfig, ProxyHeader};
use reqwest::{Method, Response, StatusCode};

const FEW: LimitConfig = LimitConfig { per_minute: 2, burst: 2 };

fn assert_throttled(answer: &Response, secs: &str) {
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["retry-after"], secs);
}

async fn world(limits: LimitsConfig) -> World {
    World::with(manager::AccessConfig { limits, ..config() }).await
}

#[tokio::test]
async fn sign_ins_from_one_address_are_counted_whatever_it_says_of_itself() {
    let world = world(LimitsConfig { sign_in: FEW, ..LimitsConfig::generous() }).await;
    let mut browser = world.browser();
    for name in ["ada", "grace"] {
        assert_eq!(browser.sign_in(name, PASSWORD).await.status(), StatusCode::UNAUTHORIZED);
    }
    for path in ["/login", "/login/code", "/login/oidc/callback"] {
        let method = if path.ends_with("callback") { Method::GET } else { Method::POST };
        let request = browser.request(method, path).header("x-forwarded-for", "203.0.113.9");
        let answer = request.header("forwarded", "for=203.0.113.9").form(&[("code", "x")]).send().await.unwrap();
        assert_throttled(&answer, "30");
    }
    assert_eq!(browser.get("/login").await.status(), StatusCode::OK, "to look costs nothing");
    world.advance(1);
    assert_eq!(browser.sign_in("ada", PASSWORD).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn behind_our_own_proxy_each_address_is_counted_for_itself() {
    let limits = LimitsConfig { sign_in: FEW, ..LimitsConfig::generous() };
    let proxies = ProxiesConfig { trusted: vec!["127.0.0.0/8".to_owned()], header: ProxyHeader::XForwardedFor };
    let world = World::with(manager::AccessConfig { limits, proxies, ..config() }).await;
    let browser = world.browser();
    let sign_in = async |said: &str| {
        let form = [("name", "ada"), ("password", PASSWORD), ("to", "/")];
        let request = browser.request(Method::POST, "/login").header("x-forwarded-for", said);
        request.header("forwarded", "for=192.0.2.1").form(&form).send().await.unwrap()
    };
    for forged in ["203.0.113.9", "198.51.100.1, 203.0.113.9"] {
        assert_eq!(sign_in(forged).await.status(), StatusCode::UNAUTHORIZED);
    }
    for forged in ["198.51.100.2, 203.0.113.9", "127.0.0.1, 203.0.113.9", "203.0.113.9, 127.0.0.1"] {
        assert_throttled(&sign_in(forged).await, "30");
    }
    assert_eq!(sign_in("203.0.113.10").await.status(), StatusCode::UNAUTHORIZED, "another's is another's");
}

#[tokio::test]
async fn failed_sign_ins_by_one_name_have_to_wait_even_with_the_right_password() {
    let world = world(LimitsConfig { failed_sign_in: FEW, ..LimitsConfig::generous() }).await;
    let (_, mut browser) = world.person("Ada", Role::Viewer).await;
    for name in ["Ada", "nobody"] {
        for _ in 0..2 {
            assert_eq!(browser.sign_in(name, "a wrong password").await.status(), StatusCode::UNAUTHORIZED);
        }
        // The same for whoever exists and whoever does not.
        assert_throttled(&browser.sign_in(name, PASSWORD).await, "30");
    }
    world.advance(1);
    assert_eq!(browser.sign_in("ada", PASSWORD).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(browser.sign_in("ada", PASSWORD).await.status(), StatusCode::SEE_OTHER, "only failures count");
}

#[tokio::test]
async fn searches_bulk_and_exports_are_counted_for_each_person_and_program() {
    let world = world(LimitsConfig { search: FEW, bulk: FEW, export: FEW, ..LimitsConfig::generous() }).await;
    let (one, other) = (world.token(Role::Admin).await, world.token(Role::Admin).await);
    let calls =
        [(Method::GET, "/api/v1/jobs"), (Method::POST, "/api/v1/operations"), (Method::GET, "/api/v1/audit/export")];
    for (method, path) in calls {
        for _ in 0..2 {
            let answer = world.call(method.clone(), path, Some(&one)).send().await.unwrap();
            assert_ne!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
        }
        assert_throttled(&world.call(method.clone(), path, Some(&one)).send().await.unwrap(), "30");
        let answer = world.call(method, path, Some(&other)).send().await.unwrap();
        assert_ne!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{path}: another's is another's");
    }
    assert_eq!(world.call(Method::GET, "/api/v1/stats", Some(&one)).send().await.unwrap().status(), StatusCode::OK);
}
