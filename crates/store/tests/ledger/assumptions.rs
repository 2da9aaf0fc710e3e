//! Looks at accounts as rows: whoever begins one says why, it ends by itself, and what happened in it is never changed.

use crate::world::World;
use chrono::TimeDelta;
use domain::{AccountId, Principal, PrincipalKind, Role, authorize};
use store::{AssumptionRow, AuditFilter, LookedAt, NewAssumption, StoreError};

fn ada() -> Principal {
    Principal::new(PrincipalKind::User, "7", "ada", Role::Support)
}

async fn begin(world: &World, account: AccountId, token: u8) -> Result<AssumptionRow, StoreError> {
    let granted = authorize(&ada(), "their sync is late").unwrap();
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
    let by = ada().assuming(account);
    for (what, at_what) in [(LookedAt::Looked, "GET /jobs"), (LookedAt::Refused, "POST /jobs")] {
        world.store.note_look(&by, look.id, what, (at_what, false)).await.unwrap();
    }
    world.clock.advance(TimeDelta::minutes(30) - TimeDelta::seconds(1));
    let found = world.store.assumption_of(&[1; 32]).await.unwrap().unwrap();
    assert!(found.is_open(world.clock.now()));
    assert_eq!(world.store.assumption_of(&[2; 32]).await.unwrap(), None);
    world.clock.advance(TimeDelta::seconds(1));
    assert!(!found.is_open(world.clock.now()));
    assert!(!world.store.end_assumption(&testkit::granted(), look.id).await.unwrap(), "its time has ended it");
    let next = begin(&world, account, 2).await.unwrap();
    assert_eq!(world.store.expire_assumptions().await.unwrap(), 1);
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
async fn the_beginning_each_page_and_the_end_are_in_the_audit() {
    let world = World::new().await;
    let account = world.store.create_account("Acme").await.unwrap();
    let (ended, lapsed) = (begin(&world, account, 1).await.unwrap(), begin(&world, account, 2).await.unwrap());
    let by = ada().assuming(account);
    for (look, what, at_what) in [
        (&ended, LookedAt::Looked, "GET /jobs"),
        (&lapsed, LookedAt::Looked, "GET /groups"),
        (&ended, LookedAt::Refused, "POST /jobs"),
    ] {
        world.store.note_look(&by, look.id, what, (at_what, false)).await.unwrap();
    }
    assert!(world.store.end_assumption(&authorize(&ada(), "").unwrap(), ended.id).await.unwrap());
    // Found a day late: the row says when it was over, and is in order among the others.
    world.clock.advance(TimeDelta::days(1));
    assert_eq!(world.store.expire_assumptions().await.unwrap(), 1);
    assert_eq!(world.store.expire_assumptions().await.unwrap(), 0, "once");
    let filter = AuditFilter { actor: Some("ada".to_owned()), ..AuditFilter::default() };
    let mut rows = world.store.list_audit(&filter, 100).await.unwrap();
    rows.reverse();
    assert!(rows.iter().all(|row| (row.actor_kind.as_str(), row.role.as_str()) == ("user", "support")));
    let said: Vec<String> = rows
        .iter()
        .map(|row| {
            let request = row.after.as_ref().unwrap().get("request").and_then(|request| request.as_str());
            let (action, outcome) = (&row.action, &row.outcome);
            format!("{action} {outcome} {} {} {}", row.subject, row.key, request.unwrap_or_default()).trim().to_owned()
        })
        .collect();
    let (account_id, first, second) = (account.0, ended.id, lapsed.id);
    let expected = [
        format!("assume_account done account {account_id}"),
        format!("assume_account done account {account_id}"),
        format!("assume_account done assumption {first} GET /jobs"),
        format!("assume_account done assumption {second} GET /groups"),
        format!("assume_account denied assumption {first} POST /jobs"),
        format!("end_assumption done account {account_id}"),
        format!("end_assumption lapsed account {account_id}"),
    ];
    assert_eq!(said, expected);
    let for_whom: Vec<Option<i64>> = rows.iter().map(|row| row.on_behalf_of).collect();
    let whose = Some(account_id);
    assert_eq!(for_whom, [None, None, whose, whose, whose, None, whose]);
    let over = serde_json::json!({ "assumption": second, "ended_at": lapsed.ends_at });
    assert_eq!((rows[6].after.as_ref(), rows[6].at), (Some(&over), world.clock.now()));
}

#[tokio::test]
async fn a_page_that_fetches_itself_again_is_noted_once_a_minute() {
    let world = World::new().await;
    let account = world.store.create_account("Acme").await.unwrap();
    let look = begin(&world, account, 1).await.unwrap();
    let by = ada().assuming(account);
    for second in 0..180 {
        let at_what = if second % 2 == 0 { "GET /jobs" } else { "GET /groups" };
        world.store.note_look(&by, look.id, LookedAt::Looked, (at_what, true)).await.unwrap();
        world.clock.advance(TimeDelta::seconds(1));
    }
    assert_eq!(told(&world, look.id).await.len(), 1 + 6, "two pages for three minutes");
    world.store.note_look(&by, look.id, LookedAt::Refused, ("GET /jobs", true)).await.unwrap();
    for _ in 0..2 {
        world.store.note_look(&by, look.id, LookedAt::Looked, ("GET /jobs", false)).await.unwrap();
    }
    assert_eq!(told(&world, look.id).await.len(), 10, "whoever goes there does so each time");
    let filter = AuditFilter { subject: Some("assumption".to_owned()), ..AuditFilter::default() };
    assert_eq!(world.store.list_audit(&filter, 100).await.unwrap().len(), 9);
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
