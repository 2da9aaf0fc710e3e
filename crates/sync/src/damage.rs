//! What becomes of records that cannot be stored: they are kept whole, and a person is told once.
//! Owns the words of that; the rows are `store`'s.

use crate::SyncError;
use domain::{AnomalyKind, Severity};
use serde_json::json;
use store::{PageOrigin, Quarantined, Sighting, Store, Tx};

/// Keeps them, in the transaction of their page.
pub(crate) async fn keep(
    store: &Store,
    tx: &mut Tx,
    origin: PageOrigin,
    object: &str,
    damaged: &[Quarantined],
) -> Result<(), SyncError> {
    let Some(first) = damaged.first() else { return Ok(()) };
    let records = damaged.len();
    tracing::warn!(object, records, reason = first.reason, "records are in quarantine");
    if store.quarantine_records(tx, origin, object, damaged).await? == 0 {
        // A person let all of them rest, and nobody wants to hear more of them.
        return Ok(());
    }
    let summary = format!("records of {object} cannot be stored and are in quarantine");
    let evidence = json!({ "records": records, "first_record_id": first.record_id, "first_reason": first.reason });
    let seen = Sighting {
        connection: origin.connection,
        object,
        kind: AnomalyKind::RecordsDamaged,
        subject: "",
        severity: Severity::Critical,
        summary: &summary,
        evidence: &evidence,
    };
    store.note_anomaly(tx, &seen).await?;
    Ok(())
}
