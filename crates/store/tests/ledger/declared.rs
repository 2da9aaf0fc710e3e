//! The walk through those for whom schedules are declared, and schedules whose connection is not active.

use crate::schedules::new;
use crate::world::World;
use chrono::TimeDelta;
use domain::{CatchUp, ConnectionId, Overlap};
use serde_json::json;
use store::{Leadership, Walked};

#[tokio::test]
async fn a_walk_goes_on_where_it_stopped() {
    let world = World::new().await;
    let names = ["nightly".to_owned()];
    let mut accounts = Vec::new();
    for name in ["one", "two", "three"] {
        // All at one time, as an import would.
        accounts.push(world.store.create_account(name).await.unwrap());
    }
    world.store.declare_schedules(&[new(&world, &format!("nightly/{}", accounts[1]), Overlap::Skip)]).await.unwrap();
    let page = world.store.walk_accounts(&names, 2).await.unwrap();
    let seen = |page: &[Walked]| page.iter().map(|walked| (walked.account, walked.has)).collect::<Vec<_>>();
    assert_eq!(seen(&page), [(accounts[0], false), (accounts[1], true)], "and not the system");
    assert_eq!(world.store.walk_accounts(&names, 2).await.unwrap(), page, "until it is kept");
    world.store.keep_walks(&world.lead, &[&page[1]]).await.unwrap();
    let page = world.store.walk_accounts(&names, 2).await.unwrap();
    assert_eq!(seen(&page), [(accounts[2], false)]);
    world.store.keep_walks(&world.lead, &[&page[0]]).await.unwrap();
    assert_eq!(world.store.walk_accounts(&names, 2).await.unwrap(), []);
    assert_eq!(world.store.walk_accounts(&["other".to_owned()], 9).await.unwrap().len(), 3, "a walk of its own");

    let deposed = Leadership { holder: "another".to_owned(), ..world.lead.clone() };
    world.store.take_walks_back(&deposed, &names).await.unwrap();
    assert_eq!(world.store.walk_accounts(&names, 9).await.unwrap(), [], "one that leads no more takes nothing back");
    world.store.take_walks_back(&world.lead, &names).await.unwrap();
    let all = world.store.walk_accounts(&names, 9).await.unwrap();
    assert_eq!(all.len(), 3);
    world.store.keep_walks(&deposed, &[&all[2]]).await.unwrap();
    assert_eq!(world.store.walk_accounts(&names, 9).await.unwrap().len(), 3, "nor keeps anything");
    let late = new(&world, &format!("nightly/{}", accounts[0]), Overlap::Skip);
    assert_eq!(world.store.enter_schedules(&deposed, std::slice::from_ref(&late)).await.unwrap(), 0, "nor enters any");
    assert_eq!(world.store.enter_schedules(&world.lead, &[late]).await.unwrap(), 1);
    world.store.keep_walks(&world.lead, &[&page[0]]).await.unwrap();
    world.store.take_walks_back(&world.lead, &names).await.unwrap();
    assert_eq!(world.store.walk_accounts(&names, 9).await.unwrap(), [], "it was there just now");
    world.advance_secs(660);
    world.store.take_walks_back(&world.lead, &names).await.unwrap();
    assert_eq!(world.store.walk_accounts(&names, 9).await.unwrap(), [], "they are old");
}

#[tokio::test]
async fn schedules_of_a_connection_that_is_not_active_wait_and_are_looked_at_less_and_less() {
    let world = World::new().await;
    let account = world.store.create_account("one").await.unwrap();
    let connection = world.store.create_connection(account, "salesforce", &json!({}), None).await.unwrap();
    let mut schedule = new(&world, "s", Overlap::Allow);
    schedule.policy.catch_up = CatchUp { secs: 86_400, fires_max: 1_000 };
    (schedule.account, schedule.connection) = (account, Some(connection));
    let id = world.schedule(&schedule).await;
    let set = async |state: &'static str| {
        sqlx::query("UPDATE connections SET state = $1").bind(state).execute(&world.sql).await.unwrap();
    };
    set("needs_reauth").await;
    let start = world.clock.now();
    let mut looks = Vec::new();
    for _ in 0..1_800 {
        let due = world.store.due_schedules(10).await.unwrap();
        if !due.is_empty() {
            assert!(due.len() == 1 && due[0].is_held);
            looks.push((world.clock.now() - start).num_seconds());
            world.store.hold_schedules(&world.lead, &[id]).await.unwrap();
        }
        world.advance_secs(1);
    }
    assert_eq!(looks, [0, 5, 10, 20, 40, 80, 160, 320, 620, 920, 1_220, 1_520]);
    let next = world.store.next_due(world.after_secs(3_600)).await.unwrap().unwrap();
    assert!(next > world.clock.now());

    set("active").await;
    world.store.hold_schedules(&world.lead, &[id]).await.unwrap();
    world.clock.advance(TimeDelta::seconds(300));
    let due = world.store.due_schedules(10).await.unwrap();
    assert!(due.len() == 1 && !due[0].is_held && due[0].due_at == start, "{due:?}");
    assert_eq!(world.tick().await.jobs.len(), 36, "what was missed and what came due, each once");
    let connections: Vec<Option<i64>> =
        sqlx::query_scalar("SELECT DISTINCT connection_id FROM jobs").fetch_all(&world.sql).await.unwrap();
    assert_eq!(connections, [Some(connection)].map(|c| c.map(|ConnectionId(id)| id)));
    assert_eq!(world.tick().await.jobs, []);
    world.advance_secs(60);
    assert_eq!(world.tick().await.jobs.len(), 1, "and then with every minute");
}

#[tokio::test]
async fn a_leader_of_the_past_holds_nothing() {
    let world = World::new().await;
    let account = world.store.create_account("one").await.unwrap();
    let connection = world.store.create_connection(account, "salesforce", &json!({}), None).await.unwrap();
    let mut schedule = new(&world, "s", Overlap::Skip);
    (schedule.account, schedule.connection) = (account, Some(connection));
    let id = world.schedule(&schedule).await;
    sqlx::query("UPDATE connections SET state = 'parked'").execute(&world.sql).await.unwrap();
    let old = world.lead.clone();
    world.store.resign(&old).await.unwrap();
    world.store.hold_schedules(&old, &[id]).await.unwrap();
    assert_eq!(world.store.due_schedules(10).await.unwrap().len(), 1);
}
