//! What the leading scheduler sees of what waits, and dead letters that it moves back on an order.

use crate::world::{World, kind};
use scheduler::duties::queues;

#[tokio::test]
async fn what_waits_and_how_deep_the_queues_are_is_noted() {
    let world = World::new().await;
    world.sqs.ensure("noop").await.unwrap();
    let since = world.clock.now();
    world.insert_many(3).await;
    world.advance_secs(90);
    world.insert_many(2).await;
    queues::perform(&world.office, &world.lead).await.unwrap();
    let seen = world.office.store.queue_states().await.unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].kind.as_str(), seen[0].oldest_ready_at), ("noop", Some(since)));
    assert_eq!((seen[0].visible, seen[0].dead), (Some(0), Some(0)));
    world.run(5).await;
    queues::perform(&world.office, &world.lead).await.unwrap();
    assert_eq!(world.office.store.queue_states().await.unwrap()[0].oldest_ready_at, None, "nothing waits");
}

#[tokio::test]
async fn an_order_to_move_dead_letters_back_is_carried_out_once() {
    let world = World::new().await;
    assert!(!world.office.store.order_redrive(&testkit::granted(), &kind()).await.unwrap(), "no queue was seen yet");
    world.sqs.ensure("noop").await.unwrap();
    queues::perform(&world.office, &world.lead).await.unwrap();
    assert!(world.office.store.order_redrive(&testkit::granted(), &kind()).await.unwrap());
    queues::perform(&world.office, &world.lead).await.unwrap();
    let row = world.office.store.queue_states().await.unwrap().remove(0);
    assert_eq!((row.redrive_by, row.redriven_at), (None, Some(world.clock.now())));
    assert!(row.redrive_outcome.unwrap().contains("dead letters"));
    assert!(world.office.store.ordered_redrives().await.unwrap().is_empty());
}
