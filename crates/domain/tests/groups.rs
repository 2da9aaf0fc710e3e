//! The laws of groups: when one ends and how, whatever its members did, and in whatever order they did it.

use domain::{FinishWhen, GroupCounts, GroupState, GroupVerdict, JobEvent, JobState, next};
use proptest::prelude::*;

/// What a group goes through.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Something happens to a member.
    Job(usize, usize),
    /// A member that runs ends, and adds so many of its own in the same commit.
    FanOut(usize, usize),
    /// Somebody else adds one.
    Join,
    Seal,
    Cancel,
    /// The leader looks.
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (any::<usize>(), 0..JobEvent::ALL.len()).prop_map(|(job, event)| Step::Job(job, event)),
        2 => (any::<usize>(), 0..3_usize).prop_map(|(job, children)| Step::FanOut(job, children)),
        1 => Just(Step::Join),
        1 => Just(Step::Seal),
        1 => Just(Step::Cancel),
        6 => Just(Step::Look),
    ];
    proptest::collection::vec(step, 1..120)
}

fn when() -> impl Strategy<Value = Option<FinishWhen>> {
    proptest::sample::select(vec![None, Some(FinishWhen::AllDone), Some(FinishWhen::AllSucceeded)])
}

fn counted(members: &[JobState]) -> GroupCounts {
    let mut counts = GroupCounts::default();
    for member in members {
        counts.jobs[usize::try_from(member.code()).expect("a code is no less than 0")] += 1;
    }
    counts
}

proptest! {
    #[test]
    fn a_finishing_job_runs_once_and_only_when_what_it_asks_for_is_true(steps in steps(), when in when()) {
        let mut state = GroupState::Open;
        let mut members = vec![JobState::Ready];
        let mut runs = 0;
        for step in steps {
            match step {
                Step::Job(at, event) => {
                    let at = at % members.len();
                    let event = JobEvent::ALL[event];
                    if event == JobEvent::Retry && !state.allows_retries() {
                        continue;
                    }
                    if let Some(to) = next(members[at], event) {
                        members[at] = to;
                        if event == JobEvent::Retry {
                            state = state.after_retry();
                        }
                    }
                }
                Step::FanOut(at, children) => {
                    let at = at % members.len();
                    if members[at] == JobState::Running && state.admits(true) {
                        members[at] = JobState::Succeeded;
                        members.extend(std::iter::repeat_n(JobState::Ready, children));
                    }
                }
                Step::Join if state.admits(false) => members.push(JobState::Scheduled),
                Step::Seal if state == GroupState::Open => state = GroupState::Sealed,
                Step::Cancel if matches!(state, GroupState::Open | GroupState::Sealed) => state = GroupState::Cancelling,
                Step::Look => {
                    let counts = counted(&members);
                    let before = state;
                    if let GroupVerdict::End { state: end, finishing_runs } = state.verdict(when, &counts) {
                        prop_assert!(members.iter().all(|member| member.is_finished()), "it ended before its members");
                        prop_assert!(end.is_ended() && !before.is_ended(), "{before} ended again as {end}");
                        let is_success = members.iter().all(|member| *member == JobState::Succeeded);
                        if finishing_runs {
                            runs += 1;
                            prop_assert_eq!(end, GroupState::Finished);
                            prop_assert!(when == Some(FinishWhen::AllDone) || is_success, "not all succeeded");
                        }
                        prop_assert_eq!(
                            end == GroupState::Failed,
                            before == GroupState::Sealed && when == Some(FinishWhen::AllSucceeded) && !is_success
                        );
                        prop_assert_eq!(end == GroupState::Cancelled, before == GroupState::Cancelling);
                        state = end;
                    } else {
                        let may_end = matches!(state, GroupState::Sealed | GroupState::Cancelling);
                        prop_assert!(!may_end || counts.unfinished() > 0, "nothing is left to wait for");
                    }
                }
                Step::Join | Step::Seal | Step::Cancel => {}
            }
            prop_assert!(runs <= 1, "the finishing job ran twice");
            prop_assert!(runs == 0 || when.is_some());
            prop_assert!(runs == 0 || state == GroupState::Finished);
        }
    }
}

#[test]
fn names_are_read_back_and_counts_add_up() {
    for state in GroupState::ALL {
        assert_eq!(state.as_str().parse(), Ok(state));
    }
    assert!("not_understood".parse::<GroupState>().is_err(), "nobody writes it or asks for it");
    assert!("done".parse::<GroupState>().unwrap_err().contains("open, sealed, cancelling"));
    let counts = GroupCounts { jobs: [1, 2, 3, 4, 5, 6, 7], done: 0, total: 0 };
    assert_eq!((counts.unfinished(), counts.members(), counts.of(JobState::Failed)), (10, 28, 6));
}

#[test]
fn a_group_without_members_ends_when_it_is_sealed() {
    let none = GroupCounts::default();
    assert_eq!(GroupState::Open.verdict(None, &none), GroupVerdict::Wait);
    for when in [FinishWhen::AllDone, FinishWhen::AllSucceeded] {
        let end = GroupVerdict::End { state: GroupState::Finished, finishing_runs: true };
        assert_eq!(GroupState::Sealed.verdict(Some(when), &none), end);
    }
}

#[test]
fn a_group_that_is_not_understood_is_left_alone() {
    let state = GroupState::NotUnderstood;
    for when in [None, Some(FinishWhen::AllDone), Some(FinishWhen::AllSucceeded)] {
        assert_eq!(state.verdict(when, &GroupCounts::default()), GroupVerdict::Wait);
    }
    assert!(!state.admits(false) && !state.admits(true) && !state.allows_retries() && !state.is_ended());
    assert_eq!(state.after_retry(), state);
}
