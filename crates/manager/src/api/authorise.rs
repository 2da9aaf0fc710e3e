//! Where a customer's browser begins to authorise a connection; what the customer then consents to is noted when they do.

use crate::{
    App,
    allowed::Allowed,
    caller::Caller,
    connect::{VENDOR, check, connect_of},
    egress::Egress,
    error::ApiError,
};
use axum::{Json, extract::State};
use domain::{AccountId, ConnectionId, action};
use manager_api::{AuthoriseReply, AuthoriseRequest, ErrorEnvelope};

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
    if request.vendor != VENDOR {
        return Err(ApiError::bad_request(format!("'{}' is not connected here; {VENDOR} is", request.vendor)));
    }
    let connect = connect_of(&app, &Egress::of(&principal)?)?;
    let (account, connection) = (AccountId(request.account_id), request.connection_id.map(ConnectionId));
    check(&app, account, connection).await?;
    Ok(Json(AuthoriseReply { url: connect.start_url(&app, account, connection, &principal).await? }))
}
