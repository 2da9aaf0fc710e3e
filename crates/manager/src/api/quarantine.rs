//! Records in quarantine over HTTP: list, show, dismiss, ask for once more.

use crate::{
    App,
    allowed::Allowed,
    error::ApiError,
    filter::{limit_of, next_of},
    gate::RequestId,
    sight,
};
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use domain::{AccountId, ConnectionId, Sensitive, action};
use manager_api::{
    ByWhom, EnqueueReply, ErrorEnvelope, OverrideRequest, QuarantineDetail, QuarantinePage, QuarantineQuery,
    QuarantinedRecord,
};
use std::fmt::Write as _;
use store::{Dismissed, Inserted, QuarantineFilter, QuarantineRow, RecordRetry};

/// Bytes of a record that are shown.
const BYTES_MAX: i32 = 65_536;

/// What to do about a record that nobody can ask for by its id.
const WITHOUT_ID: &str = "its bytes show which record it is: compare that with the vendor's, have it mended there if it is \
     damaged there too, and dismiss this one then; the record comes whole with the next sync";

/// Lists records in quarantine, newest first.
#[utoipa::path(get, path = "/api/v1/quarantine", tag = "quarantine", params(QuarantineQuery),
    responses((status = 200, body = QuarantinePage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadQuarantine>,
    State(app): State<App>,
    Query(query): Query<QuarantineQuery>,
) -> Result<Json<QuarantinePage>, ApiError> {
    let limit = limit_of(query.limit)?;
    let state = query.state.as_deref().filter(|state| !state.is_empty());
    let object = query.object.filter(|object| !object.is_empty());
    if object.is_some() && query.connection.is_none() {
        return Err(ApiError::bad_request("say of which connection: object goes with connection"));
    }
    let record = query.record.filter(|record| !record.is_empty());
    if record.is_some() && object.is_none() {
        return Err(ApiError::bad_request("say of which object: record goes with object"));
    }
    let filter = QuarantineFilter {
        state: state.map(str::parse).transpose().map_err(ApiError::bad_request)?,
        account: sight::narrow(&app, query.account.map(AccountId))?,
        connection: query.connection.map(ConnectionId),
        object,
        record,
        before: query.before,
    };
    let rows = app.store.search_quarantine(&filter, limit).await?;
    let next_before = next_of(&rows, limit, |row| row.id);
    Ok(Json(QuarantinePage { records: rows.into_iter().map(record_of).collect(), next_before }))
}

/// Shows one with its reason and its bytes.
#[utoipa::path(get, path = "/api/v1/quarantine/{id}", tag = "quarantine",
    params(("id" = i64, Path, description = "The record in quarantine")),
    responses((status = 200, body = QuarantineDetail), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn show(
    _: Allowed<action::ReadQuarantine>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<QuarantineDetail>, ApiError> {
    let found = app.store.find_quarantined(id, BYTES_MAX).await?;
    let (row, bytes) = found.filter(|(row, _)| sight::shows(&app, row.account)).ok_or_else(|| missing(id))?;
    let is_cut = row.bytes > i64::from(BYTES_MAX);
    let (encoding, body) = written(&bytes, is_cut);
    let body = Sensitive::new(body).shown(sight::personal().as_ref());
    Ok(Json(QuarantineDetail { record: record_of(row), body, encoding: encoding.to_owned(), is_cut }))
}

/// Lets an open one rest: it stays, and nobody is told of it again as long as the vendor shows it as it is.
#[utoipa::path(post, path = "/api/v1/quarantine/{id}/dismiss", tag = "quarantine", request_body = OverrideRequest,
    params(("id" = i64, Path, description = "The record in quarantine")),
    responses((status = 200, body = QuarantinedRecord), (status = 404, body = ErrorEnvelope),
              (status = 409, body = ErrorEnvelope), (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn dismiss(
    allowed: Allowed<action::DismissRecord>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<QuarantinedRecord>, ApiError> {
    let granted = allowed.because(request.by.as_deref(), &request.reason)?;
    match app.store.dismiss_quarantined(&granted, id).await? {
        Dismissed::Done(row) => {
            tracing::info!(quarantine_id = id, by = granted.by(), "a record in quarantine was dismissed");
            Ok(Json(record_of(*row)))
        }
        Dismissed::Senseless(state) => {
            let state = state.as_str();
            Err(ApiError::conflict(format!("record {id} in quarantine is {state}; only an open one is dismissed")))
        }
        Dismissed::Missing => Err(missing(id)),
    }
}

/// Inserts an urgent job that asks the vendor for the record once more and writes it as it is then. If it can be stored,
/// or is shown no more, its quarantine is over; if not, it stays.
#[utoipa::path(post, path = "/api/v1/quarantine/{id}/retry", tag = "quarantine", request_body = ByWhom,
    params(("id" = i64, Path, description = "The record in quarantine")),
    responses((status = 201, body = EnqueueReply),
              (status = 200, body = EnqueueReply, description = "One is on its way"),
              (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn retry(
    allowed: Allowed<action::RetryRecord>,
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<i64>,
    Json(whom): Json<ByWhom>,
) -> Result<(StatusCode, Json<EnqueueReply>), ApiError> {
    let granted = allowed.said(&whom)?;
    // What can be read of an id may be no id: the vendor would refuse the question, and the job could only fail.
    let found = app.store.find_quarantined(id, 0).await?.map(|(row, _)| row);
    if let Some(QuarantineRow { record_id: Some(record), .. }) = &found
        && !salesforce::is_id18(record)
    {
        let words =
            format!("the id of record {id} is damaged and none that the vendor knows, so nobody can ask for it");
        return Err(ApiError::conflict(words).hint(WITHOUT_ID));
    }
    let (status, job_id, duplicate) = match app.store.retry_quarantined(&granted, id, request_id.0).await? {
        RecordRetry::Asked(Inserted::New(job)) => (StatusCode::CREATED, Some(job.0), false),
        RecordRetry::Asked(Inserted::Duplicate(holder)) => (StatusCode::OK, holder.map(|job| job.0), true),
        RecordRetry::Senseless => {
            return Err(ApiError::conflict(format!("record {id} is in quarantine no more")));
        }
        RecordRetry::Nameless => {
            return Err(ApiError::conflict(format!("the id of record {id} cannot be read, so nobody can ask for it"))
                .hint(WITHOUT_ID));
        }
        RecordRetry::AtRest(state) => {
            return Err(ApiError::conflict(format!("the connection of record {id} is {state}"))
                .hint("have it authorised again, or enable it, first"));
        }
        RecordRetry::Missing => return Err(missing(id)),
    };
    let by = granted.by();
    tracing::info!(RequestId = %request_id.0, quarantine_id = id, JobId = job_id, by, "a record was asked for once more");
    Ok((status, Json(EnqueueReply { id: job_id, duplicate, request_id: request_id.0.to_string() })))
}

fn missing(id: i64) -> ApiError {
    ApiError::not_found(format!("there is no record {id} in quarantine"))
        .hint("`servantctl quarantine list` shows which there are")
}

/// Bytes as text if they are UTF-8, but for a character that was cut; else as hex, sixteen a line.
fn written(bytes: &[u8], is_cut: bool) -> (&'static str, String) {
    match str::from_utf8(bytes) {
        Ok(text) => return ("text", text.to_owned()),
        Err(error) if is_cut && error.error_len().is_none() => {
            let whole = bytes.get(..error.valid_up_to()).unwrap_or_default();
            return ("text", String::from_utf8_lossy(whole).into_owned());
        }
        Err(_) => {}
    }
    let mut hex = String::with_capacity(bytes.len() * 3);
    for line in bytes.chunks(16) {
        for (at, byte) in line.iter().enumerate() {
            // Writing to a string fails at nothing.
            let _ = write!(hex, "{}{byte:02x}", if at == 0 { "" } else { " " });
        }
        hex.push('\n');
    }
    ("hex", hex)
}

fn record_of(row: QuarantineRow) -> QuarantinedRecord {
    QuarantinedRecord {
        is_askable: row.record_id.as_deref().is_some_and(salesforce::is_id18),
        id: row.id,
        account_id: row.account.0,
        connection_id: row.connection.0,
        object: row.object,
        record_id: row.record_id.map(|id| Sensitive::new(id).shown(sight::personal().as_ref())),
        reason: sight::words(row.reason),
        bytes: row.bytes,
        first_seen_at: row.first_seen_at,
        last_seen_at: row.last_seen_at,
        state: row.state.as_str().to_owned(),
        state_by: row.state_by,
        state_reason: row.state_reason,
        state_since: row.state_since,
        retried_at: row.retried_at,
        version_at: row.version_at,
        is_deleted: row.is_deleted,
        versions: row.versions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_they_can_be() {
        assert_eq!(written("Zoë".as_bytes(), false), ("text", "Zoë".to_owned()));
        assert_eq!(written(&"Zoë".as_bytes()[..3], true), ("text", "Zo".to_owned()), "a character was cut");
        assert_eq!(written(&"Zoë".as_bytes()[..3], false), ("hex", "5a 6f c3\n".to_owned()));
        let (encoding, hex) = written(&[0xff; 17], true);
        assert_eq!((encoding, hex.lines().count(), hex.lines().next_back()), ("hex", 2, Some("ff")));
    }
}
