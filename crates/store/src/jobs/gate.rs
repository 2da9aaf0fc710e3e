//! What one go of letting jobs through decides by: the room under limits and budgets and in breakers, read in the go's
//! transaction, and written back with it. Does not decide whose turn it is.

use super::{
    dispatch::{Upcoming, WaitingFlow},
    in_flight::{LimitsStamp, Outset, Tally, adopt_in_flight},
};
use crate::{BreakerRow, Concerned, Store, StoreError, Tx};
use domain::{
    BreakerSettings, Candidate, Catalogue, ConnectionId, Flow, InFlight, Kind, KindDefinition, Limits, Room, Rooms,
    RoomsFacts, Visit,
};
use foldhash::HashMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Priority of jobs that are in no hurry.
pub(super) const ORDINARY: i16 = 2;

/// What it takes to know what has room, besides the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The kinds of work.
    pub catalogue: &'a Catalogue,
    /// How services break and recover.
    pub breaker: &'a BreakerSettings,
}

/// The room there is for jobs of one kind.
pub(super) struct Gate<'a> {
    kind: &'a Kind,
    definition: &'a KindDefinition,
    terms: Terms<'a>,
    /// Everything but what is in flight.
    facts: RoomsFacts,
    rows: BTreeMap<String, BreakerRow>,
    rooms: Rooms,
    breakers: BTreeMap<String, Service>,
    /// Vendor and service of each flow.
    flows: HashMap<Flow, (Option<String>, Option<String>)>,
    /// Jobs that may be in flight of connections that were let go a moment ago, and how many of those are.
    released: HashMap<ConnectionId, (u32, u64)>,
    reserved: BTreeMap<ConnectionId, u64>,
    has_urgent: bool,
    has_refused: bool,
}

/// The limits that count for the flows of a line, as they were read once.
#[derive(Debug)]
pub(super) struct KnownLimits {
    /// [`Outset::limits`] of that time.
    pub(super) stamp: LimitsStamp,
    /// Whose limits they are.
    concerned: Concerned,
    limits: Arc<Limits>,
}

/// A service's breaker and what it has room for.
struct Service {
    row: BreakerRow,
    /// Jobs that may still go; none: as many as there are.
    room: Option<u32>,
    has_taken: bool,
}

impl<'a> Gate<'a> {
    /// Reads what there is to know of `flows`, which wait for work of `kind`.
    pub(super) async fn open(
        store: &Store,
        tx: &mut Tx,
        terms: Terms<'a>,
        (kind, definition): (&'a Kind, &'a KindDefinition),
        flows: impl Iterator<Item = &WaitingFlow> + Clone,
        (tally, known): (&mut Tally, &mut Option<KnownLimits>),
    ) -> Result<Self, StoreError> {
        let concerned = concerned((kind, definition), flows.clone());
        let services: BTreeSet<_> = flows.clone().filter_map(|flow| flow.service.clone()).collect();
        let mut outset = Outset::of(tx, kind).await?;
        let limits = match known {
            Some(known) if known.stamp == outset.limits && known.concerned == concerned => known.limits.clone(),
            _ => {
                let limits = Arc::new(store.limits_of(tx, &concerned).await?);
                let concerned = concerned.clone();
                *known = Some(KnownLimits { stamp: outset.limits, concerned, limits: limits.clone() });
                // They may be newer than what was seen.
                outset = Outset::of(tx, kind).await?;
                limits
            }
        };
        let facts = store.rooms_facts_under(tx, &concerned, limits).await?;
        let names: Vec<String> = services.into_iter().collect();
        let rows = if names.is_empty() { BTreeMap::new() } else { store.lock_breakers(tx, &names).await? };
        let mut gate = Self::empty(store, terms, (kind, definition), flows, facts, rows);
        gate.has_urgent = outset.has_urgent;
        if gate.flows.keys().any(|flow| gate.counts(*flow)) {
            adopt_in_flight(tx, &mut outset, store.now()).await?;
            tally.follow(tx, &outset).await?;
        }
        gate.reckon(tally, store);
        Ok(gate)
    }

