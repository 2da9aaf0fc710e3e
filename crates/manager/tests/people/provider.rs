//! People for whom a provider vouches: the whole way of a browser, there and back.

use crate::world::{Browser, World, config, location};
use chrono::Utc;
use domain::{Clock, ManualClock, Role};
use fakes::identity::{FakeIdentity, Fault, Options, Person};
use manager::{AccessConfig, OidcConfig};
use reqwest::{Response, StatusCode};
use std::collections::BTreeMap;
use store::UserChange;

async fn fake(clock: &ManualClock) -> FakeIdentity {
    let (client_secret, clock) = (Some("client-secret".to_owned()), Clock::Manual(clock.clone()));
    FakeIdentity::start(Options { client_id: "servant".to_owned(), client_secret, elliptic: false, clock })
        .await
        .unwrap()
}

async fn world(clock: &ManualClock, fake: &FakeIdentity, default_role: &str, amr: &[&str]) -> World {
    let roles = BTreeMap::from([("ops".to_owned(), "operator".to_owned()), ("root".to_owned(), "admin".to_owned())]);
    let shipped = config();
    let oidc = OidcConfig {
        issuer: fake.issuer().to_owned(),
        client_id: "servant".to_owned(),
        secret_ref: "id".to_owned(),
        roles,
        default_role: default_role.to_owned(),
        amr: amr.iter().map(|means| (*means).to_owned()).collect(),
        ..shipped.oidc.clone()
    };
    World::at(clock.clone(), AccessConfig { oidc, ..shipped }).await
}

/// To the provider and to the address that it leads back to.
async fn consent(browser: &mut Browser, to: &str) -> String {
    let begun = browser.get(&format!("/login/oidc?to={to}")).await;
    assert_eq!(begun.status(), StatusCode::SEE_OTHER);
    let there = location(&begun);
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let back = location(&http.get(&there).send().await.unwrap());
    format!("/login/oidc/callback{}", &back[back.find('?').unwrap()..])
}

async fn sign_in(browser: &mut Browser) -> Response {
    let back = consent(browser, "/accounts").await;
    browser.get(&back).await
}

#[tokio::test]
async fn a_person_comes_back_with_the_role_of_the_greatest_group() {
    let clock = ManualClock::at(Utc::now());
    let fake = fake(&clock).await;
    let world = world(&clock, &fake, "", &[]).await;
    let mut browser = world.browser();
    let page = browser.get("/login?to=/accounts").await.text().await.unwrap();
    assert!(page.contains("/login/oidc?to=%2Faccounts"), "{page}");
    fake.set_person(Person::new("ada", &["staff", "ops"]));
    assert_eq!(location(&sign_in(&mut browser).await), "/accounts");
    assert!(browser.is_in().await);
    assert_eq!(browser.cookies.len(), 1, "what was kept on the way is gone");
    let users = world.store.list_users(None, 10).await.unwrap();
    assert_eq!((users[0].name.as_str(), users[0].role.as_str()), ("Person ada", "operator"));
    assert_eq!((users[0].email.as_str(), users[0].issuer.as_deref()), ("ada@id.test", Some(fake.issuer())));

    // The same person by the id, whatever the name is; another role ends the sessions of the old one.
    fake.set_person(Person { name: "Countess".to_owned(), ..Person::new("ada", &["root", "ops"]) });
    let mut second = world.browser();
    sign_in(&mut second).await;
    assert!(second.is_in().await && !browser.is_in().await);
    let users = world.store.list_users(None, 10).await.unwrap();
    assert_eq!((users.len(), users[0].name.as_str(), users[0].role.as_str()), (1, "Countess", "admin"));

    world.store.change_user(users[0].id, UserChange::Disable, &testkit::granted()).await.unwrap();
    assert!(!second.is_in().await);
    assert_eq!(sign_in(&mut second).await.status(), StatusCode::FORBIDDEN);
    assert!(!second.is_in().await, "whoever is out stays out, whoever vouches");
}

#[tokio::test]
async fn whoever_is_in_no_group_is_refused_or_is_what_everybody_is() {
    let clock = ManualClock::at(Utc::now());
    let fake = fake(&clock).await;
    fake.set_person(Person::new("eve", &["staff"]));
    let strict = world(&clock, &fake, "", &[]).await;
    let mut browser = strict.browser();
    assert_eq!(sign_in(&mut browser).await.status(), StatusCode::FORBIDDEN);
    assert!(strict.store.list_users(None, 10).await.unwrap().is_empty() && browser.session().is_none());
    let open = world(&clock, &fake, "viewer", &[]).await;
    sign_in(&mut open.browser()).await;
    assert_eq!(open.store.list_users(None, 10).await.unwrap()[0].role, Role::Viewer.as_str());
}

#[tokio::test]
async fn a_way_back_is_good_once_in_time_and_in_its_own_browser() {
    let clock = ManualClock::at(Utc::now());
    let fake = fake(&clock).await;
    let world = world(&clock, &fake, "viewer", &[]).await;
    let (mut browser, mut other) = (world.browser(), world.browser());
    let back = consent(&mut browser, "/").await;
    assert_eq!(other.get(&back).await.status(), StatusCode::BAD_REQUEST, "a planted address");
    consent(&mut other, "/").await;
    assert_eq!(other.get(&back).await.status(), StatusCode::BAD_REQUEST, "another's state");
    let kept = browser.cookies.clone();
    assert_eq!(browser.get(&back).await.status(), StatusCode::SEE_OTHER);
    browser.cookies = kept;
    assert_eq!(browser.get(&back).await.status(), StatusCode::BAD_REQUEST, "the same again");
    let back = consent(&mut browser, "/").await;
    assert_eq!(browser.get(&format!("{back}x").replace("iss=", "iss=x")).await.status(), StatusCode::BAD_REQUEST);
    let back = consent(&mut browser, "/").await;
    world.advance(10);
    assert_eq!(browser.get(&back).await.status(), StatusCode::BAD_REQUEST, "too late");
    let back = consent(&mut browser, "//evil.test/").await;
    assert_eq!(location(&browser.get(&back).await), "/");
}

#[tokio::test]
async fn a_provider_that_says_what_is_not_good_signs_nobody_in() {
    let clock = ManualClock::at(Utc::now());
    let fake = fake(&clock).await;
    let world = world(&clock, &fake, "viewer", &["otp"]).await;
    let mut browser = world.browser();
    fake.set_person(Person { amr: vec!["otp".to_owned()], ..Person::new("ada", &[]) });
    for (fault, status) in [
        (Fault::WrongNonce, 403),
        (Fault::WrongAudience, 403),
        (Fault::WrongIssuer, 403),
        (Fault::Expired, 403),
        (Fault::AlgorithmNone, 403),
        (Fault::SignedWithPublicKey, 403),
        (Fault::UnknownKey, 403),
        (Fault::Altered, 403),
        (Fault::ServerError, 502),
    ] {
        fake.set_fault(Fault::None);
        let back = consent(&mut browser, "/").await;
        fake.set_fault(fault);
        assert_eq!(browser.get(&back).await.status(), status, "{fault:?}");
        assert!(browser.session().is_none(), "{fault:?}");
    }
    fake.set_fault(Fault::None);
    fake.rotate_keys().unwrap();
    sign_in(&mut browser).await;
    assert!(browser.is_in().await, "new keys are no obstacle");
    fake.set_person(Person::new("ada", &[]));
    assert_eq!(sign_in(&mut world.browser()).await.status(), StatusCode::FORBIDDEN, "a second factor is asked for");
}
