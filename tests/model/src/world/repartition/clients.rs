//! A router that writes and a scanner that reads, each with a cache of the routes that may be stale.

use super::{ABORTED, BASE, COMMITTED, Decision, NAMES, ROWS, Repartition, SECOND, State, owner};
use crate::explore::Steps;
use crate::guard::Guard;

/// The scan that runs, if one does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Scan {
    running: bool,
    read_set: u8,
    pinned: u8,
    /// How often each row was seen.
    seen: [u8; ROWS as usize],
    /// The rows that it has to see.
    expected: u8,
    count: u8,
}

impl Repartition {
    pub(super) fn router_steps(&self, state: &State, steps: &mut Steps<State>) {
        if state.router_write_set != state.write_set {
            steps.change(format_args!("the router refreshes its routes to generation {}", state.write_set), state, |next| {
                next.router_write_set = state.write_set;
            });
        }
        let generation = state.router_write_set;
        for row in [0b0010_u8, 0b1000].into_iter().filter(|row| state.acknowledged & row == 0) {
            let at = owner(generation, row);
            let region = state.regions[at];
            let open = !region.staged || !self.holds(Guard::GateBeforeStage);
            let visible = open && region.generation == generation;
            let staged = region.staged && generation == COMMITTED;
            if !region.exists || region.retired || !(visible || staged) {
                continue;
            }
            steps.change(format_args!("{} acknowledges row {row:#06b} of generation {generation}", NAMES[at]), state, |next| {
                *(if visible { &mut next.regions[at].visible } else { &mut next.regions[at].staged_rows }) |= row;
                next.acknowledged |= row;
                if generation == COMMITTED || generation == SECOND {
                    next.of_new |= row;
                }
            });
        }
    }

    pub(super) fn scan_steps(&self, state: &State, steps: &mut Steps<State>) {
        if state.scan.running {
            return self.pin_steps(state, steps);
        }
        if state.scanner_read_set != state.read_set {
            steps.change(format_args!("the scanner refreshes its routes to generation {}", state.read_set), state, |next| {
                next.scanner_read_set = state.read_set;
            });
        }
        if state.scan.count < self.scans {
            steps.change(format_args!("a scan of generation {} begins", state.scanner_read_set), state, |next| {
                let settled = (state.published && state.read_set != BASE) || state.read_set == ABORTED;
                let expected = if settled { state.acknowledged } else { state.acknowledged & !state.of_new };
                let count = state.scan.count + 1;
                next.scan = Scan { running: true, read_set: state.scanner_read_set, expected, count, ..Scan::default() };
            });
        }
    }

    fn pin_steps(&self, state: &State, steps: &mut Steps<State>) {
        let Scan { read_set, pinned, .. } = state.scan;
        let regions = if read_set == BASE || read_set == ABORTED { [0, 1] } else { [0, 2] };
        for at in regions.into_iter().filter(|at| pinned & (1 << at) == 0) {
            if self.zombie && read_set == BASE {
                steps.change(format_args!("the scan pins {} at its old owner, which is fenced", NAMES[at]), state, |next| {
                    next.scan.pinned |= 1 << at;
                    next.scan.seen[if at == 0 { 0 } else { 2 }] += 1;
                });
            }
            self.pin(state, at, steps);
        }
        if pinned.count_ones() == 2 {
            self.end_scan(state, steps);
        }
    }

    /// A region that is met staged is resolved first, if it may be; then its generation must be that of the scan.
    fn pin(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let generation = state.scan.read_set;
        let mut next = state.clone();
        if self.holds(Guard::PinChecksGeneration) {
            if next.regions[at].staged && generation == COMMITTED {
                self.resolve(&mut next, at, Decision::Commit);
                if next.regions[at].staged {
                    return;
                }
            }
            if next.regions[at].staged && generation == ABORTED && state.decision == Some(Decision::Abort) {
                self.resolve(&mut next, at, Decision::Abort);
            }
            let region = next.regions[at];
            if region.generation != generation || region.retired {
                next.scan.running = false;
                return steps.to(format_args!("the scan finds {} in another generation and starts over", NAMES[at]), next);
            }
        }
        next.scan.pinned |= 1 << at;
        for row in 0..ROWS {
            next.scan.seen[usize::from(row)] += u8::from(next.regions[at].visible & (1 << row) != 0);
        }
        steps.to(format_args!("the scan pins {}", NAMES[at]), next);
    }

    /// DESIGN 8: after the last pin the read set is read again, and the scan starts over if it moved.
    fn end_scan(&self, state: &State, steps: &mut Steps<State>) {
        let scan = state.scan;
        if self.holds(Guard::ReadSetReadAgain) && state.read_set != scan.read_set {
            return steps.change(format_args!("the read set moved; the scan starts over"), state, |next| next.scan.running = false);
        }
        steps.change(format_args!("the scan ends"), state, |next| {
            next.scan = Scan { count: scan.count, ..Scan::default() };
            for row in 0..ROWS {
                let (bit, seen) = (1 << row, scan.seen[usize::from(row)]);
                let what = match seen {
                    0 if scan.expected & state.of_new & bit != 0 => "a scan after the publish misses a row of the new generation",
                    0 if scan.expected & bit != 0 => "a scan misses a row: half old, half new",
                    0 => continue,
                    1 if state.of_new & bit != 0 && !state.published => "a scan sees a staged row before the publish",
                    1 => continue,
                    _ => "a scan sees a row twice: half old, half new",
                };
                next.broken = Some(what);
            }
        });
    }
}
