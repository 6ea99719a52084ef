//! One region moves from node to node; each node has its own object WAL. DESIGN section 5.
//!
//! Three nodes take the region over in turn. A take-over seals the manifest and creates its `Open` (one step here: the
//! slot log is a world of its own), seals the logs that `Open` names, replays, serves. A node that was taken over goes on
//! acknowledging rows into its own log until it meets the seal there.
//!
//! - Invariants: whenever the owner serves, every acknowledged row is in a file, or in the owner's memtable, and would be
//!   found by the next opener in a log that the manifest names.
//! - Not here: epochs of one log, positions in it (`write_path` has these).

use crate::explore::{Steps, World};
use crate::guard::{Guard, Guards};

const NODES: usize = 3;
const ROWS_MAX: u8 = 4;

/// How far a node is with taking over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Opened,
    LogsSealed,
    Serving,
    /// It ended its epoch itself, with everything flushed.
    Left,
}

#[derive(Debug, Clone, Copy, Hash)]
struct Node {
    phase: Phase,
    crashed: bool,
    /// Rows in its log.
    log: u8,
    log_sealed: bool,
    log_deleted: bool,
    memtable: u8,
    /// The logs that the manifest named when it opened.
    named: u8,
}

/// Rows, nodes and logs are bits.
#[derive(Debug, Clone, Hash)]
pub struct State {
    nodes: [Node; NODES],
    owner: usize,
    /// The logs that the manifest names.
    named: u8,
    files: u8,
    acknowledged: u8,
    rows: u8,
    /// The epoch was ended cleanly, so that the next opener needs no log.
    clean: bool,
}

/// The world.
#[derive(Debug)]
pub struct TakeOver {
    /// Which rules hold.
    pub guards: Guards,
}

impl TakeOver {
    fn serve(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let node = state.nodes[at];
        // A sealed log refuses appends, for as long as its seal is there.
        if state.rows < ROWS_MAX && (!node.log_sealed || node.log_deleted) {
            steps.change(format_args!("node {at} appends and acknowledges a row"), state, |next| {
                let row = 1 << state.rows;
                next.rows += 1;
                next.nodes[at].log |= row;
                next.nodes[at].memtable |= row;
                next.acknowledged |= row;
            });
        }
        if state.owner != at || state.clean {
            return;
        }
        if node.memtable != 0 {
            steps.change(format_args!("node {at} flushes; its Edit names its own log only from now on"), state, |next| {
                next.files |= node.memtable;
                next.nodes[at].memtable = 0;
                next.named = 1 << at;
            });
        }
        if node.memtable == 0 || !self.guards.holds(Guard::CleanSealAfterFlush) {
            steps.change(format_args!("node {at} seals its epoch itself, cleanly"), state, |next| {
                next.nodes[at].phase = Phase::Left;
                next.nodes[at].memtable = 0;
                next.clean = true;
            });
        }
    }

    fn take_over(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let node = state.nodes[at];
        match node.phase {
            Phase::Idle if at == state.owner + 1 => steps.change(format_args!("node {at} seals the manifest, Open"), state, |next| {
                let before = if state.clean { 0 } else { state.named };
                next.owner = at;
                next.clean = false;
                next.nodes[at].phase = Phase::Opened;
                next.nodes[at].named = before;
                next.named = if self.guards.holds(Guard::OpenNamesEveryLog) { before | 1 << at } else { 1 << at };
            }),
            Phase::Opened => steps.change(format_args!("node {at} seals the logs that were named"), state, |next| {
                next.nodes[at].phase = Phase::LogsSealed;
                if self.guards.holds(Guard::LogSealedBeforeReplay) {
                    for other in (0..NODES).filter(|other| node.named & (1 << other) != 0 && *other != at) {
                        next.nodes[other].log_sealed = true;
                    }
                }
            }),
            Phase::LogsSealed => steps.change(format_args!("node {at} replays and serves"), state, |next| {
                let named = (0..NODES).filter(|other| node.named & (1 << other) != 0);
                next.nodes[at].memtable = named.fold(0, |rows, other| rows | state.nodes[other].log) & !state.files;
                next.nodes[at].phase = Phase::Serving;
            }),
            Phase::Serving => self.serve(state, at, steps),
            Phase::Idle | Phase::Left => {}
        }
    }
}

impl World for TakeOver {
    type State = State;

    fn initial(&self) -> State {
        let idle = Node { phase: Phase::Idle, crashed: false, log: 0, log_sealed: false, log_deleted: false, memtable: 0, named: 0 };
        let mut nodes = [idle; NODES];
        nodes[0] = Node { phase: Phase::Serving, named: 1, ..idle };
        State { nodes, owner: 0, named: 1, files: 0, acknowledged: 0, rows: 0, clean: false }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        for at in 0..NODES {
            let node = state.nodes[at];
            if !node.crashed {
                self.take_over(state, at, steps);
            }
            // The last node stays alive, so that there is somebody to serve.
            if !node.crashed && node.phase != Phase::Idle && at + 1 < NODES {
                steps.change(format_args!("node {at} crashes"), state, |next| {
                    next.nodes[at].crashed = true;
                    next.nodes[at].memtable = 0;
                });
            }
            let unneeded = node.log_sealed && !node.log_deleted && state.named & (1 << at) == 0;
            if unneeded && !self.guards.holds(Guard::FinalLogSealKept) {
                steps
                    .change(format_args!("the log of node {at} is deleted, seal and all"), state, |next| next.nodes[at].log_deleted = true);
            }
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let owner = state.nodes[state.owner];
        let named = if state.clean { 0 } else { state.named };
        let logs = (0..NODES).filter(|at| named & (1 << at) != 0).fold(0, |rows, at| rows | state.nodes[at].log);
        let memtable = if owner.crashed { 0 } else { owner.memtable };
        if owner.phase == Phase::Serving && state.acknowledged & !(state.files | logs | memtable) != 0 {
            return Some("an acknowledged row is lost by a take-over");
        }
        if owner.phase == Phase::Serving && !owner.crashed && state.acknowledged & !(state.files | memtable) != 0 {
            return Some("an acknowledged row is not served after a take-over");
        }
        None
    }
}
