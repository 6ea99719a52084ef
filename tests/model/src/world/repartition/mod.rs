//! One group's repartition: coordinators that die and resume, messages that come late and twice, routers and scans with
//! stale caches. DESIGN section 8.
//!
//! A holds key k1, B holds k2; afterwards a new region C holds k1 and A holds k2, and B is retired. Each key has one old row
//! and one that is written at any time. Generations: 0 before, 1 when committed, 2 when aborted, 3 for a second repartition
//! that runs whole after the first.
//!
//! ```text
//!   create C ┐
//!   Stage A  ├─▶ decide ─▶ write set ─▶ drain A, B ─▶ RemapStaged A, C ─▶ read set ─▶ Resolve A, B, C ─▶ done
//!   Stage B  ┘      └─▶ abort: routes of generation 2 ─▶ Resolve abort A, B, C ─▶ done
//! ```
//!
//! - Rows are bits: `0b0011` are the rows of k1, `0b1100` those of k2.
//! - Invariants: no row is lost or there twice once nothing is staged; a scan sees every row that was acknowledged before
//!   it began (rows of the new generation once they are published) and none twice; no staged row before the publish; an
//!   abort never meets staged rows; routes never go back.
//! - Goal: nothing is staged, the routes name one generation, the regions are in it.

mod clients;
mod coordinator;
mod region;

use crate::explore::{Steps, World};
use crate::guard::{Guard, Guards};
use clients::Scan;
use coordinator::Coordinator;
use region::Region;

const BASE: u8 = 0;
const COMMITTED: u8 = 1;
const ABORTED: u8 = 2;
const SECOND: u8 = 3;
const ROWS: u8 = 4;
const K1: u8 = 0b0011;
const K2: u8 = 0b1100;
const NAMES: [&str; 3] = ["A", "B", "C"];

/// What the decision object says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Decision {
    Commit,
    Abort,
}

/// The region of a row in the route set of a generation.
fn owner(generation: u8, row: u8) -> usize {
    match (generation == BASE || generation == ABORTED, row & K1 != 0) {
        (true, true) | (false, false) => 0,
        (true, false) => 1,
        (false, true) => 2,
    }
}

/// Regions, decision object, routes, coordinators and clients.
#[derive(Debug, Clone, Hash)]
pub struct State {
    regions: [Region; 3],
    decision: Option<Decision>,
    write_set: u8,
    read_set: u8,
    /// The revision of the routes.
    revision: u8,
    runner_epoch: u8,
    done: bool,
    second_done: bool,
    /// Messages that were sent once and may arrive at any time, any number of times; see `region`.
    network: u16,
    /// `RemapStaged` for A and for C, with their rows.
    remaps: [Option<u8>; 2],
    coordinators: [Coordinator; 2],
    acknowledged: u8,
    /// Acknowledged rows of the new generation.
    of_new: u8,
    published: bool,
    router_write_set: u8,
    scanner_read_set: u8,
    scan: Scan,
    broken: Option<&'static str>,
}

/// The world and its size.
#[derive(Debug, Clone, Copy)]
pub struct Repartition {
    /// Which rules hold.
    pub guards: Guards,
    /// Coordinators, one or two.
    pub coordinators: usize,
    /// How often each may crash and resume.
    pub crashes: u8,
    /// Whether calls to regions are messages that come late and twice.
    pub late_messages: bool,
    /// Whether whoever meets a staged region may publish and resolve.
    pub on_demand: bool,
    /// Whether abort may be decided.
    pub aborts: bool,
    /// Whether the world begins after the decision to commit.
    pub decided: bool,
    /// Whether a second repartition follows.
    pub second: bool,
    /// Whether rows are written.
    pub router: bool,
    /// Scans.
    pub scans: u8,
    /// Whether a fenced old owner goes on serving pins of the old read set.
    pub zombie: bool,
    /// Whether somebody must always be able to finish.
    pub progress: bool,
}

impl Repartition {
    fn holds(&self, guard: Guard) -> bool {
        self.guards.holds(guard)
    }

    fn second_repartition(&self, state: &State, steps: &mut Steps<State>) {
        let settled = state.regions[0].generation == COMMITTED && state.regions[2].generation == COMMITTED;
        let committed = state.decision == Some(Decision::Commit) && state.read_set == COMMITTED && settled;
        if self.second && state.done && committed && !state.second_done {
            steps.change(format_args!("a second repartition runs whole"), state, |next| {
                next.second_done = true;
                (next.regions[0].generation, next.regions[2].generation) = (SECOND, SECOND);
                (next.write_set, next.read_set) = (SECOND, SECOND);
                next.revision += 1;
            });
        }
    }
}

impl World for Repartition {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State {
            regions: [Region::default(); 3],
            decision: None,
            write_set: BASE,
            read_set: BASE,
            revision: 0,
            runner_epoch: 1,
            done: false,
            second_done: false,
            network: 0,
            remaps: [None; 2],
            coordinators: [Coordinator::default(); 2],
            acknowledged: 0b0101,
            of_new: 0,
            published: false,
            router_write_set: BASE,
            scanner_read_set: BASE,
            scan: Scan::default(),
            broken: None,
        };
        state.regions[0] = Region { exists: true, visible: 0b0001, ..Region::default() };
        state.regions[1] = Region { exists: true, visible: 0b0100, ..Region::default() };
        state.coordinators[0] = Coordinator::first();
        if self.decided {
            state.decision = Some(Decision::Commit);
            state.network = region::ALL_STAGED;
            state.regions[2].exists = true;
            for region in &mut state.regions {
                region.staged = true;
            }
            state.coordinators[0].sees_staged = 0b111;
            state.coordinators[0].decision = Some(Decision::Commit);
        }
        state
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        self.deliveries(state, steps);
        if self.on_demand {
            self.on_demand(state, steps);
        }
        for at in 0..self.coordinators {
            self.coordinator_steps(state, at, steps);
        }
        self.second_repartition(state, steps);
        if self.router {
            self.router_steps(state, steps);
        }
        if self.scans > 0 {
            self.scan_steps(state, steps);
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let unstaged = !state.regions.iter().any(|region| region.staged);
        let settled = match state.decision {
            None => false,
            Some(Decision::Abort) => true,
            Some(Decision::Commit) => state.regions[0].generation != BASE,
        };
        if state.broken.is_some() || !unstaged || !settled {
            return state.broken;
        }
        (0..ROWS).find_map(|row| {
            let shows = |region: &&Region| region.exists && !region.retired && region.visible & (1 << row) != 0;
            match state.regions.iter().filter(shows).count() {
                0 if state.acknowledged & (1 << row) != 0 => Some("an acknowledged row is lost"),
                0 | 1 => None,
                _ => Some("a row is there twice"),
            }
        })
    }

    fn has_goal(&self) -> bool {
        self.progress
    }

    fn is_goal(&self, state: &State) -> bool {
        let generation = state.read_set;
        let in_it = |at: usize| state.regions[at].generation == generation && !state.regions[at].retired;
        let regions = match generation {
            BASE => false,
            ABORTED => in_it(0) && in_it(1),
            _ => in_it(0) && in_it(2),
        };
        regions && state.write_set == generation && !state.regions.iter().any(|region| region.staged)
    }
}
