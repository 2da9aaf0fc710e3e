//! The chain: each sealed row's hash holds that of the row before. Rows get their numbers before they commit, so a row is
//! sealed only once no transaction is left that could still bring a smaller number. Deeds wait for nothing of this.

use super::verify::{AuditHead, chain, hash_of};
use crate::{Leadership, Store, StoreError, Tx};
use chrono::{DateTime, TimeDelta, Utc};

/// Rows sealed in one go.
const ROWS_MAX: i64 = 1_000;
/// Hours between two times at which the head is told.
const TOLD_HOURS: i64 = 1;

/// What sealing came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealedAudit {
    /// Rows sealed.
    pub rows: usize,
    /// There are more than one go seals.
    pub has_more: bool,
    /// The end of the chain, once an hour: to be kept where nobody who can write the database writes.
    pub head: Option<AuditHead>,
}

struct Seals {
    head_seq: i64,
    head_hash: Vec<u8>,
    upto: i64,
    is_safe: bool,
    told_at: DateTime<Utc>,
}

impl Store {
    /// Seals the rows of which it is known since the last call that nothing comes before them any more, and notes up to
    /// where that is to be waited for next.
    ///
    /// # Errors
    /// [`StoreError::NotLeading`] when another leads by now; then nothing was sealed.
    pub async fn seal_audit(&self, leadership: &Leadership) -> Result<SealedAudit, StoreError> {
        let Some(mut tx) = self.begin_led(leadership).await? else { return Err(StoreError::NotLeading) };
        let seals = sqlx::query_as!(
            Seals,
            r#"-- seal_audit
            SELECT head_seq, head_hash, upto, pg_snapshot_xmin(pg_current_snapshot()) >= horizon AS "is_safe!", told_at
            FROM audit_seals FOR UPDATE"#,
        )
        .fetch_one(&mut *tx.inner)
        .await?;
        if !seals.is_safe {
            return Ok(SealedAudit::default());
        }
        let mut sealed = SealedAudit::default();
        let (mut seq, mut hash) = (seals.head_seq, seals.head_hash.clone());
        let rows = sqlx::query!(
            "-- unsealed_audit
            SELECT seq, row_hash FROM audit WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3",
            seals.head_seq,
            seals.upto,
            ROWS_MAX,
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        let (mut seqs, mut hashes) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for row in rows {
            (seq, hash) = (row.seq, chain(&hash, &row.row_hash));
            seqs.push(seq);
            hashes.push(hash.clone());
        }
        sealed.rows = seqs.len();
        sealed.has_more = i64::try_from(seqs.len()).is_ok_and(|rows| rows == ROWS_MAX);
        if !seqs.is_empty() {
            sqlx::query_scalar!("-- seal_audit_rows\nSELECT seal_audit_rows($1, $2)", &seqs, &hashes)
                .fetch_one(&mut *tx.inner)
                .await?;
        }
        let is_hour = self.clock.now() - seals.told_at >= TimeDelta::hours(TOLD_HOURS) && seq > 0;
        sealed.head = is_hour.then(|| AuditHead { seq, hash: hash_of(&hash) });
        // The numbers first, then who is under way: whoever has taken one of them by now is.
        let upto = sqlx::query_scalar!("-- last_audit_seq\nSELECT last_value FROM audit_seq")
            .fetch_one(&mut *tx.inner)
            .await?;
        let upto = if sealed.has_more { seals.upto } else { upto };
        self.note_seals(&mut tx, (seq, &hash), upto, is_hour).await?;
        tx.commit().await?;
        Ok(sealed)
    }

    async fn note_seals(
        &self,
        tx: &mut Tx,
        (seq, hash): (i64, &[u8]),
        upto: i64,
        is_told: bool,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "-- note_seals
            UPDATE audit_seals SET head_seq = $1, head_hash = $2, upto = $3,
                horizon = CASE WHEN upto = $3 THEN horizon ELSE pg_snapshot_xmax(pg_current_snapshot()) END,
                told_at = CASE WHEN $4 THEN $5 ELSE told_at END
            WHERE (head_seq, upto) IS DISTINCT FROM ($1, $3) OR $4",
            seq,
            hash,
            upto,
            is_told,
            self.clock.now(),
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(())
    }
}
