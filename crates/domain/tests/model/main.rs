//! The life of a job, explored in full: every order of dispatcher, relay, sweeper, servants and rescue, with bounded
//! crashes, pauses, duplicates and losses. Owns the bounds and what has to hold within them, for our design and for
//! fourteen wrong ones, one for each rule. It does not own the statements that the real ledger runs; those have their
//! own tests.

mod system;
mod world;

use domain::JobState;
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::{HashMap, HashSet};
use system::{Mistake, Step, System};
use world::{Faults, World};

const SAFETY: [&str; 7] = [
    "no effect twice",
    "effects and success are one",
    "no finish by a stale token",
    "finished never moves",
    "every change is in the table",
    "one owner for each attempt",
    "a gift back costs no attempt",
];

fn all_faults() -> Faults {
    Faults { crashes: 1, relay_crashes: 1, pauses: 1, duplicates: 1, losses: 1, stops: 1, early_sweeps: 1 }
}

fn one_job(faults: Faults, mistakes: &[Mistake]) -> System {
    System { jobs: 1, attempts_max: 2, faults, mistakes: mistakes.to_vec() }
}

/// Explores everything and expects every property to hold.
fn assert_holds(system: System) {
    let started = std::time::Instant::now();
    let name = format!("{system:?}");
    // Not stopped by the examples, which are discoveries too.
    let checker = system.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    eprintln!(
        "{} states, {} deep, {:.1?}: {name}",
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed()
    );
    checker.assert_properties();
    assert!(checker.is_done());
}

/// Expects the checker to find that `property` breaks, and answers with a way there.
fn counterexample(system: System, property: &'static str) -> Vec<Step> {
    let checker = system.checker().finish_when(HasDiscoveries::AllOf([property].into())).spawn_bfs().join();
    let steps = checker.assert_any_discovery(property).into_actions();
    eprintln!("'{property}' breaks after {} states: {steps:?}", checker.unique_state_count());
    steps
}

#[test]
fn one_job_survives_every_fault() {
    assert_holds(one_job(all_faults(), &[]));
}

#[test]
fn one_job_survives_two_crashes_and_two_pauses_in_three_attempts() {
    let faults = Faults { crashes: 2, pauses: 2, duplicates: 2, losses: 1, ..Faults::default() };
    assert_holds(System { attempts_max: 3, ..one_job(faults, &[]) });
}

#[test]
fn two_jobs_do_not_disturb_each_other() {
    let faults = Faults { crashes: 1, pauses: 1, duplicates: 1, ..Faults::default() };
    assert_holds(System { jobs: 2, attempts_max: 1, ..one_job(faults, &[]) });
    let faults = Faults { pauses: 1, losses: 1, ..Faults::default() };
    assert_holds(System { jobs: 2, ..one_job(faults, &[]) });
}

/// Together with "every job ends" (no state where the system can do nothing more leaves a job open) this is the proof
/// that every run ends with every job finished: there is no way to go round in circles.
#[test]
fn no_run_is_endless() {
    fn visit(system: &System, world: World, is_left: &mut HashMap<World, bool>) {
        is_left.insert(world.clone(), false);
        for next in system.next_states(&world) {
            match is_left.get(&next) {
                Some(true) => {}
                Some(false) => panic!("a circle through {next:?}"),
                None => visit(system, next, is_left),
            }
        }
        is_left.insert(world, true);
    }
    let system = one_job(all_faults(), &[]);
    let mut is_left = HashMap::new();
    visit(&system, system.init_states().remove(0), &mut is_left);
    let ends: HashSet<JobState> =
        is_left.keys().filter(|w| system.next_states(w).is_empty()).map(|w| w.rows[0].state).collect();
    assert_eq!(ends, HashSet::from([JobState::Succeeded, JobState::Failed]));
}

#[test]
fn a_late_servant_is_turned_away() {
    let checker = one_job(Faults { pauses: 1, ..Faults::default() }, &[]).checker().spawn_bfs().join();
    checker.assert_no_discovery("no finish by a stale token");
    let system = one_job(Faults { pauses: 1, ..Faults::default() }, &[]);
    let mut open = system.init_states();
    let mut seen: HashSet<World> = HashSet::new();
    while let Some(world) = open.pop() {
        if seen.insert(world.clone()) {
            open.extend(system.next_states(&world));
        }
    }
    assert!(seen.iter().any(|w| w.rows[0].refused && w.rows[0].state == JobState::Succeeded));
}

#[test]
fn a_finish_without_a_fence_is_found() {
    let faults = Faults { pauses: 1, ..Faults::default() };
    for property in ["no effect twice", "no finish by a stale token", "finished never moves"] {
        let steps = counterexample(one_job(faults, &[Mistake::FinishWithoutFence]), property);
        assert!(steps.iter().any(|s| matches!(s, Step::RescueLate(_))));
    }
}

#[test]
fn a_failure_or_gift_back_without_a_fence_is_found() {
    let faults = Faults { pauses: 1, stops: 1, ..Faults::default() };
    for property in ["finished never moves", "effects and success are one", "every change is in the table"] {
        let steps = counterexample(one_job(faults, &[Mistake::SettleWithoutFence]), property);
        assert!(steps.iter().any(|s| matches!(s, Step::RescueLate(_))), "{steps:?}");
    }
}

