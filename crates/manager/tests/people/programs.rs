//! Programs with tokens, and who may say who else may.

use crate::world::{PASSWORD, World, location};
use chrono::TimeDelta;
use domain::{Kind, Role};
use manager_api::{ClientError, CreateToken, CreateUser, ManagerClient, PageQuery, RoleRequest, UserAct, UserQuery};
use reqwest::{Method, StatusCode};
use store::{Inserted, NewJob};
use vault::SecretString;

fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> u16 {
    match result.unwrap_err() {
        ClientError::Refused { status, .. } => status,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_token_is_good_until_it_is_revoked_or_too_old() {
    let world = World::new().await;
    let admin = ManagerClient::with_token(&world.url, &world.token(Role::Admin).await).unwrap();
    let request = CreateToken { name: "grafana".to_owned(), role: "viewer".to_owned(), days: 2 };
    let made = admin.create_token(&request).await.unwrap();
    let grafana = SecretString::from(made.secret.clone());
    let client = ManagerClient::with_token(&world.url, &grafana).unwrap();
    let me = client.me().await.unwrap();
    assert_eq!((me.kind.as_str(), me.name.as_str(), me.role.as_str()), ("token", "grafana", "viewer"));
    for path in ["/metrics", "/api/openapi.json", "/api/v1/stats"] {
        let answer = world.call(Method::GET, path, Some(&grafana)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
    let listed = admin.tokens(&PageQuery::default()).await.unwrap().tokens;
    let row = listed.iter().find(|token| token.id == made.id).unwrap();
    assert!(row.used_at.is_some() && row.created_by == "admin");
    assert!(!format!("{listed:?}{made:?}").contains(&made.secret), "a secret is shown once");

    let (first, later) = (row.used_at, TimeDelta::seconds(59));
    let used = async || admin.tokens(&PageQuery::default()).await.unwrap().tokens[0].used_at;
    world.clock.advance(later);
    client.me().await.unwrap();
    assert_eq!(used().await, first, "noted once a minute");
    world.clock.advance(TimeDelta::seconds(1));
    client.me().await.unwrap();
    assert_ne!(used().await, first);

    admin.revoke_token(made.id).await.unwrap();
    assert_eq!(refused(client.me().await), 401);
    assert_eq!(refused(admin.revoke_token(made.id).await), 404);
    world.advance(25 * 60);
    assert_eq!(refused(admin.me().await), 401, "a day is over");
}

#[tokio::test]
async fn a_page_offers_what_its_reader_may_do() {
    let world = World::new().await;
    let account = world.store.create_account("Acme").await.unwrap();
    let settings = serde_json::json!({});
    world.store.create_connection(account, "salesforce", &settings, None).await.unwrap();
    let job = NewJob { account, ..NewJob::new(Kind::new("noop").unwrap(), serde_json::json!({"to": "ada"})) };
    let [Inserted::New(job)] = world.store.insert_jobs(&[job]).await.unwrap()[..] else { panic!("no job") };
    let job = format!("/jobs/{job}");
    let account = format!("/accounts/{account}");
    for (page, words, first) in [
        (job.as_str(), ">Cancel</button>", Role::Operator),
        ("/jobs", ">New job</a>", Role::Operator),
        ("/limits", ">Set a limit</summary>", Role::Operator),
        ("/schedules", ">New schedule</summary>", Role::Operator),
        ("/groups", ">New group</summary>", Role::Operator),
        (account.as_str(), ">Park</summary>", Role::Operator),
        (account.as_str(), ">Sync now</button>", Role::Support),
    ] {
        for role in [Role::Viewer, Role::Support, Role::Operator, Role::Admin] {
            let request = world.call(Method::GET, page, Some(&world.token(role).await));
            let text = request.header("accept", "text/html").send().await.unwrap().text().await.unwrap();
            assert!(text.contains("<main"), "{text}");
            let may = match role {
                Role::Viewer => false,
                Role::Support => first == Role::Support,
                _ => true,
            };
            assert_eq!(text.contains(words), may, "{page} for {role:?}");
            assert_eq!(text.contains(r#"href="/audit""#), role != Role::Viewer, "{page} for {role:?}");
            assert_eq!(text.contains(r#"href="/admin""#), role == Role::Admin, "{page} for {role:?}");
            if page == job {
                assert_eq!(text.contains("masked for your role"), !may, "{role:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused_and_no_header_makes_one_somebody() {
    let world = World::new().await;
    let (_, browser) = world.person("Ada", Role::Admin).await;
    let session = browser.session().unwrap();
    for value in
        ["", "Bearer", "Bearer ", "Bearer svt_x", "Basic YWRhOmFkYQ==", "Bearer x", &format!("Bearer {session}")]
    {
        let answer = world.call(Method::GET, "/api/v1/me", None).header("authorization", value).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{value}");
    }
    let answer = world
        .call(Method::GET, "/api/v1/me", None)
        .header("x-forwarded-user", "Ada")
        .header("x-forwarded-email", "ada@servant.test")
        .header("remote-user", "Ada")
        .header("x-forwarded-for", "127.0.0.1");
    assert_eq!(answer.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn only_admins_say_who_else_may() {
    let world = World::new().await;
    for role in [Role::Viewer, Role::Support, Role::Operator] {
        let token = world.token(role).await;
        let client = ManagerClient::with_token(&world.url, &token).unwrap();
        assert_eq!(refused(client.users(&UserQuery::default()).await), 403, "{role}");
        let user = CreateUser { name: "Eve".to_owned(), role: "admin".to_owned(), email: String::new() };
        assert_eq!(refused(client.create_user(&user).await), 403, "{role}");
        let request = CreateToken { name: "mine".to_owned(), role: "admin".to_owned(), days: 1 };
        assert_eq!(refused(client.create_token(&request).await), 403, "{role}");
        let answer = world.call(Method::GET, "/admin", Some(&token)).header("accept", "text/html");
        assert_eq!(answer.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{role}");
    }
    assert!(world.store.list_users(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_admin_adds_a_person_who_signs_in_and_is_shut_out() {
    let world = World::new().await;
    let admin = ManagerClient::with_token(&world.url, &world.token(Role::Admin).await).unwrap();
    let user = CreateUser { name: "Grace".to_owned(), role: "viewer".to_owned(), email: "g@servant.test".to_owned() };
    let code = admin.create_user(&user).await.unwrap();
    assert_eq!(refused(admin.create_user(&CreateUser { name: "grace".to_owned(), ..user.clone() }).await), 409);
    assert_eq!(refused(admin.create_user(&CreateUser { name: " ".to_owned(), ..user.clone() }).await), 400);
    assert_eq!(refused(admin.create_user(&CreateUser { role: "root".to_owned(), ..user }).await), 400);
    let mut browser = world.browser();
    let page = browser.get(&code.path).await.text().await.unwrap();
    assert!(page.contains("Welcome, Grace"), "{page}");
    let secret = code.path.split_once("code=").unwrap().1;
    browser.submit("/login/code", &[("code", secret), ("password", PASSWORD)]).await;
    assert!(browser.is_in().await);
    let id = code.user_id;
    let listed = &admin.users(&UserQuery::default()).await.unwrap().users[0];
    assert_eq!((listed.id, listed.sessions, listed.has_password), (id, 1, true));

    let role = RoleRequest { role: "admin".to_owned() };
    assert_eq!(admin.set_role(id, &role).await.unwrap().role, "admin");
    assert!(!browser.is_in().await);
    browser.sign_in("grace", PASSWORD).await;
    for act in ["disable", "role"] {
        let answer = browser.submit(&format!("/admin/users/{id}/{act}"), &[("role", "viewer")]).await;
        assert_eq!(answer.status(), StatusCode::CONFLICT, "nobody does {act} to themselves");
    }
    let made = browser.submit("/admin/users", &[("name", "Edsger"), ("role", "support"), ("email", "")]).await;
    let page = made.text().await.unwrap();
    assert!(page.contains("/login/code?code=svo_"), "{page}");
    assert_eq!(admin.users(&UserQuery::default()).await.unwrap().users[1].created_by, "Grace");
    let answer = browser.submit("/admin/tokens", &[("name", "ci"), ("role", "operator"), ("days", "7")]).await;
    assert!(answer.text().await.unwrap().contains("svt_"));
    assert_eq!(location(&browser.submit("/admin/tokens/2/revoke", &[]).await), "/admin");
    assert!(admin.change_user(id, UserAct::Disable).await.unwrap().disabled_at.is_some());
    assert!(!browser.is_in().await);
    assert_eq!(refused(admin.create_code(id).await), 409, "whoever is out gets no code");
    assert_eq!(refused(admin.change_user(999, UserAct::Disable).await), 404);

    let entries = admin.audit(&manager_api::AuditQuery::default()).await.unwrap().entries;
    let told = |row: &manager_api::AuditEntry| {
        format!("{}: {} {}: {}", row.actor, row.deed(), row.thing(), row.changes().join(", "))
    };
    let noted: Vec<String> = entries.iter().map(told).collect();
    for expected in [
        format!("admin: create user Grace ({id}): role: viewer"),
        format!("admin: give another role user Grace ({id}): role: viewer → admin, sessions: 1 → 0"),
        "Grace: create user Edsger (".to_owned(),
        "Grace: create token ci (2): expires_at: ".to_owned(),
        "Grace: revoke token ci (2): expires_at: ".to_owned(),
        format!("admin: make a one-time code user Grace ({id}): expires_at: "),
        format!("Grace: set a password with a one-time code user Grace ({id}): "),
        format!("admin: disable user Grace ({id}): disabled: false → true, sessions: 1 → 0"),
    ] {
        assert!(noted.iter().any(|line| line.starts_with(&expected)), "{expected}: {noted:#?}");
    }
    let page = world.call(Method::GET, "/audit?subject=user", Some(&world.token(Role::Admin).await));
    let page = page.header("accept", "text/html").send().await.unwrap().text().await.unwrap();
    assert!(page.contains(&format!("user Grace ({id})")) && page.contains("role: viewer → admin"), "{page}");
}

#[tokio::test]
async fn a_ledger_that_is_away_lets_nobody_in() {
    let world = World::new().await;
    let token = world.token(Role::Admin).await;
    let (_, mut browser) = world.person("Ada", Role::Admin).await;
    world.store.close().await;
    let answer = world.call(Method::GET, "/api/v1/me", Some(&token)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let text = answer.text().await.unwrap();
    assert!(text.contains("the database does not answer") && !text.contains("Pool"), "{text}");
    assert_eq!(browser.get("/keys").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(browser.sign_in("ada", PASSWORD).await.status(), StatusCode::SERVICE_UNAVAILABLE);
}
