//! Puts ready jobs on their way: flow by flow in fair turns, as far as every limit, budget and breaker has room, and within
//! a window sized from what the live servants can take: few jobs on the queue are what lets priority, pause and cancel
//! act at once. Without a queue, jobs that nothing limits are left to the servants, who take them from the table.
//!
//! What has room and whose turn it is, `domain` decides; the gate holds what it decides by.

mod gate;

use crate::Office;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Flow, Kind, KindDefinition, Next, Round, Visit};
use gate::Gate;
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};
use store::{Leadership, WaitingFlow};

/// Silence in seconds after which a servant's slots no longer count.
const SILENCE_SECS_MAX: i64 = 10;
/// Flows that one look brings at the most, and that one dispatch visits.
const FLOWS_MAX: usize = 1_000;
const VISITS_MAX: usize = 500;
/// First wait, in milliseconds, until jobs that had no room are looked at again; doubled while they still have none.
const SHORT_WAIT_MS: u64 = 5;
/// Without a queue, how long a kind counts as the dispatcher's after something of it was.
const OURS_KEPT: Duration = Duration::from_secs(10);
/// How often ended jobs are taken off the permits, and how many permits are looked at.
const TIDY_EVERY: Duration = Duration::from_secs(1);
const PERMITS_MAX: i64 = 1_000;

/// What the dispatcher keeps between two goes. Nothing of it matters for what is right: a new leader begins anew.
#[derive(Debug, Default)]
pub struct Desk {
    lines: BTreeMap<Kind, Line>,
    limits: Option<(i64, Option<DateTime<Utc>>)>,
    tidied_at: Option<Instant>,
    /// Jobs in flight are to be noted again: limits have changed a moment ago.
    must_adopt: bool,
    short_wait_ms: u64,
    /// When all kinds were looked at.
    looked_at: Option<Instant>,
}

/// A kind's flows and the place in their round.
#[derive(Debug, Default)]
struct Line {
    round: Round,
    flows: HashMap<Flow, WaitingFlow>,
    /// When a flow was last seen that is the dispatcher's.
    ours_at: Option<Instant>,
}

impl Desk {
    /// The kinds that are looked at now. Without a queue, most jobs are taken by servants as soon as they are ready:
    /// of their kinds the dispatcher looks at its own pace for what is not the servants'.
    fn kinds_to_do<'a>(&mut self, office: &'a Office) -> Vec<(&'a Kind, &'a KindDefinition)> {
        let pace = Duration::from_millis(office.config.duties.dispatch_ms);
        let is_due = self.looked_at.is_none_or(|at| at.elapsed() >= pace);
        if office.has_queue() || is_due {
            self.looked_at = Some(Instant::now());
            return office.catalogue.iter().collect();
        }
        let is_ours = |line: &Line| line.ours_at.is_some_and(|at| at.elapsed() < OURS_KEPT);
        office.catalogue.iter().filter(|(kind, _)| self.lines.get(*kind).is_some_and(is_ours)).collect()
    }
}

/// How a kind's go ended.
#[derive(Debug, Default, Clone, Copy)]
struct Went {
    dispatched: u64,
    /// Jobs wait that had no room.
    is_short: bool,
    /// There was as much to do as one go may do.
    is_full: bool,
}

/// Fills every kind's window.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let mut desk = office.desk.lock().await;
    let kinds = desk.kinds_to_do(office);
    if kinds.is_empty() {
        return Ok(false);
    }
    keep_permits(office, leadership, &mut desk).await?;
    let duties = &office.config.duties;
    let slots: HashMap<String, i64> = office
        .store
        .capacity(TimeDelta::seconds(SILENCE_SECS_MAX))
        .await?
        .into_iter()
        .map(|c| (c.kind, c.slots))
        .collect();
    let mut all = Went::default();
    for (kind, definition) in kinds {
        let window = duties.dispatching().window(slots.get(kind.as_str()).copied().unwrap_or(0));
        let went = dispatch_kind(office, leadership, &mut desk, (kind, definition), window).await?;
        if went.dispatched > 0 {
            metrics::counter!("servant_jobs_dispatched_total", "kind" => kind.as_str().to_owned())
                .increment(went.dispatched);
        }
        all.dispatched += went.dispatched;
        all.is_short |= went.is_short;
        all.is_full |= went.is_full;
    }
    if all.is_short && !all.is_full {
        desk.short_wait_ms = if all.dispatched > 0 { SHORT_WAIT_MS } else { desk.short_wait_ms.max(1) * 2 };
        look_again(office, Duration::from_millis(desk.short_wait_ms));
    }
    Ok(all.is_full)
}

/// Wakes this duty a little later: what ends frees room, and nobody says so.
fn look_again(office: &Office, after: Duration) {
    let ready = office.jobs_ready.clone();
    if after < Duration::from_millis(office.config.duties.dispatch_ms) {
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            ready.notify_one();
        });
    }
}

/// Sees to it that all that limits count is on a permit, and what has ended is not.
async fn keep_permits(office: &Office, leadership: &Leadership, desk: &mut Desk) -> anyhow::Result<()> {
    let limits = office.store.limits_stamp().await?;
    let is_due = desk.tidied_at.is_none_or(|at| at.elapsed() >= TIDY_EVERY);
    let has_changed = desk.limits.as_ref() != Some(&limits);
    if has_changed || (is_due && desk.must_adopt) {
        // A second time a moment later: a claim under way when the limit was set had not seen it.
        office.store.adopt_in_flight(leadership).await?;
        desk.must_adopt = has_changed;
        desk.limits = Some(limits);
    }
    if is_due {
        office.store.tidy_permits(leadership, PERMITS_MAX).await?;
        desk.tidied_at = Some(Instant::now());
    }
    Ok(())
}

