//! What can go wrong with the ledger, named by what the caller can do.

use domain::GroupId;

/// An error of the ledger. The cause is kept as source.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer or cut the connection: try again. Whether a commit happened is unknown.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// Two transactions were in each other's way: try again at once.
    #[error("the transaction conflicted with another")]
    Conflict(#[source] sqlx::Error),
    /// This process no longer leads: stop leading.
    #[error("another scheduler leads")]
    NotLeading,
    /// The database's schema is not this build's.
    #[error("the database's schema lacks migration {wanted}, its latest is {found}: run `servantctl migrate`")]
    Schema {
        /// The latest migration applied; 0: none was.
        found: i64,
        /// The first that this build knows and that was not.
        wanted: i64,
    },
    /// A row holds what no row may hold.
    #[error("row {row} of {table} holds an impossible {column}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key.
        row: String,
    },
    /// A group that takes no members: there is none, or it does not admit them. Trying again does not help.
    #[error("group {group} takes no members: {why}")]
    NotAdmitted {
        /// The group.
        group: GroupId,
        /// Why not.
        why: String,
    },
    /// A vendor's name that can be none in the database.
    #[error("'{name}' is no name for a table")]
    NoName {
        /// The name.
        name: String,
    },
    /// The database has no role under which one account alone is seen, or its user may not take it. Nothing else is
    /// concerned.
    #[error(
        "no account can be looked at alone: '{user}' may not become the role servant_viewer. An administrator of the \
         database runs `CREATE ROLE servant_viewer NOLOGIN` unless there is one, and `GRANT servant_viewer TO \
         \"{user}\"`; then the owner of the tables runs `SELECT raise_viewer_wall()`"
    )]
    NoViewer {
        /// The user of the database.
        user: String,
    },
    /// The database refused the statement: a mistake of ours or of the data.
    #[error("the database refused")]
    Rejected(#[source] sqlx::Error),
    /// A migration failed.
    #[error("a migration failed")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        let code = match &error {
            E::Database(db) => db.code().map(std::borrow::Cow::into_owned),
            _ => None,
        };
        match (&error, code.as_deref()) {
            // Class 40: serialisation failure and deadlock; 55P03: a lock was waited for too long (PostgreSQL, appendix A).
            (_, Some(code)) if code.starts_with("40") || code == "55P03" => Self::Conflict(error),
            // Classes 08, 53, 57, 58: connection, resources, operator intervention, system; 25P03: idle in transaction.
            (_, Some(code))
                if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) || code == "25P03" =>
            {
                Self::Unavailable(error)
            }
            (E::Io(_) | E::Tls(_) | E::Protocol(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed, _) => {
                Self::Unavailable(error)
            }
            _ => Self::Rejected(error),
        }
    }
}

impl StoreError {
    /// Whether the same call may succeed when made again.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Conflict(_))
    }

    /// Whether the address leads to no database that lets its user in (class 28, invalid authorisation; 3D000, no such
    /// database): a person has to correct it.
    #[must_use]
    pub fn is_of_address(&self) -> bool {
        let Self::Rejected(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|code| code.starts_with("28") || code == "3D000")
    }

    /// Whether a value was given that no row can hold: text with a NUL in it, a number or a time out of range (PostgreSQL's
    /// class 22, data exception).
    #[must_use]
    pub fn is_of_value(&self) -> bool {
        let Self::Rejected(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|code| code.starts_with("22"))
    }
}
