//! `config/jobs.toml` and its limits: read, and refused where they make no sense, by table and key.

use domain::{AccountId, BudgetSettings, Catalogue, CatalogueTables, ConnectionId, Kind, Limits};
use serde_json::{Value, json};

fn read(tables: Value) -> Result<Catalogue, String> {
    let tables = serde_json::from_value::<CatalogueTables>(tables).map_err(|error| error.to_string())?;
    Catalogue::new(tables).map_err(|error| error.to_string())
}

fn with_kind(keys: Value) -> Value {
    let mut kind = json!({"label": "A kind", "run_secs_max": 60, "concurrency": 1});
    kind.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    json!({ "noop": kind })
}

fn with_limits(limits: Value) -> Value {
    let mut tables = with_kind(json!({}));
    tables["limits"] = limits;
    tables
}

#[test]
fn limits_are_read() {
    let mut tables = with_kind(json!({
        "vendor": "salesforce", "calls_estimate": 20, "limits": {"concurrency": 40, "per_minute": 600},
    }));
    tables["limits"] = json!({
        "each_account": {"concurrency": 9},
        "each_connection": {"per_second": 8},
        "vendor": {"salesforce": {"per_day": 7, "each_connection": {"concurrency": 6}}, "slack": {"each_connection": {"concurrency": 5}}},
        "budget": {"share_pct": 60},
    });
    let catalogue = read(tables).unwrap();
    let noop = Kind::new("noop").unwrap();
    let definition = catalogue.get(&noop).unwrap();
    assert_eq!((definition.vendor.as_deref(), definition.calls_estimate), (Some("salesforce"), 20));
    assert_eq!(catalogue.budget(), BudgetSettings { share_pct: 60, health_pct: 5 });
    assert_eq!(catalogue.limits().len(), 6);
    let limits: Limits = catalogue.limits().iter().cloned().collect();
    let (_, of_kind) = limits.of_kind(&noop).unwrap();
    assert_eq!((of_kind.concurrency, of_kind.per_minute), (Some(40), Some(600)));
    assert_eq!(limits.of_account(AccountId(1)).unwrap().1.concurrency, Some(9));
    assert_eq!(limits.of_connection(ConnectionId(1), None).unwrap().1.per_second, Some(8));
    assert_eq!(limits.of_connection(ConnectionId(1), Some("salesforce")).unwrap().1.concurrency, Some(6));
    assert_eq!(limits.of_connection(ConnectionId(1), Some("slack")).unwrap().1.concurrency, Some(5));
    assert_eq!(limits.of_vendor("salesforce").unwrap().1.per_day, Some(7));
    assert!(limits.of_vendor("slack").is_none());

    let plain = read(with_kind(json!({}))).unwrap();
    assert!(plain.limits().is_empty() && plain.budget() == BudgetSettings::default());
    assert_eq!(plain.get(&noop).unwrap().calls_estimate, 1);
}

#[test]
fn what_makes_no_sense_is_named() {
    for (tables, problem) in [
        (with_kind(json!({"limits": {}})), "[noop] limits: needs at least one of"),
        (with_kind(json!({"limits": {"concurrency": 0}})), "[noop] limits: concurrency must be at least 1; to stop"),
        (with_kind(json!({"limits": {"per_hour": 1}})), "unknown field `per_hour`"),
        (with_kind(json!({"calls_estimate": 0})), "[noop] calls_estimate must be at least 1"),
        (with_kind(json!({"vendor": "Sales Force"})), "[noop] vendor: 'Sales Force' is no vendor"),
        (with_limits(json!({"each_account": {"per_day": 0}})), "[limits] each_account: per_day must be at least 1"),
        (with_limits(json!({"each_connection": {}})), "[limits] each_connection: needs at least one of"),
        (with_limits(json!({"vendor": {"slack": {}}})), "[limits] vendor.slack: needs at least one of"),
        (with_limits(json!({"vendor": {"": {"per_day": 1}}})), "[limits] vendor.: '' is no vendor"),
        (
            with_limits(json!({"vendor": {"slack": {"each_connection": {"burst": 1}}}})),
            "[limits] vendor.slack.each_connection: needs at least one of",
        ),
        (with_limits(json!({"budget": {"share_pct": 101}})), "[limits] budget: share_pct is 101"),
        (with_limits(json!({"budget": {"share_pct": 5}})), "[limits] budget: health_pct is 5, not below share_pct (5)"),
        (with_limits(json!({"each_kind": {"per_day": 1}})), "unknown field `each_kind`"),
        (with_limits(json!({"label": "A kind", "run_secs_max": 60, "concurrency": 1})), "unknown field `concurrency`"),
    ] {
        let refusal = read(tables.clone()).unwrap_err();
        assert!(refusal.contains(problem), "{tables}: {refusal}");
    }
}
