//! The jobs of a chaos run: of every sort, inserted whatever happens to the ledger meanwhile: a hundred a second of the
//! system's, and those of accounts that are under a limit, on connections, in groups, quiet, or unfair.
//! Remembers only what was acknowledged: an insertion whose answer was lost may have happened or not.

use super::rules::{GROUPED, NARROW, QUIET, RATED, Rules, UNFAIR};
use domain::{AccountId, ConnectionId, FinishWhen, Finishing, JobId, Kind};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use store::{Inserted, NewGroup, NewJob, Store};
use tokio::{sync::watch, task::JoinHandle};
use uuid::Uuid;

const JOBS_AT_ONCE: usize = 20;
const EVERY: Duration = Duration::from_millis(200);
/// Attempts enough for whatever falls on a job.
const ATTEMPTS_MAX: u16 = 30;
/// The bursts of the unfair account: first and then every so many turns, and their jobs.
const BURST_AT: (u64, u64) = (10, 150);
const BURST_EFFECTS: usize = 1_000;
const BURST_NOOPS: usize = 600;
const GROUP_EVERY: u64 = 40;
const MEMBERS: usize = 15;

/// The insertion under way.
pub(super) struct Load {
    stop: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<Vec<JobId>>>,
}

impl Load {
    /// Ends it and answers with the jobs whose insertion was acknowledged.
    pub(super) async fn stop(self) -> anyhow::Result<Vec<JobId>> {
        self.stop.send_replace(true);
        self.task.await?
    }
}

pub(super) fn start(store: Store, rules: Arc<Rules>, seed: u64) -> Load {
    let (stop, mut stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        let mut dice = StdRng::seed_from_u64(!seed);
        let mut committed = Vec::new();
        let kinds = Kinds { effects: Kind::new("effects")?, noop: Kind::new("noop")? };
        for turn in 0_u64.. {
            if *stopped.borrow() {
                break;
            }
            let now = store.now();
            let mut jobs: Vec<NewJob> = (0..JOBS_AT_ONCE)
                .map(|_| {
                    let (payload, attempts_max) = payload(&mut dice);
                    let waits = Duration::from_millis(dice.random_range(1..4_000));
                    let due_at = dice.random_bool(0.1).then(|| now + waits);
                    NewJob { attempts_max, due_at, ..NewJob::new(kinds.effects.clone(), payload) }
                })
                .collect();
            jobs.extend(kinds.of_turn(turn, &rules, &mut dice));
            let mut inserted = store.insert_jobs(&jobs).await.unwrap_or_default();
            if turn % GROUP_EVERY == 1 {
                let (group, members) = kinds.group(&mut dice);
                let made = store.create_group(&testkit::granted(), &group, &members, true).await;
                inserted.extend(made.map(|(_, inserted)| inserted).unwrap_or_default());
            }
            committed.extend(inserted.iter().filter_map(|i| if let Inserted::New(id) = i { Some(*id) } else { None }));
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = stopped.changed() => {}
            }
        }
        Ok(committed)
    });
    Load { stop, task }
}

struct Kinds {
    effects: Kind,
    noop: Kind,
}

impl Kinds {
    /// The accounts' jobs of one turn.
    fn of_turn(&self, turn: u64, rules: &Rules, dice: &mut StdRng) -> Vec<NewJob> {
        let effects = |account, payload| NewJob {
            account,
            attempts_max: ATTEMPTS_MAX,
            ..NewJob::new(self.effects.clone(), payload)
        };
        let noop = |account, sleep_ms: u64| NewJob {
            account,
            attempts_max: ATTEMPTS_MAX,
            ..NewJob::new(self.noop.clone(), json!({"sleep_ms": sleep_ms}))
        };
        let on = |connection: ConnectionId, payload| NewJob {
            connection: Some(connection),
            ..effects(rules.connected, payload)
        };
        let quiet = AccountId(QUIET.start + i64::try_from(turn).unwrap_or(0) % (QUIET.end - QUIET.start));
        let mut jobs = vec![effects(quiet, json!({"page_ms": 10})), noop(quiet, 10)];
        for _ in 0..2 {
            let chosen: usize = dice.random_range(0..rules.crm.len());
            let payload = json!({"service": super::rules::CRM, "page_ms": dice.random_range(0..200)});
            jobs.extend(rules.crm.get(chosen).map(|connection| on(*connection, payload)));
        }
        if turn % 5 < 4 {
            jobs.push(on(rules.mail, Rules::of_quota()));
        }
        if turn % 15 == 3 {
            jobs.extend((0..15).map(|_| effects(RATED, json!({}))));
        }
        if turn % 10 == 6 {
            jobs.extend((0..12).map(|_| effects(NARROW, json!({"page_ms": dice.random_range(100..400)}))));
        }
        if turn % BURST_AT.1 == BURST_AT.0 {
            jobs.extend((0..BURST_EFFECTS).map(|_| effects(UNFAIR, json!({"page_ms": 300}))));
            jobs.extend((0..BURST_NOOPS).map(|_| noop(UNFAIR, 100)));
        }
        jobs
    }

    /// Some of its members fail at first, and one in ten groups has one that fails for good.
    fn group(&self, dice: &mut StdRng) -> (NewGroup, Vec<NewJob>) {
        let fails = dice.random_bool(0.1);
        let when = if dice.random_bool(0.5) { FinishWhen::AllDone } else { FinishWhen::AllSucceeded };
        let kind = self.effects.clone();
        let finishing = Finishing { kind, payload: json!({}), priority: 2, connection: None, when };
        let group = NewGroup {
            name: "chaos".to_owned(),
            account: GROUPED,
            finishing: Some(finishing),
            request_id: Uuid::new_v4(),
        };
        let members = (0..MEMBERS).map(|n| {
            let (payload, attempts_max) = match n {
                0 if fails => (json!({"panic": true}), 1),
                1 => (json!({"children": 2, "children_join": true}), ATTEMPTS_MAX),
                2 => (json!({"transient_attempts": 2}), ATTEMPTS_MAX),
                _ => (json!({"page_ms": dice.random_range(0..200)}), ATTEMPTS_MAX),
            };
            NewJob { account: GROUPED, attempts_max, ..NewJob::new(self.effects.clone(), payload) }
        });
        (group, members.collect())
    }
}

/// One of the system's jobs, and its attempts at the most.
fn payload(dice: &mut StdRng) -> (Value, u16) {
    let payload = match dice.random_range(0..1_000) {
        0..600 => json!({"page_ms": dice.random_range(0..200)}),
        600..750 => json!({"pages": dice.random_range(2..7), "page_ms": dice.random_range(0..300)}),
        750..830 => json!({"hold_ms": dice.random_range(0..800)}),
        830..890 => json!({"transient_attempts": dice.random_range(1..4)}),
        890..950 => json!({"children": dice.random_range(1..4), "page_ms": dice.random_range(0..200)}),
        950..975 => json!({"page_ms": dice.random_range(3_000..7_000)}),
        975..985 => return (json!({"panic": true}), 2),
        985..988 => return (json!({"deaf_ms": 60_000}), 1),
        _ => json!({}),
    };
    (payload, ATTEMPTS_MAX)
}
