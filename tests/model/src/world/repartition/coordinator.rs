//! Coordinators: each holds what it has seen in memory, loses it in a crash, and sees it again when it resumes.

use std::fmt::Arguments;

use super::region::{CREATE_C, STAGE_A, STAGE_B, resolve_message};
use super::{ABORTED, BASE, COMMITTED, Decision, K1, K2, NAMES, Repartition, SECOND, State};
use crate::explore::Steps;
use crate::guard::Guard;

/// What a coordinator knows. Regions are bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Coordinator {
    running: bool,
    started: bool,
    /// The runner epoch that it took.
    epoch: u8,
    pub(super) sees_staged: u8,
    pub(super) decision: Option<Decision>,
    drained: [Option<u8>; 2],
    remapped: u8,
    /// The revision of the routes that it read last, for one comparison.
    revision: Option<u8>,
    admitted: bool,
    published: bool,
    resolved: u8,
    crashes: u8,
}

impl Coordinator {
    /// The one that took the procedure up.
    pub(super) fn first() -> Self {
        Self { running: true, started: true, epoch: 1, ..Self::default() }
    }
}

/// The steps of one coordinator.
struct Actor<'a> {
    world: &'a Repartition,
    state: &'a State,
    at: usize,
    own: Coordinator,
}

impl Actor<'_> {
    fn holds(&self, guard: Guard) -> bool {
        self.world.guards.holds(guard)
    }

    fn step(&self, steps: &mut Steps<State>, what: Arguments<'_>, act: impl FnOnce(&mut State, &mut Coordinator)) {
        steps.change(format_args!("coordinator {} {what}", self.at + 1), self.state, |next| {
            let mut own = self.own;
            act(next, &mut own);
            next.coordinators[self.at] = own;
        });
    }

    /// The KV transaction of a publish: compares the route revision and the runner epoch.
    fn publish(&self, state: &mut State, own: &mut Coordinator, write: Option<u8>, read: Option<u8>) -> bool {
        let revision = own.revision.take() == Some(state.revision) || !self.holds(Guard::RouteRevisionCompared);
        let epoch = own.epoch == state.runner_epoch || !self.holds(Guard::RunnerEpochCompared);
        if !revision || !epoch {
            return false;
        }
        for (current, new) in [(state.write_set, write), (state.read_set, read)] {
            if current == SECOND && new.is_some_and(|new| new < SECOND) {
                state.broken = Some("routes went back to an old generation");
            }
        }
        state.write_set = write.unwrap_or(state.write_set);
        state.read_set = read.unwrap_or(state.read_set);
        state.published |= read == Some(COMMITTED);
        state.revision += 1;
        true
    }

    fn read_revision(&self, steps: &mut Steps<State>) {
        if self.own.revision.is_none() && !(self.own.admitted && self.own.published) {
            self.step(steps, format_args!("reads the route revision"), |state, own| own.revision = Some(state.revision));
        }
    }

    /// DESIGN 8, steps 1 to 4.
    fn prepare(&self, steps: &mut Steps<State>) {
        let state = self.state;
        if let Some(decision) = state.decision {
            self.step(steps, format_args!("reads the decision"), |_, own| own.decision = Some(decision));
        }
        for (message, what) in [(CREATE_C, "sends the creation of C"), (STAGE_A, "sends Stage of A"), (STAGE_B, "sends Stage of B")] {
            if state.network & message == 0 {
                self.step(steps, format_args!("{what}"), |state, _| state.network |= message);
            }
        }
        for at in (0..3).filter(|at| self.own.sees_staged & (1 << at) == 0 && state.regions[*at].staged) {
            self.step(steps, format_args!("sees that {} is staged", NAMES[at]), |_, own| own.sees_staged |= 1 << at);
        }
        let decide = |decision: Decision| {
            move |state: &mut State, own: &mut Coordinator, once: bool| {
                let decided = if once { *state.decision.get_or_insert(decision) } else { *state.decision.insert(decision) };
                own.decision = Some(decided);
            }
        };
        let once = self.holds(Guard::DecisionCreatedOnce);
        if self.own.sees_staged == 0b111 || !self.holds(Guard::StageBeforeDecision) {
            self.step(steps, format_args!("creates the decision: commit"), |state, own| decide(Decision::Commit)(state, own, once));
        }
        if self.world.aborts {
            self.step(steps, format_args!("creates the decision: abort"), |state, own| decide(Decision::Abort)(state, own, once));
        }
    }

    /// DESIGN 8, step 4: publish a in both sets, then every region resolves.
    fn abort(&self, steps: &mut Steps<State>) {
        let (state, generation) = (self.state, if self.holds(Guard::AbortHasOwnGeneration) { ABORTED } else { BASE });
        if self.holds(Guard::AbortPublishes) && !self.own.admitted {
            if self.own.revision.is_some() {
                self.step(steps, format_args!("publishes the routes of the abort"), |state, own| {
                    let there = state.write_set == generation && state.read_set == generation;
                    if there || self.publish(state, own, Some(generation), Some(generation)) {
                        (own.admitted, own.published) = (true, true);
                    }
                });
            }
            return;
        }
        for (at, name) in NAMES.iter().enumerate() {
            self.call_resolve(at, Decision::Abort, steps);
            let region = state.regions[at];
            let sent = state.network & resolve_message(at, Decision::Abort) != 0;
            let resolved = match at {
                2 => region.retired || (!self.holds(Guard::AbortRetiresNewRegions) && !region.exists),
                _ => region.generation == ABORTED || (sent && !self.holds(Guard::AbortResolvesUnstaged)),
            };
            if self.world.late_messages && self.own.resolved & (1 << at) == 0 && !region.staged && resolved {
                self.step(steps, format_args!("sees that {} is resolved", name), |_, own| own.resolved |= 1 << at);
            }
        }
        self.finish(steps);
    }

    fn call_resolve(&self, at: usize, decision: Decision, steps: &mut Steps<State>) {
        let message = resolve_message(at, decision);
        if self.world.late_messages {
            if self.state.network & message == 0 {
                self.step(steps, format_args!("sends Resolve {decision:?} of {}", NAMES[at]), |state, _| state.network |= message);
            }
        } else if decision == Decision::Abort || self.state.regions[at].staged {
            self.step(steps, format_args!("calls Resolve {decision:?} of {}", NAMES[at]), |state, own| {
                self.world.resolve(state, at, decision);
                own.resolved |= u8::from(decision == Decision::Abort) << at;
            });
        }
    }

    fn finish(&self, steps: &mut Steps<State>) {
        let runner = self.own.epoch == self.state.runner_epoch || !self.holds(Guard::RunnerEpochCompared);
        if self.own.resolved == 0b111 && !self.state.done && runner {
            self.step(steps, format_args!("ends the procedure"), |state, _| state.done = true);
        }
    }

    /// DESIGN 8, step 5.
    fn admit(&self, steps: &mut Steps<State>) {
        if self.own.revision.is_some() {
            self.step(steps, format_args!("publishes the write set"), |state, own| {
                let there =
                    self.holds(Guard::RouteRevisionCompared) && state.write_set == COMMITTED && own.revision == Some(state.revision);
                if there {
                    own.revision = None;
                }
                own.admitted = there || self.publish(state, own, Some(COMMITTED), None);
            });
        }
    }

    /// DESIGN 8, steps 6 and 7.
    fn drain_and_remap(&self, steps: &mut Steps<State>) {
        let state = self.state;
        for (at, name) in NAMES.iter().enumerate().take(2) {
            let answers = state.regions[at].staged || !self.holds(Guard::StageBeforeDecision);
            if self.own.drained[at].is_none() && answers {
                let rows = state.regions[at].visible;
                self.step(steps, format_args!("drains {}", name), |_, own| own.drained[at] = Some(rows));
            }
        }
        if let [Some(a), Some(b)] = self.own.drained {
            for (index, at, rows) in [(0, 0, (a | b) & K2), (1, 2, (a | b) & K1)] {
                if state.remaps[index].is_none() {
                    self.step(steps, format_args!("sends RemapStaged of {}", NAMES[at]), |state, _| state.remaps[index] = Some(rows));
                }
            }
        }
        for (index, at) in [(0, 0), (1, 2)] {
            if self.own.remapped & (1 << index) == 0 && state.regions[at].remap.is_some() {
                self.step(steps, format_args!("sees the remap of {}", NAMES[at]), |_, own| own.remapped |= 1 << index);
            }
        }
    }

    /// DESIGN 8, step 8.
    fn publish_and_resolve(&self, steps: &mut Steps<State>) {
        let remapped = self.own.remapped == 0b11 || (!self.holds(Guard::PublishAfterEveryRemap) && self.own.remapped != 0);
        if !self.own.published && remapped && self.own.revision.is_some() {
            self.step(steps, format_args!("publishes the read set"), |state, own| {
                let there = self.holds(Guard::RouteRevisionCompared) && state.read_set == COMMITTED && own.revision == Some(state.revision);
                if there {
                    own.revision = None;
                }
                own.published = there || self.publish(state, own, None, Some(COMMITTED));
            });
        }
        if !self.own.published && self.holds(Guard::ResolveAfterPublish) {
            return;
        }
        for (at, name) in NAMES.iter().enumerate() {
            self.call_resolve(at, Decision::Commit, steps);
            let region = self.state.regions[at];
            if self.own.resolved & (1 << at) == 0 && !region.staged && region.generation == COMMITTED {
                self.step(steps, format_args!("sees that {} is resolved", name), |_, own| own.resolved |= 1 << at);
            }
        }
        if self.own.published {
            self.finish(steps);
        }
    }

    /// Starts or resumes, if it is its turn.
    fn start(&self, steps: &mut Steps<State>) {
        let turn = !self.own.started || self.own.epoch == self.state.runner_epoch;
        if self.state.done || !turn {
            return;
        }
        self.step(steps, format_args!("takes over"), |state, own| {
            state.runner_epoch += u8::from(!own.started);
            *own = Coordinator { running: true, started: true, crashes: own.crashes, epoch: state.runner_epoch, ..Coordinator::default() };
        });
    }
}

impl Repartition {
    pub(super) fn coordinator_steps(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let own = state.coordinators[at];
        let actor = Actor { world: self, state, at, own };
        // A paused coordinator that goes on after the end matters only where there is something to spoil.
        if state.done && !self.late_messages && !self.second {
            return;
        }
        if !own.running {
            return actor.start(steps);
        }
        if own.crashes < self.crashes {
            actor.step(steps, format_args!("crashes"), |_, own| {
                *own = Coordinator { started: true, epoch: own.epoch, crashes: own.crashes + 1, ..Coordinator::default() };
            });
        }
        match own.decision {
            None => actor.prepare(steps),
            Some(Decision::Abort) => {
                actor.read_revision(steps);
                actor.abort(steps);
            }
            Some(Decision::Commit) => {
                actor.read_revision(steps);
                if own.admitted {
                    actor.drain_and_remap(steps);
                    actor.publish_and_resolve(steps);
                } else {
                    actor.admit(steps);
                }
            }
        }
    }
}
