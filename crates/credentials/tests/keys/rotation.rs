//! Keys that change under everybody's feet.

use crate::world::{Vendor, World, asking};
use chrono::TimeDelta;
use credentials::{Granted, Rotation};
use secrecy::ExposeSecret as _;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_and_no_sign_on_fails_while_all_keys_rotate() {
    const ACCOUNTS: usize = 700;
    let by = testkit::granted();
    let world = World::new().await;
    let mut connections = Vec::new();
    for account in 0..ACCOUNTS {
        let account = world.store.create_account(&format!("account {account}")).await.unwrap();
        connections.push(world.authorise(account, "refresh-1").await);
    }
    let connections = Arc::new(connections);
    let stop = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..3_usize {
        let process = world.process().await;
        let (connections, stop, reads) = (connections.clone(), stop.clone(), reads.clone());
        readers.spawn(async move {
            let mut at = reader * 211;
            while !stop.load(Ordering::Relaxed) {
                at = (at + 1) % connections.len();
                let ask = |_| async { Ok(Granted { session: Ok("s".into()), credential: None }) };
                process.session(connections[at], 0, ask).await.unwrap();
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut meanwhile = 0;
    let mut round = 0;
    while round < 2 || meanwhile < 300 {
        round += 1;
        let before = reads.load(Ordering::Relaxed);
        world.clock.advance(TimeDelta::hours(2));
        assert_eq!(world.vault.generate_master().unwrap(), format!("file:{}", round + 1));
        let mut rotation = Rotation::new(&world.store, &world.vault, &by);
        rotation.rewrap(|_| {}).await.unwrap();
        // The versions of the round before are wrapped anew as well, as long as they are there.
        assert!(rotation.progress().rewrapped >= ACCOUNTS as u64);
        rotation.renew(world.store.now(), |_| {}).await.unwrap();
        assert_eq!(rotation.progress().renewed, ACCOUNTS as u64);
        rotation.reseal(|_| {}).await.unwrap();
        let uses = world.store.master_uses().await.unwrap();
        assert_eq!(uses.len(), 1, "{uses:?}");
        assert_eq!((uses[0].master.clone(), uses[0].newest), (format!("file:{}", round + 1), ACCOUNTS as i64));
        assert_eq!(world.store.secrets_behind(None, 10).await.unwrap(), vec![]);
        meanwhile += reads.load(Ordering::Relaxed) - before;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }

    // The old master keys can go: nothing needs them any more. Neither do old data keys stay.
    world.clock.advance(TimeDelta::hours(2));
    let mut rotation = Rotation::new(&world.store, &world.vault, &by);
    rotation.reseal(|_| {}).await.unwrap();
    let uses = world.store.master_uses().await.unwrap();
    assert_eq!((uses.len(), uses[0].keys), (1, ACCOUNTS as i64), "{uses:?}");
    world.keep_only_the_newest_master();
    assert_eq!(world.kept(connections[ACCOUNTS - 1]).await, "refresh-1");
}

#[tokio::test]
async fn an_interrupted_rotation_is_finished_by_the_next_one_and_a_sign_on_renews_its_own_key() {
    let by = testkit::granted();
    let world = World::new().await;
    let connection = world.authorise(world.account, "refresh-1").await;
    world.clock.advance(TimeDelta::hours(1));
    world.vault.generate_master().unwrap();
    // As after a crash between the key and what it is to seal.
    let key = world.vault.new_key(world.account, 2).await.unwrap();
    world.store.keep_keys(std::slice::from_ref(&key)).await.unwrap();
    assert_eq!(world.store.secrets_behind(None, 10).await.unwrap().len(), 1);
    assert_eq!(world.kept(connection).await, "refresh-1");
    let vendor = Vendor::rotating();
    let session = world.process().await.session(connection, 0, asking(&vendor)).await.unwrap();
    assert_eq!(session.text.expose_secret(), "session-1");
    assert_eq!(world.store.secrets_behind(None, 10).await.unwrap(), vec![], "sealed by the newest, both");
    let mut rotation = Rotation::new(&world.store, &world.vault, &by);
    rotation.rewrap(|_| {}).await.unwrap();
    assert_eq!(rotation.progress().rewrapped, 1, "the first key; the second was wrapped so from the start");
    assert_eq!(world.kept(connection).await, "refresh-2");
    let wrong = world.vault.new_key(world.account, 2).await.unwrap();
    world.store.keep_keys(&[wrong]).await.unwrap();
    assert_eq!(world.store.newest_key(world.account).await.unwrap(), Some(key), "what is there stays");

    let filter = store::AuditFilter { action: Some("rotate_keys".to_owned()), ..store::AuditFilter::default() };
    let noted = world.store.list_audit(&filter, 10).await.unwrap();
    let after: Vec<_> = noted.iter().filter_map(|row| row.after.as_ref()).collect();
    assert_eq!(
        after,
        [&serde_json::json!({"what": "wrap keys by another master key", "rows": 1})],
        "in its transaction"
    );
}