    /// The same by what is known, without asking: where no limit has a gauge and nothing that waits a connection, what is
    /// in flight is all there is to know. Whether it still holds, who goes by it has to see to.
    pub(super) fn by_what_is_known<'b>(
        store: &Store,
        terms: Terms<'a>,
        (kind, definition): (&'a Kind, &'a KindDefinition),
        flows: impl Iterator<Item = &'b WaitingFlow> + Clone,
        (tally, known): (&Tally, &KnownLimits),
    ) -> Option<Self> {
        let concerned = concerned((kind, definition), flows.clone());
        let is_all = concerned.connections.is_empty() && !known.limits.have_gauges() && known.concerned == concerned;
        if !is_all {
            return None;
        }
        let limits = known.limits.clone();
        let facts = RoomsFacts { now: store.now(), limits, ..RoomsFacts::default() };
        let mut gate = Self::empty(store, terms, (kind, definition), flows, facts, BTreeMap::new());
        gate.reckon(tally, store);
        Some(gate)
    }

    /// One that has no room yet: that is to be reckoned.
    fn empty<'b>(
        store: &Store,
        terms: Terms<'a>,
        (kind, definition): (&'a Kind, &'a KindDefinition),
        flows: impl Iterator<Item = &'b WaitingFlow> + Clone,
        facts: RoomsFacts,
        rows: BTreeMap<String, BreakerRow>,
    ) -> Self {
        let of_flow = |flow: &WaitingFlow| {
            let vendor = flow.vendor.clone().or_else(|| definition.vendor.clone());
            (flow.flow, (vendor, flow.service.clone()))
        };
        Self {
            kind,
            definition,
            terms,
            rooms: Rooms::default(),
            facts,
            rows,
            breakers: BTreeMap::new(),
            released: flows.clone().filter_map(|flow| released(flow, terms.breaker, store)).collect(),
            flows: flows.map(of_flow).collect(),
            reserved: BTreeMap::new(),
            has_urgent: false,
            has_refused: false,
        }
    }

    /// Works out the room anew, by what `tally` says is in flight.
    pub(super) fn reckon(&mut self, tally: &Tally, store: &Store) {
        let mut of_services: BTreeMap<String, u32> = BTreeMap::new();
        let mut facts = self.facts.clone();
        self.reserved.clear();
        self.released.values_mut().for_each(|(_, in_flight)| *in_flight = 0);
        for (kind, flow, jobs) in tally.in_flight() {
            let its = self.terms.catalogue.get(kind);
            let jobs = jobs.unsigned_abs();
            let calls = jobs * u64::from(its.map_or(1, |its| its.calls_estimate));
            let (vendor, service) = tally.of_connection(flow).cloned().unwrap_or_default();
            let vendor = vendor.or_else(|| its.and_then(|its| its.vendor.clone()));
            if let Some(service) = service {
                *of_services.entry(service).or_default() += u32::try_from(jobs).unwrap_or(u32::MAX);
            }
            if let Some(connection) = flow.connection {
                self.released.entry(connection).and_modify(|(_, in_flight)| *in_flight += jobs);
                *self.reserved.entry(connection).or_default() += calls;
            }
            let Flow { account, connection } = flow;
            facts.in_flight.push(InFlight { kind: kind.clone(), account, connection, vendor, jobs, calls });
        }
        self.rooms = Rooms::new(facts);
        let service = |(name, row): (&String, &BreakerRow)| {
            let in_flight = of_services.get(name).copied().unwrap_or(0);
            (name.clone(), Service::of(row.clone(), self.terms.breaker, in_flight, store))
        };
        self.breakers = self.rows.iter().map(service).collect();
        self.has_refused = false;
    }

    /// Whether what is in flight of a flow is counted: a limit covers it, or its vendor may set one.
    pub(super) fn counts(&self, flow: Flow) -> bool {
        is_counted(&self.facts.limits, self.kind, self.definition, flow)
    }

    /// Jobs of ordinary priority that a flow may give.
    pub(super) fn room(&mut self, flow: &WaitingFlow) -> i64 {
        let room = self.places(flow.flow, ORDINARY);
        self.has_refused |= room == 0;
        room
    }

    /// Whether a flow may give an urgent job.
    pub(super) fn has_urgent_room(&mut self, flow: &WaitingFlow) -> bool {
        self.places(flow.flow, domain::URGENT) > 0
    }

    fn places(&mut self, flow: Flow, priority: i16) -> i64 {
        let at_most = self.beside_limits(flow, priority);
        let vendor = self.flows.get(&flow).and_then(|(vendor, _)| vendor.as_deref());
        let candidate = candidate(self.kind, self.definition, flow, vendor, priority);
        i64::try_from(self.rooms.places(&candidate).min(at_most)).unwrap_or(i64::MAX)
    }

    /// Jobs of a flow for which its service's breaker and its connection's release have room.
    fn beside_limits(&self, flow: Flow, priority: i16) -> u64 {
        let service = self.flows.get(&flow).and_then(|(_, service)| self.breakers.get(service.as_deref()?));
        let of_service = service.and_then(|service| service.room).map_or(u64::MAX, u64::from);
        let released = flow.connection.and_then(|id| self.released.get(&id)).filter(|_| priority != domain::URGENT);
        let of_release = released.map_or(u64::MAX, |(room, in_flight)| u64::from(*room).saturating_sub(*in_flight));
        of_service.min(of_release)
    }

    /// Cuts the visits down to what has room for all of them together, `limit` jobs at the most; nothing is taken yet.
    /// True when that is less than was asked for.
    pub(super) fn grant(&mut self, visits: &mut Vec<Visit>, limit: i64) -> bool {
        let rooms = self.rooms.clone();
        let services: Vec<_> = self.breakers.iter().map(|(name, service)| (name.clone(), service.room)).collect();
        let (reserved, released) = (self.reserved.clone(), self.released.clone());
        let (mut left, mut is_cut) = (limit, false);
        for visit in &mut *visits {
            let wanted = visit.quantum.min(left);
            visit.quantum = self.admit_up_to(visit.flow, ORDINARY, wanted);
            is_cut |= visit.quantum < wanted;
            left -= visit.quantum;
        }
        visits.retain(|visit| visit.quantum > 0);
        (self.rooms, self.reserved, self.released) = (rooms, reserved, released);
        for (name, room) in services {
            if let Some(service) = self.breakers.get_mut(&name) {
                (service.room, service.has_taken) = (room, false);
            }
        }
        is_cut
    }

    /// Takes room for a job; false when there is none.
    pub(super) fn admit(&mut self, job: &Upcoming) -> bool {
        self.admit_up_to(job.taken.flow, job.priority, 1) == 1
    }

    /// Takes room for up to `wanted` jobs of a flow; answers with how many have it.
    fn admit_up_to(&mut self, flow: Flow, priority: i16, wanted: i64) -> i64 {
        let wanted = wanted.unsigned_abs();
        let at_most = self.beside_limits(flow, priority);
        let (vendor, service) = self.flows.get(&flow).map_or((None, None), |(v, s)| (v.as_deref(), s.as_deref()));
        let candidate = candidate(self.kind, self.definition, flow, vendor, priority);
        let (admitted, _) = self.rooms.admit_up_to(&candidate, wanted.min(at_most));
        self.has_refused |= admitted < wanted;
        if admitted == 0 {
            return 0;
        }
        if let Some((_, in_flight)) = flow.connection.and_then(|id| self.released.get_mut(&id)) {
            *in_flight += admitted;
        }
        if let Some(service) = service.and_then(|name| self.breakers.get_mut(name)) {
            service.room = service.room.map(|room| room.saturating_sub(u32::try_from(admitted).unwrap_or(u32::MAX)));
            service.has_taken = true;
        }
        if let Some(connection) = flow.connection {
            *self.reserved.entry(connection).or_default() += admitted * u64::from(self.definition.calls_estimate);
        }
        i64::try_from(admitted).unwrap_or(i64::MAX)
    }

    /// Whether urgent jobs of the kind are ready.
    pub(super) const fn has_urgent(&self) -> bool {
        self.has_urgent
    }

    /// Whether something that waits had no room.
    pub(super) const fn has_refused(&self) -> bool {
        self.has_refused
    }

    /// Writes back what was taken.
    pub(super) async fn close(&mut self, store: &Store, tx: &mut Tx) -> Result<(), StoreError> {
        store.save_limit_states_in(tx, &self.rooms.changed()).await?;
        for service in self.breakers.values_mut().filter(|service| service.has_taken && service.room.is_some()) {
            store.note_probe(tx, &mut service.row).await?;
        }
        if !self.reserved.is_empty() {
            let reserved: Vec<_> = self.reserved.iter().map(|(connection, calls)| (*connection, *calls)).collect();
            store.note_reserved_in(tx, &reserved).await?;
        }
        Ok(())
    }
}

