//! Segments of a remap in the target's folder, against the target's sweeps and take-overs. DESIGN sections 4 and 8.
//!
//! The central region's node asks the target for its epoch and writes a segment under it; the target commits a
//! `RemapStaged` that names it. The target may be taken over in between, and each owner sweeps segments of earlier epochs
//! that nothing names; a LIST and its DELETE are apart, and the DELETE may be of an owner that was fenced since.
//!
//! - Invariant: a segment that a committed `RemapStaged` names is there.
//! - Goal: the remap gets committed.

use crate::explore::{Steps, World};
use crate::guard::{Guard, Guards};

const TAKE_OVERS_MAX: u8 = 2;

/// Epochs of the one target and its one segment.
#[derive(Debug, Clone, Hash)]
pub struct State {
    epoch: u8,
    /// The epoch in the name of the segment that is on the store.
    segment: Option<u8>,
    /// The epoch that the target told the central node.
    told: Option<u8>,
    offered: bool,
    named: bool,
    /// A sweep has listed the segment of this epoch and will delete it.
    sweep: Option<u8>,
}

/// The world.
#[derive(Debug)]
pub struct Segments {
    /// Which rules hold.
    pub guards: Guards,
}

impl World for Segments {
    type State = State;

    fn initial(&self) -> State {
        State { epoch: 0, segment: None, told: None, offered: false, named: false, sweep: None }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        if state.epoch < TAKE_OVERS_MAX {
            steps.change(format_args!("the target is taken over"), state, |next| next.epoch += 1);
        }
        if !state.named {
            steps.change(format_args!("the central node asks for the target's epoch: {}", state.epoch), state, |next| {
                (next.told, next.offered) = (Some(state.epoch), false);
            });
            if let Some(epoch) = state.told {
                steps.change(format_args!("the central node writes a segment of epoch {epoch}"), state, |next| {
                    (next.segment, next.offered) = (Some(epoch), true);
                });
            }
        }
        let current = state.segment == Some(state.epoch) || !self.guards.holds(Guard::RemapOfCurrentEpoch);
        if state.offered && !state.named && state.segment.is_some() && current {
            steps.change(format_args!("the target reads the segment and commits RemapStaged"), state, |next| next.named = true);
        }
        if let Some(epoch) = state.segment.filter(|epoch| *epoch < state.epoch || !self.guards.holds(Guard::SweepOfEarlierEpochs))
            && state.sweep.is_none()
            && !state.named
        {
            steps.change(format_args!("a sweep lists the segment of epoch {epoch}, which nothing names"), state, |next| {
                next.sweep = Some(epoch);
            });
        }
        if let Some(epoch) = state.sweep {
            steps.change(format_args!("the sweep deletes the segment of epoch {epoch}"), state, |next| {
                next.sweep = None;
                next.segment = state.segment.filter(|segment| *segment != epoch);
            });
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        (state.named && state.segment.is_none()).then_some("a segment that a committed RemapStaged names was swept")
    }

    fn has_goal(&self) -> bool {
        true
    }

    fn is_goal(&self, state: &State) -> bool {
        state.named
    }
}
