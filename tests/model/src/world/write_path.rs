//! One region's writes: gate, WAL, memtable, flush, truncate, and the fence of a repartition. DESIGN sections 5 and 8.
//!
//! Rows 0 and 1 are written under the base generation, rows 2 and 3 under the one that a repartition commits. A write
//! passes the gate, is submitted, appended to the WAL, inserted into a memtable, acknowledged; any other step may come
//! in between. The region may crash and replay its WAL at any time.
//!
//! - [`State::writes`]: each row's progress and its WAL position; `wal` is the order of the rows in it.
//! - Rows with positions beyond the fence are staged; they have a memtable, files and a flushed position of their own.
//! - Invariants: an acknowledged row is durable and served, or truncated; a truncated one stays gone; none is in two
//!   places; none of the old generation is staged; none staged is visible.

use crate::explore::{Steps, World};
use crate::guard::{Guard, Guards};

const ROWS: usize = 4;
/// Rows of the base generation.
const BASE_ROWS: u8 = 0b0011;

/// How far a write has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase {
    New,
    Permitted,
    Submitted,
    Appended,
    Inserted,
    Acknowledged,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Write {
    phase: Phase,
    /// The opening of the region that took it.
    incarnation: u8,
    position: u8,
}

impl Write {
    /// Whether it holds a gate permit of this opening.
    fn in_flight(self, incarnation: u8) -> bool {
        self.incarnation == incarnation && (Phase::Permitted..=Phase::Appended).contains(&self.phase)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Flush {
    rows: u8,
    position: u8,
    staged: bool,
}

/// Where the repartition of the region stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Decision {
    Open,
    Commit,
    Abort,
}

/// Rows are bits; positions count WAL entries from 1.
#[derive(Debug, Clone, Hash)]
pub struct State {
    writes: [Write; ROWS],
    wal: Vec<u8>,
    /// Entries up to here were cut off the WAL.
    wal_cut: u8,
    incarnation: u8,
    gate_open: bool,
    memtable: u8,
    staged_memtable: u8,
    files: u8,
    staged_files: u8,
    flushed: u8,
    staged_flushed: u8,
    flush: Option<Flush>,
    /// The fence position, while staged.
    fence: Option<u8>,
    decision: Decision,
    remap: Option<u8>,
    resolved: bool,
    truncated: u8,
    truncates: u8,
}

/// The world and its size.
#[derive(Debug)]
pub struct WritePath {
    /// Which rules hold.
    pub guards: Guards,
    /// Crashes and re-opens.
    pub reopens: u8,
    /// TRUNCATE statements.
    pub truncates: u8,
}

impl WritePath {
    fn holds(&self, guard: Guard) -> bool {
        self.guards.holds(guard)
    }

    /// A write passes the gate, is submitted, appended, inserted, acknowledged.
    fn write_steps(&self, state: &State, steps: &mut Steps<State>) {
        for row in 0..ROWS {
            let (write, bit) = (state.writes[row], 1 << row);
            match write.phase {
                Phase::New if self.admits(state, bit) => steps.change(format_args!("row {row} passes the gate"), state, |next| {
                    next.writes[row] = Write { phase: Phase::Permitted, incarnation: state.incarnation, position: 0 };
                }),
                Phase::Permitted => {
                    let phase = if write.incarnation == state.incarnation { Phase::Submitted } else { Phase::Failed };
                    steps.change(format_args!("row {row} is submitted: {phase:?}"), state, |next| next.writes[row].phase = phase);
                }
                Phase::Submitted => steps.change(format_args!("row {row} is appended at {}", state.wal.len() + 1), state, |next| {
                    next.wal.push(row as u8);
                    next.writes[row].phase = Phase::Appended;
                    next.writes[row].position = next.wal.len() as u8;
                }),
                Phase::Appended => steps.change(format_args!("row {row} is inserted"), state, |next| {
                    next.writes[row].phase = Phase::Inserted;
                    if write.incarnation == state.incarnation {
                        let staged = state.fence.is_some_and(|fence| write.position > fence);
                        *(if staged { &mut next.staged_memtable } else { &mut next.memtable }) |= bit;
                    }
                }),
                Phase::Inserted => {
                    steps.change(format_args!("row {row} is acknowledged"), state, |next| next.writes[row].phase = Phase::Acknowledged)
                }
                Phase::New | Phase::Acknowledged | Phase::Failed => {}
            }
        }
    }

    /// DESIGN 5: a stale generation is refused; a closed gate lets nothing of the base generation in.
    fn admits(&self, state: &State, bit: u8) -> bool {
        if bit & BASE_ROWS != 0 {
            (state.gate_open || !self.holds(Guard::GateBeforeStage)) && state.fence.is_none() && !state.resolved
        } else {
            let committed = state.decision == Decision::Commit;
            committed && (state.fence.is_some() || state.resolved)
        }
    }

