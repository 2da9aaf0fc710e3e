//! The proof that somebody may do something. [`authorize`] is the only maker of a [`Granted`], and whatever changes the
//! ledger for somebody asks for one, of the right action: forgetting the question does not compile. Which role may do
//! which action is the table in `matrix`.

use super::{Action, Principal, PrincipalKind};
use std::{fmt, marker::PhantomData};

/// An action as a type; the types are in [`action`](super::action), one for each [`Action`].
pub trait Capability: sealed::Sealed + Send + Sync + 'static {
    /// The action.
    const ACTION: Action;
}

pub(super) mod sealed {
    /// Nobody else invents actions.
    pub trait Sealed {}
}

/// Makes of the table the enum, a type for each of its actions, and what it says of the roles.
macro_rules! actions {
    (@is yes) => { true };
    (@is no) => { false };
    (@is reads) => { true };
    (@is acts) => { false };
    ($($sort:ident $name:ident $text:literal $viewer:ident $support:ident $operator:ident $admin:ident
       $assuming:ident;)+) => {
        /// Something that is allowed or not.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $(#[doc = concat!("`", $text, "`")] $name,)+
        }

        impl Action {
            /// All actions, in the table's order.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name, as stored and shown.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Whether it changes nothing.
            #[must_use]
            pub const fn is_reading(self) -> bool {
                match self { $(Self::$name => actions!(@is $sort),)+ }
            }

            /// Whether the role may do it.
            #[must_use]
            pub const fn is_for(self, role: super::Role) -> bool {
                let (viewer, support, operator, admin) = match self {
                    $(Self::$name => (actions!(@is $viewer), actions!(@is $support), actions!(@is $operator),
                                      actions!(@is $admin)),)+
                };
                match role {
                    super::Role::Viewer => viewer,
                    super::Role::Support => support,
                    super::Role::Operator => operator,
                    super::Role::Admin => admin,
                }
            }

            /// Whether it may be done while an account is looked at as its customer does.
            #[must_use]
            pub const fn is_for_assuming(self) -> bool {
                match self { $(Self::$name => actions!(@is $assuming),)+ }
            }
        }

        /// The actions as types: `Granted<action::RetryJob>` proves that a job may be retried.
        pub mod action {
            use super::super::granted::{Capability, sealed::Sealed};
            $(
                #[doc = concat!("`", $text, "`")]
                #[derive(Debug, Clone, Copy, PartialEq, Eq)]
                pub struct $name;
                impl Sealed for $name {}
                impl Capability for $name {
                    const ACTION: super::Action = super::Action::$name;
                }
            )+
        }
    };
}
pub(super) use actions;

/// Somebody may do `A`: who, from where, and why.
///
/// It has no other maker than [`authorize`]:
/// ```compile_fail
/// use domain::{Granted, Principal, action};
/// let made: Granted<action::RetryJob> = Granted { principal: Principal::system("me"), reason: String::new() };
/// ```
#[derive(Debug, Clone)]
pub struct Granted<A> {
    principal: Principal,
    reason: String,
    action: PhantomData<fn() -> A>,
}

impl<A: Capability> Granted<A> {
    /// Who.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Their name, as people read it.
    #[must_use]
    pub fn by(&self) -> &str {
        self.principal.name()
    }

    /// Why; empty where nobody said.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What.
    #[must_use]
    pub fn action(&self) -> Action {
        A::ACTION
    }
}

/// Somebody may not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// What.
    pub action: Action,
    /// Which rule says so.
    pub why: Why,
}

/// Why something is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The role may not.
    Role(super::Role),
    /// A servant says how it is, and does nothing else.
    Servant,
    /// Only servants do this.
    NoServant,
    /// Not while an account is looked at as its customer does.
    Assuming,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = self.action.as_str();
        match self.why {
            Why::Role(role) => write!(f, "the role {role} may not {action}"),
            Why::Servant => write!(f, "a servant may send heartbeats, and may not {action}"),
            Why::NoServant => write!(f, "only servants may {action}"),
            Why::Assuming => write!(f, "whoever sees an account as its customer does may not {action}"),
        }
    }
}

