//! The order in which causes bind: all of them at once, each taken away in turn, and what each says.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    AccountId, BreakerSettings, BreakerState, Cause, CircuitFacts, ConnectionFacts, ConnectionId, Dispatching, Forced,
    ForcedFacts, HeldFacts, JobId, JobState, Kind, LastFailure, NoRoomFacts, PauseFacts, PauseTarget, Refusal,
    Releasing, Scope, ServantFacts, ServantId, Subject, What, WhyFacts, why,
};

fn at(secs: i64) -> DateTime<Utc> {
    "2030-05-06T12:00:00Z".parse::<DateTime<Utc>>().expect("a time") + TimeDelta::seconds(secs)
}

fn pause(target: PauseTarget) -> PauseFacts {
    PauseFacts { target, by: "ada".to_owned(), reason: "the vendor is down".to_owned(), since: at(-60) }
}

fn circuit(facts: &mut WhyFacts) -> &mut CircuitFacts {
    facts.connection.as_mut().and_then(|connection| connection.circuit.as_mut()).expect("a circuit")
}

/// A job that everything holds back.
fn beset() -> WhyFacts {
    WhyFacts {
        now: at(0),
        kind: Kind::new("noop").expect("a kind"),
        state: JobState::Scheduled,
        due_at: at(30),
        finished_at: None,
        held: None,
        pauses: vec![pause(PauseTarget::Account(AccountId(7))), pause(PauseTarget::Everything)],
        connection: Some(ConnectionFacts {
            connection: ConnectionId(5),
            state: "needs_reauth".to_owned(),
            by: Some("servant".to_owned()),
            reason: Some("auth_broken: revoked".to_owned()),
            since: at(-90),
            releasing: Some(Releasing { connection: 5, since: at(-2), room: 4, until: at(3) }),
            circuit: Some(CircuitFacts {
                service: "na1.example.com".to_owned(),
                state: BreakerState::Open { next_probe_at: at(20) },
                since: at(-50),
                reason: "6 of 8 attempts failed".to_owned(),
                forced: Some(ForcedFacts {
                    forced: Forced::Open,
                    by: "bob".to_owned(),
                    reason: "they asked us to".to_owned(),
                    since: at(-45),
                }),
                has_room: false,
            }),
        }),
        last_failure: Some(LastFailure {
            attempt: 2,
            class: "transient".to_owned(),
            error: "it broke".to_owned(),
            at: at(-1),
        }),
        led_until: Some(at(-10)),
        dispatching: Some(Dispatching { window_per_slot: 3, window_min: 20, look_ahead_ms: 5, unclaimed_secs: 15 }),
        servants: ServantFacts { last_seen_at: Some(at(-40)), ..ServantFacts::default() },
        no_room: Some(NoRoomFacts {
            refusal: Refusal::Limit {
                scope: Scope::EachAccount,
                subject: Subject::Account(AccountId(7)),
                what: What::Concurrency,
                used: 5,
                maximum: 5,
                frees_at: None,
            },
            held_by: vec![JobId(1), JobId(2)],
        }),
        queued_at: None,
        sends: 0,
        ahead: 1_000,
        share_pct: 25,
        is_ahead_bounded: true,
        queued_of_kind: 60,
    }
}

