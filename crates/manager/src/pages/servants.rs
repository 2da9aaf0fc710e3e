//! The fleet: kinds with their builds and what waits for them, servants with what they do, and orders.

use super::{ROWS, back, render};
use crate::{
    App,
    allowed::Asker,
    api::{
        others, pauses,
        servants::{fleet, order, show},
    },
    error::ApiError,
    view::{CurrentView, Link, ServantView, current_views, encode, grouped, when},
};
use askama::Template;
use axum::{
    Form, Json, Router,
    extract::{Path, Query, State},
    http::HeaderMap,
    response::{Redirect, Response},
    routing::{get, post},
};
use domain::{Kind, PauseTarget};
use manager_api::{JobCount, OrderRequest, Servant};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/servants", get(list))
        .route("/servants/{id}", get(one))
        .route("/servants/{id}/order", post(give))
}

/// What a kind of work has of servants.
#[derive(Debug, Default)]
pub(crate) struct KindOfServants {
    pub(crate) kind: String,
    pub(crate) alive: usize,
    /// Processes that there should be, 0 if nobody misses them; none: no catalogue was seen that has it.
    pub(crate) expected: Option<i32>,
    pub(crate) silent: usize,
    pub(crate) running: i32,
    pub(crate) slots: i32,
    pub(crate) versions: BTreeSet<String>,
    /// Jobs that wait for them.
    pub(crate) pending: String,
    /// Jobs wait, and nobody alive is there to do them.
    pub(crate) is_missing: bool,
}

impl KindOfServants {
    /// Fewer are there than there should be.
    pub(crate) fn is_short(&self) -> bool {
        self.expected.is_some_and(|expected| usize::try_from(expected).is_ok_and(|expected| self.alive < expected))
    }

    /// Somebody is not there who should be: by the catalogue; where none was seen, by the jobs that wait.
    pub(crate) fn is_missed(&self) -> bool {
        if self.expected.is_some() { self.is_short() } else { self.is_missing }
    }

    /// Those that are there, of those that there should be.
    pub(crate) fn processes(&self) -> String {
        let expected = self.expected.filter(|expected| *expected > 0);
        expected.map_or_else(|| self.alive.to_string(), |expected| format!("{} of {expected}", self.alive))
    }

    /// Not all of one build.
    pub(crate) fn is_skewed(&self) -> bool {
        self.versions.len() > 1
    }

    pub(crate) fn builds(&self) -> String {
        self.versions.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// The fleet by kind; kinds without servants are in it, too, where jobs wait or processes are expected.
pub(crate) fn by_kind(
    servants: &[Servant],
    pending: &BTreeMap<String, i64>,
    expected: &BTreeMap<String, i32>,
) -> Vec<KindOfServants> {
    let mut kinds: BTreeMap<&str, KindOfServants> = BTreeMap::new();
    for (kind, _) in expected.iter().filter(|(_, processes)| **processes > 0) {
        kinds.entry(kind).or_default();
    }
    for servant in servants {
        let kind = kinds.entry(&servant.kind).or_default();
        if servant.liveness == "lost" {
            kind.silent += 1;
            continue;
        }
        kind.alive += 1;
        kind.running += servant.running;
        kind.slots += servant.concurrency;
        kind.versions.insert(servant.version.clone());
    }
    for (kind, jobs) in pending.iter().filter(|(_, jobs)| **jobs > 0) {
        let kind = kinds.entry(kind).or_default();
        kind.pending = grouped(*jobs);
        kind.is_missing = kind.alive == 0;
    }
    let named = |(name, kind): (&str, KindOfServants)| KindOfServants {
        kind: name.to_owned(),
        expected: expected.get(name).copied(),
        ..kind
    };
    kinds.into_iter().map(named).collect()
}

/// Pending jobs of each kind, by the counters.
pub(crate) fn pending_of(counts: &[JobCount]) -> BTreeMap<String, i64> {
    let mut pending = BTreeMap::new();
    for count in counts.iter().filter(|count| count.state.is_pending()) {
        *pending.entry(count.kind.clone()).or_default() += count.jobs;
    }
    pending
}

#[derive(Template)]
#[template(path = "servants.html")]
struct ServantsPage {
    kinds: Vec<KindOfServants>,
    /// The kind that is shown alone, and whether it is paused.
    chosen: Option<(String, bool)>,
    filters: Vec<Link>,
    servants: Vec<ServantView>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "servant.html")]
struct ServantPage {
    view: ServantView,
    started: crate::view::When,
    heartbeat: Option<crate::view::When>,
    jobs: Vec<CurrentView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default)]
    kind: Option<String>,
    /// The last servant of the page before.
    #[serde(default)]
    after: Option<i64>,
}

