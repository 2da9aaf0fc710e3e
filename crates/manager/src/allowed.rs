//! Whether who asks may do what they ask for. Handlers say what they do by the type of their first argument, and what
//! that holds is the proof that the ledger wants to see. A refusal is logged and audited here; so is an act that was
//! allowed and came to nothing. How it is known who asks is decided before any handler runs.

use crate::{
    App,
    caller::{Caller, origin_of},
    error::ApiError,
    filter::words,
    proxies::Proxies,
};
use axum::{
    extract::{FromRequestParts, Request, State},
    http::{StatusCode, request::Parts},
    middleware::Next,
    response::Response,
};
use domain::{Action, Capability, Denied, Granted, Principal, PrincipalKind, authorize, chain};
use manager_api::ByWhom;
use std::sync::{Arc, OnceLock};

/// Who asks, and for what.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    principal: Principal,
    /// As "POST /api/v1/jobs".
    request: String,
    trace: Trace,
}

/// What was allowed to be changed in the course of a request, the first of it.
#[derive(Debug, Clone, Default)]
struct Trace(Arc<OnceLock<(Principal, Action)>>);

/// Who asks, allowed to do `A`.
#[derive(Debug)]
pub(crate) struct Allowed<A>(Granted<A>);

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Caller(principal) = Caller::from_request_parts(parts, state).await?;
        let origin = principal.origin();
        let principal = match origin.request_id {
            Some(_) => principal,
            // Whoever is known from the start was asked nothing, and from where is not looked at either.
            None => principal.from_origin(origin_of(&parts.headers, &parts.extensions, &Proxies::none())),
        };
        Ok(Self {
            principal,
            request: format!("{} {}", parts.method, parts.uri.path()),
            trace: parts.extensions.get().cloned().unwrap_or_default(),
        })
    }
}

impl Asker {
    /// Allows `A`, or refuses it.
    pub(crate) async fn allow<A: Capability>(&self, app: &App) -> Result<Allowed<A>, ApiError> {
        match authorize(&self.principal, "") {
            Ok(granted) => {
                if !A::ACTION.is_reading() && A::ACTION != Action::Heartbeat {
                    self.trace.0.get_or_init(|| (self.principal.clone(), A::ACTION));
                }
                Ok(Allowed(granted))
            }
            Err(denied) => {
                self.note(app, denied).await?;
                Err(denied.into())
            }
        }
    }

    /// Whether `A` would be allowed; nobody is told if not.
    pub(crate) fn may<A: Capability>(&self) -> bool {
        authorize::<A>(&self.principal, "").is_ok()
    }

    async fn note(&self, app: &App, denied: Denied) -> Result<(), ApiError> {
        let principal = &self.principal;
        tracing::info!(
            actor = principal.name(),
            kind = principal.kind().as_str(),
            role = principal.role().as_str(),
            action = denied.action.as_str(),
            request = self.request,
            "somebody was denied something"
        );
        Ok(app.store.note_denied(principal, denied, &self.request).await?)
    }
}

impl<A: Capability> FromRequestParts<App> for Allowed<A> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Asker::from_request_parts(parts, app).await?.allow(app).await
    }
}

impl<A: Capability> Allowed<A> {
    /// For no reason that has to be said, or for none that is asked for.
    pub(crate) fn granted(&self) -> &Granted<A> {
        &self.0
    }

    /// For a reason, which has to be said.
    pub(crate) fn because(&self, by: Option<&str>, reason: &str) -> Result<Granted<A>, ApiError> {
        let reason = words("reason", reason).map_err(|error| error.hint("say why: others will wonder"))?;
        self.named(by, reason)
    }

    /// For a reason, if it is said.
    pub(crate) fn said(&self, whom: &ByWhom) -> Result<Granted<A>, ApiError> {
        let reason = whom.reason.as_deref().filter(|reason| !reason.trim().is_empty());
        self.named(whom.by.as_deref(), reason.map(|reason| words("reason", reason)).transpose()?.unwrap_or_default())
    }

    /// Where nobody is asked who they are, they are who they say; anybody else is who they are known to be.
    fn named(&self, by: Option<&str>, reason: &str) -> Result<Granted<A>, ApiError> {
        let principal = self.0.principal();
        let by = by.filter(|by| !by.trim().is_empty()).map(|by| words("by", by)).transpose()?;
        let granted = match by {
            Some(by) if principal.kind() == PrincipalKind::Open => {
                authorize(&Principal::open(by).from_origin(principal.origin().clone()), reason)
            }
            Some(by) if by != principal.name() => {
                let message = format!("by is '{by}', and {} asks", principal.name());
                return Err(ApiError::bad_request(message).hint("who acts is known from the sign-on; leave by out"));
            }
            _ => authorize(principal, reason),
        };
        granted.map_err(ApiError::from)
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", denied.to_string())
            .hint("an admin gives roles; the table of who may do what is in the documentation")
    }
}

/// Notes acts that were allowed and came to nothing; those that came to something, the ledger notes.
pub(crate) async fn note_failures(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let trace = Trace::default();
    request.extensions_mut().insert(trace.clone());
    let asked = format!("{} {}", request.method(), request.uri().path());
    let response = next.run(request).await;
    let status = response.status();
    let Some((principal, action)) = trace.0.get().filter(|_| status.is_client_error() || status.is_server_error())
    else {
        return response;
    };
    if status != StatusCode::FORBIDDEN {
        let error = response.extensions().get::<ApiError>();
        let why = error.map_or_else(|| status.to_string(), |error| format!("{status}: {}", error.message));
        if let Err(error) = app.store.note_failed(principal, *action, &asked, &why).await {
            tracing::warn!(error = chain(&error), action = action.as_str(), "a failed act is not in the audit");
        }
    }
    response
}
