//! Looks at accounts as rows: whoever begins one says why, it ends by itself, and what happened in it is never changed.

use crate::world::World;
use chrono::TimeDelta;
use domain::{AccountId, Principal, PrincipalKind, Role, authorize};
use store::{AssumptionRow, LookedAt, NewAssumption, StoreError};

async fn begin(world: &World, account: AccountId, token: u8) -> Result<AssumptionRow, StoreError> {
    let ada = Principal::new(PrincipalKind::User, "7", "ada", Role::Support);
    let granted = authorize(&ada, "their sync is late").unwrap();
    let new = NewAssumption { account, reason: "their sync is late", ticket: "T-1", token_digest: &[token; 32] };
    world.store.begin_assumption(&granted, &new).await
}

async fn told(world: &World, id: i64) -> Vec<String> {
    let events = world.store.assumption_events(id, None, 100).await.unwrap();
    events.into_iter().map(|event| format!("{} {}", event.what, event.at_what).trim().to_owned()).collect()
}

#[tokio::test]
async fn a_look_lasts_half_an_hour_and_every_step_is_kept() {
    let world = World::new().await;
    let account = world.store.create_account("Acme").await.unwrap();
    assert!(matches!(begin(&world, AccountId(999), 1).await, Err(StoreError::Rejected(_))));
    assert!(matches!(begin(&world, AccountId::SYSTEM, 1).await, Err(StoreError::Rejected(_))));
    let look = begin(&world, account, 1).await.unwrap();
    assert_eq!((look.ends_at - look.started_at, look.principal_name.as_str()), (TimeDelta::minutes(30), "ada"));
    world.store.note_look(look.id, LookedAt::Looked, "GET /jobs").await.unwrap();
    world.store.note_look(look.id, LookedAt::Refused, "POST /jobs").await.unwrap();
    world.clock.advance(TimeDelta::minutes(30) - TimeDelta::seconds(1));
    let found = world.store.assumption_of(&[1; 32]).await.unwrap().unwrap();
    assert!(found.is_open(world.clock.now()));
    assert_eq!(world.store.assumption_of(&[2; 32]).await.unwrap(), None);
    world.clock.advance(TimeDelta::seconds(1));
    assert!(!found.is_open(world.clock.now()));
    assert!(!world.store.end_assumption(&testkit::granted(), look.id).await.unwrap(), "its time has ended it");
    // Whoever begins another says so of it.
    let next = begin(&world, account, 2).await.unwrap();
    assert_eq!(told(&world, look.id).await, ["expired", "refused POST /jobs", "looked GET /jobs", "started"]);
    assert_eq!(world.store.find_assumption(look.id).await.unwrap().unwrap().ended_at, Some(look.ends_at));
    assert_eq!(world.store.expire_assumptions().await.unwrap(), 0);

    world.clock.advance(TimeDelta::minutes(1));
    assert!(world.store.end_assumption(&testkit::granted(), next.id).await.unwrap());
    assert!(!world.store.end_assumption(&testkit::granted(), next.id).await.unwrap(), "once");
    assert_eq!(told(&world, next.id).await, ["ended", "started"]);
    let ids = async |of| -> Vec<i64> {
        world.store.list_assumptions(of, None, 10).await.unwrap().iter().map(|row| row.id).collect()
    };
    assert_eq!(ids(None).await, [next.id, look.id]);
    assert_eq!((ids(Some(account)).await, ids(Some(AccountId(999))).await), (vec![next.id, look.id], Vec::new()));
    let page = world.store.list_assumptions(Some(account), Some(next.id), 10).await.unwrap();
    assert_eq!(page.len(), 1);
}

#[tokio::test]
async fn what_was_looked_at_cannot_be_changed() {
    let world = World::new().await;
    let account = world.store.create_account("Acme").await.unwrap();
    let look = begin(&world, account, 1).await.unwrap();
    for statement in [
        "UPDATE assumption_events SET what = 'ended'",
        "DELETE FROM assumption_events",
        "TRUNCATE assumption_events",
        "UPDATE assumptions SET ends_at = ends_at + interval '1 second'",
    ] {
        assert!(sqlx::query(statement).execute(&world.sql).await.is_err(), "{statement}");
    }
    assert_eq!(told(&world, look.id).await, ["started"]);
}
