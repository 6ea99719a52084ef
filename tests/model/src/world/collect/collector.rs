//! The collector's mark: the region set and every region, twice. DESIGN section 9.

use super::{Collect, NAMES, REGIONS, State};
use crate::explore::Steps;
use crate::guard::Guard;

/// A mark in progress. Regions are bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    second: bool,
    set: u8,
    read: u8,
    read_again: u8,
    any_staged: bool,
    referenced: bool,
    candidate: bool,
    turns: [u8; REGIONS],
}

impl Collect {
    pub(super) fn mark_steps(&self, state: &State, steps: &mut Steps<State>) {
        match state.mark {
            None if state.marks < self.marks && !state.doomed => {
                let set = region_set(state);
                steps.change(format_args!("the collector reads the region set {set:03b}"), state, |next| {
                    next.marks += 1;
                    next.mark = Some(Mark {
                        second: false,
                        set,
                        read: 0,
                        read_again: 0,
                        any_staged: false,
                        referenced: false,
                        candidate: false,
                        turns: [0; REGIONS],
                    });
                });
            }
            None => {}
            Some(mark) if mark.second => self.read_again(state, mark, steps),
            Some(mark) => self.read(state, mark, steps),
        }
    }

    fn read(&self, state: &State, mark: Mark, steps: &mut Steps<State>) {
        for at in (0..REGIONS).filter(|at| mark.set & !mark.read & (1 << at) != 0) {
            let region = state.regions[at];
            steps.change(format_args!("the collector reads {}", NAMES[at]), state, |next| {
                let removed = region.removed.is_some_and(|version| version >= region.floor) && self.holds(Guard::RetainedVersionsCount);
                let pinned = region.pinned && self.holds(Guard::PinsCount);
                let mut mark = mark;
                mark.read |= 1 << at;
                mark.turns[at] = region.turns;
                mark.any_staged |= region.staged;
                mark.referenced |= region.refers() || (region.exists && (removed || pinned));
                if at == 0 {
                    mark.candidate = region.removed.is_some_and(|version| version < region.floor);
                }
                next.mark = Some(mark);
            });
        }
        if mark.read != mark.set {
            return;
        }
        let staged = mark.any_staged && self.holds(Guard::NothingStagedInMark);
        let same_set = region_set(state) == mark.set || !self.holds(Guard::RegionSetReadTwice);
        let counts = mark.candidate && !mark.referenced && !staged;
        let label = if counts && same_set { "goes on" } else { "ends" };
        let second = Mark { second: true, ..mark };
        steps.change(format_args!("the collector has read all, reads the region set again and {label}"), state, |next| {
            next.mark = None;
            if counts && !self.holds(Guard::SecondPass) {
                next.doom_sent = true;
            } else if counts && same_set {
                next.mark = Some(second);
            }
        });
    }

    fn read_again(&self, state: &State, mark: Mark, steps: &mut Steps<State>) {
        for at in (0..REGIONS).filter(|at| mark.set & !mark.read_again & (1 << at) != 0) {
            let region = state.regions[at];
            let staged = region.staged && self.holds(Guard::NothingStagedInMark);
            let turned = region.turns != mark.turns[at] && self.holds(Guard::TailsReadTwice);
            let verdict = if staged || turned { "the mark is void" } else { "nothing of note" };
            let read = Mark { read_again: mark.read_again | 1 << at, ..mark };
            steps.change(format_args!("the collector reads the tail of {}: {verdict}", NAMES[at]), state, |next| {
                next.mark = (!staged && !turned).then_some(read);
            });
        }
        if mark.read_again == mark.set {
            steps.change(format_args!("the mark counts; Doom is sent"), state, |next| (next.mark, next.doom_sent) = (None, true));
        }
    }
}

/// The regions that the catalog shows.
fn region_set(state: &State) -> u8 {
    (0..REGIONS).filter(|at| state.regions[*at].exists && state.regions[*at].in_set).fold(0, |set, at| set | 1 << at)
}
