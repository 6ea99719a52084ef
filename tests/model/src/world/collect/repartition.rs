//! Repartitions, as far as they move the reference to F. DESIGN section 8.

use super::{Collect, NAMES, REGIONS, Region, State};
use crate::explore::Steps;
use crate::guard::Guard;

/// What is repartitioned into what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A and B exchange their rows.
    Swap,
    /// A's rows of F go to C, which is new.
    Split,
    /// A and C become A; C retires.
    Merge,
}

impl Kind {
    fn takes(self, at: usize) -> bool {
        match self {
            Self::Swap => at < 2,
            Self::Split | Self::Merge => at != 1,
        }
    }

    /// Whether the remap of region `at` lists F, given which sources listed it at the fence.
    fn lists(self, at: usize, frozen: [bool; REGIONS]) -> bool {
        match self {
            Self::Swap => frozen[1 - at],
            Self::Split => at == 2 && frozen[0],
            Self::Merge => at == 0 && (frozen[0] || frozen[2]),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Decision {
    Open,
    Commit,
    Abort,
}

/// A repartition in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Repartition {
    kind: Kind,
    decision: Decision,
    published: bool,
    /// Which regions listed F when the commit was decided.
    frozen: [bool; REGIONS],
}

/// Whether a remap that is still to come will list F.
pub(super) fn will_list(state: &State) -> bool {
    let Some(Repartition { kind, decision: Decision::Commit, frozen, .. }) = state.repartition else { return false };
    let waits = |at: usize| kind.takes(at) && state.regions[at].staged && state.regions[at].remap.is_none();
    (0..REGIONS).any(|at| waits(at) && kind.lists(at, frozen))
}

impl Collect {
    pub(super) fn plan_steps(&self, state: &State, steps: &mut Steps<State>) {
        if state.repartition.is_some() || state.repartitions >= self.repartitions {
            return;
        }
        let c = state.regions[2];
        for (kind, possible) in [(Kind::Swap, true), (Kind::Split, !c.exists), (Kind::Merge, c.exists && !c.staged)] {
            if !possible {
                continue;
            }
            steps.change(format_args!("a repartition is planned: {kind:?}"), state, |next| {
                next.repartitions += 1;
                next.repartition = Some(Repartition { kind, decision: Decision::Open, published: false, frozen: [false; REGIONS] });
                if kind == Kind::Split {
                    next.regions[2] =
                        Region { exists: true, in_set: self.set_since_plan, staged: true, version: 1, turns: 1, ..Region::default() };
                }
            });
        }
    }

    pub(super) fn repartition_steps(&self, state: &State, repartition: Repartition, steps: &mut Steps<State>) {
        let Repartition { kind, decision, published, .. } = repartition;
        let group = || (0..REGIONS).filter(|at| kind.takes(*at));
        for at in group() {
            self.region_turns(state, at, repartition, steps);
        }
        let staged = group().filter(|at| state.regions[*at].staged).count();
        if decision == Decision::Open {
            if staged == group().count() {
                let frozen = std::array::from_fn(|at| kind.takes(at) && state.regions[at].live);
                let committed = Repartition { decision: Decision::Commit, frozen, ..repartition };
                steps.change(format_args!("commit is decided"), state, |next| next.repartition = Some(committed));
            }
            let aborted = Repartition { decision: Decision::Abort, ..repartition };
            steps.change(format_args!("abort is decided"), state, |next| next.repartition = Some(aborted));
        }
        let remapped = group().all(|at| state.regions[at].remap.is_some());
        if decision == Decision::Commit && !published && remapped {
            let published = Repartition { published: true, ..repartition };
            steps.change(format_args!("the read set is published"), state, |next| {
                next.repartition = Some(published);
                next.regions[2].in_set = state.regions[2].exists;
            });
        }
        let over = decision == Decision::Abort || published;
        if over && staged == 0 {
            steps.change(format_args!("the repartition is done"), state, |next| next.repartition = None);
        }
    }

    fn region_turns(&self, state: &State, at: usize, repartition: Repartition, steps: &mut Steps<State>) {
        let Repartition { kind, decision, published, frozen } = repartition;
        let (region, name) = (state.regions[at], NAMES[at]);
        if decision == Decision::Open && !region.staged && region.version < self.versions_max {
            steps.change(format_args!("Stage of {name}"), state, |next| {
                next.regions[at].staged = true;
                next.regions[at].turn();
            });
        }
        if decision == Decision::Commit && region.staged && region.remap.is_none() {
            let lists = kind.lists(at, frozen);
            steps.change(format_args!("RemapStaged of {name}, {} F", if lists { "with" } else { "without" }), state, |next| {
                next.regions[at].remap = Some(lists);
                next.regions[at].version += 1;
            });
        }
        let resolvable = decision == Decision::Abort || (decision == Decision::Commit && published);
        if !resolvable || !region.staged {
            return;
        }
        steps.change(format_args!("Resolve of {name}"), state, |next| {
            let committed = decision == Decision::Commit;
            if !committed && kind == Kind::Split && at == 2 {
                next.regions[2] = Region::default();
                return;
            }
            let region = &mut next.regions[at];
            region.turn();
            region.staged = false;
            if committed && region.remap == Some(true) {
                (region.live, region.removed) = (true, None);
            } else if committed && region.live {
                (region.live, region.removed) = (false, Some(region.version));
            }
            if committed {
                region.repartitioned = region.version;
            }
            region.remap = None;
            if committed && kind == Kind::Merge && at == 2 && !self.holds(Guard::RetiredStayInRegionSet) {
                region.in_set = false;
            }
        });
    }
}
