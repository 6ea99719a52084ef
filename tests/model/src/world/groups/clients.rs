//! A router that writes to both groups and a scan of the whole table.

use super::{Decision, GROUPS, Groups, Region, State, X, Y, abort_of, commit_of};
use crate::explore::Steps;
use crate::guard::Guard;

/// The scan that runs. Regions are bits: two a group. Rows are bits within a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Scan {
    pinned: u8,
    seen: [[u8; 2]; GROUPS],
    expected: [u8; GROUPS],
    /// The rows that were written under the generation to commit.
    unpublished: [u8; GROUPS],
}

impl Groups {
    pub(super) fn router_steps(&self, state: &State, steps: &mut Steps<State>) {
        if state.router != state.routes.write {
            steps.change(format_args!("the router refreshes its routes"), state, |next| next.router = state.routes.write);
        }
        for group in (0..GROUPS).filter(|group| state.groups[*group].acknowledged & 0b10 == 0) {
            let generation = state.router[group];
            let at = if generation == commit_of(group) { Y } else { X };
            let region = state.groups[group].regions[at];
            let visible = !region.staged && region.generation == generation && !region.retired;
            let staged = region.staged && generation == commit_of(group);
            if visible || staged {
                steps.change(format_args!("a row of group {group} is acknowledged in generation {generation}"), state, |next| {
                    let region: &mut Region = &mut next.groups[group].regions[at];
                    *(if visible { &mut region.rows } else { &mut region.staged_rows }) |= 0b10;
                    next.groups[group].acknowledged |= 0b10;
                });
            }
        }
    }

    pub(super) fn scan_steps(&self, state: &State, steps: &mut Steps<State>) {
        if let Some(scan) = state.scan {
            return self.pin_steps(state, scan, steps);
        }
        if state.scanner != state.routes {
            steps.change(format_args!("the scanner refreshes its routes"), state, |next| next.scanner = state.routes);
        }
        if state.scans < self.scans {
            steps.change(format_args!("a scan of the generations {:?} begins", state.scanner.read), state, |next| {
                // Rows staged by then need not be seen; nor may they, before their group is published.
                let mut scan = Scan { pinned: 0, seen: [[0; 2]; GROUPS], expected: [0; GROUPS], unpublished: [0; GROUPS] };
                for group in 0..GROUPS {
                    let staged = state.groups[group].regions[Y].staged_rows;
                    let published = state.routes.read[group] == commit_of(group);
                    scan.expected[group] = state.groups[group].acknowledged & !(if published { 0 } else { staged });
                    scan.unpublished[group] = if published { 0 } else { staged };
                }
                (next.scan, next.scans) = (Some(scan), state.scans + 1);
            });
        }
    }

    fn pin_steps(&self, state: &State, scan: Scan, steps: &mut Steps<State>) {
        let mut all = true;
        for group in 0..GROUPS {
            let generation = state.scanner.read[group];
            let count = if generation == commit_of(group) { 2 } else { 1 };
            for at in (X..count).filter(|at| scan.pinned & (1 << (group * 2 + at)) == 0) {
                all = false;
                self.pin(state, scan, (group, at), generation, steps);
            }
        }
        if all {
            self.end(state, scan, steps);
        }
    }

    fn pin(&self, state: &State, scan: Scan, (group, at): (usize, usize), generation: u8, steps: &mut Steps<State>) {
        let mut next = state.clone();
        if self.holds(Guard::PinChecksGeneration) {
            if state.groups[group].regions[at].staged && generation == commit_of(group) {
                self.resolve(&mut next, group, at, Decision::Commit);
            } else if generation == abort_of(group) {
                self.resolve(&mut next, group, at, Decision::Abort);
            }
            if next.groups[group].regions[at].generation != generation {
                next.scan = None;
                return steps.to(format_args!("the scan finds region {at} of group {group} in another generation"), next);
            }
        }
        let rows = next.groups[group].regions[at].rows;
        let mut scan = scan;
        scan.pinned |= 1 << (group * 2 + at);
        for row in 0..2 {
            scan.seen[group][row] += u8::from(rows & (1 << row) != 0);
        }
        next.scan = Some(scan);
        steps.to(format_args!("the scan pins region {at} of group {group}"), next);
    }

    fn end(&self, state: &State, scan: Scan, steps: &mut Steps<State>) {
        let moved = state.routes.read != state.scanner.read;
        if moved && self.holds(Guard::ReadSetReadAgain) {
            return steps.change(format_args!("the read set moved; the scan starts over"), state, |next| next.scan = None);
        }
        steps.change(format_args!("the scan ends"), state, |next| {
            next.scan = None;
            for group in 0..GROUPS {
                for row in 0..2 {
                    let (bit, published) = (1 << row, state.routes.read[group] == commit_of(group));
                    let what = match scan.seen[group][row] {
                        0 if scan.expected[group] & bit != 0 => "a scan misses a row: half old, half new",
                        1 if scan.unpublished[group] & bit != 0 && !published => "a scan sees a staged row before the publish",
                        0 | 1 => continue,
                        _ => "a scan sees a row twice: half old, half new",
                    };
                    next.broken = Some(what);
                }
            }
        });
    }
}
