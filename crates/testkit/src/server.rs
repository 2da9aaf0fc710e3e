//! A PostgreSQL of a test's own, durable and migrated, for tests that restart it or use it up.
//! Does not own how a server is started: `local_postgres` does.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Context as _;
use domain::Clock;
use local_postgres::{Durability, LocalPostgres, Options};
use sqlx::{Connection as _, PgConnection};
use store::Store;
use tempfile::TempDir;

use crate::proxy::Proxy;

const DATABASE: &str = "own";

/// A server with one migrated database; dropped, both are gone.
#[derive(Debug)]
pub struct OwnServer {
    server: LocalPostgres,
    url: String,
    _directory: TempDir,
}

impl OwnServer {
    /// Makes and starts it.
    ///
    /// # Errors
    /// No PostgreSQL can be had; the text says what to do.
    pub async fn start(max_connections: u32) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("servant-own-")
            // The server may run as a lesser account, which has to get through to its data.
            .permissions(std::fs::Permissions::from_mode(0o711))
            .tempdir_in("/tmp")?;
        let server = LocalPostgres::start(Options {
            data_dir: directory.path().join("data"),
            // What is tested is that nothing committed is lost.
            durability: Durability::Full,
            max_connections,
            shared_buffers_mb: 64,
        })
        .await?;
        server.create_database(DATABASE).await?;
        let url = server.url(DATABASE);
        let store = Store::connect(&url, 1, Clock::system()).await?;
        store.migrate().await?;
        store.close().await;
        Ok(Self { server, url, _directory: directory })
    }

    /// The database's address; a restart does not change it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A wire to it that can be cut, and the database's address at the other end.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn wire(&self) -> anyhow::Result<(Proxy, String)> {
        let (_, sockets) = self.url.split_once("host=").context("the server has no socket")?;
        let wire = Proxy::to_unix(format!("{sockets}/.s.PGSQL.5432")).await?;
        let url = format!("postgres://postgres@{}/{DATABASE}", wire.address());
        Ok((wire, url))
    }

    /// Stops it as a crash would and starts it again: it recovers from its log.
    ///
    /// # Errors
    /// It does not start again.
    pub async fn crash(&mut self) -> anyhow::Result<()> {
        self.server.restart().await.context("after a crash")
    }

    /// Stops it in order, its sessions are ended, and starts it again.
    ///
    /// # Errors
    /// It does not start again.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.server.restart_in_order().await.context("after an orderly stop")
    }

    /// Opens sessions that do nothing until they are dropped.
    ///
    /// # Errors
    /// The server does not take that many.
    pub async fn idle_connections(&self, count: usize) -> anyhow::Result<IdleConnections> {
        let mut idle = Vec::with_capacity(count);
        for _ in 0..count {
            idle.push(PgConnection::connect(&self.url).await?);
        }
        Ok(IdleConnections(idle))
    }
}

/// Sessions that do nothing.
#[derive(Debug)]
pub struct IdleConnections(#[expect(dead_code, reason = "held open")] Vec<PgConnection>);