#[test]
fn a_gift_back_that_is_charged_is_found() {
    let faults = Faults { stops: 1, ..Faults::default() };
    let steps = counterexample(one_job(faults, &[Mistake::GiveBackIsCharged]), "a gift back costs no attempt");
    assert!(steps.iter().any(|s| matches!(s, Step::Stop(_))));
}

#[test]
fn effects_outside_the_finish_are_found() {
    let faults = Faults { crashes: 1, ..Faults::default() };
    let steps = counterexample(one_job(faults, &[Mistake::EffectsOutsideTheFinish]), "no effect twice");
    assert!(steps.iter().any(|s| matches!(s, Step::Crash(_))));
}

/// The sweeper would hide these three behind its bound, so it is away; the outbox alone then loses nothing.
#[test]
fn a_mark_without_an_outbox_is_found() {
    let faults = Faults { relay_crashes: 1, ..Faults::default() };
    let first_try = |mistakes: &[Mistake]| System { attempts_max: 1, ..one_job(faults, mistakes) };
    assert_holds(first_try(&[Mistake::NoSweeper]));
    for mistake in [Mistake::MarkWithoutOutbox, Mistake::SendBeforeMark, Mistake::ForgetBeforeSend] {
        counterexample(first_try(&[Mistake::NoSweeper, mistake]), "every job ends");
    }
}

#[test]
fn a_lossy_queue_without_a_sweeper_is_found() {
    let faults = Faults { losses: 1, ..Faults::default() };
    assert_holds(one_job(faults, &[]));
    counterexample(one_job(faults, &[Mistake::NoSweeper]), "every job ends");
}

/// The relay forgets by the job's id. When the attempt fails and the job is dispatched again before that, the new
/// entry goes too: even a queue that loses nothing needs the sweeper.
#[test]
fn forgetting_by_id_needs_the_sweeper() {
    assert_holds(one_job(Faults::default(), &[]));
    let steps = counterexample(one_job(Faults::default(), &[Mistake::NoSweeper]), "every job ends");
    assert_eq!(steps.iter().filter(|s| matches!(s, Step::Dispatch(_))).count(), 2);
}

#[test]
fn a_sweep_that_ignores_the_state_is_found() {
    let faults = Faults { early_sweeps: 1, ..Faults::default() };
    let steps = counterexample(one_job(faults, &[Mistake::SweepIgnoresState]), "every change is in the table");
    assert!(steps.iter().any(|s| matches!(s, Step::SendAgainEarly(_))));
}

#[test]
fn a_rescue_by_an_old_list_is_found() {
    let faults = Faults { pauses: 1, ..Faults::default() };
    for property in ["finished never moves", "effects and success are one", "every change is in the table"] {
        let steps = counterexample(one_job(faults, &[Mistake::RescueIgnoresState]), property);
        assert!(matches!(steps.last(), Some(Step::RescueGoesOn)), "{steps:?}");
    }
}

#[test]
fn a_missing_rescue_is_found() {
    let faults = Faults { crashes: 1, ..Faults::default() };
    counterexample(one_job(faults, &[Mistake::NoRescue]), "every job ends");
}

#[test]
fn a_rescue_that_keeps_the_token_is_found() {
    let faults = Faults { pauses: 1, ..Faults::default() };
    for property in ["one owner for each attempt", "no finish by a stale token"] {
        counterexample(one_job(faults, &[Mistake::RescueKeepsToken]), property);
    }
}

#[test]
fn a_delete_before_the_claim_is_found_unless_swept() {
    let faults = Faults { crashes: 1, ..Faults::default() };
    let first_try = |mistakes: &[Mistake]| System { attempts_max: 1, ..one_job(faults, mistakes) };
    assert_holds(first_try(&[Mistake::NoSweeper]));
    assert_holds(first_try(&[Mistake::DeleteBeforeClaim]));
    counterexample(first_try(&[Mistake::DeleteBeforeClaim, Mistake::NoSweeper]), "every job ends");
}

#[test]
fn a_claim_that_ignores_the_state_is_found() {
    let faults = Faults { duplicates: 1, ..Faults::default() };
    for property in ["no effect twice", "finished never moves", "every change is in the table"] {
        counterexample(one_job(faults, &[Mistake::ClaimIgnoresState]), property);
    }
}

#[test]
fn every_safety_property_is_broken_by_some_mistake() {
    let mistakes = [
        Mistake::FinishWithoutFence,
        Mistake::EffectsOutsideTheFinish,
        Mistake::RescueKeepsToken,
        Mistake::ClaimIgnoresState,
        Mistake::GiveBackIsCharged,
    ];
    for property in SAFETY {
        let is_found = mistakes.into_iter().any(|mistake| {
            let faults = Faults { crashes: 1, pauses: 1, duplicates: 1, stops: 1, ..Faults::default() };
            let wanted = HasDiscoveries::AllOf([property].into());
            let checker = one_job(faults, &[mistake]).checker().finish_when(wanted).spawn_bfs().join();
            checker.discovery(property).is_some()
        });
        assert!(is_found, "'{property}' holds for every mistake: it says nothing");
    }
}
