//! Connections and circuit breakers on the wire.

use crate::{ClientError, ManagerClient};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A customer's connection to a vendor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// Its id.
    pub id: i64,
    /// Whose it is.
    pub account_id: i64,
    /// Which vendor.
    pub vendor: String,
    /// Which service of theirs, by its host; connections of one service share its circuit breaker.
    pub service: String,
    /// active, needs_reauth, parked or disabled.
    pub state: String,
    /// Why it is not active.
    pub state_reason: Option<String>,
    /// Since when.
    pub state_since: DateTime<Utc>,
    /// The objects that somebody chose to be followed; none: the usual ones.
    #[serde(default)]
    pub objects: Vec<String>,
}

/// Which objects of a connection are followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectsRequest {
    /// Their names, standard and custom ones, as the vendor writes them; none: the usual ones.
    #[schema(max_items = 500)]
    pub objects: Vec<String>,
    /// Why; everybody who wonders reads it.
    pub reason: String,
    /// Who, where nobody signs on; anybody else is known by the sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Which connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ConnectionQuery {
    /// active, needs_reauth, parked or disabled; all unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Ids below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A page of connections, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionPage {
    /// The connections.
    pub connections: Vec<Connection>,
    /// Pass as `before` for the next page; none: this was the last.
    pub next_before: Option<i64>,
}

/// What happened to a connection or a breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionEvent {
    /// What.
    pub what: String,
    /// Who; `servant` or `scheduler` when it happened by itself.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A connection with what it needs, its service's breaker and what happened to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionDetail {
    /// The connection.
    pub connection: Connection,
    /// What a client of the vendor needs besides secrets.
    #[schema(value_type = Object)]
    pub settings: serde_json::Value,
    /// The breaker of its service; none: no outcome was ever seen.
    pub breaker: Option<Breaker>,
    /// The latest events first.
    pub events: Vec<ConnectionEvent>,
}

/// What an operator's override needs to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideRequest {
    /// Why; everybody who wonders reads it.
    pub reason: String,
    /// Who, where nobody signs on; anybody else is known by the sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Which connection is to be authorised in a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthoriseRequest {
    /// Whose it is.
    pub account_id: i64,
    /// At which vendor: `salesforce`.
    pub vendor: String,
    /// One that exists; else a new one is made, unless the account has one to the organisation that consents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<i64>,
}

/// A connection that signs on in a user's name by the application's private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateConnection {
    /// Whose it is.
    pub account_id: i64,
    /// At which vendor: `salesforce`.
    pub vendor: String,
    /// In whose name it signs on, as that user is called at the vendor.
    pub username: String,
    /// The objects that are followed; none: the usual ones.
    #[serde(default)]
    #[schema(max_items = 500)]
    pub objects: Vec<String>,
    /// Who says so; `unknown` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a browser authorises it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthoriseReply {
    /// The address to open; it begins anew each time.
    pub url: String,
}

/// A service's circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Breaker {
    /// The service.
    pub service: String,
    /// closed, open, half_open or recovering; not_understood: another version wrote it, one job of the service goes at a
    /// time.
    pub state: String,
    /// Since when; of an outage, since its beginning.
    pub since: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// How often it has opened since it was closed.
    pub openings: u32,
    /// Open: when one job may go to see whether the service is back.
    pub next_probe_at: Option<DateTime<Utc>>,
    /// Half-open: when the latest probe was sent.
    pub probe_sent_at: Option<DateTime<Utc>>,
    /// Recovering: jobs at a time.
    pub room: Option<u32>,
    /// The latest attempts that succeeded.
    pub succeeded: u32,
    /// The latest attempts that failed and may be the service's fault.
    pub failed: u32,
    /// What an operator holds it at, whatever the outcomes say: open or closed.
    pub forced: Option<String>,
    /// Who.
    pub forced_by: Option<String>,
    /// Why.
    pub forced_reason: Option<String>,
    /// Since when.
    pub forced_at: Option<DateTime<Utc>>,
}

/// Which breakers to list, and which page of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BreakerQuery {
    /// True: only those that are not simply closed, and those that an operator holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub troubled: Option<bool>,
    /// Services whose names come after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A page of breakers, by their services' names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakerPage {
    /// The breakers.
    pub breakers: Vec<Breaker>,
    /// Pass as `after` for the next page; none: this was the last.
    pub next_after: Option<String>,
}

/// A breaker and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakerDetail {
    /// The breaker.
    pub breaker: Breaker,
    /// The latest events first.
    pub events: Vec<ConnectionEvent>,
}

impl ManagerClient {
    /// Lists connections.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connections(&self, query: &ConnectionQuery) -> Result<ConnectionPage, ClientError> {
        self.get("/api/v1/connections", query).await
    }

    /// Shows one connection.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connection(&self, id: i64) -> Result<ConnectionDetail, ClientError> {
        self.get(&format!("/api/v1/connections/{id}"), &()).await
    }

    /// Changes a connection: `reauthorised`, `park`, `disable` or `enable`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_connection(
        &self,
        id: i64,
        act: &str,
        request: &OverrideRequest,
    ) -> Result<ConnectionDetail, ClientError> {
        self.post(&format!("/api/v1/connections/{id}/{act}"), request).await
    }

    /// Where a browser authorises a connection.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn authorise_connection(&self, request: &AuthoriseRequest) -> Result<AuthoriseReply, ClientError> {
        self.post("/api/v1/connections/authorise", request).await
    }

    /// Enters a connection that signs on in a user's name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_connection(&self, request: &CreateConnection) -> Result<ConnectionDetail, ClientError> {
        self.post("/api/v1/connections", request).await
    }

    /// Chooses the objects that are followed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn choose_objects(&self, id: i64, request: &ObjectsRequest) -> Result<ConnectionDetail, ClientError> {
        self.put(&format!("/api/v1/connections/{id}/objects"), request).await
    }

    /// Lists circuit breakers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn breakers(&self, query: &BreakerQuery) -> Result<BreakerPage, ClientError> {
        self.get("/api/v1/breakers", query).await
    }

    /// Shows one service's breaker.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn breaker(&self, service: &str) -> Result<BreakerDetail, ClientError> {
        self.get(&format!("/api/v1/breakers/{}", segment(service)), &()).await
    }

    /// Holds a service's breaker `open` or `closed`, or lets go of it: `open`, `close` or `clear`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn force_breaker(
        &self,
        service: &str,
        act: &str,
        request: &OverrideRequest,
    ) -> Result<BreakerDetail, ClientError> {
        self.post(&format!("/api/v1/breakers/{}/{act}", segment(service)), request).await
    }
}

/// A text as one segment of a path, whatever is in it.
fn segment(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_services_name_stays_one_segment() {
        assert_eq!(super::segment("na1.example.com:443"), "na1.example.com:443");
        assert_eq!(super::segment("a/b ü?"), "a%2Fb%20%C3%BC%3F");
    }
}
