//! How a connection comes to be: where a customer's browser begins to authorise one, which is noted when they consent, and
//! one that signs on in a user's name without a browser.

use super::connections::{detail_of, objects_of};
use crate::{
    App,
    allowed::Allowed,
    caller::Caller,
    connect::{VENDOR, check, configured, connect_of},
    egress::Egress,
    error::ApiError,
    filter::words,
};
use axum::{Json, extract::State, http::StatusCode};
use domain::{AccountId, ConnectionId, action};
use manager_api::{AuthoriseReply, AuthoriseRequest, ByWhom, ConnectionDetail, CreateConnection, ErrorEnvelope};

/// Connections of an account that are looked at for one in the same name.
const CONNECTIONS_MAX: i64 = 200;

/// Answers with the address at which a browser authorises a connection: a new one of the account, or one again.
#[utoipa::path(post, path = "/api/v1/connections/authorise", tag = "connections", request_body = AuthoriseRequest,
    responses((status = 200, body = AuthoriseReply), (status = 400, body = ErrorEnvelope),
              (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn authorise(
    _: Allowed<action::AuthoriseConnection>,
    State(app): State<App>,
    Caller(principal): Caller,
    Json(request): Json<AuthoriseRequest>,
) -> Result<Json<AuthoriseReply>, ApiError> {
    of_vendor(&request.vendor)?;
    let connect = connect_of(&app, &Egress::of(&principal)?)?;
    let (account, connection) = (AccountId(request.account_id), request.connection_id.map(ConnectionId));
    check(&app, account, connection).await?;
    Ok(Json(AuthoriseReply { url: connect.start_url(&app, account, connection, &principal).await? }))
}

/// Enters a connection that signs on in a user's name by the application's private key (JWT bearer). Nobody has to consent in
/// a browser: the customer's administrator has admitted the application for that user.
#[utoipa::path(post, path = "/api/v1/connections", tag = "connections", request_body = CreateConnection,
    responses((status = 201, body = ConnectionDetail), (status = 400, body = ErrorEnvelope),
              (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn create(
    allowed: Allowed<action::CreateConnection>,
    State(app): State<App>,
    Json(request): Json<CreateConnection>,
) -> Result<(StatusCode, Json<ConnectionDetail>), ApiError> {
    let granted = allowed.said(&ByWhom { by: request.by, reason: request.reason })?;
    of_vendor(&request.vendor)?;
    let (username, objects) = (words("username", &request.username)?, objects_of(&request.objects)?);
    let connect = configured(&app)?;
    let account = AccountId(request.account_id);
    check(&app, account, None).await?;
    let others = app.store.connections_of(account, CONNECTIONS_MAX).await?;
    if let Some(other) = others.iter().find(|row| row.vendor == VENDOR && row.settings["username"] == username) {
        return Err(ApiError::conflict(format!("connection {} signs on in that name", other.id)));
    }
    let (settings, secret_ref) = connect.in_the_name_of(username, &objects);
    let id = app.store.create_connection_by(account, (VENDOR, &settings, Some(secret_ref)), &granted).await?;
    tracing::info!(AccountId = account.0, ConnectionId = id.0, by = granted.by(), "a connection was entered");
    Ok((StatusCode::CREATED, Json(detail_of(&app, id).await?)))
}

fn of_vendor(vendor: &str) -> Result<(), ApiError> {
    let unknown = || ApiError::bad_request(format!("'{vendor}' is not connected here; {VENDOR} is"));
    if vendor == VENDOR { Ok(()) } else { Err(unknown()) }
}
