//! Puts ready jobs on their way to the queue: flow by flow in fair turns, as far as every limit, budget and breaker has
//! room, and within a window sized from what the live servants can take: few jobs on the queue are what lets priority,
//! pause and cancel act at once. Without a queue the servants let jobs through themselves, by the same rules.
//!
//! What has room and whose turn it is, `domain` decides and `store::Line` asks.

use crate::Office;
use chrono::TimeDelta;
use domain::{Kind, KindDefinition, Next, TakenPerSec};
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};
use store::{Leadership, Line, Tally, Terms};

/// Silence in seconds after which a servant's slots no longer count.
const SILENCE_SECS_MAX: i64 = 10;
/// First wait, in milliseconds, until jobs that had no room are looked at again; doubled while they still have none.
const SHORT_WAIT_MS: u64 = 5;
/// How often ended jobs are taken off the permits, and how many permits are looked at.
const TIDY_EVERY: Duration = Duration::from_secs(10);
const PERMITS_MAX: i64 = 1_000;

/// What the dispatcher keeps between two goes. Nothing of it matters for what is right: a new leader begins anew.
#[derive(Debug, Default)]
pub struct Desk {
    lines: BTreeMap<Kind, (Line, TakenPerSec)>,
    tally: Tally,
    tidied_at: Option<Instant>,
    short_wait_ms: u64,
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
    tidy_permits(office, leadership, &mut desk).await?;
    if !office.has_queue() {
        return Ok(false);
    }
    let now = office.store.now();
    let is_sure = |kind: &Kind| desk.lines.get(kind).is_some_and(|(line, _)| line.is_sure(now));
    let (sure, others): (Vec<_>, Vec<_>) =
        office.catalogue.iter().map(|(kind, _)| kind).partition(|kind| is_sure(kind));
    let (capacity, mut in_line) = tokio::try_join!(
        office.store.capacity(TimeDelta::seconds(SILENCE_SECS_MAX)),
        office.store.kinds_in_line(&others)
    )?;
    let slots: HashMap<String, i64> = capacity.into_iter().map(|c| (c.kind, c.slots)).collect();
    in_line.extend(sure.into_iter().map(|kind| kind.as_str().to_owned()));
    let mut all = Went::default();
    for (kind, definition) in office.catalogue.iter().filter(|(kind, _)| in_line.contains(kind.as_str())) {
        let slots = slots.get(kind.as_str()).copied().unwrap_or(0);
        let went = dispatch_kind(office, leadership, &mut desk, (kind, definition), slots).await?;
        if went.dispatched > 0 {
            metrics::counter!("servant_jobs_dispatched_total", "kind" => kind.as_str().to_owned())
                .increment(went.dispatched);
        }
        all.dispatched += went.dispatched;
        all.is_short |= went.is_short;
        all.is_full |= went.is_full;
    }
    if all.is_short && !all.is_full {
        desk.short_wait_ms = if all.dispatched > 0 {
            SHORT_WAIT_MS
        } else {
            (desk.short_wait_ms.max(1) * 2).min(office.config.duties.dispatch_ms)
        };
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

/// Sees to it that permits do not grow: they are dropped where jobs are let through, and where they are not, here.
async fn tidy_permits(office: &Office, leadership: &Leadership, desk: &mut Desk) -> anyhow::Result<()> {
    if desk.tidied_at.is_none_or(|at| at.elapsed() >= TIDY_EVERY) {
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
    slots: i64,
) -> anyhow::Result<Went> {
    let store = &office.store;
    let batch_max = i64::from(office.config.duties.batch_max);
    let terms = Terms { catalogue: &office.catalogue, breaker: &office.config.breaker };
    let Desk { lines, tally, .. } = desk;
    let (line, taken) = lines.entry(kind.clone()).or_default();
    let mut went = Went::default();
    let mut left: Option<i64> = None;
    line.round.woken();
    let mut must_look = false;
    loop {
        let vendor = definition.vendor.as_deref();
        let left = match &mut left {
            Some(left) => {
                if must_look || line.round.must_look(store.now()) {
                    line.look(store, (kind, vendor)).await?;
                }
                left
            }
            None => {
                let (_, in_hand) = tokio::try_join!(line.look(store, (kind, vendor)), store.in_hand_of(kind, None))?;
                taken.look(store.now(), in_hand.queued);
                let window = office.config.duties.dispatching().window(slots, in_hand.running, *taken);
                left.insert((window - in_hand.queued).min(batch_max))
            }
        };
        if line.has_all() && line.open_flows().next().is_none() {
            return Ok(went);
        }
        if *left <= 0 {
            went.is_short = true;
            return Ok(went);
        }
        let Some(mut tx) = store.begin_dispatch(Some(leadership)).await? else { return Ok(went) };
        let mut through = line.let_through(store, &mut tx, terms, (kind, definition), tally, *left).await?;
        went.is_short |= through.is_short();
        if !through.is_empty() {
            store.queue_in(&mut tx, kind, &through.jobs(), &through.permit()).await?;
            through.close(store, &mut tx).await?;
        }
        tx.commit().await?;
        if !through.is_empty() {
            taken.sent(through.len());
            office.outbox_filled.notify_one();
        }
        let next = line.note(&through, *left);
        *left -= through.len();
        went.dispatched += through.len().unsigned_abs();
        if *left <= 0 {
            went.is_full = went.dispatched == batch_max.unsigned_abs();
            went.is_short = true;
            return Ok(went);
        }
        must_look = next == Next::Look;
        if next == Next::BeginAgain {
            // Until then there is the timer.
            if line.round.begin_in(store.now()) > TimeDelta::zero() {
                return Ok(went);
            }
            line.round.begin_again();
            must_look = true;
        }
        let is_stuck = through.is_idle() || (through.is_empty() && through.was_refused());
        if next == Next::Rest || (is_stuck && !must_look) {
            return Ok(went);
        }
    }
}
