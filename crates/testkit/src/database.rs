//! One database for each test, made from the template in milliseconds.
//! Does not own what is in it: tests fill it through `store`.

use anyhow::Context as _;
use domain::Clock;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use store::Store;

use crate::cluster::{Cluster, TEMPLATE, cluster};
use crate::proxy::Proxy;

/// Connections of one store of a test.
const POOL_MAX: u32 = 8;

/// A migrated database that no other test uses.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    url: String,
    cluster: &'static Cluster,
}

/// A database of one's own.
///
/// # Panics
/// When no PostgreSQL can be had; the text says what to do.
pub async fn database() -> TestDatabase {
    match make().await {
        Ok(database) => database,
        Err(error) => panic!("no database for this test: {error:#}"),
    }
}

async fn make() -> anyhow::Result<TestDatabase> {
    let cluster = tokio::task::spawn_blocking(cluster).await?.map_err(anyhow::Error::msg)?;
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    let template = if cluster.has_template() { format!(" TEMPLATE {TEMPLATE}") } else { String::new() };
    execute(cluster.admin_url(), format!("CREATE DATABASE {name}{template}")).await?;
    let database = TestDatabase { url: cluster.url(&name)?, name, cluster };
    if !cluster.has_template() {
        let store = Store::connect(&database.url, 1, Clock::system()).await?;
        store.migrate().await?;
        store.close().await;
    }
    Ok(database)
}

async fn execute(url: &str, statement: String) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await.context("the test server does not answer")?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

impl TestDatabase {
    /// Its address, for programs and for statements that only a test would make.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A wire to it that can be cut, and its address at the other end.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn wire(&self) -> anyhow::Result<(Proxy, String)> {
        let options: PgConnectOptions = self.url.parse()?;
        let wire = match options.get_socket() {
            Some(sockets) => Proxy::to_unix(sockets.join(format!(".s.PGSQL.{}", options.get_port()))).await?,
            None => Proxy::to_tcp(&format!("{}:{}", options.get_host(), options.get_port())).await?,
        };
        let mut url = options.to_url_lossy();
        url.set_host(Some(&wire.address().ip().to_string()))?;
        if url.set_port(Some(wire.address().port())).is_err() {
            anyhow::bail!("{url} has no port");
        }
        Ok((wire, url.to_string()))
    }

    /// A store on it that lives by the system's clock.
    pub async fn store(&self) -> Store {
        self.store_with(Clock::system()).await
    }

    /// A store on it that lives by `clock`.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn store_with(&self, clock: Clock) -> Store {
        self.store_of(POOL_MAX, clock).await
    }

    /// A store with a single connection: whatever asks beside an open transaction of its own waits for ever with it.
    ///
    /// # Panics
    /// When the database cannot be reached.
    pub async fn store_of_one(&self, clock: Clock) -> Store {
        self.store_of(1, clock).await
    }

    async fn store_of(&self, connections_max: u32, clock: Clock) -> Store {
        match Store::connect(&self.url, connections_max, clock).await {
            Ok(store) => store,
            Err(error) => panic!("no store on {}: {error}", self.url),
        }
    }
}

impl Drop for TestDatabase {
    /// On somebody's server nothing is left behind; our own is thrown away whole.
    fn drop(&mut self) {
        if self.cluster.has_template() {
            return;
        }
        let (url, name) = (self.cluster.admin_url().to_owned(), self.name.clone());
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(execute(&url, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")))
        });
        if !matches!(dropping.join(), Ok(Ok(()))) {
            eprintln!("the test database {} was not dropped", self.name);
        }
    }
}
