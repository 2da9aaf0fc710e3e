//! The audit over HTTP: list, export, verify. That a deed is noted is the ledger's: with the deed, or not at all.

use crate::{App, allowed::Allowed, error::ApiError, filter::limit_of};
use axum::{
    Json,
    extract::{Query, State},
};
use chrono::{DateTime, Utc};
use domain::{AccountId, action};
use manager_api::{
    Act, AuditEntry, AuditExport, AuditExportQuery, AuditPage, AuditQuery, AuditVerified, AuditVerifyQuery,
    ErrorEnvelope,
};
use std::{fmt::Display, str::FromStr};
use store::{AuditFilter, AuditHead, AuditRow};

/// Acts shown with a job.
pub(super) const ACTS_MAX: i64 = 50;

/// Lists what anybody did, was denied or failed at, the latest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, body = AuditPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadAudit>,
    State(app): State<App>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditPage>, ApiError> {
    let limit = limit_of(query.limit)?;
    let given = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let filter = AuditFilter {
        actor: given(query.actor),
        action: given(query.action),
        subject: given(query.subject),
        key: given(query.key),
        account: parsed("account", given(query.account))?.map(AccountId),
        since: parsed("since", given(query.since))?,
        before: query.before,
    };
    let found = app.store.search_audit(&filter, limit).await?;
    Ok(Json(AuditPage { entries: found.rows.into_iter().map(entry_of).collect(), next_before: found.next_before }))
}

/// A page of the sealed rows, the oldest first: all pages together are complete up to their last row.
#[utoipa::path(get, path = "/api/v1/audit/export", tag = "audit", params(AuditExportQuery),
    responses((status = 200, body = AuditExport), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn export(
    allowed: Allowed<action::ReadAudit>,
    State(app): State<App>,
    Query(query): Query<AuditExportQuery>,
) -> Result<Json<AuditExport>, ApiError> {
    let (limit, range) = (limit_of(query.limit)?, (query.since, query.until));
    Ok(Json(exported(&allowed, &app, query.after.unwrap_or(0), range, limit).await?))
}

/// A page of what both the API and the page export.
pub(crate) async fn exported(
    _: &Allowed<action::ReadAudit>,
    app: &App,
    after: i64,
    range: (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
    limit: i64,
) -> Result<AuditExport, ApiError> {
    let page = app.store.export_audit(after, range, limit).await?;
    Ok(AuditExport { entries: page.rows.into_iter().map(entry_of).collect(), next_after: page.next_after })
}

/// Computes the hashes of a page of the audit again, and says which row is the first that is not what it was.
#[utoipa::path(get, path = "/api/v1/audit/verify", tag = "audit", params(AuditVerifyQuery),
    responses((status = 200, body = AuditVerified), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn verify(
    _: Allowed<action::ReadAudit>,
    State(app): State<App>,
    Query(query): Query<AuditVerifyQuery>,
) -> Result<Json<AuditVerified>, ApiError> {
    let after: Option<AuditHead> = parsed("after", query.after.filter(|after| !after.is_empty()))?;
    let (verdict, next) = app.store.verify_audit_page(after.as_ref()).await?;
    let (bad_seq, bad_what) = verdict.bad.map(|bad| (bad.seq, bad.what)).unzip();
    Ok(Json(AuditVerified {
        sealed: verdict.sealed,
        awaiting: verdict.awaiting,
        bad_seq,
        bad_what,
        next_after: next.map(|head| head.to_string()),
    }))
}

fn parsed<T: FromStr<Err: Display>>(name: &str, text: Option<String>) -> Result<Option<T>, ApiError> {
    let parsed =
        text.map(|text| text.parse().map_err(|error| ApiError::bad_request(format!("{name}: '{text}': {error}"))));
    parsed.transpose()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A row of the ledger as the API shows it.
pub(crate) fn entry_of(row: AuditRow) -> AuditEntry {
    AuditEntry {
        seq: row.seq,
        at: row.at,
        actor_kind: row.actor_kind,
        actor_id: row.actor_id,
        actor: row.actor,
        role: row.role,
        on_behalf_of: row.on_behalf_of,
        action: row.action,
        subject: row.subject,
        key: row.key,
        before: row.before,
        after: row.after,
        reason: row.reason,
        request_id: row.request_id.map(|id| id.to_string()),
        ip: row.ip,
        agent: row.agent,
        outcome: row.outcome,
        row_hash: hex(&row.row_hash),
        chain_hash: row.chain_hash.as_deref().map(hex),
    }
}

pub(super) fn act_of(row: AuditRow) -> Act {
    Act { seq: row.seq, action: row.action, by: row.actor, reason: row.reason, at: row.at }
}
