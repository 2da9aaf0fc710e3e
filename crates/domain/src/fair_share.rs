//! Who is served next: accounts that wait for the same kind of work take turns, by deficit round robin over their flows,
//! each visit as long as the account's weight. Owns the place in a round; what waits in a flow is the ledger's to say.
//!
//! Within a flow jobs go by their turn: the time since which they are ready, later by [`AGING_SECS`] for each step of
//! priority. So an urgent job goes before all that came up to that much earlier, and none waits for ever.

mod flow;

pub use flow::{Flow, Place, Taken, Visit};

use crate::JobId;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet};

/// What a step of priority is worth, in seconds of waiting. The ledger's index has the same number.
pub const AGING_SECS: i64 = 60;
/// Of the time, one part in so many is spent on looking which flows there are, while there is work.
const LOOK_SHARE: i32 = 10;
/// Flows among which an account's share is divided exactly; of more, the account has a little more than its share.
const FLOWS_OF_ACCOUNT_MAX: u16 = 60;
/// For how many looks that do not bring it a flow is tried all the same, or for how long if they come thick and fast, and
/// how many such flows are.
const UNSEEN_LOOKS_MAX: u8 = 60;
const UNSEEN_MAX: TimeDelta = TimeDelta::seconds(2);
const UNSEEN_FLOWS_MAX: usize = 100;
/// Looks are so far apart, while there is work: at the least, and at the most.
const LOOK_EVERY: (TimeDelta, TimeDelta) = (TimeDelta::milliseconds(5), TimeDelta::milliseconds(50));
/// Of the time, one part in so many is spent on beginning flows from the front again, and how far apart that is at the
/// least and at the most. In between a flow is gone through from place to place and taken to have more. What came before
/// the place, of a higher priority, or stamped earlier and committed later, or let go by somebody, waits no longer than
/// that; what else lies there is running or over, and takes time to pass.
const BEGIN_SHARE: i32 = 50;
const BEGIN_EVERY: (TimeDelta, TimeDelta) = (TimeDelta::milliseconds(20), TimeDelta::seconds(1));
/// Where no more waits than is taken at once, a flow is gone on from so many seconds before its place: jobs are committed
/// in another order than they are stamped.
const STEP_BACK_SECS: f64 = 0.1;
/// While flows are known in which jobs come and go, no others are looked for, for so long at the least.
const TRUSTED_MAX: TimeDelta = TimeDelta::milliseconds(20);
/// Urgent jobs that may be taken in a row while others wait.
const URGENT_RUN_MAX: i64 = 3;
/// Looks in a row that bring a part of the flows and nothing to take, before it is left for the next time.
const FRUITLESS_LOOKS_MAX: u8 = 10;

/// What follows a go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There is more to take.
    TakeMore,
    /// There may be flows, or jobs within them, that were not seen: look again.
    Look,
    /// Nothing waits behind the places from which flows were gone on: begin from the front, when that may be.
    BeginAgain,
    /// Nothing waits that could be taken.
    Rest,
}

/// Where one who takes jobs of a kind is in the round of its flows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Round {
    flows: BTreeMap<Flow, Known>,
    /// The flow whose visit is not over, and what it has taken in it; or the one whose visit was the last.
    at: Option<(Flow, Progress)>,
    /// When the flows were looked at, and how long that took.
    looked: Option<(DateTime<Utc>, TimeDelta)>,
    sight: Sight,
    /// There may be flows after this one, or before the look's first: the look did not bring all.
    cut_at: Option<Flow>,
    fruitless_looks: u8,
    urgent_run: i64,
    /// How long a flow is gone through before it is begun from the front again.
    begin_every: TimeDelta,
    /// Since the look, every flow was gone through from the front.
    is_from_front: bool,
    /// What comes is told flow by flow.
    is_told: bool,
    /// When all flows were last begun from there.
    front_at: Option<DateTime<Utc>>,
}

/// How well the flows are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Sight {
    /// As far as is known, nothing has come since the look.
    #[default]
    Clear,
    /// Something has come; what is known is to be tried first.
    Woken,
    /// What is known was tried since something has come.
    Tried,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    weight: u16,
    after: Option<Place>,
    /// It gave something once.
    has_given: bool,
    /// As far as is known, more waits in it than it has given.
    has_backlog: bool,
    /// It gave less than it might have, and nothing was told of it since.
    is_empty: bool,
    /// It has been gone through since the look, and since any flow had more than it could give at once.
    is_through: bool,
    /// Looks in a row that did not bring it, and when the first of them was.
    unseen_looks: u8,
    unseen_since: Option<DateTime<Utc>>,
    /// When it was begun from the front, if it is not to be begun so again.
    begun_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Taken(i64),
    Over,
}

