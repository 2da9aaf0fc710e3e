//! The PostgreSQL cluster of this test process and its migrated template. Started at first use, on a thread with a
//! runtime of its own, since each test has its own runtime that ends with it.
//! Does not own the databases that are made from the template.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};

use anyhow::Context as _;
use domain::Clock;
use local_postgres::{Durability, LocalPostgres, Options};
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use store::Store;

/// The database that every test's is a copy of.
pub(crate) const TEMPLATE: &str = "servant_template";
/// Names a running server instead: a superuser's address.
const ADDRESS_VARIABLE: &str = "SERVANT_TEST_DATABASE_URL";
/// Tests run side by side, each with pools of its own.
const CONNECTIONS_MAX: u32 = 300;

/// Waits for the end of the test process (its pipe closes), then for the server's, then removes its data.
const CLEANER: &str = r#"read -r _
n=0; while [ -e "$1/data/postmaster.pid" ] && [ "$n" -lt 30 ]; do sleep 1; n=$((n + 1)); done
rm -rf "$1""#;

/// Where databases come from.
#[derive(Debug)]
pub(crate) enum Cluster {
    /// Our own; it ends with this process, by the watcher that `local-postgres` starts beside the server.
    Own {
        /// The maintenance database's address.
        url: String,
    },
    /// Somebody's; there is no template there, and databases are dropped after use.
    Given {
        /// The address as given.
        url: String,
    },
}

impl Cluster {
    /// The address of a database of this cluster.
    pub(crate) fn url(&self, database: &str) -> anyhow::Result<String> {
        let (Self::Own { url } | Self::Given { url }) = self;
        let options: PgConnectOptions = url.parse().context("the address of the test server")?;
        Ok(options.database(database).to_url_lossy().to_string())
    }

    /// The address for making and dropping databases.
    pub(crate) fn admin_url(&self) -> &str {
        let (Self::Own { url } | Self::Given { url }) = self;
        url
    }

    /// Whether the template is there.
    pub(crate) const fn has_template(&self) -> bool {
        matches!(self, Self::Own { .. })
    }
}

/// The cluster, started by whoever asks first. Blocks.
pub(crate) fn cluster() -> Result<&'static Cluster, &'static str> {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    CLUSTER
        .get_or_init(|| {
            if let Ok(url) = std::env::var(ADDRESS_VARIABLE) {
                return Ok(Cluster::Given { url });
            }
            let (ready, is_ready) = mpsc::channel();
            std::thread::spawn(move || keep(&ready));
            is_ready
                .recv()
                .map_err(|_| "the thread of the test cluster ended".to_owned())
                .and_then(|started| started.map_err(|error| format!("{error:#}")))
        })
        .as_ref()
        .map_err(String::as_str)
}

/// Starts the cluster, reports, and holds it for as long as the process lives.
fn keep(ready: &mpsc::Sender<anyhow::Result<Cluster>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error.into()));
            return;
        }
    };
    runtime.block_on(async {
        match start().await {
            Ok((server, cleaner)) => {
                let _ = ready.send(Ok(Cluster::Own { url: server.url("postgres") }));
                std::future::pending::<()>().await;
                drop((server, cleaner));
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    });
}

async fn start() -> anyhow::Result<(LocalPostgres, Child)> {
    let directory = tempfile::Builder::new()
        .prefix("servant-test-")
        // The server may run as a lesser account, which has to get through to its data.
        .permissions(std::fs::Permissions::from_mode(0o711))
        .tempdir_in("/tmp")?
        .keep();
    let cleaner = clean_up_after_us(&directory)?;
    let server = LocalPostgres::start(Options {
        data_dir: directory.join("data"),
        durability: Durability::TestsOnly,
        max_connections: CONNECTIONS_MAX,
        shared_buffers_mb: 128,
    })
    .await?;
    server.create_database(TEMPLATE).await?;
    let store = Store::connect(&server.url(TEMPLATE), 1, Clock::system()).await.context("the template")?;
    store.migrate().await.context("the template")?;
    store.close().await;
    Ok((server, cleaner))
}

fn clean_up_after_us(directory: &Path) -> anyhow::Result<Child> {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", CLEANER, "servant-test-cleaner"]).arg(directory);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // Outlives Ctrl-C, which is when it is needed.
    command.process_group(0).current_dir("/");
    Ok(command.spawn()?)
}
