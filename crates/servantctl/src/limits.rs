//! `limits` and `budgets`.

use crate::{audit::Whom, output, refusal::Refusal};
use clap::{Args, Subcommand};
use domain::Scope;
use manager_api::{
    Bounds, BudgetQuery, Holder, HolderQuery, LimitQuery, LimitRequest, ManagerClient, MinuteQuery, ShareRequest,
};

/// What to do with limits.
#[derive(Debug, Subcommand)]
pub(crate) enum Limits {
    /// Lists all limits: what they cover, what they say, who set them and why.
    List,
    /// Lists who holds a limit: the jobs that are queued or running and count under it.
    Holders {
        #[command(flatten)]
        target: Target,
    },
    /// Sets a limit; it takes the place of one that is declared, until it is removed.
    Set(Set),
    /// Removes a limit that was set; one that is declared counts again.
    Remove {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        whom: Whom,
    },
}

/// What a limit covers.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// kind, account, connection, vendor, each_account or each_connection.
    scope: String,
    /// The name or id; none for each_account, and for each_connection of any vendor.
    #[arg(default_value = "")]
    key: String,
}

/// A limit to be: at least one of concurrency, per-second, per-minute and per-day.
#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    target: Target,
    /// Jobs queued and running at the most.
    #[arg(long)]
    concurrency: Option<u32>,
    /// Jobs dispatched in a second.
    #[arg(long)]
    per_second: Option<u32>,
    /// Jobs dispatched in a minute.
    #[arg(long)]
    per_minute: Option<u32>,
    /// How many may go at once after a rest; what the rate gives in a second unless said.
    #[arg(long)]
    burst: Option<u32>,
    /// Jobs dispatched in a day, from 00:00 UTC.
    #[arg(long)]
    per_day: Option<u32>,
    /// Per cent of a day's jobs that are kept for urgent ones (priority 0).
    #[arg(long)]
    reserve_pct: Option<u8>,
    #[command(flatten)]
    word: Word,
}

/// Who and why.
#[derive(Debug, Args)]
pub(crate) struct Word {
    /// Why; everybody who wonders reads it.
    #[arg(long, default_value = "")]
    reason: String,
    /// Who, where nobody signs on.
    #[arg(long)]
    by: Option<String>,
}

/// What to do with customers' quotas.
#[derive(Debug, Subcommand)]
pub(crate) enum Budgets {
    /// Lists the quotas on which a vendor has spoken.
    List,
    /// Shows a connection's quota and its last minutes.
    Show {
        /// The connection's id.
        connection: i64,
        /// Minutes, 200 at the most.
        #[arg(long, default_value_t = 20)]
        minutes: i64,
    },
    /// Sets our share of one connection's quota.
    Set {
        /// The connection's id.
        connection: i64,
        /// Per cent of the quota that are ours, whoever else uses it.
        #[arg(long)]
        share_pct: u8,
        /// Per cent of the quota, within our share, that no job uses.
        #[arg(long, default_value_t = 5)]
        health_pct: u8,
        #[command(flatten)]
        word: Word,
    },
    /// Takes a connection's own share back: the deployment's counts again.
    Reset {
        /// The connection's id.
        connection: i64,
        #[command(flatten)]
        whom: Whom,
    },
}

impl Target {
    fn checked(&self) -> Result<Scope, Refusal> {
        Scope::new(&self.scope, &self.key).map_err(|sentence| Refusal::usage(sentence, None))
    }
}

impl Word {
    fn check(&self, what: &str) -> Result<(), Refusal> {
        if self.reason.trim().is_empty() {
            return Err(Refusal::usage(format!("{what} needs a reason"), Some("say it with --reason \"…\"")));
        }
        Ok(())
    }
}

pub(crate) async fn limits(client: &ManagerClient, verb: &Limits, json: bool) -> anyhow::Result<()> {
    match verb {
        Limits::List => list(client, json).await,
        Limits::Holders { target } => holders(client, &target.checked()?, json).await,
        Limits::Set(set) => {
            let scope = set.target.checked()?;
            set.word.check("a limit")?;
            let bounds = Bounds {
                concurrency: set.concurrency,
                per_second: set.per_second,
                per_minute: set.per_minute,
                burst: set.burst,
                per_day: set.per_day,
                reserve_pct: set.reserve_pct,
            };
            let request = LimitRequest { bounds, by: set.word.by.clone(), reason: set.word.reason.clone() };
            client.set_limit(&scope, &request).await.map_err(Refusal::from)?;
            output::done(json, &format!("{scope} is limited: {}", words(&bounds)))
        }
        Limits::Remove { target, whom } => {
            let scope = target.checked()?;
            client.remove_limit(&scope, &whom.said()).await.map_err(Refusal::from)?;
            output::done(json, &format!("the limit on {scope} is removed"))
        }
    }
}

