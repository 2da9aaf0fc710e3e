//! What every open overview shows, read once for all who look: fifty dashboards cost the ledger what one does. Owns how old
//! it may be and that it is read by one at a time; what it is, the overview says.
//!
//! It is of the whole deployment, and the same for everybody who may see that at all. Who sees one account only must not
//! be shown it. Whoever does something sees that at once: what was read before is shown to nobody any more then.

use crate::caller::Caller;
use axum::{
    extract::{Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use domain::PrincipalKind;
use std::{
    fmt,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// How old what is shared may be: half of the time after which an open page asks again.
pub(crate) const SHARED_FOR: Duration = Duration::from_secs(1);

/// A value that is read anew at most once in a while, by whoever asks first then.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    fresh_for: Duration,
    latest: Mutex<Option<(Instant, Arc<T>)>>,
}

impl<T> Shared<T> {
    /// Zero: everybody reads for himself.
    pub(crate) const fn new(fresh_for: Duration) -> Self {
        Self { fresh_for, latest: Mutex::const_new(None) }
    }

    /// The latest value if it is fresh, else what `read` brings. Whoever asks meanwhile waits for that; when the one who reads
    /// leaves or fails, the next one does.
    pub(crate) async fn get<E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<Arc<T>, E> {
        let mut latest = self.latest.lock().await;
        if let Some((at, value)) = &*latest
            && at.elapsed() < self.fresh_for
        {
            return Ok(value.clone());
        }
        let value = Arc::new(read.await?);
        *latest = Some((Instant::now(), value.clone()));
        Ok(value)
    }
}

/// What is shared, until somebody does something: then it is begun anew. Who still reads for the one before brings that to
/// those who asked before.
pub(crate) struct Renewable<T> {
    make: Box<dyn Fn() -> T + Send + Sync>,
    latest: StdMutex<Arc<T>>,
}

impl<T> fmt::Debug for Renewable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewable")
    }
}

impl<T> Renewable<T> {
    pub(crate) fn new(make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        let latest = StdMutex::new(Arc::new(make()));
        Self { make: Box::new(make), latest }
    }

    fn latest(&self) -> Arc<T> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn renew(&self) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new((self.make)());
    }
}

/// Gives a request what is shared, and begins it anew behind what a person has done. Programs and servants do things all
/// the time and look at no overview: sharing would come to nothing.
pub(crate) async fn pass<T: Send + Sync + 'static>(
    State(shared): State<Arc<Renewable<T>>>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_act = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let caller = request.extensions().get::<Caller>().map(|Caller(principal)| principal.kind());
    let is_by_program = matches!(caller, Some(PrincipalKind::Token | PrincipalKind::Servant));
    request.extensions_mut().insert(shared.latest());
    let answer = next.run(request).await;
    // What was refused has changed nothing; of what failed nobody knows.
    if is_act && !is_by_program && !answer.status().is_client_error() {
        shared.renew();
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{
        Extension, Router,
        body::{Body, to_bytes},
        http::StatusCode,
        middleware::from_fn_with_state,
        routing::{get, post},
    };
    use domain::{Principal, Role};
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use tower::ServiceExt as _;

    #[tokio::test]
    async fn many_who_ask_at_once_read_once() {
        let (shared, reads) = (Shared::new(Duration::from_secs(3_600)), AtomicU32::new(0));
        let ask = || {
            shared.get(async {
                tokio::task::yield_now().await;
                Ok::<_, ()>(reads.fetch_add(1, SeqCst))
            })
        };
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        assert_eq!([a, b, c].map(|value| *value.unwrap()), [0, 0, 0]);
        assert_eq!(reads.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failure_or_one_who_leaves_is_nobody_elses() {
        let shared: Shared<u32> = Shared::new(Duration::from_secs(3_600));
        assert_eq!(shared.get(async { Err("away") }).await.unwrap_err(), "away");
        let left = tokio::time::timeout(Duration::ZERO, shared.get(std::future::pending::<Result<u32, ()>>())).await;
        assert!(left.is_err(), "it has left");
        assert_eq!(*shared.get(async { Ok::<_, ()>(7) }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn without_sharing_everybody_reads() {
        let shared = Shared::new(Duration::ZERO);
        for value in [1, 2] {
            assert_eq!(*shared.get(async move { Ok::<_, ()>(value) }).await.unwrap(), value);
        }
    }

    async fn send(routes: &Router, method: Method, path: &str, body: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.header("accept", "text/html").body(Body::from(body.to_owned())).unwrap();
        let answer = routes.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let bytes = to_bytes(answer.into_body(), 10_000_000).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn behind_an_act_of_a_person_sharing_begins_anew() {
        use PrincipalKind::{Open, Servant, Token, User};
        let made = Arc::new(AtomicU32::new(0));
        let shared = Renewable::new(move || made.fetch_add(1, SeqCst));
        let state = Arc::new(shared);
        let refused = || async { StatusCode::CONFLICT };
        let routes = Router::new()
            .route("/", get(|Extension(made): Extension<Arc<u32>>| async move { made.to_string() }).post(|| async {}))
            .route("/refused", post(refused))
            .layer(from_fn_with_state(state, pass::<u32>));
        let as_one = |kind| {
            let caller = Principal::new(kind, "1", "ada", Role::Admin);
            routes.clone().layer(Extension(Caller(caller)))
        };
        let mut seen = 0;
        for (kind, is_renewed) in [(User, true), (Token, false), (Servant, false), (Open, true)] {
            let one = as_one(kind);
            for (method, path) in [(Method::GET, "/"), (Method::POST, "/refused"), (Method::HEAD, "/")] {
                send(&one, method, path, "").await;
            }
            assert_eq!(send(&routes, Method::GET, "/", "").await.1, seen.to_string(), "{kind:?} did nothing");
            send(&one, Method::POST, "/", "").await;
            seen += u32::from(is_renewed);
            assert_eq!(send(&routes, Method::GET, "/", "").await.1, seen.to_string(), "{kind:?} did something");
        }
    }

    #[tokio::test]
    async fn the_overview_shows_at_once_what_one_did_oneself() {
        let database = testkit::database().await;
        let store = database.store().await;
        let health = daemon::Health::new(daemon::Stopper::new());
        let app = crate::App { store: store.clone(), health, connect: None, access: crate::Access::open() };
        let routes = crate::router_sharing(app, (10_000, Duration::from_secs(3_600)), None);
        let overview = async || send(&routes, Method::GET, "/", "").await.1;
        assert!(!overview().await.contains("their sandbox is down"));
        let pause = r#"{"reason": "their sandbox is down", "by": "ada"}"#;
        let (status, text) = send(&routes, Method::PUT, "/api/v1/pauses/kind/noop", pause).await;
        assert!(status.is_success(), "{text}");
        assert!(overview().await.contains("their sandbox is down"));
        // What others do elsewhere shows when it is read again.
        let target = domain::PauseTarget::Kind(domain::Kind::new("noop").unwrap());
        store.resume(&testkit::granted(), &target).await.unwrap();
        assert!(overview().await.contains("their sandbox is down"));
    }
}
