//! What is said of changes that the vendor showed late: that there are some, how far windows reach back for them now, and
//! that windows were about to miss some. Owns the words; how far is `domain`'s to say, and the stream `store`'s.

use crate::SyncError;
use domain::{AnomalyKind, ConnectionId, Severity, is_late};
use serde_json::json;
use store::{Sighting, Store, Tx, WindowClosed};

/// Notes what was late in a window, in the transaction that ends it; or that nothing is any more.
pub(crate) async fn note(
    store: &Store,
    tx: &mut Tx,
    connection: ConnectionId,
    closed: &WindowClosed,
) -> Result<(), SyncError> {
    let (object, overlap) = (closed.object.as_str(), closed.overlap);
    let Some((lateness, reached_back)) = closed.lateness.zip(closed.reached_back) else {
        let of = (object, AnomalyKind::ChangesLate, "");
        let open = store.open_anomalies(tx, connection, object).await?;
        if open.iter().any(|open| (open.object.as_str(), open.kind, open.subject.as_str()) == of) {
            store.settle_anomaly(tx, connection, of, "changes show in time again").await?;
        }
        return Ok(());
    };
    tracing::info!(
        object,
        late_secs = lateness.num_seconds(),
        overlap_secs = overlap.num_seconds(),
        "a change was late"
    );
    let (severity, summary) = if is_late(lateness, reached_back) {
        (Severity::Warning, format!("changes of {object} show so late that windows were about to miss some"))
    } else {
        (Severity::Info, format!("changes of {object} show late; its windows reach back far enough"))
    };
    let evidence = json!({
        "late_secs": lateness.num_seconds(),
        "reached_back_secs": reached_back.num_seconds(),
        "overlap_secs": overlap.num_seconds(),
    });
    let kind = AnomalyKind::ChangesLate;
    let seen = Sighting { connection, object, kind, subject: "", severity, summary: &summary, evidence: &evidence };
    store.note_anomaly(tx, &seen).await?;
    Ok(())
}
