//! All the room there is at one moment, under every limit and budget, and who gets it: a job takes room under all that
//! cover it, or under none. Built from what the ledger says, used for one dispatch, and written back.

use super::{
    BudgetSettings, Limits, URGENT,
    budget::{Pace, Spending, VendorBudget, Verdict},
    refusal::Refusal,
    room::Room,
    scope::Subject,
    state::{Gauge, LimitState},
};
use crate::{AccountId, ConnectionId, Kind};
use chrono::{DateTime, Utc};
use foldhash::HashMap;
use std::{hash::Hash, sync::Arc};

/// What the ledger says; facts on subjects that no candidate has are harmless.
#[derive(Debug, Clone, Default)]
pub struct RoomsFacts {
    /// The ledger's time.
    pub now: DateTime<Utc>,
    /// The limits in force.
    pub limits: Arc<Limits>,
    /// Jobs queued or running.
    pub in_flight: Vec<InFlight>,
    /// What was remembered.
    pub states: Vec<LimitState>,
    /// The vendor of each connection concerned.
    pub vendors: Vec<(ConnectionId, String)>,
    /// What vendors said.
    pub budgets: Vec<BudgetFacts>,
}

/// Jobs queued or running, by what limits count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlight {
    /// Their kind.
    pub kind: Kind,
    /// Their account.
    pub account: AccountId,
    /// Their connection.
    pub connection: Option<ConnectionId>,
    /// The vendor that they call.
    pub vendor: Option<String>,
    /// How many.
    pub jobs: u64,
    /// Calls that they are expected to make, all together.
    pub calls: u64,
}

/// The budget of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetFacts {
    /// The connection.
    pub connection: ConnectionId,
    /// What the vendor said last.
    pub budget: VendorBudget,
    /// Our share of it.
    pub settings: BudgetSettings,
}

/// A job that asks for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its kind.
    pub kind: &'a Kind,
    /// Its account.
    pub account: AccountId,
    /// Its connection.
    pub connection: Option<ConnectionId>,
    /// The vendor that it calls.
    pub vendor: Option<&'a str>,
    /// Its priority; 0 is urgent.
    pub priority: i16,
    /// Calls that it is expected to make.
    pub calls: u32,
}

/// Subjects that have no room left, so that their jobs need not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocked {
    /// Kinds.
    pub kinds: Vec<Kind>,
    /// Accounts.
    pub accounts: Vec<AccountId>,
    /// Connections: by a limit or by their budget.
    pub connections: Vec<ConnectionId>,
    /// Vendors.
    pub vendors: Vec<String>,
}

/// The room there is.
#[derive(Debug, Clone, Default)]
pub struct Rooms {
    now: DateTime<Utc>,
    limits: Arc<Limits>,
    kinds: HashMap<Kind, Room>,
    accounts: HashMap<AccountId, Room>,
    connections: HashMap<ConnectionId, Room>,
    vendors: HashMap<String, Room>,
    vendor_of: HashMap<ConnectionId, String>,
    budgets: HashMap<ConnectionId, (Spending, bool)>,
}

impl Rooms {
    /// Counts up what there is.
    #[must_use]
    pub fn new(facts: RoomsFacts) -> Self {
        let mut reserved: HashMap<ConnectionId, u64> = HashMap::default();
        let mut rooms = Self {
            now: facts.now,
            limits: facts.limits,
            kinds: HashMap::default(),
            accounts: HashMap::default(),
            connections: HashMap::default(),
            vendors: HashMap::default(),
            vendor_of: facts.vendors.into_iter().collect(),
            budgets: HashMap::default(),
        };
        for flight in facts.in_flight {
            count(&mut rooms.kinds, flight.kind, flight.jobs);
            count(&mut rooms.accounts, flight.account, flight.jobs);
            if let Some(connection) = flight.connection {
                count(&mut rooms.connections, connection, flight.jobs);
                *reserved.entry(connection).or_default() += flight.calls;
            }
            if let Some(vendor) = flight.vendor {
                if let Some(connection) = flight.connection {
                    rooms.vendor_of.entry(connection).or_insert_with(|| vendor.clone());
                }
                count(&mut rooms.vendors, vendor, flight.jobs);
            }
        }
        for BudgetFacts { connection, budget, settings } in facts.budgets {
            let reserved = reserved.get(&connection).copied().unwrap_or(0);
            rooms.budgets.insert(connection, (Spending { budget, settings, reserved, pace: None }, false));
        }
        for LimitState { subject, gauge } in facts.states {
            rooms.remember(subject, gauge);
        }
        rooms.govern();
        rooms
    }

