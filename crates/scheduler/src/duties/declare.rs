//! Enters the schedules that the catalogue declares, where they are missing: additive, so that two deployments never
//! delete each other's, and an operator's edits stay. Part of the tick; when nothing has changed, it only looks.

use crate::Office;
use domain::{AccountId, ConnectionId, DeclaredSchedule, Kind, KindDefinition};
use std::collections::{BTreeMap, BTreeSet};
use store::{Leadership, NewSchedule, Walked};

/// Accounts and connections that are looked at in one go, all declared schedules together.
const WALKED_MAX: usize = 5_000;

/// A declared schedule, and what it belongs to.
type Entry<'a> = (&'a Kind, &'a KindDefinition, &'a DeclaredSchedule);

/// Enters what is missing. False when there is more to look at.
///
/// # Errors
/// The ledger's.
pub(super) async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let (mut of_system, mut of_accounts) = (BTreeMap::new(), BTreeMap::new());
    for (kind, definition) in office.catalogue.iter() {
        for declared in definition.schedules() {
            let schedules = if declared.per_account { &mut of_accounts } else { &mut of_system };
            schedules.insert(declared.name.as_str(), (kind, definition, declared));
        }
    }
    if !of_system.is_empty() {
        let names: Vec<String> = of_system.keys().map(|name| (*name).to_owned()).collect();
        let missing: BTreeSet<String> = office.store.missing_schedules(&names).await?.into_iter().collect();
        let new = of_system.iter().filter(|(name, _)| missing.contains(**name));
        let new = new.map(|(_, entry)| row(office, *entry, AccountId::SYSTEM, None));
        enter(office, leadership, new.collect::<Result<_, _>>()?).await?;
    }
    if of_accounts.is_empty() {
        return Ok(true);
    }
    walk(office, leadership, &of_accounts).await
}

/// Goes on with every walk by a page. False when one has not come to the end.
async fn walk(office: &Office, leadership: &Leadership, declared: &BTreeMap<&str, Entry<'_>>) -> anyhow::Result<bool> {
    let page = (WALKED_MAX / declared.len()).max(1);
    let limit = i64::try_from(page)?;
    let (mut of_accounts, mut of_connections, mut vendors) = (Vec::new(), Vec::new(), Vec::new());
    for (name, (.., declared)) in declared {
        match &declared.connection {
            None => of_accounts.push((*name).to_owned()),
            Some(vendor) => {
                of_connections.push((*name).to_owned());
                vendors.push(vendor.clone());
            }
        }
    }
    let mut walked = Vec::new();
    if !of_accounts.is_empty() {
        walked.extend(office.store.walk_accounts(&of_accounts, limit).await?);
    }
    if !of_connections.is_empty() {
        walked.extend(office.store.walk_connections(&of_connections, &vendors, limit).await?);
    }
    let missing = walked.iter().filter(|one| !one.has);
    let new =
        missing.filter_map(|one| Some(row(office, *declared.get(one.name.as_str())?, one.account, one.connection)));
    enter(office, leadership, new.collect::<Result<_, _>>()?).await?;
    let mut pages: BTreeMap<&str, (usize, &Walked)> = BTreeMap::new();
    for one in &walked {
        pages.entry(&one.name).and_modify(|(count, last)| (*count, *last) = (*count + 1, one)).or_insert((1, one));
    }
    if !pages.is_empty() {
        let last: Vec<&Walked> = pages.values().map(|(_, last)| *last).collect();
        office.store.keep_walks(leadership, &last).await?;
    }
    let is_at_end = |name: &&str| pages.get(*name).is_none_or(|(count, _)| *count < page);
    let at_end: Vec<String> = declared.keys().filter(|name| is_at_end(name)).map(|name| (*name).to_owned()).collect();
    office.store.take_walks_back(leadership, &at_end).await?;
    Ok(at_end.len() == declared.len())
}

async fn enter(office: &Office, leadership: &Leadership, schedules: Vec<NewSchedule>) -> anyhow::Result<()> {
    if schedules.is_empty() {
        return Ok(());
    }
    let entered = office.store.enter_schedules(leadership, &schedules).await?;
    if entered > 0 {
        tracing::info!(entered, "declared schedules were entered");
    }
    Ok(())
}

fn row(
    office: &Office,
    (kind, definition, declared): Entry<'_>,
    account: AccountId,
    connection: Option<ConnectionId>,
) -> serde_json::Result<NewSchedule> {
    let name = declared.row_name(account, connection);
    let plan = declared.policy.plan(declared.rule.clone(), account, &name);
    Ok(NewSchedule {
        kind: kind.clone(),
        account,
        connection,
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
