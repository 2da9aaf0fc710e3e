//! The README's promise that two files add a type of work: what it shows is laid over the workspace, built, and run.
//! Owns the overlay. Does not own the example: the README does, and this test reads it there.

use crate::fleet::LIMIT;
use domain::{Clock, JobId, JobState, Kind};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use store::{Inserted, JobRow, NewJob, Store};
use testkit::{Process, eventually};

/// What the README's section says: two files, and what belongs into them.
struct Example {
    program: String,
    table: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The block that is fenced with `language`, after the line that names its `file`.
fn block(section: &str, file: &str, language: &str) -> String {
    let (_, after) = section.split_once(&format!("`{file}`:\n\n```{language}\n")).unwrap_or_else(|| {
        panic!("the README's section names no {file} before a block of {language}");
    });
    after.split_once("```").expect("the block has an end").0.to_owned()
}

impl Example {
    fn read() -> Self {
        let text = fs::read_to_string(root().join("README.md")).unwrap();
        let (_, section) = text.split_once("\n## Adding a servant\n").expect("the README's section");
        let section = section.split("\n## ").next().unwrap();
        Self {
            program: block(section, "crates/servants/src/bin/greet.rs", "rust"),
            table: block(section, "config/jobs.toml", "toml"),
        }
    }

    /// The workspace with the two files in it: links to everything but the two directories that hold them.
    fn lay_over(&self, overlay: &Path) {
        let root = root();
        let mirrored = ["crates", "crates/servants", "crates/servants/src", "crates/servants/src/bin", "config"];
        link_all(&root, overlay, &["crates", "config", "target", ".servant", ".git"]);
        for directory in mirrored {
            fs::create_dir(overlay.join(directory)).unwrap();
            let inner: Vec<&str> =
                mirrored.iter().filter_map(|d| d.strip_prefix(directory)?.strip_prefix('/')).collect();
            link_all(&root.join(directory), &overlay.join(directory), &[&inner[..], &["jobs.toml"]].concat());
        }
        fs::write(overlay.join("crates/servants/src/bin/greet.rs"), &self.program).unwrap();
        let shipped = fs::read_to_string(root.join("config/jobs.toml")).unwrap();
        fs::write(overlay.join("config/jobs.toml"), format!("{shipped}\n{}", self.table)).unwrap();
    }
}

fn link_all(from: &Path, to: &Path, but: &[&str]) {
    for entry in fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        if !but.iter().any(|other| name == *other) {
            symlink(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

/// Builds the overlay. The same packages at the same places within a workspace are the same to cargo: what the
/// workspace's own build has left is used, and only the new program is compiled.
fn build(overlay: &Path) -> PathBuf {
    let programs = testkit::build_binaries().unwrap();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(overlay).args(["build", "--quiet", "--offline", "--locked", "--workspace", "--bins"]);
    command.arg("--target-dir").arg(programs.parent().unwrap());
    if programs.ends_with("release") {
        command.arg("--release");
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "the README's example does not build: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    programs.join("greet")
}

async fn enqueue(store: &Store, name: &str) -> JobId {
    let job = NewJob::new(Kind::new("greet").unwrap(), json!({ "name": name }));
    match store.insert_jobs(&[job]).await.unwrap()[..] {
        [Inserted::New(id)] => id,
        ref other => panic!("{other:?}"),
    }
}

async fn finished(store: &Store, id: JobId) -> JobRow {
    eventually(LIMIT, "the greeting ends", async || {
        store.find_job(id).await.ok()?.filter(|job| job.state.is_finished())
    })
    .await
}

#[tokio::test]
async fn two_files_add_a_working_servant() {
    let example = Example::read();
    let overlay = tempfile::tempdir().unwrap();
    let path = overlay.path().to_owned();
    tokio::task::spawn_blocking(move || {
        example.lay_over(&path);
        build(&path)
    })
    .await
    .unwrap();

    let database = testkit::database().await;
    let store = database.store_with(Clock::system()).await;
    let jobs = overlay.path().join("config/jobs.toml");
    let environment = [
        ("DATABASE_URL", database.url()),
        ("SERVANT_JOBS_FILE", jobs.to_str().unwrap()),
        ("SERVANT_QUEUE__BACKEND", "postgres"),
    ];
    let config = |name: &str| root().join("config").join(name).display().to_string();
    let _scheduler = Process::start("scheduler", &["--config", &config("scheduler.toml")], &environment).await;
    let silent = [&environment[..], &[("SERVANT_MANAGER__URL", "")]].concat();
    let _greet = Process::start("greet", &["--config", &config("servant.toml")], &silent).await;

    let (ada, nobody) = (enqueue(&store, "Ada").await, enqueue(&store, "").await);
    assert_eq!(finished(&store, ada).await.state, JobState::Succeeded);
    let refused = finished(&store, nobody).await;
    assert_eq!((refused.state, refused.attempt), (JobState::Failed, 1), "what is permanent is not tried again");
    let attempts = store.attempts_of(nobody).await.unwrap();
    assert_eq!(attempts.iter().map(|a| a.class.as_str()).collect::<Vec<_>>(), ["permanent"]);
    assert!(attempts[0].error.contains("nobody to greet"), "{}", attempts[0].error);
}
