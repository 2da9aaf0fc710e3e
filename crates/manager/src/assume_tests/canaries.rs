//! One person's name and address in everything that a customer says: those who run the system see them where they are;
//! nobody else sees them in any page, answer or refusal, and no log and no metric has them.

use super::world::{Side, World, get, person, send};
use axum::http::{Method, StatusCode};
use domain::Role;
use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};
use tracing_subscriber::fmt::MakeWriter;

const CANARY: &str = "CanaryPerson";

/// Log lines of this process.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Where a customer's words are.
fn places(side: &Side) -> Vec<String> {
    let Side { account, connection, failed, running, waiting, group, schedule, anomaly, record: _ } = side;
    let mut places: Vec<String> = [
        "/jobs",
        "/anomalies",
        "/schedules",
        "/groups",
        "/api/v1/jobs",
        "/api/v1/anomalies",
        "/api/v1/schedules",
        "/api/v1/groups",
        "/api/v1/connections",
    ]
    .map(str::to_owned)
    .into();
    for base in ["", "/api/v1"] {
        places.push(format!("{base}/accounts/{account}"));
        places.extend([failed, running, waiting].map(|job| format!("{base}/jobs/{job}")));
        places.push(format!("{base}/groups/{group}"));
        places.push(format!("{base}/schedules/{schedule}"));
        places.push(format!("{base}/anomalies/{anomaly}"));
    }
    places.push(format!("/api/v1/accounts/{account}/streams"));
    places.push(format!("/api/v1/connections/{connection}"));
    places.push(format!("/api/v1/budgets/{connection}"));
    places.push(format!("/api/v1/jobs/{waiting}/why"));
    places.push(format!("/api/v1/groups/{group}/jobs"));
    places
}

/// Where others' words are too.
const WIDER: [&str; 14] = [
    "/",
    "/errors",
    "/accounts",
    "/servants",
    "/limits",
    "/queues",
    "/operations",
    "/quarantine",
    "/api/v1/quarantine",
    "/api/v1/errors",
    "/api/v1/stats",
    "/api/v1/servants",
    "/api/v1/queues",
    "/api/v1/breakers",
];

#[tokio::test(flavor = "current_thread")]
async fn nobody_sees_of_a_person_what_they_may_not() {
    let lines = Lines::default();
    let log =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(lines.clone());
    // Of the whole process: what other tests log holds no canary of this one.
    tracing::subscriber::set_global_default(log.finish()).unwrap();
    let world = World::new().await;
    let side = world.customer(CANARY).await;
    let places = places(&side);

    let logged = |word: &str| format!("WARN sync::pass: no row for &#39;{word}&#39;");
    let kept = ["", "/api/v1"].map(|base| format!("{base}/quarantine/{}", side.record));
    let wider = || places.iter().chain(&kept).map(String::as_str).chain(WIDER);
    let mut seen = 0;
    for role in [Role::Operator, Role::Admin] {
        let routes = world.routes(person(role));
        for path in wider() {
            let answer = get(&routes, path, None).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
            seen += usize::from(answer.text.contains(CANARY));
        }
        let page = get(&routes, &format!("/jobs/{}", side.failed), None).await;
        assert!(page.text.contains(&logged(CANARY)) && page.text.contains("who=CanaryPerson"), "{}", page.text);
    }
    assert!(seen >= 30, "the canaries are where they were put: {seen}");

    for role in [Role::Viewer, Role::Support] {
        let routes = world.routes(person(role));
        for path in wider() {
            let answer = get(&routes, path, None).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
            assert!(!answer.text.contains(CANARY), "a {role} reads of a person at {path}: {}", answer.text);
        }
        let page = get(&routes, &format!("/jobs/{}", side.failed), None).await;
        assert!(page.text.contains(&logged("•••")) && page.text.contains("who=•••"), "{}", page.text);
        let again = send(&routes, Method::POST, &format!("/api/v1/jobs/{}/again", side.failed), None, None).await;
        assert_eq!(again.status, StatusCode::FORBIDDEN, "a masked payload is no payload");
    }

    let routes = world.routes(person(Role::Support));
    let look = world.look(&routes, side.account).await;
    for path in &places {
        let answer = get(&routes, path, Some(&look.token)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        assert!(!answer.text.contains(CANARY), "a look reads of a person at {path}: {}", answer.text);
        assert!(!answer.text.contains(&look.token), "{path}");
    }
    let page = get(&routes, &format!("/jobs/{}", side.failed), Some(&look.token)).await;
    for fact in ["people", "•••", "permanent", "C•••@m•••.example"] {
        assert!(page.text.contains(fact), "{fact}: {}", page.text);
    }

    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("an account is looked at") && log.contains("request served"), "the log was read");
    let telling: Vec<&str> = log.lines().filter(|line| line.contains(CANARY) || line.contains(&look.token)).collect();
    assert!(telling.is_empty(), "{telling:#?}");
    assert!(!daemon::metrics_handle().render().contains(CANARY));
}
