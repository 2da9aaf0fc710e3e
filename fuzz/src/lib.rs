//! The targets of all crates by name. Does not own them: each is beside what it runs.

/// A target's examples.
pub type Examples = &'static [&'static str];

type Run = fn(&[u8]);

/// Every target: its name, its function, its examples.
pub fn targets() -> impl Iterator<Item = (&'static str, Run, Examples)> {
    let vendor = salesforce::fuzz::TARGETS.iter().map(|target| (target.name, target.run, target.examples));
    vendor.chain(sync::fuzz::TARGETS.iter().map(|target| (target.name, target.run, target.examples)))
}

/// Runs one.
///
/// # Panics
/// When the target does, or there is none of that name.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, run, _) = targets().find(|(known, ..)| *known == name).expect("a target of that name");
    run(bytes);
}
