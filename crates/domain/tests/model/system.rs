//! Owns what may happen to a world: the steps of dispatcher, relay, sweeper, servants and rescue, the faults, the
//! properties, and the ways to build it wrong. It does not own time: a lease or a bound "ran out" whenever that makes
//! a difference, for free when nobody would come back by himself, and as a counted fault when somebody is only late.

use crate::world::{Between, Faults, Hands, Held, Row, SERVANTS, World};
use domain::{JobEvent, JobState};
use stateright::{Model, Property};

/// A mistake in the design, which the checker has to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    FinishWithoutFence,
    /// A failure or a gift back by an attempt that is no longer the row's.
    SettleWithoutFence,
    EffectsOutsideTheFinish,
    MarkWithoutOutbox,
    SendBeforeMark,
    ForgetBeforeSend,
    NoSweeper,
    /// By a list of dispatched jobs alone.
    SweepIgnoresState,
    NoRescue,
    RescueKeepsToken,
    /// By a list of lost leases that was read before.
    RescueIgnoresState,
    DeleteBeforeClaim,
    ClaimIgnoresState,
    GiveBackIsCharged,
}

/// The design, its bounds and its mistakes (none, if it is ours).
#[derive(Clone, Debug)]
pub(crate) struct System {
    pub(crate) jobs: usize,
    pub(crate) attempts_max: u8,
    pub(crate) faults: Faults,
    pub(crate) mistakes: Vec<Mistake>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Promote(usize),
    Dispatch(usize),
    DispatcherGoesOn,
    RelayReads(usize),
    RelaySends,
    RelayForgets,
    SendAgain(usize),
    Receive { servant: usize, job: usize },
    Claim(usize),
    Delete(usize),
    Finish(usize),
    FailAttempt(usize),
    Rescue(usize),
    RescueGoesOn,
    // Faults from here on: they may happen, and nothing may wait for them.
    SendAgainEarly(usize),
    RescueLate(usize),
    Crash(usize),
    Stop(usize),
    RelayCrashes,
    DispatcherCrashes,
    Duplicate(usize),
    Lose(usize),
}

impl System {
    fn has(&self, mistake: Mistake) -> bool {
        self.mistakes.contains(&mistake)
    }

    /// Steps that the system takes by itself.
    pub(crate) fn own_steps(&self, world: &World, steps: &mut Vec<Step>) {
        for (job, row) in world.rows.iter().enumerate() {
            match row.state {
                JobState::Scheduled => steps.push(Step::Promote(job)),
                JobState::Ready if world.dispatcher == Between::Nothing => steps.push(Step::Dispatch(job)),
                JobState::Queued if !self.has(Mistake::NoSweeper) && !world.is_on_its_way(job) => {
                    steps.push(Step::SendAgain(job));
                }
                JobState::Running
                    if !self.has(Mistake::NoRescue) && !world.is_held(job) && world.rescuer == Between::Nothing =>
                {
                    steps.push(Step::Rescue(job));
                }
                _ => {}
            }
            if row.outbox && world.relay == Between::Nothing {
                steps.push(Step::RelayReads(job));
            }
            for servant in 0..SERVANTS {
                if row.visible > 0 && world.servants[servant] == Hands::Empty {
                    steps.push(Step::Receive { servant, job });
                }
            }
        }
        match world.relay {
            Between::Nothing => {}
            Between::First(_) => steps.push(Step::RelaySends),
            Between::Second(_) => steps.push(Step::RelayForgets),
        }
        if world.rescuer != Between::Nothing {
            steps.push(Step::RescueGoesOn);
        }
        if world.dispatcher != Between::Nothing {
            steps.push(Step::DispatcherGoesOn);
        }
        for (servant, hands) in world.servants.iter().enumerate() {
            match hands {
                Hands::Empty => {}
                Hands::Received { deleted, .. } if self.has(Mistake::DeleteBeforeClaim) && !deleted => {
                    steps.push(Step::Delete(servant));
                }
                Hands::Received { .. } => steps.push(Step::Claim(servant)),
                Hands::Claimed(_) => steps.push(Step::Delete(servant)),
                Hands::Running(_) => steps.extend([Step::Finish(servant), Step::FailAttempt(servant)]),
                Hands::Effected(_) => steps.push(Step::Finish(servant)),
            }
        }
    }

