//! What was held back goes little by little: the jobs of a connection that is authorised again, and those of connections
//! whose pause is lifted. On the queue by the leader, and from the table by servants.

use crate::{
    dispatch::{job, on},
    world::{Taker, World},
};
use chrono::TimeDelta;
use domain::{AccountId, Cause, ConnectionId, JobId, Limit, PauseTarget, Scope, URGENT, why};
use std::collections::BTreeMap;
use store::{AuditFilter, ConnectionAct, NewGroup, NewJob};

impl World {
    /// Time passes, and the leader leads on.
    async fn pass_ms(&self, ms: i64) {
        self.clock.advance(TimeDelta::milliseconds(ms));
        self.office.store.lead("boot-1", 1_000).await.unwrap();
    }

    /// How many jobs of each connection are on the queue after one dispatch.
    async fn queued_by_connection(&self) -> BTreeMap<i64, i64> {
        self.go().await;
        let queued =
            "SELECT connection_id, count(*) FROM jobs WHERE state = 2 AND connection_id IS NOT NULL GROUP BY 1";
        sqlx::query_as(queued).fetch_all(&self.sql).await.unwrap().into_iter().collect()
    }

    async fn say(&self, connection: ConnectionId, act: ConnectionAct) {
        assert!(testkit::change_connection(&self.office.store, connection, act).await.unwrap());
    }

    async fn cause(&self, id: JobId) -> Cause {
        let job = self.office.store.find_job(id).await.unwrap().unwrap();
        why(&self.office.store.why_facts(&job).await.unwrap())
    }
}

async fn world() -> World {
    let world = World::new().await;
    // There are slots for everything, all the time.
    sqlx::query(
        "INSERT INTO servants (kind, host, pid, version, concurrency, started_at, seen_at)
                 VALUES ('noop', 'here', 1, '0', 5000, '2030-01-01', '2030-12-31')",
    )
    .execute(&world.sql)
    .await
    .unwrap();
    let (dispatching, breaker) = (world.office.config.duties.dispatching(), world.office.config.breaker);
    world.office.store.note_dispatching(&world.lead, dispatching, &breaker, true).await.unwrap();
    world
}

#[tokio::test]
async fn a_connection_that_is_authorised_again_gets_one_job_first_and_ever_more() {
    let world = world().await;
    let connection = world.connection_of(AccountId::SYSTEM, "acme").await;
    world.insert(&vec![on(connection, AccountId::SYSTEM); 30]).await;
    assert_eq!(world.queued_by_connection().await, BTreeMap::from([(connection.0, 30)]), "a new one waits for nothing");
    world.finish_queued(30).await;

    world.say(connection, ConnectionAct::Park).await;
    let jobs = world.insert(&vec![on(connection, AccountId::SYSTEM); 300]).await;
    let other = world.connection_of(AccountId::SYSTEM, "acme").await;
    world.insert(&vec![on(other, AccountId::SYSTEM); 20]).await;
    world.pass_ms(60_000).await;
    assert_eq!(world.queued_by_connection().await, BTreeMap::from([(other.0, 20)]));
    world.say(connection, ConnectionAct::Reauthorised).await;
    let of = async || world.queued_by_connection().await.get(&connection.0).copied().unwrap_or(0);
    assert_eq!(of().await, 1);
    assert_eq!(of().await, 1, "and no other while it is on its way");
    let said = world.cause(jobs[299]).await;
    let Cause::Releasing(releasing) = &said else { panic!("{said:?}") };
    assert_eq!((releasing.connection, releasing.room), (connection.0, 1));
    assert_eq!((releasing.since, releasing.until), (world.clock.now(), world.after_secs(5)));
    let sentence = format!("connection {connection} was let go at 2030-05-06T12:01:00Z: 1 at a time for now");
    assert!(said.says().contains(&sentence), "{}", said.says());

    let urgent = NewJob { priority: URGENT, ..on(connection, AccountId::SYSTEM) };
    world.insert(&[urgent.clone(), urgent]).await;
    assert_eq!(of().await, 3, "urgent ones do not wait");
    for step in 1..=8 {
        world.pass_ms(500).await;
        assert_eq!(of().await, (1 << step).max(3), "after {} ms", step * 500);
    }
    world.pass_ms(1_000).await;
    assert_eq!(of().await, 302, "all that there are");
    assert!(!matches!(world.cause(jobs[0]).await, Cause::Releasing(_)));
    world.assert_counted().await;
}

