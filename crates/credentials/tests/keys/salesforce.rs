//! A client of Salesforce with sessions that all servants share, against the simulated one.

use crate::world::World;
use chrono::TimeDelta;
use credentials::SalesforceGrant;
use fakes::salesforce::{Call, Content, FakeSalesforce};
use salesforce::{Client, ConnectedApp, Hosts, Options, SalesforceError, SecretString};
use std::sync::Arc;
use tokio::task::JoinSet;

async fn clients(
    world: &World,
    fake: &FakeSalesforce,
    connection: domain::ConnectionId,
    count: usize,
) -> Vec<Arc<Client>> {
    let options = Options { hosts: Hosts::Development { root_certificate_pem: None }, ..Options::default() };
    let processes = [world.process().await, world.process().await, world.process().await];
    let mut clients = Vec::new();
    for at in 0..count {
        let app = ConnectedApp {
            login_url: fake.url(),
            client_id: "fake-client".to_owned(),
            client_secret: Some(SecretString::from("fake-secret")),
        };
        let grant = SalesforceGrant { app, user: None };
        let source = processes[at % 3].salesforce(connection, grant, &options, world.store.clock().clone()).unwrap();
        clients.push(Arc::new(Client::open(source, options.clone()).await.unwrap()));
    }
    clients
}

/// Streams of all clients that describe an object at once.
async fn at_once(clients: &[Arc<Client>], streams: usize) -> Vec<Result<(), SalesforceError>> {
    let mut running = JoinSet::new();
    for stream in 0..streams {
        let client = clients[stream % clients.len()].clone();
        running.spawn(async move { client.describe("Account").await.map(|_| ()) });
    }
    running.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_of_thirty_clients_of_three_processes_that_see_401_at_once_make_one_token_call() {
    let world = World::new().await;
    let content = Content::Generated { records: 50, seed: 5 };
    let options = fakes::salesforce::Options { content, rotate_refresh_tokens: true, ..Default::default() };
    let fake = FakeSalesforce::start(options).await.unwrap();
    let connection = world.authorise(world.account, "fake-refresh").await;
    let clients = clients(&world, &fake, connection, 30).await;
    assert_eq!(fake.stats().calls[&Call::Token], 1);

    fake.end_sessions();
    world.clock.advance(TimeDelta::hours(2));
    for described in at_once(&clients, 1_000).await {
        described.unwrap();
    }
    assert_eq!(fake.stats().calls[&Call::Token], 2, "one for a thousand");
    assert_ne!(world.kept(connection).await, "fake-refresh", "the rotated token is kept");

    fake.revoke_grant();
    fake.end_sessions();
    world.clock.advance(TimeDelta::hours(2));
    for described in at_once(&clients, 300).await {
        let error = described.unwrap_err();
        assert!(matches!(error, SalesforceError::AuthBroken { .. }), "{error:?}");
    }
    assert_eq!(fake.stats().calls[&Call::Token], 3, "and one that is refused, for all");
    assert_eq!(world.store.find_connection(connection).await.unwrap().unwrap().state, "needs_reauth");
}
