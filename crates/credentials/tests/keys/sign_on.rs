//! One sign-on for all who need it.

use crate::world::{Vendor, World, asking};
use chrono::TimeDelta;
use credentials::{Answer, CredentialsError, Session};
use domain::ConnectionId;
use secrecy::ExposeSecret as _;
use std::{sync::Arc, time::Duration};
use store::{ConnectionAct, SigningOn};
use testkit::Proxy;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_of_four_processes_that_are_refused_at_once_cost_one_call() {
    let world = World::new().await;
    let connection = world.authorise(world.account, "refresh-1").await;
    let vendor = Vendor::rotating();
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(world.process().await);
    }
    let first = processes[0].session(connection, 0, asking(&vendor)).await.unwrap();
    assert_eq!((first.text.expose_secret(), vendor.calls()), ("session-1", 1));
    for process in &processes {
        // Whoever begins takes what there is.
        let same = process.session(connection, 0, asking(&vendor)).await.unwrap();
        assert_eq!((same.generation, same.text.expose_secret(), vendor.calls()), (first.generation, "session-1", 1));
    }
    world.clock.advance(TimeDelta::hours(2));
    let mut streams = JoinSet::new();
    for stream in 0..1_000 {
        let (process, vendor) = (processes[stream % 4].clone(), vendor.clone());
        let refused = first.generation;
        streams.spawn(async move { process.session(connection, refused, asking(&vendor)).await });
    }
    for session in streams.join_all().await {
        let session = session.unwrap();
        assert_eq!((session.text.expose_secret(), session.generation), ("session-2", first.generation + 1));
    }
    assert_eq!(vendor.calls(), 2, "one more");
    assert_eq!(world.kept(connection).await, "refresh-3");
}

#[tokio::test]
async fn a_rotated_token_is_kept_before_anybody_has_the_session_and_when_nobody_waits_for_it() {
    let world = World::new().await;
    let connection = world.authorise(world.account, "refresh-1").await;
    let vendor = Vendor::rotating();
    let process = world.process().await;
    let (asked, was_asked) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel();
    let channels = std::sync::Mutex::new(Some((asked, may_go_on)));
    let slow = vendor.clone();
    let caller = tokio::spawn({
        let process = process.clone();
        async move {
            let ask = move |credential| {
                let (asked, may_go_on) = channels.lock().unwrap().take().expect("asked once");
                let vendor = slow.clone();
                async move {
                    asked.send(()).unwrap();
                    let _ = may_go_on.await;
                    vendor.ask(credential).await
                }
            };
            process.session(connection, 0, ask).await
        }
    });
    was_asked.await.unwrap();
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    assert_eq!(world.kept(connection).await, "refresh-1");
    go_on.send(()).unwrap();
    testkit::eventually(LIMIT, "the new token to be kept", async || {
        (world.kept(connection).await == "refresh-2").then_some(())
    })
    .await;
    let session = world.process().await.session(connection, 0, asking(&vendor)).await.unwrap();
    assert_eq!((session.text.expose_secret(), vendor.calls()), ("session-1", 1));
}

/// A process that signs on, and from whose ledger it is cut off once the vendor has answered, for long enough for tries
/// that fail; and the wire that can be mended.
async fn signing_on_as_the_ledger_goes(
    world: &World,
    connection: ConnectionId,
    vendor: &Vendor,
) -> (JoinHandle<Result<Session, CredentialsError>>, Arc<Proxy>) {
    let (wire, url) = world.database.wire().await.unwrap();
    let store = store::Store::connect(&url, 4, domain::Clock::Manual(world.clock.clone())).await.unwrap();
    let process = credentials::SignOn::new(store, world.another_vault());
    let wire = Arc::new(wire);
    let (cut, slow) = (wire.clone(), vendor.clone());
    let session = tokio::spawn(async move {
        let ask = move |credential| {
            let (cut, vendor) = (cut.clone(), slow.clone());
            async move {
                let granted = vendor.ask(credential).await;
                cut.refuse();
                granted
            }
        };
        process.session(connection, 0, ask).await
    });
    testkit::eventually(LIMIT, "the vendor to be asked", async || (vendor.calls() == 1).then_some(())).await;
    // Long enough for tries that fail.
    tokio::time::sleep(Duration::from_millis(300)).await;
    (session, wire)
}

