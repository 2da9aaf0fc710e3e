//! One who lets jobs of a kind through: looks which flows wait, goes round them, and takes those whose turn it is and that
//! have room. The leader does for the queue; without one, servants do for themselves. What becomes of the jobs is the
//! caller's, in the same transaction: sent to the queue (`dispatch`) or claimed (`claim`).

use super::{
    claim::{Granted, Turns},
    claimed::ClaimedJob,
    dispatch::{Upcoming, WaitingFlow},
    gate::{Gate, KnownLimits, ORDINARY, Terms},
    in_flight::{Permit, Tally},
};
use crate::{ReadyIn, Store, StoreError, Tx};
use chrono::{DateTime, Utc};
use domain::{Flow, JobId, Kind, KindDefinition, Next, PermitId, Round, ServantId, Visit};
use foldhash::{HashMap, HashSet};

/// Flows that one look brings at the most, and that one go visits.
const FLOWS_MAX: usize = 1_000;
/// Of a flow that may give no more than so many, one more is looked at.
const FEW: i64 = 4;

/// A kind's flows and the place in their round: what one who lets jobs through keeps between two goes. Nothing of it
/// matters for what is right.
#[derive(Debug, Default)]
pub struct Line {
    /// The place in the round.
    pub round: Round,
    flows: HashMap<Flow, WaitingFlow>,
    /// The last look did not bring all.
    is_cut: bool,
    limits: Option<KnownLimits>,
}

/// The jobs that one go lets through. They are locked until the transaction ends, and still ready.
pub struct LetThrough<'a> {
    gate: Gate<'a>,
    visits: Vec<Visit>,
    jobs: Vec<Upcoming>,
    was_refused: bool,
    is_short: bool,
}

/// What a servant's go brought.
#[derive(Debug)]
pub struct ClaimedInTurn {
    /// The jobs, claimed.
    pub jobs: Vec<ClaimedJob>,
    /// What follows.
    pub next: Next,
    /// Jobs wait that had no room.
    pub is_short: bool,
    /// The permit of those that limits count, if it is known to be of no others.
    pub permit: Option<PermitId>,
}

impl Line {
    /// Takes in where jobs have come since the last go: from then on, flows that are empty for all that was told are not
    /// asked. False where what is known is not enough to go by, and a look is needed.
    #[must_use]
    pub fn hear_of(&mut self, ready: &ReadyIn) -> bool {
        let are_known = self.round.hear_of(ready.flows.iter().copied());
        are_known && !ready.is_anywhere && ready.flows.iter().all(|flow| self.flows.contains_key(flow))
    }