/// Goes through a kind's flows until its window is full, nothing waits, or nothing that waits has room.
async fn dispatch_kind(
    office: &Office,
    leadership: &Leadership,
    desk: &mut Desk,
    (kind, definition): (&Kind, &KindDefinition),
    window: i64,
) -> anyhow::Result<Went> {
    let store = &office.store;
    let batch_max = i64::from(office.config.duties.batch_max);
    let line = desk.lines.entry(kind.clone()).or_default();
    let mut went = Went::default();
    let has_queue = office.has_queue();
    // Without a queue, what has neither a connection nor a limit is its servants'.
    let has_limits = desk.limits.is_some_and(|(limits, _)| limits > 0);
    let may_be_ours = |flow: &WaitingFlow| has_limits || flow.flow.connection.is_some();
    let mut left: Option<i64> = None;
    line.round.woken();
    let mut must_look = true;
    loop {
        if must_look || line.round.must_look(store.now()) {
            look(office, kind, line).await?;
            if line.flows.values().any(may_be_ours) {
                line.ours_at = Some(Instant::now());
            }
        }
        // The look brought all flows there are, and none to dispatch.
        let is_open = |flow: &WaitingFlow| !flow.is_held && (has_queue || may_be_ours(flow));
        if line.flows.len() < FLOWS_MAX && !line.flows.values().any(is_open) {
            return Ok(went);
        }
        let left = match &mut left {
            Some(left) => left,
            None => left.insert((window - store.queued_of(kind).await?).min(batch_max)),
        };
        if *left <= 0 {
            went.is_short = true;
            return Ok(went);
        }
        let Some(mut tx) = store.begin_led(leadership).await? else { return Ok(went) };
        let mut gate = Gate::open(office, &mut tx, (kind, definition), line.flows.values()).await?;
        let (visits, urgent_only) = visits(office, line, &mut gate, *left);
        if visits.is_empty() && urgent_only.is_empty() {
            went.is_short |= gate.has_refused();
            must_look = line.round.note(&[], &[], *left) == Next::Look;
            if must_look {
                continue;
            }
            return Ok(went);
        }
        let urgent_max = line.round.urgent_max(*left);
        let upcoming = store.upcoming_in(&mut tx, kind, &visits, &urgent_only, urgent_max, *left).await?;
        let upcoming_count = upcoming.len();
        let let_through: Vec<_> = upcoming.into_iter().filter(|job| gate.admit(job)).collect();
        let was_refused = let_through.len() < upcoming_count;
        went.is_short |= gate.has_refused();
        if !let_through.is_empty() {
            let ids: Vec<_> = let_through.iter().map(|job| job.taken.place.id).collect();
            let counted: Vec<_> =
                let_through.iter().filter(|job| gate.counts(job.taken.flow)).map(|job| job.taken.place.id).collect();
            store.queue_in(&mut tx, kind, &ids, &counted).await?;
            gate.close(store, &mut tx).await?;
            tx.commit().await?;
            wake(office, kind).await;
        }
        let dispatched = i64::try_from(let_through.len())?;
        let taken: Vec<_> = let_through.iter().map(|job| job.taken).collect();
        // Where flows share the room that ran out, the next go begins where it did: each keeps its share of that.
        let next = line.round.note(&visits, &taken, if was_refused { dispatched } else { *left });
        *left -= dispatched;
        went.dispatched += dispatched.unsigned_abs();
        if *left <= 0 {
            went.is_full = went.dispatched == batch_max.unsigned_abs();
            went.is_short = true;
            return Ok(went);
        }
        must_look = next == Next::Look;
        if next == Next::Rest || (dispatched == 0 && was_refused) {
            return Ok(went);
        }
    }
}

/// Sees which flows of the kind there are, and whether anything holds them.
async fn look(office: &Office, kind: &Kind, line: &mut Line) -> anyhow::Result<()> {
    let asked_at = office.store.now();
    let flows = office.store.waiting_flows(kind, line.round.last(), i64::try_from(FLOWS_MAX)?).await?;
    let now = office.store.now();
    let cut_at = flows.last().filter(|_| flows.len() >= FLOWS_MAX).map(|flow| flow.flow);
    line.round.looked(flows.iter().map(|flow| (flow.flow, flow.weight)), cut_at, now, now - asked_at);
    line.flows = flows.into_iter().map(|flow| (flow.flow, flow)).collect();
    Ok(())
}

/// The visits of the next go, and the flows that have room for urgent jobs alone.
fn visits(office: &Office, line: &Line, gate: &mut Gate<'_>, limit: i64) -> (Vec<Visit>, Vec<Flow>) {
    let has_queue = office.has_queue();
    let mut room = HashMap::new();
    let mut urgent_only = Vec::new();
    for flow in line.flows.values().filter(|flow| !flow.is_held) {
        if !has_queue && !gate.counts(flow.flow) {
            continue;
        }
        let ordinary = gate.room(flow);
        if ordinary > 0 {
            room.insert(flow.flow, ordinary);
        } else if gate.has_urgent_room(flow) && urgent_only.len() < VISITS_MAX {
            urgent_only.push(flow.flow);
        }
    }
    let in_all = room.values().fold(0, |sum: i64, room| sum.saturating_add(*room));
    let limit = limit.min(in_all);
    (line.round.visits(limit, VISITS_MAX, |flow| room.get(&flow).copied().unwrap_or(0)), urgent_only)
}

/// Tells whoever takes it further.
async fn wake(office: &Office, kind: &Kind) {
    match office.queue {
        queue::Backend::Sqs(_) => office.outbox_filled.notify_one(),
        queue::Backend::Postgres => office.store.wake_sent(kind).await,
    }
}
