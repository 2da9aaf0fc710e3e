//! Who asks: people, tokens, servants, the system itself, and the roles that people and tokens have. How it is known who
//! asks is the manager's; what a role may do is the matrix beside this file.

mod granted;
mod matrix;

pub use granted::{Capability, Denied, Granted, Why as WhyDenied, authorize};
pub use matrix::{Action, action};

use crate::AccountId;
use std::{fmt, net::IpAddr, str::FromStr};
use uuid::Uuid;

/// What somebody is here for. Each may do what the matrix says, no role contains another by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Helps customers: looks, and may assume an account.
    Support,
    /// Runs the system.
    Operator,
    /// Runs the system and says who else may.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Support, Self::Operator, Self::Admin];

    /// Its name, as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Support => "support",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| format!("'{text}' is not a role; viewer, support, operator and admin are"))
    }
}

/// What kind of someone asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// A person with a session.
    User,
    /// A program with a token.
    Token,
    /// A servant's process with its own credential.
    Servant,
    /// Servant itself: a duty, a migration, a test.
    System,
    /// Anybody, where the manager was told to ask nobody who they are (development, loopback only).
    Open,
}

impl PrincipalKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::User, Self::Token, Self::Servant, Self::System, Self::Open];

    /// Its name, as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Token => "token",
            Self::Servant => "servant",
            Self::System => "system",
            Self::Open => "open",
        }
    }
}

impl FromStr for PrincipalKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| format!("'{text}' is no kind of a principal"))
    }
}

/// From where somebody asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The request's id.
    pub request_id: Option<Uuid>,
    /// The other end of the connection; never what a header says.
    pub ip: Option<IpAddr>,
    /// What the program says of itself, shortened.
    pub agent: String,
}

/// Somebody whose identity is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    kind: PrincipalKind,
    id: String,
    name: String,
    role: Role,
    assumed: Option<AccountId>,
    origin: Origin,
}

impl Principal {
    /// `id`: the row of users, tokens or servants; `name`: what people read.
    pub fn new(kind: PrincipalKind, id: impl Into<String>, name: impl Into<String>, role: Role) -> Self {
        Self { kind, id: id.into(), name: name.into(), role, assumed: None, origin: Origin::default() }
    }

    /// Servant itself, by the name of what acts.
    pub fn system(name: &str) -> Self {
        Self::new(PrincipalKind::System, name, name, Role::Admin)
    }

    /// Anybody, where nobody is asked; by the name that they give.
    pub fn open(name: &str) -> Self {
        Self::new(PrincipalKind::Open, "open", name, Role::Admin)
    }

    /// The same, asking from there.
    #[must_use]
    pub fn from_origin(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// The same, seeing what that customer sees, and no more.
    #[must_use]
    pub fn assuming(self, account: AccountId) -> Self {
        Self { assumed: Some(account), ..self }
    }

    /// The kind.
    pub fn kind(&self) -> PrincipalKind {
        self.kind
    }

    /// The row of users, tokens or servants.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What people read.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The account that is looked at as its customer does.
    pub fn assumed(&self) -> Option<AccountId> {
        self.assumed
    }

    /// From where.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}
