//! What a pause holds back, and its names in the database, the API and on the command line. Does not own who pauses,
//! why, or since when: those are facts of the ledger.

use crate::{AccountId, ConnectionId, GroupId, Kind};
use std::fmt;

/// What a pause holds back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PauseTarget {
    /// Every job.
    Everything,
    /// The jobs of a kind.
    Kind(Kind),
    /// The jobs of an account.
    Account(AccountId),
    /// The jobs that work on a connection.
    Connection(ConnectionId),
    /// The members of a group.
    Group(GroupId),
    /// Something that this version does not know: a newer one paused it, or its row is damaged. Here it holds nothing back.
    Unknown {
        /// Which sort it is.
        scope: String,
        /// Which one of them.
        key: String,
    },
}

impl PauseTarget {
    /// Reads its two names.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn new(scope: &str, key: &str) -> Result<Self, String> {
        let id = || key.parse().ok().filter(|id| *id >= 0).ok_or_else(|| format!("'{key}' is no id of a {scope}"));
        match scope {
            "everything" if key.is_empty() => Ok(Self::Everything),
            "everything" => Err("everything has no key".to_owned()),
            "kind" => Kind::new(key).map(Self::Kind).map_err(|error| error.to_string()),
            "account" => id().map(|id| Self::Account(AccountId(id))),
            "connection" => id().map(|id| Self::Connection(ConnectionId(id))),
            "group" => id().map(|id| Self::Group(GroupId(id))),
            _ => Err(format!(
                "'{scope}' is nothing to pause; pause everything, a kind, an account, a connection or a group"
            )),
        }
    }

    /// Reads what a row of the ledger holds back, whoever wrote it.
    #[must_use]
    pub fn of_row(scope: String, key: String) -> Self {
        Self::new(&scope, &key).unwrap_or(Self::Unknown { scope, key })
    }

    /// Which sort it is.
    #[must_use]
    pub const fn scope(&self) -> &str {
        match self {
            Self::Everything => "everything",
            Self::Kind(_) => "kind",
            Self::Account(_) => "account",
            Self::Connection(_) => "connection",
            Self::Group(_) => "group",
            Self::Unknown { scope, .. } => scope.as_str(),
        }
    }

    /// Which one of them; empty for everything.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Everything => String::new(),
            Self::Kind(kind) => kind.to_string(),
            Self::Account(id) => id.to_string(),
            Self::Connection(id) => id.to_string(),
            Self::Group(id) => id.to_string(),
            Self::Unknown { key, .. } => key.clone(),
        }
    }
}

impl fmt::Display for PauseTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            _ => write!(f, "{} {}", self.scope(), self.key()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for (scope, key) in
            [("everything", ""), ("kind", "noop"), ("account", "7"), ("connection", "12"), ("group", "3")]
        {
            let target = PauseTarget::new(scope, key).unwrap();
            assert_eq!((target.scope(), target.key().as_str()), (scope, key));
            assert_eq!(PauseTarget::of_row(scope.to_owned(), key.to_owned()), target);
        }
        for (scope, key) in [("everything", "x"), ("kind", "A"), ("account", "-1"), ("connection", ""), ("queue", "1")]
        {
            assert!(PauseTarget::new(scope, key).is_err(), "{scope} {key:?} was taken");
            let target = PauseTarget::of_row(scope.to_owned(), key.to_owned());
            assert_eq!((target.scope(), target.key().as_str()), (scope, key), "a row is shown as it is");
        }
    }
}
