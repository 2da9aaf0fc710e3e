//! Looking at an account as its customer sees it: which requests belong to a look, what of them is served, and from which
//! ledger. Fails closed: what is not listed here is not shown, nothing is done, and nothing is shown that could not be
//! written down first. Does not own who may begin a look (`api::assumptions`), nor the wall in the ledger (`store`).

use crate::{
    App,
    caller::Caller,
    error::ApiError,
    gate::RequestId,
    sight::{self, Look, Sight},
};
use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Redirect, Response},
};
use domain::{AccountId, Principal, SeePersonalData};
use std::{collections::HashMap, sync::Arc};
use store::{AssumptionRow, LookedAt, Store};
use tokio::sync::Mutex;
use tower::ServiceExt as _;
use vault::{SecretString, digest};

/// The cookie beside the one that signs a person on.
const COOKIE: &str = "__Host-servant-assumed";
/// Looks that one manager serves at a time; each holds up to two connections.
const LOOKS_MAX: usize = 16;
/// Characters of an address that are written down.
const ADDRESS_CHARS_MAX: usize = 300;
/// Seconds that the browser keeps the cookie: as long as a look lasts at the most.
const COOKIE_SECS: u32 = 1_800;

/// What a customer would see of the product. Everything else is refused.
const SHOWN: [&str; 27] = [
    "/accounts/{id}",
    "/jobs",
    "/jobs/{id}",
    "/anomalies",
    "/anomalies/{id}",
    "/groups",
    "/groups/{id}",
    "/schedules",
    "/schedules/{id}",
    "/keys",
    "/api/v1/accounts",
    "/api/v1/accounts/{id}",
    "/api/v1/accounts/{id}/streams",
    "/api/v1/jobs",
    "/api/v1/jobs/{id}",
    "/api/v1/jobs/{id}/why",
    "/api/v1/anomalies",
    "/api/v1/anomalies/{id}",
    "/api/v1/groups",
    "/api/v1/groups/{id}",
    "/api/v1/groups/{id}/jobs",
    "/api/v1/schedules",
    "/api/v1/schedules/{id}",
    "/api/v1/schedules/{id}/preview",
    "/api/v1/connections",
    "/api/v1/connections/{id}",
    "/api/v1/budgets/{connection}",
];
/// Where the account's own page stands for what shows all accounts.
const HOMES: [&str; 2] = ["/", "/accounts"];
/// The same for everybody, and no data.
const COMMON: [&str; 3] = ["/assets/servant.css", "/assets/servant.js", "/api/openapi.json"];
/// The one thing that is done during a look.
const ENDS: [&str; 2] = ["/assumptions/{id}/end", "/api/v1/assumptions/{id}/end"];

/// Whether the route is served during a look.
pub(crate) fn is_shown(route: &str) -> bool {
    SHOWN.contains(&route) || HOMES.contains(&route)
}

/// How a browser is told to keep a look's token.
pub(crate) fn cookie(token: &str) -> HeaderValue {
    let text = format!("{COOKIE}={token}; Path=/; Max-Age={COOKIE_SECS}; Secure; HttpOnly; SameSite=Strict");
    // A token has no character that a header lacks.
    HeaderValue::from_str(&text).unwrap_or_else(|_| no_cookie())
}

/// How a browser is told to forget it.
pub(crate) fn no_cookie() -> HeaderValue {
    HeaderValue::from_static("__Host-servant-assumed=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict")
}

/// Makes the routes of a ledger.
type Routes = fn(App) -> Router;

/// The looks that this manager serves.
#[derive(Clone)]
pub(crate) struct Desk {
    app: App,
    routes: Routes,
    open: Arc<Mutex<HashMap<i64, (Store, Router)>>>,
}

impl Desk {
    pub(crate) fn new(app: App, routes: Routes) -> Self {
        Self { app, routes, open: Arc::default() }
    }

    /// The look whose token it is, as long as it goes on and whoever began it asks.
    async fn find(&self, token: &SecretString, principal: &Principal) -> Result<Look, ApiError> {
        let row = self.app.store.assumption_of(&digest(token)).await?;
        let is_own = |row: &AssumptionRow| {
            (row.principal_kind.as_str(), row.principal_id.as_str()) == (principal.kind().as_str(), principal.id())
        };
        match row {
            Some(row) if row.is_open(self.app.store.now()) && is_own(&row) => Ok(look_of(row)),
            row => {
                if let Some(row) = row.filter(|row| !row.is_open(self.app.store.now())) {
                    self.close(row.id).await;
                    self.app.store.expire_assumptions().await?;
                }
                let over = ApiError::new(StatusCode::FORBIDDEN, "look_over", "this look at an account has ended");
                Err(over.hint("go on as yourself, or begin another on the account's page"))
            }
        }
    }

