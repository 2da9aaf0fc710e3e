//! A customer whose application signs on by itself, with its key in a user's name: real servants, whose sessions all come
//! from signed assertions, and end in the middle. Owns no way to sign on but that one.

use crate::{
    customer::{BULK_PAGE, IN_BULK, World},
    fleet::LIMIT,
};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::{GroupState, JobState};
use fakes::salesforce::{Call, Fault, Options, Order};
use testkit::eventually;

const USER: &str = "sync@acme.example";

/// A key of an application's: what it keeps, as its file of secrets has it, and what Salesforce knows of it.
fn key() -> (String, String) {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let private: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let public: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    let pem =
        |what, der: &[u8]| format!("-----BEGIN {what} KEY-----\n{}\n-----END {what} KEY-----\n", STANDARD.encode(der));
    (format!("private_key = \"\"\"\n{}\"\"\"\n", pem("PRIVATE", private.as_ref())), pem("PUBLIC", public.as_ref()))
}

/// Records on pages of which each takes a while, so that something can happen between them.
async fn world(public: String, application: &str, username: &str) -> World {
    let options = Options {
        jwt_public_key: Some(public),
        jwt_users: vec![USER.to_owned()],
        bulk_page_records: BULK_PAGE,
        ..Options::default()
    };
    let world = World::signing_on(options, &[IN_BULK], application, Some(username)).await;
    world.fake.order(Order { on: Some(Call::BulkResults), ms: 150, ..Order::new(Fault::SlowMs, 10_000) });
    world
}

fn calls(world: &World, call: Call) -> u64 {
    world.fake.stats().calls.get(&call).copied().unwrap_or(0)
}

#[tokio::test]
async fn three_servants_share_a_session_and_its_successor_and_every_record_arrives() {
    let (application, public) = key();
    let world = world(public, &application, USER).await;
    let _servants = (world.servant().await, world.bulk_servant().await, world.bulk_servant().await);
    let job = world.enqueue().await;
    eventually(LIMIT, "pages to be asked for", async || (calls(&world, Call::BulkResults) >= 5).then_some(())).await;
    assert_eq!(calls(&world, Call::Token), 1, "one assertion for three servants");
    world.fake.end_sessions();
    world.until(job, JobState::Succeeded).await;
    let group = world.fleet.store.find_job(job).await.unwrap().unwrap().group_id.unwrap();
    let group = world.until_ended(group).await;
    assert_eq!((group.state, group.counts.of(JobState::Failed)), (GroupState::Finished, 0));
    world.assert_equal().await;
    assert_eq!(calls(&world, Call::Token), 2, "and one when it had ended, whoever saw that first");
    let records: usize = world.fake.objects().iter().map(|object| world.fake.truth(object).len()).sum();
    let inserts = world.number("SELECT count(*) FROM record_changes WHERE op = 1").await;
    assert_eq!(inserts, i64::try_from(records).unwrap(), "each once");
    // What is kept of it is sealed, and there is no refresh token to keep.
    let kept = "SELECT count(*) FROM secrets WHERE session IS NOT NULL AND credential IS NULL";
    assert_eq!(world.number(kept).await, 1);
    // The next sync begins with the session that is there.
    world.tick().await;
    assert_eq!(calls(&world, Call::Token), 2);
}

#[tokio::test]
async fn who_is_not_approved_is_refused_once_and_a_person_is_told() {
    let (application, public) = key();
    let world = world(public, &application, "stranger@acme.example").await;
    let _servant = world.servant().await;
    let job = world.enqueue().await;
    let parked = eventually(LIMIT, "the connection to be parked", async || {
        let connection = world.fleet.store.find_connection(world.connection).await.ok()??;
        (connection.state == "needs_reauth").then_some(connection)
    })
    .await;
    assert!(parked.state_reason.unwrap().contains("user hasn't approved this consumer"));
    world.until(job, JobState::Ready).await;
    assert_eq!(calls(&world, Call::Token), 1);
    let row = world.fleet.store.find_job(job).await.unwrap().unwrap();
    assert_eq!(row.attempt, 0, "it burns no attempt");
}

#[tokio::test]
async fn a_key_that_is_missing_fails_the_job_and_names_the_file_and_the_key() {
    let (_, public) = key();
    let world = world(public, "client_secret = \"fake-secret\"\n", USER).await;
    let _servant = world.servant().await;
    let job = world.enqueue().await;
    world.until(job, JobState::Failed).await;
    let attempts = world.fleet.store.attempts_of(job).await.unwrap();
    let said = attempts.iter().map(|attempt| attempt.error.clone()).collect::<String>();
    assert!(said.contains("[acme] has no private_key"), "{said}");
    assert_eq!(calls(&world, Call::Token), 0);
}