    /// Sees which flows of the kind there are, and whether anything holds them. `kind` with whom it calls.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn look(&mut self, store: &Store, kind: (&Kind, Option<&str>)) -> Result<(), StoreError> {
        let asked_at = store.now();
        let flows_max = i64::try_from(FLOWS_MAX).unwrap_or(i64::MAX);
        let flows = store.waiting_flows(kind, self.round.last(), &self.round.sure(asked_at), flows_max).await?;
        let cut_at = flows.last().filter(|_| flows.len() >= FLOWS_MAX).map(|flow| flow.flow);
        self.is_cut = cut_at.is_some();
        self.round.looked(flows.iter().map(|flow| (flow.flow, flow.weight)), cut_at, asked_at, store.now());
        // Where something came a moment ago, the next thing may come.
        self.flows.retain(|flow, _| self.round.knows(*flow));
        self.flows.extend(flows.into_iter().map(|flow| (flow.flow, flow)));
        Ok(())
    }

    /// The flows that were seen and that nothing holds.
    pub fn open_flows(&self) -> impl Iterator<Item = &WaitingFlow> {
        self.flows.values().filter(|flow| !flow.is_held)
    }

    /// Whether jobs come and go, or wait, for all that is known: nobody need ask.
    #[must_use]
    pub fn is_sure(&self, now: DateTime<Utc>) -> bool {
        !self.round.sure(now).is_empty()
    }

    /// Whether the last look brought all the flows that there are.
    #[must_use]
    pub const fn has_all(&self) -> bool {
        !self.is_cut
    }

    /// Up to `limit` jobs whose turn it is and that have room. `tx` is one of [`Store::begin_dispatch`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn let_through<'a>(
        &mut self,
        store: &Store,
        tx: &mut Tx,
        terms: Terms<'a>,
        of: (&'a Kind, &'a KindDefinition),
        tally: &mut Tally,
        limit: i64,
    ) -> Result<LetThrough<'a>, StoreError> {
        let asked = self.ask(store, tx, terms, of, tally, limit).await?;
        self.admit(store, tx, asked, of.0, limit).await
    }

    /// What has room: the visits of a go of at most `limit` jobs, and the flows that have room for urgent jobs alone.
    async fn ask<'a>(
        &mut self,
        store: &Store,
        tx: &mut Tx,
        terms: Terms<'a>,
        of: (&'a Kind, &'a KindDefinition),
        tally: &mut Tally,
        limit: i64,
    ) -> Result<(Gate<'a>, Vec<Visit>, Vec<Flow>), StoreError> {
        let mut gate = Gate::open(store, tx, terms, of, self.flows.values(), (tally, &mut self.limits)).await?;
        let (mut visits, mut urgent_only) = self.visits(&mut gate, limit);
        if gate.has_refused() && tally.may_be_less() {
            tally.count(tx, tally.to_permit().unwrap_or(0)).await?;
            gate.reckon(tally, store);
            (visits, urgent_only) = self.visits(&mut gate, limit);
        }
        Ok((gate, visits, urgent_only))
    }

    /// Lets jobs through one by one.
    async fn admit<'a>(
        &self,
        store: &Store,
        tx: &mut Tx,
        (gate, visits, urgent_only): (Gate<'a>, Vec<Visit>, Vec<Flow>),
        kind: &Kind,
        limit: i64,
    ) -> Result<LetThrough<'a>, StoreError> {
        let mut through =
            LetThrough { is_short: gate.has_refused(), gate, visits, jobs: Vec::new(), was_refused: false };
        if through.visits.is_empty() && urgent_only.is_empty() {
            return Ok(through);
        }
        let urgent_max = self.round.urgent_max(limit);
        let asked: Vec<Visit> = through.visits.iter().map(with_one_more).collect();
        let most = limit.saturating_add(i64::try_from(asked.len()).unwrap_or(i64::MAX));
        let seen = store.upcoming_in(tx, kind, &asked, &urgent_only, urgent_max, most).await?;
        let upcoming = within_quanta(&mut through.visits, seen, limit);
        let count = upcoming.len();
        through.jobs = upcoming.into_iter().filter(|job| through.gate.admit(job)).collect();
        through.was_refused = through.jobs.len() < count;
        through.is_short = through.gate.has_refused();
        Ok(through)
    }

    /// One go without a queue: `servant` claims up to `limit` jobs whose turn it is and that have room.
    ///
    /// # Errors
    /// [`StoreError`]; when the answer was lost, the lease of what was claimed runs out and the jobs run again.
    pub async fn claim<'a>(
        &mut self,
        store: &Store,
        (terms, tally): (Terms<'a>, &mut Tally),
        of: (&'a Kind, &'a KindDefinition),
        (servant, until): (ServantId, DateTime<Utc>),
        limit: i64,
    ) -> Result<ClaimedInTurn, StoreError> {
        if let Some(claimed) = self.claim_at_once(store, (terms, tally), of, (servant, until), limit).await? {
            return Ok(claimed);
        }
        let mut tx = store.begin_dispatch().await?;
        let (kind, definition) = of;
        let (mut gate, mut visits, urgent_only) = self.ask(store, &mut tx, terms, of, tally, limit).await?;
        if !urgent_only.is_empty() || gate.has_urgent() {
            return self.claim_one_by_one(store, (tx, gate, visits, urgent_only), kind, (servant, until), limit).await;
        }
        let is_cut = gate.grant(&mut visits, limit);
        let granted = Granted { visits: &visits, counted: counted(&gate, &visits), as_known: None };
        let kind = (kind, definition.vendor.as_deref());
        let turns = store.claim_granted(&mut tx.inner, servant, kind, granted, limit, until).await?;
        for taken in &turns.taken {
            // It has room: no more was granted.
            gate.admit(&Upcoming { taken: *taken, priority: ORDINARY });
        }
        gate.close(store, &mut tx).await?;
        tx.commit().await?;
        Ok(self.note_claimed(&gate, (&visits, is_cut), turns, tally, limit))
    }

    /// The same in one statement, by what is known from the goes before: the statement takes the lock and lets nothing
    /// through if anything has changed since. None: nothing was claimed, and what there is has to be asked.
    async fn claim_at_once<'a>(
        &mut self,
        store: &Store,
        (terms, tally): (Terms<'a>, &mut Tally),
        of: (&'a Kind, &'a KindDefinition),
        (servant, until): (ServantId, DateTime<Utc>),
        limit: i64,
    ) -> Result<Option<ClaimedInTurn>, StoreError> {
        let (Some(known), Some(to_permit)) = (&self.limits, tally.to_permit()) else { return Ok(None) };
        let as_known = Some((to_permit, known.stamp));
        let Some(mut gate) = Gate::by_what_is_known(store, terms, of, self.flows.values(), (tally, known)) else {
            return Ok(None);
        };
        let (mut visits, urgent_only) = self.visits(&mut gate, limit);
        let has_less_than_may_be = gate.has_refused() && tally.may_be_less();
        if visits.is_empty() || !urgent_only.is_empty() || has_less_than_may_be {
            return Ok(None);
        }
        let is_cut = gate.grant(&mut visits, limit);
        let granted = Granted { visits: &visits, counted: counted(&gate, &visits), as_known };
        let mut conn = store.pool.acquire().await?;
        let kind = (of.0, of.1.vendor.as_deref());
        let turns = store.claim_granted(&mut conn, servant, kind, granted, limit, until).await?;
        let has_claimed = !turns.jobs.is_empty();
        Ok(has_claimed.then(|| self.note_claimed(&gate, (&visits, is_cut), turns, tally, limit)))
    }

    /// Notes what was claimed, once it is committed, and says what follows.
    fn note_claimed(
        &mut self,
        gate: &Gate<'_>,
        (visits, is_cut): (&[Visit], bool),
        Turns { jobs, taken, permit }: Turns,
        tally: &mut Tally,
        limit: i64,
    ) -> ClaimedInTurn {
        if let Some(permit) = permit {
            let (counted, others): (HashSet<Flow>, HashSet<Flow>) =
                visits.iter().map(|visit| visit.flow).partition(|flow| gate.counts(*flow));
            tally.took(permit, jobs.iter().filter(|job| others.is_empty() || counted.contains(&job.flow())));
        }
        // Where flows share the room that ran out, the next go begins where it did: each keeps its share of that.
        let granted: i64 = visits.iter().map(|visit| visit.quantum).sum();
        let count = i64::try_from(taken.len()).unwrap_or(i64::MAX);
        let limit = if is_cut && count == granted { count } else { limit };
        ClaimedInTurn { jobs, next: self.round.note(visits, &taken, limit), is_short: gate.has_refused(), permit }
    }

    /// The same where urgent jobs wait: what has room for one may have none for another of its flow.
    async fn claim_one_by_one(
        &mut self,
        store: &Store,
        (mut tx, gate, visits, urgent_only): (Tx, Gate<'_>, Vec<Visit>, Vec<Flow>),
        kind: &Kind,
        (servant, until): (ServantId, DateTime<Utc>),
        limit: i64,
    ) -> Result<ClaimedInTurn, StoreError> {
        let mut through = self.admit(store, &mut tx, (gate, visits, urgent_only), kind, limit).await?;
        let mut jobs = Vec::new();
        if !through.is_empty() {
            let taken = (&through.jobs()[..], &through.permit());
            jobs = store.claim_in(&mut tx, servant, kind, taken, until).await?;
            through.close(store, &mut tx).await?;
        }
        tx.commit().await?;
        Ok(ClaimedInTurn { jobs, next: self.note(&through, limit), is_short: through.is_short(), permit: None })
    }

    /// Notes a go of at most `limit` jobs, once it is committed, and says what follows.
    pub fn note(&mut self, through: &LetThrough<'_>, limit: i64) -> Next {
        let taken: Vec<_> = through.jobs.iter().map(|job| job.taken).collect();
        // Where flows share the room that ran out, the next go begins where it did: each keeps its share of that.
        let limit = if through.was_refused { i64::try_from(taken.len()).unwrap_or(i64::MAX) } else { limit };
        let next = self.round.note(&through.visits, &taken, limit);
        if through.was_refused {
            self.round.refused(through.visits.iter().map(|visit| visit.flow));
        }
        next
    }

    /// The visits of the next go, and the flows that have room for urgent jobs alone.
    fn visits(&self, gate: &mut Gate<'_>, limit: i64) -> (Vec<Visit>, Vec<Flow>) {
        let mut room = HashMap::default();
        let mut urgent_only = Vec::new();
        for flow in self.open_flows().filter(|flow| !self.round.is_empty(flow.flow)) {
            let ordinary = gate.room(flow);
            if ordinary > 0 {
                room.insert(flow.flow, ordinary);
            } else if gate.has_urgent_room(flow) && urgent_only.len() < FLOWS_MAX {
                urgent_only.push(flow.flow);
            }
        }
        let in_all = room.values().fold(0, |sum: i64, room| sum.saturating_add(*room));
        let limit = limit.min(in_all);
        (self.round.visits(limit, FLOWS_MAX, |flow| room.get(&flow).copied().unwrap_or(0)), urgent_only)
    }
}

