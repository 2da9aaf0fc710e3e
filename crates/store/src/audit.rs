//! What anybody did, was denied or failed at: written in the transaction of the deed. What a deed is done with, and what
//! of it is kept, is in `audit/subject`; listing in `read`, the chain in `seal`, its proof in `verify`, beside it.

mod read;
mod seal;
mod subject;
mod verify;

pub use read::{AuditExported, AuditFilter, AuditFound, AuditRow};
pub use seal::SealedAudit;
pub use verify::{AuditHead, AuditVerdict, BadAuditRow};

pub(crate) use subject::{Subject, job_states, new_jobs, snapshot};

use crate::{Store, StoreError};
use chrono::{DateTime, Utc};
use domain::{Action, Capability, Denied, Granted, Origin, Principal, PrincipalKind, Role};
use serde_json::{Value, json};
use sqlx::PgConnection;

/// Something done with one thing: what of it was so before, and is so after.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Deed {
    pub(crate) key: String,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

impl Deed {
    /// Something done that no change of one thing's state says: in words, with which one and how people call that, and
    /// what of it changed (objects, or null).
    pub(crate) fn told(key: impl Into<String>, (what, name): (&str, &str), before: Value, after: Value) -> Self {
        let mut told = json!({ "what": what });
        if !name.is_empty() {
            told["name"] = json!(name);
        }
        if let (Value::Object(told), Value::Object(after)) = (&mut told, after) {
            told.extend(after);
        }
        Self { key: key.into(), before: Some(before).filter(Value::is_object), after: Some(told) }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Denied,
    Failed,
    /// Nobody ended it, its time did.
    Lapsed,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Lapsed => "lapsed",
        }
    }
}

/// Of two states of a thing, only what differs.
fn changed(before: Option<Value>, after: Option<Value>) -> (Option<Value>, Option<Value>) {
    match (before, after) {
        (Some(Value::Object(mut before)), Some(Value::Object(mut after))) => {
            before.retain(|key, value| {
                let is_same = after.get(key) == Some(value);
                if is_same {
                    after.remove(key);
                }
                !is_same
            });
            (Some(Value::Object(before)), Some(Value::Object(after)))
        }
        other => other,
    }
}

/// Notes one deed.
pub(crate) async fn note<A: Capability>(
    conn: &mut PgConnection,
    granted: &Granted<A>,
    subject: &Subject<'_>,
    (before, after): (Option<Value>, Option<Value>),
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    note_each(conn, granted, subject.name(), vec![Deed { key: subject.key(), before, after }], at).await
}

/// Notes the same done with each of many things of one sort.
pub(crate) async fn note_each<A: Capability>(
    conn: &mut PgConnection,
    granted: &Granted<A>,
    subject: &str,
    deeds: Vec<Deed>,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    write(conn, (granted.principal(), A::ACTION, granted.reason()), subject, deeds, Outcome::Done, at).await
}

/// Notes what somebody did whose leave was asked for before, or who does it with what is their own.
pub(crate) async fn note_by(
    conn: &mut PgConnection,
    principal: &Principal,
    action: Action,
    subject: &str,
    deed: Deed,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    note_outcome(conn, (principal, action), (subject, deed), Outcome::Done, at).await
}

/// Notes how something ended that somebody did whose leave was asked for before.
pub(crate) async fn note_outcome(
    conn: &mut PgConnection,
    (principal, action): (&Principal, Action),
    (subject, deed): (&str, Deed),
    outcome: Outcome,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    write(conn, (principal, action, ""), subject, vec![deed], outcome, at).await
}

