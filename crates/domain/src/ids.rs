//! Identifiers, each a type of its own so that one cannot stand in for another.
//! Owns their text forms; does not own who hands them out (the database, for all but tokens).

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

number_id!(/// A job, for its whole life; handed out in order of insertion.
    JobId);
number_id!(/// A customer. 0 is the system itself, so that no job is without an account.
    AccountId);
number_id!(/// A customer's connection to one vendor (their Salesforce organisation, a mailbox).
    ConnectionId);
number_id!(/// A schedule that makes jobs.
    ScheduleId);
number_id!(/// Jobs that belong together.
    GroupId);
number_id!(/// One boot of one servant process. A restart is another servant, whatever its host or pid.
    ServantId);
number_id!(/// One claim statement's lease: a batch of attempts that one process renews together.
    LeaseId);
number_id!(/// What one go let through of jobs that limits count.
    PermitId);
number_id!(/// One reign of a leading scheduler; each new leader's is greater.
    Term);

impl AccountId {
    /// The account of jobs that belong to no customer.
    pub const SYSTEM: Self = Self(0);
}

/// The fencing token of one attempt: random, fresh at each claim, checked by every write of that attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptToken(pub uuid::Uuid);

/// A type of work. The name of its file, binary, queue suffix and label are this one text.
/// A copy costs nothing: what is decided of each of a thousand jobs names its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(Arc<str>);

/// Why a text is not the name of a kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not a kind: 1 to 60 lower-case letters, digits and underscores, a letter first")]
pub struct KindError(String);

impl Kind {
    /// Longest name, so that `<prefix>-<kind>-dead` fits the 80 characters that SQS allows a queue's name.
    pub const LENGTH_MAX: usize = 60;

    /// Checks a name.
    ///
    /// # Errors
    /// [`KindError`] when the text is not 1 to 60 of `a-z 0-9 _` with a letter first.
    pub fn new(name: impl Into<String>) -> Result<Self, KindError> {
        let name = name.into();
        let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
        let legal = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if starts_well && legal && name.len() <= Self::LENGTH_MAX {
            Ok(Self(name.into()))
        } else {
            Err(KindError(name))
        }
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Kind {
    type Err = KindError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_checked() {
        assert!(Kind::new("salesforce_sync").is_ok());
        for bad in ["", "Sync", "9lives", "a-b", "_x", &"k".repeat(61)] {
            assert!(Kind::new(bad).is_err(), "{bad:?} was taken");
        }
    }
}
