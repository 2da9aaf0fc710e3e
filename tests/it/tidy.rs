//! The house rules that a machine can read: floors, file headers and lengths, monopolies, names.

use cargo_metadata::{DependencyKind, MetadataCommand};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crates by floor: arrows go down only, never sideways.
const FLOORS: [&[&str]; 4] = [
    &["domain"],
    &[
        "store",
        "queue",
        "manager-api",
        "daemon",
        "vault",
        "salesforce",
        "oidc",
        "mailbox",
        "calendar",
        "slack",
        "local-postgres",
    ],
    &["servant-loop", "scheduler", "manager", "sync", "credentials"],
    &["servants", "devstack", "servantctl"],
];
/// These may use everything; nothing but tests uses them.
const BESIDE: [&str; 4] = ["testkit", "fakes", "bench", "e2e"];
/// Packages, by the start of their name, and their owners; what stands beside, and tests' dependencies, are free.
const MONOPOLIES: [(&str, &[&str]); 5] = [
    ("sqlx", &["store"]),
    ("aws-sdk-sqs", &["queue"]),
    ("aws-sdk-kms", &["vault"]),
    // Passwords.
    ("argon2", &["vault"]),
    // The ciphers, and the digest of OAuth's challenge.
    ("aws-lc-rs", &["vault", "salesforce", "oidc"]),
];
/// The files that write rows of `jobs` or `finished_jobs`, beneath `crates/store/src`.
const JOB_WRITERS: [&str; 8] = [
    "jobs/insert.rs",
    "jobs/transition.rs",
    "jobs/by_hand.rs",
    "jobs/retry.rs",
    "jobs/claim.rs",
    "jobs/dispatch.rs",
    "jobs/attempt.rs",
    "schedules.rs",
];
/// No file is longer; about 400 is the aim.
const LINES_MAX: usize = 450;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Everything beneath `directory` with one of these extensions, build output excepted.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                found.extend(files(&path, extension));
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found
}

pub(crate) fn sources() -> Vec<(String, String)> {
    let root = root();
    let mut all = files(&root.join("crates"), "rs");
    all.extend(files(&root.join("tests"), "rs"));
    let named =
        |path: PathBuf| (path.strip_prefix(&root).unwrap().display().to_string(), fs::read_to_string(&path).unwrap());
    all.into_iter().map(named).collect()
}

fn assert_none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

/// Every arrow between or out of the workspace's crates: from, to, whether only tests need it.
fn arrows() -> Vec<(String, String, bool)> {
    let metadata =
        MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().expect("cargo metadata");
    let mut arrows = Vec::new();
    for package in &metadata.packages {
        for dependency in &package.dependencies {
            let for_tests = dependency.kind == DependencyKind::Development;
            arrows.push((package.name.to_string(), dependency.name.clone(), for_tests));
        }
    }
    assert!(!arrows.is_empty());
    arrows
}

#[test]
fn arrows_go_down_only() {
    let floor = |name: &str| FLOORS.iter().position(|crates| crates.contains(&name));
    let arrows = arrows();
    let members: BTreeSet<&str> = arrows.iter().map(|(from, ..)| from.as_str()).collect();
    let mut wrong = Vec::new();
    for member in &members {
        if floor(member).is_none() && !BESIDE.contains(member) {
            wrong.push(format!("{member} is on no floor"));
        }
    }
    for (from, to, for_tests) in &arrows {
        if *for_tests || BESIDE.contains(&from.as_str()) {
            continue;
        }
        if BESIDE.contains(&to.as_str()) {
            wrong.push(format!("{from} -> {to}: only tests may use it"));
        }
        if let (Some(upper), Some(lower)) = (floor(from), floor(to))
            && upper <= lower
        {
            wrong.push(format!("{from} (floor {upper}) -> {to} (floor {lower})"));
        }
    }
    assert_none(&wrong, "arrows go down only, never sideways");
}

