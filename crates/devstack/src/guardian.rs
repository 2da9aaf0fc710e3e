//! Owns the end of the children should this program be killed outright: a small shell waits for the end of its input,
//! which comes with our end however that comes, and then asks every child in the list to stop.

use anyhow::Context;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
};
use tokio::process::{Child, ChildStdin, Command};

const SCRIPT: &str = r#"cat >/dev/null; for pid in $(cat "$1" 2>/dev/null); do kill -TERM "$pid" 2>/dev/null; done"#;

/// The list of living children, in memory and in the file that the shell reads.
#[derive(Debug)]
pub(crate) struct Guardian {
    file: PathBuf,
    pids: Mutex<BTreeSet<u32>>,
    _shell: Child,
    _pipe: Option<ChildStdin>,
}

impl Guardian {
    pub(crate) fn start(state: &Path) -> anyhow::Result<Self> {
        let file = state.join("pids");
        // A list of an earlier run names processes that may be anyone's by now.
        let _ = std::fs::remove_file(&file);
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "servant-guardian"])
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("/bin/sh cannot be started")?;
        let pipe = shell.stdin.take();
        Ok(Self { file, pids: Mutex::default(), _shell: shell, _pipe: pipe })
    }

    pub(crate) fn add(&self, pid: u32) {
        self.change(|pids| pids.insert(pid));
    }

    pub(crate) fn remove(&self, pid: u32) {
        self.change(|pids| pids.remove(&pid));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<u32>) -> bool) {
        let mut pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut pids);
        let text: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
        // Without the list the guardian merely guards nothing.
        let _ = std::fs::write(&self.file, text);
    }
}
