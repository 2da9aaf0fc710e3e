//! The change log: what happened to records, in order for each of them. It is written together with the records (see
//! `records`); this file owns what its words mean and how it is read on from where a reader was.

use crate::{Store, StoreError};
use chrono::{DateTime, Utc};
use domain::AccountId;

/// Changes in one answer, at the most.
const CHANGES_MAX: i64 = 10_000;

/// What happened to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeOp {
    /// It is there for the first time.
    Insert,
    /// It is another; whether it is deleted stays as it was.
    Update,
    /// It is deleted, in the vendor's recycle bin or for good. Also the first that is heard of it, if it comes so.
    Delete,
    /// It is back from deletion.
    Undelete,
}

impl ChangeOp {
    /// As the ledger has it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Insert => 1,
            Self::Update => 2,
            Self::Delete => 3,
            Self::Undelete => 4,
        }
    }

    const fn from_code(code: i16) -> Option<Self> {
        Some(match code {
            1 => Self::Insert,
            2 => Self::Update,
            3 => Self::Delete,
            4 => Self::Undelete,
            _ => return None,
        })
    }
}

/// A change of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChange {
    /// Its number. Of two changes of one record the later has the greater.
    pub seq: i64,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// Whose record: the vendor.
    pub vendor: String,
    /// Which object.
    pub object: String,
    /// The record's id.
    pub record_id: String,
    /// What happened.
    pub op: ChangeOp,
    /// The content afterwards.
    pub content_hash: i64,
}

/// How far a reader is; the default is before the first change.
///
/// Numbers become visible out of order, since their transactions end out of order. So a reader takes stretches of
/// transactions: all from `from_tx` on that had ended, and none that may still come, in the order of their numbers.
/// A later change of a record is never in an earlier stretch: its transaction had to wait for the earlier one's end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeCursor {
    from_tx: i64,
    until_tx: i64,
    after_seq: i64,
}

impl ChangeCursor {
    /// Its parts, to be kept somewhere.
    #[must_use]
    pub const fn parts(self) -> [i64; 3] {
        [self.from_tx, self.until_tx, self.after_seq]
    }

    /// What was kept.
    #[must_use]
    pub const fn from_parts([from_tx, until_tx, after_seq]: [i64; 3]) -> Self {
        Self { from_tx, until_tx, after_seq }
    }
}

struct RawChange {
    seq: i64,
    at: DateTime<Utc>,
    vendor: String,
    object: String,
    record_id: String,
    op: i16,
    content_hash: i64,
}

impl RawChange {
    fn check(self) -> Result<RecordChange, StoreError> {
        let corrupt = StoreError::Corrupt { table: "record_changes", column: "op", row: self.seq.to_string() };
        let Self { seq, at, vendor, object, record_id, content_hash, .. } = self;
        let op = ChangeOp::from_code(self.op).ok_or(corrupt)?;
        Ok(RecordChange { seq, at, vendor, object, record_id, op, content_hash })
    }
}

impl Store {
    /// Changes of an account's records behind `cursor`, and the cursor behind them. None: there is nothing new yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read_changes(
        &self,
        account: AccountId,
        cursor: ChangeCursor,
        limit: i64,
    ) -> Result<(Vec<RecordChange>, ChangeCursor), StoreError> {
        let limit = limit.clamp(1, CHANGES_MAX);
        let mut cursor = cursor;
        if cursor.until_tx <= cursor.from_tx {
            cursor.until_tx = self.settled_tx().await?;
            cursor.after_seq = 0;
        }
        let rows = sqlx::query_as!(
            RawChange,
            "-- read_changes
            SELECT seq, at, vendor, object, record_id, op, content_hash FROM record_changes
            WHERE account_id = $1 AND tx >= $2::bigint::text::xid8 AND tx < $3::bigint::text::xid8 AND seq > $4
            ORDER BY seq LIMIT $5",
            account.0,
            cursor.from_tx,
            cursor.until_tx,
            cursor.after_seq,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows == limit);
        cursor.after_seq = rows.last().map_or(cursor.after_seq, |row| row.seq);
        if !is_full {
            cursor = ChangeCursor { from_tx: cursor.until_tx, until_tx: cursor.until_tx, after_seq: 0 };
        }
        Ok((rows.into_iter().map(RawChange::check).collect::<Result<_, _>>()?, cursor))
    }

    /// Every transaction before this one has ended.
    async fn settled_tx(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- settled_tx
            SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS "tx!""#
        )
        .fetch_one(&self.pool)
        .await?)
    }
}
