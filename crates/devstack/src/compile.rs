//! Owns finding and building the programs that the stack consists of, in the profile of this one.

use anyhow::Context;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The built programs.
#[derive(Debug)]
pub(crate) struct Programs {
    directory: PathBuf,
    /// The kinds of work, one servant each.
    pub(crate) kinds: Vec<String>,
}

impl Programs {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Builds what is not up to date. Cargo shows its progress itself.
pub(crate) async fn build(root: &Path) -> anyhow::Result<Programs> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // The whole workspace, as tests build it: with a choice of packages, dependencies would be compiled once more with
    // the features that this choice wants.
    command.current_dir(root).args(["build", "--quiet", "--workspace", "--bins"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    // What `cargo run` says about this package must not reach the build of the others.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    let status = command
        .stdout(std::process::Stdio::null())
        .status()
        .await
        .context("cargo cannot be started; run this as `cargo up`")?;
    anyhow::ensure!(status.success(), "the build failed; the compiler's message is above");
    let this = std::env::current_exe().context("this program's own path is unknown")?;
    let directory = this.parent().context("this program's own path has no directory")?.to_owned();
    Ok(Programs { directory, kinds: kinds(root)? })
}

/// One file in `crates/servants/src/bin` is one kind of work.
fn kinds(root: &Path) -> anyhow::Result<Vec<String>> {
    let directory = root.join("crates/servants/src/bin");
    let entries = std::fs::read_dir(&directory).with_context(|| format!("{} cannot be read", directory.display()))?;
    let mut kinds = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            kinds.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    kinds.sort();
    anyhow::ensure!(!kinds.is_empty(), "{} holds no servant", directory.display());
    Ok(kinds)
}
