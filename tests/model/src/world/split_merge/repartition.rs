//! A split of A into A and C, then a merge of both into A. DESIGN section 8.

use super::{FILES, NAMES, References, Region, SplitMerge, State};
use crate::explore::Steps;
use crate::guard::Guard;

/// How far a repartition is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    #[default]
    Quiet,
    Staging,
    Committed,
    Aborted,
    Published,
}

/// The one that runs, or the last one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Repartition {
    pub(super) phase: Phase,
    /// How many have committed: the first is the split, the second the merge.
    done: u8,
    aborts: u8,
    pub(super) commit: u8,
    abort: u8,
}

impl Repartition {
    /// The rule of a region once this one is resolved.
    fn rule(self, at: usize) -> u8 {
        match (self.done, at) {
            (0, 0) => 0b10,
            (0, _) => 0b01,
            (_, 0) => 0b11,
            (_, _) => 0,
        }
    }

    /// What a staged region takes writes for.
    pub(super) fn staged_rule(self, at: usize) -> u8 {
        if matches!(self.phase, Phase::Committed | Phase::Published) { self.rule(at) } else { 0 }
    }
}

impl SplitMerge {
    pub(super) fn repartition_steps(&self, state: &State, steps: &mut Steps<State>) {
        let staged = state.regions.iter().filter(|region| region.staged).count();
        match state.repartition.phase {
            Phase::Quiet if state.repartition.done < 2 => self.plan(state, steps),
            Phase::Quiet => {}
            Phase::Staging => self.stage(state, steps),
            Phase::Committed => {
                if state.regions.iter().all(|region| region.memtable == 0 && region.flush.is_none()) {
                    self.remap(state, steps);
                }
            }
            Phase::Aborted => self.abort(state, steps),
            Phase::Published if staged == 0 => steps.change(format_args!("the repartition is done"), state, |next| {
                next.repartition.phase = Phase::Quiet;
                next.repartition.done += 1;
            }),
            Phase::Published => self.resolve(state, steps),
        }
    }

    /// Two fresh generations, one for commit and one for abort; a new region is created staged.
    fn plan(&self, state: &State, steps: &mut Steps<State>) {
        let what = if state.repartition.done == 0 { "split" } else { "merge" };
        steps.change(format_args!("a {what} is planned"), state, |next| {
            let latest = state.repartition.abort;
            next.repartition = Repartition { phase: Phase::Staging, commit: latest + 1, abort: latest + 2, ..state.repartition };
            if state.repartition.done == 0 {
                next.regions[1] = Region { exists: true, staged: true, generation: latest, ..Region::default() };
            }
        });
    }

    fn stage(&self, state: &State, steps: &mut Steps<State>) {
        for at in (0..2).filter(|at| !state.regions[*at].staged) {
            steps.change(format_args!("Stage of {}", NAMES[at]), state, |next| next.regions[at].staged = true);
        }
        if state.regions.iter().all(|region| region.staged) {
            steps.change(format_args!("commit is decided; the write set is published"), state, |next| {
                next.repartition.phase = Phase::Committed;
            });
        }
        if state.repartition.aborts < self.aborts {
            steps.change(format_args!("abort is decided"), state, |next| {
                next.repartition.phase = Phase::Aborted;
                next.repartition.aborts += 1;
            });
        }
    }

    /// Every source goes to the abort generation under its old rule, staged or not; a new region retires.
    fn abort(&self, state: &State, steps: &mut Steps<State>) {
        let abort = state.repartition.abort;
        let mut open = false;
        for (at, name) in NAMES.iter().enumerate() {
            let region = state.regions[at];
            if !region.exists || region.generation == abort {
                continue;
            }
            open = true;
            steps.change(format_args!("Resolve abort of {name}"), state, |next| {
                if at == 1 && state.repartition.done == 0 {
                    next.regions[1] = Region::default();
                } else {
                    (next.regions[at].staged, next.regions[at].generation) = (false, abort);
                }
            });
        }
        if !open {
            steps.change(format_args!("the repartition was aborted"), state, |next| next.repartition.phase = Phase::Quiet);
        }
    }

    /// DESIGN 8, step 7: the scope of F in a target = OR over the sources that list F of (their scope AND their rule).
    fn scopes(&self, state: &State) -> References {
        let sources = if state.repartition.done == 0 { 1 } else { 2 };
        std::array::from_fn(|file| {
            let listing = state.regions[..sources].iter().filter(|region| region.references[file] != 0);
            let scope = |region: &Region| match (self.holds(Guard::ScopesOfReferences), self.holds(Guard::ScopeAndRuleAtFence)) {
                (false, _) => 3,
                (true, false) => region.references[file],
                (true, true) => region.references[file] & region.rule,
            };
            listing.fold(0, |scopes, region| scopes | scope(region))
        })
    }

    fn remap(&self, state: &State, steps: &mut Steps<State>) {
        let scopes = self.scopes(state);
        steps.change(format_args!("remap of all; the read set is published"), state, |next| {
            next.repartition.phase = Phase::Published;
            for at in 0..2 {
                let rule = state.repartition.rule(at);
                let region = &mut next.regions[at];
                region.remap = Some(std::array::from_fn(|file| if scopes[file] & rule != 0 { scopes[file] } else { 0 }));
                let comes_back = |file: usize| region.remap.is_some_and(|remap| remap[file] != 0) && region.references[file] == 0;
                let again = (0..FILES).any(|file| comes_back(file) && region.listed & (1 << file) != 0);
                if again && !self.guards.holds(Guard::RemapMayListAgain) {
                    next.refused_remap = true;
                }
            }
        });
    }

    fn resolve(&self, state: &State, steps: &mut Steps<State>) {
        let Repartition { done, commit, .. } = state.repartition;
        for at in (0..2).filter(|at| state.regions[*at].staged) {
            steps.change(format_args!("Resolve commit of {}", NAMES[at]), state, |next| {
                let region = &mut next.regions[at];
                (region.staged, region.generation, region.rule) = (false, commit, state.repartition.rule(at));
                region.references = region.remap.take().unwrap_or([0; FILES]);
                let written = std::mem::take(&mut region.staged_files);
                for file in (0..FILES).filter(|file| written & (1 << file) != 0) {
                    region.list(file);
                }
                if done == 1 && at == 1 {
                    (region.exists, region.references) = (false, [0; FILES]);
                }
            });
        }
    }
}
