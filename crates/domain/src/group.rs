//! Groups of jobs: who may join, when a group has ended and how, and what runs then. Pure; the counts that decide are
//! the ledger's, and so is that the decision is carried out once.

use crate::{ConnectionId, JobState, Kind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{fmt, str::FromStr};

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupState {
    /// Anybody may add members.
    Open,
    /// All its members are known, or are made by its members: it ends with the last of them.
    Sealed,
    /// Its members are being ended.
    Cancelling,
    /// All its members have ended, as its finishing job asks for.
    Finished,
    /// All its members have ended, and not as its finishing job asks for.
    Failed,
    /// An operator ended it, and all its members have ended.
    Cancelled,
    /// Its row says what this program does not know: another version wrote it, or it is damaged. It stays as it is until
    /// a version that understands it is there.
    NotUnderstood,
}

/// What a finishing job asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishWhen {
    /// That all members have ended, however.
    #[default]
    AllDone,
    /// That all members have succeeded.
    AllSucceeded,
}

/// The job that runs once when a group has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finishing {
    /// The type of work.
    pub kind: Kind,
    /// What to do.
    pub payload: Value,
    /// 0 (urgent) to 4 (whenever).
    pub priority: i16,
    /// The connection it works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// What it asks for.
    #[serde(default)]
    pub when: FinishWhen,
}

/// A group's members by state, and how far those are that have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Jobs by [`JobState::code`].
    pub jobs: [i64; JobState::ALL.len()],
    /// What the ended ones say they have done.
    pub done: i64,
    /// What the ended ones had to do.
    pub total: i64,
}

/// What becomes of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupVerdict {
    /// It goes on.
    Wait,
    /// It ends in that state.
    End {
        /// The state.
        state: GroupState,
        /// Its finishing job, if it has one, runs now.
        finishing_runs: bool,
    },
}

impl GroupCounts {
    /// Members in a state.
    #[must_use]
    pub fn of(&self, state: JobState) -> i64 {
        JobState::ALL.into_iter().zip(self.jobs).find(|(of, _)| *of == state).map_or(0, |(_, jobs)| jobs)
    }

    /// Members that have not ended.
    #[must_use]
    pub fn unfinished(&self) -> i64 {
        JobState::ALL.into_iter().filter(|state| !state.is_finished()).map(|state| self.of(state)).sum()
    }

    /// All members.
    #[must_use]
    pub fn members(&self) -> i64 {
        self.jobs.iter().sum()
    }
}

impl GroupState {
    /// All states that are written, in the order of a group's life.
    pub const ALL: [Self; 6] =
        [Self::Open, Self::Sealed, Self::Cancelling, Self::Finished, Self::Failed, Self::Cancelled];

    /// The text in the database, the API and on screens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sealed => "sealed",
            Self::Cancelling => "cancelling",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::NotUnderstood => "not_understood",
        }
    }

    /// Whether a job may join. A running member's children may, but for a cancelled group: until their parent has
    /// ended the group has not, and both are one commit.
    #[must_use]
    pub const fn admits(self, child_of_member: bool) -> bool {
        match self {
            Self::Open => true,
            Self::Sealed | Self::Finished | Self::Failed => child_of_member,
            Self::Cancelling | Self::Cancelled | Self::NotUnderstood => false,
        }
    }

    /// Whether failed and cancelled members may be started anew. In a cancelled group they would be ended again.
    #[must_use]
    pub const fn allows_retries(self) -> bool {
        !matches!(self, Self::Cancelling | Self::Cancelled | Self::NotUnderstood)
    }

    /// Where the group stands once a member has been started anew: one that failed waits for it, and its finishing job
    /// may still run. One that finished stays so, since its finishing job has run.
    #[must_use]
    pub const fn after_retry(self) -> Self {
        match self {
            Self::Failed => Self::Sealed,
            state => state,
        }
    }

    /// Nothing more happens to such a group by itself.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Cancelled)
    }

    /// Whether and how a group ends.
    #[must_use]
    pub fn verdict(self, finishing: Option<FinishWhen>, counts: &GroupCounts) -> GroupVerdict {
        if counts.unfinished() != 0 {
            return GroupVerdict::Wait;
        }
        let is_success = counts.of(JobState::Failed) == 0 && counts.of(JobState::Cancelled) == 0;
        match self {
            Self::Open | Self::Finished | Self::Failed | Self::Cancelled | Self::NotUnderstood => GroupVerdict::Wait,
            Self::Cancelling => GroupVerdict::End { state: Self::Cancelled, finishing_runs: false },
            Self::Sealed if finishing == Some(FinishWhen::AllSucceeded) && !is_success => {
                GroupVerdict::End { state: Self::Failed, finishing_runs: false }
            }
            Self::Sealed => GroupVerdict::End { state: Self::Finished, finishing_runs: finishing.is_some() },
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for GroupState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            format!("'{text}' is not a group's state; the states are {}", Self::ALL.map(Self::as_str).join(", "))
        })
    }
}
