//! Accounts and statistics on the wire.

use chrono::{DateTime, Utc};
use domain::JobState;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Ids below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Account {
    /// Its id.
    pub id: i64,
    /// What people call it.
    pub name: String,
    /// Its share of what is dispatched, beside others that wait for the same kind of work.
    pub weight: i16,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

/// A customer's share, and who sets it and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightRequest {
    /// 1 to 100; an account of weight 3 is served three times as often as one of weight 1.
    #[schema(minimum = 1, maximum = 100)]
    pub weight: i16,
    /// Why.
    pub reason: String,
    /// Who, where nobody signs on; anybody else is known by the sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A page of accounts, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountPage {
    /// The accounts.
    pub accounts: Vec<Account>,
    /// Pass as `before` for the next page; none: this was the last.
    pub next_before: Option<i64>,
}

/// How many jobs of a kind are in a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobCount {
    /// The kind.
    pub kind: String,
    /// The state.
    #[schema(value_type = String)]
    pub state: JobState,
    /// How many.
    pub jobs: i64,
}

/// A job that failed for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// The job.
    pub id: i64,
    /// Its kind.
    pub kind: String,
    /// Whose it is.
    pub account_id: i64,
    /// Attempts it had.
    pub attempt: i16,
    /// When it failed.
    pub finished_at: DateTime<Utc>,
    /// The last error's class.
    pub class: Option<String>,
    /// The last error's chain of causes.
    pub error: Option<String>,
}

/// Servant processes of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Processes {
    /// The kind.
    pub kind: String,
    /// Those that there should be, by the catalogue.
    pub expected: i32,
    /// Those that are alive.
    pub alive: usize,
}

/// A build that was deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Build {
    /// Its name.
    pub version: String,
    /// The kinds whose servants are of it.
    pub kinds: Vec<String>,
    /// When the first of them started.
    pub first_at: DateTime<Utc>,
}

/// The whole at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// The ledger's time.
    pub now: DateTime<Utc>,
    /// Jobs by kind and state.
    pub counts: Vec<JobCount>,
    /// Servant processes by kind, those that there are and those that there should be.
    #[serde(default)]
    pub processes: Vec<Processes>,
    /// Builds of servants that were started lately, the latest first.
    #[serde(default)]
    pub builds: Vec<Build>,
    /// Servants alive.
    pub servants_alive: usize,
    /// Servants late or lost.
    pub servants_silent: usize,
    /// The latest jobs that failed for good.
    pub recent_failures: Vec<Failure>,
}