impl Round {
    /// Whether the flows are to be looked at before anything is taken.
    #[must_use]
    pub fn must_look(&self, now: DateTime<Utc>) -> bool {
        let is_older = |than: fn(TimeDelta) -> TimeDelta| self.looked.is_none_or(|(at, took)| now - at > than(took));
        if self.is_told {
            return is_older(|_| LOOK_EVERY.1);
        }
        let is_trusted = self.sight == Sight::Woken && !self.flows.is_empty();
        // However often something comes where something has come before, others are seen.
        is_older(|took| (took * LOOK_SHARE).clamp(LOOK_EVERY.0, LOOK_EVERY.1)) && !is_trusted
            || is_older(|took| (took * LOOK_SHARE * 4).max(TRUSTED_MAX))
    }

    /// How long a look may wait that nothing has asked for: looks take their part of the time and no more.
    #[must_use]
    pub fn look_in(&self, now: DateTime<Utc>) -> TimeDelta {
        let due = self.looked.map_or(now, |(at, took)| at + took * LOOK_SHARE);
        (due - now).max(TimeDelta::zero())
    }

    /// The last flow gone through: a look that cannot bring all flows begins after it.
    #[must_use]
    pub fn last(&self) -> Option<Flow> {
        self.at.map(|(flow, _)| flow)
    }

    /// The flows, in their order, that a look at `now` need not seek: more waits in them than they have given, or comes
    /// and goes, for all that is known.
    #[must_use]
    pub fn sure(&self, now: DateTime<Utc>) -> Vec<Flow> {
        let mut others_max = UNSEEN_FLOWS_MAX;
        let mut is_sure = |known: &Known| {
            if !known.has_given || known.begun_at.is_none_or(|at| now - at >= self.begin_every) {
                return false;
            }
            if !known.has_backlog {
                others_max = others_max.saturating_sub(1);
            }
            known.has_backlog || others_max > 0
        };
        self.flows.iter().filter(|(_, known)| is_sure(known)).map(|(flow, _)| *flow).collect()
    }

    /// How long it is, after [`Next::BeginAgain`], until all flows may be begun from the front.
    #[must_use]
    pub fn begin_in(&self, now: DateTime<Utc>) -> TimeDelta {
        (self.front_at.map_or(now, |at| at + self.begin_every) - now).max(TimeDelta::zero())
    }

    /// Has the next look begin all flows from the front.
    pub fn begin_again(&mut self) {
        self.flows.values_mut().for_each(|known| known.begun_at = None);
    }

    /// Takes in which flows there are, with the weights of their accounts, as asked at `asked_at` with [`Self::sure`] and
    /// answered at `now`. `cut_at` is the last that was seen, when there may be more.
    pub fn looked(
        &mut self,
        flows: impl IntoIterator<Item = (Flow, u16)>,
        cut_at: Option<Flow>,
        asked_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) {
        self.cut_at = cut_at;
        let sure: BTreeSet<Flow> = self.sure(asked_at).into_iter().collect();
        if sure.len() < self.flows.len() || self.looked.is_none() {
            self.begin_every = ((now - asked_at) * BEGIN_SHARE).clamp(BEGIN_EVERY.0, BEGIN_EVERY.1);
        }
        self.is_from_front = sure.is_empty();
        if self.is_from_front {
            self.front_at = Some(now);
        }
        let before = std::mem::take(&mut self.flows);
        let known = |(flow, weight): (Flow, u16)| {
            let weight = weight.max(1);
            let fresh = Known {
                weight,
                after: None,
                has_given: before.get(&flow).is_some_and(|known| known.has_given),
                has_backlog: true,
                is_empty: false,
                is_through: false,
                unseen_looks: 0,
                unseen_since: None,
                begun_at: Some(now),
            };
            let stands = before.get(&flow).filter(|_| sure.contains(&flow));
            (flow, stands.map_or(fresh, |known| Known { weight, is_empty: false, is_through: false, ..*known }))
        };
        self.flows = flows.into_iter().map(known).collect();
        // Where something came a moment ago, the next thing may come: it is found without a look.
        let is_recent = |known: &Known| {
            known.unseen_looks < UNSEEN_LOOKS_MAX || known.unseen_since.is_some_and(|since| now - since < UNSEEN_MAX)
        };
        let kept = before.into_iter().filter(|(_, known)| known.has_given && is_recent(known));
        for (flow, known) in kept.take(UNSEEN_FLOWS_MAX) {
            let unseen_looks = known.unseen_looks.saturating_add(1);
            let unseen_since = known.unseen_since.filter(|_| known.unseen_looks > 0).or(Some(now));
            let known = Known { after: None, has_backlog: false, is_empty: false, is_through: false, ..known };
            let kept = Known { unseen_looks, unseen_since, begun_at: Some(now), ..known };
            self.flows.entry(flow).or_insert(kept);
        }
        self.looked = Some((now, now - asked_at));
        self.sight = Sight::Clear;
    }