#[test]
fn causes_bind_in_order_and_clearing_one_shows_the_next() {
    let mut facts = beset();
    let mut heard = Vec::new();
    let mut hear = |facts: &WhyFacts| {
        let cause = why(facts);
        heard.push((cause.says(), cause.cleared_by().unwrap_or_default()));
    };
    hear(&facts);
    facts.pauses.pop();
    hear(&facts);
    facts.pauses.clear();
    hear(&facts);
    for state in ["parked", "disabled", "active"] {
        facts.connection.as_mut().expect("it").state = state.to_owned();
        hear(&facts);
    }
    circuit(&mut facts).forced = None;
    hear(&facts);
    facts.last_failure = None;
    hear(&facts);
    facts.due_at = at(-5);
    hear(&facts);
    facts.state = JobState::Ready;
    facts.led_until = None;
    hear(&facts);
    facts.led_until = Some(at(3));
    hear(&facts);
    facts.servants.last_seen_at = None;
    hear(&facts);
    facts.servants.alive = 2;
    hear(&facts);
    facts.servants = ServantFacts { last_seen_at: Some(at(-1)), alive: 2, taking: 2, slots: 20, busy: 20 };
    facts.state = JobState::Queued;
    facts.queued_at = Some(at(-20));
    facts.sends = 2;
    hear(&facts);
    circuit(&mut facts).state = BreakerState::HalfOpen { probe_at: at(-3) };
    hear(&facts);
    facts.state = JobState::Ready;
    hear(&facts);
    circuit(&mut facts).state = BreakerState::Recovering { room: 8, grown_at: at(-3) };
    hear(&facts);
    circuit(&mut facts).state = BreakerState::NotUnderstood;
    hear(&facts);
    circuit(&mut facts).state = BreakerState::Closed;
    hear(&facts);
    facts.connection.as_mut().expect("it").releasing = None;
    hear(&facts);
    let budget = |is_paced, frees_at| {
        let connection = ConnectionId(3);
        let refusal = Refusal::Budget { connection, used: 14_900, ceiling: 15_000, is_paced, frees_at };
        Some(NoRoomFacts { refusal, held_by: Vec::new() })
    };
    facts.no_room = budget(true, Some(at(900)));
    hear(&facts);
    facts.no_room = budget(false, None);
    hear(&facts);
    facts.no_room = None;
    hear(&facts);
    facts.ahead = 1;
    facts.is_ahead_bounded = false;
    hear(&facts);
    facts.ahead = 0;
    hear(&facts);
    facts.dispatching = None;
    hear(&facts);
    let expected = [
        ("everything is paused by ada since 2030-05-06T11:59:00Z: the vendor is down", "servantctl resume everything"),
        ("account 7 is paused by ada since 2030-05-06T11:59:00Z: the vendor is down", "servantctl resume account 7"),
        (
            "connection 5 needs to be authorised again since 2030-05-06T11:58:30Z: auth_broken: revoked",
            "the customer authorises connection 5 again, then servantctl connections reauthorised 5",
        ),
        (
            "connection 5 is parked by servant since 2030-05-06T11:58:30Z: auth_broken: revoked",
            "servantctl connections reauthorised 5",
        ),
        (
            "connection 5 is disabled by servant since 2030-05-06T11:58:30Z: auth_broken: revoked",
            "servantctl connections enable 5",
        ),
        (
            "the circuit of na1.example.com is held open by bob since 2030-05-06T11:59:15Z: they asked us to",
            "servantctl breakers clear na1.example.com",
        ),
        (
            "it is tried again at 2030-05-06T12:00:30Z, after attempt 2 failed at 2030-05-06T11:59:59Z \
             (transient: it broke)",
            "time: 2030-05-06T12:00:30Z; or at once: servantctl jobs run",
        ),
        ("it is due at 2030-05-06T12:00:30Z", "time: 2030-05-06T12:00:30Z; or at once: servantctl jobs run"),
        ("no scheduler leads since 2030-05-06T11:59:50Z", "start a scheduler"),
        ("no scheduler leads", "start a scheduler"),
        ("no servant of kind noop is alive since 2030-05-06T11:59:20Z", "start a servant of kind noop"),
        ("no servant of kind noop was ever seen", "start a servant of kind noop"),
        (
            "no servant of kind noop takes work: 2 alive, paused or draining",
            "servantctl servants resume ID, or start another",
        ),
        (
            "the circuit of na1.example.com is open since 2030-05-06T11:59:10Z (6 of 8 attempts failed), next probe at \
             2030-05-06T12:00:20Z",
            "a probe that succeeds, at 2030-05-06T12:00:20Z or later",
        ),
        (
            "it is on the queue since 2030-05-06T11:59:40Z, sent 2 times; sent again at 2030-05-06T12:00:10Z unless \
             a servant takes it",
            "a servant with a free slot receives it",
        ),
        (
            "the circuit of na1.example.com is open since 2030-05-06T11:59:10Z (6 of 8 attempts failed), a probe is on \
             its way since 2030-05-06T11:59:57Z",
            "the probe succeeds",
        ),
        ("na1.example.com recovers since 2030-05-06T11:59:10Z: 8 jobs go at a time", "jobs of it succeed, and time"),
        (
            "the circuit of na1.example.com is not understood (6 of 8 attempts failed): one job goes at a time",
            "the version that wrote it, or servantctl breakers clear na1.example.com",
        ),
        (
            "connection 5 was let go at 2030-05-06T11:59:58Z: 4 at a time for now, any number from 2030-05-06T12:00:03Z on",
            "time: 2030-05-06T12:00:03Z; priority 0 does not wait",
        ),
        (
            "limit account 7: concurrency at 5 of 5 (held by jobs 1, 2, …)",
            "one of its jobs ends; or a greater limit: servantctl limits set each_account",
        ),
        (
            "budget of connection 3: 14,900 of 15,000, spread over the day, frees at 2030-05-06T12:15:00Z",
            "time: 2030-05-06T12:15:00Z; or a greater share: servantctl budgets set 3; priority 0 does not wait",
        ),
        (
            "budget of connection 3: 14,900 of 15,000",
            "jobs in flight report what they used; or a greater share: servantctl budgets set 3",
        ),
        (
            "at least 1,000 jobs of its account go first, whose share of the kind is 25 %",
            "they are done; more servants, or a more urgent priority",
        ),
        (
            "1 job of its account goes first, whose share of the kind is 25 %",
            "they are done; more servants, or a more urgent priority",
        ),
        (
            "it is the next of its kind; 60 on the queue are all that its servants, 20 of 20 slots busy, take now",
            "servants take jobs off the queue; more servants",
        ),
        ("it is the next of its kind; its servants have 20 of 20 slots busy", "a slot becomes free; more servants"),
    ];
    let heard: Vec<(&str, &str)> = heard.iter().map(|(says, clears)| (says.as_str(), clears.as_str())).collect();
    assert_eq!(heard, expected);
}