/// The visit with a quantum of one more, where that is small: who gives all of it and has no more has no backlog.
fn with_one_more(visit: &Visit) -> Visit {
    Visit { quantum: visit.quantum + i64::from(visit.quantum <= FEW), ..*visit }
}

/// Of what was seen with one more for each visit, what the visits may give, `limit` jobs at the most. A visit that had
/// not the one more keeps its larger quantum: its flow does not count as one with a backlog, among which the next go is
/// divided.
fn within_quanta(visits: &mut [Visit], seen: Vec<Upcoming>, limit: i64) -> Vec<Upcoming> {
    let quanta: HashMap<Flow, i64> = visits.iter().map(|visit| (visit.flow, visit.quantum)).collect();
    let mut counts: HashMap<Flow, i64> = HashMap::default();
    let mut is_within = |job: &Upcoming| {
        if job.taken.is_urgent {
            return true;
        }
        let count = counts.entry(job.taken.flow).or_default();
        *count += 1;
        quanta.get(&job.taken.flow).is_some_and(|quantum| *count <= *quantum)
    };
    let mut jobs: Vec<Upcoming> = seen.into_iter().filter(|job| is_within(job)).collect();
    jobs.truncate(usize::try_from(limit).unwrap_or(0));
    for visit in visits {
        if counts.get(&visit.flow) == Some(&visit.quantum) {
            *visit = with_one_more(visit);
        }
    }
    jobs
}