    fn fault_steps(&self, world: &World, steps: &mut Vec<Step>) {
        let faults = world.faults;
        for (job, row) in world.rows.iter().enumerate() {
            let is_delivered = world.servants.iter().any(|hands| hands.message() == Some(job));
            let is_swept = match row.state {
                JobState::Queued => true,
                JobState::Running => self.has(Mistake::SweepIgnoresState),
                _ => false,
            };
            if faults.early_sweeps > 0
                && is_swept
                && !row.outbox
                && (world.is_on_its_way(job) || row.state == JobState::Running)
                && !self.has(Mistake::NoSweeper)
            {
                steps.push(Step::SendAgainEarly(job));
            }
            if faults.pauses > 0
                && row.state == JobState::Running
                && world.is_held(job)
                && world.rescuer == Between::Nothing
                && !self.has(Mistake::NoRescue)
            {
                steps.push(Step::RescueLate(job));
            }
            if faults.duplicates > 0 && (row.visible > 0 || is_delivered) {
                steps.push(Step::Duplicate(job));
            }
            if faults.losses > 0 && row.visible > 0 {
                steps.push(Step::Lose(job));
            }
        }
        for (servant, hands) in world.servants.iter().enumerate() {
            if faults.crashes > 0 && *hands != Hands::Empty {
                steps.push(Step::Crash(servant));
            }
            if faults.stops > 0 && matches!(hands, Hands::Running(_)) {
                steps.push(Step::Stop(servant));
            }
        }
        if faults.relay_crashes > 0 && world.relay != Between::Nothing {
            steps.push(Step::RelayCrashes);
        }
        if faults.relay_crashes > 0 && world.dispatcher != Between::Nothing {
            steps.push(Step::DispatcherCrashes);
        }
    }

    /// `WHERE state = running AND attempt_token = …`
    fn is_current(row: &Row, held: Held) -> bool {
        row.state == JobState::Running && row.token == Some(held.token)
    }

    fn dispatch(&self, world: &mut World, job: usize) {
        if self.has(Mistake::SendBeforeMark) {
            world.rows[job].visible += 1;
            world.dispatcher = Between::Second(job);
            return;
        }
        world.rows[job].apply(JobEvent::Dispatch, JobState::Queued);
        if self.has(Mistake::MarkWithoutOutbox) {
            world.dispatcher = Between::First(job);
        } else {
            world.rows[job].outbox = true;
        }
    }

    fn claim(&self, world: &mut World, servant: usize) {
        let Hands::Received { job, deleted } = world.servants[servant] else { return };
        let row = &mut world.rows[job];
        if row.state != JobState::Queued && !self.has(Mistake::ClaimIgnoresState) {
            // Refused: the message is deleted and nothing else happens.
            world.servants[servant] = Hands::Empty;
            return;
        }
        row.claims += 1;
        row.attempt += 1;
        let token = row.token.filter(|_| self.has(Mistake::RescueKeepsToken)).unwrap_or(row.claims);
        row.apply(JobEvent::Claim, JobState::Running);
        row.token = Some(token);
        row.owner = Some(servant);
        let held = Held { job, token, claim: row.claims };
        world.servants[servant] = if deleted { Hands::Running(held) } else { Hands::Claimed(held) };
    }

    fn finish(&self, world: &mut World, servant: usize) {
        let hands = world.servants[servant];
        let Some(held) = hands.held() else { return };
        let row = &mut world.rows[held.job];
        if self.has(Mistake::EffectsOutsideTheFinish) && matches!(hands, Hands::Running(_)) {
            row.effects += 1;
            world.servants[servant] = Hands::Effected(held);
            return;
        }
        world.servants[servant] = Hands::Empty;
        if !Self::is_current(row, held) && !self.has(Mistake::FinishWithoutFence) {
            row.refused = true;
            return;
        }
        row.stale_finish |= held.claim != row.claims || row.state != JobState::Running;
        row.effects += u8::from(matches!(hands, Hands::Running(_)));
        row.apply(JobEvent::Succeed, JobState::Succeeded);
        row.release(false);
    }

    /// The end of an attempt without success, by its servant or by the rescue.
    fn settle(&self, row: &mut Row, again: JobEvent, never: JobEvent, keeps_token: bool) {
        let event = if row.attempt >= self.attempts_max { never } else { again };
        row.apply(event, JobState::Failed);
        row.release(keeps_token);
    }

    fn fail_or_give_back(&self, world: &mut World, servant: usize, gives_back: bool) {
        let Some(held) = world.servants[servant].held() else { return };
        world.servants[servant] = Hands::Empty;
        let row = &mut world.rows[held.job];
        if !Self::is_current(row, held) && !self.has(Mistake::SettleWithoutFence) {
            row.refused = true;
        } else if gives_back {
            row.apply(JobEvent::GiveBack, JobState::Ready);
            row.attempt -= u8::from(!self.has(Mistake::GiveBackIsCharged));
            row.given_back += 1;
            row.release(false);
        } else {
            self.settle(row, JobEvent::RetryLater, JobEvent::Fail, false);
        }
    }

    fn dispatcher_goes_on(world: &mut World) {
        match world.dispatcher {
            Between::Nothing => {}
            Between::First(job) => world.rows[job].visible += 1,
            Between::Second(job) if world.rows[job].state == JobState::Ready => {
                world.rows[job].apply(JobEvent::Dispatch, JobState::Queued);
            }
            Between::Second(_) => {}
        }
        world.dispatcher = Between::Nothing;
    }

    fn delete(world: &mut World, servant: usize) {
        world.servants[servant] = match world.servants[servant] {
            Hands::Received { job, .. } => Hands::Received { job, deleted: true },
            Hands::Claimed(held) => Hands::Running(held),
            other => other,
        };
    }
}

