//! Owns one queue's messages and where each of them is: ready, hidden or delayed.
//! Does not own the time (an argument), names, batches, faults or the wire.
//!
//! Every operation is O(log n) in the depth of the queue: three ordered indexes over one map.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::Value;
use tokio::sync::Notify;

/// A message may stay hidden for 12 hours counted from its receive, whatever extensions it gets.
pub(super) const VISIBILITY_SECS_MAX: i64 = 12 * 60 * 60;
/// SQS's quota for one standard queue.
pub(super) const IN_FLIGHT_MAX: usize = 120_000;
/// From this receive count on, a message that becomes visible again goes to the back of the queue.
const POISON_RECEIVES: u32 = 3;

/// What a sender gave, and what happened to it since.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) message_id: String,
    pub(super) body: String,
    pub(super) md5: String,
    pub(super) group_id: Option<String>,
    pub(super) trace_header: Option<String>,
    pub(super) attributes: Option<Value>,
    pub(super) sent_ms: i64,
    pub(super) first_received_ms: i64,
    pub(super) received_ms: i64,
    pub(super) receive_count: u32,
    /// The queue that gave the message up, for a message on a dead-letter queue.
    pub(super) source: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Ready { order: u64 },
    Hidden { until_ms: i64 },
    Delayed { until_ms: i64 },
}

#[derive(Debug)]
struct Slot {
    message: Message,
    place: Place,
    /// The receive that holds the message; an earlier receive's handle no longer acts on it.
    token: u32,
}

/// Names one receive of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) slot: u64,
    pub(super) token: u32,
}

/// What one receive took from the queue.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) messages: Vec<(Receipt, Message)>,
    /// Messages received as often as the redrive policy allows: the caller moves them.
    pub(super) dead: Vec<Message>,
}

/// Where a queue's spent messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redrive {
    pub(super) dead_queue: String,
    pub(super) receive_count_max: u32,
}

/// Why a visibility change was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    NotInFlight,
    BeyondTwelveHours,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    slots: HashMap<u64, Slot>,
    ready: BTreeMap<u64, u64>,
    hidden: BTreeSet<(i64, u64)>,
    delayed: BTreeSet<(i64, u64)>,
    next: u64,
    /// Holds a permit when a waiting receive should look again.
    pub(super) arrived: Arc<Notify>,
}

impl Store {
    pub(super) fn visible(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.hidden.len()
    }

    pub(super) fn delayed(&self) -> usize {
        self.delayed.len()
    }

    /// Adds a message that becomes visible at `visible_ms`.
    pub(super) fn put(&mut self, message: Message, visible_ms: i64, now_ms: i64) {
        let id = self.next;
        self.next += 1;
        let place = if visible_ms > now_ms {
            self.delayed.insert((visible_ms, id));
            Place::Delayed { until_ms: visible_ms }
        } else {
            self.ready.insert(id, id);
            Place::Ready { order: id }
        };
        self.slots.insert(id, Slot { message, place, token: 0 });
        self.arrived.notify_one();
    }

    /// Makes visible whatever is due.
    pub(super) fn settle(&mut self, now_ms: i64) {
        while let Some(&(until_ms, id)) = self.hidden.first()
            && until_ms <= now_ms
        {
            self.hidden.pop_first();
            self.make_ready(id);
        }
        while let Some(&(until_ms, id)) = self.delayed.first()
            && until_ms <= now_ms
        {
            self.delayed.pop_first();
            self.make_ready(id);
        }
    }

