//! What the documentation says that a test can read: files that it names exist, and the table of verbs is servantctl's.
//! Does not own its examples: those are run by the tests of what they show.

use crate::tidy::root;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The example of `Adding a servant`, which is not in the tree.
const EXAMPLE: &str = "crates/servants/src/bin/greet.rs";
/// Where a name in the documentation begins that is one of this repository's files.
const PLACES: [&str; 8] = ["crates/", "tests/", "config/", "docs/", "deploy/", "migrations/", ".ci/", "fuzz/"];

/// What stands between backticks in a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn every_file_that_the_documentation_names_exists() {
    let root = root();
    let mut pages = vec![root.join("README.md")];
    pages.extend(fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let mut wrong = Vec::new();
    let mut named = 0;
    for page in pages {
        for (number, line) in fs::read_to_string(&page).unwrap().lines().enumerate() {
            // A bare name is beside the file that the same line has named before.
            let mut beside = None;
            for name in quoted(line).filter(|name| *name != EXAMPLE && !name.contains(' ')) {
                let path = match &beside {
                    _ if PLACES.iter().any(|place| name.starts_with(place)) => root.join(name),
                    Some(directory) if name.ends_with(".rs") => root.join(directory).join(name),
                    _ => continue,
                };
                named += 1;
                if !path.exists() {
                    wrong.push(format!("{}:{}: {name}", page.display(), number + 1));
                }
                if name.contains('/') && path.starts_with(root.join(name)) {
                    beside = Path::new(name).parent();
                }
            }
        }
    }
    assert!(named > 50, "only {named} files were found in the documentation");
    assert!(wrong.is_empty(), "files that are not there:\n  {}", wrong.join("\n  "));
}

#[test]
fn the_readme_lists_every_verb() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, section) = readme.split_once("\n## Operations\n").expect("the README's section");
    let (section, _) = section.split_once("\n## ").expect("a section behind it");
    let mut listed = BTreeSet::new();
    for cell in section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()) {
        let mut noun = "";
        for verb in quoted(cell) {
            noun = verb.split_once(' ').map_or(noun, |(first, _)| first);
            let is_whole = noun.is_empty() || verb.contains(' ');
            listed.insert(if is_whole { verb.to_owned() } else { format!("{noun} {verb}") });
        }
    }
    let table = fs::read_to_string(root().join("crates/manager-api/parity.txt")).unwrap();
    let verbs = table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(" | ").nth(2));
    // `pause` stands for `pause account` and all others of it.
    let is_listed = |verb: &str| listed.contains(verb) || listed.contains(verb.split(' ').next().unwrap_or(verb));
    let missing: BTreeSet<&str> = verbs.filter(|verb| !is_listed(verb)).collect();
    assert!(missing.is_empty(), "the README's table of verbs lacks {missing:?}");
}