impl Model for System {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            rows: vec![Row::ready(); self.jobs],
            relay: Between::Nothing,
            dispatcher: Between::Nothing,
            rescuer: Between::Nothing,
            servants: [Hands::Empty; SERVANTS],
            faults: self.faults,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        self.own_steps(world, steps);
        self.fault_steps(world, steps);
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        let keeps_token = self.has(Mistake::RescueKeepsToken);
        match step {
            Step::Promote(job) => world.rows[job].apply(JobEvent::Promote, JobState::Ready),
            Step::Dispatch(job) => self.dispatch(&mut world, job),
            Step::DispatcherGoesOn => Self::dispatcher_goes_on(&mut world),
            Step::RelayReads(job) => {
                world.rows[job].outbox = !self.has(Mistake::ForgetBeforeSend);
                world.relay = Between::First(job);
            }
            Step::RelaySends => {
                let Between::First(job) = world.relay else { return None };
                world.rows[job].visible += 1;
                let is_done = self.has(Mistake::ForgetBeforeSend);
                world.relay = if is_done { Between::Nothing } else { Between::Second(job) };
            }
            Step::RelayForgets => {
                let Between::Second(job) = world.relay else { return None };
                world.rows[job].outbox = false;
                world.relay = Between::Nothing;
            }
            Step::SendAgain(job) | Step::SendAgainEarly(job) => {
                world.faults.early_sweeps -= u8::from(matches!(step, Step::SendAgainEarly(_)));
                world.rows[job].apply(JobEvent::SendAgain, JobState::Queued);
                world.rows[job].outbox = true;
            }
            Step::Receive { servant, job } => {
                world.rows[job].visible -= 1;
                world.servants[servant] = Hands::Received { job, deleted: false };
            }
            Step::Claim(servant) => self.claim(&mut world, servant),
            Step::Delete(servant) => Self::delete(&mut world, servant),
            Step::Finish(servant) => self.finish(&mut world, servant),
            Step::FailAttempt(servant) => self.fail_or_give_back(&mut world, servant, false),
            Step::Rescue(job) | Step::RescueLate(job) => {
                world.faults.pauses -= u8::from(matches!(step, Step::RescueLate(_)));
                if self.has(Mistake::RescueIgnoresState) {
                    world.rescuer = Between::First(job);
                } else {
                    self.settle(&mut world.rows[job], JobEvent::Rescue, JobEvent::RescueFailed, keeps_token);
                }
            }
            Step::RescueGoesOn => {
                let Between::First(job) = world.rescuer else { return None };
                self.settle(&mut world.rows[job], JobEvent::Rescue, JobEvent::RescueFailed, keeps_token);
                world.rescuer = Between::Nothing;
            }
            Step::Crash(servant) => {
                world.faults.crashes -= 1;
                if let Some(job) = world.servants[servant].message() {
                    world.rows[job].visible += 1;
                }
                world.servants[servant] = Hands::Empty;
            }
            Step::Stop(servant) => {
                world.faults.stops -= 1;
                self.fail_or_give_back(&mut world, servant, true);
            }
            Step::RelayCrashes => {
                world.faults.relay_crashes -= 1;
                world.relay = Between::Nothing;
            }
            Step::DispatcherCrashes => {
                world.faults.relay_crashes -= 1;
                world.dispatcher = Between::Nothing;
            }
            Step::Duplicate(job) => {
                world.faults.duplicates -= 1;
                world.rows[job].visible += 1;
            }
            Step::Lose(job) => {
                world.faults.losses -= 1;
                world.rows[job].visible -= 1;
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no effect twice", |_, w: &World| w.rows.iter().all(|r| r.effects <= 1)),
            Property::always("effects and success are one", |_, w: &World| {
                w.rows.iter().all(|r| (r.effects > 0) == (r.state == JobState::Succeeded))
            }),
            Property::always("no finish by a stale token", |_, w: &World| w.rows.iter().all(|r| !r.stale_finish)),
            Property::always("finished never moves", |_, w: &World| w.rows.iter().all(|r| !r.moved_after_end)),
            Property::always("every change is in the table", |_, w: &World| w.rows.iter().all(|r| !r.illegal)),
            Property::always("one owner for each attempt", |_, w: &World| w.each_attempt_has_one_owner()),
            Property::always("a gift back costs no attempt", |system: &System, w: &World| {
                let has_all = |row: &Row| row.claims - row.given_back >= system.attempts_max;
                w.rows.iter().all(|row| row.state != JobState::Failed || has_all(row))
            }),
            Property::always("every job ends", |system: &System, w: &World| {
                let mut steps = Vec::new();
                system.own_steps(w, &mut steps);
                !steps.is_empty() || w.is_over()
            }),
            Property::sometimes("a job succeeds", |_, w: &World| w.rows.iter().any(|r| r.effects > 0)),
            Property::sometimes("a job fails", |_, w: &World| w.rows.iter().any(|r| r.state == JobState::Failed)),
        ]
    }
}
