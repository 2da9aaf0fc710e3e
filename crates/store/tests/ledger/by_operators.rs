//! What is done with the ledger itself, and by whom: each leaves its line.

use crate::world::World;
use domain::{Role, action};
use serde_json::{Value, json};
use store::{AuditFilter, AuditRow, NewCode, StoreError};

/// Leaves a database as `CREATE DATABASE` makes it.
const EMPTY: &str = "DROP SCHEMA public, salesforce CASCADE; CREATE SCHEMA public";

impl World {
    async fn noted(&self, action: &str) -> Vec<AuditRow> {
        let filter = AuditFilter { action: Some(action.to_owned()), ..AuditFilter::default() };
        self.store.list_audit(&filter, 20).await.unwrap()
    }
}

fn sides(row: &AuditRow) -> (Option<Value>, Option<Value>) {
    (row.before.clone(), row.after.clone())
}

#[tokio::test]
async fn a_migration_leaves_a_line_once_there_is_where_to_write_it() {
    let world = World::new().await;
    sqlx::raw_sql(EMPTY).execute(&world.sql).await.unwrap();
    let by = testkit::granted_to::<action::Migrate>("cli:ada@host-7", "");
    let (before, after) = world.store.migrate_by(&by).await.unwrap();
    assert!(before == 0 && after > 20_261_124_000_000, "{before} {after}");
    assert_eq!(world.store.migrate_by(&by).await.unwrap(), (after, after));
    let rows = world.noted("migrate").await;
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.actor == "cli:ada@host-7" && row.actor_kind == "system"));
    assert_eq!(sides(&rows[1]), (Some(json!({"version": 0})), Some(json!({"what": "migrate", "version": after}))));
    assert_eq!(rows[0].after, Some(json!({"what": "find nothing to migrate"})));
}

#[tokio::test]
async fn what_became_of_queues_and_of_keys_is_noted() {
    let world = World::new().await;
    let kinds = ["noop".to_owned(), "mail".to_owned()];
    world.store.note_queues_by(&testkit::granted::<action::EnsureQueues>(), &kinds, "there").await.unwrap();
    let rows = world.noted("ensure_queues").await;
    let said: Vec<_> = rows.iter().map(|row| (row.subject.as_str(), row.key.as_str())).collect();
    assert_eq!(said, [("queue", "mail"), ("queue", "noop")]);
    assert_eq!(rows[0].after, Some(json!({"what": "ensure queues", "outcome": "there"})));
    world.store.note_rotation(&testkit::granted(), "file:2", "1 wrapped").await.unwrap();
    let row = world.noted("rotate_keys").await.remove(0);
    assert_eq!((row.subject.as_str(), row.key.as_str()), ("keys", "file:2"));
    world.store.note_new_master(&testkit::granted(), "file:3").await.unwrap();
    let row = world.noted("rotate_keys").await.remove(0);
    assert_eq!((row.key.as_str(), row.after), ("file:3", Some(json!({"what": "make a master key"}))));
}

#[tokio::test]
async fn customers_and_connections_are_entered_with_a_line_or_not_at_all() {
    let world = World::new().await;
    let account = world.store.create_account_by("Acme", &testkit::granted()).await.unwrap();
    let what = ("salesforce", &json!({"login_url": "https://secret.example"}), Some("acme"));
    let connection = world.store.create_connection_by(account, what, &testkit::granted()).await.unwrap();
    let row = world.noted("create_account").await.remove(0);
    assert_eq!((row.key, row.actor.as_str()), (account.to_string(), "ada"));
    assert_eq!(row.after, Some(json!({"what": "create", "name": "Acme"})));
    let row = world.noted("create_connection").await.remove(0);
    assert_eq!((row.key, row.reason.as_str()), (connection.to_string(), "a test"));
    assert_eq!(row.after, Some(json!({"what": "create", "account_id": account.0, "vendor": "salesforce"})));
    let nobodys = world.store.create_connection_by(domain::AccountId(999), what, &testkit::granted()).await;
    assert!(matches!(nobodys, Err(StoreError::Rejected(_))), "{nobodys:?}");
    assert_eq!(world.noted("create_connection").await.len(), 1);

    world.store.create_account("by itself").await.unwrap();
    assert_eq!(world.noted("create_account").await[0].actor, "servant");
}

#[tokio::test]
async fn a_code_for_a_new_admin_is_noted_without_the_code() {
    let world = World::new().await;
    let expires_at = world.clock.now();
    let code = NewCode { digest: b"digest", user: None, role: Role::Admin, sets_password: true, expires_at };
    world.store.create_code(code, &testkit::granted()).await.unwrap();
    let row = world.noted("manage_people").await.remove(0);
    assert_eq!((row.subject.as_str(), row.key.as_str()), ("code", "of a new admin"));
    assert_eq!(row.after.unwrap()["what"], "make a one-time code");
}
