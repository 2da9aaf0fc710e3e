//! The world of a chaos run and what is done to it: posts (programs that are kept running), a PostgreSQL of its own,
//! a simulated SQS behind a wire, and each act with what mends it.

use crate::fleet::Queue;
use anyhow::Context as _;
use domain::{Clock, JobId, Kind, action};
use fakes::sqs::{FakeSqs, Fault, Faults, Options, Rule};
use rand::{RngExt as _, rngs::StdRng};
use serde_json::json;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use store::{Inserted, JobCount, JobFilter, NewJob, Store};
use testkit::{Deployment, OwnServer, Process, Proxy};

/// Connections of the server: every program's, and the looks from outside.
const CONNECTIONS_MAX: u32 = 200;
/// A start that failed (the ledger was away) is tried again after this.
const START_AGAIN: Duration = Duration::from_millis(700);
const MANAGER_STARTS_SECS: u64 = 60;
/// Waits of the scheduler's are short: the run is.
const SCHEDULER: [(&str, &str); 3] = [
    ("SERVANT_DUTIES__UNCLAIMED_SECS", "2"),
    ("SERVANT_BREAKER__OPEN_SECS_MIN", "2"),
    ("SERVANT_BREAKER__OPEN_SECS_MAX", "6"),
];
/// Queue misbehaviour, and how often it strikes.
const FAULTS: [(Fault, f64); 8] = [
    (Fault::Duplicate, 0.5),
    (Fault::Reorder, 0.8),
    (Fault::Lose, 0.2),
    (Fault::Delay, 0.5),
    (Fault::Throttle, 0.4),
    (Fault::Http5xx, 0.4),
    (Fault::AnswerLostAfterExecution, 0.3),
    (Fault::EntryFailed, 0.4),
];

/// A program that a supervisor keeps running.
struct Post {
    program: &'static str,
    variables: Vec<(&'static str, String)>,
    process: Option<Process>,
    is_stopped: bool,
    start_at: Instant,
}

/// What ends an act.
#[derive(Debug, Clone, Copy)]
enum Mend {
    Continue(usize),
    Fault(Fault),
    Wire,
}

pub(super) struct World {
    pub(super) store: Store,
    /// Acts by name.
    pub(super) acts: BTreeMap<&'static str, u32>,
    /// Jobs inserted by acts.
    pub(super) committed: Vec<JobId>,
    server: OwnServer,
    deployment: Deployment,
    sqs: Option<FakeSqs>,
    wire: Option<Proxy>,
    posts: Vec<Post>,
    mends: Vec<(Instant, Mend)>,
}

impl World {
    /// A ledger, a queue, a manager, two schedulers, and servants of two kinds, the one that writes effects three times.
    pub(super) async fn start(queue: Queue) -> anyhow::Result<Self> {
        let server = OwnServer::start(CONNECTIONS_MAX).await?;
        testkit::create_effects_tables(server.url()).await?;
        let store = Store::connect(server.url(), 4, Clock::system()).await?;
        let (mut sqs, mut wire) = (None, None);
        if queue == Queue::Sqs {
            let fake = FakeSqs::start(Options::default()).await?;
            wire = Some(Proxy::to_tcp(&fake.addr().to_string()).await?);
            sqs = Some(fake);
        }
        let sqs_url = wire.as_ref().map(|wire| format!("http://{}", wire.address()));
        let mut deployment = Deployment::new(server.url(), sqs_url)?;
        let manager = deployment.start("manager", &[]).await;
        let address = manager.address(Duration::from_secs(MANAGER_STARTS_SECS)).await;
        deployment.manager_url = format!("http://{address}");
        let post = |program, process, variables| Post {
            program,
            variables,
            process,
            is_stopped: false,
            start_at: Instant::now(),
        };
        let mut posts = vec![post("manager", Some(manager), vec![("SERVANT_MANAGER__LISTEN", address)])];
        for _ in 0..2 {
            let variables = SCHEDULER.map(|(name, value)| (name, value.to_owned())).to_vec();
            posts.push(post("scheduler", None, variables));
        }
        for _ in 0..3 {
            posts.push(post("effects", None, vec![("SERVANT_PROCESS__DRAIN_SECS", "8".to_owned())]));
        }
        for _ in 0..2 {
            posts.push(post("noop", None, vec![("SERVANT_WORK__CONCURRENCY", "20".to_owned())]));
        }
        let (acts, committed, mends) = (BTreeMap::new(), Vec::new(), Vec::new());
        Ok(Self { store, acts, committed, server, deployment, sqs, wire, posts, mends })
    }

