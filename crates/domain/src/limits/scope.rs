//! What a limit covers, its names in files, the database, the API and on the command line, and which of several limits
//! is the one that counts: what is said of one account or connection replaces what is said of each.

use super::limit::Limit;
use crate::{AccountId, ConnectionId, Kind};
use foldhash::HashMap;
use std::fmt;

/// What a limit covers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The jobs of a kind.
    Kind(Kind),
    /// The jobs of an account.
    Account(AccountId),
    /// The jobs that work on a connection.
    Connection(ConnectionId),
    /// The jobs that call a vendor.
    Vendor(String),
    /// Each account by itself, unless it has a limit of its own.
    EachAccount,
    /// Each connection by itself, of one vendor or of any, unless it has a limit of its own.
    EachConnection(Option<String>),
    /// Something that this version does not know: a newer one set the limit, or its row is damaged. Here it bounds nothing.
    Unknown {
        /// Which sort it is.
        scope: String,
        /// Which one of them.
        key: String,
    },
}

/// What is counted under a limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// The jobs of a kind.
    Kind(Kind),
    /// The jobs of an account.
    Account(AccountId),
    /// The jobs that work on a connection.
    Connection(ConnectionId),
    /// The jobs that call a vendor.
    Vendor(String),
}

/// Checks a vendor's name.
///
/// # Errors
/// A sentence that says what a name is.
pub fn check_vendor(name: &str) -> Result<(), String> {
    let legal = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
    if legal && (1..=60).contains(&name.len()) {
        return Ok(());
    }
    Err(format!("'{name}' is no vendor: 1 to 60 lower-case letters, digits, underscores and hyphens"))
}

impl Scope {
    /// What this version knows to limit.
    pub const SORTS: [&str; 6] = ["kind", "account", "connection", "vendor", "each_account", "each_connection"];

    /// Reads its two names.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn new(scope: &str, key: &str) -> Result<Self, String> {
        let id = || key.parse().ok().filter(|id| *id >= 0).ok_or_else(|| format!("'{key}' is no {scope}'s id"));
        let vendor = || check_vendor(key).map(|()| key.to_owned());
        match scope {
            "kind" => Kind::new(key).map(Self::Kind).map_err(|error| error.to_string()),
            "account" => id().map(|id| Self::Account(AccountId(id))),
            "connection" => id().map(|id| Self::Connection(ConnectionId(id))),
            "vendor" => vendor().map(Self::Vendor),
            "each_account" if key.is_empty() => Ok(Self::EachAccount),
            "each_account" => Err("each_account has no key".to_owned()),
            "each_connection" if key.is_empty() => Ok(Self::EachConnection(None)),
            "each_connection" => vendor().map(|vendor| Self::EachConnection(Some(vendor))),
            _ => Err(format!(
                "'{scope}' has no limits; a kind, account, connection, vendor, each_account and each_connection have"
            )),
        }
    }

    /// Reads what a row of the ledger covers, whoever wrote it.
    #[must_use]
    pub fn of_row(scope: String, key: String) -> Self {
        Self::new(&scope, &key).unwrap_or(Self::Unknown { scope, key })
    }

    /// Which sort it is.
    #[must_use]
    pub const fn scope(&self) -> &str {
        match self {
            Self::Kind(_) => "kind",
            Self::Account(_) => "account",
            Self::Connection(_) => "connection",
            Self::Vendor(_) => "vendor",
            Self::EachAccount => "each_account",
            Self::EachConnection(_) => "each_connection",
            Self::Unknown { scope, .. } => scope.as_str(),
        }
    }

    /// Which one of them; empty for each account, and for each connection of any vendor.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Kind(kind) => kind.to_string(),
            Self::Account(id) => id.to_string(),
            Self::Connection(id) => id.to_string(),
            Self::Vendor(name) | Self::EachConnection(Some(name)) => name.clone(),
            Self::EachAccount | Self::EachConnection(None) => String::new(),
            Self::Unknown { key, .. } => key.clone(),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EachAccount => f.write_str("each account"),
            Self::EachConnection(None) => f.write_str("each connection"),
            Self::EachConnection(Some(vendor)) => write!(f, "each connection of {vendor}"),
            _ => write!(f, "{} {}", self.scope(), self.key()),
        }
    }
}

