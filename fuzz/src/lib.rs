//! The targets of all crates by name, and where their examples lie. Does not own them: each is beside what it runs.

/// A target's examples.
type Examples = &'static [&'static str];

type Run = fn(&[u8]);

/// Every target: its name, its function, its examples.
fn targets() -> impl Iterator<Item = (&'static str, Run, Examples)> {
    let vendor = salesforce::fuzz::TARGETS.iter().map(|target| (target.name, target.run, target.examples));
    vendor.chain(sync::fuzz::TARGETS.iter().map(|target| (target.name, target.run, target.examples)))
}

/// Writes a target's examples where its fuzzer begins: `corpus/<name>/example-<n>`.
///
/// # Panics
/// When they cannot be written, or there is no target of that name.
pub fn begin(name: &str) {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let (.., examples) = find(name);
    std::fs::create_dir_all(&directory).expect("a directory for examples");
    for (at, example) in examples.iter().enumerate() {
        std::fs::write(directory.join(format!("example-{at}")), example).expect("room for an example");
    }
}

/// Runs one.
///
/// # Panics
/// When the target does, or there is none of that name.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, run, _) = find(name);
    run(bytes);
}

fn find(name: &str) -> (&'static str, Run, Examples) {
    targets().find(|(known, ..)| *known == name).expect("a target of that name")
}