    fn remember(&mut self, subject: Subject, gauge: Gauge) {
        match (subject, gauge) {
            (Subject::Connection(id), Gauge::Pace(pace)) => {
                if let Some((spending, _)) = self.budgets.get_mut(&id) {
                    spending.pace = Some(pace);
                }
            }
            (Subject::Kind(kind), gauge) => self.kinds.entry(kind).or_default().remember(gauge),
            (Subject::Account(id), gauge) => self.accounts.entry(id).or_default().remember(gauge),
            (Subject::Connection(id), gauge) => self.connections.entry(id).or_default().remember(gauge),
            (Subject::Vendor(name), gauge) => self.vendors.entry(name).or_default().remember(gauge),
        }
    }

    /// Tells every room its limit.
    fn govern(&mut self) {
        for (kind, room) in &mut self.kinds {
            room.limit = self.limits.of_kind(kind);
        }
        for (id, room) in &mut self.accounts {
            room.limit = self.limits.of_account(*id);
        }
        for (id, room) in &mut self.connections {
            room.limit = self.limits.of_connection(*id, self.vendor_of.get(id).map(String::as_str));
        }
        for (name, room) in &mut self.vendors {
            room.limit = self.limits.of_vendor(name);
        }
    }

    /// Makes rooms for subjects that nothing was known of: no job of theirs is in flight, nothing of theirs was used.
    fn meet(&mut self, candidate: &Candidate<'_>) {
        let Candidate { kind, account, connection, vendor, .. } = *candidate;
        let unused = Room::unused;
        if !self.kinds.contains_key(kind) {
            self.kinds.insert(kind.clone(), unused(self.limits.of_kind(kind)));
        }
        self.accounts.entry(account).or_insert_with(|| unused(self.limits.of_account(account)));
        if let Some(id) = connection {
            self.connections.entry(id).or_insert_with(|| unused(self.limits.of_connection(id, vendor)));
        }
        if let Some(name) = vendor.filter(|name| !self.vendors.contains_key(*name)) {
            self.vendors.insert(name.to_owned(), unused(self.limits.of_vendor(name)));
        }
    }

    /// Takes room for a job under everything that covers it, or nothing at all.
    ///
    /// # Errors
    /// The first limit or budget that has none.
    pub fn admit(&mut self, candidate: &Candidate<'_>) -> Result<(), Refusal> {
        self.admit_up_to(candidate, 1).1.map_or(Ok(()), Err)
    }

    /// The same for up to `wanted` jobs like this one: how many have room, and why the next one has none.
    pub fn admit_up_to(&mut self, candidate: &Candidate<'_>, wanted: u64) -> (u64, Option<Refusal>) {
        self.meet(candidate);
        let now = self.now;
        let Candidate { kind, account, connection, vendor, .. } = *candidate;
        let mut rooms = [
            self.kinds.get_mut(kind),
            self.accounts.get_mut(&account),
            connection.and_then(|id| self.connections.get_mut(&id)),
            vendor.and_then(|name| self.vendors.get_mut(name)),
        ];
        let mut budget = connection.and_then(|id| Some((id, self.budgets.get_mut(&id)?)));
        for admitted in 0..wanted {
            if let Err(refusal) = admit_one(&mut rooms, &mut budget, candidate, now) {
                return (admitted, Some(refusal));
            }
        }
        (wanted, None)
    }

    /// How many jobs like this one have room now; nothing is taken.
    #[must_use]
    pub fn places(&mut self, candidate: &Candidate<'_>) -> u64 {
        self.meet(candidate);
        let (now, is_urgent) = (self.now, candidate.priority <= URGENT);
        let rooms = [
            self.kinds.get(candidate.kind),
            self.accounts.get(&candidate.account),
            candidate.connection.and_then(|id| self.connections.get(&id)),
            candidate.vendor.and_then(|name| self.vendors.get(name)),
        ];
        let budget = candidate.connection.and_then(|id| self.budgets.get(&id));
        let of_budget = budget.map(|(spending, _)| spending.places(u64::from(candidate.calls), is_urgent, now));
        let of_limits = rooms.into_iter().flatten().map(|room| room.places(is_urgent, now));
        of_limits.chain(of_budget).min().unwrap_or(u64::MAX)
    }

