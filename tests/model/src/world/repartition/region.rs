//! What regions do with the messages of coordinators, whenever they come.

use super::{ABORTED, BASE, COMMITTED, Decision, NAMES, Repartition, State};
use crate::explore::Steps;
use crate::guard::Guard;

/// Bits of the messages on the network.
pub(super) const CREATE_C: u16 = 1;
pub(super) const STAGE_A: u16 = 1 << 1;
pub(super) const STAGE_B: u16 = 1 << 2;
pub(super) const ALL_STAGED: u16 = CREATE_C | STAGE_A | STAGE_B;

pub(super) const fn resolve_message(at: usize, decision: Decision) -> u16 {
    match decision {
        Decision::Commit => 1 << (3 + at),
        Decision::Abort => 1 << (6 + at),
    }
}

/// A region. Rows are bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Region {
    pub(super) exists: bool,
    pub(super) generation: u8,
    pub(super) staged: bool,
    pub(super) visible: u8,
    pub(super) staged_rows: u8,
    pub(super) remap: Option<u8>,
    pub(super) retired: bool,
}

impl Repartition {
    /// Messages that arrive and change something.
    pub(super) fn deliveries(&self, state: &State, steps: &mut Steps<State>) {
        let mut deliver = |message: u16, what: &str, at: usize, act: &dyn Fn(&mut State)| {
            if state.network & message == 0 {
                return;
            }
            let mut next = state.clone();
            act(&mut next);
            if next.regions != state.regions || next.broken.is_some() {
                steps.to(format_args!("{what} {} arrives", NAMES[at]), next);
            }
        };
        deliver(CREATE_C, "the creation of", 2, &|next| {
            if !next.regions[2].exists {
                next.regions[2] = Region { exists: true, staged: true, ..Region::default() };
            }
        });
        for (message, at) in [(STAGE_A, 0), (STAGE_B, 1)] {
            deliver(message, "Stage of", at, &|next| {
                let region = &mut next.regions[at];
                let at_base = region.generation == BASE || !self.holds(Guard::StageNamesBase);
                if !region.staged && !region.retired && at_base {
                    region.staged = true;
                }
            });
        }
        for decision in [Decision::Commit, Decision::Abort] {
            for at in 0..3 {
                let what = if decision == Decision::Commit { "Resolve commit of" } else { "Resolve abort of" };
                deliver(resolve_message(at, decision), what, at, &|next| self.resolve(next, at, decision));
            }
        }
        for (index, at) in [(0, 0), (1, 2)] {
            let region = state.regions[at];
            if let Some(rows) = state.remaps[index].filter(|_| region.exists && region.staged && region.remap.is_none()) {
                steps.change(format_args!("RemapStaged of {} arrives", NAMES[at]), state, |next| next.regions[at].remap = Some(rows));
            }
        }
    }

    /// `Resolve` by a region, which knows its own part only.
    pub(super) fn resolve(&self, state: &mut State, at: usize, decision: Decision) {
        match (decision, state.regions[at].staged) {
            (Decision::Commit, true) => resolve_commit(&mut state.regions[at], at),
            (Decision::Commit, false) => {}
            (Decision::Abort, true) => {
                let region = &mut state.regions[at];
                region.staged = false;
                region.generation = self.aborted_generation();
                region.retired = at == 2;
                if region.staged_rows != 0 {
                    state.broken = Some("an abort drops staged rows");
                }
            }
            (Decision::Abort, false) => {
                let region = &mut state.regions[at];
                if at < 2 && region.generation == BASE && !region.retired && self.holds(Guard::AbortResolvesUnstaged) {
                    region.generation = self.aborted_generation();
                }
                if at == 2 && !region.exists && self.holds(Guard::AbortRetiresNewRegions) {
                    *region = Region { exists: true, retired: true, generation: ABORTED, ..Region::default() };
                }
            }
        }
    }

    fn aborted_generation(&self) -> u8 {
        if self.holds(Guard::AbortHasOwnGeneration) { ABORTED } else { BASE }
    }

    /// DESIGN 8, step 8: whoever meets a staged region reads the decision; a dead coordinator's publish is done for it.
    pub(super) fn on_demand(&self, state: &State, steps: &mut Steps<State>) {
        for at in (0..3).filter(|at| state.regions[*at].staged) {
            let decision = match state.decision {
                Some(Decision::Commit) if state.read_set != COMMITTED => continue,
                Some(decision) => decision,
                None => continue,
            };
            let mut next = state.clone();
            self.resolve(&mut next, at, decision);
            if next.regions != state.regions {
                steps.to(format_args!("{} is met and resolved on demand", NAMES[at]), next);
            }
        }
        let remapped = state.regions[0].remap.is_some() && state.regions[2].remap.is_some();
        let admitted = state.decision == Some(Decision::Commit) && state.write_set == COMMITTED;
        if admitted && remapped && state.read_set == BASE {
            steps.change(format_args!("the read set is published on demand"), state, |next| {
                (next.read_set, next.published) = (COMMITTED, true);
                next.revision += 1;
            });
        }
    }
}

fn resolve_commit(region: &mut Region, at: usize) {
    if at == 1 {
        (region.staged, region.retired, region.generation) = (false, true, COMMITTED);
    } else if let Some(rows) = region.remap {
        region.visible = rows | std::mem::take(&mut region.staged_rows);
        (region.staged, region.generation) = (false, COMMITTED);
    }
}
