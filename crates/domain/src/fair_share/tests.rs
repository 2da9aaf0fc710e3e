//! Single rules of the round; its laws, for any flows and goes, are in `tests/fair_share`.

use super::*;
use crate::{AccountId, ConnectionId};

#[test]
fn a_flow_that_gave_something_is_tried_without_being_seen_even_after_a_look_that_saw_it() {
    let flow = Flow { account: AccountId(1), connection: None };
    let mut round = Round::default();
    let look = |round: &mut Round, flows: &[(Flow, u16)]| {
        round.looked(flows.iter().copied(), None, DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH);
    };
    look(&mut round, &[(flow, 1)]);
    let visits = round.visits(1, usize::MAX, |_| i64::MAX);
    let taken = Taken { flow, place: Place { turn: 1.0, id: JobId(1) }, is_urgent: false };
    round.note(&visits, &[taken], 1);
    look(&mut round, &[(flow, 1)]);
    look(&mut round, &[]);
    assert_eq!(round.visits(1, usize::MAX, |_| i64::MAX).len(), 1);
}

#[test]
fn nobody_rests_before_a_flow_was_gone_through_from_the_front() {
    let flow = Flow { account: AccountId(1), connection: None };
    let mut round = Round::default();
    let at = |ms| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms);
    round.looked([(flow, 1)], None, at(0), at(1));
    let visits = round.visits(1, usize::MAX, |_| i64::MAX);
    let place = Place { turn: 1.0, id: JobId(1) };
    round.note(&visits, &[Taken { flow, place, is_urgent: false }], 1);
    assert_eq!(round.sure(at(2)), [flow]);
    round.looked([(flow, 1)], None, at(2), at(3));
    let visits = round.visits(1, usize::MAX, |_| i64::MAX);
    assert!(visits[0].after.is_some_and(|after| after <= place), "it goes on from there");
    assert_eq!(round.note(&visits, &[], 1), Next::BeginAgain, "what was committed late may lie before");
    assert_eq!(round.begin_in(at(4)), TimeDelta::milliseconds(47), "fifty times what that look took");
    round.begin_again();
    assert_eq!(round.sure(at(51)), []);
    round.looked([(flow, 1)], None, at(51), at(52));
    let visits = round.visits(1, usize::MAX, |_| i64::MAX);
    assert_eq!(visits[0].after, None);
    assert_eq!(round.note(&visits, &[], 1), Next::Rest);
}

#[test]
fn an_account_has_its_share_once_however_many_connections_it_has() {
    let flow = |account, connection| Flow { account: AccountId(account), connection };
    let connections = (1..=9).map(|id| (flow(1, Some(ConnectionId(id))), 1));
    let mut round = Round::default();
    round.looked(connections.chain([(flow(2, None), 1)]), None, DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH);
    for limit in [1, 10, 400] {
        let visits = round.visits(limit, usize::MAX, |_| i64::MAX);
        let of =
            |account| visits.iter().filter(|v| v.flow.account == AccountId(account)).map(|v| v.quantum).sum::<i64>();
        assert_eq!(of(1), of(2), "{limit}");
    }
}

#[test]
fn who_had_more_than_a_small_go_gives_lets_the_others_go_first() {
    let flow = |account| Flow { account: AccountId(account), connection: None };
    let taken = |account, id| {
        let place = Place { turn: 1.0, id: JobId(id) };
        Taken { flow: flow(account), place, is_urgent: false }
    };
    let mut round = Round::default();
    round.looked([(flow(1), 1), (flow(2), 1)], None, DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH);
    let first = round.visits(8, usize::MAX, |_| i64::MAX);
    round.note(&first, &[taken(1, 1), taken(2, 2), taken(2, 3), taken(2, 4), taken(2, 5)], 8);
    // The first account gives what it has, and the other all but one of what it may.
    let second = round.visits(4, usize::MAX, |_| i64::MAX);
    round.note(&second, &[taken(1, 6), taken(2, 7), taken(2, 8), taken(2, 9)], 4);
    let of_a_small_go = round.visits(1, usize::MAX, |_| i64::MAX);
    assert_eq!(of_a_small_go.iter().map(|visit| visit.flow).collect::<Vec<_>>(), [flow(1), flow(2)]);
}

#[test]
fn what_is_known_is_tried_once_for_what_has_come_and_then_there_is_a_look() {
    let flow = Flow { account: AccountId(1), connection: None };
    let mut round = Round::default();
    let at = |ms| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms);
    round.looked([(flow, 1)], None, at(0), at(1));
    round.woken();
    round.woken();
    assert!(!round.must_look(at(15)), "what is known comes first");
    let visits = round.visits(1, usize::MAX, |_| i64::MAX);
    let taken = Taken { flow, place: Place { turn: 1.0, id: JobId(1) }, is_urgent: false };
    // What was taken need not be what has come: its flow has a backlog.
    assert_eq!(round.note(&visits, &[taken], 1), Next::TakeMore);
    round.woken();
    assert!(round.must_look(at(15)), "and not again for what comes next");
    round.looked([(flow, 1)], None, at(15), at(16));
    assert!(!round.must_look(at(17)));
}