async fn list(client: &ManagerClient, json: bool) -> anyhow::Result<()> {
    let mut all = client.limits(&LimitQuery::default()).await.map_err(Refusal::from)?;
    while let Some(after) = all.next_after.take() {
        let query = LimitQuery { after: Some(after), limit: None };
        let page = client.limits(&query).await.map_err(Refusal::from)?;
        all.limits.extend(page.limits);
        all.next_after = page.next_after;
    }
    let rows = all.limits.iter().map(|limit| {
        let counts = if limit.in_force { "yes" } else { "no" };
        let since = output::time(Some(limit.set_at));
        let (by, reason) = (limit.set_by.clone(), limit.reason.clone());
        let says = words(&limit.bounds);
        vec![limit.scope.clone(), limit.key.clone(), says, limit.source.clone(), counts.to_owned(), since, by, reason]
    });
    let head = ["SCOPE", "KEY", "LIMIT", "SOURCE", "IN FORCE", "SINCE", "BY", "REASON"];
    output::table(json, &all, &head, rows.collect())
}

async fn holders(client: &ManagerClient, scope: &Scope, json: bool) -> anyhow::Result<()> {
    let key = Some(scope.key()).filter(|key| !key.is_empty());
    let query = HolderQuery { scope: scope.scope().to_owned(), key };
    let list = client.holders(&query).await.map_err(Refusal::from)?;
    let row = |holder: &Holder| {
        let connection = holder.connection_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        vec![holder.kind.clone(), holder.account_id.to_string(), connection, holder.jobs.to_string()]
    };
    output::table(json, &list, &["KIND", "ACCOUNT", "CONNECTION", "JOBS"], list.holders.iter().map(row).collect())?;
    if list.is_partial && !json {
        eprintln!("servantctl: there may be more: only the newest jobs in flight were looked at");
    }
    Ok(())
}

fn words(bounds: &Bounds) -> String {
    let numbers = [
        ("concurrency", bounds.concurrency),
        ("per_second", bounds.per_second),
        ("per_minute", bounds.per_minute),
        ("burst", bounds.burst),
        ("per_day", bounds.per_day),
        ("reserve_pct", bounds.reserve_pct.map(u32::from)),
    ];
    let said = numbers.into_iter().filter_map(|(name, number)| Some(format!("{name} {}", number?)));
    said.collect::<Vec<_>>().join(", ")
}

pub(crate) async fn budgets(client: &ManagerClient, verb: &Budgets, json: bool) -> anyhow::Result<()> {
    match verb {
        Budgets::List => list_budgets(client, json).await,
        Budgets::Show { connection, minutes } => {
            let query = MinuteQuery { before: None, limit: Some(*minutes) };
            let detail = client.budget(*connection, &query).await.map_err(Refusal::from)?;
            let rows = detail.minutes.iter().map(|minute| {
                let numbers = [minute.used, minute.maximum, minute.ceiling, minute.reserved];
                let cells = std::iter::once(output::time(Some(minute.minute)));
                cells.chain(numbers.map(|number| number.to_string())).collect()
            });
            output::table(json, &detail, &["MINUTE", "USED", "MAXIMUM", "OURS", "RESERVED"], rows.collect())
        }
        Budgets::Set { connection, share_pct, health_pct, word } => {
            word.check("a share")?;
            let (by, reason) = (word.by.clone(), word.reason.clone());
            let request = ShareRequest { share_pct: *share_pct, health_pct: *health_pct, by, reason };
            client.set_share(*connection, &request).await.map_err(Refusal::from)?;
            let jobs_pct = share_pct.saturating_sub(*health_pct);
            let jobs = format!("jobs may use {jobs_pct} % of connection {connection}'s quota");
            output::done(json, &format!("{jobs}; {health_pct} % more are kept for signing on"))
        }
        Budgets::Reset { connection, whom } => {
            client.remove_share(*connection, &whom.said()).await.map_err(Refusal::from)?;
            output::done(json, &format!("connection {connection} has the deployment's share again"))
        }
    }
}

async fn list_budgets(client: &ManagerClient, json: bool) -> anyhow::Result<()> {
    let mut all = client.budgets(&BudgetQuery::default()).await.map_err(Refusal::from)?;
    while let Some(after) = all.next_after.take() {
        let query = BudgetQuery { after: Some(after), limit: None };
        let page = client.budgets(&query).await.map_err(Refusal::from)?;
        all.budgets.extend(page.budgets);
        all.next_after = page.next_after;
    }
    let rows = all.budgets.iter().map(|budget| {
        let ids = [budget.connection_id, budget.account_id].map(|id| id.to_string());
        let numbers = [budget.used, budget.ceiling, budget.maximum].map(|number| number.to_string());
        let share = format!("{} % - {} %", budget.share_pct, budget.health_pct);
        let (said, resets) = (output::time(Some(budget.reported_at)), output::time(budget.resets_at));
        let tail = [share, budget.share_set_by.clone(), said, resets];
        ids.into_iter().chain([budget.vendor.clone()]).chain(numbers).chain(tail).collect()
    });
    let head = ["CONNECTION", "ACCOUNT", "VENDOR", "USED", "OURS", "MAXIMUM", "SHARE", "BY", "REPORTED", "RESETS"];
    output::table(json, &all, &head, rows.collect())
}
