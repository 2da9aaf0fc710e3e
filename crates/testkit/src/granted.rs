//! Leave to do anything, for tests that are about something else than who may do it.

use domain::{Capability, ConnectionId, Granted, Principal, action, authorize};
use store::{ConnectionAct, Store, StoreError};

/// Granted to whom tests call ada, because of a test.
///
/// # Panics
/// When the action is one that the system itself may not do.
#[must_use]
pub fn granted<A: Capability>() -> Granted<A> {
    granted_to("ada", "a test")
}

/// Granted to the system under that name, for that reason.
///
/// # Panics
/// When the action is one that the system itself may not do.
#[must_use]
pub fn granted_to<A: Capability>(name: &str, reason: &str) -> Granted<A> {
    authorize(&Principal::system(name), reason).unwrap_or_else(|denied| panic!("{denied}"))
}

/// Does that with a connection, as whom tests call ada.
///
/// # Errors
/// The ledger's.
pub async fn change_connection(
    store: &Store,
    connection: ConnectionId,
    act: ConnectionAct,
) -> Result<bool, StoreError> {
    match act {
        ConnectionAct::Reauthorised => store.change_connection(&granted::<action::Reauthorised>(), connection).await,
        ConnectionAct::Park => store.change_connection(&granted::<action::ParkConnection>(), connection).await,
        ConnectionAct::Disable => store.change_connection(&granted::<action::DisableConnection>(), connection).await,
        ConnectionAct::Enable => store.change_connection(&granted::<action::EnableConnection>(), connection).await,
    }
}