#[test]
fn outside_packages_have_one_owner() {
    let mut wrong = Vec::new();
    for (from, to, for_tests) in arrows() {
        for (package, owners) in MONOPOLIES {
            if to.starts_with(package)
                && !for_tests
                && !owners.contains(&from.as_str())
                && !BESIDE.contains(&from.as_str())
            {
                wrong.push(format!("{from} -> {to}"));
            }
        }
    }
    assert_none(&wrong, "one crate speaks to each outside thing");
}

#[test]
fn every_file_says_what_it_owns_and_is_short() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//! ") {
            wrong.push(format!("{path} does not open with //!"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{path} has {lines} lines, {LINES_MAX} is the most"));
        }
    }
    assert_none(&wrong, "a file opens with //!, holds one idea and stays short");
}

#[test]
fn suppressions_have_reasons() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let marks = [concat!("#[", "allow("), concat!("#![", "allow(")];
        if marks.iter().any(|mark| text.contains(mark)) {
            wrong.push(path);
        }
    }
    assert_none(&wrong, "suppressions are #[expect(.., reason = ..)]");
}

#[test]
fn only_the_named_files_write_jobs() {
    let writes: Vec<String> = ["jobs", "finished_jobs"]
        .iter()
        .flat_map(|table| {
            [format!("INSERT INTO {table} "), format!("UPDATE {table} "), format!("DELETE FROM {table} ")]
        })
        .collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(inside) = path.strip_prefix("crates/store/src/") else { continue };
        if !JOB_WRITERS.contains(&inside) && writes.iter().any(|write| text.contains(write)) {
            wrong.push(path);
        }
    }
    assert_none(&wrong, "jobs' rows are written in the files that JOB_WRITERS names");
}

#[test]
fn migrations_are_named_by_time_and_deed() {
    let mut wrong = Vec::new();
    let mut versions = BTreeMap::new();
    for path in files(&root().join("migrations"), "sql") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (version, deed) = name.split_once('_').unwrap_or((&name, ""));
        let is_time = version.len() == 14 && version.chars().all(|c| c.is_ascii_digit());
        let is_deed =
            deed.contains('_') && deed.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !is_time || !is_deed {
            wrong.push(format!("{name} is not <14 digits>_<verb>_<noun>"));
        }
        if let Some(other) = versions.insert(version.to_owned(), name.clone()) {
            wrong.push(format!("{name} and {other} have one version"));
        }
    }
    assert!(!versions.is_empty(), "there are no migrations");
    assert_none(&wrong, "migrations' names");
}

#[test]
fn every_kind_has_a_program_and_every_program_a_kind() {
    let catalogue: toml::Table = fs::read_to_string(root().join("config/jobs.toml")).unwrap().parse().unwrap();
    let kinds: BTreeSet<String> = catalogue
        .iter()
        .filter(|(name, value)| value.is_table() && *name != "limits")
        .map(|(name, _)| name.clone())
        .collect();
    let programs: BTreeSet<String> = files(&root().join("crates/servants/src/bin"), "rs")
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, programs, "config/jobs.toml (left) and crates/servants/src/bin (right)");
}

/// Servants are shipped, developed and measured with the same allocator.
#[test]
fn the_allocator_is_set_alike_everywhere() {
    let line = |path: &str, start: &str| {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let found = text.lines().find_map(|line| line.split_once(start)).map(|(_, rest)| rest.to_owned());
        let values: String = found.unwrap_or_else(|| panic!("{path}: no line with {start}"));
        values.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>()
    };
    let shipped = line("deploy/supervisord.conf", "environment = ");
    assert!(shipped.contains("MALLOC"), "{shipped}");
    for path in ["crates/devstack/src/children.rs", "crates/bench/src/fleet.rs"] {
        assert_eq!(line(path, "const ALLOCATOR: [(&str, &str); 2] = "), shipped, "{path}");
    }
}