    /// DESIGN 5: a flush position is the last entry with all earlier ones inserted, never the WAL's tail.
    fn flush_position(&self, state: &State, staged: bool) -> u8 {
        let tail = state.wal.len() as u8;
        let fence = state.fence.unwrap_or(0);
        let (after, upto) = if staged { (fence, tail) } else { (0, state.fence.unwrap_or(tail)) };
        if !self.holds(Guard::FlushPositionInserted) {
            return upto;
        }
        let waiting = (after + 1..=upto).find(|position| {
            let write = state.writes[usize::from(state.wal[usize::from(*position) - 1])];
            write.phase == Phase::Appended && write.incarnation == state.incarnation
        });
        waiting.map_or(upto, |position| position - 1)
    }

    fn flush_steps(&self, state: &State, steps: &mut Steps<State>) {
        for staged in [false, true] {
            let memtable = if staged { state.staged_memtable } else { state.memtable };
            let position = self.flush_position(state, staged);
            let below = |index: usize| index < usize::from(position) || !self.holds(Guard::FlushPositionInserted);
            let rows = state.wal.iter().enumerate().filter(|(index, _)| below(*index)).fold(0, |rows, (_, row)| rows | (1 << row));
            if rows & memtable != 0 && state.flush.is_none() {
                let flush = Flush { rows: rows & memtable, position, staged };
                steps.change(format_args!("a flush starts: {flush:?}"), state, |next| next.flush = Some(flush));
            }
        }
        let Some(Flush { rows, position, staged }) = state.flush else { return };
        let flushed = if staged { state.staged_flushed } else { state.flushed };
        let advances = !self.holds(Guard::FlushAdvances) || position > flushed;
        let admitted = match state.fence {
            Some(fence) => staged || position <= fence,
            None => !staged,
        };
        let takes = advances && admitted;
        steps.change(format_args!("the flush's Edit is {}", if takes { "committed" } else { "refused" }), state, |next| {
            next.flush = None;
            if takes && staged {
                next.staged_files |= rows;
                next.staged_flushed = flushed.max(position);
                next.staged_memtable &= !rows;
            } else if takes {
                next.files |= rows;
                next.flushed = flushed.max(position);
                next.memtable &= !rows;
            }
        });
    }

    /// DESIGN 8, step 6: the WAL is cut behind both flushed positions only.
    fn cut_wal(&self, state: &State, steps: &mut Steps<State>) {
        let behind = match state.fence {
            None => state.flushed,
            Some(_) if !self.holds(Guard::WalBehindBothPositions) => state.flushed.max(state.staged_flushed),
            Some(fence) if state.flushed < fence => state.flushed,
            Some(fence) => state.staged_flushed.max(fence),
        };
        if behind > state.wal_cut {
            steps.change(format_args!("the WAL is cut behind {behind}"), state, |next| next.wal_cut = behind);
        }
    }

    /// DESIGN 8, steps 3, 4, 6, 7 and 8 for this region.
    fn repartition_steps(&self, state: &State, steps: &mut Steps<State>) {
        let unstaged = state.fence.is_none() && !state.resolved;
        if unstaged && state.gate_open {
            steps.change(format_args!("the gate closes"), state, |next| next.gate_open = false);
        }
        let base_in_flight = (0..ROWS).any(|row| BASE_ROWS & (1 << row) != 0 && state.writes[row].in_flight(state.incarnation));
        let closed = !state.gate_open || !self.holds(Guard::GateBeforeStage);
        if unstaged && closed && (!base_in_flight || !self.holds(Guard::AppendsSettleBeforeStage)) {
            steps.change(format_args!("Stage, fence at {}", state.wal.len()), state, |next| next.fence = Some(next.wal.len() as u8));
        }
        let Some(fence) = state.fence else { return };
        match state.decision {
            Decision::Open => {
                for decision in [Decision::Commit, Decision::Abort] {
                    steps.change(format_args!("decided: {decision:?}"), state, |next| next.decision = decision);
                }
            }
            Decision::Abort => steps.change(format_args!("Resolve abort"), state, |next| {
                (next.fence, next.flush, next.resolved, next.gate_open) = (None, None, true, true);
            }),
            Decision::Commit if state.remap.is_none() => {
                if state.memtable == 0 && (state.flushed >= fence || state.flush.is_none()) {
                    steps.change(format_args!("drained; RemapStaged"), state, |next| {
                        next.remap = Some(state.files);
                        next.flushed = state.flushed.max(fence);
                    });
                }
            }
            Decision::Commit if state.flush.is_none() => steps.change(format_args!("Resolve commit"), state, |next| {
                next.files = state.remap.unwrap_or(0) | state.staged_files;
                next.memtable = state.memtable | state.staged_memtable;
                (next.staged_files, next.staged_memtable) = (0, 0);
                next.flushed = state.staged_flushed.max(fence);
                (next.fence, next.remap, next.resolved, next.gate_open) = (None, None, true, true);
            }),
            Decision::Commit => {}
        }
    }

