//! What `docs/asvs.md` says is there: 34 items, and the tests that it names. And those of them that are read off the sources.

use crate::tidy::{root, sources};
use cargo_metadata::MetadataCommand;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use vault::{ExposeSecret as _, TokenFor, new_token};

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

/// How secrets begin that others give out, and how many letters follow at the least: keys of AWS, tokens of GitHub, GitLab,
/// Slack and crates.io.
const OTHERS_SECRETS: [(&str, usize); 8] = [
    ("AKIA", 16),
    ("ASIA", 16),
    ("ghp_", 36),
    ("github_pat_", 36),
    ("glpat-", 20),
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("cio", 32),
];
/// Letters of one of our own tokens behind its first four.
const OWN_LETTERS: usize = 43;
/// What is no part of the repository, wherever it lies.
const NOT_OURS: [&str; 4] = ["target", ".git", ".servant", "__pycache__"];
/// Licences under which something may be depended on: they ask for a notice and nothing else, or for nothing.
const LICENCES: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
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

/// Secrets in a text, each by what it begins with and the line.
fn secrets_in(text: &str) -> Vec<(usize, String)> {
    let own = [TokenFor::Session, TokenFor::Api, TokenFor::Servant, TokenFor::Code, TokenFor::Boot];
    let kinds: Vec<(&str, usize)> =
        OTHERS_SECRETS.into_iter().chain(own.map(|is_for| (is_for.prefix(), OWN_LETTERS))).collect();
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for (begins, letters) in &kinds {
            let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            let is_secret = |(place, _): (usize, &str)| {
                let is_first = !line[..place].ends_with(is_letter);
                is_first && line[place + begins.len()..].chars().take_while(|c| is_letter(*c)).count() >= *letters
            };
            if line.match_indices(*begins).any(is_secret) {
                found.push((at + 1, (*begins).to_owned()));
            }
        }
        // What is put together at run time has braces between.
        if line.contains("-----BEGIN") && line.contains("PRIVATE KEY-----") && !line.contains('{') {
            found.push((at + 1, "a private key".to_owned()));
        }
    }
    found
}

/// Every file of the repository that is text.
fn texts(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let is_ours = path.file_name().is_some_and(|name| NOT_OURS.iter().all(|other| name != *other));
        if path.is_dir() && is_ours {
            texts(&path, found);
        } else if path.is_file()
            && let Ok(text) = fs::read_to_string(&path)
        {
            found.push((path, text));
        }
    }
}

#[test]
fn no_secret_lies_in_the_repository_and_ours_would_be_found() {
    for is_for in [TokenFor::Session, TokenFor::Api, TokenFor::Servant, TokenFor::Code, TokenFor::Boot] {
        let token = new_token(is_for);
        let line = format!("export SERVANT_TOKEN={}\n", token.expose_secret());
        assert_eq!(secrets_in(&line), [(1, is_for.prefix().to_owned())]);
    }
    let (aws, key) = (format!("key = \"AKIA{}\"", "A".repeat(16)), ["-----BEGIN ", "PRIVATE KEY-----"].concat());
    assert_eq!((secrets_in(&aws).len(), secrets_in(&key).len()), (1, 1));
    let none = format!("the prefix svt_, then letters; and xsvt_{}", "a".repeat(OWN_LETTERS));
    assert!(secrets_in(&none).is_empty());
    let mut all = Vec::new();
    texts(&root(), &mut all);
    assert!(all.len() > 500, "{}", all.len());
    let lost: Vec<String> = all
        .iter()
        .flat_map(|(path, text)| {
            secrets_in(text).into_iter().map(move |found| format!("{}: {found:?}", path.display()))
        })
        .collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

/// Whether one may choose a licence of [`LICENCES`] by that expression, which is of `OR`, `AND` and brackets around `OR`.
fn is_free(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let any = |part: &str| part.split(" OR ").any(|one| LICENCES.contains(&one.trim().trim_matches(['(', ')'])));
    if expression.contains('(') || !expression.contains(" OR ") {
        return expression.split(" AND ").all(any);
    }
    expression.split(" OR ").any(|part| part.split(" AND ").all(any))
}

#[test]
fn what_is_depended_on_is_pinned_comes_from_one_registry_and_may_be_used() {
    let lock: toml::Table = fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    assert!(packages.len() > 100);
    for package in packages {
        let Some(source) = package.get("source") else { continue };
        let is_crates_io = source.as_str() == Some("registry+https://github.com/rust-lang/crates.io-index");
        assert!(is_crates_io && package.get("checksum").is_some(), "{package}");
    }
    let filter = ["--filter-platform", "x86_64-unknown-linux-gnu", "--locked"].map(str::to_owned);
    let metadata =
        MetadataCommand::new().manifest_path(root().join("Cargo.toml")).other_options(filter).exec().unwrap();
    let unfree: Vec<String> = metadata
        .packages
        .iter()
        .filter(|package| !package.license.as_deref().is_some_and(is_free))
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.license))
        .collect();
    assert!(unfree.is_empty(), "{unfree:#?}");
    for (expression, may) in [
        ("MIT OR Apache-2.0", true),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("GPL-3.0 OR Apache-2.0 AND MIT", true),
        ("MIT AND GPL-3.0", false),
        ("AGPL-3.0", false),
    ] {
        assert_eq!(is_free(expression), may, "{expression}");
    }
}
