//! Puts ready jobs on their way to the queue: flow by flow in fair turns, as far as every limit, budget and breaker has
//! room, and within a window sized from what the live servants can take: few jobs on the queue are what lets priority,
//! pause and cancel act at once. Without a queue the servants let jobs through themselves, by the same rules.
//!
//! What has room and whose turn it is, `domain` decides and `store::Line` asks.

use crate::{Office, nudges::Reasons};
use chrono::TimeDelta;
use domain::{Kind, KindDefinition, Next, TakenPerSec};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};
use store::{Leadership, Line, ReadyIn, StoreError, Tally, Terms};

/// Silence in seconds after which a servant's slots no longer count.
const SILENCE_SECS_MAX: i64 = 10;
/// First wait, in milliseconds, until jobs that limits had no room for are looked at again; doubled while they still have
/// none.
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
    /// Slots of each kind's live servants, and when they were asked for.
    slots: HashMap<String, i64>,
    asked_at: Option<Instant>,
}

/// How a kind's go ended.
#[derive(Debug, Default, Clone, Copy)]
struct Went {
    dispatched: u64,
    /// Jobs wait that limits had no room for.
    is_short: bool,
    /// The window is full; it is worth filling again after so many milliseconds.
    refill_in_ms: Option<u64>,
    /// There was as much to do as one go may do.
    is_full: bool,
}

/// Fills every kind's window.
///
/// # Errors
/// The ledger's.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let mut desk = office.desk.lock().await;
    // Before anything is read: what is said from here on is for the next go.
    let reasons = office.jobs_ready.take();
    tidy_permits(office, leadership, &mut desk).await?;
    if !office.has_queue() {
        return Ok(false);
    }
    let in_line = kinds_in_line(office, &mut desk, &reasons).await?;
    let mut all = Went::default();
    for (kind, definition) in office.catalogue.iter().filter(|(kind, _)| in_line.contains(kind.as_str())) {
        let slots = desk.slots.get(kind.as_str()).copied().unwrap_or(0);
        let ready = reasons.ready_in(kind.as_str());
        let went = dispatch_kind(office, leadership, &mut desk, (kind, definition), (slots, &ready)).await?;
        if went.dispatched > 0 {
            metrics::counter!("servant_jobs_dispatched_total", "kind" => kind.as_str().to_owned())
                .increment(went.dispatched);
        }
        all.dispatched += went.dispatched;
        all.is_short |= went.is_short;
        all.is_full |= went.is_full;
        all.refill_in_ms = all.refill_in_ms.into_iter().chain(went.refill_in_ms).min();
    }
    // What ends frees room, and nobody says so.
    let first_wait_ms = if all.is_short { Some(SHORT_WAIT_MS) } else { all.refill_in_ms };
    let room_in = first_wait_ms.filter(|_| !all.is_full).map(|first_ms| {
        let longer_ms = (desk.short_wait_ms.max(1) * 2).min(office.config.duties.dispatch_ms);
        desk.short_wait_ms = if all.dispatched > 0 { first_ms } else { longer_ms };
        Duration::from_millis(desk.short_wait_ms)
    });
    office.jobs_ready.have_room_in(room_in);
    Ok(all.is_full)
}

/// The kinds of which jobs are ready for all that is known. It is asked, and with it what slots there are, as often as the
/// timer would ask: in between, what has come was told.
async fn kinds_in_line(office: &Office, desk: &mut Desk, reasons: &Reasons) -> anyhow::Result<HashSet<String>> {
    let now = office.store.now();
    let is_sure = |kind: &Kind| desk.lines.get(kind).is_some_and(|(line, _)| line.is_sure(now));
    let (sure, others): (Vec<_>, Vec<_>) =
        office.catalogue.iter().map(|(kind, _)| kind).partition(|kind| is_sure(kind));
    let mut in_line: HashSet<String> = sure.into_iter().map(|kind| kind.as_str().to_owned()).collect();
    let every = Duration::from_millis(office.config.duties.dispatch_ms);
    if reasons.are_none() || desk.asked_at.is_none_or(|at| at.elapsed() >= every) {
        let silence_max = TimeDelta::seconds(SILENCE_SECS_MAX);
        let (capacity, of_others) =
            tokio::try_join!(office.store.capacity(silence_max), office.store.kinds_in_line(&others))?;
        in_line.extend(of_others);
        desk.slots = capacity.into_iter().map(|of_kind| (of_kind.kind, of_kind.slots)).collect();
        desk.asked_at = Some(Instant::now());
    } else {
        in_line.extend(reasons.ready.keys().cloned());
    }
    Ok(in_line)
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
    (slots, ready): (i64, &ReadyIn),
) -> anyhow::Result<Went> {
    let store = &office.store;
    let batch_max = i64::from(office.config.duties.batch_max);
    let dispatching = office.config.duties.dispatching();
    let terms = Terms { catalogue: &office.catalogue, breaker: &office.config.breaker };
    let Desk { lines, tally, .. } = desk;
    let (line, taken) = lines.entry(kind.clone()).or_default();
    let mut went = Went::default();
    let mut left: Option<i64> = None;
    let mut begun = None;
    // What is told flow by flow need not be looked for.
    let mut must_look = !line.hear_of(ready);
    loop {
        let look = async {
            if must_look || line.round.must_look(store.now()) {
                line.look(store, (kind, definition.vendor.as_deref())).await?;
            }
            Ok::<_, StoreError>(())
        };
        let left = match &mut left {
            Some(left) => {
                look.await?;
                left
            }
            None => {
                // There most often is room: all is asked at once. And each to its end, even where another fails: a beginning
                // that is dropped half-way leaves a connection with the lock in the pool.
                let (looked, in_hand, tx) = tokio::join!(look, store.in_hand_of(kind, None), store.begin_dispatch());
                begun = Some(tx?);
                looked?;
                let in_hand = in_hand?;
                taken.look(store.now(), in_hand.queued);
                let window = dispatching.window(slots, in_hand.running, *taken);
                left.insert((window - in_hand.queued).min(batch_max))
            }
        };
        if line.has_all() && line.open_flows().next().is_none() {
            return Ok(went);
        }
        if *left <= 0 {
            went.refill_in_ms = Some(dispatching.refill_in_ms(slots, *taken));
            return Ok(went);
        }
        let mut tx = match begun.take() {
            Some(tx) => tx,
            None => store.begin_dispatch().await?,
        };
        let mut through = line.let_through(store, &mut tx, terms, (kind, definition), tally, *left).await?;
        went.is_short |= through.is_short();
        if !through.is_empty() {
            if !store.queue_in(&mut tx, leadership, kind, &through.jobs(), &through.permit()).await? {
                return Ok(went);
            }
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
            went.refill_in_ms = Some(dispatching.refill_in_ms(slots, *taken));
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