    pub(super) fn url(&self) -> &str {
        self.server.url()
    }

    pub(super) async fn counts(&self) -> anyhow::Result<Vec<JobCount>> {
        // The pool may still hold connections that a restart has cut.
        let store = Store::connect(self.url(), 1, Clock::system()).await?;
        Ok(store.exact_job_counts().await?)
    }

    /// Starts what is not running.
    pub(super) async fn keep_posts(&mut self) {
        for post in &mut self.posts {
            if let Some(process) = &mut post.process
                && process.ended().is_some()
            {
                (post.process, post.is_stopped) = (None, false);
                post.start_at = Instant::now() + START_AGAIN;
            }
            if post.process.is_none() && Instant::now() >= post.start_at {
                let variables: Vec<(&str, &str)> = post.variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
                post.process = Some(self.deployment.start(post.program, &variables).await);
            }
        }
    }

    /// Does one thing, and says what.
    pub(super) async fn act(&mut self, dice: &mut StdRng) -> anyhow::Result<String> {
        let has_queue = self.sqs.is_some();
        let (name, said) = match dice.random_range(0..if has_queue { 20 } else { 14 }) {
            0..2 => ("kill_servant", self.kill("effects", dice)),
            2 => ("kill_servant", self.kill(if dice.random_bool(0.5) { "effects" } else { "noop" }, dice)),
            3 => ("stop_servant", self.stop("effects", 12_000, dice)),
            4 => ("stop_servant", self.stop(if dice.random_bool(0.5) { "effects" } else { "noop" }, 12_000, dice)),
            5 => ("terminate_servant", self.terminate(dice)),
            6 | 7 => ("kill_scheduler", self.kill("scheduler", dice)),
            8 => ("stop_scheduler", self.stop("scheduler", 9_000, dice)),
            9 => ("crash_postgres", self.server.crash().await.map(|()| String::new())?),
            10 => ("restart_postgres", self.server.restart().await.map(|()| String::new())?),
            11 => ("kill_manager", self.kill("manager", dice)),
            12 => ("cancel_and_retry", self.cancel_and_retry(dice).await),
            13 => ("insert_spin", self.insert_spin().await?),
            14..18 => ("queue_fault", self.fault(dice)),
            18 if dice.random_bool(0.5) => ("queue_forgets", self.forget().await?),
            18 => ("queue_down", self.wire(None, dice)),
            _ => ("queue_slow", self.wire(Some(Duration::from_millis(dice.random_range(10..200))), dice)),
        };
        *self.acts.entry(name).or_default() += 1;
        Ok(format!("{name} {said}"))
    }

    /// One of the program's posts that is filled and not stopped.
    fn some_post(&self, program: &str, dice: &mut StdRng) -> Option<usize> {
        let fit = |post: &Post| post.program == program && post.process.is_some() && !post.is_stopped;
        let fitting: Vec<usize> = (0..self.posts.len()).filter(|at| self.posts.get(*at).is_some_and(fit)).collect();
        let roll: usize = dice.random_range(0..60);
        fitting.get(roll.checked_rem(fitting.len())?).copied()
    }

    fn kill(&mut self, program: &str, dice: &mut StdRng) -> String {
        let start_ms = dice.random_range(0..3_000);
        let Some(at) = self.some_post(program, dice) else { return "nobody".to_owned() };
        let Some(mut process) = self.posts.get_mut(at).and_then(|post| post.process.take()) else {
            return "nobody".to_owned();
        };
        process.kill();
        if let Some(post) = self.posts.get_mut(at) {
            post.start_at = Instant::now() + Duration::from_millis(start_ms);
        }
        format!("{}, starts again in {start_ms} ms", process.pid())
    }

    fn stop(&mut self, program: &str, ms_max: u64, dice: &mut StdRng) -> String {
        let stopped_ms = dice.random_range(500..ms_max);
        let Some(at) = self.some_post(program, dice) else { return "nobody".to_owned() };
        let Some(post) = self.posts.get_mut(at) else { return "nobody".to_owned() };
        let Some(process) = &post.process else { return "nobody".to_owned() };
        process.stop();
        post.is_stopped = true;
        let pid = process.pid();
        self.mends.push((Instant::now() + Duration::from_millis(stopped_ms), Mend::Continue(at)));
        format!("{pid} for {stopped_ms} ms")
    }

    fn terminate(&mut self, dice: &mut StdRng) -> String {
        let process =
            self.some_post("effects", dice).and_then(|at| self.posts.get(at)).and_then(|p| p.process.as_ref());
        process.map_or("nobody".to_owned(), |process| {
            process.ask_to_end();
            process.pid().to_string()
        })
    }