    /// DESIGN 3: re-open on a living node first settles or fails the appends of its old incarnation.
    fn reopen(&self, state: &State, steps: &mut Steps<State>) {
        if state.incarnation >= self.reopens {
            return;
        }
        steps.change(format_args!("the region re-opens and replays"), state, |next| {
            next.incarnation += 1;
            (next.flush, next.gate_open) = (None, true);
            if self.holds(Guard::ReopenSettlesAppends) {
                for write in &mut next.writes {
                    if (Phase::Permitted..=Phase::Inserted).contains(&write.phase) {
                        write.phase = Phase::Failed;
                    }
                }
            }
            (next.memtable, next.staged_memtable) = replayed(next);
        });
    }

    /// DESIGN 5: whoever closes the gate (fence, truncate) waits for the permits.
    fn truncate(&self, state: &State, steps: &mut Steps<State>) {
        let in_flight = state.writes.iter().any(|write| write.in_flight(state.incarnation));
        let settled = !in_flight || !self.holds(Guard::TruncateWaitsForPermits);
        if state.truncates >= self.truncates || state.fence.is_some() || !settled {
            return;
        }
        steps.change(format_args!("Truncate"), state, |next| {
            next.truncates += 1;
            (next.files, next.memtable, next.flushed) = (0, 0, state.wal.len() as u8);
            for (row, write) in state.writes.iter().enumerate() {
                if matches!(write.phase, Phase::Inserted | Phase::Acknowledged) {
                    next.truncated |= 1 << row;
                }
            }
        });
    }
}

/// What replay of the WAL would bring into the visible and into the staged memtable.
fn replayed(state: &State) -> (u8, u8) {
    let (mut visible, mut staged) = (0, 0);
    for (index, row) in state.wal.iter().enumerate().skip(usize::from(state.wal_cut)) {
        let position = index as u8 + 1;
        if state.fence.is_some_and(|fence| position > fence) {
            staged |= u8::from(position > state.staged_flushed) << row;
        } else {
            visible |= u8::from(position > state.flushed) << row;
        }
    }
    (visible, staged)
}

impl World for WritePath {
    type State = State;

    fn initial(&self) -> State {
        State {
            writes: [Write { phase: Phase::New, incarnation: 0, position: 0 }; ROWS],
            wal: Vec::new(),
            wal_cut: 0,
            incarnation: 0,
            gate_open: true,
            memtable: 0,
            staged_memtable: 0,
            files: 0,
            staged_files: 0,
            flushed: 0,
            staged_flushed: 0,
            flush: None,
            fence: None,
            decision: Decision::Open,
            remap: None,
            resolved: false,
            truncated: 0,
            truncates: 0,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        self.write_steps(state, steps);
        self.flush_steps(state, steps);
        self.cut_wal(state, steps);
        self.repartition_steps(state, steps);
        self.reopen(state, steps);
        self.truncate(state, steps);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let (visible, staged) = replayed(state);
        let stored = state.files | state.staged_files;
        let (durable, served) = (visible | staged | stored, state.memtable | state.staged_memtable | stored);
        let mut acknowledged = 0;
        for (row, write) in state.writes.iter().enumerate() {
            acknowledged |= u8::from(write.phase == Phase::Acknowledged) << row;
        }
        let expected = acknowledged & !state.truncated;
        let (of_visible, of_staged) = (state.memtable | state.files, state.staged_memtable | state.staged_files);
        let twice = (state.memtable & state.files) | (state.staged_memtable & state.staged_files);
        let broken = [
            (expected & !durable != 0, "an acknowledged row is lost at the next crash"),
            (expected & !served != 0, "an acknowledged row is not served"),
            (state.truncated & (durable | served) != 0, "a truncated row came back"),
            (twice | (of_visible & of_staged) != 0, "a row is there twice"),
            (state.fence.is_some() && of_staged & BASE_ROWS != 0, "a row of the base generation is staged"),
            (state.fence.is_some() && of_visible & !BASE_ROWS != 0, "a staged row is visible before the publish"),
        ];
        broken.into_iter().find(|(broken, _)| *broken).map(|(_, what)| what)
    }
}
