//! Ids on their way to the queue: written together with the job's change to queued, deleted once the queue has them.
//! A crash between the sending and the deleting sends twice, which a claim makes harmless.

use crate::{Leadership, Store, StoreError};
use chrono::{DateTime, Utc};
use domain::{AccountId, JobId, Kind};

/// An id to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// The entry's own id: a job that is dispatched anew has another entry.
    pub entry: i64,
    /// The job.
    pub job: JobId,
    /// Whose it is.
    pub account: AccountId,
    /// Which queue.
    pub kind: Kind,
}

impl Store {
    /// Entries of the outbox, kind by kind, of each kind the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unsent(&self, limit: i64) -> Result<Vec<Unsent>, StoreError> {
        self.unsent_besides(&[], limit).await
    }

    /// The same without those of some kinds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unsent_besides(&self, kinds: &[String], limit: i64) -> Result<Vec<Unsent>, StoreError> {
        let rows = sqlx::query!(
            "-- unsent_besides
            SELECT id, job_id, account_id, kind FROM outbox WHERE kind <> ALL($1) ORDER BY kind, id LIMIT $2",
            kinds,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|r| {
                let kind = Kind::new(r.kind).map_err(|_| StoreError::Corrupt {
                    table: "outbox",
                    column: "kind",
                    row: r.id.to_string(),
                })?;
                Ok(Unsent { entry: r.id, job: JobId(r.job_id), account: AccountId(r.account_id), kind })
            })
            .collect()
    }

    /// When the first dispatch of any of these kinds went that is no older than `since`, whatever became of its jobs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn first_dispatch_since(
        &self,
        kinds: &[&Kind],
        since: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let kinds: Vec<String> = kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
        Ok(sqlx::query_scalar!(
            r#"-- first_dispatch_since
            SELECT min(first.queued_at) FROM unnest($1::text[]) AS of_these (kind) CROSS JOIN LATERAL (
                SELECT queued_at FROM dispatches WHERE kind = of_these.kind AND queued_at >= $2
                ORDER BY queued_at LIMIT 1) AS first"#,
            &kinds,
            since,
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Deletes entries of a kind that the queue has taken, by their own ids. (The index begins with the kind: without it,
    /// every entry there ever was is passed, until a vacuum.)
    ///
    /// # Errors
    /// [`StoreError`]; then they are sent again.
    pub async fn forget_sent(&self, leadership: &Leadership, kind: &Kind, entries: &[i64]) -> Result<(), StoreError> {
        sqlx::query!(
            "-- forget_sent
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE)
            DELETE FROM outbox WHERE kind = $3 AND id = ANY($4) AND EXISTS (SELECT FROM led)",
            leadership.term.0,
            leadership.holder,
            kind.as_str(),
            entries,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