impl Service {
    fn of(row: BreakerRow, settings: &BreakerSettings, in_flight: u32, store: &Store) -> Self {
        let room = match row.breaker.room(settings, in_flight, store.now()) {
            Room::Unlimited => None,
            Room::AtMost(jobs) => Some(jobs),
            Room::Blocked { .. } => Some(0),
        };
        Self { row, room, has_taken: false }
    }
}

/// Whose jobs wait in these flows.
fn concerned<'a>(
    (kind, definition): (&Kind, &KindDefinition),
    flows: impl Iterator<Item = &'a WaitingFlow> + Clone,
) -> Concerned {
    let connections: BTreeSet<_> = flows.clone().filter_map(|flow| flow.flow.connection).collect();
    let accounts: BTreeSet<_> = flows.map(|flow| flow.flow.account).collect();
    Concerned {
        kinds: vec![kind.clone()],
        accounts: accounts.into_iter().collect(),
        connections: connections.into_iter().collect(),
        vendors: definition.vendor.iter().cloned().collect(),
    }
}

/// What may be in flight of a flow's connection, where it was let go a moment ago.
fn released(flow: &WaitingFlow, settings: &BreakerSettings, store: &Store) -> Option<(ConnectionId, (u32, u64))> {
    let connection = flow.flow.connection?;
    let room = flow.release?.room(connection, settings.release_secs, store.now())?;
    Some((connection, (room.jobs, 0)))
}

/// Jobs with a connection always are: its vendor may speak of a quota, its service may break.
fn is_counted(limits: &Limits, kind: &Kind, definition: &KindDefinition, flow: Flow) -> bool {
    flow.connection.is_some() || limits.cover(kind, flow.account, definition.vendor.as_deref())
}

fn candidate<'a>(
    kind: &'a Kind,
    definition: &KindDefinition,
    flow: Flow,
    vendor: Option<&'a str>,
    priority: i16,
) -> Candidate<'a> {
    let Flow { account, connection } = flow;
    Candidate { kind, account, connection, vendor, priority, calls: definition.calls_estimate }
}
