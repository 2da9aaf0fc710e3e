//! A service that is down for a part of the run: said in the ledger's server, where the jobs' servants ask.

use super::rules::CRM;
use sqlx::{Connection as _, PgConnection};
use std::time::Duration;
use tokio::task::JoinHandle;

/// The server may be away just then.
const AGAIN: Duration = Duration::from_millis(100);

/// Begins after the first quarter of the run and ends with the second.
pub(super) fn start(url: &str, seconds: u64) -> JoinHandle<()> {
    let (url, quarter) = (url.to_owned(), Duration::from_secs(seconds) / 4);
    tokio::spawn(async move {
        tokio::time::sleep(quarter).await;
        until_said(&url, "INSERT INTO outages VALUES ($1)").await;
        super::say(&format!("{CRM} is down for {} s", quarter.as_secs()));
        tokio::time::sleep(quarter).await;
        until_said(&url, "DELETE FROM outages WHERE service = $1").await;
        super::say(&format!("{CRM} is back"));
    })
}

async fn until_said(url: &str, statement: &'static str) {
    loop {
        if let Ok(mut sql) = PgConnection::connect(url).await
            && sqlx::query(statement).bind(CRM).execute(&mut sql).await.is_ok()
        {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}