impl Subject {
    /// Reads its two names.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn new(scope: &str, key: &str) -> Result<Self, String> {
        match Scope::new(scope, key)? {
            Scope::Kind(kind) => Ok(Self::Kind(kind)),
            Scope::Account(id) => Ok(Self::Account(id)),
            Scope::Connection(id) => Ok(Self::Connection(id)),
            Scope::Vendor(name) => Ok(Self::Vendor(name)),
            Scope::EachAccount | Scope::EachConnection(_) | Scope::Unknown { .. } => {
                Err(format!("'{scope}' is not one thing"))
            }
        }
    }

    /// The limit's scope that is its very own.
    #[must_use]
    pub fn own_scope(&self) -> Scope {
        match self.clone() {
            Self::Kind(kind) => Scope::Kind(kind),
            Self::Account(id) => Scope::Account(id),
            Self::Connection(id) => Scope::Connection(id),
            Self::Vendor(name) => Scope::Vendor(name),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.own_scope().fmt(f)
    }
}

/// The limits in force, by what they cover.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    kinds: HashMap<Kind, Limit>,
    accounts: HashMap<AccountId, Limit>,
    connections: HashMap<ConnectionId, Limit>,
    vendors: HashMap<String, Limit>,
    each_account: Option<Limit>,
    each_connection: Option<Limit>,
    each_connection_of: HashMap<String, Limit>,
}

impl FromIterator<(Scope, Limit)> for Limits {
    fn from_iter<I: IntoIterator<Item = (Scope, Limit)>>(limits: I) -> Self {
        let mut all = Self::default();
        for (scope, limit) in limits {
            match scope {
                Scope::Kind(kind) => drop(all.kinds.insert(kind, limit)),
                Scope::Account(id) => drop(all.accounts.insert(id, limit)),
                Scope::Connection(id) => drop(all.connections.insert(id, limit)),
                Scope::Vendor(name) => drop(all.vendors.insert(name, limit)),
                Scope::EachAccount => all.each_account = Some(limit),
                Scope::EachConnection(None) => all.each_connection = Some(limit),
                Scope::EachConnection(Some(vendor)) => drop(all.each_connection_of.insert(vendor, limit)),
                Scope::Unknown { .. } => {}
            }
        }
        all
    }
}

impl Limits {
    /// The limit on a kind.
    #[must_use]
    pub fn of_kind(&self, kind: &Kind) -> Option<(Scope, Limit)> {
        self.kinds.get(kind).map(|limit| (Scope::Kind(kind.clone()), *limit))
    }

    /// The limit on an account: its own, or that of each. The system's own jobs belong to no customer: for them only
    /// a limit of account 0 counts.
    #[must_use]
    pub fn of_account(&self, id: AccountId) -> Option<(Scope, Limit)> {
        let each = self.each_account.filter(|_| id != AccountId::SYSTEM).map(|limit| (Scope::EachAccount, limit));
        self.accounts.get(&id).map(|limit| (Scope::Account(id), *limit)).or(each)
    }

    /// The limit on a connection: its own, or that of each of its vendor, or that of each.
    #[must_use]
    pub fn of_connection(&self, id: ConnectionId, vendor: Option<&str>) -> Option<(Scope, Limit)> {
        if let Some(limit) = self.connections.get(&id) {
            return Some((Scope::Connection(id), *limit));
        }
        let of_vendor = vendor.and_then(|vendor| self.each_connection_of.get_key_value(vendor));
        of_vendor
            .map(|(vendor, limit)| (Scope::EachConnection(Some(vendor.clone())), *limit))
            .or(self.each_connection.map(|limit| (Scope::EachConnection(None), limit)))
    }

