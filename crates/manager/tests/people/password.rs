//! One's own password, changed by oneself.

use crate::world::{PASSWORD, World, config, location};
use domain::Role;
use manager_api::{ChangePassword, ClientError, ManagerClient};
use reqwest::{Method, StatusCode};
use store::{AuditFilter, AuditRow, NewSession, Vouched};
use vault::{ExposeSecret as _, SecretString, TokenFor, digest, new_token};

const PAGE: &str = "/me/password";
const NEW: &str = "another horse battery";

fn change(old: &str, new: &str) -> ChangePassword {
    ChangePassword { old_password: old.to_owned(), new_password: new.to_owned() }
}

fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, String) {
    match result.unwrap_err() {
        ClientError::Refused { status, body } => (status, body.message),
        other => panic!("{other:?}"),
    }
}

async fn noted(world: &World) -> Vec<AuditRow> {
    let filter = AuditFilter { action: Some("change_password".to_owned()), ..AuditFilter::default() };
    world.store.list_audit(&filter, 10).await.unwrap()
}

#[tokio::test]
async fn whoever_knows_the_old_password_sets_another_and_is_signed_out_elsewhere() {
    let world = World::new().await;
    let (id, mut here) = world.person("Ada", Role::Viewer).await;
    let mut elsewhere = world.browser();
    elsewhere.sign_in("ada", PASSWORD).await;
    let code = world.code(Some(id), Role::Viewer).await;
    let page = here.get(PAGE).await.text().await.unwrap();
    assert!(page.contains(r#"name="old_password""#) && page.contains("12 characters"), "{page}");

    for (old, new, words) in
        [("incorrect horse battery", NEW, "the old password is not right"), (PASSWORD, "short", "characters")]
    {
        let answer = here.submit(PAGE, &[("old_password", old), ("new_password", new)]).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let page = answer.text().await.unwrap();
        assert!(page.contains(words), "{page}");
    }
    assert!(elsewhere.is_in().await, "nothing was changed");
    assert!(noted(&world).await.iter().all(|row| row.outcome == "failed" && row.actor == "Ada"));

    let changed = here.submit(PAGE, &[("old_password", PASSWORD), ("new_password", NEW)]).await;
    assert_eq!(location(&changed), "/me/password?ended=1");
    let page = here.get("/me/password?ended=1").await.text().await.unwrap();
    assert!(page.contains("It is changed. Other sessions that ended: 1."), "{page}");
    assert!(here.is_in().await && !elsewhere.is_in().await);
    assert_eq!(elsewhere.sign_in("ada", PASSWORD).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(location(&elsewhere.sign_in("ada", NEW).await), "/jobs");
    assert_eq!(elsewhere.get(&format!("/login/code?code={code}")).await.status(), StatusCode::BAD_REQUEST);

    let rows = noted(&world).await;
    let row = &rows[0];
    assert_eq!((row.outcome.as_str(), row.actor.as_str(), row.role.as_str()), ("done", "Ada", "viewer"));
    assert_eq!((row.subject.as_str(), row.key.as_str()), ("user", id.to_string().as_str()));
    assert_eq!(row.before, Some(serde_json::json!({"other_sessions": 1})));
    assert!(row.ip.is_some() && row.request_id.is_some());
    assert!(!format!("{rows:?}").contains("horse"), "no password is kept anywhere");
}

#[tokio::test]
async fn a_program_changes_it_as_the_person_who_says_the_password() {
    let world = World::new().await;
    let (_, mut browser) = world.person("Ada", Role::Support).await;
    let nobody = ManagerClient::new(&world.url).unwrap();
    let secret = |text: &str| SecretString::from(text);
    let (status, words) = refused(nobody.sign_in("ada", &secret(NEW)).await);
    assert_eq!((status, words.as_str()), (401, "that name and that password do not go together"));
    let ada = nobody.sign_in("ada", &secret(PASSWORD)).await.unwrap();
    assert_eq!(ada.me().await.unwrap().name, "Ada");
    assert_eq!(refused(ada.change_password(&change(NEW, NEW)).await).0, 400);
    assert_eq!(ada.change_password(&change(PASSWORD, NEW)).await.unwrap().sessions_ended, 1);
    assert!(!browser.is_in().await);
    ada.sign_out().await.unwrap();
    assert_eq!(refused(ada.me().await).0, 401);
    assert!(!format!("{:?}", change(PASSWORD, NEW)).contains("horse"));
}

#[tokio::test]
async fn whoever_has_no_password_here_is_told_where_it_is() {
    let world = World::new().await;
    let token = world.token(Role::Admin).await;
    let program = ManagerClient::with_token(&world.url, &token).unwrap();
    let (status, words) = refused(program.change_password(&change(PASSWORD, NEW)).await);
    assert!(status == 409 && words.starts_with("a program has a token and no password"), "{status} {words}");

    let person =
        Vouched { issuer: "https://id.test", subject: "7", name: "Grace", email: "", role: Some(Role::Operator) };
    let user = world.store.admit_vouched(person).await.unwrap().unwrap();
    let session = new_token(TokenFor::Session);
    let ends_at = world.now() + chrono::TimeDelta::hours(1);
    let new = NewSession { digest: &digest(&session), user, ends_at, origin: &domain::Origin::default() };
    assert!(world.store.begin_session(new).await.unwrap());
    let mut browser = world.browser();
    browser.cookies.push(("__Host-servant".to_owned(), session.expose_secret().to_owned()));
    let page = browser.get(PAGE).await.text().await.unwrap();
    let sentence = "Grace signs in by https://id.test, and changes the password there";
    assert!(page.contains(sentence) && !page.contains("old_password"), "{page}");
    let answer = browser.submit(PAGE, &[("old_password", PASSWORD), ("new_password", NEW)]).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert!(answer.text().await.unwrap().contains(sentence));
}

#[tokio::test]
async fn guesses_at_the_old_password_have_to_wait_as_at_the_door() {
    let mut config = config();
    config.limits.failed_sign_in.burst = 3;
    config.limits.sign_in.burst = 8;
    let world = World::with(config).await;
    let (_, mut browser) = world.person("Ada", Role::Viewer).await;
    let mut statuses = Vec::new();
    for old in ["wrong", "wrong", "wrong", PASSWORD] {
        let answer = browser.submit(PAGE, &[("old_password", old), ("new_password", NEW)]).await;
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [400, 400, 400, 429], "even the right one");
    assert_eq!(browser.sign_in("ada", PASSWORD).await.status(), StatusCode::TOO_MANY_REQUESTS, "and at the door");
    world.advance(5);
    let answer = browser.submit(PAGE, &[("old_password", PASSWORD), ("new_password", NEW)]).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    // Each attempt counts for the address as well, by whichever way.
    let mut last = StatusCode::OK;
    for _ in 0..9 {
        last =
            browser.request(Method::POST, "/api/v1/me/password").json(&change(NEW, NEW)).send().await.unwrap().status();
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
}
