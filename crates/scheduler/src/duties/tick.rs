//! Makes jobs of the schedules that are due, and enters the catalogue's own schedules. When a rule is due next is
//! `domain::Schedule`'s to say; firing once is the ledger's compare-and-swap.

use crate::Office;
use domain::{AccountId, Kind};
use store::{Leadership, NewSchedule};

/// Fires what is due.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    declare(office).await?;
    let limit = i64::from(office.config.duties.batch_max);
    let due = office.store.due_schedules(limit).await?;
    if due.is_empty() {
        return Ok(false);
    }
    let now = office.store.now();
    let fires: Vec<_> = due.iter().map(|s| (s.id, s.due_at, s.rule.next_after(s.due_at, now))).collect();
    for kind in office.store.fire_schedules(leadership, &fires).await? {
        office.store.wake(&Kind::new(kind)?).await;
    }
    Ok(i64::try_from(due.len())? == limit)
}

/// Enters the schedules that the catalogue declares, unless they are there: additive, so that two deployments never
/// delete each other's.
async fn declare(office: &Office) -> anyhow::Result<()> {
    for (kind, definition) in office.catalogue.iter() {
        for declared in &definition.schedules {
            let schedule = NewSchedule {
                name: declared.name.clone(),
                kind: kind.clone(),
                account: AccountId::SYSTEM,
                connection: None,
                payload: serde_json::to_value(&declared.payload)?,
                attempts_max: definition.retry.attempts_max,
                rule: declared.schedule(),
                first_due_at: declared.schedule().first(office.store.now()),
            };
            if office.store.declare_schedule(&schedule).await? {
                tracing::info!(schedule = schedule.name, Kind = kind.as_str(), "a schedule was entered");
            }
        }
    }
    Ok(())
}