    /// The limit on a vendor.
    #[must_use]
    pub fn of_vendor(&self, name: &str) -> Option<(Scope, Limit)> {
        self.vendors.get_key_value(name).map(|(name, limit)| (Scope::Vendor(name.clone()), *limit))
    }

    /// Whether any of them has something to remember from one job to the next, besides what is in flight.
    #[must_use]
    pub fn have_gauges(&self) -> bool {
        let of_each = [self.each_account, self.each_connection].into_iter().flatten();
        let named = self.kinds.values().chain(self.accounts.values()).chain(self.connections.values());
        let of_vendors = self.vendors.values().chain(self.each_connection_of.values());
        named.chain(of_vendors).copied().chain(of_each).any(|limit| limit.has_gauges())
    }

    /// Whether a job that has no connection is under any limit.
    #[must_use]
    pub fn cover(&self, kind: &Kind, account: AccountId, vendor: Option<&str>) -> bool {
        self.kinds.contains_key(kind)
            || self.accounts.contains_key(&account)
            || (self.each_account.is_some() && account != AccountId::SYSTEM)
            || vendor.is_some_and(|vendor| self.vendors.contains_key(vendor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(concurrency: u32) -> Limit {
        Limit { concurrency: Some(concurrency), ..Limit::default() }
    }

    #[test]
    fn names_are_read_back() {
        for (scope, key, text) in [
            ("kind", "noop", "kind noop"),
            ("account", "7", "account 7"),
            ("connection", "12", "connection 12"),
            ("vendor", "salesforce", "vendor salesforce"),
            ("each_account", "", "each account"),
            ("each_connection", "", "each connection"),
            ("each_connection", "slack", "each connection of slack"),
        ] {
            let read = Scope::new(scope, key).unwrap();
            assert_eq!((read.scope(), read.key().as_str(), read.to_string().as_str()), (scope, key, text));
            assert_eq!(Subject::new(scope, key).is_ok(), !scope.starts_with("each"));
            assert_eq!(Scope::of_row(scope.to_owned(), key.to_owned()), read);
        }
        let refused = [("kind", "A"), ("account", "-1"), ("account", ""), ("vendor", "A b"), ("each_account", "1")];
        for (scope, key) in refused.into_iter().chain([("vendor", ""), ("each_connection", "?"), ("group", "1")]) {
            assert!(Scope::new(scope, key).is_err(), "{scope} {key:?} was taken");
            let read = Scope::of_row(scope.to_owned(), key.to_owned());
            assert_eq!((read.scope(), read.key().as_str()), (scope, key), "a row is shown as it is");
            assert_eq!(Limits::from_iter([(read, limit(1))]), Limits::default(), "and bounds nothing");
        }
    }

    #[test]
    fn what_is_said_of_one_replaces_what_is_said_of_each() {
        let limits: Limits = [
            (Scope::EachAccount, limit(1)),
            (Scope::Account(AccountId(7)), limit(2)),
            (Scope::EachConnection(None), limit(3)),
            (Scope::EachConnection(Some("slack".to_owned())), limit(4)),
            (Scope::Connection(ConnectionId(9)), limit(5)),
        ]
        .into_iter()
        .collect();
        let jobs = |found: Option<(Scope, Limit)>| found.and_then(|(_, limit)| limit.concurrency);
        assert_eq!(jobs(limits.of_account(AccountId(6))), Some(1));
        assert_eq!(jobs(limits.of_account(AccountId(7))), Some(2));
        assert_eq!(jobs(limits.of_account(AccountId::SYSTEM)), None);
        assert_eq!(jobs(limits.of_connection(ConnectionId(8), None)), Some(3));
        assert_eq!(jobs(limits.of_connection(ConnectionId(8), Some("salesforce"))), Some(3));
        assert_eq!(jobs(limits.of_connection(ConnectionId(8), Some("slack"))), Some(4));
        assert_eq!(jobs(limits.of_connection(ConnectionId(9), Some("slack"))), Some(5));
        let noop = Kind::new("noop").unwrap();
        assert!(limits.cover(&noop, AccountId(1), None) && !limits.cover(&noop, AccountId::SYSTEM, None));
    }
}
