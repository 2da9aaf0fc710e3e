//! Servants' heartbeats: who sends one follows from the credential, and a row is its first writer's.

use crate::world::World;
use domain::{Kind, Role, ServantId};
use manager_api::{ClientError, CreateCredential, Heartbeat, ManagerClient};
use reqwest::{Method, StatusCode};
use store::NewServant;
use vault::{SecretString, TokenFor, new_token};

async fn servant(world: &World, kind: &str) -> ServantId {
    let kind = Kind::new(kind).unwrap();
    let new = NewServant { kind, host: "host-7-99".into(), pid: 99, version: "0".into(), concurrency: 4 };
    world.store.register_servant(&new).await.unwrap()
}

fn beat(world: &World, id: ServantId, kind: &str, running: u32) -> Heartbeat {
    Heartbeat {
        servant_id: id.0,
        kind: kind.to_owned(),
        state: "running".to_owned(),
        version: "0".to_owned(),
        host: "a host that it made up".to_owned(),
        pid: 1,
        started_at: world.now(),
        rss_bytes: None,
        cpu_pct: None,
        concurrency: 4,
        running,
        jobs: Vec::new(),
    }
}

fn status<T: std::fmt::Debug>(result: Result<T, ClientError>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(ClientError::Refused { status, .. }) => status,
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_servant_writes_its_own_row_and_no_other() {
    let world = World::new().await;
    let admin = ManagerClient::with_token(&world.url, &world.token(Role::Admin).await).unwrap();
    let credential = async |kind: &str, host: Option<&str>| {
        let request = CreateCredential { kind: kind.to_owned(), host: host.map(str::to_owned) };
        let made = admin.create_credential(&request).await.unwrap();
        (made.id, SecretString::from(made.secret))
    };
    let (id, noops) = credential("noop", None).await;
    let (_, others) = credential("salesforce_sync", None).await;
    let (first, second, foreign) =
        (servant(&world, "noop").await, servant(&world, "noop").await, servant(&world, "salesforce_sync").await);
    let boot = || new_token(TokenFor::Boot);
    let client = |credential: &SecretString| ManagerClient::for_servant(&world.url, credential, &boot()).unwrap();
    let (one, two, stranger) = (client(&noops), client(&noops), client(&others));

    assert_eq!(status(one.heartbeat(&beat(&world, first, "noop", 3)).await), 200);
    assert_eq!(status(one.heartbeat(&beat(&world, first, "noop", 3)).await), 200, "it goes on");
    assert_eq!(status(two.heartbeat(&beat(&world, second, "noop", 1)).await), 200);
    // Another's row: of the same kind and credential, of another kind, and one that says it is what it is not.
    assert_eq!(status(two.heartbeat(&beat(&world, first, "noop", 9)).await), 403);
    assert_eq!(status(one.heartbeat(&beat(&world, foreign, "noop", 9)).await), 403);
    assert_eq!(status(one.heartbeat(&beat(&world, foreign, "salesforce_sync", 9)).await), 403);
    assert_eq!(status(stranger.heartbeat(&beat(&world, first, "noop", 9)).await), 403);
    assert_eq!(status(stranger.heartbeat(&beat(&world, first, "salesforce_sync", 9)).await), 403);
    assert_eq!(status(one.heartbeat(&beat(&world, ServantId(999), "noop", 9)).await), 403);
    let row = world.store.find_servant(first).await.unwrap().unwrap();
    assert_eq!((row.running, row.host.as_str(), row.pid), (3, "host-7-99", 99), "what the body says of it is nothing");
    let row = world.store.find_servant(foreign).await.unwrap().unwrap();
    assert_eq!((row.running, row.heartbeat_at), (0, None));

    let (_, here) = credential("noop", Some("host-7")).await;
    let (_, elsewhere) = credential("noop", Some("host-70")).await;
    let third = servant(&world, "noop").await;
    assert_eq!(status(client(&elsewhere).heartbeat(&beat(&world, third, "noop", 9)).await), 403);
    assert_eq!(status(client(&here).heartbeat(&beat(&world, third, "noop", 1)).await), 200);

    admin.revoke_credential(id).await.unwrap();
    assert_eq!(status(one.heartbeat(&beat(&world, first, "noop", 4)).await), 401, "at once");
}

#[tokio::test]
async fn a_servant_asks_nothing_else_and_nobody_else_beats() {
    let world = World::new().await;
    let token = world.token(Role::Admin).await;
    let admin = ManagerClient::with_token(&world.url, &token).unwrap();
    let made = admin.create_credential(&CreateCredential { kind: "noop".to_owned(), host: None }).await.unwrap();
    let credential = SecretString::from(made.secret);
    for path in ["/api/v1/jobs", "/api/v1/me", "/metrics", "/", "/admin", "/api/v1/credentials"] {
        let request = world.call(Method::GET, path, Some(&credential)).header("servant-boot", "x");
        assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{path}");
    }
    let id = servant(&world, "noop").await;
    assert_eq!(status(admin.heartbeat(&beat(&world, id, "noop", 1)).await), 403);
    let without_boot = ManagerClient::with_token(&world.url, &credential).unwrap();
    assert_eq!(status(without_boot.heartbeat(&beat(&world, id, "noop", 1)).await), 400);
    assert_eq!(status(ManagerClient::new(&world.url).unwrap().heartbeat(&beat(&world, id, "noop", 1)).await), 401);
    assert_eq!(world.store.find_servant(id).await.unwrap().unwrap().heartbeat_at, None);
}
