//! The runner: one task a group, in any interleaving; a crash forgets where they were.

use super::{Decision, GROUPS, Groups, Routes, State, X, Y, abort_of, commit_of};
use crate::explore::Steps;
use crate::guard::Guard;

/// Where a task is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
enum Phase {
    #[default]
    Staging,
    Admitting,
    Remapping,
    Publishing,
    Resolving,
    Done,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Task {
    phase: Phase,
    /// The routes as it read them last, for one change.
    routes: Option<Routes>,
}

/// The process that runs the tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Runner {
    tasks: [Task; GROUPS],
    crashes: u8,
}

impl Groups {
    pub(super) fn runner_steps(&self, state: &State, steps: &mut Steps<State>) {
        if state.runner.crashes < self.crashes {
            steps.change(format_args!("the runner crashes and resumes"), state, |next| {
                next.runner = Runner { crashes: state.runner.crashes + 1, ..Runner::default() };
            });
        }
        for group in 0..GROUPS {
            let decision = self.decision(state, group);
            match (state.runner.tasks[group].phase, decision) {
                (Phase::Staging, None) => self.stage(state, group, steps),
                (Phase::Staging, Some(decision)) => {
                    steps.change(format_args!("group {group} reads its decision: {decision:?}"), state, |next| {
                        next.runner.tasks[group].phase = Phase::Admitting;
                    });
                }
                (Phase::Admitting, Some(Decision::Commit)) => {
                    self.change_routes(state, group, (Some(commit_of(group)), None), Phase::Remapping, steps);
                }
                (Phase::Admitting, Some(Decision::Abort)) => {
                    let abort = Some(abort_of(group));
                    self.change_routes(state, group, (abort, abort), Phase::Resolving, steps);
                }
                (Phase::Remapping, _) => self.remap(state, group, steps),
                (Phase::Publishing, _) => self.change_routes(state, group, (None, Some(commit_of(group))), Phase::Resolving, steps),
                (Phase::Resolving, Some(decision)) => self.resolve_group(state, group, decision, steps),
                (Phase::Admitting | Phase::Resolving, None) | (Phase::Done, _) => {}
            }
        }
    }

    fn stage(&self, state: &State, group: usize, steps: &mut Steps<State>) {
        let regions = state.groups[group].regions;
        for at in [X, Y] {
            if !regions[at].staged && regions[at].generation == 0 {
                steps.change(format_args!("Stage of region {at} of group {group}"), state, |next| {
                    next.groups[group].regions[at].staged = true;
                });
            }
        }
        if regions.iter().all(|region| region.staged) {
            steps.change(format_args!("commit of group {group} is decided"), state, |next| self.decide(next, group, Decision::Commit));
        }
        if self.aborts {
            steps.change(format_args!("abort of group {group} is decided"), state, |next| self.decide(next, group, Decision::Abort));
        }
    }

    /// Reads the table's routes, and later writes them back with this group's generations changed, if they are still those
    /// that were read. What is there already needs no change.
    fn change_routes(&self, state: &State, group: usize, to: (Option<u8>, Option<u8>), then: Phase, steps: &mut Steps<State>) {
        let Some(read) = state.runner.tasks[group].routes else {
            return steps.change(format_args!("group {group} reads the routes"), state, |next| {
                next.runner.tasks[group].routes = Some(state.routes);
            });
        };
        steps.change(format_args!("group {group} writes the routes: {to:?}"), state, |next| {
            let mut routes = read;
            routes.write[group] = to.0.unwrap_or(read.write[group]);
            routes.read[group] = to.1.unwrap_or(read.read[group]);
            let task = &mut next.runner.tasks[group];
            task.routes = None;
            if routes == read {
                task.phase = then;
            } else if read.revision == state.routes.revision || !self.holds(Guard::RouteRevisionCompared) {
                task.phase = then;
                routes.revision = state.routes.revision + 1;
                let back = |of: fn(&Routes) -> [u8; GROUPS]| (0..GROUPS).any(|at| of(&routes)[at] < of(&state.routes)[at]);
                if back(|routes| routes.write) || back(|routes| routes.read) {
                    next.broken = Some("the routes of the other group went back");
                }
                next.routes = routes;
            }
        });
    }

    fn remap(&self, state: &State, group: usize, steps: &mut Steps<State>) {
        if state.groups[group].remap.is_some() {
            steps.change(format_args!("group {group} has its remap"), state, |next| next.runner.tasks[group].phase = Phase::Publishing);
        } else {
            steps.change(format_args!("group {group} drains and remaps"), state, |next| {
                next.groups[group].remap = Some(state.groups[group].regions[X].rows);
                next.runner.tasks[group].phase = Phase::Publishing;
            });
        }
    }

    fn resolve_group(&self, state: &State, group: usize, decision: Decision, steps: &mut Steps<State>) {
        let resolved = if decision == Decision::Commit { commit_of(group) } else { abort_of(group) };
        let open = |at: &usize| state.groups[group].regions[*at].generation != resolved;
        for at in [X, Y].into_iter().filter(open) {
            let mut next = state.clone();
            self.resolve(&mut next, group, at, decision);
            if next.groups != state.groups {
                steps.to(format_args!("Resolve {decision:?} of region {at} of group {group}"), next);
            }
        }
        if ![X, Y].iter().any(open) {
            steps.change(format_args!("group {group} is done"), state, |next| next.runner.tasks[group].phase = Phase::Done);
        }
    }
}