    fn make_ready(&mut self, id: u64) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let mut order = id;
        if slot.message.receive_count >= POISON_RECEIVES {
            order = self.next;
            self.next += 1;
        }
        slot.place = Place::Ready { order };
        self.ready.insert(order, id);
    }

    /// The next moment at which a hidden or delayed message becomes visible.
    pub(super) fn next_due_ms(&self) -> Option<i64> {
        let hidden = self.hidden.first().map(|(until_ms, _)| *until_ms);
        let delayed = self.delayed.first().map(|(until_ms, _)| *until_ms);
        hidden.into_iter().chain(delayed).min()
    }

    /// Takes up to `max` visible messages and hides them until `now_ms + visibility_ms`. `choose` gives a number
    /// when the next message should come from anywhere instead of the head.
    pub(super) fn take(
        &mut self,
        max: usize,
        now_ms: i64,
        visibility_ms: i64,
        redrive: Option<&Redrive>,
        mut choose: impl FnMut() -> Option<u64>,
    ) -> Taken {
        self.settle(now_ms);
        let mut taken = Taken::default();
        while taken.messages.len() < max && self.hidden.len() < IN_FLIGHT_MAX {
            let Some((order, id)) = self.pick(choose()) else { break };
            self.ready.remove(&order);
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            if redrive.is_some_and(|redrive| slot.message.receive_count >= redrive.receive_count_max) {
                taken.dead.extend(self.slots.remove(&id).map(|slot| slot.message));
                continue;
            }
            slot.message.receive_count += 1;
            slot.message.received_ms = now_ms;
            if slot.message.receive_count == 1 {
                slot.message.first_received_ms = now_ms;
            }
            slot.token += 1;
            let until_ms = now_ms + visibility_ms;
            slot.place = Place::Hidden { until_ms };
            self.hidden.insert((until_ms, id));
            taken.messages.push((Receipt { slot: id, token: slot.token }, slot.message.clone()));
        }
        if !self.ready.is_empty() {
            // One send may stand for many messages: who took some wakes the next to take the rest.
            self.arrived.notify_one();
        }
        taken
    }

    fn pick(&self, choice: Option<u64>) -> Option<(u64, u64)> {
        let (&head, &id) = self.ready.first_key_value()?;
        let Some(choice) = choice else { return Some((head, id)) };
        let (&tail, _) = self.ready.last_key_value()?;
        let from = head + choice % (tail - head + 1);
        self.ready.range(from..).next().map(|(order, id)| (*order, *id))
    }

    /// Deletes by receipt. A receipt that a later receive replaced leaves the message alone; both are a success on
    /// the wire.
    pub(super) fn delete(&mut self, receipt: Receipt) -> bool {
        if self.slots.get(&receipt.slot).is_none_or(|slot| slot.token != receipt.token) {
            return false;
        }
        self.remove(receipt.slot).is_some()
    }

    fn remove(&mut self, id: u64) -> Option<Message> {
        let slot = self.slots.remove(&id)?;
        self.unplace(slot.place, id);
        Some(slot.message)
    }

    fn unplace(&mut self, place: Place, id: u64) {
        match place {
            Place::Ready { order } => drop(self.ready.remove(&order)),
            Place::Hidden { until_ms } => drop(self.hidden.remove(&(until_ms, id))),
            Place::Delayed { until_ms } => drop(self.delayed.remove(&(until_ms, id))),
        }
    }

    /// Moves the end of a message's hiding to `visibility_ms` from now; 0 makes it visible at once.
    pub(super) fn change_visibility(
        &mut self,
        receipt: Receipt,
        visibility_ms: i64,
        now_ms: i64,
    ) -> Result<(), Refused> {
        self.settle(now_ms);
        let slot = self.slots.get_mut(&receipt.slot).ok_or(Refused::NotInFlight)?;
        let Place::Hidden { until_ms } = slot.place else { return Err(Refused::NotInFlight) };
        if slot.token != receipt.token {
            return Err(Refused::NotInFlight);
        }
        let changed_ms = now_ms + visibility_ms;
        if changed_ms > slot.message.received_ms + VISIBILITY_SECS_MAX * 1_000 {
            return Err(Refused::BeyondTwelveHours);
        }
        slot.place = Place::Hidden { until_ms: changed_ms };
        self.hidden.remove(&(until_ms, receipt.slot));
        self.hidden.insert((changed_ms, receipt.slot));
        self.settle(now_ms);
        // A waiting receive sleeps until the next message is due, and that moment may have moved.
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes every visible message out, for a move to another queue.
    pub(super) fn drain_visible(&mut self, now_ms: i64) -> Vec<Message> {
        self.settle(now_ms);
        let ids: Vec<u64> = std::mem::take(&mut self.ready).into_values().collect();
        ids.into_iter().filter_map(|id| self.slots.remove(&id).map(|slot| slot.message)).collect()
    }

    /// Forgets every message, the hidden ones too.
    pub(super) fn purge(&mut self) {
        self.slots.clear();
        self.ready.clear();
        self.hidden.clear();
        self.delayed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> Message {
        Message {
            message_id: body.to_owned(),
            body: body.to_owned(),
            md5: String::new(),
            group_id: None,
            trace_header: None,
            attributes: None,
            sent_ms: 0,
            first_received_ms: 0,
            received_ms: 0,
            receive_count: 0,
            source: None,
        }
    }

    fn bodies(taken: &Taken) -> Vec<&str> {
        taken.messages.iter().map(|(_, message)| message.body.as_str()).collect()
    }

    #[test]
    fn a_hidden_message_returns_when_its_time_is_up_and_counts() {
        let mut store = Store::default();
        store.put(message("a"), 0, 0);
        let first = store.take(10, 0, 30_000, None, || None);
        assert_eq!(bodies(&first), ["a"]);
        assert!(store.take(10, 29_999, 30_000, None, || None).messages.is_empty());
        let second = store.take(10, 30_000, 30_000, None, || None);
        assert_eq!(second.messages[0].1.receive_count, 2);
        assert!(!store.delete(first.messages[0].0), "a superseded receipt does not delete");
        assert!(store.delete(second.messages[0].0));
        assert_eq!((store.visible(), store.in_flight()), (0, 0));
    }

    #[test]
    fn an_expired_receipt_that_nothing_replaced_still_deletes() {
        let mut store = Store::default();
        store.put(message("a"), 0, 0);
        let receipt = store.take(1, 0, 1_000, None, || None).messages[0].0;
        store.settle(5_000);
        assert_eq!(store.visible(), 1);
        assert!(store.delete(receipt));
        assert_eq!(store.visible(), 0);
    }

    #[test]
    fn delayed_messages_wait() {
        let mut store = Store::default();
        store.put(message("later"), 5_000, 0);
        assert_eq!((store.delayed(), store.next_due_ms()), (1, Some(5_000)));
        assert!(store.take(1, 4_999, 1, None, || None).messages.is_empty());
        assert_eq!(bodies(&store.take(1, 5_000, 1, None, || None)), ["later"]);
    }

    #[test]
    fn the_redrive_policy_gives_up_after_its_count() {
        let mut store = Store::default();
        let redrive = Redrive { dead_queue: "dead".to_owned(), receive_count_max: 2 };
        store.put(message("poison"), 0, 0);
        assert_eq!(store.take(1, 0, 10, Some(&redrive), || None).messages.len(), 1);
        assert_eq!(store.take(1, 10, 10, Some(&redrive), || None).messages.len(), 1);
        let third = store.take(1, 20, 10, Some(&redrive), || None);
        assert!(third.messages.is_empty());
        assert_eq!(third.dead[0].body, "poison");
    }

    #[test]
    fn visibility_ends_twelve_hours_after_the_receive() {
        let mut store = Store::default();
        store.put(message("a"), 0, 0);
        let receipt = store.take(1, 0, 30_000, None, || None).messages[0].0;
        let hours = 60 * 60 * 1_000;
        assert_eq!(store.change_visibility(receipt, 12 * hours, 1), Err(Refused::BeyondTwelveHours));
        assert_eq!(store.change_visibility(receipt, 11 * hours, 1), Ok(()));
        assert_eq!(store.change_visibility(receipt, 0, 2), Ok(()));
        assert_eq!(store.visible(), 1);
        assert_eq!(store.change_visibility(receipt, 5, 3), Err(Refused::NotInFlight));
    }

    #[test]
    fn a_chosen_number_takes_from_anywhere() {
        let mut store = Store::default();
        for body in ["a", "b", "c"] {
            store.put(message(body), 0, 0);
        }
        assert_eq!(bodies(&store.take(1, 0, 1_000, None, || Some(2))), ["c"]);
        assert_eq!(bodies(&store.take(2, 0, 1_000, None, || None)), ["a", "b"]);
    }
}