async fn write(
    conn: &mut PgConnection,
    (principal, action, reason): (&Principal, Action, &str),
    subject: &str,
    deeds: Vec<Deed>,
    outcome: Outcome,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    if deeds.is_empty() {
        return Ok(());
    }
    let mut keys = Vec::with_capacity(deeds.len());
    let (mut befores, mut afters) = (Vec::with_capacity(deeds.len()), Vec::with_capacity(deeds.len()));
    for deed in deeds {
        let (before, after) = changed(deed.before, deed.after);
        keys.push(deed.key);
        befores.push(before);
        afters.push(after);
    }
    let origin = principal.origin();
    sqlx::query!(
        "-- note_audit
        INSERT INTO audit (at, actor_kind, actor_id, actor, role, on_behalf_of, action, subject, key, before, after,
                           reason, request_id, ip, agent, outcome)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, key, before, after, $12, $13, $14, $15, $16
        FROM unnest($9::text[], $10::jsonb[], $11::jsonb[]) AS t (key, before, after)",
        at,
        principal.kind().as_str(),
        principal.id(),
        principal.name(),
        principal.role().as_str(),
        principal.assumed().map(|account| account.0),
        action.as_str(),
        subject,
        &keys,
        &befores as &[Option<Value>],
        &afters as &[Option<Value>],
        reason,
        origin.request_id,
        origin.ip.map(|ip| ip.to_string()),
        origin.agent,
        outcome.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

impl Store {
    /// Notes that somebody was denied something; `request` is what they asked for, as "POST /api/v1/jobs".
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_denied(&self, principal: &Principal, denied: Denied, request: &str) -> Result<(), StoreError> {
        let said = (principal, denied.action, "");
        let after = json!({ "why": denied.to_string() });
        self.note_request(said, request, after, Outcome::Denied).await
    }

    /// Notes that somebody was let do something, and that it came to nothing, and why.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_failed(
        &self,
        principal: &Principal,
        action: Action,
        request: &str,
        why: &str,
    ) -> Result<(), StoreError> {
        self.note_request((principal, action, ""), request, json!({ "why": why }), Outcome::Failed).await
    }

    async fn note_request(
        &self,
        said: (&Principal, Action, &str),
        request: &str,
        after: Value,
        outcome: Outcome,
    ) -> Result<(), StoreError> {
        let mut conn = self.pool.acquire().await?;
        let deed = Deed { key: request.to_owned(), before: None, after: Some(after) };
        write(&mut conn, said, "request", vec![deed], outcome, self.clock.now()).await
    }
}

/// A principal as an operation keeps it until it is carried out.
pub(crate) fn kept(principal: &Principal) -> Value {
    let Origin { request_id, ip, agent } = principal.origin();
    json!({
        "kind": principal.kind().as_str(), "id": principal.id(), "name": principal.name(),
        "role": principal.role().as_str(), "request_id": request_id, "ip": ip, "agent": agent,
    })
}

/// The principal that was kept; none: it is none.
pub(crate) fn kept_principal(kept: &Value) -> Option<Principal> {
    let text = |key: &str| kept.get(key).and_then(Value::as_str);
    let kind: PrincipalKind = text("kind")?.parse().ok()?;
    let role: Role = text("role")?.parse().ok()?;
    let origin = Origin {
        request_id: text("request_id").and_then(|id| id.parse().ok()),
        ip: text("ip").and_then(|ip| ip.parse().ok()),
        agent: text("agent").unwrap_or_default().to_owned(),
    };
    Some(Principal::new(kind, text("id")?, text("name")?, role).from_origin(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_kept() {
        let (before, after) = (json!({"a": 1, "b": 2, "c": 3}), json!({"a": 1, "b": 5, "d": 4}));
        let (before, after) = changed(Some(before), Some(after));
        assert_eq!((before, after), (Some(json!({"b": 2, "c": 3})), Some(json!({"b": 5, "d": 4}))));
        assert_eq!(changed(None, Some(json!({"a": 1}))), (None, Some(json!({"a": 1}))));
    }

    #[test]
    fn a_deed_in_words_keeps_what_changed_beside_them() {
        let deed = Deed::told("7", ("give another role", "ada"), json!({"role": "viewer"}), json!({"role": "admin"}));
        let after = json!({"what": "give another role", "name": "ada", "role": "admin"});
        assert_eq!((deed.key.as_str(), &deed.after), ("7", &Some(after.clone())));
        assert_eq!(changed(deed.before, deed.after), (Some(json!({"role": "viewer"})), Some(after)));
        let deed = Deed::told("all", ("revoke", ""), Value::Null, Value::Null);
        assert_eq!((deed.before, deed.after), (None, Some(json!({"what": "revoke"}))));
    }

    #[test]
    fn a_principal_comes_back_as_it_was_kept() {
        let origin = Origin {
            request_id: Some(uuid::Uuid::from_u128(7)),
            ip: Some([127, 0, 0, 1].into()),
            agent: "servantctl".to_owned(),
        };
        let ada = Principal::new(PrincipalKind::Token, "3", "ada", Role::Operator).from_origin(origin);
        assert_eq!(kept_principal(&kept(&ada)), Some(ada));
        assert_eq!(kept_principal(&json!({"kind": "ghost"})), None);
    }
}