#[tokio::test]
async fn what_a_vendor_gave_survives_a_ledger_that_is_away() {
    let world = World::new().await;
    let connection = world.authorise(world.account, "refresh-1").await;
    let vendor = Vendor::rotating();
    let (session, wire) = signing_on_as_the_ledger_goes(&world, connection, &vendor).await;
    assert_eq!(world.kept(connection).await, "refresh-1");
    wire.forward();
    assert_eq!(session.await.unwrap().unwrap().text.expose_secret(), "session-1");
    assert_eq!((world.kept(connection).await.as_str(), vendor.calls()), ("refresh-2", 1));
}

#[tokio::test]
async fn a_refusal_parks_the_connection_once_and_nobody_asks_again_until_it_is_authorised() {
    let world = World::new().await;
    let connection = world.authorise(world.account, "stale").await;
    let vendor = Vendor::default();
    let processes = [world.process().await, world.process().await];
    let mut streams = JoinSet::new();
    for stream in 0..100 {
        let (process, vendor) = (processes[stream % 2].clone(), vendor.clone());
        streams.spawn(async move { process.session(connection, 0, asking(&vendor)).await });
    }
    for refused in streams.join_all().await {
        let error = refused.unwrap_err();
        assert!(
            matches!(&error, CredentialsError::Refused { reason } if reason.contains("invalid_grant")),
            "{error:?}"
        );
    }
    assert_eq!(vendor.calls(), 1);
    let row = world.store.find_connection(connection).await.unwrap().unwrap();
    assert_eq!(row.state, "needs_reauth");
    let events = world.store.connection_events(connection, 10).await.unwrap();
    let whats: Vec<&str> = events.iter().map(|event| event.what.as_str()).collect();
    assert_eq!(whats, ["needs_reauth", "authorised"], "told once");
    world.clock.advance(TimeDelta::days(1));
    assert!(processes[0].session(connection, 0, asking(&vendor)).await.is_err());
    assert_eq!(vendor.calls(), 1);

    // An operator's word lets it be tried, and the vendor's word counts.
    assert!(testkit::change_connection(&world.store, connection, ConnectionAct::Reauthorised).await.unwrap());
    assert!(processes[0].session(connection, 0, asking(&vendor)).await.is_err());
    assert_eq!(vendor.calls(), 2);

    world.authorise_again(world.account, connection, "refresh-1").await;
    assert_eq!(world.store.find_connection(connection).await.unwrap().unwrap().state, "active");
    assert!(processes[1].session(connection, 0, asking(&vendor)).await.is_ok());
}

#[tokio::test]
async fn a_failure_that_passes_is_everybodys_for_a_while() {
    let world = World::new().await;
    let connection = world.authorise(world.account, "refresh-1").await;
    let vendor = Vendor::default();
    let down = |_| async { Err(Answer::unavailable("503")) };
    let (ours, theirs) = (world.process().await, world.process().await);
    let error = ours.session(connection, 0, down).await.unwrap_err();
    assert!(matches!(error, CredentialsError::Unavailable { .. }), "{error:?}");
    let error = theirs.session(connection, 0, asking(&vendor)).await.unwrap_err();
    assert!(
        matches!(&error, CredentialsError::Unavailable { reason, retry_at: Some(_) } if reason == "503"),
        "{error:?}"
    );
    assert_eq!(vendor.calls(), 0);
    world.clock.advance(TimeDelta::seconds(10));
    assert!(theirs.session(connection, 0, asking(&vendor)).await.is_ok());
}

#[tokio::test]
async fn a_rotated_token_is_kept_even_when_the_session_beside_it_is_of_no_use() {
    let world = World::new().await;
    let connection = world.authorise(world.account, "refresh-1").await;
    let process = world.process().await;
    let odd = |_| async {
        let session = Err(Answer::unavailable("an odd host"));
        Ok(credentials::Granted { session, credential: Some("refresh-2".into()) })
    };
    let error = process.session(connection, 0, odd).await.unwrap_err();
    assert!(matches!(&error, CredentialsError::Unavailable { reason, .. } if reason == "an odd host"), "{error:?}");
    assert_eq!(world.kept(connection).await, "refresh-2");
    let vendor = Vendor::default();
    assert!(process.session(connection, 0, asking(&vendor)).await.is_err());
    assert_eq!(vendor.calls(), 0, "not at once");
    world.clock.advance(TimeDelta::seconds(10));
    let good = |_| async { Ok(credentials::Granted { session: Ok("session".into()), credential: None }) };
    assert_eq!(process.session(connection, 0, good).await.unwrap().text.expose_secret(), "session");
}

