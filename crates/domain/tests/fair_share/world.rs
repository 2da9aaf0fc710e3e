//! A ledger in memory that gives jobs as the real one does: the urgent lane first, then visit by visit.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{AGING_SECS, AccountId, ConnectionId, Flow, JobId, Next, Place, Round, Taken, Visit};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn flow(account: i64, connection: i64) -> Flow {
    Flow { account: AccountId(account), connection: (connection != 0).then_some(ConnectionId(connection)) }
}

pub(crate) fn start() -> DateTime<Utc> {
    "2030-05-06T12:00:00Z".parse().unwrap()
}

#[derive(Debug, Clone, Copy)]
struct Job {
    ready_secs: i64,
    priority: i16,
}

/// Flows with the jobs that wait in them.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    jobs: BTreeMap<Flow, BTreeMap<(i64, JobId), Job>>,
    pub(crate) weights: BTreeMap<Flow, u16>,
    /// Flows that have no room.
    pub(crate) closed: BTreeSet<Flow>,
    next_id: i64,
    pub(crate) now_secs: i64,
}

impl Ledger {
    /// A flow's account has the weight of its latest job.
    pub(crate) fn add(&mut self, flow: Flow, weight: u16, priority: i16) -> JobId {
        self.next_id += 1;
        let id = JobId(self.next_id);
        let turn = self.now_secs + AGING_SECS * i64::from(priority);
        self.weights.insert(flow, weight);
        self.jobs.entry(flow).or_default().insert((turn, id), Job { ready_secs: self.now_secs, priority });
        id
    }

    pub(crate) fn add_many(&mut self, flow: Flow, weight: u16, count: usize) {
        for _ in 0..count {
            self.add(flow, weight, 2);
        }
    }

    /// A flow in which something was ready that is still running: it is seen and gives nothing.
    pub(crate) fn add_running(&mut self, flow: Flow) {
        self.weights.insert(flow, 1);
        self.jobs.entry(flow).or_default();
    }

    pub(crate) fn takeable(&self) -> usize {
        self.jobs.iter().filter(|(flow, _)| !self.closed.contains(flow)).map(|(_, jobs)| jobs.len()).sum()
    }

    fn now(&self) -> DateTime<Utc> {
        start() + TimeDelta::seconds(self.now_secs)
    }

    fn room(&self, flow: Flow) -> i64 {
        if self.closed.contains(&flow) { 0 } else { i64::MAX }
    }

    fn take(&mut self, visits: &[Visit], urgent_max: i64, limit: i64) -> Vec<Taken> {
        let mut chosen: Vec<Taken> = Vec::new();
        let mut urgent: Vec<_> = self
            .jobs
            .iter()
            .filter(|(flow, _)| !self.closed.contains(flow))
            .flat_map(|(flow, jobs)| jobs.iter().map(|(key, job)| (*flow, *key, *job)))
            .filter(|(.., job)| job.priority == 0)
            .collect();
        if urgent_max == 0 {
            urgent.clear();
        }
        urgent.sort_by_key(|(_, (_, id), job)| (job.ready_secs, *id));
        let place = |(turn, id): (i64, JobId)| Place { turn: turn as f64, id };
        for (flow, key, _) in urgent.into_iter().take(usize::try_from(urgent_max).unwrap()) {
            chosen.push(Taken { flow, place: place(key), is_urgent: true });
        }
        let lane: BTreeSet<_> = chosen.iter().map(|taken| taken.place.id).collect();
        for visit in visits {
            let jobs = self.jobs.get(&visit.flow).into_iter().flatten().map(|(key, _)| *key);
            let after =
                jobs.filter(|key| visit.after.is_none_or(|after| place(*key) > after) && !lane.contains(&key.1));
            let quantum = usize::try_from(visit.quantum).unwrap();
            chosen.extend(after.take(quantum).map(|key| Taken {
                flow: visit.flow,
                place: place(key),
                is_urgent: false,
            }));
        }
        chosen.truncate(usize::try_from(limit).unwrap());
        for taken in &chosen {
            self.jobs.entry(taken.flow).or_default().retain(|(_, id), _| *id != taken.place.id);
        }
        chosen
    }
}

/// Takes jobs as a servant or the dispatcher does.
#[derive(Debug)]
pub(crate) struct Taker {
    pub(crate) round: Round,
    pub(crate) flows_max: usize,
    is_told_to_look: bool,
}

impl Taker {
    pub(crate) fn new(flows_max: usize) -> Self {
        Self { round: Round::default(), flows_max, is_told_to_look: true }
    }

    /// One go.
    pub(crate) fn go(&mut self, ledger: &mut Ledger, limit: i64) -> (Vec<Taken>, Next) {
        let now = ledger.now();
        if self.is_told_to_look || self.round.must_look(now) {
            let asked_at = now - TimeDelta::milliseconds(1);
            self.round.looked(ledger.weights.iter().map(|(flow, weight)| (*flow, *weight)), None, asked_at, now);
        }
        let visits = self.round.visits(limit, self.flows_max, |flow| ledger.room(flow));
        let taken = ledger.take(&visits, self.round.urgent_max(limit), limit);
        let next = self.round.note(&visits, &taken, limit);
        self.is_told_to_look = matches!(next, Next::Look | Next::BeginAgain);
        if next == Next::BeginAgain {
            self.round.begin_again();
        }
        (taken, next)
    }

    /// Goes until there is nothing left, as it believes.
    pub(crate) fn until_rest(&mut self, ledger: &mut Ledger, limit: i64) -> Vec<Taken> {
        let mut all = Vec::new();
        let mut idle_goes = 0;
        loop {
            let (taken, next) = self.go(ledger, limit);
            idle_goes = if taken.is_empty() { idle_goes + 1 } else { 0 };
            // Once from the places, and once from the front.
            assert!(idle_goes <= 2 * (ledger.weights.len() + 3), "it goes round and round with nothing to take");
            all.extend(taken);
            if next == Next::Rest {
                return all;
            }
        }
    }
}