    fn fault(&mut self, dice: &mut StdRng) -> String {
        let ms = dice.random_range(500..5_000);
        let roll: usize = dice.random_range(0..FAULTS.len());
        let (Some(sqs), Some((fault, probability))) = (&self.sqs, FAULTS.get(roll)) else { return String::new() };
        sqs.set_faults(Faults::from([(*fault, Rule::with_probability(*probability))]));
        self.mends.push((Instant::now() + Duration::from_millis(ms), Mend::Fault(*fault)));
        format!("{fault:?} with {probability} for {ms} ms")
    }

    fn wire(&mut self, delay: Option<Duration>, dice: &mut StdRng) -> String {
        let ms = dice.random_range(500..5_000);
        if let Some(wire) = &self.wire {
            delay.map_or_else(|| wire.refuse(), |delay| wire.delay(delay));
        }
        self.mends.push((Instant::now() + Duration::from_millis(ms), Mend::Wire));
        format!("{delay:?} for {ms} ms")
    }

    /// Restarted, a queue in memory has lost its queues and messages.
    async fn forget(&mut self) -> anyhow::Result<String> {
        let Some(sqs) = self.sqs.take() else { return Ok(String::new()) };
        let options = Options { addr: sqs.addr(), ..Options::default() };
        sqs.stop().await;
        self.sqs = Some(FakeSqs::start(options).await.context("the simulated queue")?);
        Ok(String::new())
    }

    /// An operator ends some jobs, and starts anew some that failed or were ended.
    async fn cancel_and_retry(&self, dice: &mut StdRng) -> String {
        let page = self.store.list_jobs(&JobFilter::default(), 200).await.unwrap_or_default();
        let chosen = page.iter().filter(|_| dice.random_bool(0.1)).map(|job| job.id).collect::<Vec<_>>();
        let cancelled = self
            .store
            .act_on_jobs(&testkit::granted_to::<action::CancelJob>("chaos", "a measurement"), &chosen)
            .await
            .map(|ids| ids.len());
        let failures = self.store.recent_failures(50).await.unwrap_or_default();
        let again = failures.iter().filter(|_| dice.random_bool(0.1)).map(|job| JobId(job.id)).collect::<Vec<_>>();
        let retried = self
            .store
            .act_on_jobs(&testkit::granted_to::<action::RetryJob>("chaos", "a measurement"), &again)
            .await
            .map(|ids| ids.len());
        format!("{cancelled:?} {retried:?}")
    }

    /// A job that takes a thread of its servant, and in the end the servant.
    async fn insert_spin(&mut self) -> anyhow::Result<String> {
        let spin = NewJob { attempts_max: 1, ..NewJob::new(Kind::new("effects")?, json!({"spin": true})) };
        let inserted = self.store.insert_jobs(&[spin]).await.unwrap_or_default();
        for one in inserted {
            if let Inserted::New(id) = one {
                self.committed.push(id);
            }
        }
        Ok(String::new())
    }

    /// Ends the acts whose time is over.
    pub(super) async fn mend_due(&mut self, now: Instant) -> anyhow::Result<()> {
        let (due, later): (Vec<_>, Vec<_>) = self.mends.drain(..).partition(|(at, _)| *at <= now);
        self.mends = later;
        for (_, mend) in due {
            match mend {
                Mend::Continue(at) => {
                    if let Some(post) = self.posts.get_mut(at).filter(|post| post.is_stopped) {
                        post.is_stopped = false;
                        if let Some(process) = &post.process {
                            process.cont();
                        }
                    }
                }
                Mend::Fault(fault) => {
                    if let Some(sqs) = &self.sqs {
                        sqs.set_faults(Faults::from([(fault, Rule::with_probability(0.0))]));
                    }
                }
                Mend::Wire => {
                    if let Some(wire) = &self.wire {
                        wire.forward();
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends every act.
    pub(super) async fn mend_all(&mut self) -> anyhow::Result<()> {
        for (at, _) in &mut self.mends {
            *at = Instant::now();
        }
        self.mend_due(Instant::now()).await
    }

    /// What the programs said last, for whoever looks into a violation.
    pub(super) fn show_last_words(&self) {
        for post in &self.posts {
            let output = post.process.as_ref().map(Process::output).unwrap_or_default();
            let lines: Vec<&str> = output.lines().collect();
            let first = lines.len().saturating_sub(20);
            super::say(&format!("--- {} ---\n{}", post.program, lines.get(first..).unwrap_or_default().join("\n")));
        }
    }
}
