//! Feeds the services' circuit breakers with how attempts on them ended, and lets recoveries go on. Which outcome opens
//! or closes one is `domain::Breaker`'s to say; the dispatch asks the breakers for room.

use crate::Office;
use domain::BreakerState;
use store::{BreakerRow, Leadership};

/// Folds.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let rows_max = i64::from(office.config.duties.batch_max);
    let folded = office.store.fold_outcomes(leadership, &office.config.breaker, rows_max, rand::random::<f64>).await?;
    for BreakerRow { service, breaker, .. } in &folded.unclear {
        if office.told.is_news(format!("the circuit of {service}: {}", breaker.reason)) {
            let reason = &breaker.reason;
            tracing::error!(service, reason, "the service's circuit is not understood: one of its jobs goes at a time");
        }
    }
    for (row, was) in &folded.changed {
        tell(row, *was);
    }
    Ok(i64::try_from(folded.outcomes)? == rows_max)
}

fn tell(row: &BreakerRow, was: BreakerState) {
    let BreakerRow { service, breaker, .. } = row;
    let is_open = matches!(breaker.state, BreakerState::Open { .. });
    metrics::gauge!("servant_breaker_open", "service" => service.clone()).set(if is_open { 1.0 } else { 0.0 });
    match breaker.state {
        BreakerState::Open { next_probe_at } => {
            metrics::counter!("servant_breaker_openings_total", "service" => service.clone()).increment(1);
            let reason = &breaker.reason;
            if matches!(was, BreakerState::HalfOpen { .. }) {
                tracing::info!(service, reason, %next_probe_at, "the probe failed: the circuit stays open");
            } else {
                tracing::warn!(service, reason, %next_probe_at, "the circuit is open: no job of the service starts");
            }
        }
        BreakerState::Recovering { .. } => {
            tracing::info!(service, "the service answers: its jobs start little by little")
        }
        BreakerState::Closed | BreakerState::HalfOpen { .. } => tracing::info!(service, "the circuit is closed"),
        // It changes by an operator's hand only, and the manager says so.
        BreakerState::NotUnderstood => {}
    }
}
