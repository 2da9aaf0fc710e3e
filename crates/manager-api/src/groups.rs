//! Groups of jobs on the wire, and the client's calls for them.

use crate::{ClientError, EnqueueRequest, JobPage, JobQuery, ManagerClient};
use chrono::{DateTime, Utc};
use domain::{FinishWhen, GroupState};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// The job that runs once when a group has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishingJob {
    /// The type of work.
    pub kind: String,
    /// What to do; `{}` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// 0 (urgent) to 4 (whenever); 2 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// The connection it works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<i64>,
    /// `all_done` (unless said): however its members ended; `all_succeeded`: else the group fails instead.
    #[serde(default)]
    #[schema(value_type = String, example = "all_done")]
    pub when: FinishWhen,
}

/// A group to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateGroup {
    /// What people call it.
    pub name: String,
    /// Whose it is, and its members unless they say; the system's unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<i64>,
    /// Who, where nobody signs on; anybody else is known by the sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Its first members, 1,000 at the most; more can be added until it is sealed.
    #[serde(default, deserialize_with = "crate::strict::objects")]
    pub jobs: Vec<EnqueueRequest>,
    /// What runs once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::strict::optional")]
    pub finishing: Option<FinishingJob>,
    /// Those are all: it ends with the last of them.
    #[serde(default)]
    pub seal: bool,
}

/// Members to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddJobs {
    /// The members, 1,000 at the most.
    #[serde(deserialize_with = "crate::strict::objects")]
    pub jobs: Vec<EnqueueRequest>,
}

/// What became of one member to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedJob {
    /// The job, or the unfinished one that holds the key.
    pub id: Option<i64>,
    /// Its key was taken: nothing was inserted, and the other job did not join.
    pub duplicate: bool,
}

/// A group, and what became of the members to be, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupReply {
    /// The group.
    pub group: Group,
    /// The members.
    pub jobs: Vec<AddedJob>,
    /// Finds the request, and the jobs, in the logs.
    pub request_id: String,
}

/// A group's members by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberCounts {
    /// Due later.
    pub scheduled: i64,
    /// Due.
    pub ready: i64,
    /// On the queue.
    pub queued: i64,
    /// With a servant.
    pub running: i64,
    /// Finished.
    pub succeeded: i64,
    /// Finished without success.
    pub failed: i64,
    /// Ended by an operator.
    pub cancelled: i64,
}

/// A group of jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Its id.
    pub id: i64,
    /// What people call it.
    pub name: String,
    /// Whose it is; 0 is the system.
    pub account_id: i64,
    /// open, sealed, cancelling, finished, failed or cancelled; not_understood: another version wrote it, and it stays as
    /// it is.
    #[schema(value_type = String, example = "sealed")]
    pub state: GroupState,
    /// Since when.
    pub state_since: DateTime<Utc>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// All its members.
    pub members: i64,
    /// The same by state.
    pub counts: MemberCounts,
    /// What runs once it has ended.
    pub finishing: Option<FinishingJob>,
    /// The job that this became.
    pub finishing_job_id: Option<i64>,
    /// Who cancelled it.
    pub cancelled_by: Option<String>,
    /// Why.
    pub cancel_reason: Option<String>,
}

/// A group with its progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupDetail {
    /// What lists show too.
    #[serde(flatten)]
    pub group: Group,
    /// The sum of its members'.
    pub progress: GroupProgress,
}

/// The sum of what members say of their progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupProgress {
    /// Done.
    pub done: i64,
    /// To do, as far as they know.
    pub total: i64,
    /// There are more unfinished members than were read; the sum is short by theirs.
    pub is_partial: bool,
    /// How long it will still take, in seconds, by how fast its last members were; none while that is unknown, and once
    /// it has ended.
    #[serde(default)]
    pub secs_left: Option<i64>,
}

/// A page of groups, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupPage {
    /// The groups.
    pub groups: Vec<Group>,
    /// Pass as `before` for the next page; none: this was the last.
    pub next_before: Option<i64>,
}

/// Which groups to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GroupQuery {
    /// A state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// An account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<i64>,
    /// Ids below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// How many onboardings to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OnboardingQuery {
    /// Of those that go on, and of those that ended: 10 at the most; 3 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// What customers' connections have read, or read, for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OnboardingList {
    /// Their groups with progress: those that go on, newest first, then those that ended within a day, the latest first.
    pub onboardings: Vec<GroupDetail>,
}

/// Who cancels a group, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelGroup {
    /// Why; everybody who wonders reads it.
    pub reason: String,
    /// Who, where nobody signs on; anybody else is known by the sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl ManagerClient {
    /// Lists groups.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn groups(&self, query: &GroupQuery) -> Result<GroupPage, ClientError> {
        self.get("/api/v1/groups", query).await
    }

    /// Shows one group with its progress.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn group(&self, id: i64) -> Result<GroupDetail, ClientError> {
        self.get(&format!("/api/v1/groups/{id}"), &()).await
    }

    /// Lists onboardings.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn onboardings(&self, query: &OnboardingQuery) -> Result<OnboardingList, ClientError> {
        self.get("/api/v1/onboardings", query).await
    }

    /// Makes a group.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_group(&self, group: &CreateGroup) -> Result<GroupReply, ClientError> {
        self.post("/api/v1/groups", group).await
    }

    /// Adds members to an open group.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_jobs(&self, id: i64, jobs: &AddJobs) -> Result<GroupReply, ClientError> {
        self.post(&format!("/api/v1/groups/{id}/jobs"), jobs).await
    }

    /// Lists a group's members, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn group_jobs(&self, id: i64, query: &JobQuery) -> Result<JobPage, ClientError> {
        self.get(&format!("/api/v1/groups/{id}/jobs"), query).await
    }

    /// Says that all members of a group are known.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn seal_group(&self, id: i64) -> Result<Group, ClientError> {
        self.post(&format!("/api/v1/groups/{id}/seal"), &serde_json::json!({})).await
    }

    /// Ends a group's members.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cancel_group(&self, id: i64, cancel: &CancelGroup) -> Result<Group, ClientError> {
        self.post(&format!("/api/v1/groups/{id}/cancel"), cancel).await
    }
}