async fn list(asker: Asker, State(app): State<App>, Query(query): Query<ListQuery>) -> Result<Response, ApiError> {
    let kind = query.kind.as_deref().filter(|kind| !kind.is_empty());
    let all = fleet(&asker.allow(&app).await?, &app).await?;
    let stats = asker.allow(&app).await?;
    let pending = pending_of(&others::counts(&stats, &app).await?);
    let kinds = by_kind(&all, &pending, &others::expected(&stats, &app).await?);
    let url_of = |kind: &str| format!("/servants?kind={}", encode(kind));
    let mut filters = vec![Link { text: "all".to_owned(), url: "/servants".to_owned(), is_current: kind.is_none() }];
    filters.extend(kinds.iter().map(|row| Link {
        text: row.kind.clone(),
        url: url_of(&row.kind),
        is_current: kind == Some(row.kind.as_str()),
    }));
    let rows = usize::try_from(ROWS).unwrap_or(usize::MAX);
    let wanted: Vec<Servant> = all.into_iter().filter(|servant| kind.is_none_or(|kind| servant.kind == kind)).collect();
    // Behind one that is not listed any more the list begins anew.
    let last = query.after.and_then(|after| wanted.iter().position(|servant| servant.id == after));
    let mut page: Vec<Servant> = wanted.into_iter().skip(last.map_or(0, |last| last + 1)).take(rows + 1).collect();
    let has_more = page.len() > rows;
    page.truncate(rows);
    let next = page.last().filter(|_| has_more).map(|last| {
        let kind = kind.map(|kind| format!("kind={}&", encode(kind))).unwrap_or_default();
        format!("/servants?{kind}after={}", last.id)
    });
    let chosen = match kind.and_then(|kind| Kind::new(kind).ok()) {
        Some(kind) => {
            let target = PauseTarget::Kind(kind.clone());
            let is_paused = pauses::pause_in_force(&asker.allow(&app).await?, &app, &target).await?.is_some();
            Some((kind.to_string(), is_paused))
        }
        None => None,
    };
    render(&ServantsPage { kinds, chosen, filters, servants: page.into_iter().map(ServantView::new).collect(), next })
}

async fn one(asker: Asker, State(app): State<App>, Path(id): Path<i64>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let Json(servant) = show(asker.allow(&app).await?, State(app), Path(id)).await?;
    render(&ServantPage {
        started: when(servant.started_at, now),
        heartbeat: servant.heartbeat_at.map(|at| when(at, now)),
        jobs: current_views(&servant.jobs, usize::MAX),
        view: ServantView::new(servant),
    })
}

async fn give(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Form(request): Form<OrderRequest>,
) -> Result<Redirect, ApiError> {
    let Json(_) = order(asker.allow(&app).await?, State(app), Path(id), Json(request)).await?;
    Ok(back(&headers, &format!("/servants/{id}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_nobody_works_on_are_seen() {
        let pending = BTreeMap::from([("a".to_owned(), 1_234), ("b".to_owned(), 0)]);
        let kinds = by_kind(&[], &pending, &BTreeMap::new());
        assert_eq!(kinds.len(), 1, "what has no jobs needs no servants");
        assert!(kinds[0].is_missing && kinds[0].kind == "a" && kinds[0].pending == "1,234");
        assert!(!kinds[0].is_short() && kinds[0].processes() == "0");
        let kinds = by_kind(&[], &BTreeMap::new(), &BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 0)]));
        assert_eq!(kinds.len(), 1, "nobody misses what is expected zero times");
        assert!(kinds[0].is_short() && !kinds[0].is_missing && kinds[0].processes() == "0 of 2");
    }

    #[test]
    fn whom_nobody_expects_nobody_misses() {
        let pending = BTreeMap::from([("a".to_owned(), 3)]);
        let missed = |expected: &BTreeMap<String, i32>| by_kind(&[], &pending, expected).remove(0).is_missed();
        assert!(missed(&BTreeMap::new()), "jobs wait, and nobody has said how many there should be");
        assert!(!missed(&BTreeMap::from([("a".to_owned(), 0)])), "there should be none");
        assert!(missed(&BTreeMap::from([("a".to_owned(), 1)])));
        let kinds = by_kind(&[], &pending, &BTreeMap::from([("a".to_owned(), 0)]));
        assert!(kinds[0].is_missing && kinds[0].processes() == "0", "the row tells of the jobs all the same");
    }
}
