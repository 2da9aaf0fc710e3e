//! Enters the schedules that the catalogue declares, where they are missing: additive, so that two deployments never
//! delete each other's, and an operator's edits stay. Part of the tick; when nothing has changed, it only looks.

use crate::Office;
use domain::{AccountId, DeclaredSchedule, Kind, KindDefinition};
use std::collections::{BTreeMap, BTreeSet};
use store::NewSchedule;

/// Accounts that get their schedules at a time.
const ACCOUNTS_MAX: usize = 5_000;

/// Enters what is missing. False when there is more to enter.
///
/// # Errors
/// The ledger's.
pub(super) async fn perform(office: &Office) -> anyhow::Result<bool> {
    let mut of_system = BTreeMap::new();
    let mut of_accounts = BTreeMap::new();
    for (kind, definition) in office.catalogue.iter() {
        for declared in definition.schedules() {
            let schedules = if declared.per_account { &mut of_accounts } else { &mut of_system };
            schedules.insert(declared.name.clone(), (kind, definition, declared));
        }
    }
    if !of_system.is_empty() {
        let names: Vec<String> = of_system.keys().cloned().collect();
        let missing: BTreeSet<String> = office.store.missing_schedules(&names).await?.into_iter().collect();
        let new = of_system.iter().filter(|(name, _)| missing.contains(*name));
        enter(office, new.map(|(_, entry)| row(office, *entry, AccountId::SYSTEM)).collect::<Result<_, _>>()?).await?;
    }
    if of_accounts.is_empty() {
        return Ok(true);
    }
    let names: Vec<String> = of_accounts.keys().cloned().collect();
    let missing = office.store.accounts_without_schedules(&names, i64::try_from(ACCOUNTS_MAX)?).await?;
    let has_all = missing.len() < ACCOUNTS_MAX;
    let entry = |(name, account): (String, AccountId)| Some(row(office, *of_accounts.get(&name)?, account));
    enter(office, missing.into_iter().filter_map(entry).collect::<Result<_, _>>()?).await?;
    if has_all {
        office.store.accounts_have_schedules(&names).await?;
    }
    Ok(has_all)
}

async fn enter(office: &Office, schedules: Vec<NewSchedule>) -> anyhow::Result<()> {
    if schedules.is_empty() {
        return Ok(());
    }
    let entered = office.store.declare_schedules(&schedules).await?;
    if entered > 0 {
        tracing::info!(entered, "declared schedules were entered");
    }
    Ok(())
}

fn row(
    office: &Office,
    (kind, definition, declared): (&Kind, &KindDefinition, &DeclaredSchedule),
    account: AccountId,
) -> serde_json::Result<NewSchedule> {
    let name = declared.row_name(account);
    let plan = declared.policy.plan(declared.rule.clone(), account, &name);
    Ok(NewSchedule {
        kind: kind.clone(),
        account,
        connection: None,
        payload: serde_json::to_value(&declared.payload)?,
        priority: declared.priority,
        attempts_max: definition.retry.attempts_max,
        rule: declared.rule.clone(),
        policy: declared.policy,
        first_due_at: plan.first(office.store.now()),
        declared: true,
        name,
    })
}