#[test]
fn a_flow_in_which_something_came_is_known_for_a_while_however_many_looks_there_are() {
    let flow = Flow { account: AccountId(1), connection: None };
    let mut round = Round::default();
    let at = |ms| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms);
    round.looked([(flow, 1)], None, at(0), at(0));
    let visits = round.visits(2, usize::MAX, |_| i64::MAX);
    round.note(&visits, &[Taken { flow, place: Place { turn: 1.0, id: JobId(1) }, is_urgent: false }], 2);
    let mut known_until = 0;
    for ms in (5..4_000).step_by(5) {
        round.looked([], None, at(ms), at(ms));
        if !round.visits(2, usize::MAX, |_| i64::MAX).is_empty() {
            known_until = ms;
        }
    }
    assert_eq!(known_until, 2_000);
}

#[test]
fn what_is_empty_for_all_that_was_told_is_told_apart_until_something_comes_or_is_looked_for() {
    let flow = |account| Flow { account: AccountId(account), connection: None };
    let taken = |account, id| {
        let place = Place { turn: 1.0, id: JobId(id) };
        Taken { flow: flow(account), place, is_urgent: false }
    };
    let at = |ms| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms);
    let mut round = Round::default();
    let look = |round: &mut Round, ms| round.looked([(flow(1), 1), (flow(2), 1)], None, at(ms), at(ms + 1));
    let go = |round: &mut Round, limit, taken: &[Taken]| {
        let visits = round.visits(limit, usize::MAX, |_| i64::MAX);
        round.note(&visits, taken, limit)
    };
    look(&mut round, 0);
    go(&mut round, 8, &[taken(1, 1), taken(2, 2), taken(2, 3), taken(2, 4), taken(2, 5)]);
    assert!(!round.is_empty(flow(1)), "nobody says what comes: it may have come");
    assert!(round.hear_of([]), "nothing has come");
    let empty = |round: &Round| [1, 2, 3].map(|account| round.is_empty(flow(account)));
    assert_eq!(empty(&round), [true, false, false], "the second gave all that it might");
    assert!(!round.must_look(at(50)), "what comes is told");
    assert!(round.must_look(at(52)), "but not all of it need be");

    assert!(round.hear_of([flow(1)]));
    assert!(!round.is_empty(flow(1)));
    assert!(!round.hear_of([flow(2), flow(3)]), "the third was never seen");
    go(&mut round, 100, &[]);
    assert_eq!(empty(&round), [true, true, false]);
    round.refused([flow(2), flow(3)]);
    assert_eq!(empty(&round), [true, false, false], "it had no room for what it has");
    assert!(!round.knows(flow(3)));
    go(&mut round, 100, &[]);
    look(&mut round, 60);
    assert_eq!(empty(&round), [false, false, false], "a look may bring what nobody told");
}

#[test]
fn who_alone_has_a_backlog_lets_the_others_go_first_and_has_all_that_they_leave() {
    let flow = |account| Flow { account: AccountId(account), connection: None };
    let mut round = Round::default();
    round.looked([(flow(1), 1), (flow(2), 1)], None, DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH);
    let go = |round: &mut Round, limit, taken: &[i64]| {
        let mut visits = round.visits(limit, usize::MAX, |_| i64::MAX);
        // Of who may give one, one more was asked for, and was not there.
        visits.iter_mut().filter(|visit| visit.quantum == 1).for_each(|visit| visit.quantum = 2);
        let taken: Vec<Taken> = taken
            .iter()
            .zip(1..)
            .map(|(account, id)| Taken {
                flow: flow(*account),
                place: Place { turn: 1.0, id: JobId(id) },
                is_urgent: false,
            })
            .collect();
        round.note(&visits, &taken, limit);
        round.visits(limit, usize::MAX, |_| i64::MAX).iter().map(|v| (v.flow.account.0, v.quantum)).collect::<Vec<_>>()
    };
    // The first gives one of four that it might, and the second the rest: its visit goes on.
    assert_eq!(go(&mut round, 8, &[1, 2, 2, 2, 2]), [(1, 1), (2, 8)]);
    assert_eq!(go(&mut round, 8, &[1, 2, 2, 2, 2, 2, 2, 2]), [(1, 1), (2, 8)], "and not by what is left of it");
}