impl std::error::Error for Denied {}

/// Grants an action, or says why not.
///
/// # Errors
/// [`Denied`].
pub fn authorize<A: Capability>(principal: &Principal, reason: &str) -> Result<Granted<A>, Denied> {
    check(principal, A::ACTION)?;
    Ok(Granted { principal: principal.clone(), reason: reason.to_owned(), action: PhantomData })
}

/// The rule behind [`authorize`].
fn check(principal: &Principal, action: Action) -> Result<(), Denied> {
    let denied = |why| Err(Denied { action, why });
    let is_heartbeat = action == Action::Heartbeat;
    match principal.kind() {
        PrincipalKind::Servant if is_heartbeat => return Ok(()),
        PrincipalKind::Servant => return denied(Why::Servant),
        // Where nobody is asked who they are, servants are not, either.
        PrincipalKind::Open | PrincipalKind::System if is_heartbeat && principal.assumed().is_none() => return Ok(()),
        _ if is_heartbeat => return denied(Why::NoServant),
        _ => {}
    }
    if principal.assumed().is_some() && !(action.is_reading() && action.is_for_assuming()) {
        return denied(Why::Assuming);
    }
    if action.is_for(principal.role()) { Ok(()) } else { denied(Why::Role(principal.role())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AccountId, Role, action};

    #[test]
    fn names_are_unique_and_only_reading_is_for_who_assumes() {
        let is_own = |action: Action| matches!(action, Action::SignIn | Action::SignOut | Action::ChangePassword);
        for (at, action) in Action::ALL.iter().enumerate() {
            assert!(Action::ALL[..at].iter().all(|other| other.as_str() != action.as_str()), "{action:?}");
            assert!(action.is_reading() || !action.is_for_assuming(), "{action:?}");
            assert!(
                !action.is_for(Role::Viewer) || action.is_reading() || is_own(*action),
                "a viewer looks: {action:?}"
            );
            assert!(!action.is_for(Role::Operator) || action.is_for(Role::Admin), "{action:?}");
        }
    }

    #[test]
    fn servants_say_how_they_are_and_nothing_else() {
        let servant = Principal::new(PrincipalKind::Servant, "7", "noop on a", Role::Admin);
        for action in Action::ALL {
            assert_eq!(check(&servant, *action).is_ok(), *action == Action::Heartbeat, "{action:?}");
        }
        for role in Role::ALL {
            let user = Principal::new(PrincipalKind::User, "1", "ada", role);
            assert_eq!(check(&user, Action::Heartbeat).unwrap_err().why, Why::NoServant);
        }
    }

    #[test]
    fn who_assumes_an_account_reads_what_its_role_reads_and_no_payload() {
        for role in Role::ALL {
            let user = Principal::new(PrincipalKind::User, "1", "ada", role).assuming(AccountId(7));
            for action in Action::ALL {
                let may = action.is_reading() && action.is_for_assuming() && action.is_for(role);
                assert_eq!(check(&user, *action).is_ok(), may, "{role} {action:?}");
            }
        }
        let system = Principal::system("a duty").assuming(AccountId(7));
        assert!(authorize::<action::Heartbeat>(&system, "").is_err());
    }

    #[test]
    fn a_grant_says_who_why_and_what() {
        let granted = authorize::<action::RetryJob>(&Principal::system("a test"), "because").unwrap();
        assert_eq!((granted.by(), granted.reason(), granted.action()), ("a test", "because", Action::RetryJob));
        let user = Principal::new(PrincipalKind::User, "1", "ada", Role::Viewer);
        let denied = authorize::<action::RetryJob>(&user, "").unwrap_err();
        assert_eq!(denied.to_string(), "the role viewer may not retry_job");
    }
}