#[tokio::test]
async fn what_ends_makes_room_for_the_next_without_a_queue_too() {
    let world = world().await;
    let connection = world.connection_of(AccountId::SYSTEM, "acme").await;
    world.pass_ms(60_000).await;
    world.say(connection, ConnectionAct::Disable).await;
    world.insert(&vec![on(connection, AccountId::SYSTEM); 50]).await;
    world.say(connection, ConnectionAct::Enable).await;
    let servant = world.servant(100).await;
    let (mut one, mut other) = (Taker::default(), Taker::default());
    for _ in 0..5 {
        let taken = one.claim(&world, servant, 100).await;
        assert_eq!(taken.len(), 1);
        assert!(other.claim(&world, servant, 100).await.is_empty(), "another servant takes none beside it");
        world.office.store.succeed(&taken).await.unwrap();
    }
    world.pass_ms(1_500).await;
    // What has ended since it last looked is found once there is no room.
    let first = other.claim(&world, servant, 100).await.len();
    assert_eq!(first + other.claim(&world, servant, 100).await.len(), 8);
    world.pass_ms(3_500).await;
    assert_eq!(one.claim(&world, servant, 100).await.len(), 37, "the rest");
}

#[tokio::test]
async fn connections_whose_pause_is_lifted_together_do_not_begin_together() {
    let world = world().await;
    let account = world.account("a", 1).await;
    for target in [PauseTarget::Account(account), PauseTarget::Kind(crate::world::kind()), PauseTarget::Everything] {
        world.office.store.pause(&testkit::granted(), &target).await.unwrap();
        let mut connections = Vec::new();
        for _ in 0..40 {
            let connection = world.connection_of(account, "acme").await;
            world.insert(&vec![on(connection, account); 5]).await;
            connections.push(connection.0);
        }
        world.insert(&vec![job(account, 2); 10]).await;
        world.pass_ms(60_000).await;
        assert!(world.go().await.is_empty());
        assert!(world.office.store.resume(&testkit::granted_to("ada", "it is over"), &target).await.unwrap());
        let mut begun = 0;
        for step in 0..=10 {
            let queued = world.queued_by_connection().await;
            assert!(
                queued.len() - begun <= 15,
                "{} of 40 begin {} ms after {target}",
                queued.len() - begun,
                step * 500
            );
            begun = queued.len();
            world.pass_ms(500).await;
        }
        assert_eq!(begun, 40, "all have begun, {target}");
        world.pass_ms(5_000).await;
        let queued = world.queued_by_connection().await;
        assert!(connections.iter().all(|connection| queued[connection] == 5), "{target}: {queued:?}");
        let alone = "SELECT count(*) FROM jobs WHERE state = 2 AND connection_id IS NULL";
        assert_eq!(world.number(alone).await, 10, "what calls nobody waits for nothing");
        while !world.finish_queued(500).await.is_empty() {}
    }
    let (subject, key) = (Some("pause".to_owned()), Some("everything".to_owned()));
    let filter = AuditFilter { subject, key, ..AuditFilter::default() };
    let rows = world.office.store.list_audit(&filter, 10).await.unwrap();
    let said: Vec<_> = rows.iter().map(|row| (row.action.as_str(), row.actor.as_str(), row.reason.as_str())).collect();
    assert_eq!(said, [("resume", "ada", "it is over"), ("pause", "ada", "a test")]);
}

/// What a group's members find once its pause is lifted is what any others find: the limits of their connection, whose
/// other jobs have gone on meanwhile.
#[tokio::test]
async fn a_group_whose_pause_is_lifted_goes_as_its_connection_bears() {
    let world = world().await;
    let (held, free) =
        (world.connection_of(AccountId::SYSTEM, "acme").await, world.connection_of(AccountId::SYSTEM, "acme").await);
    world.limit(Scope::Connection(held), Limit { concurrency: Some(5), ..Limit::default() }).await;
    for (connection, at_once) in [(held, 5), (free, 40)] {
        let members = vec![on(connection, AccountId::SYSTEM); 40];
        let request_id = members[0].request_id;
        let new = NewGroup { name: "g".to_owned(), account: AccountId::SYSTEM, finishing: None, request_id };
        let (group, _) = world.office.store.create_group(&testkit::granted(), &new, &[], false).await.unwrap();
        let target = PauseTarget::Group(group);
        world.office.store.pause(&testkit::granted(), &target).await.unwrap();
        world.office.store.add_members(&testkit::granted(), group, &members).await.unwrap();
        world.insert(&[on(connection, AccountId::SYSTEM)]).await;
        let of = async || world.queued_by_connection().await.get(&connection.0).copied().unwrap_or(0);
        assert_eq!(of().await, 1, "the others go on");
        world.finish_queued(1).await;
        assert!(world.office.store.resume(&testkit::granted_to("ada", "it is over"), &target).await.unwrap());
        assert_eq!((of().await, of().await), (at_once, at_once));
        let mut left = 40;
        while left > 0 {
            let ended = world.finish_queued(40).await.len();
            assert!((1..=at_once).contains(&i64::try_from(ended).unwrap()), "{ended} at once");
            left -= ended;
            of().await;
        }
    }
    world.assert_counted().await;
}
