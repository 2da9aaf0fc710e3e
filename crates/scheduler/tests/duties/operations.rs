//! Bulk operations are carried out by whoever leads.

use crate::world::World;
use domain::{BulkAct, JobState, Search};
use scheduler::duties::operations;
use store::NewOperation;

#[tokio::test]
async fn an_operation_goes_on_until_it_has_ended() {
    let world = World::new().await;
    let ids = world.insert_many(300).await;
    let search: Search = BulkAct::Cancel.within("kind:noop".parse().unwrap()).unwrap();
    let new = NewOperation { act: BulkAct::Cancel, search, expected: 300, expected_is_exact: true, per_second: 10_000 };
    let id = world.office.store.create_operation(&testkit::granted_to("ada", "wrong year"), &new).await.unwrap();
    while operations::perform(&world.office, &world.lead).await.unwrap() {
        world.clock.advance(chrono::TimeDelta::milliseconds(100));
    }
    let row = world.office.store.find_operation(id).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.applied), ("done", 300));
    for id in [ids[0], ids[299]] {
        assert_eq!(world.state(id).await, JobState::Cancelled);
    }
    world.assert_counted().await;
}

#[tokio::test]
async fn an_operation_that_is_not_understood_is_cancelled_and_holds_up_no_other() {
    let world = World::new().await;
    world.insert_many(3).await;
    let order = async || {
        let search: Search = BulkAct::Cancel.within("kind:noop".parse().unwrap()).unwrap();
        let new = NewOperation { act: BulkAct::Cancel, search, expected: 3, expected_is_exact: true, per_second: 100 };
        world.office.store.create_operation(&testkit::granted_to("ada", "wrong year"), &new).await.unwrap()
    };
    let (strange, plain) = (order().await, order().await);
    let spoil = "UPDATE operations SET search = 'colour:blue', next_at = next_at - interval '1 second' WHERE id = $1";
    sqlx::query(spoil).bind(strange).execute(&world.sql).await.unwrap();
    while operations::perform(&world.office, &world.lead).await.unwrap() {}
    let strange = world.office.store.find_operation(strange).await.unwrap().unwrap();
    assert_eq!((strange.state.as_str(), strange.cancelled_by.as_deref()), ("cancelled", Some("scheduler")));
    let plain = world.office.store.find_operation(plain).await.unwrap().unwrap();
    assert_eq!((plain.state.as_str(), plain.applied), ("done", 3));
}