    /// The routes over a ledger that shows that account alone.
    async fn routes_of(&self, look: &Look) -> Result<Router, ApiError> {
        let mut open = self.open.lock().await;
        if let Some((_, routes)) = open.get(&look.id) {
            return Ok(routes.clone());
        }
        if open.len() >= LOOKS_MAX {
            for id in open.keys().copied().collect::<Vec<_>>() {
                let row = self.app.store.find_assumption(id).await?;
                if !row.is_some_and(|row| row.is_open(self.app.store.now()))
                    && let Some((store, _)) = open.remove(&id)
                {
                    store.close().await;
                }
            }
        }
        if open.len() >= LOOKS_MAX {
            let busy = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many accounts are looked at");
            return Err(busy.hint("end a look that is not needed, and try again"));
        }
        let store = self.app.store.assumed(look.account).await?;
        // Without what connects customers: there is nobody to call and no key to call with.
        let app = App { store: store.clone(), connect: None, ..self.app.clone() };
        let routes = (self.routes)(app);
        open.insert(look.id, (store, routes.clone()));
        Ok(routes)
    }

    async fn close(&self, id: i64) {
        let gone = self.open.lock().await.remove(&id);
        if let Some((store, _)) = gone {
            store.close().await;
        }
    }

    /// Serves one request of a look.
    async fn serve(&self, look: &Look, principal: Principal, request: Request) -> Result<Response, ApiError> {
        let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
        let by = principal.assuming(look.account);
        let asked = (address_of(&request), is_refresh(request.headers()));
        let note = |what| audit_look(&self.app.store, &by, look, what, &asked);
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            note(LookedAt::Refused).await?;
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "read_only",
                "while an account is looked at, nothing is done",
            )
            .hint("end the look, then do it as yourself"));
        }
        if HOMES.contains(&route.as_str()) {
            return Ok(Redirect::to(&format!("/accounts/{}", look.account)).into_response());
        }
        if !is_shown(&route) {
            note(LookedAt::Refused).await?;
            return Err(ApiError::new(StatusCode::FORBIDDEN, "not_shown", "a customer does not see this")
                .hint("end the look, then see it as yourself"));
        }
        note(LookedAt::Looked).await?;
        let routes = self.routes_of(look).await?;
        let request = again(request, by);
        match routes.oneshot(request).await {
            Ok(answer) => Ok(answer),
            Err(never) => match never {},
        }
    }
}

/// Writes down what was asked for during a look. The one place where that is done.
async fn audit_look(
    store: &Store,
    by: &Principal,
    look: &Look,
    what: LookedAt,
    (address, is_refresh): &(String, bool),
) -> Result<(), ApiError> {
    Ok(store.note_look(by, look.id, what, (address.as_str(), *is_refresh)).await?)
}

/// Whether a page's own script asks, which does so every two seconds, and not whoever goes to a page.
fn is_refresh(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-dest").is_some_and(|to| to == "empty")
}

/// Serves a request as part of a look, if it has its cookie; else as whoever asks.
pub(crate) async fn pass(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let principal = request.extensions().get::<Caller>().map(|Caller(principal)| principal.clone());
    let own = Sight { personal: principal.as_ref().and_then(SeePersonalData::of), look: None };
    let (Some(token), Some(principal)) = (token_of(request.headers()), principal) else {
        return sight::within(own, next.run(request)).await;
    };
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if COMMON.contains(&route) || (ENDS.contains(&route) && request.method() == Method::POST) {
        return sight::within(own, next.run(request)).await;
    }
    let look = match desk.find(&token, &principal).await {
        Ok(look) => look,
        Err(error) => {
            let is_over = error.code == "look_over";
            let mut answer = error.into_response();
            if is_over {
                answer.headers_mut().insert(header::SET_COOKIE, no_cookie());
            }
            return answer;
        }
    };
    let as_customer = Sight { personal: None, look: Some(look.clone()) };
    let served = sight::within(as_customer, desk.serve(&look, principal, request)).await;
    let mut answer = served.unwrap_or_else(axum::response::IntoResponse::into_response);
    // Refusals become pages outside of here.
    answer.extensions_mut().insert(look);
    answer
}

/// The same request for other routes: what the first routes made of its address is left behind.
fn again(request: Request, principal: Principal) -> Request {
    let (parts, body) = request.into_parts();
    let mut fresh = Request::new(body);
    *fresh.method_mut() = parts.method;
    *fresh.uri_mut() = parts.uri;
    *fresh.headers_mut() = parts.headers;
    if let Some(id) = parts.extensions.get::<RequestId>() {
        fresh.extensions_mut().insert(*id);
    }
    fresh.extensions_mut().insert(Caller(principal));
    fresh
}

fn look_of(row: AssumptionRow) -> Look {
    Look {
        id: row.id,
        account: AccountId(row.account_id),
        by: row.principal_name,
        ticket: row.ticket,
        ends_at: row.ends_at,
    }
}

fn address_of(request: &Request<Body>) -> String {
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    format!("{} {path}", request.method()).chars().take(ADDRESS_CHARS_MAX).collect()
}

fn token_of(headers: &HeaderMap) -> Option<SecretString> {
    crate::people::cookie_of(headers, COOKIE)
}