/// Of which visits limits count the jobs.
fn counted(gate: &Gate<'_>, visits: &[Visit]) -> Vec<bool> {
    visits.iter().map(|visit| gate.counts(visit.flow)).collect()
}

impl LetThrough<'_> {
    /// The jobs.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobId> {
        self.jobs.iter().map(|job| job.taken.place.id).collect()
    }

    /// How many they are.
    #[must_use]
    pub fn len(&self) -> i64 {
        i64::try_from(self.jobs.len()).unwrap_or(i64::MAX)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether nothing was even tried: no flow has room, or none waits.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.visits.is_empty() && self.jobs.is_empty()
    }

    /// Whether jobs that wait had no room.
    #[must_use]
    pub const fn is_short(&self) -> bool {
        self.is_short
    }

    /// Whether jobs whose turn it was were refused one by one.
    #[must_use]
    pub const fn was_refused(&self) -> bool {
        self.was_refused
    }

    /// What of them limits count, for the statement that takes them further.
    #[must_use]
    pub fn permit(&self) -> Permit {
        Permit::of(self.jobs.iter().filter(|job| self.gate.counts(job.taken.flow)))
    }

    /// Writes back what they take of limits, budgets and breakers, in their transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn close(&mut self, store: &Store, tx: &mut Tx) -> Result<(), StoreError> {
        self.gate.close(store, tx).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{AccountId, Place, Taken};

    fn flow(account: i64) -> Flow {
        Flow { account: AccountId(account), connection: None }
    }

    fn job(account: i64, id: i64, is_urgent: bool) -> Upcoming {
        let place = Place { turn: 1.0, id: JobId(id) };
        Upcoming { taken: Taken { flow: flow(account), place, is_urgent }, priority: ORDINARY }
    }

    #[test]
    fn who_has_no_more_than_it_may_give_counts_as_without_a_backlog() {
        let visit = |account, quantum| Visit { flow: flow(account), quantum, left: quantum, after: None };
        let mut visits = vec![visit(1, 1), visit(2, 1), visit(3, 1), visit(4, 5)];
        let asked: Vec<i64> = visits.iter().map(|visit| with_one_more(visit).quantum).collect();
        assert_eq!(asked, [2, 2, 2, 5]);
        // The first has one job and an urgent one, the second two, the third none, the fourth more than may go.
        let seen =
            [(1, 1, true), (1, 2, false), (2, 3, false), (2, 4, false)].map(|(of, id, urgent)| job(of, id, urgent));
        let seen = seen.into_iter().chain((5..10).map(|id| job(4, id, false))).collect();
        let jobs = within_quanta(&mut visits, seen, 6);
        assert_eq!(jobs.iter().map(|job| job.taken.place.id.0).collect::<Vec<_>>(), [1, 2, 3, 5, 6, 7]);
        assert_eq!(visits.iter().map(|visit| visit.quantum).collect::<Vec<_>>(), [2, 1, 1, 5]);
    }
}
