//! The launcher against real servers, each in a directory of its own.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use local_postgres::{Durability, Error, LocalPostgres, Options};
use sqlx::{Connection as _, PgConnection, Row as _};

fn options(directory: &Path, durability: Durability) -> Options {
    Options { data_dir: directory.join("data"), durability, max_connections: 20, shared_buffers_mb: 16 }
}

/// Closed to others, as a home is: as root, the data has to move out of it.
fn private() -> tempfile::TempDir {
    let closed = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(closed).tempdir().unwrap()
}

/// The data, and what it was moved into.
fn remove(data_dir: &Path) {
    let _ = std::fs::remove_dir_all(data_dir.parent().unwrap());
}

async fn text(server: &LocalPostgres, statement: &'static str) -> String {
    let mut client = PgConnection::connect(&server.url("own")).await.unwrap();
    sqlx::query(statement).fetch_one(&mut client).await.unwrap().get(0)
}

fn is_alive(pid: u32) -> bool {
    std::process::Command::new("sh")
        .args(["-c", "kill -0 \"$0\" 2>/dev/null", &pid.to_string()])
        .status()
        .unwrap()
        .success()
}

async fn until_dead(pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "server {pid} is still alive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_server_lives_restarts_and_stops() {
    let directory = private();
    let mut server = LocalPostgres::start(options(directory.path(), Durability::Full)).await.unwrap();
    let data_dir = server.data_dir().to_owned();
    let url = server.url("own");
    let sockets = url.split_once("host=").unwrap().1;
    assert_eq!(std::fs::metadata(sockets).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(server.create_database("own").await.unwrap());
    assert!(!server.create_database("own").await.unwrap());
    assert_eq!(text(&server, "SHOW fsync").await, "on");
    assert_eq!(text(&server, "SHOW listen_addresses").await, "");

    let second = LocalPostgres::start(options(directory.path(), Durability::Full)).await;
    assert!(matches!(second, Err(Error::AlreadyRunning { .. })), "{second:?}");

    let mut client = PgConnection::connect(&server.url("own")).await.unwrap();
    sqlx::query("CREATE TABLE kept AS SELECT 'yes' AS word").execute(&mut client).await.unwrap();
    let (url, pid) = (server.url("own"), server.pid().unwrap());
    server.restart().await.unwrap();
    assert_eq!(server.url("own"), url);
    assert_ne!(server.pid(), Some(pid));
    assert!(sqlx::query("SELECT 1").execute(&mut client).await.is_err());
    assert_eq!(text(&server, "SELECT word FROM kept").await, "yes");

    let pid = server.pid().unwrap();
    server.stop().await;
    assert!(!is_alive(pid));
    assert!(!data_dir.join("postmaster.pid").exists());
    let server = LocalPostgres::start(options(directory.path(), Durability::TestsOnly)).await.unwrap();
    assert_eq!(text(&server, "SELECT word FROM kept").await, "yes");
    assert_eq!(text(&server, "SHOW fsync").await, "off");
    drop(server);
    remove(Path::new(&data_dir));
}

#[tokio::test]
async fn a_dropped_server_is_dead_and_its_lock_is_no_hindrance() {
    let directory = private();
    let server = LocalPostgres::start(options(directory.path(), Durability::TestsOnly)).await.unwrap();
    let data_dir = server.data_dir().to_owned();
    let (pid, url) = (server.pid().unwrap(), server.url("postgres"));
    drop(server);
    assert!(!is_alive(pid));
    let sockets = url.split_once("host=").unwrap().1;
    assert!(!Path::new(sockets).exists());
    // The lock of a server that died, its pid now another program's: ours.
    let lock = format!("{}\n{}\n1\n5432\n\n\n\nready\n", std::process::id(), data_dir.display());
    std::fs::write(data_dir.join("postmaster.pid"), lock).unwrap();
    let server = LocalPostgres::start(options(directory.path(), Durability::TestsOnly)).await.unwrap();
    drop(server);
    remove(Path::new(&data_dir));
}

#[tokio::test]
async fn a_foreign_directory_is_refused() {
    let directory = Path::new("/var/tmp").join(format!("servant-test-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("data")).unwrap();
    std::fs::write(directory.join("data/letter"), "dear").unwrap();
    let outcome = LocalPostgres::start(options(&directory, Durability::TestsOnly)).await;
    assert!(matches!(outcome, Err(Error::UnfitDirectory { .. })), "{outcome:?}");
    std::fs::remove_dir_all(directory).unwrap();
}

/// Not a test by itself: the process that the next test kills.
#[tokio::test]
async fn victim() {
    let Some(directory) = std::env::var_os("LOCAL_POSTGRES_VICTIM") else {
        return;
    };
    let directory = Path::new(&directory);
    let server = LocalPostgres::start(options(directory, Durability::TestsOnly)).await.unwrap();
    let told = format!("{}\n{}", server.pid().unwrap(), server.data_dir().display());
    let told = format!("{told}\n{}", server.url("x").split_once("host=").unwrap().1);
    std::fs::write(directory.join("told.new"), told).unwrap();
    std::fs::rename(directory.join("told.new"), directory.join("told")).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_server_dies_with_a_killed_process() {
    let directory = private();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim"])
        .env("LOCAL_POSTGRES_VICTIM", directory.path())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let told = loop {
        if let Ok(told) = std::fs::read_to_string(directory.path().join("told")) {
            break told;
        }
        assert!(Instant::now() < deadline, "the server did not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (pid, data_dir) = told.split_once('\n').unwrap();
    let (data_dir, sockets) = data_dir.split_once('\n').unwrap();
    let pid = pid.parse().unwrap();
    assert!(Path::new(sockets).exists());
    assert!(is_alive(pid));
    child.kill().unwrap();
    child.wait().unwrap();
    until_dead(pid).await;
    assert!(!Path::new(sockets).exists());
    remove(Path::new(&data_dir));
}