    /// What has no room for a job of that priority, whatever else the job is. Subjects that nothing was known of are
    /// free. A budget counts as used up when it has no room for one call.
    #[must_use]
    pub fn blocked(&self, priority: i16) -> Blocked {
        let (now, is_urgent) = (self.now, priority <= URGENT);
        let mut connections = full(&self.connections, is_urgent, now);
        for (id, (spending, _)) in &self.budgets {
            if spending.places(1, is_urgent, now) == 0 && !connections.contains(id) {
                connections.push(*id);
            }
        }
        Blocked {
            kinds: full(&self.kinds, is_urgent, now),
            accounts: full(&self.accounts, is_urgent, now),
            connections,
            vendors: full(&self.vendors, is_urgent, now),
        }
    }

    /// Calls reserved on connections that have a budget, with those of the jobs that were let go.
    #[must_use]
    pub fn reserved(&self) -> Vec<(ConnectionId, u64)> {
        self.budgets.iter().map(|(id, (spending, _))| (*id, spending.reserved)).collect()
    }

    /// What is to be remembered of what was taken; write it in the transaction that dispatches.
    #[must_use]
    pub fn changed(&self) -> Vec<LimitState> {
        let mut states = Vec::new();
        for (kind, room) in &self.kinds {
            room.changed(&Subject::Kind(kind.clone()), &mut states);
        }
        for (id, room) in &self.accounts {
            room.changed(&Subject::Account(*id), &mut states);
        }
        for (id, room) in &self.connections {
            room.changed(&Subject::Connection(*id), &mut states);
        }
        for (name, room) in &self.vendors {
            room.changed(&Subject::Vendor(name.clone()), &mut states);
        }
        for (id, (spending, has_changed)) in &self.budgets {
            if let Some(pace) = spending.pace.filter(|_| *has_changed) {
                states.push(LimitState { subject: Subject::Connection(*id), gauge: Gauge::Pace(pace) });
            }
        }
        states
    }
}

/// Takes room for a job in all of them, or in none: `rooms` of its kind, account, connection and vendor.
fn admit_one(
    rooms: &mut [Option<&mut Room>; 4],
    budget: &mut Option<(ConnectionId, &mut (Spending, bool))>,
    candidate: &Candidate<'_>,
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    let Candidate { kind, account, connection, vendor, priority, calls } = *candidate;
    let (is_urgent, calls) = (priority <= URGENT, u64::from(calls));
    let mut taken = [None, None, None, None];
    for (at, (room, taken)) in rooms.iter().zip(&mut taken).enumerate() {
        let Some(room) = room.as_deref() else { continue };
        let subject = || match at {
            0 => Some(Subject::Kind(kind.clone())),
            1 => Some(Subject::Account(account)),
            2 => connection.map(Subject::Connection),
            _ => vendor.map(|name| Subject::Vendor(name.to_owned())),
        };
        match room.ask(is_urgent, now) {
            Ok(gauges) => *taken = Some(gauges),
            Err(full) => return Err(full.refusal(room, subject().unwrap_or(Subject::Account(account)))),
        }
    }
    if let Some((id, (spending, has_changed))) = budget {
        let pace = budget_room(spending, *id, calls, is_urgent, now)?;
        *has_changed |= pace.is_some();
        spending.pace = pace.or(spending.pace);
        spending.reserved += calls;
    }
    for (room, taken) in rooms.iter_mut().zip(taken) {
        if let (Some(room), Some(taken)) = (room, taken) {
            room.take(taken);
        }
    }
    Ok(())
}

fn count<K: Eq + Hash>(rooms: &mut HashMap<K, Room>, key: K, jobs: u64) {
    rooms.entry(key).or_default().in_flight += jobs;
}

fn full<K: Clone>(rooms: &HashMap<K, Room>, is_urgent: bool, now: DateTime<Utc>) -> Vec<K> {
    rooms.iter().filter(|(_, room)| room.places(is_urgent, now) == 0).map(|(key, _)| key.clone()).collect()
}

fn budget_room(
    spending: &Spending,
    connection: ConnectionId,
    calls: u64,
    is_urgent: bool,
    now: DateTime<Utc>,
) -> Result<Option<Pace>, Refusal> {
    let (is_paced, frees_at) = match spending.ask(calls, is_urgent, now) {
        Verdict::Room(pace) => return Ok(pace),
        Verdict::Paced(at) => (true, Some(at)),
        Verdict::Exhausted(at) => (false, at),
    };
    let (used, ceiling) = (spending.used(now), spending.ceiling());
    Err(Refusal::Budget { connection, used, ceiling, is_paced, frees_at })
}
