//! An operator's orders, given to a real manager over HTTP, reach a running servant: pause, resume, drain, cancel.

use crate::fleet::{Fleet, LIMIT};
use domain::{JobState, ServantId};
use manager_api::{ByWhom, ManagerClient, Order, Servant};
use serde_json::json;
use std::time::Instant;
use testkit::eventually;

/// From an order to a servant that says that it obeys, at the most, in milliseconds; its heartbeats are further apart.
const EFFECTIVE_MS_MAX: i64 = 1_000;

async fn servant_when(client: &ManagerClient, what: &str, is_so: impl Fn(&Servant) -> bool) -> Servant {
    eventually(LIMIT, what, async || client.servants().await.ok()?.servants.into_iter().find(|servant| is_so(servant)))
        .await
}

#[tokio::test]
async fn orders_reach_a_running_servant() {
    let mut fleet = Fleet::on_postgres().await;
    let mut manager = fleet.deployment.start("manager", &[]).await;
    fleet.deployment.manager_url = format!("http://{}", manager.address(LIMIT).await);
    let client = ManagerClient::new(&fleet.deployment.manager_url).unwrap();
    let _scheduler = fleet.scheduler().await;
    let drains_soon = [("SERVANT_PROCESS__DRAIN_SECS", "8"), ("SERVANT_WORK__CONCURRENCY", "3")];
    let mut process = fleet.deployment.start("effects", &drains_soon).await;

    // Progress, then the end of one job of two.
    let long = json!({"pages": 1_000, "page_ms": 100});
    let jobs = fleet.enqueue_effects(&[long.clone(), json!({"pages": 30, "page_ms": 100})]).await;
    let servant = servant_when(&client, "a heartbeat with progress", |servant| {
        let is_on_its_way = |job: &manager_api::CurrentJob| job.progress.as_ref().is_some_and(|p| p["total"] == 1_000);
        servant.jobs.iter().any(is_on_its_way)
    })
    .await;
    assert_eq!(servant.pid.unsigned_abs(), process.pid());
    assert_eq!(client.cancel(jobs[0].0, &ByWhom::default()).await.unwrap().state, JobState::Running, "asked to stop");
    eventually(LIMIT, "the job to stop", async || {
        (fleet.job(jobs[0]).await.state == JobState::Cancelled).then_some(())
    })
    .await;
    fleet.until(JobState::Succeeded, 1).await;
    assert_eq!(fleet.job(jobs[1]).await.state, JobState::Succeeded, "its neighbour goes on");

    // Paused, it takes nothing.
    let by = |name: &str| ByWhom { by: Some(name.to_owned()), reason: Some("a test".to_owned()) };
    let ordered_at = fleet.store.now();
    client.order(servant.id, Order::Pause, &by("ada")).await.unwrap();
    let paused = servant_when(&client, "the pause", |servant| servant.state == "paused").await;
    assert_eq!((paused.ordered_by.as_deref(), paused.ordered_reason.as_deref()), (Some("ada"), Some("a test")));
    let obeyed_ms = (paused.heartbeat_at.unwrap() - ordered_at).num_milliseconds();
    assert!(obeyed_ms <= EFFECTIVE_MS_MAX, "it obeyed after {obeyed_ms} ms");
    let waiting = fleet.enqueue_effects(&[json!({}), json!({})]).await;
    servant_when(&client, "two more heartbeats", |servant| {
        (servant.heartbeat_at.unwrap() - paused.heartbeat_at.unwrap()).num_seconds() >= 3
    })
    .await;
    for id in &waiting {
        assert_eq!(fleet.job(*id).await.state, JobState::Ready);
    }
    client.order(servant.id, Order::Resume, &ByWhom::default()).await.unwrap();
    fleet.until(JobState::Succeeded, 3).await;

    // Drained, it gives back what it has, uncharged, and ends: also when the manager that was told so has died since,
    // before the servant could hear of it.
    let interrupted = fleet.enqueue_effects(&[long]).await;
    fleet.until_tried(&interrupted, 1).await;
    let address = fleet.deployment.manager_url.trim_start_matches("http://").to_owned();
    manager.kill();
    let granted = testkit::granted_to("bob", "a new version");
    assert!(fleet.store.order_servant(&granted, ServantId(servant.id), "drain").await.unwrap());
    let _manager = fleet.deployment.start("manager", &[("SERVANT_MANAGER__LISTEN", &address)]).await;
    let draining = servant_when(&client, "the order", |servant| servant.ordered.as_deref() == Some("drain")).await;
    assert_eq!(draining.ordered_by.as_deref(), Some("bob"));
    assert!(process.exit(LIMIT).await.success());
    let given_back = fleet.job(interrupted[0]).await;
    assert_eq!((given_back.state, given_back.attempt), (JobState::Ready, 0));
    assert!(given_back.checkpoint.is_some(), "it goes on where it was");
    assert_eq!(client.cancel(interrupted[0].0, &ByWhom::default()).await.unwrap().state, JobState::Cancelled);
    fleet.assert_sound(&[jobs, waiting, interrupted].concat()).await;
}

#[tokio::test]
async fn a_drain_is_obeyed_within_a_second() {
    let mut fleet = Fleet::on_postgres().await;
    let manager = fleet.deployment.start("manager", &[]).await;
    fleet.deployment.manager_url = format!("http://{}", manager.address(LIMIT).await);
    let client = ManagerClient::new(&fleet.deployment.manager_url).unwrap();
    let _scheduler = fleet.scheduler().await;
    let mut process = fleet.deployment.start("effects", &[("SERVANT_PROCESS__DRAIN_SECS", "8")]).await;
    let long = json!({"pages": 1_000, "page_ms": 100});
    let interrupted = fleet.enqueue_effects(std::slice::from_ref(&long)).await;
    fleet.until_tried(&interrupted, 1).await;
    let servant = servant_when(&client, "its heartbeat", |servant| servant.state == "running").await;

    let by = ByWhom { by: Some("ada".to_owned()), reason: Some("a new version".to_owned()) };
    let ordered_at = Instant::now();
    client.order(servant.id, Order::Drain, &by).await.unwrap();
    process.line_with(LIMIT, "draining").await;
    let obeyed_ms = ordered_at.elapsed().as_millis();
    assert!(obeyed_ms <= EFFECTIVE_MS_MAX.unsigned_abs().into(), "it obeyed after {obeyed_ms} ms");
    let told = servant_when(&client, "the order", |servant| servant.ordered.as_deref() == Some("drain")).await;
    assert_eq!((told.ordered_by.as_deref(), told.ordered_reason.as_deref()), (Some("ada"), Some("a new version")));
    let late = fleet.enqueue_effects(&[long]).await;
    assert!(process.exit(LIMIT).await.success());
    assert_eq!(fleet.tries(late[0]).await, [], "it takes nothing any more");
    let given_back = fleet.job(interrupted[0]).await;
    assert_eq!((given_back.state, given_back.attempt), (JobState::Ready, 0));
}
