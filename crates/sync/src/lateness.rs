//! What is said of changes that the vendor showed late: that there are some, and how far windows reach back for them now.
//! Owns the words; how far is `domain`'s to say, and the stream `store`'s.

use crate::SyncError;
use domain::{AnomalyKind, ConnectionId, Severity};
use serde_json::json;
use store::{Sighting, Store, Tx, WindowClosed};

/// Notes it, in the transaction that ends the window.
pub(crate) async fn note(
    store: &Store,
    tx: &mut Tx,
    connection: ConnectionId,
    closed: &WindowClosed,
) -> Result<(), SyncError> {
    let Some(lateness) = closed.lateness else { return Ok(()) };
    let (object, overlap) = (closed.object.as_str(), closed.overlap);
    tracing::info!(
        object,
        late_secs = lateness.num_seconds(),
        overlap_secs = overlap.num_seconds(),
        "a change was late"
    );
    let summary = format!("changes of {object} show late; its windows reach further back for a while");
    let evidence = json!({ "late_secs": lateness.num_seconds(), "overlap_secs": overlap.num_seconds() });
    let seen = Sighting {
        connection,
        object,
        kind: AnomalyKind::ChangesLate,
        subject: "",
        severity: Severity::Info,
        summary: &summary,
        evidence: &evidence,
    };
    store.note_anomaly(tx, &seen).await?;
    Ok(())
}