#[test]
fn a_service_that_recovers_binds_only_while_it_has_no_room() {
    let settings = BreakerSettings::default();
    let mut facts = beset();
    facts.pauses.clear();
    facts.connection.as_mut().expect("it").state = "active".to_owned();
    facts.state = JobState::Ready;
    facts.led_until = Some(at(3));
    facts.servants = ServantFacts { last_seen_at: Some(at(-1)), alive: 1, taking: 1, slots: 20, busy: 2 };
    let circuit = circuit(&mut facts);
    circuit.forced = None;
    circuit.state = BreakerState::Recovering { room: 2, grown_at: at(0) };
    circuit.look(&settings, 2, at(0));
    let says = "na1.example.com recovers since 2030-05-06T11:59:10Z: 2 jobs go at a time";
    assert_eq!(why(&facts).says(), says);
    // Time doubles the room, whoever has looked at the row since.
    let later = at(i64::from(settings.ramp_secs));
    let circuit = facts.connection.as_mut().and_then(|connection| connection.circuit.as_mut()).expect("it");
    circuit.look(&settings, 4, later);
    assert!(matches!(circuit.state, BreakerState::Recovering { room: 4, .. }) && !circuit.has_room, "{circuit:?}");
    circuit.look(&settings, 3, later);
    assert!(matches!(why(&facts), Cause::Releasing(_)), "the next in line is what it waits for");
}

#[test]
fn what_runs_or_has_ended_waits_for_nothing() {
    let mut facts = beset();
    facts.state = JobState::Running;
    facts.held = Some(HeldFacts { servant: Some(ServantId(3)), since: Some(at(-8)), lease_until: Some(at(4)) });
    let running = why(&facts);
    let says = "it runs on servant 3 since 2030-05-06T11:59:52Z, its lease is good until 2030-05-06T12:00:04Z";
    assert_eq!((running.says().as_str(), running.cleared_by()), (says, None));
    facts.state = JobState::Failed;
    facts.finished_at = Some(at(-2));
    let ended = why(&facts);
    assert_eq!(ended, Cause::Finished { state: JobState::Failed, at: Some(at(-2)) });
    assert_eq!((ended.says().as_str(), ended.cleared_by()), ("it is failed since 2030-05-06T11:59:58Z", None));
}

#[test]
fn what_a_vendor_has_no_room_for_is_delayed_and_says_until_when() {
    let mut facts = beset();
    facts.pauses.clear();
    facts.connection = None;
    let error = "salesforce: the allowance of 24 hours is used up".to_owned();
    facts.last_failure = Some(LastFailure { attempt: 1, class: "rate_limited".to_owned(), error, at: at(-1) });
    let says = "it is delayed until 2030-05-06T12:00:30Z, since 2030-05-06T11:59:59Z: salesforce: the allowance of 24 \
                hours is used up";
    assert_eq!(why(&facts).says(), says);
}

#[test]
fn servants_that_are_lost_stopped_or_resting_take_nothing() {
    let mut servants = ServantFacts::default();
    servants.count("running", at(-16), at(0), 10, 5);
    servants.count("stopped", at(-1), at(0), 10, 0);
    servants.count("paused", at(-2), at(0), 10, 0);
    assert_eq!((servants.alive, servants.taking, servants.last_seen_at), (1, 0, Some(at(-1))));
    servants.count("running", at(-15), at(0), 10, 5);
    assert_eq!((servants.alive, servants.taking, servants.slots, servants.busy), (2, 1, 10, 5));
}

#[test]
fn a_limit_names_its_bound_its_jobs_and_its_end() {
    let cause = |what, used, frees_at, held_by: &[i64]| {
        let kind = Kind::new("salesforce_sync").expect("a kind");
        let (scope, subject) = (Scope::Kind(kind.clone()), Subject::Kind(kind));
        let refusal = Refusal::Limit { scope, subject, what, used, maximum: used, frees_at };
        refusal.cause(&held_by.iter().copied().map(JobId).collect::<Vec<_>>())
    };
    let all = cause(What::Concurrency, 1, None, &[8]);
    assert_eq!(all.says(), "limit kind salesforce_sync: concurrency at 1 of 1 (held by job 8)");
    let day = cause(What::PerDay, 10_000, Some(at(30)), &[]);
    assert_eq!(day.says(), "limit kind salesforce_sync: per_day at 10,000 of 10,000, frees at 2030-05-06T12:00:30Z");
    let clears = "time: 2030-05-06T12:00:30Z; or a greater limit: servantctl limits set kind salesforce_sync";
    assert_eq!(day.cleared_by().as_deref(), Some(clears));
    let wire = serde_json::to_value(&day).expect("JSON");
    assert_eq!((&wire["cause"], &wire["what"]), (&"limit".into(), &"per_day".into()));
    assert_eq!(serde_json::from_value::<Cause>(wire).expect("a cause"), day);
}
