//! The catalogue's limits are in the ledger once a reign has begun, and go when the file no longer says them; and what is
//! sent again, taken back or let go holds a limit's room once, whatever becomes of its messages.

use crate::{
    dispatch::on,
    world::{Taker, World, kind},
};
use domain::{AccountId, BudgetSettings, JobState, Limit, PauseTarget, Scope};
use queue::Backend;
use scheduler::duties::{declare_limits, relay, sweep_unclaimed};
use store::{Delivered, Store};

async fn declared(store: &Store) -> Vec<(String, Option<u32>)> {
    let rows = store.list_limits(None, 100).await.unwrap();
    rows.into_iter().filter(|row| row.is_declared).map(|row| (row.scope.to_string(), row.limit.concurrency)).collect()
}

#[tokio::test]
async fn a_reign_declares_what_its_file_says() {
    let mut world = World::new().await;
    let lead = world.lead.clone();
    let catalogue = |limits: &str| {
        let text = format!("{limits}[noop]\nlabel = \"n\"\nrun_secs_max = 60\nconcurrency = 10\n");
        let tables: toml::Table = text.parse().unwrap();
        domain::Catalogue::new(tables.try_into().unwrap()).unwrap()
    };
    world.office.catalogue = catalogue(
        "[limits.budget]\nshare_pct = 50\n[limits.vendor.salesforce]\nconcurrency = 7\n[limits.each_account]\nconcurrency = 3\n",
    );
    for _ in 0..2 {
        declare_limits::perform(&world.office, &lead).await.unwrap();
    }
    let both = [("each account".to_owned(), Some(3)), ("vendor salesforce".to_owned(), Some(7))];
    assert_eq!(declared(&world.office.store).await, both);
    let limit = world.office.catalogue.limits()[0].1;
    world.office.store.set_limit(&testkit::granted(), &Scope::EachAccount, &limit).await.unwrap();
    world.office.catalogue = catalogue("");
    assert_eq!(world.office.catalogue.budget(), BudgetSettings::default());
    declare_limits::perform(&world.office, &lead).await.unwrap();
    assert_eq!(declared(&world.office.store).await, []);
    assert_eq!(world.office.store.list_limits(None, 100).await.unwrap().len(), 1, "the operator's stays");
}

const IN_FLIGHT: &str = "SELECT count(*) FROM jobs WHERE state IN (2, 3)";

#[tokio::test]
async fn what_is_sent_again_holds_its_room_once() {
    let mut world = World::new().await;
    world.office.store.lead("boot-1", 1_000_000).await.unwrap();
    let connection = world.connection_of(AccountId::SYSTEM, "acme").await;
    let three = Limit { concurrency: Some(3), per_day: Some(9), ..Limit::default() };
    world.limit(Scope::Kind(kind()), three).await;
    world.insert(&vec![on(connection, AccountId::SYSTEM); 12]).await;
    assert_eq!(world.queued().await, 3);
    let first: Vec<_> = world.office.store.unsent(10).await.unwrap().iter().map(|entry| entry.job).collect();
    // The queue loses every message, again and again; leaders come and go.
    for (sends, wait_secs) in [(2, 16), (3, 31), (4, 61)] {
        relay::perform(&world.office, &world.lead).await.unwrap();
        world.advance_secs(wait_secs);
        sweep_unclaimed::perform(&world.office, &world.lead).await.unwrap();
        assert_eq!(world.office.store.find_job(first[0]).await.unwrap().unwrap().sends, sends);
        assert_eq!(world.queued().await, 3, "sent {sends} times, it holds its room");
        world.office.desk = tokio::sync::Mutex::default();
        assert_eq!(world.queued().await, 3, "a new leader counts it once, too");
    }
    // All the messages come after all, each four times.
    let delivered = |id| Delivered { id, sent_at: world.clock.now() };
    let copies: Vec<_> = first.iter().cycle().take(12).map(|id| delivered(*id)).collect();
    let servant = world.servant(0).await;
    let until = world.after_secs(1_000);
    let claimed = world.office.store.claim_delivered(servant, &kind(), &copies, until).await.unwrap();
    assert_eq!(claimed.len(), 3);
    assert_eq!(world.queued().await, 0, "they run: there is no room yet");
    world.office.store.succeed(&[claimed[0].key]).await.unwrap();
    assert_eq!((world.queued().await, world.number(IN_FLIGHT).await), (1, 3), "one ended, one goes");
    world.office.store.succeed(&[claimed[1].key, claimed[2].key]).await.unwrap();
    assert_eq!((world.queued().await, world.number(IN_FLIGHT).await), (3, 3));

    // What is delivered during a pause goes back; its room is free, and it takes it once when it goes again.
    let target = PauseTarget::Kind(kind());
    world.office.store.pause(&testkit::granted(), &target).await.unwrap();
    let held: Vec<_> = world.office.store.unsent(100).await.unwrap().iter().map(|entry| delivered(entry.job)).collect();
    assert!(world.office.store.claim_delivered(servant, &kind(), &held, until).await.unwrap().is_empty());
    assert_eq!(world.number(IN_FLIGHT).await, 0);
    world.office.store.resume(&testkit::granted_to("ada", ""), &target).await.unwrap();
    world.advance_secs(60);
    assert_eq!((world.queued().await, world.number(IN_FLIGHT).await), (3, 3));

    // Without a queue any more, what was queued is ready again, and is claimed under the same limit.
    world.office.queue = Backend::Postgres;
    let (mut one, mut other) = (Taker::default(), Taker::default());
    sweep_unclaimed::perform(&world.office, &world.lead).await.unwrap();
    assert_eq!(world.number(IN_FLIGHT).await, 0);
    // Nine a day: six have gone once, three twice.
    assert_eq!((one.claim(&world, servant, 10).await.len(), other.claim(&world, servant, 10).await.len()), (0, 0));
    world.limit(Scope::Kind(kind()), Limit { concurrency: Some(3), ..Limit::default() }).await;
    let taken = one.claim(&world, servant, 10).await;
    assert_eq!((taken.len(), other.claim(&world, servant, 10).await.len()), (3, 0));
    world.office.store.succeed(&taken[..1]).await.unwrap();
    assert_eq!((other.claim(&world, servant, 10).await.len(), one.claim(&world, servant, 10).await.len()), (1, 0));
    assert_eq!(world.state(taken[1].id).await, JobState::Running);
    world.assert_counted().await;
}
