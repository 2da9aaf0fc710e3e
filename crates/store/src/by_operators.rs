//! What is done with the ledger, the keys and the queues themselves, by whoever has hands on them: that each leaves its line
//! in the audit. Does not own what is done; where that is one transaction, the line is written in it.

use crate::{
    Store, StoreError,
    audit::{Deed, note_each},
};
use chrono::{DateTime, Utc};
use domain::{Capability, Granted, action};
use serde_json::{Value, json};
use sqlx::PgConnection;

impl Store {
    /// Applies the migrations that are missing, and answers with the schema before and after. The line is written when the
    /// audit is there for sure.
    ///
    /// # Errors
    /// [`StoreError`]; what was applied before the failure stays.
    pub async fn migrate_by(&self, by: &Granted<action::Migrate>) -> Result<(i64, i64), StoreError> {
        let before = self.schema_version().await?;
        self.migrate().await?;
        let after = self.schema_version().await?;
        let what = if before == after { "find nothing to migrate" } else { "migrate" };
        let deed = Deed::told("", (what, ""), json!({ "version": before }), json!({ "version": after }));
        let mut conn = self.pool.acquire().await?;
        note_each(&mut conn, by, "schema", vec![deed], self.clock.now()).await?;
        Ok((before, after))
    }

    /// Notes what became of queues, which are no part of the ledger.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_queues_by<A: Capability>(
        &self,
        by: &Granted<A>,
        kinds: &[String],
        outcome: &str,
    ) -> Result<(), StoreError> {
        let what = by.action().as_str().replace('_', " ");
        let deed = |kind: &String| Deed::told(kind, (&what, ""), Value::Null, json!({ "outcome": outcome }));
        let mut conn = self.pool.acquire().await?;
        note_each(&mut conn, by, "queue", kinds.iter().map(deed).collect(), self.clock.now()).await
    }

    /// Notes that a master key is about to be made: whatever becomes of it, the audit says who began.
    ///
    /// # Errors
    /// [`StoreError`]; then none may be made.
    pub async fn note_master_begun(&self, by: &Granted<action::RotateKeys>) -> Result<(), StoreError> {
        let deed = Deed::told("", ("begin to make a master key", ""), Value::Null, Value::Null);
        let mut conn = self.pool.acquire().await?;
        note_each(&mut conn, by, "keys", vec![deed], self.clock.now()).await
    }

    /// Notes that a master key was made, which lies in no ledger; it wraps the keys that come.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_new_master(&self, by: &Granted<action::RotateKeys>, master: &str) -> Result<(), StoreError> {
        let deed = Deed::told(master, ("make a master key", ""), Value::Null, Value::Null);
        let mut conn = self.pool.acquire().await?;
        note_each(&mut conn, by, "keys", vec![deed], self.clock.now()).await
    }

    /// Notes the end of a rotation, and what it came to: `master` wraps all accounts' keys.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_rotation(
        &self,
        by: &Granted<action::RotateKeys>,
        master: &str,
        outcome: &str,
    ) -> Result<(), StoreError> {
        let deed = Deed::told(master, ("wrap all accounts' keys", ""), Value::Null, json!({ "outcome": outcome }));
        let mut conn = self.pool.acquire().await?;
        note_each(&mut conn, by, "keys", vec![deed], self.clock.now()).await
    }
}

/// Notes one step of a rotation, in its transaction; what changed nothing is not worth a line.
pub(crate) async fn note_step(
    conn: &mut PgConnection,
    by: &Granted<action::RotateKeys>,
    (what, rows): (&str, u64),
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    if rows == 0 {
        return Ok(());
    }
    let deed = Deed::told("", (what, ""), Value::Null, json!({ "rows": rows }));
    note_each(conn, by, "keys", vec![deed], at).await
}