    /// New jobs may have come. What is known is tried first, since it is most often right; but once, and not again for
    /// each that comes until a look has shown what else there is.
    pub fn woken(&mut self) {
        if self.sight == Sight::Clear {
            self.sight = Sight::Woken;
        }
    }

    /// Takes in in which flows jobs have come; false where one of them is not known. From then on all are to be told, since
    /// flows are taken to be empty once they gave less than they might have.
    pub fn hear_of(&mut self, flows: impl IntoIterator<Item = Flow>) -> bool {
        self.is_told = true;
        let mut are_known = true;
        for flow in flows {
            match self.flows.get_mut(&flow) {
                Some(known) => known.is_empty = false,
                None => are_known = false,
            }
        }
        are_known
    }

    /// These gave less than they have: there was no room.
    pub fn refused(&mut self, flows: impl IntoIterator<Item = Flow>) {
        for flow in flows {
            self.flows.entry(flow).and_modify(|known| known.is_empty = false);
        }
    }

    /// Whether the flow is known.
    #[must_use]
    pub fn knows(&self, flow: Flow) -> bool {
        self.flows.contains_key(&flow)
    }

    /// Whether nothing waits in a flow, for all that was told. What nobody told, the next look brings.
    #[must_use]
    pub fn is_empty(&self, flow: Flow) -> bool {
        self.is_told && self.flows.get(&flow).is_some_and(|known| known.is_empty)
    }

    /// How many of `limit` jobs may be urgent ones: of four in a row one is not, unless no other waits. So the urgent
    /// lane is quick and closes nobody out.
    #[must_use]
    pub fn urgent_max(&self, limit: i64) -> i64 {
        let four = URGENT_RUN_MAX + 1;
        if limit >= four { limit * URGENT_RUN_MAX / four } else { limit.min(URGENT_RUN_MAX - self.urgent_run).max(0) }
    }

    /// The visits of the next go of `limit` jobs, in their order, `flows_max` at the most. `room` says how many jobs a
    /// flow may give; one without room is passed over.
    pub fn visits(&self, limit: i64, flows_max: usize, room: impl Fn(Flow) -> i64) -> Vec<Visit> {
        let (first, rest) = match self.at {
            Some((flow, Progress::Taken(_))) => (self.flows.get_key_value(&flow), Some(flow)),
            Some((flow, Progress::Over)) => (None, Some(flow)),
            None => (None, None),
        };
        let later = self.flows.iter().filter(|(flow, _)| rest.is_none_or(|at| **flow > at));
        let earlier = self.flows.iter().filter(|(flow, _)| rest.is_some_and(|at| **flow < at));
        // The flow of the last visit comes last when that is over.
        let last = rest.filter(|_| first.is_none()).and_then(|flow| self.flows.get_key_value(&flow));
        let ring: Vec<(Flow, Known, i64)> = first
            .into_iter()
            .chain(later)
            .chain(earlier)
            .chain(last)
            .map(|(flow, known)| (*flow, *known, room(*flow)))
            .filter(|(.., room)| *room > 0)
            .take(flows_max)
            .collect();
        // An account has its share once, however many connections its jobs wait for: its flows divide it.
        let mut flows_of = BTreeMap::new();
        for (flow, ..) in &ring {
            *flows_of.entry(flow.account).or_insert(0_u16) += 1;
        }
        let most = flows_of.values().copied().max().unwrap_or(1).min(FLOWS_OF_ACCOUNT_MAX);
        let share = |flow: &Flow, weight: u16| (weight * most / flows_of[&flow.account]).max(1);
        let share_of = |(flow, known, _): &(Flow, Known, i64)| share(flow, known.weight);
        // Flows in which little or nothing waits leave their part of the go to those with a backlog.
        let with_backlog: Vec<u16> = ring.iter().filter(|(_, known, _)| known.has_backlog).map(share_of).collect();
        let mut quanta = quanta(&with_backlog, limit).into_iter();
        let visit = |flow: (Flow, Known, i64)| {
            let share = i64::from(share_of(&flow));
            let (flow, known, room) = flow;
            let quantum = if known.has_backlog { quanta.next().unwrap_or(share) } else { share };
            let step_back = |place: Place| Place { turn: place.turn - STEP_BACK_SECS, id: JobId(0) };
            let after = if known.has_backlog { known.after } else { known.after.map(step_back) };
            Visit { flow, quantum: quantum.min(room), left: quantum, after }
        };
        let mut visits: Vec<Visit> = ring.into_iter().map(visit).collect();
        if let (Some(visit), Some((at, Progress::Taken(spent)))) = (visits.first_mut(), self.at)
            && visit.flow == at
        {
            if spent < visit.left && with_backlog.len() > 1 {
                visit.left -= spent;
                visit.quantum = visit.quantum.min(visit.left);
            } else {
                // In a larger go it has had what this one gives, or nobody else has a backlog that could have its share: its
                // visit is over, and the others come first.
                visits.rotate_left(1);
            }
        }
        visits
    }