#[tokio::test]
async fn a_session_that_is_refused_at_once_is_not_renewed_at_once() {
    let world = World::new().await;
    let connection = world.authorise(world.account, "refresh-1").await;
    let vendor = Vendor::default();
    let process = world.process().await;
    let first = process.session(connection, 0, asking(&vendor)).await.unwrap();
    let (again, asked) = (process.clone(), vendor.clone());
    let renewed = tokio::spawn(async move { again.session(connection, first.generation, asking(&asked)).await });
    // It looks again and again meanwhile.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!renewed.is_finished() && vendor.calls() == 1);
    world.clock.advance(TimeDelta::seconds(10));
    assert_eq!(renewed.await.unwrap().unwrap().text.expose_secret(), "session-2");
}

#[tokio::test]
async fn whoever_died_while_signing_on_is_followed_once_its_time_is_up() {
    let world = World::new().await;
    let connection = world.authorise(world.account, "refresh-1").await;
    let generation = world.store.find_secrets(connection).await.unwrap().unwrap().generation;
    let dead = SigningOn { connection, generation, by: uuid::Uuid::new_v4() };
    let until = world.store.now() + TimeDelta::seconds(60);
    assert!(world.store.claim_sign_on(dead, until).await.unwrap());
    let (process, vendor) = (world.process().await, Vendor::default());
    let asked = vendor.clone();
    let heir = tokio::spawn(async move { process.session(connection, 0, asking(&asked)).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!heir.is_finished() && vendor.calls() == 0);
    world.clock.advance(TimeDelta::seconds(61));
    assert!(heir.await.unwrap().is_ok());
    // The dead one's late words change nothing.
    assert!(!world.store.refuse_sign_on(dead, "late").await.unwrap());
    world.store.fail_sign_on(dead, "late", world.store.now() + TimeDelta::hours(1)).await.unwrap();
    let row = world.store.find_secrets(connection).await.unwrap().unwrap();
    assert_eq!((row.retry_at, row.connection_state.as_str()), (None, "active"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_while_it_signs_on_is_followed_within_ten_seconds() {
    let world = World::new().await;
    let connection = world.authorise(world.account, "refresh-1").await;
    let (url, clock) = (world.database.url().to_owned(), domain::Clock::Manual(world.clock.clone()));
    let (vault, (asked, was_asked)) = (world.another_vault(), std::sync::mpsc::channel());
    // A process of its own as far as it can be killed: with its runtime all that it does ends at once.
    let doomed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.spawn(async move {
            let store = store::Store::connect(&url, 2, clock).await.unwrap();
            let ask = move |_| {
                asked.send(()).unwrap();
                std::future::pending()
            };
            credentials::SignOn::new(store, vault).session(connection, 0, ask).await
        });
        was_asked.recv_timeout(LIMIT).unwrap();
        runtime.shutdown_timeout(LIMIT);
    });
    tokio::task::spawn_blocking(|| doomed.join().unwrap()).await.unwrap();
    let (process, vendor) = (world.process().await, Vendor::rotating());
    let asked = vendor.clone();
    let heir = tokio::spawn(async move { process.session(connection, 0, asking(&asked)).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!heir.is_finished() && vendor.calls() == 0, "nobody knows yet that it is dead");
    world.clock.advance(TimeDelta::milliseconds(6_500));
    let seen = tokio::time::Instant::now();
    assert_eq!(heir.await.unwrap().unwrap().text.expose_secret(), "session-1");
    // What is left of ten seconds once its claim has lapsed.
    assert!(seen.elapsed() < Duration::from_millis(10_000 - 6_000), "{:?} after it lapsed", seen.elapsed());
    assert_eq!(world.kept(connection).await, "refresh-2");
}

#[tokio::test]
async fn whoever_signs_on_for_long_is_overtaken_by_nobody() {
    let world = World::new().await;
    let connection = world.authorise(world.account, "refresh-1").await;
    let vendor = Vendor::rotating();
    let (go_on, may_go_on) = tokio::sync::watch::channel(false);
    let (slow, process) = (vendor.clone(), world.process().await);
    let ask = move |credential| {
        let (vendor, mut may_go_on) = (slow.clone(), may_go_on.clone());
        async move {
            let answer = vendor.ask(credential).await;
            may_go_on.wait_for(|may| *may).await.unwrap();
            answer
        }
    };
    let holder = tokio::spawn(async move { process.session(connection, 0, ask).await });
    testkit::eventually(LIMIT, "the vendor to be asked", async || (vendor.calls() == 1).then_some(())).await;
    let (process, asked) = (world.process().await, vendor.clone());
    let waiting = tokio::spawn(async move { process.session(connection, 0, asking(&asked)).await });
    // Three claims long, and each time nearly over before it is renewed.
    for _ in 0..3 {
        world.clock.advance(TimeDelta::seconds(5));
        testkit::eventually(LIMIT, "the claim to be renewed", async || {
            let until = world.store.find_secrets(connection).await.unwrap().unwrap().signing_on_until?;
            (until - world.store.now() > TimeDelta::seconds(5)).then_some(())
        })
        .await;
    }
    assert!(!waiting.is_finished() && vendor.calls() == 1);
    go_on.send(true).unwrap();
    for session in [holder, waiting] {
        assert_eq!(session.await.unwrap().unwrap().text.expose_secret(), "session-1");
    }
    assert_eq!((vendor.calls(), world.kept(connection).await.as_str()), (1, "refresh-2"));
}

#[tokio::test]
async fn a_claim_that_lapsed_while_the_ledger_was_away_is_its_holders_first() {
    let world = World::new().await;
    let connection = world.authorise(world.account, "refresh-1").await;
    let vendor = Vendor::rotating();
    let (holder, wire) = signing_on_as_the_ledger_goes(&world, connection, &vendor).await;
    world.clock.advance(TimeDelta::seconds(30));
    let (heir, asked) = (world.process().await, vendor.clone());
    let heir = tokio::spawn(async move { heir.session(connection, 0, asking(&asked)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    wire.forward();
    for session in [holder, heir] {
        assert_eq!(session.await.unwrap().unwrap().text.expose_secret(), "session-1");
    }
    assert_eq!((vendor.calls(), world.kept(connection).await.as_str()), (1, "refresh-2"));
}

#[tokio::test]
async fn what_was_altered_in_the_ledger_opens_nowhere_and_reaches_no_vendor() {
    let world = World::new().await;
    let ours = world.authorise(world.account, "refresh-1").await;
    let theirs = world.authorise(world.account, "refresh-1").await;
    let sql = sqlx::PgPool::connect(world.database.url()).await.unwrap();
    let swap = "UPDATE secrets SET credential = (SELECT credential FROM secrets WHERE connection_id = $2) WHERE connection_id = $1";
    sqlx::query(swap).bind(ours.0).bind(theirs.0).execute(&sql).await.unwrap();
    let (process, vendor) = (world.process().await, Vendor::default());
    let error = process.session(ours, 0, asking(&vendor)).await.unwrap_err();
    assert!(matches!(error, CredentialsError::Vault(_)) && !error.is_transient(), "{error:?}");
    assert_eq!(vendor.calls(), 0);
    assert!(process.session(theirs, 0, asking(&vendor)).await.is_ok());
    assert!(matches!(
        process.session(domain::ConnectionId(999), 0, asking(&vendor)).await,
        Err(CredentialsError::None(_))
    ));
}

#[tokio::test]
async fn a_connection_without_a_grant_to_keep_signs_on_too() {
    let world = World::new().await;
    let connection = world.store.create_connection(world.account, "acme", &serde_json::json!({}), None).await.unwrap();
    let (one, other) = (world.process().await, world.process().await);
    let (first, second) = tokio::join!(one.ensure(connection, world.account), other.ensure(connection, world.account));
    first.unwrap();
    second.unwrap();
    let ask = |credential: Option<secrecy::SecretString>| async move {
        assert!(credential.is_none());
        Ok(credentials::Granted { session: Ok("by assertion".into()), credential: None })
    };
    assert_eq!(one.session(connection, 0, ask).await.unwrap().text.expose_secret(), "by assertion");
    assert_eq!(other.session(connection, 0, ask).await.unwrap().text.expose_secret(), "by assertion");
}
