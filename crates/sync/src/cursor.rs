//! What is said of a place in the vendor's answers that is good no more: a query's cursor, a bulk job, a page of one. Owns
//! the words of that, and that it is over once what was begun again is read. What is begun again is the caller's to say.

use crate::{Source, SyncError};
use domain::{AnomalyKind, Severity};
use salesforce::SalesforceError;
use serde_json::json;
use store::{OpenAnomaly, Sighting, Tx};

const KIND: AnomalyKind = AnomalyKind::CursorLost;

/// What was being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// A window.
    Window,
    /// A whole object, to be compared.
    Comparison,
}

impl Reading {
    const fn subject(self) -> &'static str {
        match self {
            Self::Window => "",
            Self::Comparison => "comparison",
        }
    }
}

/// Notes that `object` is read again from its beginning if `error` says that its place is gone. `rows` are those that were
/// read by then.
///
/// # Errors
/// [`SyncError`].
pub async fn note_lost(
    source: Source<'_>,
    tx: &mut Tx,
    (object, reading): (&str, Reading),
    error: &SyncError,
    rows: i64,
) -> Result<(), SyncError> {
    if !matches!(error, SyncError::Vendor(SalesforceError::CursorExpired)) {
        return Ok(());
    }
    let what = match reading {
        Reading::Window => "a window",
        Reading::Comparison => "a comparison",
    };
    let seen = Sighting {
        connection: source.connection,
        object,
        kind: KIND,
        subject: reading.subject(),
        severity: Severity::Info,
        summary: &format!("salesforce has forgotten where {what} of {object} was; it is read again from its beginning"),
        evidence: &json!({ "rows_read": rows, "at": source.store.now() }),
    };
    source.store.note_anomaly(tx, &seen).await?;
    Ok(())
}

/// Ends what was said, now that all of it is read.
pub(crate) async fn settle(
    source: Source<'_>,
    tx: &mut Tx,
    (object, reading): (&str, Reading),
    open: &[OpenAnomaly],
) -> Result<(), SyncError> {
    let subject = reading.subject();
    if open.iter().any(|open| open.object == object && open.kind == KIND && open.subject == subject) {
        let of = (object, KIND, subject);
        source.store.settle_anomaly(tx, source.connection, of, "it was read again, to its end").await?;
    }
    Ok(())
}