    /// Notes what a go of at most `limit` jobs has taken of `visits`, and says what follows. When there was room for no
    /// more than were taken, that is the limit.
    pub fn note(&mut self, visits: &[Visit], taken: &[Taken], limit: i64) -> Next {
        let is_full = i64::try_from(taken.len()).is_ok_and(|taken| taken >= limit);
        let mut by_flow: BTreeMap<Flow, (i64, Place)> = BTreeMap::new();
        for job in taken.iter().filter(|job| !job.is_urgent) {
            let entry = by_flow.entry(job.flow).or_insert((0, job.place));
            entry.0 += 1;
            if job.place > entry.1 {
                entry.1 = job.place;
            }
        }
        let urgent = i64::try_from(taken.len()).unwrap_or(0) - by_flow.values().map(|(count, _)| count).sum::<i64>();
        let was_closed = self.urgent_max(limit) == 0;
        self.urgent_run = if by_flow.is_empty() && urgent > 0 { self.urgent_run + urgent } else { 0 };

        // A full go ended at the last flow that gave anything; else all were gone through.
        let through = if is_full {
            visits.iter().rposition(|visit| by_flow.contains_key(&visit.flow)).map_or(0, |last| last + 1)
        } else {
            visits.len()
        };
        self.is_from_front &= visits[..through].iter().all(|visit| visit.after.is_none());
        let mut has_more = is_full || urgent > 0 || was_closed;
        let mut has_seen_new = false;
        for visit in &visits[..through] {
            let Some(known) = self.flows.get_mut(&visit.flow) else { continue };
            has_seen_new |= !known.is_through;
            known.is_through = true;
            known.has_backlog = false;
            known.is_empty = true;
            if let Some((count, place)) = by_flow.get(&visit.flow) {
                known.after = Some(*place);
                known.has_given = true;
                known.has_backlog = *count >= visit.quantum;
                known.is_empty = !known.has_backlog;
                known.unseen_looks = 0;
                has_more |= known.has_backlog;
            }
        }
        if let Some(last) = visits[..through].last() {
            // What it had in a visit that goes on: one that began anew came last.
            let before = match self.at {
                Some((at, Progress::Taken(taken))) if at == last.flow && visits[0].flow == at => taken,
                _ => 0,
            };
            let count = by_flow.get(&last.flow).map_or(0, |(count, _)| *count);
            let is_over = !is_full || count >= last.left;
            if is_full && let Some(known) = self.flows.get_mut(&last.flow) {
                // The go ended within it.
                known.has_backlog = true;
                known.is_empty = false;
            }
            self.at = Some((last.flow, if is_over { Progress::Over } else { Progress::Taken(before + count) }));
        }
        if has_more {
            self.flows.values_mut().for_each(|known| known.is_through = false);
        }
        let was_all_seen = self.flows.values().all(|known| known.is_through || self.is_told && known.is_empty);
        if self.sight == Sight::Woken {
            self.sight = Sight::Tried;
        }
        if !taken.is_empty() {
            self.fruitless_looks = 0;
        }
        if has_more {
            Next::TakeMore
        } else if self.sight == Sight::Tried || self.looked.is_none() {
            Next::Look
        } else if has_seen_new && !was_all_seen {
            // Those that are left may have no room; then the next go sees nothing new.
            Next::TakeMore
        } else if let Some(cut_at) = self.cut_at.filter(|_| self.fruitless_looks < FRUITLESS_LOOKS_MAX) {
            self.fruitless_looks += 1;
            self.at = Some((cut_at, Progress::Over));
            Next::Look
        } else if !self.is_from_front {
            Next::BeginAgain
        } else {
            self.fruitless_looks = 0;
            Next::Rest
        }
    }
}

/// How many jobs each flow may give in one visit when `limit` can be taken in all: its weight, as many times as it takes
/// for one round to reach the limit. The same number of times for all, so that rounds of any size keep the shares.
#[must_use]
pub fn quanta(weights: &[u16], limit: i64) -> Vec<i64> {
    let all = weights.iter().map(|weight| i64::from(*weight)).sum::<i64>().max(1);
    let times = limit.saturating_sub(1).max(0) / all + 1;
    weights.iter().map(|weight| i64::from(*weight).saturating_mul(times)).collect()
}

#[cfg(test)]
mod tests;
