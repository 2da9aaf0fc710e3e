//! What operators did by hand, who and why: noted in the transaction of the deed, listed, forgotten with finished jobs.
//! What happened to connections and breakers is in `connections`.

use crate::{Leadership, PAGE_ROWS_MAX, Store, StoreError};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// Who does something by hand, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who<'a> {
    /// A person's name.
    pub by: &'a str,
    /// Why; empty where nobody said.
    pub reason: &'a str,
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorAct {
    /// Its id; later ones are greater.
    pub id: i64,
    /// With what: job, pause, servant, schedule, limit, budget or account.
    pub subject: String,
    /// With which one: an id; of a pause or a limit, its scope and, after a space, its key.
    pub key: String,
    /// What.
    pub what: String,
    /// Who.
    pub by: String,
    /// Why; empty where nobody said.
    pub reason: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// Notes the same deed on each of `keys`.
pub(crate) async fn note_acts(
    conn: &mut PgConnection,
    (subject, keys): (&str, &[String]),
    what: &str,
    who: Who<'_>,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- note_acts
        INSERT INTO operator_acts (subject, key, what, by, reason, at)
        SELECT $1, key, $3, $4, $5, $6 FROM unnest($2::text[]) AS t (key)",
        subject,
        keys,
        what,
        who.by,
        who.reason,
        at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

impl Store {
    /// What was done by hand, the latest first: with one thing, or with all; `before` is the last id of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn operator_acts(
        &self,
        of: Option<(&str, &str)>,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<OperatorAct>, StoreError> {
        let (before, limit) = (before.unwrap_or(i64::MAX), limit.clamp(1, PAGE_ROWS_MAX));
        // Two statements, each with an index in its order.
        Ok(match of {
            Some((subject, key)) => {
                sqlx::query_as!(
                    OperatorAct,
                    "-- operator_acts_of
                    SELECT id, subject, key, what, by, reason, at FROM operator_acts
                    WHERE subject = $1 AND key = $2 AND id < $3 ORDER BY id DESC LIMIT $4",
                    subject,
                    key,
                    before,
                    limit,
                )
                .fetch_all(&self.pool)
                .await?
            }
            None => {
                sqlx::query_as!(
                    OperatorAct,
                    "-- operator_acts
                    SELECT id, subject, key, what, by, reason, at FROM operator_acts
                    WHERE id < $1 ORDER BY id DESC LIMIT $2",
                    before,
                    limit,
                )
                .fetch_all(&self.pool)
                .await?
            }
        })
    }

    /// Forgets what was done before that time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_operator_acts(&self, leadership: &Leadership, before: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query!(
            "-- forget_operator_acts
            DELETE FROM operator_acts
            WHERE at < $3 AND EXISTS (SELECT FROM leader WHERE term = $1 AND holder = $2)",
            leadership.term.0,
            leadership.holder,
            before,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
