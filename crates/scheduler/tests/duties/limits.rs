//! The catalogue's limits are in the ledger once a reign has begun, and go when the file no longer says them.

use crate::world::World;
use domain::{BudgetSettings, Scope};
use scheduler::duties::declare_limits;
use store::Store;

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
    let set = world.office.store.set_limit(&Scope::EachAccount, &world.office.catalogue.limits()[0].1, "ada", "a test");
    set.await.unwrap();
    world.office.catalogue = catalogue("");
    assert_eq!(world.office.catalogue.budget(), BudgetSettings::default());
    declare_limits::perform(&world.office, &lead).await.unwrap();
    assert_eq!(declared(&world.office.store).await, []);
    assert_eq!(world.office.store.list_limits(None, 100).await.unwrap().len(), 1, "the operator's stays");
}
