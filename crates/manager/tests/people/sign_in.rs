//! People with passwords: the first of them, sessions, and how sessions end.

use crate::world::{PASSWORD, World, location};
use domain::Role;
use reqwest::{Method, StatusCode};
use store::UserChange;

#[tokio::test]
async fn whoever_is_not_known_is_led_to_sign_in_or_told() {
    let world = World::new().await;
    let mut browser = world.browser();
    assert_eq!(location(&browser.get("/jobs?q=state%3Afailed").await), "/login?to=%2Fjobs%3Fq%3Dstate%253Afailed");
    assert_eq!(location(&browser.get("/").await), "/login");
    assert_eq!(location(&browser.submit("/pauses", &[("scope", "everything")]).await), "/login");
    for path in ["/api/v1/jobs", "/api/v1/me", "/api/openapi.json", "/metrics", "/nowhere", "/api/v1/heartbeats"] {
        let answer = world.call(Method::GET, path, None).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        let envelope: manager_api::ErrorEnvelope = answer.json().await.unwrap();
        assert_eq!(envelope.error.code, "not_signed_in");
    }
    for path in ["/livez", "/readyz", "/assets/servant.css", "/assets/servant.js", "/login"] {
        assert_eq!(world.call(Method::GET, path, None).send().await.unwrap().status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_first_admin_chooses_a_name_and_a_password_once() {
    let world = World::new().await;
    assert!(!world.store.has_admin().await.unwrap(), "there is nobody who was not made");
    let code = world.code(None, Role::Admin).await;
    let mut browser = world.browser();
    for _ in 0..2 {
        let page = browser.get(&format!("/login/code?code={code}")).await.text().await.unwrap();
        assert!(page.contains("Your name") && page.contains("12 characters"), "{page}");
    }
    let short = [("code", code.as_str()), ("name", "Ada"), ("password", "too short")];
    assert_eq!(browser.submit("/login/code", &short).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(browser.session(), None);
    let good = [("code", code.as_str()), ("name", "Ada"), ("password", PASSWORD)];
    assert_eq!(location(&browser.submit("/login/code", &good).await), "/");
    assert!(browser.is_in().await && world.store.has_admin().await.unwrap());
    let page = browser.get("/").await.text().await.unwrap();
    assert!(page.contains("Ada, admin") && page.contains("Sign out"), "{page}");
    assert_eq!(browser.get("/admin").await.status(), StatusCode::OK);

    let mut other = world.browser();
    assert_eq!(other.submit("/login/code", &good).await.status(), StatusCode::BAD_REQUEST, "a code is good once");
    let late = world.code(None, Role::Admin).await;
    world.advance(61);
    assert_eq!(other.get(&format!("/login/code?code={late}")).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_password_signs_in_anew_and_a_wrong_one_does_not() {
    let world = World::new().await;
    let (_, mut browser) = world.person("Ada", Role::Viewer).await;
    let first = browser.session().unwrap();
    // 256 bits behind the mark.
    assert_eq!(first.len(), 4 + 43);
    assert_eq!(location(&browser.sign_in(" ada ", PASSWORD).await), "/jobs");
    let second = browser.session().unwrap();
    assert_ne!(first, second, "each sign-in has its own");
    let mut old = world.browser();
    old.cookies.push(("__Host-servant".to_owned(), first));
    assert!(!old.is_in().await, "the one before is over");
    for (name, password) in [("ada", "incorrect horse battery"), ("nobody", PASSWORD), ("", ""), ("ada", "")] {
        let answer = old.sign_in(name, password).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let page = answer.text().await.unwrap();
        assert!(page.contains("do not go together") && page.contains(r#"value="/jobs""#), "{page}");
    }
    let foreign = [("name", "ada"), ("password", PASSWORD), ("to", "//evil.test/")];
    assert_eq!(location(&old.submit("/login", &foreign).await), "/");
    for guess in ["svs_", "svs_guess", "", "x"] {
        old.cookies = vec![("__Host-servant".to_owned(), guess.to_owned())];
        assert!(!old.is_in().await, "{guess}");
    }
}

#[tokio::test]
async fn a_session_ends_when_nobody_acts_and_after_its_time() {
    let world = World::new().await;
    let (_, mut browser) = world.person("Ada", Role::Viewer).await;
    world.advance(29);
    assert!(browser.is_in().await);
    world.advance(29);
    assert!(browser.is_in().await, "an act keeps it");
    for _ in 0..2 {
        // What an open page asks for by itself keeps nothing.
        world.advance(14);
        let request = browser.request(Method::GET, "/").header("sec-fetch-dest", "empty");
        assert_eq!(browser.send(request).await.status(), StatusCode::OK);
    }
    world.advance(3);
    assert!(!browser.is_in().await, "31 minutes without an act");

    browser.sign_in("ada", PASSWORD).await;
    for _ in 0..35 {
        world.advance(20);
        assert!(browser.is_in().await);
    }
    world.advance(20);
    assert!(!browser.is_in().await, "12 hours are all there is");
}

#[tokio::test]
async fn a_session_ends_at_once_with_the_person_the_role_and_the_order() {
    let world = World::new().await;
    let admin = testkit::granted();
    let (id, mut browser) = world.person("Ada", Role::Operator).await;
    for change in [UserChange::Disable, UserChange::Role(Role::Viewer), UserChange::SignOut] {
        assert!(browser.is_in().await);
        assert!(world.store.change_user(id, change, &admin).await.unwrap());
        assert!(!browser.is_in().await, "{change:?}");
        if change == UserChange::Disable {
            assert_eq!(browser.sign_in("ada", PASSWORD).await.status(), StatusCode::UNAUTHORIZED);
            assert!(world.store.change_user(id, UserChange::Enable, &admin).await.unwrap());
            assert!(!browser.is_in().await, "what has ended stays so");
        }
        assert_eq!(browser.sign_in("ada", PASSWORD).await.status(), StatusCode::SEE_OTHER);
    }
    let kept = browser.cookies.clone();
    assert_eq!(location(&browser.submit("/logout", &[]).await), "/login");
    assert_eq!(browser.session(), None);
    browser.cookies = kept;
    assert!(!browser.is_in().await, "a cookie that somebody kept is worth nothing");
    for (action, told) in [("sign_in", "sign in"), ("sign_out", "sign out")] {
        let filter = store::AuditFilter { action: Some(action.to_owned()), ..store::AuditFilter::default() };
        let row = world.store.list_audit(&filter, 1).await.unwrap().remove(0);
        assert_eq!((row.actor.as_str(), row.subject.as_str(), row.key), ("Ada", "user", id.to_string()));
        assert!(row.ip.is_some() && row.after.unwrap()["what"] == told, "{action}");
    }

    // A new password ends the sessions of the old one.
    browser.sign_in("ada", PASSWORD).await;
    let code = world.code(Some(id), Role::Viewer).await;
    let mut other = world.browser();
    other.submit("/login/code", &[("code", &code), ("password", "another horse battery")]).await;
    assert!(other.is_in().await && !browser.is_in().await);
    assert_eq!(browser.sign_in("ada", PASSWORD).await.status(), StatusCode::UNAUTHORIZED);
}
