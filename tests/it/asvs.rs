//! What `docs/asvs.md` says is there: 34 items, and the tests that it names. And those of them that are read off the sources.

use crate::tidy::{root, sources};
use std::collections::BTreeSet;

/// The files that put statements together at run time, beneath `crates/store/src`: names are checked and quoted there.
const MAKES_SQL: [&str; 5] =
    ["partitions.rs", "records.rs", "records/compare.rs", "records/making.rs", "records/patch.rs"];
/// What a deployment runs.
const DAEMONS: [&str; 11] = [
    "credentials",
    "daemon",
    "domain",
    "manager",
    "manager-api",
    "oidc",
    "queue",
    "salesforce",
    "scheduler",
    "servant-loop",
    "vault",
];

#[test]
fn every_item_is_there_and_every_test_that_it_names() {
    let page = std::fs::read_to_string(root().join("docs/asvs.md")).unwrap();
    let functions: BTreeSet<String> = sources()
        .iter()
        .flat_map(|(_, text)| text.split("fn ").skip(1))
        .filter_map(|rest| rest.split_once('(').map(|(name, _)| name.to_owned()))
        .collect();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| #") && !line.starts_with("| ---"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let numbers: Vec<String> = rows.iter().map(|row| row[1].to_owned()).collect();
    assert_eq!(numbers, (1..=34).map(|number| number.to_string()).collect::<Vec<_>>());
    for row in rows {
        let named: Vec<&str> = row[3].split('`').skip(1).step_by(2).collect();
        let missing: Vec<&&str> = named.iter().filter(|name| !functions.contains(**name)).collect();
        assert!(missing.is_empty(), "item {}: no test is called {missing:?}", row[1]);
        assert!(!named.is_empty() || !row[4].is_empty(), "item {} says neither by what nor why not", row[1]);
    }
}

#[test]
fn only_static_statements_or_checked_names_become_sql() {
    for (path, text) in sources() {
        let Some(file) = path.strip_prefix("crates/store/src/") else { continue };
        assert!(!text.contains("AssertSqlSafe") || MAKES_SQL.contains(&file), "{path} makes SQL at run time");
    }
}

#[test]
fn no_daemon_starts_another_program() {
    for (path, text) in sources() {
        let is_daemons = DAEMONS.iter().any(|name| path.starts_with(&format!("crates/{name}/src/")));
        assert!(!is_daemons || !text.contains("process::Command"), "{path} starts a program");
    }
}
